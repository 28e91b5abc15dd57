//! What hosts of this dialect do differently, in requests and answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_guest::{Call, EditPoint, Kind, Problem, Provider, Reading, Request};
use serde_json::{Value, json};

use crate::OpenAi;
use crate::info::{AGENT, CHAT, COMPLETIONS, CONVERSATION, OCR, RESPONSES, TRANSCRIPTIONS};
use crate::tests::{counts, frame, frame_of, listed};

fn ask_at(vendor: &str, operation: &str, path: &str, body: Value) -> Result<Call, Problem> {
    OpenAi::inspect(Request {
        method: "POST".to_owned(),
        vendor: vendor.to_owned(),
        path: path.to_owned(),
        operation: operation.to_owned(),
        path_model: None,
        headers: vec![],
        outline: body.to_string(),
        markers: vec![],
        characters: vec![],
    })
}

fn ask(operation: &str, body: Value) -> Result<Call, Problem> {
    ask_at("", operation, "/v1/x", body)
}

fn used(usage: Value) -> Reading {
    frame(
        false,
        &json!({"model": "m", "choices": [{}], "usage": usage}).to_string(),
    )
    .unwrap()
}

#[test]
fn fallback_models_in_request() {
    let models = |body: Value| ask(CHAT, body).unwrap().models;
    assert_eq!(
        models(
            json!({"model": "a", "models": ["a", "b", "b"], "fallbacks": ["c", {"model": "d"}], "plugins": [{"id": "x", "model": "e", "allowed_models": ["f"]}],
            "tools": [{"type": "advisor", "model": "g"}, {"type": "openrouter:fusion", "parameters": {"model": "h", "analysis_models": ["i"]}},
                {"type": "function", "parameters": {"model": {"type": "string"}}}], "moderation": {"model": "j"}})
        ),
        ["b", "c", "d", "j", "e", "f", "g", "h", "i"]
    );
    assert!(models(json!({"model": "a", "models": null, "fallbacks": [], "tools": []})).is_empty());
    let sixty_four: Vec<String> = (0..64).map(|at| format!("m{at}")).collect();
    assert_eq!(models(json!({"model": "m0", "models": sixty_four})).len(), 63);
}

#[test]
fn lists_of_models_that_are_none_are_refused_by_name() {
    let many: Vec<String> = (0..65).map(|at| format!("m{at}")).collect();
    for (body, param) in [
        (json!({"models": "b"}), "models"),
        (json!({"models": {}}), "models"),
        (json!({"models": [7]}), "models"),
        (json!({"models": [null]}), "models"),
        (json!({"models": [["b"]]}), "models"),
        (json!({"models": [""]}), "models"),
        (json!({"models": [{"name": "b"}]}), "models"),
        (json!({"models": many}), "models"),
        (json!({"fallbacks": [{"model": 5}]}), "fallbacks"),
        (json!({"fallbacks": 9_223_372_036_854_775_808_u64}), "fallbacks"),
        (json!({"plugins": [{"model": ["b"]}]}), "plugins.model"),
        (json!({"plugins": "web"}), "plugins"),
        (json!({"tools": [{"type": "x", "model": {}}]}), "tools.model"),
        (
            json!({"tools": [{"type": "openrouter:fusion", "parameters": {"analysis_models": "b"}}]}),
            "tools.parameters.analysis_models",
        ),
        (json!({"tools": {}}), "tools"),
        (json!({"tools": vec![json!({}); 1_025]}), "tools"),
        (json!({"moderation": {"model": 5}}), "moderation.model"),
    ] {
        let mut whole = body.clone();
        whole["model"] = json!("a");
        let problem = ask(CHAT, whole).expect_err("a problem");
        assert_eq!(problem.param.as_deref(), Some(param), "{body}");
    }
}

#[test]
fn openrouter_models_without_model() {
    let call = ask(CHAT, json!({"models": ["a", "b"]})).unwrap();
    assert_eq!(
        (call.model.as_str(), call.models, call.any_model),
        ("a", vec!["b".to_owned()], false)
    );
    assert!(
        !call.edits.iter().any(|edit| matches!(edit, EditPoint::Model(_))),
        "the list decides"
    );
    assert_eq!(
        ask(CHAT, json!({"models": []})).unwrap_err().param.as_deref(),
        Some("model")
    );
}

#[test]
fn what_chooses_the_model_elsewhere_is_any_model() {
    let any = |operation: &str, path: &str, body: Value| {
        let call = ask_at("", operation, path, body).unwrap();
        assert!(call.model.is_empty() == call.edits.iter().all(|edit| !matches!(edit, EditPoint::Model(_))));
        call.any_model
    };
    assert!(any(RESPONSES, "/v1/responses", json!({"prompt": {"id": "p"}})));
    assert!(any(RESPONSES, "/v1/responses", json!({"preset": "pro-search"})));
    assert!(any(AGENT, "/v1/agents/completions", json!({"agent_id": "a"})));
    assert!(any(CONVERSATION, "/v1/conversations", json!({"agent_id": "a"})));
    assert!(any(CONVERSATION, "/v1/conversations/c", json!({"inputs": "x"})));
    for router in [
        "openrouter/auto",
        "OpenRouter/Fusion",
        "@preset/mine",
        "openai/gpt-5@preset/mine",
        "model-router",
        "model-router-2025-11",
        "perplexity/auto",
        "groq/compound-mini",
        "openrouter/auto:online",
    ] {
        assert!(any(CHAT, "/v1/chat/completions", json!({"model": router})), "{router}");
        assert!(
            any(CHAT, "/v1/chat/completions", json!({"model": "m", "models": [router]})),
            "{router}"
        );
    }
    assert!(!any(CHAT, "/v1/chat/completions", json!({"model": "gpt-5.4"})));
    for (operation, path, body) in [
        (RESPONSES, "/v1/responses", json!({"input": "x"})),
        (CHAT, "/v1/chat/completions", json!({"agent_id": "a"})),
        (CONVERSATION, "/v1/conversations", json!({"inputs": "x"})),
    ] {
        assert_eq!(
            ask_at("", operation, path, body).unwrap_err().code,
            "missing_required_parameter"
        );
    }
}

#[test]
fn a_limit_of_zero_is_none() {
    let limit = |operation: &str, body: Value| ask(operation, body).unwrap().max_output;
    assert_eq!(limit(CHAT, json!({"model": "m", "max_tokens": 0})), None);
    assert_eq!(limit(CHAT, json!({"model": "m", "max_completion_tokens": 0})), None);
    assert_eq!(
        limit(CHAT, json!({"model": "m", "max_tokens": 9, "max_completion_tokens": 0})),
        None
    );
    assert_eq!(limit(COMPLETIONS, json!({"model": "m", "max_tokens": 0})), None);
    assert_eq!(limit(RESPONSES, json!({"model": "m", "max_output_tokens": 0})), None);
    let conversation = |most: Value| {
        ask_at(
            "mistral",
            CONVERSATION,
            "/v1/conversations",
            json!({"model": "m", "completion_args": {"max_tokens": most}}),
        )
    };
    assert_eq!(conversation(json!(0)).unwrap().max_output, None);
    assert_eq!(conversation(json!(7)).unwrap().max_output, Some(7));
    let refused = conversation(json!(-1)).unwrap_err();
    assert_eq!(refused.param.as_deref(), Some("completion_args.max_tokens"));
}

#[test]
fn what_switches_the_usage_off_is_set_or_refused() {
    let edits = |options: Value| {
        let call = ask(CHAT, json!({"model": "m", "stream": true, "stream_options": options}))?;
        Ok::<bool, Problem>(call.edits.iter().any(|edit| matches!(edit, EditPoint::StreamUsage(_))))
    };
    for off in [
        json!(null),
        json!({}),
        json!({"include_usage": false}),
        json!({"include_usage": null}),
    ] {
        assert!(edits(off.clone()).unwrap(), "{off}");
    }
    for wrong in [
        json!([]),
        json!("no"),
        json!(0),
        json!(false),
        json!({"include_usage": "false"}),
    ] {
        assert!(edits(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_put_off_waits_for_its_result() {
    assert!(ask(CHAT, json!({"model": "m", "deferred": true})).unwrap().background);
    assert!(ask(CHAT, json!({"model": "m", "background": true})).unwrap().background);
    assert!(!ask(CHAT, json!({"model": "m", "deferred": false})).unwrap().background);
    assert_eq!(
        ask(CHAT, json!({"model": "m", "deferred": "yes"}))
            .unwrap_err()
            .param
            .as_deref(),
        Some("deferred")
    );
    let read = frame(false, r#"{"request_id":"d"}"#).unwrap();
    assert_eq!((read.bill_id.as_deref(), read.pending), (Some("d"), true));
    let refused = frame(false, r#"{"request_id":"d","error":{"code":"x"}}"#).unwrap();
    assert_eq!((refused.bill_id, refused.pending, refused.failed), (None, false, true));
}

#[test]
fn hosted_tools_are_held_by_what_they_cost() {
    let held = |vendor: &str, body: Value| {
        let call = ask_at(vendor, RESPONSES, "/v1/responses", body).unwrap();
        let parts = call.beside.iter();
        parts.map(|part| (part.model.clone(), listed(part))).collect::<Vec<_>>()
    };
    let tools = |tools: Value| json!({"model": "m", "tools": tools});
    assert_eq!(
        held(
            "openai",
            tools(json!([{"type": "image_generation", "quality": "low", "size": "1024x1024", "partial_images": 2}]))
        ),
        [(
            Some("gpt-image-1.5".to_owned()),
            vec![(Kind::Input, 1_000), (Kind::ImageOutput, 472)]
        )]
    );
    assert_eq!(
        held(
            "mistral",
            tools(json!([{"type": "image_generation"}, {"type": "code_interpreter"}]))
        ),
        [(None, vec![(Kind::CodeExecution, 3), (Kind::Image, 1)])]
    );
    assert_eq!(
        held(
            "openai",
            tools(
                json!([{"type": "shell", "environment": {"type": "container_auto", "memory_limit": "16g"}}, {"type": "shell", "environment": {"type": "local"}}, {"type": "mcp"}])
            )
        ),
        [(None, vec![(Kind::Container, 16)])]
    );
    assert!(held("openai", tools(json!([{"type": "function"}, {}, 7, {"type": 5}]))).is_empty());
    assert_eq!(
        held(
            "openai",
            json!({"model": "m", "max_tool_calls": 1, "tools": [{"type": "web_search_preview"}]})
        ),
        [(None, vec![(Kind::WebSearch, 1)])]
    );
    assert!(
        held(
            "openai",
            json!({"model": "m", "max_tool_calls": 0, "tools": [{"type": "file_search"}]})
        )
        .is_empty()
    );
    let searched = ask_at(
        "xai",
        CHAT,
        "/v1/x",
        json!({"model": "m", "search_parameters": {"mode": "on", "max_search_results": 7}}),
    )
    .unwrap();
    assert_eq!(listed(&searched.beside[0]), [(Kind::WebSearch, 7)]);
    let online = ask_at(
        "openrouter",
        CHAT,
        "/v1/x",
        json!({"model": "m:online", "plugins": [{"id": "web", "enabled": false}]}),
    )
    .unwrap();
    assert_eq!(listed(&online.beside[0]), [(Kind::WebSearch, 1)]);
}

/// A whole response with these items and this count of tools.
fn response(output: Value, tool_usage: Value) -> Reading {
    let body = json!({"id": "r", "model": "m", "status": "completed", "output": output, "tool_usage": tool_usage,
        "tools": [{"type": "image_generation", "model": "gpt-image-1-mini"}], "usage": {"input_tokens": 10, "output_tokens": 2}});
    frame_of(RESPONSES, false, &body.to_string()).unwrap()
}

#[test]
fn hosted_tools_are_counted_once_where_they_are_told_twice() {
    let search = json!([{"type": "web_search_call", "action": {"type": "search"}}, {"type": "web_search_call"}, {"type": "web_search_call", "action": {"type": "find_in_page"}}]);
    let searches = |told: Value| {
        counts(&response(search.clone(), told))
            .into_iter()
            .find(|(kind, _)| *kind == Kind::WebSearch)
    };
    assert_eq!(searches(json!(null)), Some((Kind::WebSearch, 2)));
    assert_eq!(
        searches(json!({"web_search": {"num_requests": 5}})),
        Some((Kind::WebSearch, 5))
    );
    assert_eq!(searches(json!({"web_search": {"num_requests": 0}})), None);
    let drawn = response(
        json!([{"type": "image_generation_call"}]),
        json!({"image_gen": {"input_tokens": 7, "output_tokens": 272}}),
    );
    assert_eq!(
        drawn.parts[1].model.as_deref(),
        Some("gpt-image-1-mini"),
        "the model that the answer repeats"
    );
    assert_eq!(listed(&drawn.parts[1]), [(Kind::Input, 7), (Kind::ImageOutput, 272)]);
    assert!(!drawn.unread_fee);
    assert!(
        response(json!([{"type": "image_generation_call"}]), json!(null)).unread_fee,
        "nothing tells what it cost"
    );
    assert!(
        response(json!([{"type": "hologram_call"}]), json!(null)).unread_fee,
        "a tool that is not known"
    );
    assert!(response(json!([]), json!({"hologram": {"num_requests": 1}})).unread_fee);
    let local = json!([{"type": "shell_call", "environment": {"type": "local"}}, {"type": "function_call"}, {"type": "mcp_call"}, {"type": "computer_call"}]);
    assert!(!response(local, json!(null)).unread_fee);
    let hosted = response(
        json!([{"type": "shell_call", "environment": {"type": "container_reference", "container_id": "c"}}]),
        json!(null),
    );
    assert!(hosted.unread_fee && counts(&hosted).contains(&(Kind::Container, 1)));
    let many: Vec<Value> = (0..513).map(|_| json!({"type": "message"})).collect();
    assert!(
        response(json!(many), json!(null)).unread_fee,
        "items behind those that are looked at"
    );
}

#[test]
fn hostile_counts_of_tools_contradict() {
    for tool_usage in [
        json!({"web_search": {"num_requests": -1}}),
        json!({"web_search": {"num_requests": 9_223_372_036_854_775_808_u64}}),
        json!({"image_gen": {"input_tokens": 1, "output_tokens": "NaN"}}),
    ] {
        assert!(response(json!([]), tool_usage.clone()).contradictory, "{tool_usage}");
    }
    for usage in [
        json!({"prompt_tokens": 5, "completion_tokens": 1, "server_side_tool_usage_details": {"web_search_calls": -1}}),
        json!({"prompt_tokens": 5, "completion_tokens": 1, "tool_calls_details": {"search_web": {"invocation": 1.5}}}),
        json!({"prompt_tokens": 5, "completion_tokens": 1, "connectors": {"web_search": "many"}}),
        json!({"prompt_tokens": 5, "completion_tokens": 1, "server_tool_use": {"web_search_requests": 5_000_000_000_u64}}),
        json!({"prompt_tokens": 5, "completion_tokens": 1, "connector_tokens": -4}),
        json!({"prompt_tokens": 5, "input_tokens": 6, "completion_tokens": 1}),
        json!({"prompt_tokens": 5, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 2}}),
        json!({"prompt_tokens": 5, "completion_tokens": 1, "completion_tokens_details": {"image_tokens": 2}}),
        json!({"prompt_audio_seconds": -3, "prompt_tokens": 1}),
    ] {
        assert!(used(usage.clone()).contradictory, "{usage}");
    }
}

#[test]
fn what_is_not_told_is_not_counted_as_zero() {
    let part = |usage: Value| {
        used(usage)
            .parts
            .remove(0)
            .usage
            .iter()
            .map(|count| count.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(part(json!({"completion_tokens": 4})), [Kind::Output]);
    assert_eq!(part(json!({"prompt_tokens": 4})), [Kind::Input]);
    assert_eq!(
        part(json!({"prompt_tokens": 4, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}})),
        [Kind::Input, Kind::CacheRead, Kind::Output]
    );
}

#[test]
fn a_usage_is_found_where_hosts_put_it() {
    let read = |body: Value| frame(false, &body.to_string()).unwrap();
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 4});
    let zeros = json!({"prompt_tokens": 0, "completion_tokens": 0});
    for body in [
        json!({"usage": usage}),
        json!({"x_groq": {"usage": usage}}),
        json!({"choices": [{"index": 0, "usage": usage}]}),
        json!({"usage": zeros, "choices": [{"index": 0, "usage": usage}]}),
        json!({"usage": usage, "x_groq": {"usage": zeros}}),
        json!({"usage": null, "x_groq": {"usage": usage}}),
        json!({"usage": {"prompt_tokens": 9, "completion_tokens": 4, "input_tokens": 0, "output_tokens": 0}}),
        json!({"usage": {"prompt_tokens": "9", "completion_tokens": "4"}}),
        json!({"timings": {"prompt_n": 9, "predicted_n": 4}}),
    ] {
        assert_eq!(
            counts(&read(body.clone())),
            [(Kind::Input, 9), (Kind::Output, 4)],
            "{body}"
        );
    }
    let differ = json!({"usage": usage, "choices": [{"usage": {"prompt_tokens": 9, "completion_tokens": 5}}]});
    assert!(read(differ).contradictory);
    let total = frame_of(
        TRANSCRIPTIONS,
        false,
        r#"{"usage":{"prompt_audio_seconds":2.2,"total_tokens":90}}"#,
    )
    .unwrap();
    assert_eq!(counts(&total), [(Kind::Second, 3)]);
    assert_eq!(
        counts(&frame_of("classify", false, r#"{"usage":{"total_tokens":90}}"#).unwrap()),
        [(Kind::Input, 90)]
    );
    assert!(
        used(json!({"total_tokens": 90})).parts.is_empty(),
        "of a chat it tells nothing"
    );
}

#[test]
fn zeros_end_no_stream() {
    let zeros = frame(
        true,
        r#"{"model":"m","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#,
    )
    .unwrap();
    assert!(zeros.parts.is_empty() && !zeros.usage_only && !zeros.final_);
    let completed =
        r#"{"type":"response.completed","response":{"id":"r","usage":{"input_tokens":0,"output_tokens":0}}}"#;
    assert!(frame_of(RESPONSES, true, completed).unwrap().final_);
    let error = frame(true, r#"{"error":{"code":502},"choices":[{"index":0}]}"#).unwrap();
    assert!(error.failed && error.final_ && error.parts.is_empty());
}

#[test]
fn the_models_of_a_compound_answer_are_billed_each() {
    let body = json!({"model": "groq/compound", "usage": {"prompt_tokens": 30, "completion_tokens": 3},
        "usage_breakdown": {"models": [{"model": "a", "usage": {"prompt_tokens": 10, "completion_tokens": 1}}, {"model": "b", "usage": {"prompt_tokens": 20, "completion_tokens": 2}}]}});
    let reading = frame(false, &body.to_string()).unwrap();
    let parts: Vec<_> = reading
        .parts
        .iter()
        .map(|part| (part.model.as_deref().unwrap_or("own"), listed(part)))
        .collect();
    assert_eq!(
        parts,
        [
            ("a", vec![(Kind::Input, 10), (Kind::Output, 1)]),
            ("b", vec![(Kind::Input, 20), (Kind::Output, 2)])
        ]
    );
    let executed = frame(
        true,
        r#"{"choices":[{"delta":{"executed_tools":[{"type":"search"}]}}]}"#,
    )
    .unwrap();
    assert!(executed.unread_fee, "its count is lost with this chunk");
}

#[test]
fn pages_are_held_as_they_are_listed() {
    let ask = |body: Value| ask_at("mistral", OCR, "/v1/ocr", body).unwrap();
    let pages = |body: Value| ask(body).units[0].units;
    assert_eq!(pages(json!({"model": "m", "pages": [0, 3]})), 2);
    assert_eq!(pages(json!({"model": "m"})), 1_000, "as many as a document may have");
    assert_eq!(pages(json!({"model": "m", "pages": "0-4"})), 1_000);
    let annotated = ask(json!({"model": "m", "bbox_annotation_format": {"type": "json_schema"}}));
    assert_eq!(annotated.variant.as_deref(), Some("annotated"));
}

#[test]
fn a_job_bears_its_results_when_it_is_done() {
    let job = |status: &str| {
        json!({"id": "j", "status": status, "outputs": [null,
            {"id": "1", "response": {"body": {"model": "a", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}}},
            {"id": "2", "response": {"body": {"model": "b", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}}},
            {"id": "3", "response": {"body": {"model": "a", "usage": {"prompt_tokens": 5, "completion_tokens": 6}}}}]})
    };
    let read = |body: Value| frame_of("batch.job", false, &body.to_string());
    let done = read(job("SUCCESS")).unwrap();
    let parts: Vec<_> = done
        .parts
        .iter()
        .map(|part| (part.model.as_deref().unwrap_or_default(), listed(part)))
        .collect();
    assert_eq!(
        parts,
        [
            ("a", vec![(Kind::Input, 6), (Kind::Output, 8)]),
            ("b", vec![(Kind::Input, 3), (Kind::Output, 4)])
        ]
    );
    assert_eq!(read(job("RUNNING")), None, "billed once, when all are there");
    assert_eq!(read(json!({"id": "j", "status": "SUCCESS", "output_file": "f"})), None);
    let absurd = json!({"outputs": [{"response": {"body": {"usage": {"prompt_tokens": -1}}}}]});
    assert!(read(absurd).unwrap().contradictory);
}

#[test]
fn a_host_that_is_asked_to_answer_first_is_in_the_background() {
    let mut request = Request {
        method: "POST".to_owned(),
        vendor: String::new(),
        path: "/v1/responses".to_owned(),
        operation: RESPONSES.to_owned(),
        path_model: None,
        headers: vec![("prefer".to_owned(), "wait=1, Respond-Async".to_owned())],
        outline: r#"{"model":"m"}"#.to_owned(),
        markers: vec![],
        characters: vec![],
    };
    assert!(OpenAi::inspect(request.clone()).unwrap().background);
    request.headers.clear();
    assert!(!OpenAi::inspect(request).unwrap().background);
}
