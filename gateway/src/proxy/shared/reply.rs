//! Refusals, and the one place that makes HTTP of them, in the caller's dialect.

use std::sync::Arc;

use agentledger_http1::ResponseHead;
use agentledger_ledger::LedgerError;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};
use ulid::Ulid;

use crate::plugin::{Dialect, DialectRefusal};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::cors;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::refusal_text::signed;

/// By which answers and refusals name their exchange.
pub const EXCHANGE_HEADER: &str = "X-AgentLedger-Exchange";

/// When a refusal for a ledger that cannot write is worth another try, seconds.
const LEDGER_RETRY_S: u64 = 5;

/// The stable word of a refusal: one of the gateway's own, or of the policy or plugin that refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    Own(RefusalCode),
    Foreign(Box<str>),
}

impl Code {
    pub fn as_str(&self) -> &str {
        match self {
            Code::Own(code) => code.text(),
            Code::Foreign(text) => text,
        }
    }
}

/// Why the gateway itself answers instead of the upstream. `code` is stable; `message` is for the client and never
/// holds a key or a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub status: u16,
    /// The contract's `error.type`: `proxy_error` or `budget_exceeded`.
    pub kind: &'static str,
    pub code: Code,
    pub message: String,
    /// Further fields of the `error` object.
    pub fields: Map<String, Value>,
    pub retry_after_s: Option<u64>,
    /// `Some(false)` makes the official SDKs not try again.
    pub should_retry: Option<bool>,
    pub headers: Vec<(String, String)>,
    /// The connection cannot be used any more: its framing is in doubt or unread bytes stand on it.
    pub close: bool,
}

impl Refusal {
    /// A refusal of the gateway's own.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Refusal {
        Refusal::with_code(code.status(), Code::Own(code), message)
    }

    /// A refusal of a policy's or a plugin's, with its code.
    pub fn foreign(status: u16, code: &str, message: impl Into<String>) -> Refusal {
        Refusal::with_code(status, Code::Foreign(code.into()), message)
    }

    fn with_code(status: u16, code: Code, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            kind: "proxy_error",
            code,
            message: message.into(),
            fields: Map::new(),
            retry_after_s: None,
            should_retry: None,
            headers: Vec::new(),
            close: false,
        }
    }

    /// No memory left for further request bodies.
    pub fn overloaded() -> Refusal {
        Refusal::new(RefusalCode::Overloaded, "too many request bytes in flight")
            .retry_after(1)
            .closing()
    }

    pub fn body_too_large() -> Refusal {
        Refusal::new(RefusalCode::BodyTooLarge, "request body too large")
    }

    /// Of a client that went away before its request was whole; nobody reads it.
    pub fn client_left() -> Refusal {
        Refusal::new(RefusalCode::ClientGone, "the client went away").closing()
    }

    /// Nothing is spent that cannot be written down.
    pub fn ledger_stopped(error: &LedgerError) -> Refusal {
        tracing::error!(%error, "the ledger cannot write: requests are refused");
        Refusal::new(
            RefusalCode::LedgerUnavailable,
            "the ledger cannot write; requests are refused until it can",
        )
        .retry_after(LEDGER_RETRY_S)
    }

    /// The answer to an exchange that cannot begin any more.
    pub fn going_down() -> Refusal {
        Refusal::new(RefusalCode::ShuttingDown, "the gateway is going down; try again")
            .retry_after(1)
            .closing()
    }

    pub fn kind(mut self, kind: &'static str) -> Refusal {
        self.kind = kind;
        self
    }

    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Refusal {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Refusal {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Names the exchange that is refused, in the head and in the body: `agentledger policy explain --id` takes it.
    pub fn of_exchange(self, id: Ulid) -> Refusal {
        self.field("exchange", id.to_string())
            .header(EXCHANGE_HEADER, id.to_string())
    }

    pub fn retry_after(mut self, seconds: u64) -> Refusal {
        self.retry_after_s = Some(seconds);
        self
    }

    /// When the same request may pass: `resets_at` (seconds since the epoch) and `resets_in_seconds`, null for never.
    pub fn resets_at(self, at_ms: Option<i64>, now_ms: i64) -> Refusal {
        let at_s = at_ms.map(|at_ms| at_ms.div_euclid(1_000) + i64::from(at_ms.rem_euclid(1_000) > 0));
        let in_s = at_ms.map(|at_ms| {
            u64::try_from(at_ms.saturating_sub(now_ms))
                .unwrap_or_default()
                .div_ceil(1_000)
        });
        self.field("resets_at", json!(at_s))
            .field("resets_in_seconds", json!(in_s))
    }

    pub fn final_answer(mut self) -> Refusal {
        self.should_retry = Some(false);
        self
    }

    pub fn closing(mut self) -> Refusal {
        self.close = true;
        self
    }

    /// The contract's `error` object.
    pub fn object(&self) -> Value {
        let mut object = Map::new();
        object.insert("type".to_owned(), json!(self.kind));
        object.insert("code".to_owned(), json!(self.code.as_str()));
        object.insert("message".to_owned(), json!(signed(&self.message)));
        object.extend(self.fields.clone());
        Value::Object(object)
    }

    /// The body: in the dialect where one is known, else the contract's plain shape. Ends with a newline.
    pub fn body(&self, dialect: Option<(&Arc<dyn Dialect>, &str)>) -> Vec<u8> {
        let object = self.object();
        let spoken = dialect.and_then(|(dialect, operation)| {
            let refusal = DialectRefusal {
                status: self.status,
                code: self.code.as_str().to_owned(),
                object: object.to_string(),
            };
            dialect.error_body(operation, &refusal).ok()
        });
        let mut body = spoken.unwrap_or_else(|| json!({ "error": object }).to_string().into_bytes());
        if body.last() != Some(&b'\n') {
            body.push(b'\n');
        }
        body
    }
}

/// Writes a refusal to the client. Failures to write mean that the client has left; they are not reported.
pub async fn refuse(session: &mut ServerSession, refusal: &Refusal, dialect: Option<(&Arc<dyn Dialect>, &str)>) {
    refuse_in_words(session, refusal, Bytes::from(refusal.body(dialect))).await;
}

/// The same, with a body that was made elsewhere.
pub async fn refuse_in_words(session: &mut ServerSession, refusal: &Refusal, body: Bytes) {
    let Some(mut head) = head_of(refusal, body.len()) else {
        return;
    };
    cors::put(session, &mut head);
    write(session, refusal, head, body).await;
}

/// The same, where no request could be read: there is nobody whose dialect or origin it could go by.
pub async fn refuse_unread(session: &mut ServerSession, refusal: &Refusal) {
    let body = Bytes::from(refusal.body(None));
    if let Some(head) = head_of(refusal, body.len()) {
        write(session, refusal, head, body).await;
    }
}

async fn write(session: &mut ServerSession, refusal: &Refusal, head: ResponseHead, body: Bytes) {
    if refusal.close {
        session.close_after_answer();
    }
    if session.write_response_header(&head).await.is_ok() {
        let _ = session.write_response_body(body, true).await;
    }
}

fn head_of(refusal: &Refusal, body_bytes: usize) -> Option<ResponseHead> {
    let mut header = ResponseHead::new(StatusCode::from_u16(refusal.status).ok()?);
    let mut put = |name: &str, value: &str| {
        // A value that is no header value is left out rather than the whole answer lost.
        let _ = header.insert(name, value);
    };
    put("content-type", "application/json");
    put("content-length", &body_bytes.to_string());
    if let Some(seconds) = refusal.retry_after_s {
        put("retry-after", &seconds.to_string());
    }
    if let Some(retry) = refusal.should_retry {
        put("x-should-retry", if retry { "true" } else { "false" });
    }
    for (name, value) in &refusal.headers {
        put(name, value);
    }
    Some(header)
}

/// A small answer of the gateway's own, JSON.
pub async fn answer_json(session: &mut ServerSession, status: u16, body: impl Into<Bytes>) {
    let body = body.into();
    let Ok(status) = StatusCode::from_u16(status) else {
        return;
    };
    let mut header = ResponseHead::new(status);
    let _ = header.insert("content-type", "application/json");
    let _ = header.insert("content-length", &body.len().to_string());
    cors::put(session, &mut header);
    if session.write_response_header(&header).await.is_ok() {
        let _ = session.write_response_body(body, true).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_body_is_the_contracts_shape_and_ends_with_a_newline() {
        let refusal = Refusal::new(RefusalCode::BudgetExceeded, "spending limit exceeded")
            .kind("budget_exceeded")
            .field("daily_limit", 50);
        let text = String::from_utf8(refusal.body(None)).unwrap();
        assert!(text.ends_with("}\n"));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["error"]["type"], "budget_exceeded");
        assert_eq!(value["error"]["message"], "AgentLedger: spending limit exceeded");
        assert_eq!(value["error"]["daily_limit"], 50);
    }
}
