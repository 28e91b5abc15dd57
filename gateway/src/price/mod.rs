//! The price book: what each model costs, in integer pico-dollars a unit, from which day on.
//!
//! The figures are data, `configs/prices/*.yaml`, built in and overridden by files that the config names; `file.rs` says
//! their form, `id.rs` how a model's name finds its row. Every kind of usage has a price in every row: where the file
//! states none, a dearer or equal one stands in and [`Quote::fallbacks`] tells it, so that nothing silently costs 0:
//!
//! | not stated | stands in |
//! |---|---|
//! | `cache_read`, `audio_input`, `image_input` | `input` |
//! | `cache_read_audio`, `cache_read_image` | `cache_read`, which is exact, where that medium costs no more than text; else its fresh price |
//! | `cache_write_5m` | 1.25 × `input` |
//! | `cache_write_1h` | 2 × `input` |
//! | `audio_output`, `image_output` | `output` |
//! | `input` or `output` missing | the dearest other medium of that direction, else the other direction |
//! | a unit fee (`web_search`, `second`, …) | the file's `fees`, which are exact; else the provider's dearest; nothing where it has none, and for `request`: told as `unpriced_unit` where the answer reports some |
//! | a token kind in a service tier or long context | the dearer of the above and the standard price of that kind |
//! | a long-context price in a service tier | kind by kind the dearer of the tier and standard long context |
//! | the whole service tier | `flex`, `batch`: standard; any other: kind by kind the dearest tier of the row |
//! | the model | the dearest row of its family (`family_price`), else of its provider (`unpriced_model`): `family.rs` |
//! | the model that a router chose | the dearest that it may choose, told as `price_fallback` |

mod book;
mod built_in;
pub mod check;
#[cfg(test)]
mod check_tests;
pub mod diff;
mod family;
mod file;
#[cfg(test)]
mod file_tests;
mod id;
#[cfg(test)]
mod kinds_tests;
mod names;
mod pairs;
#[cfg(test)]
mod provider_tests;
mod quote;
#[cfg(test)]
mod reference_tests;
mod region;
mod row;
mod stated;
#[cfg(test)]
mod tests;
mod text;
pub mod update;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use agentledger_ledger::{Kind, Name, UnitPrice};

use crate::estimate_reason;
use crate::files;

use book::Book;
pub use book::Overlap;
pub use built_in::built_in_providers;
pub use file::PriceError;
pub use quote::{Billed, CacheWrites, Quote};
pub use row::{KindSet, Level, PriceSet, Row, Serves, Stated};
pub use stated::{StatedPrice, Unpriced};
pub use text::day_ms;

/// All prices. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PriceBook(Arc<Books>);

#[derive(Clone, Debug, Default)]
struct Books {
    by_provider: HashMap<Box<str>, Arc<Book>>,
    digest: [u8; 32],
}

impl PriceBook {
    /// All figures that come with the gateway.
    pub fn builtin() -> Result<PriceBook, PriceError> {
        PriceBook::builtin_of(built_in_providers())
    }

    /// Those of some providers: a book that nobody asks for costs no time at the start. One that does not come with the
    /// gateway is left out.
    pub fn builtin_of<'a>(providers: impl IntoIterator<Item = &'a str>) -> Result<PriceBook, PriceError> {
        let mut books = Books::default();
        let mut digest = blake3::Hasher::new();
        // In an order of their own, so that the digest tells the same figures by the same number.
        for provider in providers.into_iter().collect::<BTreeSet<_>>() {
            let Some((text, book)) = built_in::book(provider)? else {
                continue;
            };
            digest.update(blake3::hash(text.as_bytes()).as_bytes());
            books.by_provider.insert(provider.into(), book);
        }
        books.digest = *digest.finalize().as_bytes();
        Ok(PriceBook(Arc::new(books)))
    }

    /// This book with further files over it, later ones over earlier ones. A row of a file replaces the row of the same id
    /// and takes over its aliases; an alias or id that belonged to another row now finds this one.
    pub fn with_files(&self, files: &[PathBuf]) -> Result<PriceBook, Vec<PriceError>> {
        if files.is_empty() {
            return Ok(self.clone());
        }
        let mut errors = Vec::new();
        let mut sources = Vec::new();
        for path in files {
            let name = path.display().to_string();
            match files::read_text(path, files::TEXT_BYTES_MAX) {
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
            for parsed in parsed {
                let book = books.by_provider.entry(parsed.provider.as_ref().into());
                Arc::make_mut(book.or_default()).add(parsed);
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for book in books.by_provider.values_mut().filter(|book| !book.is_complete()) {
            Arc::make_mut(book).complete();
        }
        books.digest = *digest.finalize().as_bytes();
        Ok(PriceBook(Arc::new(books)))
    }

    /// What a model costs at a time; `None`: unpriced. `id.rs` tells how names match. Allocates nothing. A router costs as the
    /// dearest model that it may have serve, with its fee.
    pub fn find(&self, provider: &str, model: &str, at_ms: i64) -> Option<Quote<'_>> {
        let book = self.0.by_provider.get(provider)?;
        let (row, located) = book.find(model)?;
        let quote = match &row.serves {
            None => row.quote(at_ms),
            Some(serves) => dearest_served(book, serves, at_ms)?
                .quote(at_ms)
                .via(row, at_ms)
                .dearest_of_router(),
        };
        Some(quote.adding(located.added))
    }

    /// The price of an answer: that of the model it names, with what the requested name brings along: a router's fee, a web
    /// search. Where the answer's name has no row, the requested one's counts.
    pub fn find_answered(&self, provider: &str, requested: &str, answered: &str, at_ms: i64) -> Option<Quote<'_>> {
        let book = self.0.by_provider.get(provider)?;
        let known = book.find(answered).filter(|(row, _)| row.serves.is_none());
        let Some((row, located)) = known else {
            return self
                .find(provider, requested, at_ms)
                .or_else(|| self.find(provider, answered, at_ms));
        };
        let quote = row.quote(at_ms).adding(located.added);
        Some(match book.find(requested) {
            Some((router, located)) if router.serves.is_some() => quote.via(router, at_ms).adding(located.added),
            Some((_, located)) => quote.adding(located.added),
            None => quote,
        })
    }

    /// The row that a model's name finds.
    pub fn row(&self, provider: &str, model: &str) -> Option<&Row> {
        Some(self.0.by_provider.get(provider)?.find(model)?.0)
    }

    /// What is taken for a model without a row: the dearest of its family, else of its provider. Flagged either way.
    pub fn stand_in(&self, provider: &str, model: &str, at_ms: i64) -> Option<StandIn<'_>> {
        let book = self.0.by_provider.get(provider)?;
        let (row, reason) = match book.family(model, at_ms) {
            Some(row) => (row, estimate_reason::FAMILY_PRICE),
            None => (book.dearest(at_ms)?, estimate_reason::UNPRICED_MODEL),
        };
        Some(StandIn {
            quote: row.quote(at_ms),
            reason,
        })
    }

    /// The dearest model that the provider serves at that time. Dearest by output, then by input.
    pub fn dearest(&self, provider: &str, at_ms: i64) -> Option<Quote<'_>> {
        let row = self.0.by_provider.get(provider)?.dearest(at_ms)?;
        Some(row.quote(at_ms))
    }

    /// What a name that others serve for stands for; `None` for a model.
    pub fn router(&self, provider: &str, model: &str, at_ms: i64) -> Option<Router<'_>> {
        let row = self.row(provider, model)?;
        Some(Router {
            serves: row.serves.as_ref()?,
            fee: row.router_fee(at_ms),
        })
    }

    /// Whether a model may bill output that its answers do not show, such as reasoning; also where nothing is known of it.
    pub fn thinks_unseen(&self, provider: &str, model: &str) -> bool {
        let book = self.0.by_provider.get(provider);
        book.is_none_or(|book| book.thinks_unseen(model))
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

    /// Names that two files of the operator's price, by provider.
    pub fn overlaps(&self, provider: &str) -> &[Overlap] {
        self.0.by_provider.get(provider).map_or(&[], |book| &book.overlaps)
    }

    /// Stands for all files that the book was made of; goes into the ledger's `opening`.
    pub fn digest(&self) -> [u8; 32] {
        self.0.digest
    }
}

/// What is taken for a model without a row.
#[derive(Clone, Copy, Debug)]
pub struct StandIn<'a> {
    pub quote: Quote<'a>,
    /// Why the cost is an estimate.
    pub reason: &'static str,
}

/// A name that others serve for.
#[derive(Clone, Copy, Debug)]
pub struct Router<'a> {
    pub serves: &'a Serves,
    /// For each token of input, beside the price of the model that served.
    pub fee: UnitPrice,
}

/// The dearest model that a router may have serve; of names without a row, of which a list has none that passes
/// [`check`](check::check), the provider's dearest.
fn dearest_served<'b>(book: &'b Book, serves: &Serves, at_ms: i64) -> Option<&'b Row> {
    let Serves::Models(models) = serves else {
        return book.dearest(at_ms);
    };
    let rows = models.iter().map(|model| book.find(model).map(|(row, _)| row));
    let rows: Option<Vec<&Row>> = rows.collect();
    let dearest = rows
        .into_iter()
        .flatten()
        .filter(|row| row.is_model())
        .max_by_key(|row| {
            let base = &row.set(at_ms).standard.base;
            (
                !row.is_retired(at_ms),
                base.price(Kind::Output),
                base.price(Kind::Input),
            )
        });
    dearest.or_else(|| book.dearest(at_ms))
}

impl Row {
    /// What the config says that a provider's models cost; `None` where it leaves that to the book.
    pub fn stated(provider: Name, unpriced: &Unpriced) -> Option<Row> {
        match *unpriced {
            Unpriced::Free => Some(Row::free(provider)),
            Unpriced::Price { input, output } => Some(Row::default_price(provider, input, output)),
            Unpriced::Dearest | Unpriced::Refuse => None,
        }
    }

    /// A row of the config's `default_price`, USD a token in and out. It is the operator's word, hence exact for all that goes
    /// in and out, cached or not, text or not. What it says nothing of is derived and told: writing a cache, and fees.
    pub fn default_price(provider: Name, input: UnitPrice, output: UnitPrice) -> Row {
        let mut base: Stated = [None; Kind::COUNT];
        for kind in Kind::ALL
            .into_iter()
            .filter(|kind| kind.is_input() && !kind.is_cache_write())
        {
            row::set(&mut base, kind, Some(input));
        }
        for kind in [Kind::Output, Kind::AudioOutput, Kind::ImageOutput] {
            row::set(&mut base, kind, Some(output));
        }
        Row::configured(provider, "default_price", base)
    }

    /// A row of a provider that the config declares `free`: every kind costs 0, stated.
    pub fn free(provider: Name) -> Row {
        Row::configured(provider, "free", [Some(UnitPrice::default()); Kind::COUNT])
    }

    fn configured(provider: Name, id: &str, kinds: Stated) -> Row {
        let standard = row::StatedTier {
            name: "standard".into(),
            also: Vec::new(),
            base: row::StatedLevel { kinds, reasoning: None },
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
            caches: KindSet::default(),
            minimum: Vec::new(),
            serves: None,
            regions: Vec::new(),
            is_update: false,
            file: "config".into(),
            line: 0,
            first: row::resolve_set(i64::MIN, "".into(), standard, Vec::new()),
            later: Vec::new(),
        }
    }
}
