//! How much a call takes with a shorter answer, and how short it must be to fit.

use agentledger_ledger::{Amounts, Unit, Usd};

use crate::policy::CostEstimate;

/// An answer shorter than this is of no use: nothing is clamped below it, as in the gateway.
const CLAMPED_TOKENS_MIN: u64 = 16;
/// What a call takes with at most this much output, rounded up.
pub fn sized(estimate: &CostEstimate, most: u64) -> Amounts {
    let output = most.min(estimate.output_tokens);
    let whole = i128::from(estimate.output_tokens.max(1));
    let picos = i128::from(estimate.output_usd.nanos()) * i128::from(output);
    let output_usd = picos.div_euclid(whole) + i128::from(picos.rem_euclid(whole) != 0);
    let input_usd = estimate.usd.saturating_sub(estimate.output_usd);
    let output_usd = Usd::from_nanos(i64::try_from(output_usd).unwrap_or(i64::MAX));
    Amounts::of_request(
        input_usd.saturating_add(output_usd),
        estimate.input_tokens.saturating_add(output),
    )
}

pub fn least(one: &Amounts, other: &Amounts) -> Amounts {
    Amounts {
        usd: one.usd.min(other.usd),
        tokens: one.tokens.min(other.tokens),
        requests: one.requests,
    }
}

/// The most output with which a call fits what is left of a bound.
pub fn affordable(estimate: &CostEstimate, unit: Unit, left: i128) -> Option<u64> {
    let output = match unit {
        Unit::Usd if estimate.output_usd > Usd::ZERO => {
            let input = estimate.usd.saturating_sub(estimate.output_usd);
            let for_output = left - i128::from(input.nanos());
            for_output * i128::from(estimate.output_tokens) / i128::from(estimate.output_usd.nanos())
        }
        Unit::Tokens => left - i128::from(estimate.input_tokens),
        Unit::Usd | Unit::Requests => return None,
    };
    let most = u64::try_from(output).ok()?;
    (most >= CLAMPED_TOKENS_MIN && most < estimate.output_tokens).then_some(most)
}
