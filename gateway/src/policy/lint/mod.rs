//! A policy's text, read without being run: names that are nowhere, facts that no call has, intents that make no sense.

mod lexer;
mod names;
mod parser;
mod state;
pub(super) mod tree;
mod walk;

pub(super) use lexer::{Place, Unreadable};
pub(super) use names::{Literal, Sandbox, lint, meant};
pub(super) use parser::parse;
pub(super) use state::keeps_nothing;

/// Something wrong at a place; the code is a stable word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slip {
    pub at: Place,
    pub code: &'static str,
    pub message: String,
}
