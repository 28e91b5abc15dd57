//! Chat completions: metered exactly, passed untouched.

use crate::harness::{Gateway, Script, Upstream};

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":{"cached_tokens":600}}}"#;

#[test]
fn an_answer_passes_untouched_and_is_entered_at_its_exact_cost() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let gateway = Gateway::to(&upstream);
    let asked = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Say hello."}]}"#;
    let reply = gateway.client.post("/v1/chat/completions", asked);
    assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER));
    assert_eq!(upstream.only_seen().body, asked.as_bytes());
    let entry = gateway.entry();
    // 400 × 2.5 + 600 × 1.25 + 100 × 10 USD per million.
    assert_eq!(entry.settlement.cost.to_string(), "0.00275");
    assert_eq!(&*entry.settlement.model, "gpt-4o-2024-08-06");
    assert_eq!(entry.settlement.estimate_reason, None);
}

#[test]
fn a_stream_without_asked_usage_is_metered_and_the_clients_bytes_are_its_own() {
    let chunk = |text: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}],\"usage\":null}}\n\n"
        )
    };
    let usage = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":2,\"total_tokens\":10}}\n\n";
    let done = "data: [DONE]\n\n";
    let pieces = [chunk("Hel"), chunk("lo"), usage.to_owned(), done.to_owned()];
    let upstream = Upstream::always(Script::sse(&pieces));
    let gateway = Gateway::to(&upstream);
    let reply = gateway.client.post(
        "/v1/chat/completions",
        r#"{"model":"gpt-4o","stream":true,"messages":[]}"#,
    );
    assert_eq!(reply.text(), [chunk("Hel"), chunk("lo"), done.to_owned()].concat());
    assert_eq!(upstream.only_seen().json()["stream_options"]["include_usage"], true);
    let entry = gateway.entry();
    assert_eq!(entry.settlement.cost.to_string(), "0.00004");
    assert_eq!(entry.settlement.estimate_reason, None);
}
