//! The control plane: JSON-RPC, metrics and health on a runtime of its own, so that no reader of it ever delays a
//! proxied byte. The only module that names jsonrpsee and axum. In the order of a call's way:
//!
//! | room | does |
//! |---|---|
//! | [`listen`], [`transport`] | sockets, paths, one call or a batch from bytes to its answer, by POST and WebSocket |
//! | [`access`] | who may enter: host, origin, token, and how often wrong ones are tried |
//! | [`rpc`] | what a method is: who calls, what it takes, the table that all are entered in |
//! | [`methods`] | each method, by what it is about; `rules` is how all of them change a rule |
//! | [`feeds`] | what subscribers are sent, and a follower of it for the CLI |
//! | [`rest`] | the paths of the original, over the same methods |
//! | [`wire`], `rows` | parameters and results, which the CLI reads too |
//! | [`state`], `ledger_view`, `key_names`, `made_of`, `verifications`, `error` | what all of it answers from, and why it does not |
//! | `forecast` | where a window goes, and when it reaches a limit |
//!
//! Where no gateway runs, the CLI calls the same methods in its own process.

mod access;
pub mod contract_forms;
mod error;
mod feeds;
mod forecast;
mod key_names;
mod ledger_view;
mod listen;
mod made_of;
pub mod methods;
mod rest;
mod rows;
mod rpc;
mod sources;
mod state;
mod transport;
mod verifications;
pub mod wire;

use std::sync::Arc;

pub use access::PEER_HEADER;
pub use error::{ControlError, RpcError};
pub use feeds::follow::{Feed, FollowError, follow};
pub use ledger_view::LedgerView;
pub use listen::ControlHandle;
pub use methods::system::settings;
pub use rpc::params::{LastError, parse_last};
pub use rpc::table::Module;
pub use state::{
    BreakerState, BreakerStatus, ChangedTool, Commit, ControlState, DataPlane, LiveAnswer, NoDataPlane, PinnedTool,
    Plan, PluginInfo, Record, ToolDecision, ToolServerNow,
};
pub use transport::page;

/// Starts the control plane on a Unix socket and, where `listen` is given (`host:port`), a TCP listener. It runs on
/// threads of its own until the handle is stopped or dropped.
pub fn start(
    state: Arc<ControlState>,
    socket: &std::path::Path,
    listen: Option<&str>,
) -> Result<ControlHandle, ControlError> {
    state.metrics.add_source(Arc::new(sources::Gauges::new(&state)));
    listen::start(state, socket, listen)
}

#[cfg(test)]
mod tests;
