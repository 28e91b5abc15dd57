//! Holds while an answer runs: extended, cut, waited for; and what policies ask of a request.

use std::sync::Arc;
use std::thread;

use agentledger_ledger::{ManualClock, Outcome, Usd, Window};
use serde_json::Value;

use crate::harness::upstream::Step;
use crate::harness::{Gate, Gateway, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
/// Sixteen words: about as many tokens.
const WORDS: &str = "one two three four five six seven eight nine ten red green blue black white grey ";
const FRAMES: usize = 300;

fn chat_frame(_: usize) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{WORDS}\"}}}}]}}\n\n"
    )
}

fn message_frame(at: usize) -> String {
    if at == 0 {
        return "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n".to_owned();
    }
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{WORDS}\"}}}}\n\n"
    )
}

fn responses_frame(at: usize) -> String {
    format!(
        "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{at},\"item_id\":\"i\",\"output_index\":0,\"content_index\":0,\"delta\":\"{WORDS}\"}}\n\n"
    )
}

/// Some 5,000 tokens of text, and then nothing: only a cut ends it.
fn endless(frame: fn(usize) -> String) -> Script {
    let head = Script::stream_head("text/event-stream");
    (0..FRAMES)
        .fold(head, |script, at| script.chunk(frame(at).as_bytes()))
        .step(Step::AwaitClose)
}

fn asked(model: &str, max_field: &str, max: u64) -> String {
    let input = if max_field == "max_output_tokens" {
        "\"input\":\"hi\""
    } else {
        "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
    };
    format!("{{\"model\":\"{model}\",{input},\"stream\":true,\"{max_field}\":{max}}}")
}

/// A budget that the stream outruns, the stream, and how it ends.
fn cut(path: &str, question: &str, frame: fn(usize) -> String, limit: &str) -> String {
    let upstream = Upstream::always(endless(frame));
    let yaml = format!("hold: {{size: expected}}\nbudgets: {{default: {{daily_limit_usd: {limit}, action: block}}}}");
    let gateway = Setup::new(&upstream).with(&yaml).start();
    let reply = if path == MESSAGES {
        gateway.client.post_anthropic(path, question)
    } else {
        gateway.client.post(path, question)
    };
    assert_eq!((reply.status, reply.whole), (200, true), "{}", reply.text());
    upstream.wait_closed(1);

    let entry = gateway.entry();
    let limit: Usd = limit.parse().unwrap();
    assert_eq!(entry.settlement.outcome, Outcome::Cut);
    assert!(entry.settlement.estimate_reason.is_some());
    assert!(
        entry.settlement.cost >= entry.held,
        "a cut posts its hold at least: {entry:?}"
    );
    assert!(
        entry.settlement.upper_bound.unwrap() >= entry.settlement.cost,
        "{entry:?}"
    );
    let row = gateway.balances("key:").remove(0);
    assert_eq!(row.posted.usd, entry.settlement.cost);
    assert_eq!(row.held.usd, Usd::ZERO);
    assert!(
        row.posted.usd.nanos() - row.overage.usd.nanos() <= limit.nanos(),
        "{row:?}"
    );
    // All of the budget was used before the cut: less than one token is left.
    assert!(limit.nanos() - entry.held.nanos() < 20_000, "{entry:?}");

    // Whole frames, as the upstream sent them, and then one of ours.
    let text = reply.text();
    let body = text.trim_end_matches('\n');
    let last_at = body.rfind("\n\n").unwrap() + 2;
    let sent: String = (0..FRAMES).map(frame).collect();
    assert!(sent.starts_with(&text[..last_at]), "{}", &text[..last_at.min(400)]);
    assert!(last_at > frame(1).len() * 20, "it passed for a while");
    assert!(last_at < sent.len(), "and was cut before its end");
    text[last_at..].to_owned()
}

fn data_of(event: &str) -> Value {
    let line = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_cut_chat_stream_with_an_error_and_no_done() {
    let last = cut(CHAT, &asked("gpt-4o", "max_tokens", 16_000), chat_frame, "0.02");
    let error = &data_of(&last)["error"];
    assert_eq!(error["code"], "insufficient_quota", "{last}");
    assert!(error["message"].is_string() && !last.contains("[DONE]"));
}

#[test]
fn a_cut_message_stream_ends_with_an_error_event() {
    let last = cut(
        MESSAGES,
        &asked("claude-sonnet-4-5", "max_tokens", 16_000),
        message_frame,
        "0.03",
    );
    assert!(last.starts_with("event: error\n"), "{last}");
    let data = data_of(&last);
    assert_eq!(data["type"], "error");
    assert!(data["error"]["type"].is_string() && data["error"]["message"].is_string());
    assert!(!last.contains("message_stop"));
}

#[test]
fn a_cut_response_stream_ends_as_failed_so_that_codex_does_not_retry() {
    let last = cut(
        RESPONSES,
        &asked("gpt-4o", "max_output_tokens", 16_000),
        responses_frame,
        "0.02",
    );
    assert!(last.starts_with("event: response.failed\n"), "{last}");
    assert_eq!(data_of(&last)["response"]["error"]["code"], "insufficient_quota");
}

#[test]
fn a_hold_is_extended_as_its_stream_grows() {
    let usage = "data: {\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":5000,\"total_tokens\":5008}}\n\ndata: [DONE]\n\n";
    let head = Script::stream_head("text/event-stream");
    let script = (0..FRAMES)
        .fold(head, |script, at| script.chunk(chat_frame(at).as_bytes()))
        .chunk(usage.as_bytes())
        .end();
    let upstream = Upstream::always(script);
    let yaml = "hold: {size: expected}\nbudgets: {default: {daily_limit_usd: 1, action: block}}";
    let gateway = Setup::new(&upstream).with(yaml).start();
    let reply = gateway.client.post(CHAT, &asked("gpt-4o", "max_tokens", 16_000));
    assert!(reply.text().ends_with("data: [DONE]\n\n"));
    let entry = gateway.entry();
    assert_eq!(
        (entry.settlement.outcome, entry.settlement.cost.to_string().as_str()),
        (Outcome::Completed, "0.05002")
    );
    // The first step is 1,024 tokens, a cent: what is held beyond came by extension.
    assert!(entry.held.nanos() > 30_000_000, "{entry:?}");
    let row = gateway.balances("key:").remove(0);
    assert_eq!((row.posted.usd, row.held.usd), (entry.settlement.cost, Usd::ZERO));
}

/// A small whole answer that bills ten tokens of output.
const SMALL: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;

fn whole(max: u64) -> String {
    format!(
        "{{\"model\":\"gpt-4o\", \"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}], \"max_tokens\": {max} , \"seed\":7}}"
    )
}

#[test]
fn clamp_deny_and_header_do_what_the_policy_says() {
    let policy = r#"return { name = "house", version = "1", priority = 10, request = function(_, call)
        if call.agent == "small" then return { clamp{ max_output = 50 }, header{ name = "X-Team", value = "blue" } } end
        if call.agent == "never" then return deny{ status = 403, code = "not_you", message = "ask the owner" } end
    end }"#;
    let upstream = Upstream::always(Script::json(200, SMALL));
    let gateway = Setup::new(&upstream).policy("house", policy).start();
    let ask = |agent, body: &str| {
        gateway
            .client
            .request("POST", CHAT, &[("X-Agent-Id", agent)], body.as_bytes())
    };

    let reply = ask("small", &whole(4_000));
    assert_eq!((reply.status, reply.header("x-team")), (200, Some("blue")));
    let reply = ask("small", &whole(40));
    assert_eq!((reply.status, reply.header("x-team")), (200, Some("blue")));
    let reply = ask("other", &whole(4_000));
    assert_eq!((reply.status, reply.header("x-team")), (200, None));
    let bodies: Vec<String> = upstream
        .seen()
        .iter()
        .map(|seen| String::from_utf8(seen.body.clone()).unwrap())
        .collect();
    assert_eq!(
        bodies,
        [whole(50), whole(40), whole(4_000)],
        "only the number is spliced, only where it is larger"
    );

    let reply = ask("never", &whole(40));
    let error = &reply.json()["error"];
    assert_eq!(
        (reply.status, error["code"].as_str(), error["message"].as_str()),
        (
            403,
            Some("not_you"),
            Some("AgentLedger: ask the owner. Policy house@1 refuses this request; ask whoever runs this gateway.")
        )
    );
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert_eq!(upstream.seen().len(), 3);
    assert_eq!(gateway.entries().len(), 3, "a refusal is no entry");
}

#[test]
fn a_clamp_names_a_maximum_where_there_is_none() {
    let policy = r#"return { name = "house", version = "1", priority = 10, request = function() return clamp{ max_output = 50 } end }"#;
    let upstream = Upstream::always(Script::json(200, SMALL));
    let gateway = Setup::new(&upstream).policy("house", policy).start();
    let reply = gateway.client.post(CHAT, r#"{"model":"gpt-4o","messages":[]}"#);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let sent = upstream.only_seen().json();
    assert_eq!(
        sent["max_completion_tokens"]
            .as_u64()
            .or_else(|| sent["max_tokens"].as_u64()),
        Some(50),
        "{sent}"
    );
}

#[test]
fn a_clamp_names_the_maximum_that_the_host_knows() {
    let (new, old) = ("max_completion_tokens", "max_tokens");
    let hosts = [
        ("groq", new),
        ("xai", new),
        ("cerebras", new),
        ("fireworks", new),
        ("openrouter", new),
        ("mistral", old),
        ("deepseek", old),
        ("together", old),
        ("perplexity", old),
        ("sambanova", old),
        ("ollama", old),
        ("mine", old),
        ("other", new),
    ];
    let policy = r#"return { name = "house", version = "1", priority = 10, request = function() return clamp{ max_output = 50 } end }"#;
    let upstream = Upstream::always(Script::json(200, SMALL));
    let base = upstream.base();
    let sections: String = hosts
        .iter()
        .map(|(name, _)| {
            let own = if *name == "mine" {
                ", output_limit: max_tokens"
            } else {
                ""
            };
            format!(
                "    {name}: {{enabled: true, upstream: \"{base}\", default_price: {{input: 1, output: 2}}{own}}}\n"
            )
        })
        .collect();
    let setup = Setup::new(&upstream).only(&format!("providers:\n  extra:\n{sections}"));
    let gateway = setup.policy("house", policy).start();
    for (at, (name, field)) in hosts.into_iter().enumerate() {
        let path = format!("/{name}/v1/chat/completions");
        let reply = gateway.client.post(&path, r#"{"model":"m","messages":[]}"#);
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        let sent = upstream.seen()[at].json();
        assert_eq!(sent[field], 50, "{name}: {sent}");
        let other = if field == new { old } else { new };
        assert_eq!(sent.get(other), None, "{name}: {sent}");
    }
    // A field that the host does not know limits nothing: the one that it knows is set beside it.
    let named = r#"{"model":"m","messages":[],"max_completion_tokens":4000}"#;
    gateway.client.post("/deepseek/v1/chat/completions", named);
    gateway.client.post("/groq/v1/chat/completions", named);
    let sent = upstream.seen();
    assert_eq!(sent[hosts.len()].json()["max_tokens"], 50);
    let groq = sent[hosts.len() + 1].json();
    assert_eq!(
        (&groq["max_completion_tokens"], groq.get("max_tokens")),
        (&50.into(), None)
    );
}

#[test]
fn a_soft_limit_warns_with_the_contracts_header() {
    let sixty_cents = SMALL.replace("\"completion_tokens\":10", "\"completion_tokens\":60000");
    let upstream = Upstream::always(Script::json(200, &sixty_cents));
    let yaml = "budgets: {default: {daily_limit_usd: 1, soft_limit_pct: 0.5, action: block}}";
    let gateway = Setup::new(&upstream).with(yaml).start();
    let first = gateway.client.post(CHAT, &whole(60_000));
    assert_eq!(
        (first.status, first.header("x-agentledger-budget-warning")),
        (200, None)
    );
    let second = gateway.client.post(CHAT, &whole(10));
    assert_eq!(
        (second.status, second.header("x-agentledger-budget-warning")),
        (200, Some("daily=0.60/1.00"))
    );

    let yaml = "budgets: {default: {daily_limit_usd: 0.5, monthly_limit_usd: 100, action: warn}}";
    let gateway = Setup::new(&upstream).with(yaml).start();
    gateway.client.post(CHAT, &whole(10));
    let over = gateway.client.post(CHAT, &whole(10));
    assert_eq!(
        (over.status, over.header("x-agentledger-budget-warning")),
        (200, Some("daily=0.60/0.50 monthly=0.60/100.00"))
    );
}

/// One request holds nearly all there is; its answer waits at the gate.
fn one_holds_all(wait_ms: u64) -> (Upstream, Gateway, Gate) {
    let gate = Gate::default();
    let upstream = Upstream::playing({
        let gate = gate.clone();
        move |_| {
            gate.wait();
            Script::json(200, SMALL)
        }
    });
    let yaml = format!("hold: {{wait_ms: {wait_ms}}}\nbudgets: {{default: {{daily_limit_usd: 0.05, action: block}}}}");
    let gateway = Setup::new(&upstream).with(&yaml).start();
    (upstream, gateway, gate)
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1500 {
        if is_so() {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never: {what}");
}

#[test]
fn who_waits_for_a_hold_is_served_when_it_ends() {
    let (upstream, gateway, gate) = one_holds_all(120_000);
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.client.post(CHAT, &whole(4_000)).status);
        until("the first is held", || upstream.seen().len() == 1);
        let second = scope.spawn(|| gateway.client.post(CHAT, &whole(4_000)).status);
        until("the second is there", || {
            gateway.launched().gateway().drain.in_flight() == 2
        });
        assert_eq!(upstream.seen().len(), 1, "the second waits");
        gate.open();
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (200, 200));
    });
    assert_eq!(gateway.entries().len(), 2);
}

#[test]
fn who_waited_too_long_is_told_when_to_come_again() {
    let (upstream, gateway, gate) = one_holds_all(50);
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.client.post(CHAT, &whole(4_000)).status);
        until("the first is held", || upstream.seen().len() == 1);
        let second = gateway.client.post(CHAT, &whole(4_000));
        assert_eq!(
            (second.status, second.json()["error"]["code"].as_str()),
            (429, Some("budget_held"))
        );
        assert!(second.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
        assert_ne!(second.header("x-should-retry"), Some("false"));
        // What can never fit is told at once, and as final.
        let third = gateway.client.post(CHAT, &whole(8_000));
        assert_eq!(
            (third.status, third.json()["error"]["code"].as_str()),
            (429, Some("budget_exceeded"))
        );
        gate.open();
        assert_eq!(first.join().unwrap(), 200);
    });
}

#[test]
fn a_hold_settles_in_the_window_of_its_start() {
    // 2026-01-31T23:59:50Z: day, month and the journal's month all turn.
    let clock = Arc::new(ManualClock::new(1_769_903_990_000));
    let gate = Gate::default();
    let upstream = Upstream::playing({
        let gate = gate.clone();
        move |seen| {
            if seen.header("x-wait").is_some() {
                gate.wait();
            }
            Script::json(200, SMALL)
        }
    });
    let yaml = "budgets: {default: {daily_limit_usd: 0.05, monthly_limit_usd: 0.05, action: block}}";
    let gateway = Setup::new(&upstream).with(yaml).clock(clock.clone()).start();
    let ask = |headers: &[(&str, &str)]| {
        gateway
            .client
            .request("POST", CHAT, headers, whole(4_000).as_bytes())
            .status
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| ask(&[("X-Wait", "yes")]));
        until("the first is held", || upstream.seen().len() == 1);
        clock.advance_ms(20_000);
        assert_eq!(ask(&[]), 200, "the new month has its own budget");
        gate.open();
        assert_eq!(first.join().unwrap(), 200);
    });
    gateway.wait_idle();
    let cost = gateway.entries()[0].settlement.cost;
    for window in [Window::Day, Window::Month] {
        let mut rows = gateway.balances("key:");
        rows.retain(|row| row.window == window && row.posted.usd != Usd::ZERO);
        // The window of the start may be gone from memory by now; the new one has only what began in it.
        let now: Vec<_> = rows.iter().filter(|row| row.period.start_s == 1_769_904_000).collect();
        assert_eq!(now.len(), 1, "{rows:?}");
        assert_eq!((now[0].posted.usd, now[0].held.usd), (cost, Usd::ZERO), "{rows:?}");
    }
    assert_eq!(gateway.entries().len(), 2);
    let report = gateway.launched().gateway().ledger.verify(None).unwrap();
    assert!(report.damage.is_none() && report.months.len() == 2, "{report:?}");
}

#[test]
fn streams_that_start_small_share_a_budget_that_would_not_hold_one_of_them_whole() {
    // gpt-4o: a maximum of 16,000 tokens costs $0.16; a first step of 1,024 tokens costs $0.01024.
    let gate = Gate::default();
    let upstream = Upstream::playing({
        let gate = gate.clone();
        move |_| {
            gate.wait();
            Script::sse(&[chat_frame(0), "data: [DONE]\n\n".to_owned()])
        }
    });
    let budget = "budgets: {default: {daily_limit_usd: 0.06, action: block}}";
    let question = asked("gpt-4o", "max_tokens", 16_000);
    let sized = |size: &str| {
        Setup::new(&upstream)
            .with(&format!("hold: {{size: {size}}}\n{budget}"))
            .start()
    };
    assert_eq!(sized("worst_case").client.post(CHAT, &question).status, 429);

    let gateway = sized("expected");
    thread::scope(|scope| {
        let ask = || gateway.client.post(CHAT, &question).status;
        let streams: Vec<_> = (0..5).map(|_| scope.spawn(ask)).collect();
        until("all five run", || upstream.seen().len() == 5);
        let held = gateway.balances("key:").remove(0).held.usd.nanos();
        assert!((5 * 10_240_000..60_000_000).contains(&held), "{held}");
        gate.open();
        assert!(streams.into_iter().all(|stream| stream.join().unwrap() == 200));
    });
}

#[test]
fn a_client_that_tries_again_by_itself_is_ended_by_its_first_call_after_a_cut() {
    let upstream = Upstream::always(endless(chat_frame));
    let clock = Arc::new(ManualClock::new(1_795_950_800_000));
    let gateway = Setup::new(&upstream)
        .clock(clock.clone())
        .with("hold: {size: expected}\nbudgets: {default: {daily_limit_usd: 0.02, action: block}}")
        .start();
    // As LiteLLM asks, for aider.
    let headers = [
        ("authorization", "Bearer sk-aider"),
        ("user-agent", "OpenAI/Python 1.99.1"),
        ("x-stainless-raw-response", "true"),
    ];
    let ask = || {
        let request = asked("gpt-4o", "max_tokens", 16_000);
        gateway.client.request("POST", CHAT, &headers, request.as_bytes())
    };
    let cut = ask();
    assert!(
        cut.status == 200 && cut.text().contains("insufficient_quota"),
        "{}",
        cut.text()
    );
    clock.advance_ms(500);
    assert_eq!(ask().status, 400);
}
