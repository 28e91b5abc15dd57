//! The dialect of Cohere: chat, embeddings and ranks of its second API, and what its first has of them.

mod answer;
mod info;
mod plans;
mod request;
mod routes;
#[cfg(test)]
mod tests;

use agentledger_guest::serde_json::{Value, json};
use agentledger_guest::{
    AnswerFrame, Call, Ending, Info, Problem, Provider, Reading, Refusal, Request, openai_error, sse,
};

struct Cohere;

agentledger_guest::export!(Cohere);

impl Provider for Cohere {
    fn info() -> Info {
        info::info()
    }

    fn inspect(request: Request) -> Result<Call, Problem> {
        request::inspect(&request)
    }

    fn read(frame: AnswerFrame) -> Option<Reading> {
        answer::read(&frame)
    }

    /// Cohere's streams have no event for errors: their last one says that the answer ended by one.
    /// <https://docs.cohere.com/v2/docs/streaming>
    fn terminal(operation: &str, ending: Ending, message: &str, _response_id: Option<&str>) -> Vec<u8> {
        let error = format!("{}: {message}", openai_error::reason(ending));
        if operation == info::CHAT {
            let delta = json!({"finish_reason": "ERROR", "error": error});
            return sse::event(Some("message-end"), &json!({"type": "message-end", "delta": delta}));
        }
        let end = json!({"is_finished": true, "event_type": "stream-end", "finish_reason": "ERROR", "error": error});
        sse::event(Some("stream-end"), &end)
    }

    /// Cohere's own field is `message`; the gateway's object stands beside it.
    fn error_body(_operation: &str, refusal: &Refusal) -> Vec<u8> {
        let error = openai_error::object(refusal);
        let message = error.get("message").cloned().unwrap_or_default();
        openai_error::line(&json!({"message": message, "error": Value::Object(error)}))
    }
}
