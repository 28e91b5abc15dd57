//! JSON-RPC as MCP has it: the one dialect that no plugin reads, for nothing in it is a provider's own. What the gateway itself
//! says in it is worded here.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json, value::RawValue};

use crate::plugin::{
    AnswerFrame, Call, Dialect, DialectError, DialectRefusal, Ending, Info, LoadError, Plugin, Reading, Request,
};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::refusal_text::signed;
use crate::proxy::shared::reply::Refusal;

/// What entries, metrics and policies call the provider and the dialect of tool calls.
pub const MCP: &str = "mcp";

/// See the module.
pub struct JsonRpc {
    info: Info,
}

impl JsonRpc {
    /// As a plugin, for the endpoints of MCP servers.
    ///
    /// # Errors
    /// Never, as it stands.
    pub fn plugin() -> Result<Arc<Plugin>, LoadError> {
        let info = Info {
            name: MCP.to_owned(),
            ..Info::default()
        };
        Plugin::new(Arc::new(JsonRpc { info }), "built-in").map(Arc::new)
    }
}

impl Dialect for JsonRpc {
    fn info(&self) -> &Info {
        &self.info
    }

    fn inspect(&self, _request: &Request) -> Result<Call, DialectError> {
        Ok(Call::default())
    }

    fn read(&self, _frame: &AnswerFrame<'_>) -> Result<Option<Reading>, DialectError> {
        Ok(None)
    }

    fn terminal(&self, _: &str, _: Ending, message: &str, _: Option<&str>) -> Result<Vec<u8>, DialectError> {
        Ok(message.as_bytes().to_vec())
    }

    fn error_body(&self, _operation: &str, refusal: &DialectRefusal) -> Result<Vec<u8>, DialectError> {
        let data: Value = serde_json::from_str(&refusal.object).unwrap_or_default();
        let message = data.get("message").cloned().unwrap_or_default();
        let error = json!({ "code": number_of(&refusal.code, refusal.status), "message": message, "data": data });
        Ok(answer(None, "error", error).to_string().into_bytes())
    }
}

/// An answer to the request with this id; without one where the request could not be read.
fn answer(id: Option<&RawValue>, member: &str, value: Value) -> Value {
    let mut answer = Map::new();
    answer.insert("jsonrpc".to_owned(), json!("2.0"));
    if let Some(id) = id {
        // Made of a value that was read, so that it is one.
        let id = serde_json::from_str(id.get()).unwrap_or_default();
        answer.insert("id".to_owned(), id);
    }
    answer.insert(member.to_owned(), value);
    Value::Object(answer)
}

/// The code of an error. JSON-RPC and MCP have codes of their own for few refusals; for others it is the HTTP status, which lies
/// outside of what they reserve (<https://modelcontextprotocol.io/specification/2026-07-28/basic/index#error-codes>).
fn number_of(code: &str, status: u16) -> i64 {
    let own = [
        (RefusalCode::InvalidJson, -32_700),
        (RefusalCode::InvalidMessage, -32_600),
        (RefusalCode::HeaderMismatch, -32_020),
    ];
    let found = own.iter().find(|(own, _)| own.text() == code);
    found.map_or(i64::from(status), |(_, number)| *number)
}

/// A refusal as an error of JSON-RPC.
pub fn error(refusal: &Refusal, id: Option<&RawValue>) -> Value {
    let code = number_of(refusal.code.as_str(), refusal.status);
    let error = json!({ "code": code, "message": signed(&refusal.message), "data": refusal.object() });
    answer(id, "error", error)
}

/// A message, or several, as the body of an answer.
pub fn body(value: &Value) -> Bytes {
    let mut body = value.to_string();
    body.push('\n');
    Bytes::from(body)
}

/// A refusal as the result of the tool that was not called: the model reads it and can do something else. `resultType` is there for
/// clients of 2026-07-28, and unknown to those before.
pub fn refused_result(refusal: &Refusal, id: Option<&RawValue>) -> Value {
    let result = json!({
        "resultType": "complete",
        "content": [{ "type": "text", "text": signed(&refusal.message) }],
        "isError": true,
        "_meta": { "agentledger/refusal": refusal.object() },
    });
    answer(id, "result", result)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn id(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn refusals_are_errors_with_mcps_codes_or_the_status() {
        for (code, number) in [
            (RefusalCode::InvalidJson, -32_700),
            (RefusalCode::InvalidMessage, -32_600),
            (RefusalCode::HeaderMismatch, -32_020),
            (RefusalCode::BudgetExceeded, 429),
        ] {
            let said = error(&Refusal::new(code, "no"), Some(&id("7")));
            assert_eq!((&said["error"]["code"], &said["id"]), (&json!(number), &json!(7)));
            assert_eq!(said["error"]["message"], "AgentLedger: no");
            assert_eq!(said["error"]["data"]["code"], code.text());
        }
        assert!(
            error(&Refusal::new(RefusalCode::Internal, "no"), None)
                .get("id")
                .is_none()
        );
    }

    #[test]
    fn a_refused_tool_has_a_result_that_the_model_reads() {
        let said = refused_result(&Refusal::new(RefusalCode::BudgetExceeded, "no"), Some(&id("\"a\"")));
        assert_eq!((&said["id"], &said["result"]["isError"]), (&json!("a"), &json!(true)));
        assert_eq!(said["result"]["content"][0]["text"], "AgentLedger: no");
    }

    #[test]
    fn it_is_a_plugin_that_reads_nothing() {
        let plugin = JsonRpc::plugin().unwrap();
        let refusal = DialectRefusal {
            status: 404,
            code: "no_route".to_owned(),
            object: "{\"message\":\"m\"}".to_owned(),
        };
        let body = plugin.dialect.error_body("", &refusal).unwrap();
        let said: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&said["error"]["code"], &said["error"]["message"]),
            (&json!(404), &json!("m"))
        );
    }
}
