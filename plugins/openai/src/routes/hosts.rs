//! Other vendors' own endpoints: those that cost something else than the dialect's, and their paths without `/v1`.

use super::{Row, fetch, free, post, refused};
use crate::info::{ASYNC_CHAT, CHAT, COMPLETIONS, EMBEDDINGS, NATIVE_CHAT, NATIVE_EMBED, RESPONSES, SEARCH};

const ANTHROPICS: &str = "Anthropic's dialect: served where a provider of type anthropic has this host as its upstream";
const BY_THE_HOUR: &str = "a dedicated endpoint is billed by the hour until it is stopped, which cannot be held";
const TRAINS: &str = "training is billed by the token or the hour when it is done, which cannot be held";
const KEYS: &str = "a key made here would spend past the gateway";
const BATCH: &str =
    "where the results of this host's batches are fetched is not known, so that nothing would bill them";
const VIDEO: &str = "a video is billed by its seconds and its size, which no answer tells";

const OPENROUTER: &[&str] = &["openrouter"];
const OPENROUTER_DOCS: &str = "https://openrouter.ai/docs/api-reference/overview";
const TOGETHER: &[&str] = &["together"];
const TOGETHER_DOCS: &str = "https://docs.together.ai/reference";
const FIREWORKS: &[&str] = &["fireworks"];
const FIREWORKS_DOCS: &str = "https://docs.fireworks.ai/api-reference/introduction";
const PERPLEXITY: &[&str] = &["perplexity"];
const PERPLEXITY_DOCS: &str = "https://docs.perplexity.ai/api-reference";
const PERPLEXITY_PRICES: &str = "https://docs.perplexity.ai/docs/getting-started/pricing";
const DEEPSEEK: &[&str] = &["deepseek"];
const DEEPSEEK_DOCS: &str = "https://api-docs.deepseek.com";
const MOONSHOT: &[&str] = &["moonshot"];
const MOONSHOT_DOCS: &str = "https://platform.moonshot.ai/docs/api";
const GOOGLE_DOCS: &str = "https://ai.google.dev/gemini-api/docs/openai";
const OLLAMA_DOCS: &str = "https://docs.ollama.com/api";

pub(super) const ROWS: &[Row] = &[
    // OpenRouter.
    refused("POST", "/v1/keys", "keys", KEYS)
        .at(OPENROUTER)
        .see(OPENROUTER_DOCS),
    refused("PATCH", "/v1/keys/{any}", "keys", KEYS)
        .at(OPENROUTER)
        .see(OPENROUTER_DOCS),
    refused("POST", "/v1/auth/*", "keys", KEYS)
        .at(OPENROUTER)
        .see(OPENROUTER_DOCS),
    refused("POST", "/v1/credits/*", "credits", "buys credits")
        .at(OPENROUTER)
        .see(OPENROUTER_DOCS),
    refused(
        "POST",
        "/v1/images",
        "images",
        "what an image costs there is told in credits alone; /v1/chat/completions with modalities makes images, too",
    )
    .at(OPENROUTER)
    .see(OPENROUTER_DOCS),
    // Together.
    refused(
        "POST",
        "/v1/tci/execute",
        "tci",
        "a session of the code interpreter is billed by its time, which no answer tells",
    )
    .at(TOGETHER)
    .see(TOGETHER_DOCS),
    refused(
        "POST",
        "/tci/execute",
        "tci",
        "a session of the code interpreter is billed by its time, which no answer tells",
    )
    .at(TOGETHER)
    .see(TOGETHER_DOCS),
    refused("POST", "/v1/fine-tunes", "fine_tuning", TRAINS)
        .at(TOGETHER)
        .see(TOGETHER_DOCS),
    refused("POST", "/v1/fine-tunes/*", "fine_tuning", TRAINS)
        .at(TOGETHER)
        .see(TOGETHER_DOCS),
    refused(
        "POST",
        "/v1/evaluation",
        "evaluation",
        "runs models over a data set, and no answer tells what they used",
    )
    .at(TOGETHER)
    .see(TOGETHER_DOCS),
    refused("POST", "/v1/endpoints", "endpoints", BY_THE_HOUR)
        .at(TOGETHER)
        .see(TOGETHER_DOCS),
    refused("PATCH", "/v1/endpoints/{any}", "endpoints", BY_THE_HOUR)
        .at(TOGETHER)
        .see(TOGETHER_DOCS),
    // Fireworks.
    refused(
        "POST",
        "/v1/workflows/*",
        "workflows",
        "images there are billed by steps and by results fetched later, which no answer tells",
    )
    .at(FIREWORKS)
    .see(FIREWORKS_DOCS),
    refused(
        "POST",
        "/v1/image_generation/*",
        "images",
        "images there are billed by steps, which no answer tells",
    )
    .at(FIREWORKS)
    .see(FIREWORKS_DOCS),
    refused("POST", "/v1/accounts/*", "accounts", BY_THE_HOUR)
        .at(FIREWORKS)
        .see(FIREWORKS_DOCS),
    refused("PATCH", "/v1/accounts/*", "accounts", BY_THE_HOUR)
        .at(FIREWORKS)
        .see(FIREWORKS_DOCS),
    refused("POST", "/v1/batches", "batches", BATCH)
        .at(FIREWORKS)
        .see(FIREWORKS_DOCS),
    // Perplexity.
    post("/chat/completions", CHAT).at(PERPLEXITY).see(PERPLEXITY_DOCS),
    post("/v1/sonar", CHAT).at(PERPLEXITY).see(PERPLEXITY_DOCS),
    post("/responses", RESPONSES).at(PERPLEXITY).see(PERPLEXITY_DOCS),
    post("/v1/agent", RESPONSES).at(PERPLEXITY).see(PERPLEXITY_DOCS),
    post("/embeddings", EMBEDDINGS).at(PERPLEXITY).see(PERPLEXITY_DOCS),
    post("/v1/contextualizedembeddings", EMBEDDINGS)
        .at(PERPLEXITY)
        .see(PERPLEXITY_DOCS),
    post("/async/chat/completions", ASYNC_CHAT).at(PERPLEXITY),
    post("/v1/async/chat/completions", ASYNC_CHAT).at(PERPLEXITY),
    post("/v1/async/sonar", ASYNC_CHAT).at(PERPLEXITY),
    fetch("/async/chat/completions/{id}", ASYNC_CHAT).at(PERPLEXITY),
    fetch("/v1/async/chat/completions/{id}", ASYNC_CHAT).at(PERPLEXITY),
    fetch("/v1/async/sonar/{id}", ASYNC_CHAT).at(PERPLEXITY),
    free(
        "GET",
        "/async/chat/completions",
        "read",
        "lists requests and their states, without their answers",
    )
    .at(PERPLEXITY)
    .see(PERPLEXITY_DOCS),
    post("/search", SEARCH).at(PERPLEXITY),
    post("/v1/search", SEARCH).at(PERPLEXITY),
    refused(
        "POST",
        "/v1/sandbox/*",
        "sandbox",
        "a session is billed by its time, which no answer tells",
    )
    .at(PERPLEXITY)
    .see(PERPLEXITY_PRICES),
    refused(
        "POST",
        "/v1/browser/*",
        "browser",
        "a session is billed by its time, which no answer tells",
    )
    .at(PERPLEXITY)
    .see(PERPLEXITY_PRICES),
    // DeepSeek.
    post("/chat/completions", CHAT).at(DEEPSEEK).see(DEEPSEEK_DOCS),
    post("/beta/chat/completions", CHAT).at(DEEPSEEK).see(DEEPSEEK_DOCS),
    post("/beta/completions", COMPLETIONS).at(DEEPSEEK).see(DEEPSEEK_DOCS),
    free("GET", "/models", "models", "lists models")
        .at(DEEPSEEK)
        .see(DEEPSEEK_DOCS),
    free("GET", "/user/balance", "read", "tells the account's balance")
        .at(DEEPSEEK)
        .see(DEEPSEEK_DOCS),
    // Moonshot.
    free(
        "POST",
        "/v1/tokenizers/estimate-token-count",
        "tokenize",
        "counts tokens; no model runs",
    )
    .at(MOONSHOT)
    .see(MOONSHOT_DOCS),
    refused("POST", "/anthropic/*", "messages", ANTHROPICS)
        .at(MOONSHOT)
        .see(MOONSHOT_DOCS),
    refused(
        "POST",
        "/v1/caching",
        "caching",
        "a cache is billed when it is made and for the time it is kept, which cannot be held",
    )
    .at(MOONSHOT)
    .see(MOONSHOT_DOCS),
    refused(
        "POST",
        "/v1/formulas/*",
        "formulas",
        "tools there are billed by the call, and no answer tells how many",
    )
    .at(MOONSHOT)
    .see(MOONSHOT_DOCS),
    // Google's and Amazon's mounts.
    refused("POST", "/v1/batches", "batches", BATCH)
        .at(&[
            "gemini",
            "vertex",
            "bedrock",
            "deepseek",
            "perplexity",
            "openrouter",
            "cerebras",
            "sambanova",
            "ollama",
        ])
        .see(GOOGLE_DOCS),
    refused("POST", "/v1/videos", "videos", VIDEO)
        .at(&["gemini", "vertex"])
        .see(GOOGLE_DOCS),
    // Ollama's own API, whatever host has it.
    post("/api/chat", NATIVE_CHAT),
    post("/api/embed", NATIVE_EMBED),
    post("/api/embeddings", NATIVE_EMBED),
    refused(
        "POST",
        "/api/generate",
        "native.generate",
        "its text cannot be told from other fields of the dialect; /api/chat and /v1/completions are served",
    )
    .see(OLLAMA_DOCS),
    free("POST", "/api/show", "models", "tells what a model is; none runs").see(OLLAMA_DOCS),
    free("GET", "/api/tags", "models", "lists models").see(OLLAMA_DOCS),
    free("GET", "/api/ps", "models", "lists models that are loaded").see(OLLAMA_DOCS),
    free("GET", "/api/version", "read", "tells the version").see(OLLAMA_DOCS),
];
