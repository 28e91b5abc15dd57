//! What this dialect serves, and which values it needs to see.

use agentledger_guest::ProgressPart::{Content, Role, ToolCall};
use agentledger_guest::{Info, Medium, media, progress, strings, want};

use crate::plans::plans;
use crate::routes::routes;

pub const CONVERSE: &str = "converse";
pub const CONVERSE_STREAM: &str = "converse-stream";
pub const INVOKE: &str = "invoke";
pub const INVOKE_STREAM: &str = "invoke-with-response-stream";

/// The tier that an invocation asks for, and the one that served it.
pub const TIER_HEADER: &str = "x-amzn-bedrock-service-tier";
/// `optimized` has prices of its own.
pub const LATENCY_HEADER: &str = "x-amzn-bedrock-performanceconfig-latency";

/// A usage report with a hundred iterations is still read whole.
const USAGE_BYTES_MAX: u32 = 64 << 10;
/// Candidates, or images, in one answer.
const ITEMS_MAX: u32 = 64;

/// Documents that are billed as one query: <https://aws.amazon.com/bedrock/pricing/>
pub const DOCUMENTS_MAX: usize = 100;

/// A request asks for a cache write: Converse's name for it, and Anthropic's.
pub const CACHE_POINTS: [&str; 2] = ["\"cachePoint\"", "\"cache_control\""];
pub const ONE_HOUR: &str = "\"1h\"";
pub const DOCUMENT: &str = "\"document\"";
pub const PLAIN_TEXT: &str = "\"text/plain\"";

pub fn info() -> Info {
    Info {
        routes: routes(),
        request_paths: vec![
            want("inferenceConfig.maxTokens", 64, 0),
            want("serviceTier.type", 64, 0),
            want("performanceConfig.latency", 64, 0),
            // The models' own names for the same limit.
            want("max_tokens", 64, 0),
            want("max_completion_tokens", 64, 0),
            want("max_tokens_to_sample", 64, 0),
            want("max_gen_len", 64, 0),
            want("maxTokens", 64, 0),
            want("textGenerationConfig.maxTokenCount", 64, 0),
            want("num_generations", 64, 0),
            want("numResults", 64, 0),
            want("imageGenerationConfig.numberOfImages", 64, 0),
            // How many are ranked, and not what they say.
            want("documents.*", 0, DOCUMENTS_MAX as u32 + 1),
        ],
        request_headers: strings(&[TIER_HEADER, LATENCY_HEADER]),
        request_markers: strings(&[&CACHE_POINTS[..], &[ONE_HOUR, DOCUMENT, PLAIN_TEXT]].concat()),
        request_media: vec![
            media("messages.*.content.*.image.source", Medium::Image),
            media("messages.*.content.*.document.source", Medium::File),
            media("messages.*.content.*.video.source", Medium::File),
            media("messages.*.content.*.toolResult.content.*.image.source", Medium::Image),
            media(
                "messages.*.content.*.toolResult.content.*.document.source",
                Medium::File,
            ),
            media("messages.*.content.*.toolResult.content.*.video.source", Medium::File),
            // The bodies of Anthropic's models, and of those that take OpenAI's form.
            media("messages.*.content.*.source", Medium::Image),
            media("messages.*.content.*.content.*.source", Medium::Image),
            media("messages.*.content.*.image_url", Medium::Image),
            media("inputImage", Medium::Image),
            media("images", Medium::Image),
        ],
        progress_paths: vec![
            progress("messages.*.role", Role),
            progress("messages.*.content.*.text", Content),
            progress("messages.*.content.*.toolUse.name", ToolCall),
            progress("messages.*.content.*.toolUse.input", ToolCall),
            progress("messages.*.content.*.toolResult.content", Content),
            // The bodies of Anthropic's models.
            progress("messages.*.content.*.name", ToolCall),
            progress("messages.*.content.*.input", ToolCall),
            progress("messages.*.content.*.content", Content),
            progress("prompt", Content),
            progress("inputText", Content),
        ],
        answer_paths: vec![
            want("type", 64, 0),
            want("usage", USAGE_BYTES_MAX, 0),
            want("serviceTier.type", 64, 0),
            want("performanceConfig.latency", 64, 0),
            // Which model a router chose.
            want("trace.promptRouter.invokedModelId", 1_024, 0),
            // A guardrail was applied: Converse tells it where it is to trace, an invocation always.
            want("trace.guardrail.@", 1, 0),
            want("stopReason", 64, 0),
            want("amazon-bedrock-guardrailAction", 64, 0),
            // Anthropic's and Nova's own events.
            want("message.usage", USAGE_BYTES_MAX, 0),
            want("metadata.usage", USAGE_BYTES_MAX, 0),
            // Titan, Llama, and models that give images or an order.
            want("inputTextTokenCount", 64, 0),
            want("results.*.tokenCount", 64, ITEMS_MAX),
            want("results.*.relevance_score", 64, 1),
            want("results.*.relevanceScore", 64, 1),
            want("prompt_token_count", 64, 0),
            want("generation_token_count", 64, 0),
            want("images.*", 0, ITEMS_MAX),
            want("artifacts.*.finishReason", 64, ITEMS_MAX),
            // In the last event of every invoked stream.
            want("amazon-bedrock-invocationMetrics", 4_096, 0),
            want("@headers.x-amzn-bedrock-input-token-count", 32, 0),
            want("@headers.x-amzn-bedrock-output-token-count", 32, 0),
            want("@headers.x-amzn-bedrock-cache-read-input-token-count", 32, 0),
            want("@headers.x-amzn-bedrock-cache-write-input-token-count", 32, 0),
            want("@headers.x-amzn-bedrock-service-tier", 64, 0),
            want("@headers.x-amzn-bedrock-performanceconfig-latency", 64, 0),
        ],
        text_paths: strings(&[
            "output.message.content.*.text",
            "output.message.content.*.toolUse.input",
            "output.message.content.*.reasoningContent.reasoningText.text",
            "delta.text",
            "delta.toolUse.input",
            "delta.reasoningContent.text",
            // Nova's own events.
            "contentBlockDelta.delta.text",
            "contentBlockDelta.delta.toolUse.input",
            "contentBlockDelta.delta.reasoningContent.text",
            // Anthropic's.
            "delta.thinking",
            "delta.partial_json",
            "content.*.text",
            "content.*.thinking",
            "content.*.input",
            "completion",
            // Titan, Llama, Mistral, Cohere, and OpenAI's form.
            "outputText",
            "results.*.outputText",
            "generation",
            "outputs.*.text",
            "generations.*.text",
            "text",
            "choices.*.message.content",
            "choices.*.message.tool_calls.*.function",
            "choices.*.delta.content",
            "choices.*.delta.tool_calls.*.function",
        ]),
        markers: strings(&["\"usage\":{", "\"usage\": {", "\"amazon-bedrock-invocationMetrics\""]),
        // The metadata follows the event that says why the message is over.
        end_markers: strings(&["\"stopReason\":\"", "content_block_stop"]),
        events: strings(&[
            "metadata",
            "error",
            "exception",
            "internalServerException",
            "modelStreamErrorException",
            "modelTimeoutException",
            "serviceUnavailableException",
            "throttlingException",
            "validationException",
        ]),
        // Only the models' own bodies have an id; what Converse answers has none.
        response_id_paths: strings(&["message.id", "id"]),
        // As AWS's own clients read it: <https://github.com/aws/aws-sdk-js-v3/pull/4015>.
        request_id_headers: strings(&["x-amzn-requestid"]),
        reading_plans: plans(),
        ..agentledger_guest::info("bedrock", env!("CARGO_PKG_VERSION"))
    }
}
