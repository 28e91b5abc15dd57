//! The book against two independent references, where they are at hand: `AGENTLEDGER_PRICES` names their folder, else
//! `../shared/prices` beside the workspace. They are data of others and no part of this repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentledger_ledger::{Kind, UnitPrice};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::tests::CHECKED_MS;
use super::*;

const CHECKED: &str = "2026-11-22";

/// Entries of the second reference that are not OpenAI's own service, by its own comments: imported from a reseller.
const NOT_OPENAI: [&str; 7] = [
    "gpt-4o:extended",
    "gpt-5-image",
    "gpt-5-image-mini",
    "gpt-5.4-image-2",
    "gpt-oss-120b",
    "gpt-oss-20b",
    "gpt-oss-safeguard-20b",
];

type Flat = BTreeMap<String, Box<RawValue>>;

#[derive(Deserialize)]
struct GenaiProvider {
    id: String,
    models: Vec<GenaiModel>,
}

#[derive(Deserialize)]
struct GenaiModel {
    r#match: Clause,
    prices: GenaiPrices,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Clause {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Regex(String),
    Or(Vec<Clause>),
    And(Vec<Clause>),
}

impl Clause {
    fn fits(&self, id: &str) -> bool {
        match self {
            Clause::Equals(text) => id == text,
            Clause::StartsWith(text) => id.starts_with(text.as_str()),
            Clause::EndsWith(text) => id.ends_with(text.as_str()),
            Clause::Contains(text) => id.contains(text.as_str()),
            Clause::Regex(text) => panic!("a pattern, which none of the two providers has: {text}"),
            Clause::Or(clauses) => clauses.iter().any(|clause| clause.fits(id)),
            Clause::And(clauses) => clauses.iter().all(|clause| clause.fits(id)),
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Clause::Equals(text) => vec![text],
            Clause::Or(clauses) => clauses.iter().flat_map(Clause::names).collect(),
            _ => Vec::new(),
        }
    }
}

/// Either prices, or dated ones in a list.
struct GenaiPrices(Box<RawValue>);

impl<'de> Deserialize<'de> for GenaiPrices {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(GenaiPrices)
    }
}

#[derive(Deserialize)]
struct Dated {
    #[serde(default)]
    constraint: BTreeMap<String, String>,
    prices: Flat,
}

#[derive(Deserialize)]
struct Tiered {
    base: Box<RawValue>,
    tiers: Vec<Threshold>,
}

#[derive(Deserialize)]
struct Threshold {
    start: u64,
    price: Box<RawValue>,
}

impl GenaiPrices {
    fn now(&self) -> Flat {
        match serde_json::from_str::<Vec<Dated>>(self.0.get()) {
            Ok(dated) => {
                let holds = |set: &Dated| {
                    set.constraint
                        .get("start_date")
                        .is_none_or(|start| start.as_str() <= CHECKED)
                };
                dated.into_iter().rfind(holds).unwrap().prices
            }
            Err(_) => serde_json::from_str(self.0.get()).unwrap(),
        }
    }
}

struct References {
    litellm: BTreeMap<String, Flat>,
    genai: Vec<GenaiProvider>,
}

fn references() -> Option<References> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/prices");
    let folder = std::env::var_os("AGENTLEDGER_PRICES").map_or(beside, PathBuf::from);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let (Some(litellm), Some(genai)) = (read("litellm-model-prices.json"), read("genai-prices.json")) else {
        println!(
            "SKIPPED: no price references in {}; set AGENTLEDGER_PRICES",
            folder.display()
        );
        return None;
    };
    Some(References {
        litellm: serde_json::from_str(&litellm).unwrap(),
        genai: serde_json::from_str(&genai).unwrap(),
    })
}

fn text<'a>(entry: &'a Flat, field: &str) -> Option<&'a str> {
    entry
        .get(field)
        .and_then(|value| serde_json::from_str(value.get()).ok())
}

/// USD per token, as the first reference has it.
fn per_token(entry: &Flat, field: &str) -> Option<UnitPrice> {
    entry
        .get(field)
        .map(|value| UnitPrice::parse_per_unit(value.get()).unwrap())
}

/// USD per million, as the second reference has it: base price, or the price over a threshold.
fn per_million(prices: &Flat, field: &str, over: Option<u64>) -> Option<UnitPrice> {
    let value = prices.get(field)?.get();
    let parse = |value: &str| Some(UnitPrice::parse_per_million(value).unwrap());
    match (serde_json::from_str::<Tiered>(value), over) {
        (Ok(tiered), None) => parse(tiered.base.get()),
        (Ok(tiered), Some(over)) => parse(tiered.tiers.iter().find(|tier| tier.start == over)?.price.get()),
        (Err(_), None) => parse(value),
        (Err(_), Some(_)) => None,
    }
}

const TOKENS: [(Kind, &str, &str); 5] = [
    (Kind::Input, "input_cost_per_token", "input_mtok"),
    (Kind::CacheRead, "cache_read_input_token_cost", "cache_read_mtok"),
    (
        Kind::CacheWrite5m,
        "cache_creation_input_token_cost",
        "cache_write_mtok",
    ),
    (Kind::CacheWrite1h, "cache_creation_input_token_cost_above_1hr", ""),
    (Kind::Output, "output_cost_per_token", "output_mtok"),
];
const LEVELS: [(Option<u64>, &str); 4] = [
    (None, ""),
    (Some(100_000), "_above_100k_tokens"),
    (Some(200_000), "_above_200k_tokens"),
    (Some(272_000), "_above_272k_tokens"),
];
const TIERS: [(&str, &str); 4] = [
    ("flex", "_flex"),
    ("priority", "_priority"),
    ("batch", "_batches"),
    ("ultrafast", "_ultrafast"),
];

/// What was compared, and what failed.
#[derive(Default)]
struct Report {
    agreed: usize,
    single: usize,
    noted: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    /// `first` and `second`: the references' prices of one thing; `ours`: the book's, where it states one.
    fn compare(
        &mut self,
        what: &str,
        row: &Row,
        ours: Option<UnitPrice>,
        first: Option<UnitPrice>,
        second: Option<UnitPrice>,
    ) {
        let agree = first.is_some() && first == second;
        let differ = first.is_some() && second.is_some() && !agree;
        let either = first.or(second);
        if either.is_none() {
            return;
        }
        match (agree, differ) {
            (true, _) => self.agreed += 1,
            (_, true) => {}
            _ => self.single += 1,
        }
        let followed = ours.is_some() && (ours == first || ours == second);
        if followed && !differ {
            return;
        }
        let show = |price: Option<UnitPrice>| price.map_or("none".to_owned(), UnitPrice::per_million);
        let line = format!(
            "{what}: ours {}, litellm {}, genai-prices {}",
            show(ours),
            show(first),
            show(second)
        );
        match row.note() {
            Some(note) if !agree => self.noted.push(format!("{line}: {note}")),
            _ => self.failures.push(line),
        }
    }
}

/// The book's own price, only where the file states it.
fn stated(row: &Row, kind: Kind, over: Option<u64>, tier: &str) -> Option<UnitPrice> {
    let set = row.sets().filter(|set| set.from() <= CHECKED).last()?;
    let tier = set.tiers().find(|known| known.name() == tier)?;
    tier.levels()
        .find(|level| level.over() == over.unwrap_or(0))?
        .stated(kind)
}

fn compare_entry(report: &mut Report, row: &Row, id: &str, entry: &Flat, genai: Option<&Flat>) {
    // A price of 0 for the output of an embedding is no price.
    let real = |kind: Kind, price: Option<UnitPrice>| price.filter(|price| kind == Kind::Input || price.picos() > 0);
    for (kind, field, mtok) in TOKENS {
        for (over, above) in LEVELS {
            let first = real(kind, per_token(entry, &format!("{field}{above}")));
            let second = genai.and_then(|prices| per_million(prices, mtok, over));
            let what = format!("{id} {} {}", kind.name(), over.unwrap_or(0));
            // A long-context price that one reference alone has is a difference about the whole request.
            let base = stated(row, kind, None, "standard");
            let ours = stated(row, kind, over, "standard")
                .or(base.filter(|_| over.is_some() && first.is_none() && second.is_none()));
            report.compare(&what, row, ours, first, second);
            for (tier, suffix) in TIERS {
                let first = real(kind, per_token(entry, &format!("{field}{above}{suffix}")));
                report.compare(
                    &format!("{what} {tier}"),
                    row,
                    stated(row, kind, over, tier),
                    first,
                    None,
                );
            }
        }
    }
    let most = entry.get("max_output_tokens").map(|most| most.get().to_owned());
    let ours = row.max_output().map(|ours| ours.to_string());
    if most.is_some() && ours.is_some() && most != ours {
        report
            .failures
            .push(format!("{id} max_output: ours {ours:?}, litellm {most:?}"));
    }
}

#[test]
fn the_book_agrees_where_the_references_agree_and_notes_where_they_differ() {
    let Some(references) = references() else { return };
    let book = PriceBook::builtin().unwrap();
    let mut report = Report::default();
    for (provider, theirs) in [
        ("openai", &["openai", "text-completion-openai"][..]),
        ("anthropic", &["anthropic"]),
    ] {
        let models = &references
            .genai
            .iter()
            .find(|known| known.id == provider)
            .unwrap()
            .models;
        let genai = |id: &str| {
            models
                .iter()
                .find(|model| model.r#match.fits(id))
                .map(|model| model.prices.now())
        };
        let mut seen = Vec::new();
        for (id, entry) in &references.litellm {
            let chat = ["chat", "responses", "completion", "embedding"];
            let listed = text(entry, "litellm_provider").is_some_and(|name| theirs.contains(&name))
                && text(entry, "mode").is_some_and(|mode| chat.contains(&mode))
                && entry.contains_key("input_cost_per_token");
            if !listed {
                continue;
            }
            seen.push(id.as_str());
            match book.find(provider, id, CHECKED_MS) {
                Some(quote) => compare_entry(&mut report, quote.row(), id, entry, genai(id).as_ref()),
                None => report.failures.push(format!("{id}: not in the book")),
            }
        }
        assert!(seen.len() > 15, "{provider}: the reference was not understood");
        // What the second reference alone names.
        for model in models {
            for id in model
                .r#match
                .names()
                .into_iter()
                .filter(|id| !seen.contains(id) && !NOT_OPENAI.contains(id))
            {
                let prices = model.prices.now();
                match book.find(provider, id, CHECKED_MS) {
                    Some(quote) => compare_entry(&mut report, quote.row(), id, &Flat::new(), Some(&prices)),
                    None => report.failures.push(format!("{id}: not in the book")),
                }
            }
        }
    }
    println!(
        "{} prices on which both agree, {} of one alone",
        report.agreed, report.single
    );
    report.noted.iter().for_each(|line| println!("noted: {line}"));
    assert!(report.agreed > 150, "only {} prices compared", report.agreed);
    assert!(
        report.failures.is_empty(),
        "{} differences without a note:\n{}",
        report.failures.len(),
        report.failures.join("\n")
    );
}
