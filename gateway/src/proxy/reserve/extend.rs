//! Fifth step, afterwards: the hold lets its stream go on. It is extended as the text grows; where nothing is left the stream is cut.

use std::sync::Arc;

use agentledger_ledger::{Amounts, BooksError, Hold, Name, Obstacle, Unit, Usd};

use crate::plugin::Ending;
use crate::proxy::reserve::estimate::{HoldEstimate, STEP_TOKENS, cost_of};
use crate::proxy::shared::allowance::{Allowance, Uncovered};
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::refusal_text::{cut_by_budget, ended};
use crate::proxy::shared::rules::Rules;

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
pub struct StreamAllowance {
    /// Those that the exchange began with.
    rules: Arc<Rules>,
    /// A hard bound stands behind it: without one there is nothing to cut for.
    guarded: bool,
    covered_tokens: u64,
    /// What is held for the input; nothing where tokens are limited, too, which cached input does not save.
    input_usd: Usd,
    output_price_picos: i64,
    ratio: Ratio,
}

impl StreamAllowance {
    /// `units`: of the hard bounds that stand behind the hold.
    pub fn new(gateway: &Gateway, exchange: &Exchange, estimate: &HoldEstimate, units: &[Unit]) -> StreamAllowance {
        StreamAllowance {
            rules: Arc::clone(&exchange.rules),
            guarded: !units.is_empty(),
            input_usd: if units.contains(&Unit::Tokens) {
                Usd::ZERO
            } else {
                estimate.input_usd
            },
            // A named maximum is held whole and cannot be exceeded: only a count of bytes that is far off it is believed.
            covered_tokens: if estimate.holds_named_maximum() {
                estimate.output_tokens.saturating_mul(2)
            } else {
                estimate.output_tokens
            },
            output_price_picos: estimate.output_price_picos,
            ratio: Ratio::of(gateway, &exchange.inspected.call.model),
        }
    }

    fn uncovered(&self, error: BooksError) -> Uncovered {
        match error {
            BooksError::UnknownHold => Uncovered::Cut(
                "an operator has ended the hold of this request, so this answer was cut short.".to_owned(),
            ),
            BooksError::Refused(refused) if refused.obstacle == Obstacle::Held => {
                Uncovered::Held(Name::clone(&refused.bound.account))
            }
            BooksError::Refused(refused) => Uncovered::Cut(cut_by_budget(&refused, &self.rules.aliases())),
            _ => used_up(),
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
    fn covers(&mut self, text_bytes: u64) -> Result<(), Uncovered> {
        self.covers_with(text_bytes, 0)
    }

    fn input_costs(&mut self, cost: Usd) {
        let allowance = &mut *self.allowance;
        let spared = allowance.input_usd.saturating_sub(cost).max(Usd::ZERO);
        allowance.input_usd = Usd::ZERO;
        let tokens = tokens_for(spared, allowance.output_price_picos);
        allowance.covered_tokens = allowance.covered_tokens.saturating_add(tokens.unwrap_or(0));
    }
}

impl BoundAllowance<'_> {
    /// As [`Allowance::covers`], with so many tokens beside the text.
    pub fn covers_with(&mut self, text_bytes: u64, more_tokens: u64) -> Result<(), Uncovered> {
        if !self.allowance.guarded {
            return Ok(());
        }
        let tokens = self.allowance.ratio.tokens(text_bytes).saturating_add(more_tokens);
        // Less than a token was left: whether others hold more, the next try says.
        let mut is_dregs = false;
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
                .map_err(|error| self.allowance.uncovered(error))?;
            // The scarcer of money and tokens says how far the extension reaches.
            let by_tokens = u64::try_from(granted.tokens).unwrap_or(0);
            let by_money = tokens_for(granted.usd, self.allowance.output_price_picos);
            let reach = by_tokens.min(by_money.unwrap_or(by_tokens));
            if reach == 0 && std::mem::replace(&mut is_dregs, true) {
                return Err(used_up());
            }
            self.allowance.covered_tokens = self.allowance.covered_tokens.saturating_add(reach);
        }
        Ok(())
    }
}

/// How many tokens this pays for; `None` where they cost nothing.
fn tokens_for(usd: Usd, price_picos: i64) -> Option<u64> {
    let tokens = (i128::from(usd.nanos()) * 1_000).checked_div(i128::from(price_picos))?;
    Some(u64::try_from(tokens).unwrap_or(0))
}

fn used_up() -> Uncovered {
    Uncovered::Cut(ended(Ending::BudgetExceeded, ""))
}
