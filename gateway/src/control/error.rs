//! Why the control plane cannot run, and why one of its methods gave no result.

use std::path::PathBuf;

use jsonrpsee::types::ErrorObjectOwned;
use serde_json::json;

use crate::runtime::Refused;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(
        "control.socket: {path} is {bytes} bytes long, a Unix socket's path takes at most {max}: set control.socket to a shorter path",
        path = path.display()
    )]
    SocketPathTooLong { path: PathBuf, bytes: usize, max: usize },
    #[error("control.socket: {} is there and is not a socket", .0.display())]
    NotASocket(PathBuf),
    #[error("control.socket: another gateway answers on {}", .0.display())]
    InUse(PathBuf),
    #[error("control.socket: {path}: {error}", path = path.display())]
    Socket { path: PathBuf, error: std::io::Error },
    #[error("control.listen: {address}: {error}")]
    Listen { address: String, error: std::io::Error },
    #[error("control plane: {0}")]
    Runtime(std::io::Error),
    #[error("control plane: {0}")]
    Methods(String),
}

/// Why a method gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    #[error("{0}")]
    InvalidParams(String),
    #[error("{0}")]
    LedgerFailed(String),
    #[error("{0}")]
    NotFound(String),
    #[error("this token may not do that")]
    Forbidden,
    #[error("this token is bound to its tenant")]
    OtherTenant,
    /// A field of what was given, by its path (`value.limit`), and what is wrong with it.
    #[error("{path} {text}")]
    Unfit { path: String, text: String },
    /// It is not any more what the caller believed.
    #[error("{0}")]
    Conflict(String),
    /// It is decided, and the disk has not taken it.
    #[error("it counts as soon as the disk takes it, and never if the gateway ends before that: {0}")]
    OutcomeUnknown(String),
    #[error("request_id {0:?} was used for another request")]
    RequestReused(String),
    #[error("no gateway runs here: start it, or name one with --url")]
    NoGateway,
}

impl RpcError {
    /// The ledger, or what is made of it, gave no result.
    pub fn ledger(error: impl ToString) -> RpcError {
        RpcError::LedgerFailed(error.to_string())
    }

    /// Code, stable word and meaning of each, for the document of the interface.
    pub(super) const WORDS: [(i32, &str, &str); 10] = [
        (
            -32602,
            "invalid_params",
            "a parameter is unknown, missing or not what it must be",
        ),
        (
            -32602,
            "does_not_fit",
            "a field of what was given does not fit; data.path says which",
        ),
        (-32001, "ledger_failed", "the ledger could not do it: the text says why"),
        (
            -32002,
            "not_found",
            "there is no such thing, or it is not this token's to see",
        ),
        (-32003, "forbidden", "the token's role may not do that"),
        (
            -32003,
            "other_tenant",
            "the token is bound to a tenant, and this is not its tenant's",
        ),
        (-32004, "conflict", "it is not any more what the caller believed"),
        (
            -32005,
            "request_id_reused",
            "the request_id was used for another request",
        ),
        (-32006, "no_gateway", "no gateway runs here"),
        (
            -32013,
            "outcome_unknown",
            "it is decided, and the disk has not taken it yet: it counts as soon as it does, and never if the gateway ends before",
        ),
    ];

    /// The JSON-RPC code and the stable word.
    pub const fn code(&self) -> (i32, &'static str) {
        match self {
            RpcError::InvalidParams(_) => (-32602, "invalid_params"),
            RpcError::LedgerFailed(_) => (-32001, "ledger_failed"),
            RpcError::NotFound(_) => (-32002, "not_found"),
            RpcError::Forbidden => (-32003, "forbidden"),
            RpcError::OtherTenant => (-32003, "other_tenant"),
            RpcError::Unfit { .. } => (-32602, "does_not_fit"),
            RpcError::Conflict(_) => (-32004, "conflict"),
            RpcError::RequestReused(_) => (-32005, "request_id_reused"),
            RpcError::NoGateway => (-32006, "no_gateway"),
            RpcError::OutcomeUnknown(_) => (-32013, "outcome_unknown"),
        }
    }
}

/// Why a text is no call that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolError {
    #[error("this is not JSON")]
    Unreadable,
    #[error("this is no JSON-RPC 2.0 request")]
    NotARequest,
    #[error("there is no such method: rpc.discover lists them")]
    UnknownMethod,
    #[error("the call failed inside the gateway, which has logged why")]
    Internal,
    #[error("requests are at most 1 MiB long")]
    RequestTooLarge,
    #[error("the answer would be longer than 64 MiB: request less at a time")]
    AnswerTooLarge,
    #[error("a batch has at most 32 calls")]
    BatchTooLarge,
    #[error("a connection has at most 32 subscriptions")]
    TooManySubscriptions,
    #[error("subscriptions need a WebSocket: open one at /rpc")]
    NeedsWebSocket,
    #[error("send it as Content-Type: application/json")]
    NotJson,
    #[error("the request did not arrive in time")]
    Late,
    #[error("too many connections: try again later")]
    TooManyConnections,
}

impl ProtocolError {
    pub(super) const ALL: [ProtocolError; 12] = [
        ProtocolError::Unreadable,
        ProtocolError::NotARequest,
        ProtocolError::UnknownMethod,
        ProtocolError::Internal,
        ProtocolError::RequestTooLarge,
        ProtocolError::AnswerTooLarge,
        ProtocolError::BatchTooLarge,
        ProtocolError::TooManySubscriptions,
        ProtocolError::NeedsWebSocket,
        ProtocolError::NotJson,
        ProtocolError::Late,
        ProtocolError::TooManyConnections,
    ];

    /// The JSON-RPC code and the stable word.
    pub(super) const fn code(self) -> (i32, &'static str) {
        match self {
            ProtocolError::Unreadable => (-32700, "parse_error"),
            ProtocolError::NotARequest => (-32600, "invalid_request"),
            ProtocolError::UnknownMethod => (-32601, "unknown_method"),
            ProtocolError::Internal => (-32603, "internal"),
            ProtocolError::RequestTooLarge => (-32007, "request_too_large"),
            ProtocolError::AnswerTooLarge => (-32008, "answer_too_large"),
            ProtocolError::BatchTooLarge => (-32010, "batch_too_large"),
            ProtocolError::TooManySubscriptions => (-32011, "too_many_subscriptions"),
            ProtocolError::NeedsWebSocket => (-32012, "needs_websocket"),
            ProtocolError::NotJson => (-32600, "not_json"),
            ProtocolError::Late => (-32600, "late"),
            ProtocolError::TooManyConnections => (-32009, "too_many_connections"),
        }
    }

    /// What an error of the library's own means.
    pub(super) fn of_library(code: i32) -> Option<ProtocolError> {
        match code {
            -32603 => Some(ProtocolError::Internal),
            -32008 => Some(ProtocolError::AnswerTooLarge),
            _ => None,
        }
    }
}

impl From<Refused> for RpcError {
    fn from(refused: Refused) -> RpcError {
        match refused {
            Refused::NotFound(text) => RpcError::NotFound(text),
            Refused::Conflict(text) => RpcError::Conflict(text),
            Refused::Unfit { path, text } => RpcError::Unfit { path, text },
        }
    }
}

impl From<ProtocolError> for ErrorObjectOwned {
    fn from(error: ProtocolError) -> ErrorObjectOwned {
        let (code, word) = error.code();
        ErrorObjectOwned::owned(code, error.to_string(), Some(json!({ "code": word })))
    }
}

impl From<RpcError> for ErrorObjectOwned {
    fn from(error: RpcError) -> ErrorObjectOwned {
        let (code, word) = error.code();
        let data = match &error {
            RpcError::Unfit { path, .. } => json!({ "code": word, "path": path }),
            _ => json!({ "code": word }),
        };
        ErrorObjectOwned::owned(code, error.to_string(), Some(data))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn each_error_of_a_method_is_in_the_document() {
        let text = String::new;
        let all = [
            RpcError::InvalidParams(text()),
            RpcError::LedgerFailed(text()),
            RpcError::NotFound(text()),
            RpcError::Forbidden,
            RpcError::OtherTenant,
            RpcError::Unfit {
                path: text(),
                text: text(),
            },
            RpcError::Conflict(text()),
            RpcError::RequestReused(text()),
            RpcError::NoGateway,
            RpcError::OutcomeUnknown(text()),
        ];
        let mut words: Vec<(i32, &str)> = all.iter().map(RpcError::code).collect();
        let mut documented: Vec<(i32, &str)> = RpcError::WORDS.iter().map(|(code, word, _)| (*code, *word)).collect();
        words.sort_unstable();
        documented.sort_unstable();
        assert_eq!(words, documented);
        // Compiled for each variant that is added: it belongs above.
        for error in all {
            match error {
                RpcError::InvalidParams(_)
                | RpcError::LedgerFailed(_)
                | RpcError::NotFound(_)
                | RpcError::Forbidden
                | RpcError::OtherTenant
                | RpcError::Unfit { .. }
                | RpcError::Conflict(_)
                | RpcError::RequestReused(_)
                | RpcError::NoGateway
                | RpcError::OutcomeUnknown(_) => {}
            }
        }
    }

    #[test]
    fn the_words_of_all_errors_differ() {
        let of_texts = ProtocolError::ALL.map(|error| error.code().1);
        let of_methods = RpcError::WORDS.map(|(_, word, _)| word);
        let words: std::collections::BTreeSet<&str> = of_texts.into_iter().chain(of_methods).collect();
        assert_eq!(words.len(), of_texts.len() + of_methods.len());
    }
}
