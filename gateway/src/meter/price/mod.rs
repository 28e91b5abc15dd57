//! The price book: what each model costs, in integer pico-dollars a unit, from which day on.
//!
//! The figures are data, `configs/prices/*.yaml`, built in and overridden by files that the config names; `file.rs` says
//! their form, `id.rs` how a model's name finds its row. Every kind of usage has a price in every row: where the file
//! states none, a dearer or equal one stands in and [`Quote::fallbacks`] tells it, so that nothing silently costs 0:
//!
//! | not stated | stands in |
//! |---|---|
//! | `cache_read`, `audio_input`, `image_input` | `input` |
//! | `cache_write_5m` | 1.25 × `input` |
//! | `cache_write_1h` | 2 × `input` |
//! | `audio_output`, `image_output` | `output` |
//! | `input` or `output` missing | the dearest other medium of that direction, else the other direction |
//! | a unit fee (`web_search`, `second`, …) | the provider's dearest; `request` alone is free unless stated |
//! | a token kind in a service tier or long context | the dearer of the above and the standard price of that kind |
//! | a long-context price in a service tier | kind by kind the dearer of the tier and standard long context |
//! | the whole service tier | `flex`, `batch`: standard; any other: kind by kind the dearest tier of the row |

mod file;
#[cfg(test)]
mod file_tests;
mod id;
mod quote;
#[cfg(test)]
mod reference_tests;
mod row;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use agentledger_ledger::{Kind, Name, UnitPrice};

pub use file::PriceError;
pub use quote::{CacheWrites, Fallbacks, Quote};
pub use row::{KindSet, Level, PriceSet, Row, Stated, Tier};

/// The built-in files: name, text.
const BUILTIN: [(&str, &str); 2] = [
    (
        "prices/openai.yaml",
        include_str!("../../../../configs/prices/openai.yaml"),
    ),
    (
        "prices/anthropic.yaml",
        include_str!("../../../../configs/prices/anthropic.yaml"),
    ),
];

/// All prices. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PriceBook(Arc<Books>);

#[derive(Clone, Debug, Default)]
struct Books {
    by_provider: HashMap<Box<str>, Book>,
    digest: [u8; 32],
}

/// One provider's rows and how ids find them.
#[derive(Clone, Debug, Default)]
struct Book {
    rows: Vec<Row>,
    /// Folded id or alias → index of the row.
    index: HashMap<Box<[u8]>, usize>,
    /// Folded words that may stand before an id, and neutral ones that may stand after it.
    qualifiers: Vec<Box<[u8]>>,
    suffixes: Vec<Box<[u8]>>,
}

impl PriceBook {
    /// The figures that come with the gateway; read once a process.
    pub fn builtin() -> Result<PriceBook, PriceError> {
        static BOOK: LazyLock<Result<PriceBook, PriceError>> = LazyLock::new(|| {
            let sources = BUILTIN.iter().map(|(name, text)| (*name, (*text).to_owned()));
            PriceBook::of(Books::default(), sources).map_err(PriceError::first)
        });
        BOOK.clone()
    }

    /// This book with further files over it, later ones over earlier ones. A row of a file replaces the row of the same id
    /// and takes over its aliases; an alias or id that belonged to another row now finds this one.
    pub fn with_files(&self, files: &[PathBuf]) -> Result<PriceBook, Vec<PriceError>> {
        let mut errors = Vec::new();
        let mut sources = Vec::new();
        for path in files {
            let name = path.display().to_string();
            match std::fs::read_to_string(path) {
                Ok(text) => sources.push((name, text)),
                Err(error) => errors.push(PriceError::unreadable(&name, &error)),
            }
        }
        match PriceBook::of(Books::clone(&self.0), sources) {
            Ok(book) if errors.is_empty() => Ok(book),
            Ok(_) => Err(errors),
            Err(more) => {
                errors.extend(more);
                Err(errors)
            }
        }
    }

    /// The same from text in hand: (name for messages, YAML).
    pub fn with_texts(&self, texts: &[(&str, &str)]) -> Result<PriceBook, Vec<PriceError>> {
        let sources = texts.iter().map(|(name, text)| (*name, (*text).to_owned()));
        PriceBook::of(Books::clone(&self.0), sources)
    }

    /// A book without any price.
    pub fn empty() -> PriceBook {
        PriceBook(Arc::default())
    }

    fn of<N: AsRef<str>>(
        mut books: Books,
        sources: impl IntoIterator<Item = (N, String)>,
    ) -> Result<PriceBook, Vec<PriceError>> {
        let mut errors = Vec::new();
        let mut digest = blake3::Hasher::new();
        digest.update(&books.digest);
        for (name, text) in sources {
            digest.update(blake3::hash(text.as_bytes()).as_bytes());
            let (parsed, mut found) = file::parse(name.as_ref(), &text);
            errors.append(&mut found);
            if let Some(parsed) = parsed {
                books
                    .by_provider
                    .entry(parsed.provider.as_ref().into())
                    .or_default()
                    .add(parsed);
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for book in books.by_provider.values_mut() {
            book.fill_fees();
        }
        books.digest = *digest.finalize().as_bytes();
        Ok(PriceBook(Arc::new(books)))
    }

    /// What a model costs at a time; `None`: unpriced. `id.rs` tells how names match. Allocates nothing.
    pub fn find(&self, provider: &str, model: &str, at_ms: i64) -> Option<Quote<'_>> {
        Some(self.row(provider, model)?.quote(at_ms))
    }

    /// The row that a model's name finds.
    pub fn row(&self, provider: &str, model: &str) -> Option<&Row> {
        self.0.by_provider.get(provider)?.find(model)
    }

    /// The dearest model that the provider serves at that time: what an unpriced one is held and settled at. Dearest by
    /// output, then by input.
    pub fn dearest(&self, provider: &str, at_ms: i64) -> Option<Quote<'_>> {
        let rows = self.0.by_provider.get(provider)?.rows.iter();
        let quotes = rows.map(|row| row.quote(at_ms));
        quotes.max_by_key(|quote| {
            let price = |kind| quote.unit_price(kind, 0, None);
            (!quote.row().is_retired(at_ms), price(Kind::Output), price(Kind::Input))
        })
    }

    pub fn has_provider(&self, provider: &str) -> bool {
        self.0.by_provider.contains_key(provider)
    }

    /// Names of all providers with a book, sorted.
    pub fn providers(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.by_provider.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    /// A provider's rows in the order of their files.
    pub fn rows(&self, provider: &str) -> impl Iterator<Item = &Row> {
        self.0.by_provider.get(provider).into_iter().flat_map(|book| &book.rows)
    }

    /// Stands for all files that the book was made of; goes into the ledger's `opening`.
    pub fn digest(&self) -> [u8; 32] {
        self.0.digest
    }
}

impl Book {
    fn add(&mut self, parsed: file::Parsed) {
        self.qualifiers
            .extend(parsed.qualifiers.iter().map(|word| id::key(word)));
        self.suffixes.extend(parsed.suffixes.iter().map(|word| id::key(word)));
        for row in parsed.rows {
            let own = id::key(&row.id);
            // Replaced only where it is the row's id: an alias alone takes that one name over.
            let replaced = self.index.get(&own).copied();
            let replaced = replaced.filter(|at| self.rows.get(*at).is_some_and(|old| id::key(&old.id) == own));
            let keys: Vec<_> = std::iter::once(own)
                .chain(row.aliases.iter().map(|alias| id::key(alias)))
                .collect();
            let at = match replaced.and_then(|at| Some((at, self.rows.get_mut(at)?))) {
                Some((at, slot)) => {
                    *slot = row;
                    at
                }
                None => {
                    self.rows.push(row);
                    self.rows.len() - 1
                }
            };
            self.index.extend(keys.into_iter().map(|key| (key, at)));
        }
    }

    fn find(&self, model: &str) -> Option<&Row> {
        let folded = id::Folded::new(model)?;
        let whole = folded.as_bytes();
        let known = |id: &[u8]| self.index.get(id).copied();
        let at = id::resolve(whole, &self.suffixes, known).or_else(|| {
            let bare = self.qualifiers.iter().find_map(|word| whole.strip_prefix(&**word))?;
            id::resolve(bare, &self.suffixes, known)
        })?;
        self.rows.get(at)
    }

    /// A fee that a row does not state is the dearest of the provider's, and told.
    fn fill_fees(&mut self) {
        let fees = Kind::ALL
            .into_iter()
            .filter(|kind| !kind.is_tokens() && *kind != Kind::Request);
        for kind in fees {
            let levels = self
                .rows
                .iter()
                .flat_map(Row::sets)
                .flat_map(PriceSet::tiers)
                .flat_map(Tier::levels);
            let dearest = levels.filter_map(|level| level.stated(kind)).max().unwrap_or_default();
            let tiers = self
                .rows
                .iter_mut()
                .flat_map(Row::sets_mut)
                .flat_map(PriceSet::tiers_mut);
            for level in tiers.flat_map(Tier::levels_mut) {
                if level.derived.has(kind) {
                    row::set(&mut level.prices, kind, dearest);
                }
            }
        }
    }
}

impl Row {
    /// A row of the config's `default_price`: USD a token in and out; other kinds by the stand-ins.
    pub fn default_price(provider: Name, input: UnitPrice, output: UnitPrice) -> Row {
        let mut base: Stated = [None; Kind::COUNT];
        row::set(&mut base, Kind::Input, Some(input));
        row::set(&mut base, Kind::Output, Some(output));
        Row::configured(provider, "default_price", base)
    }

    /// A row of a provider that the config declares `free`: every kind costs 0, stated.
    pub fn free(provider: Name) -> Row {
        Row::configured(provider, "free", [Some(UnitPrice::default()); Kind::COUNT])
    }

    fn configured(provider: Name, id: &str, base: Stated) -> Row {
        let standard = row::StatedTier {
            name: "standard".into(),
            also: Vec::new(),
            base,
            long: Vec::new(),
        };
        Row {
            provider,
            id: id.into(),
            aliases: Vec::new(),
            max_output: None,
            retired_ms: None,
            source: "config".into(),
            checked: None,
            note: None,
            file: "config".into(),
            line: 0,
            first: row::resolve_set(i64::MIN, "".into(), standard, Vec::new()),
            later: Vec::new(),
        }
    }
}
