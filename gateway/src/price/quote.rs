//! A quote: the row and the dated prices that one request is billed at.

use std::fmt;

use agentledger_ledger::{Kind, Name, Picos, PriceRef, UnitPrice, Usage, Usd};

use crate::estimate_reason;

use super::names::Added;
use super::region::Region;
use super::row::{self, KindSet, Level, PriceSet, Row};

/// Ends the name of a tier, or stands alone, where a region's price was taken.
const REGIONAL: &str = "regional";
/// An unknown tier's name is the client's or the provider's: so much of it is kept.
const TIER_CHARS_MAX: usize = 32;

/// What a model costs at one time, as one request is billed: where it is served, and through which router. A view into the
/// book: copying it costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Quote<'a> {
    row: &'a Row,
    set: &'a PriceSet,
    region: Option<&'a Region>,
    /// What the router takes for each token of input.
    router_fee: UnitPrice,
    /// Which model the router chose is not known: this is the dearest that it may.
    is_routed: bool,
    added: Option<Added>,
}

impl Row {
    /// The prices that hold at a time, milliseconds since the epoch.
    pub fn quote(&self, at_ms: i64) -> Quote<'_> {
        Quote {
            row: self,
            set: self.set(at_ms),
            region: None,
            router_fee: UnitPrice::default(),
            is_routed: false,
            added: None,
        }
    }

    /// What it takes for a token of input, being a router.
    pub fn router_fee(&self, at_ms: i64) -> UnitPrice {
        self.set(at_ms).standard.base.stated(Kind::Input).unwrap_or_default()
    }
}

impl<'a> Quote<'a> {
    pub fn row(&self) -> &'a Row {
        self.row
    }

    pub fn set(&self) -> &'a PriceSet {
        self.set
    }

    /// The same as the host bills it, where that is a dearer region's.
    #[must_use]
    pub fn at_host(mut self, host: &str) -> Quote<'a> {
        self.region = self
            .row
            .regions
            .iter()
            .map(|region| &**region)
            .find(|region| region.serves(host));
        self
    }

    /// The same as an entry's tier says that it was billed, and the tier itself.
    #[must_use]
    pub fn as_entered<'t>(mut self, tier: Option<&'t str>) -> (Quote<'a>, Option<&'t str>) {
        let Some(rest) = tier.and_then(|tier| tier.strip_suffix(REGIONAL)) else {
            return (self, tier);
        };
        self.region = self.row.regions.first().map(|region| &**region);
        (self, rest.strip_suffix('_').filter(|tier| !tier.is_empty()))
    }

    /// The same through a router, which takes a fee of its own.
    #[must_use]
    pub(super) fn via(mut self, router: &Row, at_ms: i64) -> Quote<'a> {
        self.router_fee = router.router_fee(at_ms);
        self
    }

    /// The same where the router does not say which model it chose.
    #[must_use]
    pub(super) fn dearest_of_router(mut self) -> Quote<'a> {
        self.is_routed = true;
        self
    }

    #[must_use]
    pub(super) fn adding(mut self, added: Option<Added>) -> Quote<'a> {
        self.added = added.or(self.added);
        self
    }

    /// What the model's name has each request use beside it: units of a kind.
    pub fn added(&self) -> Option<Added> {
        self.added
    }

    /// The units that are billed where so many were used: no less than the row's minimum. Entries keep what was used.
    pub fn billed(&self, usage: &Usage) -> Usage {
        let least = |billed: Usage, (kind, least): &(Kind, u64)| match billed.get(*kind) {
            0 => billed,
            used => billed.with(*kind, used.max(*least)),
        };
        self.row.minimum.iter().fold(*usage, least)
    }

    /// What the usage costs: summed in pico-dollars, rounded half up to nano-dollars once. The context level follows from
    /// the usage itself. A sum beyond what `Usd` holds is its maximum.
    pub fn cost(&self, usage: &Usage, service_tier: Option<&str>) -> Usd {
        self.cost_of(usage, 0, service_tier)
    }

    /// The same where so many tokens of the output are reasoning, which a few providers bill apart.
    pub fn cost_of(&self, usage: &Usage, reasoning: u64, service_tier: Option<&str>) -> Usd {
        self.picos(usage, reasoning, service_tier)
            .and_then(|sum| sum.to_usd().ok())
            .unwrap_or(Usd::from_nanos(i64::MAX))
    }

    /// The same before it is rounded, for sums of many; `None` where it cannot be counted.
    pub fn picos(&self, usage: &Usage, reasoning: u64, service_tier: Option<&str>) -> Option<Picos> {
        let level = self.level(usage.input_tokens(), service_tier).0;
        let mut usage = self.billed(usage);
        let mut apart = Picos::ZERO;
        if let Some(price) = level.reasoning.map(|price| self.there(price)) {
            let reasoning = reasoning.min(usage.get(Kind::Output));
            usage.set(Kind::Output, usage.get(Kind::Output) - reasoning);
            apart = Picos::ZERO.add(reasoning, price)?;
        }
        usage
            .iter()
            .try_fold(apart, |sum, (kind, units)| sum.add(units, self.price(level, kind)))
    }

    /// What `picos` sums, item by item. Reasoning stands apart where it has a price of its own.
    pub fn itemised(&self, usage: &Usage, reasoning: u64, service_tier: Option<&str>) -> Vec<Billed> {
        let level = self.level(usage.input_tokens(), service_tier).0;
        let mut usage = self.billed(usage);
        let mut items = Vec::new();
        let mut apart = None;
        if let Some(price) = level.reasoning.map(|price| self.there(price)) {
            let units = reasoning.min(usage.get(Kind::Output));
            usage.set(Kind::Output, usage.get(Kind::Output) - units);
            apart = (units > 0).then_some(Billed {
                name: "reasoning",
                kind: Kind::Output,
                units,
                price,
            });
        }
        items.extend(usage.iter().map(|(kind, units)| Billed {
            name: kind.name(),
            kind,
            units,
            price: self.price(level, kind),
        }));
        items.extend(apart);
        items
    }

    /// The price of a unit: the level's, in this region, with the router's fee.
    fn price(&self, level: &Level, kind: Kind) -> UnitPrice {
        let price = level.price(kind);
        if !kind.is_tokens() {
            return price;
        }
        let fee = if kind.is_input() { self.router_fee.picos() } else { 0 };
        UnitPrice::from_picos(self.there(price).picos().saturating_add(fee))
    }

    /// A price of tokens in this region.
    fn there(&self, price: UnitPrice) -> UnitPrice {
        self.region
            .map_or(price, |region| UnitPrice::from_picos(region.price(price.picos())))
    }

    /// What of the cost rests on a price that the book does not state. Not empty: the entry is an estimate.
    pub fn fallbacks(&self, usage: &Usage, service_tier: Option<&str>) -> Fallbacks {
        let (level, tier_known) = self.level(usage.input_tokens(), service_tier);
        let used = level.derived.iter().filter(|kind| usage.get(*kind) > 0);
        let kinds = used.fold(KindSet::default(), KindSet::with);
        Fallbacks {
            kinds,
            tier: !tier_known,
            router: self.is_routed,
            unpriced: kinds.iter().any(|kind| level.price(kind) == UnitPrice::default()),
        }
    }

    /// The most output tokens that the model gives, where that is known.
    pub fn max_output(&self) -> Option<u64> {
        self.row.max_output
    }

    /// Whether the provider has a price of its own for this tier (the standard one always counts).
    pub fn knows_tier(&self, service_tier: Option<&str>) -> bool {
        self.set.tier(service_tier).1
    }

    /// For the entry. `effective` is empty for prices that come from the config. A tier is named as the book names it, else as
    /// it was asked for.
    pub fn reference(&self, service_tier: Option<&str>) -> PriceRef {
        let asked = service_tier.filter(|name| !row::is_standard(name));
        let tier = asked.map(|asked| match self.set.tier(Some(asked)) {
            (billed, true) => billed.name().to_owned(),
            (_, false) => asked.chars().take(TIER_CHARS_MAX).collect::<String>(),
        });
        let tier = match (tier, self.region) {
            (None, Some(_)) => Some(REGIONAL.to_owned()),
            (Some(tier), Some(_)) => Some(format!("{tier}_{REGIONAL}")),
            (tier, None) => tier,
        };
        let tier = tier.map(Name::from);
        PriceRef {
            provider: self.row.provider.clone(),
            id: self.row.id.clone(),
            effective: self.set.from.clone(),
            tier,
        }
    }

    /// The price of one unit in a request of so many input and cache tokens.
    pub fn unit_price(&self, kind: Kind, input_tokens: u64, service_tier: Option<&str>) -> UnitPrice {
        self.price(self.level(input_tokens, service_tier).0, kind)
    }

    /// The dearest of these kinds in a request of so many input and cache tokens: what a hold multiplies with.
    pub fn dearest_of(&self, kinds: &[Kind], input_tokens: u64, service_tier: Option<&str>) -> UnitPrice {
        let level = self.level(input_tokens, service_tier).0;
        kinds
            .iter()
            .map(|kind| self.price(level, *kind))
            .max()
            .unwrap_or_default()
    }

    /// What a token of text input costs at most: as fresh input, and as a cache write where the request may write one.
    pub fn input_ceiling(&self, input_tokens: u64, service_tier: Option<&str>, writes: CacheWrites) -> UnitPrice {
        let kinds: &[Kind] = match writes {
            CacheWrites::None => &[Kind::Input],
            CacheWrites::FiveMinutes => &[Kind::Input, Kind::CacheWrite5m],
            CacheWrites::OneHour => &[Kind::Input, Kind::CacheWrite5m, Kind::CacheWrite1h],
        };
        self.dearest_of(kinds, input_tokens, service_tier)
    }

    /// What a token of text output costs in a request of so many input and cache tokens.
    pub fn output_price(&self, input_tokens: u64, service_tier: Option<&str>) -> UnitPrice {
        self.unit_price(Kind::Output, input_tokens, service_tier)
    }

    /// Whether the row states a price for this kind; otherwise it is derived.
    pub fn states(&self, kind: Kind, service_tier: Option<&str>) -> bool {
        !self.level(0, service_tier).0.derived.has(kind)
    }

    fn level(&self, input_tokens: u64, service_tier: Option<&str>) -> (&'a Level, bool) {
        let (tier, known) = self.set.tier(service_tier);
        (tier.level(input_tokens), known)
    }
}

/// Units of one kind, as they are billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Billed {
    /// The kind's, or `reasoning`.
    pub name: &'static str,
    pub kind: Kind,
    pub units: u64,
    /// Of one unit.
    pub price: UnitPrice,
}

impl Billed {
    /// Rounded half up to nano-dollars; a sum beyond what `Usd` holds is its maximum.
    pub fn usd(&self) -> Usd {
        let picos = Picos::ZERO.add(self.units, self.price);
        picos
            .and_then(|picos| picos.to_usd().ok())
            .unwrap_or(Usd::from_nanos(i64::MAX))
    }
}

/// Cache writes that a request may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheWrites {
    None,
    FiveMinutes,
    OneHour,
}

/// Parts of a cost that were priced by a stand-in. Displays as a reason for the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fallbacks {
    kinds: KindSet,
    tier: bool,
    router: bool,
    unpriced: bool,
}

impl Fallbacks {
    /// Why an entry with them is an estimate; `None`: every price is stated.
    pub fn reason(&self) -> Option<&'static str> {
        if self.unpriced {
            Some(estimate_reason::UNPRICED_UNIT)
        } else {
            (!self.is_empty()).then_some(estimate_reason::PRICE_FALLBACK)
        }
    }
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && !self.tier && !self.router
    }
    /// Used kinds without a price of their own.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.kinds.iter()
    }
    /// The service tier has no price of its own.
    pub fn tier(&self) -> bool {
        self.tier
    }
}

impl fmt::Display for Fallbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "no price for ";
        for kind in self.kinds.iter() {
            write!(f, "{separator}{}", kind.name())?;
            separator = ", ";
        }
        if self.tier {
            write!(f, "{separator}its service tier")?;
            separator = ", ";
        }
        if self.router {
            write!(f, "{separator}the model that its router chose")?;
        }
        Ok(())
    }
}
