//! What an entry's cost is made of, by the prices in force where they are those that it was settled with; and what its cached input
//! saved. The journal keeps which row of the book priced an entry, not its figures.

use std::collections::BTreeMap;

use agentledger_ledger::{Entry, Kind, Name, Part, Usage, Usd};

use crate::config::Config;
use crate::control::state::ControlState;
use crate::control::wire::CostLine;
use crate::policy::TOOL_OPERATION;
use crate::price::{Billed, PriceBook, Quote, Row};

/// The prices in force, as providers have them.
pub(in crate::control) struct EntryPrices {
    book: PriceBook,
    /// By the provider's name: its book, and the row that the config states for what has none.
    providers: BTreeMap<String, (String, Option<Row>)>,
}

/// A quote, and the tier that it was billed at.
type Priced<'q, 't> = (Quote<'q>, Option<&'t str>);

impl EntryPrices {
    /// `None` where no gateway runs.
    pub fn of(state: &ControlState) -> Option<EntryPrices> {
        Some(EntryPrices::new(state.data_plane.prices()?, &state.config.load()))
    }

    fn new(book: PriceBook, config: &Config) -> EntryPrices {
        let of = |provider: &crate::config::Provider| {
            let row = Row::stated(Name::from(provider.name.as_str()), &provider.unpriced);
            (provider.name.clone(), (provider.book.clone(), row))
        };
        let providers = config.providers.iter().map(of).collect();
        EntryPrices { book, providers }
    }

    /// The row that the entry names, where it is in force as it was.
    fn settled<'q, 't>(&'q self, entry: &'t Entry) -> Option<Priced<'q, 't>> {
        let used = entry.settlement.price.as_ref()?;
        let (facts, model) = (&entry.facts, &entry.settlement.model);
        let (book, row) = match self.providers.get(&*facts.provider) {
            Some((book, row)) => (book.as_str(), row.as_ref()),
            None => (&*facts.provider, None),
        };
        let at_ms = facts.at_ms;
        let answered = self.book.find_answered(book, &facts.requested_model, model, at_ms);
        let named = || self.book.find(book, &used.id, at_ms);
        let is_it = |quote: Quote<'q>| {
            let (quote, tier) = quote.as_entered(used.tier.as_deref());
            (quote.reference(tier) == *used).then_some((quote, tier))
        };
        answered
            .and_then(is_it)
            .or_else(|| named().and_then(is_it))
            .or_else(|| row.map(|row| row.quote(at_ms)).and_then(is_it))
    }

    fn part<'q>(&'q self, entry: &Entry, part: &Part) -> Option<Quote<'q>> {
        let provider = &*entry.facts.provider;
        let book = self.providers.get(provider).map_or(provider, |(book, _)| book);
        self.book.find(book, &part.model, entry.facts.at_ms)
    }

    /// What cached input saved: its cost as fresh input, less its cost. `None`: its prices are not known.
    pub fn saved(&self, entry: &Entry) -> Option<Usd> {
        let end = &entry.settlement;
        let fresh = without_cache(&end.usage);
        if fresh == end.usage {
            return Some(Usd::ZERO);
        }
        let (quote, tier) = self.settled(entry).filter(|_| end.parts.is_empty())?;
        let of = |usage: &Usage| quote.cost_of(usage, end.reasoning, tier);
        Some(of(&fresh).saturating_sub(of(&end.usage)))
    }
}

/// The same usage with all that came from a cache, or went into one, as fresh input.
fn without_cache(usage: &Usage) -> Usage {
    let fresh = |kind| match kind {
        Kind::CacheRead | Kind::CacheWrite5m | Kind::CacheWrite1h => Kind::Input,
        Kind::CacheReadAudio => Kind::AudioInput,
        Kind::CacheReadImage => Kind::ImageInput,
        other => other,
    };
    usage.iter().fold(Usage::ZERO, |sum, (kind, units)| {
        let kind = fresh(kind);
        sum.with(kind, sum.get(kind).saturating_add(units))
    })
}

/// The lines of a cost: their `usd` sum to it, exactly.
pub(in crate::control) fn lines(entry: &Entry, prices: Option<&EntryPrices>) -> Vec<CostLine> {
    let end = &entry.settlement;
    let prices = prices.filter(|_| entry.source.is_none());
    let settled = prices.and_then(|prices| prices.settled(entry));
    let mut found = Vec::new();
    let mut is_known = settled.is_some() || end.usage == Usage::ZERO;
    if end.parts.is_empty() {
        match &settled {
            Some((quote, tier)) => found.extend(priced(quote, &end.usage, end.reasoning, *tier)),
            None => found.extend(unpriced(&end.usage)),
        }
    } else {
        for part in &end.parts {
            let quote = settled.as_ref().and_then(|(own, tier)| {
                let is_own = part.model == end.model;
                let quote = if is_own { Some(*own) } else { prices?.part(entry, part) };
                quote.map(|quote| priced(&quote, &part.usage, 0, *tier))
            });
            // What is not the price of then is better not shown.
            let quote = quote.filter(|lines| is_rounding(part.cost.saturating_sub(sum(lines)), lines.len()));
            is_known &= quote.is_some();
            let lines = quote.unwrap_or_else(|| unpriced(&part.usage).collect());
            found.extend(lines.into_iter().map(|line| CostLine {
                model: part.model.to_string(),
                ..line
            }));
        }
    }
    let rest = end.cost.saturating_sub(sum(&found));
    if rest != Usd::ZERO {
        found.push(last(entry, rest, is_known && is_rounding(rest, found.len())));
    }
    found
}

/// What the lines before do not explain, and why they do not.
fn last(entry: &Entry, rest: Usd, is_rounding: bool) -> CostLine {
    let kind = match &entry.settlement {
        _ if entry.source.is_some() => "imported",
        _ if is_rounding => "rounding",
        end if end.estimate_reason.is_some() => "estimated",
        end if end.price.is_none() && &*entry.facts.operation == TOOL_OPERATION => "plugin",
        _ => "other_prices",
    };
    CostLine {
        kind: kind.to_owned(),
        usd: Some(rest),
        why: entry
            .settlement
            .estimate_reason
            .as_ref()
            .filter(|_| kind == "estimated")
            .map(ToString::to_string)
            .unwrap_or_default(),
        ..CostLine::default()
    }
}

fn sum(lines: &[CostLine]) -> Usd {
    let usd = lines.iter().filter_map(|line| line.usd);
    usd.fold(Usd::ZERO, Usd::saturating_add)
}

/// Each line is rounded by half a nano-dollar at most, and the cost too.
fn is_rounding(rest: Usd, lines: usize) -> bool {
    rest.nanos().unsigned_abs() <= lines as u64
}

fn priced(quote: &Quote<'_>, usage: &Usage, reasoning: u64, tier: Option<&str>) -> Vec<CostLine> {
    let of = |item: Billed| CostLine {
        kind: item.name.to_owned(),
        count: Some(item.units),
        price: Some(match item.kind.is_tokens() {
            true => format!("${}/M", item.price.per_million()),
            false => format!("${} each", item.price),
        }),
        usd: Some(item.usd()),
        ..CostLine::default()
    };
    quote.itemised(usage, reasoning, tier).into_iter().map(of).collect()
}

fn unpriced(usage: &Usage) -> impl Iterator<Item = CostLine> {
    let lines: Vec<CostLine> = usage
        .iter()
        .map(|(kind, units)| CostLine {
            kind: kind.name().to_owned(),
            count: Some(units),
            ..CostLine::default()
        })
        .collect();
    lines.into_iter()
}
