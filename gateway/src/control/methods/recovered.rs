//! The methods about holds whose end nobody saw: what they were entered at, and what they really cost.

use agentledger_ledger::{HoldId, RecoveredEntry, RecoveredId, Usd, rfc3339_ms};
use jsonrpsee::server::RegisterMethodError;
use serde_json::json;
use ulid::Ulid;

use crate::control::error::RpcError;
use crate::control::ledger_view::now_ms;
use crate::control::rpc::call::{Call, Changed, Role};
use crate::control::rpc::params::{self, Span};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

/// How far back is looked where nothing is said: a crash is seen to within days.
const LAST_DEFAULT: &str = "30d";
/// Rows in one answer.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "hold.recovered",
            Role::Read,
            Scope::Tenant,
            "Entries of holds whose end nobody saw, latest first: what they were entered at, and corrected to.",
            r#"{"last": "7d"}"#,
        ),
        list,
    )?;
    table.add(
        Method::new(
            "hold.correct",
            Role::Admin,
            Scope::Whole,
            "Corrects such an entry to what it cost, or to what such calls cost; the same cost again changes nothing.",
            r#"{"id": "1", "cost_usd": "0.05", "reason": "as the provider's dashboard says"}"#,
        ),
        correct,
    )
}

pub(in crate::control) fn list(
    state: &ControlState,
    call: &Call,
    asked: wire::RecoveredParams,
) -> Result<wire::RecoveredHolds, RpcError> {
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let span = Span::new(&asked.last, &asked.from, &asked.to);
    let (from_ms, to_ms) = span.ms(now_ms(), Some(LAST_DEFAULT))?;
    state.ledger.flush()?;
    let mut found = state.ledger.recovered(from_ms).map_err(RpcError::ledger)?;
    found.retain(|row| row.entry.settlement.at_ms < to_ms && call.caller.sees(&row.entry.facts.tenant));
    let omitted = found.len().saturating_sub(limit);
    Ok(wire::RecoveredHolds {
        holds: found.iter().rev().take(limit).map(row).collect(),
        omitted: u64::try_from(omitted).unwrap_or(u64::MAX),
    })
}

pub(in crate::control) fn correct(
    state: &ControlState,
    call: &Call,
    asked: wire::CorrectParams,
) -> Result<wire::CorrectedHold, RpcError> {
    let ledger = state.ledger.live()?;
    // What it costs is read before it is corrected: one at a time, so that nothing is corrected twice.
    let _alone = state.corrections.lock();
    state.ledger.flush()?;
    let id = id(&asked.id)?;
    let found = ledger.recovered_entry(id).map_err(RpcError::ledger)?;
    let mut found = found.ok_or_else(|| RpcError::NotFound(format!("no recovered hold {:?}", asked.id)))?;
    let (cost, why) = cost(state, &found, &asked)?;
    let before = found.cost();
    let delta = cost.saturating_sub(before);
    if delta == Usd::ZERO {
        return Ok(wire::CorrectedHold {
            hold: row(&found),
            adjusted_usd: delta,
            sequence: None,
        });
    }
    found.adjusted = found.adjusted.saturating_add(delta);
    found.is_corrected = true;
    let shown = row(&found);
    let facts = &found.entry.facts;
    let reason = if asked.reason.trim().is_empty() {
        why
    } else {
        asked.reason.trim()
    };
    let changed = Changed {
        subject: format!("entry:{}", facts.id),
        tenant: facts.tenant.clone(),
        note: reason.to_owned(),
        before: Some(json!({ "cost_usd": before.to_string() })),
        after: Some(json!({ "cost_usd": cost.to_string() })),
        ..Changed::default()
    };
    let answer = |sequence| wire::CorrectedHold {
        hold: shown.clone(),
        adjusted_usd: delta,
        sequence: Some(sequence),
    };
    call.act(ledger, &changed, answer, |change| {
        ledger.adjust_audited(facts.id, delta, reason, change)
    })
}

/// A hold's number, or its entry's id.
fn id(text: &str) -> Result<RecoveredId, RpcError> {
    if let Ok(number) = text.parse() {
        return Ok(RecoveredId::Hold(HoldId(number)));
    }
    let entry: Result<Ulid, _> = text.parse();
    entry
        .map(RecoveredId::Entry)
        .map_err(|_| RpcError::InvalidParams("id: neither a hold's number nor an entry's id".to_owned()))
}

/// What the entry is to cost, and why where nothing is said.
fn cost(
    state: &ControlState,
    found: &RecoveredEntry,
    asked: &wire::CorrectParams,
) -> Result<(Usd, &'static str), RpcError> {
    let invalid = |text: &str| RpcError::InvalidParams(text.to_owned());
    match (&asked.cost_usd, asked.expected) {
        (Some(text), false) => {
            let cost: Usd = text
                .parse()
                .map_err(|error| RpcError::InvalidParams(format!("cost_usd: {error}")))?;
            if cost < Usd::ZERO {
                return Err(invalid("cost_usd: below zero"));
            }
            Ok((cost, "what it cost"))
        }
        (None, true) => {
            let facts = &found.entry.facts;
            let expected = state.data_plane.expected_cost(&facts.requested_model, &facts.agent);
            let expected = expected
                .ok_or_else(|| invalid("expected: too few calls of this model were seen to know what they cost"))?;
            Ok((expected.min(found.entry.held), "what such calls cost"))
        }
        _ => Err(invalid("give either cost_usd, or expected: true")),
    }
}

fn row(found: &RecoveredEntry) -> wire::RecoveredHold {
    let (facts, settlement) = (&found.entry.facts, &found.entry.settlement);
    wire::RecoveredHold {
        id: found.hold.0,
        entry: facts.id.to_string(),
        began: rfc3339_ms(facts.at_ms),
        entered: rfc3339_ms(settlement.at_ms),
        provider: facts.provider.to_string(),
        model: settlement.model.to_string(),
        key: facts.key.to_string(),
        tenant: facts.tenant.to_string(),
        agent: facts.agent.to_string(),
        session: facts.session.to_string(),
        held_usd: found.entry.held,
        entered_usd: settlement.cost,
        cost_usd: found.cost(),
        corrected: found.is_corrected,
        reason: settlement.estimate_reason.as_deref().unwrap_or_default().to_owned(),
    }
}
