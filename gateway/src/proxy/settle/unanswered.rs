//! Settlements of exchanges that got no answer.

use agentledger_ledger::{Hold, Kind, Name, Outcome, Settlement};

use crate::estimate_reason;
use crate::proxy::forward::Failed;
use crate::proxy::report;
use crate::proxy::reserve::estimate::input_estimate;
use crate::proxy::settle::blank::blank;
use crate::proxy::settle::unread::Evidence;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::expected_use::ExpectedUse;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::pricing::{ServedTier, find_for};
use crate::proxy::shared::reply::Refusal;

/// The end of an exchange that got no answer. What the upstream never received is voided; what it did not take is entered at
/// nothing; what it has received, and may bill, is entered as an estimate.
///
/// # Errors
/// The refusal that the client gets; `Ok(false)` where it has left.
pub fn settle_unanswered(
    gateway: &Gateway,
    exchange: &Exchange,
    hold: Hold,
    failed: Failed,
    verdict: &[Name],
    expected: &ExpectedUse,
) -> Result<bool, Refusal> {
    match failed {
        Failed::Unsent(refusal) => {
            hold.void(refusal.code.as_str());
            report::not_entered(gateway, exchange, &refusal);
            Err(refusal)
        }
        Failed::NotTaken(refusal) => {
            let settlement = unanswered(gateway, exchange, Outcome::UpstreamFailed, refusal.status, verdict);
            report::settled(gateway, hold.settle(settlement).entry, &exchange.traced);
            Err(refusal)
        }
        Failed::Unanswered(refusal) => {
            let mut settlement = abandoned(gateway, exchange, &hold, verdict, expected);
            settlement.outcome = Outcome::UpstreamFailed;
            settlement.status = refusal.status;
            settlement.estimate_reason = Some(estimate_reason::UPSTREAM_FAILED.into());
            report::settled(gateway, hold.settle(settlement).entry, &exchange.traced);
            Err(refusal)
        }
        Failed::Cut(refusal) => {
            let mut settlement = abandoned(gateway, exchange, &hold, verdict, expected);
            settlement.outcome = Outcome::Cut;
            settlement.status = refusal.status;
            settlement.cost = settlement.cost.max(hold.held());
            settlement.estimate_reason = Some(estimate_reason::CUT.into());
            report::settled(gateway, hold.settle(settlement).entry, &exchange.traced);
            Err(refusal)
        }
        Failed::ClientGone => {
            let mut settlement = abandoned(gateway, exchange, &hold, verdict, expected);
            let least = Evidence::of_broken_off(exchange, false).least(expected, hold.held());
            settlement.cost = settlement.cost.max(least);
            settlement.upper_bound = settlement.upper_bound.map(|bound| bound.max(settlement.cost));
            report::settled(gateway, hold.settle(settlement).entry, &exchange.traced);
            Ok(false)
        }
    }
}

/// The settlement of an exchange that got no answer: nothing was used, as far as is known.
fn unanswered(gateway: &Gateway, exchange: &Exchange, outcome: Outcome, status: u16, verdict: &[Name]) -> Settlement {
    Settlement {
        verdict: verdict.to_vec(),
        ..blank(gateway, exchange, outcome, status)
    }
}

/// The client left before the answer began: the upstream has the request and may bill its input, and more.
fn abandoned(
    gateway: &Gateway,
    exchange: &Exchange,
    hold: &Hold,
    verdict: &[Name],
    expected: &ExpectedUse,
) -> Settlement {
    let mut settlement = unanswered(gateway, exchange, Outcome::ClientGone, 0, verdict);
    let model = exchange.inspected.call.model.as_str();
    let tokens = input_estimate(gateway, exchange, model, &exchange.rules.config.hold);
    settlement.usage.set(Kind::Input, tokens);
    if let Some(found) = find_for(exchange, model) {
        let requested = ServedTier::of_answer(None, exchange);
        let (tier, _) = requested.of(&found.quote, &settlement.usage, 0);
        settlement.cost = found.quote.cost(&settlement.usage, tier);
        settlement.price = Some(found.quote.reference(tier));
    }
    settlement.upper_bound = Some(hold.held().max(expected.most).max(settlement.cost));
    settlement.estimate_reason = Some(Name::from(estimate_reason::CLIENT_GONE));
    settlement
}
