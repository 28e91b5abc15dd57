//! The methods that read the ledger: between its types and those of the wire.

use agentledger_ledger::clock::{Clock, SystemClock};
use agentledger_ledger::ledger::EntryQuery;
use agentledger_ledger::rollup::{SummaryQuery, SummaryRow};
use agentledger_ledger::{Name, rfc3339_ms};
use serde_json::value::{RawValue, to_raw_value};

use super::params::{self, LAST_DEFAULT, Span};
use super::rpc::RpcError;
use super::{ControlState, wire};

/// Entries in one answer.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

fn now_ms() -> i64 {
    SystemClock::default().now_ms()
}

fn name(text: String) -> Option<Name> {
    (!text.is_empty()).then(|| Name::from(text))
}

fn failed(error: impl ToString) -> RpcError {
    RpcError::LedgerFailed(error.to_string())
}

pub(super) fn summary(state: &ControlState, asked: wire::SummaryParams) -> Result<wire::Summary, RpcError> {
    let span = Span { last: asked.last.as_deref(), from: asked.from.as_deref(), to: asked.to.as_deref() };
    let (from_ms, to_ms) = params::span(span, now_ms(), Some(LAST_DEFAULT)).map_err(RpcError::InvalidParams)?;
    let by = params::dimension(&asked.by);
    let query = SummaryQuery { from_ms, to_ms, by: by.clone(), tenant: name(asked.tenant) };
    let mut rows: Vec<wire::CostRow> = state.ledger.summary(&query).into_iter().map(row).collect();
    // Dearest first; equal ones always in the same order.
    rows.sort_by(|a, b| b.cost_usd.cmp(&a.cost_usd).then_with(|| names(a).cmp(&names(b))));
    Ok(wire::Summary { from: rfc3339_ms(from_ms), to: rfc3339_ms(to_ms), by: params::dimension_name(&by), rows })
}

fn names(row: &wire::CostRow) -> [&str; 7] {
    [&row.provider, &row.model, &row.key, &row.agent, &row.session, &row.user, &row.tag]
}

fn row(row: SummaryRow) -> wire::CostRow {
    wire::CostRow {
        provider: row.provider.to_string(),
        model: row.model.to_string(),
        key: row.key.to_string(),
        agent: row.agent.to_string(),
        session: row.session.to_string(),
        user: row.user.to_string(),
        tag: row.tag.to_string(),
        requests: row.requests,
        errors: row.errors,
        estimated: row.estimated,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        usage: row.usage,
        cost_usd: row.cost,
        held_usd: row.held,
        overage_usd: row.overage,
    }
}

pub(super) fn query(state: &ControlState, asked: wire::QueryParams) -> Result<wire::Entries, RpcError> {
    let span = Span { last: asked.last.as_deref(), from: asked.from.as_deref(), to: asked.to.as_deref() };
    let (from_ms, to_ms) = params::span(span, now_ms(), None).map_err(RpcError::InvalidParams)?;
    let limit = asked.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(RpcError::InvalidParams(format!("limit must be 1 to {LIMIT_MAX}")));
    }
    let after = asked.cursor.map(|cursor| cursor.parse::<u64>()).transpose();
    let query = EntryQuery {
        from_ms,
        to_ms,
        provider: name(asked.provider),
        model: name(asked.model),
        key: name(asked.key),
        tenant: name(asked.tenant),
        agent: name(asked.agent),
        session: name(asked.session),
        user: name(asked.user),
        limit,
        after: after.map_err(|_| RpcError::InvalidParams("cursor: not one that an answer gave".to_owned()))?,
    };
    let page = state.ledger.entries(&query).map_err(failed)?;
    let entries: Result<Vec<Box<RawValue>>, _> = page.entries.iter().map(|(_, entry)| to_raw_value(entry)).collect();
    Ok(wire::Entries { entries: entries.map_err(failed)?, next: page.next.map(|next| next.to_string()) })
}

pub(super) fn verify(_state: &ControlState, _asked: wire::VerifyParams) -> Result<wire::Verified, RpcError> {
    Err(RpcError::NotFound("x".into()))
}
