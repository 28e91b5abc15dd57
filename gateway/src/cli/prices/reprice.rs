//! What the past would cost at other prices: other files, or those of another day. The entries are read, and none is
//! changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agentledger_ledger::{Entry, Usage, Usd};
use clap::Args;
use serde_json::{Map, Value, json};

use super::super::CliError;
use super::super::ask::ConfigArgs;
use super::super::client::Client;
use super::super::form::FormArgs;
use super::super::progress::Progress;
use super::super::style::Style;
use super::super::table::{Cell, Table};
use super::super::view::{Column, Is, named};
use super::{PricesError, day_ms};
use crate::config::Config;
use crate::control::contract_forms::fixed;
use crate::control::wire::{Entries, QueryParams};
use crate::price::{PriceBook, Quote, Row, Unpriced};

/// Entries asked for at a time.
const PAGE: usize = 1_000;
const DECIMALS: u32 = 6;

#[derive(Debug, Args)]
pub struct RepriceArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[command(flatten)]
    format: FormArgs,
    /// First day (YYYY-MM-DD), or an RFC 3339 time; without it from the beginning
    #[arg(long, value_name = "DATE")]
    from: Option<String>,
    /// First day that is no longer meant; without it up to now
    #[arg(long, value_name = "DATE")]
    to: Option<String>,
    /// A price file to take over the book; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(super) prices: Vec<PathBuf>,
    /// Take the prices that hold on this day (YYYY-MM-DD) for all entries, instead of those of each entry's own day
    #[arg(long, value_name = "DATE")]
    at: Option<String>,
    /// model, provider, key, agent, session, user or tenant
    #[arg(long, default_value = "model")]
    by: String,
    /// One tenant only
    #[arg(long, default_value = "", hide_default_value = true)]
    tenant: String,
}

/// The table, with its last line break.
pub(super) fn run(config: &Config, book: &PriceBook, args: &RepriceArgs) -> Result<String, CliError> {
    let pricer = Pricer::new(config, book, args.at.as_deref())?;
    let mut sums = Sums::default();
    let params = QueryParams {
        from: args.from.as_deref().map(moment),
        to: args.to.as_deref().map(moment),
        tenant: args.tenant.clone(),
        limit: Some(PAGE),
        ..QueryParams::default()
    };
    if let Some(client) = Client::open(config)? {
        each_entry(&client, params, |entry| {
            sums.add(&args.by, entry, pricer.reprice(entry))
        })?;
    }
    let result = sums.value(&args.by);
    Ok(args.format.list(&result, "rows", &COLUMNS, || sums.table(&args.by)))
}

/// A sum for programs.
const COLUMNS: [Column; 12] = [
    Column("PROVIDER", "provider", Is::Text),
    Column("MODEL", "model", Is::Text),
    Column("KEY", "key", Is::Text),
    Column("AGENT", "agent", Is::Text),
    Column("SESSION", "session", Is::Text),
    Column("USER", "user", Is::Text),
    Column("TENANT", "tenant", Is::Text),
    Column("REQUESTS", "requests", Is::Count),
    Column("UNPRICED", "unpriced", Is::Count),
    Column("WAS (USD)", "was_usd", Is::Usd),
    Column("WOULD BE (USD)", "would_be_usd", Is::Usd),
    Column("DIFFERENCE (USD)", "difference_usd", Is::Usd),
];

/// A day is its start, UTC.
fn moment(text: &str) -> String {
    match day_ms(text) {
        Some(_) => format!("{text}T00:00:00Z"),
        None => text.to_owned(),
    }
}

pub(super) fn each_entry(
    client: &Client,
    mut params: QueryParams,
    mut take: impl FnMut(&Entry),
) -> Result<(), PricesError> {
    let (mut progress, mut done) = (Progress::new("reading"), 0);
    loop {
        let page: Entries = client.call("ledger.query", &params)?;
        done += page.entries.len();
        progress.at(done, "entries");
        for raw in &page.entries {
            take(&serde_json::from_str(raw.get()).map_err(PricesError::Entry)?);
        }
        match page.next {
            Some(next) => params.cursor = Some(next),
            None => return Ok(()),
        }
    }
}

/// Prices entries as the gateway would price them now.
struct Pricer<'a> {
    book: &'a PriceBook,
    /// What the config says of a provider: its book, and what models without a row cost.
    providers: BTreeMap<&'a str, Stated<'a>>,
    at_ms: Option<i64>,
}

struct Stated<'a> {
    book: &'a str,
    unpriced: &'a Unpriced,
    row: Option<Row>,
}

/// What one entry would cost.
enum Repriced {
    Cost(Usd),
    /// No price is known: it stays as it was entered.
    Unpriced,
}

impl<'a> Pricer<'a> {
    fn new(config: &'a Config, book: &'a PriceBook, at: Option<&str>) -> Result<Pricer<'a>, PricesError> {
        let at_ms = match at {
            None => None,
            Some(day) => Some(day_ms(day).ok_or_else(|| PricesError::Date(day.to_owned()))?),
        };
        let stated = config.providers.iter().map(|provider| {
            let stated = Stated {
                book: &provider.book,
                unpriced: &provider.unpriced,
                row: Row::stated(provider.name.as_str().into(), &provider.unpriced),
            };
            (provider.name.as_str(), stated)
        });
        Ok(Pricer {
            book,
            providers: stated.collect(),
            at_ms,
        })
    }

    fn reprice(&self, entry: &Entry) -> Repriced {
        let settled = &entry.settlement;
        if settled.usage == Usage::ZERO {
            // A refused or failed answer used nothing, at any price.
            return Repriced::Cost(settled.cost);
        }
        let tier = settled.price.as_ref().and_then(|price| price.tier.as_deref());
        let mut sum = Usd::ZERO;
        if settled.parts.is_empty() {
            let Some(quote) = self.quote(entry, &settled.model, true) else {
                return Repriced::Unpriced;
            };
            let (quote, tier) = quote.as_entered(tier);
            return Repriced::Cost(quote.cost_of(&settled.usage, settled.reasoning, tier));
        }
        for part in &settled.parts {
            let Some(quote) = self.quote(entry, &part.model, part.model == settled.model) else {
                return Repriced::Unpriced;
            };
            let (quote, tier) = quote.as_entered(tier);
            sum = sum.saturating_add(quote.cost(&part.usage, tier));
        }
        Repriced::Cost(sum)
    }

    /// By the model as it was answered, then as it was asked for, then by the row that was used.
    fn quote(&self, entry: &Entry, model: &str, own: bool) -> Option<Quote<'_>> {
        let at_ms = self.at_ms.unwrap_or(entry.facts.at_ms);
        let provider = &*entry.facts.provider;
        let stated = self.providers.get(provider);
        let row = stated.and_then(|stated| stated.row.as_ref());
        if stated.is_some_and(|stated| *stated.unpriced == Unpriced::Free) {
            return row.map(|row| row.quote(at_ms));
        }
        let book = stated.map_or(provider, |stated| stated.book);
        let named = |model: &str| self.book.find(book, model, at_ms);
        let answered = |model: &str| match own {
            true => self
                .book
                .find_answered(book, &entry.facts.requested_model, model, at_ms),
            false => named(model),
        };
        let used = entry.settlement.price.as_ref().filter(|used| *used.provider == *book);
        answered(model)
            .or_else(|| named(&used?.id).filter(|_| own))
            .or_else(|| row.map(|row| row.quote(at_ms)))
            .or_else(|| match stated.map(|stated| stated.unpriced) {
                Some(Unpriced::Refuse) => None,
                _ => self.book.stand_in(book, model, at_ms).map(|stand_in| stand_in.quote),
            })
    }
}

#[derive(Clone, Debug, Default)]
struct Sum {
    requests: u64,
    unpriced: u64,
    was: Usd,
    would_be: Usd,
}

#[derive(Debug, Default)]
struct Sums {
    rows: BTreeMap<Vec<String>, Sum>,
    total: Sum,
}

impl Sums {
    fn add(&mut self, by: &str, entry: &Entry, repriced: Repriced) {
        let was = entry.settlement.cost;
        let (would_be, unpriced) = match repriced {
            Repriced::Cost(cost) => (cost, 0),
            Repriced::Unpriced => (was, 1),
        };
        for sum in [self.rows.entry(names(by, entry)).or_default(), &mut self.total] {
            sum.requests += 1;
            sum.unpriced += unpriced;
            sum.was = sum.was.saturating_add(was);
            sum.would_be = sum.would_be.saturating_add(would_be);
        }
    }

    /// As programs read it.
    fn value(&self, by: &str) -> Value {
        let words = words(by);
        let row = |(names, sum): (&Vec<String>, &Sum)| {
            let mut fields = sum.fields();
            let named = words.iter().zip(names);
            fields.extend(named.map(|(word, name)| ((*word).to_owned(), name.as_str().into())));
            Value::Object(fields)
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({"by": by, "rows": rows, "total": self.total.fields()})
    }

    fn table(&self, by: &str) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", super::super::costs::NOTHING);
        }
        let mut names: Vec<String> = words(by).iter().map(|word| word.to_uppercase()).collect();
        let width = names.len();
        names.extend(["REQUESTS", "WAS (USD)", "WOULD BE (USD)", "DIFFERENCE (USD)"].map(str::to_owned));
        let mut table = Table::new(names);
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.was.max(sum.would_be)));
        for (names, sum) in rows {
            table.row(names.iter().cloned().map(Cell::from).chain(sum.cells()));
        }
        let mut footer: Vec<Cell> = vec!["".into(); width];
        if let Some(first) = footer.first_mut() {
            *first = "TOTAL".into();
        }
        table.footer(footer.into_iter().chain(self.total.cells()).collect());
        let mut text = table.render(Style::of_stdout());
        if self.total.unpriced > 0 {
            text.push_str(&format!(
                "{} requests have no price here and stay as they were.\n",
                self.total.unpriced
            ));
        }
        text
    }
}

/// What names a sum.
fn words(by: &str) -> Vec<&str> {
    match by {
        "provider" | "key" | "agent" | "session" | "user" | "tenant" => vec![by],
        _ => vec!["provider", "model"],
    }
}

impl Sum {
    fn fields(&self) -> Map<String, Value> {
        let difference = self.would_be.saturating_sub(self.was);
        let fields = [
            ("requests", Value::from(self.requests)),
            ("unpriced", self.unpriced.into()),
            ("was_usd", self.was.to_string().into()),
            ("would_be_usd", self.would_be.to_string().into()),
            ("difference_usd", difference.to_string().into()),
        ];
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn cells(&self) -> [Cell; 4] {
        let difference = self.would_be.saturating_sub(self.was);
        [
            self.requests.into(),
            Cell::Digits(fixed(self.was, DECIMALS)),
            Cell::Digits(fixed(self.would_be, DECIMALS)),
            Cell::Digits(fixed(difference, DECIMALS)),
        ]
    }
}

fn names(by: &str, entry: &Entry) -> Vec<String> {
    let facts = &entry.facts;
    let one = |name: &str| vec![named(name)];
    match by {
        "provider" => one(&facts.provider),
        "key" => one(&facts.key),
        "agent" => one(&facts.agent),
        "session" => one(&facts.session),
        "user" => one(&facts.user),
        "tenant" => one(&facts.tenant),
        _ => vec![facts.provider.to_string(), entry.settlement.model.to_string()],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{self, Env, Known};

    fn entry(provider: &str, model: &str, more: Value) -> Entry {
        let mut record = json!({
            "id": "01JD0000000000000000000000", "at": "2026-11-22T06:30:00.123Z", "provider": provider,
            "operation": "chat", "requested_model": model, "model": model, "stream": false, "status": 200,
            "outcome": "completed", "key": "", "tenant": "", "agent": "", "session": "", "user": "", "task": "",
            "tags": {}, "path": "/v1/chat/completions", "usage": {"input": 1000, "output": 100}, "reasoning": 0,
            "cost_usd": "0.5", "held_usd": "1", "overage_usd": "0", "overage_reason": null, "upper_bound_usd": null,
            "reported_cost_usd": null, "price": null, "estimated": false, "estimate_reason": null, "verdict": [],
            "duration_ms": 1, "ttfb_ms": null,
        });
        for (key, value) in more.as_object().unwrap() {
            record[key.as_str()] = value.clone();
        }
        serde_json::from_value(record).unwrap()
    }

    /// Nano-dollars; `None`: no price is known.
    fn repriced(yaml: &str, at: Option<&str>, entry: &Entry) -> Option<i64> {
        let none: [(&str, &str); 0] = [];
        let config = config::load_text(None, yaml, &Env::of(none), &Known::undecided()).unwrap();
        let book = PriceBook::builtin().unwrap();
        match Pricer::new(&config, &book, at).unwrap().reprice(entry) {
            Repriced::Cost(cost) => Some(cost.nanos()),
            Repriced::Unpriced => None,
        }
    }

    #[test]
    fn an_entry_is_priced_by_its_tier_its_reasoning_and_its_parts() {
        let of = |provider, model, more| repriced("", None, &entry(provider, model, more));
        assert_eq!(of("openai", "gpt-5.4", json!({})), Some(4_000_000)); // 2500 + 1500 micro-dollars
        let tier =
            json!({"price": {"provider": "openai", "id": "gpt-5.4", "effective": "2026-03-05", "tier": "priority"}});
        assert_eq!(of("openai", "gpt-5.4", tier), Some(8_000_000));
        let research = json!({"reasoning": 60});
        assert_eq!(of("perplexity", "sonar-deep-research", research), Some(2_500_000)); // 2000 + 320 + 180
        let parts = json!({"parts": [
            {"model": "claude-opus-5", "usage": {"input": 1000}, "cost_usd": "0"},
            {"model": "claude-haiku-4-5", "usage": {"output": 100}, "cost_usd": "0"},
        ]});
        assert_eq!(of("anthropic", "claude-opus-5", parts), Some(5_500_000));
        // What was billed for nothing stays so.
        assert_eq!(of("openai", "gpt-5.4", json!({"usage": {}, "cost_usd": "0"})), Some(0));
    }

    #[test]
    fn a_model_that_no_book_has_is_found_by_what_was_asked_and_used() {
        let asked = entry("openai", "house", json!({"requested_model": "gpt-5.4"}));
        assert_eq!(repriced("", None, &asked), Some(4_000_000));
        let used = json!({"price": {"provider": "openai", "id": "gpt-5.4", "effective": "2026-03-05"}});
        assert_eq!(repriced("", None, &entry("openai", "house", used)), Some(4_000_000));
        let unknown = entry("openai", "house", json!({}));
        assert_eq!(
            repriced("providers: {openai: {unpriced: refuse}}", None, &unknown),
            None
        );
        let stated = "providers: {openai: {default_price: {input: 1, output: 2}}}";
        assert_eq!(repriced(stated, None, &unknown), Some(1_200_000));
        assert_eq!(repriced("providers: {openai: {free: true}}", None, &asked), Some(0));
        let book = "providers: {extra: {azure-eu: {enabled: true, type: azure, upstream: 'https://x', book: azure}}}";
        assert_eq!(
            repriced(book, None, &entry("azure-eu", "gpt-5.4", json!({}))),
            Some(4_000_000)
        );
    }

    #[test]
    fn another_days_prices_are_taken_for_all() {
        let entry = entry("openai", "o3", json!({}));
        assert_eq!(repriced("", None, &entry), Some(2_800_000)); // 2000 + 800
        assert_eq!(repriced("", Some("2025-06-09"), &entry), Some(14_000_000)); // 10000 + 4000
        let config = config::load_text(None, "", &Env::of::<&str, &str>([]), &Known::undecided()).unwrap();
        let refused = Pricer::new(&config, &PriceBook::empty(), Some("yesterday"))
            .err()
            .unwrap();
        assert_eq!(refused.to_string(), "\"yesterday\" is no date: YYYY-MM-DD");
    }
}
