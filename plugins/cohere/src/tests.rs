#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_guest::{AnswerFrame, Call, EditPoint, Ending, Problem, Provider, Reading, Refusal, Request};
use serde_json::{Value, json};

use crate::Cohere;
use crate::info::{CHAT, CHAT_V1, EMBED, GENERATE, RERANK, SUMMARIZE};

fn ask(operation: &str, body: Value) -> Result<Call, Problem> {
    Cohere::inspect(Request {
        method: "POST".to_owned(),
        vendor: String::new(),
        path: "/v2/x".to_owned(),
        operation: operation.to_owned(),
        path_model: None,
        headers: vec![],
        outline: body.to_string(),
        markers: vec![],
        characters: vec![],
    })
}

fn frame(body: &str) -> Option<Reading> {
    Cohere::read(AnswerFrame {
        operation: CHAT.to_owned(),
        event: None,
        streamed: true,
        status: 200,
        outline: body.to_owned(),
    })
}

#[test]
fn each_operation_has_its_own_limit() {
    let call = ask(CHAT, json!({"model": "command-a", "max_tokens": 9, "stream": true})).unwrap();
    assert_eq!((call.max_output, call.stream, call.choices), (Some(9), true, 1));
    assert!(call.edits.contains(&EditPoint::MaxOutput("max_tokens".to_owned())));
    assert_eq!(ask(CHAT_V1, json!({"model": "m"})).unwrap().max_output, None);
    for operation in [EMBED, RERANK] {
        // Here `max_tokens` limits what is read of each text.
        let call = ask(operation, json!({"model": "m", "max_tokens": 5, "stream": true})).unwrap();
        assert_eq!((call.max_output, call.stream), (Some(0), false));
        assert_eq!(call.edits, [EditPoint::Model("model".to_owned())]);
    }
    assert_eq!(
        ask(GENERATE, json!({"model": "m", "num_generations": 3}))
            .unwrap()
            .choices,
        3
    );
}

#[test]
fn bad_values_are_problems_that_name_the_parameter() {
    for (operation, body, param) in [
        (CHAT, json!({}), "model"),
        (CHAT, json!({"model": ""}), "model"),
        (CHAT, json!({"model": "m", "max_tokens": "5"}), "max_tokens"),
        (CHAT, json!({"model": "m", "stream": 1}), "stream"),
        (GENERATE, json!({"model": "m", "num_generations": 0}), "num_generations"),
    ] {
        assert_eq!(
            ask(operation, body.clone()).unwrap_err().param.as_deref(),
            Some(param),
            "{body}"
        );
    }
}

#[test]
fn endings_are_the_dialects_last_event() {
    for (operation, kind) in [(CHAT, "message-end"), (CHAT_V1, "stream-end"), (GENERATE, "stream-end")] {
        let bytes = Cohere::terminal(operation, Ending::BudgetExceeded, "spent", None);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.starts_with(&format!("event: {kind}\ndata: ")) && text.ends_with("\n\n"),
            "{text}"
        );
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let read = frame(data).unwrap();
        assert!(read.failed && read.final_ && read.parts.is_empty(), "{text}");
        assert!(data.contains("budget_exceeded: spent"));
    }
}

#[test]
fn a_refusal_has_its_message_where_coheres_clients_look() {
    let body = Cohere::error_body(
        CHAT,
        &Refusal {
            status: 429,
            code: "budget_exceeded".to_owned(),
            object: r#"{"type":"budget_exceeded","message":"spending limit exceeded","daily_spent":1.5}"#.to_owned(),
        },
    );
    assert_eq!(body.last(), Some(&b'\n'));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["message"], "spending limit exceeded");
    assert_eq!(body["error"]["daily_spent"], 1.5);
    assert_eq!(body["error"]["code"], "budget_exceeded");
}

#[test]
fn frames_that_say_nothing_are_nothing() {
    assert_eq!(frame("{}"), None);
    assert_eq!(frame(r#"{"type":"content-delta"}"#), None);
    assert_eq!(frame(r#"{"is_finished":false,"event_type":"text-generation"}"#), None);
    assert_eq!(frame("[]"), None);
}

#[test]
fn a_limit_of_nothing_is_none_and_a_summary_has_no_limit() {
    assert_eq!(
        ask(CHAT, json!({"model": "m", "max_tokens": 0})).unwrap().max_output,
        None
    );
    let summary = ask(SUMMARIZE, json!({"model": "m", "max_tokens": 5})).unwrap();
    assert_eq!((summary.max_output, summary.stream), (None, false));
    assert_eq!(summary.edits, [EditPoint::Model("model".to_owned())]);
}
