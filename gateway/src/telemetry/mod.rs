//! What the operator sees: metrics and log lines. Neither ever holds a key, a prompt or an `Authorization` value: keys
//! appear as fingerprints, and only names that the config or a provider gave become labels.

pub mod family;
pub mod logging;
pub mod metrics;

pub use logging::LogGuard;
pub use metrics::{Metrics, Running, Samples, Source};
