//! Rows of the price book: what a model costs from which day on, resolved for every kind so that a cost is a plain sum.

use std::sync::Arc;

use agentledger_ledger::{Kind, Name, UnitPrice};

use super::region::Region;

/// Kinds as a set of bits, in the order of [`Kind::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindSet(u32);

impl KindSet {
    pub fn with(self, kind: Kind) -> KindSet {
        KindSet(self.0 | (1 << kind as u32))
    }
    pub fn without(self, kind: Kind) -> KindSet {
        KindSet(self.0 & !(1 << kind as u32))
    }
    pub fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }
}

/// Prices by kind; `None` where nothing is stated.
pub type Stated = [Option<UnitPrice>; Kind::COUNT];

/// What a file states of one level.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StatedLevel {
    pub kinds: Stated,
    pub reasoning: Option<UnitPrice>,
}

/// What holds above a number of input tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Holds for requests with *more* input and cache tokens than this; 0 for the base.
    pub(super) over: u64,
    /// As the price file states them.
    pub(super) stated: Stated,
    /// Of reasoning tokens, where the provider bills them apart from the output in which they are counted.
    pub(super) reasoning: Option<UnitPrice>,
    /// Every kind priced.
    pub(super) prices: [UnitPrice; Kind::COUNT],
    /// Kinds whose price is not stated but derived.
    pub(super) derived: KindSet,
    /// Kinds whose price is the book's, the same for all models.
    pub(super) common: KindSet,
}

impl Level {
    pub fn over(&self) -> u64 {
        self.over
    }
    /// The price as the file states it.
    pub fn stated(&self, kind: Kind) -> Option<UnitPrice> {
        at(&self.stated, kind)
    }
    /// Fees that the book states for all its models alike.
    pub fn common(&self) -> impl Iterator<Item = (Kind, UnitPrice)> {
        self.common.iter().map(|kind| (kind, self.price(kind)))
    }
    /// The price of reasoning tokens, where it is another than that of output.
    pub fn reasoning(&self) -> Option<UnitPrice> {
        self.reasoning
    }
    pub(super) fn price(&self, kind: Kind) -> UnitPrice {
        at(&self.prices, kind)
    }
}

/// One service tier: its base and its long-context levels, thresholds rising.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    pub(super) name: Box<str>,
    /// Other names that the provider has for it.
    pub(super) also: Vec<Box<str>>,
    pub(super) base: Level,
    pub(super) long: Vec<Level>,
}

impl Tier {
    /// `standard`, `flex`, `priority`, `batch`, …
    pub fn name(&self) -> &str {
        &self.name
    }
    fn is(&self, name: &str) -> bool {
        std::iter::once(&self.name)
            .chain(&self.also)
            .any(|own| own.eq_ignore_ascii_case(name))
    }
    pub fn levels(&self) -> impl Iterator<Item = &Level> {
        std::iter::once(&self.base).chain(&self.long)
    }
    pub(super) fn levels_mut(&mut self) -> impl Iterator<Item = &mut Level> {
        std::iter::once(&mut self.base).chain(&mut self.long)
    }
    /// The whole request is billed at the level that its input tokens reach.
    pub(super) fn level(&self, input_tokens: u64) -> &Level {
        self.long
            .iter()
            .rev()
            .find(|level| input_tokens > level.over)
            .unwrap_or(&self.base)
    }
}

/// The prices that hold from a day on, until the next set begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceSet {
    pub(super) from_ms: i64,
    /// `YYYY-MM-DD`.
    pub(super) from: Name,
    pub(super) standard: Tier,
    pub(super) others: Vec<Tier>,
    /// Kind by kind the dearest of all tiers: for a tier that is not in the book.
    pub(super) dearest: Tier,
}

impl PriceSet {
    pub fn from(&self) -> &str {
        &self.from
    }
    /// `standard` first.
    pub fn tiers(&self) -> impl Iterator<Item = &Tier> {
        std::iter::once(&self.standard).chain(&self.others)
    }
    pub(super) fn tiers_mut(&mut self) -> impl Iterator<Item = &mut Tier> {
        std::iter::once(&mut self.standard)
            .chain(&mut self.others)
            .chain(std::iter::once(&mut self.dearest))
    }

    /// The tier that a service tier's name is billed at, and whether the book knows it.
    pub(super) fn tier(&self, name: Option<&str>) -> (&Tier, bool) {
        let Some(name) = name.filter(|name| !is_standard(name)) else {
            return (&self.standard, true);
        };
        if let Some(tier) = self.others.iter().find(|tier| tier.is(name)) {
            return (tier, true);
        }
        // A size of the search context whose fee does not depend on it.
        if name.starts_with("search_") {
            return (&self.standard, true);
        }
        // Cheaper than standard by their nature: standard is the dearer reading.
        let cheaper = ["flex", "batch"].iter().any(|known| known.eq_ignore_ascii_case(name));
        (if cheaper { &self.standard } else { &self.dearest }, false)
    }
}

/// What providers call the ordinary tier. `scale` is paid for in advance, at no other price a token.
pub(super) fn is_standard(name: &str) -> bool {
    ["", "standard", "default", "auto", "standard_only", "on_demand", "scale"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// Which models a router may have serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Any of its provider's.
    Any,
    Models(Vec<Box<str>>),
}

/// One model of one provider, or a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub(super) provider: Name,
    pub(super) id: Name,
    pub(super) aliases: Vec<Box<str>>,
    pub(super) max_output: Option<u64>,
    /// First day on which the provider serves it no more.
    pub(super) retired_ms: Option<i64>,
    pub(super) source: Box<str>,
    /// Day on which the row was last compared with its source, `YYYY-MM-DD`.
    pub(super) checked: Option<Box<str>>,
    pub(super) note: Option<Box<str>>,
    /// Kinds of cache use that the provider bills apart, so that this row must state them.
    pub(super) caches: KindSet,
    /// Units that are billed at least, once a request uses any of them.
    pub(super) minimum: Vec<(Kind, u64)>,
    /// A router: it has others serve, and its own prices are its fee.
    pub(super) serves: Option<Serves>,
    /// Hosts where it costs more.
    pub(super) regions: Vec<Arc<Region>>,
    /// Written by `prices update`.
    pub(super) is_update: bool,
    /// Where the row is written.
    pub(super) file: Name,
    pub(super) line: u64,
    /// Never empty; dates rise.
    pub(super) first: PriceSet,
    pub(super) later: Vec<PriceSet>,
}

impl Row {
    pub fn provider(&self) -> &str {
        &self.provider
    }
    pub fn id(&self) -> &str {
        &self.id
    }
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.aliases.iter().map(|alias| &**alias)
    }
    pub fn max_output(&self) -> Option<u64> {
        self.max_output
    }
    /// A page's address, or the name of the reference that was taken.
    pub fn source(&self) -> &str {
        &self.source
    }
    pub fn checked(&self) -> Option<&str> {
        self.checked.as_deref()
    }
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
    /// Units that are billed at least, once a request uses any of them.
    pub fn minimum(&self) -> &[(Kind, u64)] {
        &self.minimum
    }
    /// The row of a model by its name: no router, and not what many names share.
    pub fn is_model(&self) -> bool {
        self.serves.is_none() && !self.id.starts_with('*')
    }
    /// File and line, for messages.
    pub fn origin(&self) -> (&str, u64) {
        (&self.file, self.line)
    }
    /// Start of the first day without it.
    pub fn retired_ms(&self) -> Option<i64> {
        self.retired_ms
    }
    pub fn is_retired(&self, at_ms: i64) -> bool {
        self.retired_ms.is_some_and(|day| at_ms >= day)
    }
    pub fn sets(&self) -> impl Iterator<Item = &PriceSet> {
        std::iter::once(&self.first).chain(&self.later)
    }
    pub(super) fn sets_mut(&mut self) -> impl Iterator<Item = &mut PriceSet> {
        std::iter::once(&mut self.first).chain(&mut self.later)
    }
    /// The set that holds at a time; the first also before its day, being the earliest that is known.
    pub(super) fn set(&self, at_ms: i64) -> &PriceSet {
        self.later
            .iter()
            .rev()
            .find(|set| at_ms >= set.from_ms)
            .unwrap_or(&self.first)
    }
}

/// One tier as stated: name, base prices, and prices above thresholds.
pub(super) struct StatedTier {
    pub name: Box<str>,
    pub also: Vec<Box<str>>,
    pub base: StatedLevel,
    pub long: Vec<(u64, StatedLevel)>,
}

/// Fills in what the file does not state, for every kind, tier and level, so that nothing costs 0 for want of a figure.
pub(super) fn resolve_set(from_ms: i64, from: Name, standard: StatedTier, others: Vec<StatedTier>) -> PriceSet {
    let standard = resolve_tier(standard, None);
    let others: Vec<Tier> = others
        .into_iter()
        .map(|tier| resolve_tier(tier, Some(&standard)))
        .collect();
    let mut dearest = Tier {
        name: "".into(),
        ..standard.clone()
    };
    let thresholds: Vec<u64> = thresholds(std::iter::once(&standard).chain(&others));
    dearest.long = thresholds
        .iter()
        .map(|&over| Level {
            over,
            ..standard.level(over + 1).clone()
        })
        .collect();
    for level in dearest.levels_mut() {
        for tier in &others {
            raise(level, tier.level(level.over + 1));
        }
    }
    PriceSet {
        from_ms,
        from,
        standard,
        others,
        dearest,
    }
}

fn thresholds<'a>(tiers: impl Iterator<Item = &'a Tier>) -> Vec<u64> {
    let mut all: Vec<u64> = tiers
        .flat_map(|tier| tier.long.iter().map(|level| level.over))
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn resolve_tier(tier: StatedTier, standard: Option<&Tier>) -> Tier {
    let base = resolve_level(0, tier.base, None, standard.map(|tier| &tier.base));
    let mut long: Vec<Level> = Vec::new();
    for (over, stated) in tier.long {
        let peer = standard.map(|tier| tier.level(over.saturating_add(1)));
        long.push(resolve_level(over, stated, Some(long.last().unwrap_or(&base)), peer));
    }
    // Where only the standard tier has a long-context price, the dearer of the two holds, and is told.
    for peer in standard.into_iter().flat_map(|tier| &tier.long) {
        if !long.iter().any(|level| level.over == peer.over) {
            let below = long.iter().rfind(|level| level.over < peer.over).unwrap_or(&base);
            let mut level = Level {
                over: peer.over,
                stated: [None; Kind::COUNT],
                ..below.clone()
            };
            raise(&mut level, peer);
            level.derived = Kind::ALL
                .into_iter()
                .filter(|kind| kind.is_tokens())
                .fold(level.derived, KindSet::with);
            long.push(level);
            long.sort_by_key(|level| level.over);
        }
    }
    Tier {
        name: tier.name,
        also: tier.also,
        base,
        long,
    }
}

/// `below`: the same tier one level down. `peer`: the standard tier at this level.
fn resolve_level(over: u64, stated: StatedLevel, below: Option<&Level>, peer: Option<&Level>) -> Level {
    let StatedLevel {
        kinds: stated,
        reasoning,
    } = stated;
    let mut level = Level {
        over,
        stated,
        reasoning,
        prices: [UnitPrice::default(); Kind::COUNT],
        derived: KindSet::default(),
        common: KindSet::default(),
    };
    for kind in Kind::ALL {
        let neighbours = [below, peer].into_iter().flatten();
        let price = match at(&stated, kind) {
            Some(price) => price,
            // Fees per unit do not change with the tier or the context unless the file says so.
            None if !kind.is_tokens() => {
                let inherited = neighbours
                    .filter(|other| !other.derived.has(kind))
                    .map(|other| other.price(kind))
                    .next();
                if inherited.is_none() {
                    level.derived = level.derived.with(kind);
                }
                inherited.unwrap_or_default()
            }
            None => match whole_cache(&stated, kind) {
                Some(price) => price,
                None => {
                    level.derived = level.derived.with(kind);
                    neighbours
                        .map(|other| other.price(kind))
                        .fold(derive(&stated, kind), UnitPrice::max)
                }
            },
        };
        set(&mut level.prices, kind, price);
    }
    level
}

/// What the cache of one medium costs where the row has one price for all that is cached: fresh, that medium costs no more
/// than text.
fn whole_cache(stated: &Stated, kind: Kind) -> Option<UnitPrice> {
    let fresh = match kind {
        Kind::CacheReadAudio => Kind::AudioInput,
        Kind::CacheReadImage => Kind::ImageInput,
        _ => return None,
    };
    let dearer = at(stated, fresh).is_some_and(|price| Some(price) > at(stated, Kind::Input));
    at(stated, Kind::CacheRead).filter(|_| !dearer)
}

/// The price of a kind that has none: the documented, dearer-or-equal base.
fn derive(stated: &Stated, kind: Kind) -> UnitPrice {
    let of = |kind| at(stated, kind);
    let dearest = |kinds: &[Kind]| kinds.iter().filter_map(|kind| of(*kind)).max();
    // A row that prices one direction only (embeddings), or one medium, is taken at what it has.
    let input = of(Kind::Input).or_else(|| dearest(&[Kind::AudioInput, Kind::ImageInput, Kind::Output]));
    let output = of(Kind::Output).or_else(|| dearest(&[Kind::AudioOutput, Kind::ImageOutput]).max(of(Kind::Input)));
    let (input, output) = (input.unwrap_or_default(), output.unwrap_or_default());
    match kind {
        Kind::CacheWrite5m => times(input, 5, 4),
        Kind::CacheReadAudio => of(Kind::AudioInput).unwrap_or(input),
        Kind::CacheReadImage => of(Kind::ImageInput).unwrap_or(input),
        Kind::CacheWrite1h => times(input, 2, 1).max(of(Kind::CacheWrite5m).unwrap_or_default()),
        Kind::Input | Kind::CacheRead | Kind::AudioInput | Kind::ImageInput => input,
        Kind::Output | Kind::AudioOutput | Kind::ImageOutput => output,
        _ => UnitPrice::default(),
    }
}

fn times(price: UnitPrice, by: i64, over: i64) -> UnitPrice {
    UnitPrice::from_picos(price.picos().saturating_mul(by).saturating_add(over - 1) / over)
}

/// Lifts each price to another level's where that is dearer.
fn raise(level: &mut Level, other: &Level) {
    // Billed as output where one of the two bills it so.
    level.reasoning = level.reasoning.zip(other.reasoning).map(|(one, two)| one.max(two));
    for kind in Kind::ALL {
        let price = level.price(kind).max(other.price(kind));
        set(&mut level.prices, kind, price);
    }
}

/// Each kind is an index within [`Kind::COUNT`].
pub(super) fn at<T: Copy + Default>(by_kind: &[T; Kind::COUNT], kind: Kind) -> T {
    by_kind.get(kind as usize).copied().unwrap_or_default()
}

pub(super) fn set<T>(by_kind: &mut [T; Kind::COUNT], kind: Kind, value: T) {
    if let Some(slot) = by_kind.get_mut(kind as usize) {
        *slot = value;
    }
}
