//! What this dialect serves, and which values it needs to see.

use agentledger_guest::Billing::{Fetched, FetchedLines, Free, Metered};
use agentledger_guest::ProgressPart::{Content, Role, ToolCall};
use agentledger_guest::{Info, Medium, Route, Want, media, progress, route, strings, want};

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

/// A message brings speech.
pub const INPUT_AUDIO: &str = "\"input_audio\"";

pub fn info() -> Info {
    Info {
        routes: routes(),
        request_paths: request_paths(),
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
            // What the server keeps of earlier turns is seen by its name only.
            progress("previous_response_id", Content),
            progress("conversation", Content),
        ],
        answer_paths: answer_paths(),
        text_paths: text_paths(),
        markers: strings(&["\"usage\":{", "\"usage\": {", "\"error\":{", "\"error\": {"]),
        events: strings(&["response.completed", "response.incomplete", "response.failed", "error"]),
        // Events of a stream of responses name it inside, all other answers at the top.
        response_id_paths: strings(&["response.id", "id"]),
        request_id_headers: request_id_headers(),
        ..agentledger_guest::info("openai", env!("CARGO_PKG_VERSION"))
    }
}

fn routes() -> Vec<Route> {
    vec![
        route("POST", "/v1/chat/completions", CHAT, Metered),
        route("POST", "/v1/completions", COMPLETIONS, Metered),
        route("POST", "/v1/embeddings", EMBEDDINGS, Metered),
        route("POST", "/v1/responses", RESPONSES, Metered),
        route("POST", "/v1/responses/compact", COMPACT, Metered),
        route("POST", "/v1/responses/input_tokens", "responses.input_tokens", Free),
        route("POST", "/v1/responses/{any}/cancel", CANCEL, Fetched),
        route("GET", "/v1/responses/{any}", RETRIEVE, Fetched),
        route("POST", "/v1/images/generations", IMAGES, Metered),
        route("POST", "/v1/images/edits", IMAGE_EDITS, Metered),
        route("POST", "/v1/images/variations", IMAGE_VARIATIONS, Metered),
        route("POST", "/v1/audio/speech", SPEECH, Metered),
        route("POST", "/v1/audio/transcriptions", TRANSCRIPTIONS, Metered),
        route("POST", "/v1/audio/translations", TRANSLATIONS, Metered),
        route("POST", "/v1/rerank", RERANK, Metered),
        route("POST", "/v1/moderations", "moderations", Free),
        route("POST", "/v1/files", "files", Free),
        route("GET", "/v1/files/{any}/content", FILE_CONTENT, FetchedLines),
        route("POST", "/v1/uploads", "uploads", Free),
        route("POST", "/v1/uploads/{any}/parts", "uploads", Free),
        route("POST", "/v1/uploads/{any}/complete", "uploads", Free),
        route("POST", "/v1/uploads/{any}/cancel", "uploads", Free),
        route("POST", "/v1/batches", "batches", Free),
        route("POST", "/v1/batches/{any}/cancel", "batches", Free),
        route("POST", "/v1/conversations", "conversations", Free),
        route("POST", "/v1/conversations/{any}", "conversations", Free),
        route("POST", "/v1/conversations/{any}/items", "conversations", Free),
        route("WEBSOCKET", "/v1/realtime", REALTIME, Metered),
        route("WEBSOCKET", "/v1/responses", RESPONSES, Metered),
        // Known, so that it is refused with a reason instead of passing as a free GET.
        route("GET", "/v1/realtime", REALTIME, Metered),
        route("GET", "/v1/models", "models", Free),
        route("GET", "/v1/models/*", "models", Free),
        route("GET", "/v1/*", "read", Free),
        route("DELETE", "/v1/*", "delete", Free),
    ]
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

fn request_paths() -> Vec<Want> {
    vec![
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
        want("modalities", 128, 0),
        want("stream_format", 64, 0),
        want("size", 64, 0),
        want("quality", 64, 0),
        want("partial_images", 64, 0),
        // Messages over a WebSocket.
        want("type", 128, 0),
        want("event_id", 256, 0),
        want("stream_id", 256, 0),
        want("response.max_output_tokens", 64, 0),
    ]
}

fn answer_paths() -> Vec<Want> {
    vec![
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
        want("store", 16, 0),
        want("tool_usage.web_search.num_requests", 64, 0),
        want("response.id", 256, 0),
        want("response.model", 1_024, 0),
        want("response.status", 64, 0),
        want("response.store", 16, 0),
        want("response.service_tier", 64, 0),
        want("response.usage", 8_192, 0),
        want("response.tool_usage.web_search.num_requests", 64, 0),
        // How many images there are, not what is in them.
        want("data.*.output_format", 16, 16),
        // A drawing that a text model wrote, beside the image: billed as its own model's.
        want("svg_usage", 1_024, 0),
        // Transcriptions of hosts that report no usage.
        want("duration", 64, 0),
        // Rerank as Cohere bills it.
        want("meta.billed_units", 1_024, 0),
        // Messages over a WebSocket.
        want("response_id", 256, 0),
        want("stream_id", 256, 0),
        want("error.event_id", 256, 0),
        want("session.model", 1_024, 0),
        want("session.max_output_tokens", 64, 0),
        want("session.max_response_output_tokens", 64, 0),
        want("session.audio.input.transcription.model", 1_024, 0),
        want("session.input_audio_transcription.model", 1_024, 0),
        // A line of a batch's results.
        want("custom_id", 256, 0),
        want("response.body.model", 1_024, 0),
        want("response.body.object", 64, 0),
        want("response.body.usage", 8_192, 0),
        want("response.body.tool_usage.web_search.num_requests", 64, 0),
    ]
}

fn text_paths() -> Vec<String> {
    strings(&[
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
        // Every `response.….delta` event, those of transcripts, and the items of a whole response. Not `text`: the events that
        // end a text repeat it.
        "delta",
        "output.*.content.*.text",
        "output.*.content.*.refusal",
        "output.*.summary.*.text",
        "output.*.arguments",
        "output.*.input",
        "output.*.code",
        // A line of a batch's results.
        "response.body.choices.*.message.content",
        "response.body.choices.*.message.tool_calls.*.function",
        "response.body.output.*.content.*.text",
        "response.body.output.*.arguments",
    ])
}
