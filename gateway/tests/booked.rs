//! Providers at the prices that come with the gateway: what a model of each costs, worked out by hand from its host's price
//! list. Nothing is configured but that the provider is enabled.

use serde_json::{Value, json};

use crate::harness::{Script, Setup, Upstream};

/// One answer: where it was asked for, the model asked for and the one that answered, the usage, and USD.
struct Case {
    provider: &'static str,
    path: &'static str,
    model: &'static str,
    answer: fn() -> Value,
    cost: &'static str,
}

const fn case(
    provider: &'static str,
    path: &'static str,
    model: &'static str,
    answer: fn() -> Value,
    cost: &'static str,
) -> Case {
    Case {
        provider,
        path,
        model,
        answer,
        cost,
    }
}

const CHAT: &str = "/v1/chat/completions";

/// A thousand tokens in, a hundred out, in the model that was asked for.
fn chat() -> Value {
    json!({"id": "c", "choices": [], "usage": {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}})
}

/// The same, six hundred of them cached.
fn cached() -> Value {
    json!({"id": "c", "choices": [], "usage": {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100,
        "prompt_tokens_details": {"cached_tokens": 600}}})
}

fn sonar() -> Value {
    let mut answer = chat();
    answer["usage"]["search_context_size"] = json!("medium");
    answer
}

fn gemini() -> Value {
    json!({"candidates": [], "modelVersion": "gemini-2.5-flash", "usageMetadata": {
        "promptTokenCount": 1_000, "cachedContentTokenCount": 600, "candidatesTokenCount": 60, "thoughtsTokenCount": 40,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 100}, {"modality": "TEXT", "tokenCount": 900}]}})
}

fn gemini_pro_audio() -> Value {
    json!({"candidates": [], "modelVersion": "gemini-2.5-pro", "usageMetadata": {
        "promptTokenCount": 1_000, "candidatesTokenCount": 100,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 1_000}]}})
}

fn gemini_image() -> Value {
    json!({"candidates": [], "modelVersion": "gemini-2.5-flash-image", "usageMetadata": {
        "promptTokenCount": 1_000, "candidatesTokenCount": 1_290,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1_290}]}})
}

fn gemini_flex() -> Value {
    json!({"candidates": [], "modelVersion": "gemini-2.5-flash", "usageMetadata": {
        "promptTokenCount": 1_000, "candidatesTokenCount": 100, "serviceTier": "flex"}})
}

fn gemini_search() -> Value {
    json!({"candidates": [{"groundingMetadata": {"webSearchQueries": ["a", "b"]}}], "modelVersion": "gemini-2.5-flash",
        "usageMetadata": {"promptTokenCount": 1_000, "candidatesTokenCount": 100}})
}

fn embedded() -> Value {
    json!({"embedding": {"values": [0.1]}, "usageMetadata": {"promptTokenCount": 1_000}})
}

fn claude() -> Value {
    json!({"id": "m", "type": "message", "content": [], "model": "claude-sonnet-4-5-20250929",
        "usage": {"input_tokens": 300, "cache_read_input_tokens": 600, "cache_creation_input_tokens": 100, "output_tokens": 100}})
}

fn cohere() -> Value {
    json!({"id": "c", "message": {"content": []}, "usage": {"billed_units": {"input_tokens": 1_000, "output_tokens": 100}}})
}

fn ranked() -> Value {
    json!({"id": "r", "results": [], "meta": {"billed_units": {"search_units": 3}}})
}

fn cases() -> Vec<Case> {
    vec![
        case("groq", CHAT, "llama-3.3-70b-versatile", chat, "0.000669"),
        case("mistral", CHAT, "mistral-small-latest", cached, "0.000129"),
        case("deepseek", CHAT, "deepseek-chat", cached, "0.0001708"),
        case("cohere", "/v2/chat", "command-a-03-2025", cohere, "0.0035"),
        case("cohere", "/v2/rerank", "rerank-v3.5", ranked, "0.006"),
        case("perplexity", CHAT, "sonar", sonar, "0.0091"),
        case("xai", CHAT, "grok-4-0709", cached, "0.00315"),
        case("sambanova", CHAT, "Meta-Llama-3.3-70B-Instruct", chat, "0.00072"),
        case(
            "fireworks",
            CHAT,
            "accounts/fireworks/models/deepseek-v3p2",
            cached,
            "0.00056",
        ),
        case("openai", CHAT, "gpt-4o", cached, "0.00275"),
        // 300 × 0.3 + 600 × 0.03 + 100 × 1 (sound) + 100 × 2.5.
        case(
            "gemini",
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "",
            gemini,
            "0.000458",
        ),
        case(
            "gemini",
            "/v1beta/models/gemini-2.5-pro:generateContent",
            "",
            gemini_pro_audio,
            "0.00225",
        ),
        case(
            "gemini",
            "/v1beta/models/gemini-2.5-flash-image:generateContent",
            "",
            gemini_image,
            "0.039",
        ),
        case(
            "gemini",
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "",
            gemini_flex,
            "0.000275",
        ),
        case(
            "gemini",
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "",
            gemini_search,
            "0.03555",
        ),
        case(
            "gemini",
            "/v1beta/models/gemini-embedding-001:embedContent",
            "",
            embedded,
            "0.00015",
        ),
        case(
            "gemini",
            "/v1beta/openai/chat/completions",
            "models/gemini-2.5-pro",
            chat,
            "0.00225",
        ),
        case(
            "vertex",
            "/v1/projects/p/locations/global/publishers/google/models/gemini-2.5-flash:generateContent",
            "",
            gemini,
            "0.000458",
        ),
        case(
            "vertex",
            "/v1/projects/p/locations/global/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict",
            "",
            claude,
            "0.002955",
        ),
    ]
}

#[test]
fn each_provider_costs_what_its_list_says() {
    let mut faults = Vec::new();
    for case in cases() {
        let mut answer = (case.answer)();
        // Cohere's answers name no model, the others' their own.
        if !case.model.is_empty() && case.provider != "cohere" {
            answer["model"] = json!(case.model);
        }
        let upstream = Upstream::always(Script::json(200, &answer.to_string()));
        let base = upstream.base();
        let (prefix, yaml) = match case.provider {
            "openai" => (
                String::new(),
                format!("providers: {{openai: {{upstream: \"{base}\"}}}}"),
            ),
            name => (
                format!("/{name}"),
                format!("providers: {{extra: {{{name}: {{enabled: true, upstream: \"{base}\"}}}}}}"),
            ),
        };
        let gateway = Setup::new(&upstream).only(&yaml).start();
        let body = match case.model {
            "" => json!({"contents": [], "content": {}, "messages": [], "max_tokens": 100}),
            model => json!({"model": model, "messages": [], "max_tokens": 100}),
        };
        let path = format!("{prefix}{}", case.path);
        let reply = gateway.client.post(&path, &body.to_string());
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let settled = gateway.entry().settlement;
        let (cost, reason) = (settled.cost.to_string(), settled.estimate_reason.as_deref());
        if (cost.as_str(), reason) != (case.cost, None) {
            let usage: Vec<_> = settled.usage.iter().collect();
            faults.push(format!(
                "{path} {}: {cost} and not {}, {reason:?}, {usage:?}",
                case.model, case.cost
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
