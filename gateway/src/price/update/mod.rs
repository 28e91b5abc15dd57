//! `agentledger prices update`: what other price lists say against the book, and a price file of what changed.
//!
//! A source is one of the lists that others keep (`litellm`, `genai-prices`, `models.dev`), or price files of our own form. It
//! is believed price by price, and never where it is not plausible: a price that contradicts another source or itself, that
//! became free, that moved by more than a factor of ten, or that makes its row contradict itself, is held back and named.
//! Where most of a source moved at once, nothing of it is believed. Rows of the operator's own files are left alone.

mod apply;
pub mod fetch;
mod judge;
mod offers;
mod read_genai;
mod read_litellm;
mod read_models_dev;
mod read_own;
#[cfg(test)]
mod tests;
pub mod vendors;
mod write;

pub use apply::{file_name, files_in, write_file};
pub use judge::{HeldBack, Proposal, propose};
pub use offers::{Offers, SourceError, read};

/// The lists that are known by a name, and where they are kept.
pub const KNOWN_SOURCES: [(&str, &str); 3] = [
    (
        "litellm",
        "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json",
    ),
    (
        "genai-prices",
        "https://raw.githubusercontent.com/pydantic/genai-prices/main/prices/data.json",
    ),
    ("models.dev", "https://models.dev/api.json"),
];
