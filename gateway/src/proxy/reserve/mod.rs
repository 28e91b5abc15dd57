//! Fifth step, first half: what the policies requested is enforced. A denial ends the request; else it waits where it
//! is to wait, takes its rates and its hold, all or nothing, as it was sent or for another model.

pub mod estimate;
pub mod extend;
pub mod place;
pub mod rates;

use std::time::Duration;

use agentledger_ledger::{Hold, Mode, Name, Unit};

use crate::config::HoldSize;
use crate::plugin::EditPoint;
use crate::policy::record::{Original, RefusedBy};
use crate::policy::{Requested, Route, Verdict, When};
use crate::price::StatedPrice;
use crate::proxy::decide::{decide, denied, in_shadow, origin};
use crate::proxy::report::{self, Budget};
use crate::proxy::reserve::estimate::{HoldEstimate, estimate, unpriced};
use crate::proxy::reserve::extend::StreamAllowance;
use crate::proxy::reserve::place::{HoldRefusal, HoldRefusalKind, PlacedHold, WaitPolicy, place, warning};
use crate::proxy::session::{self, stopped};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::{Changes, Exchange};
use crate::proxy::shared::expected_use::ExpectedUse;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::pricing::find_for;
use crate::proxy::shared::refusal_text;
use crate::proxy::shared::reply::{Code, EXCHANGE_HEADER, Refusal};
use crate::rates::Grant;

/// The tag that says which model was requested, where the request went to another one.
const ROUTED_FROM: &str = "routed_from";

/// What the later steps need: the hold, what it changes in the request, and the headers for the client.
pub struct Reservation {
    pub hold: Hold,
    /// Rates and permits that the request took; its end gives the permits back.
    pub rates: Grant,
    pub changes: Changes,
    pub headers: Vec<(String, String)>,
    pub verdict: Vec<Name>,
    pub allowance: StreamAllowance,
    /// The request's size, as estimated for the hold.
    pub expected: ExpectedUse,
    /// What policies in shadow count, until the exchange ends.
    pub shadow: Vec<Grant>,
}

/// Sizes a call, runs the policies on it and enforces their verdict. Who sends it is known by now.
///
/// # Errors
/// The refusal for the client: nothing is held and no rate is taken then.
pub async fn hold(
    gateway: &Gateway,
    exchange: &mut Exchange,
    patience: WaitPolicy<'_>,
) -> Result<Reservation, Refusal> {
    let estimate = estimate(gateway, exchange)?;
    (exchange.history, exchange.step) = session::begin(gateway, exchange).unzip();
    let verdict = decide(gateway, exchange, estimate.expected())?;
    if let Some(deny) = &verdict.deny {
        session::denied(exchange, &deny.code);
    }
    let spoke = gateway.otlp.as_ref().map(|_| verdict.policies_applied.clone());
    let reserved = reserve(gateway, exchange, estimate, verdict, patience).await;
    if reserved.is_err() {
        exchange.policies_applied.extend(spoke.into_iter().flatten());
    }
    reserved
}

/// Applies the verdict: a denial ends here, a clamp changes the request, the bounds take the hold.
async fn reserve(
    gateway: &Gateway,
    exchange: &mut Exchange,
    estimate: HoldEstimate,
    mut verdict: Verdict,
    mut patience: WaitPolicy<'_>,
) -> Result<Reservation, Refusal> {
    report::alerts(gateway, origin(exchange), std::mem::take(&mut verdict.alerts));
    if let Some(deny) = &verdict.deny {
        report::denied(gateway, exchange, &deny.code, RefusedBy::Policy(deny.policy.clone()));
        return Err(denied(deny));
    }
    let estimate = restated(gateway, exchange, estimate, &mut verdict)?;
    wait(gateway, exchange, verdict.delay, patience.again()).await?;
    exchange.tag(std::mem::take(&mut verdict.tags));
    let routes = std::mem::take(&mut verdict.routes);
    let of = |when: When| routes.iter().find(|route| route.requested.when == when);
    if let Some(route) = of(When::Always) {
        return always_routed(gateway, exchange, estimate, verdict, route, patience).await;
    }
    let Some(route) = of(When::OverBudget) else {
        let only = attempt(gateway, exchange, &estimate, &verdict, patience).await;
        return settled_on(gateway, exchange, only);
    };
    // With another way open nobody waits for others' holds on the first one.
    match attempt(gateway, exchange, &estimate, &verdict, patience.none()).await {
        Err(hold_refusal) if hold_refusal.kind == HoldRefusalKind::Budget => {}
        other => return settled_on(gateway, exchange, other),
    }
    if let Some(reserved) = rerouted(gateway, exchange, route, patience.again()).await? {
        return Ok(reserved);
    }
    let last = attempt(gateway, exchange, &estimate, &verdict, patience).await;
    settled_on(gateway, exchange, last)
}

/// The last word on a request: a refusal is recorded, counted and worth an alert only now that no other way was found.
fn settled_on(
    gateway: &Gateway,
    exchange: &Exchange,
    attempt: Result<Reservation, HoldRefusal>,
) -> Result<Reservation, Refusal> {
    attempt.map_err(|hold_refusal| {
        report_refusal(gateway, exchange, &hold_refusal);
        *hold_refusal.refusal
    })
}

/// Counts a request that got no hold, and notifies of the budget that is used up.
fn report_refusal(gateway: &Gateway, exchange: &Exchange, refused: &HoldRefusal) {
    if refused.account.is_empty() {
        return;
    }
    let (code, by) = (refused.refusal.code.as_str(), refused.by.clone());
    report::denied_on(gateway, exchange, &refused.account, code, by);
    match refused.refusal.code {
        Code::Own(RefusalCode::RateLimited) => gateway.metrics.rate_limited(&exchange.identity.fingerprint),
        Code::Own(RefusalCode::BudgetExceeded) => {
            if let Some(exhausted) = &refused.exhausted {
                let budget = Budget {
                    account: &refused.account,
                    window: exhausted.window,
                    unit: exhausted.unit,
                    spent: exhausted.standing.posted,
                    limit: exhausted.standing.limit,
                };
                report::budget_exceeded(gateway, exchange, &budget);
            }
        }
        _ => {}
    }
}

/// What a policy says of models without a price changes what this one is estimated to cost.
fn restated(
    gateway: &Gateway,
    exchange: &mut Exchange,
    sized: HoldEstimate,
    verdict: &mut Verdict,
) -> Result<HoldEstimate, Refusal> {
    let Some(stated) = verdict.unpriced.take().filter(|_| !sized.priced) else {
        return Ok(sized);
    };
    exchange.unpriced = Some(StatedPrice::new(stated.requested, &exchange.endpoint.name));
    if find_for(exchange, &exchange.inspected.call.model).is_none() {
        let by = RefusedBy::Policy(stated.policy.clone());
        report::denied(gateway, exchange, RefusalCode::UnpricedModel.text(), by);
        return Err(unpriced(&exchange.inspected.call.model).field("policy", stated.policy.to_string()));
    }
    estimate(gateway, exchange)
}

/// A delay that a policy requested. It ends early only with the client or the gateway.
async fn wait(
    gateway: &Gateway,
    exchange: &Exchange,
    delay: Duration,
    patience: WaitPolicy<'_>,
) -> Result<(), Refusal> {
    if delay.is_zero() || !patience.delays {
        return Ok(());
    }
    tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        () = patience.gone => Err(Refusal::client_left()),
        stop = stopped(gateway, exchange) => Err(stop.refusal()),
    }
}

async fn always_routed(
    gateway: &Gateway,
    exchange: &mut Exchange,
    estimate: HoldEstimate,
    verdict: Verdict,
    route: &Requested<Route>,
    mut patience: WaitPolicy<'_>,
) -> Result<Reservation, Refusal> {
    let stays = |alternative: &Name| **alternative == *exchange.inspected.call.model;
    if route.requested.alternatives.first().is_some_and(stays) {
        match attempt(gateway, exchange, &estimate, &verdict, patience.none()).await {
            Err(hold_refusal) if hold_refusal.kind == HoldRefusalKind::Budget => {}
            other => return settled_on(gateway, exchange, other),
        }
    }
    if let Some(reserved) = rerouted(gateway, exchange, route, patience.again()).await? {
        return Ok(reserved);
    }
    let by = RefusedBy::Policy(route.policy.clone());
    report::denied(gateway, exchange, RefusalCode::NoRouteFits.text(), by);
    Err(
        Refusal::new(RefusalCode::NoRouteFits, refusal_text::no_route_fits(&route.policy))
            .field("policy", route.policy.to_string())
            .final_answer(),
    )
}

/// Tries the alternatives in their order. Each is decided on anew, as if the client had requested it: a model that the rules
/// deny is not reached by a detour.
async fn rerouted(
    gateway: &Gateway,
    exchange: &mut Exchange,
    route: &Requested<Route>,
    mut patience: WaitPolicy<'_>,
) -> Result<Option<Reservation>, Refusal> {
    let is_editable = exchange.inspected.edit_point(|point| match point {
        EditPoint::Model(path) => Some(path),
        _ => None,
    });
    if is_editable.is_none() {
        return Ok(None);
    }
    let asked_for = exchange.inspected.call.model.clone();
    let original = (Original::Model, Name::from(asked_for.as_str()));
    exchange.decision.original.push(original);
    for alternative in &route.requested.alternatives {
        if **alternative == *asked_for {
            continue;
        }
        exchange.inspected.call.model = alternative.to_string();
        let is_priced = find_for(exchange, alternative).is_some_and(|found| found.reason.is_none());
        if !is_priced {
            continue;
        }
        let sized = estimate(gateway, exchange)?;
        let verdict = decide(gateway, exchange, sized.expected())?;
        if verdict.deny.is_some() {
            continue;
        }
        let before = (exchange.identity.tags.clone(), exchange.decision.original.clone());
        exchange.tag(verdict.tags.iter().cloned());
        let from = (Name::from(ROUTED_FROM), Name::from(asked_for.as_str()));
        exchange.tag([from]);
        match attempt(gateway, exchange, &sized, &verdict, patience.none()).await {
            Err(hold_refusal) if hold_refusal.kind == HoldRefusalKind::Fatal => return Err(*hold_refusal.refusal),
            Err(_) => (exchange.identity.tags, exchange.decision.original) = before,
            Ok(mut reserved) => {
                report::alerts(gateway, origin(exchange), verdict.alerts);
                reserved.changes.model = Some(alternative.to_string());
                let said = (
                    "X-AgentLedger-Routed".to_owned(),
                    format!("{asked_for} -> {alternative}"),
                );
                reserved.headers.push(said);
                if !reserved.verdict.contains(&route.policy) {
                    reserved.verdict.push(route.policy.clone());
                }
                return Ok(Some(reserved));
            }
        }
    }
    exchange.inspected.call.model = asked_for;
    exchange.decision.original.retain(|(what, _)| *what != Original::Model);
    Ok(None)
}

/// Takes the rates, then the hold. What does not get all gives back what it took.
async fn attempt(
    gateway: &Gateway,
    exchange: &Exchange,
    estimate: &HoldEstimate,
    verdict: &Verdict,
    patience: WaitPolicy<'_>,
) -> Result<Reservation, HoldRefusal> {
    let estimate = begun(exchange, estimate, verdict);
    let mut rates = rates::take(gateway, exchange, verdict, estimate.tokens())?;
    let (estimate, changes) = clamped(exchange, estimate, verdict.clamp)?;
    let placed = place(gateway, exchange, estimate, changes, &verdict.bounds, patience).await?;
    let PlacedHold {
        hold,
        estimate,
        changes,
        clamped,
        reliance,
    } = placed;
    rates.confirm();
    let mut headers = verdict.headers.clone();
    headers.extend(rates::headers(rates.standings()));
    headers.extend(warning(&verdict.bounds, hold.standings()));
    if let Some(clamped) = clamped {
        headers.push(("X-AgentLedger-Clamped".to_owned(), clamped.to_string()));
    }
    headers.push((EXCHANGE_HEADER.to_owned(), exchange.id.to_string()));
    report::thresholds(gateway, exchange, &verdict.bounds, hold.standings());
    report::tightest(gateway, exchange, &verdict.bounds, hold.standings());
    let (shadow, shadow_names) = shadowed(gateway, exchange, verdict, &estimate);
    let mut policies_applied = exchange.policies_applied.clone();
    policies_applied.extend(verdict.policies_applied.iter().cloned());
    policies_applied.extend(shadow_names);
    let hard = verdict.bounds.iter().map(|requested| &requested.bound);
    let hard_units: Vec<Unit> = hard
        .filter(|bound| bound.mode() == Mode::Hard)
        .map(|bound| bound.unit())
        .collect();
    Ok(Reservation {
        allowance: StreamAllowance::new(gateway, exchange, &estimate, &hard_units).relying(reliance),
        expected: estimate.expected_use(),
        verdict: policies_applied,
        hold,
        rates,
        changes,
        headers,
        shadow,
    })
}

/// What the hold begins with. Where a limit shortens answers to what is left, all of it: its answer is told beforehand how long it
/// may be, not cut.
fn begun(exchange: &Exchange, estimate: &HoldEstimate, verdict: &Verdict) -> HoldEstimate {
    let is_auto = exchange.rules.config.hold.size == HoldSize::Auto;
    if is_auto && verdict.bounds.iter().any(|requested| requested.clamps) {
        return HoldEstimate {
            start: None,
            ..estimate.clone()
        };
    }
    estimate.clone().started()
}

/// What the policies in shadow would have done, named for the entry: `~budget@2`, or `~budget@2:budget_exceeded` where it
/// would have refused the request.
fn shadowed(
    gateway: &Gateway,
    exchange: &Exchange,
    verdict: &Verdict,
    estimate: &HoldEstimate,
) -> (Vec<Grant>, Vec<Name>) {
    let (mut grants, mut names) = (Vec::new(), Vec::new());
    for shadow in &verdict.shadow {
        let (policy, requested) = (&shadow.policy, &shadow.verdict);
        let rates = rates::take_from(
            &gateway.shadow_rates,
            gateway.clock.monotonic_ms(),
            requested,
            estimate.tokens(),
        );
        let exceeded = || {
            requested.bounds.iter().any(|requested| {
                let (bound, amount) = (&requested.bound, estimate.amounts().get(requested.bound.unit()));
                bound.mode() == Mode::Hard && gateway.ledger.standing(bound).left() < i128::from(amount)
            })
        };
        let code = match (&requested.deny, &rates) {
            (Some(deny), _) => Some(deny.code.as_str()),
            (None, Err(_)) => Some(RefusalCode::RateLimited.text()),
            (None, Ok(_)) if exceeded() => Some(RefusalCode::BudgetExceeded.text()),
            _ => None,
        };
        let name = in_shadow(policy);
        names.push(match code {
            Some(code) => {
                report::shadow_refused(gateway, exchange, policy, code);
                Name::from(format!("{name}:{code}"))
            }
            None => name,
        });
        if let (Ok(mut grant), None) = (rates, code) {
            grant.confirm();
            grants.push(grant);
        }
    }
    (grants, names)
}

/// A clamp lowers the request's own maximum, or names one where there is none.
fn clamped(
    exchange: &Exchange,
    estimate: HoldEstimate,
    clamp: Option<u64>,
) -> Result<(HoldEstimate, Changes), HoldRefusal> {
    let Some(most) = clamp.filter(|most| estimate.named_output.is_none_or(|named| named > *most)) else {
        return Ok((estimate, Changes::default()));
    };
    if !exchange.inspected.can_clamp() {
        // What cannot be clamped is not let through unclamped.
        let message = "a policy limits the output of this request, and this operation has no such limit";
        let refusal = Refusal::new(RefusalCode::CannotClamp, message).final_answer();
        return Err(HoldRefusal::new(HoldRefusalKind::Rule, refusal, ""));
    }
    let changes = Changes {
        max_output: Some(most),
        model: None,
    };
    Ok((estimate.clamped_to(exchange, most), changes))
}
