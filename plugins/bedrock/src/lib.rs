//! The dialect of Amazon Bedrock's runtime: Converse, and the models' own bodies through InvokeModel.
//! (<https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime.html>)

mod answer;
mod info;
mod model;
mod plans;
mod request;
mod routes;
#[cfg(test)]
mod tests;
mod usage;

use agentledger_guest::{
    AnswerFrame, Call, Ending, Info, Problem, Provider, Reading, Refusal, Request, aws_event, openai_error,
};
use serde_json::{Value, json};

struct Bedrock;

agentledger_guest::export!(Bedrock);

impl Provider for Bedrock {
    fn info() -> Info {
        info::info()
    }

    fn inspect(request: Request) -> Result<Call, Problem> {
        request::inspect(&request)
    }

    fn read(frame: AnswerFrame) -> Option<Reading> {
        answer::read(&frame)
    }

    /// An exception of the stream's own model: SDKs raise it. A budget that is used up is the caller's fault, and is not
    /// tried again.
    fn terminal(_operation: &str, ending: Ending, message: &str, _response_id: Option<&str>) -> Vec<u8> {
        let name = match ending {
            Ending::BudgetExceeded | Ending::Denied => "validationException",
            Ending::UpstreamFailed => "modelStreamErrorException",
            Ending::ShuttingDown => "serviceUnavailableException",
        };
        aws_event::exception(name, message)
    }

    /// The gateway's object, with what AWS's SDKs read of a JSON error: `message`, and its name as `__type` and `code`.
    fn error_body(_operation: &str, refusal: &Refusal) -> Vec<u8> {
        let error = openai_error::object(refusal);
        let message = error.get("message").cloned().unwrap_or_default();
        let name = exception_name(refusal);
        openai_error::line(&json!({"message": message, "__type": name, "code": name, "error": Value::Object(error)}))
    }
}

/// Names that the model of every operation has: SDKs try a 429 again under `ThrottlingException`, and under a name that the
/// operation does not know, as Converse does not know that of a quota.
fn exception_name(refusal: &Refusal) -> &'static str {
    match refusal.status {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 | 504 => "ModelTimeoutException",
        429 if refusal.code == "budget_held" || refusal.code.starts_with("rate") => "ThrottlingException",
        429 => "AccessDeniedException",
        400..=499 => "ValidationException",
        503 => "ServiceUnavailableException",
        _ => "InternalServerException",
    }
}
