#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_guest::{
    AnswerFrame, Call, Count, EditPoint, Ending, Kind, Problem, Provider, Reading, Refusal, Request,
};
use serde_json::{Value, json};

use crate::info::{EMBED, EMBED_BATCH, GENERATE, INTERACTION, INTERACTIONS, PREDICT, STREAM, TOOLS_MAX};
use crate::{Gemini, status, tier_name};

fn ask_with(operation: &str, model: &str, headers: &[(&str, &str)], body: Value) -> Result<Call, Problem> {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Gemini::inspect(Request {
        method: "POST".to_owned(),
        vendor: String::new(),
        path: "/v1beta/models/x".to_owned(),
        operation: operation.to_owned(),
        path_model: Some(model.to_owned()),
        headers: headers.iter().map(header).collect(),
        outline: body.to_string(),
        markers: vec![],
        characters: vec![],
    })
}

fn ask(operation: &str, body: Value) -> Result<Call, Problem> {
    ask_with(operation, "gemini-2.5-flash", &[], body)
}

fn frame(body: &Value) -> Option<Reading> {
    Gemini::read(AnswerFrame {
        operation: STREAM.to_owned(),
        event: None,
        streamed: true,
        status: 200,
        outline: body.to_string(),
    })
}

#[test]
fn the_model_is_the_paths_and_the_operation_says_whether_it_streams() {
    for (operation, stream) in [(GENERATE, false), (STREAM, true)] {
        let call = ask(operation, json!({"model": "models/another"})).unwrap();
        assert_eq!((call.model.as_str(), call.stream), ("gemini-2.5-flash", stream));
    }
    assert_eq!(
        ask_with(GENERATE, " ", &[], json!({})).unwrap_err().param.as_deref(),
        Some("model")
    );
    assert_eq!(ask(EMBED, json!({})).unwrap().max_output, Some(0));
    let images = ask(PREDICT, json!({"parameters": {"sampleCount": 4}})).unwrap();
    assert_eq!((images.choices, images.max_output), (4, Some(0)));
}

#[test]
fn a_limit_is_read_in_every_spelling_and_the_largest_counts() {
    let limit = |body: Value| {
        let call = ask(GENERATE, body).unwrap();
        let at = call.edits.iter().find_map(|edit| match edit {
            EditPoint::MaxOutput(path) => Some(path.clone()),
            _ => None,
        });
        (at.unwrap(), call.max_output, call.choices)
    };
    let at = |path: &str, limit: Option<u64>, choices: u32| (path.to_owned(), limit, choices);
    let plain = "generationConfig.maxOutputTokens";
    assert_eq!(limit(json!({})), at(plain, None, 1));
    assert_eq!(
        limit(json!({"generationConfig": {"maxOutputTokens": 5, "candidateCount": 3}})),
        at(plain, Some(5), 3)
    );
    assert_eq!(
        limit(json!({"generation_config": {"max_output_tokens": 7, "candidate_count": 2}})),
        at("generation_config.max_output_tokens", Some(7), 2)
    );
    assert_eq!(
        limit(json!({"generation_config": {"temperature": 1}})),
        at("generation_config.max_output_tokens", None, 1),
        "a clamp goes into the object that is there"
    );
    assert_eq!(
        limit(json!({"generation_config": {"maxOutputTokens": 9}, "generationConfig": {"max_output_tokens": 4}})),
        at("generation_config.maxOutputTokens", Some(9), 1)
    );
}

#[test]
fn what_may_be_put_out_beside_text_is_told() {
    let kinds = |body: Value| ask(GENERATE, body).unwrap().output_kinds;
    let both = vec![Kind::AudioOutput, Kind::ImageOutput];
    assert_eq!(kinds(json!({})), both, "some models draw and speak unasked");
    assert_eq!(
        kinds(json!({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}})),
        [Kind::ImageOutput]
    );
    assert_eq!(
        kinds(json!({"generation_config": {"response_modalities": ["audio"]}})),
        [Kind::AudioOutput]
    );
    assert_eq!(kinds(json!({"generationConfig": {"responseModalities": ["TEXT"]}})), []);
    let of = |model: &str, parameters: Value| {
        let body = json!({"parameters": parameters});
        ask_with(PREDICT, model, &[], body).unwrap().units
    };
    assert_eq!(of("text-embedding-005", json!({})), []);
    let images = |parameters: Value| of("imagen-4.0-generate-001", parameters);
    let image = |units| {
        vec![Count {
            kind: Kind::Image,
            units,
        }]
    };
    assert_eq!(
        (images(json!({"sampleCount": 2})), images(json!({}))),
        (image(2), image(4))
    );
}

#[test]
fn bad_values_are_problems_that_name_the_parameter() {
    for (body, param) in [
        (
            json!({"generationConfig": {"maxOutputTokens": -1}}),
            "generationConfig.maxOutputTokens",
        ),
        (
            json!({"generationConfig": {"maxOutputTokens": "5"}}),
            "generationConfig.maxOutputTokens",
        ),
        (
            json!({"generation_config": {"max_output_tokens": 1.5}}),
            "generation_config.max_output_tokens",
        ),
        (
            json!({"generationConfig": {"candidateCount": 0}}),
            "generationConfig.candidateCount",
        ),
        (
            json!({"generationConfig": {"candidateCount": 4_000}}),
            "generationConfig.candidateCount",
        ),
        (json!({"serviceTier": 7}), "serviceTier"),
    ] {
        assert_eq!(
            ask(GENERATE, body.clone()).unwrap_err().param.as_deref(),
            Some(param),
            "{body}"
        );
    }
    assert_eq!(ask(GENERATE, json!([])).unwrap_err().code, "invalid_request_body");
}

#[test]
fn tiers_have_one_name_wherever_they_are_said() {
    let tier = |headers: &[(&str, &str)], body: Value| ask_with(GENERATE, "m", headers, body).unwrap().service_tier;
    assert_eq!(tier(&[], json!({"serviceTier": "FLEX"})).as_deref(), Some("flex"));
    assert_eq!(
        tier(&[], json!({"service_tier": "priority"})).as_deref(),
        Some("priority")
    );
    let header = [("x-vertex-ai-llm-shared-request-type", "flex")];
    assert_eq!(tier(&header, json!({})).as_deref(), Some("flex"));
    assert_eq!(tier(&[], json!({})), None);
    for (said, name) in [
        ("ON_DEMAND", "on_demand"),
        ("ON_DEMAND_FLEX", "flex"),
        ("ON_DEMAND_PRIORITY", "priority"),
        ("PROVISIONED_THROUGHPUT", "scale"),
        ("unspecified", "standard"),
    ] {
        assert_eq!(tier_name(said), name);
    }
}

#[test]
fn what_an_element_does_not_say_stays_as_it_was() {
    let early = frame(&json!({"usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7}})).unwrap();
    let kinds: Vec<_> = early.parts[0].usage.iter().filter(|count| count.units > 0).collect();
    assert_eq!(kinds.len(), 1);
    assert!(
        !early.parts[0]
            .usage
            .iter()
            .any(|count| count.kind == agentledger_guest::Kind::Output)
    );
    assert!(
        frame(&json!({"usageMetadata": {"trafficType": "ON_DEMAND"}}))
            .unwrap()
            .parts
            .is_empty()
    );
    assert_eq!(frame(&json!({"candidates": [{}]})), None);
    assert_eq!(frame(&json!({"usageMetadata": null, "modelVersion": ""})), None);
}

#[test]
fn an_ending_is_an_error_that_googles_clients_raise() {
    for (ending, code) in [
        (Ending::BudgetExceeded, 429),
        (Ending::Denied, 400),
        (Ending::UpstreamFailed, 502),
        (Ending::ShuttingDown, 503),
    ] {
        let bytes = Gemini::terminal(STREAM, ending, "the \"budget\" is spent", Some("r"));
        let text = String::from_utf8(bytes).unwrap();
        // Bare JSON: within an event Gemini CLI passes over it.
        let data = text.strip_suffix('\n').unwrap();
        assert!(data.starts_with("{\"error\":{") && !data.contains('\n'), "{data}");
        let error: Value = serde_json::from_str(data).unwrap();
        assert_eq!(error["error"]["code"], code);
        assert_eq!(error["error"]["status"], status(code));
        let read = frame(&error).unwrap();
        assert!(read.failed && read.final_);
        let event = String::from_utf8(Gemini::terminal(INTERACTIONS, ending, "why", None)).unwrap();
        assert!(
            event.starts_with("data: {\"error\":{") && event.ends_with("\n\n"),
            "{event}"
        );
    }
}

#[test]
fn a_limit_says_when_it_resets_as_google_does() {
    let delay_of = |status, object: Value| {
        let refusal = Refusal {
            status,
            code: "budget_exceeded".to_owned(),
            object: object.to_string(),
        };
        let body: Value = serde_json::from_slice(&Gemini::error_body(GENERATE, &refusal)).unwrap();
        let details = body["error"]["details"].as_array().unwrap().clone();
        assert_eq!(details[0]["reason"], "budget_exceeded");
        details.get(1).map(|retry| {
            assert_eq!(retry["@type"], "type.googleapis.com/google.rpc.RetryInfo");
            retry["retryDelay"].as_str().unwrap().to_owned()
        })
    };
    assert_eq!(
        delay_of(429, json!({"resets_in_seconds": 46_000})).as_deref(),
        Some("46000s")
    );
    assert_eq!(
        delay_of(429, json!({"resets_in_seconds": null})).as_deref(),
        Some("31536000s")
    );
    assert_eq!(delay_of(429, json!({})), None);
    assert_eq!(delay_of(400, json!({"resets_in_seconds": 46_000})), None);
}

#[test]
fn a_refusal_is_googles_error_with_the_gateways_fields() {
    let body = Gemini::error_body(
        GENERATE,
        &Refusal {
            status: 429,
            code: "budget_exceeded".to_owned(),
            object: r#"{"type":"budget_exceeded","code":"budget_exceeded","message":"spending limit exceeded","daily_spent":1.5}"#.to_owned(),
        },
    );
    assert_eq!(body.last(), Some(&b'\n'));
    let error = &serde_json::from_slice::<Value>(&body).unwrap()["error"];
    assert_eq!(
        (&error["code"], &error["status"]),
        (&json!(429), &json!("RESOURCE_EXHAUSTED"))
    );
    assert_eq!(
        (&error["type"], &error["daily_spent"]),
        (&json!("budget_exceeded"), &json!(1.5))
    );
    assert_eq!(error["details"][0]["reason"], "budget_exceeded");
    assert_eq!(error["message"], "spending limit exceeded");
}

fn read_as(operation: &str, streamed: bool, body: &Value) -> Option<Reading> {
    Gemini::read(AnswerFrame {
        operation: operation.to_owned(),
        event: None,
        streamed,
        status: 200,
        outline: body.to_string(),
    })
}

fn counts(reading: &Reading) -> Vec<(Kind, u64)> {
    let all = reading.parts.iter().flat_map(|part| &part.usage);
    all.filter(|count| count.units > 0)
        .map(|count| (count.kind, count.units))
        .collect()
}

#[test]
fn the_total_tells_what_the_parts_leave_out() {
    let read = |usage: Value| frame(&json!({ "usageMetadata": usage })).unwrap();
    let last = read(json!({"promptTokenCount": 10_000, "candidatesTokenCount": 20, "totalTokenCount": 10_520}));
    assert_eq!(counts(&last), [(Kind::Input, 10_000), (Kind::Output, 520)]);
    assert!(
        !last.parts[0].usage.iter().any(|count| count.kind == Kind::CacheRead),
        "absent is not zero"
    );
    let both = read(
        json!({"promptTokenCount": 10, "candidatesTokenCount": 20, "thoughtsTokenCount": 5, "totalTokenCount": 40}),
    );
    assert_eq!(counts(&both), [(Kind::Input, 10), (Kind::Output, 30)]);
    for usage in [
        json!({"promptTokenCount": 10, "candidatesTokenCount": 2, "totalTokenCount": 9}),
        json!({"promptTokenCount": 10, "thoughtsTokenCount": 30, "totalTokenCount": 20}),
        json!({"promptTokenCount": "ten"}),
        json!({"promptTokenCount": 9_223_372_036_854_775_808_u64}),
        json!({"promptTokenCount": 1, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}]}),
    ] {
        assert!(read(usage.clone()).contradictory, "{usage}");
    }
}

#[test]
fn grounding_counts_different_queries_by_the_models_generation() {
    let read = |model: &str, grounding: Value| {
        let usage = json!({"promptTokenCount": 1, "totalTokenCount": 1});
        let body =
            json!({"modelVersion": model, "usageMetadata": usage, "candidates": [{"groundingMetadata": grounding}]});
        counts(&frame(&body).unwrap()).split_off(1)
    };
    let queries = json!({"webSearchQueries": ["a", "b", "a", "", " ", null, null]});
    assert_eq!(
        read("gemini-3-pro-preview", queries.clone()),
        [(Kind::WebSearch, 4)],
        "long ones are not compared"
    );
    assert_eq!(read("gemini-2.5-pro", queries.clone()), [(Kind::WebSearch, 1)]);
    assert_eq!(read("gemini-flash-latest", queries), [(Kind::WebSearch, 4)]);
    assert_eq!(read("gemini-2.5-pro", json!({"webSearchQueries": [""]})), []);
    assert_eq!(
        read("gemini-3-pro-preview", json!({"groundingChunks": [{"web": {}}, null]})),
        [(Kind::WebSearch, 1)]
    );
    let maps = json!({"groundingChunks": [{"maps": {}}, {"maps": {}}], "webSearchQueries": ["a", "b"]});
    assert_eq!(
        read("gemini-2.5-pro", maps.clone()),
        [(Kind::WebSearch, 1), (Kind::Maps, 1)]
    );
    assert_eq!(
        read("gemini-3-pro-preview", maps),
        [(Kind::WebSearch, 2), (Kind::Maps, 1)]
    );
    let own = json!({"groundingChunks": [{"retrievedContext": {}}], "retrievalQueries": ["a", "b"]});
    assert_eq!(read("gemini-3-pro-preview", own), [(Kind::FileSearch, 1)]);
    // Candidates of one answer share their searches.
    let one = json!({"groundingMetadata": {"webSearchQueries": ["a", "b"]}});
    let body = json!({"modelVersion": "gemini-3-pro", "candidates": [one, one, null]});
    assert_eq!(
        counts(&frame(&body).unwrap()),
        [(Kind::WebSearch, 2)],
        "in an element without usage"
    );
    assert!(
        read_as(GENERATE, false, &body).unwrap().parts.is_empty(),
        "a whole answer without usage has none"
    );
}

#[test]
fn tools_are_held_by_what_they_may_bill() {
    let beside = |model: &str, tools: Value| {
        let call = ask_with(GENERATE, model, &[], json!({ "tools": tools })).unwrap();
        let counts = call.beside.iter().flat_map(|part| &part.usage);
        counts.map(|count| (count.kind, count.units)).collect::<Vec<_>>()
    };
    let search = json!([{"googleSearch": {}}, {"google_search": {}}]);
    assert_eq!(beside("gemini-2.5-pro", search.clone()), [(Kind::WebSearch, 1)]);
    assert_eq!(beside("gemini-3-pro-preview", search), [(Kind::WebSearch, 5)]);
    let all = json!([{"googleMaps": {}, "enterpriseWebSearch": {}}, {"retrieval": {}}, {"codeExecution": {}}, null]);
    assert_eq!(
        beside("gemini-2.5-pro", all),
        [(Kind::WebSearch, 1), (Kind::Maps, 1), (Kind::FileSearch, 1)]
    );
    assert_eq!(beside("gemini-2.5-pro", json!([{}, {"functionDeclarations": []}])), []);
    let many = json!({"tools": vec![json!({}); TOOLS_MAX + 1]});
    assert_eq!(ask(GENERATE, many).unwrap_err().param.as_deref(), Some("tools"));
}

#[test]
fn models_that_a_body_names_beside_the_path_are_named() {
    let others = |operation: &str, body: Value| ask(operation, body).unwrap().models;
    assert_eq!(
        others(GENERATE, json!({"model": "models/gemini-2.5-flash"})),
        Vec::<String>::new()
    );
    assert_eq!(others(GENERATE, json!({"model": "models/another"})), ["another"]);
    let requests =
        json!({"requests": [{"model": "models/a"}, {"model": "a"}, null, {}, {"model": "models/gemini-2.5-flash"}]});
    assert_eq!(others(EMBED_BATCH, requests), ["a"]);
    let many = json!({"requests": vec![json!({}); TOOLS_MAX + 1]});
    assert_eq!(ask(EMBED_BATCH, many).unwrap_err().param.as_deref(), Some("requests"));
}

#[test]
fn a_limit_of_nothing_is_none() {
    let max = |body: Value| ask(GENERATE, body).unwrap().max_output;
    assert_eq!(max(json!({"generationConfig": {"maxOutputTokens": 0}})), None);
    assert_eq!(
        max(json!({"generationConfig": {"maxOutputTokens": 0}, "generation_config": {"max_output_tokens": 5}})),
        None
    );
}

#[test]
fn interactions_name_a_model_or_an_agent() {
    let call = ask_with(
        INTERACTIONS,
        "",
        &[],
        json!({"model": "m", "stream": true, "background": true,
        "previous_interaction_id": "v1_0", "generation_config": {"max_output_tokens": 7}, "service_tier": "flex"}),
    );
    let call = call.unwrap();
    assert_eq!(
        (
            call.model.as_str(),
            call.stream,
            call.background,
            call.max_output,
            call.continues,
            call.any_model
        ),
        ("m", true, true, Some(7), true, false)
    );
    assert_eq!(call.service_tier.as_deref(), Some("flex"));
    let agent = ask_with(INTERACTIONS, "", &[], json!({"agent": "deep-research-preview"})).unwrap();
    assert_eq!(
        (agent.model.as_str(), agent.any_model, agent.edits.len()),
        ("deep-research-preview", true, 0)
    );
    assert_eq!(agent.beside.len(), 1);
    for (body, param) in [
        (json!({}), "model"),
        (json!({"model": "m", "background": "yes"}), "background"),
        (json!({"model": 7}), "model"),
    ] {
        let found = ask_with(INTERACTIONS, "", &[], body).unwrap_err().param;
        assert_eq!(found.as_deref(), Some(param));
    }
}

#[test]
fn interactions_tell_their_usage_when_they_are_done() {
    let usage = json!({"totalInputTokens": 10, "totalCachedTokens": 4, "totalOutputTokens": 5, "totalThoughtTokens": 6,
        "totalTokens": 21, "groundingToolCount": [{"type": "google_search", "count": 2}, {"type": "unheard_of", "count": 1}]});
    let done = json!({"id": "v1_1", "status": "completed", "model": "models/gemini-3-pro", "usage": usage});
    let reading = read_as(INTERACTION, false, &done).unwrap();
    assert_eq!(
        counts(&reading),
        [
            (Kind::Input, 6),
            (Kind::CacheRead, 4),
            (Kind::Output, 11),
            (Kind::WebSearch, 3)
        ]
    );
    assert_eq!(
        (reading.bill_id.as_deref(), reading.pending, reading.unread_fee),
        (Some("v1_1"), false, false)
    );
    assert_eq!(reading.model.as_deref(), Some("gemini-3-pro"));
    let event = json!({"event_type": "interaction.completed", "interaction": done});
    let last = read_as(INTERACTIONS, true, &event).unwrap();
    assert!(last.final_ && counts(&last) == counts(&reading));
    let running = read_as(INTERACTION, false, &json!({"id": "v1_1", "status": "in_progress"})).unwrap();
    assert!(running.pending && running.parts.is_empty());
    let broken = json!({"event_type": "error", "error": {"code": "internal"}});
    let broken = read_as(INTERACTIONS, true, &broken).unwrap();
    assert!(broken.failed && broken.final_ && broken.parts.is_empty());
}
