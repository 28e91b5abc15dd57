//! Last step: metrics and one log line an exchange. Neither holds a key or a prompt.

use std::sync::Arc;

use agentledger_ledger::Entry;

use crate::proxy::gateway::Gateway;
use crate::proxy::reply::Refusal;

/// Tells of a settled exchange: metrics, the log, and the policies that want to know. One that fails there is counted and
/// changes nothing: the money is spent.
pub fn settled(gateway: &Gateway, entry: Entry) {
    gateway.metrics.settled(&entry);
    let (facts, end) = (&entry.facts, &entry.settlement);
    tracing::info!(
        id = %facts.id,
        provider = %facts.provider,
        operation = %facts.operation,
        model = %end.model,
        status = end.status,
        outcome = end.outcome.name(),
        input = end.usage.input_tokens(),
        output = end.usage.output_tokens(),
        cost_usd = %end.cost,
        estimated = end.estimate_reason.as_deref(),
        key = %facts.key,
        agent = %facts.agent,
        session = %facts.session,
        duration_ms = end.duration_ms,
        "exchange"
    );
    gateway.policies.settled(&Arc::new(entry), &gateway.balances);
}

/// Tells of a refusal.
pub fn refused(gateway: &Gateway, provider: &str, refusal: &Refusal) {
    gateway.metrics.refused(provider, &refusal.code);
    tracing::info!(provider, status = refusal.status, code = refusal.code, "refused");
}
