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
        let may_be = of(&end.usage) == end.cost || is_at_its_hold(entry);
        may_be.then(|| of(&fresh).saturating_sub(of(&end.usage)))
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
        let lines = settled
            .as_ref()
            .map(|(quote, tier)| priced(quote, &end.usage, end.reasoning, *tier));
        // The row may have other figures by now.
        let is_of_then = |lines: &Vec<CostLine>| {
            is_at_its_hold(entry) || is_rounding(end.cost.saturating_sub(sum(lines)), lines.len())
        };
        match lines.filter(is_of_then) {
            Some(lines) => found.extend(lines),
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
            let lines = quote.unwrap_or_else(|| unpriced(&part.usage));
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

/// What cannot be read costs no less than was held for it: its usage need not sum to that.
fn is_at_its_hold(entry: &Entry) -> bool {
    entry.settlement.estimate_reason.is_some() && entry.settlement.cost == entry.held
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

fn unpriced(usage: &Usage) -> Vec<CostLine> {
    let of = |(kind, units): (Kind, u64)| CostLine {
        kind: kind.name().to_owned(),
        count: Some(units),
        ..CostLine::default()
    };
    usage.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use agentledger_ledger::{Facts, Outcome, Settlement};

    fn entry(provider: &str) -> Entry {
        let facts = Facts {
            id: ulid::Ulid::nil(),
            at_ms: 1_795_305_600_000,
            provider: provider.into(),
            operation: "messages".into(),
            requested_model: "claude-sonnet-4-5".into(),
            stream: false,
            key: "".into(),
            tenant: "".into(),
            agent: "".into(),
            session: "".into(),
            user: "".into(),
            task: "".into(),
            tags: BTreeMap::new(),
            path: "".into(),
            inferred: Default::default(),
        };
        let model = Name::from("claude-sonnet-4-5");
        Entry {
            settlement: Settlement::unanswered(facts.at_ms, Outcome::Completed, 200, model, 1),
            facts,
            held: Usd::ZERO,
            overage: Usd::ZERO,
            overage_reason: None,
            source: None,
        }
    }

    fn prices() -> EntryPrices {
        EntryPrices {
            book: PriceBook::builtin().unwrap(),
            providers: BTreeMap::new(),
        }
    }

    /// Billed as the book says.
    fn settled(usage: Usage, tier: Option<&str>) -> Entry {
        let mut entry = entry("anthropic");
        let book = PriceBook::builtin().unwrap();
        let quote = book.find("anthropic", "claude-sonnet-4-5", entry.facts.at_ms).unwrap();
        entry.settlement.cost = quote.cost(&usage, tier);
        entry.settlement.price = Some(quote.reference(tier));
        entry.settlement.usage = usage;
        entry
    }

    fn last_of(entry: &Entry) -> (String, Usd) {
        let lines = lines(entry, Some(&prices()));
        assert_eq!(sum(&lines), entry.settlement.cost, "{lines:?}");
        let last = lines.last().unwrap();
        (last.kind.clone(), last.usd.unwrap())
    }

    #[test]
    fn half_nano_dollars_of_lines_are_the_last_line() {
        // 0.3 nano-dollars a token of the cache, 3 a fresh one: three halves are rounded up one by one, and once in the cost.
        let usage = Usage::ZERO.with(Kind::CacheRead, 5).with(Kind::Input, 1);
        let mut entry = settled(usage, None);
        let whole = lines(&entry, Some(&prices()));
        assert_eq!(sum(&whole), entry.settlement.cost);
        entry.settlement.cost = entry.settlement.cost.saturating_add(Usd::from_nanos(1));
        assert_eq!(last_of(&entry), ("rounding".to_owned(), Usd::from_nanos(1)));
    }

    #[test]
    fn an_answer_at_its_hold_shows_what_was_read_and_one_at_other_prices_does_not() {
        let mut entry = settled(Usage::ZERO.with(Kind::Input, 10), None);
        entry.settlement.cost = Usd::from_nanos(90_000);
        assert_eq!(last_of(&entry), ("other_prices".to_owned(), Usd::from_nanos(90_000)));
        entry.settlement.estimate_reason = Some("client_gone".into());
        assert_eq!(last_of(&entry), ("estimated".to_owned(), Usd::from_nanos(90_000)));
        entry.held = entry.settlement.cost;
        assert_eq!(last_of(&entry), ("estimated".to_owned(), Usd::from_nanos(60_000)));
    }

    #[test]
    fn what_a_crash_left_is_an_estimate_with_its_reason() {
        let mut entry = entry("anthropic");
        entry.settlement.cost = Usd::from_nanos(700);
        entry.settlement.estimate_reason = Some("restart".into());
        assert_eq!(last_of(&entry), ("estimated".to_owned(), Usd::from_nanos(700)));
        assert_eq!(lines(&entry, None)[0].why, "restart");
    }

    #[test]
    fn tool_calls_and_imports_say_who_priced_them() {
        let mut tool = entry("hub");
        tool.facts.operation = TOOL_OPERATION.into();
        tool.settlement.usage = Usage::ZERO.with(Kind::Request, 1);
        tool.settlement.cost = Usd::from_nanos(10_000_000);
        assert_eq!(last_of(&tool), ("plugin".to_owned(), Usd::from_nanos(10_000_000)));
        let mut imported = settled(Usage::ZERO.with(Kind::Input, 10), None);
        imported.source = Some("sqlite".into());
        assert_eq!(last_of(&imported).0, "imported");
    }

    #[test]
    fn parts_of_several_models_are_explained_model_by_model() {
        let usage = |input| Usage::ZERO.with(Kind::Input, input);
        let book = PriceBook::builtin().unwrap();
        let mut entry = settled(usage(1_000), None);
        let other = book.find("anthropic", "claude-opus-4-5", entry.facts.at_ms).unwrap();
        let own = Part {
            model: entry.settlement.model.clone(),
            usage: usage(1_000),
            cost: entry.settlement.cost,
        };
        let beside = Part {
            model: "claude-opus-4-5".into(),
            usage: usage(500),
            cost: other.cost(&usage(500), None),
        };
        entry.settlement.cost = own.cost.saturating_add(beside.cost);
        entry.settlement.usage = usage(1_500);
        entry.settlement.parts = vec![own, beside];
        let lines = lines(&entry, Some(&prices()));
        let shown: Vec<(&str, Option<u64>)> = lines.iter().map(|line| (&*line.model, line.count)).collect();
        assert_eq!(
            shown,
            [("claude-sonnet-4-5", Some(1_000)), ("claude-opus-4-5", Some(500))],
            "{lines:?}"
        );
        assert_eq!(sum(&lines), entry.settlement.cost);
    }

    #[test]
    fn a_cache_saves_what_fresh_input_would_have_cost_more() {
        let read = settled(Usage::ZERO.with(Kind::CacheRead, 100_000), None);
        // 3 USD a million fresh, 0.3 from the cache.
        assert_eq!(prices().saved(&read), Some(Usd::parse("0.27").unwrap()));
        let written = settled(Usage::ZERO.with(Kind::CacheWrite5m, 100_000), None);
        assert_eq!(prices().saved(&written), Some(Usd::parse("-0.075").unwrap()));
        let plain = entry("nobody");
        assert_eq!(prices().saved(&plain), Some(Usd::ZERO));
    }
}
