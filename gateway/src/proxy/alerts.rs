//! Alerts as a request's steps raise them: native facts go to the policies' phase `alert`, which say what people are notified of;
//! what is said is put out once a cooldown, counted and logged.

use std::time::Duration;

use ulid::Ulid;

use crate::policy::{Event, PolicyFailure, RequestedAlert};
use crate::proxy::shared::gateway::Gateway;
use crate::telemetry::alerts::{Alert, Severity};

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
    emit(gateway, alert, cooldown);
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
fn emit(gateway: &Gateway, alert: Alert, cooldown: Duration) {
    let (kind, message, policy) = (alert.kind.clone(), alert.message.clone(), alert.policy.clone());
    if gateway.alerts.put(gateway.clock.monotonic_ms(), alert, cooldown) {
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
}

/// Emits the alerts that policies requested: each thing once a cooldown, counted and logged.
pub fn alerts(gateway: &Gateway, origin: Origin<'_>, requested: Vec<RequestedAlert>) {
    if requested.is_empty() {
        return;
    }
    let usual = gateway.rules.load().config.alerts.cooldown;
    for requested in requested {
        let said = requested.details.iter().find(|(name, _)| name == "tenant");
        let tenant = said.map(|(_, tenant)| tenant.as_str());
        let tenant = tenant.or_else(|| requested.about.strip_prefix("tenant:"));
        let alert = Alert {
            tenant: tenant.unwrap_or(origin.tenant).to_owned(),
            kind: requested.kind,
            severity: requested.severity,
            message: requested.message,
            details: requested.details,
            about: requested.about,
            policy: requested.policy.to_string(),
            folded: origin.folded,
            ..blank(gateway)
        };
        emit(gateway, alert, requested.cooldown.map_or(usual, |own| own.max(usual)));
    }
}

/// Notifies the policies of something that happened beside a request's decision, and emits the alerts that they request. Whether
/// they said anything.
pub fn event(gateway: &Gateway, origin: Origin<'_>, event: Event) -> bool {
    let is_of_policies = event.kind == POLICY;
    let (requested, failures) = gateway
        .policies
        .alert(&gateway.rules.load().policies, event, &gateway.balances);
    let is_alarming = !requested.is_empty();
    alerts(gateway, origin, requested);
    // One that fails at this very event would come back here for ever.
    match is_of_policies {
        true => log_failures(&failures),
        false => policies_failed(gateway, &failures),
    }
    is_alarming
}

/// Logs policies that failed where nothing else did, and notifies people.
pub(super) fn policies_failed(gateway: &Gateway, failures: &[PolicyFailure]) {
    log_failures(failures);
    for failure in failures {
        policy_failed(gateway, failure);
    }
}

fn log_failures(failures: &[PolicyFailure]) {
    for failure in failures {
        tracing::error!(
            policy = failure.policy,
            message = failure.message,
            "a policy failed; nothing else did"
        );
    }
}

/// Notifies of a policy that failed, once a cooldown. It fails by itself: the policies are shown it, and where one of them fails
/// at that, the alert is the gateway's own.
pub(super) fn policy_failed(gateway: &Gateway, failure: &PolicyFailure) {
    let Some(folded) = due(gateway, &[POLICY, &failure.policy]) else {
        return;
    };
    let failed = Event::new(POLICY, gateway.clock.now_ms())
        .text("policy", failure.policy.as_str())
        .text("cause", failure.cause.name())
        .text("message", failure.message.as_str());
    event(gateway, Origin { tenant: "", folded }, failed);
}

/// Whether a fact is shown to the policies: not within the usual cooldown of the last time. How many were not, since then.
pub(super) fn due(gateway: &Gateway, thing: &[&str]) -> Option<u64> {
    let cooldown = gateway.rules.load().config.alerts.cooldown;
    gateway.alerts.due(gateway.clock.monotonic_ms(), cooldown, thing)
}
