//! Whether requests are taken, and why not: the one place that says what the ledger's health means, for both planes.

use agentledger_ledger::{ClockState, Health};
use serde_json::{Value, json};

/// Checkpoints that fail for so long mean a start that reads all the journal, and memory that grows.
const CHECKPOINT_AGE_MAX_MS: i64 = 15 * 60_000;

/// Why no requests are taken at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// In a word or two, always the same.
    pub status: &'static str,
    /// For people.
    pub reason: String,
}

/// What `/readyz` says where requests are taken: by versions of policies that are not those which should be in force, where
/// some are refused.
pub fn ready(refused_policies: &[String]) -> Value {
    match refused_policies {
        [] => json!({ "status": "ready" }),
        refused => json!({ "status": "ready", "refused_policies": refused }),
    }
}

/// `None`: requests are taken.
pub fn not_ready(health: &Health) -> Option<NotReady> {
    let (status, reason) = match (&health.stopped, &health.suspended, health.clock) {
        (Some(reason), _, _) => ("ledger stopped", format!("the ledger writes no more: {reason}")),
        (None, Some(reason), _) => (
            "ledger suspended",
            format!("the ledger cannot write for now, and tries again: {reason}"),
        ),
        (None, None, ClockState::Ahead { ms }) => (
            "clock ahead",
            format!("the machine's clock is {ms} ms ahead of what can have passed: nothing is held by it"),
        ),
        (None, None, ClockState::Sound | ClockState::Behind { .. }) => match &health.checkpoint_failed {
            Some(reason) if health.checkpoint_age_ms > CHECKPOINT_AGE_MAX_MS => (
                "checkpoints fail",
                format!(
                    "no checkpoint could be written for {} s: {reason}",
                    health.checkpoint_age_ms / 1_000
                ),
            ),
            _ => return None,
        },
    };
    Some(NotReady { status, reason })
}
