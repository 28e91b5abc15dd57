#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_ledger::Kind;

use super::*;
use crate::config;
use crate::limits::Limits;
use outline::outline;

pub(super) fn built_in() -> Plugins {
    Plugins::load(&config::Plugins::default(), &Limits::default()).unwrap()
}

/// A request as the gateway hands it to a plugin: outlined.
pub(super) fn inspect(plugin: &Plugin, path: &str, body: &str) -> Result<Call, DialectError> {
    let matched = plugin.routes.find("", "POST", path).expect("a known path");
    let request = Request {
        vendor: String::new(),
        method: "POST".to_owned(),
        path: path.to_owned(),
        operation: matched.operation.to_owned(),
        path_model: matched.path_model,
        headers: vec![],
        outline: outline(body.as_bytes(), &plugin.request_shape, 128).unwrap().doc,
        markers: plugin.markers_in(body.as_bytes()),
        characters: vec![],
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
                .terminal("messages", Ending::BudgetExceeded, "m", None)
                .unwrap()
        )
        .unwrap()
        .starts_with("event: error\n")
    );
}

#[test]
fn no_text_of_a_request_or_an_answer_reaches_a_plugin() {
    const CANARY: &str = "canary-7c1f";
    let plugins = built_in();
    let text = |at: &str| format!("{CANARY} {at} \\n\\\" and \\u0063anary");
    let requests = [
        (
            "openai",
            format!(
                r#"{{"model":"m","user":"{0}","messages":[{{"role":"user","content":"{0}"}},{{"role":"user","content":[{{"type":"text","text":"{0}"}},{{"type":"image_url","image_url":{{"url":"{0}"}}}}]}}],"tools":[{{"function":{{"description":"{0}"}}}}],"metadata":{{"a":"{0}"}},"prompt":["{0}"]}}"#,
                text("chat")
            ),
        ),
        (
            "openai",
            format!(
                r#"{{"model":"m","instructions":"{0}","input":[{{"role":"user","content":[{{"type":"input_text","text":"{0}"}}]}},{{"output":"{0}"}}],"stream_options":{{"note":"{0}"}}}}"#,
                text("responses")
            ),
        ),
        (
            "anthropic",
            format!(
                r#"{{"model":"m","system":"{0}","messages":[{{"role":"user","content":[{{"type":"tool_result","content":"{0}"}}]}}],"metadata":{{"user_id":"{0}"}}}}"#,
                text("messages")
            ),
        ),
    ];
    for (dialect, body) in requests {
        let plugin = plugins.get(dialect).unwrap();
        let outlined = outline(body.as_bytes(), &plugin.request_shape, 128).unwrap();
        assert!(!outlined.doc.contains("canary"), "{}", outlined.doc);
        assert!(outlined.text_bytes > 100, "it is counted all the same");
    }
    let answers = [
        (
            "openai",
            format!(
                r#"{{"id":"c","model":"m","choices":[{{"index":0,"message":{{"content":"{0}","tool_calls":[{{"function":{{"arguments":"{0}"}}}}]}}}}],"usage":{{"prompt_tokens":1}}}}"#,
                text("answer")
            ),
        ),
        (
            "openai",
            format!(
                r#"{{"type":"response.output_text.delta","delta":"{0}"}}"#,
                text("delta")
            ),
        ),
        (
            "openai",
            format!(
                r#"{{"type":"response.completed","response":{{"id":"r","instructions":"{0}","output":[{{"content":[{{"text":"{0}"}}]}}]}}}}"#,
                text("done")
            ),
        ),
        (
            "openai",
            format!(r#"{{"error":{{"message":"{0}","code":"c"}}}}"#, text("error")),
        ),
        (
            "anthropic",
            format!(
                r#"{{"type":"content_block_delta","delta":{{"text":"{0}"}}}}"#,
                text("delta")
            ),
        ),
        (
            "anthropic",
            format!(
                r#"{{"type":"message","content":[{{"text":"{0}","input":{{"a":"{0}"}}}}],"usage":{{"input_tokens":1}}}}"#,
                text("message")
            ),
        ),
    ];
    for (dialect, body) in answers {
        let outlined = outline(body.as_bytes(), &plugins.get(dialect).unwrap().answer_shape, 128).unwrap();
        assert!(!outlined.doc.contains("canary"), "{}", outlined.doc);
    }
}

/// The table of each built-in dialect, walked: nothing that may start work passes free, or is refused, without a reason and its
/// source. What is in no table is refused.
#[test]
fn nothing_that_may_spend_passes_without_a_reason() {
    let plugins = built_in();
    for dialect in ["openai", "anthropic", "gemini", "bedrock", "cohere"] {
        let plugin = plugins.get(dialect).unwrap();
        let routes = &plugin.dialect.info().routes;
        assert!(routes.len() > 10, "{dialect}");
        for route in routes {
            let what = format!("{dialect}: {} {} for {:?}", route.method, route.path, route.vendors);
            let starts = !matches!(route.method.as_str(), "GET" | "HEAD" | "DELETE" | "OPTIONS");
            let explained = !route.reason.is_empty() && route.source.starts_with("https://");
            match route.billing {
                Billing::Free => assert!(!starts || explained, "{what} is free without a reason"),
                Billing::Refused => assert!(explained, "{what} is refused without a reason"),
                Billing::Metered | Billing::Fetched | Billing::FetchedLines => {}
            }
            let takes_all = route.path.matches('/').count() < 2 && route.path.ends_with('*');
            assert!(
                !(takes_all && starts && route.billing == Billing::Free),
                "{what} takes all"
            );
        }
    }
}

#[test]
fn paths_are_routed_and_billed() {
    let plugins = built_in();
    let found = |dialect: &str, method: &str, path: &str| {
        let matched = plugins.get(dialect).unwrap().routes.find("", method, path)?;
        Some((matched.operation.to_owned(), matched.billing))
    };
    let metered = |operation: &str| Some((operation.to_owned(), Billing::Metered));
    let free = |operation: &str| Some((operation.to_owned(), Billing::Free));
    assert_eq!(found("openai", "POST", "/v1/chat/completions"), metered("chat"));
    assert_eq!(
        found("openai", "POST", "/v1/responses/compact"),
        metered("responses.compact")
    );
    assert_eq!(found("openai", "GET", "/v1/models"), free("models"));
    assert_eq!(found("openai", "GET", "/v1/models/org/name"), free("models"));
    assert_eq!(found("openai", "GET", "/v1/realtime"), metered("realtime"));
    let refused = |operation: &str| Some((operation.to_owned(), Billing::Refused));
    assert_eq!(found("openai", "POST", "/v1/fine_tuning/jobs"), refused("fine_tuning"));
    assert_eq!(found("anthropic", "POST", "/v1/messages"), metered("messages"));
    assert_eq!(
        found("anthropic", "POST", "/v1/messages/count_tokens"),
        free("messages.count_tokens")
    );
    assert_eq!(
        found("anthropic", "POST", "/v1/messages/batches"),
        free("messages.batches")
    );
    let fetched = |operation: &str, billing| Some((operation.to_owned(), billing));
    assert_eq!(
        found("anthropic", "GET", "/v1/messages/batches/b/results"),
        fetched("messages.batches.results", Billing::FetchedLines)
    );
    assert_eq!(
        found("anthropic", "GET", "/v1/messages/batches/b"),
        free("messages.batches")
    );
    assert_eq!(
        found("openai", "GET", "/v1/responses/resp_1"),
        fetched("responses.retrieve", Billing::Fetched)
    );
    assert_eq!(found("openai", "GET", "/v1/responses/resp_1/input_items"), free("read"));
    assert_eq!(
        found("openai", "GET", "/v1/files/f/content"),
        fetched("files.content", Billing::FetchedLines)
    );
    assert_eq!(found("openai", "GET", "/v1/files/f"), free("read"));
}

#[test]
fn a_folder_of_plugins_is_read_and_its_pins_hold() {
    let dir = tempfile::tempdir().unwrap();
    let wasm = registry::embedded("openai").unwrap();
    std::fs::write(dir.path().join("mine.wasm"), wasm).unwrap();
    std::fs::write(dir.path().join("notes.txt"), "not a plugin").unwrap();
    let load = |pins: &[(&str, &str)]| {
        let pins = pins
            .iter()
            .map(|(name, pin)| ((*name).to_owned(), (*pin).to_owned()))
            .collect();
        Plugins::load(
            &config::Plugins {
                dir: Some(dir.path().to_owned()),
                pins,
            },
            &Limits::default(),
        )
    };
    let plugins = load(&[]).unwrap();
    assert!(
        plugins.get("openai").unwrap().source.ends_with("mine.wasm"),
        "it replaces the built-in one"
    );
    assert_eq!(plugins.iter().count(), built_in().iter().count());
    let hash = blake3::hash(wasm).to_hex().to_string();
    assert!(load(&[("mine", hash.as_str())]).is_ok());
    assert!(matches!(load(&[("mine", "00")]), Err(LoadError::Pin { .. })));
    assert!(matches!(load(&[("mein", hash.as_str())]), Err(LoadError::PinUnused(_))));
    std::fs::write(dir.path().join("other.wasm"), wasm).unwrap();
    assert!(matches!(load(&[]), Err(LoadError::Twice { .. })));
    std::fs::write(dir.path().join("other.wasm"), "nonsense").unwrap();
    assert!(matches!(load(&[]), Err(LoadError::Unfit { .. })));
}

#[test]
fn many_threads_share_one_plugin() {
    let plugins = built_in();
    let plugin = plugins.get("openai").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            scope.spawn(move || {
                for round in 0..50 {
                    let tokens = thread * 1_000 + round;
                    let body = format!(r#"{{"model":"m","usage":{{"prompt_tokens":{tokens},"completion_tokens":1}}}}"#);
                    let reading = read(plugin, "chat", None, false, &body).unwrap();
                    assert!(
                        reading.parts[0]
                            .usage
                            .contains(&(CountedKind::Kind(Kind::Input), tokens))
                    );
                }
            });
        }
    });
}
