//! Fourth step: the policies speak. Facts in, a merged verdict out; no I/O.

use std::sync::Arc;

use crate::policy::{Balances, CallFacts, Deny, Estimate, Verdict};
use crate::proxy::exchange::Exchange;
use crate::proxy::gateway::Gateway;
use crate::proxy::reply::Refusal;

/// Asks the policies. A policy that fails closes the door, and names itself.
pub fn decide(gateway: &Gateway, exchange: &Exchange, estimate: Estimate) -> Result<Verdict, Refusal> {
    let call = &exchange.inspected.call;
    let identity = &exchange.identity;
    let facts = CallFacts {
        at_ms: exchange.at_ms,
        zone: "UTC",
        provider: &exchange.way.provider.name,
        dialect: &exchange.way.provider.dialect,
        operation: &exchange.operation,
        model: &call.model,
        stream: call.stream,
        max_output: call.max_output,
        key: &identity.key,
        fingerprint: &identity.fingerprint,
        tenant: &exchange.tenant,
        agent: &identity.agent,
        session: &identity.session,
        user: &identity.user,
        task: &identity.task,
        path: &exchange.called_path,
        tags: &identity.tags,
        estimate,
        history: exchange.history,
    };
    let balances: Arc<dyn Balances> = gateway.balances.clone();
    let verdict = gateway.policies.request(&facts, &balances).map_err(|failure| {
        tracing::error!(
            policy = failure.policy,
            message = failure.message,
            "a policy failed; the request is refused"
        );
        let message = format!("policy {} failed; the request is refused", failure.policy);
        Refusal::new(503, "policy_failed", message)
            .field("policy", failure.policy)
            .final_answer()
    })?;
    Ok(verdict)
}

/// A policy's refusal, in its own words.
pub fn denied(deny: &Deny) -> Refusal {
    let refusal = Refusal::new(deny.status, &deny.code, deny.message.clone()).field("policy", deny.policy.to_string());
    match deny.retry_after {
        Some(seconds) => refusal.retry_after(u64::from(seconds)),
        None => refusal.final_answer(),
    }
}
