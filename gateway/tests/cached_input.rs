//! Input that its provider's cache has, where the budget would not pay it at its full price: conversations go on until their money is
//! spent, and who relies on a cache that does not have it overspends by one call's input at most.

use std::sync::{Arc, Mutex};
use std::thread;

use agentledger_ledger::{Entry, Outcome, Usd};
use serde_json::{Value, json};

use crate::harness::upstream::Seen;
use crate::harness::{Gate, Gateway, Script, Setup, Upstream};

const MESSAGES: &str = "/v1/messages";
const KEY: (&str, &str) = ("x-api-key", "sk-ant-api03-0123456789abcdef");
const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");
const FIFTY_CENTS: &str = "budgets: {default: {daily_limit_usd: 0.5, action: block}}";
const LIMIT_NANOS: i64 = 500_000_000;
/// Bytes of the texts here that are one token.
const BYTES_PER_TOKEN: u64 = 4;
/// What a call's 100,000 tokens cost where no cache has them: claude-haiku-4-5's cache write of $1.25 a million.
const UNCACHED_NANOS: i64 = 125_000_000;
const OUTPUT_TOKENS: u64 = 200;

/// A conversation of 100,000 tokens and `turn` turns more of 200. `marks` its prompt: what no cache has seen yet.
fn request(marks: &str, turn: u64) -> String {
    let system = format!("{marks:8}{}", "abc ".repeat(99_998));
    let mut messages = Vec::new();
    for _ in 0..turn {
        messages.push(json!({"role": "user", "content": "def ".repeat(200)}));
    }
    messages.push(json!({"role": "user", "content": "go on"}));
    json!({
        "model": "claude-haiku-4-5",
        "max_tokens": 64_000,
        "stream": true,
        "system": [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
        "messages": messages,
    })
    .to_string()
}

/// The tokens of a request's texts.
fn tokens_of(request: &Value) -> u64 {
    let system = request["system"][0]["text"].as_str().unwrap().len();
    let messages = request["messages"].as_array().unwrap().iter();
    let said: usize = messages.map(|message| message["content"].as_str().unwrap().len()).sum();
    (system + said) as u64 / BYTES_PER_TOKEN
}

fn event(name: &str, data: Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn answer(read: u64, written: u64) -> Vec<String> {
    let usage = |output: u64| json!({"input_tokens": 4, "cache_read_input_tokens": read, "cache_creation_input_tokens": written, "output_tokens": output});
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude-haiku-4-5", "usage": usage(1)});
    let text =
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one two three "}});
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage(OUTPUT_TOKENS)});
    vec![
        event("message_start", json!({"type": "message_start", "message": message})),
        event("content_block_delta", text),
        event("message_delta", delta),
        event("message_stop", json!({"type": "message_stop"})),
    ]
}

/// A provider with a cache: what it has read of a marked prompt it has the next time.
#[derive(Clone, Default)]
struct Cache(Arc<Mutex<Vec<(String, u64)>>>);

impl Cache {
    fn answer(&self, seen: &Seen) -> Script {
        let request = seen.json();
        let marks = request["system"][0]["text"].as_str().unwrap()[..8].to_owned();
        let tokens = tokens_of(&request);
        let mut kept = self.0.lock().unwrap();
        let known = kept.iter_mut().find(|(known, _)| *known == marks);
        let read = match known {
            Some((_, had)) => std::mem::replace(had, tokens).min(tokens),
            None => {
                kept.push((marks, tokens));
                0
            }
        };
        Script::sse(&answer(read, tokens - read))
    }

    fn upstream(&self) -> Upstream {
        let cache = self.clone();
        Upstream::playing(move |seen| cache.answer(seen))
    }
}

fn ask(gateway: &Gateway, session: &str, request: &str) -> (u16, String) {
    let headers = [KEY, VERSION, ("x-agent-session", session)];
    let reply = gateway.client.request("POST", MESSAGES, &headers, request.as_bytes());
    (reply.status, reply.text())
}

/// What was posted to the key, and how much of it beyond its holds. At every moment no more than the limit was granted.
fn posted(gateway: &Gateway) -> (i64, i64) {
    let Some(row) = gateway.balances("key:").into_iter().next() else {
        return (0, 0);
    };
    let (posted, overage) = (row.posted.usd.nanos(), row.overage.usd.nanos());
    assert!(posted + row.held.usd.nanos() - overage <= LIMIT_NANOS, "{row:?}");
    (posted, overage)
}

/// Turns of a conversation until one is refused, from this one on; the refusal, and the next turn.
fn until_refused(gateway: &Gateway, session: &str, marks: &str) -> (Value, u64) {
    for turn in 0..200 {
        let (status, text) = ask(gateway, session, &request(marks, turn));
        if status != 200 {
            return (serde_json::from_str(&text).unwrap(), turn);
        }
        assert!(text.contains("message_stop"), "cut: {text}");
    }
    panic!("never refused: {:?}", posted(gateway));
}

#[test]
fn a_conversation_that_is_read_from_the_cache_goes_on_until_its_money_is_spent() {
    let upstream = Cache::default().upstream();
    let gateway = Setup::new(&upstream).with(FIFTY_CENTS).start();
    let (error, turns) = until_refused(&gateway, "s1", "first");
    assert_eq!(error["error"]["code"], "budget_exceeded", "{error}");
    let (spent, overage) = posted(&gateway);
    assert!(
        (480_000_000..=LIMIT_NANOS).contains(&spent),
        "{spent} after {turns} turns"
    );
    assert_eq!(overage, 0);
    assert!(
        gateway
            .entries()
            .iter()
            .all(|entry| entry.settlement.outcome == Outcome::Completed)
    );
}

#[test]
fn who_says_no_session_is_held_at_the_full_price() {
    let upstream = Cache::default().upstream();
    let gateway = Setup::new(&upstream).with(FIFTY_CENTS).start();
    let mut turn = 0;
    while gateway
        .client
        .request("POST", MESSAGES, &[KEY, VERSION], request("first", turn).as_bytes())
        .status
        == 200
    {
        turn += 1;
    }
    let (spent, overage) = posted(&gateway);
    assert!(turn > 5 && spent < 420_000_000, "{spent} after {turn} turns");
    assert_eq!(overage, 0);
}

#[test]
fn a_hold_says_that_it_relies_on_the_cache() {
    let (cache, gate) = (Cache::default(), Gate::default());
    let armed: Arc<Mutex<bool>> = Arc::default();
    let upstream = Upstream::playing({
        let (cache, gate, armed) = (cache.clone(), gate.clone(), Arc::clone(&armed));
        move |seen| {
            if *armed.lock().unwrap() {
                gate.wait();
            }
            cache.answer(seen)
        }
    });
    let gateway = Setup::new(&upstream).with(FIFTY_CENTS).start();
    let mut turn = 0;
    while posted(&gateway).0 + UNCACHED_NANOS <= LIMIT_NANOS {
        assert_eq!(ask(&gateway, "s1", &request("first", turn)).0, 200);
        turn += 1;
    }
    *armed.lock().unwrap() = true;
    let seen = upstream.seen_count();
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&gateway, "s1", &request("first", turn)).0);
        while upstream.seen_count() == seen {
            thread::yield_now();
        }
        let holds = gateway.launched().gateway().ledger.open_holds();
        gate.open();
        assert_eq!(asked.join().unwrap(), 200);
        let [hold] = holds.as_slice() else { panic!("{holds:?}") };
        assert_eq!(
            &*hold.held.basis,
            "input as far as the session's last call left it in the cache"
        );
        assert!(hold.amounts.usd.nanos() < UNCACHED_NANOS / 4, "{hold:?}");
    });
}

fn not_in_cache(gateway: &Gateway) -> Vec<Entry> {
    let mut entries = gateway.entries();
    entries.retain(|entry| entry.overage > Usd::ZERO);
    for entry in &entries {
        assert_eq!(entry.overage_reason.as_deref(), Some("not_in_cache"), "{entry:?}");
    }
    entries
}

#[test]
fn a_fresh_prompt_in_a_cached_session_is_cut_as_soon_as_its_price_is_known() {
    let upstream = Cache::default().upstream();
    let gateway = Setup::new(&upstream).with(FIFTY_CENTS).start();
    let mut turn = 0;
    while posted(&gateway).0 + UNCACHED_NANOS <= LIMIT_NANOS {
        assert_eq!(ask(&gateway, "s1", &request("first", turn)).0, 200);
        turn += 1;
    }
    let before = posted(&gateway).0;
    let (status, text) = ask(&gateway, "s1", &request("another", turn));
    assert_eq!(status, 200);
    assert!(
        text.contains("event: error") && !text.contains("one two three"),
        "{text}"
    );
    gateway.wait_idle();
    let (spent, overage) = posted(&gateway);
    assert!(spent - before >= UNCACHED_NANOS, "all of its input is paid for");
    assert!(
        spent - LIMIT_NANOS < UNCACHED_NANOS && overage > 0,
        "{spent}, {overage}"
    );
    let [entry] = not_in_cache(&gateway).try_into().unwrap();
    assert_eq!(entry.settlement.outcome, Outcome::Cut);
    assert_eq!(ask(&gateway, "s1", &request("first", turn)).0, 429);
}

#[test]
fn who_trains_the_cache_and_sends_fresh_prompts_at_once_overspends_by_one_calls_input() {
    let upstream = Cache::default().upstream();
    let yaml = format!("hold: {{wait_ms: 200}}\n{FIFTY_CENTS}");
    let gateway = Setup::new(&upstream).with(&yaml).start();
    // Two sessions whose prompts lie in the cache, and less than one fresh prompt's money.
    let mut turn = 0;
    while posted(&gateway).0 + UNCACHED_NANOS <= LIMIT_NANOS {
        for session in ["s1", "s2"] {
            ask(&gateway, session, &request(session, turn));
        }
        turn += 1;
    }
    let before = posted(&gateway).0;
    thread::scope(|scope| {
        for attacker in 0..24 {
            let gateway = &gateway;
            scope.spawn(move || {
                let session = ["s1", "s2"][attacker % 2];
                for again in 0..3 {
                    ask(gateway, session, &request(&format!("f{attacker}.{again}"), turn));
                    posted(gateway);
                }
            });
        }
    });
    gateway.wait_idle();
    let (spent, overage) = posted(&gateway);
    assert!(spent > before, "one was let through");
    assert!(spent - LIMIT_NANOS <= UNCACHED_NANOS, "{spent} of {LIMIT_NANOS}");
    assert!(overage <= UNCACHED_NANOS, "{overage}");
    assert_eq!(not_in_cache(&gateway).len(), 1, "one call at a time relies on a cache");
}

#[test]
fn subagents_at_the_end_of_a_budget_wait_for_one_another() {
    let upstream = Cache::default().upstream();
    let yaml = format!("hold: {{wait_ms: 60000}}\n{FIFTY_CENTS}");
    let gateway = Setup::new(&upstream).with(&yaml).start();
    let sessions = ["s/1", "s/2"];
    for session in sessions {
        assert_eq!(ask(&gateway, session, &request(session, 0)).0, 200);
    }
    let mut turn = 1;
    while posted(&gateway).0 + UNCACHED_NANOS <= LIMIT_NANOS {
        assert_eq!(ask(&gateway, sessions[0], &request(sessions[0], turn)).0, 200);
        turn += 1;
    }
    thread::scope(|scope| {
        let asked = sessions.map(|session| {
            let gateway = &gateway;
            scope.spawn(move || ask(gateway, session, &request(session, turn)))
        });
        for asked in asked {
            let (status, text) = asked.join().unwrap();
            assert!(status == 200 && text.contains("message_stop"), "{text}");
        }
    });
    assert_eq!(posted(&gateway).1, 0);
}
