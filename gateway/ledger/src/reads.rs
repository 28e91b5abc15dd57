//! Reads of single things, by a running ledger and by one that no gateway has open alike. All of them block.

use std::ops::ControlFlow;

use ulid::Ulid;

use crate::by_id::{self, Found};
use crate::error::LedgerError;
use crate::event::HoldId;
use crate::head::Hash;
use crate::journal_rows::{self, JournalMonth, JournalRow};
use crate::ledger::Ledger;
use crate::offline::OfflineLedger;
use crate::session_rows::{self, SessionRows, SessionRowsQuery};
use crate::verify::{self, Report};

/// An id's own millisecond, and what an import may have rounded it by.
const IMPORTED_WITHIN_MS: i64 = 1_000;

fn about(id: Ulid) -> (i64, i64) {
    let at_ms = i64::try_from(id.timestamp_ms()).unwrap_or(i64::MAX);
    (
        at_ms.saturating_sub(IMPORTED_WITHIN_MS),
        at_ms.saturating_add(IMPORTED_WITHIN_MS),
    )
}

impl Ledger {
    /// What the journal knows of the exchange with this id.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn by_id(&self, id: Ulid) -> Result<Found, LedgerError> {
        let places = self.import_places(about(id));
        let is_open = |hold: HoldId| self.open_hold(hold).is_some();
        Ok(by_id::find(self.stores(), id, &places, self.head().sequence, &is_open)?)
    }

    /// Entries and recorded refusals of some sessions.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn session_rows(&self, query: &SessionRowsQuery) -> Result<SessionRows, LedgerError> {
        let places = self.import_places((query.from_ms, query.to_ms));
        Ok(session_rows::read(self.stores(), query, &places, self.head().sequence)?)
    }

    /// Months of the journal, oldest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn journal_months(&self) -> Result<Vec<JournalMonth>, LedgerError> {
        Ok(journal_rows::months(self.stores(), self.head())?)
    }

    /// The last events before the one with this sequence, latest first; without it, the last that are on disk.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn latest_events(&self, before: Option<u64>, limit: usize) -> Result<Vec<JournalRow>, LedgerError> {
        let end = self.head().sequence.saturating_add(1);
        let before = before.map_or(end, |before| before.min(end));
        Ok(journal_rows::latest(self.stores(), before, limit)?)
    }

    /// As [`Ledger::verify`]; `watch` is told how many events were walked and may end it: then there is no report.
    ///
    /// # Errors
    /// The disk fails.
    pub fn verify_watched(
        &self,
        expect: Option<Hash>,
        watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<Report>, LedgerError> {
        Ok(verify::walk_watched(
            self.stores(),
            expect,
            self.head().sequence,
            watch,
        )?)
    }
}

impl OfflineLedger {
    /// As [`Ledger::by_id`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn by_id(&self, id: Ulid) -> Result<Found, LedgerError> {
        let places = self.import_places(about(id));
        let open: Vec<HoldId> = self.open_holds().iter().map(|hold| hold.id).collect();
        let is_open = |hold: HoldId| open.contains(&hold);
        Ok(by_id::find(self.stores(), id, &places, self.head().sequence, &is_open)?)
    }

    /// As [`Ledger::session_rows`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn session_rows(&self, query: &SessionRowsQuery) -> Result<SessionRows, LedgerError> {
        let places = self.import_places((query.from_ms, query.to_ms));
        Ok(session_rows::read(self.stores(), query, &places, self.head().sequence)?)
    }

    /// As [`Ledger::journal_months`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn journal_months(&self) -> Result<Vec<JournalMonth>, LedgerError> {
        Ok(journal_rows::months(self.stores(), self.head())?)
    }

    /// As [`Ledger::latest_events`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn latest_events(&self, before: Option<u64>, limit: usize) -> Result<Vec<JournalRow>, LedgerError> {
        let end = self.head().sequence.saturating_add(1);
        let before = before.map_or(end, |before| before.min(end));
        Ok(journal_rows::latest(self.stores(), before, limit)?)
    }
}
