//! The methods about API keys: which were seen, and which are blocked.

use agentledger_ledger::{Dimension, SummaryQuery, rfc3339_ms};
use jsonrpsee::server::RegisterMethodError;
use serde_json::Value;

use crate::control::error::RpcError;
use crate::control::key_names::fingerprint_of;
use crate::control::methods::rules::AllRules;
use crate::control::methods::rules::change::{Wish, change, decision_ms, ends_at};
use crate::control::methods::rules::shortcuts::{at_parameter, one_of};
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::Span;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::runtime::{InForce, Rule};
use crate::secret::Secret;

const KEYS: &str = "block.keys";
const FINGERPRINTS: &str = "block.fingerprints";
/// How far back keys are looked for where nothing is said.
pub(in crate::control) const SEEN_DEFAULT: &str = "30d";

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "key.list",
            Role::Read,
            Scope::Tenant,
            "The keys that made requests, by their fingerprints, and those that are blocked.",
            r#"{"last": "7d"}"#,
        ),
        list,
    )?;
    table.add(
        Method::new(
            "key.block",
            Role::Operate,
            Scope::Whole,
            "Refuses all requests of a key, or of the keys that match a pattern.",
            r#"{"pattern": "sk-leaked-*", "note": "was in a public repository", "dry_run": true}"#,
        ),
        block,
    )?;
    table.add(
        Method::new(
            "key.unblock",
            Role::Operate,
            Scope::Whole,
            "Takes a block of `key.block` away.",
            r#"{"pattern": "sk-leaked-*", "dry_run": true}"#,
        ),
        unblock,
    )
}

pub(in crate::control) fn list(
    state: &ControlState,
    call: &Call,
    asked: wire::KeysParams,
) -> Result<wire::Keys, RpcError> {
    let span = Span::new(&asked.last, &None, &None);
    let (from_ms, to_ms) = span.ms(state.ledger.now_ms(), Some(SEEN_DEFAULT))?;
    state.ledger.flush()?;
    let query = |by: Dimension| SummaryQuery {
        from_ms,
        to_ms,
        by,
        tenant: call.caller.tenant.clone(),
    };
    let all = AllRules::of(state)?;
    let rows = all.rows(&|list| list == KEYS || list == FINGERPRINTS);
    let is_blocked = |key: &str| rows.iter().any(|row| row.list == FINGERPRINTS && row.value == *key);
    let mut summed = state.ledger.summary(&query(Dimension::Key));
    summed.retain(|row| !row.key.is_empty());
    summed.sort_by(|a, b| b.cost.cmp(&a.cost).then_with(|| a.key.cmp(&b.key)));
    let config = state.config.load();
    let keys = summed.into_iter().map(|row| wire::KeyRow {
        name: config.alias_of(&row.key).map(str::to_owned),
        blocked: is_blocked(&row.key),
        fingerprint: row.key.to_string(),
        requests: row.requests,
        cost_usd: row.cost,
        last_seen: rfc3339_ms(row.last_ms),
        tenant: Some(row.tenant.to_string()).filter(|tenant| !tenant.is_empty()),
    });
    Ok(wire::Keys {
        keys: keys.collect(),
        blocked: match call.caller.tenant {
            None => rows,
            Some(_) => Vec::new(),
        },
    })
}

/// The list and the value that a block is. A whole key is never kept: its fingerprint blocks it as well.
fn blocked(
    state: &ControlState,
    call: &Call,
    asked: &wire::KeyBlockParams,
) -> Result<(&'static str, String), RpcError> {
    let (which, named) = one_of(&[("pattern", &asked.pattern), ("fingerprint", &asked.fingerprint)])?;
    if which == "fingerprint" {
        return fingerprint_of(state, &call.caller, which, named).map(|fingerprint| (FINGERPRINTS, fingerprint));
    }
    if named.contains(['*', '?', '[', '\\']) {
        return Ok((KEYS, named.to_owned()));
    }
    // Who types a name or a fingerprint here means its key.
    if let Ok(fingerprint) = fingerprint_of(state, &call.caller, which, named) {
        return Ok((FINGERPRINTS, fingerprint));
    }
    let fingerprint = state.data_plane.fingerprint(&Secret::new(named.to_owned()));
    fingerprint
        .map(|fingerprint| (FINGERPRINTS, fingerprint))
        .ok_or(RpcError::NoGateway)
}

fn known<'a>(in_force: &'a InForce, list: &str, value: &str) -> Option<&'a Rule> {
    let mut rules = in_force.parts.rules.of("block");
    rules
        .find(|rule| rule.list == list && rule.value == *value)
        .map(|rule| &**rule)
}

pub(in crate::control) fn block(
    state: &ControlState,
    call: &Call,
    asked: wire::KeyBlockParams,
) -> Result<wire::RuleChanged, RpcError> {
    let (list, value) = blocked(state, call, &asked)?;
    let expires_ms = ends_at(&asked.expires, decision_ms(state))?;
    change(state, call, asked.dry_run, &mut |in_force| {
        Ok(vec![Wish {
            id: known(in_force, list, &value).map(|rule| rule.id),
            list: list.to_owned(),
            value: Some(Value::from(value.as_str())),
            expires_ms,
            note: asked.note.clone(),
            if_version: None,
            ..Wish::default()
        }])
    })
    .map_err(|error| match error {
        RpcError::Unfit { path, text } if path == "value" => RpcError::Unfit {
            path: "pattern".to_owned(),
            text,
        },
        other => at_parameter(other, &[]),
    })
}

pub(in crate::control) fn unblock(
    state: &ControlState,
    call: &Call,
    asked: wire::KeyBlockParams,
) -> Result<wire::RuleChanged, RpcError> {
    let (list, value) = blocked(state, call, &asked)?;
    change(state, call, asked.dry_run, &mut |in_force| {
        if let Some(rule) = known(in_force, list, &value) {
            return Ok(vec![Wish::removal(rule, &asked.note)]);
        }
        let field = list.strip_prefix("block.").unwrap_or_default();
        let of_file = in_force.file.get("block").and_then(|conf| conf.get(field));
        let of_file = of_file.is_some_and(|of_file| match of_file {
            Value::Array(items) => items.iter().any(|item| *item == value),
            one => *one == value,
        });
        Err(match of_file {
            true => RpcError::Conflict("the file blocks it: take it away there".to_owned()),
            false => RpcError::NotFound("nothing blocks it under this name: key.list has what is blocked".to_owned()),
        })
    })
}
