//! The methods about alerts: what people should have noticed lately, and how it was delivered.

use std::collections::HashMap;
use std::sync::Arc;

use agentledger_ledger::{Document, rfc3339_ms};
use jsonrpsee::server::RegisterMethodError;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use ulid::Ulid;

use crate::alerting::{DeliveryState, Dispatch, SILENCE, SilenceRule};
use crate::control::error::RpcError;
use crate::control::methods::rules::change::{decision_ms, ends_at};
use crate::control::methods::rules::shortcuts::needed;
use crate::control::rows::alert_row;
use crate::control::rpc::call::{Call, Changed, Role};
use crate::control::rpc::params::{self, Span};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::runtime::{Refused, change_id};
use crate::telemetry::alerts::{ALERTS_MAX, NumberedAlert};

const LIMIT_DEFAULT: usize = 100;
/// How the audit trail names a receiver that something was sent to by hand.
const RECEIVER: &str = "alert-receiver:";

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "alert.list",
            Role::Read,
            Scope::Tenant,
            "Alerts with how far each has come by receiver, latest first; and the silences.",
            r#"{"last": "24h"}"#,
        ),
        list,
    )?;
    table.add(
        Method::new(
            "alert.test",
            Role::Operate,
            Scope::Whole,
            "Sends a test alert to one receiver, and answers what came.",
            r#"{"receiver": "slack"}"#,
        ),
        test,
    )?;
    table.add(
        Method::new(
            "alert.retry",
            Role::Operate,
            Scope::Whole,
            "Has dead letters delivered after all.",
            r#"{"receiver": "slack"}"#,
        ),
        retry,
    )?;
    table.add(
        Method::new(
            "alert.silence",
            Role::Operate,
            Scope::Tenant,
            "Notes alerts that fit and does not deliver them, for a while.",
            r#"{"type": "budget_*", "until": "2h", "note": "a load test"}"#,
        ),
        silence,
    )?;
    table.add(
        Method::new(
            "alert.unsilence",
            Role::Operate,
            Scope::Tenant,
            "Ends a silence before its time.",
            r#"{"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#,
        ),
        unsilence,
    )
}

pub(in crate::control) fn list(
    state: &ControlState,
    call: &Call,
    asked: wire::AlertsParams,
) -> Result<wire::AlertRows, RpcError> {
    let last = Span::new(&asked.last, &None, &None);
    let (from_ms, _) = last.ms(state.ledger.now_ms(), None)?;
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, ALERTS_MAX)?;
    let (recent, mut states) = known(state)?;
    let wanted = |numbered: &Arc<NumberedAlert>| {
        let alert = &numbered.alert;
        alert.at_ms >= from_ms
            && (asked.r#type.is_empty() || alert.kind == asked.r#type)
            && call.caller.sees(&alert.tenant)
    };
    let found = recent.iter().rev().filter(|numbered| wanted(numbered));
    let rows = found.map(|numbered| wire::AlertRow {
        deliveries: states
            .remove(&numbered.alert.id)
            .unwrap_or_default()
            .iter()
            .map(delivery)
            .collect(),
        ..alert_row(numbered)
    });
    let is_in_state = |row: &wire::AlertRow| {
        asked.state.is_empty() || row.deliveries.iter().any(|delivery| delivery.state == asked.state)
    };
    let now_ms = state.ledger.now_ms();
    let silences = state
        .ledger
        .documents(SILENCE)
        .into_iter()
        .filter_map(|document| SilenceRule::of(&document));
    let in_force = silences.filter(|(_, rule)| rule.until_ms > now_ms && call.caller.sees(&rule.tenant));
    Ok(wire::AlertRows {
        alerts: rows.filter(is_in_state).take(limit).collect(),
        silences: in_force.map(|(id, rule)| silence_row(&id, &rule)).collect(),
    })
}

type Known = (Vec<Arc<NumberedAlert>>, HashMap<Ulid, Vec<DeliveryState>>);

/// The latest alerts, oldest first, and how far each has come. Where no gateway runs, what the last one left: it waits for the
/// next start, or is a dead letter.
fn known(state: &ControlState) -> Result<Known, RpcError> {
    if let Some((alerts, states)) = state.ledger.alerts_left().map_err(RpcError::ledger)? {
        let numbered = (1..)
            .zip(alerts)
            .map(|(sequence, alert)| Arc::new(NumberedAlert { sequence, alert }));
        return Ok((numbered.collect(), states));
    }
    let dispatch = state.data_plane.dispatch();
    let states = dispatch.map(|dispatch| dispatch.states()).unwrap_or_default();
    Ok((state.data_plane.alerts().recent(), states))
}

fn delivery(state: &DeliveryState) -> wire::AlertDelivery {
    wire::AlertDelivery {
        receiver: state.receiver.clone(),
        state: state.progress.name().to_owned(),
        attempts: state.attempts,
        error: state.error.clone(),
        due: state.due_ms.map(rfc3339_ms),
    }
}

fn silence_row(id: &str, rule: &SilenceRule) -> wire::SilenceRow {
    wire::SilenceRow {
        id: id.to_owned(),
        r#type: rule.kind.clone(),
        about: rule.about.clone(),
        tenant: rule.tenant.clone(),
        until: rfc3339_ms(rule.until_ms),
    }
}

fn running(state: &ControlState) -> Result<Arc<Dispatch>, RpcError> {
    state.data_plane.dispatch().ok_or(RpcError::NoGateway)
}

fn test(state: &ControlState, call: &Call, asked: wire::AlertTestParams) -> Result<wire::AlertTested, RpcError> {
    needed("receiver", &asked.receiver)?;
    let dispatch = running(state)?;
    let tested = Handle::current().block_on(dispatch.test(&asked.receiver));
    let tested = tested.ok_or_else(|| RpcError::NotFound(format!("there is no receiver {:?}", asked.receiver)))?;
    let delivered = tested.answer.is_ok();
    let (Ok(answer) | Err(answer)) = tested.answer;
    let answered = wire::AlertTested {
        receiver: asked.receiver,
        id: tested.id.to_string(),
        delivered,
        answer,
    };
    let sent = Changed {
        subject: format!("{RECEIVER}{}", answered.receiver),
        after: Some(json!({"test": answered.id, "delivered": delivered, "answer": answered.answer})),
        ..Changed::default()
    };
    call.commit(&state.ledger, tested.id, sent, &answered)?;
    Ok(answered)
}

fn retry(state: &ControlState, call: &Call, asked: wire::AlertRetryParams) -> Result<wire::AlertsRetried, RpcError> {
    let id = match asked.id.as_str() {
        "" => None,
        text => Some(Ulid::from_string(text).map_err(|_| Refused::unfit("id", "is no id of an alert"))?),
    };
    let receiver = Some(asked.receiver.as_str()).filter(|name| !name.is_empty());
    let retried = running(state)?.retry(id, receiver);
    if retried == 0 && id.is_some() {
        return Err(RpcError::NotFound("no dead letter is of this alert".to_owned()));
    }
    let answer = wire::AlertsRetried { retried };
    if retried > 0 {
        let again = Changed {
            subject: format!("{RECEIVER}{}", receiver.unwrap_or("*")),
            after: Some(json!({"retried": retried, "alert": id.map(|id| id.to_string())})),
            ..Changed::default()
        };
        call.commit(&state.ledger, change_id(decision_ms(state)), again, &answer)?;
    }
    Ok(answer)
}

fn silence(state: &ControlState, call: &Call, asked: wire::SilenceParams) -> Result<wire::Silenced, RpcError> {
    let tenant = call.caller.tenant_of(&asked.tenant)?.unwrap_or_default();
    if [&asked.r#type, &asked.about].iter().all(|pattern| pattern.is_empty()) && tenant.is_empty() {
        return Err(Refused::unfit(
            "type",
            "is missing: name a type, about or tenant to silence; type * is all",
        )
        .into());
    }
    needed("until", &asked.until)?;
    let now_ms = decision_ms(state);
    let until_ms = ends_at(&asked.until, now_ms)?.filter(|until_ms| *until_ms > now_ms);
    let until_ms = until_ms.ok_or_else(|| Refused::unfit("until", "is not after now"))?;
    let rule = SilenceRule {
        kind: asked.r#type,
        about: asked.about,
        tenant: tenant.to_string(),
        until_ms,
    };
    let id = change_id(now_ms);
    rule.silence("")
        .map_err(|error| Refused::unfit("type", error.to_string()))?;
    let ended = state.ledger.documents(SILENCE).into_iter().filter(|document| {
        let known = SilenceRule::of(document);
        known.is_none_or(|(_, known)| known.until_ms <= now_ms)
    });
    let mut parts: Vec<Changed> = ended.map(|document| removal(&document, "it has ended")).collect();
    parts.push(Changed {
        subject: format!("{SILENCE}{id}"),
        tenant,
        note: asked.note,
        after: serde_json::to_value(&rule).ok(),
        kept: true,
        ..Changed::default()
    });
    let answer = wire::Silenced {
        silence: silence_row(&id.to_string(), &rule),
        change: id.to_string(),
    };
    enter(state, call, id, &parts, &answer)?;
    Ok(answer)
}

fn unsilence(state: &ControlState, call: &Call, asked: wire::UnsilenceParams) -> Result<wire::Silenced, RpcError> {
    needed("id", &asked.id)?;
    let known = state.ledger.documents(SILENCE).into_iter().find_map(|document| {
        let (id, rule) = SilenceRule::of(&document)?;
        (id == asked.id && call.caller.sees(&rule.tenant)).then_some((document, rule))
    });
    let (document, rule) = known.ok_or_else(|| RpcError::NotFound(format!("there is no silence {:?}", asked.id)))?;
    let change = change_id(decision_ms(state));
    let answer = wire::Silenced {
        silence: silence_row(&asked.id, &rule),
        change: change.to_string(),
    };
    enter(state, call, change, &[removal(&document, &asked.note)], &answer)?;
    Ok(answer)
}

fn removal(document: &Document, note: &str) -> Changed {
    let before: Option<Value> = serde_json::from_str(&document.value).ok();
    let tenant = SilenceRule::of(document).map(|(_, rule)| rule.tenant.as_str().into());
    Changed {
        subject: document.subject.to_string(),
        tenant: tenant.unwrap_or_default(),
        note: note.to_owned(),
        before,
        kept: true,
        ..Changed::default()
    }
}

/// Enters the parts of a change, and waits until they are on disk.
fn enter(
    state: &ControlState,
    call: &Call,
    id: Ulid,
    parts: &[Changed],
    answer: &wire::Silenced,
) -> Result<(), RpcError> {
    let sequence = call.enter(&state.ledger, id, parts, answer)?;
    crate::control::ledger_view::on_disk(state.ledger.live()?, sequence)
}
