//! The ledger without a gateway: for the command line, when none runs.

use std::path::Path;
use std::sync::Arc;

use crate::adjustments::{self, AdjustmentQuery, AdjustmentRow};
use crate::books::{Books, OpenHold, Taken};
use crate::change::{ChangePage, ChangeQuery, Document};
use crate::change_rows;
use crate::denial_rows::{DenialQuery, DenialRow};
use crate::derived::Derived;
use crate::entry::Name;
use crate::error::LedgerError;
use crate::head::{Hash, Head};
use crate::import_places::ImportPlace;
use crate::options::Keep;
use crate::query::{self, EntryPage, EntryQuery};
use crate::recover;
use crate::recovered::{self, RecoveredEntry};
use crate::reports::{BalancePage, BalanceRow, balance_page, balance_rows};
use crate::rollup::{Dimension, Filter, Point, Retention, SeriesQuery, Spent, Stretch, SummaryQuery, SummaryRow};
use crate::scan::{Scan, Scanned};
use crate::sessions::Sessions;
use crate::side_table;
use crate::store::{DiskStores, MemoryStores, Pair, Store, Stores};
use crate::verify::{self, Report};

/// The ledger of a gateway that does not run, for reading. Nothing is added to the journal: holds that a crash left open
/// are shown as open, and the next start settles them, once.
pub struct OfflineLedger {
    stores: Arc<dyn Stores>,
    state: Arc<dyn Store>,
    books: Books,
    derived: Derived,
    head: Head,
}

impl OfflineLedger {
    /// `None` where there is no ledger in `dir`.
    pub fn open(dir: &Path, rollups: Retention) -> Result<Option<OfflineLedger>, LedgerError> {
        if !dir.join("journal").is_dir() {
            return Ok(None);
        }
        OfflineLedger::open_in(Arc::new(DiskStores::open(dir)?), rollups).map(Some)
    }

    pub fn open_in(stores: Arc<dyn Stores>, rollups: Retention) -> Result<OfflineLedger, LedgerError> {
        // A state that cannot be read is made anew from the journal, here in memory: nothing is changed.
        let state = match recover::readable_state(&*stores) {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(%error, "the state database cannot be read: all of the journal is");
                MemoryStores::new().state()?
            }
        };
        let recovered = recover::recover(&*stores, &state, Keep::of(rollups), false)?;
        let recover::Recovered {
            books, derived, head, ..
        } = recovered;
        Ok(OfflineLedger {
            stores,
            state,
            books,
            derived,
            head,
        })
    }

    /// The time of the last decision, milliseconds since the epoch.
    pub fn decision_ms(&self) -> i64 {
        self.books.now_ms()
    }

    /// The rows of a small table beside the journal, by its name; see [`crate::Ledger::side_table`].
    ///
    /// # Errors
    /// The disk fails.
    pub fn side_rows(&self, name: &str) -> Result<Vec<Pair>, LedgerError> {
        Ok(side_table::rows_of(&*self.state, name)?)
    }

    pub fn head(&self) -> Head {
        self.head
    }

    pub fn summary(&self, query: &SummaryQuery) -> Vec<SummaryRow> {
        self.derived.rollups.summary(query)
    }

    /// As [`crate::Ledger::summary_of`].
    pub fn summary_of(&self, query: &SummaryQuery, only: &[Filter]) -> Option<Vec<SummaryRow>> {
        self.derived.rollups.summary_of(query, only)
    }

    /// As [`crate::Ledger::sums_over_time_of`].
    pub fn sums_over_time_of(&self, query: &SeriesQuery, only: &[Filter]) -> Option<Vec<(i64, SummaryRow)>> {
        self.derived.rollups.sums_over_time_of(query, only)
    }

    /// As [`crate::Ledger::stretches`].
    pub fn stretches(&self, range: (i64, i64), tenant: Option<&Name>, only: &[Filter]) -> Vec<Stretch> {
        self.derived.rollups.stretches(range, tenant, only)
    }

    /// As [`crate::Ledger::scan`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn scan(
        &self,
        stretches: &[(i64, i64)],
        tenant: Option<&Name>,
        visit: impl FnMut(Scanned<'_>),
    ) -> Result<(), LedgerError> {
        let scan = Scan::new(&self.derived, stretches, tenant, self.head.sequence);
        Ok(scan.run(&*self.stores, visit)?)
    }

    pub fn series(&self, from_ms: i64, to_ms: i64, step_ms: i64, tenant: Option<&Name>) -> Vec<Point> {
        self.derived.rollups.series(from_ms, to_ms, step_ms, tenant)
    }

    pub fn entries(&self, query: &EntryQuery) -> Result<EntryPage, LedgerError> {
        let places = self.derived.import_places.within(query.from_ms, query.to_ms);
        Ok(query::entries(&*self.stores, query, &places, self.head.sequence)?)
    }

    /// As [`crate::Ledger::adjustments`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn adjustments(&self, query: &AdjustmentQuery) -> Result<Vec<AdjustmentRow>, LedgerError> {
        Ok(adjustments::read(&*self.stores, query, self.head.sequence)?)
    }

    /// As [`crate::Ledger::recovered`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn recovered(&self, from_ms: i64) -> Result<Vec<RecoveredEntry>, LedgerError> {
        Ok(recovered::since(&*self.stores, from_ms, self.head.sequence)?)
    }

    pub fn sessions(&self) -> &Sessions {
        &self.derived.sessions
    }

    /// As [`crate::Ledger::sums_over_time`].
    pub fn sums_over_time(&self, query: &SeriesQuery) -> Vec<(i64, SummaryRow)> {
        self.derived.rollups.sums_over_time(query)
    }

    /// As [`crate::Ledger::past`].
    pub fn past(&self, by: Option<&Dimension>, names: &[&str], range: (i64, i64), step_ms: i64) -> Vec<Vec<Spent>> {
        self.derived.rollups.past(by, names, range, step_ms)
    }

    /// As [`crate::Ledger::has_late_entries`].
    pub fn has_late_entries(&self, from_ms: i64, to_ms: i64) -> bool {
        !self.derived.import_places.within(from_ms, to_ms).is_empty()
    }

    /// As [`crate::Ledger::documents`].
    pub fn documents(&self, prefix: &str) -> Vec<Document> {
        let documents = self.books.documents().of(prefix);
        documents.map(|document| Document::clone(document)).collect()
    }

    /// As [`crate::Ledger::changes`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn changes(&self, query: &ChangeQuery) -> Result<ChangePage, LedgerError> {
        Ok(change_rows::read(&*self.stores, self.derived.change_rows.find(query))?)
    }

    /// As [`crate::Ledger::denials`].
    pub fn denials(&self, query: &DenialQuery) -> Vec<DenialRow> {
        self.derived.denial_rows.find(query)
    }

    /// As [`crate::Ledger::links`].
    pub fn links(&self) -> Vec<(Name, Name)> {
        let links = self.books.links();
        links.map(|(legacy, key)| (legacy.clone(), key.clone())).collect()
    }

    /// As [`crate::Ledger::taken`].
    pub fn taken(&self, source: &str) -> Option<Taken> {
        self.books.taken(source)
    }

    pub fn open_holds(&self) -> Vec<OpenHold> {
        let mut holds = self.books.open_holds();
        holds.sort_unstable_by_key(|hold| hold.id);
        holds
    }

    pub fn balances(&self) -> Vec<BalanceRow> {
        balance_rows(self.books.balances())
    }

    /// As [`crate::Ledger::balances_after`].
    pub fn balances_after(&self, prefix: &str, after: Option<&str>, accounts_max: usize) -> BalancePage {
        balance_page(self.books.balances_after(prefix, after, accounts_max))
    }

    pub(crate) fn stores(&self) -> &dyn Stores {
        &*self.stores
    }

    pub(crate) fn import_places(&self, (from_ms, to_ms): (i64, i64)) -> Vec<ImportPlace> {
        self.derived.import_places.within(from_ms, to_ms)
    }

    pub fn verify(&self, expect: Option<Hash>) -> Result<Report, LedgerError> {
        Ok(verify::walk(&*self.stores, expect, self.head.sequence)?)
    }
}
