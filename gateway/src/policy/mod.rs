//! Policies: pure Lua functions that say what the limits are. The only module that names mlua.
//!
//! Facts go in, intents come out, and what all policies ask for is merged into one [`Verdict`], which the rest of the
//! gateway makes hold. Lua sees no raw key, no clock but `call.at`, no I/O and no other policy.
//!
//! - [`PolicySet::load`] compiles and checks files; [`Engine`] asks them, one VM a thread; [`folder`] finds the files.
//! - A policy that fails on `tenant` or `request` fails closed (a [`PolicyFailure`]); one that fails on `settled` or `alert`
//!   is only counted, and so is one in shadow.
//! - An engine that remembers (`memo`) answers as a policy did when it read the same facts, without running it.

mod account;
mod balances;
mod bounds_on;
pub mod check;
mod choose;
mod conf;
mod coverage;
mod decimal;
mod engine;
mod entry;
pub mod eval;
mod event;
mod fact;
mod facts;
mod fields;
mod file;
pub mod folder;
mod glob;
mod history;
mod intent;
mod lines;
mod lint;
mod memo;
mod message;
mod model_names;
mod prepared;
mod probe;
mod question;
mod read;
pub mod record;
mod record_layout;
mod sandbox;
mod schema;
mod set;
pub mod spec;
mod tally;
mod terms;
mod trial;
mod verdict;
mod verdict_hash;
mod vm;
mod zones;

#[cfg(test)]
mod tests;

pub use balances::{Balances, NoBalances};
pub use bounds_on::{AskedBounds, sample_key};
pub use coverage::Covered;
pub use engine::{Cause, Counters, Engine, FailureCounts, Lookups, PolicyFailure};
pub use event::Event;
pub use facts::{CallFacts, CostEstimate, SERVER_TAG, TOOL_OPERATION, TOOL_TAG};
pub use file::{ConfFault, is_plain_word, source_hash};
pub use folder::{Watch, builtin_sources, load_dir};
#[cfg(test)]
pub use glob::Over;
pub use glob::{Glob, GlobSet};
pub use history::History;
pub use question::KeyQuestion;
pub use schema::Shape;
pub use set::{Options, Phase, PolicyError, PolicyMode, PolicySet, PolicyView, Source, Version};
pub use tally::{Excess, FailureLimit, OnExceeded, Tally, TallyCounts};
pub use verdict::{Binding, Deny, Read, Requested, RequestedAlert, RequestedBound, Route, Verdict, When};
pub use verdict_hash::VerdictHash;
