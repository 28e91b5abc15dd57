//! The methods about policies.

use jsonrpsee::server::RegisterMethodError;
use serde_json::Value;

use crate::control::error::RpcError;
use crate::control::methods::policy_history::{self, source_of};
use crate::control::methods::rules::change::{Wish, change};
use crate::control::methods::rules::shortcuts::needed;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::Nothing;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::policy::{Phase, PolicyView};
use crate::runtime::{InForce, Refused};

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    let method = |name, needs, summary, example| Method::new(name, needs, Scope::Whole, summary, example);
    table.add(
        method(
            "policy.list",
            Role::Read,
            "The policies in the order in which they run.",
            r#"{}"#,
        ),
        list,
    )?;
    table.add(
        method(
            "policy.get",
            Role::Read,
            "One policy with its text and its conf.",
            r#"{"policy": "budget"}"#,
        ),
        get,
    )?;
    table.add(
        method(
            "policy.enable",
            Role::Admin,
            "Has a policy run: enforced, or in shadow.",
            r#"{"policy": "loop", "mode": "shadow", "note": "to see what it would do"}"#,
        ),
        enable,
    )?;
    table.add(
        method(
            "policy.disable",
            Role::Admin,
            "Switches a policy off.",
            r#"{"policy": "loop", "note": "it is in the way"}"#,
        ),
        disable,
    )
}

fn row(in_force: &InForce, policy: &PolicyView<'_>) -> wire::PolicyRow {
    let source = source_of(&policy.source.origin);
    let overridden = in_force.versions.files.get(policy.name).filter(|_| source == "store");
    wire::PolicyRow {
        name: policy.name.to_owned(),
        version: policy.version.to_owned(),
        priority: policy.priority,
        mode: policy.mode.name().to_owned(),
        source: source.to_owned(),
        origin: policy.source.origin.clone(),
        description: policy.description.to_owned(),
        phases: policy
            .phases
            .iter()
            .map(|phase: &Phase| phase.name().to_owned())
            .collect(),
        digest: policy.hash.to_owned(),
        conf_digest: blake3::Hash::from(policy.digest).to_hex().to_string(),
        overridden: overridden.map(|(origin, _)| origin.clone()),
        in_shadow: in_force
            .policies
            .candidate(policy.name)
            .map(|candidate| candidate.hash.to_owned()),
    }
}

fn in_force(state: &ControlState) -> Result<InForce, RpcError> {
    state.data_plane.in_force().ok_or(RpcError::NoGateway)
}

fn list(state: &ControlState, _: &Call, _: Nothing) -> Result<wire::Policies, RpcError> {
    let in_force = in_force(state)?;
    Ok(wire::Policies {
        policies: in_force
            .policies
            .policies()
            .map(|policy| row(&in_force, &policy))
            .collect(),
    })
}

fn get(state: &ControlState, _: &Call, asked: wire::PolicyParams) -> Result<wire::PolicyText, RpcError> {
    let in_force = state.data_plane.in_force();
    let is_known = |in_force: &InForce| in_force.policies.policy(&asked.policy).is_some();
    if !asked.version.is_empty() || in_force.is_none() {
        return version(state, &asked);
    }
    let in_force = in_force.ok_or(RpcError::NoGateway)?;
    if !is_known(&in_force) && in_force.parts.policies.has(&asked.policy) {
        return version(state, &asked);
    }
    let policy = in_force.policies.policy(&asked.policy);
    let policy = policy.ok_or_else(|| RpcError::NotFound(format!("there is no policy {:?}", asked.policy)))?;
    let kept = in_force.parts.policies.version(policy.name, policy.hash);
    Ok(wire::PolicyText {
        policy: row(&in_force, &policy),
        text: policy.source.text.clone(),
        conf: policy.conf.clone(),
        specs: kept.and_then(|kept| kept.specs.as_ref()).map(ToString::to_string),
    })
}

/// A version of the store as it is kept; what it would do with its conf is not looked at.
fn version(state: &ControlState, asked: &wire::PolicyParams) -> Result<wire::PolicyText, RpcError> {
    needed("policy", &asked.policy)?;
    let (book, in_force) = policy_history::book(state)?;
    if in_force.is_none() && !book.has(&asked.policy) {
        // A file's, maybe, which nobody has read.
        return Err(RpcError::NoGateway);
    }
    let record = book
        .record(&asked.policy)
        .and_then(|kept| kept.record.in_force.as_ref());
    let hash = match asked.version.as_str() {
        "" => record.map_or("", |stands| stands.hash.as_str()),
        hash => hash,
    };
    let kept = book.find(&asked.policy, hash)?;
    Ok(wire::PolicyText {
        policy: wire::PolicyRow {
            name: kept.policy.clone(),
            version: kept.version.clone(),
            source: "store".to_owned(),
            origin: kept.origin(),
            digest: kept.hash.clone(),
            ..wire::PolicyRow::default()
        },
        text: kept.text.to_string(),
        conf: Value::Null,
        specs: kept.specs.as_ref().map(ToString::to_string),
    })
}

fn enable(state: &ControlState, call: &Call, asked: wire::PolicyModeParams) -> Result<wire::RuleChanged, RpcError> {
    match asked.mode.as_str() {
        "" => switch(state, call, &asked, "enforce"),
        mode @ ("enforce" | "shadow") => switch(state, call, &asked, mode),
        _ => Err(Refused::unfit("mode", "must be enforce or shadow").into()),
    }
}

fn disable(state: &ControlState, call: &Call, asked: wire::PolicyModeParams) -> Result<wire::RuleChanged, RpcError> {
    if !asked.mode.is_empty() {
        return Err(Refused::unfit("mode", "is of policy.enable").into());
    }
    switch(state, call, &asked, "off")
}

/// A policy has one rule for its mode: each switch replaces it.
fn switch(
    state: &ControlState,
    call: &Call,
    asked: &wire::PolicyModeParams,
    mode: &str,
) -> Result<wire::RuleChanged, RpcError> {
    needed("policy", &asked.policy)?;
    let list = format!("{}.mode", asked.policy);
    change(state, call, false, &mut |in_force| {
        if in_force.policies.policy(&asked.policy).is_none() {
            return Err(RpcError::NotFound(format!("there is no policy {:?}", asked.policy)));
        }
        let known = in_force
            .parts
            .rules
            .of(&asked.policy)
            .rev()
            .find(|rule| rule.list == list);
        Ok(vec![Wish {
            id: known.map(|rule| rule.id),
            list: list.clone(),
            value: Some(Value::from(mode)),
            note: asked.note.clone(),
            ..Wish::default()
        }])
    })
}
