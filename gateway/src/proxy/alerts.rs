//! Alerts as a request's steps raise them: native facts go to the policies' phase `alert`, which say what people are notified of;
//! what is said is put out once a cooldown, counted and logged.

use std::time::Duration;

use ulid::Ulid;

use crate::policy::{Event, PolicyFailure, RequestedAlert};
use crate::proxy::shared::gateway::Gateway;
use crate::telemetry::alerts::{Alert, Occurrence, Severity};

/// The event of a policy that failed.
const POLICY: &str = "policy";

/// Something that people should know, by the gateway itself and no policy.
pub struct OwnAlert {
    pub kind: &'static str,
    pub severity: Severity,
    pub about: String,
    pub message: String,
    pub details: Vec<(String, String)>,
}

/// Emits an alert of the gateway's own: counted, logged, and once a cooldown.
pub fn own_alert(gateway: &Gateway, own: OwnAlert, cooldown: Duration) {
    let alert = Alert {
        kind: own.kind.to_owned(),
        severity: own.severity,
        message: own.message,
        details: own.details,
        about: own.about,
        ..blank(gateway)
    };
    emit(gateway, alert, cooldown, Occurrence::New);
}

/// An alert of now, without anything to say.
fn blank(gateway: &Gateway) -> Alert {
    let at_ms = gateway.clock.now_ms();
    Alert {
        id: Ulid::from_parts(u64::try_from(at_ms).unwrap_or_default(), rand::random()),
        at_ms,
        kind: String::new(),
        severity: Severity::Warning,
        message: String::new(),
        details: Vec::new(),
        about: String::new(),
        tenant: String::new(),
        policy: String::new(),
        folded: 0,
    }
}

/// Counts and logs an alert that is not one of a cooldown.
fn emit(gateway: &Gateway, alert: Alert, cooldown: Duration, occurrence: Occurrence) {
    let (kind, message, policy) = (alert.kind.clone(), alert.message.clone(), alert.policy.clone());
    let monotonic_ms = gateway.clock.monotonic_ms();
    if gateway.alerts.put(monotonic_ms, alert, cooldown, occurrence) {
        gateway.metrics.alert(&kind);
        let policy = (!policy.is_empty()).then_some(&*policy);
        tracing::warn!(r#type = kind, message, policy, "alert");
    }
}

/// Where alerts that policies requested come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// Whose matter it is, where an alert does not say so itself.
    pub tenant: &'a str,
    /// Events like this one that were not shown to policies since the last one.
    pub folded: u64,
    pub occurrence: Occurrence,
}

impl<'a> Origin<'a> {
    /// Something that happened, to nobody in particular where the tenant is empty.
    pub fn new(tenant: &'a str) -> Origin<'a> {
        Origin {
            tenant,
            ..Origin::default()
        }
    }

    #[must_use]
    pub fn folding(self, folded: u64) -> Origin<'a> {
        Origin { folded, ..self }
    }

    /// Something that stands, and is looked at again and again.
    #[must_use]
    pub fn standing(self) -> Origin<'a> {
        Origin {
            occurrence: Occurrence::Standing,
            ..self
        }
    }
}

/// Whose matter an alert is: what it says itself, then whose the account is that it is about. What accounts of all tenants spend
/// is no matter of the one whose call brought it to light.
fn tenant_of<'a>(details: &'a [(String, String)], origin: &'a str) -> &'a str {
    let said = |wanted| {
        let mut details = details.iter();
        details
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    if let Some(tenant) = said("tenant") {
        return tenant;
    }
    let account = said("account").unwrap_or_default();
    match account.split_once(':').map_or((account, ""), |parts| parts) {
        ("tenant", tenant) => tenant,
        ("global" | "provider" | "model", _) => "",
        _ => origin,
    }
}

/// Emits the alerts that policies requested: each thing once a cooldown, counted and logged.
pub fn alerts(gateway: &Gateway, origin: Origin<'_>, requested: Vec<RequestedAlert>) {
    if requested.is_empty() {
        return;
    }
    let usual = gateway.rules.load().config.alerts.cooldown;
    for requested in requested {
        let alert = Alert {
            tenant: tenant_of(&requested.details, origin.tenant).to_owned(),
            kind: requested.kind,
            severity: requested.severity,
            message: requested.message,
            details: requested.details,
            about: requested.about,
            policy: requested.policy.to_string(),
            folded: origin.folded,
            ..blank(gateway)
        };
        let cooldown = requested.cooldown.map_or(usual, |own| own.max(usual));
        emit(gateway, alert, cooldown, origin.occurrence);
    }
}

/// What came of an event that was shown to the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// They said something of it.
    pub is_alarming: bool,
    /// One of them failed at it.
    pub is_failed: bool,
}

/// Notifies the policies of something that happened beside a request's decision, and emits the alerts that they request.
pub fn event(gateway: &Gateway, origin: Origin<'_>, event: Event) -> Shown {
    let is_of_policies = event.kind == POLICY;
    let (requested, failures) = gateway
        .policies
        .alert(&gateway.rules.load().policies, event, &gateway.balances);
    let shown = Shown {
        is_alarming: !requested.is_empty(),
        is_failed: !failures.is_empty(),
    };
    alerts(gateway, origin, requested);
    // One that fails at this very event would come back here for ever: of it the gateway notifies people itself.
    match is_of_policies {
        true => failures.iter().for_each(|failure| failed_at_failures(gateway, failure)),
        false => policies_failed(gateway, &failures),
    }
    shown
}

/// Logs policies that failed where nothing else did, and notifies people.
pub(super) fn policies_failed(gateway: &Gateway, failures: &[PolicyFailure]) {
    for failure in failures {
        log_failure(failure);
        policy_failed(gateway, failure);
    }
}

fn log_failure(failure: &PolicyFailure) {
    tracing::error!(
        policy = failure.policy,
        message = failure.message,
        "a policy failed; nothing else did"
    );
}

/// Notifies of a policy that failed, once a cooldown. It fails by itself: the policies are shown it, and where one of them fails
/// at that, the alert is the gateway's own.
pub(super) fn policy_failed(gateway: &Gateway, failure: &PolicyFailure) {
    let Some(folded) = due(gateway, POLICY, &[&failure.policy], Occurrence::New) else {
        return;
    };
    let failed = Event::new(POLICY, gateway.clock.now_ms())
        .text("policy", failure.policy.as_str())
        .text("cause", failure.cause.name())
        .text("message", failure.message.as_str());
    event(gateway, Origin::new("").folding(folded), failed);
}

/// The gateway's own alert, in the words of `alert.lua`, where the policy that turns failures into alerts is the one that fails.
fn failed_at_failures(gateway: &Gateway, failure: &PolicyFailure) {
    log_failure(failure);
    let PolicyFailure { policy, message, .. } = failure;
    let own = OwnAlert {
        kind: "policy_error",
        severity: Severity::Critical,
        about: format!("policy:{policy}"),
        message: format!("policy {policy} failed: {message}"),
        details: vec![
            ("policy".to_owned(), policy.clone()),
            ("cause".to_owned(), failure.cause.name().to_owned()),
        ],
    };
    own_alert(gateway, own, gateway.rules.load().config.alerts.cooldown);
}

/// Whether a fact is shown to the policies: not within the usual cooldown of the last time. How many were not, since then.
pub(super) fn due(gateway: &Gateway, kind: &str, thing: &[&str], occurrence: Occurrence) -> Option<u64> {
    let cooldown = gateway.rules.load().config.alerts.cooldown;
    let monotonic_ms = gateway.clock.monotonic_ms();
    gateway.alerts.due(monotonic_ms, cooldown, (kind, thing), occurrence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_alert_is_its_accounts_tenants_matter_then_the_calls() {
        let of = |name: &str, value: &str| tenant_of(&[(name.to_owned(), value.to_owned())], "caller").to_owned();
        assert_eq!(of("tenant", "acme"), "acme");
        assert_eq!(of("account", "tenant:acme eu"), "acme eu");
        for of_all in ["global", "model:gpt-4o", "provider:openai"] {
            assert_eq!(of("account", of_all), "", "{of_all}");
        }
        for of_one in ["key:f1", "agent:ci", "tag:team=ml"] {
            assert_eq!(of("account", of_one), "caller", "{of_one}");
        }
        assert_eq!(of("window", "month"), "caller");
    }
}
