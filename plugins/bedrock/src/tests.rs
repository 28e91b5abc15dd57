#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_guest::{AnswerFrame, Call, EditPoint, Ending, Kind, Problem, Provider, Reading, Refusal, Request};
use serde_json::{Value, json};

use crate::Bedrock;
use crate::info::{CONVERSE, CONVERSE_STREAM, INVOKE, INVOKE_STREAM};

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";

fn ask(operation: &str, model: &str, headers: &[(&str, &str)], body: Value) -> Result<Call, Problem> {
    Bedrock::inspect(Request {
        method: "POST".to_owned(),
        vendor: String::new(),
        path: format!("/model/{model}/{operation}"),
        operation: operation.to_owned(),
        path_model: Some(model.to_owned()),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        outline: body.to_string(),
        markers: vec![],
        characters: vec![],
    })
}

fn frame(operation: &str, event: Option<&str>, body: Value) -> Option<Reading> {
    Bedrock::read(AnswerFrame {
        operation: operation.to_owned(),
        event: event.map(str::to_owned),
        streamed: matches!(operation, CONVERSE_STREAM | INVOKE_STREAM),
        status: 200,
        outline: body.to_string(),
    })
}

/// The counts of a reading's one part, without the zeros.
fn counts(reading: &Reading) -> Vec<(Kind, u64)> {
    assert_eq!(reading.parts.len(), 1, "{reading:?}");
    let counts = reading.parts[0].usage.iter().filter(|count| count.units > 0);
    counts.map(|count| (count.kind, count.units)).collect()
}

fn limit_of(call: &Call) -> Option<&str> {
    match call.edits.as_slice() {
        [EditPoint::MaxOutput(path)] => Some(path),
        [] => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_model_is_the_paths() {
    for (given, model) in [
        (CLAUDE, CLAUDE),
        ("amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-70b-instruct-v1:0",
            "meta.llama3-70b-instruct-v1:0",
        ),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0",
            "eu.amazon.nova-lite-v1:0",
        ),
        (
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
            "a1b2c3d4e5f6",
        ),
    ] {
        let call = ask(CONVERSE, given, &[], json!({"messages": [{}], "model": "another"})).unwrap();
        assert_eq!((call.model.as_str(), call.stream), (model, false));
    }
    assert_eq!(ask(CONVERSE, " ", &[], json!({})).unwrap_err().code, "invalid_value");
    assert!(ask(CONVERSE_STREAM, CLAUDE, &[], json!({})).unwrap().stream);
    assert!(ask(INVOKE_STREAM, CLAUDE, &[], json!({})).unwrap().stream);
}

#[test]
fn each_family_limits_its_output_in_its_own_place() {
    for (model, body, path, max) in [
        (CLAUDE, json!({"max_tokens": 7}), Some("max_tokens"), Some(7)),
        (CLAUDE, json!({}), Some("max_tokens"), None),
        (
            "amazon.nova-micro-v1:0",
            json!({"inferenceConfig": {"maxTokens": 8}}),
            Some("inferenceConfig.maxTokens"),
            Some(8),
        ),
        (
            "amazon.titan-text-express-v1",
            json!({"textGenerationConfig": {"maxTokenCount": 9}}),
            Some("textGenerationConfig.maxTokenCount"),
            Some(9),
        ),
        (
            "meta.llama3-8b-instruct-v1:0",
            json!({"prompt": "x"}),
            Some("max_gen_len"),
            None,
        ),
        (
            "meta.llama3-8b-instruct-v1:0",
            json!({"max_gen_len": 10}),
            Some("max_gen_len"),
            Some(10),
        ),
        (
            "mistral.mistral-large-2402-v1:0",
            json!({"max_tokens": 11}),
            Some("max_tokens"),
            Some(11),
        ),
        (
            "anthropic.claude-v2",
            json!({"max_tokens_to_sample": 12}),
            Some("max_tokens_to_sample"),
            Some(12),
        ),
        ("a1b2c3d4e5f6", json!({}), None, None),
        (
            "a1b2c3d4e5f6",
            json!({"max_tokens": 3, "max_gen_len": 5}),
            Some("max_gen_len"),
            Some(5),
        ),
        ("cohere.embed-english-v3", json!({"texts": ["a"]}), None, Some(0)),
        (
            "amazon.nova-canvas-v1:0",
            json!({"taskType": "TEXT_IMAGE"}),
            None,
            Some(0),
        ),
    ] {
        let call = ask(INVOKE, model, &[], body).unwrap();
        assert_eq!((limit_of(&call), call.max_output), (path, max), "{model}");
    }
    let call = ask(
        CONVERSE,
        "meta.llama3-8b-instruct-v1:0",
        &[],
        json!({"max_gen_len": 10}),
    )
    .unwrap();
    assert_eq!(
        (limit_of(&call), call.max_output),
        (Some("inferenceConfig.maxTokens"), None)
    );
    let call = ask(
        INVOKE,
        "cohere.command-text-v14",
        &[],
        json!({"num_generations": 4, "max_tokens": 5}),
    )
    .unwrap();
    assert_eq!((call.choices, call.max_output), (4, Some(5)));
    for (body, param) in [
        (
            json!({"inferenceConfig": {"maxTokens": -1}}),
            "inferenceConfig.maxTokens",
        ),
        (
            json!({"inferenceConfig": {"maxTokens": 1.5}}),
            "inferenceConfig.maxTokens",
        ),
        (json!({"serviceTier": {"type": 7}}), "serviceTier.type"),
    ] {
        assert_eq!(
            ask(CONVERSE, CLAUDE, &[], body).unwrap_err().param.as_deref(),
            Some(param)
        );
    }
}

#[test]
fn tiers_are_asked_for_in_the_body_or_in_a_header() {
    let tier = |headers: &[(&str, &str)], body| ask(CONVERSE, CLAUDE, headers, body).unwrap().service_tier;
    assert_eq!(
        tier(&[], json!({"serviceTier": {"type": "flex"}})).as_deref(),
        Some("flex")
    );
    assert_eq!(
        tier(&[("x-amzn-bedrock-service-tier", "priority")], json!({})).as_deref(),
        Some("priority")
    );
    assert_eq!(
        tier(
            &[],
            json!({"serviceTier": {"type": "flex"}, "performanceConfig": {"latency": "optimized"}})
        )
        .as_deref(),
        Some("optimized")
    );
    assert_eq!(tier(&[], json!({"performanceConfig": {"latency": "standard"}})), None);
}

#[test]
fn cached_tokens_lie_outside_the_input_and_writes_tell_how_long_they_last() {
    let usage = json!({"inputTokens": 16, "outputTokens": 9, "totalTokens": 2436, "cacheReadInputTokens": 11,
        "cacheWriteInputTokens": 2400, "cacheDetails": [{"inputTokens": 2000, "ttl": "1h"}, {"inputTokens": 300, "ttl": "5m"}]});
    let reading = frame(CONVERSE, None, json!({"usage": usage})).unwrap();
    let expected = [
        (Kind::Input, 16),
        (Kind::Output, 9),
        (Kind::CacheRead, 11),
        (Kind::CacheWrite5m, 400),
        (Kind::CacheWrite1h, 2000),
    ];
    assert_eq!(counts(&reading), expected);
    assert!(!reading.final_, "a whole answer has no last event");
    let plain = frame(
        CONVERSE,
        None,
        json!({"usage": {"inputTokens": 1, "outputTokens": 2, "cacheWriteInputTokens": 3}}),
    );
    assert_eq!(
        counts(&plain.unwrap()),
        [(Kind::Input, 1), (Kind::Output, 2), (Kind::CacheWrite, 3)]
    );
    // Both names at once, as the service has sent them.
    let both = json!({"inputTokens": 4, "outputTokens": 5, "cacheReadInputTokenCount": 6, "cacheReadInputTokens": 6});
    assert_eq!(
        counts(&frame(CONVERSE, None, json!({"usage": both})).unwrap()),
        [(Kind::Input, 4), (Kind::Output, 5), (Kind::CacheRead, 6)]
    );
}

#[test]
fn reports_that_contradict_themselves_are_refused_and_nothing_is_taken_in_their_place() {
    for usage in [
        json!({"inputTokens": -1, "outputTokens": 1}),
        json!({"inputTokens": 1, "outputTokens": 1_000_000_001}),
        json!({"inputTokens": 1.5, "outputTokens": 1}),
        json!({"inputTokens": 10, "outputTokens": 1, "totalTokens": 9}),
        json!({"inputTokens": 1, "cacheWriteInputTokens": 5, "cacheDetails": [{"inputTokens": 6, "ttl": "1h"}]}),
        json!({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 6}}),
    ] {
        let headers = json!({"x-amzn-bedrock-input-token-count": "5"});
        let reading = frame(INVOKE, None, json!({"usage": usage, "@headers": headers})).unwrap();
        assert!(reading.contradictory && reading.parts.is_empty(), "{usage}");
    }
    assert_eq!(frame(INVOKE, None, json!({"usage": {}})), None, "a report of nothing");
}

#[test]
fn invoked_models_count_in_their_own_ways() {
    let read = |body| counts(&frame(INVOKE, None, body).unwrap());
    let claude = json!({"id": "msg", "type": "message", "model": "claude-sonnet-4-5-20250929", "usage": {"input_tokens": 3,
        "cache_creation_input_tokens": 20, "cache_read_input_tokens": 4, "output_tokens": 5,
        "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 8}}});
    assert_eq!(
        read(claude.clone()),
        [
            (Kind::Input, 3),
            (Kind::Output, 5),
            (Kind::CacheRead, 4),
            (Kind::CacheWrite5m, 12),
            (Kind::CacheWrite1h, 8)
        ]
    );
    let reading = frame(INVOKE, None, claude).unwrap();
    assert_eq!(reading.model, None);
    assert_eq!(
        read(json!({"usage": {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokenCount": 3}})),
        [(Kind::Input, 1), (Kind::Output, 2), (Kind::CacheRead, 3)]
    );
    assert_eq!(
        read(json!({"inputTextTokenCount": 5, "results": [{"tokenCount": 6}, {"tokenCount": 7}]})),
        [(Kind::Input, 5), (Kind::Output, 13)]
    );
    assert_eq!(read(json!({"inputTextTokenCount": 5})), [(Kind::Input, 5)]);
    assert_eq!(
        read(json!({"prompt_token_count": 8, "generation_token_count": 9})),
        [(Kind::Input, 8), (Kind::Output, 9)]
    );
    assert_eq!(
        read(
            json!({"usage": {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}})
        ),
        [(Kind::Input, 6), (Kind::CacheRead, 4), (Kind::Output, 2)]
    );
    assert_eq!(read(json!({"images": [null, null]})), [(Kind::Image, 2)]);
    assert_eq!(
        read(json!({"results": [{"relevance_score": 0.5}, {}]})),
        [(Kind::Request, 1)]
    );
}

#[test]
fn headers_count_where_the_body_does_not() {
    let headers = json!({"x-amzn-bedrock-input-token-count": "21", "x-amzn-bedrock-output-token-count": "34",
        "x-amzn-bedrock-cache-read-input-token-count": "0", "x-amzn-bedrock-service-tier": "flex"});
    let reading = frame(INVOKE, None, json!({"@headers": headers, "generations": [{}]})).unwrap();
    assert_eq!(counts(&reading), [(Kind::Input, 21), (Kind::Output, 34)]);
    assert_eq!(reading.service_tier.as_deref(), Some("flex"));
    let body = json!({"@headers": headers, "prompt_token_count": 8, "generation_token_count": 9});
    assert_eq!(
        counts(&frame(INVOKE, None, body).unwrap()),
        [(Kind::Input, 8), (Kind::Output, 9)]
    );
    // A stream tells its counts at its end.
    let begun = frame(INVOKE_STREAM, Some("chunk"), json!({"@headers": headers})).unwrap();
    assert!(begun.parts.is_empty());
    let wrong = json!({"@headers": {"x-amzn-bedrock-input-token-count": "many"}});
    let refused = frame(INVOKE, None, wrong).unwrap();
    assert!(refused.contradictory && refused.parts.is_empty());
}

#[test]
fn streams_end_with_their_counts() {
    let event = |name, body| frame(CONVERSE_STREAM, Some(name), body);
    assert_eq!(event("messageStart", json!({})), None);
    assert_eq!(event("messageStop", json!({})), None);
    let usage = json!({"inputTokens": 15, "outputTokens": 142, "totalTokens": 157});
    let last = event("metadata", json!({"usage": usage, "serviceTier": {"type": "priority"}})).unwrap();
    assert!(last.final_ && !last.failed);
    assert_eq!(counts(&last), [(Kind::Input, 15), (Kind::Output, 142)]);
    assert_eq!(last.service_tier.as_deref(), Some("priority"));

    let chunk = |body| frame(INVOKE_STREAM, Some("chunk"), body);
    let start = chunk(
        json!({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 7, "output_tokens": 1,
        "cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 9}}}}),
    );
    let start = start.unwrap();
    assert!(!start.final_);
    assert_eq!(
        counts(&start),
        [(Kind::Input, 7), (Kind::Output, 1), (Kind::CacheWrite1h, 9)]
    );
    let metrics = json!({"inputTokenCount": 7, "outputTokenCount": 126, "invocationLatency": 4069, "firstByteLatency": 1117,
        "cacheReadInputTokenCount": 14486, "cacheWriteInputTokenCount": 9});
    let stop = chunk(json!({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics})).unwrap();
    assert!(stop.final_);
    assert_eq!(
        counts(&stop),
        [
            (Kind::Input, 7),
            (Kind::Output, 126),
            (Kind::CacheRead, 14486),
            (Kind::CacheWrite, 9)
        ]
    );
    let nova = chunk(json!({"metadata": {"usage": {"inputTokens": 2, "outputTokens": 3}}})).unwrap();
    assert_eq!(counts(&nova), [(Kind::Input, 2), (Kind::Output, 3)]);
}

#[test]
fn exceptions_end_a_stream_as_failed() {
    for (event, body) in [
        ("throttlingException", json!({"usage": {"inputTokens": 1}})),
        ("someNewException", json!({})),
        ("error", json!({})),
        ("chunk", json!({"type": "error"})),
    ] {
        let reading = frame(INVOKE_STREAM, Some(event), body).unwrap();
        assert!(reading.failed && reading.final_ && reading.parts.is_empty(), "{event}");
    }
}

#[test]
fn a_cut_stream_ends_with_an_exception() {
    for (ending, name) in [
        (Ending::BudgetExceeded, "validationException"),
        (Ending::Denied, "validationException"),
        (Ending::UpstreamFailed, "modelStreamErrorException"),
        (Ending::ShuttingDown, "serviceUnavailableException"),
    ] {
        let bytes = Bedrock::terminal(CONVERSE_STREAM, ending, "why", None);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(name) && text.contains(r#"{"message":"why"}"#), "{text}");
    }
}

#[test]
fn refusals_bear_the_names_that_sdks_look_for() {
    for (status, code, name) in [
        (429, "budget_exceeded", "AccessDeniedException"),
        (429, "budget_held", "ThrottlingException"),
        (403, "key_blocked", "AccessDeniedException"),
        (400, "invalid_json", "ValidationException"),
        (404, "no_route", "ResourceNotFoundException"),
        (502, "upstream_failed", "InternalServerException"),
        (503, "breaker_open", "ServiceUnavailableException"),
    ] {
        let object = r#"{"type":"proxy_error","message":"why","daily_limit":2}"#.to_owned();
        let refusal = Refusal {
            status,
            code: code.to_owned(),
            object,
        };
        let body = Bedrock::error_body(CONVERSE, &refusal);
        assert_eq!(body.last(), Some(&b'\n'));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["__type"], &body["code"]), (&json!(name), &json!(name)));
        assert_eq!(
            (&body["message"], &body["error"]["message"]),
            (&json!("why"), &json!("why"))
        );
        assert_eq!(body["error"]["daily_limit"], 2);
    }
}

#[test]
fn routers_and_stored_prompts_choose_their_model_elsewhere() {
    for (given, any) in [
        (CLAUDE, false),
        (
            "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1",
            true,
        ),
        ("arn:aws:bedrock:us-east-1:123456789012:prompt-router/own", true),
        ("arn:aws:bedrock:us-east-1:123456789012:prompt/PROMPT1:2", true),
        (
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/prompt",
            false,
        ),
        ("prompt/own", false),
    ] {
        assert_eq!(ask(CONVERSE, given, &[], json!({})).unwrap().any_model, any, "{given}");
    }
    let trace = json!({"promptRouter": {"invokedModelId": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"}});
    let reading = frame(CONVERSE, None, json!({"trace": trace, "usage": {"inputTokens": 1}})).unwrap();
    assert_eq!(reading.model.as_deref(), Some("amazon.nova-lite-v1:0"));
}

#[test]
fn a_guardrail_is_a_fee_that_is_not_read() {
    let unread = |body: Value| frame(CONVERSE, None, body).is_some_and(|reading| reading.unread_fee);
    assert!(unread(json!({"trace": {"guardrail": {}}, "usage": {"inputTokens": 1}})));
    assert!(unread(json!({"stopReason": "guardrail_intervened"})));
    assert!(unread(json!({"amazon-bedrock-guardrailAction": "NONE"})));
    assert!(!unread(json!({"stopReason": "end_turn", "usage": {"inputTokens": 1}})));
}

#[test]
fn absent_counts_are_not_told_as_zero_and_limits_of_nothing_are_none() {
    let metrics = json!({"amazon-bedrock-invocationMetrics": {"inputTokenCount": 7}});
    let reading = frame(INVOKE_STREAM, Some("chunk"), metrics).unwrap();
    assert!(!reading.contradictory);
    let kinds: Vec<Kind> = reading.parts[0].usage.iter().map(|count| count.kind).collect();
    assert_eq!(kinds, [Kind::Input]);
    let plain = json!({"usage": {"prompt_tokens": 5, "completion_tokens": 1}});
    let kinds = |reading: &Reading| {
        reading.parts[0]
            .usage
            .iter()
            .map(|count| count.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&frame(INVOKE, None, plain).unwrap()), [Kind::Input, Kind::Output]);
    let max = |operation, body| ask(operation, CLAUDE, &[], body).unwrap().max_output;
    assert_eq!(max(CONVERSE, json!({"inferenceConfig": {"maxTokens": 0}})), None);
    assert_eq!(max(INVOKE, json!({"max_tokens": 0})), None);
    assert_eq!(max(INVOKE, json!({"max_tokens": 0, "max_gen_len": 9})), None);
}

#[test]
fn more_documents_than_one_query_takes_are_refused() {
    let rank = |count: usize| {
        ask(
            INVOKE,
            "cohere.rerank-v3-5:0",
            &[],
            json!({"documents": vec![Value::Null; count]}),
        )
    };
    assert!(rank(100).is_ok());
    assert_eq!(rank(101).unwrap_err().param.as_deref(), Some("documents"));
}
