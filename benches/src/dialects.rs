//! An answer of about 1 KB and the event of a stream that bears usage, in each dialect that the gateway reads.

/// One dialect's samples.
pub struct Dialect {
    /// The plugin's name.
    pub name: &'static str,
    /// Paths of the requests that these answer, as the plugin's routes have them.
    pub answer_path: &'static str,
    pub event_path: &'static str,
    pub answer: String,
    /// The name of the event, where the dialect names its events.
    pub event_name: Option<&'static str>,
    pub event: String,
}

/// Some 650 bytes of text.
fn text() -> String {
    "The test fails because the fixture is missing. ".repeat(14)
}

/// By the plugin's name; `None`: no sample was made of it yet.
pub fn find(name: &str) -> Option<Dialect> {
    all().into_iter().find(|dialect| dialect.name == name)
}

fn all() -> [Dialect; 5] {
    [openai(), anthropic(), gemini(), cohere(), bedrock()]
}

fn openai() -> Dialect {
    let usage = r#""usage":{"prompt_tokens":1200,"completion_tokens":140,"total_tokens":1340,"prompt_tokens_details":{"cached_tokens":1024,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}"#;
    Dialect {
        name: "openai",
        answer_path: "/v1/chat/completions",
        event_path: "/v1/chat/completions",
        answer: format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1795305600,"model":"gpt-4o-2024-08-06","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],{usage},"system_fingerprint":"fp_1"}}"#,
            text()
        ),
        event_name: None,
        event: format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795305600,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_1","choices":[],{usage}}}"#
        ),
    }
}

fn anthropic() -> Dialect {
    Dialect {
        name: "anthropic",
        answer_path: "/v1/messages",
        event_path: "/v1/messages",
        answer: format!(
            r#"{{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[{{"type":"text","text":"{}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":12,"cache_creation_input_tokens":100,"cache_read_input_tokens":2000,"cache_creation":{{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":0}},"output_tokens":140,"service_tier":"standard"}}}}"#,
            text()
        ),
        event_name: Some("message_delta"),
        event: r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":12,"cache_creation_input_tokens":100,"cache_read_input_tokens":2000,"output_tokens":140}}"#.to_owned(),
    }
}

fn gemini() -> Dialect {
    let usage = r#""usageMetadata":{"promptTokenCount":1200,"candidatesTokenCount":140,"totalTokenCount":1400,"cachedContentTokenCount":1024,"promptTokensDetails":[{"modality":"TEXT","tokenCount":1200}],"thoughtsTokenCount":60},"modelVersion":"gemini-2.5-flash","responseId":"r-1""#;
    Dialect {
        name: "gemini",
        answer_path: "/v1beta/models/gemini-2.5-flash:generateContent",
        event_path: "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        answer: format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{}"}}],"role":"model"}},"finishReason":"STOP","index":0}}],{usage}}}"#,
            text()
        ),
        event_name: None,
        event: format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"."}}],"role":"model"}},"finishReason":"STOP","index":0}}],{usage}}}"#
        ),
    }
}

fn cohere() -> Dialect {
    let usage = r#""usage":{"billed_units":{"input_tokens":1200,"output_tokens":140},"tokens":{"input_tokens":1270,"output_tokens":142}}"#;
    Dialect {
        name: "cohere",
        answer_path: "/v2/chat",
        event_path: "/v2/chat",
        answer: format!(
            r#"{{"id":"c-1","message":{{"role":"assistant","content":[{{"type":"text","text":"{}"}}]}},"finish_reason":"COMPLETE",{usage}}}"#,
            text()
        ),
        event_name: Some("message-end"),
        event: format!(r#"{{"type":"message-end","id":"c-1","delta":{{"finish_reason":"COMPLETE",{usage}}}}}"#),
    }
}

fn bedrock() -> Dialect {
    let usage = r#""usage":{"inputTokens":12,"outputTokens":140,"totalTokens":2252,"cacheReadInputTokens":2000,"cacheWriteInputTokens":100,"cacheDetails":[{"inputTokens":100,"ttl":"1h"}]},"metrics":{"latencyMs":431}"#;
    Dialect {
        name: "bedrock",
        answer_path: "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
        event_path: "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream",
        answer: format!(
            r#"{{"output":{{"message":{{"role":"assistant","content":[{{"text":"{}"}}]}}}},"stopReason":"end_turn",{usage}}}"#,
            text()
        ),
        event_name: Some("metadata"),
        event: format!(r#"{{{usage},"p":"abcdefghijklmnop"}}"#),
    }
}
