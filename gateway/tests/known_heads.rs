//! A client that says the same in every head is recognised by that: what its first head came to, the next ones come to, until
//! something of the head, or the rules, are other ones.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;

use crate::harness::client::{Reply, read_reply};
use crate::harness::upstream::Seen;
use crate::harness::{Gateway, Script, Setup, Upstream};
use crate::replay::{CONTROL, rpc};

const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"Hi."},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}"#;
const HEADS: &str = "authorization: Bearer sk-one\r\nx-agent-id: coder\r\nx-agent-session: s1\r\nx-agent-tags: team=ml\r\nX-Own: kept\r\n";

fn answering() -> Upstream {
    Upstream::always(Script::json(200, ANSWER))
}

fn body(text: &str) -> String {
    format!(r#"{{"model":"gpt-4o","max_tokens":20,"messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

/// Sends a call on a connection that stays, and reads its answer.
fn call(stream: &mut TcpStream, heads: &str, body: &str) -> Reply {
    let head = format!(
        "POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: gateway\r\n{heads}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    read_reply(stream)
}

/// How many heads were recognised.
fn hits(gateway: &Gateway) -> u64 {
    let metrics = gateway.client.get("/metrics").text();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("agentledger_remembered_total{of=\"head\",result=\"hit\"} "));
    line.expect("the metric is there").parse().unwrap()
}

fn headers(seen: &Seen) -> Vec<(String, String)> {
    let varying = |name: &str| name.eq_ignore_ascii_case("content-length");
    let headers = seen.headers.iter().filter(|(name, _)| !varying(name));
    headers.cloned().collect()
}

#[test]
fn a_conversations_calls_are_recognised_and_each_is_served_as_the_first_was() {
    let upstream = answering();
    let gateway = Gateway::to(&upstream);
    let mut stream = gateway.client.raw(b"");
    let texts = ["Hello.", "Hello. And then some more words.", "", "Hello."];
    for text in texts {
        let reply = call(&mut stream, HEADS, &body(text));
        assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER));
    }
    let seen = upstream.seen();
    for (seen, text) in seen.iter().zip(texts) {
        assert_eq!(String::from_utf8_lossy(&seen.body), body(text));
        assert_eq!(
            seen.header("content-length"),
            Some(body(text).len().to_string().as_str())
        );
        assert_eq!(
            (headers(seen), &seen.path),
            (headers(&seen_first(&upstream)), &seen_first(&upstream).path)
        );
        assert_eq!((seen.header("x-own"), seen.header("x-agent-id")), (Some("kept"), None));
    }
    let entries = gateway.entries_of(texts.len());
    for entry in &entries {
        let facts = &entry.facts;
        assert_eq!(
            (&*facts.agent, &*facts.session, &*facts.tags["team"]),
            ("coder", "s1", "ml")
        );
        assert_eq!(
            (&facts.key, &*facts.path),
            (&entries[0].facts.key, "/v1/chat/completions")
        );
        assert_eq!(entry.settlement.cost, entries[0].settlement.cost);
    }
    assert!(hits(&gateway) >= 3, "{}", hits(&gateway));
}

fn seen_first(upstream: &Upstream) -> Seen {
    upstream.seen().remove(0)
}

#[test]
fn whoever_sends_another_key_agent_or_session_is_another_sender() {
    let upstream = answering();
    let gateway = Gateway::to(&upstream);
    let mut stream = gateway.client.raw(b"");
    for heads in [
        HEADS.to_owned(),
        HEADS.replace("sk-one", "sk-two"),
        HEADS.replace("coder", "tester"),
        HEADS.replace(": s1", ": s2"),
        HEADS.to_owned(),
    ] {
        assert_eq!(call(&mut stream, &heads, &body("Hello.")).status, 200);
    }
    let said: Vec<_> = gateway.entries_of(5).iter().map(|entry| entry.facts.clone()).collect();
    let keys: std::collections::BTreeSet<_> = said.iter().map(|facts| facts.key.clone()).collect();
    assert_eq!(keys.len(), 2);
    let agents = |agent: &str| said.iter().filter(|facts| &*facts.agent == agent).count();
    let sessions = |session: &str| said.iter().filter(|facts| &*facts.session == session).count();
    assert_eq!(
        (agents("coder"), agents("tester"), sessions("s1"), sessions("s2")),
        (4, 1, 4, 1)
    );
    let bearers: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| seen.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(bearers.iter().filter(|bearer| *bearer == "Bearer sk-two").count(), 1);
}

#[test]
fn new_rules_are_obeyed_by_the_next_call_of_a_head_that_was_known() {
    let upstream = answering();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    // A connection each: a final refusal may end its own.
    let status = |heads: &str| call(&mut gateway.client.raw(b""), heads, &body("Hello.")).status;
    assert_eq!((status(HEADS), status(HEADS)), (200, 200));
    rpc(&gateway, "provider.disable", &json!({ "provider": "openai" }));
    assert_eq!((status(HEADS), status(HEADS)), (503, 503));
    rpc(&gateway, "provider.enable", &json!({ "provider": "openai" }));
    assert_eq!((status(HEADS), status(HEADS)), (200, 200));
    assert_eq!(upstream.seen_count(), 4);
}

#[test]
fn a_body_is_judged_by_its_own_length_and_a_budget_by_what_is_left() {
    let upstream = answering();
    let gateway = Setup::new(&upstream)
        .with("limits: {body_bytes_max: 1024}")
        .with("budgets: {default: {daily_limit_usd: 0.003, action: block}}")
        .start();
    let mut stream = gateway.client.raw(b"");
    let served = (0..100).take_while(|_| call(&mut stream, HEADS, &body("Hello.")).status == 200);
    let served = served.count();
    assert!(
        (2..20).contains(&served),
        "{served} calls of $0.000225 in a budget of $0.003"
    );
    let long = body(&"word ".repeat(300));
    assert_eq!(call(&mut gateway.client.raw(b""), HEADS, &long).status, 413);
}

#[test]
fn what_is_refused_by_its_head_is_refused_each_time() {
    let upstream = answering();
    let gateway = Gateway::to(&upstream);
    for (heads, code) in [
        ("x-agent-tags: broken\r\n".to_owned(), 400),
        (format!("{HEADS}Transfer-Encoding: chunked\r\n"), 400),
        (format!("{HEADS}Content-Length: 9\r\n"), 400),
    ] {
        for _ in 0..3 {
            let reply = call(&mut gateway.client.raw(b""), &heads, &body("Hello."));
            assert_eq!(reply.status, code, "{heads}: {}", reply.text());
        }
    }
    assert_eq!(upstream.seen_count(), 0);
}

#[test]
fn a_page_may_read_each_answer_of_a_head_that_comes_again() {
    let upstream = answering();
    let gateway = Setup::new(&upstream)
        .with("cors: {allow_origins: [\"https://app.example\"]}")
        .start();
    let mut stream = gateway.client.raw(b"");
    for (origin, allowed) in [
        ("https://app.example", Some("https://app.example")),
        ("https://evil.example", None),
    ] {
        let heads = format!("{HEADS}Origin: {origin}\r\n");
        for _ in 0..3 {
            let reply = call(&mut stream, &heads, &body("Hello."));
            assert_eq!(
                (reply.status, reply.header("access-control-allow-origin")),
                (200, allowed)
            );
        }
    }
}

#[test]
fn a_session_ends_with_each_call_that_says_so() {
    let upstream = answering();
    let gateway = Gateway::to(&upstream);
    let mut stream = gateway.client.raw(b"");
    let ending = format!("{HEADS}x-agent-session-end: true\r\n");
    for _ in 0..2 {
        assert_eq!(call(&mut stream, HEADS, &body("Hello.")).status, 200);
        assert_eq!(call(&mut stream, &ending, &body("Bye.")).status, 200);
        let ended = || {
            let session = gateway
                .launched()
                .gateway()
                .ledger
                .sessions()
                .running(&"".into(), &"s1".into());
            session.is_none_or(|session| session.ended.is_some())
        };
        assert!((0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            ended()
        }));
    }
}
