//! Sums, and what they are sums of: read from derived state, or back from the journal. Nothing here is for a request's way.

use super::Ledger;
use crate::adjustments::{self, AdjustmentQuery, AdjustmentRow};
use crate::entry::{Entry, Name};
use crate::error::LedgerError;
use crate::peaks::Durations;
use crate::query::{self, EntryPage, EntryQuery};
use crate::rollup::{DAY_MS, Dimension, Filter, Point, SeriesQuery, Spent, Stretch, SummaryQuery, SummaryRow};
use crate::scan::{Scan, Scanned};

impl Ledger {
    /// Sums over time, by period and by value of the dimension, in the order of time, dearest first within a period. Past a
    /// thousand names those that cost least are one, `other`.
    pub fn sums_over_time(&self, query: &SeriesQuery) -> Vec<(i64, SummaryRow)> {
        self.derived.read().rollups.sums_over_time(query)
    }

    /// By name of the dimension, what each spent between, bucket by bucket; without a dimension what all did, for the one name.
    pub fn past(&self, by: Option<&Dimension>, names: &[&str], range: (i64, i64), step_ms: i64) -> Vec<Vec<Spent>> {
        self.derived.read().rollups.past(by, names, range, step_ms)
    }

    /// Whether entries of this stretch were imported, or entered long after their time.
    pub fn has_late_entries(&self, from_ms: i64, to_ms: i64) -> bool {
        !self.derived.read().import_places.within(from_ms, to_ms).is_empty()
    }

    /// Sums of entries on disk, dearest first.
    pub fn summary(&self, query: &SummaryQuery) -> Vec<SummaryRow> {
        self.derived.read().rollups.summary(query)
    }

    /// As [`Ledger::summary`], of those entries alone that bear all of some names; `None` where no sums tell: they are kept by kind.
    pub fn summary_of(&self, query: &SummaryQuery, only: &[Filter]) -> Option<Vec<SummaryRow>> {
        self.derived.read().rollups.summary_of(query, only)
    }

    /// As [`Ledger::sums_over_time`], of those entries alone that bear all of some names.
    pub fn sums_over_time_of(&self, query: &SeriesQuery, only: &[Filter]) -> Option<Vec<(i64, SummaryRow)>> {
        self.derived.read().rollups.sums_over_time_of(query, only)
    }

    /// Where in time there may be entries that bear all of some names, in its order.
    pub fn stretches(&self, range: (i64, i64), tenant: Option<&Name>, only: &[Filter]) -> Vec<Stretch> {
        self.derived.read().rollups.stretches(range, tenant, only)
    }

    /// Every entry of some stretches of whole minutes, hours or days, as they stand now, and what they were corrected by. Reads the
    /// journal: not for the request path.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn scan(
        &self,
        stretches: &[(i64, i64)],
        tenant: Option<&Name>,
        visit: impl FnMut(Scanned<'_>),
    ) -> Result<(), LedgerError> {
        let scan = Scan::new(&self.derived.read(), stretches, tenant, self.head().sequence);
        Ok(scan.run(&*self.stores, visit)?)
    }

    /// Sums by periods of `step_ms`.
    pub fn series(&self, from_ms: i64, to_ms: i64, step_ms: i64, tenant: Option<&Name>) -> Vec<Point> {
        self.derived.read().rollups.series(from_ms, to_ms, step_ms, tenant)
    }

    /// How long the requests took that began between, by whole hours; of the last 32 days.
    pub fn durations(&self, from_ms: i64, to_ms: i64, tenant: Option<&Name>) -> Durations {
        self.derived.read().peaks.durations(from_ms, to_ms, tenant)
    }

    /// The dearest entries whose requests began between, dearest first: of the last 32 days, and [`crate::DEAREST_MAX`] at most.
    /// Two point reads of the journal each: not for the request path.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn dearest(
        &self,
        from_ms: i64,
        to_ms: i64,
        tenant: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        let places = self.derived.read().peaks.dearest(from_ms, to_ms, tenant, limit);
        let entries = places.into_iter().map(|place| query::entry_at(&*self.stores, place));
        Ok(entries.filter_map(Result::transpose).collect::<Result<_, _>>()?)
    }

    /// The same, `None` where there may be dearer ones: of a stretch longer ago, of one with imported entries, or of more tenants in an
    /// hour than are told apart.
    pub fn dearest_of_all(
        &self,
        (from_ms, to_ms): (i64, i64),
        tenant: Option<&Name>,
        limit: usize,
    ) -> Option<Result<Vec<Entry>, LedgerError>> {
        if self.has_late_entries(from_ms, to_ms) {
            return None;
        }
        let is_whole = {
            let derived = self.derived.read();
            let points = derived.rollups.series(from_ms, to_ms, DAY_MS, tenant);
            let first_ms = points
                .iter()
                .map(|point| point.totals.first_ms)
                .min()
                .unwrap_or(i64::MAX);
            derived.peaks.are_whole((from_ms, to_ms), first_ms, tenant)
        };
        is_whole.then(|| self.dearest(from_ms, to_ms, tenant, limit))
    }

    /// One page of entries on disk. Reads the journal: not for the request path.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn entries(&self, query: &EntryQuery) -> Result<EntryPage, LedgerError> {
        let places = self.derived.read().import_places.within(query.from_ms, query.to_ms);
        Ok(query::entries(&*self.stores, query, &places, self.head().sequence)?)
    }

    /// Corrections of the entries of a stretch of time. Reads the journal: not for the request path.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn adjustments(&self, query: &AdjustmentQuery) -> Result<Vec<AdjustmentRow>, LedgerError> {
        Ok(adjustments::read(&*self.stores, query, self.head().sequence)?)
    }
}
