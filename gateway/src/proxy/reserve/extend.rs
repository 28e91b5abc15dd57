//! Fifth step, afterwards: the hold lets its stream go on. It is extended as the text grows; where nothing is left the stream is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use agentledger_ledger::{Amounts, BooksError, Hold, HoldId, Ledger, Name, Obstacle, Unit, Usd};

use crate::plugin::Ending;
use crate::proxy::reserve::estimate::{HoldEstimate, STEP_TOKENS, cost_of};
use crate::proxy::shared::allowance::{Allowance, Uncovered};
use crate::proxy::shared::cached_input::Reliance;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::live_answers::{LiveAnswer, LiveAnswers, Passing};
use crate::proxy::shared::refusal_text::{cut_by_budget, ended};
use crate::proxy::shared::rules::Rules;
use crate::timer::Timer;

/// How often a stream that waits for others' holds tries again though none ended: a window may have turned.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(1);

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
    /// Tokens of output; below zero where the input took more than was held for it.
    covered_tokens: i64,
    /// What is held for the input, until it is told.
    input_usd: Option<Usd>,
    /// What it costs, as told.
    input_costs: Usd,
    /// What the input costs beyond that.
    owed: Usd,
    /// Tokens are limited, too, which cached input does not save.
    limits_tokens: bool,
    output_price_picos: i64,
    ratio: Ratio,
    /// It holds its input as its provider's cache should have it; until the hold covers what that really costs.
    reliance: Option<Reliance>,
    /// Where it is shown, from its first text on.
    live: Arc<LiveAnswers>,
    shown: Option<LiveAnswer>,
}

impl StreamAllowance {
    /// `units`: of the hard bounds that stand behind the hold.
    pub fn new(gateway: &Gateway, exchange: &Exchange, estimate: &HoldEstimate, units: &[Unit]) -> StreamAllowance {
        StreamAllowance {
            rules: Arc::clone(&exchange.rules),
            guarded: !units.is_empty(),
            input_usd: Some(estimate.input_usd),
            input_costs: Usd::ZERO,
            owed: Usd::ZERO,
            limits_tokens: units.contains(&Unit::Tokens),
            // A named maximum is held whole and cannot be exceeded: only a count of bytes that is far off it is believed.
            covered_tokens: if estimate.holds_named_maximum() {
                signed(estimate.output_tokens).saturating_mul(2)
            } else {
                signed(estimate.output_tokens)
            },
            output_price_picos: estimate.output_price_picos,
            ratio: Ratio::of(gateway, &exchange.inspected.call.model),
            reliance: None,
            live: Arc::clone(&gateway.live),
            shown: None,
        }
    }

    pub fn relying(self, reliance: Option<Reliance>) -> StreamAllowance {
        StreamAllowance { reliance, ..self }
    }

    /// Writes down how far the answer has come, for whoever watches.
    fn show(&mut self, hold: HoldId, text_bytes: u64, more_tokens: u64) {
        let input = self.input_usd.unwrap_or(self.input_costs);
        let passing = || Passing {
            input_usd: AtomicI64::new(input.nanos()),
            text_bytes: AtomicU64::new(0),
            more_tokens: AtomicU64::new(0),
            tokens_of_mebibyte: self.ratio.tokens_of_mebibyte,
            output_price_picos: self.output_price_picos,
        };
        let shown = self.shown.get_or_insert_with(|| self.live.begin(hold, passing()));
        shown.passed(text_bytes, more_tokens);
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
        let Some(held) = allowance.input_usd.take() else { return };
        if let Some(shown) = &allowance.shown {
            shown.input_costs(cost);
        }
        allowance.input_costs = cost;
        let spared = held.saturating_sub(cost);
        if spared.is_negative() {
            allowance.owed = cost.saturating_sub(held);
        } else if !allowance.limits_tokens {
            let tokens = tokens_for(spared, allowance.output_price_picos).unwrap_or(0);
            allowance.covered_tokens = allowance.covered_tokens.saturating_add(signed(tokens));
        }
    }
}

impl BoundAllowance<'_> {
    /// As [`Allowance::covers`], with so many tokens beside the text.
    pub fn covers_with(&mut self, text_bytes: u64, more_tokens: u64) -> Result<(), Uncovered> {
        self.allowance.show(self.hold.id(), text_bytes, more_tokens);
        if !self.allowance.guarded {
            return Ok(());
        }
        self.pay_input()?;
        let tokens = signed(self.allowance.ratio.tokens(text_bytes).saturating_add(more_tokens));
        // Less than a token was left: whether others hold more, the next try says.
        let mut is_dregs = false;
        while tokens > self.allowance.covered_tokens {
            let lacking = tokens.saturating_sub(self.allowance.covered_tokens);
            let step = STEP_TOKENS.max(u64::try_from(lacking).unwrap_or(0));
            let usd = cost_of(step, self.allowance.output_price_picos);
            let requested = Amounts {
                usd,
                tokens: signed(step),
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
            self.allowance.covered_tokens = self.allowance.covered_tokens.saturating_add(signed(reach));
        }
        if self.allowance.input_usd.is_none() {
            self.allowance.reliance = None;
        }
        Ok(())
    }

    /// What the input costs beyond what was held for it is held, too, as soon as it is told; as far as that is not left, what is held
    /// for the output pays for it.
    fn pay_input(&mut self) -> Result<(), Uncovered> {
        while !self.allowance.owed.is_zero() {
            let owed = Amounts {
                usd: self.allowance.owed,
                ..Amounts::ZERO
            };
            match self.hold.extend(owed) {
                Ok(granted) => self.allowance.owed = self.allowance.owed.saturating_sub(granted.usd),
                Err(BooksError::Refused(refused)) => {
                    let price = self.allowance.output_price_picos;
                    let Some(tokens) = tokens_for(self.allowance.owed, price) else {
                        return Err(self.allowance.uncovered(BooksError::Refused(refused)));
                    };
                    let taken = signed(tokens).saturating_add(1);
                    self.allowance.covered_tokens = self.allowance.covered_tokens.saturating_sub(taken);
                    self.allowance.owed = Usd::ZERO;
                }
                Err(error) => return Err(self.allowance.uncovered(error)),
            }
        }
        Ok(())
    }
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

/// How many tokens this pays for; `None` where they cost nothing.
fn tokens_for(usd: Usd, price_picos: i64) -> Option<u64> {
    let tokens = (i128::from(usd.nanos()) * 1_000).checked_div(i128::from(price_picos))?;
    Some(u64::try_from(tokens).unwrap_or(0))
}

fn used_up() -> Uncovered {
    Uncovered::Cut(ended(Ending::BudgetExceeded, ""))
}

/// Waits while only others' holds keep a stream from going on, as a request does that has not begun. `uncovered` is why it may not go
/// on, and `again` asks anew. `None`: it is covered now. `Some`: it is to be cut, and why.
pub async fn wait_covered(
    ledger: &Ledger,
    longest: Duration,
    mut uncovered: Uncovered,
    mut again: impl FnMut() -> Option<Uncovered>,
) -> Option<Uncovered> {
    let since = Timer::start();
    while let Uncovered::Held(account) = &uncovered {
        // Made before the next try: a hold that ends in between is not missed.
        let notify = ledger.freed(account);
        let freed = notify.notified();
        uncovered = again()?;
        let left = longest.saturating_sub(since.elapsed());
        if left.is_zero() {
            break;
        }
        tokio::select! {
            () = freed => {}
            () = tokio::time::sleep(LOOK_AGAIN_EVERY.min(left)) => {}
        }
    }
    Some(uncovered)
}
