//! What the past would cost at other prices: other files, or those of another day. The entries are read, and none is
//! changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agentledger_ledger::{Entry, Usage, Usd};
use clap::Args;

use super::super::client::Client;
use super::super::costs::fixed;
use super::super::table::Table;
use super::super::{CliError, ConfigArgs};
use super::{PricesError, day_ms};
use crate::config::{Config, Unpriced};
use crate::control::wire::{Entries, QueryParams};
use crate::meter::price::{PriceBook, Quote, Row};

/// Entries asked for at a time.
const PAGE: usize = 1_000;
const DECIMALS: u32 = 6;

#[derive(Debug, Args)]
pub struct RepriceArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
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
    Ok(sums.table(&args.by))
}

/// A day is its start, UTC.
fn moment(text: &str) -> String {
    match day_ms(text) {
        Some(_) => format!("{text}T00:00:00Z"),
        None => text.to_owned(),
    }
}

fn each_entry(client: &Client, mut params: QueryParams, mut take: impl FnMut(&Entry)) -> Result<(), PricesError> {
    loop {
        let page: Entries = client.call("ledger.query", &params)?;
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
    /// What the config says of a provider's models: free, or a price for those without a row.
    stated: BTreeMap<&'a str, (&'a Unpriced, Option<Row>)>,
    at_ms: Option<i64>,
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
            let row = Row::stated(provider.name.as_str().into(), &provider.unpriced);
            (provider.name.as_str(), (&provider.unpriced, row))
        });
        Ok(Pricer {
            book,
            stated: stated.collect(),
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
            return Repriced::Cost(quote.cost_of(&settled.usage, settled.reasoning, tier));
        }
        for part in &settled.parts {
            let Some(quote) = self.quote(entry, &part.model, part.model == settled.model) else {
                return Repriced::Unpriced;
            };
            sum = sum.saturating_add(quote.cost(&part.usage, tier));
        }
        Repriced::Cost(sum)
    }

    /// By the model as it was answered, then as it was asked for, then by the row that was used.
    fn quote(&self, entry: &Entry, model: &str, own: bool) -> Option<Quote<'_>> {
        let provider = &*entry.facts.provider;
        let at_ms = self.at_ms.unwrap_or(entry.facts.at_ms);
        let stated = self.stated.get(provider);
        let row = stated.and_then(|(_, row)| row.as_ref());
        if let Some((Unpriced::Free, _)) = stated {
            return row.map(|row| row.quote(at_ms));
        }
        let named = |model: &str| self.book.find(provider, model, at_ms);
        let used = entry.settlement.price.as_ref();
        named(model)
            .or_else(|| named(&entry.facts.requested_model).filter(|_| own))
            .or_else(|| named(&used?.id).filter(|_| own && used.is_some_and(|used| *used.provider == *provider)))
            .or_else(|| row.map(|row| row.quote(at_ms)))
            .or_else(|| match stated {
                Some((Unpriced::Refuse, _)) => None,
                _ => self.book.dearest(provider, at_ms),
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

    fn table(&self, by: &str) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", super::super::costs::NOTHING);
        }
        let mut names: Vec<String> = match by {
            "provider" | "key" | "agent" | "session" | "user" | "tenant" => vec![by.to_uppercase()],
            _ => vec!["PROVIDER".to_owned(), "MODEL".to_owned()],
        };
        let width = names.len();
        names.extend(["REQUESTS", "WAS (USD)", "WOULD BE (USD)", "DIFFERENCE (USD)"].map(str::to_owned));
        let mut table = Table::new(names);
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.was.max(sum.would_be)));
        for (names, sum) in rows {
            table.row(names.iter().cloned().chain(sum.cells()).collect());
        }
        let mut footer = vec![String::new(); width];
        if let Some(first) = footer.first_mut() {
            "TOTAL".clone_into(first);
        }
        table.footer(footer.into_iter().chain(self.total.cells()).collect());
        let mut text = table.render();
        if self.total.unpriced > 0 {
            text.push_str(&format!(
                "{} requests have no price here and stay as they were.\n",
                self.total.unpriced
            ));
        }
        text
    }
}

impl Sum {
    fn cells(&self) -> [String; 4] {
        let difference = self.would_be.saturating_sub(self.was);
        [
            self.requests.to_string(),
            fixed(self.was, DECIMALS),
            fixed(self.would_be, DECIMALS),
            fixed(difference, DECIMALS),
        ]
    }
}

fn names(by: &str, entry: &Entry) -> Vec<String> {
    let facts = &entry.facts;
    let one = |name: &str| {
        vec![if name.is_empty() {
            "(none)".to_owned()
        } else {
            name.to_owned()
        }]
    };
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
