//! Fifth step, second half: the hold is placed on all bounds or on none. Where only others' holds prevent it, it waits
//! for them; where a limit says so, the request's output is clamped to what is left.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{
    Amounts, BooksError, Bound, Facts, Hold, HoldNotes, Mode, Name, Obstacle, Permit, Standing, Unit, Usd, Window,
};
use tokio::sync::Notify;

use crate::policy::RequestedBound;
use crate::policy::record::RefusedBy;
use crate::proxy::reserve::estimate::{HoldEstimate, relying_on_cache};
use crate::proxy::session::stopped;
use crate::proxy::shared::cached_input::Reliance;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::{Changes, Exchange};
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::refusal_text;
use crate::proxy::shared::reply::Refusal;
use crate::timer::Timer;

/// How often a request that waits for others' holds tries again though none ended: a window may have turned.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// An answer shorter than this is of no use: nothing is clamped below it.
const CLAMPED_TOKENS_MIN: u64 = 16;
/// Each clamp is to the scarcest of what is left; others may take some of it before the next try.
const CLAMPS_MAX: u32 = 8;
/// When a refusal for a wrong clock is worth another try, seconds: somebody must set it.
const CLOCK_RETRY_S: u64 = 30;
/// The same for a budget that running requests hold.
const HELD_RETRY_S: u64 = 2;

/// How long a request waits where only others' holds are in its way, and what ends the wait early.
pub struct WaitPolicy<'p> {
    pub longest: Duration,
    /// It may be held back where a policy says so: it has not begun.
    pub delays: bool,
    /// A stream for which not all is left that such streams take begins with a first step.
    pub begins_small: bool,
    /// Ends when the client has left.
    pub gone: Pin<&'p mut (dyn Future<Output = ()> + Send)>,
}

impl WaitPolicy<'_> {
    /// The same for one of several tries.
    pub fn again(&mut self) -> WaitPolicy<'_> {
        WaitPolicy {
            longest: self.longest,
            delays: self.delays,
            begins_small: self.begins_small,
            gone: self.gone.as_mut(),
        }
    }

    /// None at all, where another way is open.
    pub fn none(&mut self) -> WaitPolicy<'_> {
        WaitPolicy {
            longest: Duration::ZERO,
            begins_small: false,
            ..self.again()
        }
    }
}

/// A hold that was placed, and what the request became for it.
pub struct PlacedHold {
    pub hold: Hold,
    pub estimate: HoldEstimate,
    pub changes: Changes,
    /// The maximum of output that the request was clamped to, to fit what is left.
    pub clamped: Option<u64>,
    /// It holds its input as its provider's cache should have it.
    pub reliance: Option<Reliance>,
}

/// Why a request got no hold.
pub struct HoldRefusal {
    pub kind: HoldRefusalKind,
    pub refusal: Box<Refusal>,
    /// Whose limit refused it; empty where none did.
    pub account: Name,
    /// How that limit stood.
    pub by: Option<RefusedBy>,
    /// The budget that is used up.
    pub exhausted: Option<ExhaustedBudget>,
}

/// A budget that is used up, and how it stands.
pub struct ExhaustedBudget {
    pub window: Window,
    pub unit: Unit,
    pub standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldRefusalKind {
    /// A budget, now or for good: a cheaper model may fit.
    Budget,
    /// Another rule: for another model there may be another one.
    Rule,
    /// Nothing that another model would change.
    Fatal,
}

impl HoldRefusal {
    pub fn new(kind: HoldRefusalKind, refusal: Refusal, account: &str) -> HoldRefusal {
        HoldRefusal {
            kind,
            refusal: Box::new(refusal),
            account: Name::from(account),
            by: None,
            exhausted: None,
        }
    }

    fn fatal(refusal: Refusal) -> HoldRefusal {
        HoldRefusal::new(HoldRefusalKind::Fatal, refusal, "")
    }
}

/// Places the hold; where only others' holds prevent it, waits for them for as long as `patience` says.
///
/// # Errors
/// Which limit refused it, or what ended the wait: nothing is held then.
pub async fn place(
    gateway: &Gateway,
    exchange: &Exchange,
    mut estimate: HoldEstimate,
    mut changes: Changes,
    requested: &[RequestedBound],
    mut patience: WaitPolicy<'_>,
) -> Result<PlacedHold, HoldRefusal> {
    let attempt = Attempt::new(gateway, exchange, requested);
    let waiting_since = Timer::start();
    let (mut clamped, mut clamps) = (None, 0);
    let mut waits_on: Option<(Name, Arc<Notify>)> = None;
    loop {
        // Made before the attempt: a hold that ends in between is not missed.
        let waiter = waits_on.clone();
        let freed = waiter.as_ref().map(|(_, notify)| notify.notified());
        let refused = match attempt.reserve(&estimate, &changes, &mut patience).await? {
            Ok(hold) => {
                return Ok(PlacedHold {
                    hold,
                    estimate,
                    changes,
                    clamped,
                    reliance: None,
                });
            }
            Err(refused) => refused,
        };
        if let Some(first_step) = estimate.first_step().filter(|_| patience.begins_small) {
            estimate = first_step;
            continue;
        }
        let refusing = requested.get(refused.place);
        if refusing.is_some_and(|requested| requested.clamps)
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
        let still = match attempt
            .rely_on_cache(&estimate, &changes, refused, &mut patience)
            .await?
        {
            Ok(placed) => return Ok(placed),
            Err(still) => still,
        };
        if still.refused.obstacle == Obstacle::Exceeded || waiting_since.elapsed() >= patience.longest {
            return Err(attempt.refusal_of(&still));
        }
        let Some(freed) = freed.filter(|_| waiter.as_ref().is_some_and(|(known, _)| *known == still.in_way)) else {
            // Notified of it from the next try on.
            let notify = gateway.ledger.freed(&still.in_way);
            waits_on = Some((still.in_way, notify));
            continue;
        };
        tokio::select! {
            () = freed => {}
            () = tokio::time::sleep(RETRY_EVERY.min(patience.longest.saturating_sub(waiting_since.elapsed()))) => {}
            () = patience.gone.as_mut() => return Err(HoldRefusal::fatal(Refusal::client_left())),
            stop = stopped(gateway, exchange) => return Err(HoldRefusal::fatal(stop.refusal())),
        }
    }
}

/// A hold that was not placed, and why.
struct NotPlaced {
    refused: Box<agentledger_ledger::Refusal>,
    estimate: HoldEstimate,
    /// Whose hold is waited for, where waiting may help.
    in_way: Name,
}

/// What stays the same from one try to the next.
struct Attempt<'a> {
    gateway: &'a Gateway,
    exchange: &'a Exchange,
    facts: Arc<Facts>,
    bounds: Vec<Bound>,
    requested: &'a [RequestedBound],
}

impl<'a> Attempt<'a> {
    fn new(gateway: &'a Gateway, exchange: &'a Exchange, requested: &'a [RequestedBound]) -> Attempt<'a> {
        Attempt {
            gateway,
            exchange,
            facts: Arc::new(exchange.facts()),
            bounds: requested.iter().map(|requested| requested.bound.clone()).collect(),
            requested,
        }
    }

    /// One try.
    async fn reserve(
        &self,
        estimate: &HoldEstimate,
        changes: &Changes,
        patience: &mut WaitPolicy<'_>,
    ) -> Result<Result<Hold, Box<agentledger_ledger::Refusal>>, HoldRefusal> {
        let Attempt { gateway, exchange, .. } = self;
        let permit = match gateway.ledger.admit_now() {
            Some(permit) => permit,
            None => admitted(gateway, exchange, patience)
                .await
                .map_err(HoldRefusal::fatal)?,
        };
        let notes = HoldNotes {
            record: exchange.record(&self.facts, changes.max_output, None),
            bill: exchange.tool.as_ref().and_then(|tool| tool.bill),
        };
        let reserved = gateway.ledger.reserve_noted(
            permit,
            Arc::clone(&self.facts),
            &self.bounds,
            estimate.amounts(),
            &Name::from(estimate.basis),
            notes,
        );
        match reserved {
            Ok(hold) => Ok(Ok(hold)),
            Err(BooksError::Refused(refused)) => Ok(Err(refused)),
            Err(error @ BooksError::ClockAhead(_)) => {
                let refusal = Refusal::new(RefusalCode::ClockAhead, error.to_string());
                Err(HoldRefusal::fatal(refusal.retry_after(CLOCK_RETRY_S)))
            }
            Err(error) => {
                tracing::error!(%error, "a hold could not be placed");
                let message = format!("the ledger has no room for this request: {error}");
                let refusal = Refusal::new(RefusalCode::LedgerFull, message);
                Err(HoldRefusal::fatal(refusal.retry_after(1)))
            }
        }
    }

    /// A stream whose input the refusing limit would not pay at the full price, and of which most should be read from a cache, is
    /// held at what that costs: one at a time on each of its limits.
    async fn rely_on_cache(
        &self,
        estimate: &HoldEstimate,
        changes: &Changes,
        mut refused: Box<agentledger_ledger::Refusal>,
        patience: &mut WaitPolicy<'_>,
    ) -> Result<Result<PlacedHold, NotPlaced>, HoldRefusal> {
        let is_paid = refused.bound.unit == Unit::Usd && patience.begins_small;
        let relying = is_paid.then(|| relying_on_cache(self.gateway, self.exchange, estimate));
        let Some(estimate) = relying.flatten() else {
            let in_way = Name::clone(&refused.bound.account);
            let estimate = estimate.clone();
            return Ok(Err(NotPlaced {
                refused,
                estimate,
                in_way,
            }));
        };
        let limits = self.bounds.iter();
        let paid = limits.filter(|bound| bound.mode() == Mode::Hard && bound.unit() == Unit::Usd);
        let reliance = match self
            .gateway
            .cached_input
            .rely(paid.map(|bound| bound.account().clone()))
        {
            Ok(reliance) => reliance,
            Err(in_way) => {
                // When that one's input is known, this one may do the same.
                refused.obstacle = Obstacle::Held;
                return Ok(Err(NotPlaced {
                    refused,
                    estimate,
                    in_way,
                }));
            }
        };
        Ok(match self.reserve(&estimate, changes, patience).await? {
            Ok(hold) => Ok(PlacedHold {
                hold,
                estimate,
                changes: changes.clone(),
                clamped: None,
                reliance: Some(reliance),
            }),
            Err(refused) => {
                let in_way = Name::clone(&refused.bound.account);
                Err(NotPlaced {
                    refused,
                    estimate,
                    in_way,
                })
            }
        })
    }

    fn refusal_of(&self, not: &NotPlaced) -> HoldRefusal {
        let refusing = self.requested.get(not.refused.place);
        let policy = refusing.map(|requested| requested.policy.clone());
        refusal_of(
            self.gateway,
            self.exchange,
            &self.bounds,
            &not.refused,
            &not.estimate,
            policy,
        )
    }
}

/// A permit of the journal's queue. A queue that stays full, or a disk that hangs, keeps no request for long, and none whose
/// client has left.
async fn admitted(gateway: &Gateway, exchange: &Exchange, patience: &mut WaitPolicy<'_>) -> Result<Permit, Refusal> {
    let longest = Duration::from_millis(exchange.rules.config.limits.admission_wait_ms);
    tokio::select! {
        permit = gateway.ledger.admit() => permit.map_err(|error| Refusal::ledger_stopped(&error)),
        () = tokio::time::sleep(longest) => {
            let message = "the ledger does not keep up; try again";
            Err(Refusal::new(RefusalCode::LedgerBusy, message).retry_after(1))
        }
        () = patience.gone.as_mut() => Err(Refusal::client_left()),
        stop = stopped(gateway, exchange) => Err(stop.refusal()),
    }
}

/// Why a request whose wait is over, or would be in vain, gets no hold.
fn refusal_of(
    gateway: &Gateway,
    exchange: &Exchange,
    bounds: &[Bound],
    refused: &agentledger_ledger::Refusal,
    estimate: &HoldEstimate,
    policy: Option<Name>,
) -> HoldRefusal {
    let account = &refused.bound.account;
    let by = RefusedBy::Budget {
        policy: policy.clone().unwrap_or_else(|| Name::from("")),
        bound: refused.bound.clone(),
        posted: refused.standing.posted,
        held: refused.standing.held,
        requested: refused.requested,
        is_held: refused.obstacle == Obstacle::Held,
    };
    let hold_refusal = match refused.obstacle {
        Obstacle::Held => {
            let message = refusal_text::held_budget(refused, most_of(refused, estimate), &exchange.rules.aliases());
            let refusal = Refusal::new(RefusalCode::BudgetHeld, message)
                .kind("budget_exceeded")
                .field("account", account.to_string())
                .retry_after(HELD_RETRY_S);
            HoldRefusal::new(HoldRefusalKind::Budget, refusal, account)
        }
        Obstacle::Exceeded => {
            let refusal = exceeded(gateway, exchange, bounds, refused, estimate, policy);
            let mut hold_refusal = HoldRefusal::new(HoldRefusalKind::Budget, refusal, account);
            hold_refusal.exhausted = Some(ExhaustedBudget {
                window: refused.bound.window,
                unit: refused.bound.unit,
                standing: refused.standing,
            });
            hold_refusal
        }
    };
    HoldRefusal {
        by: Some(by),
        ..hold_refusal
    }
}

/// The maximum of output for each choice with which the request would fit what is left of the bound that refused it. `None`
/// where even a short answer would not, or the request's output cannot be limited.
fn affordable(exchange: &Exchange, estimate: &HoldEstimate, refused: &agentledger_ledger::Refusal) -> Option<u64> {
    if !exchange.inspected.can_clamp() {
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

/// What a request may take in the end of the unit that the refusing bound counts.
fn most_of(refused: &agentledger_ledger::Refusal, estimate: &HoldEstimate) -> i64 {
    let most = Amounts::of_request(estimate.expected_use().most, estimate.most_tokens());
    most.get(refused.bound.unit)
}

/// The contract's refusal: what is spent and what the limits are, by day and month.
fn exceeded(
    gateway: &Gateway,
    exchange: &Exchange,
    bounds: &[Bound],
    refused: &agentledger_ledger::Refusal,
    estimate: &HoldEstimate,
    policy: Option<Name>,
) -> Refusal {
    let over_already = refused.standing.posted >= refused.standing.limit;
    let message = refusal_text::over_budget(
        refused,
        most_of(refused, estimate),
        policy.as_deref().unwrap_or_default(),
        &exchange.rules.aliases(),
    );
    let mut refusal = Refusal::new(RefusalCode::BudgetExceeded, message)
        .kind("budget_exceeded")
        .resets_at(refused.standing.period.resets_at_ms(), gateway.clock.now_ms())
        .final_answer();
    if !over_already && refused.bound.unit == Unit::Usd {
        refusal = refusal
            .field("estimated_cost", dollars(estimate.expected_use().whole.nanos()))
            .field("hold", dollars(refused.requested));
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
pub fn warning(requested: &[RequestedBound], standings: &[Standing]) -> Option<(String, String)> {
    let due = requested
        .iter()
        .zip(standings)
        .any(|(requested, standing)| requested.bound.unit() == Unit::Usd && requested.due_share(standing).is_some());
    if !due {
        return None;
    }
    let mut said = Vec::new();
    for (window, name) in [(Window::Day, "daily"), (Window::Month, "monthly")] {
        // Of several accounts the one that is nearest to its limit speaks.
        let nearest = requested
            .iter()
            .zip(standings)
            .filter(|(requested, _)| requested.bound.window() == window && requested.bound.unit() == Unit::Usd)
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
