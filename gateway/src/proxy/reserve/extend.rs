//! Fifth step: the money is held before it is spent. The hold's size is told by `size`, `apply` and `place` put it on all bounds or on
//! none; here it guards the stream as it grows.

use agentledger_ledger::{Amounts, Hold, Kind, LedgerError, Name, Outcome, Settlement};

use crate::estimate_reason;
use crate::meter::Metered;
use crate::proxy::relay::Allowance;
use crate::proxy::reserve::estimate::{HoldEstimate, STEP_TOKENS, cost_of, input_estimate};
use crate::proxy::settle::unanswered;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::pricing::find_for;
use crate::proxy::shared::reply::Refusal;

/// Texts shorter than these teach nothing of a model's ratio: what stands around them weighs more.
const LEARNED_INPUT_BYTES_MIN: u64 = 512;
const LEARNED_OUTPUT_BYTES_MIN: u64 = 512;

/// Nothing is spent that cannot be written down.
pub fn ledger_stopped(error: &LedgerError) -> Refusal {
    tracing::error!(%error, "the ledger takes no more: requests are refused");
    Refusal::new(
        503,
        "ledger_unavailable",
        "the ledger cannot write; requests are refused until it can",
    )
}

/// Bytes per token of a model's output, as learned when the exchange began: no lock while the stream passes.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    tokens_of_mebibyte: u64,
}

impl Ratio {
    fn of(gateway: &Gateway, model: &str) -> Ratio {
        Ratio {
            tokens_of_mebibyte: gateway.estimator.output_tokens_of_bytes(model, 1 << 20).tokens,
        }
    }

    fn tokens(self, bytes: u64) -> u64 {
        let tokens = u128::from(bytes) * u128::from(self.tokens_of_mebibyte) / (1 << 20);
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }
}

/// What a hold covers, before the stream begins.
#[derive(Debug)]
pub struct StreamAllowance {
    /// A hard bound stands behind it: without one there is nothing to cut for.
    guarded: bool,
    covered_tokens: u64,
    output_price_picos: i64,
    ratio: Ratio,
}

impl StreamAllowance {
    /// `guarded`: a hard bound stands behind the hold.
    pub fn new(gateway: &Gateway, exchange: &Exchange, estimate: &HoldEstimate, guarded: bool) -> StreamAllowance {
        StreamAllowance {
            guarded,
            // A named maximum is held whole and cannot be exceeded: only a count of bytes that is far off it is believed.
            covered_tokens: match estimate.named_output {
                Some(_) if !estimate.starts_small => estimate.output_tokens.saturating_mul(2),
                _ => estimate.output_tokens,
            },
            output_price_picos: estimate.output_price_picos,
            ratio: Ratio::of(gateway, &exchange.inspected.call.model),
        }
    }

    pub fn bind<'h>(&'h mut self, hold: &'h mut Hold) -> BoundAllowance<'h> {
        BoundAllowance { allowance: self, hold }
    }
}

/// The hold guarding its stream: extended as the text grows, cut when nothing is left.
pub struct BoundAllowance<'h> {
    allowance: &'h mut StreamAllowance,
    hold: &'h mut Hold,
}

impl Allowance for BoundAllowance<'_> {
    fn covers(&mut self, text_bytes: u64) -> Result<(), String> {
        self.covers_with(text_bytes, 0)
    }
}

impl BoundAllowance<'_> {
    /// As [`Allowance::covers`], with so many tokens beside the text.
    pub fn covers_with(&mut self, text_bytes: u64, more_tokens: u64) -> Result<(), String> {
        if !self.allowance.guarded {
            return Ok(());
        }
        let tokens = self.allowance.ratio.tokens(text_bytes).saturating_add(more_tokens);
        while tokens > self.allowance.covered_tokens {
            let step = STEP_TOKENS.max(tokens - self.allowance.covered_tokens);
            let usd = cost_of(step, self.allowance.output_price_picos);
            let requested = Amounts {
                usd,
                tokens: i64::try_from(step).unwrap_or(i64::MAX),
                requests: 0,
            };
            let granted = self
                .hold
                .extend(requested)
                .map_err(|_| "the budget is used up".to_owned())?;
            // The scarcer of money and tokens says how far the extension reaches.
            let by_tokens = u64::try_from(granted.tokens).unwrap_or(0);
            let by_money = match self.allowance.output_price_picos {
                0 => by_tokens,
                picos => {
                    let tokens = i128::from(granted.usd.nanos()) * 1_000 / i128::from(picos);
                    u64::try_from(tokens).unwrap_or(0)
                }
            };
            let reach = by_tokens.min(by_money);
            if reach == 0 {
                return Err("the budget is used up".to_owned());
            }
            self.allowance.covered_tokens = self.allowance.covered_tokens.saturating_add(reach);
        }
        Ok(())
    }
}

/// For operations that are not held.
pub struct Unbounded;

impl Allowance for Unbounded {
    fn covers(&mut self, _text_bytes: u64) -> Result<(), String> {
        Ok(())
    }
}

/// What an exact answer teaches about its model's bytes per token.
pub fn learn(gateway: &Gateway, exchange: &Exchange, metered: &Metered, settlement: &Settlement) {
    if settlement.estimate_reason.is_some()
        || settlement.outcome != Outcome::Completed
        || settlement.usage.input_tokens() == 0
    {
        return;
    }
    let usage = &settlement.usage;
    let text = &exchange.inspected.text;
    let plain = !exchange.inspected.has_media && text.bytes() >= LEARNED_INPUT_BYTES_MIN;
    let input = plain.then(|| (text.bytes(), usage.input_tokens()));
    let visible = usage.get(Kind::Output).saturating_sub(settlement.reasoning);
    let output = Some((metered.text.bytes(), visible)).filter(|(bytes, _)| *bytes >= LEARNED_OUTPUT_BYTES_MIN);
    let all = usage.get(Kind::Output);
    gateway
        .estimator
        .learn(&exchange.inspected.call.model, input, output, all);
}

/// The client left before the answer began: the upstream has the request and may bill its input, and more.
pub fn abandoned(gateway: &Gateway, exchange: &Exchange, hold: &Hold, verdict: &[Name]) -> Settlement {
    let mut settlement = unanswered(gateway, exchange, Outcome::ClientGone, 0, verdict);
    let tokens = input_estimate(gateway, exchange, &exchange.rules.config.hold);
    settlement.usage.set(Kind::Input, tokens);
    if let Some(found) = find_for(exchange, &exchange.inspected.call.model) {
        settlement.cost = found
            .quote
            .cost(&settlement.usage, exchange.inspected.call.service_tier.as_deref());
        let tier = exchange.inspected.call.service_tier.as_deref();
        settlement.price = Some(found.quote.reference(tier));
    }
    settlement.upper_bound = Some(hold.held().max(settlement.cost));
    settlement.estimate_reason = Some(Name::from(estimate_reason::CLIENT_GONE));
    settlement
}
