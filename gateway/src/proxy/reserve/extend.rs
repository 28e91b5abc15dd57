//! Fifth step, afterwards: the hold lets its stream go on. It is extended as the text grows; where nothing is left the stream is cut.

use agentledger_ledger::{Amounts, BooksError, Hold};

use crate::plugin::Ending;
use crate::proxy::reserve::estimate::{HoldEstimate, STEP_TOKENS, cost_of};
use crate::proxy::shared::allowance::Allowance;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::refusal_text::{cut_by_budget, ended, no_aliases};

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
            let granted = self.hold.extend(requested).map_err(|error| match error {
                BooksError::UnknownHold => {
                    "an operator has ended the hold of this request, so this answer was cut short.".to_owned()
                }
                BooksError::Refused(refused) => cut_by_budget(&refused, &no_aliases),
                _ => ended(Ending::BudgetExceeded, ""),
            })?;
            // The scarcer of money and tokens says how far the extension reaches.
            let by_tokens = u64::try_from(granted.tokens).unwrap_or(0);
            let by_money = match self.allowance.output_price_picos {
                0 => by_tokens,
                picos => {
                    let tokens = i128::from(granted.usd.nanos()) * 1_000 / i128::from(picos);
                    u64::try_from(tokens).unwrap_or(0)
                }
            };
            // Less than one token's price may be left and granted: the next step finds nothing, and is refused.
            let reach = by_tokens.min(by_money);
            self.allowance.covered_tokens = self.allowance.covered_tokens.saturating_add(reach);
        }
        Ok(())
    }
}
