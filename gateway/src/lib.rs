//! AgentLedger: a gateway between AI agents and LLM providers.
//!
//! The way of a request is in `proxy`: sanitize, identify, inspect, decide, reserve, forward, relay, settle, report. The
//! binary needs [`cli`] alone; everything else is private, but for what [`testing`] shows to tests and benches.
//!
//! A module imports only what stands before it here, which `gateway/tests/tidy.rs` checks:
//!
//! ```text
//! order: base64 addresses secret timer tasks files thousands recent estimate_reason limits price clients config guide hosts rates
//! order: plugin meter policy runtime replay telemetry alerting readiness moving control proxy mcp proxy/accept price_updates backups fingerprints launch
//! order: testing cli
//! ```

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod addresses;
mod alerting;
mod backups;
mod base64;
pub mod cli;
mod clients;
mod config;
mod control;
mod estimate_reason;
mod files;
mod fingerprints;
mod guide;
mod hosts;
mod launch;
mod limits;
mod mcp;
mod meter;
mod moving;
mod plugin;
mod policy;
mod price;
mod price_updates;
mod proxy;
mod rates;
mod readiness;
mod recent;
mod replay;
mod runtime;
mod secret;
mod tasks;
mod telemetry;
#[doc(hidden)]
pub mod testing;
mod thousands;
mod timer;
