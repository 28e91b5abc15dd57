//! What rules do to answers on a WebSocket: rates and places, routes, killed sessions.

use std::sync::mpsc;
use std::time::Duration;

use agentledger::testing::meter::websocket::Message;
use agentledger_ledger::Outcome;
use serde_json::json;

use crate::harness::{Gate, Peer, Setup, SocketUpstream};
use crate::sessions::call;
use crate::socket::{
    KEY, REALTIME, RESPONSES, WORDS, answering, ask, begun, completed, created, delta, done, opened, session, start,
};

#[test]
fn an_answer_takes_a_place_until_its_end_is_seen() {
    let gate = Gate::default();
    let upstream = SocketUpstream::playing({
        let gate = gate.clone();
        move |peer| {
            for id in ["resp_1", "resp_2"] {
                peer.json();
                peer.say(created(id));
                gate.wait();
                peer.say(completed(id, 1_000, 600, 100));
            }
            peer.closed();
        }
    });
    let gateway = start(&upstream, "rate_limits: {default: {parallel: 1}}");
    let mut client = opened(&gateway, RESPONSES);
    client.say(ask(200));
    client.until("response.created");
    client.say(ask(200));
    let refused = client.until("error").remove(0);
    assert_eq!(
        (&refused["error"]["code"], &refused["status"]),
        (&json!("rate_limited"), &json!(429))
    );
    gate.open();
    client.until("response.completed");
    client.say(ask(200));
    client.until("response.completed");
    assert_eq!(gateway.entries().len(), 2);
}

#[test]
fn a_route_changes_the_model_in_the_message() {
    let (told, heard) = mpsc::channel();
    let upstream = SocketUpstream::playing(move |peer| {
        let _ = told.send(peer.json());
        peer.say(created("resp_1"));
        peer.say(completed("resp_1", 1_000, 600, 100));
        peer.closed();
    });
    let policy = "return { name = 'p', version = '1', request = function(_, call)\n\
                  return route{ alternatives = { 'gpt-4o-mini' } }\nend }";
    let gateway = Setup::to(&upstream.base()).policy("p", policy).start();
    let mut client = opened(&gateway, RESPONSES);
    client.say(ask(200));
    client.until("response.completed");
    let message = heard.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(
        (&message["model"], &message["type"]),
        (&json!("gpt-4o-mini"), &json!("response.create"))
    );
    let facts = gateway.entry().facts;
    assert_eq!(
        (&*facts.requested_model, &facts.tags["routed_from"]),
        ("gpt-4o-mini", &"gpt-4o".into())
    );
}

#[test]
fn a_killed_session_ends_its_connections_and_opens_no_other() {
    let upstream = SocketUpstream::playing(|peer| {
        peer.json();
        peer.say(created("resp_1"));
        peer.say(delta(WORDS));
        peer.closed();
    });
    let gateway = start(&upstream, "");
    let headers = [KEY[0], ("x-agent-session", "s1")];
    let mut client = Peer::open(gateway.address(), RESPONSES, &headers);
    client.say(ask(200));
    client.until("response.output_text.delta");
    let killed = call(&gateway, "session.kill", &json!({"id": "s1"}));
    assert_eq!(killed["result"]["sessions"][0]["status"], "killed", "{killed}");
    let why = "this session was killed by an operator".to_owned();
    assert_eq!(client.closed(), Some((1008, why)));
    gateway.wait_idle();
    assert_eq!(gateway.entry().settlement.outcome, Outcome::Cut);
    let refused = Peer::try_open(gateway.address(), RESPONSES, &headers).err().unwrap();
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (400, &json!("session_killed"))
    );
}

#[test]
fn a_session_that_ends_with_its_connection_ends_after_its_last_answer() {
    let upstream = answering();
    let gateway = start(&upstream, "");
    let headers = [KEY[0], ("x-agent-session", "s1"), ("x-agent-session-end", "true")];
    let mut client = Peer::open(gateway.address(), RESPONSES, &headers);
    let status = || call(&gateway, "session.get", &json!({"id": "s1"}))["result"]["sessions"][0]["status"].clone();
    for _ in 0..2 {
        client.say(ask(200));
        client.until("response.completed");
        assert_eq!(status(), "active");
    }
    client.vanish();
    while status() != "completed" {
        std::thread::yield_now();
    }
}

#[test]
fn the_handshakes_answer_tells_how_rates_and_budgets_stand() {
    let upstream = answering();
    let yaml = "rate_limits: {default: {requests_per_hour: 5}}
budgets: {default: {daily_limit_usd: 0.01, soft_limit_pct: 0.2, action: block}}";
    let gateway = start(&upstream, yaml);
    let mut client = opened(&gateway, RESPONSES);
    let warning = "x-agentledger-budget-warning";
    assert_eq!(
        (client.header("ratelimit-remaining"), client.header(warning)),
        (Some("5"), None)
    );
    client.say(ask(200));
    client.until("response.completed");
    let again = opened(&gateway, RESPONSES);
    assert_eq!(
        again.header("ratelimit-remaining"),
        Some("4"),
        "a handshake takes nothing"
    );
    assert_eq!(again.header(warning), Some("daily=0.00/0.01"));
    assert_eq!(again.header("x-codex-turn-state"), Some("sticky"));
}

#[test]
fn what_a_policy_says_of_the_handshake_is_said_and_its_deny_opens_nothing() {
    let upstream = answering();
    let policy = "return { name = 'p', version = '1', request = function(_, call)
        if call.free and call.agent == 'crawler' then return deny{ code = 'no_crawlers' } end
        return header{ name = 'x-told', value = call.model } end }";
    let gateway = Setup::to(&upstream.base()).policy("p", policy).start();
    assert_eq!(opened(&gateway, REALTIME).header("x-told"), Some("gpt-realtime"));
    let crawler = [KEY[0], ("x-agent-id", "crawler")];
    let refused = Peer::try_open(gateway.address(), RESPONSES, &crawler).err().unwrap();
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (403, &json!("no_crawlers"))
    );
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn an_answer_that_the_server_begins_is_not_held_back() {
    let upstream = SocketUpstream::playing(|peer| {
        peer.say(session());
        peer.say(begun("r1"));
        peer.say(done("r1", "completed"));
        peer.closed();
    });
    // As long as the client listens: held back, the answer would never be heard.
    let policy = "return { name = 'p', version = '1', request = function() return delay{ seconds = 60 } end }";
    let gateway = Setup::to(&upstream.base()).policy("p", policy).start();
    let mut client = opened(&gateway, REALTIME);
    assert_eq!(client.until("response.done").len(), 3);
    assert_eq!(gateway.entry().settlement.outcome, Outcome::Completed);
}

#[test]
fn a_refusal_on_a_connection_has_its_clients_shape_and_ends_it_where_it_is_ignored() {
    let upstream = answering();
    let yaml = "budgets: {default: {daily_limit_usd: 0.000001, action: block}}\nrefusals: {close_after: 3}";
    let gateway = start(&upstream, yaml);
    let codex = ("user-agent", "codex_exec/0.171.0 (Debian 12.0.0; x86_64)");
    let mut client = Peer::open(gateway.address(), RESPONSES, &[KEY[0], codex]);
    for _ in 0..3 {
        client.say(ask(200));
        let refused = client.until("error").remove(0);
        assert_eq!(
            (&refused["error"]["type"], &refused["error"]["code"], &refused["status"]),
            (&json!("usage_limit_reached"), &json!("budget_exceeded"), &json!(429))
        );
        assert!(refused["error"]["resets_at"].is_i64(), "{refused}");
        let words = refused["headers"]["x-codex-promo-message"].as_str().unwrap();
        assert!(words.starts_with("AgentLedger: estimated cost"), "{refused}");
        assert_eq!(refused["headers"].get("retry-after"), None);
    }
    assert_eq!(client.closed().unwrap().0, 1008);
    let metrics = gateway.client.get("/metrics").text();
    let counted = "agentledger_refusals_ignored_total{provider=\"openai\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(gateway.entries().is_empty());
}

/// Calls the same tool in each answer, as a stream says it.
fn calling() -> SocketUpstream {
    SocketUpstream::playing(|peer| {
        let mut answers = 0;
        while let Some(Message::Text(text)) = peer.hear() {
            if !String::from_utf8_lossy(&text).contains("response.create") {
                continue;
            }
            answers += 1;
            let id = format!("resp_{answers}");
            let item = |arguments: &str, status: &str| {
                json!({"type": "function_call", "id": format!("fc_{answers}"), "call_id": format!("call_{answers}"),
                    "name": "shell", "arguments": arguments, "status": status})
            };
            peer.say(created(&id));
            peer.say(json!({"type": "response.output_item.added", "output_index": 0, "item": item("", "in_progress")}));
            let done = item("{\"command\":\"ls\"}", "completed");
            peer.say(json!({"type": "response.output_item.done", "output_index": 0, "item": done}));
            peer.say(completed(&id, 1_000, 600, 100));
        }
    })
}

#[test]
fn a_loop_is_seen_on_a_connection_that_sends_only_what_is_new() {
    let upstream = calling();
    let gateway = start(
        &upstream,
        "agent: {loop_threshold: 4, loop_window_mins: 5, loop_action: block}",
    );
    let mut client = Peer::open(gateway.address(), RESPONSES, &[KEY[0], ("x-agent-session", "s1")]);
    client.say(ask(200));
    client.until("response.completed");
    let goes_on = |turn: usize| {
        json!({"type": "response.create", "model": "gpt-4o", "max_output_tokens": 200,
            "previous_response_id": format!("resp_{turn}"),
            "input": [{"type": "function_call_output", "call_id": format!("call_{turn}"), "output": "a b c"}]})
    };
    for turn in 1..4 {
        client.say(goes_on(turn));
        client.until("response.completed");
    }
    client.say(goes_on(4));
    let refused = client.until("error").remove(0);
    assert_eq!(refused["error"]["code"], json!("loop_detected"), "{refused}");
    assert_eq!(gateway.entries().len(), 4);
}
