//! xAI: <https://docs.x.ai/developers/rest-api-reference>.

use super::{Row, fetch, free, refused};
use crate::info::{CLASSIFY, DEFERRED, REALTIME};

const HERE: &[&str] = &["xai"];

const INFERENCE: &str = "https://docs.x.ai/developers/rest-api-reference/inference";
const COLLECTIONS: &str = "https://docs.x.ai/developers/rest-api-reference/collections";
const VIDEO: &str = "a video is billed by its seconds and its size, which no answer tells";
const BATCH: &str = "its requests are added and its results fetched by pages of its own, which are not read here";
const BY_THE_MINUTE: &str = "billed by the length of speech, which no answer tells";
const STORED_BY_SIZE: &str = "documents of a collection are billed by their size and the time they are kept";

pub(super) const ROWS: &[Row] = &[
    // Whatever host has it: no other means anything else by this path.
    fetch("/v1/chat/deferred-completion/{id}", DEFERRED),
    refused("POST", "/v1/videos/*", "videos", VIDEO).at(HERE).see(INFERENCE),
    refused(
        "POST",
        "/v1/messages",
        "messages",
        "Anthropic's dialect: served where a provider of type anthropic has this host as its upstream",
    )
    .at(HERE)
    .see(INFERENCE),
    refused(
        "POST",
        "/v1/complete",
        "complete",
        "Anthropic's dialect of old, which is not read here",
    )
    .at(HERE)
    .see(INFERENCE),
    refused(
        "POST",
        "/v1/documents/search",
        "documents.search",
        "a search in collections is billed by the call, and its answer reports no usage",
    )
    .at(HERE)
    .see(COLLECTIONS),
    refused("POST", "/v1/collections", "collections", STORED_BY_SIZE)
        .at(HERE)
        .see(COLLECTIONS),
    refused("POST", "/v1/collections/*", "collections", STORED_BY_SIZE)
        .at(HERE)
        .see(COLLECTIONS),
    refused("PUT", "/v1/collections/*", "collections", STORED_BY_SIZE)
        .at(HERE)
        .see(COLLECTIONS),
    refused("PATCH", "/v1/collections/*", "collections", STORED_BY_SIZE)
        .at(HERE)
        .see(COLLECTIONS),
    refused("POST", "/v1/batches", "batches", BATCH).at(HERE).see(INFERENCE),
    refused("POST", "/v1/batches/*", "batches", BATCH)
        .at(HERE)
        .see(INFERENCE),
    refused("POST", "/v1/tts", "tts", BY_THE_MINUTE).at(HERE).see(INFERENCE),
    refused("POST", "/v1/stt", "stt", BY_THE_MINUTE).at(HERE).see(INFERENCE),
    refused("WEBSOCKET", "/v1/tts", "tts", BY_THE_MINUTE)
        .at(HERE)
        .see(INFERENCE),
    refused("WEBSOCKET", "/v1/stt", "stt", BY_THE_MINUTE)
        .at(HERE)
        .see(INFERENCE),
    refused(
        "WEBSOCKET",
        "/v1/realtime",
        REALTIME,
        "a session is billed by the minute, and its messages report no usage",
    )
    .at(HERE)
    .see(INFERENCE),
    refused("POST", "/v1/moderations", CLASSIFY, "xAI has no moderation")
        .at(HERE)
        .see(INFERENCE),
    free("POST", "/v1/tokenize-text", "tokenize", "counts tokens; no model runs")
        .at(HERE)
        .see(INFERENCE),
];
