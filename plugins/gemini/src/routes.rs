//! Every endpoint of Gemini's API and of Gemini on Vertex AI: what is billed there, and how it is read.
//! <https://ai.google.dev/api/all-methods>, <https://cloud.google.com/vertex-ai/docs/reference/rest>

use agentledger_guest::Billing::{Fetched, Free, Metered, Refused};
use agentledger_guest::{Billing, Route, because, route};

use crate::info::{EMBED, EMBED_BATCH, GENERATE, INTERACTION, INTERACTION_CANCEL, INTERACTIONS, PREDICT, STREAM};

const API: &str = "https://ai.google.dev/api/all-methods";
const GENERATING: &str = "https://ai.google.dev/api/generate-content";
const COUNTING: &str = "https://ai.google.dev/api/tokens";
const EMBEDDING: &str = "https://ai.google.dev/api/embeddings";
const BATCHING: &str = "https://ai.google.dev/gemini-api/docs/batch-api";
const CACHING: &str = "https://ai.google.dev/gemini-api/docs/caching";
const FILES: &str = "https://ai.google.dev/gemini-api/docs/files";
const FILE_SEARCH: &str = "https://ai.google.dev/gemini-api/docs/file-search";
const INTERACTING: &str = "https://ai.google.dev/api/interactions-api";
const LIVE: &str = "https://ai.google.dev/api/live";
const VIDEO: &str = "https://ai.google.dev/gemini-api/docs/video";
const IMAGEN: &str = "https://ai.google.dev/gemini-api/docs/imagen";
const VERTEX: &str = "https://cloud.google.com/vertex-ai/docs/reference/rest";

/// Where models stand in Gemini's API and, with and without a project, in Vertex AI's.
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
    // Tuned models.
    "/v1/projects/{any}/locations/{any}/endpoints",
    "/v1beta1/projects/{any}/locations/{any}/endpoints",
];

/// Other publishers on Vertex AI, whose answers have forms of their own; Anthropic's has a plugin.
const PUBLISHERS: [&str; 10] = [
    "mistralai",
    "meta",
    "ai21",
    "deepseek-ai",
    "qwen",
    "openai",
    "moonshotai",
    "zai-org",
    "minimaxai",
    "xai",
];

/// What Vertex AI runs and bills by itself, once it is made.
const VERTEX_JOBS: [&str; 18] = [
    "batchPredictionJobs",
    "tuningJobs",
    "customJobs",
    "hyperparameterTuningJobs",
    "nasJobs",
    "pipelineJobs",
    "trainingPipelines",
    "dataLabelingJobs",
    "evaluationRuns",
    "reasoningEngines",
    "ragCorpora",
    "cachedContents",
    "indexes",
    "indexEndpoints",
    "deploymentResourcePools",
    "persistentResources",
    "notebookExecutionJobs",
    "models",
];

pub fn routes() -> Vec<Route> {
    let mut rows = vec![];
    PLACES.iter().for_each(|place| rows.extend(of_models(place)));
    rows.extend(interactions());
    rows.extend(of_gemini());
    rows.extend(live());
    rows.extend(of_vertex());
    rows.extend(reads());
    rows
}

fn told(method: &str, path: &str, operation: &str, billing: Billing, reason: &str, source: &str) -> Route {
    because(route(method, path, operation, billing), reason, source)
}

fn refused(path: &str, reason: &str, source: &str) -> Route {
    told("POST", path, "refused", Refused, reason, source)
}

/// What is done with a model.
fn of_models(place: &str) -> Vec<Route> {
    let content = "Tokens by kind and medium, thoughts as output, searches and maps by the rule of the model's generation: \
        `usageMetadata` and `groundingMetadata` of the answer and of a stream's elements.";
    let vectors = "Tokens: `usageMetadata`, or `predictions[].embeddings.statistics`; else an estimate.";
    let predicted = "Images by number, embeddings by token: `predictions[]`; images that are requested are held.";
    let batch = "Results of batches are fetched as operations and files, whose usage is not read line by line here.";
    let long = "Films and pictures of long-running operations are billed by the second and the piece, and no answer tells them.";
    let answer = "Its answers report no usage. Use generateContent.";
    let other = "What this method bills is not known.";
    let at = |verb: &str| format!("{place}/{{model}}:{verb}");
    vec![
        told("POST", &at(GENERATE), GENERATE, Metered, content, GENERATING),
        told("POST", &at(STREAM), STREAM, Metered, content, GENERATING),
        told("POST", &at(EMBED), EMBED, Metered, vectors, EMBEDDING),
        told("POST", &at(EMBED_BATCH), EMBED_BATCH, Metered, vectors, EMBEDDING),
        told("POST", &at(PREDICT), PREDICT, Metered, predicted, IMAGEN),
        told(
            "POST",
            &at("countTokens"),
            "countTokens",
            Free,
            "Counting tokens is free.",
            COUNTING,
        ),
        told(
            "POST",
            &at("computeTokens"),
            "computeTokens",
            Free,
            "Counting tokens is free.",
            COUNTING,
        ),
        told(
            "POST",
            &at("fetchPredictOperation"),
            "read",
            Free,
            "It reads what became of an operation.",
            VIDEO,
        ),
        refused(&at("batchGenerateContent"), batch, BATCHING),
        refused(&at("asyncBatchEmbedContent"), batch, BATCHING),
        refused(&at("predictLongRunning"), long, VIDEO),
        refused(&at("generateAnswer"), answer, GENERATING),
        refused(&format!("{place}/{{any}}"), other, API),
    ]
}

fn interactions() -> Vec<Route> {
    let create = "Tokens by kind and medium, thoughts as output, grounding by tool: `usage` of the interaction, whole, at the \
        end of its stream, or, in the background, when it is fetched. An agent's own environment is not told: an estimate.";
    let fetched = "What an interaction used is billed once under its id, when it is first told.";
    let places = [
        "/v1beta/interactions",
        "/v1/interactions",
        "/v1alpha/interactions",
        "/v1beta1/projects/{any}/locations/{any}/interactions",
    ];
    let of = |place: &&str| {
        let one = format!("{place}/{{id}}");
        vec![
            told("POST", place, INTERACTIONS, Metered, create, INTERACTING),
            told("GET", &one, INTERACTION, Fetched, fetched, INTERACTING),
            told(
                "POST",
                &format!("{one}/cancel"),
                INTERACTION_CANCEL,
                Fetched,
                fetched,
                INTERACTING,
            ),
            told("DELETE", &one, "delete", Free, "Deleting is free.", INTERACTING),
        ]
    };
    places.iter().flat_map(of).collect()
}

/// Gemini's API, beside models and interactions.
fn of_gemini() -> Vec<Route> {
    let files =
        "Files are kept for two days at no cost; what they hold is billed as input of the request that uses it.";
    let storage = "Cached content is billed by the token and hour for as long as it is kept: nothing can be held for it. \
        What models cache by themselves is metered.";
    let tuning = "Tuning runs a model whose usage is reported nowhere.";
    let indexing = "What is indexed is embedded and billed by the token, and no answer tells how many.";
    let agents =
        "Agents run by themselves, in environments that no answer tells the cost of. Use interactions with a model.";
    let hooks = "Results that are sent elsewhere are not seen here.";
    let tokens = "A token of its own lets a client pass the gateway by.";
    let legacy = "Its answers report no usage.";
    let mut rows = vec![];
    for version in ["v1", "v1alpha", "v1beta"] {
        let at = |path: &str| format!("/{version}/{path}");
        let upload = |path: &str| format!("/upload/{version}/{path}");
        rows.push(told("POST", &upload("files"), "files.upload", Free, files, FILES));
        rows.push(told("PUT", &upload("files"), "files.upload", Free, files, FILES));
        rows.push(told("POST", &at("files"), "files", Free, files, FILES));
        rows.push(told("POST", &at("files:register"), "files", Free, files, FILES));
        rows.push(told(
            "POST",
            &at("fileSearchStores"),
            "fileSearchStores",
            Free,
            "An empty store costs nothing, and storage is free.",
            FILE_SEARCH,
        ));
        rows.push(refused(&at("fileSearchStores/*"), indexing, FILE_SEARCH));
        rows.push(refused(&upload("fileSearchStores/*"), indexing, FILE_SEARCH));
        rows.push(told(
            "POST",
            &at("batches/{any}"),
            "cancel",
            Free,
            "Cancelling spends nothing.",
            BATCHING,
        ));
        for (path, reason, source) in [
            ("cachedContents", storage, CACHING),
            ("tunedModels", tuning, API),
            ("corpora", indexing, API),
            ("corpora/*", indexing, API),
            ("dynamic/*", legacy, API),
            ("agents", agents, INTERACTING),
            ("agents/*", agents, INTERACTING),
            ("webhooks", hooks, API),
            ("webhooks/*", hooks, API),
            ("auth_tokens", tokens, LIVE),
        ] {
            rows.push(refused(&at(path), reason, source));
        }
        let longer = told(
            "PATCH",
            &at("cachedContents/{any}"),
            "refused",
            Refused,
            storage,
            CACHING,
        );
        rows.push(longer);
    }
    rows
}

/// Conversations over a WebSocket.
fn live() -> Vec<Route> {
    let reason = "Live sessions are billed for all that was said before with each turn; they are not metered here.";
    let service =
        |version: &str, method: &str| format!("/ws/google.ai.generativelanguage.{version}.GenerativeService.{method}");
    let mut paths = vec![];
    for version in ["v1alpha", "v1beta"] {
        for method in [
            "BidiGenerateContent",
            "BidiGenerateContentConstrained",
            "BidiGenerateMusic",
        ] {
            paths.push(service(version, method));
        }
    }
    for version in ["v1", "v1beta1"] {
        let service = format!("/ws/google.cloud.aiplatform.{version}.LlmBidiService/BidiGenerateContent");
        paths.push(service);
    }
    let row = |path: &String| told("WEBSOCKET", path, "live", Refused, reason, LIVE);
    paths.iter().map(row).collect()
}

fn of_vertex() -> Vec<Route> {
    let form = "Models of this publisher answer in a form that is not read at this path. Use the `openapi` endpoint.";
    let job = "It runs, stores or serves by itself and is billed beside any request: nothing can be held for it.";
    let service = "What this method bills is not known.";
    let mut rows = vec![];
    for version in ["v1", "v1beta1"] {
        let place = format!("/{version}/projects/{{any}}/locations/{{any}}");
        for publisher in PUBLISHERS {
            let models = format!("{place}/publishers/{publisher}/models/{{any}}");
            rows.push(refused(&models, form, VERTEX));
        }
        for kept in VERTEX_JOBS {
            rows.push(refused(&format!("{place}/{kept}"), job, VERTEX));
            rows.push(refused(&format!("{place}/{kept}/*"), job, VERTEX));
        }
        rows.push(refused(&format!("{place}/endpoints"), job, VERTEX));
        // `{location}:retrieveContexts` and its like.
        rows.push(refused(&place, service, VERTEX));
        let longer = format!("{place}/cachedContents/{{any}}");
        rows.push(told("PATCH", &longer, "refused", Refused, job, VERTEX));
    }
    rows
}

fn reads() -> Vec<Route> {
    let (reading, deleting) = ("Reading is free.", "Deleting is free.");
    let mut rows = vec![];
    for version in ["v1", "v1alpha", "v1beta", "v1beta1"] {
        let at = |path: &str| format!("/{version}/{path}");
        rows.push(told("GET", &at("models"), "models", Free, reading, API));
        rows.push(told("GET", &at("models/*"), "models", Free, reading, API));
        rows.push(told("GET", &at("*"), "read", Free, reading, API));
        rows.push(told(
            "GET",
            &format!("/download/{version}/*"),
            "read",
            Free,
            reading,
            API,
        ));
        rows.push(told("DELETE", &at("*"), "delete", Free, deleting, API));
    }
    rows
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
            ("POST", "/v1beta/models/m:generateContent"),
            ("POST", "/v1beta/models/m:streamGenerateContent"),
            ("POST", "/v1beta/models/m:batchGenerateContent"),
            ("POST", "/v1beta/models/m:asyncBatchEmbedContent"),
            ("POST", "/v1beta/models/m:embedContent"),
            ("POST", "/v1beta/models/m:predictLongRunning"),
            ("POST", "/v1beta/models/m:generateAnswer"),
            ("POST", "/v1beta/cachedContents"),
            ("POST", "/v1beta/tunedModels"),
            ("POST", "/v1beta/interactions"),
            ("POST", "/v1beta/fileSearchStores/s:importFile"),
            ("POST", "/upload/v1beta/fileSearchStores/s:uploadToFileSearchStore"),
            ("POST", "/v1/projects/p/locations/l/batchPredictionJobs"),
            ("POST", "/v1/projects/p/locations/l/reasoningEngines/e:query"),
            ("POST", "/v1/projects/p/locations/l/ragCorpora"),
            (
                "POST",
                "/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict",
            ),
            ("POST", "/v1beta1/projects/p/locations/l:retrieveContexts"),
            ("POST", "/v1/projects/p/locations/l/tuningJobs"),
        ];
        assert_eq!(endpoints::unguarded(&routes(), "", &spending), Vec::<String>::new());
    }

    #[test]
    fn the_document_says_what_the_routes_say() {
        let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ENDPOINTS.md");
        let heading = "# Endpoints: Gemini's API, and Gemini on Vertex AI\n\nMade of `src/routes.rs` by its test. The first row that fits counts; what fits none is refused.";
        assert_eq!(endpoints::documented(&document, heading, &routes()), Ok(()));
    }
}
