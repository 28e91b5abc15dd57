//! Last step: metrics and one log line an exchange. Neither holds a key or a prompt. What is counted as it happens, on the
//! way through the other steps, is counted here too.

use std::sync::Arc;

use agentledger_ledger::Entry;

use crate::proxy::gateway::{Gateway, Way};
use crate::proxy::reply::Refusal;
use crate::telemetry::Running;

/// Tells that an exchange begins; it runs until the guard is dropped.
pub fn begun(gateway: &Gateway) -> Running {
    gateway.metrics.exchange_started()
}

/// How an upstream failed, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    Connect,
    Timeout,
    Broken,
    BreakerOpen,
}

/// Tells of an upstream that failed, or was not asked because it had.
pub fn upstream_failed(gateway: &Gateway, way: &Way, error: UpstreamError) {
    let kind = match error {
        UpstreamError::Connect => "connect",
        UpstreamError::Timeout => "timeout",
        UpstreamError::Broken => "broken",
        UpstreamError::BreakerOpen => "breaker_open",
    };
    gateway.metrics.upstream_error(&way.name, kind);
}

/// Tells of calls that a way's plugin failed.
pub fn plugin_failed(gateway: &Gateway, way: &Way, count: u32) {
    gateway.metrics.plugin_traps(&way.plugin.dialect.info().name, count);
}

/// Tells of a settled exchange: metrics, the log, and the policies that want to know. One that fails there is counted and
/// changes nothing: the money is spent.
pub fn settled(gateway: &Gateway, entry: Entry, trace: &str) {
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
        trace = (!trace.is_empty()).then_some(trace),
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
