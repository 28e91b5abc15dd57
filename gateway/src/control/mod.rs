//! The control plane: JSON-RPC, metrics and health on a runtime of its own, so that no reader of it ever delays a
//! proxied byte. The only module that names jsonrpsee and axum.
//!
//! Who may ask what is decided in [`access`]; the methods are in [`rpc`], and their parameters and results, which the CLI
//! reads too, in [`wire`]. Where no gateway runs, the CLI calls the same methods in its own process.

mod access;
mod alerts;
mod attempts;
mod audit;
pub mod books;
mod budgets;
mod call;
mod clock;
pub mod contract_forms;
mod discover;
mod dispatch;
mod error;
mod feeds;
mod follow;
mod holds;
mod http;
mod keys;
mod ledger_view;
mod listen;
mod methods;
mod moving;
mod news;
mod params;
mod policies;
pub mod prices;
mod providers;
mod rest;
mod rows;
pub mod rpc;
mod rule_change;
mod rule_history;
mod rules;
mod series;
mod sessions;
mod shortcuts;
mod sources;
mod state;
mod subscriptions;
mod switches;
mod system;
mod tenants;
mod websocket;
pub mod wire;

use std::sync::Arc;

pub use access::PEER_HEADER;
pub use error::{ControlError, RpcError};
pub use follow::{Feed, FollowError, follow};
pub use ledger_view::LedgerView;
pub use listen::ControlHandle;
pub use methods::Module;
pub use params::{LastError, parse_last};
pub use state::{BreakerState, BreakerStatus, ControlState, DataPlane, NoDataPlane, Plan, PluginInfo, Record};
pub use system::settings;

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
