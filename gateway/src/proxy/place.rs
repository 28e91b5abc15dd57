//! Fifth step, second half: the hold is placed on all bounds or on none. Where only others' holds stand in the way it waits
//! for them; where a limit says so, the request's output is clamped to what is left.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentledger_ledger::{BooksError, Bound, Hold, Mode, Name, Obstacle, Standing, Unit, Usd, Window};
use tokio::sync::Notify;

use crate::policy::AskedBound;
use crate::proxy::apply::can_clamp;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Changes;
use crate::proxy::gateway::Gateway;
use crate::proxy::guard::client_left;
use crate::proxy::reply::Refusal;
use crate::proxy::reserve::ledger_stopped;
use crate::proxy::session::stopped;
use crate::proxy::size::Estimate;

/// How often a request that waits for others' holds asks again though none ended: a window may have turned.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// An answer shorter than this is of no use: nothing is clamped below it.
const CLAMPED_TOKENS_MIN: u64 = 16;
/// Each clamp is to the scarcest of what is left; others may take some of it before the next try.
const CLAMPS_MAX: u32 = 8;

/// How long a request waits where only others' holds are in its way, and what ends the wait early.
pub struct Patience<'p> {
    pub longest: Duration,
    /// It may be held back where a policy says so: it has not begun.
    pub delays: bool,
    /// Ends when the client has left.
    pub gone: Pin<&'p mut (dyn Future<Output = ()> + Send)>,
}

impl Patience<'_> {
    /// The same for one of several tries.
    pub fn again(&mut self) -> Patience<'_> {
        Patience {
            longest: self.longest,
            delays: self.delays,
            gone: self.gone.as_mut(),
        }
    }

    /// None at all, where another way is open.
    pub fn none(&mut self) -> Patience<'_> {
        Patience {
            longest: Duration::ZERO,
            ..self.again()
        }
    }
}

/// A hold that was placed, and what the request became for it.
pub struct Placed {
    pub hold: Hold,
    pub estimate: Estimate,
    pub changes: Changes,
    /// The maximum of output that the request was clamped to, to fit what is left.
    pub clamped: Option<u64>,
}

/// Why a request got no hold.
pub struct Missed {
    pub kind: Miss,
    pub refusal: Box<Refusal>,
    /// Whose limit stood in the way; empty where none did.
    pub account: Name,
    /// The budget that is used up.
    pub over: Option<Over>,
}

/// A budget that is used up, and how it stands.
pub struct Over {
    pub window: Window,
    pub unit: Unit,
    pub standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// A budget, now or for good: a cheaper model may fit.
    Budget,
    /// Another rule: for another model there may be another one.
    Rule,
    /// Nothing that another model would change.
    Fatal,
}

impl Missed {
    pub fn new(kind: Miss, refusal: Refusal, account: &str) -> Missed {
        Missed {
            kind,
            refusal: Box::new(refusal),
            account: Name::from(account),
            over: None,
        }
    }

    fn fatal(refusal: Refusal) -> Missed {
        Missed::new(Miss::Fatal, refusal, "")
    }
}

/// Places the hold; where only others' holds stand in the way, waits for them for as long as `patience` says.
pub async fn place(
    gateway: &Gateway,
    exchange: &Exchange,
    mut estimate: Estimate,
    mut changes: Changes,
    asked: &[AskedBound],
    mut patience: Patience<'_>,
) -> Result<Placed, Missed> {
    let facts = Arc::new(exchange.facts());
    let bounds: Vec<Bound> = asked.iter().map(|asked| asked.bound.clone()).collect();
    let waiting_since = Instant::now();
    let (mut clamped, mut clamps) = (None, 0);
    let mut waits_on: Option<(Name, Arc<Notify>)> = None;
    loop {
        // Made before the books are asked: a hold that ends in between is not missed.
        let waiter = waits_on.clone();
        let freed = waiter.as_ref().map(|(_, notify)| notify.notified());
        let permit = gateway.ledger.admit().await;
        let permit = permit.map_err(|error| Missed::fatal(ledger_stopped(&error)))?;
        let basis = Name::from(estimate.basis);
        let reserved = gateway
            .ledger
            .reserve(permit, Arc::clone(&facts), &bounds, estimate.amounts(), &basis);
        let refused = match reserved {
            Ok(hold) => {
                return Ok(Placed {
                    hold,
                    estimate,
                    changes,
                    clamped,
                });
            }
            Err(BooksError::Refused(refused)) => refused,
            Err(error) => {
                tracing::error!(%error, "a hold could not be placed");
                let refusal = Refusal::new(503, "ledger_full", "the ledger has no room for this request");
                return Err(Missed::fatal(refusal.retry_after(1)));
            }
        };
        let in_the_way = asked.get(refused.place);
        if in_the_way.is_some_and(|asked| asked.clamps)
            && clamps < CLAMPS_MAX
            && let Some(most) = affordable(exchange, &estimate, &refused)
        {
            estimate = estimate.clamped_to(exchange, most);
            estimate.basis = "clamped to what is left";
            changes.max_output = Some(most);
            clamped = Some(most);
            clamps += 1;
            continue;
        }
        match refused.obstacle {
            Obstacle::Held if waiting_since.elapsed() < patience.longest => {
                let account = &refused.bound.account;
                let Some(freed) = freed.filter(|_| waiter.as_ref().is_some_and(|(known, _)| known == account)) else {
                    // Notified of it from the next try on.
                    waits_on = Some((Name::clone(account), gateway.ledger.freed(account)));
                    continue;
                };
                tokio::select! {
                    () = freed => {}
                    () = tokio::time::sleep(ASK_AGAIN.min(patience.longest.saturating_sub(waiting_since.elapsed()))) => {}
                    () = patience.gone.as_mut() => return Err(Missed::fatal(client_left())),
                    stop = stopped(gateway, exchange) => return Err(Missed::fatal(stop.refusal())),
                }
            }
            Obstacle::Held => {
                let message = "the budget is held by requests that are running; try again when they have ended";
                let refusal = Refusal::new(429, "budget_held", message)
                    .kind("budget_exceeded")
                    .field("account", refused.bound.account.to_string())
                    .retry_after(2);
                return Err(Missed::new(Miss::Budget, refusal, &refused.bound.account));
            }
            Obstacle::Exceeded => {
                let policy = in_the_way.map(|asked| asked.policy.clone());
                let refusal = exceeded(gateway, &bounds, &refused, &estimate, policy);
                let mut missed = Missed::new(Miss::Budget, refusal, &refused.bound.account);
                missed.over = Some(Over {
                    window: refused.bound.window,
                    unit: refused.bound.unit,
                    standing: refused.standing,
                });
                return Err(missed);
            }
        }
    }
}

/// The maximum of output for each choice with which the request would fit what is left of the bound that refused it. `None`
/// where even a short answer would not, or the request's output cannot be limited.
fn affordable(exchange: &Exchange, estimate: &Estimate, refused: &agentledger_ledger::Refusal) -> Option<u64> {
    if !can_clamp(exchange) {
        return None;
    }
    let left = refused.standing.left();
    let output = match refused.bound.unit {
        Unit::Usd if estimate.output_price_picos > 0 => {
            (left - i128::from(estimate.input_usd.nanos())) * 1_000 / i128::from(estimate.output_price_picos)
        }
        Unit::Tokens => left - i128::from(estimate.input_tokens),
        Unit::Usd | Unit::Requests => return None,
    };
    let choices = u64::from(exchange.inspected.call.choices.max(1));
    let most = u64::try_from(output).ok()? / choices;
    let smaller = most.saturating_mul(choices) < estimate.output_tokens;
    (most >= CLAMPED_TOKENS_MIN && smaller).then_some(most)
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

/// The share of a limit that has been reached, in parts per million, where a warning is due: the highest threshold, or all of
/// a limit that only warns.
pub fn due_share(asked: &AskedBound, standing: &Standing) -> Option<u32> {
    if asked.bound.mode() == Mode::Watch && standing.posted >= standing.limit {
        return Some(1_000_000);
    }
    asked.soft.reached(standing.posted, standing.limit)
}

/// `X-AgentLedger-Budget-Warning: daily=S/L monthly=S/L`, where a soft limit is reached or a watched one is exceeded.
pub fn warning(asked: &[AskedBound], standings: &[Standing]) -> Option<(String, String)> {
    let due = asked
        .iter()
        .zip(standings)
        .any(|(asked, standing)| asked.bound.unit() == Unit::Usd && due_share(asked, standing).is_some());
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
