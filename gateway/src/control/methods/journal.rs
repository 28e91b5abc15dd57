//! The methods about the journal itself: what an entry is made of, months, latest events, and a walk that goes on beside the work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agentledger_ledger::{
    Dimension, Event, Facts, Found, JournalMonth, JournalRow, Mark, Name, SummaryQuery, Usd, rfc3339_ms,
};
use jsonrpsee::server::RegisterMethodError;
use serde_json::value::to_raw_value;
use ulid::Ulid;

use super::books::{expected, verified};
use crate::control::error::RpcError;
use crate::control::made_of::{EntryPrices, lines};
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::{self, Nothing};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::verifications::{self, Verification};
use crate::control::wire;

/// Events in one answer of `ledger.journal`.
const LIMIT_DEFAULT: usize = 40;
const LIMIT_MAX: usize = 200;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "ledger.explain",
            Role::Read,
            Scope::Tenant,
            "What an entry's cost is made of: kind by kind, at the prices that it was settled with.",
            r#"{"id": "01J0000000000000000000000A"}"#,
        ),
        explain,
    )?;
    table.add(
        Method::new(
            "ledger.months",
            Role::Read,
            Scope::Whole,
            "The journal's months: events, entries and what they cost, heads, and when each was last found sound.",
            r#"{}"#,
        ),
        months,
    )?;
    table.add(
        Method::new(
            "ledger.journal",
            Role::Read,
            Scope::Whole,
            "Events of the journal, the latest first.",
            r#"{"limit": 10}"#,
        ),
        journal,
    )?;
    table.add(
        Method::new(
            "ledger.verify_start",
            Role::Read,
            Scope::Whole,
            "Begins a walk over the journal and its hash chain beside the gateway's work; where one runs, says how that one stands.",
            r#"{}"#,
        ),
        verify_start,
    )?;
    table.add(
        Method::new(
            "ledger.verify_status",
            Role::Read,
            Scope::Whole,
            "How the walk over the journal stands that was begun last.",
            r#"{}"#,
        ),
        verify_status,
    )
}

fn explain(state: &ControlState, call: &Call, asked: wire::MadeOfParams) -> Result<wire::MadeOf, RpcError> {
    let id = Ulid::from_string(&asked.id).map_err(|_| RpcError::Unfit {
        path: "id".to_owned(),
        text: "is no id of an exchange".to_owned(),
    })?;
    state.ledger.flush()?;
    // Of another tenant's it is not even said that there is one.
    let unknown = || RpcError::NotFound(format!("the journal has no entry {id}"));
    let entry = match state.ledger.by_id(id).map_err(RpcError::ledger)? {
        Found::Entry(entry) if call.caller.sees(&entry.facts.tenant) => entry,
        Found::Running(held) if call.caller.sees(&held.facts.tenant) => {
            return Err(RpcError::NotFound(format!(
                "{id} is not settled yet: `hold.explain` says what is held for it"
            )));
        }
        _ => return Err(unknown()),
    };
    let prices = EntryPrices::of(state);
    Ok(wire::MadeOf {
        lines: lines(&entry, prices.as_ref()),
        entry: to_raw_value(&entry).map_err(RpcError::ledger)?,
    })
}

fn months(state: &ControlState, _: &Call, _: Nothing) -> Result<wire::Months, RpcError> {
    state.ledger.flush()?;
    let mut found = state.ledger.journal_months().map_err(RpcError::ledger)?;
    found.reverse();
    let noted = state.ledger.side_rows(verifications::TABLE).map_err(RpcError::ledger)?;
    let noted: BTreeMap<String, i64> = noted
        .into_iter()
        .filter_map(|(key, at)| Some((String::from_utf8(key).ok()?, i64::from_be_bytes(at.try_into().ok()?))))
        .collect();
    let row = |month: &JournalMonth| month_row(state, month, noted.get(&month.month.to_string()).copied());
    Ok(wire::Months {
        months: found.iter().map(row).collect(),
    })
}

fn month_row(state: &ControlState, month: &JournalMonth, verified_ms: Option<i64>) -> wire::MonthRow {
    let sums = state.ledger.summary(&SummaryQuery {
        from_ms: month.month.start_ms(),
        to_ms: month.month.next().start_ms(),
        by: Dimension::Provider,
        tenant: None,
    });
    wire::MonthRow {
        month: month.month.to_string(),
        state: if month.closed_ms.is_some() { "closed" } else { "open" }.to_owned(),
        events: month.events(),
        entries: sums.iter().map(|row| row.requests).sum(),
        spent_usd: sums.iter().fold(Usd::ZERO, |sum, row| sum.saturating_add(row.cost)),
        head: month.head.to_string(),
        closed: month.closed_ms.map(rfc3339_ms),
        verified: verified_ms.map(rfc3339_ms),
    }
}

fn journal(state: &ControlState, _: &Call, asked: wire::JournalParams) -> Result<wire::JournalEvents, RpcError> {
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    state.ledger.flush()?;
    let rows = state
        .ledger
        .latest_events(asked.before, limit)
        .map_err(RpcError::ledger)?;
    let next = rows.last().map(|last| last.sequence);
    Ok(wire::JournalEvents {
        next: next.filter(|next| rows.len() >= limit && *next > 1),
        events: rows.iter().map(event).collect(),
    })
}

fn event(row: &JournalRow) -> wire::JournalEvent {
    let held = row.held.as_ref().map(|held| &*held.facts);
    let (kind, facts, what, usd): (&str, Option<&Facts>, String, Option<Usd>) = match &row.event {
        Event::Opening(_) => ("opening", None, String::new(), None),
        Event::Held(held) => (
            "held",
            Some(&held.facts),
            held.facts.requested_model.to_string(),
            Some(held.amounts.usd),
        ),
        Event::Extended(extended) => ("extended", held, model_of(held), Some(extended.amounts.usd)),
        Event::Settled(settled) => {
            let named = &settled.settlement.model;
            let what = if named.is_empty() {
                model_of(held)
            } else {
                named.to_string()
            };
            ("settled", held, what, Some(settled.settlement.cost))
        }
        Event::Voided(voided) => ("voided", held, voided.reason.to_string(), None),
        Event::Denied(denied) => (
            "denied",
            None,
            format!("{}, {} times", denied.of.reason, denied.count),
            None,
        ),
        Event::Adjusted(adjusted) => {
            let of = adjusted.of.as_ref().map(|of| &*of.facts);
            ("adjusted", of, adjusted.reason.to_string(), Some(adjusted.amounts.usd))
        }
        Event::Deferred(_) => ("deferred", held, model_of(held), None),
        Event::Marked(marked) => (mark(marked.mark), None, String::new(), None),
        Event::ClockSet(set) => ("clock_set", None, rfc3339_ms(set.to_ms), None),
        Event::SecretChecked(_) => ("secret_checked", None, String::new(), None),
        Event::Imported(imported) => {
            let costs = imported.entries.iter().map(|entry| entry.settlement.cost);
            let what = format!("{} entries", imported.entries.len());
            ("imported", None, what, Some(costs.fold(Usd::ZERO, Usd::saturating_add)))
        }
        Event::Linked(linked) => ("linked", None, format!("key:{}", linked.key), None),
        Event::Changed(change) => ("changed", None, format!("{} {}", change.action, change.subject), None),
        Event::Refused(refused) => ("refused", Some(&refused.facts), refused.reason.to_string(), None),
        Event::InForce(_) => ("in_force", None, String::new(), None),
    };
    let name = |of: fn(&Facts) -> &Name| facts.map(|facts| of(facts).to_string()).unwrap_or_default();
    let session = match &row.event {
        Event::Marked(marked) => marked.session.to_string(),
        _ => name(|facts| &facts.session),
    };
    let is_estimated =
        |event: &Event| matches!(event, Event::Settled(settled) if settled.settlement.estimate_reason.is_some());
    wire::JournalEvent {
        sequence: row.sequence,
        at: rfc3339_ms(row.event.at_ms()),
        kind: kind.to_owned(),
        agent: name(|facts| &facts.agent),
        session,
        who: who(&row.event),
        what,
        usd,
        estimated: is_estimated(&row.event),
        hash: row.hash.to_string(),
    }
}

fn who(event: &Event) -> String {
    match event {
        Event::Denied(denied) => denied.of.account.to_string(),
        Event::Refused(refused) => refused.account.to_string(),
        Event::Changed(change) => change.author.to_string(),
        Event::Imported(imported) => imported.source.to_string(),
        _ => String::new(),
    }
}

fn model_of(facts: Option<&Facts>) -> String {
    facts.map(|facts| facts.requested_model.to_string()).unwrap_or_default()
}

fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Completed => "completed",
        Mark::Killed => "killed",
        Mark::Alerted => "alerted",
    }
}

fn verify_start(state: &ControlState, _: &Call, asked: wire::VerifyParams) -> Result<wire::VerifyState, RpcError> {
    let expect = expected(asked.expect.as_deref()).map_err(RpcError::InvalidParams)?;
    let ledger = Arc::clone(state.ledger.live()?);
    state.ledger.flush()?;
    let data_plane = Arc::clone(&state.data_plane);
    let events_in_all = ledger
        .journal_months()
        .map_err(RpcError::ledger)?
        .iter()
        .map(JournalMonth::events)
        .sum();
    let began = state.verifications.start(ledger.now_ms(), events_in_all, move |watch| {
        let walked = ledger.verify_watched(expect, watch);
        let at_ms = ledger.now_ms();
        let result = match walked {
            Ok(Some(report)) => {
                let verified = verified(&report);
                if let Some(first) = verified.damage.first() {
                    data_plane.damaged(&format!("the journal is damaged: {first}"));
                }
                if let Err(error) = verifications::note(&ledger, &report, at_ms) {
                    tracing::warn!(%error, "it cannot be noted when the journal was found sound");
                }
                Ok(verified)
            }
            Ok(None) => Err("the gateway ends".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        (at_ms, result)
    });
    let (running, is_new) = began.map_err(RpcError::Conflict)?;
    if !is_new && expect.is_some() {
        return Err(RpcError::Conflict(format!(
            "walk {} runs, and was not asked for this head: wait for its end",
            running.id
        )));
    }
    Ok(state_of(&running))
}

fn verify_status(
    state: &ControlState,
    _: &Call,
    asked: wire::VerifyStatusParams,
) -> Result<wire::VerifyState, RpcError> {
    match state.verifications.latest() {
        Some(latest) if asked.job.is_empty() || asked.job == latest.id.to_string() => Ok(state_of(&latest)),
        None if asked.job.is_empty() => Ok(wire::VerifyState {
            state: "none".to_owned(),
            ..wire::VerifyState::default()
        }),
        _ => Err(RpcError::NotFound(format!(
            "there is no walk {:?}: the latest one alone is known",
            asked.job
        ))),
    }
}

fn state_of(walk: &Verification) -> wire::VerifyState {
    let (name, error, result) = match &walk.result {
        None => ("running", String::new(), None),
        Some(Ok(verified)) => ("done", String::new(), Some(wire::Verified::clone(verified))),
        Some(Err(error)) => ("failed", error.clone(), None),
    };
    wire::VerifyState {
        job: walk.id.to_string(),
        state: name.to_owned(),
        began: Some(rfc3339_ms(walk.began_ms)),
        ended: walk.ended_ms.map(rfc3339_ms),
        events: match &result {
            Some(verified) => verified.events,
            None => walk.events.load(Ordering::Relaxed),
        },
        events_in_all: walk.events_in_all,
        error,
        result,
    }
}
