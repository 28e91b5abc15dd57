//! What is not read costs what was held, and who leaves early pays.

use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use agentledger_ledger::{Entry, Kind, Outcome, Usd};
use serde_json::json;

use crate::harness::client::read_reply;
use crate::harness::upstream::Step;
use crate::harness::{Gateway, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
/// Long enough for a loaded machine, short enough for a test.
const READ_ON: &str = "limits: {read_on_ms: 700ms}";
/// Holds 1,000 tokens of gpt-4o's output: a cent.
const ASKED: &str = r#"{"model":"gpt-4o","max_tokens":1000,"messages":[{"role":"user","content":"hi"}]}"#;
const STREAMED: &str = r#"{"model":"gpt-4o","max_tokens":1000,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;
const WHOLE: &str = r#"{"id":"c","model":"gpt-4o","choices":[{"index":0,"message":{"content":"hi"}}],"usage":{"prompt_tokens":100,"completion_tokens":200,"total_tokens":300}}"#;

/// A connection that is broken off by a reset, as one whose process is killed with bytes unread.
fn reset(stream: TcpStream) {
    let socket = tokio::net::TcpSocket::from_std_stream(stream);
    socket.set_zero_linger().unwrap();
    drop(socket);
}

fn delta(text: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({"id": "c", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": text}}]})
    )
}

fn reading_on(script: Script) -> (Upstream, Gateway) {
    let upstream = Upstream::always(script);
    let gateway = Setup::new(&upstream).with(READ_ON).start();
    (upstream, gateway)
}

fn send(gateway: &Gateway, body: &str) -> TcpStream {
    gateway.client.send("POST", CHAT, &[], body.as_bytes())
}

fn is_estimated_at_its_hold(entry: &Entry) {
    let end = &entry.settlement;
    assert!(
        entry.held > Usd::ZERO && end.cost >= entry.held,
        "{} of {}",
        end.cost,
        entry.held
    );
    assert!(end.estimate_reason.is_some(), "{end:?}");
}

#[test]
fn an_answer_that_is_not_read_costs_what_was_held_in_every_form() {
    for (what, script) in [
        ("html", Script::body(200, "text/html", b"<html>login</html>", &[])),
        ("nothing", Script::body(200, "application/json", b"", &[])),
        (
            "protobuf",
            Script::body(200, "application/x-protobuf", b"\x0a\x02hi", &[]),
        ),
        (
            "stripped",
            Script::json(
                200,
                r#"{"id":"c","model":"gpt-4o","choices":[{"index":0,"message":{"content":"hi"}}]}"#,
            ),
        ),
        (
            "null",
            Script::json(200, r#"{"id":"c","model":"gpt-4o","choices":[],"usage":null}"#),
        ),
        (
            "contradictory",
            Script::json(
                200,
                r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":-1}}"#,
            ),
        ),
        (
            "encoded",
            Script::body(
                200,
                "application/json",
                WHOLE.as_bytes(),
                &[("content-encoding", "lzma")],
            ),
        ),
        (
            "cut",
            Script::json(
                200,
                r#"{"id":"c","model":"gpt-4o","choices":[{"index":0,"message":{"con"#,
            ),
        ),
        (
            "stream without usage",
            Script::sse(&[delta("hi").as_str(), "data: [DONE]\n\n"]),
        ),
        ("empty stream", Script::sse(&["data: [DONE]\n\n"])),
    ] {
        let (_upstream, gateway) = reading_on(script);
        let ask = if what.contains("stream") { STREAMED } else { ASKED };
        assert_eq!(gateway.client.post(CHAT, ask).status, 200, "{what}");
        // The end of an answer without a body is its head.
        let entry = gateway.entries_of(1).remove(0);
        is_estimated_at_its_hold(&entry);
        assert!(
            entry.settlement.usage.tokens() >= 1_000,
            "{what}: limits in tokens count it, too"
        );
    }
}

#[test]
fn without_a_named_maximum_it_costs_what_the_model_may_bill() {
    let upstream = Upstream::always(Script::json(200, r#"{"id":"c","model":"gpt-4o","choices":[]}"#));
    let gateway = Setup::new(&upstream).with("hold: {size: expected}").start();
    let ask = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    gateway.client.post(CHAT, ask);
    let entry = gateway.entry();
    is_estimated_at_its_hold(&entry);
    // 16,384 tokens of output at $10 a million.
    assert!(
        entry.settlement.cost >= "0.16384".parse().unwrap(),
        "{}",
        entry.settlement.cost
    );
}

#[test]
fn a_limit_holds_against_answers_that_say_nothing() {
    let upstream = Upstream::always(Script::json(200, r#"{"id":"c","model":"gpt-4o","choices":[]}"#));
    let limit = "budgets: {default: {daily_limit_usd: 0.05, action: block}}";
    let gateway = Setup::new(&upstream).with(limit).start();
    let statuses: Vec<u16> = (0..10).map(|_| gateway.client.post(CHAT, ASKED).status).collect();
    assert_eq!(
        statuses.iter().filter(|status| **status == 200).count(),
        4,
        "{statuses:?}"
    );
}

#[test]
fn left_early_a_whole_answer_is_read_for_the_books_after_a_reset() {
    let script = Script::default().pause_ms(250).step(Step::Bytes(
        Script::json(200, WHOLE)
            .steps
            .into_iter()
            .find_map(|step| match step {
                Step::Bytes(bytes) => Some(bytes),
                _ => None,
            })
            .unwrap(),
    ));
    let (upstream, gateway) = reading_on(script);
    let stream = send(&gateway, ASKED);
    gateway.wait_in_flight();
    while upstream.seen_count() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    reset(stream);
    // A short answer fits into what the system still takes for a client that is gone: how it ended is open, its cost is not.
    let entry = gateway.entries_of(1).remove(0);
    assert_eq!(
        (
            entry.settlement.cost.to_string().as_str(),
            entry.settlement.estimate_reason
        ),
        ("0.00225", None)
    );
}

#[test]
fn left_early_between_the_last_text_and_its_usage_costs_what_it_used() {
    let finish = r#"{"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let usage = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":10000,"total_tokens":10100,"completion_tokens_details":{"reasoning_tokens":9980}}}"#;
    let script = Script::stream_head("text/event-stream")
        .chunk(delta("two words").as_bytes())
        .chunk(format!("data: {finish}\n\n").as_bytes())
        .pause_ms(200)
        .chunk(format!("data: {usage}\n\ndata: [DONE]\n\n").as_bytes())
        .end();
    let (_upstream, gateway) = reading_on(script);
    let mut stream = send(&gateway, STREAMED);
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("finish_reason") {
        let mut some = [0; 1_024];
        let read = std::io::Read::read(&mut stream, &mut some).unwrap();
        assert!(read > 0);
        seen.extend_from_slice(&some[..read]);
    }
    reset(stream);
    let entry = gateway.entries_of(1).remove(0);
    // 100 x $2.5 and 10,000 x $10 a million, the unseen thoughts included.
    assert_eq!(entry.settlement.cost.to_string(), "0.10025", "{:?}", entry.settlement);
    assert_eq!(entry.settlement.estimate_reason, None);
}

#[test]
fn left_early_before_a_whole_answer_begins_costs_what_was_held() {
    for closes in [true, false] {
        let (upstream, gateway) = reading_on(Script::default().step(Step::AwaitClose));
        let stream = send(&gateway, ASKED);
        while upstream.seen_count() == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        if closes {
            drop(stream)
        } else {
            reset(stream)
        }
        let entry = gateway.entries_of(1).remove(0);
        assert_eq!(entry.settlement.outcome, Outcome::ClientGone);
        is_estimated_at_its_hold(&entry);
        upstream.wait_closed(1);
    }
}

#[test]
fn fin_on_a_silent_upstream_frees_the_hold_within_seconds() {
    let upstream = Upstream::always(Script::default().step(Step::AwaitClose));
    let limits = format!("{READ_ON}\nbudgets: {{default: {{daily_limit_usd: 0.05, action: block}}}}");
    let gateway = Setup::new(&upstream).with(&limits).start();
    let stream = send(&gateway, STREAMED);
    while upstream.seen_count() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let left = Instant::now();
    drop(stream);
    let entry = gateway.entries_of(1).remove(0);
    assert_eq!(entry.settlement.outcome, Outcome::ClientGone);
    assert!(
        left.elapsed() < Duration::from_secs(60),
        "not the fifteen minutes of a first byte"
    );
    upstream.wait_closed(1);
    gateway.wait_idle();
}

#[test]
fn fin_in_the_middle_of_a_silent_stream_is_noticed() {
    let script = Script::stream_head("text/event-stream")
        .chunk(delta("one two").as_bytes())
        .step(Step::AwaitClose);
    let (upstream, gateway) = reading_on(script);
    let mut stream = send(&gateway, STREAMED);
    let mut some = [0; 100];
    std::io::Read::read_exact(&mut stream, &mut some).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    let entry = gateway.entries_of(1).remove(0);
    assert_eq!(entry.settlement.outcome, Outcome::ClientGone);
    upstream.wait_closed(1);
}

#[test]
fn a_half_closed_client_gets_an_answer_that_comes_in_time() {
    let script = Script::default().pause_ms(200).step(Step::Bytes(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
    ));
    let (_upstream, gateway) = reading_on(script);
    let mut stream = send(&gateway, ASKED);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_reply(&mut stream).text(), "{}");
}

#[test]
fn tier_batch_named_on_line_makes_nothing_cheaper() {
    let ask = ASKED.replace("\"messages\"", "\"service_tier\":\"batch\",\"messages\"");
    for (said, reason) in [
        ("", Some("unconfirmed_tier")),
        (r#""service_tier":"batch","#, Some("unconfirmed_tier")),
        (r#""service_tier":"default","#, None),
    ] {
        let answer = WHOLE.replace("\"choices\"", &format!("{said}\"choices\""));
        let gateway = Gateway::to(&Upstream::always(Script::json(200, &answer)));
        assert_eq!(gateway.client.post(CHAT, &ask).status, 200);
        let entry = gateway.entry();
        assert_eq!(entry.settlement.cost.to_string(), "0.00225", "{said}");
        assert_eq!(entry.settlement.estimate_reason.as_deref(), reason, "{said}");
        assert!(
            entry.held >= "0.01".parse().unwrap(),
            "held at the standard price: {}",
            entry.held
        );
        assert_eq!(entry.settlement.usage.get(Kind::Output), 200);
    }
}

#[test]
fn an_answer_that_breaks_off_costs_what_was_seen_where_nothing_is_thought_unseen() {
    let start = json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [], "usage": {"input_tokens": 1_000, "output_tokens": 1}}});
    let text = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word ".repeat(200)}});
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "x"}});
    let events =
        [&start, &text, &error].map(|data| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()));
    let upstream = Upstream::always(Script::sse(&events.each_ref().map(String::as_str)));
    for (thinking, whole) in [(None, false), (Some("enabled"), true)] {
        let gateway = Setup::new(&upstream).start();
        let mut ask = json!({"model": "claude-sonnet-4-5", "max_tokens": 4_000, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
        if let Some(thinking) = thinking {
            ask["thinking"] = json!({"type": thinking, "budget_tokens": 2_000});
        }
        assert_eq!(
            gateway.client.post_anthropic("/v1/messages", &ask.to_string()).status,
            200
        );
        let entry = gateway.entry();
        // 1,000 x $3 and some 200 to 350 x $15 a million.
        let seen =
            entry.settlement.cost >= "0.006".parse().unwrap() && entry.settlement.cost <= "0.009".parse().unwrap();
        assert_eq!(seen, !whole, "{}", entry.settlement.cost);
        assert_eq!(entry.settlement.cost >= entry.held, whole, "{}", entry.settlement.cost);
        assert!(entry.settlement.estimate_reason.is_some());
    }
}
