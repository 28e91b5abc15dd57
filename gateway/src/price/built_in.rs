//! The figures that come with the gateway: `configs/prices`, a file a provider.

use std::sync::{Arc, OnceLock};

use super::book::Book;
use super::file::{self, PriceError};

/// One provider's file, and the book that it becomes once it is asked for.
struct BuiltIn {
    provider: &'static str,
    file: &'static str,
    text: &'static str,
    book: OnceLock<Arc<Book>>,
}

/// A file of `configs/prices`, by its provider's name.
macro_rules! built_in {
    ($name:literal) => {
        BuiltIn {
            provider: $name,
            file: concat!("prices/", $name, ".yaml"),
            text: include_str!(concat!("../../../configs/prices/", $name, ".yaml")),
            book: OnceLock::new(),
        }
    };
}

static BUILT_IN: [BuiltIn; 17] = [
    built_in!("openai"),
    built_in!("anthropic"),
    built_in!("azure"),
    built_in!("gemini"),
    built_in!("groq"),
    built_in!("mistral"),
    built_in!("deepseek"),
    built_in!("cohere"),
    built_in!("xai"),
    built_in!("perplexity"),
    built_in!("together"),
    built_in!("fireworks"),
    built_in!("openrouter"),
    built_in!("cerebras"),
    built_in!("sambanova"),
    built_in!("bedrock"),
    built_in!("vertex"),
];

/// The providers that come with a book.
pub fn built_in_providers() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|known| known.provider)
}

/// Whether a row's file is one of these.
pub fn is_built_in(file: &str) -> bool {
    BUILT_IN.iter().any(|known| known.file == file)
}

/// A provider's file and its book, read once a process; `None` for a provider without.
pub fn book(provider: &str) -> Result<Option<(&'static str, Arc<Book>)>, PriceError> {
    let Some(known) = BUILT_IN.iter().find(|known| known.provider == provider) else {
        return Ok(None);
    };
    if let Some(book) = known.book.get() {
        return Ok(Some((known.text, Arc::clone(book))));
    }
    let mut book = Book::default();
    match file::parse(known.file, known.text) {
        (parsed, faults) if faults.is_empty() => parsed.into_iter().for_each(|parsed| book.add(parsed)),
        (_, faults) => return Err(PriceError::first(faults)),
    }
    book.complete();
    let book = known.book.get_or_init(|| Arc::new(book));
    Ok(Some((known.text, Arc::clone(book))))
}
