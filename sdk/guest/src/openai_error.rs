//! The error object that OpenAI and the hosts compatible with it use.

use crate::{Ending, Refusal};
use serde_json::{Map, Value, json};

/// The gateway's `error` object with the fields that OpenAI's clients look for beside it: `message`, `type`, `param`,
/// `code`. What the gateway said wins.
pub fn body(refusal: &Refusal) -> Vec<u8> {
    let mut error = object(refusal);
    error.entry("type").or_insert_with(|| json!(kind(refusal.status)));
    error.entry("param").or_insert(Value::Null);
    line(&json!({ "error": error }))
}

/// The gateway's object, or nothing where it is none, and its `message` and `code` where it left them out.
pub fn object(refusal: &Refusal) -> Map<String, Value> {
    let mut error: Map<String, Value> = serde_json::from_str(&refusal.object).unwrap_or_default();
    error
        .entry("message")
        .or_insert_with(|| json!("the request was refused"));
    error.entry("code").or_insert_with(|| json!(refusal.code));
    error
}

/// A JSON body ends with a newline.
pub fn line(body: &Value) -> Vec<u8> {
    let mut out = body.to_string().into_bytes();
    out.push(b'\n');
    out
}

/// The `type` of an error with this status.
pub fn kind(status: u16) -> &'static str {
    match status {
        400 | 413 | 431 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        _ => "server_error",
    }
}

/// `code` and `type` of the error that ends a stream. The code of a budget is the one that OpenAI's own clients know as
/// final: they do not retry it. What is denied is no question of quota.
pub fn ending(ending: Ending) -> (&'static str, &'static str) {
    let code = match ending {
        Ending::BudgetExceeded => "insufficient_quota",
        Ending::Denied => "denied",
        Ending::UpstreamFailed | Ending::ShuttingDown => "server_error",
    };
    (code, reason(ending))
}

/// The gateway's own word for why a stream ends.
pub fn reason(ending: Ending) -> &'static str {
    match ending {
        Ending::BudgetExceeded => "budget_exceeded",
        Ending::Denied => "denied",
        Ending::UpstreamFailed => "upstream_failed",
        Ending::ShuttingDown => "shutting_down",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_refusal_is_a_superset_of_the_gateways_object() {
        let object = r#"{"type":"budget_exceeded","message":"spending limit exceeded","daily_spent":1.5}"#;
        let refusal = Refusal {
            status: 429,
            code: "budget_exceeded".to_owned(),
            object: object.to_owned(),
        };
        let body = body(&refusal);
        assert_eq!(body.last(), Some(&b'\n'));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["type"], "budget_exceeded");
        assert_eq!(body["error"]["daily_spent"], 1.5);
        assert_eq!(body["error"]["code"], "budget_exceeded");
        assert!(body["error"]["param"].is_null());
    }

    #[test]
    fn a_broken_object_still_gives_a_body() {
        let refusal = Refusal {
            status: 503,
            code: "overloaded".to_owned(),
            object: "nonsense".to_owned(),
        };
        let body: Value = serde_json::from_slice(&body(&refusal)).unwrap();
        assert_eq!(
            (&body["error"]["type"], &body["error"]["code"]),
            (&json!("server_error"), &json!("overloaded"))
        );
    }
}
