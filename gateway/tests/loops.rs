//! Loops: found by what an agent does, through the running gateway, in both dialects.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::client::Reply;
use crate::harness::{Gateway, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
/// The contract's example, with the action that shows itself at once.
const BLOCKING: &str = "agent: {loop_threshold: 8, loop_window_mins: 5, loop_action: block}";

fn upstream() -> Upstream {
    Upstream::playing(|seen| {
        Script::json(
            200,
            if seen.path.starts_with(MESSAGES) {
                r#"{"id":"m","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"usage":{"input_tokens":10,"output_tokens":10}}"#
            } else {
                r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#
            },
        )
    })
}

fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let key = [
        ("x-api-key", "sk-ant-api03-0123456789abcdef"),
        ("anthropic-version", "2023-06-01"),
        ("X-Agent-Session", "s1"),
    ];
    gateway
        .client
        .request("POST", path, &[&key[..], headers].concat(), body.to_string().as_bytes())
}

/// An agent in OpenAI's dialect: its history grows by a tool call and its result each turn.
#[derive(Default)]
struct Chat(Vec<Value>);

impl Chat {
    fn turn(&mut self, arguments: &str, result: &str) -> Value {
        let id = format!("call_{}", self.0.len());
        if self.0.is_empty() {
            self.0.push(json!({"role": "user", "content": "Find the file."}));
        }
        self.0.push(
            json!({"role": "assistant", "content": format!("Attempt {}.", self.0.len()), "tool_calls": [
            {"id": id, "type": "function", "function": {"name": "search", "arguments": arguments}}]}),
        );
        self.0
            .push(json!({"role": "tool", "tool_call_id": id, "content": result}));
        json!({"model": "gpt-4o", "max_tokens": 50, "messages": self.0})
    }
}

/// The same in Anthropic's.
#[derive(Default)]
struct Messages(Vec<Value>);

impl Messages {
    fn turn(&mut self, query: &str, result: &str) -> Value {
        let id = format!("toolu_{}", self.0.len());
        if self.0.is_empty() {
            self.0.push(json!({"role": "user", "content": "Find the file."}));
        }
        self.0.push(json!({"role": "assistant", "content": [
            {"type": "text", "text": format!("Attempt {}.", self.0.len())},
            {"type": "tool_use", "id": id, "name": "search", "input": {"query": query}}]}));
        self.0
            .push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": result}]}));
        json!({"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": self.0})
    }
}

fn message_of(reply: &Reply) -> String {
    reply.json()["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn an_agent_that_repeats_a_tool_call_eight_times_is_stopped_and_told_why() {
    let gateway = Setup::new(&upstream()).with(BLOCKING).start();
    let mut agent = Chat::default();
    for _ in 1..8 {
        assert_eq!(
            post(&gateway, CHAT, &[], &agent.turn("{\"q\":\"a\"}", "nothing found")).status,
            200
        );
    }
    let reply = post(&gateway, CHAT, &[], &agent.turn("{\"q\":\"a\"}", "nothing found"));
    assert_eq!((reply.status, reply.header("x-should-retry")), (429, Some("false")));
    let error = &reply.json()["error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("proxy_error"), &json!("loop_detected"))
    );
    let why = message_of(&reply);
    assert!(
        why.starts_with(
            "AgentLedger: loop detected: the same tool call with the same arguments, 8 times on end within 5m0s (threshold: 8)"
        ),
        "{why}"
    );
    assert!(why.contains("$0.0009 went into it"), "{why}");
    assert!(!reply.text().contains("nothing found"), "no content in an error");
    // Who goes on is not let in by having been kept out; who does something else is.
    let again = post(&gateway, CHAT, &[], &agent.turn("{\"q\":\"a\"}", "nothing found"));
    assert!(message_of(&again).contains("9 times"), "{}", again.text());
    assert_eq!(
        post(&gateway, CHAT, &[], &agent.turn("{\"q\":\"b\"}", "found")).status,
        200
    );
    assert_eq!(gateway.entries().len(), 8);
}

#[test]
fn so_is_one_that_speaks_anthropics_dialect() {
    let gateway = Setup::new(&upstream()).with(BLOCKING).start();
    let mut agent = Messages::default();
    for _ in 1..8 {
        assert_eq!(
            post(&gateway, MESSAGES, &[], &agent.turn("a", "nothing found")).status,
            200
        );
    }
    let reply = post(&gateway, MESSAGES, &[], &agent.turn("a", "nothing found"));
    assert_eq!((reply.status, &reply.json()["type"]), (429, &json!("error")));
    assert!(
        message_of(&reply).contains("the same tool call with the same arguments, 8 times"),
        "{}",
        reply.text()
    );
}

/// An answer of the Responses API whose model calls the same tool each time, under a new id.
fn responses_upstream() -> Upstream {
    let answers = AtomicUsize::new(0);
    Upstream::playing(move |_| {
        let id = format!("resp_{}", 1 + answers.fetch_add(1, Ordering::Relaxed));
        let answer = json!({"id": id, "object": "response", "status": "completed", "model": "gpt-4o",
            "output": [{"type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"),
                "name": "search", "arguments": "{\"q\":\"a\"}", "status": "completed"}],
            "usage": {"input_tokens": 10, "output_tokens": 10, "total_tokens": 20}});
        Script::json(200, &answer.to_string())
    })
}

#[test]
fn one_that_goes_on_from_answers_that_the_server_keeps_is_stopped_by_what_the_model_called_in_them() {
    let gateway = Setup::new(&responses_upstream()).with(BLOCKING).start();
    let key = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("x-agent-session", "s1"),
    ];
    let turn = |before: usize, result: &str| {
        let body = json!({"model": "gpt-4o", "max_output_tokens": 50, "previous_response_id": format!("resp_{before}"),
            "input": [{"type": "function_call_output", "call_id": format!("call_resp_{before}"), "output": result}]});
        gateway
            .client
            .request("POST", "/v1/responses", &key, body.to_string().as_bytes())
    };
    // Of the answer before the first nothing is known.
    for before in 0..8 {
        assert_eq!(turn(before, "nothing found").status, 200);
    }
    let reply = turn(8, "nothing found");
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert!(
        message_of(&reply).contains("the same tool call with the same arguments, 8 times on end"),
        "{}",
        reply.text()
    );
    assert_eq!(gateway.entries().len(), 8);
}

#[test]
fn defect_an_agent_that_calls_often_is_taken_for_a_loop() {
    let gateway = Setup::new(&upstream()).with(BLOCKING).start();
    let (mut chat, mut messages) = (Chat::default(), Messages::default());
    for step in 0..200 {
        // Now and then it looks at the same thing again, as agents do.
        let (query, result) = match step % 5 {
            4 => ("status".to_owned(), "clean".to_owned()),
            _ => (format!("page {step}"), format!("line {step}")),
        };
        let arguments = json!({ "q": query }).to_string();
        for (path, body) in [
            (CHAT, chat.turn(&arguments, &result)),
            (MESSAGES, messages.turn(&query, &result)),
        ] {
            let session = [("X-Agent-Session", path)];
            let headers = [
                ("x-api-key", "sk-ant-1"),
                ("anthropic-version", "2023-06-01"),
                session[0],
            ];
            let reply = gateway
                .client
                .request("POST", path, &headers, body.to_string().as_bytes());
            assert_eq!(reply.status, 200, "step {step}: {}", reply.text());
        }
    }
    assert_eq!(gateway.entries().len(), 400);
}

#[test]
fn the_same_words_again_are_a_loop_and_two_things_in_turns_are() {
    let gateway = Setup::new(&upstream()).with(BLOCKING).start();
    let same = json!({"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]});
    let last = (0..8).map(|_| post(&gateway, CHAT, &[], &same)).last().unwrap();
    assert!(
        message_of(&last).contains("the same request, 8 times in 5m0s"),
        "{}",
        last.text()
    );

    let gateway = Setup::new(&upstream()).with(BLOCKING).start();
    let mut agent = Chat::default();
    let replies: Vec<Reply> = (0..15)
        .map(|turn| {
            post(
                &gateway,
                CHAT,
                &[],
                &agent.turn(&format!("{{\"q\":{}}}", turn % 2), "nothing found"),
            )
        })
        .collect();
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 14);
    assert!(
        message_of(&replies[14]).contains("the same tool call with the same result, 8 times"),
        "{}",
        replies[14].text()
    );
}

#[test]
fn polling_is_a_loop_or_progress_as_one_says() {
    for (changed, refused) in [("loop", 3), ("progress", 0)] {
        let conf = format!("{{changed_results: {changed}}}");
        let gateway = Setup::new(&upstream()).with(BLOCKING).conf("loop", &conf).start();
        let mut agent = Chat::default();
        let replies =
            (0..10).map(|turn| post(&gateway, CHAT, &[], &agent.turn("{}", &format!("{turn} % done"))).status);
        assert_eq!(replies.filter(|status| *status == 429).count(), refused, "{changed}");
    }
}

#[test]
fn retries_of_failed_calls_and_calls_side_by_side_are_no_loop() {
    let failing = Upstream::always(Script::json(500, r#"{"error":{"message":"busy"}}"#));
    let gateway = Setup::new(&failing).with(BLOCKING).start();
    let mut agent = Chat::default();
    let body = agent.turn("{}", "nothing found");
    for attempt in 0..12 {
        let count = attempt.to_string();
        let reply = post(&gateway, CHAT, &[("x-stainless-retry-count", &count)], &body);
        assert_eq!(reply.status, 500, "it is the upstream's refusal, not ours");
    }

    let gateway = Setup::new(&upstream()).with(BLOCKING).start();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..7)
            .map(|_| scope.spawn(|| post(&gateway, CHAT, &[], &body).status))
            .collect();
        for call in calls {
            assert_eq!(call.join().unwrap(), 200);
        }
    });
    let other_session = [("X-Agent-Session", "s2")];
    let reply = gateway
        .client
        .request("POST", CHAT, &other_session, body.to_string().as_bytes());
    assert_eq!(reply.status, 200, "sessions are apart");
    for _ in 0..12 {
        let reply = gateway.client.request("POST", CHAT, &[], body.to_string().as_bytes());
        assert_eq!(reply.status, 200, "without a session there is nothing to compare");
    }
}

#[test]
fn by_path_the_contracts_rule_and_words_hold() {
    let conf = "agent: {loop_threshold: 5, loop_window_mins: 5, loop_action: block}";
    let gateway = Setup::new(&upstream()).with(conf).conf("loop", "{by: path}").start();
    let mut agent = Chat::default();
    let replies: Vec<Reply> = (0..6)
        .map(|turn| {
            post(
                &gateway,
                CHAT,
                &[],
                &agent.turn(&format!("{{\"q\":{turn}}}"), &turn.to_string()),
            )
        })
        .collect();
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 4);
    let said =
        |times: u32| format!("AgentLedger: loop detected: path \"{CHAT}\" called {times} times in 5m0s (threshold: 5)");
    for (reply, times) in [(&replies[4], 5), (&replies[5], 6)] {
        let message = message_of(reply);
        assert!(message.starts_with(&said(times)), "{message}");
    }
}

#[test]
fn a_warning_lets_the_call_through_and_says_why() {
    let gateway = Setup::new(&upstream()).with("agent: {loop_threshold: 3}").start();
    let mut agent = Chat::default();
    let last = (0..3)
        .map(|_| post(&gateway, CHAT, &[], &agent.turn("{}", "nothing found")))
        .last()
        .unwrap();
    assert_eq!(last.status, 200);
    let warning = last.header("x-agentledger-loop-warning").unwrap();
    assert!(warning.contains("3 times on end"), "{warning}");
}
