//! Mistral: <https://docs.mistral.ai/api>. Paths that store at OpenAI run models here.

use super::{Row, fetch, free, post, refused};
use crate::info::{AGENT, BATCH_JOB, CLASSIFY, COMPLETIONS, CONVERSATION, OCR};

const HERE: &[&str] = &["mistral"];

const BATCH_DOCS: &str = "https://docs.mistral.ai/api/endpoint/batch";
const AGENT_DOCS: &str = "https://docs.mistral.ai/api/endpoint/beta/agents";
const LIBRARY_DOCS: &str = "https://docs.mistral.ai/api/endpoint/beta/libraries";
const PRICES: &str = "https://mistral.ai/pricing";

const STORES_AN_AGENT: &str =
    "stores or changes what an agent is; a model runs only in conversations and completions with it";
const READS_A_LIBRARY: &str = "stores or changes a library without documents in it, or who may see it";
const INDEXES: &str =
    "reading a document into a library is billed by the page, and no answer tells how many pages there were";

pub(super) const ROWS: &[Row] = &[
    post("/v1/conversations", CONVERSATION).at(HERE),
    post("/v1/conversations/{any}", CONVERSATION).at(HERE),
    post("/v1/conversations/{any}/restart", CONVERSATION).at(HERE),
    post("/v1/agents/completions", AGENT).at(HERE),
    post("/v1/fim/completions", COMPLETIONS)
        .at(HERE)
        .see("https://docs.mistral.ai/api/endpoint/fim"),
    post("/v1/ocr", OCR).at(HERE),
    post("/v1/moderations", CLASSIFY).at(HERE),
    post("/v1/chat/moderations", CLASSIFY).at(HERE),
    post("/v1/classifications", CLASSIFY).at(HERE),
    post("/v1/chat/classifications", CLASSIFY).at(HERE),
    free("POST", "/v1/agents", "agents", STORES_AN_AGENT)
        .at(HERE)
        .see(AGENT_DOCS),
    free("PATCH", "/v1/agents/{any}", "agents", STORES_AN_AGENT)
        .at(HERE)
        .see(AGENT_DOCS),
    free("PATCH", "/v1/agents/{any}/version", "agents", STORES_AN_AGENT)
        .at(HERE)
        .see(AGENT_DOCS),
    free("POST", "/v1/libraries", "libraries", READS_A_LIBRARY)
        .at(HERE)
        .see(LIBRARY_DOCS),
    free("PUT", "/v1/libraries/{any}", "libraries", READS_A_LIBRARY)
        .at(HERE)
        .see(LIBRARY_DOCS),
    free("PUT", "/v1/libraries/{any}/share", "libraries", READS_A_LIBRARY)
        .at(HERE)
        .see(LIBRARY_DOCS),
    refused("POST", "/v1/libraries/*", "libraries", INDEXES)
        .at(HERE)
        .see(LIBRARY_DOCS),
    free(
        "POST",
        "/v1/batch/jobs",
        "batch.jobs",
        "its results are billed when they are fetched: from the output file, or from the job that bears them",
    )
    .at(HERE)
    .see(BATCH_DOCS),
    free(
        "POST",
        "/v1/batch/jobs/{any}/cancel",
        "batch.jobs",
        "stops what would spend",
    )
    .at(HERE)
    .see(BATCH_DOCS),
    fetch("/v1/batch/jobs/{id}", BATCH_JOB).at(HERE),
    refused(
        "POST",
        "/v1/batches",
        "batches",
        "Mistral's batches are jobs, at /v1/batch/jobs",
    )
    .at(HERE)
    .see(BATCH_DOCS),
    free(
        "POST",
        "/v1/audio/voices",
        "audio.voices",
        "stores a voice; what is spoken with it is billed as speech",
    )
    .at(HERE)
    .see("https://docs.mistral.ai/api/endpoint/audio/voices"),
    refused(
        "WEBSOCKET",
        "/v1/audio/transcriptions/realtime",
        "audio.realtime",
        "sound that streams over a WebSocket is billed by the second, and its messages are not read here",
    )
    .at(HERE)
    .see("https://docs.mistral.ai/capabilities/audio/speech_to_text/realtime_transcription"),
    refused(
        "POST",
        "/v1/workflows/*",
        "workflows",
        "runs models whose usage no answer tells",
    )
    .at(HERE)
    .see(PRICES),
    refused(
        "POST",
        "/v1/observability/*",
        "observability",
        "judges and campaigns run models whose usage no answer tells",
    )
    .at(HERE)
    .see(PRICES),
];
