//! A quote: the row and the dated prices that one request is billed at.

use std::fmt;

use agentledger_ledger::{Kind, Name, Picos, PriceRef, UnitPrice, Usage, Usd};

use crate::estimate_reason;

use super::row::{self, KindSet, Level, PriceSet, Row};

/// An unknown tier's name is the client's or the provider's: so much of it is kept.
const TIER_CHARS_MAX: usize = 32;

/// What a model costs at one time. A view into the book: copying it costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Quote<'a> {
    row: &'a Row,
    set: &'a PriceSet,
}

impl Row {
    /// The prices that hold at a time, milliseconds since the epoch.
    pub fn quote(&self, at_ms: i64) -> Quote<'_> {
        Quote {
            row: self,
            set: self.set(at_ms),
        }
    }
}

impl<'a> Quote<'a> {
    pub fn row(&self) -> &'a Row {
        self.row
    }

    pub fn set(&self) -> &'a PriceSet {
        self.set
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
        let mut usage = *usage;
        let mut apart = Picos::ZERO;
        if let Some(price) = level.reasoning {
            let reasoning = reasoning.min(usage.get(Kind::Output));
            usage.set(Kind::Output, usage.get(Kind::Output) - reasoning);
            apart = Picos::ZERO.add(reasoning, price)?;
        }
        usage
            .iter()
            .try_fold(apart, |sum, (kind, units)| sum.add(units, level.price(kind)))
    }

    /// What of the cost rests on a price that the book does not state. Not empty: the entry is an estimate.
    pub fn fallbacks(&self, usage: &Usage, service_tier: Option<&str>) -> Fallbacks {
        let (level, tier_known) = self.level(usage.input_tokens(), service_tier);
        let used = level.derived.iter().filter(|kind| usage.get(*kind) > 0);
        let kinds = used.fold(KindSet::default(), KindSet::with);
        Fallbacks {
            kinds,
            tier: !tier_known,
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
            (billed, true) => Name::from(billed.name()),
            (_, false) => asked.chars().take(TIER_CHARS_MAX).collect::<String>().into(),
        });
        PriceRef {
            provider: self.row.provider.clone(),
            id: self.row.id.clone(),
            effective: self.set.from.clone(),
            tier,
        }
    }

    /// The price of one unit in a request of so many input and cache tokens.
    pub fn unit_price(&self, kind: Kind, input_tokens: u64, service_tier: Option<&str>) -> UnitPrice {
        self.level(input_tokens, service_tier).0.price(kind)
    }

    /// The dearest of these kinds in a request of so many input and cache tokens: what a hold multiplies with.
    pub fn dearest_of(&self, kinds: &[Kind], input_tokens: u64, service_tier: Option<&str>) -> UnitPrice {
        let level = self.level(input_tokens, service_tier).0;
        kinds.iter().map(|kind| level.price(*kind)).max().unwrap_or_default()
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
        self.kinds.is_empty() && !self.tier
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
        }
        Ok(())
    }
}
