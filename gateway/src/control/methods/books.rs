//! The methods that read the ledger: between its types and those of the wire.

use std::collections::BTreeMap;

use agentledger_ledger::{
    AdjustmentQuery, AdjustmentRow, Cursor, Dimension, Entry, EntryQuery, Hash, Head, Name, Report, SummaryQuery,
    rfc3339_ms,
};
use serde_json::value::{RawValue, to_raw_value};

use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::key_names::key_of;
use crate::control::ledger_view::{LedgerView, now_ms};
use crate::control::methods::filtered::{self, filters};
use crate::control::rows::cost_row;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::{self, LAST_DEFAULT, Span};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::verifications::note;
use crate::control::wire;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "ledger.summary",
            Role::Read,
            Scope::Tenant,
            "Sums of entries by one dimension, dearest first.",
            r#"{"last": "7d", "by": "model"}"#,
        ),
        summary,
    )?;
    table.add(
        Method::new(
            "ledger.query",
            Role::Read,
            Scope::Tenant,
            "Entries in the order in which they were settled, page by page.",
            r#"{"last": "24h", "limit": 10}"#,
        ),
        query,
    )?;
    table.add(
        Method::new(
            "ledger.adjustments",
            Role::Read,
            Scope::Tenant,
            "Corrections of the entries of a stretch of time, oldest first.",
            r#"{"last": "30d", "limit": 10}"#,
        ),
        adjustments,
    )?;
    table.add(
        Method::new(
            "ledger.verify",
            Role::Read,
            Scope::Whole,
            "Walks the journal and its hash chain.",
            r#"{}"#,
        ),
        verify,
    )
}

/// Pages of the journal that one answer looks through for what its filters let pass.
const SCAN_PAGES_MAX: usize = 64;
/// Entries in one answer.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(in crate::control) fn summary(
    state: &ControlState,
    call: &Call,
    asked: wire::SummaryParams,
) -> Result<wire::Summary, RpcError> {
    let span = Span::new(&asked.last, &asked.from, &asked.to);
    let range = span.ms(now_ms(), Some(LAST_DEFAULT))?;
    let filters = filters!(state, call, asked)?;
    state.ledger.flush()?;
    let by = params::dimension(&asked.by);
    let (mut rows, whole) = filtered::summary(state, range, &by, &filters)?;
    ranked(state, &by, &mut rows);
    rows.truncate(asked.limit.unwrap_or(usize::MAX));
    Ok(wire::Summary {
        from: rfc3339_ms(range.0),
        to: rfc3339_ms(range.1),
        by: params::dimension_name(&by),
        rows,
        total: whole.total,
        since: whole.since_ms.map(rfc3339_ms),
    })
}

/// Sums of what is on disk, dearest first, with the word for what they are by.
pub(in crate::control) fn costs(
    state: &ControlState,
    (from_ms, to_ms): (i64, i64),
    by: &str,
    tenant: Option<Name>,
) -> (String, Vec<wire::CostRow>) {
    let by = params::dimension(by);
    let query = SummaryQuery {
        from_ms,
        to_ms,
        by: by.clone(),
        tenant,
    };
    let mut rows: Vec<wire::CostRow> = state.ledger.summary(&query).into_iter().map(cost_row).collect();
    ranked(state, &by, &mut rows);
    (params::dimension_name(&by), rows)
}

/// Dearest first, equal ones always in the same order, and keys with what they are now.
fn ranked(state: &ControlState, by: &Dimension, rows: &mut [wire::CostRow]) {
    if *by == Dimension::Key {
        let links: BTreeMap<Name, Name> = state.ledger.links().into_iter().collect();
        for row in rows.iter_mut() {
            let key = links.get(row.key.as_str());
            row.key_now = key.map(ToString::to_string).unwrap_or_default();
        }
    }
    rows.sort_by(|a, b| b.cost_usd.cmp(&a.cost_usd).then_with(|| names(a).cmp(&names(b))));
}

fn names(row: &wire::CostRow) -> [&str; 9] {
    [
        &row.provider,
        &row.model,
        &row.key,
        &row.agent,
        &row.session,
        &row.user,
        &row.task,
        &row.tenant,
        &row.tag,
    ]
}

pub(in crate::control) fn query(
    state: &ControlState,
    call: &Call,
    mut asked: wire::QueryParams,
) -> Result<wire::Entries, RpcError> {
    asked.tenant = call.caller.tenant_of(&asked.tenant)?.unwrap_or_default().to_string();
    asked.key = key_of(state, &call.caller, &asked.key);
    let span = Span::new(&asked.last, &asked.from, &asked.to);
    let (from_ms, to_ms) = span.ms(now_ms(), None)?;
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let cursor = asked.cursor.as_deref().map(str::parse::<Cursor>).transpose();
    let after = cursor.map_err(|_| RpcError::InvalidParams("cursor: not one that an answer gave".to_owned()))?;
    state.ledger.flush()?;
    let mut query = EntryQuery {
        from_ms,
        to_ms,
        limit,
        after,
    };
    let mut entries: Vec<Box<RawValue>> = Vec::new();
    for _ in 0..SCAN_PAGES_MAX {
        query.limit = limit.saturating_sub(entries.len()).max(1);
        let page = state.ledger.entries(&query).map_err(RpcError::ledger)?;
        for entry in page.entries.iter().filter(|entry| passes(&asked, entry)) {
            entries.push(to_raw_value(entry).map_err(RpcError::ledger)?);
        }
        query.after = page.next;
        // Ever smaller pages to fill up the last places would cost more than one more call.
        if page.next.is_none() || entries.len() > limit / 2 {
            break;
        }
    }
    Ok(wire::Entries {
        entries,
        next: query.after.map(|next| next.to_string()),
    })
}

fn passes(asked: &wire::QueryParams, entry: &Entry) -> bool {
    let facts = &entry.facts;
    [
        (&asked.provider, &facts.provider),
        (&asked.model, &entry.settlement.model),
        (&asked.key, &facts.key),
        (&asked.tenant, &facts.tenant),
        (&asked.agent, &facts.agent),
        (&asked.session, &facts.session),
        (&asked.user, &facts.user),
    ]
    .iter()
    .all(|(wanted, is)| wanted.is_empty() || ***is == **wanted)
}

pub(in crate::control) fn adjustments(
    state: &ControlState,
    call: &Call,
    asked: wire::AdjustmentsParams,
) -> Result<wire::Adjustments, RpcError> {
    let tenant = call.caller.tenant_of(&asked.tenant)?;
    let (from_ms, to_ms) = Span::new(&asked.last, &asked.from, &asked.to).ms(now_ms(), None)?;
    let query = AdjustmentQuery {
        from_ms,
        to_ms,
        limit: params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?,
        after: asked.after.unwrap_or(0),
    };
    state.ledger.flush()?;
    let found = state.ledger.adjustments(&query).map_err(RpcError::ledger)?;
    let next = found
        .last()
        .filter(|_| found.len() >= query.limit)
        .map(|last| last.sequence);
    let is_seen = |found: &AdjustmentRow| tenant.as_ref().is_none_or(|tenant| found.facts.tenant == *tenant);
    Ok(wire::Adjustments {
        adjustments: found.into_iter().filter(is_seen).map(adjustment).collect(),
        next,
    })
}

fn adjustment(found: AdjustmentRow) -> wire::Adjustment {
    let facts = &found.facts;
    wire::Adjustment {
        sequence: found.sequence,
        at: rfc3339_ms(found.at_ms),
        entry: found.id.to_string(),
        entry_at: rfc3339_ms(facts.at_ms),
        usd: found.amounts.usd,
        reason: found.reason.to_string(),
        provider: facts.provider.to_string(),
        model: found.model.to_string(),
        key: facts.key.to_string(),
        tenant: facts.tenant.to_string(),
        agent: facts.agent.to_string(),
        session: facts.session.to_string(),
        user: facts.user.to_string(),
        task: facts.task.to_string(),
        tags: facts
            .tags
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
    }
}

pub(in crate::control) fn verify(
    state: &ControlState,
    _: &Call,
    asked: wire::VerifyParams,
) -> Result<wire::Verified, RpcError> {
    let expect = expected(asked.expect.as_deref()).map_err(RpcError::InvalidParams)?;
    state.ledger.flush()?;
    let report = state.ledger.verify(expect).map_err(RpcError::ledger)?;
    let mut verified = verified(&report);
    if let LedgerView::Live(ledger) = &state.ledger {
        note(ledger, &report, ledger.now_ms()).map_err(RpcError::ledger)?;
    }
    if let Some(first) = verified.damage.first() {
        state.data_plane.damaged(&format!("the journal is damaged: {first}"));
    }
    if let Some(reason) = state.ledger.health().and_then(|health| health.stopped) {
        verified.ok = false;
        verified.damage.push(format!("the gateway writes no more: {reason}"));
    }
    Ok(verified)
}

/// A head that was kept elsewhere: `SEQUENCE:HASH` as heads are shown, or the hash alone.
pub fn expected(text: Option<&str>) -> Result<Option<Hash>, String> {
    let Some(text) = text else { return Ok(None) };
    let hash = text
        .parse::<Head>()
        .map(|head| head.hash)
        .ok()
        .or_else(|| Hash::parse(text));
    hash.map(Some)
        .ok_or_else(|| format!("{text:?} is no head: SEQUENCE:HASH, or 64 hex digits"))
}

/// A walk's report as it goes over the wire.
pub fn verified(report: &Report) -> wire::Verified {
    let mut damage: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
    if report.expected_found == Some(false) {
        damage.push("the expected head is not in the journal: it was cut back, rewritten, or is another's".to_owned());
    }
    wire::Verified {
        ok: report.is_sound(),
        head: report.head.to_string(),
        months: report.months.iter().map(|month| month.month.to_string()).collect(),
        events: report.events,
        entries: report.entries,
        open_holds: report.open_holds,
        damage,
        fingerprint_check: report
            .fingerprint_check
            .map(|check| format!("{:032x}", u128::from_be_bytes(check))),
    }
}
