//! A run that is killed: what it started ends with it, and what that started, whether it comes or runs already. Each is told which
//! session was killed.

use std::thread;

use serde_json::json;

use crate::harness::client::{Reply, read_reply};
use crate::harness::upstream::Step;
use crate::harness::{Gate, Gateway, Script, Upstream};
use crate::sessions::call;

const MESSAGES: &str = "/v1/messages";
const SMALL: &str = r#"{"id":"m","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":1}}"#;
const ASKED: &str = r#"{"model":"claude-sonnet-4-5","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#;
const STREAMED: &str =
    r#"{"model":"claude-sonnet-4-5","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const FRAME: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n";
const KEY: [(&str, &str); 2] = [
    ("x-api-key", "sk-ant-api03-0123456789abcdef"),
    ("anthropic-version", "2023-06-01"),
];

type Headers = [(&'static str, &'static str)];

/// As Claude Code sends them: the run, a subagent of it, and one that the subagent started.
const RUN: &Headers = &[("x-claude-code-session-id", "RUN")];
const A1: &Headers = &[("x-claude-code-session-id", "RUN"), ("x-claude-code-agent-id", "a1")];
const B1: &Headers = &[
    ("x-claude-code-session-id", "RUN"),
    ("x-claude-code-agent-id", "b1"),
    ("x-claude-code-parent-agent-id", "a1"),
];

fn ask(gateway: &Gateway, headers: &Headers) -> Reply {
    let headers = [&KEY[..], headers].concat();
    gateway.client.request("POST", MESSAGES, &headers, ASKED.as_bytes())
}

fn kill(gateway: &Gateway, session: &str) {
    let killed = call(gateway, "session.kill", &json!({ "id": session }));
    assert_eq!(killed["result"]["sessions"][0]["status"], "killed", "{killed}");
}

#[track_caller]
fn is_refused_for(reply: &Reply, session: &str) {
    let text = reply.text();
    assert!(text.contains("session_killed"), "{}: {text}", reply.status);
    assert!(
        text.contains(&format!("session {session} was killed by an operator")),
        "{text}"
    );
}

#[test]
fn a_killed_run_refuses_the_subagents_of_its_subagents() {
    let gateway = Gateway::to(&Upstream::always(Script::json(200, SMALL)));
    for headers in [RUN, A1, B1] {
        assert_eq!(ask(&gateway, headers).status, 200);
    }
    kill(&gateway, "RUN");
    for headers in [RUN, A1, B1] {
        is_refused_for(&ask(&gateway, headers), "RUN");
    }
}

#[test]
fn a_run_is_known_though_those_between_never_called() {
    let gateway = Gateway::to(&Upstream::always(Script::json(200, SMALL)));
    assert_eq!(ask(&gateway, RUN).status, 200);
    kill(&gateway, "RUN");
    is_refused_for(&ask(&gateway, B1), "RUN");
}

#[test]
fn parents_that_clients_name_are_followed_up_and_a_circle_of_them_ends() {
    let gateway = Gateway::to(&Upstream::always(Script::json(200, SMALL)));
    let named: [&Headers; 3] = [
        &[("X-Agent-Session", "s1"), ("X-Agent-Parent", "s3")],
        &[("X-Agent-Session", "s2"), ("X-Agent-Parent", "s1")],
        &[("X-Agent-Session", "s3"), ("X-Agent-Parent", "s2")],
    ];
    for headers in named {
        assert_eq!(ask(&gateway, headers).status, 200);
    }
    kill(&gateway, "s1");
    is_refused_for(&ask(&gateway, named[2]), "s1");
    assert_eq!(ask(&gateway, &[("X-Agent-Session", "s4")]).status, 200);
}

#[test]
fn a_killed_run_is_among_the_denials() {
    let gateway = Gateway::to(&Upstream::always(Script::json(200, SMALL)));
    for headers in [RUN, A1] {
        assert_eq!(ask(&gateway, headers).status, 200);
    }
    kill(&gateway, "RUN");
    ask(&gateway, A1);
    let denials = call(&gateway, "denial.list", &json!({"code": "session_killed"}));
    let denials = &denials["result"];
    assert_eq!(
        (&denials["refused"], &denials["denials"][0]["account"]),
        (&json!(1), &json!("session:RUN")),
        "{denials}"
    );
}

/// What the client of an endless stream has once the session is killed.
fn killed_stream(headers: &'static Headers, session: &str) -> Reply {
    let began = Gate::default();
    let upstream = Upstream::playing({
        let began = began.clone();
        move |request| {
            if !String::from_utf8_lossy(&request.body).contains("\"stream\"") {
                return Script::json(200, SMALL);
            }
            began.open();
            Script::stream_head("text/event-stream")
                .chunk(FRAME.as_bytes())
                .step(Step::AwaitClose)
        }
    });
    let gateway = Gateway::to(&upstream);
    for headers in [RUN, A1] {
        assert_eq!(ask(&gateway, headers).status, 200);
    }
    let headers = [&KEY[..], headers].concat();
    let mut stream = gateway.client.send("POST", MESSAGES, &headers, STREAMED.as_bytes());
    let reading = thread::spawn(move || read_reply(&mut stream));
    began.wait();
    kill(&gateway, session);
    let reply = reading.join().unwrap();
    gateway.wait_idle();
    reply
}

#[test]
fn streams_of_all_that_a_killed_run_started_are_cut_and_name_it() {
    for (headers, session) in [(RUN, "RUN"), (A1, "RUN"), (B1, "RUN"), (B1, "RUN/a1"), (B1, "RUN/b1")] {
        let text = killed_stream(headers, session).text();
        assert!(
            text.contains(&format!("session {session} was killed by an operator")),
            "{headers:?}: {text}"
        );
    }
}

#[test]
fn a_session_is_killed_by_the_beginning_of_its_name_where_only_one_begins_so() {
    let gateway = Gateway::to(&Upstream::always(Script::json(200, SMALL)));
    for session in ["0af76519-one", "0af76519-two", "4c969c67-36fc", "4c969c67-36fc/a1"] {
        assert_eq!(ask(&gateway, &[("X-Agent-Session", session)]).status, 200);
    }
    let kill = |id: &str| call(&gateway, "session.kill", &json!({ "id": id }));
    let several = kill("0af76519")["error"]["message"].to_string();
    assert!(several.contains("0af76519-one, 0af76519-two"), "{several}");
    for unknown in ["0af", "ffffffff"] {
        assert_eq!(kill(unknown)["error"]["data"]["code"], "not_found", "{unknown}");
    }
    // As a narrow table shows it. What the run started is not meant.
    let killed = kill("4c969c67…");
    assert_eq!(killed["result"]["sessions"][0]["id"], "4c969c67-36fc", "{killed}");
    assert_eq!(ask(&gateway, &[("X-Agent-Session", "4c969c67-36fc/a1")]).status, 200);
    assert_eq!(ask(&gateway, &[("X-Agent-Session", "0af76519-one")]).status, 200);
}
