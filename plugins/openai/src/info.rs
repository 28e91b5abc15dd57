//! What this dialect serves, and which values it needs to see.

use agentledger_guest::ProgressPart::{Content, Continued, Role, ToolCall};
use agentledger_guest::{Info, Medium, media, progress, strings};

use crate::plans::plans;
use crate::routes::routes;
use crate::wants::{answer_paths, request_paths, text_paths};

pub const CHAT: &str = "chat";
pub const COMPLETIONS: &str = "completions";
pub const EMBEDDINGS: &str = "embeddings";
pub const RESPONSES: &str = "responses";
/// A response fetched by its id, whole or as a stream that goes on: <https://platform.openai.com/docs/guides/background>.
pub const RETRIEVE: &str = "responses.retrieve";
pub const CANCEL: &str = "responses.cancel";
pub const COMPACT: &str = "responses.compact";
pub const IMAGES: &str = "images.generations";
pub const IMAGE_EDITS: &str = "images.edits";
pub const IMAGE_VARIATIONS: &str = "images.variations";
pub const SPEECH: &str = "audio.speech";
pub const TRANSCRIPTIONS: &str = "audio.transcriptions";
pub const TRANSLATIONS: &str = "audio.translations";
pub const RERANK: &str = "rerank";
/// A file's content, which may be a batch's results: <https://platform.openai.com/docs/guides/batch>.
pub const FILE_CONTENT: &str = "files.content";
pub const REALTIME: &str = "realtime";
/// Moderations and classifiers: input alone, as embeddings.
pub const CLASSIFY: &str = "classify";
pub const OCR: &str = "ocr";
/// Mistral's conversations, begun, gone on with or started anew: <https://docs.mistral.ai/agents/agents_basics/>.
pub const CONVERSATION: &str = "conversations.run";
/// A chat with one of Mistral's agents, which names the model.
pub const AGENT: &str = "agents.completions";
/// A batch that bears its own results: <https://docs.mistral.ai/capabilities/batch/>.
pub const BATCH_JOB: &str = "batch.job";
/// xAI's result of a chat that was put off: <https://docs.x.ai/developers/advanced-api-usage/deferred-chat-completions>.
pub const DEFERRED: &str = "chat.deferred";
/// Perplexity's chat that is fetched later: <https://docs.perplexity.ai/api-reference/async-chat-completions-post>.
pub const ASYNC_CHAT: &str = "chat.async";
pub const SEARCH: &str = "search";
/// Ollama's own API: <https://docs.ollama.com/api>.
pub const NATIVE_CHAT: &str = "native.chat";
pub const NATIVE_EMBED: &str = "native.embed";

/// A message brings speech.
pub const INPUT_AUDIO: &str = "\"input_audio\"";

pub fn info() -> Info {
    Info {
        routes: routes(),
        request_paths: request_paths(),
        request_headers: strings(&["prefer"]),
        request_markers: strings(&[INPUT_AUDIO]),
        // Speech is billed by the character.
        request_counts: strings(&["input"]),
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
            media("inputs.*.content.*.image_url", Medium::Image),
            media("messages.*.images.*", Medium::Image),
            media("document.document_url", Medium::File),
            media("document.image_url", Medium::Image),
            media("audio", Medium::Audio),
            media("item.content.*.audio", Medium::Audio),
            media("item.content.*.image_url", Medium::Image),
            media("response.input.*.content.*.audio", Medium::Audio),
            media("response.input.*.content.*.image_url", Medium::Image),
            // Files of forms.
            media("image", Medium::Image),
            media("mask", Medium::Image),
            media("file", Medium::Audio),
        ],
        progress_paths: vec![
            progress("messages.*.role", Role),
            progress("messages.*.content", Content),
            progress("messages.*.tool_calls.*.function", ToolCall),
            progress("messages.*.tool_calls.*.custom", ToolCall),
            progress("messages.*.function_call", ToolCall),
            progress("prompt", Content),
            progress("input", Content),
            progress("input.*", Content),
            progress("input.*.role", Role),
            progress("input.*.content", Content),
            progress("input.*.name", ToolCall),
            progress("input.*.arguments", ToolCall),
            // Of custom tools, of shells and of computers.
            progress("input.*.input", ToolCall),
            progress("input.*.action", ToolCall),
            progress("input.*.output", Content),
            progress("inputs", Content),
            progress("inputs.*", Content),
            progress("inputs.*.role", Role),
            progress("inputs.*.content", Content),
            progress("inputs.*.arguments", ToolCall),
            progress("inputs.*.result", Content),
            // What the server keeps of earlier turns is seen by its name only.
            progress("previous_response_id", Continued),
            progress("conversation", Continued),
            progress("conversation.id", Continued),
        ],
        answer_paths: answer_paths(),
        text_paths: text_paths(),
        markers: strings(&[
            "\"usage\":{",
            "\"usage\": {",
            "\"error\":{",
            "\"error\": {",
            // Ollama's own API and llama.cpp report beside, not in, a usage.
            "\"prompt_eval_count\":",
            "\"timings\":{",
            // Groq's hosted tools stand in chunks before the one that bears the usage.
            "\"executed_tools\":[",
        ]),
        // The usage of chats follows the chunk that says why it is over; that of responses, the text.
        end_markers: strings(&[
            "\"finish_reason\":\"",
            "\"finish_reason\": \"",
            "response.output_text.done",
        ]),
        events: strings(&[
            "response.completed",
            "response.incomplete",
            "response.failed",
            // Only the events of a conversation's text name its model.
            "message.output.delta",
            "conversation.response.done",
            "error",
        ]),
        // Events of a stream of responses name it inside, all other answers at the top. xAI's chats that are put off have
        // nothing but a request's id, by which they are fetched.
        response_id_paths: strings(&["response.id", "id", "request_id", "conversation_id"]),
        // https://platform.openai.com/docs/api-reference/responses/object: items of a whole answer, and of
        // `response.output_item.done` in a stream.
        answer_calls: strings(&[
            "item.name",
            "item.arguments",
            "item.input",
            "item.action",
            "output.*.name",
            "output.*.arguments",
            "output.*.input",
            "output.*.action",
        ]),
        request_id_headers: request_id_headers(),
        reading_plans: plans(),
        ..agentledger_guest::info("openai", env!("CARGO_PKG_VERSION"))
    }
}

/// Of the hosts that speak this dialect. Names that only one of them has come first: its own logs go by them, even where it
/// sends the common one beside.
fn request_id_headers() -> Vec<String> {
    strings(&[
        // Azure; its diagnostic logs have it as `correlationId`: <https://github.com/BerriAI/litellm/issues/1721>.
        "apim-request-id",
        // Mistral: <https://github.com/dust-tt/dust/pull/5443>.
        "mistral-correlation-id",
        // DeepSeek, in place of the common one. Seen in its answers; its documentation names none.
        "x-ds-trace-id",
        // OpenAI <https://platform.openai.com/docs/api-reference/debugging-requests>, xAI, Groq, vLLM
        // <https://github.com/vllm-project/vllm/issues/9593> and most others.
        "x-request-id",
        // OpenRouter, the id of its generation: <https://github.com/Toloka/tolokaforge/pull/1242>.
        "x-generation-id",
        // Azure's services as its guidelines have it: <https://github.com/microsoft/api-guidelines/blob/vNext/azure/Guidelines.md>.
        "x-ms-request-id",
    ])
}
