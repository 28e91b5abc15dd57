//! The events of the journal, in their order, for whoever decides them again: from the beginning of a month on, which says how
//! everything stood, as far as the journal can be believed.

use std::ops::ControlFlow;
use std::path::Path;

use thiserror::Error;

use crate::event::Event;
use crate::journal::reader::ReadError;
use crate::ledger::Ledger;
use crate::offline::OfflineLedger;
use crate::query;
use crate::store::{DiskStores, Month, StoreError, Stores};

/// Where reading ended too early, and why. What was visited before stands.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the journal {}can be read up to event {after_sequence}: {reason}", .month.as_ref().map(|month| format!("of {month} ")).unwrap_or_default())]
pub struct JournalStopped {
    /// `2026-11`, where it is known.
    pub month: Option<String>,
    /// The last event that could be read; 0 for none.
    pub after_sequence: u64,
    pub reason: String,
}

/// Visits all events since the beginning of the month that holds `from_ms`, with their sequences, until `visit` breaks.
fn visit_events(
    stores: &dyn Stores,
    from_ms: i64,
    until: u64,
    mut visit: impl FnMut(u64, Event) -> ControlFlow<()>,
) -> Result<(), JournalStopped> {
    let mut last = 0;
    let mut gap = None;
    let read = query::read_since(stores, Month::of_ms(from_ms).start_ms(), until, |placed| {
        if last != 0 && placed.sequence != last + 1 {
            gap = Some(placed.sequence);
            return ControlFlow::Break(());
        }
        last = placed.sequence;
        visit(placed.sequence, placed.event)
    });
    let stopped = |month, reason| JournalStopped {
        month,
        after_sequence: last,
        reason,
    };
    match (read, gap) {
        (Err(ReadError::Damaged(damaged)), _) => {
            Err(stopped(Some(damaged.month.to_string()), damaged.damage.to_string()))
        }
        (Err(ReadError::Store(error)), _) => Err(stopped(None, error.to_string())),
        (Ok(()), Some(found)) => Err(stopped(None, format!("event {found} follows event {last}"))),
        (Ok(()), None) => Ok(()),
    }
}

/// As [`Ledger::events`], of a journal that no process has open; damage does not keep what is before it from being read.
///
/// # Errors
/// The store cannot be opened; `Ok(Err(…))` where the journal ends too early.
pub fn journal_events(
    dir: &Path,
    from_ms: i64,
    visit: impl FnMut(u64, Event) -> ControlFlow<()>,
) -> Result<Result<(), JournalStopped>, StoreError> {
    let stores = DiskStores::open(dir)?;
    Ok(visit_events(&stores, from_ms, u64::MAX, visit))
}

impl Ledger {
    /// Visits all events on disk since the beginning of the month that holds `from_ms`, with their sequences, until `visit`
    /// breaks, while others are written. Blocks.
    ///
    /// # Errors
    /// Where the journal cannot be read on.
    pub fn events(&self, from_ms: i64, visit: impl FnMut(u64, Event) -> ControlFlow<()>) -> Result<(), JournalStopped> {
        visit_events(self.stores(), from_ms, self.head().sequence, visit)
    }
}

impl OfflineLedger {
    /// As [`Ledger::events`].
    ///
    /// # Errors
    /// Where the journal cannot be read on.
    pub fn events(&self, from_ms: i64, visit: impl FnMut(u64, Event) -> ControlFlow<()>) -> Result<(), JournalStopped> {
        visit_events(self.stores(), from_ms, u64::MAX, visit)
    }
}
