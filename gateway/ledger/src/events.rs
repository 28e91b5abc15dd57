//! The events of the journal, in their order, for whoever decides them again: from the beginning of a month on, which says how
//! everything stood, as far as the journal can be believed.

use std::ops::ControlFlow;
use std::path::Path;

use thiserror::Error;

use crate::event::Event;
use crate::head::Head;
use crate::journal::frame::Damage;
use crate::journal::reader::{Damaged, MonthReader, ReadError};
use crate::ledger::Ledger;
use crate::offline::OfflineLedger;
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

/// Visits all events since the beginning of the month that holds `from_ms`, with their sequences, until `visit` breaks. The chain is
/// checked on the way.
fn visit_events(
    stores: &dyn Stores,
    from_ms: i64,
    until: u64,
    mut visit: impl FnMut(u64, Event) -> ControlFlow<()>,
) -> Result<(), JournalStopped> {
    let mut last = 0;
    read_months(stores, from_ms, until, &mut last, &mut visit).map_err(|error| match error {
        ReadError::Damaged(damaged) => JournalStopped {
            month: Some(damaged.month.to_string()),
            after_sequence: last,
            reason: damaged.damage.to_string(),
        },
        ReadError::Store(error) => JournalStopped {
            month: None,
            after_sequence: last,
            reason: error.to_string(),
        },
    })
}

fn read_months(
    stores: &dyn Stores,
    from_ms: i64,
    until: u64,
    last: &mut u64,
    visit: &mut impl FnMut(u64, Event) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let months = stores.months()?;
    let wanted = Month::of_ms(from_ms.max(0));
    // Where the month itself is not there, the first after it.
    let first = months.iter().copied().find(|month| *month >= wanted);
    let mut before: Option<Head> = None;
    for month in months.into_iter().filter(|month| Some(*month) >= first) {
        let Some(store) = stores.month(month)? else { continue };
        let reader = MonthReader { month, store: &*store };
        let Some((_, begins)) = reader.opening()? else { continue };
        if let Some(ends) = before.filter(|ends| *ends != begins) {
            return Err(ReadError::Damaged(Damaged {
                month,
                after_sequence: ends.sequence,
                damage: Damage::Gap {
                    expected: ends.sequence + 1,
                    found: begins.sequence + 1,
                },
            }));
        }
        let mut has_ended = false;
        let head = reader.follow(begins, 0, |placed| {
            has_ended = placed.sequence > until || visit(placed.sequence, placed.event).is_break();
            if has_ended {
                return Ok(ControlFlow::Break(()));
            }
            *last = placed.sequence;
            Ok(ControlFlow::Continue(()))
        })?;
        if has_ended {
            return Ok(());
        }
        before = Some(head);
    }
    // An engine that takes damage for a torn tail drops what comes after it without a word: the heads noted beside it know.
    let found = before.unwrap_or_default();
    let named = stores.heads()?.noted.into_iter().max_by_key(|head| head.sequence);
    match named.filter(|named| named.sequence > found.sequence && named.sequence <= until) {
        Some(named) => Err(ReadError::Damaged(Damaged {
            month: stores.months()?.last().copied().unwrap_or(wanted),
            after_sequence: found.sequence,
            damage: Damage::Behind { named, found },
        })),
        None => Ok(()),
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
