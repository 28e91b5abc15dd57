//! Decisions of the past, decided again: what the journal recorded, and what other policies, confs or prices would have done.
//!
//! - [`base`] is what the journal keeps of the policies in force; [`rules`] puts them together again, event by event.
//! - [`evaluate`] asks the policies with the facts and answers that a decision recorded.

pub mod base;
