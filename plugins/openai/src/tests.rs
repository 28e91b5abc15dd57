#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_guest::{
    AnswerFrame, CacheWrites, Call, Count, EditPoint, Ending, Kind, Part, Problem, Provider, Reading, Refusal, Request,
};
use serde_json::{Value, json};

use crate::OpenAi;
use crate::info::{
    CHAT, COMPACT, COMPLETIONS, EMBEDDINGS, FILE_CONTENT, IMAGE_VARIATIONS, IMAGES, INPUT_AUDIO, REALTIME, RERANK,
    RESPONSES, RETRIEVE, SPEECH, TRANSCRIPTIONS,
};

fn ask(operation: &str, body: Value) -> Result<Call, Problem> {
    ask_with(operation, body, &[], &[])
}

/// The same with markers found and characters counted in the body.
fn ask_with(operation: &str, body: Value, markers: &[&str], characters: &[(&str, u64)]) -> Result<Call, Problem> {
    OpenAi::inspect(Request {
        method: "POST".to_owned(),
        vendor: String::new(),
        path: "/v1/x".to_owned(),
        operation: operation.to_owned(),
        path_model: None,
        headers: vec![],
        outline: body.to_string(),
        markers: markers.iter().map(|marker| (*marker).to_owned()).collect(),
        characters: characters
            .iter()
            .map(|(path, count)| ((*path).to_owned(), *count))
            .collect(),
    })
}

pub(crate) fn frame(streamed: bool, body: &str) -> Option<Reading> {
    frame_of(CHAT, streamed, body)
}

pub(crate) fn frame_of(operation: &str, streamed: bool, body: &str) -> Option<Reading> {
    OpenAi::read(AnswerFrame {
        operation: operation.to_owned(),
        event: None,
        streamed,
        status: 200,
        outline: body.to_owned(),
    })
}

/// How the tests list kinds; the order in which a part counts them means nothing.
const ORDER: [Kind; 10] = [
    Kind::Input,
    Kind::CacheRead,
    Kind::CacheReadAudio,
    Kind::CacheReadImage,
    Kind::CacheWrite5m,
    Kind::Output,
    Kind::AudioInput,
    Kind::AudioOutput,
    Kind::ImageInput,
    Kind::ImageOutput,
];

/// The counts of a reading's one part, without the zeros.
pub(crate) fn counts(reading: &Reading) -> Vec<(Kind, u64)> {
    assert_eq!(reading.parts.len(), 1, "{reading:?}");
    listed(&reading.parts[0])
}

pub(crate) fn listed(part: &Part) -> Vec<(Kind, u64)> {
    let told = part.usage.iter().filter(|count| count.units > 0);
    let mut counts: Vec<(Kind, u64)> = told.map(|count| (count.kind, count.units)).collect();
    counts.sort_by_key(|(kind, _)| ORDER.iter().position(|one| one == kind).unwrap_or(ORDER.len()));
    counts
}

fn used(usage: Value) -> Reading {
    frame(false, &json!({"id": "c", "model": "m", "usage": usage}).to_string()).unwrap()
}

#[test]
fn a_chat_names_its_limit_in_either_way() {
    let limit = |body: Value| {
        let call = ask(CHAT, body).unwrap();
        let at = call.edits.iter().find_map(|edit| match edit {
            EditPoint::MaxOutput(path) => Some(path.clone()),
            _ => None,
        });
        (call.max_output, at.unwrap())
    };
    let at = |path: &str| path.to_owned();
    assert_eq!(limit(json!({"model": "m"})), (None, at("max_completion_tokens")));
    assert_eq!(
        limit(json!({"model": "m", "max_tokens": 5})),
        (Some(5), at("max_tokens"))
    );
    assert_eq!(
        limit(json!({"model": "m", "max_completion_tokens": 7})),
        (Some(7), at("max_completion_tokens"))
    );
    assert_eq!(
        limit(json!({"model": "m", "max_tokens": 9, "max_completion_tokens": 7})),
        (Some(9), at("max_completion_tokens"))
    );
    assert_eq!(
        limit(json!({"model": "m", "max_tokens": null})),
        (None, at("max_completion_tokens"))
    );
}

#[test]
fn each_operation_has_its_own_limit() {
    let call = ask(
        RESPONSES,
        json!({"model": "m", "max_output_tokens": 11, "max_tokens": 3}),
    )
    .unwrap();
    assert_eq!(call.max_output, Some(11));
    assert!(
        call.edits
            .contains(&EditPoint::MaxOutput("max_output_tokens".to_owned()))
    );
    let call = ask(
        COMPLETIONS,
        json!({"model": "m", "max_tokens": 3, "n": 2, "best_of": 4}),
    )
    .unwrap();
    assert_eq!((call.max_output, call.choices), (Some(3), 4));
    let call = ask(EMBEDDINGS, json!({"model": "m", "stream": true})).unwrap();
    assert_eq!((call.max_output, call.stream), (Some(0), false));
    assert_eq!(call.edits, [EditPoint::Model("model".to_owned())]);
    assert!(ask(COMPACT, json!({"model": "m"})).is_ok());
}

#[test]
fn over_a_websocket_a_message_names_its_model_and_the_query_only_else() {
    let ask = |body: Value| {
        OpenAi::inspect(Request {
            method: "WEBSOCKET".to_owned(),
            vendor: String::new(),
            path: "/v1/responses".to_owned(),
            operation: RESPONSES.to_owned(),
            path_model: Some("of-the-query".to_owned()),
            headers: vec![],
            outline: body.to_string(),
            markers: vec![],
            characters: vec![],
        })
    };
    let named = ask(json!({"type": "response.create", "model": "of-the-message"})).unwrap();
    assert_eq!((named.model.as_str(), named.stream), ("of-the-message", true));
    assert_eq!(ask(json!({"type": "response.create"})).unwrap().model, "of-the-query");
    let refused = ask(json!({"model": "of-the-message", "background": true})).unwrap_err();
    assert_eq!(refused.param.as_deref(), Some("background"));
}

#[test]
fn bad_values_are_problems_that_name_the_parameter() {
    let huge = 9_007_199_254_740_993_u64;
    for (operation, body, param) in [
        (CHAT, json!({}), "model"),
        (CHAT, json!({"model": null}), "model"),
        (CHAT, json!({"model": 5}), "model"),
        (CHAT, json!({"model": ""}), "model"),
        (CHAT, json!({"model": "m", "max_tokens": -1}), "max_tokens"),
        (CHAT, json!({"model": "m", "max_tokens": 1.5}), "max_tokens"),
        (CHAT, json!({"model": "m", "max_tokens": huge}), "max_tokens"),
        (CHAT, json!({"model": "m", "max_tokens": "5"}), "max_tokens"),
        (
            CHAT,
            json!({"model": "m", "max_completion_tokens": -5}),
            "max_completion_tokens",
        ),
        (
            RESPONSES,
            json!({"model": "m", "max_output_tokens": true}),
            "max_output_tokens",
        ),
        (CHAT, json!({"model": "m", "n": 0}), "n"),
        (CHAT, json!({"model": "m", "n": 100_000}), "n"),
        (COMPLETIONS, json!({"model": "m", "best_of": -1}), "best_of"),
        (CHAT, json!({"model": "m", "stream": "yes"}), "stream"),
        (CHAT, json!({"model": "m", "service_tier": 1}), "service_tier"),
        (
            CHAT,
            json!({"model": "m", "stream": true, "stream_options": 1}),
            "stream_options",
        ),
        (
            CHAT,
            json!({"model": "m", "stream": true, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
        ),
    ] {
        let problem = ask(operation, body.clone()).expect_err("a problem");
        assert_eq!(problem.param.as_deref(), Some(param), "{body}");
    }
    assert_eq!(ask(CHAT, json!([])).unwrap_err().code, "invalid_request_body");
    // A plain GET names no model; over a WebSocket the session does.
    assert_eq!(ask(REALTIME, json!({})).unwrap_err().code, "missing_required_parameter");
}

#[test]
fn usage_is_asked_for_only_where_the_client_did_not() {
    let asks = |operation: &str, body: Value| {
        let call = ask(operation, body).unwrap();
        call.edits.iter().any(|edit| matches!(edit, EditPoint::StreamUsage(_)))
    };
    assert!(asks(CHAT, json!({"model": "m", "stream": true})));
    assert!(asks(COMPLETIONS, json!({"model": "m", "stream": true})));
    assert!(asks(
        CHAT,
        json!({"model": "m", "stream": true, "stream_options": null})
    ));
    assert!(asks(
        CHAT,
        json!({"model": "m", "stream": true, "stream_options": {"include_usage": false}})
    ));
    assert!(!asks(
        CHAT,
        json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}})
    ));
    assert!(!asks(CHAT, json!({"model": "m"})));
    assert!(!asks(RESPONSES, json!({"model": "m", "stream": true})));
}

#[test]
fn cached_and_written_tokens_lie_inside_the_prompt() {
    let reading = used(
        json!({"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010,
        "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 200},
        "completion_tokens_details": {"reasoning_tokens": 4}}),
    );
    assert_eq!(
        counts(&reading),
        [
            (Kind::Input, 500),
            (Kind::CacheRead, 300),
            (Kind::CacheWrite5m, 200),
            (Kind::Output, 10)
        ]
    );
    assert_eq!(reading.parts[0].reasoning, Some(4));
}

#[test]
fn audio_lies_inside_both_sides() {
    let reading = used(json!({"prompt_tokens": 320, "completion_tokens": 180,
        "prompt_tokens_details": {"cached_tokens": 12, "audio_tokens": 240},
        "completion_tokens_details": {"reasoning_tokens": 15, "audio_tokens": 90}}));
    assert_eq!(
        counts(&reading),
        [
            (Kind::Input, 68),
            (Kind::CacheRead, 12),
            (Kind::Output, 90),
            (Kind::AudioInput, 240),
            (Kind::AudioOutput, 90)
        ]
    );
    let cached = used(json!({"prompt_tokens": 100, "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 90, "audio_tokens": 80}}));
    assert_eq!(
        counts(&cached),
        [
            (Kind::CacheRead, 20),
            (Kind::CacheReadAudio, 70),
            (Kind::Output, 1),
            (Kind::AudioInput, 10)
        ],
        "what cannot be fresh was cached"
    );
}

#[test]
fn thinking_that_only_the_total_counts_is_output() {
    assert_eq!(
        counts(&used(
            json!({"prompt_tokens": 7, "completion_tokens": 12, "total_tokens": 402})
        )),
        [(Kind::Input, 7), (Kind::Output, 395)]
    );
}

#[test]
fn other_hosts_names_for_the_same() {
    let deepseek = json!({"prompt_tokens": 50, "completion_tokens": 2, "prompt_cache_hit_tokens": 40, "prompt_cache_miss_tokens": 10});
    assert_eq!(
        counts(&used(deepseek)),
        [(Kind::Input, 10), (Kind::CacheRead, 40), (Kind::Output, 2)]
    );
    let groq = frame(
        true,
        r#"{"id":"c","choices":[{"index":0}],"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":4}}}"#,
    )
    .unwrap();
    assert_eq!(counts(&groq), [(Kind::Input, 3), (Kind::Output, 4)]);
    let embeddings = used(json!({"prompt_tokens": 8, "total_tokens": 8}));
    assert_eq!(counts(&embeddings), [(Kind::Input, 8)]);
}

#[test]
fn reported_costs_are_kept_as_decimals() {
    let cost = |usage: Value| used(usage).reported_cost;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(cost(json!({"prompt_tokens": 1, "cost": 0.00014})), text("0.00014"));
    assert_eq!(
        cost(json!({"prompt_tokens": 1, "cost": {"total_cost": 0.006, "request_cost": 0.005}})),
        text("0.006")
    );
    assert_eq!(
        cost(json!({"prompt_tokens": 1, "cost_in_usd_ticks": 37_756_000})),
        text("0.0037756")
    );
    assert_eq!(cost(json!({"prompt_tokens": 1, "cost": null})), None);
    assert_eq!(cost(json!({"prompt_tokens": 1, "cost": -1})), None);
}

#[test]
fn absurd_reports_are_no_reports() {
    for usage in [
        json!({"prompt_tokens": -1, "completion_tokens": 1}),
        json!({"prompt_tokens": 1.5, "completion_tokens": 1}),
        json!({"prompt_tokens": 2_000_000_000_u64, "completion_tokens": 1}),
        json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 5_000_000_000_u64}),
        json!({"prompt_tokens": "one"}),
        json!({"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 11}}),
        json!({"prompt_tokens": 10, "completion_tokens": 1, "completion_tokens_details": {"audio_tokens": 2}}),
        json!([1, 2, 3]),
        json!({}),
    ] {
        let reading = used(usage.clone());
        assert!(reading.parts.is_empty(), "{usage}");
        assert_eq!(reading.model.as_deref(), Some("m"), "the rest is read all the same");
    }
    let twice = r#"{"model":"m","usage":{"prompt_tokens":1,"prompt_tokens":900}}"#;
    assert!(frame(false, twice).unwrap().parts.is_empty());
}

#[test]
fn a_usage_chunk_says_nothing_else() {
    let usage = r#""usage":{"prompt_tokens":1,"completion_tokens":2}"#;
    let alone = frame(true, &format!(r#"{{"id":"c","model":"m","choices":[],{usage}}}"#)).unwrap();
    assert!(alone.usage_only && alone.final_);
    let beside = frame(true, &format!(r#"{{"id":"c","choices":[{{"index":0}}],{usage}}}"#)).unwrap();
    assert!(!beside.usage_only && !beside.final_);
    let whole = frame(false, &format!(r#"{{"choices":[],{usage}}}"#)).unwrap();
    assert!(!whole.usage_only);
    // Azure opens its streams with a chunk of filter results.
    let azure = frame(true, r#"{"id":"","model":"","choices":[]}"#);
    assert_eq!(azure, None);
}

#[test]
fn a_response_bears_usage_however_it_ends() {
    for (kind, status, failed) in [
        ("response.completed", "completed", false),
        ("response.incomplete", "incomplete", false),
        ("response.failed", "failed", true),
    ] {
        let event = json!({"type": kind, "response": {"id": "r", "model": "m", "status": status, "service_tier": "flex",
            "usage": {"input_tokens": 30, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 6},
            "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 35},
            "tool_usage": {"web_search": {"num_requests": 2}}}});
        let reading = frame_of(RESPONSES, true, &event.to_string()).unwrap();
        assert!(reading.final_, "{kind}");
        assert_eq!(
            (reading.failed, reading.service_tier.as_deref()),
            (failed, Some("flex"))
        );
        assert_eq!(
            (reading.bill_id.as_deref(), reading.model.as_deref()),
            (Some("r"), Some("m"))
        );
        assert_eq!(
            counts(&reading),
            [
                (Kind::Input, 20),
                (Kind::CacheRead, 4),
                (Kind::CacheWrite5m, 6),
                (Kind::Output, 5),
                (Kind::WebSearch, 2)
            ]
        );
    }
    let created = frame(
        true,
        r#"{"type":"response.created","response":{"id":"r","model":"m","status":"in_progress","usage":null}}"#,
    )
    .unwrap();
    assert!(created.parts.is_empty() && !created.final_);
}

#[test]
fn what_a_hold_needs_is_told() {
    let call = ask(CHAT, json!({"model": "m"})).unwrap();
    assert_eq!(call.cache_writes, CacheWrites::Unasked(1_024));
    assert!(call.input_kinds.is_empty() && call.output_kinds.is_empty() && !call.continues);
    let spoken = ask(CHAT, json!({"model": "m", "modalities": ["text", "audio"]})).unwrap();
    assert_eq!(spoken.output_kinds, [Kind::AudioOutput]);
    let heard = ask_with(CHAT, json!({"model": "m"}), &[INPUT_AUDIO], &[]).unwrap();
    assert_eq!(heard.input_kinds, [Kind::AudioInput]);
    let next = |body: Value| ask(RESPONSES, body).unwrap();
    assert!(next(json!({"model": "m", "previous_response_id": "r"})).continues);
    assert!(next(json!({"model": "m", "conversation": {"id": "c"}})).continues);
    assert!(!next(json!({"model": "m", "conversation": null, "previous_response_id": null})).continues);
    assert!(next(json!({"model": "m", "background": true})).background);
    assert!(!next(json!({"model": "m", "background": false})).background);
}

#[test]
fn images_are_held_by_size_and_quality() {
    let call = |body: Value| ask(IMAGES, body).unwrap();
    let gpt = call(json!({"model": "gpt-image-1", "size": "1024x1024", "quality": "low", "n": 2, "partial_images": 3}));
    assert_eq!((gpt.max_output, gpt.choices, gpt.service_tier), (Some(572), 2, None));
    assert_eq!(
        gpt.units,
        [Count {
            kind: Kind::Image,
            units: 2
        }]
    );
    assert_eq!(call(json!({"model": "gpt-image-1"})).max_output, Some(6_240));
    for (body, tier) in [
        (json!({"model": "dall-e-3"}), None),
        (
            json!({"model": "dall-e-3", "quality": "hd", "size": "1024x1024"}),
            Some("hd"),
        ),
        (json!({"model": "dall-e-3", "size": "1024x1792"}), Some("wide")),
        (
            json!({"model": "dall-e-3", "quality": "hd", "size": "1024x1792"}),
            Some("hd_wide"),
        ),
        (json!({"model": "dall-e-2", "size": "256x256"}), Some("256x256")),
    ] {
        assert_eq!(call(body.clone()).variant.as_deref(), tier, "{body}");
    }
    assert_eq!(ask(IMAGE_VARIATIONS, json!({})).unwrap().model, "dall-e-2");
    assert_eq!(ask(IMAGES, json!({})).unwrap_err().param.as_deref(), Some("model"));
    assert_eq!(
        ask(IMAGES, json!({"model": "m", "size": 5}))
            .unwrap_err()
            .param
            .as_deref(),
        Some("size")
    );
}

#[test]
fn speech_and_recordings_are_held_in_their_units() {
    let spoken = ask_with(SPEECH, json!({"model": "tts-1"}), &[], &[("input", 11)]).unwrap();
    let units = |kind, units| Count { kind, units };
    assert_eq!(spoken.units, [units(Kind::Character, 11), units(Kind::AudioOutput, 17)]);
    assert!(
        !spoken.stream
            && ask(SPEECH, json!({"model": "m", "stream_format": "sse"}))
                .unwrap()
                .stream
    );
    let file = json!({"model": "whisper-1", "file": [{"bytes": 8_001, "type": "audio/mpeg"}]});
    assert_eq!(ask(TRANSCRIPTIONS, file).unwrap().units, [units(Kind::Second, 3)]);
}

#[test]
fn media_are_counted_by_their_kinds() {
    let read = |operation: &str, body: Value| counts(&frame_of(operation, false, &body.to_string()).unwrap());
    let image = json!({"data": [{}], "usage": {"input_tokens": 50, "output_tokens": 272,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}});
    assert_eq!(
        read(IMAGES, image.clone()),
        [(Kind::Input, 10), (Kind::ImageInput, 40), (Kind::ImageOutput, 272)]
    );
    assert_eq!(
        read(CHAT, image),
        [(Kind::Input, 10), (Kind::Output, 272), (Kind::ImageInput, 40)],
        "what came in is counted as it is reported; what went out is text unless it is told"
    );
    assert_eq!(read(IMAGES, json!({"data": [{}, {}]})), [(Kind::Image, 2)]);
    let drawn = json!({"usage": {"input_tokens": 5, "output_tokens": 7}, "svg_usage": {"model": "writer",
        "input_tokens": 3, "output_tokens": 9, "reasoning_tokens": 4, "total_tokens": 12}});
    let drawn = frame_of(IMAGES, false, &drawn.to_string()).unwrap();
    assert_eq!(
        (drawn.parts[1].model.as_deref(), drawn.parts[1].reasoning),
        (Some("writer"), Some(4))
    );
    let heard = json!({"usage": {"type": "tokens", "input_tokens": 114,
        "input_token_details": {"text_tokens": 14, "audio_tokens": 100}, "output_tokens": 20}});
    assert_eq!(
        read(TRANSCRIPTIONS, heard),
        [(Kind::Input, 14), (Kind::Output, 20), (Kind::AudioInput, 100)]
    );
    for (body, seconds) in [
        (
            json!({"duration": 8.47, "usage": {"type": "duration", "seconds": 9}}),
            9,
        ),
        (json!({"duration": "8.470000"}), 9),
        (json!({"duration": 8.0}), 8),
    ] {
        assert_eq!(read(TRANSCRIPTIONS, body), [(Kind::Second, seconds)]);
    }
    for absurd in [json!(-1), json!(1e30), json!("x"), json!(2_000_000_000_u64)] {
        let reading = frame_of(
            TRANSCRIPTIONS,
            false,
            &json!({"model": "m", "duration": absurd}).to_string(),
        );
        assert!(reading.unwrap().parts.is_empty());
    }
    assert_eq!(
        read(RERANK, json!({"usage": {"total_tokens": 40}})),
        [(Kind::Input, 40)]
    );
    assert_eq!(
        read(RERANK, json!({"meta": {"billed_units": {"search_units": 2}}})),
        [(Kind::Request, 2)]
    );
    let done = r#"{"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101}}"#;
    let reading = frame_of(SPEECH, true, done).unwrap();
    assert!(reading.final_);
    assert_eq!(counts(&reading), [(Kind::Input, 14), (Kind::AudioOutput, 101)]);
}

#[test]
fn a_response_says_whether_it_is_done_and_may_be_fetched() {
    let read = |operation: &str, body: Value| {
        // An answer that says nothing of what it used, or of its state, is no reading at all.
        let reading = frame_of(operation, false, &body.to_string());
        reading.map_or((None, false), |reading| (reading.bill_id, reading.pending))
    };
    let id = || Some("r".to_owned());
    assert_eq!(read(RESPONSES, json!({"id": "r", "status": "queued"})), (id(), true));
    assert_eq!(
        read(RETRIEVE, json!({"id": "r", "status": "in_progress"})),
        (id(), true)
    );
    assert_eq!(read(RETRIEVE, json!({"id": "r", "status": "completed"})), (id(), false));
    assert_eq!(
        read(RESPONSES, json!({"id": "r", "status": "completed", "store": false})),
        (None, false)
    );
    assert_eq!(read(CHAT, json!({"id": "r", "model": "m"})), (None, false));
}

#[test]
fn a_line_of_a_batch_is_an_answer_at_its_price() {
    let line = json!({"id": "batch_req_1", "custom_id": "c", "response": {"status_code": 200, "body": {"id": "x",
        "model": "m", "usage": {"prompt_tokens": 10, "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4}}}}});
    let reading = frame_of(FILE_CONTENT, true, &line.to_string()).unwrap();
    assert_eq!(
        (reading.bill_id.as_deref(), reading.model.as_deref()),
        (Some("batch_req_1"), Some("m"))
    );
    assert_eq!(reading.service_tier.as_deref(), Some("batch"));
    assert_eq!(
        counts(&reading),
        [(Kind::Input, 6), (Kind::CacheRead, 4), (Kind::Output, 2)]
    );
    for other in [
        json!({"id": "b", "response": {"status_code": 500, "body": {"error": {}}}}),
        json!({"id": "b", "response": null, "error": {}}),
        json!({"custom_id": "c", "body": {"model": "m"}, "usage": {"prompt_tokens": 5}}),
    ] {
        assert_eq!(frame_of(FILE_CONTENT, true, &other.to_string()), None, "{other}");
    }
    let absurd = json!({"id": "b", "response": {"body": {"usage": {"prompt_tokens": -1}}}});
    assert!(
        frame_of(FILE_CONTENT, true, &absurd.to_string())
            .unwrap()
            .parts
            .is_empty()
    );
}

#[test]
fn failures_are_told() {
    assert!(frame(true, r#"{"error":{"code":"x"}}"#).unwrap().failed);
    let event = frame(true, r#"{"type":"error"}"#).unwrap();
    assert!(event.failed && event.final_);
    assert!(!frame(false, r#"{"model":"m","error":null}"#).unwrap().failed);
    assert_eq!(frame(true, "{}"), None);
    assert_eq!(frame(true, "nonsense"), None);
}

#[test]
fn a_cut_chat_ends_with_an_error_and_no_done() {
    let bytes = OpenAi::terminal(CHAT, Ending::BudgetExceeded, "over \"budget\"", None);
    let text = String::from_utf8(bytes).unwrap();
    assert!(!text.contains("[DONE]") && text.ends_with("\n\n"));
    let data: Value = serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(data["error"]["message"], "over \"budget\"");
    assert_eq!(data["error"]["code"], "insufficient_quota");
}

#[test]
fn a_cut_response_ends_as_failed() {
    let terminal = OpenAi::terminal(RESPONSES, Ending::BudgetExceeded, "over", Some("resp_7"));
    let text = String::from_utf8(terminal).unwrap();
    let data = text.strip_prefix("event: response.failed\ndata: ").unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["type"], "response.failed");
    assert_eq!(data["response"]["id"], "resp_7");
    assert_eq!(data["response"]["status"], "failed");
    assert_eq!(data["response"]["error"]["code"], "insufficient_quota");
    assert!(data["sequence_number"].is_u64());
}

#[test]
fn what_is_denied_is_no_question_of_quota() {
    let of = |operation| String::from_utf8(OpenAi::terminal(operation, Ending::Denied, "killed", None)).unwrap();
    let data = of(RESPONSES);
    // Codex shows the message of this code, and does not try again.
    assert!(
        data.contains(r#""code":"invalid_prompt""#) && data.contains("killed"),
        "{data}"
    );
    let data = of(CHAT);
    assert!(data.contains(r#""code":"denied""#) && !data.contains("quota"), "{data}");
}

#[test]
fn refusals_keep_the_gateways_object() {
    let object = r#"{"type":"proxy_error","message":"API key is blocked"}"#.to_owned();
    let body = OpenAi::error_body(
        CHAT,
        &Refusal {
            status: 403,
            code: "blocked".to_owned(),
            object,
        },
    );
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["type"], "proxy_error");
    assert_eq!(body["error"]["message"], "API key is blocked");
}
