//! What this dialect serves, and which values it needs to see.

use agentledger_guest::Billing::{FetchedLines, Free, Metered};
use agentledger_guest::ProgressPart::{Content, Role, ToolCall};
use agentledger_guest::{Info, Medium, link, media, progress, route, strings, want};

pub const MESSAGES: &str = "messages";
/// <https://platform.claude.com/docs/en/api/retrieving-message-batch-results>
pub const BATCH_RESULTS: &str = "messages.batches.results";

pub const BATCHES: &str = "messages.batches";
/// Batches of one page, at most: <https://platform.claude.com/docs/en/api/listing-message-batches>
const BATCHES_MAX: u32 = 1_000;

pub const CACHE_CONTROL: &str = "\"cache_control\"";
pub const ONE_HOUR: &str = "\"1h\"";
pub const DOCUMENT: &str = "\"document\"";
pub const PLAIN_TEXT: &str = "\"text/plain\"";

/// A usage report with a hundred iterations is still read whole.
const USAGE_BYTES_MAX: u32 = 64 << 10;

fn on_vertex(what: &str) -> String {
    format!("/v1/projects/{{any}}/locations/{{any}}/publishers/anthropic/models/{what}")
}

pub fn info() -> Info {
    Info {
        routes: vec![
            route("POST", "/v1/messages", MESSAGES, Metered),
            route("POST", "/v1/messages/count_tokens", "messages.count_tokens", Free),
            route("GET", "/v1/messages/batches/{id}/results", BATCH_RESULTS, FetchedLines),
            // Billed when the results are fetched: <https://platform.claude.com/docs/en/build-with-claude/batch-processing>.
            route("POST", "/v1/messages/batches", BATCHES, Free),
            route("GET", "/v1/messages/batches", BATCHES, Free),
            route("GET", "/v1/messages/batches/{any}", BATCHES, Free),
            route("POST", "/v1/messages/batches/{any}/cancel", BATCHES, Free),
            route("GET", "/v1/messages/*", "read", Free),
            route("DELETE", "/v1/messages/*", "delete", Free),
            route("POST", "/v1/files", "files", Free),
            route("GET", "/v1/files", "files", Free),
            route("GET", "/v1/files/*", "files", Free),
            route("DELETE", "/v1/files/*", "files", Free),
            route("GET", "/v1/models", "models", Free),
            route("GET", "/v1/models/*", "models", Free),
            // On Vertex AI the path names the model.
            // <https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai>
            route(
                "POST",
                &on_vertex("count-tokens:rawPredict"),
                "messages.count_tokens",
                Free,
            ),
            route("POST", &on_vertex("{model}:rawPredict"), MESSAGES, Metered),
            route("POST", &on_vertex("{model}:streamRawPredict"), MESSAGES, Metered),
        ],
        request_paths: vec![
            want("model", 1_024, 0),
            want("stream", 16, 0),
            want("max_tokens", 64, 0),
            want("service_tier", 64, 0),
            want("speed", 64, 0),
            want("inference_geo", 64, 0),
        ],
        // Where a block of a message asks for a cache write, or bears a document, is not worth an outline of all blocks.
        request_markers: strings(&[CACHE_CONTROL, ONE_HOUR, DOCUMENT, PLAIN_TEXT]),
        request_media: vec![
            media("messages.*.content.*.source", Medium::Image),
            media("messages.*.content.*.content.*.source", Medium::Image),
            media("system.*.source", Medium::Image),
        ],
        // Without the ids of tool calls, the signatures of thinking and the marks of caching.
        progress_paths: vec![
            progress("messages.*.role", Role),
            progress("messages.*.content", Content),
            progress("messages.*.content.*.text", Content),
            progress("messages.*.content.*.source", Content),
            progress("messages.*.content.*.name", ToolCall),
            progress("messages.*.content.*.input", ToolCall),
            progress("messages.*.content.*.content", Content),
        ],
        answer_paths: vec![
            want("type", 64, 0),
            want("model", 1_024, 0),
            want("usage", USAGE_BYTES_MAX, 0),
            want("message.model", 1_024, 0),
            want("message.usage", USAGE_BYTES_MAX, 0),
            want("error.type", 256, 0),
            // Another model took over within the stream.
            want("content_block.type", 64, 0),
            want("content_block.to.model", 1_024, 0),
            // A line of a batch's results.
            want("custom_id", 256, 0),
            want("result.type", 64, 0),
            want("result.message.model", 1_024, 0),
            want("result.message.usage", USAGE_BYTES_MAX, 0),
        ],
        text_paths: strings(&[
            "delta.text",
            "delta.thinking",
            "delta.partial_json",
            "delta.content",
            "content.*.text",
            "content.*.thinking",
            "content.*.input",
            "result.message.content.*.text",
            "result.message.content.*.thinking",
            "result.message.content.*.input",
        ]),
        markers: strings(&[
            "\"usage\":{",
            "\"usage\": {",
            "\"type\":\"fallback\"",
            "\"type\": \"fallback\"",
        ]),
        events: strings(&["message_start", "message_delta", "message_stop", "error"]),
        // The SDKs fetch a batch's results there.
        answer_links: vec![
            link(BATCHES, "results_url", 0),
            link(BATCHES, "data.*.results_url", BATCHES_MAX),
        ],
        // The first event of a stream has the message inside: <https://platform.claude.com/docs/en/build-with-claude/streaming>.
        response_id_paths: strings(&["message.id", "id"]),
        request_id_headers: strings(&[
            // <https://docs.anthropic.com/en/api/overview>
            "request-id",
            // Hosts that serve this dialect, too: see those of `openai`.
            "apim-request-id",
            "x-ds-trace-id",
            "x-request-id",
        ]),
        ..agentledger_guest::info("anthropic", env!("CARGO_PKG_VERSION"))
    }
}
