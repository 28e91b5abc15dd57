//! The ways on which answers come, in both eras: listening streams, resumed streams, the older transport, rounds of input, tasks.

use serde_json::{Value, json};

use crate::harness::mcp::{COST, before, echo, event, event_with_id, mirrored, modern, post, result, search, server};
use crate::harness::{Gateway, Script, Upstream};

const SESSION: [(&str, &str); 1] = [("mcp-session-id", "s-1")];

fn costs(gateway: &Gateway) -> Vec<(u16, String, String)> {
    let row = |entry: &agentledger_ledger::Entry| {
        let end = &entry.settlement;
        let how = end.estimate_reason.as_deref().unwrap_or_default();
        (end.status, end.cost.to_string(), how.to_owned())
    };
    gateway.entries().iter().map(row).collect()
}

fn paid() -> Vec<(u16, String, String)> {
    vec![(200, COST.to_owned(), String::new())]
}

fn holds(gateway: &Gateway) -> usize {
    gateway.launched().gateway().ledger.open_holds().len()
}

fn get(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> crate::harness::client::Reply {
    let all = [
        &[
            ("authorization", "Bearer sk-tools-0123456789"),
            ("accept", "text/event-stream"),
        ][..],
        headers,
    ];
    gateway.client.request("GET", path, &all.concat(), b"")
}

#[test]
fn a_listening_stream_and_the_end_of_a_session_pass_with_their_headers() {
    let sampling = event(&json!({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}}));
    let sent = sampling.clone();
    let upstream = Upstream::playing(move |seen| match seen.method.as_str() {
        "GET" => Script::sse(&[&sent]),
        _ => Script::json(200, ""),
    });
    let gateway = before(&upstream, "").start();
    let reply = get(&gateway, "/mcp/hub", &[SESSION[0], ("last-event-id", "7")]);
    assert_eq!((reply.status, reply.text()), (200, sampling));
    assert_eq!(gateway.client.request("DELETE", "/mcp/hub", &SESSION, b"").status, 200);
    let seen = upstream.seen();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].header("last-event-id")),
        ("GET", Some("7"))
    );
    assert_eq!(
        (seen[1].method.as_str(), seen[1].header("mcp-session-id")),
        ("DELETE", Some("s-1"))
    );
    assert!(gateway.entries().is_empty());
}

#[test]
fn unknown_sessions_and_methods_that_a_server_does_not_take_are_told_as_it_tells_them() {
    let upstream = Upstream::playing(|seen| match seen.method.as_str() {
        "GET" => Script::body(405, "application/json", b"", &[("allow", "POST")]),
        _ => Script::json(
            404,
            r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"}}"#,
        ),
    });
    let gateway = before(&upstream, "").start();
    let listened = get(&gateway, "/mcp/hub", &[]);
    assert_eq!((listened.status, listened.header("allow")), (405, Some("POST")));
    let called = post(&gateway.client, &search(1), &SESSION);
    assert_eq!(called.status, 404);
    assert!(called.text().contains("Session not found"));
    assert_eq!(costs(&gateway), [(404, "0".to_owned(), String::new())]);
}

#[test]
fn a_call_whose_stream_broke_off_is_settled_by_the_stream_that_resumes_it() {
    let primed = event_with_id("1", "");
    let answer = event_with_id("2", &result(&json!(1), "found").to_string());
    let sent = answer.clone();
    let upstream = Upstream::playing(move |seen| match seen.method.as_str() {
        "GET" => Script::sse(&[&sent]),
        _ => Script::sse(&[&primed]),
    });
    let gateway = before(&upstream, "").start();
    assert_eq!(post(&gateway.client, &search(1), &SESSION).status, 200);
    assert_eq!((costs(&gateway), holds(&gateway)), (vec![], 1), "its hold waits");
    let resumed = get(&gateway, "/mcp/hub", &[SESSION[0], ("last-event-id", "1")]);
    assert_eq!(resumed.text(), answer);
    assert_eq!((costs(&gateway), holds(&gateway)), (paid(), 0));
}

/// A call's client wants no answer any more: what it held is spent, and free for others.
fn given_up() -> Vec<(u16, String, String)> {
    vec![(202, COST.to_owned(), "client_gone".to_owned())]
}

fn cancel(id: u32) -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}).to_string()
}

#[test]
fn a_call_that_is_cancelled_after_its_stream_broke_off_waits_no_longer() {
    let primed = event_with_id("1", "");
    let upstream = Upstream::playing(move |seen| match seen.json()["method"].as_str() {
        Some("tools/call") => Script::sse(&[&primed]),
        _ => Script::body(202, "text/plain", b"", &[]),
    });
    let gateway = before(&upstream, "").start();
    for id in [1, 2] {
        post(&gateway.client, &search(id), &SESSION);
    }
    for (session, id) in [("s-2", 1), ("s-1", 3)] {
        post(&gateway.client, &cancel(id), &[("mcp-session-id", session)]);
    }
    assert_eq!(
        (costs(&gateway), holds(&gateway)),
        (vec![], 2),
        "neither is one of these"
    );
    post(&gateway.client, &cancel(1), &SESSION);
    assert_eq!((costs(&gateway), holds(&gateway)), (given_up(), 1));
}

#[test]
fn a_call_that_is_cancelled_and_whose_stream_ends_without_an_answer_waits_for_no_other() {
    let primed = event_with_id("1", "");
    let upstream = Upstream::playing(move |seen| match seen.json()["method"].as_str() {
        Some("tools/call") => Script::stream_head("text/event-stream")
            .chunk(primed.as_bytes())
            .pause_ms(500)
            .end(),
        _ => Script::body(202, "text/plain", b"", &[]),
    });
    let gateway = before(&upstream, "").start();
    let headers = [("authorization", "Bearer sk-tools-0123456789"), SESSION[0]];
    let mut stream = gateway.client.send("POST", "/mcp/hub", &headers, search(1).as_bytes());
    while upstream.seen_count() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    post(&gateway.client, &cancel(1), &SESSION);
    read_to_end(&mut stream);
    gateway.wait_idle();
    let (status, cost, how) = costs(&gateway).remove(0);
    assert_eq!((status, cost.as_str(), how.as_str()), (200, COST, "client_gone"));
    assert_eq!(holds(&gateway), 0);
}

#[test]
fn the_end_of_a_session_is_the_end_of_its_calls() {
    let primed = event_with_id("1", "");
    let upstream = Upstream::playing(
        move |seen| match (seen.method.as_str(), seen.header("mcp-session-id")) {
            ("DELETE", Some("s-1")) => Script::json(200, ""),
            ("DELETE", _) => Script::json(405, ""),
            _ => Script::sse(&[&primed]),
        },
    );
    let gateway = before(&upstream, "").start();
    let other = [("mcp-session-id", "s-2")];
    post(&gateway.client, &search(1), &SESSION);
    post(&gateway.client, &search(1), &other);
    assert_eq!(gateway.client.request("DELETE", "/mcp/hub", &other, b"").status, 405);
    assert_eq!((costs(&gateway), holds(&gateway)), (vec![], 2), "its server ends none");
    assert_eq!(gateway.client.request("DELETE", "/mcp/hub", &SESSION, b"").status, 200);
    assert_eq!((costs(&gateway), holds(&gateway)), (given_up(), 1));
}

#[test]
fn the_end_of_the_older_transports_stream_is_the_end_of_its_calls() {
    let upstream = Upstream::playing(|seen| match seen.method.as_str() {
        "GET" => Script::stream_head("text/event-stream")
            .chunk(b"event: endpoint\ndata: /messages/?session_id=a1\n\n")
            .pause_ms(300)
            .end(),
        _ => Script::body(202, "text/plain", b"Accepted", &[]),
    });
    let gateway = before(&upstream, "").start();
    let key = [("authorization", "Bearer sk-tools-0123456789")];
    let mut stream = gateway.client.send("GET", "/mcp/hub/sse", &key, b"");
    let address = told_address(&mut stream);
    gateway.client.request("POST", &address, &key, search(1).as_bytes());
    assert_eq!((costs(&gateway), holds(&gateway)), (vec![], 1));
    read_to_end(&mut stream);
    gateway.entries_of(1);
    assert_eq!((costs(&gateway), holds(&gateway)), (given_up(), 0));
}

#[test]
fn a_call_that_is_never_answered_is_entered_at_what_it_held() {
    let upstream = Upstream::always(Script::sse(&[event_with_id("1", "")]));
    let gateway = before(&upstream, ", answer_wait: 50ms").start();
    post(&gateway.client, &search(1), &SESSION);
    gateway.entries_of(1);
    assert_eq!(costs(&gateway), [(202, COST.to_owned(), "not_answered".to_owned())]);
    assert_eq!(holds(&gateway), 0);
}

#[test]
fn the_older_transport_leads_its_client_back_here_and_answers_on_its_stream() {
    let upstream = Upstream::playing(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/mcp/sse") => Script::stream_head("text/event-stream")
            .chunk(b"event: endpoint\ndata: /messages/?session_id=a1\n\n")
            .pause_ms(300)
            .chunk(event(&result(&json!(1), "found")).as_bytes())
            .end(),
        ("POST", "/messages/?session_id=a1") => Script::body(202, "text/plain", b"Accepted", &[]),
        other => panic!("{other:?}"),
    });
    let gateway = before(&upstream, "").start();
    let key = [("authorization", "Bearer sk-tools-0123456789")];
    let mut stream = gateway.client.send("GET", "/mcp/hub/sse", &key, b"");
    let address = told_address(&mut stream);
    assert_eq!(address, "/mcp/hub/_origin/messages?session_id=a1");
    let accepted = gateway.client.request("POST", &address, &key, search(1).as_bytes());
    assert_eq!((accepted.status, accepted.text().as_str()), (202, "Accepted"));
    let rest = read_to_end(&mut stream);
    assert!(rest.contains("found"), "{rest}");
    assert_eq!((costs(&gateway), holds(&gateway)), (paid(), 0));
    let nowhere = gateway
        .client
        .request("POST", "/mcp/hub/_origin/admin", &key, search(2).as_bytes());
    assert_eq!(nowhere.status, 404, "only what a server told is an address");
}

/// Reads a stream up to the address that it tells.
fn told_address(stream: &mut std::net::TcpStream) -> String {
    use std::io::Read;
    let (mut seen, mut byte) = (String::new(), [0]);
    while stream.read_exact(&mut byte).is_ok() {
        seen.push(char::from(byte[0]));
        if let Some((_, data)) = seen.split_once("data: ")
            && let Some((address, _)) = data.split_once('\n')
        {
            return address.to_owned();
        }
    }
    panic!("no address: {seen}");
}

fn read_to_end(stream: &mut std::net::TcpStream) -> String {
    use std::io::Read;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    String::from_utf8_lossy(&rest).into_owned()
}

/// A call that asks for input so often, and then is answered.
fn asking(rounds: u64) -> Upstream {
    server(move |_, request| {
        let state = request["params"]["requestState"].as_str().unwrap_or("0");
        let round: u64 = state.parse().unwrap();
        let wants = json!({"resultType": "input_required", "requestState": (round + 1).to_string(),
            "inputRequests": {"who": {"method": "elicitation/create", "params": {}}}});
        match round < rounds {
            true => json!({"jsonrpc": "2.0", "id": request["id"], "result": wants}),
            false => {
                json!({"jsonrpc": "2.0", "id": request["id"], "result": {"resultType": "complete", "content": []}})
            }
        }
    })
}

fn round(id: u32, state: Option<&str>) -> String {
    let mut params = json!({"name": "search", "arguments": {"q": 1}});
    if let Some(state) = state {
        params["requestState"] = json!(state);
        params["inputResponses"] = json!({"who": {"action": "accept"}});
    }
    modern(id, "tools/call", params)
}

#[test]
fn all_rounds_of_a_call_that_asks_for_input_are_one_spend() {
    let upstream = asking(2);
    let gateway = before(&upstream, "").start();
    for (id, state) in [(1, None), (2, Some("1")), (3, Some("2"))] {
        assert_eq!(costs(&gateway), [], "no answer yet");
        let reply = post(&gateway.client, &round(id, state), &mirrored("tools/call", "search"));
        assert_eq!(reply.status, 200);
        assert_eq!(holds(&gateway), usize::from(id < 3));
    }
    assert_eq!(costs(&gateway), paid());
    assert_eq!(upstream.seen_count(), 3);
}

#[test]
fn a_round_that_is_sent_twice_is_a_call_of_its_own() {
    let upstream = asking(1);
    let gateway = before(&upstream, "").start();
    for (id, state) in [(1, None), (2, Some("1")), (3, Some("1"))] {
        post(&gateway.client, &round(id, state), &mirrored("tools/call", "search"));
    }
    assert_eq!(costs(&gateway), [paid(), paid()].concat());
}

#[test]
fn a_chain_of_rounds_without_end_is_bounded_in_time() {
    let upstream = asking(u64::MAX);
    let gateway = before(&upstream, ", answer_wait: 60ms").start();
    let mut state = None;
    let mut id = 0;
    while gateway.entries().is_empty() {
        id += 1;
        let reply = post(
            &gateway.client,
            &round(id, state.as_deref()),
            &mirrored("tools/call", "search"),
        );
        let said: Value = serde_json::from_str(&reply.text()).unwrap();
        state = Some(said["result"]["requestState"].as_str().unwrap().to_owned());
    }
    let (_, cost, how) = costs(&gateway).remove(0);
    assert_eq!((cost.as_str(), how.as_str()), (COST, "not_answered"));
}

#[test]
fn a_task_is_settled_when_its_result_is_fetched() {
    let upstream = server(|_, request| match request["method"].as_str() {
        Some("tools/call") => {
            json!({"jsonrpc": "2.0", "id": request["id"], "result": {"task": {"taskId": "t1", "status": "working"}}})
        }
        Some("tasks/get") => {
            json!({"jsonrpc": "2.0", "id": request["id"], "result": {"taskId": "t1", "status": "completed"}})
        }
        _ => result(&request["id"], "found"),
    });
    let gateway = before(&upstream, "").start();
    let about =
        |id: u32, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"taskId": "t1"}});
    post(&gateway.client, &search(1), &SESSION);
    post(&gateway.client, &about(2, "tasks/get").to_string(), &SESSION);
    assert_eq!((costs(&gateway), holds(&gateway)), (vec![], 1));
    for id in [3, 4] {
        post(&gateway.client, &about(id, "tasks/result").to_string(), &SESSION);
    }
    assert_eq!((costs(&gateway), holds(&gateway)), (paid(), 0), "once");
}

#[test]
fn a_task_that_failed_costs_nothing() {
    let upstream = server(|_, request| match request["method"].as_str() {
        Some("tools/call") => {
            json!({"jsonrpc": "2.0", "id": request["id"], "result": {"resultType": "task", "taskId": "t1", "status": "working"}})
        }
        _ => json!({"jsonrpc": "2.0", "id": request["id"], "result": {"taskId": "t1", "status": "failed"}}),
    });
    let gateway = before(&upstream, "").start();
    post(&gateway.client, &search(1), &SESSION);
    let about = json!({"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"taskId": "t1"}});
    post(&gateway.client, &about.to_string(), &SESSION);
    assert_eq!(
        (costs(&gateway), holds(&gateway)),
        (vec![(200, "0".to_owned(), String::new())], 0)
    );
}

#[test]
fn a_subscription_is_a_stream_that_stays_open_and_costs_nothing() {
    let told = event(&json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {}}));
    let upstream = Upstream::always(
        Script::stream_head("text/event-stream")
            .chunk(told.as_bytes())
            .pause_ms(200)
            .chunk(told.as_bytes())
            .end(),
    );
    let gateway = before(&upstream, "").start();
    let asked = modern(
        1,
        "subscriptions/listen",
        json!({"notifications": {"toolsListChanged": true}}),
    );
    let reply = post(&gateway.client, &asked, &mirrored("subscriptions/listen", ""));
    assert_eq!((reply.status, reply.text()), (200, [told.clone(), told].concat()));
    assert!(gateway.entries().is_empty());
}

#[test]
fn a_client_that_leaves_cancels_its_call() {
    let upstream = Upstream::always(
        Script::stream_head("text/event-stream")
            .chunk(b": waiting\n\n")
            .step(crate::harness::upstream::Step::AwaitClose),
    );
    let gateway = before(&upstream, "").with("limits: {read_on_ms: 50ms}").start();
    let key = [("authorization", "Bearer sk-tools-0123456789")];
    let stream = gateway.client.send("POST", "/mcp/hub", &key, search(1).as_bytes());
    while upstream.seen_count() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(stream);
    upstream.wait_closed(1);
    gateway.wait_idle();
    let (_, cost, how) = costs(&gateway).remove(0);
    assert_eq!((cost.as_str(), how.as_str()), (COST, "client_gone"));
}

#[test]
fn a_session_of_mcps_stands_for_one_where_the_client_names_none() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    post(&gateway.client, &search(1), &SESSION);
    post(&gateway.client, &search(2), &[SESSION[0], ("x-agent-session", "mine")]);
    let sessions: Vec<String> = gateway
        .entries()
        .iter()
        .map(|entry| entry.facts.session.to_string())
        .collect();
    assert!(
        sessions[0].starts_with("mcp-") && !sessions[0].contains("s-1"),
        "{sessions:?}"
    );
    assert_eq!(sessions[1], "mine");
}
