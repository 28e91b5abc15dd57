//! Fifth step, first half: what the policies asked for is made to hold. A denial ends the request; else it waits where it
//! is to wait, takes its rates and its hold, all or nothing, as it was asked or on its way to another model.

use std::time::Duration;

use agentledger_ledger::{Hold, Mode, Name};

use crate::plugin::EditPoint;
use crate::policy::{Asked, Route, Verdict, When};
use crate::proxy::decide::{decide, denied, in_shadow};
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Changes;
use crate::proxy::gateway::Gateway;
use crate::proxy::guard::client_left;
use crate::proxy::place::{Miss, Missed, Patience, Placed, place, warning};
use crate::proxy::price::{StatedPrice, find_for};
use crate::proxy::reply::Refusal;
use crate::proxy::reserve::Guard;
use crate::proxy::session::stopped;
use crate::proxy::size::{Estimate, estimate, unpriced};
use crate::proxy::{rated, report, session};
use crate::rates::Grant;

/// The tag that says which model was asked for, where the request went to another one.
const ROUTED_FROM: &str = "routed_from";

/// What the later steps need: the hold, what it changes in the request, and what the client is told.
pub struct Reserved {
    pub hold: Hold,
    /// Rates and places that the request took; its end gives the places back.
    pub rates: Grant,
    pub changes: Changes,
    pub headers: Vec<(String, String)>,
    pub verdict: Vec<Name>,
    pub allowance: Guard,
    /// The request's input as estimated for the hold.
    pub input_tokens: u64,
    /// What policies in shadow count, until the exchange ends.
    pub shadow: Vec<Grant>,
}

/// Sizes a call, asks the policies about it and makes their verdict hold. Who asks is known by now.
pub async fn hold(gateway: &Gateway, exchange: &mut Exchange, patience: Patience<'_>) -> Result<Reserved, Refusal> {
    let estimate = estimate(gateway, exchange)?;
    (exchange.history, exchange.step) = session::begin(gateway, exchange).unzip();
    let verdict = decide(gateway, exchange, estimate.expected())?;
    if let Some(deny) = &verdict.deny {
        session::denied(exchange, &deny.code);
    }
    reserve(gateway, exchange, estimate, verdict, patience).await
}

/// Applies the verdict: a denial ends here, a clamp changes the request, the bounds take the hold.
async fn reserve(
    gateway: &Gateway,
    exchange: &mut Exchange,
    estimate: Estimate,
    mut verdict: Verdict,
    mut patience: Patience<'_>,
) -> Result<Reserved, Refusal> {
    report::alerts(gateway, std::mem::take(&mut verdict.alerts));
    if let Some(deny) = &verdict.deny {
        report::denied(gateway, exchange, &deny.code);
        return Err(denied(deny));
    }
    let estimate = restated(gateway, exchange, estimate, &mut verdict)?;
    wait(gateway, exchange, verdict.delay, patience.again()).await?;
    exchange.identity.tags.extend(std::mem::take(&mut verdict.tags));
    let routes = std::mem::take(&mut verdict.routes);
    let of = |when: When| routes.iter().find(|route| route.asked.when == when);
    if let Some(route) = of(When::Always) {
        return always_routed(gateway, exchange, estimate, verdict, route, patience).await;
    }
    let Some(route) = of(When::OverBudget) else {
        let only = attempt(gateway, exchange, &estimate, &verdict, patience).await;
        return settled_on(gateway, exchange, only);
    };
    // With another way open nobody waits for others' holds on the first one.
    match attempt(gateway, exchange, &estimate, &verdict, patience.none()).await {
        Err(missed) if missed.kind == Miss::Budget => {}
        other => return settled_on(gateway, exchange, other),
    }
    if let Some(reserved) = rerouted(gateway, exchange, route, patience.again()).await? {
        return Ok(reserved);
    }
    let last = attempt(gateway, exchange, &estimate, &verdict, patience).await;
    settled_on(gateway, exchange, last)
}

/// The last word on a request: a refusal is told, counted and worth an alert only now that no other way was found.
fn settled_on(gateway: &Gateway, exchange: &Exchange, attempt: Result<Reserved, Missed>) -> Result<Reserved, Refusal> {
    attempt.map_err(|missed| {
        report::missed(gateway, exchange, &missed);
        *missed.refusal
    })
}

/// What a policy says of models without a price changes what this one is estimated to cost.
fn restated(
    gateway: &Gateway,
    exchange: &mut Exchange,
    sized: Estimate,
    verdict: &mut Verdict,
) -> Result<Estimate, Refusal> {
    let Some(stated) = verdict.unpriced.take().filter(|_| !sized.priced) else {
        return Ok(sized);
    };
    exchange.unpriced = Some(StatedPrice::new(stated.asked, &exchange.way.name));
    if find_for(exchange, &exchange.inspected.call.model).is_none() {
        report::denied(gateway, exchange, "unpriced_model");
        return Err(unpriced(&exchange.inspected.call.model).field("policy", stated.policy.to_string()));
    }
    estimate(gateway, exchange)
}

/// A delay that a policy asked for. It ends early only with the client or the gateway.
async fn wait(gateway: &Gateway, exchange: &Exchange, delay: Duration, patience: Patience<'_>) -> Result<(), Refusal> {
    if delay.is_zero() || !patience.delays {
        return Ok(());
    }
    tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        () = patience.gone => Err(client_left()),
        stop = stopped(gateway, exchange) => Err(stop.refusal()),
    }
}

async fn always_routed(
    gateway: &Gateway,
    exchange: &mut Exchange,
    estimate: Estimate,
    verdict: Verdict,
    route: &Asked<Route>,
    mut patience: Patience<'_>,
) -> Result<Reserved, Refusal> {
    let stays = |alternative: &Name| **alternative == *exchange.inspected.call.model;
    if route.asked.alternatives.first().is_some_and(stays) {
        match attempt(gateway, exchange, &estimate, &verdict, patience.none()).await {
            Err(missed) if missed.kind == Miss::Budget => {}
            other => return settled_on(gateway, exchange, other),
        }
    }
    if let Some(reserved) = rerouted(gateway, exchange, route, patience.again()).await? {
        return Ok(reserved);
    }
    report::denied(gateway, exchange, "no_route_fits");
    let message = "no model that the rules route this request to is priced, allowed and within its budgets";
    Err(Refusal::new(429, "no_route_fits", message)
        .field("policy", route.policy.to_string())
        .final_answer())
}

/// Tries the alternatives in their order. Each is decided on anew, as if the client had asked for it: a model that the rules
/// deny is not reached by a detour.
async fn rerouted(
    gateway: &Gateway,
    exchange: &mut Exchange,
    route: &Asked<Route>,
    mut patience: Patience<'_>,
) -> Result<Option<Reserved>, Refusal> {
    let is_editable = exchange.inspected.edit_point(|point| match point {
        EditPoint::Model(path) => Some(path),
        _ => None,
    });
    if is_editable.is_none() {
        return Ok(None);
    }
    let asked_for = exchange.inspected.call.model.clone();
    for alternative in &route.asked.alternatives {
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
        let before = exchange.identity.tags.clone();
        exchange.identity.tags.extend(verdict.tags.iter().cloned());
        let from = (Name::from(ROUTED_FROM), Name::from(asked_for.as_str()));
        exchange.identity.tags.extend([from]);
        match attempt(gateway, exchange, &sized, &verdict, patience.none()).await {
            Err(missed) if missed.kind == Miss::Fatal => return Err(*missed.refusal),
            Err(_) => exchange.identity.tags = before,
            Ok(mut reserved) => {
                report::alerts(gateway, verdict.alerts);
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
    Ok(None)
}

/// Takes the rates, then the hold. What does not get all gives back what it took.
async fn attempt(
    gateway: &Gateway,
    exchange: &Exchange,
    estimate: &Estimate,
    verdict: &Verdict,
    patience: Patience<'_>,
) -> Result<Reserved, Missed> {
    let tokens = estimate.tokens();
    let mut rates = rated::take(gateway, verdict, tokens)?;
    let (estimate, changes) = clamped(exchange, estimate.clone(), verdict.clamp)?;
    let placed = place(gateway, exchange, estimate, changes, &verdict.bounds, patience).await?;
    let Placed {
        hold,
        estimate,
        changes,
        clamped,
    } = placed;
    rates.confirm();
    let mut headers = verdict.headers.clone();
    headers.extend(rated::headers(rates.standings()));
    headers.extend(warning(&verdict.bounds, hold.standings()));
    if let Some(clamped) = clamped {
        headers.push(("X-AgentLedger-Clamped".to_owned(), clamped.to_string()));
    }
    headers.push(("X-AgentLedger-Exchange".to_owned(), exchange.id.to_string()));
    report::thresholds(gateway, exchange, &verdict.bounds, hold.standings());
    let (shadow, shadow_names) = shadowed(gateway, exchange, verdict, &estimate);
    let mut spoke = exchange.spoke.clone();
    spoke.extend(verdict.spoke.iter().cloned());
    spoke.extend(shadow_names);
    let guarded = verdict.bounds.iter().any(|asked| asked.bound.mode() == Mode::Hard);
    Ok(Reserved {
        allowance: Guard::new(gateway, exchange, &estimate, guarded),
        input_tokens: estimate.input_tokens,
        verdict: spoke,
        hold,
        rates,
        changes,
        headers,
        shadow,
    })
}

/// What the policies in shadow would have done, named for the entry: `~budget@2`, or `~budget@2:budget_exceeded` where it
/// would have refused the request.
fn shadowed(gateway: &Gateway, exchange: &Exchange, verdict: &Verdict, estimate: &Estimate) -> (Vec<Grant>, Vec<Name>) {
    let (mut grants, mut names) = (Vec::new(), Vec::new());
    for shadow in &verdict.shadow {
        let (policy, asked) = (&shadow.policy, &shadow.verdict);
        let rates = rated::take_from(
            &gateway.shadow_rates,
            gateway.clock.monotonic_ms(),
            asked,
            estimate.tokens(),
        );
        let exceeded = || {
            asked.bounds.iter().any(|asked| {
                let (bound, amount) = (&asked.bound, estimate.amounts().get(asked.bound.unit()));
                bound.mode() == Mode::Hard && gateway.ledger.standing(bound).left() < i128::from(amount)
            })
        };
        let code = match (&asked.deny, &rates) {
            (Some(deny), _) => Some(deny.code.as_str()),
            (None, Err(_)) => Some(rated::CODE),
            (None, Ok(_)) if exceeded() => Some("budget_exceeded"),
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
fn clamped(exchange: &Exchange, estimate: Estimate, clamp: Option<u64>) -> Result<(Estimate, Changes), Missed> {
    let Some(most) = clamp.filter(|most| estimate.named_output.is_none_or(|named| named > *most)) else {
        return Ok((estimate, Changes::default()));
    };
    if !can_clamp(exchange) {
        // What cannot be clamped is not let through unclamped.
        let message = "a policy limits the output of this request, and this operation has no such limit";
        let refusal = Refusal::new(403, "cannot_clamp", message).final_answer();
        return Err(Missed::new(Miss::Rule, refusal, ""));
    }
    let changes = Changes {
        max_output: Some(most),
        model: None,
    };
    Ok((estimate.clamped_to(exchange, most), changes))
}

pub fn can_clamp(exchange: &Exchange) -> bool {
    let editable = exchange.inspected.edit_point(|point| match point {
        EditPoint::MaxOutput(path) => Some(path),
        _ => None,
    });
    editable.is_some()
}
