//! Why the control plane cannot run, and why one of its methods gave no result.

use std::path::PathBuf;

use jsonrpsee::types::ErrorObjectOwned;
use serde_json::json;

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
    #[error("request_id {0:?} was used for another request")]
    RequestReused(String),
    #[error("no gateway runs here: start it, or name one with --url")]
    NoGateway,
}

impl RpcError {
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
        }
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
