//! Which price applies: the book's row, or what the config says of a model without one. Never silently nothing.

use agentledger_ledger::{Kind, Name, Part, PriceRef, Usage, Usd};

use crate::estimate_reason;
use crate::meter::{MeteredPart, SettledUsage};
use crate::price::{Quote, StatedPrice, Unpriced};
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::rules::{ProviderEndpoint, Rules};

/// A price, and whether it is the model's own.
pub struct FoundPrice<'a> {
    pub quote: Quote<'a>,
    /// Why it is a stand-in; `None`: the model's own row, or the operator's word.
    pub reason: Option<&'static str>,
}

/// The price of a model in an exchange.
pub fn find_for<'a>(exchange: &'a Exchange, model: &str) -> Option<FoundPrice<'a>> {
    let (rules, endpoint, at_ms) = (&exchange.rules, &exchange.endpoint, exchange.at_ms);
    own(rules, endpoint, model, model, at_ms)
        .or_else(|| stand_in(rules, endpoint, exchange.unpriced.as_ref(), model, at_ms))
}

/// The row of the model that the answer names, with what the requested name brings along. Where the operator says that a
/// provider is free, that is the row of all its models.
fn own<'a>(
    rules: &'a Rules,
    endpoint: &'a ProviderEndpoint,
    requested: &str,
    answered: &str,
    at_ms: i64,
) -> Option<FoundPrice<'a>> {
    let provider = &endpoint.provider;
    let quote = match provider.unpriced {
        Unpriced::Free => endpoint.stated_price.as_ref().map(|row| row.quote(at_ms)),
        _ => rules
            .prices
            .find_answered(&provider.book, requested, answered, at_ms)
            .map(|quote| quote.at_host(&provider.upstream.host)),
    };
    quote.map(|quote| FoundPrice { quote, reason: None })
}

/// What a model without a row costs.
fn stand_in<'a>(
    rules: &'a Rules,
    endpoint: &'a ProviderEndpoint,
    policy: Option<&'a StatedPrice>,
    model: &str,
    at_ms: i64,
) -> Option<FoundPrice<'a>> {
    let (unpriced, row) = match policy {
        Some(stated) => (stated.unpriced, &stated.row),
        None => (endpoint.provider.unpriced, &endpoint.stated_price),
    };
    match unpriced {
        Unpriced::Refuse => None,
        Unpriced::Dearest => dearest(rules, endpoint, model, at_ms),
        // Said by the operator: a price like any other.
        Unpriced::Free | Unpriced::Price { .. } => row.as_ref().map(|row| FoundPrice {
            quote: row.quote(at_ms),
            reason: None,
        }),
    }
}

/// The price of what was spent already: where models without a row are refused, this one can be refused no more, and costs
/// as the dearest of its family or provider. `None`: the book has no row at all.
pub fn find_spent<'a>(exchange: &'a Exchange, model: &str) -> Option<FoundPrice<'a>> {
    find_for(exchange, model).or_else(|| dearest(&exchange.rules, &exchange.endpoint, model, exchange.at_ms))
}

/// The dearest model that the provider serves: where any may serve the call.
pub fn find_dearest(exchange: &Exchange) -> Option<FoundPrice<'_>> {
    let (rules, endpoint, at_ms) = (&exchange.rules, &exchange.endpoint, exchange.at_ms);
    dearest(rules, endpoint, "", at_ms).or_else(|| stand_in(rules, endpoint, exchange.unpriced.as_ref(), "", at_ms))
}

fn dearest<'a>(rules: &'a Rules, endpoint: &'a ProviderEndpoint, model: &str, at_ms: i64) -> Option<FoundPrice<'a>> {
    let provider = &endpoint.provider;
    let stand_in = rules.prices.stand_in(&provider.book, model, at_ms)?;
    Some(FoundPrice {
        quote: stand_in.quote.at_host(&provider.upstream.host),
        reason: Some(stand_in.reason),
    })
}

/// What the input of an answer costs at most, where its usage tells it before its end. `None`: another model may serve it, or
/// more may come to it.
pub fn input_cost(exchange: &Exchange, usage: &Usage) -> Option<Usd> {
    let call = &exchange.inspected.call;
    if call.any_model || !call.models.is_empty() || !call.beside.is_empty() {
        return None;
    }
    let found = find_for(exchange, &call.model)?;
    let cost = |tier| found.quote.cost(usage, tier);
    Some(match (call.variant.as_deref(), call.service_tier.as_deref()) {
        (Some(variant), _) => cost(Some(variant)),
        (None, Some(named)) => cost(None).max(cost(Some(named))),
        (None, None) => cost(None),
    })
}

/// Which service tier an answer is billed at. What the answer says counts; what its request named may make it dearer, never
/// cheaper, until the answer confirms it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServedTier<'t> {
    /// Known: the answer names it, or the request alone decides it.
    pub known: Option<&'t str>,
    pub requested: Option<&'t str>,
}

impl<'t> ServedTier<'t> {
    /// Of an answer. No host serves a batch on-line, whatever the client named and a host repeats; a result that is fetched may
    /// be one of a batch.
    pub fn of_answer(answered: Option<&'t str>, exchange: &'t Exchange) -> ServedTier<'t> {
        let call = &exchange.inspected.call;
        let is_believed = |tier: &&str| !(exchange.is_metered() && tier.eq_ignore_ascii_case("batch"));
        ServedTier {
            known: answered.filter(is_believed).or(call.variant.as_deref()),
            requested: call.service_tier.as_deref(),
        }
    }

    /// The tier whose prices hold for this usage, and whether the answer left open which it is.
    pub fn of(&self, quote: &Quote<'_>, usage: &Usage, reasoning: u64) -> (Option<&'t str>, bool) {
        if self.known.is_some() || self.requested.is_none() {
            return (self.known, false);
        }
        let cost = |tier| quote.cost_of(usage, reasoning, tier);
        let (standard, named) = (cost(None), cost(self.requested));
        let dearer = if named > standard { self.requested } else { None };
        (dearer, named != standard)
    }
}

/// Whether the model may think without showing it, so that the text of its answer is not all that it writes.
pub fn thinks_unseen(exchange: &Exchange, model: &str) -> bool {
    exchange
        .rules
        .prices
        .thinks_unseen(&exchange.endpoint.provider.book, model)
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
pub fn price(exchange: &Exchange, used: &SettledUsage, model: &str, served: ServedTier<'_>) -> Priced {
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
                let (tier, is_open) = served.of(&found.quote, &usage, part.reasoning);
                let mut unread = None;
                if part.model.is_none() {
                    usage = with_request_fee(usage, &found.quote, tier);
                    (usage, unread) = with_added(usage, &found.quote);
                }
                let unconfirmed = is_open.then_some(estimate_reason::UNCONFIRMED_TIER);
                let fallbacks = found.quote.fallbacks(&usage, tier);
                let doubt = found.reason.or(fallbacks.reason()).or(unread).or(unconfirmed);
                priced.reason = priced.reason.or(doubt);
                priced.price.get_or_insert_with(|| found.quote.reference(tier));
                found.quote.cost_of(&usage, part.reasoning, tier)
            }
            None => {
                priced.reason = Some(estimate_reason::UNPRICED_MODEL);
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

fn found<'a>(exchange: &'a Exchange, part: &MeteredPart, named: &str) -> Option<FoundPrice<'a>> {
    let (rules, endpoint, at_ms) = (&exchange.rules, &exchange.endpoint, exchange.at_ms);
    // The answer may name its model by an id that has no price; the requested one has. Parts of others name their own.
    let requested = match part.model {
        None => exchange.inspected.call.model.as_str(),
        Some(_) => named,
    };
    own(rules, endpoint, requested, named, at_ms)
        .or_else(|| stand_in(rules, endpoint, exchange.unpriced.as_ref(), named, at_ms))
        .or_else(|| dearest(rules, endpoint, named, at_ms))
}

/// What the model's name has each request use beside it (a web search of `:online`), where the answer does not count it
/// itself: then it is a guess, and told.
fn with_added(usage: Usage, quote: &Quote<'_>) -> (Usage, Option<&'static str>) {
    match quote.added() {
        Some((kind, units)) if usage != Usage::ZERO && usage.get(kind) == 0 => {
            (usage.with(kind, units), Some(estimate_reason::UNREAD_FEE))
        }
        _ => (usage, None),
    }
}

/// A fee for each request is nothing that answers report. One that was billed for nothing has none.
fn with_request_fee(usage: Usage, quote: &Quote<'_>, tier: Option<&str>) -> Usage {
    let fee = quote.unit_price(Kind::Request, usage.input_tokens(), tier);
    if fee.picos() == 0 || usage == Usage::ZERO || usage.get(Kind::Request) > 0 {
        return usage;
    }
    usage.with(Kind::Request, 1)
}
