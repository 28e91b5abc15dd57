//! AgentLedger: a gateway between AI agents and LLM providers.
//!
//! A request's way is the file list of [`proxy`]: guard, identify, inspect, decide, reserve, forward, relay, settle, report.

mod base64;
pub mod cli;
pub use agentledger_ledger::clock;
pub mod config;
pub mod control;
pub mod demo;
mod files;
mod fingerprints;
pub mod launch;
pub mod meter;
pub mod plugin;
pub mod policy;
pub mod proxy;
pub mod rates;
mod readiness;
pub mod secret;
pub mod telemetry;
