//! What this dialect serves, and which values it needs to see.

use agentledger_guest::ProgressPart::{Content, Role, ToolCall};
use agentledger_guest::{Info, Media, Medium, Want, media, progress, strings, want};

use crate::plans::plans;
use crate::routes::routes;

pub const AUDIO: &str = "\"audio/";
pub const GENERATE: &str = "generateContent";
pub const STREAM: &str = "streamGenerateContent";
pub const EMBED: &str = "embedContent";
pub const EMBED_BATCH: &str = "batchEmbedContents";
pub const PREDICT: &str = "predict";
pub const INTERACTIONS: &str = "interactions";
pub const INTERACTION: &str = "interactions.get";
pub const INTERACTION_CANCEL: &str = "interactions.cancel";

/// Embeddings or images that one answer of `predict` gives at most.
const PREDICTIONS_MAX: u32 = 2_048;
/// Candidates of one answer, searches and sources of one candidate.
const SEARCHES_MAX: u32 = 256;
/// Longest query that is compared with others. They are the model's own words, and no text of a prompt or an answer.
const QUERY_BYTES_MAX: u32 = 512;
/// Tools of one request, and requests of one batch of embeddings, that are looked at.
pub const TOOLS_MAX: usize = 1_024;

/// Tools that bill beside tokens, in both spellings. A member that no tool has makes the tool itself show, and nothing of
/// what is in it.
pub const TOOLS: [&str; 10] = [
    "googleSearch",
    "google_search",
    "googleSearchRetrieval",
    "google_search_retrieval",
    "enterpriseWebSearch",
    "enterprise_web_search",
    "googleMaps",
    "google_maps",
    "retrieval",
    "fileSearch",
];

/// Parts that are not text. What they are is said by their MIME type; the dearest thing they can be is a file.
fn parts_media() -> Vec<Media> {
    let contents = ["contents.*.parts.*", "requests.*.content.parts.*", "content.parts.*"];
    let names = ["inlineData", "inline_data", "fileData", "file_data"];
    let of = |place: &&str| names.map(|name| media(&format!("{place}.{name}"), Medium::File));
    let interactions = [
        "input.data",
        "input.*.data",
        "input.*.content.*.data",
        "input.*.result.*.data",
    ];
    let interactions = interactions.map(|path| media(path, Medium::File));
    contents.iter().flat_map(of).chain(interactions).collect()
}

/// Google's parser takes a field in the spelling of its JSON and in that of its protocol buffers.
fn request_paths() -> Vec<Want> {
    let items = TOOLS_MAX as u32 + 1;
    let mut wants = vec![
        want("serviceTier", 64, 0),
        want("service_tier", 64, 0),
        // Context that the server keeps: its size is held by an allowance.
        want("cachedContent", 512, 0),
        want("cached_content", 512, 0),
        // Imagen's images.
        want("parameters.sampleCount", 64, 0),
        // Beside the path's, or in its place.
        want("model", 1_024, 0),
        want("requests.*.model", 512, items),
        // Interactions.
        want("agent", 1_024, 0),
        want("stream", 16, 0),
        want("background", 16, 0),
        want("previous_interaction_id", 512, 0),
        want("previousInteractionId", 512, 0),
        want("response_modalities", 256, 0),
        want("responseModalities", 256, 0),
        want("tools.*.type", 64, items),
    ];
    for config in ["generationConfig", "generation_config"] {
        let limits = [
            "maxOutputTokens",
            "max_output_tokens",
            "candidateCount",
            "candidate_count",
        ];
        wants.extend(limits.map(|limit| want(&format!("{config}.{limit}"), 64, 0)));
        let modalities = ["responseModalities", "response_modalities"];
        wants.extend(modalities.map(|list| want(&format!("{config}.{list}"), 256, 0)));
    }
    wants.extend(TOOLS.map(|tool| want(&format!("tools.*.{tool}.@"), 1, items)));
    wants
}

/// The queries and sources of one candidate's grounding.
fn grounding_paths() -> Vec<Want> {
    let at = |path: &str, bytes: u32| want(&format!("candidates.*.groundingMetadata.{path}"), bytes, SEARCHES_MAX);
    vec![
        at("webSearchQueries.*", QUERY_BYTES_MAX),
        at("retrievalQueries.*", QUERY_BYTES_MAX),
        // Of a source only its kind is wanted: a member that none has makes that show.
        at("groundingChunks.*.web.@", 1),
        at("groundingChunks.*.maps.@", 1),
        at("groundingChunks.*.retrievedContext.@", 1),
    ]
}

/// Where an interaction, whole or at the end of its stream, tells of itself.
fn interaction_paths() -> Vec<Want> {
    let mut wants = vec![want("event_type", 64, 0)];
    for place in ["", "interaction."] {
        let at = |name: &str, bytes: u32| want(&format!("{place}{name}"), bytes, 0);
        wants.extend([at("id", 512), at("status", 64), at("model", 1_024), at("agent", 1_024)]);
        wants.push(at("usage", 8_192));
    }
    wants
}

fn answer_paths() -> Vec<Want> {
    let mut wants = vec![
        want("modelVersion", 1_024, 0),
        want("usageMetadata", 8_192, 0),
        want("error.code", 64, 0),
        want("error.status", 64, 0),
        want("predictions.*.embeddings.statistics.token_count", 64, PREDICTIONS_MAX),
        want("predictions.*.mimeType", 64, PREDICTIONS_MAX),
    ];
    wants.extend(grounding_paths());
    wants.extend(interaction_paths());
    wants
}

pub fn info() -> Info {
    Info {
        routes: routes(),
        request_paths: request_paths(),
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
            progress("input", Content),
            progress("input.*.role", Role),
            progress("input.*.content", Content),
            progress("input.*.text", Content),
            progress("input.*.result", Content),
            progress("input.*.arguments", ToolCall),
        ],
        answer_paths: answer_paths(),
        text_paths: strings(&[
            "candidates.*.content.parts.*.text",
            "candidates.*.content.parts.*.functionCall",
            "candidates.*.content.parts.*.executableCode.code",
            // Interactions, of both of their forms.
            "delta.text",
            "delta.content.text",
            "delta.arguments",
            "outputs.*.text",
            "outputs.*.arguments",
            "steps.*.content.*.text",
            "steps.*.summary.*.text",
            "steps.*.arguments",
        ]),
        markers: strings(&[
            "\"usageMetadata\"",
            "\"webSearchQueries\"",
            "\"groundingChunks\"",
            "\"error\"",
            "\"total_tokens\"",
        ]),
        events: strings(&[
            "interaction.created",
            "interaction.start",
            "interaction.completed",
            "interaction.complete",
            "error",
        ]),
        // <https://ai.google.dev/api/generate-content#generatecontentresponse>. No header of an answer names the request: neither
        // the reference of Gemini's API nor that of Vertex AI's knows one, and recorded answers have none.
        response_id_paths: strings(&["responseId", "interaction.id", "id"]),
        reading_plans: plans(),
        ..agentledger_guest::info("gemini", env!("CARGO_PKG_VERSION"))
    }
}
