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

use std::path::Path;

use crate::files;

pub use apply::{file_name, files_in, write_file};
pub use judge::{HeldBack, Proposal, propose};
pub use offers::{Offers, read};

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

/// Longest price list that is read from a file.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Why a source could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}: {reason}")]
pub struct LoadError {
    pub source_name: String,
    pub reason: String,
}

/// Whether a text may name a source: a known list, an address that may be fetched, or a file.
pub fn is_source(text: &str) -> bool {
    let is_address = text.contains("://");
    !text.contains(char::is_control) && (!is_address || fetch::may_be_fetched(text))
}

/// Reads a source: a list known by its name, an address, or a file.
///
/// # Errors
/// It cannot be read whole, or is no price list.
pub async fn load(source: &str) -> Result<Offers, LoadError> {
    let failed = |reason: String| LoadError {
        source_name: source.to_owned(),
        reason,
    };
    let known = KNOWN_SOURCES.iter().find(|(name, _)| *name == source);
    let address = known.map_or(source, |(_, address)| address);
    let text = if fetch::is_address(address) {
        fetch::fetch(address).await.map_err(|error| failed(error.to_string()))?
    } else {
        let text = files::read_text(Path::new(address), FILE_BYTES_MAX);
        text.map_err(|error| failed(format!("cannot be read: {error}")))?
    };
    read(source, &text).map_err(|error| failed(error.to_string()))
}

/// The same of several; one that fails has none of them believed.
///
/// # Errors
/// As [`load`].
pub async fn load_all(sources: &[String]) -> Result<Vec<Offers>, LoadError> {
    let mut all = Vec::new();
    for source in sources {
        all.push(load(source).await?);
    }
    Ok(all)
}
