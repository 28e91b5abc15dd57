//! What this dialect serves, and which values it needs to see.

use agentledger_guest::ProgressPart::{Content, Role, ToolCall};
use agentledger_guest::{Info, Medium, Want, link, media, progress, strings, want};

use crate::plans::plans;
use crate::routes::routes;

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

/// Models that a list of them may name.
pub const FALLBACKS_MAX: usize = 64;
/// Tools of one request; with tool search the API takes ten thousand.
/// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool>
pub const TOOLS_MAX: usize = 16_384;

/// Lists are wanted with one item more than they may have, so that one too many is seen. What stands in place of a list is
/// wanted, too: a short word may do so.
fn request_paths() -> Vec<Want> {
    let (models, tools) = (FALLBACKS_MAX as u32 + 1, TOOLS_MAX as u32 + 1);
    vec![
        want("model", 1_024, 0),
        want("models", 1_024, 0),
        want("models.*", 1_024, models),
        want("models.*.model", 1_024, models),
        want("fallbacks", 1_024, 0),
        want("fallbacks.*", 1_024, models),
        want("fallbacks.*.model", 1_024, models),
        want("fallbacks.*.max_tokens", 64, models),
        want("fallbacks.*.speed", 64, models),
        want("preset", 1_024, 0),
        want("stream", 16, 0),
        want("max_tokens", 64, 0),
        want("thinking.type", 64, 0),
        want("thread.previous_message_id", 256, 0),
        want("service_tier", 64, 0),
        want("speed", 64, 0),
        want("inference_geo", 64, 0),
        want("tools.*.type", 64, tools),
        want("tools.*.model", 1_024, tools),
        want("tools.*.max_uses", 64, tools),
        want("tools.*.max_tokens", 64, tools),
        want("tools.*.parameters.model", 1_024, tools),
        want("plugins.*.id", 64, models),
        want("plugins.*.model", 1_024, models),
        want("plugins.*.models", 1_024, 0),
        want("plugins.*.models.*", 1_024, models),
        want("plugins.*.allowed_models", 64, 0),
        want("plugins.*.allowed_models.*", 64, 1),
    ]
}

pub fn info() -> Info {
    Info {
        routes: routes(),
        request_paths: request_paths(),
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
            // Some hosts put the usage of a stream's end here.
            want("delta.usage", USAGE_BYTES_MAX, 0),
            // Code ran in it.
            want("container.id", 256, 0),
            want("delta.container.id", 256, 0),
            want("result.message.container.id", 256, 0),
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
        end_markers: strings(&["content_block_stop"]),
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
        reading_plans: plans(),
        ..agentledger_guest::info("anthropic", env!("CARGO_PKG_VERSION"))
    }
}
