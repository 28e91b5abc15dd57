//! What this dialect serves, and which values it needs to see.

use agentledger_guest::Billing::{Free, Metered};
use agentledger_guest::ProgressPart::{Content, Role, ToolCall};
use agentledger_guest::{Info, Media, Medium, Route, media, progress, route, strings, want};

pub const AUDIO: &str = "\"audio/";
pub const GENERATE: &str = "generateContent";
pub const STREAM: &str = "streamGenerateContent";
pub const EMBED: &str = "embedContent";
pub const EMBED_BATCH: &str = "batchEmbedContents";
pub const PREDICT: &str = "predict";
const COUNT: &str = "countTokens";

/// Embeddings or images that one answer of `predict` gives at most.
const PREDICTIONS_MAX: u32 = 2_048;
/// Candidates of one answer, and searches of one candidate.
const SEARCHES_MAX: u32 = 256;

/// Where models stand in Gemini's API and, with and without a project, in Vertex AI's.
/// <https://ai.google.dev/api/generate-content>, <https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest>
const PLACES: [&str; 11] = [
    "/v1beta/models",
    "/v1/models",
    "/v1alpha/models",
    "/v1beta/tunedModels",
    "/v1/tunedModels",
    "/v1/projects/{any}/locations/{any}/publishers/google/models",
    "/v1beta1/projects/{any}/locations/{any}/publishers/google/models",
    "/v1/publishers/google/models",
    "/v1beta1/publishers/google/models",
    // Tuned models. Other publishers' answer in dialects of their own.
    "/v1/projects/{any}/locations/{any}/endpoints",
    "/v1beta1/projects/{any}/locations/{any}/endpoints",
];

fn routes() -> Vec<Route> {
    let mut routes = vec![];
    for place in PLACES {
        for verb in [GENERATE, STREAM, EMBED, EMBED_BATCH, PREDICT] {
            routes.push(route("POST", &format!("{place}/{{model}}:{verb}"), verb, Metered));
        }
        for verb in [COUNT, "computeTokens"] {
            routes.push(route("POST", &format!("{place}/{{model}}:{verb}"), verb, Free));
        }
    }
    for version in ["v1", "v1alpha", "v1beta", "v1beta1"] {
        routes.push(route("POST", &format!("/upload/{version}/files"), "files.upload", Free));
        routes.push(route("GET", &format!("/{version}/models"), "models", Free));
        routes.push(route("GET", &format!("/{version}/models/*"), "models", Free));
        routes.push(route("GET", &format!("/{version}/*"), "read", Free));
        routes.push(route("DELETE", &format!("/{version}/*"), "delete", Free));
    }
    routes
}

/// Parts that are not text. What they are is said by their MIME type; the dearest thing they can be is a file.
fn parts_media() -> Vec<Media> {
    let contents = ["contents.*.parts.*", "requests.*.content.parts.*", "content.parts.*"];
    let names = ["inlineData", "inline_data", "fileData", "file_data"];
    let of = |place: &&str| names.map(|name| media(&format!("{place}.{name}"), Medium::File));
    contents.iter().flat_map(of).collect()
}

pub fn info() -> Info {
    Info {
        routes: routes(),
        // Google's parser takes a field in the spelling of its JSON and in that of its protocol buffers.
        request_paths: vec![
            want("generationConfig.maxOutputTokens", 64, 0),
            want("generationConfig.max_output_tokens", 64, 0),
            want("generationConfig.candidateCount", 64, 0),
            want("generationConfig.candidate_count", 64, 0),
            want("generation_config.maxOutputTokens", 64, 0),
            want("generation_config.max_output_tokens", 64, 0),
            want("generation_config.candidateCount", 64, 0),
            want("generation_config.candidate_count", 64, 0),
            want("generationConfig.responseModalities", 256, 0),
            want("generationConfig.response_modalities", 256, 0),
            want("generation_config.responseModalities", 256, 0),
            want("generation_config.response_modalities", 256, 0),
            want("serviceTier", 64, 0),
            want("service_tier", 64, 0),
            // Context that the server keeps: its size is held by an allowance.
            want("cachedContent", 512, 0),
            want("cached_content", 512, 0),
            // Imagen's images.
            want("parameters.sampleCount", 64, 0),
        ],
        request_headers: strings(&["x-vertex-ai-llm-shared-request-type"]),
        // How a recording's MIME type begins.
        request_markers: strings(&[AUDIO]),
        request_media: parts_media(),
        progress_paths: vec![
            progress("contents.*.role", Role),
            progress("contents.*.parts.*.text", Content),
            progress("contents.*.parts.*.functionCall.name", ToolCall),
            progress("contents.*.parts.*.functionCall.args", ToolCall),
            progress("contents.*.parts.*.functionResponse.response", Content),
            progress("contents.*.parts.*.codeExecutionResult", Content),
            progress("contents.*.parts.*.inlineData", Content),
            progress("contents.*.parts.*.fileData", Content),
        ],
        answer_paths: vec![
            want("modelVersion", 1_024, 0),
            want("usageMetadata", 8_192, 0),
            want("error.code", 64, 0),
            want("error.status", 64, 0),
            // How many searches were made, and not for what: an element that is too long stays as null.
            want("candidates.*.groundingMetadata.webSearchQueries.*", 1, SEARCHES_MAX),
            want("predictions.*.embeddings.statistics.token_count", 64, PREDICTIONS_MAX),
            want("predictions.*.mimeType", 64, PREDICTIONS_MAX),
        ],
        text_paths: strings(&[
            "candidates.*.content.parts.*.text",
            "candidates.*.content.parts.*.functionCall",
            "candidates.*.content.parts.*.executableCode.code",
        ]),
        markers: strings(&["\"usageMetadata\"", "\"webSearchQueries\"", "\"error\""]),
        // <https://ai.google.dev/api/generate-content#generatecontentresponse>. No header of an answer names the request: neither
        // the reference of Gemini's API nor that of Vertex AI's knows one, and recorded answers have none.
        response_id_paths: strings(&["responseId"]),
        ..agentledger_guest::info("gemini", env!("CARGO_PKG_VERSION"))
    }
}
