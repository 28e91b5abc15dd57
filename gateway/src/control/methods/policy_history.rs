//! How a policy's versions stand: `policy.history`, and what other methods say of it.

use std::sync::Arc;

use agentledger_ledger::rfc3339_ms;
use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::methods::rules::shortcuts::needed;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::policy::TallyCounts;
use crate::runtime::{
    Activation, End, Past, PolicyBook, PolicyPlace, PolicyRecord, RefusedVersion, Rehearsal, VersionsInForce,
    documents_of, short,
};

/// How errors and listings name the policies that the gateway brings with it.
const BUILT_IN: &str = "built-in/";
const STORE: &str = "store/";

/// Where a policy comes from, by what it is called.
pub(in crate::control) fn source_of(origin: &str) -> &'static str {
    match origin {
        origin if origin.starts_with(BUILT_IN) => "built-in",
        origin if origin.starts_with(STORE) => "store",
        _ => "file",
    }
}

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "policy.history",
            Role::Read,
            Scope::Whole,
            "The versions of a policy: who put each, when and why, which is in force, and what each did.",
            r#"{"policy": "budget"}"#,
        ),
        history,
    )
}

/// The policies of the store, whether or not a gateway runs; how they stand in force where one does.
pub(in crate::control) fn book(state: &ControlState) -> Result<(Arc<PolicyBook>, Option<VersionsInForce>), RpcError> {
    if let Some(in_force) = state.data_plane.in_force() {
        return Ok((in_force.parts.policies, Some(in_force.versions)));
    }
    let parts = documents_of(&|prefix| state.ledger.documents(prefix)).map_err(RpcError::LedgerFailed)?;
    Ok((parts.policies, None))
}

fn history(state: &ControlState, _: &Call, asked: wire::PolicyHistoryParams) -> Result<wire::PolicyHistory, RpcError> {
    needed("policy", &asked.policy)?;
    let policy = asked.policy.as_str();
    let (book, versions) = book(state)?;
    let in_files = versions
        .as_ref()
        .is_some_and(|versions| versions.files.contains_key(policy));
    if !book.has(policy) && !in_files {
        if versions.is_none() {
            // A file's, maybe, which nobody has read.
            return Err(RpcError::NoGateway);
        }
        return Err(RpcError::NotFound(format!("there is no policy {policy:?}")));
    }
    let none = PolicyRecord::default();
    let record = book.record(policy);
    let stands = record.map_or(&none, |kept| &kept.record);
    let in_force = match &versions {
        Some(versions) => versions.effective.get(policy),
        None => stands.in_force.as_ref(),
    };
    let view = View {
        policy,
        record: stands,
        in_force,
        versions: versions.as_ref(),
    };
    let kept = book.versions(policy).into_iter().map(|version| wire::PolicyVersionRow {
        hash: version.hash.clone(),
        version: version.version.clone(),
        author: version.author.to_string(),
        at: rfc3339_ms(version.at_ms),
        note: version.note.to_string(),
        has_specs: version.specs.is_some(),
        ..view.row(&version.hash)
    });
    let unread = book
        .unread()
        .iter()
        .filter(|unread| unread.policy == policy && !unread.hash.is_empty());
    let unread = unread.map(|unread| wire::PolicyVersionRow {
        hash: unread.hash.clone(),
        state: "refused".to_owned(),
        why: unread.text.clone(),
        ..wire::PolicyVersionRow::default()
    });
    Ok(wire::PolicyHistory {
        policy: policy.to_owned(),
        in_force: stand(policy, in_force, versions.as_ref()),
        shadow: stands.shadow.as_ref().map(rehearsal),
        changes: record.map_or(0, |kept| kept.version),
        versions: kept.chain(unread).collect(),
        past: stands.past.iter().rev().map(stay).collect(),
    })
}

struct View<'a> {
    policy: &'a str,
    record: &'a PolicyRecord,
    in_force: Option<&'a Activation>,
    versions: Option<&'a VersionsInForce>,
}

impl View<'_> {
    /// How a version stands.
    fn row(&self, hash: &str) -> wire::PolicyVersionRow {
        let refused = |refused: &&RefusedVersion| refused.policy == self.policy && refused.hash == hash;
        let refused = self.versions.and_then(|versions| versions.refused.iter().find(refused));
        let shadow = self.record.shadow.as_ref().filter(|shadow| shadow.hash == hash);
        let past = self.record.past.iter().rev().find(|past| past.hash == hash);
        let counts = |place| {
            let counts = self
                .versions
                .and_then(|versions| versions.counts.get(&(self.policy.to_owned(), place)));
            counts.copied().unwrap_or_default()
        };
        let before = past.map_or(TallyCounts::default(), |past| TallyCounts {
            calls: past.calls,
            denials: past.denials,
            failures: past.failures,
        });
        let (state, why, counts) = if let Some(refused) = refused {
            ("refused", refused.text.clone(), TallyCounts::default())
        } else if self.in_force.is_some_and(|stands| stands.hash == hash) {
            ("in_force", String::new(), counts(PolicyPlace::InForce))
        } else if shadow.is_some() {
            ("in_shadow", String::new(), counts(PolicyPlace::Shadow))
        } else {
            match past {
                Some(past) if past.end == End::RolledBack => ("rolled_back", past.why.clone(), before),
                Some(past) => ("earlier", past.why.clone(), before),
                None => ("kept", String::new(), before),
            }
        };
        wire::PolicyVersionRow {
            state: state.to_owned(),
            why,
            calls: counts.calls,
            denials: counts.denials,
            failures: counts.failures,
            activate_at: shadow.and_then(|shadow| shadow.activate_at_ms).map(rfc3339_ms),
            ..wire::PolicyVersionRow::default()
        }
    }
}

/// What is in force of a policy: a version of the store, else what the files say.
pub(in crate::control) fn stand(
    policy: &str,
    in_force: Option<&Activation>,
    versions: Option<&VersionsInForce>,
) -> wire::PolicyStand {
    let file = versions.and_then(|versions| versions.files.get(policy));
    let Some(activation) = in_force else {
        let source = match (file, versions) {
            (Some((origin, _)), _) => source_of(origin),
            (None, Some(_)) => "none",
            (None, None) => "files",
        };
        return wire::PolicyStand {
            source: source.to_owned(),
            origin: file.map(|(origin, _)| origin.clone()).unwrap_or_default(),
            hash: file.map(|(_, hash)| hash.clone()),
            ..wire::PolicyStand::default()
        };
    };
    wire::PolicyStand {
        source: "store".to_owned(),
        origin: format!("store/{policy}@{}", short(&activation.hash)),
        hash: Some(activation.hash.clone()),
        since: Some(rfc3339_ms(activation.since_ms)),
        mode: activation.shadow_only.then(|| "shadow".to_owned()),
        overridden: file.map(|(origin, _)| origin.clone()),
    }
}

pub(in crate::control) fn rehearsal(shadow: &Rehearsal) -> wire::PolicyRehearsal {
    wire::PolicyRehearsal {
        hash: shadow.hash.clone(),
        since: rfc3339_ms(shadow.since_ms),
        activate_at: shadow.activate_at_ms.map(rfc3339_ms),
    }
}

fn stay(past: &Past) -> wire::PolicyStay {
    wire::PolicyStay {
        hash: past.hash.clone(),
        r#in: if past.in_shadow { "shadow" } else { "force" }.to_owned(),
        from: rfc3339_ms(past.from),
        to: rfc3339_ms(past.to),
        end: past.end.name().to_owned(),
        by: past.by.clone(),
        why: past.why.clone(),
        calls: past.calls,
        denials: past.denials,
        failures: past.failures,
    }
}
