//! Every endpoint of the API: what is billed there, and how it is read. <https://docs.cohere.com/reference/about>

use agentledger_guest::Billing::{Free, Metered, Refused};
use agentledger_guest::{Billing, Route, because, route};

use crate::info::{CHAT, CHAT_V1, EMBED, GENERATE, RERANK, SUMMARIZE};

const API: &str = "https://docs.cohere.com/reference/";

pub fn routes() -> Vec<Route> {
    let mut rows = metered();
    rows.extend(free());
    rows.extend(refused());
    rows.extend(reads());
    rows
}

fn told(method: &str, path: &str, operation: &str, billing: Billing, reason: &str, page: &str) -> Route {
    because(route(method, path, operation, billing), reason, &format!("{API}{page}"))
}

fn metered() -> Vec<Route> {
    let chat = "Tokens: `billed_units` of the answer's `usage`, or of the stream's last event. `tokens` beside it are not billed.";
    let first = "Tokens: `meta.billed_units` of the answer, or of the stream's last event.";
    let embed = "Tokens and images: `meta.billed_units`.";
    let rerank = "Searches of up to a hundred documents: `meta.billed_units.search_units`.";
    let row =
        |path: &str, operation: &str, reason: &str, page: &str| told("POST", path, operation, Metered, reason, page);
    vec![
        row("/v2/chat", CHAT, chat, "chat"),
        row("/v2/embed", EMBED, embed, "embed"),
        row("/v2/rerank", RERANK, rerank, "rerank"),
        row("/v1/chat", CHAT_V1, first, "chat-v1"),
        row("/v1/generate", GENERATE, first, "generate"),
        row("/v1/summarize", SUMMARIZE, first, "summarize"),
        row("/v1/embed", EMBED, embed, "embed-v1"),
        row("/v1/rerank", RERANK, rerank, "rerank-v1"),
    ]
}

fn free() -> Vec<Route> {
    let counting = "Counting tokens is free.";
    let datasets = "Datasets are kept for thirty days at no cost; jobs that read them are refused.";
    let connectors = "Making a connector is free; what it finds is input of the chat that uses it.";
    let cancelling = "Cancelling spends nothing.";
    let row = |path: &str, operation: &str, reason: &str, page: &str| told("POST", path, operation, Free, reason, page);
    vec![
        row("/v1/tokenize", "tokenize", counting, "tokenize"),
        row("/v1/detokenize", "detokenize", counting, "detokenize"),
        row(
            "/v1/check-api-key",
            "check_api_key",
            "Checking a key is free.",
            "checkapikey",
        ),
        row("/v1/datasets", "datasets", datasets, "create-dataset"),
        row("/v1/connectors", "connectors", connectors, "create-connector"),
        row("/v1/connectors/*", "connectors", connectors, "oauthauthorize-connector"),
        row("/v1/embed-jobs/{any}/cancel", "cancel", cancelling, "cancel-embed-job"),
        row("/v2/batches/{any}/cancel", "cancel", cancelling, "cancel-batch"),
    ]
}

/// What spends and cannot be held or read.
fn refused() -> Vec<Route> {
    let jobs = "The job runs by itself and is billed for all that it reads, which no answer tells.";
    let tuning = "Training is billed by the token and step, which no answer tells.";
    let sound = "Transcripts are billed by the time of their sound, which no answer tells.";
    let classes = "It is billed by the classification, for which there is no price here.";
    let pages = "Documents are billed by the page, for which no report is documented.";
    let row = |method: &str, path: &str, reason: &str, page: &str| told(method, path, "refused", Refused, reason, page);
    vec![
        row("POST", "/v1/embed-jobs", jobs, "create-embed-job"),
        row("POST", "/v2/batches", jobs, "create-batch"),
        row("POST", "/v1/finetuning/*", tuning, "createfinetunedmodel"),
        row("PATCH", "/v1/finetuning/*", tuning, "updatefinetunedmodel"),
        row("POST", "/v2/audio/transcriptions", sound, "create-audio-transcription"),
        row("POST", "/v1/classify", classes, "classify"),
        row("POST", "/v2/classify", classes, "classify"),
        row("POST", "/v2/parse", pages, "parse"),
    ]
}

fn reads() -> Vec<Route> {
    let (reading, deleting) = ("Reading is free.", "Deleting is free.");
    vec![
        told("GET", "/v1/models", "models", Free, reading, "list-models"),
        told("GET", "/v1/models/*", "models", Free, reading, "get-model"),
        told("GET", "/v1/*", "read", Free, reading, "about"),
        told("GET", "/v2/*", "read", Free, reading, "about"),
        told("DELETE", "/v1/*", "delete", Free, deleting, "about"),
    ]
}

#[cfg(test)]
mod tests {
    use agentledger_guest::endpoints;

    use super::*;

    #[test]
    fn nothing_that_may_spend_passes_without_a_reason() {
        assert_eq!(endpoints::faults(&routes()), Vec::<String>::new());
        assert_eq!(endpoints::unexplained(&routes()), Vec::<String>::new());
    }

    #[test]
    fn what_spends_is_never_free() {
        let spending = [
            ("POST", "/v2/chat"),
            ("POST", "/v1/generate"),
            ("POST", "/v1/embed-jobs"),
            ("POST", "/v1/finetuning/finetuned-models"),
            ("POST", "/v2/audio/transcriptions"),
            ("POST", "/v2/batches"),
            ("POST", "/v1/classify"),
        ];
        assert_eq!(endpoints::unguarded(&routes(), "", &spending), Vec::<String>::new());
    }

    #[test]
    fn the_document_says_what_the_routes_say() {
        let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ENDPOINTS.md");
        let heading = "# Endpoints: Cohere\n\nMade of `src/routes.rs` by its test. The first row that fits counts; what fits none is refused.";
        assert_eq!(endpoints::documented(&document, heading, &routes()), Ok(()));
    }
}
