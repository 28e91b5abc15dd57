//! The control plane: JSON-RPC, metrics and health on a runtime of its own, so that no reader of it ever delays a
//! proxied byte. The only module that names jsonrpsee and axum.
//!
//! Who may ask what is decided in [`access`]; the methods are in [`rpc`], and their parameters and results, which the CLI
//! reads too, in [`wire`]. Where no gateway runs, the CLI calls the same methods in its own process.

mod access;
pub mod books;
mod holds;
mod http;
mod listen;
mod params;
pub mod prices;
pub mod rpc;
mod sessions;
mod sources;
pub mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::price::PriceBook;
use crate::telemetry::Metrics;

pub use access::PEER_HEADER;
pub use books::LedgerView;
pub use listen::ControlHandle;
pub use params::{LastError, parse_last};

/// What the control plane answers from.
pub struct ControlState {
    pub ledger: LedgerView,
    pub config: Arc<ArcSwap<Config>>,
    pub metrics: Arc<Metrics>,
    pub providers: Arc<dyn ProviderStatus>,
    pub version: &'static str,
    /// Milliseconds since the epoch.
    pub started_at_ms: i64,
}

/// What the data plane knows of its providers beyond the config.
pub trait ProviderStatus: Send + Sync {
    fn breaker(&self, provider: &str) -> BreakerStatus;

    /// The price book in force; `None` where no data plane runs.
    fn prices(&self) -> Option<PriceBook> {
        None
    }
}

/// A provider's circuit breaker as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerStatus {
    pub state: BreakerState,
    /// Consecutive failures.
    pub failures: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// No breaker is configured.
    #[default]
    Off,
    Closed,
    Open,
    HalfOpen,
}

impl BreakerState {
    pub const fn name(self) -> &'static str {
        match self {
            BreakerState::Off => "off",
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// Where no data plane runs: every breaker is off.
pub struct NoDataPlane;

impl ProviderStatus for NoDataPlane {
    fn breaker(&self, _provider: &str) -> BreakerStatus {
        BreakerStatus::default()
    }
}

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
