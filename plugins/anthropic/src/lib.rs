//! The dialect of Anthropic's Messages API.

mod answer;
mod info;
mod plans;
mod request;
mod routes;
#[cfg(test)]
mod tests;
mod tools;

use agentledger_guest::serde_json::{Value, json};
use agentledger_guest::{
    AnswerFrame, Call, Ending, Info, Problem, Provider, Reading, Refusal, Request, openai_error, sse,
};

struct Anthropic;

agentledger_guest::export!(Anthropic);

impl Provider for Anthropic {
    fn info() -> Info {
        info::info()
    }

    fn inspect(request: Request) -> Result<Call, Problem> {
        request::inspect(&request)
    }

    fn read(frame: AnswerFrame) -> Option<Reading> {
        answer::read(&frame)
    }

    fn terminal(_operation: &str, ending: Ending, message: &str, _response_id: Option<&str>) -> Vec<u8> {
        let kind = match ending {
            Ending::BudgetExceeded => "billing_error",
            Ending::Denied => "permission_error",
            Ending::UpstreamFailed => "api_error",
            Ending::ShuttingDown => "overloaded_error",
        };
        let error = json!({"type": kind, "message": message, "code": openai_error::reason(ending)});
        sse::event(Some("error"), &json!({"type": "error", "error": error}))
    }

    /// The gateway's object, with the fields Anthropic's clients look for.
    fn error_body(_operation: &str, refusal: &Refusal) -> Vec<u8> {
        let mut error = openai_error::object(refusal);
        error.entry("type").or_insert_with(|| json!(kind(refusal.status)));
        openai_error::line(&json!({"type": "error", "error": Value::Object(error)}))
    }
}

/// The `type` of an error with this status.
fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    }
}
