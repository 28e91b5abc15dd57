//! What goes wrong upstream or at the client ends in an entry that says so, and in an error that the client understands.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::client::read_reply;
use crate::harness::upstream::Step;
use crate::harness::{Gate, Gateway, Script, Setup, Upstream, dead_port};
use agentledger_ledger::{Kind, ManualClock, Outcome};

const ASKED: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":100}"#;
const ASKED_WHOLE: &[u8] = br#"{"model":"gpt-4o","messages":[],"max_tokens":100}"#;
const MESSAGE: &str =
    r#"{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":100}"#;

fn chunk(text: &str) -> Vec<u8> {
    format!("data: {{\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n").into_bytes()
}

/// The counted failures of the openai provider, as `/metrics` says them: their kind and number.
fn upstream_errors(gateway: &Gateway) -> Vec<String> {
    let text = gateway.client.get("/metrics").text();
    let counted = text
        .lines()
        .filter_map(|line| line.strip_prefix("agentledger_upstream_errors_total{provider=\"openai\","));
    counted.map(str::to_owned).collect()
}

#[test]
fn an_upstream_that_cannot_be_reached_is_a_502_and_nothing_is_entered() {
    let nobody = format!(
        "providers: {{openai: {{upstream: \"http://127.0.0.1:{}\"}}}}",
        dead_port()
    );
    let gateway = Setup::new(&Upstream::always(Script::default())).only(&nobody).start();
    let reply = gateway.client.post("/v1/chat/completions", ASKED);
    assert_eq!(
        (reply.status, reply.json()["error"]["message"].as_str()),
        (502, Some("AgentLedger: upstream request failed"))
    );
    assert!(gateway.entries().is_empty());
    assert_eq!(upstream_errors(&gateway), ["kind=\"connect\"} 1"]);
    assert!(gateway.launched().gateway().ledger.open_holds().is_empty());
}

#[test]
fn a_stream_that_breaks_off_ends_in_an_error_event_and_is_estimated() {
    let script = Script::stream_head("text/event-stream")
        .chunk(&chunk("one two three four"))
        .step(Step::Close);
    let gateway = Gateway::to(&Upstream::always(script));
    let reply = gateway.client.post("/v1/chat/completions", ASKED);
    assert!(reply.whole && reply.text().contains("one two three four"));
    let last = reply.text().trim_end().rsplit("\n\n").next().unwrap().to_owned();
    assert!(last.starts_with("data: {\"error\""), "{last}");
    let entry = gateway.entry();
    assert_eq!(entry.settlement.outcome, Outcome::UpstreamFailed);
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("upstream_failed"));
    assert!(entry.settlement.cost.nanos() > 0);
    assert_eq!(upstream_errors(&gateway), ["kind=\"broken\"} 1"]);
}

#[test]
fn an_anthropic_stream_that_breaks_off_ends_in_its_error_event() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n";
    let script = Script::stream_head("text/event-stream")
        .chunk(start.as_bytes())
        .step(Step::Close);
    let gateway = Gateway::to(&Upstream::always(script));
    let reply = gateway.client.post_anthropic("/v1/messages", MESSAGE);
    let (_, ending) = reply
        .text()
        .rsplit_once("event: error\ndata: ")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let ending: serde_json::Value = serde_json::from_str(&ending).unwrap();
    assert_eq!(
        (ending["type"].as_str(), ending["error"]["type"].as_str()),
        (Some("error"), Some("api_error"))
    );
    assert_eq!(gateway.entry().settlement.usage.get(agentledger_ledger::Kind::Input), 9);
}

/// A whole answer that breaks off after so many bytes of its body.
fn broken_after(bytes: usize) -> Script {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500000\r\n\r\n";
    let body = format!("{{\"id\":\"{}", "x".repeat(bytes));
    Script::raw(format!("{head}{body}")).step(Step::Close)
}

#[test]
fn a_whole_answer_that_breaks_off_at_once_is_a_502_in_words() {
    let gateway = Gateway::to(&Upstream::always(broken_after(0)));
    for (agent, is_last_word) in [("curl/8", None), ("claude-cli/2.1.197 (external, cli)", Some("false"))] {
        let headers = [
            ("authorization", "Bearer sk-test-0123456789abcdef"),
            ("user-agent", agent),
        ];
        let reply = gateway
            .client
            .request("POST", "/v1/chat/completions", &headers, ASKED_WHOLE);
        assert_eq!(
            (reply.status, reply.header("x-should-retry")),
            (502, is_last_word),
            "{agent}"
        );
        let error = &reply.json()["error"];
        assert_eq!(error["code"], "upstream_failed");
        assert_eq!(
            error["message"],
            "AgentLedger: the upstream broke off its answer. Try again."
        );
    }
    let entries = gateway.entries();
    assert_eq!(entries.len(), 2);
    assert!(
        entries
            .iter()
            .all(|entry| entry.settlement.outcome == Outcome::UpstreamFailed)
    );
}

#[test]
fn a_long_answer_that_breaks_off_breaks_off_for_the_client_too() {
    let gateway = Gateway::to(&Upstream::always(broken_after(100_000)));
    let reply = gateway.client.request(
        "POST",
        "/v1/chat/completions",
        &[("authorization", "Bearer sk-1")],
        ASKED_WHOLE,
    );
    assert!(reply.status == 200 && !reply.whole);
    assert_eq!(gateway.entry().settlement.outcome, Outcome::UpstreamFailed);
}

#[test]
fn a_whole_answer_that_its_provider_keeps_alive_goes_on_as_it_comes() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let script = Script::raw(format!("{head}2\r\n\n\n\r\n")).step(Step::AwaitClose);
    let gateway = Gateway::to(&Upstream::always(script));
    let mut stream = gateway.client.send("POST", "/v1/chat/completions", &[], ASKED_WHOLE);
    let mut some = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut some).unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");
}

#[test]
fn a_late_upstream_is_a_504() {
    let upstream = Upstream::always(Script::default().step(Step::AwaitClose));
    let base = upstream.base();
    let yaml = format!("providers: {{openai: {{upstream: \"{base}\", timeouts: {{first_byte_ms: 200}}}}}}");
    let gateway = Setup::new(&upstream).only(&yaml).start();
    let reply = gateway.client.post("/v1/chat/completions", ASKED);
    assert_eq!(reply.status, 504);
    upstream.wait_closed(1);
    assert_eq!(gateway.entry().settlement.status, 504);
    assert_eq!(upstream_errors(&gateway), ["kind=\"timeout\"} 1"]);
}

#[test]
fn a_client_that_leaves_cancels_the_upstream_and_pays_what_passed() {
    let script = (0..200).fold(Script::stream_head("text/event-stream"), |script, _| {
        script.chunk(&chunk("word")).pause_ms(10)
    });
    let upstream = Upstream::always(script);
    let gateway = Gateway::to(&upstream);
    let mut stream = gateway
        .client
        .send("POST", "/v1/chat/completions", &[], ASKED.as_bytes());
    let mut some = [0; 200];
    std::io::Read::read_exact(&mut stream, &mut some).unwrap();
    drop(stream);
    let entry = gateway.entries_of(1).remove(0);
    assert_eq!(entry.settlement.outcome, Outcome::ClientGone);
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("client_gone"));
    assert!(entry.settlement.upper_bound.unwrap() >= entry.settlement.cost);
    upstream.wait_closed(1);
}

#[test]
fn a_half_closed_client_still_gets_its_stream() {
    let script = Script::stream_head("text/event-stream")
        .chunk(&chunk("a"))
        .pause_ms(100)
        .chunk(&chunk("b"))
        .chunk(b"data: [DONE]\n\n")
        .end();
    let gateway = Gateway::to(&Upstream::always(script));
    let mut stream = gateway
        .client
        .send("POST", "/v1/chat/completions", &[], ASKED.as_bytes());
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(read_reply(&mut stream).text().ends_with("data: [DONE]\n\n"));
    assert_eq!(gateway.entry().settlement.outcome, Outcome::Completed);
}

#[test]
fn defect_7_the_breaker_opens_for_its_provider_alone_and_429_never_opens_it() {
    let (bad, good) = (
        Upstream::always(Script::json(500, "{}")),
        Upstream::always(Script::json(429, "{}")),
    );
    let yaml = format!(
        "circuit_breaker: {{max_failures: 2, timeout_secs: 30}}\nproviders:\n  openai: {{upstream: \"{}\"}}\n  anthropic: {{upstream: \"{}\"}}",
        bad.base(),
        good.base()
    );
    let gateway = Setup::new(&bad).only(&yaml).start();
    let statuses: Vec<u16> = (0..4)
        .map(|_| gateway.client.post("/v1/chat/completions", ASKED).status)
        .collect();
    assert_eq!(statuses, [500, 500, 503, 503]);
    let others: Vec<u16> = (0..4)
        .map(|_| gateway.client.post_anthropic("/v1/messages", MESSAGE).status)
        .collect();
    assert_eq!(others, [429; 4]);
    assert_eq!(bad.seen().len(), 2);
    assert_eq!(upstream_errors(&gateway), ["kind=\"breaker_open\"} 2"]);
}

#[test]
fn defect_7_one_request_alone_probes_whether_the_upstream_is_back() {
    let (gate, clock) = (Gate::default(), Arc::new(ManualClock::new(1_772_366_400_000)));
    let (opened, calls) = (gate.clone(), AtomicUsize::new(0));
    let upstream = Upstream::playing(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Script::json(500, "{}"),
        _ => {
            opened.wait();
            Script::json(200, "{}")
        }
    });
    let yaml = "circuit_breaker: {max_failures: 2, timeout_secs: 30}";
    let gateway = Setup::new(&upstream).with(yaml).clock(clock.clone()).start();
    let ask = || gateway.client.post("/v1/chat/completions", ASKED).status;
    assert_eq!([ask(), ask(), ask()], [500, 500, 503]);
    clock.advance_ms(30_000);
    thread::scope(|scope| {
        let probe = scope.spawn(ask);
        while upstream.seen_count() < 3 {
            thread::yield_now();
        }
        assert_eq!([ask(), ask()], [503, 503]);
        gate.open();
        assert_eq!(probe.join().unwrap(), 200);
    });
    assert_eq!((ask(), upstream.seen_count()), (200, 4));
}

#[test]
fn going_down_waits_for_a_stream_and_settles_it() {
    let script = (0..10).fold(Script::stream_head("text/event-stream"), |script, _| {
        script.chunk(&chunk("w")).pause_ms(20)
    });
    let upstream = Upstream::always(script.chunk(b"data: [DONE]\n\n").end());
    let gateway = Gateway::to(&upstream);
    let mut stream = gateway
        .client
        .send("POST", "/v1/chat/completions", &[], ASKED.as_bytes());
    let mut some = [0; 50];
    std::io::Read::read_exact(&mut stream, &mut some).unwrap();
    let dir = gateway.stop();
    assert!(read_reply_rest(&mut stream).contains("[DONE]"));
    let again = Setup::new(&upstream).in_dir(&dir).start();
    assert_eq!(again.entry().settlement.outcome, Outcome::Completed);
}

#[test]
fn going_down_in_a_hurry_cuts_a_stream_with_an_error_and_settles_it() {
    let script = (0..500).fold(Script::stream_head("text/event-stream"), |script, _| {
        script.chunk(&chunk("w")).pause_ms(20)
    });
    let upstream = Upstream::always(script);
    let gateway = Setup::new(&upstream).with("limits: {drain_ms: 100}").start();
    let mut stream = gateway
        .client
        .send("POST", "/v1/chat/completions", &[], ASKED.as_bytes());
    let mut some = [0; 50];
    std::io::Read::read_exact(&mut stream, &mut some).unwrap();
    let dir = gateway.stop();
    assert!(read_reply_rest(&mut stream).contains("data: {\"error\""));
    let again = Setup::new(&upstream).in_dir(&dir).start();
    assert_eq!(again.entry().settlement.outcome, Outcome::Cut);
}

fn read_reply_rest(stream: &mut std::net::TcpStream) -> String {
    let mut rest = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = std::io::Read::read_to_end(stream, &mut rest);
    String::from_utf8_lossy(&rest).into_owned()
}

#[test]
fn an_encoded_answer_passes_as_it_came_and_is_metered() {
    let body = r#"{"id":"1","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}"#;
    let packed = zstd::encode_all(body.as_bytes(), 3).unwrap();
    let script = Script::body(200, "application/json", &packed, &[("content-encoding", "zstd")]);
    let gateway = Gateway::to(&Upstream::always(script));
    let reply = gateway
        .client
        .post("/v1/chat/completions", r#"{"model":"gpt-4o","messages":[]}"#);
    assert_eq!(reply.body, packed);
    let entry = gateway.entry();
    assert_eq!(
        (
            entry.settlement.cost.to_string().as_str(),
            entry.settlement.estimate_reason
        ),
        ("0.000035", None)
    );
}

#[test]
fn an_event_stream_that_ends_within_its_usage_is_entered_once_as_an_estimate() {
    let delta = "data: {\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one two three four\"}}]}\n\n";
    let half = "data: {\"id\":\"c\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tok";
    let gateway = Gateway::to(&Upstream::always(Script::sse(&[delta, half])));
    let ask = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let reply = gateway.client.post("/v1/chat/completions", ask);
    assert_eq!(
        reply.text(),
        format!("{delta}{half}"),
        "what ended well by its framing is the client's"
    );
    let entry = gateway.entry();
    let end = &entry.settlement;
    assert_eq!(end.estimate_reason.as_deref(), Some("incomplete_answer"));
    assert!(end.cost >= entry.held, "{} of {}", end.cost, entry.held);
    assert!(end.upper_bound.is_some_and(|bound| bound >= end.cost));
}

#[test]
fn an_answer_that_is_not_json_passes_and_is_estimated() {
    let gateway = Gateway::to(&Upstream::always(Script::body(
        200,
        "text/html",
        b"<html>proxy login</html>",
        &[],
    )));
    let reply = gateway
        .client
        .post("/v1/chat/completions", r#"{"model":"gpt-4o","messages":[]}"#);
    assert_eq!(reply.text(), "<html>proxy login</html>");
    assert_eq!(
        gateway.entry().settlement.estimate_reason.as_deref(),
        Some("unreadable_answer")
    );
}

#[test]
fn a_stream_without_usage_costs_what_was_held() {
    let script = Script::sse(&[
        chunk("one two three four five six seven eight"),
        b"data: [DONE]\n\n".to_vec(),
    ]);
    let gateway = Gateway::to(&Upstream::always(script));
    gateway.client.post("/v1/chat/completions", ASKED);
    let entry = gateway.entry();
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("no_usage"));
    assert_eq!(entry.settlement.usage.get(Kind::Output), 100, "the named maximum");
    assert!(entry.settlement.cost >= entry.held);
}

#[test]
fn a_whole_answer_whose_client_left_is_read_on_for_a_while_when_the_gateway_is_cut_short() {
    let whole = format!(
        r#"{{"id":"c","model":"gpt-4o","choices":[{{"message":{{"content":"{}"}}}}],"usage":{{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}}}"#,
        "word ".repeat(20_000)
    );
    let (first, rest) = whole.split_at(90_000);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{first}",
        whole.len()
    );
    for (pause_ms, outcome) in [(1_000, Outcome::ClientGone), (20_000, Outcome::Cut)] {
        let script = Script::raw(head.as_bytes()).pause_ms(pause_ms);
        let upstream = Upstream::always(script.step(Step::Bytes(rest.as_bytes().to_vec())));
        let gateway = Gateway::to(&upstream);
        let asked = ASKED.replace(",\"stream\":true", "");
        let mut stream = gateway
            .client
            .send("POST", "/v1/chat/completions", &[], asked.as_bytes());
        let mut some = [0; 200];
        std::io::Read::read_exact(&mut stream, &mut some).unwrap();
        // With bytes unread this is a reset.
        drop(stream);
        thread::sleep(Duration::from_millis(200));
        let dir = Arc::clone(&gateway.dir);
        let going_down = std::time::Instant::now();
        drop(gateway);
        assert!(
            going_down.elapsed() < Duration::from_millis(4_800),
            "it does not wait for the last resort"
        );
        let again = Setup::new(&upstream).in_dir(&dir).start();
        let entry = again.entry();
        assert_eq!(entry.settlement.outcome, outcome);
        match outcome {
            Outcome::Cut => assert!(entry.settlement.cost >= entry.held && entry.held.nanos() > 0),
            _ => assert_eq!(
                (
                    entry.settlement.cost.to_string().as_str(),
                    entry.settlement.estimate_reason
                ),
                ("0.000225", None)
            ),
        }
    }
}
