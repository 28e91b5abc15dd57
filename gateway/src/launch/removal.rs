//! Taking away what an operator changed while no gateway runs: the way out where it keeps one from starting.

use std::sync::Arc;

use agentledger_ledger::{Change, Ledger, SystemClock};
use ulid::Ulid;

use super::{LaunchError, ledger_options};
use crate::config::Config;

/// Takes a document (`rule:ID`, `price:PROVIDER/MODEL`, `provider:NAME`) away in a ledger that no gateway has open, and records it
/// as its owner's. What the policies say to it is not looked at. Whether it was there.
///
/// # Errors
/// The ledger cannot be opened: a gateway has it, say. Or it cannot be written.
pub fn remove_document(config: &Config, subject: &str, note: &str) -> Result<bool, LaunchError> {
    let ledger = Ledger::open(ledger_options(config), Arc::new(SystemClock::default()))?;
    let removed = remove(&ledger, subject, note);
    ledger.close();
    removed
}

fn remove(ledger: &Ledger, subject: &str, note: &str) -> Result<bool, LaunchError> {
    let Some(document) = ledger.document(subject) else {
        return Ok(false);
    };
    let at_ms = ledger.decision_ms();
    let kind = subject.split_once(':').map_or(subject, |(kind, _)| kind);
    ledger.change(Change {
        id: Ulid::from_parts(u64::try_from(at_ms).unwrap_or_default(), rand::random()),
        at_ms,
        author: "owner".into(),
        peer: "files".into(),
        action: format!("{kind}.delete").into(),
        subject: document.subject,
        tenant: document.tenant,
        note: note.into(),
        before: Some(document.value),
        after: None,
        kept: true,
        request: None,
    })?;
    Ok(true)
}
