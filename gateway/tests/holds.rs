//! Holds of the size that agents' calls really have: learned, extended, waited for; and those whose end a crash left nobody to see.

use std::sync::{Arc, Mutex};
use std::thread;

use agentledger_ledger::{Outcome, Usd};
use serde_json::{Value, json};

use crate::harness::upstream::{Seen, Step};
use crate::harness::{Gate, Gateway, Installation, Script, Setup, Upstream};

const MESSAGES: &str = "/v1/messages";
const CHAT: &str = "/v1/chat/completions";
const KEY: (&str, &str) = ("x-api-key", "sk-ant-api03-0123456789abcdef");
const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");
const FIFTY_CENTS: &str = "budgets: {default: {daily_limit_usd: 0.5, action: block}}";
/// Some eighty bytes: as a model counts them rather more than twenty tokens.
const WORDS: &str = "one two three four five six seven eight nine ten red green blue black white grey ";

/// As Claude Code sends: a long prompt that is cached, and a maximum that no answer comes near. 64,000 tokens of output cost $1.60.
fn claude_request() -> String {
    let system = "You are an agent that writes code, carefully. ".repeat(300);
    json!({
        "model": "claude-opus-4-8",
        "max_tokens": 64_000,
        "stream": true,
        "system": [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "go on"}],
    })
    .to_string()
}

/// An answer of so many tokens to a prompt of which most was cached.
fn claude_frames(tokens: u64) -> Vec<String> {
    let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let usage = |output: u64| json!({"input_tokens": 4, "cache_read_input_tokens": 3_500, "cache_creation_input_tokens": 200, "output_tokens": output});
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude-opus-4-8", "usage": usage(1)});
    let mut frames = vec![event(
        "message_start",
        json!({"type": "message_start", "message": message}),
    )];
    let text = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}});
    frames.extend((0..tokens / 24).map(|_| event("content_block_delta", text.clone())));
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage(tokens)});
    frames.push(event("message_delta", delta));
    frames.push(event("message_stop", json!({"type": "message_stop"})));
    frames
}

/// 3,500 cached, 200 written and 4 plain tokens of input cost $0.00302, and a token of output $0.000025.
fn claude_cost(tokens: i64) -> i64 {
    3_020_000 + tokens * 25_000
}

fn as_agent(gateway: &Gateway, agent: &str, request: &str) -> (u16, String) {
    let headers = [KEY, VERSION, ("x-agent-id", agent)];
    let reply = gateway.client.request("POST", MESSAGES, &headers, request.as_bytes());
    (reply.status, reply.text())
}

fn spent(gateway: &Gateway) -> i64 {
    let rows = gateway.balances("key:");
    let row = rows.first();
    assert!(row.is_none_or(|row| row.overage.usd == Usd::ZERO), "{row:?}");
    row.map_or(0, |row| row.posted.usd.nanos())
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
fn claude_code_on_fifty_cents_works_until_they_are_spent() {
    let upstream = Upstream::always(Script::sse(&claude_frames(640)));
    let whole = Setup::new(&upstream)
        .with(&format!("hold: {{size: worst_case}}\n{FIFTY_CENTS}"))
        .start();
    assert_eq!(
        as_agent(&whole, "claude-code", &claude_request()).0,
        429,
        "it holds $1.6"
    );

    let gateway = Setup::new(&upstream).with(FIFTY_CENTS).start();
    let mut answered = 0;
    let refused = loop {
        let (status, text) = as_agent(&gateway, "claude-code", &claude_request());
        if status != 200 {
            break (status, text);
        }
        assert!(
            text.contains("message_stop") && !text.contains("event: error"),
            "{text}"
        );
        answered += 1;
        assert_eq!(spent(&gateway), answered * claude_cost(640));
    };
    let error: Value = serde_json::from_str(&refused.1).unwrap();
    assert_eq!(
        (refused.0, &error["error"]["code"]),
        (429, &json!("budget_exceeded")),
        "{error}"
    );
    // What a next call would hold at least, its input at its full price and a step of output, is not left.
    assert!(answered > 20, "{answered}: learning began on the way");
    assert!(error["error"]["estimated_cost"].as_f64().unwrap() > 1.6, "{error}");
    let least: f64 = error["error"]["hold"].as_f64().unwrap();
    assert!(least < 0.06, "{least}");
    assert!(
        500_000_000 - spent(&gateway) < (least * 1e9) as i64,
        "{}",
        spent(&gateway)
    );
    assert!(
        gateway
            .entries()
            .iter()
            .all(|entry| entry.settlement.outcome == Outcome::Completed)
    );
}

#[test]
fn eight_subagents_at_once_do_not_lock_one_another_out() {
    let gate = Gate::default();
    let upstream = Upstream::playing({
        let gate = gate.clone();
        move |_| {
            gate.wait();
            Script::sse(&claude_frames(1_632))
        }
    });
    // Eight answers of 4.4 cents; a worst case is $1.6. What each spares of its input, which was cached, pays for its output.
    let gateway = Setup::new(&upstream)
        .with(&format!("hold: {{wait_ms: 0}}\n{FIFTY_CENTS}"))
        .start();
    thread::scope(|scope| {
        let ask = || as_agent(&gateway, "subagent", &claude_request());
        let agents: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        until("all eight run", || upstream.seen_count() == 8);
        gate.open();
        for agent in agents {
            let (status, text) = agent.join().unwrap();
            assert_eq!(status, 200, "{text}");
            assert!(
                text.contains("message_stop") && !text.contains("event: error"),
                "{text}"
            );
        }
    });
    assert_eq!(spent(&gateway), 8 * claude_cost(1_632));
}

#[test]
fn input_that_turns_out_to_be_cached_leaves_what_was_held_for_it_to_the_output() {
    let upstream = Upstream::always(Script::sse(&claude_frames(1_632)));
    let gateway = Setup::new(&upstream)
        .with("hold: {wait_ms: 0}\nbudgets: {default: {daily_limit_usd: 0.06, action: block}}")
        .start();
    let (status, text) = as_agent(&gateway, "claude-code", &claude_request());
    assert!(status == 200 && text.contains("message_stop"), "{text}");
    let entry = gateway.entry();
    assert_eq!(
        (entry.settlement.outcome, spent(&gateway)),
        (Outcome::Completed, claude_cost(1_632))
    );
    // With its input at its full price the answer would have needed more than there is.
    let input = entry.held.nanos() - 1_024 * 25_000;
    assert!(input > 0 && input + 1_632 * 25_000 > 60_000_000, "{}", entry.held);
}

/// Why the hold of an agent's call has its size.
fn basis(gateway: &Gateway, upstream: &Upstream, at: &Mutex<Option<Gate>>, agent: &str, request: &str) -> String {
    let (before, gate) = (upstream.seen_count(), Gate::default());
    *at.lock().unwrap() = Some(gate.clone());
    let mut basis = String::new();
    thread::scope(|scope| {
        let call = scope.spawn(|| as_agent(gateway, agent, request).0);
        until("it runs", || upstream.seen_count() == before + 1);
        basis = gateway.launched().gateway().ledger.open_holds()[0]
            .held
            .basis
            .to_string();
        gate.open();
        assert_eq!(call.join().unwrap(), 200);
    });
    basis
}

#[test]
fn what_calls_take_is_learned_by_model_and_agent_and_outlives_a_restart() {
    let gate: Arc<Mutex<Option<Gate>>> = Arc::default();
    let upstream = Upstream::playing({
        let gate = Arc::clone(&gate);
        move |_| {
            let gate = gate.lock().unwrap().clone();
            if let Some(gate) = gate {
                gate.wait();
            }
            Script::sse(&claude_frames(640))
        }
    });
    let budget = "budgets: {default: {daily_limit_usd: 5, action: block}}";
    let gateway = Setup::new(&upstream).with(budget).start();
    for _ in 0..20 {
        assert_eq!(as_agent(&gateway, "coder", &claude_request()).0, 200);
    }
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).with(budget).in_dir(&dir).start();
    let basis = |agent| basis(&gateway, &upstream, &gate, agent, &claude_request());
    assert_eq!(basis("coder"), "learned p99 of the model and agent");
    assert_eq!(basis("newcomer"), "learned p99 of the model");
}

#[test]
fn a_stream_that_may_think_unseen_begins_with_more_until_such_calls_are_learned() {
    let gate: Arc<Mutex<Option<Gate>>> = Arc::default();
    let upstream = Upstream::playing({
        let gate = Arc::clone(&gate);
        move |_| {
            gate.lock().unwrap().clone().unwrap().wait();
            Script::sse(&claude_frames(640))
        }
    });
    let request = claude_request().replacen('{', r#"{"thinking":{"type":"adaptive"},"#, 1);
    let begins_on = |limit: &str| {
        let budget = format!("budgets: {{default: {{daily_limit_usd: {limit}, action: block}}}}");
        let gateway = Setup::new(&upstream).with(&budget).start();
        let basis = basis(&gateway, &upstream, &gate, "coder", &request);
        (basis, gateway.entry().held.nanos())
    };
    let (basis, roomy) = begins_on("5");
    assert_eq!(basis, "first steps of a stream that may think unseen");
    let (basis, tight) = begins_on("0.2");
    assert_eq!(basis, "first step of a stream");
    // Opus writes at $25 a million.
    assert_eq!(roomy - tight, 7 * 1_024 * 25_000);
}

#[test]
fn a_limit_that_shortens_answers_tells_streams_beforehand_how_long_they_may_be() {
    let upstream = Upstream::always(Script::sse(&["data: [DONE]\n\n"]));
    let limits = "{limits: [{account: key, window: day, limit: 0.1, action: clamp}]}";
    let gateway = Setup::new(&upstream).conf("budget", limits).start();
    let ask = r#"{"model":"gpt-4o","stream":true,"max_tokens":16000,"messages":[{"role":"user","content":"hi"}]}"#;
    let reply = gateway.client.post(CHAT, ask);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let sent = upstream.seen()[0].json()["max_tokens"].as_u64().unwrap();
    // At $10 a million: nearly ten thousand tokens.
    assert!((9_900..10_000).contains(&sent), "{sent}");
}

#[test]
fn a_whole_answer_holds_its_worst_case() {
    let upstream = Upstream::always(Script::json(200, WHOLE));
    let gateway = Setup::new(&upstream).with(FIFTY_CENTS).start();
    let request = claude_request().replace("\"stream\":true,", "");
    assert_ne!(request, claude_request());
    let (status, text) = as_agent(&gateway, "claude-code", &request);
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &error["error"]["code"]),
        (429, &json!("budget_exceeded")),
        "{text}"
    );
    assert!(error["error"]["estimated_cost"].as_f64().unwrap() > 1.6, "{text}");
}

const WHOLE: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;

fn chat_frame() -> String {
    format!(
        "data: {{\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{WORDS}\"}}}}]}}\n\n"
    )
}

/// A stream of 2,400 tokens, and a whole answer that waits at the gate.
fn stream_beside_a_whole_answer(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    let usage = r#"data: {"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2400,"total_tokens":2410}}"#;
    Upstream::playing(move |seen: &Seen| {
        if seen.json()["stream"].as_bool() == Some(true) {
            let head = Script::stream_head("text/event-stream");
            let frames = (0..150).fold(head, |script, _| script.chunk(chat_frame().as_bytes()));
            let end = format!("{usage}\n\ndata: [DONE]\n\n");
            return frames.chunk(end.as_bytes()).end();
        }
        gate.wait();
        Script::json(200, WHOLE)
    })
}

const STREAM: &str =
    r#"{"model":"gpt-4o","stream":true,"max_tokens":16000,"messages":[{"role":"user","content":"hi"}]}"#;
const NOT_STREAMED: &str = r#"{"model":"gpt-4o","max_tokens":3000,"messages":[{"role":"user","content":"hi"}]}"#;

/// A stream that needs more than a whole answer beside it leaves, until that ends or not; what the stream gave.
fn beside_a_whole_answer(wait_ms: u64, ends: bool) -> (Gateway, String) {
    let gate = Gate::default();
    let upstream = stream_beside_a_whole_answer(&gate);
    let yaml = format!("hold: {{wait_ms: {wait_ms}}}\nbudgets: {{default: {{daily_limit_usd: 0.05, action: block}}}}");
    let gateway = Setup::new(&upstream).with(&yaml).start();
    let mut streamed = String::new();
    thread::scope(|scope| {
        let whole = scope.spawn(|| gateway.client.post(CHAT, NOT_STREAMED).status);
        until("the whole answer is held", || upstream.seen_count() == 1);
        let stream = scope.spawn(|| gateway.client.post(CHAT, STREAM).text());
        // The dregs of the budget are the stream's, too: it can only wait, or is cut.
        until("nothing is left", || {
            gateway
                .balances("key:")
                .iter()
                .any(|row| row.posted.usd.nanos() + row.held.usd.nanos() > 49_980_000)
        });
        if ends {
            gate.open();
        }
        streamed = stream.join().unwrap();
        gate.open();
        assert_eq!(whole.join().unwrap(), 200);
    });
    gateway.wait_idle();
    (gateway, streamed)
}

#[test]
fn a_stream_waits_while_only_others_holds_are_in_its_way() {
    let (gateway, streamed) = beside_a_whole_answer(120_000, true);
    assert!(streamed.ends_with("data: [DONE]\n\n"), "{streamed}");
    assert_eq!(
        streamed.matches(WORDS).count(),
        150,
        "nothing is lost, and nothing comes twice"
    );
    let entries = gateway.entries();
    assert!(
        entries
            .iter()
            .all(|entry| entry.settlement.outcome == Outcome::Completed)
    );
    // 2,400 and 10 tokens at $10 a million, 20 at $2.50.
    assert_eq!(spent(&gateway), 24_000_000 + 100_000 + 50_000);
}

#[test]
fn a_stream_that_waited_in_vain_is_cut() {
    let (gateway, streamed) = beside_a_whole_answer(50, false);
    assert!(
        !streamed.contains("[DONE]") && streamed.contains("\"error\""),
        "{streamed}"
    );
    let outcomes: Vec<Outcome> = gateway.entries().iter().map(|entry| entry.settlement.outcome).collect();
    assert_eq!(outcomes, [Outcome::Cut, Outcome::Completed]);
}

/// Whole answers of 10 tokens, which teach what such calls cost; one that asks for it stays open.
fn teaching() -> Upstream {
    Upstream::playing(|seen: &Seen| match seen.header("x-wish") {
        Some("open") => Script::stream_head("text/event-stream")
            .chunk(chat_frame().as_bytes())
            .step(Step::AwaitClose),
        _ => Script::json(200, WHOLE),
    })
}

/// Twenty calls, an orderly restart, and a kill while a call runs; the gateway that comes after it.
fn killed_in_a_call(recovered: &str) -> (Installation, Upstream, crate::harness::process::Process, Value) {
    let upstream = teaching();
    let home = Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\nhold: {{size: worst_case, recovered: {recovered}}}",
        upstream.base()
    ));
    let gateway = home.serve();
    let headers = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("x-agent-id", "coder"),
    ];
    for _ in 0..20 {
        let reply = gateway.client.request("POST", CHAT, &headers, NOT_STREAMED.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    gateway.stop();
    let gateway = home.serve();
    let open = [headers[0], headers[1], ("x-wish", "open")];
    let stream = gateway.client.send("POST", CHAT, &open, STREAM.as_bytes());
    until("it is held", || {
        home.rpc("hold.list", &json!({}))["holds"]
            .as_array()
            .is_some_and(|holds| holds.len() == 1)
    });
    // It answers when the journal has all that was decided: a kill before that would leave nothing to recover.
    home.rpc("budget.status", &json!({}));
    gateway.kill();
    drop(stream);
    let gateway = home.serve();
    let listed = home.rpc("hold.recovered", &json!({}))["holds"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    (home, upstream, gateway, listed[0].clone())
}

fn usd(value: &Value) -> Usd {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn a_call_that_a_kill_cut_off_costs_what_such_calls_cost() {
    let (home, _upstream, _gateway, row) = killed_in_a_call("expected");
    // 10 tokens at $2.50 and 10 at $10 a million; 16,000 tokens were held.
    assert_eq!(usd(&row["entered_usd"]), usd(&json!("0.000125")), "{row}");
    assert!(usd(&row["held_usd"]) >= usd(&json!("0.16")), "{row}");
    assert_eq!(
        (&row["reason"], &row["corrected"]),
        (&json!("recovered"), &json!(false))
    );
    let entries = home.export();
    let entry = entries.iter().find(|entry| entry["id"] == row["entry"]).unwrap();
    assert_eq!(entry["outcome"], "recovered");
    assert_eq!(
        entry["upper_bound_usd"], row["held_usd"],
        "what it may have cost at most: {entry}"
    );
}

#[test]
fn a_call_that_a_kill_cut_off_is_corrected_once() {
    let (home, _upstream, _gateway, row) = killed_in_a_call("held");
    assert_eq!(row["entered_usd"], row["held_usd"], "{row}");
    let id = row["id"].to_string();
    let table = home.print(&["holds", "recovered"]);
    assert!(table.contains(&id) && table.contains("recovered"), "{table}");
    let spent = || {
        let rows = home.rpc("budget.status", &json!({"account": "key:"}))["budgets"].clone();
        usd(&rows[0]["spent_usd"]).nanos() - 20 * 125_000
    };
    assert_eq!(spent(), usd(&row["held_usd"]).nanos());
    for (args, cost) in [
        (["--cost", "0.05"].as_slice(), 50_000_000),
        (&["--cost", "0.05", "--reason", "again"], 50_000_000),
        (&["--expected"], 125_000),
        (&["--expected"], 125_000),
        (&["--cost", "0"], 0),
    ] {
        home.print(&[["holds", "correct", id.as_str()].as_slice(), args].concat());
        assert_eq!(spent(), cost, "{args:?}");
    }
    // By its entry's id, too; what is no recovered hold is none of its business.
    let entry = row["entry"].as_str().unwrap();
    home.print(&["holds", "correct", entry, "--cost", "0.01"]);
    assert_eq!(spent(), 10_000_000);
    let other = home.export();
    let other = other.iter().find(|entry| entry["outcome"] == "completed").unwrap();
    for id in [other["id"].as_str().unwrap(), "999999", "nonsense"] {
        assert!(
            !home.run(&["holds", "correct", id, "--cost", "0"]).status.success(),
            "{id}"
        );
    }
    assert!(!home.run(&["holds", "correct", &id, "--cost", "-1"]).status.success());
    let audit = home.rpc("audit.list", &json!({"action": "hold.correct"}))["changes"].clone();
    assert_eq!(
        audit.as_array().unwrap().len(),
        4,
        "what changed nothing is no change: {audit}"
    );
    let row = home.rpc("hold.recovered", &json!({}))["holds"][0].clone();
    assert_eq!(
        (&row["cost_usd"], &row["corrected"]),
        (&json!("0.01"), &json!(true)),
        "{row}"
    );
    assert!(home.run(&["verify"]).status.success());
}
