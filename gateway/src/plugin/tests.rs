#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_ledger::Kind;

use super::*;
use crate::config::{self, Limits};
use outline::outline;

fn built_in() -> Plugins {
    Plugins::load(&config::Plugins::default(), &Limits::default()).unwrap()
}

/// A request as the gateway hands it to a plugin: outlined.
fn inspect(plugin: &Plugin, path: &str, body: &str) -> Result<Call, DialectError> {
    let matched = plugin.routes.find("POST", path).expect("a known path");
    let request = Request {
        method: "POST".to_owned(),
        path: path.to_owned(),
        operation: matched.operation.to_owned(),
        path_model: matched.path_model,
        headers: vec![],
        outline: outline(body.as_bytes(), &plugin.request_shape, 128).unwrap().doc,
    };
    plugin.dialect.inspect(&request)
}

fn read(plugin: &Plugin, operation: &str, event: Option<&str>, streamed: bool, body: &str) -> Option<Reading> {
    let doc = outline(body.as_bytes(), &plugin.answer_shape, 128).unwrap().doc;
    let frame = AnswerFrame {
        operation,
        event,
        streamed,
        status: 200,
        outline: &doc,
    };
    plugin.dialect.read(&frame).unwrap()
}

#[test]
fn both_dialects_work_through_webassembly() {
    let plugins = built_in();
    let openai = plugins.get("openai").unwrap();
    let call = inspect(
        openai,
        "/v1/chat/completions",
        r#"{"model":"gpt-4o","max_tokens":5,"stream":true,"messages":[]}"#,
    )
    .unwrap();
    assert_eq!(
        (call.model.as_str(), call.max_output, call.stream),
        ("gpt-4o", Some(5), true)
    );
    assert!(
        call.edits
            .contains(&EditPoint::StreamUsage("stream_options.include_usage".to_owned()))
    );
    let reading = read(
        openai,
        "chat",
        None,
        false,
        r#"{"model":"gpt-4o","usage":{"prompt_tokens":9,"completion_tokens":4}}"#,
    )
    .unwrap();
    assert!(reading.parts[0].usage.contains(&(CountedKind::Kind(Kind::Input), 9)));
    let anthropic = plugins.get("anthropic").unwrap();
    let call = inspect(
        anthropic,
        "/v1/messages",
        r#"{"model":"claude","max_tokens":5,"messages":[]}"#,
    )
    .unwrap();
    assert_eq!((call.model.as_str(), call.max_output), ("claude", Some(5)));
    match inspect(anthropic, "/v1/messages", r#"{"model":"claude","max_tokens":-5}"#) {
        Err(DialectError::Problem(problem)) => assert_eq!(problem.param.as_deref(), Some("max_tokens")),
        other => panic!("{other:?}"),
    }
    assert!(
        String::from_utf8(
            anthropic
                .dialect
                .terminal("messages", Ending::BudgetExceeded, "m")
                .unwrap()
        )
        .unwrap()
        .starts_with("event: error\n")
    );
}
