//! pydantic's `genai-prices` `data.json`: a list of providers, each with models whose prices are USD per million tokens, plain,
//! tiered by context, or dated. Only names that it states are taken: its patterns also fit models that it does not know.
//! https://github.com/pydantic/genai-prices/blob/main/prices/data.schema.json

use std::collections::BTreeMap;

use agentledger_ledger::Kind;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::offers::{Offer, Offers, SourceError, Unbelieved, foreign_currency, json, number};
use super::vendors::{VENDORS, Vendor};
use crate::price::diff::day;
use crate::price::pairs::Pairs;

const FIELDS: [(Kind, &str); 7] = [
    (Kind::Input, "input_mtok"),
    (Kind::CacheRead, "cache_read_mtok"),
    (Kind::CacheWrite5m, "cache_write_mtok"),
    (Kind::Output, "output_mtok"),
    (Kind::AudioInput, "input_audio_mtok"),
    (Kind::AudioOutput, "output_audio_mtok"),
    (Kind::CacheReadAudio, "cache_audio_read_mtok"),
];

#[derive(Deserialize)]
struct Provider {
    id: String,
    #[serde(default)]
    models: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    r#match: Option<Box<RawValue>>,
    prices: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Clause {
    Equals(String),
    Or(Vec<Clause>),
    #[serde(untagged)]
    Other(serde::de::IgnoredAny),
}

impl Clause {
    fn names(self) -> Vec<String> {
        match self {
            Clause::Equals(name) => vec![name],
            Clause::Or(clauses) => clauses.into_iter().flat_map(Clause::names).collect(),
            Clause::Other(_) => Vec::new(),
        }
    }
}

#[derive(Deserialize)]
struct Dated {
    #[serde(default)]
    constraint: Option<BTreeMap<String, serde_json::Value>>,
    prices: Box<RawValue>,
}

#[derive(Deserialize)]
struct Tiered {
    base: Box<RawValue>,
    #[serde(default)]
    tiers: Vec<Threshold>,
}

#[derive(Deserialize)]
struct Threshold {
    start: u64,
    price: Box<RawValue>,
}

pub fn read(text: &str) -> Result<Offers, SourceError> {
    let providers: Vec<Provider> = json(text)?;
    let today = day(jiff::Timestamp::now().as_millisecond());
    let mut offers = Offers::default();
    for provider in &providers {
        for vendor in VENDORS.iter().filter(|vendor| vendor.second == provider.id) {
            for raw in &provider.models {
                if let Ok(model) = serde_json::from_str::<Model>(raw.get()) {
                    one(&mut offers, vendor, model, raw, &today);
                }
            }
        }
    }
    Ok(offers)
}

fn one(offers: &mut Offers, vendor: &Vendor, model: Model, raw: &RawValue, today: &str) {
    let clause = model
        .r#match
        .and_then(|raw| serde_json::from_str::<Clause>(raw.get()).ok());
    let mut names = clause.map(Clause::names).unwrap_or_default();
    // What it calls a model is a title, and a name only where the book has it too.
    let titled = names.len();
    if !names.contains(&model.id) {
        names.push(model.id);
    }
    let (mut prices, mut faults) = (BTreeMap::new(), Vec::new());
    let entry: Option<Pairs<Box<RawValue>>> = serde_json::from_str(raw.get()).ok();
    let stated: Option<Pairs<Box<RawValue>>> = serde_json::from_str(&now(&model.prices, today)).ok();
    let currencies = [entry.as_ref(), stated.as_ref()].into_iter().flatten();
    faults.extend(
        currencies
            .filter_map(foreign_currency)
            .map(|currency| format!("its prices are in {currency}")),
    );
    if goes_by_the_hour(&model.prices) {
        faults.push("its prices go by the hour".to_owned());
    }
    for (kind, field) in FIELDS {
        let Some(value) = stated.as_ref().and_then(|stated| stated.get(field)) else {
            continue;
        };
        for (over, raw) in levels(value) {
            match number(&raw, true) {
                Ok(price) => {
                    prices.insert(("standard".to_owned(), over, kind), price);
                }
                Err(fault) => faults.push(format!("{field}: {fault}")),
            }
        }
    }
    let names = names.into_iter().enumerate();
    for (at, name) in names.filter(|(_, name)| !(vendor.skip)(name)) {
        let provider = vendor.provider.to_owned();
        offers.unbelieved.extend(faults.iter().map(|reason| Unbelieved {
            provider: provider.clone(),
            id: name.clone(),
            reason: reason.clone(),
        }));
        if faults.is_empty() && !prices.is_empty() {
            offers.models.push(Offer {
                provider,
                id: name,
                // Google's models are not told apart by where they are served.
                is_chat: at < titled && vendor.provider != "vertex",
                max_output: None,
                prices: prices.clone(),
            });
        }
    }
}

/// The prices of today; of hours, those without a condition.
fn now(prices: &RawValue, today: &str) -> String {
    let Ok(dated) = serde_json::from_str::<Vec<Dated>>(prices.get()) else {
        return prices.get().to_owned();
    };
    let holds = |set: &&Dated| {
        set.constraint.as_ref().is_none_or(|constraint| {
            constraint
                .get("start_date")
                .and_then(serde_json::Value::as_str)
                .is_some_and(|start| start <= today)
        })
    };
    let holding = dated.iter().rev().find(holds);
    holding.map(|set| set.prices.get().to_owned()).unwrap_or_default()
}

/// A price of some hours of the day is not the price.
fn goes_by_the_hour(prices: &RawValue) -> bool {
    let dated: Vec<Dated> = serde_json::from_str(prices.get()).unwrap_or_default();
    let mut constraints = dated.iter().filter_map(|set| set.constraint.as_ref());
    constraints.any(|constraint| !constraint.contains_key("start_date"))
}

/// A price, or one with others above thresholds.
fn levels(value: &RawValue) -> Vec<(u64, Box<RawValue>)> {
    match serde_json::from_str::<Tiered>(value.get()) {
        Ok(tiered) => std::iter::once((0, tiered.base))
            .chain(tiered.tiers.into_iter().map(|tier| (tier.start, tier.price)))
            .collect(),
        Err(_) => vec![(0, value.to_owned())],
    }
}
