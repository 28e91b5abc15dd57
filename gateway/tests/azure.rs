//! Azure OpenAI through the running gateway: OpenAI's dialect behind deployments, priced before the answer by the
//! configured map, and by the model that the answer names.

use agentledger_ledger::{Kind, Outcome, Usd};
use serde_json::Value;

use crate::harness::upstream::Step;
use crate::harness::{Gateway, Script, Setup, Upstream};

const PRICES: &str = "provider: azure
models:
- {id: test-large, source: made up, prices: {always: {standard: {input: 2.5, cache_read: 1.25, output: 10}}}}
- {id: test-small, source: made up, prices: {always: {standard: {input: 0.1, cache_read: 0.05, output: 0.4}}}}
";
const KEY: (&str, &str) = ("api-key", "0123456789abcdef0123456789abcdef");
const CHAT: &str = "/azure/openai/deployments/chat-prod/chat/completions?api-version=2024-10-21";
const ASKED: &str = r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":100}"#;

fn gateway(upstream: &Upstream, fields: &str, more: &str) -> Gateway {
    let yaml = format!(
        "providers: {{azure: {{enabled: true, upstream: \"{}\", deployments: {{chat-prod: test-large}}, {fields}}}}}",
        upstream.base()
    );
    Setup::new(upstream).only(&yaml).prices(PRICES).with(more).start()
}

const DEFAULT: &str = "default_price: {input: 1000, output: 1000}";

fn answer(model: &str) -> String {
    format!(
        r#"{{"choices":[{{"content_filter_results":{{}},"finish_reason":"stop","index":0,"message":{{"content":"Hello.","role":"assistant"}}}}],"created":1,"id":"chatcmpl-1","model":"{model}","object":"chat.completion","prompt_filter_results":[{{"prompt_index":0}}],"usage":{{"completion_tokens":20,"prompt_tokens":100,"prompt_tokens_details":{{"cached_tokens":40}},"total_tokens":120}}}}"#
    )
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

#[test]
fn a_deployment_is_priced_by_the_map_before_and_by_the_answers_model_after() {
    let upstream = Upstream::always(Script::json(200, &answer("test-small-2026-01-01")));
    let gateway = gateway(&upstream, DEFAULT, "");
    let reply = gateway.client.request("POST", CHAT, &[KEY], ASKED.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = upstream.only_seen();
    assert_eq!(
        seen.path,
        "/openai/deployments/chat-prod/chat/completions?api-version=2024-10-21"
    );
    assert_eq!(
        (seen.header("api-key"), seen.body.as_slice()),
        (Some(KEY.1), ASKED.as_bytes())
    );
    let entry = gateway.entry();
    assert_eq!(
        (
            &*entry.facts.provider,
            &*entry.facts.operation,
            &*entry.facts.requested_model
        ),
        ("azure", "chat", "test-large")
    );
    assert_eq!(&*entry.settlement.model, "test-small-2026-01-01");
    // Held: 100 tokens of output at 10 USD a million and a little input. Settled: 60 × 0.1 + 40 × 0.05 + 20 × 0.4 millionths.
    assert!(
        entry.held > usd("0.001") && entry.held < usd("0.002"),
        "{:?}",
        entry.held
    );
    assert_eq!(
        (entry.settlement.cost, entry.settlement.estimate_reason.as_deref()),
        (usd("0.000016"), None)
    );
}

#[test]
fn a_deployment_whose_answer_names_no_known_model_is_priced_by_the_map() {
    let upstream = Upstream::always(Script::json(200, &answer("an-inner-name")));
    let gateway = gateway(&upstream, "unpriced: refuse", "");
    assert_eq!(
        gateway.client.request("POST", CHAT, &[KEY], ASKED.as_bytes()).status,
        200
    );
    let entry = gateway.entry();
    // 60 × 2.5 + 40 × 1.25 + 20 × 10 millionths.
    assert_eq!(entry.settlement.cost, usd("0.0004"));
}

#[test]
fn an_unknown_deployment_goes_by_the_rule_for_unpriced_models() {
    let upstream = Upstream::always(Script::json(200, &answer("an-inner-name")));
    let other = CHAT.replace("chat-prod", "unheard-of");
    let refusing = gateway(&upstream, "unpriced: refuse", "");
    let reply = refusing.client.request("POST", &other, &[KEY], ASKED.as_bytes());
    assert_eq!(
        (reply.status, reply.json()["error"]["code"].as_str()),
        (400, Some("unpriced_model"))
    );
    assert!(upstream.seen().is_empty());
    let stated = gateway(&upstream, DEFAULT, "");
    assert_eq!(
        stated.client.request("POST", &other, &[KEY], ASKED.as_bytes()).status,
        200
    );
    let entry = stated.entry();
    assert_eq!(
        (&*entry.facts.requested_model, entry.settlement.cost),
        ("unheard-of", usd("0.12"))
    );
}

#[test]
fn a_stream_is_asked_for_its_usage_and_hides_it_again() {
    let frames = [
        r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}"#,
        r#"{"choices":[{"delta":{"content":"Hello."},"index":0}],"id":"chatcmpl-1","model":"test-large","object":"chat.completion.chunk"}"#,
        r#"{"choices":[],"id":"chatcmpl-1","model":"test-large","object":"chat.completion.chunk","usage":{"completion_tokens":20,"prompt_tokens":100,"total_tokens":120}}"#,
    ];
    let sse: Vec<String> = frames
        .iter()
        .map(|frame| format!("data: {frame}\n\n"))
        .chain(["data: [DONE]\n\n".to_owned()])
        .collect();
    let upstream = Upstream::always(Script::sse(&sse));
    let gateway = gateway(&upstream, DEFAULT, "");
    let asked = ASKED.replace("\"max_tokens\"", "\"stream\":true,\"max_tokens\"");
    let reply = gateway.client.request("POST", CHAT, &[KEY], asked.as_bytes());
    assert_eq!(reply.text(), [sse[0].as_str(), &sse[1], &sse[3]].concat());
    assert_eq!(upstream.only_seen().json()["stream_options"]["include_usage"], true);
    let entry = gateway.entry();
    assert_eq!(
        (entry.settlement.cost, entry.settlement.estimate_reason.as_deref()),
        (usd("0.00045"), None)
    );
}

#[test]
fn the_v1_surface_names_its_deployment_in_the_body() {
    let body = r#"{"id":"resp_1","object":"response","model":"test-large","status":"completed","output":[],"usage":{"input_tokens":10,"output_tokens":10,"total_tokens":20}}"#;
    let upstream = Upstream::always(Script::json(200, body));
    let gateway = gateway(&upstream, DEFAULT, "");
    let asked = br#"{"model":"chat-prod","input":"hi","max_output_tokens":50}"#;
    let reply = gateway
        .client
        .request("POST", "/azure/openai/v1/responses", &[KEY], asked);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(upstream.only_seen().path, "/openai/v1/responses");
    let entry = gateway.entry();
    assert_eq!(
        (
            &*entry.facts.operation,
            &*entry.facts.requested_model,
            entry.settlement.cost
        ),
        ("responses", "test-large", usd("0.000125"))
    );
}

#[test]
fn embeddings_have_a_deployment_of_their_own() {
    let body = r#"{"object":"list","data":[],"model":"test-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    let upstream = Upstream::always(Script::json(200, body));
    let gateway = gateway(&upstream, DEFAULT, "");
    let path = "/azure/openai/deployments/embed/embeddings?api-version=2024-10-21";
    assert_eq!(
        gateway
            .client
            .request("POST", path, &[KEY], br#"{"input":["a"]}"#)
            .status,
        200
    );
    let entry = gateway.entry();
    assert_eq!(
        (entry.settlement.usage.get(Kind::Input), entry.settlement.cost),
        (8, usd("0.0000008"))
    );
}

#[test]
fn a_cut_ends_with_an_error_that_openais_clients_understand() {
    let words = "one two three four five six seven eight nine ten red green blue black white grey ";
    let frame = format!(
        "data: {{\"id\":\"c\",\"model\":\"test-large\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{words}\"}}}}]}}\n\n"
    );
    let endless = (0..300).fold(Script::stream_head("text/event-stream"), |script, _| {
        script.chunk(frame.as_bytes())
    });
    let upstream = Upstream::always(endless.step(Step::AwaitClose));
    let budget = "hold: {size: expected}\nbudgets: {default: {daily_limit_usd: 0.02, action: block}}";
    let gateway = gateway(&upstream, DEFAULT, budget);
    let asked = ASKED.replace("\"max_tokens\":100", "\"stream\":true,\"max_tokens\":16000");
    let reply = gateway.client.request("POST", CHAT, &[KEY], asked.as_bytes());
    let last = reply.text().trim_end().rsplit("data: ").next().unwrap().to_owned();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["error"]["code"], "insufficient_quota");
    let entry = gateway.entry();
    assert_eq!(entry.settlement.outcome, Outcome::Cut);
    let refused = gateway.client.request("POST", CHAT, &[KEY], ASKED.as_bytes());
    assert_eq!(
        (refused.status, refused.json()["error"]["type"].as_str()),
        (429, Some("budget_exceeded"))
    );
}

#[test]
fn other_paths_are_not_served() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = gateway(&upstream, DEFAULT, "");
    for path in [
        "/azure/v1/chat/completions",
        "/azure/openai/deployments/chat-prod/no/such",
        "/azure/openai/deployments//chat/completions",
        "/azure/anything",
    ] {
        let status = gateway.client.request("POST", path, &[KEY], ASKED.as_bytes()).status;
        assert!(matches!(status, 404 | 400), "{path}: {status}");
    }
    assert!(upstream.seen().is_empty());
}
