//! How each feed tells an event of the ledger.

use agentledger_ledger::{Change, Event, Facts, Happened, Mark, Usd, rfc3339_ms};
use serde_json::value::to_raw_value;

use crate::control::rows::change_row;
use crate::control::wire;

/// Beginnings of the subjects whose changes are rules, or as good as rules.
const RULES: [&str; 3] = ["rule:", "price:", "provider:"];

/// What the event is about, where it is about an exchange.
pub(in crate::control) fn facts_of(happened: &Happened) -> Option<&Facts> {
    let of_entry = happened.entry.as_deref().map(|entry| &entry.facts);
    of_entry.or(happened.facts.as_deref())
}

/// The change that the event is.
pub(in crate::control) fn change_of(event: &Event) -> Option<&Change> {
    match event {
        Event::Changed(change) => Some(change),
        _ => None,
    }
}

pub(in crate::control) fn of_tail(happened: &Happened) -> Option<wire::TailItem> {
    let (mut entry, mut adjusted) = (None, None);
    match &happened.event {
        Event::Settled(_) => entry = to_raw_value(happened.entry.as_deref()?).ok(),
        Event::Adjusted(correction) => {
            adjusted = Some(wire::Adjusted {
                entry: correction.id.to_string(),
                usd: correction.amounts.usd,
                reason: correction.reason.to_string(),
            });
        }
        _ => return None,
    }
    Some(wire::TailItem {
        sequence: happened.sequence,
        at: rfc3339_ms(happened.event.at_ms()),
        entry,
        adjusted,
    })
}

pub(in crate::control) fn of_hold(happened: &Happened) -> Option<wire::HoldItem> {
    let (change, id, usd, reason) = match &happened.event {
        Event::Held(held) => ("placed", happened.sequence, held.amounts.usd, held.basis.to_string()),
        Event::Extended(extended) => ("extended", extended.hold.0, extended.amounts.usd, String::new()),
        Event::Deferred(deferred) => ("deferred", deferred.hold.0, Usd::ZERO, String::new()),
        Event::Voided(voided) => ("voided", voided.hold.0, Usd::ZERO, voided.reason.to_string()),
        Event::Settled(settled) => {
            let reason = settled.overage_reason.as_deref().unwrap_or_default();
            ("settled", settled.hold.0, settled.settlement.cost, reason.to_owned())
        }
        _ => return None,
    };
    let facts = facts_of(happened)?;
    Some(wire::HoldItem {
        sequence: happened.sequence,
        at: rfc3339_ms(happened.event.at_ms()),
        change: change.to_owned(),
        id,
        exchange: facts.id.to_string(),
        provider: facts.provider.to_string(),
        model: facts.requested_model.to_string(),
        key: facts.key.to_string(),
        tenant: facts.tenant.to_string(),
        agent: facts.agent.to_string(),
        session: facts.session.to_string(),
        usd,
        reason,
    })
}

pub(in crate::control) fn of_session(happened: &Happened) -> Option<wire::SessionItem> {
    let (change, tenant, session, usd) = match &happened.event {
        Event::Marked(marked) => {
            let change = match marked.mark {
                Mark::Completed => "completed",
                Mark::Killed => "killed",
                Mark::Alerted => "alerted",
            };
            (change, &marked.tenant, &marked.session, Usd::ZERO)
        }
        Event::Held(_) => {
            let facts = facts_of(happened)?;
            ("call_started", &facts.tenant, &facts.session, Usd::ZERO)
        }
        Event::Settled(settled) => {
            let facts = facts_of(happened)?;
            ("call_ended", &facts.tenant, &facts.session, settled.settlement.cost)
        }
        _ => return None,
    };
    if session.is_empty() {
        return None;
    }
    let facts = facts_of(happened);
    Some(wire::SessionItem {
        sequence: happened.sequence,
        at: rfc3339_ms(happened.event.at_ms()),
        change: change.to_owned(),
        id: session.to_string(),
        tenant: tenant.to_string(),
        agent: facts.map(|facts| facts.agent.to_string()).unwrap_or_default(),
        user: facts.map(|facts| facts.user.to_string()).unwrap_or_default(),
        usd,
    })
}

pub(in crate::control) fn of_rule(happened: &Happened) -> Option<wire::ChangeRow> {
    let change = change_of(&happened.event)?;
    let is_rule = RULES.iter().any(|start| change.subject.starts_with(start));
    is_rule.then(|| change_row(happened.sequence, change))
}
