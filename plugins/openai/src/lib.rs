//! The dialect of OpenAI and of the many hosts compatible with it: chat completions, legacy completions, embeddings,
//! responses, realtime.

mod answer;
mod fees;
#[cfg(test)]
mod host_tests;
mod info;
mod plans;
mod realtime;
mod request;
mod routes;
mod socket;
#[cfg(test)]
mod tests;
mod wants;

use agentledger_guest::{
    AnswerFrame, Call, Ending, Info, Meaning, Problem, Provider, Reading, Refusal, Request, SocketMessage,
    openai_error, sse,
};
use serde_json::json;

struct OpenAi;

agentledger_guest::export!(OpenAi);

impl Provider for OpenAi {
    fn info() -> Info {
        info::info()
    }

    fn inspect(request: Request) -> Result<Call, Problem> {
        request::inspect(&request)
    }

    fn read(frame: AnswerFrame) -> Option<Reading> {
        answer::read(&frame)
    }

    fn terminal(operation: &str, ending: Ending, message: &str, response_id: Option<&str>) -> Vec<u8> {
        let (code, kind) = openai_error::ending(ending);
        if operation == info::RESPONSES {
            // Codex gives up on these codes and retries others, and of the second it shows the message; SDKs need the
            // envelope's own fields to parse the event, and the stream helper of OpenAI's takes another id for a fault.
            let code = match ending {
                Ending::Denied => "invalid_prompt",
                _ => code,
            };
            let response = json!({
                "id": response_id.unwrap_or("resp_agentledger"), "object": "response", "created_at": 0, "status": "failed", "model": "",
                "output": [], "parallel_tool_calls": false, "tool_choice": "auto", "tools": [], "metadata": {},
                "error": {"code": code, "message": message}, "incomplete_details": null, "usage": null,
            });
            let data = json!({"type": "response.failed", "sequence_number": 1_000_000_000, "response": response});
            return sse::event(Some("response.failed"), &data);
        }
        if operation == info::REALTIME {
            return sse::event(None, &realtime::error(code, kind, message));
        }
        // No `[DONE]` after it: a client must not take the answer for whole.
        sse::event(
            None,
            &json!({"error": {"message": message, "type": kind, "param": null, "code": code}}),
        )
    }

    fn error_body(_operation: &str, refusal: &Refusal) -> Vec<u8> {
        openai_error::body(refusal)
    }

    fn meaning_of(message: &SocketMessage) -> Option<Meaning> {
        socket::meaning_of(message)
    }
}
