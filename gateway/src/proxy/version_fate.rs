//! What became of a version of a policy by itself, for people to know. A fact like any other, which the policies make an alert of;
//! but it must not be lost where the version is one of that very policy.

use std::time::Duration;

use crate::policy::{Event, Excess};
use crate::proxy::alerts::{Origin, OwnAlert, event, own_alert};
use crate::proxy::shared::gateway::Gateway;
use crate::telemetry::alerts::{Occurrence, Severity};

/// What cannot be done is tried again and again, and said once in a while.
const COOLDOWN: Duration = Duration::from_secs(300);
/// The event.
const VERSION: &str = "version";
/// Characters of a hash that name a version.
const HASH_CHARS: usize = 12;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Too many of its calls failed.
    RolledBack {
        excess: Excess,
        /// What is in force now, a hash; empty for the file's, or nothing.
        in_force: String,
    },
    /// It should be in force, and cannot be read back or does not load.
    Refused,
    /// Its time in shadow is over, and it does not fit.
    NotActivated,
}

impl Fate {
    /// As the event says it, and as an alert of the gateway's own does.
    fn names(&self) -> (&'static str, &'static str) {
        match self {
            Fate::RolledBack { .. } => ("rolled_back", "policy_rolled_back"),
            Fate::Refused => ("refused", "policy_version_refused"),
            Fate::NotActivated => ("not_activated", "policy_not_activated"),
        }
    }
}

pub struct VersionFate<'a> {
    pub fate: Fate,
    pub policy: &'a str,
    /// Its hash; empty where not even that could be read.
    pub version: &'a str,
    /// For people.
    pub message: String,
}

/// Shows it to the policies. Where none says something of it, and none that listens to it is there to say nothing, or one fails at
/// it, the alert is the gateway's own.
pub fn notify(gateway: &Gateway, became: VersionFate<'_>) {
    let VersionFate {
        fate,
        policy,
        version,
        message,
    } = became;
    let (state, kind) = fate.names();
    let (thing, monotonic_ms) = ([state, policy, version], gateway.clock.monotonic_ms());
    let due = gateway
        .alerts
        .due(monotonic_ms, COOLDOWN, (VERSION, &thing), Occurrence::New);
    if due.is_none() {
        return;
    }
    let mut details = vec![
        ("policy".to_owned(), policy.to_owned()),
        ("version".to_owned(), version.to_owned()),
    ];
    if let Fate::RolledBack { excess, in_force } = fate {
        let more = [
            ("calls", excess.calls.to_string()),
            ("failures", excess.failures.to_string()),
            ("in_force", in_force),
        ];
        details.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    let mut shown = Event::new(VERSION, gateway.clock.now_ms())
        .text("state", state)
        .text("message", message.as_str());
    for (name, value) in &details {
        shown = shown.named_text(name, value);
    }
    let is_listened_to = gateway.rules.load().policies.listens_to(VERSION);
    let shown = event(gateway, Origin::new(""), shown);
    if shown.is_failed || !(shown.is_alarming || is_listened_to) {
        let name = version.get(..HASH_CHARS).unwrap_or(version);
        let own = OwnAlert {
            kind,
            severity: Severity::Critical,
            about: format!("{policy}@{name}"),
            message,
            details,
        };
        own_alert(gateway, own, COOLDOWN);
    }
}
