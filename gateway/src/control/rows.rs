//! Rows as they go over the wire, of what several methods and feeds tell.

use agentledger_ledger::{Change, SummaryRow, rfc3339_ms};
use serde_json::Value;

use crate::control::wire;
use crate::telemetry::alerts::NumberedAlert;

pub(super) fn cost_row(row: SummaryRow) -> wire::CostRow {
    wire::CostRow {
        provider: row.provider.to_string(),
        model: row.model.to_string(),
        key: row.key.to_string(),
        key_now: String::new(),
        agent: row.agent.to_string(),
        session: row.session.to_string(),
        user: row.user.to_string(),
        task: row.task.to_string(),
        tenant: row.tenant.to_string(),
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

pub(super) fn change_row(sequence: u64, change: &Change) -> wire::ChangeRow {
    // The gateway wrote it; what is no JSON all the same is shown as text.
    let json =
        |text: &std::sync::Arc<str>| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_string()));
    wire::ChangeRow {
        id: change.id.to_string(),
        sequence,
        at: rfc3339_ms(change.at_ms),
        author: change.author.to_string(),
        peer: change.peer.to_string(),
        action: change.action.to_string(),
        subject: change.subject.to_string(),
        tenant: change.tenant.to_string(),
        note: change.note.to_string(),
        before: change.before.as_ref().map(json),
        after: change.after.as_ref().map(json),
    }
}

pub(super) fn alert_row(numbered: &NumberedAlert) -> wire::AlertRow {
    let alert = &numbered.alert;
    wire::AlertRow {
        sequence: numbered.sequence,
        id: alert.id.to_string(),
        tenant: alert.tenant.clone(),
        folded: alert.folded,
        deliveries: Vec::new(),
        at: rfc3339_ms(alert.at_ms),
        r#type: alert.kind.clone(),
        severity: alert.severity.name().to_owned(),
        message: alert.message.clone(),
        details: alert.details.iter().cloned().collect(),
        about: alert.about.clone(),
        policy: alert.policy.to_string(),
    }
}
