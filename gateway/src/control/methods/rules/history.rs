//! What was done to rules, and undoing it.

use agentledger_ledger::{Change, ChangePage, ChangeQuery};
use jsonrpsee::server::RegisterMethodError;
use serde_json::Value;
use std::sync::Arc;
use ulid::Ulid;

use crate::control::error::RpcError;
use crate::control::methods::rules::change::{Wish, change};
use crate::control::methods::rules::rule_id;
use crate::control::rows::change_row;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::runtime::{InForce, RULE, Refused, Rule};

/// Changes in one answer.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Pages of changes that one answer looks through for what its filter lets pass.
const PAGES_MAX: usize = 64;
/// A change's event lies so close to the moment that its id bears.
const NEAR_MS: i64 = 60 * 60 * 1_000;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    let method = |name, needs, summary, example| Method::new(name, needs, Scope::Tenant, summary, example);
    table.add(
        method(
            "rule.history",
            Role::Read,
            "What was done to rules, latest first.",
            r#"{"list": "budget.limits", "limit": 10}"#,
        ),
        history,
    )?;
    table.add(
        method(
            "rule.revert",
            Role::Admin,
            "Undoes one change, if none of its rules was changed since.",
            r#"{"change": "01J00000000000000000000000", "dry_run": true}"#,
        ),
        revert,
    )
}

/// A page of changes of rules, latest first.
fn page(state: &ControlState, query: &ChangeQuery) -> Result<ChangePage, RpcError> {
    let page = state.ledger.changes(query);
    page.map_err(RpcError::ledger)
}

fn query(call: &Call, subject: String, limit: usize) -> ChangeQuery {
    ChangeQuery {
        from_ms: i64::MIN,
        to_ms: i64::MAX,
        subject,
        tenant: call.caller.tenant.clone(),
        limit,
        ..ChangeQuery::default()
    }
}

fn history(state: &ControlState, call: &Call, asked: wire::RuleHistoryParams) -> Result<wire::Changes, RpcError> {
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let subject = match asked.id.as_str() {
        "" => RULE.to_owned(),
        id => format!("{RULE}{}", rule_id(id)?),
    };
    let mut query = query(call, subject, limit);
    query.before_sequence = asked.before;
    state.ledger.flush()?;
    let mut changes = Vec::new();
    for _ in 0..PAGES_MAX {
        let ChangePage { changes: found, next } = page(state, &query)?;
        for (sequence, change) in found {
            if is_of(&change, &asked.list) {
                changes.push(change_row(sequence, &change));
            }
            if changes.len() >= limit {
                let next = Some(sequence);
                return Ok(wire::Changes { changes, next });
            }
        }
        query.before_sequence = next;
        if next.is_none() {
            break;
        }
    }
    Ok(wire::Changes {
        changes,
        next: query.before_sequence,
    })
}

/// Whether a change is of a rule of this list; empty is all.
fn is_of(change: &Change, list: &str) -> bool {
    let text = change.after.as_ref().or(change.before.as_ref());
    let rule: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
    list.is_empty() || rule.is_some_and(|rule| rule.get("list").is_some_and(|of| *of == *list))
}

fn revert(state: &ControlState, call: &Call, asked: wire::RuleRevertParams) -> Result<wire::RuleChanged, RpcError> {
    let unread = |_| Refused::unfit("change", "is no id of a change: 26 letters and digits");
    let wanted = Ulid::from_string(&asked.change).map_err(unread)?;
    state.ledger.flush()?;
    let parts = find(state, call, wanted)?;
    let parts: Vec<Part> = parts
        .iter()
        .map(|part| Part::of(state, call, part))
        .collect::<Result<_, _>>()?;
    let note = match asked.note.as_str() {
        "" => format!("undoes {wanted}"),
        note => note.to_owned(),
    };
    change(state, call, asked.dry_run, &mut |in_force: &InForce| {
        let wishes = parts.iter().map(|part| part.undone(in_force, wanted, &note));
        wishes.collect()
    })
}

/// What a change did to one rule.
struct Part {
    id: Ulid,
    before: Option<Rule>,
    /// The rule is there after it.
    is_kept: bool,
}

impl Part {
    /// # Errors
    /// The rule was changed since.
    fn of(state: &ControlState, call: &Call, change: &Change) -> Result<Part, RpcError> {
        let id = rule_id(change.subject.strip_prefix(RULE).unwrap_or_default())?;
        let last = page(state, &query(call, change.subject.to_string(), 1))?.changes;
        if last.first().is_none_or(|(_, last)| last.id != change.id) {
            return Err(changed_since(id));
        }
        let before = change.before.as_ref().map(|text| Rule::of_value(id, text));
        Ok(Part {
            id,
            before: before.transpose().map_err(RpcError::LedgerFailed)?,
            is_kept: change.after.is_some(),
        })
    }

    fn undone(&self, in_force: &InForce, wanted: Ulid, note: &str) -> Result<Wish, RpcError> {
        let id = self.id;
        let now = in_force.parts.rules.get(id);
        // Nobody changes it between this look and the change.
        if now.map(|rule| rule.change) != self.is_kept.then_some(wanted) {
            return Err(changed_since(id));
        }
        match (&self.before, now) {
            (Some(before), _) => Ok(Wish {
                id: Some(id),
                list: before.list.clone(),
                value: Some(before.value.clone()),
                expires_ms: before.expires_ms,
                note: note.to_owned(),
                if_version: Some(now.map_or(0, |rule| rule.version)),
                tenant: Some(before.tenant.clone()),
            }),
            (None, Some(now)) => Ok(Wish::removal(now, note)),
            (None, None) => Err(changed_since(id)),
        }
    }
}

fn changed_since(id: Ulid) -> RpcError {
    RpcError::Conflict(format!(
        "rule {id} was changed since: rule.history {{\"id\": \"{id}\"}} shows how"
    ))
}

/// What a change with this id did to each of its rules, in its order. All of it stands together in the journal.
fn find(state: &ControlState, call: &Call, wanted: Ulid) -> Result<Vec<Arc<Change>>, RpcError> {
    let at_ms = i64::try_from(wanted.timestamp_ms()).unwrap_or(i64::MAX);
    let mut query = ChangeQuery {
        from_ms: at_ms.saturating_sub(NEAR_MS),
        to_ms: at_ms.saturating_add(NEAR_MS),
        ..query(call, RULE.to_owned(), LIMIT_MAX)
    };
    let mut latest_first = Vec::new();
    loop {
        let ChangePage { changes: found, next } = page(state, &query)?;
        let is_passed = found.last().is_some_and(|(_, last)| last.id != wanted);
        let of_it = found.into_iter().filter(|(_, change)| change.id == wanted);
        latest_first.extend(of_it.map(|(_, change)| change));
        match next {
            Some(_) if latest_first.is_empty() || !is_passed => query.before_sequence = next,
            _ => break,
        }
    }
    if latest_first.is_empty() {
        return Err(RpcError::NotFound(format!("there is no change {wanted} of a rule")));
    }
    latest_first.reverse();
    Ok(latest_first)
}
