#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_guest::{
    AnswerFrame, CacheWrites, Call, Ending, Kind, Part, Problem, Provider, Reading, Refusal, Request,
};
use serde_json::{Value, json};

use crate::Anthropic;
use crate::info::{BATCH_RESULTS, CACHE_CONTROL, DOCUMENT, FALLBACKS_MAX, MESSAGES, ONE_HOUR, PLAIN_TEXT, TOOLS_MAX};

fn ask(body: Value) -> Result<Call, Problem> {
    ask_marked(body, &[])
}

fn ask_marked(body: Value, markers: &[&str]) -> Result<Call, Problem> {
    Anthropic::inspect(request(body, markers))
}

fn request(body: Value, markers: &[&str]) -> Request {
    Request {
        method: "POST".to_owned(),
        vendor: String::new(),
        path: "/v1/messages".to_owned(),
        operation: MESSAGES.to_owned(),
        path_model: None,
        headers: vec![],
        outline: body.to_string(),
        markers: markers.iter().map(|marker| (*marker).to_owned()).collect(),
        characters: vec![],
    }
}

fn frame(streamed: bool, body: Value) -> Option<Reading> {
    Anthropic::read(AnswerFrame {
        operation: MESSAGES.to_owned(),
        event: None,
        streamed,
        status: 200,
        outline: body.to_string(),
    })
}

fn counts(part: &Part) -> Vec<(Kind, u64)> {
    part.usage.iter().map(|count| (count.kind, count.units)).collect()
}

fn used(usage: Value) -> Reading {
    frame(
        false,
        json!({"type": "message", "id": "msg", "model": "m", "usage": usage}),
    )
    .unwrap()
}

#[test]
fn reads_requests() {
    let call = ask(json!({"model": "m", "max_tokens": 5, "stream": true, "service_tier": "auto"})).unwrap();
    assert_eq!(
        (call.max_output, call.stream, call.choices, call.service_tier.as_deref()),
        (Some(5), true, 1, Some("auto"))
    );
    assert_eq!(
        ask(json!({"model": "m", "speed": "fast"}))
            .unwrap()
            .service_tier
            .as_deref(),
        Some("fast")
    );
    for (body, param) in [
        (json!({"max_tokens": 5}), "model"),
        (json!({"model": "m", "max_tokens": -5}), "max_tokens"),
        (json!({"model": "m", "max_tokens": 1e300}), "max_tokens"),
        (json!({"model": "m", "stream": 1}), "stream"),
    ] {
        assert_eq!(
            ask(body.clone()).expect_err("a problem").param.as_deref(),
            Some(param),
            "{body}"
        );
    }
}

#[test]
fn cache_writes_are_counted_by_how_long_they_last() {
    let reading = used(
        json!({"input_tokens": 10, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 18}, "output_tokens": 40}),
    );
    assert_eq!(
        counts(&reading.parts[0]),
        [
            (Kind::Input, 10),
            (Kind::CacheRead, 20),
            (Kind::Output, 40),
            (Kind::CacheWrite5m, 12),
            (Kind::CacheWrite1h, 18)
        ]
    );
    let total = used(json!({"input_tokens": 1, "cache_creation_input_tokens": 30, "output_tokens": 2}));
    assert_eq!(
        counts(&total.parts[0]),
        [(Kind::Input, 1), (Kind::Output, 2), (Kind::CacheWrite, 30)]
    );
    let more = used(json!({"output_tokens": 2, "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 18}}));
    assert_eq!(
        counts(&more.parts[0]),
        [(Kind::Output, 2), (Kind::CacheWrite5m, 12), (Kind::CacheWrite1h, 18)]
    );
}

#[test]
fn a_stream_tells_usage_bit_by_bit() {
    let start = frame(
        true,
        json!({"type": "message_start", "message": {"id": "msg", "model": "m",
        "usage": {"input_tokens": 377, "cache_creation_input_tokens": 0, "output_tokens": 1, "service_tier": "standard"}}}),
    );
    let start = start.unwrap();
    assert_eq!(start.model.as_deref(), Some("m"));
    assert_eq!(start.service_tier.as_deref(), Some("standard"));
    assert_eq!(
        counts(&start.parts[0]),
        [(Kind::Input, 377), (Kind::Output, 1), (Kind::CacheWrite, 0)]
    );
    let delta = frame(true, json!({"type": "message_delta", "usage": {"output_tokens": 65}})).unwrap();
    // What is not said is not zero.
    assert_eq!(counts(&delta.parts[0]), [(Kind::Output, 65)]);
    assert!(!delta.final_);
    assert!(frame(true, json!({"type": "message_stop"})).unwrap().final_);
    assert_eq!(frame(true, json!({"type": "ping"})), None);
}

#[test]
fn searches_and_thinking_are_counted() {
    let reading = used(
        json!({"input_tokens": 1, "output_tokens": 9, "server_tool_use": {"web_search_requests": 3},
        "output_tokens_details": {"thinking_tokens": 6}, "speed": "fast"}),
    );
    assert_eq!(
        counts(&reading.parts[0]),
        [(Kind::Input, 1), (Kind::Output, 9), (Kind::WebSearch, 3)]
    );
    assert_eq!(reading.parts[0].reasoning, Some(6));
    assert_eq!(reading.service_tier.as_deref(), Some("fast"));
}

#[test]
fn compaction_is_billed_on_top() {
    let reading = used(
        json!({"input_tokens": 23_000, "output_tokens": 1_000, "cache_read_input_tokens": 5, "iterations": [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500, "cache_read_input_tokens": 70,
            "cache_creation_input_tokens": 9},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000, "cache_read_input_tokens": 5}]}),
    );
    assert_eq!(reading.parts.len(), 1);
    assert_eq!(
        counts(&reading.parts[0]),
        [
            (Kind::Input, 203_000),
            (Kind::CacheRead, 75),
            (Kind::Output, 4_500),
            (Kind::CacheWrite, 9)
        ]
    );
}

#[test]
fn compaction_never_stands_for_the_whole() {
    let delta = frame(
        true,
        json!({"type": "message_delta", "usage": {"output_tokens": 8, "iterations": [
        {"type": "compaction", "input_tokens": 100, "output_tokens": 3},
        {"type": "message", "input_tokens": 30, "output_tokens": 8}]}}),
    );
    assert_eq!(
        counts(&delta.unwrap().parts[0]),
        [(Kind::Input, 130), (Kind::Output, 11)]
    );
}

#[test]
fn an_advisor_is_a_part_of_its_own() {
    let advisor = json!({"type": "advisor_message", "model": "big", "input_tokens": 900, "output_tokens": 60,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 5}});
    let message = json!({"type": "message", "input_tokens": 5, "output_tokens": 3});
    let reading =
        used(json!({"input_tokens": 10, "output_tokens": 6, "iterations": [message, advisor, advisor, message]}));
    assert_eq!(reading.parts.len(), 2);
    assert_eq!(counts(&reading.parts[0]), [(Kind::Input, 10), (Kind::Output, 6)]);
    assert_eq!(reading.parts[1].model.as_deref(), Some("big"));
    assert_eq!(
        counts(&reading.parts[1]),
        [
            (Kind::Input, 1_800),
            (Kind::Output, 120),
            (Kind::CacheWrite5m, 8),
            (Kind::CacheWrite1h, 10)
        ]
    );
}

#[test]
fn a_declined_attempt_is_not_billed() {
    let reading = used(json!({"input_tokens": 25, "output_tokens": 8, "iterations": [
        {"type": "message", "model": "m", "input_tokens": 25, "output_tokens": 2},
        {"type": "fallback_message", "model": "m2", "input_tokens": 25, "output_tokens": 8}]}));
    assert_eq!(reading.parts.len(), 1);
    assert_eq!(counts(&reading.parts[0]), [(Kind::Input, 25), (Kind::Output, 8)]);
    assert_eq!(reading.model.as_deref(), Some("m2"), "the one that served the turn");
    let block = json!({"type": "content_block_start", "content_block": {"type": "fallback", "to": {"model": "m2"}}});
    assert_eq!(frame(true, block).unwrap().model.as_deref(), Some("m2"));
    assert_eq!(
        frame(
            true,
            json!({"type": "content_block_start", "content_block": {"type": "text"}})
        ),
        None
    );
}

#[test]
fn absurd_reports_are_no_reports() {
    for usage in [
        json!({"input_tokens": -1, "output_tokens": 1}),
        json!({"input_tokens": 1, "output_tokens": 1_000_000_001}),
        json!({"input_tokens": 1, "output_tokens": 0.5}),
        json!({"input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": -7}}),
        json!({"input_tokens": 1, "iterations": [{"type": "compaction", "input_tokens": -3}]}),
        json!("none"),
        json!({}),
    ] {
        let reading = used(usage.clone());
        assert!(reading.parts.is_empty(), "{usage}");
        assert_eq!(reading.model.as_deref(), Some("m"));
    }
}

#[test]
fn a_cut_stream_ends_with_an_error_event() {
    let text = String::from_utf8(Anthropic::terminal(MESSAGES, Ending::BudgetExceeded, "over", None)).unwrap();
    let data: Value = serde_json::from_str(text.strip_prefix("event: error\ndata: ").unwrap()).unwrap();
    assert_eq!(
        (data["type"].as_str(), data["error"]["message"].as_str()),
        (Some("error"), Some("over"))
    );
    let read = frame(true, data).unwrap();
    assert!(read.failed && read.final_);
}

#[test]
fn refusals_are_both_shapes_at_once() {
    let object = r#"{"type":"budget_exceeded","message":"spending limit exceeded","daily_limit":2}"#.to_owned();
    let body = Anthropic::error_body(
        MESSAGES,
        &Refusal {
            status: 429,
            code: "budget_exceeded".to_owned(),
            object,
        },
    );
    assert_eq!(body.last(), Some(&b'\n'));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (body["type"].as_str(), body["error"]["type"].as_str()),
        (Some("error"), Some("budget_exceeded"))
    );
    assert_eq!(body["error"]["daily_limit"], 2);
    let body = Anthropic::error_body(
        MESSAGES,
        &Refusal {
            status: 404,
            code: "x".to_owned(),
            object: String::new(),
        },
    );
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["type"], "not_found_error");
}

#[test]
fn inference_in_the_us_has_prices_of_its_own() {
    let asked = |body: Value| ask(body).unwrap().service_tier;
    let some = |tier: &str| Some(tier.to_owned());
    let ask = |more: Value| {
        let mut body = json!({"model": "m", "max_tokens": 5});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(asked(ask(json!({"inference_geo": "us"}))), some("us"));
    assert_eq!(
        asked(ask(json!({"inference_geo": "us", "speed": "fast"}))),
        some("fast_us")
    );
    assert_eq!(
        asked(ask(json!({"inference_geo": "global", "service_tier": "auto"}))),
        some("auto")
    );
    let read = |usage: Value| used(usage).service_tier;
    assert_eq!(
        read(json!({"input_tokens": 1, "service_tier": "standard", "inference_geo": "us"})),
        some("us")
    );
    assert_eq!(
        read(json!({"input_tokens": 1, "service_tier": "batch", "inference_geo": "us"})),
        some("batch_us")
    );
    assert_eq!(
        read(json!({"input_tokens": 1, "service_tier": "standard", "inference_geo": "not_available"})),
        some("standard")
    );
}

#[test]
fn what_a_hold_needs_is_told_by_markers() {
    let call = |markers: &[&str]| ask_marked(json!({"model": "m", "max_tokens": 5}), markers).unwrap();
    assert_eq!(call(&[]).cache_writes, CacheWrites::None);
    assert_eq!(call(&[ONE_HOUR]).cache_writes, CacheWrites::None);
    assert_eq!(call(&[CACHE_CONTROL]).cache_writes, CacheWrites::FiveMinutes);
    assert_eq!(call(&[CACHE_CONTROL, ONE_HOUR]).cache_writes, CacheWrites::OneHour);
    assert_eq!(call(&[]).media_bytes_per_token, None);
    assert_eq!(call(&[DOCUMENT]).media_bytes_per_token, Some(60));
    assert_eq!(call(&[DOCUMENT, PLAIN_TEXT]).media_bytes_per_token, Some(4));
}

#[test]
fn a_line_of_a_batch_is_a_message_at_its_price() {
    let read = |body: Value| {
        Anthropic::read(AnswerFrame {
            operation: BATCH_RESULTS.to_owned(),
            event: None,
            streamed: true,
            status: 200,
            outline: body.to_string(),
        })
    };
    let message = json!({"id": "msg_1", "model": "m", "usage": {"input_tokens": 10, "output_tokens": 2,
        "service_tier": "batch"}});
    let reading = read(json!({"custom_id": "one", "result": {"type": "succeeded", "message": message}})).unwrap();
    assert_eq!(
        (reading.bill_id.as_deref(), reading.model.as_deref()),
        (Some("one"), Some("m"))
    );
    assert_eq!(reading.service_tier.as_deref(), Some("batch"));
    assert_eq!(reading.parts.len(), 1);
    for kind in ["errored", "canceled", "expired"] {
        assert_eq!(read(json!({"custom_id": "one", "result": {"type": kind}})), None);
    }
    assert_eq!(read(json!({"type": "message", "usage": {"input_tokens": 1}})), None);
}

#[test]
fn all_models_of_a_request_are_named() {
    let named = |body: Value| {
        let call = ask(body).unwrap();
        (call.model, call.models, call.any_model)
    };
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let is = |first: &str, others: &[&str], any: bool| (first.to_owned(), names(others), any);
    assert_eq!(
        named(json!({"model": "a", "fallbacks": [{"model": "b"}, "c", {"model": "b"}, {"model": "a"}]})),
        is("a", &["b", "c"], false)
    );
    assert_eq!(named(json!({"models": ["a", "b"]})), is("a", &["b"], false));
    assert_eq!(named(json!({"model": "a", "models": ["b"]})), is("a", &["b"], false));
    assert_eq!(named(json!({"model": "a", "fallbacks": "default"})), is("a", &[], true));
    assert_eq!(named(json!({"model": "a", "fallbacks": []})), is("a", &[], false));
    let advisor = json!({"type": "advisor_20260301", "model": "big"});
    assert_eq!(
        named(json!({"model": "a", "tools": [advisor]})),
        is("a", &["big"], false)
    );
    let unnamed = json!({"type": "advisor_20260301"});
    assert_eq!(named(json!({"model": "a", "tools": [unnamed]})), is("a", &[], true));
    for (body, param) in [
        (json!({"models": []}), "model"),
        (json!({"model": "a", "fallbacks": [{"effort": "low"}]}), "fallbacks"),
        (json!({"model": "a", "fallbacks": [null]}), "fallbacks"),
        (json!({"model": "a", "fallbacks": {"model": "b"}}), "fallbacks"),
        (
            json!({"model": "a", "fallbacks": vec!["b"; FALLBACKS_MAX + 1]}),
            "fallbacks",
        ),
        (
            json!({"model": "a", "fallbacks": [{"model": "b", "max_tokens": -1}]}),
            "fallbacks",
        ),
        (
            json!({"model": "a", "tools": [{"type": "advisor_20260301", "model": 7}]}),
            "tools",
        ),
        (
            json!({"model": "a", "tools": [{"type": "web_search_20250305", "max_uses": -1}]}),
            "tools",
        ),
        (json!({"model": "a", "tools": vec![json!({}); TOOLS_MAX + 1]}), "tools"),
    ] {
        let found = ask(body.clone()).expect_err("a problem").param;
        assert_eq!(found.as_deref(), Some(param));
    }
}

#[test]
fn hosted_tools_are_held_by_what_they_may_bill() {
    let beside = |tools: Value| {
        let call = ask(json!({"model": "a", "tools": tools})).unwrap();
        let parts = call.beside.iter();
        parts.map(|part| (part.model.clone(), counts(part))).collect::<Vec<_>>()
    };
    let search = |more: Value| {
        let mut tool = json!({"type": "web_search_20260209", "name": "web_search"});
        tool.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        tool
    };
    assert_eq!(
        beside(json!([search(json!({}))])),
        [(None, vec![(Kind::WebSearch, 10)])]
    );
    assert_eq!(
        beside(json!([search(json!({"max_uses": 2})), search(json!({"max_uses": 3}))])),
        [(None, vec![(Kind::WebSearch, 5)])]
    );
    assert_eq!(
        beside(json!([{"type": "advisor_20260301", "model": "big", "max_uses": 2, "max_tokens": 1_024}])),
        [(Some("big".to_owned()), vec![(Kind::Output, 2_048)])]
    );
    // A tool of the caller's own is no hosted one, whatever its name and its schema.
    let own =
        json!({"name": "web_search", "input_schema": {"type": "object"}, "parameters": {"model": {"type": "string"}}});
    assert_eq!(beside(json!([own])), []);
}

#[test]
fn a_limit_of_nothing_is_none_and_a_fallbacks_own_counts() {
    let max = |body: Value| ask(body).unwrap().max_output;
    assert_eq!(max(json!({"model": "a", "max_tokens": 0})), None);
    let fallback = |max_tokens: u64| json!([{"model": "b", "max_tokens": max_tokens}]);
    assert_eq!(
        max(json!({"model": "a", "max_tokens": 5, "fallbacks": fallback(9)})),
        Some(9)
    );
    assert_eq!(
        max(json!({"model": "a", "max_tokens": 5, "fallbacks": fallback(3)})),
        Some(5)
    );
    let fast = ask(json!({"model": "a", "fallbacks": [{"model": "b", "speed": "fast"}]})).unwrap();
    assert_eq!(fast.service_tier.as_deref(), Some("fast"));
}

#[test]
fn openrouters_routers_and_variants_are_known_at_its_hosts_alone() {
    let at = |vendor: &str, body: Value| {
        let mut request = request(body, &[]);
        request.vendor = vendor.to_owned();
        let call = Anthropic::inspect(request).unwrap();
        (call.any_model, call.beside.len())
    };
    for (body, openrouter) in [
        (json!({"model": "openrouter/auto"}), (true, 0)),
        (json!({"model": "@preset/own"}), (true, 0)),
        (json!({"model": "a/b:online"}), (false, 1)),
        (json!({"model": "a/b", "models": ["c/d:ONLINE"]}), (false, 1)),
        (
            json!({"model": "a/b", "tools": [{"type": "openrouter:unheard-of"}]}),
            (true, 0),
        ),
        (
            json!({"model": "a/b", "tools": [{"type": "openrouter:datetime"}]}),
            (false, 0),
        ),
    ] {
        assert_eq!(at("openrouter", body.clone()), openrouter, "{body}");
        assert_eq!(at("anthropic", body.clone()), (false, 0), "{body}");
    }
    let fused = json!({"model": "a/b", "plugins": [{"id": "fusion", "models": ["c/d"]}], "preset": "own"});
    assert_eq!(at("openrouter", fused), (true, 0));
}

#[test]
fn code_in_a_container_is_an_unread_fee_unless_a_web_tool_was_used() {
    let unread = |usage: Value, container: Value| {
        frame(
            false,
            json!({"type": "message", "model": "m", "usage": usage, "container": container}),
        )
        .unwrap()
        .unread_fee
    };
    let (plain, container) = (
        json!({"input_tokens": 1, "output_tokens": 1}),
        json!({"id": "container_1"}),
    );
    assert!(!unread(plain.clone(), Value::Null));
    assert!(unread(plain, container.clone()));
    let tools = |tools: Value| json!({"input_tokens": 1, "output_tokens": 1, "server_tool_use": tools});
    assert!(unread(tools(json!({"code_execution_requests": 1})), Value::Null));
    assert!(unread(tools(json!({"web_fetch_requests": 0})), container.clone()));
    assert!(!unread(tools(json!({"web_fetch_requests": 1})), container.clone()));
    assert!(!unread(tools(json!({"web_search_requests": 1})), container));
}

#[test]
fn a_thread_that_goes_on_is_billed_for_what_its_provider_keeps() {
    let continues = |thread: Value| {
        ask(json!({"model": "claude-opus-4-8", "thread": thread}))
            .unwrap()
            .continues
    };
    assert!(continues(json!({"type": "continue", "previous_message_id": "msg_1"})));
    assert!(!continues(json!({"type": "create"})));
    assert!(!continues(Value::Null));
}

#[test]
fn a_model_that_is_not_told_to_think_writes_nothing_unseen() {
    let thoughtless = |body: Value| ask(body).unwrap().thoughtless;
    assert!(thoughtless(json!({"model": "claude-sonnet-4-5"})));
    assert!(thoughtless(
        json!({"model": "anthropic/claude-opus-4.8", "thinking": {"type": "disabled"}})
    ));
    assert!(!thoughtless(
        json!({"model": "claude-sonnet-4-5", "thinking": {"type": "enabled"}})
    ));
    assert!(!thoughtless(
        json!({"model": "claude-opus-4-8", "thinking": {"type": "adaptive"}})
    ));
    assert!(!thoughtless(json!({"model": "claude-next-9"})), "not known");
    assert!(!thoughtless(
        json!({"model": "claude-haiku-4-5", "models": ["claude-next-9"]})
    ));
}
