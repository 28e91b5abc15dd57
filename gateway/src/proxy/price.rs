//! Which price applies: the book's row, or what the config says of a model without one. Never silently nothing.

use agentledger_ledger::{Kind, Name, Part, PriceRef, Usage, Usd};

use crate::config::Unpriced;
use crate::meter::price::{Quote, Row};
use crate::meter::{MeteredPart, Settled, reason};
use crate::proxy::exchange::Exchange;
use crate::proxy::gateway::{Rules, Way};

/// A price, and whether it is the model's own.
pub struct Found<'a> {
    pub quote: Quote<'a>,
    /// Why it is a stand-in; `None`: the model's own row, or the operator's word.
    pub reason: Option<&'static str>,
}

/// What models without a row cost, in one exchange: a policy's word, else the config's.
pub struct StatedPrice {
    unpriced: Unpriced,
    row: Option<Row>,
}

impl StatedPrice {
    pub fn new(unpriced: Unpriced, provider: &Name) -> StatedPrice {
        let row = Row::stated(provider.clone(), &unpriced);
        StatedPrice { unpriced, row }
    }
}

/// The price of a model at a provider. `None`: the model is unpriced and such are refused, or nothing is known.
pub fn find<'a>(rules: &'a Rules, way: &'a Way, model: &str, at_ms: i64) -> Option<Found<'a>> {
    own(rules, way, model, at_ms).or_else(|| stand_in(rules, way, None, at_ms))
}

/// The price of a model in an exchange.
pub fn find_for<'a>(exchange: &'a Exchange, model: &str) -> Option<Found<'a>> {
    let (rules, way, at_ms) = (&exchange.rules, &exchange.way, exchange.at_ms);
    own(rules, way, model, at_ms).or_else(|| stand_in(rules, way, exchange.unpriced.as_ref(), at_ms))
}

/// The model's own row. Where the operator says that a provider is free, that is the row of all its models.
fn own<'a>(rules: &'a Rules, way: &'a Way, model: &str, at_ms: i64) -> Option<Found<'a>> {
    let quote = match way.provider.unpriced {
        Unpriced::Free => way.stated_price.as_ref().map(|row| row.quote(at_ms)),
        _ => rules.prices.find(&way.provider.book, model, at_ms),
    };
    quote.map(|quote| Found { quote, reason: None })
}

/// What a model without a row costs.
fn stand_in<'a>(rules: &'a Rules, way: &'a Way, policy: Option<&'a StatedPrice>, at_ms: i64) -> Option<Found<'a>> {
    let (unpriced, row) = match policy {
        Some(stated) => (stated.unpriced, &stated.row),
        None => (way.provider.unpriced, &way.stated_price),
    };
    match unpriced {
        Unpriced::Refuse => None,
        Unpriced::Dearest => dearest(rules, way, at_ms),
        // Said by the operator: a price like any other.
        Unpriced::Free | Unpriced::Price { .. } => row.as_ref().map(|row| Found {
            quote: row.quote(at_ms),
            reason: None,
        }),
    }
}

/// The price of what was spent already: where models without a row are refused, this one can be refused no more, and costs
/// as the dearest. `None`: the book has no row at all.
pub fn find_spent<'a>(exchange: &'a Exchange, model: &str) -> Option<Found<'a>> {
    find_for(exchange, model).or_else(|| dearest(&exchange.rules, &exchange.way, exchange.at_ms))
}

fn dearest<'a>(rules: &'a Rules, way: &'a Way, at_ms: i64) -> Option<Found<'a>> {
    Some(Found {
        quote: rules.prices.dearest(&way.provider.book, at_ms)?,
        reason: Some(reason::UNPRICED_MODEL),
    })
}

/// The cost of all parts of an answer.
pub struct Priced {
    pub cost: Usd,
    /// The sum of the parts, with the fee of the request where there is one.
    pub usage: Usage,
    pub parts: Vec<Part>,
    /// The row of the answer's own part.
    pub price: Option<PriceRef>,
    pub reason: Option<&'static str>,
}

/// Prices what was used. `model` names the answer's own part; other parts name theirs.
pub fn price(exchange: &Exchange, used: &Settled, model: &str, tier: Option<&str>) -> Priced {
    let mut priced = Priced {
        cost: Usd::ZERO,
        usage: Usage::ZERO,
        parts: Vec::new(),
        price: None,
        reason: None,
    };
    for part in &used.parts {
        let named = part.model.as_deref().unwrap_or(model);
        let found = found(exchange, part, named);
        let mut usage = part.usage;
        let cost = match &found {
            Some(found) => {
                if part.model.is_none() {
                    usage = with_request_fee(usage, &found.quote, tier);
                }
                let fallbacks = found.quote.fallbacks(&usage, tier);
                priced.reason = priced.reason.or(found.reason).or(fallbacks.reason());
                priced.price.get_or_insert_with(|| found.quote.reference(tier));
                found.quote.cost_of(&usage, part.reasoning, tier)
            }
            None => {
                priced.reason = Some(reason::UNPRICED_MODEL);
                Usd::ZERO
            }
        };
        priced.cost = priced.cost.saturating_add(cost);
        priced.usage = priced.usage.sum(&usage);
        priced.parts.push(Part {
            model: Name::from(named),
            usage,
            cost,
        });
    }
    priced
}

fn found<'a>(exchange: &'a Exchange, part: &MeteredPart, named: &str) -> Option<Found<'a>> {
    let (rules, way, at_ms) = (&exchange.rules, &exchange.way, exchange.at_ms);
    own(rules, way, named, at_ms)
        // The answer may name its model by an id that only the requested one tells the price of.
        .or_else(|| {
            let requested = part.model.is_none().then_some(&exchange.inspected.call.model)?;
            own(rules, way, requested, at_ms)
        })
        .or_else(|| stand_in(rules, way, exchange.unpriced.as_ref(), at_ms))
        .or_else(|| dearest(rules, way, at_ms))
}

/// A fee for each request is nothing that answers report. One that was billed for nothing has none.
fn with_request_fee(usage: Usage, quote: &Quote<'_>, tier: Option<&str>) -> Usage {
    let fee = quote.unit_price(Kind::Request, usage.input_tokens(), tier);
    if fee.picos() == 0 || usage == Usage::ZERO || usage.get(Kind::Request) > 0 {
        return usage;
    }
    usage.with(Kind::Request, 1)
}
