//! What this dialect serves, and which values it needs to see.

use agentledger_guest::Billing::{Free, Metered};
use agentledger_guest::{Info, Medium, media, route, want};

pub const CHAT: &str = "chat";
pub const COMPLETIONS: &str = "completions";
pub const EMBEDDINGS: &str = "embeddings";
pub const RESPONSES: &str = "responses";
pub const COMPACT: &str = "responses.compact";
pub const REALTIME: &str = "realtime";

pub fn info() -> Info {
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    Info {
        name: "openai".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        routes: vec![
            route("POST", "/v1/chat/completions", CHAT, Metered),
            route("POST", "/v1/completions", COMPLETIONS, Metered),
            route("POST", "/v1/embeddings", EMBEDDINGS, Metered),
            route("POST", "/v1/responses", RESPONSES, Metered),
            route("POST", "/v1/responses/compact", COMPACT, Metered),
            route("POST", "/v1/responses/input_tokens", "responses.input_tokens", Free),
            route("POST", "/v1/responses/{any}/cancel", "responses.cancel", Free),
            route("WEBSOCKET", "/v1/realtime", REALTIME, Metered),
            route("WEBSOCKET", "/v1/responses", RESPONSES, Metered),
            // Known, so that it is refused with a reason instead of passing as a free GET.
            route("GET", "/v1/realtime", REALTIME, Metered),
            route("GET", "/v1/models", "models", Free),
            route("GET", "/v1/models/*", "models", Free),
            route("GET", "/v1/*", "read", Free),
            route("DELETE", "/v1/*", "delete", Free),
        ],
        request_paths: vec![
            want("model", 1_024, 0),
            want("stream", 16, 0),
            want("background", 16, 0),
            // Context that the server keeps: its size is held by an allowance.
            want("previous_response_id", 256, 0),
            want("conversation", 256, 0),
            want("max_tokens", 64, 0),
            want("max_completion_tokens", 64, 0),
            want("max_output_tokens", 64, 0),
            want("n", 64, 0),
            want("best_of", 64, 0),
            want("service_tier", 64, 0),
            // Perplexity's fee of a request goes by it.
            want("web_search_options.search_context_size", 64, 0),
            want("stream_options.include_usage", 16, 0),
            // Messages over a WebSocket.
            want("type", 128, 0),
            want("event_id", 256, 0),
            want("stream_id", 256, 0),
            want("response.max_output_tokens", 64, 0),
        ],
        request_headers: vec![],
        request_media: vec![
            media("messages.*.content.*.image_url", Medium::Image),
            media("messages.*.content.*.input_audio", Medium::Audio),
            media("messages.*.content.*.file", Medium::File),
            media("input.*.content.*.image_url", Medium::Image),
            media("input.*.content.*.input_audio", Medium::Audio),
            media("input.*.content.*.file_data", Medium::File),
            media("input.*.content.*.file_url", Medium::File),
            media("input.*.content.*.file_id", Medium::File),
            media("input.*.output.image_url", Medium::Image),
            media("input.*.output.*.image_url", Medium::Image),
            media("input.*.output.*.file_data", Medium::File),
            media("input.*.output.*.file_id", Medium::File),
            media("input.*.result", Medium::Image),
            media("audio", Medium::Audio),
            media("item.content.*.audio", Medium::Audio),
            media("item.content.*.image_url", Medium::Image),
            media("response.input.*.content.*.audio", Medium::Audio),
            media("response.input.*.content.*.image_url", Medium::Image),
        ],
        answer_paths: vec![
            want("id", 256, 0),
            want("model", 1_024, 0),
            want("object", 64, 0),
            want("type", 64, 0),
            want("service_tier", 64, 0),
            want("usage", 8_192, 0),
            // Groq's streams report here.
            want("x_groq.usage", 8_192, 0),
            // One value of each choice shows whether there are choices at all.
            want("choices.*.index", 16, 1),
            want("error.code", 256, 0),
            want("error.type", 256, 0),
            want("status", 64, 0),
            want("tool_usage.web_search.num_requests", 64, 0),
            want("response.id", 256, 0),
            want("response.model", 1_024, 0),
            want("response.status", 64, 0),
            want("response.service_tier", 64, 0),
            want("response.usage", 8_192, 0),
            want("response.tool_usage.web_search.num_requests", 64, 0),
            // Messages over a WebSocket.
            want("response_id", 256, 0),
            want("stream_id", 256, 0),
            want("error.event_id", 256, 0),
            want("session.model", 1_024, 0),
            want("session.max_output_tokens", 64, 0),
            want("session.max_response_output_tokens", 64, 0),
            want("session.audio.input.transcription.model", 1_024, 0),
            want("session.input_audio_transcription.model", 1_024, 0),
        ],
        text_paths: paths(&[
            "choices.*.delta.content",
            "choices.*.delta.refusal",
            "choices.*.delta.reasoning_content",
            "choices.*.delta.reasoning",
            "choices.*.delta.function_call",
            "choices.*.delta.tool_calls.*.function",
            "choices.*.delta.tool_calls.*.custom",
            "choices.*.message.content",
            "choices.*.message.refusal",
            "choices.*.message.reasoning_content",
            "choices.*.message.reasoning",
            "choices.*.message.function_call",
            "choices.*.message.tool_calls.*.function",
            "choices.*.message.tool_calls.*.custom",
            "choices.*.text",
            // Every `response.….delta` event, and the items of a whole response.
            "delta",
            "output.*.content.*.text",
            "output.*.content.*.refusal",
            "output.*.summary.*.text",
            "output.*.arguments",
            "output.*.input",
            "output.*.code",
        ]),
        markers: paths(&["\"usage\":{", "\"usage\": {", "\"error\":{", "\"error\": {"]),
        events: paths(&["response.completed", "response.incomplete", "response.failed", "error"]),
    }
}
