//! Bad input and failure: errors that the protocol knows, bounded memory, and everybody else unharmed.

use serde_json::{Value, json};

use crate::harness::mcp::{COST, before, call, echo, event, mirrored, modern, post, search, server};
use crate::harness::{Gateway, Script, Upstream, dead_port};

fn how(gateway: &Gateway) -> Vec<(u16, String, String)> {
    let row = |entry: &agentledger_ledger::Entry| {
        let end = &entry.settlement;
        let how = end.estimate_reason.as_deref().unwrap_or_default();
        (end.status, end.cost.to_string(), how.to_owned())
    };
    gateway.entries().iter().map(row).collect()
}

#[test]
fn headers_that_contradict_the_body_are_refused_with_mcps_own_error() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    let asked = modern(5, "tools/call", json!({"name": "search"}));
    for headers in [
        mirrored("tools/call", "other"),
        mirrored("ping", "search"),
        mirrored("tools/call", ""),
        vec![("mcp-protocol-version", "2025-11-25")],
        vec![],
    ] {
        let reply = post(&gateway.client, &asked, &headers);
        let said: Value = serde_json::from_str(&reply.text()).unwrap();
        assert_eq!(
            (reply.status, &said["error"]["code"], &said["id"]),
            (400, &json!(-32020), &json!(5)),
            "{headers:?}"
        );
    }
    assert_eq!((upstream.seen_count(), gateway.entries().len()), (0, 0));
}

#[test]
fn bodies_that_two_readers_could_read_in_two_ways_are_refused() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    let bodies: [(&[u8], i64); 6] = [
        (
            br#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"search"}}"#,
            -32700,
        ),
        (
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"search"}}"#,
            -32700,
        ),
        (
            b"{\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"\xff\xfe\"}}",
            -32700,
        ),
        (b"{\"id\":1,\"method\":\"tools/ca", -32700),
        (
            br#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search"}}"#,
            -32600,
        ),
        (
            br#"{"id":1,"method":"tools/call","params":{"name":"a\u0007b"}}"#,
            -32600,
        ),
    ];
    for (body, code) in bodies {
        let reply = gateway.client.request("POST", "/mcp/hub", &[], body);
        let said: Value = serde_json::from_str(&reply.text()).unwrap();
        assert_eq!(
            (reply.status, &said["error"]["code"]),
            (400, &json!(code)),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
    let packed = zstd::encode_all(search(1).as_bytes(), 3).unwrap();
    assert_eq!(
        gateway
            .client
            .request("POST", "/mcp/hub", &[("content-encoding", "zstd")], &packed)
            .status,
        415
    );
    assert_eq!(upstream.seen_count(), 0);
}

#[test]
fn pages_of_foreign_origins_and_names_that_were_led_here_are_refused() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    for (name, value, code) in [
        ("origin", "https://evil.example", "foreign_origin"),
        ("sec-fetch-site", "cross-site", "foreign_origin"),
        ("content-type", "text/plain", "foreign_origin"),
    ] {
        let reply = foreign(&gateway, "gateway", &[(name, value)]);
        assert_eq!((reply.0, reply.1.contains(code)), (403, true), "{name}: {}", reply.1);
    }
    let rebound = foreign(&gateway, "evil.example", &[]);
    assert_eq!(
        (rebound.0, rebound.1.contains("foreign_host")),
        (403, true),
        "{}",
        rebound.1
    );
    assert_eq!(foreign(&gateway, "gateway", &[("origin", "http://gateway")]).0, 200);
    assert_eq!(upstream.seen_count(), 1);
}

fn foreign(gateway: &Gateway, host: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let body = search(1);
    let mut head = format!(
        "POST /mcp/hub HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if headers.iter().all(|(name, _)| *name != "content-type") {
        head.push_str("Content-Type: application/json\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = gateway.client.raw(format!("{head}\r\n{body}").as_bytes());
    let reply = crate::harness::client::read_reply(&mut stream);
    (reply.status, reply.text())
}

#[test]
fn an_upstream_that_dies_within_a_stream_is_entered_at_what_was_held() {
    let told = event(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}));
    let upstream = Upstream::always(
        Script::stream_head("text/event-stream")
            .chunk(told.as_bytes())
            .chunk(b"data: {\"id\":1,\"res")
            .step(crate::harness::upstream::Step::Close),
    );
    let gateway = before(&upstream, "").start();
    let reply = post(&gateway.client, &search(1), &[]);
    assert!(!reply.whole && reply.text().starts_with(&told));
    assert_eq!(how(&gateway), [(200, COST.to_owned(), "upstream_failed".to_owned())]);
}

#[test]
fn a_server_that_is_not_there_costs_nothing() {
    let upstream = echo();
    let yaml = format!(
        "mcp: {{servers: {{hub: {{upstream: \"http://127.0.0.1:{}/mcp\"}}}}}}",
        dead_port()
    );
    let gateway = crate::harness::Setup::new(&upstream).with(&yaml).start();
    let reply = post(&gateway.client, &search(4), &[]);
    let said: Value = serde_json::from_str(&reply.text()).unwrap();
    assert_eq!(
        (reply.status, &said["id"], &said["error"]["code"]),
        (502, &json!(4), &json!(502))
    );
    gateway.wait_idle();
    assert!(gateway.entries().is_empty());
}

#[test]
fn answers_to_nothing_and_other_ids_pass_and_settle_nothing() {
    let upstream = server(|_, _| json!({"jsonrpc": "2.0", "id": 99, "result": {}}));
    let gateway = before(&upstream, "").start();
    let reply = post(&gateway.client, &search(1), &[]);
    assert!(reply.text().contains("99"));
    assert_eq!(how(&gateway), [(200, COST.to_owned(), "incomplete_answer".to_owned())]);
}

#[test]
fn one_id_again_and_again_is_a_call_each_time() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    for _ in 0..3 {
        assert_eq!(post(&gateway.client, &search(1), &[]).status, 200);
    }
    assert_eq!(gateway.entries().len(), 3);
    let twice = format!("[{},{}]", search(1), search(1));
    assert_eq!(post(&gateway.client, &twice, &[]).status, 400, "but not in one batch");
}

#[test]
fn a_result_of_megabytes_passes_and_is_read_as_it_passes() {
    let text = "x".repeat(5 << 20);
    let upstream = server(
        move |_, request| json!({"jsonrpc": "2.0", "id": request["id"], "result": {"content": [{"type": "text", "text": text}]}}),
    );
    let gateway = before(&upstream, "").start();
    let reply = post(&gateway.client, &search(1), &[]);
    assert!(reply.whole && reply.body.len() > 5 << 20);
    assert_eq!(how(&gateway), [(200, COST.to_owned(), "unreadable_answer".to_owned())]);
}

#[test]
fn a_body_beyond_the_limit_is_refused_and_the_next_request_served() {
    let upstream = echo();
    let gateway = before(&upstream, "")
        .with("limits: {body_bytes_max: 4096, bodies_in_flight_bytes_max: 8192}")
        .start();
    let long = call(1, "search", json!({"q": "x".repeat(10_000)}));
    assert_eq!(post(&gateway.client, &long, &[]).status, 413);
    assert_eq!(post(&gateway.client, &search(1), &[]).status, 200);
    assert_eq!(upstream.seen_count(), 1);
}

#[test]
fn a_batch_of_which_one_call_is_refused_is_not_sent_at_all() {
    let upstream = echo();
    let budget = "budgets: {default: {daily_limit_usd: 0.015, action: block}}";
    let gateway = before(&upstream, "").with(budget).start();
    let batch = format!(
        "[{},{},{}]",
        search(1),
        search(2),
        r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#
    );
    let said: Value = serde_json::from_str(&post(&gateway.client, &batch, &[]).text()).unwrap();
    let ids: Vec<&Value> = said.as_array().unwrap().iter().map(|answer| &answer["id"]).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert!(
        said[0]["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("not sent")
    );
    assert!(
        said[1]["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("budget")
    );
    gateway.wait_idle();
    assert_eq!((upstream.seen_count(), gateway.entries().len()), (0, 0));
    assert_eq!(
        post(&gateway.client, &search(4), &[]).status,
        200,
        "what it held is free again"
    );
}

#[test]
fn a_client_cannot_say_whose_tool_its_request_is() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    let reply = post(&gateway.client, &search(1), &[("x-agent-tags", "tool=free")]);
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("bad_identity"));
    assert_eq!(upstream.seen_count(), 0);
}

#[test]
fn a_stream_that_leads_its_client_to_another_host_is_ended() {
    let upstream = Upstream::always(Script::sse(&[
        "event: endpoint\ndata: http://evil.example/messages\n\n",
    ]));
    let gateway = before(&upstream, "").start();
    let reply = gateway.client.request("GET", "/mcp/hub", &[], b"");
    assert!(!reply.text().contains("evil"), "{}", reply.text());
    assert!(!reply.whole);
}

#[test]
fn many_notifications_pass_in_order_and_hold_nothing() {
    let upstream = Upstream::always(Script::body(202, "text/plain", b"", &[]));
    let gateway = before(&upstream, "").start();
    for count in 0..200 {
        let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": count}});
        assert_eq!(post(&gateway.client, &note.to_string(), &[]).status, 202);
    }
    let seen: Vec<u64> = upstream
        .seen()
        .iter()
        .map(|seen| seen.json()["params"]["progress"].as_u64().unwrap())
        .collect();
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    assert!(gateway.launched().gateway().ledger.open_holds().is_empty());
}

#[test]
fn loops_over_one_tool_call_are_found_in_its_session_and_not_those_of_its_neighbours() {
    let upstream = echo();
    let gateway = before(&upstream, "")
        .with("agent: {loop_threshold: 3, loop_action: block}")
        .start();
    let session = [("x-agent-session", "run-1")];
    for id in 1..=2 {
        assert!(post(&gateway.client, &search(id), &session).text().contains("found"));
    }
    let looping = post(&gateway.client, &search(3), &session).text();
    assert!(
        looping.contains("loop detected") && looping.contains("isError"),
        "{looping}"
    );
    assert!(
        post(&gateway.client, &call(4, "search", json!({"q": "other"})), &session)
            .text()
            .contains("found")
    );
    assert!(
        post(&gateway.client, &search(5), &[("x-agent-session", "run-2")])
            .text()
            .contains("found")
    );
    assert_eq!(upstream.seen_count(), 4);
}
