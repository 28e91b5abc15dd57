//! What the operator sees: metrics and log lines. Neither ever holds a key, a prompt or an `Authorization` value: keys
//! appear as fingerprints, and only names that the config or a provider gave become labels.
//!
//! Metrics go out through the `prometheus` crate: a registry collects [`family`]'s counts and the [`Source`]s, and its
//! encoder writes the text.

pub mod alerts;
mod families;
pub mod family;
pub mod latency;
pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod samples;
pub mod trace;

pub use metrics::{Metrics, Running};
pub use otlp::{Otlp, OtlpError, RefusedCall};
pub use samples::{Samples, Source};
