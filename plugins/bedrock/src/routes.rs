//! Every endpoint of Bedrock's runtimes: what is billed there, and how it is read.
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations.html>

use agentledger_guest::Billing::{Free, Metered, Refused};
use agentledger_guest::{Billing, Route, because, route};

use crate::info::{CONVERSE, CONVERSE_STREAM, INVOKE, INVOKE_STREAM};

const API: &str = "https://docs.aws.amazon.com/bedrock/latest/APIReference/";

/// What agents, flows and knowledge bases run. <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Agents_for_Amazon_Bedrock_Runtime.html>
const AGENT_RUNTIME: [&str; 12] = [
    "/agents/*",
    "/flows/*",
    "/sessions",
    "/sessions/*",
    "/knowledgebases/*",
    "/retrieveAndGenerate",
    "/retrieveAndGenerateStream",
    "/generateQuery",
    "/optimize-prompt",
    "/rerank",
    // AgentCore.
    "/runtimes/*",
    "/harnesses/*",
];

/// What the control plane makes and bills by itself. <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock.html>
const CONTROL: [&str; 14] = [
    "/model-invocation-job",
    "/model-invocation-job/*",
    "/model-customization-jobs",
    "/model-customization-jobs/*",
    "/evaluation-jobs",
    "/evaluation-job/*",
    "/provisioned-model-throughput",
    "/provisioned-model-throughput/*",
    "/custom-models/*",
    "/model-import-jobs",
    "/model-copy-jobs",
    "/marketplace-model/*",
    "/inference-profiles",
    "/prompt-routers",
];

pub fn routes() -> Vec<Route> {
    let mut rows = models();
    rows.extend(asynchronous());
    rows.extend(guardrails());
    let runs = "It runs models by itself, whose usage no answer tells.";
    let makes = "The control plane is not served: what it makes runs and is billed beside any request.";
    rows.extend(AGENT_RUNTIME.map(|path| refused(path, runs, "API_Operations_Agents_for_Amazon_Bedrock_Runtime.html")));
    rows.extend(CONTROL.map(|path| refused(path, makes, "API_Operations_Amazon_Bedrock.html")));
    rows
}

fn told(method: &str, path: &str, operation: &str, billing: Billing, reason: &str, page: &str) -> Route {
    because(route(method, path, operation, billing), reason, &format!("{API}{page}"))
}

fn refused(path: &str, reason: &str, page: &str) -> Route {
    told("POST", path, "refused", Refused, reason, page)
}

fn models() -> Vec<Route> {
    let converse = "Tokens by kind, cache writes by how long they last: `usage` of the answer, or of the stream's `metadata`. \
        A guardrail that the answer tells of is billed by text unit, which is not read: an estimate.";
    let invoke = "Tokens by kind, images, queries: the usage of the model's own body, \
        `amazon-bedrock-invocationMetrics`, or the headers of the answer.";
    let sound = "A conversation in sound is billed by the token of its speech; it is not metered here.";
    let at = |verb: &str| format!("/model/{{model}}/{verb}");
    let row =
        |verb: &str, billing: Billing, reason: &str, page: &str| told("POST", &at(verb), verb, billing, reason, page);
    vec![
        row(CONVERSE, Metered, converse, "API_runtime_Converse.html"),
        row(CONVERSE_STREAM, Metered, converse, "API_runtime_ConverseStream.html"),
        row(INVOKE, Metered, invoke, "API_runtime_InvokeModel.html"),
        row(
            INVOKE_STREAM,
            Metered,
            invoke,
            "API_runtime_InvokeModelWithResponseStream.html",
        ),
        row(
            "count-tokens",
            Free,
            "Counting tokens is free.",
            "API_runtime_CountTokens.html",
        ),
        row(
            "invoke-with-bidirectional-stream",
            Refused,
            sound,
            "API_runtime_InvokeModelWithBidirectionalStream.html",
        ),
    ]
}

fn asynchronous() -> Vec<Route> {
    let starts =
        "What it makes is written to S3 and billed there by the second or the token; no answer tells how much.";
    let reads = "Reading is free.";
    vec![
        refused("/async-invoke", starts, "API_runtime_StartAsyncInvoke.html"),
        told(
            "GET",
            "/async-invoke",
            "read",
            Free,
            reads,
            "API_runtime_ListAsyncInvokes.html",
        ),
        told(
            "GET",
            "/async-invoke/*",
            "read",
            Free,
            reads,
            "API_runtime_GetAsyncInvoke.html",
        ),
    ]
}

fn guardrails() -> Vec<Route> {
    let units = "It is billed by text unit and policy, for which there is no price here.";
    vec![
        refused(
            "/guardrail/{any}/version/{any}/apply",
            units,
            "API_runtime_ApplyGuardrail.html",
        ),
        refused("/guardrail-checks/*", units, "API_runtime_InvokeGuardrailChecks.html"),
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
            ("POST", "/model/m/invoke"),
            ("POST", "/model/m/converse-stream"),
            ("POST", "/model/m/invoke-with-bidirectional-stream"),
            ("POST", "/async-invoke"),
            ("POST", "/guardrail/g/version/1/apply"),
            ("POST", "/agents/a/agentAliases/b/sessions/s/text"),
            ("POST", "/retrieveAndGenerate"),
            ("POST", "/flows/f/aliases/a"),
            ("POST", "/rerank"),
            ("POST", "/model-invocation-job"),
        ];
        assert_eq!(endpoints::unguarded(&routes(), "", &spending), Vec::<String>::new());
    }

    #[test]
    fn the_document_says_what_the_routes_say() {
        let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ENDPOINTS.md");
        let heading = "# Endpoints: Amazon Bedrock\n\nMade of `src/routes.rs` by its test. The first row that fits counts; what fits none is refused.";
        assert_eq!(endpoints::documented(&document, heading, &routes()), Ok(()));
    }
}
