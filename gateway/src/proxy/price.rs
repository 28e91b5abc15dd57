//! Which price applies: the book's row, or what the config says of a model without one. Never silently nothing.

use agentledger_ledger::{Name, Part, PriceRef, Usd};

use crate::config::Unpriced;
use crate::meter::price::{Quote, Row};
use crate::meter::{Settled, reason};
use crate::proxy::exchange::Exchange;
use crate::proxy::gateway::{Rules, Way};

/// A price, and whether it is the model's own.
pub struct Found<'a> {
    pub quote: Quote<'a>,
    /// Why it is a stand-in; `None`: the model's own row.
    pub reason: Option<&'static str>,
}

/// The price of a model at a provider. `None`: the model is unpriced and the config refuses such, or nothing is known.
pub fn find<'a>(rules: &'a Rules, way: &'a Way, model: &str, at_ms: i64) -> Option<Found<'a>> {
    let provider = way.provider.name.as_str();
    if let Some(quote) = rules.prices.find(provider, model, at_ms) {
        return Some(Found { quote, reason: None });
    }
    match way.provider.unpriced {
        Unpriced::Refuse => None,
        Unpriced::Dearest => {
            let quote = rules.prices.dearest(provider, at_ms)?;
            Some(Found {
                quote,
                reason: Some(reason::UNPRICED_MODEL),
            })
        }
        // Said by the operator: a price like any other.
        Unpriced::Free | Unpriced::Price { .. } => way.stated_price.as_ref().map(|row| Found {
            quote: row.quote(at_ms),
            reason: None,
        }),
    }
}

/// What a policy said of models without a price, for one exchange.
pub struct StatedPrice {
    unpriced: Unpriced,
    row: Option<Row>,
}

impl StatedPrice {
    pub fn new(unpriced: Unpriced, provider: &Name) -> StatedPrice {
        let row = match unpriced {
            Unpriced::Free => Some(Row::free(provider.clone())),
            Unpriced::Price { input, output } => Some(Row::default_price(provider.clone(), input, output)),
            Unpriced::Dearest | Unpriced::Refuse => None,
        };
        StatedPrice { unpriced, row }
    }
}

/// The price of a model in an exchange: a policy's word on unpriced models comes before the config's.
pub fn find_for<'a>(exchange: &'a Exchange, model: &str) -> Option<Found<'a>> {
    let (rules, way, at_ms) = (&exchange.rules, &exchange.way, exchange.at_ms);
    let Some(stated) = &exchange.unpriced else {
        return find(rules, way, model, at_ms);
    };
    let provider = way.provider.name.as_str();
    let (quote, reason) = match (rules.prices.find(provider, model, at_ms), &stated.row, stated.unpriced) {
        (Some(quote), _, _) => (quote, None),
        (None, Some(row), _) => (row.quote(at_ms), None),
        (None, None, Unpriced::Dearest) => (rules.prices.dearest(provider, at_ms)?, Some(reason::UNPRICED_MODEL)),
        (None, None, _) => return None,
    };
    Some(Found { quote, reason })
}

/// The cost of all parts of an answer.
pub struct Priced {
    pub cost: Usd,
    pub parts: Vec<Part>,
    /// The row of the answer's own part.
    pub price: Option<PriceRef>,
    pub reason: Option<&'static str>,
}

/// Prices what was used. `model` names the answer's own part; other parts name theirs.
pub fn price(exchange: &Exchange, used: &Settled, model: &str, tier: Option<&str>) -> Priced {
    let mut priced = Priced {
        cost: Usd::ZERO,
        parts: Vec::new(),
        price: None,
        reason: None,
    };
    for part in &used.parts {
        let named = part.model.as_deref().unwrap_or(model);
        let found = find_for(exchange, named)
            // The answer may name a model by an id that only the requested one tells the price of.
            .filter(|found| found.reason.is_none())
            .or_else(|| find_for(exchange, &exchange.inspected.call.model));
        let cost = match &found {
            Some(found) => {
                let fallbacks = found.quote.fallbacks(&part.usage, tier);
                priced.reason = priced.reason.or(found.reason);
                if !fallbacks.is_empty() {
                    priced.reason = priced.reason.or(Some(reason::PRICE_FALLBACK));
                }
                priced.price.get_or_insert_with(|| found.quote.reference());
                found.quote.cost(&part.usage, tier)
            }
            None => {
                priced.reason = Some(reason::UNPRICED_MODEL);
                Usd::ZERO
            }
        };
        priced.cost = priced.cost.saturating_add(cost);
        priced.parts.push(Part {
            model: Name::from(named),
            usage: part.usage,
            cost,
        });
    }
    priced
}
