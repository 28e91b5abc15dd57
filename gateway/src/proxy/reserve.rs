//! Fifth step: the money is held before it is spent. The hold is placed on all bounds or on none, and guards the stream as
//! it grows. Its size is told by `size`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentledger_ledger::{
    Amounts, BooksError, Bound, Denial, Hold, Kind, LedgerError, Mode, Name, Obstacle, Outcome, Settlement, Standing,
    Unit, Usage, Usd, Window,
};

use crate::meter::{Metered, reason};
use crate::plugin::EditPoint;
use crate::policy::{AskedBound, Verdict};
use crate::proxy::decide::denied;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Changes;
use crate::proxy::gateway::Gateway;
use crate::proxy::guard::client_left;
use crate::proxy::price::find;
use crate::proxy::relay::Allowance;
use crate::proxy::reply::Refusal;
use crate::proxy::settle::unanswered;
use crate::proxy::size::{Estimate, STEP_TOKENS, cost_of, input_estimate};

/// Texts shorter than these teach nothing of a model's ratio: what stands around them weighs more.
const LEARNED_INPUT_BYTES_MIN: u64 = 512;
const LEARNED_OUTPUT_BYTES_MIN: u64 = 512;
/// How often a request that waits for others' holds asks again though none ended: a window may have turned.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What the later steps need: the hold, what it changes in the request, and what the client is told.
pub struct Reserved {
    pub hold: Hold,
    pub changes: Changes,
    pub headers: Vec<(String, String)>,
    pub verdict: Vec<Name>,
    pub allowance: Guard,
    /// The request's input as estimated for the hold.
    pub input_tokens: u64,
}

/// How long to wait where only others' holds are in the way, and what ends the wait.
pub struct Waiting<'w> {
    pub patience: Duration,
    pub gone: Pin<&'w mut (dyn Future<Output = ()> + Send)>,
}

/// Applies the verdict: a denial ends here, a clamp changes the request, the bounds take the hold.
pub async fn reserve(
    gateway: &Gateway,
    exchange: &Exchange,
    estimate: Estimate,
    verdict: Verdict,
    waiting: Waiting<'_>,
) -> Result<Reserved, Refusal> {
    if let Some(deny) = &verdict.deny {
        tell_denied(
            gateway,
            exchange,
            &format!("key:{}", exchange.identity.fingerprint),
            &deny.code,
        );
        return Err(denied(deny));
    }
    let (estimate, changes) = clamped(exchange, estimate, verdict.clamp)?;
    let bounds: Vec<Bound> = verdict.bounds.iter().map(|asked| asked.bound.clone()).collect();
    let hold = place(gateway, exchange, &estimate, &verdict.bounds, &bounds, waiting).await?;
    let mut headers = verdict.headers;
    headers.extend(warning(&verdict.bounds, hold.standings()));
    headers.push(("X-AgentLedger-Exchange".to_owned(), exchange.id.to_string()));
    let guarded = bounds.iter().any(|bound| bound.mode() == Mode::Hard);
    let allowance = Guard {
        guarded,
        // A named maximum is held whole and cannot be exceeded: only a count of bytes that is far off it is believed.
        covered_tokens: match estimate.named_output {
            Some(_) if !estimate.starts_small => estimate.output_tokens.saturating_mul(2),
            _ => estimate.output_tokens,
        },
        output_price_picos: estimate.output_price_picos,
        ratio: Ratio::of(gateway, &exchange.inspected.call.model),
    };
    Ok(Reserved {
        hold,
        changes,
        headers,
        verdict: verdict.spoke,
        allowance,
        input_tokens: estimate.input_tokens,
    })
}

/// A clamp lowers the request's own maximum, or names one where there is none.
fn clamped(exchange: &Exchange, estimate: Estimate, clamp: Option<u64>) -> Result<(Estimate, Changes), Refusal> {
    let Some(most) = clamp.filter(|most| estimate.named_output.is_none_or(|named| named > *most)) else {
        return Ok((estimate, Changes::default()));
    };
    let editable = exchange.inspected.edit_point(|point| match point {
        EditPoint::MaxOutput(path) => Some(path),
        _ => None,
    });
    if editable.is_none() {
        // What cannot be clamped is not let through unclamped.
        let message = "a policy limits the output of this request, and this operation has no such limit";
        return Err(Refusal::new(403, "cannot_clamp", message).final_answer());
    }
    let choices = u64::from(exchange.inspected.call.choices.max(1));
    let output = estimate.output_tokens.min(most.saturating_mul(choices));
    let mut smaller = estimate.with_output(output);
    smaller.named_output = Some(most);
    Ok((
        smaller,
        Changes {
            max_output: Some(most),
            model: None,
        },
    ))
}

/// Places the hold; where only others' holds stand in the way, waits for them as long as the config says.
async fn place(
    gateway: &Gateway,
    exchange: &Exchange,
    estimate: &Estimate,
    asked: &[AskedBound],
    bounds: &[Bound],
    waiting: Waiting<'_>,
) -> Result<Hold, Refusal> {
    let facts = Arc::new(exchange.facts());
    let basis = Name::from(estimate.basis);
    let Waiting { patience, mut gone } = waiting;
    let waiting_since = Instant::now();
    loop {
        // Made before the books are asked: a hold that ends in between is not missed.
        let freed = gateway.ledger.freed();
        let permit = gateway.ledger.admit().await.map_err(|error| ledger_stopped(&error))?;
        let refused = match gateway
            .ledger
            .reserve(permit, Arc::clone(&facts), bounds, estimate.amounts(), &basis)
        {
            Ok(hold) => return Ok(hold),
            Err(BooksError::Refused(refused)) => refused,
            Err(error) => {
                tracing::error!(%error, "a hold could not be placed");
                return Err(Refusal::new(503, "ledger_full", "the ledger has no room for this request").retry_after(1));
            }
        };
        let account = refused.bound.account.clone();
        match refused.obstacle {
            Obstacle::Held if waiting_since.elapsed() < patience => tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(ASK_AGAIN.min(patience.saturating_sub(waiting_since.elapsed()))) => {}
                () = gone.as_mut() => return Err(client_left()),
                () = gateway.drain.cutting() => return Err(Refusal::going_down()),
            },
            Obstacle::Held => {
                tell_denied(gateway, exchange, &account, "budget_held");
                let message = "the budget is held by requests that are running; try again when they have ended";
                return Err(Refusal::new(429, "budget_held", message)
                    .kind("budget_exceeded")
                    .field("account", account.to_string())
                    .retry_after(2));
            }
            Obstacle::Exceeded => {
                tell_denied(gateway, exchange, &account, "budget_exceeded");
                let policy = asked.get(refused.place).map(|asked| asked.policy.clone());
                return Err(exceeded(gateway, bounds, &refused, estimate, policy));
            }
        }
    }
}

/// Nothing is spent that cannot be written down.
pub fn ledger_stopped(error: &LedgerError) -> Refusal {
    tracing::error!(%error, "the ledger takes no more: requests are refused");
    Refusal::new(
        503,
        "ledger_unavailable",
        "the ledger cannot write; requests are refused until it can",
    )
}

fn tell_denied(gateway: &Gateway, exchange: &Exchange, account: &str, reason: &str) {
    gateway.ledger.deny(&Denial {
        account: Name::from(account),
        tenant: exchange.tenant.clone(),
        reason: Name::from(reason),
    });
}

/// The contract's refusal: what is spent and what the limits are, by day and month.
fn exceeded(
    gateway: &Gateway,
    bounds: &[Bound],
    refused: &agentledger_ledger::Refusal,
    estimate: &Estimate,
    policy: Option<Name>,
) -> Refusal {
    let over_already = refused.standing.posted >= refused.standing.limit;
    let message = if over_already {
        "spending limit exceeded"
    } else {
        "estimated cost of request exceeds remaining budget"
    };
    let mut refusal = Refusal::new(429, "budget_exceeded", message)
        .kind("budget_exceeded")
        .final_answer();
    if !over_already && refused.bound.unit == Unit::Usd {
        refusal = refusal.field("estimated_cost", dollars(estimate.usd.nanos()));
    }
    for (window, spent, limit) in [
        (Window::Day, "daily_spent", "daily_limit"),
        (Window::Month, "monthly_spent", "monthly_limit"),
    ] {
        let standing = bounds
            .iter()
            .find(|bound| {
                bound.window() == window && bound.unit() == Unit::Usd && *bound.account() == refused.bound.account
            })
            .map(|bound| gateway.ledger.standing(bound));
        refusal = refusal
            .field(spent, dollars(standing.map_or(0, |standing| standing.posted)))
            .field(limit, dollars(standing.map_or(0, |standing| standing.limit)));
    }
    refusal = refusal
        .field("account", refused.bound.account.to_string())
        .field("window", refused.bound.window.name())
        .field("unit", refused.bound.unit.name());
    if refused.bound.unit != Unit::Usd {
        refusal = refusal
            .field("spent", refused.standing.posted)
            .field("limit", refused.standing.limit);
    }
    match policy {
        Some(policy) => refusal.field("policy", policy.to_string()),
        None => refusal,
    }
}

/// Money as a JSON number, for reading; its text is the exact decimal.
fn dollars(nanos: i64) -> serde_json::Value {
    let number: Result<serde_json::Number, _> = Usd::from_nanos(nanos).to_string().parse();
    number.map_or(serde_json::Value::Null, serde_json::Value::Number)
}

/// `X-AgentLedger-Budget-Warning: daily=S/L monthly=S/L`, where a soft limit is reached or a watched one is exceeded.
fn warning(asked: &[AskedBound], standings: &[Standing]) -> Option<(String, String)> {
    let due = asked.iter().zip(standings).any(|(asked, standing)| {
        let soft = i128::from(standing.limit) * i128::from(asked.soft_ppm) / 1_000_000;
        let spent = i128::from(standing.posted);
        asked.bound.unit() == Unit::Usd
            && ((asked.soft_ppm > 0 && spent >= soft)
                || (asked.bound.mode() == Mode::Watch && spent >= i128::from(standing.limit)))
    });
    if !due {
        return None;
    }
    let mut said = Vec::new();
    for (window, name) in [(Window::Day, "daily"), (Window::Month, "monthly")] {
        // Of several accounts the one that is nearest to its limit speaks.
        let nearest = asked
            .iter()
            .zip(standings)
            .filter(|(asked, _)| asked.bound.window() == window && asked.bound.unit() == Unit::Usd)
            .min_by_key(|(_, standing)| standing.limit.saturating_sub(standing.posted));
        if let Some((_, standing)) = nearest {
            said.push(format!("{name}={}/{}", cents(standing.posted), cents(standing.limit)));
        }
    }
    (!said.is_empty()).then(|| ("X-AgentLedger-Budget-Warning".to_owned(), said.join(" ")))
}

/// Dollars with two decimals, rounded half up.
fn cents(nanos: i64) -> String {
    let cents = (i128::from(nanos) + 5_000_000).div_euclid(10_000_000);
    format!("{}.{:02}", cents / 100, cents % 100)
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
pub struct Guard {
    /// A hard bound stands behind it: without one there is nothing to cut for.
    guarded: bool,
    covered_tokens: u64,
    output_price_picos: i64,
    ratio: Ratio,
}

impl Guard {
    pub fn bind<'h>(&'h mut self, hold: &'h mut Hold) -> Bounded<'h> {
        Bounded { guard: self, hold }
    }
}

/// The hold guarding its stream: extended as the text grows, cut when nothing is left.
pub struct Bounded<'h> {
    guard: &'h mut Guard,
    hold: &'h mut Hold,
}

impl Allowance for Bounded<'_> {
    fn covers(&mut self, text_bytes: u64) -> Result<(), String> {
        self.covers_with(text_bytes, 0)
    }
}

impl Bounded<'_> {
    /// As [`Allowance::covers`], with so many tokens beside the text.
    pub fn covers_with(&mut self, text_bytes: u64, more_tokens: u64) -> Result<(), String> {
        if !self.guard.guarded {
            return Ok(());
        }
        let tokens = self.guard.ratio.tokens(text_bytes).saturating_add(more_tokens);
        while tokens > self.guard.covered_tokens {
            let step = STEP_TOKENS.max(tokens - self.guard.covered_tokens);
            let usd = cost_of(step, self.guard.output_price_picos);
            let asked = Amounts {
                usd,
                tokens: i64::try_from(step).unwrap_or(i64::MAX),
                requests: 0,
            };
            let granted = self
                .hold
                .extend(asked)
                .map_err(|_| "the budget is used up".to_owned())?;
            // The scarcer of money and tokens says how far the extension reaches.
            let by_tokens = u64::try_from(granted.tokens).unwrap_or(0);
            let by_money = match self.guard.output_price_picos {
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
            self.guard.covered_tokens = self.guard.covered_tokens.saturating_add(reach);
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
        || settlement.usage == Usage::default()
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
    if let Some(found) = find(
        &exchange.rules,
        &exchange.way,
        &exchange.inspected.call.model,
        exchange.at_ms,
    ) {
        settlement.cost = found
            .quote
            .cost(&settlement.usage, exchange.inspected.call.service_tier.as_deref());
        let tier = exchange.inspected.call.service_tier.as_deref();
        settlement.price = Some(found.quote.reference(tier));
    }
    settlement.upper_bound = Some(hold.held().max(settlement.cost));
    settlement.estimate_reason = Some(Name::from(reason::CLIENT_GONE));
    settlement
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn warnings_speak_dollars_and_cents() {
        assert_eq!(cents(0), "0.00");
        assert_eq!(cents(40_004_999_999), "40.00");
        assert_eq!(cents(40_005_000_000), "40.01");
        assert_eq!(dollars(1_500_000_000).to_string(), "1.5");
    }
}
