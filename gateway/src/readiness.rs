//! Whether requests are taken, and why not: the one place that says what the ledger's health means, for both planes.

use agentledger_ledger::Health;

/// Why no requests are taken at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// In a word or two, always the same.
    pub status: &'static str,
    /// For people.
    pub reason: String,
}

/// `None`: requests are taken.
pub fn not_ready(health: &Health) -> Option<NotReady> {
    let reason = health.stopped.as_ref()?;
    Some(NotReady {
        status: "ledger stopped",
        reason: format!("the ledger writes no more: {reason}"),
    })
}
