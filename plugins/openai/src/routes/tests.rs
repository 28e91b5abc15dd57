#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_guest::{Billing, endpoints};

use super::*;

/// Vendors of this dialect, as the gateway names them; the empty one is any other host.
const VENDORS: [&str; 18] = [
    "",
    "openai",
    "azure",
    "groq",
    "mistral",
    "deepseek",
    "together",
    "fireworks",
    "perplexity",
    "openrouter",
    "xai",
    "cerebras",
    "sambanova",
    "ollama",
    "moonshot",
    "gemini",
    "vertex",
    "bedrock",
];

/// What spends at each vendor by its API reference: never free.
const SPENDING: &[(&str, &[&str], &str)] = &[
    (
        "openai",
        &[
            "POST /v1/chat/completions",
            "POST /v1/completions",
            "POST /v1/embeddings",
            "POST /v1/responses",
            "POST /v1/responses/compact",
            "WEBSOCKET /v1/responses",
            "POST /v1/images/generations",
            "POST /v1/images/edits",
            "POST /v1/images/variations",
            "POST /v1/audio/speech",
            "POST /v1/audio/transcriptions",
            "POST /v1/audio/translations",
            "WEBSOCKET /v1/realtime",
            "POST /v1/realtime/sessions",
            "POST /v1/realtime/client_secrets",
            "POST /v1/realtime/calls",
            "POST /v1/realtime/transcription_sessions",
            "POST /v1/evals",
            "POST /v1/evals/e/runs",
            "POST /v1/fine_tuning/jobs",
            "POST /v1/fine_tuning/jobs/j/resume",
            "POST /v1/fine_tuning/alpha/graders/run",
            "POST /v1/vector_stores",
            "POST /v1/vector_stores/v/files",
            "POST /v1/vector_stores/v/file_batches",
            "POST /v1/vector_stores/v/search",
            "POST /v1/containers",
            "POST /v1/containers/c/files",
            "POST /v1/threads/runs",
            "POST /v1/threads/t/runs",
            "POST /v1/threads/t/runs/r/submit_tool_outputs",
            "POST /v1/videos",
            "POST /v1/videos/v/remix",
            "POST /v1/videos/edits",
            "POST /v1/videos/extensions",
            "POST /v1/chatkit/sessions",
            "GET /v1/responses/r",
            "GET /v1/files/f/content",
        ],
        "https://github.com/openai/openai-python/blob/main/api.md",
    ),
    (
        "azure",
        &[
            "POST /v1/chat/completions",
            "POST /v1/extensions/chat/completions",
            "POST /v1/responses",
            "POST /v1/images/generations",
            "POST /v1/audio/speech",
            "POST /v1/threads/t/runs",
            "POST /v1/vector_stores",
            "POST /v1/fine_tuning/jobs",
            "POST /v1/evals/e/runs",
            "POST /v1/video/generations/jobs",
            "POST /v1/realtime/client_secrets",
        ],
        "https://learn.microsoft.com/en-us/azure/ai-foundry/openai/reference",
    ),
    (
        "mistral",
        &[
            "POST /v1/chat/completions",
            "POST /v1/fim/completions",
            "POST /v1/agents/completions",
            "POST /v1/conversations",
            "POST /v1/conversations/c",
            "POST /v1/conversations/c/restart",
            "POST /v1/embeddings",
            "POST /v1/moderations",
            "POST /v1/chat/moderations",
            "POST /v1/classifications",
            "POST /v1/chat/classifications",
            "POST /v1/ocr",
            "POST /v1/audio/transcriptions",
            "POST /v1/audio/speech",
            "WEBSOCKET /v1/audio/transcriptions/realtime",
            "POST /v1/libraries/l/documents",
            "POST /v1/libraries/l/documents/d/reprocess",
            "POST /v1/fine_tuning/jobs",
            "POST /v1/batches",
            "GET /v1/batch/jobs/j",
            "GET /v1/files/f/content",
        ],
        "https://docs.mistral.ai/api",
    ),
    (
        "xai",
        &[
            "POST /v1/chat/completions",
            "POST /v1/responses",
            "POST /v1/messages",
            "POST /v1/complete",
            "POST /v1/images/generations",
            "POST /v1/images/edits",
            "POST /v1/videos/generations",
            "POST /v1/videos/edits",
            "POST /v1/documents/search",
            "POST /v1/collections",
            "POST /v1/collections/c/documents/d",
            "POST /v1/batches",
            "POST /v1/batches/b/requests",
            "POST /v1/tts",
            "POST /v1/stt",
            "WEBSOCKET /v1/realtime",
            "POST /v1/realtime/client_secrets",
            "GET /v1/chat/deferred-completion/d",
            "GET /v1/responses/r",
        ],
        "https://docs.x.ai/developers/rest-api-reference",
    ),
    (
        "openrouter",
        &[
            "POST /v1/chat/completions",
            "POST /v1/completions",
            "POST /v1/responses",
            "POST /v1/embeddings",
            "POST /v1/rerank",
            "POST /v1/images",
            "POST /v1/audio/speech",
            "POST /v1/audio/transcriptions",
            "POST /v1/videos",
            "POST /v1/keys",
            "POST /v1/auth/keys",
            "POST /v1/credits/coinbase",
            "POST /v1/batches",
            "POST /v1/containers",
        ],
        "https://openrouter.ai/docs/api-reference/overview",
    ),
    (
        "groq",
        &[
            "POST /v1/chat/completions",
            "POST /v1/responses",
            "POST /v1/audio/transcriptions",
            "POST /v1/audio/translations",
            "POST /v1/audio/speech",
            "POST /v1/fine_tunings",
            "GET /v1/files/f/content",
        ],
        "https://console.groq.com/docs/api-reference",
    ),
    (
        "together",
        &[
            "POST /v1/chat/completions",
            "POST /v1/completions",
            "POST /v1/embeddings",
            "POST /v1/rerank",
            "POST /v1/images/generations",
            "POST /v1/audio/speech",
            "POST /v1/audio/transcriptions",
            "POST /v1/videos",
            "POST /v1/tci/execute",
            "POST /tci/execute",
            "POST /v1/fine-tunes",
            "POST /v1/evaluation",
            "POST /v1/endpoints",
            "PATCH /v1/endpoints/e",
        ],
        "https://docs.together.ai/reference",
    ),
    (
        "fireworks",
        &[
            "POST /v1/chat/completions",
            "POST /v1/completions",
            "POST /v1/responses",
            "POST /v1/embeddings",
            "POST /v1/rerank",
            "POST /v1/audio/transcriptions",
            "POST /v1/workflows/accounts/fireworks/models/m/text_to_image",
            "POST /v1/image_generation/accounts/fireworks/models/m",
            "POST /v1/accounts/a/deployments",
            "POST /v1/accounts/a/batchInferenceJobs",
        ],
        "https://docs.fireworks.ai/api-reference/introduction",
    ),
    (
        "perplexity",
        &[
            "POST /chat/completions",
            "POST /v1/chat/completions",
            "POST /v1/sonar",
            "POST /v1/responses",
            "POST /v1/agent",
            "POST /v1/embeddings",
            "POST /v1/contextualizedembeddings",
            "POST /search",
            "POST /v1/search",
            "POST /async/chat/completions",
            "POST /v1/async/chat/completions",
            "POST /v1/async/sonar",
            "GET /async/chat/completions/a",
            "GET /v1/async/chat/completions/a",
            "GET /v1/async/sonar/a",
            "POST /v1/sandbox/sessions",
        ],
        "https://docs.perplexity.ai/api-reference",
    ),
    (
        "deepseek",
        &[
            "POST /chat/completions",
            "POST /v1/chat/completions",
            "POST /beta/completions",
            "POST /beta/chat/completions",
        ],
        "https://api-docs.deepseek.com",
    ),
    (
        "moonshot",
        &[
            "POST /v1/chat/completions",
            "POST /v1/caching",
            "POST /v1/formulas/f/fibers",
        ],
        "https://platform.moonshot.ai/docs/api",
    ),
    (
        "gemini",
        &[
            "POST /v1/chat/completions",
            "POST /v1/embeddings",
            "POST /v1/images/generations",
            "POST /v1/videos",
            "POST /v1/batches",
        ],
        "https://ai.google.dev/gemini-api/docs/openai",
    ),
    (
        "ollama",
        &[
            "POST /api/chat",
            "POST /api/generate",
            "POST /api/embed",
            "POST /api/embeddings",
            "POST /v1/chat/completions",
            "POST /v1/responses",
        ],
        "https://docs.ollama.com/api",
    ),
    (
        "",
        &[
            "POST /v1/chat/completions",
            "POST /v1/moderations",
            "POST /v1/batches",
            "POST /v1/conversations",
            "POST /v1/conversations/c",
            "POST /v1/threads/t/runs",
            "POST /v1/vector_stores",
            "GET /v1/chat/deferred-completion/d",
        ],
        "nothing is known of such a host",
    ),
];

/// What clients use beside, and what is free by its vendor's own word.
const FREE: &[(&str, &[&str])] = &[
    (
        "openai",
        &[
            "GET /v1/models",
            "GET /v1/chat/completions",
            "POST /v1/chat/completions/c",
            "POST /v1/conversations",
            "POST /v1/conversations/c/items",
            "POST /v1/files",
            "POST /v1/uploads/u/parts",
            "POST /v1/batches",
            "POST /v1/batches/b/cancel",
            "POST /v1/moderations",
            "POST /v1/responses/input_tokens",
            "POST /v1/skills/s/versions",
            "DELETE /v1/files/f",
        ],
    ),
    (
        "mistral",
        &[
            "POST /v1/agents",
            "PATCH /v1/agents/a",
            "POST /v1/libraries",
            "POST /v1/batch/jobs",
        ],
    ),
    ("xai", &["POST /v1/tokenize-text", "GET /v1/language-models"]),
    ("moonshot", &["POST /v1/tokenizers/estimate-token-count"]),
    ("openrouter", &["GET /v1/generation", "GET /v1/credits", "GET /v1/key"]),
    ("deepseek", &["GET /user/balance", "GET /models"]),
    ("ollama", &["GET /api/tags", "POST /api/show"]),
];

#[test]
fn what_spends_at_a_vendor_is_never_free() {
    let routes = routes();
    for (vendor, spending, source) in SPENDING {
        assert!(!source.is_empty() && VENDORS.contains(vendor));
        for endpoint in *spending {
            let (method, path) = endpoint.split_once(' ').unwrap();
            let row = endpoints::first(&routes, vendor, method, path)
                .unwrap_or_else(|| panic!("{vendor}: {endpoint} is not in the table"));
            assert_ne!(row.billing, Billing::Free, "{vendor}: {endpoint}");
        }
    }
}

#[test]
fn what_is_free_stays_free() {
    let routes = routes();
    for (vendor, free) in FREE {
        for endpoint in *free {
            let (method, path) = endpoint.split_once(' ').unwrap();
            let row = endpoints::first(&routes, vendor, method, path)
                .unwrap_or_else(|| panic!("{vendor}: {endpoint} is not in the table"));
            assert_eq!(row.billing, Billing::Free, "{vendor}: {endpoint}");
        }
    }
}

#[test]
fn nothing_is_free_or_refused_without_a_reason() {
    for row in rows() {
        let name = format!("{} {}", row.method, row.path);
        if matches!(row.billing, Billing::Free | Billing::Refused) {
            assert!(!row.reason.is_empty(), "{name}: no reason");
        }
        assert!(row.source().starts_with("https://"), "{name}: no source");
        assert!(
            row.vendors.iter().all(|vendor| VENDORS.contains(vendor)),
            "{name}: {:?}",
            row.vendors
        );
        if !matches!(row.billing, Billing::Free | Billing::Refused) {
            assert!(
                operations::find(row.operation).is_some(),
                "{name}: {} is not described",
                row.operation
            );
        }
    }
}

#[test]
fn every_row_counts_somewhere() {
    let routes = routes();
    for row in &routes {
        let path = row
            .path
            .replace("{any}", "ab")
            .replace("{id}", "cd")
            .replace('*', "ef/gh");
        let counts = VENDORS.iter().any(|vendor| {
            endpoints::first(&routes, vendor, &row.method, &path).is_some_and(|found| std::ptr::eq(found, row))
        });
        assert!(counts, "{} {}: a row before it always fits", row.method, row.path);
    }
}

#[test]
fn every_operation_has_a_row() {
    for operation in operations::OPERATIONS {
        assert!(rows().any(|row| row.operation == operation.name), "{}", operation.name);
    }
}

#[test]
fn the_document_says_what_the_routes_say() {
    let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ENDPOINTS.md");
    let heading = "# Endpoints: OpenAI's API, and the hosts that share its dialect\n\nMade of `src/routes` by its test. The first row that fits counts; what fits none is refused.";
    assert_eq!(endpoints::documented(&document, heading, &routes()), Ok(()));
    assert_eq!(endpoints::faults(&routes()), Vec::<String>::new());
}
