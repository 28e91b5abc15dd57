//! Eighth step: what the answer used becomes what it cost, and the hold ends, exactly once.

pub mod blank;
pub mod learn;
pub mod unanswered;
mod unread;

use agentledger_ledger::{BillId, Entry, Hold, Kind, Name, Outcome, Settlement, Usage, Usd};

use crate::estimate_reason;
use crate::meter::{End, Metered, SettledUsage};
use crate::proxy::report;
use crate::proxy::settle::blank::blank;
use crate::proxy::settle::learn::learn;
use crate::proxy::settle::unread::Evidence;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::expected_use::ExpectedUse;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::pricing::{ServedTier, find_for, price};
use crate::rates::Grant;

/// Why more was billed than held: the input was held as its session's last call left it in the cache.
const NOT_IN_CACHE: &str = "not_in_cache";

/// How an exchange ended, for its entry.
pub struct AnswerEnd<'a> {
    pub end: End,
    pub status: u16,
    pub ttfb_ms: Option<u64>,
    /// Policies that were applied.
    pub verdict: &'a [Name],
    /// The request's size, as it was estimated for the hold.
    pub expected: ExpectedUse,
    /// What its hold covers; nothing where there is none.
    pub held: Usd,
}

/// Makes the settlement of an exchange whose answer was metered.
pub fn settlement(gateway: &Gateway, exchange: &Exchange, metered: &Metered, ended: &AnswerEnd<'_>) -> Settlement {
    let requested = exchange.inspected.call.model.as_str();
    let model = metered
        .model
        .as_deref()
        .filter(|model| !model.is_empty())
        .unwrap_or(requested);
    let input = || ended.expected.input_tokens;
    let mut used = metered.settle(ended.end, model, input, &gateway.estimator);
    let tier = ServedTier::of_answer(metered.service_tier.as_deref(), exchange);
    if metered.parts.is_empty() && used.estimate_reason.is_some() {
        usage_from_request(exchange, &mut used, model, tier, ended.end);
    }
    let evidence = Evidence::of(exchange, metered, &used, ended.end);
    evidence.raise_tokens(&mut used, &ended.expected);
    let priced = price(exchange, &used, model, tier);
    let cost = priced.cost.max(evidence.least(&ended.expected, ended.held));
    let unread_fee = metered.unread_fee.then_some(estimate_reason::UNREAD_FEE);
    let reason = used.estimate_reason.or(priced.reason).or(unread_fee);
    let ids = exchange.ids.or(metered.ids());
    let may_be_more = used.estimate_reason.is_some() && !metered.ignored;
    Settlement {
        model: Name::from(model),
        usage: priced.usage,
        parts: if priced.parts.len() > 1 {
            priced.parts
        } else {
            Vec::new()
        },
        reasoning: used.reasoning,
        cost,
        reported_cost: metered
            .reported_cost
            .as_deref()
            .and_then(|text| Usd::parse_rounded(text).ok()),
        upper_bound: may_be_more.then(|| upper_bound(exchange, &used, model, tier).max(cost)),
        price: priced.price,
        estimate_reason: reason.map(Name::from),
        verdict: ended.verdict.to_vec(),
        ttfb_ms: ended.ttfb_ms,
        response_id: ids.response,
        request_id: ids.request,
        ..blank(gateway, exchange, outcome(ended), ended.status)
    }
}

/// An upstream that answered in full, and with an error, has not completed anything.
fn outcome(ended: &AnswerEnd<'_>) -> Outcome {
    match (ended.end, ended.status) {
        (End::Completed, 400..) => Outcome::UpstreamError,
        (end, _) => end.into(),
    }
}

/// Ends the hold of an answer that was metered: settles it, learns from it, reports it, and ends what depends on it, before
/// its client knows of that.
pub fn settle(
    gateway: &Gateway,
    exchange: &mut Exchange,
    hold: Hold,
    rates: Option<&mut Grant>,
    metered: &Metered,
    ended: &AnswerEnd<'_>,
) {
    let settlement = settlement(gateway, exchange, metered, ended);
    learn(gateway, exchange, metered, &settlement);
    if let Some(rates) = rates {
        let usage = &settlement.usage;
        rates.used_tokens(usage.input_tokens().saturating_add(usage.output_tokens()));
    }
    let bill = bill_of_answer(exchange, metered);
    // Else it was fetched, and entered, while its stream was still running here.
    let overage_reason = ended.expected.relies_on_cache.then(|| Name::from(NOT_IN_CACHE));
    let Some(settled) = hold.settle_bills(settlement, overage_reason, bill.into_iter().collect()) else {
        return;
    };
    over(exchange, &settled.entry, metered.calls.as_ref());
    report::settled(gateway, settled.entry, &exchange.traced);
}

/// Ends what depends on the end of a call, before its client knows of it.
fn over(exchange: &mut Exchange, entry: &Entry, calls: Option<&[u8; 32]>) {
    let end = &entry.settlement;
    if let Some(step) = exchange
        .step
        .take_if(|_| end.outcome == Outcome::Completed && end.status < 400)
    {
        let answer = end.response_id.as_deref().zip(calls);
        step.answered(end.cost, answer);
    }
    exchange.step = None;
    exchange.session_end = None;
}

/// An answer that reports nothing (speech is sound and no more) is billed by what its request said, as far as the model's
/// price names it. Characters are what the provider itself counts; a recording's length and the like are estimates.
fn usage_from_request(exchange: &Exchange, used: &mut SettledUsage, model: &str, served: ServedTier<'_>, end: End) {
    let Some(found) = find_for(exchange, model) else {
        return;
    };
    let units = &exchange.inspected.call.units;
    let (tier, _) = served.of(&found.quote, &units.iter().copied().collect(), 0);
    let stated: Vec<(Kind, u64)> = units
        .iter()
        .copied()
        .filter(|(kind, _)| found.quote.states(*kind, tier))
        .collect();
    let Some(own) = used.parts.first_mut().filter(|_| !stated.is_empty()) else {
        return;
    };
    if stated.iter().all(|(kind, _)| !kind.is_tokens()) {
        own.usage = Usage::default();
    }
    for (kind, units) in &stated {
        own.usage.set(*kind, *units);
    }
    used.usage = own.usage;
    let exact = stated.iter().all(|(kind, _)| *kind == Kind::Character);
    if matches!(end, End::Completed | End::ClientGone) {
        used.estimate_reason = (!exact).then_some(estimate_reason::NO_USAGE);
    }
}

/// What a cut or abandoned answer may still be billed at most: its input as read, and all the output it was allowed.
fn upper_bound(exchange: &Exchange, used: &SettledUsage, model: &str, served: ServedTier<'_>) -> Usd {
    let Some(found) = find_for(exchange, model) else {
        return Usd::ZERO;
    };
    let call = &exchange.inspected.call;
    let allowed = call.max_output.or_else(|| found.quote.max_output()).unwrap_or(0);
    let mut usage: Usage = used.usage;
    let output = allowed.saturating_mul(u64::from(call.choices.max(1)));
    usage.set(Kind::Output, usage.get(Kind::Output).max(output));
    found.quote.cost(&usage, served.of(&found.quote, &usage, 0).0)
}

/// The id under which an answer is billed once: whose it is, and its own.
pub fn bill_of_answer(exchange: &Exchange, metered: &Metered) -> Option<BillId> {
    let id = metered.bill_id.as_deref()?;
    Some(BillId::of(&[&exchange.endpoint.name, id]))
}
