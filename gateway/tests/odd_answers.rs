//! Answers that are longer or deeper than most, and bodies that are made to keep the gateway busy, through the running gateway.

use agentledger_ledger::Usd;

use crate::harness::{Gateway, Script, Setup, Upstream};

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

/// At $1 and $10 a million.
fn gateway(upstream: &Upstream, limit_usd: &str) -> Gateway {
    let base = upstream.base();
    let provider = |name: &str| {
        format!(
            "{name}: {{enabled: true, upstream: \"{base}\", default_price: {{input: 1, output: 10, image_output: 100}}}}"
        )
    };
    let yaml = format!(
        "providers: {{extra: {{{}}}, anthropic: {{upstream: \"{base}\", default_price: {{input: 1, output: 10}}}}}}\n\
         prices: {{files: []}}\nbudgets: {{default: {{daily_limit_usd: {limit_usd}, action: block}}}}",
        provider("gemini"),
    );
    Setup::new(upstream).only(&yaml).start()
}

/// The second frame bears a picture of 12 MiB and the usage.
#[test]
fn sse_frame_beyond_8_mib() {
    let picture = "iVBORw0KGgoAAAAN".repeat(12 << 16);
    let first = "data: {\"candidates\":[],\"usageMetadata\":{\"promptTokenCount\":20},\"modelVersion\":\"scripted-pro\"}\r\n\r\n";
    let second = format!(
        "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"inlineData\":{{\"mimeType\":\"image/png\",\"data\":\"{picture}\"}}}}]}},\"finishReason\":\"STOP\"}}],\
         \"usageMetadata\":{{\"promptTokenCount\":20,\"candidatesTokenCount\":2000,\"totalTokenCount\":2020}},\"modelVersion\":\"scripted-pro\"}}\r\n\r\n"
    );
    let upstream = Upstream::always(Script::chunked("text/event-stream", &[first, second.as_str()]));
    let gateway = gateway(&upstream, "1");
    let body =
        r#"{"contents":[{"parts":[{"text":"a picture of an otter"}]}],"generationConfig":{"maxOutputTokens":4000}}"#;
    let reply = gateway.client.request(
        "POST",
        "/gemini/v1beta/models/scripted-pro:streamGenerateContent?alt=sse",
        &[("x-goog-api-key", "AIza-0123456789abcdef")],
        body.as_bytes(),
    );
    assert_eq!(reply.status, 200);
    assert!(
        reply.body == [first, second.as_str()].concat().as_bytes(),
        "every byte passes"
    );
    let settlement = gateway.entry().settlement;
    assert_eq!((settlement.cost, settlement.estimate_reason), (usd("0.02002"), None));
}

/// The arguments of a tool call nest deeper than `limits.json_depth_max`: each answer costs what it says, and the limit holds.
#[test]
fn deep_answer() {
    let deep = format!("{}1{}", "{\"a\":[".repeat(200), "]}".repeat(200));
    let answer = format!(
        "{{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-scripted\",\
         \"content\":[{{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{deep}}}],\"stop_reason\":\"tool_use\",\
         \"usage\":{{\"input_tokens\":3000,\"output_tokens\":12000}}}}"
    );
    let upstream = Upstream::always(Script::json(200, &answer));
    let gateway = gateway(&upstream, "0.5");
    let body = r#"{"model":"claude-scripted","max_tokens":12000,"messages":[{"role":"user","content":"hi"}]}"#;
    let statuses: Vec<u16> = (0..6)
        .map(|_| gateway.client.post_anthropic("/v1/messages", body).status)
        .collect();
    // 3,000 × 1 + 12,000 × 10, a million, are $0.123: the fifth does not fit.
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    for entry in gateway.entries_of(4) {
        assert_eq!(
            (entry.settlement.cost, entry.settlement.estimate_reason),
            (usd("0.123"), None)
        );
    }
}

/// A body whose top-level object has very many keys is refused, whatever stands behind them.
#[test]
fn many_keys_stall() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = Gateway::to(&upstream);
    let keys: String = (0..200_000).map(|at| format!("\"k{at}\":1,")).collect();
    let reply = gateway.client.post(
        "/v1/chat/completions",
        &format!("{{{keys}\"model\":\"gpt-4o\",\"messages\":[]}}"),
    );
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("limits.json_keys_max"), "{}", reply.text());
    assert_eq!(upstream.seen_count(), 0);
}
