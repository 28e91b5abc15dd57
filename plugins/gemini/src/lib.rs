//! The dialect of Google's Gemini API and of Gemini on Vertex AI: content generated whole or as a stream, embeddings.

mod answer;
mod grounding;
mod info;
mod interaction;
mod plans;
mod request;
mod routes;
#[cfg(test)]
mod tests;
mod tools;
mod usage;

use agentledger_guest::serde_json::{Value, json};
use agentledger_guest::{
    AnswerFrame, Call, Ending, Info, Problem, Provider, Reading, Refusal, Request, openai_error, sse,
};

struct Gemini;

agentledger_guest::export!(Gemini);

impl Provider for Gemini {
    fn info() -> Info {
        info::info()
    }

    fn inspect(request: Request) -> Result<Call, Problem> {
        request::inspect(&request)
    }

    fn read(frame: AnswerFrame) -> Option<Reading> {
        answer::read(&frame)
    }

    /// An element that is an error, as Google's own streams of content end with one: bare JSON, no event. In an event Gemini
    /// CLI and the SDK within it pass over it, and take the answer for whole. Those of interactions are events alone.
    fn terminal(operation: &str, ending: Ending, message: &str, _response_id: Option<&str>) -> Vec<u8> {
        let code = match ending {
            Ending::BudgetExceeded => 429,
            Ending::Denied => 400,
            Ending::UpstreamFailed => 502,
            Ending::ShuttingDown => 503,
        };
        let reason = openai_error::reason(ending);
        let error = json!({"code": code, "message": message, "status": status(code), "details": [info_of(reason)]});
        let error = json!({ "error": error });
        match operation {
            info::INTERACTIONS | info::INTERACTION => sse::event(None, &error),
            _ => openai_error::line(&error),
        }
    }

    /// The gateway's object with the fields of Google's errors; its own code becomes their reason.
    /// <https://cloud.google.com/apis/design/errors>
    fn error_body(_operation: &str, refusal: &Refusal) -> Vec<u8> {
        let mut error = openai_error::object(refusal);
        error.insert("code".to_owned(), json!(refusal.status));
        error.insert("status".to_owned(), json!(status(refusal.status)));
        let mut details = vec![info_of(&refusal.code)];
        if refusal.status == 429
            && let Some(seconds) = error.get("resets_in_seconds")
        {
            let seconds = seconds.as_u64().unwrap_or(NEVER_S);
            details.push(
                json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")}),
            );
        }
        error.insert("details".to_owned(), Value::Array(details));
        openai_error::line(&json!({ "error": error }))
    }
}

/// What a limit that never resets is said to take: a year. Gemini CLI waits for what is said to pass within minutes, gives up on
/// what takes longer, and tries again where nothing is said.
const NEVER_S: u64 = 31_536_000;

fn info_of(reason: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "agentledger"})
}

/// The canonical name of an HTTP status.
fn status(code: u16) -> &'static str {
    match code {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        400..=498 => "INVALID_ARGUMENT",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}

/// A service tier by the name that prices have for it. Vertex AI says how a request was served as `ON_DEMAND_FLEX`.
fn tier_name(said: &str) -> String {
    let said = said.to_ascii_lowercase();
    let plain = said.strip_prefix("on_demand_").unwrap_or(&said);
    match plain {
        "unspecified" | "service_tier_unspecified" | "traffic_type_unspecified" => "standard",
        // Paid for in advance, like OpenAI's scale tier.
        "provisioned_throughput" => "scale",
        plain => plain,
    }
    .to_owned()
}
