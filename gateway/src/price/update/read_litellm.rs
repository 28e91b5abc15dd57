//! litellm's `model_prices_and_context_window.json`: an object of entries by id, prices in USD per one token, tier and context
//! as endings of the field's name. https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.schema.json

use agentledger_ledger::Kind;
use serde_json::value::RawValue;

use super::offers::{Offer, Offers, Unbelieved, foreign_currency, put};
use super::vendors::{VENDORS, Vendor};
use crate::price::pairs::Pairs;

const FIELDS: [(Kind, &str); 12] = [
    (Kind::Input, "input_cost_per_token"),
    (Kind::CacheRead, "cache_read_input_token_cost"),
    (Kind::CacheWrite5m, "cache_creation_input_token_cost"),
    (Kind::CacheWrite1h, "cache_creation_input_token_cost_above_1hr"),
    (Kind::Output, "output_cost_per_token"),
    (Kind::AudioInput, "input_cost_per_audio_token"),
    (Kind::AudioOutput, "output_cost_per_audio_token"),
    (Kind::CacheReadAudio, "cache_read_input_audio_token_cost"),
    (Kind::ImageInput, "input_cost_per_image_token"),
    (Kind::ImageOutput, "output_cost_per_image_token"),
    (Kind::Second, "input_cost_per_second"),
    (Kind::Page, "ocr_cost_per_page"),
];
const LEVELS: [(u64, &str); 6] = [
    (0, ""),
    (100_000, "_above_100k_tokens"),
    (128_000, "_above_128k_tokens"),
    (200_000, "_above_200k_tokens"),
    (256_000, "_above_256k_tokens"),
    (272_000, "_above_272k_tokens"),
];
const TIERS: [(&str, &str); 5] = [
    ("standard", ""),
    ("flex", "_flex"),
    ("priority", "_priority"),
    ("batch", "_batches"),
    ("ultrafast", "_ultrafast"),
];

/// Entries of it say whose they are.
pub fn is_form(entries: &Pairs<Box<RawValue>>) -> bool {
    entries
        .0
        .iter()
        .take(20)
        .any(|(_, entry)| entry.get().contains("\"litellm_provider\""))
}

pub fn read(entries: &Pairs<Box<RawValue>>) -> Offers {
    let mut offers = Offers::default();
    for (name, raw) in entries.0.iter().filter(|(name, _)| name != "sample_spec") {
        let Ok(entry) = serde_json::from_str::<Pairs<Box<RawValue>>>(raw.get()) else {
            continue;
        };
        let provider = text(&entry, "litellm_provider").unwrap_or_default();
        let mode = text(&entry, "mode").unwrap_or_default();
        for vendor in VENDORS.iter().filter(|vendor| vendor.is_first(&provider)) {
            one(&mut offers, vendor, name, &mode, &entry);
        }
    }
    offers
}

fn one(offers: &mut Offers, vendor: &Vendor, name: &str, mode: &str, entry: &Pairs<Box<RawValue>>) {
    let id = vendor.id(name);
    if (vendor.skip)(id) {
        return;
    }
    let mut offer = Offer {
        provider: vendor.provider.to_owned(),
        id: id.to_owned(),
        is_chat: ["chat", "responses", "completion", "embedding"].contains(&mode),
        max_output: entry
            .get("max_output_tokens")
            .and_then(|most| serde_json::from_str(most.get()).ok()),
        ..Offer::default()
    };
    if let Some(currency) = foreign_currency(entry) {
        return offers.unbelieved.push(Unbelieved {
            provider: offer.provider,
            id: offer.id,
            reason: format!("its prices are in {currency}"),
        });
    }
    let before = offers.unbelieved.len();
    for (kind, field) in FIELDS {
        for (over, above) in LEVELS {
            for (tier, suffix) in TIERS {
                let field = format!("{field}{above}{suffix}");
                if let Some(raw) = entry.get(&field).filter(|raw| raw.get() != "null") {
                    let place = (tier.to_owned(), over, kind);
                    put(&mut offer, &mut offers.unbelieved, place, &field, raw, false);
                }
            }
        }
    }
    // An embedding has no output, and a 0 above a threshold is no price.
    if mode == "embedding" {
        offer.prices.retain(|(_, _, kind), _| *kind != Kind::Output);
    }
    offer
        .prices
        .retain(|(_, over, _), price| *over == 0 || price.picos() > 0);
    if !offer.prices.is_empty() && offers.unbelieved.len() == before {
        offers.models.push(offer);
    }
}

fn text(entry: &Pairs<Box<RawValue>>, field: &str) -> Option<String> {
    serde_json::from_str(entry.get(field)?.get()).ok()
}
