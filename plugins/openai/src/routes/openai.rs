//! OpenAI <https://platform.openai.com/docs/api-reference> and Azure, which serves a part of the same
//! <https://learn.microsoft.com/en-us/azure/ai-foundry/openai/reference>. Vendors that copied an endpoint stand with it.

use super::{Row, free, post, refused};
use crate::info::{CHAT, REALTIME};

const OPENAI: &[&str] = &["openai"];
const BOTH: &[&str] = &["openai", "azure"];
/// Those whose batches are a file of requests, and their results a file of lines.
const BATCHES_AS_FILES: &[&str] = &["openai", "azure", "groq", "together", "moonshot"];

const REFERENCE: &str = "https://platform.openai.com/docs/api-reference";
const PRICES: &str = "https://platform.openai.com/docs/pricing";
const BATCH_DOCS: &str = "https://platform.openai.com/docs/guides/batch";
const AZURE: &str = "https://learn.microsoft.com/en-us/azure/ai-foundry/openai/reference";

const STORES: &str = "stores what it is given; a response that goes on from it is billed";
const BY_PARTS: &str = "a file comes in parts and is stored; no model runs";
const RESULTS: &str = "its results are billed when they are fetched, from /v1/files/{id}/content";
const SKILL: &str = "stores instructions; the response that uses them is billed";
const STORED_BY_DAY: &str = "what is stored in a vector store is billed by size and day, which cannot be held";
const CONTAINER: &str = "a container is billed by its session's time and memory, which no answer tells";
const RUN: &str =
    "a run's model, tools and usage stand in objects of their own that are fetched later, and are not read here";
const PASSES_BY: &str = "its secret or call would let the client speak to the model past the gateway";
const VIDEO: &str = "a video is billed by its seconds and its size, which no answer tells";
const EVALS: &str = "runs models over a data set, and no answer tells what they used";
const TRAINS: &str = "training is billed by the token or the hour when it is done, which cannot be held";

pub(super) const ROWS: &[Row] = &[
    post("/v1/extensions/chat/completions", CHAT)
        .at(&["azure"])
        .see("https://learn.microsoft.com/en-us/azure/ai-foundry/openai/references/on-your-data"),
    free(
        "POST",
        "/v1/chat/completions/{any}",
        "chat.stored",
        "changes the metadata of a completion that is stored",
    )
    .at(BOTH)
    .see("https://platform.openai.com/docs/api-reference/chat/update"),
    free(
        "POST",
        "/v1/responses/input_tokens",
        "responses.input_tokens",
        "counts tokens; no model runs",
    )
    .at(BOTH)
    .see("https://platform.openai.com/docs/api-reference/responses/input-tokens"),
    free("POST", "/v1/conversations", "conversations", STORES)
        .at(BOTH)
        .see(REFERENCE),
    free("POST", "/v1/conversations/{any}", "conversations", STORES)
        .at(BOTH)
        .see(REFERENCE),
    free("POST", "/v1/conversations/{any}/items", "conversations", STORES)
        .at(BOTH)
        .see(REFERENCE),
    free("POST", "/v1/moderations", "moderations", "moderation is free of charge")
        .at(OPENAI)
        .see("https://platform.openai.com/docs/guides/moderation"),
    free("POST", "/v1/uploads", "uploads", BY_PARTS).at(BOTH).see(REFERENCE),
    free("POST", "/v1/uploads/{any}/parts", "uploads", BY_PARTS)
        .at(BOTH)
        .see(REFERENCE),
    free("POST", "/v1/uploads/{any}/complete", "uploads", BY_PARTS)
        .at(BOTH)
        .see(REFERENCE),
    free("POST", "/v1/uploads/{any}/cancel", "uploads", BY_PARTS)
        .at(BOTH)
        .see(REFERENCE),
    free(
        "POST",
        "/v1/files/import",
        "files",
        "a file is copied from storage of the caller's; no model runs",
    )
    .at(&["azure"])
    .see(AZURE),
    free("POST", "/v1/batches", "batches", RESULTS)
        .at(BATCHES_AS_FILES)
        .see(BATCH_DOCS),
    free("POST", "/v1/batches/{any}/cancel", "batches", "stops what would spend").see(BATCH_DOCS),
    free("POST", "/v1/skills", "skills", SKILL).at(OPENAI).see(REFERENCE),
    free("POST", "/v1/skills/{any}", "skills", SKILL)
        .at(OPENAI)
        .see(REFERENCE),
    free("POST", "/v1/skills/{any}/versions", "skills", SKILL)
        .at(OPENAI)
        .see(REFERENCE),
    free(
        "POST",
        "/v1/audio/voices",
        "audio.voices",
        "stores a voice; what is spoken with it is billed as speech",
    )
    .at(OPENAI)
    .see(REFERENCE),
    free("POST", "/v1/audio/voice_consents", "audio.voices", "stores a consent")
        .at(OPENAI)
        .see(REFERENCE),
    free(
        "POST",
        "/v1/audio/voice_consents/{any}",
        "audio.voices",
        "stores a consent",
    )
    .at(OPENAI)
    .see(REFERENCE),
    free(
        "POST",
        "/v1/fine_tuning/jobs/{any}/cancel",
        "fine_tuning",
        "stops what would spend",
    )
    .see(REFERENCE),
    free(
        "POST",
        "/v1/fine_tuning/jobs/{any}/pause",
        "fine_tuning",
        "stops what would spend",
    )
    .see(REFERENCE),
    refused("POST", "/v1/fine_tuning/*", "fine_tuning", TRAINS).see(PRICES),
    refused("POST", "/v1/fine_tunings", "fine_tuning", TRAINS).see(PRICES),
    refused("POST", "/v1/evals", "evals", EVALS).see(REFERENCE),
    refused("POST", "/v1/evals/*", "evals", EVALS).see(REFERENCE),
    refused("POST", "/v1/vector_stores", "vector_stores", STORED_BY_DAY).see(PRICES),
    refused("POST", "/v1/vector_stores/*", "vector_stores", STORED_BY_DAY).see(PRICES),
    refused("POST", "/v1/containers", "containers", CONTAINER).see(PRICES),
    refused("POST", "/v1/containers/*", "containers", CONTAINER).see(PRICES),
    refused("POST", "/v1/assistants", "assistants", RUN).see(REFERENCE),
    refused("POST", "/v1/assistants/*", "assistants", RUN).see(REFERENCE),
    refused("POST", "/v1/threads", "threads", RUN).see(REFERENCE),
    refused("POST", "/v1/threads/*", "threads", RUN).see(REFERENCE),
    refused("POST", "/v1/videos", "videos", VIDEO).see(PRICES),
    refused("POST", "/v1/videos/*", "videos", VIDEO).see(PRICES),
    refused("POST", "/v1/video/*", "videos", VIDEO).see(PRICES),
    refused("POST", "/v1/realtime/*", REALTIME, PASSES_BY)
        .see("https://platform.openai.com/docs/guides/realtime-webrtc"),
    refused("POST", "/v1/realtime", REALTIME, PASSES_BY).see("https://platform.openai.com/docs/guides/realtime-webrtc"),
    refused("POST", "/v1/chatkit/*", "chatkit", PASSES_BY).see(REFERENCE),
];
