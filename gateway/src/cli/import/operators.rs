//! What operators did in the original: to its sessions, and by its rules.

use agentledger_ledger::{Clock, SystemClock};
use serde_json::{Value, json};
use ulid::Ulid;

use super::report::Report;
use super::{ImportError, Misfits, NOTE};
use crate::cli::client::{Client, ClientError};
use crate::moving::original::{AdminRows, Misfit, SessionRow};

/// A session that ended longer ago is completed by its silence.
const RECENT_MS: i64 = 24 * 60 * 60 * 1_000;

/// Sessions follow from their calls; what was done to them is done here, too.
pub(super) fn end_sessions(client: &Client, sessions: &[SessionRow], report: &mut Report) -> Result<(), ImportError> {
    let now_ms = SystemClock::default().now_ms();
    for session in sessions {
        let is_recent = session
            .ended_ms
            .is_some_and(|ended_ms| now_ms.saturating_sub(ended_ms) < RECENT_MS);
        let method = match session.status.as_str() {
            "killed" => "session.kill",
            "completed" if is_recent => "session.end",
            _ => continue,
        };
        let found: Value = match client.call("session.get", &json!({ "id": session.id })) {
            Ok(found) => found,
            Err(ClientError::Refused { .. }) => Value::Null,
            Err(error) => return Err(error.into()),
        };
        let statuses = found
            .get("sessions")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let is_open = |row: &Value| row.get("status").and_then(Value::as_str) == Some("active");
        let is_ended = !statuses.is_empty() && !statuses.iter().any(is_open);
        if (method == "session.end" && is_ended) || statuses.iter().any(|row| row["status"] == "killed") {
            continue;
        }
        match client.call::<_, Value>(method, &json!({ "id": session.id })) {
            Ok(_) => report.sessions_killed += u64::from(method == "session.kill"),
            Err(ClientError::Refused { message, .. }) => report.read.misfits.add(Misfit {
                row: format!("agent_sessions {}", session.id),
                reason: message,
            }),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What operators changed becomes runtime rules, each once: its id follows from its place and from what it says.
pub(super) fn put_rules(client: &Client, admin: &AdminRows, report: &mut Report) {
    for (place, rule) in (0..).zip(&admin.budget_rules) {
        let names = |field: &str| {
            rule.get(field)
                .and_then(Value::as_str)
                .is_some_and(|name| !name.is_empty())
        };
        // Ours would hold requests without a key to the default's limits, which it does not say.
        if !names("api_key_pattern") && !names("tenant_id") {
            report.read.misfits.add(Misfit {
                row: "admin_config budget.rules".to_owned(),
                reason: "it names neither keys nor a tenant".to_owned(),
            });
            continue;
        }
        report.rules += u64::from(put_rule(
            client,
            ("budget.rules", place),
            without_nothing(rule),
            &mut report.read.misfits,
        ));
    }
    for pattern in &admin.blocked_keys {
        report.blocked += u64::from(block(client, pattern, &mut report.read.misfits));
    }
    for provider in &admin.disabled_providers {
        let params = json!({ "provider": provider, "note": NOTE });
        match client.call::<_, Value>("provider.disable", &params) {
            Ok(_) => report.providers += 1,
            Err(error) => report.read.misfits.add(Misfit {
                row: format!("admin_config providers_enabled {provider}"),
                reason: error.to_string(),
            }),
        }
    }
}

/// A whole key is blocked by its fingerprint: no key stands in the journal.
fn block(client: &Client, pattern: &str, misfits: &mut Misfits) -> bool {
    if pattern.contains(['*', '?', '[', '\\']) {
        return put_rule(client, ("block.keys", 0), Value::from(pattern), misfits);
    }
    let block = |dry_run: bool| {
        let params = json!({ "pattern": pattern, "note": NOTE, "dry_run": dry_run });
        client.call::<_, Value>("key.block", &params)
    };
    let known = |would: &Value| would.get("before").is_some_and(|before| !before.is_null());
    // One that was blocked before, here or by an earlier import, stays as it is.
    match block(true).and_then(|would| {
        if known(&would) {
            Ok(false)
        } else {
            block(false).map(|_| true)
        }
    }) {
        Ok(is_new) => is_new,
        Err(error) => {
            misfits.add(Misfit {
                row: "admin_config blocked_keys".to_owned(),
                reason: error.to_string(),
            });
            false
        }
    }
}

/// Rules are checked by the policies of a gateway that runs.
pub(super) fn leave_rules(admin: &AdminRows, report: &mut Report) {
    let counts = [
        ("budget_rules", admin.budget_rules.len()),
        ("blocked_keys", admin.blocked_keys.len()),
        ("providers_enabled", admin.disabled_providers.len()),
    ];
    for (key, _) in counts.into_iter().filter(|(_, count)| *count > 0) {
        report.read.misfits.add(Misfit {
            row: format!("admin_config {key}"),
            reason: "rules are taken over by a gateway that runs: import again while one does".to_owned(),
        });
    }
}

/// The original writes all fields of a rule: one that is 0 or empty is left out.
fn without_nothing(rule: &Value) -> Value {
    let is_something = |value: &Value| *value != json!(0) && *value != json!(0.0) && *value != json!("");
    match rule {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| is_something(value));
            Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        other => other.clone(),
    }
}

/// The original has the first rule that fits count, and here that is the newest: so the first is newest, and all are older than
/// those that are made here.
const FIRST_MS: u64 = 1 << 40;

/// Puts a rule that stands at this place of its list. Whether it is in force now and was not before.
fn put_rule(client: &Client, (list, place): (&str, u64), value: Value, misfits: &mut Misfits) -> bool {
    let said = format!("{list} {value}");
    let digest = blake3::hash(said.as_bytes());
    let said = digest
        .as_bytes()
        .first_chunk::<16>()
        .map_or(0, |bytes| u128::from_be_bytes(*bytes));
    let id = Ulid::from_parts(FIRST_MS.saturating_sub(place), said).to_string();
    let params = json!({ "list": list, "value": value, "id": id, "if_version": 0, "note": NOTE });
    match client.call::<_, Value>("rule.put", &params) {
        Ok(_) => true,
        // It was put before, and perhaps changed since: that is the operator's.
        Err(ClientError::Refused { word, .. }) if word == "conflict" => false,
        Err(error) => {
            // A pattern may be a whole key: only the list is named.
            misfits.add(Misfit {
                row: format!("admin_config {list}"),
                reason: error.to_string(),
            });
            false
        }
    }
}
