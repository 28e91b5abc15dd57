//! Usage that no provider can mean, in every dialect: refused, flagged and estimated in its place.

use agentledger_ledger::{Kind, Usd};
use serde_json::{Value, json};

use crate::harness::aws::{EVENT_STREAM, event};
use crate::harness::client::Reply;
use crate::harness::{Gateway, Script, Setup, Upstream};

/// Sixteen words: about as many tokens.
const WORDS: &str = "one two three four five six seven eight nine ten red green blue black white grey ";
const ABSURD: u64 = 1_000_000_001;

/// One wrong report: its name, the path and body of the request, and the answer that bears it.
struct Case {
    name: &'static str,
    path: &'static str,
    ask: Value,
    answer: fn(Value) -> Script,
    usage: Value,
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GEMINI: &str = "/gemini/v1beta/models/scripted:generateContent";
const GEMINI_STREAM: &str = "/gemini/v1beta/models/scripted:streamGenerateContent?alt=sse";
const COHERE: &str = "/cohere/v2/chat";
const CONVERSE: &str = "/bedrock/model/scripted/converse";
const CONVERSE_STREAM: &str = "/bedrock/model/scripted/converse-stream";

fn chat(usage: Value) -> Script {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"});
    Script::json(
        200,
        &json!({"id": "c", "model": "scripted", "choices": [choice], "usage": usage}).to_string(),
    )
}

fn chat_stream(usage: Value) -> Script {
    let delta = json!({"id": "c", "model": "scripted", "choices": [{"index": 0, "delta": {"content": WORDS}}]});
    let last = json!({"id": "c", "model": "scripted", "choices": [], "usage": usage});
    let events = [
        format!("data: {delta}\n\n"),
        format!("data: {last}\n\n"),
        "data: [DONE]\n\n".to_owned(),
    ];
    Script::sse(&events.each_ref().map(String::as_str))
}

fn responses(usage: Value) -> Script {
    let output = json!([{"type": "message", "content": [{"type": "output_text", "text": WORDS}]}]);
    let body = json!({"id": "resp_1", "object": "response", "status": "completed", "model": "scripted", "output": output, "usage": usage});
    Script::json(200, &body.to_string())
}

fn message(usage: Value) -> Script {
    let content = json!([{"type": "text", "text": WORDS}]);
    let body = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted", "content": content, "usage": usage});
    Script::json(200, &body.to_string())
}

fn google(usage: Value) -> Value {
    json!({"candidates": [{"content": {"parts": [{"text": WORDS}]}}], "usageMetadata": usage, "modelVersion": "scripted"})
}

fn generated(usage: Value) -> Script {
    Script::json(200, &google(usage).to_string())
}

fn generated_stream(usage: Value) -> Script {
    Script::sse(&[&format!("data: {}\n\n", google(usage))])
}

fn cohere(usage: Value) -> Script {
    let body = json!({"message": {"content": [{"type": "text", "text": WORDS}]}, "usage": {"billed_units": usage}});
    Script::json(200, &body.to_string())
}

fn converse(usage: Value) -> Script {
    let body = json!({"output": {"message": {"role": "assistant", "content": [{"text": WORDS}]}}, "usage": usage});
    Script::json(200, &body.to_string())
}

fn converse_stream(usage: Value) -> Script {
    let events = [
        event("messageStart", r#"{"role":"assistant"}"#),
        event(
            "contentBlockDelta",
            &json!({"contentBlockIndex": 0, "delta": {"text": WORDS}}).to_string(),
        ),
        event("metadata", &json!({"usage": usage}).to_string()),
    ];
    Script::chunked(EVENT_STREAM, &events.each_ref().map(Vec::as_slice))
}

/// Cached above input (where cached tokens lie inside it), parts above their whole, negative, above 10^9, no whole number.
fn cases() -> Vec<Case> {
    let openai = || json!({"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 200});
    let streamed =
        || json!({"model": "scripted", "stream": true, "stream_options": {"include_usage": true}, "messages": []});
    let asked = || json!({"model": "scripted", "input": "hi", "max_output_tokens": 200});
    let contents = || json!({"contents": [{"parts": [{"text": "hi"}]}]});
    let converse_ask = || json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]});
    let case = |name, path, ask, answer, usage| Case {
        name,
        path,
        ask,
        answer,
        usage,
    };
    vec![
        case(
            "cached above input",
            CHAT,
            openai(),
            chat,
            json!({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 6}}),
        ),
        case(
            "negative",
            CHAT,
            openai(),
            chat,
            json!({"prompt_tokens": -5, "completion_tokens": 1}),
        ),
        case(
            "absurd",
            CHAT,
            openai(),
            chat,
            json!({"prompt_tokens": 5, "completion_tokens": ABSURD}),
        ),
        case(
            "absurd as a sum",
            CHAT,
            openai(),
            chat,
            json!({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 1e30}),
        ),
        case(
            "cached above input",
            CHAT,
            streamed(),
            chat_stream,
            json!({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 6}}),
        ),
        case(
            "negative",
            RESPONSES,
            asked(),
            responses,
            json!({"input_tokens": 5, "output_tokens": -1}),
        ),
        case(
            "written above input",
            RESPONSES,
            asked(),
            responses,
            json!({"input_tokens": 5, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 3}}),
        ),
        case(
            "fractional",
            MESSAGES,
            openai(),
            message,
            json!({"input_tokens": 5.5, "output_tokens": 1}),
        ),
        case(
            "negative",
            MESSAGES,
            openai(),
            message,
            json!({"input_tokens": 5, "output_tokens": -1}),
        ),
        case(
            "absurd",
            MESSAGES,
            openai(),
            message,
            json!({"input_tokens": 5, "cache_read_input_tokens": ABSURD, "output_tokens": 1}),
        ),
        case(
            "more for an hour than was written",
            MESSAGES,
            openai(),
            message,
            json!({"input_tokens": 5, "output_tokens": 1, "cache_creation_input_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 8}}),
        ),
        case(
            "cached above input",
            GEMINI,
            contents(),
            generated,
            json!({"promptTokenCount": 5, "cachedContentTokenCount": 6, "candidatesTokenCount": 1}),
        ),
        case(
            "negative",
            GEMINI,
            contents(),
            generated,
            json!({"promptTokenCount": -5, "candidatesTokenCount": 1}),
        ),
        case(
            "absurd",
            GEMINI,
            contents(),
            generated,
            json!({"promptTokenCount": 5, "candidatesTokenCount": ABSURD}),
        ),
        case(
            "cached above input",
            GEMINI_STREAM,
            contents(),
            generated_stream,
            json!({"promptTokenCount": 5, "cachedContentTokenCount": 6, "candidatesTokenCount": 1}),
        ),
        case(
            "negative",
            COHERE,
            openai(),
            cohere,
            json!({"input_tokens": 5, "output_tokens": -1}),
        ),
        case(
            "absurd",
            COHERE,
            openai(),
            cohere,
            json!({"input_tokens": 1e12, "output_tokens": 1}),
        ),
        case(
            "negative",
            CONVERSE,
            converse_ask(),
            converse,
            json!({"inputTokens": 5, "outputTokens": -1, "totalTokens": 4}),
        ),
        case(
            "absurd",
            CONVERSE,
            converse_ask(),
            converse,
            json!({"inputTokens": ABSURD, "outputTokens": 1}),
        ),
        case(
            "input above total",
            CONVERSE,
            converse_ask(),
            converse,
            json!({"inputTokens": 9, "outputTokens": 1, "totalTokens": 3}),
        ),
        case(
            "negative",
            CONVERSE_STREAM,
            converse_ask(),
            converse_stream,
            json!({"inputTokens": 5, "outputTokens": -1, "totalTokens": 4}),
        ),
    ]
}

fn gateway(upstream: &Upstream) -> Gateway {
    let base = upstream.base();
    let provider = |name: &str| {
        format!("{name}: {{enabled: true, upstream: \"{base}\", default_price: {{input: 1, output: 10}}}}")
    };
    let root = ["openai", "anthropic", "bedrock"].map(provider).join(", ");
    let extra = ["gemini", "cohere"].map(provider).join(", ");
    let yaml = format!("providers: {{{root}, extra: {{{extra}}}}}");
    Setup::new(upstream).only(&yaml).start()
}

fn post(gateway: &Gateway, case: &Case) -> Reply {
    // Each provider takes its key from one of these.
    let key = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("anthropic-version", "2023-06-01"),
    ];
    gateway
        .client
        .request("POST", case.path, &key, case.ask.to_string().as_bytes())
}

#[test]
fn usage_that_contradicts_itself_is_flagged_and_estimated_in_every_dialect() {
    let playing = std::sync::Arc::new(std::sync::Mutex::new(None));
    let next = std::sync::Arc::clone(&playing);
    let upstream = Upstream::playing(move |_| next.lock().unwrap().take().expect("one request a case"));
    let gateway = gateway(&upstream);
    for (at, case) in cases().iter().enumerate() {
        let what = format!("{} at {}", case.name, case.path);
        *playing.lock().unwrap() = Some((case.answer)(case.usage.clone()));
        assert_eq!(post(&gateway, case).status, 200, "{what}");
        let entries = gateway.entries_of(at + 1);
        assert_eq!(entries.len(), at + 1, "{what}: one settlement");
        let entry = entries.last().unwrap();
        let end = &entry.settlement;
        assert_eq!(end.estimate_reason.as_deref(), Some("contradictory_usage"), "{what}");
        // Nothing of the report is believed: it costs what was held, of which the text is a part.
        let (input, output) = (end.usage.get(Kind::Input), end.usage.get(Kind::Output));
        assert!((1..60).contains(&input) && output >= 200, "{what}: {:?}", end.usage);
        assert!(
            end.cost >= entry.held && entry.held > Usd::ZERO,
            "{what}: {} of {}",
            end.cost,
            entry.held
        );
    }
}

#[test]
fn a_stream_keeps_what_it_said_before_and_is_flagged() {
    let start = json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted", "content": [], "usage": {"input_tokens": 1_000, "output_tokens": 1}}});
    let delta = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}});
    let last = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": -1}});
    let stop = json!({"type": "message_stop"});
    let events =
        [start, delta, last, stop].map(|data| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()));
    let upstream = Upstream::always(Script::sse(&events.each_ref().map(String::as_str)));
    let gateway = gateway(&upstream);
    let ask = r#"{"model":"scripted","stream":true,"max_tokens":200,"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(gateway.client.post_anthropic(MESSAGES, ask).status, 200);
    let entry = gateway.entry();
    let end = &entry.settlement;
    assert_eq!(end.estimate_reason.as_deref(), Some("contradictory_usage"));
    assert_eq!(end.usage.get(Kind::Input), 1_000);
    assert_eq!(end.usage.get(Kind::Output), 200, "no less than was held");
    assert!(end.cost >= entry.held);
}
