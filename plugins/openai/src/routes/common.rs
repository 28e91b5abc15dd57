//! What every host of the dialect has, or does not have.

use agentledger_guest::Billing::{Fetched, FetchedLines, Metered};

use super::{Row, fetch, free, post, refused, row};
use crate::info::{
    CANCEL, CHAT, CLASSIFY, COMPACT, COMPLETIONS, EMBEDDINGS, FILE_CONTENT, IMAGE_EDITS, IMAGE_VARIATIONS, IMAGES,
    REALTIME, RERANK, RESPONSES, RETRIEVE, SPEECH, TRANSCRIPTIONS, TRANSLATIONS,
};

const REFERENCE: &str = "https://platform.openai.com/docs/api-reference";

pub(super) const ROWS: &[Row] = &[
    post("/v1/chat/completions", CHAT),
    post("/v1/completions", COMPLETIONS),
    post("/v1/embeddings", EMBEDDINGS),
    post("/v1/responses", RESPONSES),
    post("/v1/responses/compact", COMPACT),
    row("POST", "/v1/responses/{any}/cancel", CANCEL, Fetched),
    fetch("/v1/responses/{any}", RETRIEVE),
    post("/v1/images/generations", IMAGES),
    post("/v1/images/edits", IMAGE_EDITS),
    post("/v1/images/variations", IMAGE_VARIATIONS),
    post("/v1/audio/speech", SPEECH),
    post("/v1/audio/transcriptions", TRANSCRIPTIONS),
    post("/v1/audio/translations", TRANSLATIONS),
    post("/v1/rerank", RERANK),
    // Free at OpenAI alone.
    post("/v1/moderations", CLASSIFY),
    free("POST", "/v1/files", "files", "stores a file; what reads it is billed").see(REFERENCE),
    row("GET", "/v1/files/{any}/content", FILE_CONTENT, FetchedLines),
    refused(
        "POST",
        "/v1/batches",
        "batches",
        "where the results of this host's batches are fetched is not known, so that nothing would bill them",
    )
    .see("https://platform.openai.com/docs/guides/batch"),
    refused(
        "POST",
        "/v1/conversations",
        "conversations",
        "whether this stores or runs a model differs by host, and is not known of this one",
    )
    .see("https://docs.mistral.ai/api/endpoint/beta/conversations"),
    refused(
        "POST",
        "/v1/conversations/*",
        "conversations",
        "whether this stores or runs a model differs by host, and is not known of this one",
    )
    .see("https://docs.mistral.ai/api/endpoint/beta/conversations"),
    row("WEBSOCKET", "/v1/realtime", REALTIME, Metered),
    row("WEBSOCKET", "/v1/responses", RESPONSES, Metered),
    // Known, so that it is refused with a reason instead of passing as a free GET.
    row("GET", "/v1/realtime", REALTIME, Metered),
    free("GET", "/v1/models", "models", "lists models").see(REFERENCE),
    free("GET", "/v1/models/*", "models", "tells what a model is").see(REFERENCE),
    free(
        "GET",
        "/v1/*",
        "read",
        "reads what is there; results that an earlier request asked for have rows of their own",
    )
    .see(REFERENCE),
    free("DELETE", "/v1/*", "delete", "deletes; nothing runs").see(REFERENCE),
];
