//! Every endpoint of the API, and of the hosts that share it: what is billed there, and how it is read.
//! <https://platform.claude.com/docs/en/api/overview>

use agentledger_guest::Billing::{FetchedLines, Free, Metered, Refused};
use agentledger_guest::{Billing, Route, because, only_at, route};

use crate::info::{BATCH_RESULTS, BATCHES, MESSAGES};

const COUNT: &str = "messages.count_tokens";
const API: &str = "https://platform.claude.com/docs/en/api/overview";
const MESSAGES_API: &str = "https://platform.claude.com/docs/en/api/messages";
const COUNTING: &str = "https://platform.claude.com/docs/en/build-with-claude/token-counting";
const BATCHING: &str = "https://platform.claude.com/docs/en/build-with-claude/batch-processing";
const FILES: &str = "https://platform.claude.com/docs/en/build-with-claude/files";
const SKILLS: &str = "https://platform.claude.com/docs/en/build-with-claude/skills-guide";
const AGENTS: &str = "https://platform.claude.com/docs/en/managed-agents/overview";
const COMPLETE: &str = "https://platform.claude.com/docs/en/api/completions/create";
const PROMPT_TOOLS: &str = "https://platform.claude.com/docs/en/api/prompt-tools-generate";
const ADMIN: &str = "https://platform.claude.com/docs/en/build-with-claude/administration-api";
const VERTEX: &str = "https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai";

const TOKENS: &str = "Tokens by kind, cache writes by how long they last, web searches, each advisor at its own model: `usage` of \
    the message, of `message_start` and `message_delta`. Code that ran in a container without a web tool beside it is billed \
    by the hour, which no answer tells: such an entry is an estimate.";
const BATCH: &str = "Each result is billed when it is fetched.";

/// Hosts that speak this dialect and have no batches of it: what they would bill for one is not known.
const WITHOUT_BATCHES: [&str; 6] = ["openrouter", "fireworks", "deepseek", "ollama", "moonshot", "vertex"];

pub fn routes() -> Vec<Route> {
    let mut rows = vec![told("POST", "/v1/messages", MESSAGES, Metered, TOKENS, MESSAGES_API)];
    rows.extend(batches());
    rows.extend(stores());
    rows.extend(refused());
    rows.extend(on_vertex());
    rows
}

fn told(method: &str, path: &str, operation: &str, billing: Billing, reason: &str, source: &str) -> Route {
    because(route(method, path, operation, billing), reason, source)
}

fn batches() -> Vec<Route> {
    let unknown = "This host documents no batches: what one would cost is not known.";
    let path = "/v1/messages/batches";
    vec![
        told(
            "POST",
            "/v1/messages/count_tokens",
            COUNT,
            Free,
            "Counting tokens is free.",
            COUNTING,
        ),
        told(
            "GET",
            "/v1/messages/batches/{id}/results",
            BATCH_RESULTS,
            FetchedLines,
            "Tokens of each line's `result.message.usage`, at the price of batches; once by batch and `custom_id`.",
            BATCHING,
        ),
        only_at(
            &WITHOUT_BATCHES,
            told("POST", path, BATCHES, Refused, unknown, MESSAGES_API),
        ),
        told("POST", path, BATCHES, Free, BATCH, BATCHING),
        told("GET", path, BATCHES, Free, BATCH, BATCHING),
        told("GET", "/v1/messages/batches/{any}", BATCHES, Free, BATCH, BATCHING),
        told(
            "POST",
            "/v1/messages/batches/{any}/cancel",
            BATCHES,
            Free,
            BATCH,
            BATCHING,
        ),
        told(
            "DELETE",
            "/v1/messages/batches/{any}",
            "delete",
            Free,
            "Deleting is free.",
            BATCHING,
        ),
    ]
}

/// Files, skills and models: kept and listed, run by messages alone.
fn stores() -> Vec<Route> {
    let file = "Operations on files are free; their content is billed as input of the messages that use it.";
    let skill = "Keeping skills is free; what they make a model do is billed with its message.";
    let read = "Reading is free.";
    vec![
        told("POST", "/v1/files", "files", Free, file, FILES),
        told("GET", "/v1/files", "files", Free, file, FILES),
        told("GET", "/v1/files/*", "files", Free, file, FILES),
        told("DELETE", "/v1/files/*", "files", Free, file, FILES),
        told("POST", "/v1/skills", "skills", Free, skill, SKILLS),
        told("POST", "/v1/skills/{any}/versions", "skills", Free, skill, SKILLS),
        told("GET", "/v1/skills", "skills", Free, skill, SKILLS),
        told("GET", "/v1/skills/*", "skills", Free, skill, SKILLS),
        told("DELETE", "/v1/skills/*", "skills", Free, skill, SKILLS),
        told("GET", "/v1/models", "models", Free, read, API),
        told("GET", "/v1/models/*", "models", Free, read, API),
    ]
}

/// What spends and cannot be held or read.
fn refused() -> Vec<Route> {
    let run = "Sessions of managed agents run models by themselves, and are billed by token and by hour beside any request: \
        nothing can be held for them.";
    let complete = "Answers of this retired endpoint report no usage. Use /v1/messages.";
    let tools = "It runs a model whose usage is reported nowhere that is billed by. Use /v1/messages.";
    let admin = "The organisation's keys, limits and members are not changed through the gateway.";
    let mut rows = vec![
        told("POST", "/v1/complete", "complete", Refused, complete, COMPLETE),
        told(
            "POST",
            "/v1/experimental/*",
            "prompt_tools",
            Refused,
            tools,
            PROMPT_TOOLS,
        ),
        told("POST", "/v1/organizations/*", "organizations", Refused, admin, ADMIN),
        told("PUT", "/v1/organizations/*", "organizations", Refused, admin, ADMIN),
        told("DELETE", "/v1/organizations/*", "organizations", Refused, admin, ADMIN),
    ];
    for kept in [
        "agents",
        "sessions",
        "environments",
        "deployments",
        "vaults",
        "memory_stores",
    ] {
        for path in [format!("/v1/{kept}"), format!("/v1/{kept}/*")] {
            rows.push(told("POST", &path, "managed_agents", Refused, run, AGENTS));
        }
    }
    rows
}

/// On Vertex AI the path names the model.
fn on_vertex() -> Vec<Route> {
    let path = |what: &str| format!("/v1/projects/{{any}}/locations/{{any}}/publishers/anthropic/models/{what}");
    let count = "Counting tokens is free.";
    vec![
        told("POST", &path("count-tokens:rawPredict"), COUNT, Free, count, VERTEX),
        told("POST", &path("{model}:rawPredict"), MESSAGES, Metered, TOKENS, VERTEX),
        told(
            "POST",
            &path("{model}:streamRawPredict"),
            MESSAGES,
            Metered,
            TOKENS,
            VERTEX,
        ),
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
            ("POST", "/v1/messages"),
            ("POST", "/v1/complete"),
            ("POST", "/v1/sessions"),
            ("POST", "/v1/sessions/s/events"),
            ("POST", "/v1/agents"),
            ("POST", "/v1/experimental/generate_prompt"),
        ];
        assert_eq!(endpoints::unguarded(&routes(), "", &spending), Vec::<String>::new());
    }

    #[test]
    fn the_document_says_what_the_routes_say() {
        let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ENDPOINTS.md");
        let heading = "# Endpoints: Anthropic's API, and hosts that share its dialect\n\nMade of `src/routes.rs` by its test. The first row that fits counts; what fits none is refused.";
        assert_eq!(endpoints::documented(&document, heading, &routes()), Ok(()));
    }
}
