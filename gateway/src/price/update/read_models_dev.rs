//! models.dev's `api.json`: an object of providers, each with an object of models whose `cost` is USD per million tokens;
//! `context_over_200k` is the same above 200,000 tokens of input. https://models.dev

use agentledger_ledger::Kind;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::offers::{Offer, Offers, Unbelieved, foreign_currency, put};
use super::vendors::{VENDORS, Vendor};
use crate::price::pairs::Pairs;

const FIELDS: [(Kind, &str); 6] = [
    (Kind::Input, "input"),
    (Kind::CacheRead, "cache_read"),
    (Kind::CacheWrite5m, "cache_write"),
    (Kind::Output, "output"),
    (Kind::AudioInput, "input_audio"),
    (Kind::AudioOutput, "output_audio"),
];
const OVER_200K: &str = "context_over_200k";

#[derive(Deserialize)]
struct Provider {
    models: Pairs<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Model {
    cost: Option<Pairs<Box<RawValue>>>,
    limit: Option<Limit>,
}

#[derive(Deserialize)]
struct Limit {
    output: Option<u64>,
}

/// Its providers have models.
pub fn is_form(entries: &Pairs<Box<RawValue>>) -> bool {
    let mut first = entries.0.iter().take(20);
    first.any(|(_, entry)| serde_json::from_str::<Provider>(entry.get()).is_ok())
}

pub fn read(entries: &Pairs<Box<RawValue>>) -> Offers {
    let mut offers = Offers::default();
    for (name, raw) in &entries.0 {
        let Ok(provider) = serde_json::from_str::<Provider>(raw.get()) else {
            continue;
        };
        for vendor in VENDORS.iter().filter(|vendor| vendor.third.contains(&name.as_str())) {
            for (id, raw) in &provider.models.0 {
                if let Ok(model) = serde_json::from_str::<Model>(raw.get()) {
                    one(&mut offers, vendor, id, &model);
                }
            }
        }
    }
    offers
}

fn one(offers: &mut Offers, vendor: &Vendor, id: &str, model: &Model) {
    let Some(cost) = model.cost.as_ref().filter(|_| !(vendor.skip)(id)) else {
        return;
    };
    let mut offer = Offer {
        provider: vendor.provider.to_owned(),
        id: id.to_owned(),
        is_chat: true,
        max_output: model.limit.as_ref().and_then(|limit| limit.output),
        ..Offer::default()
    };
    if let Some(currency) = foreign_currency(cost) {
        return offers.unbelieved.push(Unbelieved {
            provider: offer.provider,
            id: offer.id,
            reason: format!("its prices are in {currency}"),
        });
    }
    let before = offers.unbelieved.len();
    let long: Option<Pairs<Box<RawValue>>> = cost.get(OVER_200K).and_then(|raw| serde_json::from_str(raw.get()).ok());
    for (over, prices) in [(0, Some(cost)), (200_000, long.as_ref())] {
        for (kind, field) in FIELDS {
            if let Some(raw) = prices.and_then(|prices| prices.get(field)) {
                let place = ("standard".to_owned(), over, kind);
                put(&mut offer, &mut offers.unbelieved, place, field, raw, true);
            }
        }
    }
    if !offer.prices.is_empty() && offers.unbelieved.len() == before {
        offers.models.push(offer);
    }
}
