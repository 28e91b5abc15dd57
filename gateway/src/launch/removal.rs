//! Taking away what an operator changed while no gateway runs: the way out where it keeps one from starting.

use std::sync::Arc;

use agentledger_ledger::{Change, Document, Ledger, SystemClock};
use ulid::Ulid;

use super::{LaunchError, ledger_options};
use crate::config::Config;
use crate::runtime::change_id;

/// Takes a document (`rule:ID`, `price:PROVIDER/MODEL`, `provider:NAME`) away in a ledger that no gateway has open, and records it
/// as its owner's. What the policies say to it is not looked at. What it was, and the change; `None` where it was not there.
///
/// # Errors
/// The ledger cannot be opened: a gateway has it, say. Or it cannot be written.
pub fn remove_document(config: &Config, subject: &str, note: &str) -> Result<Option<(Document, Ulid)>, LaunchError> {
    let ledger = Ledger::open(ledger_options(config), Arc::new(SystemClock::default()))?;
    let removed = remove(&ledger, subject, note);
    ledger.close();
    removed
}

fn remove(ledger: &Ledger, subject: &str, note: &str) -> Result<Option<(Document, Ulid)>, LaunchError> {
    let Some(document) = ledger.document(subject) else {
        return Ok(None);
    };
    let at_ms = ledger.decision_ms();
    let kind = subject.split_once(':').map_or(subject, |(kind, _)| kind);
    let id = change_id(at_ms);
    ledger.change(Change {
        id,
        at_ms,
        author: "owner".into(),
        peer: "files".into(),
        action: format!("{kind}.delete").into(),
        subject: document.subject.clone(),
        tenant: document.tenant.clone(),
        note: note.into(),
        before: Some(Arc::clone(&document.value)),
        after: None,
        kept: true,
        min_version: 0,
        request: None,
    })?;
    Ok(Some((document, id)))
}
