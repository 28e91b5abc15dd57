//! Latencies, and the dearest calls. Both are kept as calls are settled (`agentledger_ledger`'s peaks): an answer adds up at
//! most 768 hours, and reads 100 entries of the journal at most, however many there are.

use agentledger_ledger::rfc3339_ms;

use super::answer::Answer;
use super::params::Params;
use super::rows::{Bucket, ExpensiveRow, LatencyAnswer};
use crate::control::error::RpcError;
use crate::control::ledger_view::LedgerView;
use crate::control::rpc::call::Caller;
use crate::control::state::ControlState;

/// The contract's buckets: from and to, milliseconds.
const BUCKETS: [(&str, u64, u64); 6] = [
    ("<100ms", 0, 100),
    ("100-500ms", 100, 500),
    ("500ms-1s", 500, 1_000),
    ("1-3s", 1_000, 3_000),
    ("3-10s", 3_000, 10_000),
    (">10s", 10_000, u64::MAX),
];
const EXPENSIVE_HOURS: f64 = 168.0;
const EXPENSIVE_ROWS: usize = 10;
const LATENCY_HOURS: f64 = 24.0;

pub(super) fn latency(state: &ControlState, caller: &Caller, params: &Params) -> Result<Answer, RpcError> {
    let tenant = caller.tenant_of(params.text("tenant"))?;
    let (from_ms, to_ms) = params.hours(state.ledger.now_ms(), LATENCY_HOURS);
    state.ledger.flush()?;
    let durations = match &state.ledger {
        LedgerView::Live(ledger) => ledger.durations(from_ms, to_ms, tenant.as_ref()),
        LedgerView::Offline(_) => return Err(RpcError::NoGateway),
    };
    let bucket = |(label, from, to)| Bucket {
        label,
        count: durations.count_between(from, to),
    };
    Answer::json(&LatencyAnswer {
        p50_ms: durations.percentile_ms(500),
        p90_ms: durations.percentile_ms(900),
        p99_ms: durations.percentile_ms(990),
        buckets: BUCKETS.into_iter().map(bucket).collect(),
    })
}

pub(super) fn expensive(state: &ControlState, caller: &Caller, params: &Params) -> Result<Answer, RpcError> {
    let tenant = caller.tenant_of(params.text("tenant"))?;
    let (from_ms, to_ms) = params.hours(state.ledger.now_ms(), EXPENSIVE_HOURS);
    let limit = params.limit(EXPENSIVE_ROWS, agentledger_ledger::DEAREST_MAX);
    state.ledger.flush()?;
    let LedgerView::Live(ledger) = &state.ledger else {
        return Err(RpcError::NoGateway);
    };
    let entries = ledger
        .dearest(from_ms, to_ms, tenant.as_ref(), limit)
        .map_err(RpcError::ledger)?;
    let rows: Vec<ExpensiveRow> = entries
        .iter()
        .map(|entry| ExpensiveRow {
            timestamp: rfc3339_ms(entry.facts.at_ms),
            provider: entry.facts.provider.to_string(),
            model: entry.settlement.model.to_string(),
            agent_id: entry.facts.agent.to_string(),
            input_tokens: entry.settlement.usage.input_tokens(),
            output_tokens: entry.settlement.usage.output_tokens(),
            cost_usd: entry.settlement.cost,
            duration_ms: entry.settlement.duration_ms,
        })
        .collect();
    Answer::list(&rows)
}
