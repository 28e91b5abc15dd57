//! Decisions of the past, decided again: what the journal recorded, and what other policies, confs or prices would have done.
//!
//! - [`base`] is what the journal keeps of the policies in force; `rules` puts them together again, event by event.
//! - `evaluate` asks policies with the facts and answers that a decision recorded; `exact` compares what comes out with what is
//!   recorded, books included.
//! - `simulation` is a world of its own in which other rules are in force; `tally` adds up what it comes to, `comparison` sets two
//!   of them side by side. `keys` is what is known of raw keys, which `learning` takes from recorded decisions.
//! - [`explain`] says of one decision, policy by policy, how it came about.
//! - [`run`] reads the journal for all of them, [`report`] is what they say.

pub mod base;
pub mod candidate;
mod comparison;
mod evaluate;
mod exact;
pub mod explain;
pub mod jobs;
mod keys;
mod learning;
mod outcome;
pub mod prices;
pub mod report;
mod rules;
pub mod run;
mod simulation;
mod sizing;
mod tally;
mod words;
mod world;
