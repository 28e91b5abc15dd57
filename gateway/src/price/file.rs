//! Price files: their form, and every fault in one found at once.
//!
//! ```yaml
//! provider: openai                  # the config's provider name
//! qualifiers: [openai/]             # may stand before an id; `names.rs` has the whole form of this and the next two
//! suffixes: [":nitro"]              # may stand behind an id, and name no other price
//! adds: {":online": {web_search: 1}}   # the same, with what is billed beside the model
//! fees: {file_search: 0.0025}       # of units that cost the same whatever the model
//! minimum: {second: 10}             # units that are billed at least, once a request uses any; a model may have its own
//! regions: []                       # hosts that cost more: `region.rs`
//! reasoning_shown: [gpt-4o]         # models, by the beginning of their ids, that bill no output which they do not show
//! reasoning_hidden: [gpt-4o-think]  # the exceptions; "*" is all, and a model of neither list may think unseen
//! tiers: {fast: priority}           # another name of a service tier → the name used below
//! caches: [cache_read]              # cache use that the provider bills apart: rows that price output must state it
//! sources: {vendor: "https://…"}    # short names for `source`
//! source: vendor                    # of rows that name none
//! checked: 2026-11-22               # of rows that name none
//! models:
//! - id: gpt-5.4
//!   aliases: [other-name]           # not: other case, dots for dashes, dated ids; the lookup derives those
//!   max_output: 128000              # tokens
//!   retired: 2027-01-31             # first day without it
//!   source: vendor                  # a key of `sources`, or free text
//!   checked: 2026-11-22
//!   note: what was taken where references differ, and why
//!   cache: none                     # this model has no cache prices of its own; `part`: not all that `caches` names
//!   minimum: {second: 10}
//!   serves: [gpt-5.4]               # a router: the models that it may have serve, or ["*"]; its own prices are its fee
//!   prices:                         # by the day from which they hold (UTC), rising; or `always`
//!     2026-03-05:
//!       standard: {input: 2.5, cache_read: 0.25, output: 15, web_search: 0.01}
//!       standard >272000: {input: 5, cache_read: 0.5, output: 22.5}     # whole request, above so many input tokens
//!       flex: {input: 1.25, output: 7.5}
//! ```
//!
//! Prices are decimal USD: per million for kinds of tokens, per unit for all others. They are read from their text.
//! `reasoning` is a price too, for providers that bill reasoning tokens apart from the output in which they are counted.
//!
//! A file may hold the lists of several providers, each a YAML document (`---`). `update: DATE` marks those that
//! `agentledger prices update` wrote: any other file, and the next update, may override them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agentledger_ledger::{Kind, Name};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::book::Thinking;
use super::id;
use super::names::Added;
use super::pairs::Pairs;
use super::region::Region;
use super::row::{self, KindSet, PriceSet, Row, Serves, Stated, StatedLevel, StatedTier};
use super::text::{day_ms, parse_price, tier_key};

/// What is wrong with a price file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    #[error("{file}: cannot be read: {reason}")]
    Unreadable { file: String, reason: String },
    #[error("{file}:{line}: {reason}")]
    Syntax { file: String, line: u64, reason: String },
    #[error("{file}:{line}: {fault}")]
    Fault { file: String, line: u64, fault: Fault },
}

/// A rule of the book that a file breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("unknown usage kind `{0}`")]
    UnknownKind(String),
    #[error("price `{0}` is no decimal number")]
    NotDecimal(String),
    #[error("price `{0}` is negative")]
    Negative(String),
    #[error("price `{0}` has more decimals than can be kept exactly")]
    TooFine(String),
    #[error("price `{0}` is too large")]
    TooLarge(String),
    #[error("`{0}` is no date (YYYY-MM-DD)")]
    NoDate(String),
    #[error("`{name}` is already named on line {first}")]
    Duplicate { name: String, first: u64 },
    #[error("the prices from {0} overlap those before them: dates must rise")]
    DatesOverlap(String),
    #[error("`{0}` is no tier: write `NAME` or `NAME >TOKENS`")]
    BadTier(String),
    #[error("tier `{0}` out of order: a tier's base comes first, then its thresholds, rising")]
    TierOrder(String),
    #[error("tier `{tier}`: `{kind}` costs less than below its threshold")]
    CheaperAbove { tier: String, kind: &'static str },
    #[error("no `standard` prices")]
    NoStandard,
    #[error("an id of a model is empty or too long")]
    BadId,
    #[error("model `{0}` has no prices")]
    NoPrices(String),
    #[error("`cache: {0}` is neither none nor part")]
    NoCacheWord(String),
}

impl PriceError {
    pub(super) fn unreadable(file: &str, error: &std::io::Error) -> PriceError {
        PriceError::Unreadable {
            file: file.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(super) fn first(errors: Vec<PriceError>) -> PriceError {
        let none = || PriceError::Unreadable {
            file: String::new(),
            reason: "unknown".to_owned(),
        };
        errors.into_iter().next().unwrap_or_else(none)
    }

    /// Line in the file, where there is one.
    pub fn line(&self) -> Option<u64> {
        match self {
            PriceError::Unreadable { .. } => None,
            PriceError::Syntax { line, .. } | PriceError::Fault { line, .. } => Some(*line),
        }
    }
}

/// One provider's list, understood.
pub(super) struct Parsed {
    pub provider: Name,
    pub qualifiers: Vec<String>,
    pub suffixes: Vec<String>,
    pub adds: Vec<(String, Added)>,
    pub fees: Stated,
    pub thinking: Vec<(Box<[u8]>, Thinking)>,
    pub regions: Vec<Arc<Region>>,
    pub rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceFile {
    provider: String,
    #[serde(default)]
    qualifiers: Vec<String>,
    #[serde(default)]
    suffixes: Vec<String>,
    #[serde(default)]
    adds: BTreeMap<String, Spanned<BTreeMap<String, u64>>>,
    fees: Option<Placed<String>>,
    #[serde(default)]
    minimum: BTreeMap<String, Spanned<u64>>,
    #[serde(default)]
    regions: Vec<Spanned<RegionText>>,
    #[serde(default)]
    reasoning_shown: Vec<String>,
    #[serde(default)]
    reasoning_hidden: Vec<String>,
    update: Option<Spanned<String>>,
    #[serde(default)]
    tiers: HashMap<String, String>,
    #[serde(default)]
    caches: Vec<Spanned<String>>,
    #[serde(default)]
    sources: HashMap<String, String>,
    source: Option<String>,
    checked: Option<Spanned<String>>,
    models: Vec<Spanned<Model>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionText {
    hosts: Vec<String>,
    factor: String,
    since: Option<String>,
    #[serde(default)]
    models: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    id: Spanned<String>,
    #[serde(default)]
    aliases: Vec<Spanned<String>>,
    max_output: Option<u64>,
    retired: Option<Spanned<String>>,
    source: Option<String>,
    checked: Option<Spanned<String>>,
    note: Option<String>,
    cache: Option<Spanned<String>>,
    #[serde(default)]
    minimum: BTreeMap<String, Spanned<u64>>,
    serves: Option<Vec<String>>,
    prices: Placed<Placed<Placed<String>>>,
}

/// A YAML map with the place of each value.
type Placed<T> = Pairs<Spanned<T>>;

/// Reads one file; what can be understood of it, and all its faults.
pub(super) fn parse(file: &str, text: &str) -> (Vec<Parsed>, Vec<PriceError>) {
    let syntax = |line: u64, reason: String| {
        let file = file.to_owned();
        (Vec::new(), vec![PriceError::Syntax { file, line, reason }])
    };
    let lists: Vec<PriceFile> = match serde_saphyr::from_multiple(text) {
        Ok(lists) => lists,
        Err(error) => {
            let line = error.location().map_or(0, |at| at.line());
            return syntax(line, error.without_snippet().to_string());
        }
    };
    if lists.is_empty() {
        return syntax(0, "no price list in it".to_owned());
    }
    let (mut parsed, mut faults) = (Vec::new(), Vec::new());
    for list in lists {
        let (understood, mut found) = understand(file, list);
        parsed.push(understood);
        faults.append(&mut found);
    }
    (parsed, faults)
}

/// One provider's list.
fn understand(file: &str, list: PriceFile) -> (Parsed, Vec<PriceError>) {
    let mut reader = PriceFileReader {
        file: file.into(),
        provider: list.provider.as_str().into(),
        sources: list.sources,
        source: list.source,
        checked: list.checked.as_ref().map(|day| day.value.clone()),
        is_update: list.update.is_some(),
        caches: KindSet::default(),
        minimum: Vec::new(),
        tiers: list.tiers,
        names: HashMap::new(),
        faults: Vec::new(),
    };
    for day in list.checked.iter().chain(&list.update) {
        reader.day(&day.value, day.referenced.line());
    }
    for kind in &list.caches {
        if let Some(known) = reader.kind(&kind.value, kind.referenced.line()) {
            reader.caches = reader.caches.with(known);
        }
    }
    reader.minimum = reader.units(&list.minimum);
    let regions = list.regions.iter().filter_map(|region| reader.region(region)).collect();
    let adds = reader.adds(list.adds);
    let fees = list.fees.map(|fees| reader.prices(fees).kinds).unwrap_or_default();
    let shown = list.reasoning_shown.iter().map(|id| (id::key(id), Thinking::Shown));
    let hidden = list.reasoning_hidden.iter().map(|id| (id::key(id), Thinking::Hidden));
    let thinking = shown.chain(hidden).collect();
    let rows = list.models.into_iter().filter_map(|model| reader.row(model)).collect();
    let PriceFileReader { provider, faults, .. } = reader;
    let parsed = Parsed {
        provider,
        qualifiers: list.qualifiers,
        suffixes: list.suffixes,
        adds,
        fees,
        thinking,
        regions,
        rows,
    };
    (parsed, faults)
}

struct PriceFileReader {
    file: Name,
    provider: Name,
    sources: HashMap<String, String>,
    source: Option<String>,
    checked: Option<String>,
    is_update: bool,
    caches: KindSet,
    minimum: Vec<(Kind, u64)>,
    tiers: HashMap<String, String>,
    /// Folded ids and aliases → line.
    names: HashMap<Box<[u8]>, u64>,
    faults: Vec<PriceError>,
}

impl PriceFileReader {
    fn fault(&mut self, line: u64, fault: Fault) {
        self.faults.push(PriceError::Fault {
            file: self.file.to_string(),
            line,
            fault,
        });
    }

    fn row(&mut self, model: Spanned<Model>) -> Option<Row> {
        let line = model.value.id.referenced.line();
        let model = model.value;
        for name in std::iter::once(&model.id).chain(&model.aliases) {
            self.name(name);
        }
        let id: Name = model.id.value.as_str().into();
        let sets = self.sets(&id, line, model.prices);
        let retired_ms = model
            .retired
            .and_then(|day| self.day(&day.value, day.referenced.line()));
        if let Some(checked) = &model.checked {
            self.day(&checked.value, checked.referenced.line());
        }
        let caches = self.caches_of(model.cache.as_ref());
        let minimum = if model.minimum.is_empty() {
            self.minimum.clone()
        } else {
            self.units(&model.minimum)
        };
        let source = model.source.or_else(|| self.source.clone());
        let source = source.unwrap_or_else(|| self.file.to_string());
        let source = self.sources.get(&source).cloned().unwrap_or(source);
        let mut sets = sets.into_iter();
        let first = sets.next()?;
        Some(Row {
            provider: self.provider.clone(),
            id,
            aliases: model.aliases.into_iter().map(|alias| alias.value.into()).collect(),
            max_output: model.max_output,
            retired_ms,
            source: source.into(),
            checked: model
                .checked
                .map(|day| day.value)
                .or_else(|| self.checked.clone())
                .map(Into::into),
            note: model.note.map(Into::into),
            caches,
            minimum,
            serves: model.serves.map(serving),
            regions: Vec::new(),
            is_update: self.is_update,
            file: self.file.clone(),
            line,
            first,
            later: sets.collect(),
        })
    }

    fn kind(&mut self, name: &str, line: u64) -> Option<Kind> {
        let known = Kind::from_name(name);
        if known.is_none() {
            self.fault(line, Fault::UnknownKind(name.to_owned()));
        }
        known
    }

    /// Counts by kind.
    fn units(&mut self, stated: &BTreeMap<String, Spanned<u64>>) -> Vec<(Kind, u64)> {
        let counted = stated.iter().filter_map(|(name, units)| {
            let kind = self.kind(name, units.referenced.line())?;
            Some((kind, units.value))
        });
        counted.collect()
    }

    /// What each of these suffixes adds: one kind, of which a request uses so many units.
    fn adds(&mut self, stated: BTreeMap<String, Spanned<BTreeMap<String, u64>>>) -> Vec<(String, Added)> {
        let mut adds = Vec::new();
        for (suffix, units) in stated {
            let line = units.referenced.line();
            for (name, count) in &units.value {
                adds.extend(self.kind(name, line).map(|kind| (suffix.clone(), (kind, *count))));
            }
        }
        adds
    }

    fn region(&mut self, stated: &Spanned<RegionText>) -> Option<Arc<Region>> {
        let (line, text) = (stated.referenced.line(), &stated.value);
        let since_ms = match &text.since {
            Some(day) => Some(self.day(day, line)?),
            None => None,
        };
        match Region::new(&text.hosts, &text.factor, since_ms, &text.models) {
            Ok(region) => Some(Arc::new(region)),
            Err(fault) => {
                self.fault(line, fault);
                None
            }
        }
    }

    /// What the file says of all its rows, unless the row says otherwise.
    fn caches_of(&mut self, said: Option<&Spanned<String>>) -> KindSet {
        match said {
            None => self.caches,
            Some(word) if word.value == "none" || word.value == "part" => KindSet::default(),
            Some(word) => {
                self.fault(word.referenced.line(), Fault::NoCacheWord(word.value.clone()));
                self.caches
            }
        }
    }

    /// Names are one id where they fold to the same.
    fn name(&mut self, name: &Spanned<String>) {
        let line = name.referenced.line();
        if id::Folded::new(&name.value).is_none() {
            self.fault(line, Fault::BadId);
        } else if let Some(first) = self.names.insert(id::key(&name.value), line) {
            self.fault(
                line,
                Fault::Duplicate {
                    name: name.value.clone(),
                    first,
                },
            );
        }
    }

    fn sets(&mut self, id: &str, line: u64, dated: Placed<Placed<Placed<String>>>) -> Vec<PriceSet> {
        let mut sets: Vec<PriceSet> = Vec::new();
        if dated.0.is_empty() {
            self.fault(line, Fault::NoPrices(id.to_owned()));
        }
        for (day, tiers) in dated.0 {
            let line = tiers.referenced.line();
            let from = match day.as_str() {
                "always" => Some(0),
                day => self.day(day, line),
            };
            let Some(from_ms) = from else { continue };
            if sets.last().is_some_and(|before| before.from_ms >= from_ms) {
                self.fault(line, Fault::DatesOverlap(day.clone()));
                continue;
            }
            let from: Name = if from_ms == 0 {
                "1970-01-01".into()
            } else {
                day.as_str().into()
            };
            let mut tiers = self.tiers(tiers.value).into_iter();
            match tiers.next() {
                Some(standard) if &*standard.name == "standard" => {
                    sets.push(row::resolve_set(from_ms, from, standard, tiers.collect()));
                }
                _ => self.fault(line, Fault::NoStandard),
            }
        }
        sets
    }

    fn tiers(&mut self, stated: Placed<Placed<String>>) -> Vec<StatedTier> {
        let mut tiers: Vec<StatedTier> = Vec::new();
        for (key, prices) in stated.0 {
            let line = prices.referenced.line();
            let prices = self.prices(prices.value);
            let Some((name, over)) = tier_key(&key) else {
                self.fault(line, Fault::BadTier(key));
                continue;
            };
            match (tiers.last_mut(), over) {
                (last, None) if last.as_ref().is_none_or(|last| &*last.name != name) => {
                    if tiers.iter().any(|tier| &*tier.name == name) {
                        self.fault(line, Fault::TierOrder(key));
                    } else {
                        let also = self.tiers.iter().filter(|(_, known)| *known == name);
                        let also = also.map(|(other, _)| other.as_str().into()).collect();
                        tiers.push(StatedTier {
                            name: name.into(),
                            also,
                            base: prices,
                            long: Vec::new(),
                        });
                    }
                }
                (Some(tier), Some(over))
                    if &*tier.name == name && tier.long.last().is_none_or(|(at, _)| *at < over) =>
                {
                    let below = tier.long.last().map_or(&tier.base, |(_, prices)| prices);
                    let cheaper = Kind::ALL.into_iter().find(|kind| {
                        row::at(&prices.kinds, *kind).is_some_and(|price| Some(price) < row::at(&below.kinds, *kind))
                    });
                    tier.long.push((over, prices));
                    if let Some(kind) = cheaper {
                        self.fault(
                            line,
                            Fault::CheaperAbove {
                                tier: key,
                                kind: kind.name(),
                            },
                        );
                    }
                }
                _ => self.fault(line, Fault::TierOrder(key)),
            }
        }
        tiers
    }

    fn prices(&mut self, stated: Placed<String>) -> StatedLevel {
        let mut prices = StatedLevel::default();
        for (name, text) in stated.0 {
            let line = text.referenced.line();
            // Reasoning is no kind of its own: it is counted within output.
            let kind = match name.as_str() {
                "reasoning" => None,
                name => match self.kind(name, line) {
                    Some(kind) => Some(kind),
                    None => continue,
                },
            };
            match (parse_price(&text.value, kind.unwrap_or(Kind::Output)), kind) {
                (Ok(price), Some(kind)) => row::set(&mut prices.kinds, kind, Some(price)),
                (Ok(price), None) => prices.reasoning = Some(price),
                (Err(fault), _) => self.fault(line, fault),
            }
        }
        prices
    }

    /// Start of a day, UTC, in milliseconds since the epoch.
    fn day(&mut self, text: &str, line: u64) -> Option<i64> {
        let start = day_ms(text);
        if start.is_none() {
            self.fault(line, Fault::NoDate(text.to_owned()));
        }
        start
    }
}

/// `["*"]` is any model of the provider's.
fn serving(models: Vec<String>) -> Serves {
    match models.as_slice() {
        [any] if any == "*" => Serves::Any,
        _ => Serves::Models(models.into_iter().map(Into::into).collect()),
    }
}
