//! Fourth step: the policies decide. Facts in, a merged verdict out; no I/O.

use std::sync::Arc;

use agentledger_ledger::{Inferred, Name, PARENT_TAG};

use crate::policy::record::{Original, RefusedBy};
use crate::policy::{Balances, CallFacts, CostEstimate, Deny, Phase, PolicyFailure, Verdict};
use crate::proxy::alerts::policy_failed;
use crate::proxy::report::{self, Origin};
use crate::proxy::session::progress::LOOP_CODE;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::refusal_text;
use crate::proxy::shared::reply::Refusal;

/// What is known of a request's price when the policies run.
#[derive(Clone, Copy)]
pub struct ExpectedCost {
    pub estimate: CostEstimate,
    /// The model has a price of its own.
    pub priced: bool,
}

/// Who really sends the request: the policies' first phase, before anything is counted on any account.
///
/// # Errors
/// A policy denied the request, or failed.
pub fn bind(gateway: &Gateway, exchange: &mut Exchange) -> Result<(), Refusal> {
    let balances: Arc<dyn Balances> = gateway.balances.clone();
    let models = exchange.models();
    let asked = of_each(&facts(exchange, &models, None), |facts| {
        gateway.policies.tenant(&exchange.rules.policies, facts, &balances)
    });
    drop(models);
    let mut verdict = given(gateway, exchange, Phase::Tenant, None, asked)?;
    report::alerts(gateway, origin(exchange), std::mem::take(&mut verdict.alerts));
    if let Some(deny) = &verdict.deny {
        report::denied(gateway, exchange, &deny.code, RefusedBy::Policy(deny.policy.clone()));
        return Err(denied(deny));
    }
    let (binding, identity) = (verdict.binding, &mut exchange.identity);
    let original = &mut exchange.decision.original;
    let mut bound = Inferred::NONE;
    if let Some(tenant) = binding.tenant {
        exchange.tenant = tenant;
    }
    if let Some(zone) = binding.zone {
        exchange.zone = zone.name().clone();
    }
    let mut put = |to: &mut Name, name: Option<Name>, what: Original, which: Inferred| {
        if let Some(name) = name {
            let was = std::mem::replace(to, name);
            original.push((what, was));
            bound = bound | which;
        }
    };
    put(&mut identity.agent, binding.agent, Original::Agent, Inferred::AGENT);
    put(
        &mut identity.session,
        binding.session,
        Original::Session,
        Inferred::SESSION,
    );
    put(&mut identity.user, binding.user, Original::User, Inferred::USER);
    put(&mut identity.task, binding.task, Original::Task, Inferred::NONE);
    if verdict.tags.iter().any(|(tag, _)| **tag == *PARENT_TAG) {
        bound = bound | Inferred::PARENT;
    }
    identity.inferred = identity.inferred.without(bound);
    exchange.tag(verdict.tags);
    exchange.policies_applied = verdict.policies_applied;
    exchange
        .policies_applied
        .extend(verdict.shadow.iter().map(|shadow| in_shadow(&shadow.policy)));
    Ok(())
}

/// Runs the policies.
///
/// # Errors
/// A policy that fails refuses the request, and is named.
pub fn decide(gateway: &Gateway, exchange: &mut Exchange, expected: ExpectedCost) -> Result<Verdict, Refusal> {
    let balances: Arc<dyn Balances> = gateway.balances.clone();
    let models = exchange.models();
    let asked = of_each(&facts(exchange, &models, Some(expected)), |facts| {
        gateway.policies.request(&exchange.rules.policies, facts, &balances)
    });
    drop(models);
    given(gateway, exchange, Phase::Request, Some(expected), asked)
}

/// What the policies said, once it is noted for the record. Where one failed, that is recorded and the request refused.
fn given(
    gateway: &Gateway,
    exchange: &mut Exchange,
    phase: Phase,
    expected: Option<ExpectedCost>,
    asked: Result<Verdict, PolicyFailure>,
) -> Result<Verdict, Refusal> {
    exchange.note_facts();
    let ExpectedCost { estimate, priced } = expected.unwrap_or(ExpectedCost {
        estimate: CostEstimate::default(),
        priced: true,
    });
    let model = expected.and_then(|_| exchange.rerouted_to());
    let mut note = |verdict: &mut Verdict| {
        exchange
            .decision
            .asked(phase, model.as_deref(), estimate, priced, verdict);
    };
    match asked {
        Ok(mut verdict) => {
            note(&mut verdict);
            Ok(verdict)
        }
        Err(failure) => {
            note(&mut Verdict {
                reads: failure.reads.clone(),
                ..Verdict::default()
            });
            let by = RefusedBy::Failed {
                policy: Name::from(failure.policy.as_str()),
                cause: failure.cause,
            };
            report::denied(gateway, exchange, RefusalCode::PolicyFailed.text(), by);
            Err(failed(gateway, failure))
        }
    }
}

/// Asks about each model that may serve the call: a list of models that are denied is not got around by naming one second,
/// and every model's own limits hold.
fn of_each(
    facts: &CallFacts<'_>,
    ask: impl Fn(&CallFacts<'_>) -> Result<Verdict, PolicyFailure>,
) -> Result<Verdict, PolicyFailure> {
    let mut verdict = ask(facts)?;
    for model in facts.models.iter().filter(|model| **model != *facts.model) {
        if verdict.deny.is_some() {
            break;
        }
        match ask(&CallFacts { model, ..*facts }) {
            Ok(next) => verdict.join(next),
            Err(mut failure) => {
                // What was read about the models before it is part of this evaluation, too.
                failure.reads.follow(verdict.reads);
                return Err(failure);
            }
        }
    }
    Ok(verdict)
}

/// Runs the policies on a call that costs nothing and is not held: they may refuse it, and say something in the head of
/// its answer.
///
/// # Errors
/// A policy denied the request, or failed.
pub fn admit_free(gateway: &Gateway, exchange: &mut Exchange) -> Result<Vec<(String, String)>, Refusal> {
    let balances: Arc<dyn Balances> = gateway.balances.clone();
    let models = exchange.models();
    let asked = of_each(&facts(exchange, &models, None), |facts| {
        gateway.policies.request(&exchange.rules.policies, facts, &balances)
    });
    drop(models);
    let mut verdict = given(gateway, exchange, Phase::Request, None, asked)?;
    report::alerts(gateway, origin(exchange), std::mem::take(&mut verdict.alerts));
    match &verdict.deny {
        Some(deny) => {
            report::denied(gateway, exchange, &deny.code, RefusedBy::Policy(deny.policy.clone()));
            Err(denied(deny))
        }
        None => Ok(verdict.headers),
    }
}

/// What the policies would request of a call of this kind that is billed: it shows a client how its limits stand. Decides nothing.
///
/// # Errors
/// A policy failed.
pub fn outlook(gateway: &Gateway, exchange: &Exchange) -> Result<Verdict, Refusal> {
    let balances: Arc<dyn Balances> = gateway.balances.clone();
    let models = exchange.models();
    let billed = CallFacts {
        free: false,
        ..facts(exchange, &models, None)
    };
    let asked = of_each(&billed, |facts| {
        gateway.policies.request(&exchange.rules.policies, facts, &balances)
    });
    asked.map_err(|failure| failed(gateway, failure))
}

fn facts<'a>(exchange: &'a Exchange, models: &'a [String], expected: Option<ExpectedCost>) -> CallFacts<'a> {
    let call = &exchange.inspected.call;
    let identity = &exchange.identity;
    CallFacts {
        at_ms: exchange.at_ms,
        zone: &exchange.zone,
        provider: &exchange.endpoint.name,
        dialect: &exchange.endpoint.provider.dialect,
        operation: &exchange.operation,
        model: &call.model,
        models,
        any_model: exchange.is_any_model(),
        stream: call.stream,
        max_output: call.max_output,
        key: &identity.key,
        fingerprint: &identity.fingerprint,
        claim: identity.tenant_claim.as_deref().unwrap_or_default(),
        tenant: &exchange.tenant,
        agent: &identity.agent,
        session: &identity.session,
        user: &identity.user,
        task: &identity.task,
        path: &exchange.called_path,
        tags: &identity.tags,
        estimate: expected.map(|expected| expected.estimate).unwrap_or_default(),
        priced: expected.is_none_or(|expected| expected.priced),
        free: !exchange.is_metered(),
        history: exchange.history,
    }
}

/// Whose alerts a request's are.
pub(super) fn origin(exchange: &Exchange) -> Origin<'_> {
    Origin::new(&exchange.tenant)
}

/// A policy failed.
fn failed(gateway: &Gateway, failure: PolicyFailure) -> Refusal {
    policy_failed(gateway, &failure);
    tracing::error!(
        policy = failure.policy,
        message = failure.message,
        "a policy failed; the request is refused"
    );
    let message = format!("policy {} failed; the request is refused", failure.policy);
    Refusal::new(RefusalCode::PolicyFailed, message)
        .field("policy", failure.policy)
        .final_answer()
}

/// How an entry's verdict names a policy that is not enforced.
pub fn in_shadow(policy: &Name) -> Name {
    Name::from(format!("~{policy}"))
}

/// A policy's refusal, in its own words and ours.
pub fn denied(deny: &Deny) -> Refusal {
    let message = match deny.code.as_str() {
        LOOP_CODE => refusal_text::looping(&deny.message),
        _ => refusal_text::denied(&deny.policy, &deny.message, deny.retry_after),
    };
    let refusal = Refusal::foreign(deny.status, &deny.code, message).field("policy", deny.policy.to_string());
    match deny.retry_after {
        Some(seconds) => refusal.retry_after(u64::from(seconds)),
        None => refusal.final_answer(),
    }
}
