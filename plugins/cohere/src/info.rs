//! What this dialect serves, and which values it needs to see.

use agentledger_guest::ProgressPart::{Content, Role, ToolCall};
use agentledger_guest::{Info, Medium, media, progress, strings, want};

use crate::plans::plans;
use crate::routes::routes;

pub const CHAT: &str = "chat";
pub const CHAT_V1: &str = "chat.v1";
pub const GENERATE: &str = "generate";
pub const SUMMARIZE: &str = "summarize";
pub const EMBED: &str = "embed";
pub const RERANK: &str = "rerank";

pub fn info() -> Info {
    Info {
        routes: routes(),
        request_paths: vec![
            want("model", 1_024, 0),
            want("stream", 16, 0),
            want("max_tokens", 64, 0),
            want("num_generations", 64, 0),
            // Context that the server keeps: its size is held by an allowance.
            want("conversation_id", 256, 0),
        ],
        request_media: vec![
            media("messages.*.content.*.image_url", Medium::Image),
            media("images.*", Medium::Image),
            media("inputs.*.content.*.image_url", Medium::Image),
        ],
        progress_paths: vec![
            progress("messages.*.role", Role),
            progress("messages.*.content", Content),
            progress("messages.*.tool_calls.*.function", ToolCall),
            // Version 1: the question stands outside of the history.
            progress("message", Content),
            progress("tool_results", Content),
            progress("chat_history.*.role", Role),
            progress("chat_history.*.message", Content),
            progress("chat_history.*.tool_calls.*.name", ToolCall),
            progress("chat_history.*.tool_calls.*.parameters", ToolCall),
            progress("prompt", Content),
        ],
        answer_paths: vec![
            want("type", 64, 0),
            want("event_type", 64, 0),
            want("is_finished", 16, 0),
            want("finish_reason", 64, 0),
            // The second version's chat reports here, its stream in its last event.
            want("usage", 4_096, 0),
            want("delta.usage", 4_096, 0),
            want("delta.finish_reason", 64, 0),
            // The first version's, and embeddings and ranks of both.
            want("meta.billed_units", 4_096, 0),
            want("response.meta.billed_units", 4_096, 0),
        ],
        text_paths: strings(&[
            "delta.message.content.text",
            "delta.message.content.thinking",
            "delta.message.tool_plan",
            "delta.message.tool_calls.function",
            "message.content.*.text",
            "message.content.*.thinking",
            "message.tool_plan",
            "message.tool_calls.*.function",
            "text",
            "generations.*.text",
            "summary",
        ]),
        markers: strings(&["\"billed_units\"", "\"is_finished\":true", "\"is_finished\": true"]),
        end_markers: strings(&["\"content-end\""]),
        events: strings(&["message-start", "message-end", "stream-end"]),
        // <https://docs.cohere.com/reference/chat#response.body.id>; the first version's chat has the other name, and a
        // `response_id` beside it that its streams do not have.
        response_id_paths: strings(&["id", "generation_id"]),
        // The one that its answers expose to scripts of other sites (`access-control-expose-headers`); its reference names none.
        request_id_headers: strings(&["x-debug-trace-id"]),
        reading_plans: plans(),
        ..agentledger_guest::info("cohere", env!("CARGO_PKG_VERSION"))
    }
}
