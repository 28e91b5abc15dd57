//! What happens to versions of policies by itself: an activation that waited is due, and a version that fails is rolled back.

use agentledger_ledger::{Change, Ledger, Name};

use super::Reloads;
use super::reloads::{OWN_NAME, RETRY_MS};
use super::sources::Sources;
use crate::config::Config;
use crate::control::RpcError;
use crate::policy::FailureLimit;
use crate::proxy::version_fate::{Fate, VersionFate, notify};
use crate::runtime::{Ending, FailingVersion, PolicyPlace, PolicyRecord, PolicyStep, RefusedVersion, change_id, short};

/// How much of a version's calls may fail.
pub(super) fn failure_limit(config: &Config) -> Option<FailureLimit> {
    config.policies.rollback.map(|rollback| FailureLimit {
        share: u64::from(rollback.share_ppm),
        calls: rollback.calls,
    })
}

impl Reloads {
    /// Puts the versions in force whose time in shadow is over. How long it is until the next one's is, in milliseconds.
    pub(super) fn activate_due(&self) -> Option<u64> {
        let ledger = &self.gateway().ledger;
        let now_ms = ledger.now_ms();
        let mut sources = self.sources().lock();
        let book = &sources.parts.policies;
        let (due_ms, policy) = book.next_due()?;
        let from_ms = due_ms.max(sources.activate_from_ms);
        if from_ms > now_ms {
            return u64::try_from(from_ms.saturating_sub(now_ms)).ok();
        }
        let policy = policy.to_owned();
        let record = book.record(&policy)?.record.clone();
        let shadow = record.shadow.clone()?;
        let ending = ending(&sources, &policy, now_ms, "its time in shadow is over".to_owned());
        let activated = record.activated(&shadow.hash, shadow.shadow_only, &ending);
        let put = self.put_by_itself(&mut sources, &policy, activated, "policy.activate", &ending.why);
        let Err(error) = put else {
            tracing::info!(
                "policy {policy}: version {} is in force, {}",
                short(&shadow.hash),
                ending.why
            );
            return Some(0);
        };
        // It stays in shadow, and waits no more.
        let mut waiting = record;
        if let Some(shadow) = waiting.shadow.as_mut() {
            shadow.activate_at_ms = None;
        }
        let why = format!("it could not be put in force: {error}");
        if let Err(error) = self.put_by_itself(&mut sources, &policy, waiting, "policy.activate", &why) {
            tracing::error!("policy {policy}: {error}");
            sources.activate_from_ms = now_ms.saturating_add(RETRY_MS);
        }
        let message = format!(
            "policy {policy}: version {} stays in shadow: {why}",
            short(&shadow.hash)
        );
        let fate = VersionFate {
            fate: Fate::NotActivated,
            policy: &policy,
            version: &shadow.hash,
            message,
        };
        notify(self.gateway(), fate);
        Some(0)
    }

    /// Rolls back the versions of which more calls failed than may, soon after they came into force; one in shadow runs no
    /// more.
    pub(super) fn roll_back_failing(&self) {
        let mut sources = self.sources().lock();
        let failing = sources.tallies.failing();
        let Some(rollback) = self.gateway().rules.load().config.policies.rollback else {
            return;
        };
        let now_ms = self.gateway().ledger.now_ms();
        for version in failing {
            let within_ms = i64::try_from(rollback.within.as_millis()).unwrap_or(i64::MAX);
            if now_ms.saturating_sub(version.since_ms) <= within_ms {
                self.roll_back(&mut sources, &version);
            }
        }
    }

    fn roll_back(&self, sources: &mut Sources, failing: &FailingVersion) {
        let FailingVersion {
            policy,
            place,
            hash,
            excess,
            ..
        } = failing;
        let Some(record) = sources.parts.policies.record(policy).map(|kept| kept.record.clone()) else {
            return;
        };
        let now_ms = self.gateway().ledger.now_ms();
        let ending = ending(sources, policy, now_ms, excess.to_string());
        let mut unfit = 0;
        let (next, put) = loop {
            let next = match place {
                PolicyPlace::InForce => record.rolled_back_past(Some(hash), unfit, &ending),
                PolicyPlace::Shadow => record.unrehearsed(&ending),
            };
            let put = self.put_by_itself(sources, policy, next.clone(), "policy.rollback", &ending.why);
            // What was before may not load any more: then what was before that.
            let has_more = *place == PolicyPlace::InForce && next.in_force.is_some();
            match put {
                Err(RpcError::Unfit { .. }) if has_more => unfit += 1,
                put => break (next, put),
            }
        };
        let (version, why) = (short(hash), &ending.why);
        let now = match (place, &next.in_force, sources.versions().files.get(policy)) {
            (PolicyPlace::Shadow, ..) => "it runs in shadow no more".to_owned(),
            (_, Some(now), _) => format!("version {} is in force", short(&now.hash)),
            (_, None, Some((file, _))) => format!("{file} is in force"),
            (_, None, None) => "nothing of it is in force, as before its activation".to_owned(),
        };
        let message = match put {
            Ok(()) => format!("policy {policy}: version {version} is rolled back, {why}: {now}"),
            Err(error) => format!("policy {policy}: version {version} cannot be rolled back, {why}: {error}"),
        };
        let fate = VersionFate {
            fate: Fate::RolledBack {
                excess: *excess,
                in_force: next.in_force.map(|now| now.hash).unwrap_or_default(),
            },
            policy,
            version: hash,
            message,
        };
        notify(self.gateway(), fate);
    }

    /// What the gateway itself makes of a policy: checked, recorded, and in force.
    fn put_by_itself(
        &self,
        sources: &mut Sources,
        policy: &str,
        record: PolicyRecord,
        action: &str,
        why: &str,
    ) -> Result<(), RpcError> {
        let gateway = self.gateway();
        let rules = gateway.rules.load_full();
        let step = PolicyStep::of_record(policy, record);
        let planned = sources.plan(&rules.policies, &step, gateway.clock.now_ms())?;
        let changes = changes(&gateway.ledger, &step, sources, action, why);
        gateway.ledger.change_together(changes).map_err(RpcError::ledger)?;
        self.take(sources, planned, &rules);
        Ok(())
    }

    /// Notifies people of versions that should be in force and cannot be.
    pub(super) fn tell_refused(&self, refused: &[RefusedVersion]) {
        for refused in refused {
            let fate = VersionFate {
                fate: Fate::Refused,
                policy: &refused.policy,
                version: &refused.hash,
                message: refused.to_string(),
            };
            notify(self.gateway(), fate);
        }
    }
}

/// What ends now, by the gateway itself.
fn ending(sources: &Sources, policy: &str, at_ms: i64, why: String) -> Ending {
    Ending {
        at_ms,
        by: OWN_NAME.to_owned(),
        why,
        in_force: sources.tallies.counts(policy, PolicyPlace::InForce),
        in_shadow: sources.tallies.counts(policy, PolicyPlace::Shadow),
    }
}

fn changes(ledger: &Ledger, step: &PolicyStep, sources: &Sources, action: &str, why: &str) -> Vec<Change> {
    let at_ms = ledger.decision_ms();
    let id = change_id(at_ms);
    let parts = step.parts(&sources.parts.policies).into_iter();
    let change = parts.map(|part| Change {
        id,
        at_ms,
        author: OWN_NAME.into(),
        peer: OWN_NAME.into(),
        action: action.into(),
        subject: part.subject.into(),
        tenant: Name::from(""),
        note: why.into(),
        before: part.before.map(|before| before.to_string().into()),
        after: part.after.map(|after| after.to_string().into()),
        kept: true,
        min_version: 0,
        request: None,
    });
    change.collect()
}
