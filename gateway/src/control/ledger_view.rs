//! The ledger as the methods read it: that of a running gateway, or one that no gateway has open.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{
    AdjustmentQuery, AdjustmentRow, BalancePage, ChangePage, ChangeQuery, Clock, DenialQuery, DenialRow, Dimension,
    Document, Entry, EntryPage, EntryQuery, Filter, Found, Hash, Health, HoldId, JournalMonth, JournalRow, Ledger,
    LedgerError, Name, OfflineLedger, OpenHold, RecoveredEntry, Report, RequestedLimit, Scanned, SeriesQuery,
    SessionRows, SessionRowsQuery, Sessions, Spent, Standing, Stretch, SummaryQuery, SummaryRow, SystemClock, Taken,
};
use ulid::Ulid;

use crate::alerting::{DeliveryState, left_in};
use crate::control::error::RpcError;
use crate::readiness::not_ready;
use crate::telemetry::alerts::Alert;

/// How long what was decided may take to reach the disk, before an answer says that it does not.
const FLUSH_WAIT: Duration = Duration::from_secs(10);
pub(super) fn now_ms() -> i64 {
    SystemClock::default().now_ms()
}

/// A key and a value of a table beside the journal.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// Alerts, oldest first, and by the id of each its ways.
pub(super) type AlertsLeft = (Vec<Alert>, HashMap<Ulid, Vec<DeliveryState>>);

/// The ledger that is read: a gateway's own, or one that no gateway has open.
pub enum LedgerView {
    Live(Arc<Ledger>),
    Offline(Box<OfflineLedger>),
}

impl From<Arc<Ledger>> for LedgerView {
    fn from(ledger: Arc<Ledger>) -> LedgerView {
        LedgerView::Live(ledger)
    }
}

impl LedgerView {
    /// The ledger of a running gateway, which alone changes anything.
    pub(super) fn live(&self) -> Result<&Arc<Ledger>, RpcError> {
        match self {
            LedgerView::Live(ledger) => Ok(ledger),
            LedgerView::Offline(_) => Err(RpcError::NoGateway),
        }
    }

    /// Waits until everything decided so far can be read. Blocks: only on a thread for blocking.
    pub(super) fn flush(&self) -> Result<(), RpcError> {
        let LedgerView::Live(ledger) = self else { return Ok(()) };
        let flushed = async { tokio::time::timeout(FLUSH_WAIT, ledger.flushed()).await };
        let late = |_| RpcError::LedgerFailed("the journal does not reach the disk: see /readyz".to_owned());
        tokio::runtime::Handle::current().block_on(flushed).map_err(late)
    }

    pub(super) fn summary(&self, query: &SummaryQuery) -> Vec<SummaryRow> {
        match self {
            LedgerView::Live(ledger) => ledger.summary(query),
            LedgerView::Offline(ledger) => ledger.summary(query),
        }
    }

    /// Of those entries alone that bear all of some names; `None` where no sums tell.
    pub(super) fn summary_of(&self, query: &SummaryQuery, only: &[Filter]) -> Option<Vec<SummaryRow>> {
        match self {
            LedgerView::Live(ledger) => ledger.summary_of(query, only),
            LedgerView::Offline(ledger) => ledger.summary_of(query, only),
        }
    }

    pub(super) fn sums_over_time_of(&self, query: &SeriesQuery, only: &[Filter]) -> Option<Vec<(i64, SummaryRow)>> {
        match self {
            LedgerView::Live(ledger) => ledger.sums_over_time_of(query, only),
            LedgerView::Offline(ledger) => ledger.sums_over_time_of(query, only),
        }
    }

    /// Where in time there may be entries that bear all of some names, in its order.
    pub(super) fn stretches(&self, range: (i64, i64), tenant: Option<&Name>, only: &[Filter]) -> Vec<Stretch> {
        match self {
            LedgerView::Live(ledger) => ledger.stretches(range, tenant, only),
            LedgerView::Offline(ledger) => ledger.stretches(range, tenant, only),
        }
    }

    /// Every entry of some stretches of time, and what they were corrected by.
    pub(super) fn scan(
        &self,
        stretches: &[(i64, i64)],
        tenant: Option<&Name>,
        visit: impl FnMut(Scanned<'_>),
    ) -> Result<(), LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.scan(stretches, tenant, visit),
            LedgerView::Offline(ledger) => ledger.scan(stretches, tenant, visit),
        }
    }

    /// The dearest entries of a stretch of time, dearest first, [`agentledger_ledger::DEAREST_MAX`] at most; `None` where there may be
    /// others, and where no gateway runs.
    pub(super) fn dearest(
        &self,
        range: (i64, i64),
        tenant: Option<&Name>,
        limit: usize,
    ) -> Option<Result<Vec<Entry>, LedgerError>> {
        match self {
            LedgerView::Live(ledger) => ledger.dearest_of_all(range, tenant, limit),
            LedgerView::Offline(_) => None,
        }
    }

    pub(super) fn entries(&self, query: &EntryQuery) -> Result<EntryPage, LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.entries(query),
            LedgerView::Offline(ledger) => ledger.entries(query),
        }
    }

    pub(super) fn adjustments(&self, query: &AdjustmentQuery) -> Result<Vec<AdjustmentRow>, LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.adjustments(query),
            LedgerView::Offline(ledger) => ledger.adjustments(query),
        }
    }

    pub(super) fn verify(&self, expect: Option<Hash>) -> Result<Report, LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.verify(expect),
            LedgerView::Offline(ledger) => ledger.verify(expect),
        }
    }

    /// What the journal knows of an exchange.
    pub(super) fn by_id(&self, id: Ulid) -> Result<Found, LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.by_id(id),
            LedgerView::Offline(ledger) => ledger.by_id(id),
        }
    }

    pub(super) fn session_rows(&self, query: &SessionRowsQuery) -> Result<SessionRows, LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.session_rows(query),
            LedgerView::Offline(ledger) => ledger.session_rows(query),
        }
    }

    /// Oldest first.
    pub(super) fn journal_months(&self) -> Result<Vec<JournalMonth>, LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.journal_months(),
            LedgerView::Offline(ledger) => ledger.journal_months(),
        }
    }

    /// Latest first.
    pub(super) fn latest_events(&self, before: Option<u64>, limit: usize) -> Result<Vec<JournalRow>, LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.latest_events(before, limit),
            LedgerView::Offline(ledger) => ledger.latest_events(before, limit),
        }
    }

    pub(super) fn side_rows(&self, name: &str) -> Result<Vec<Row>, LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.side_table(name).rows(),
            LedgerView::Offline(ledger) => ledger.side_rows(name),
        }
    }

    pub(super) fn balances_after(&self, prefix: &str, after: Option<&str>, accounts_max: usize) -> BalancePage {
        match self {
            LedgerView::Live(ledger) => ledger.balances_after(prefix, after, accounts_max),
            LedgerView::Offline(ledger) => ledger.balances_after(prefix, after, accounts_max),
        }
    }

    /// The limits that policies asked for last; none where no gateway runs.
    pub(super) fn requested_limits(&self, account: &str) -> Vec<RequestedLimit> {
        match self {
            LedgerView::Live(ledger) => ledger.requested_limits(account),
            LedgerView::Offline(_) => Vec::new(),
        }
    }

    /// Oldest first.
    pub(super) fn open_holds(&self) -> Vec<OpenHold> {
        match self {
            LedgerView::Live(ledger) => ledger.open_holds(),
            LedgerView::Offline(ledger) => ledger.open_holds(),
        }
    }

    /// Entries of holds whose end nobody saw, entered since `from_ms`, oldest first.
    pub(super) fn recovered(&self, from_ms: i64) -> Result<Vec<RecoveredEntry>, LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.recovered(from_ms),
            LedgerView::Offline(ledger) => ledger.recovered(from_ms),
        }
    }

    /// How an open hold's bounds stand now, in their order; nothing where no gateway runs.
    pub(super) fn standings(&self, id: HoldId) -> Vec<Standing> {
        match self {
            LedgerView::Live(ledger) => ledger.standings(id),
            LedgerView::Offline(_) => Vec::new(),
        }
    }

    pub(super) fn sessions(&self) -> &Sessions {
        match self {
            LedgerView::Live(ledger) => ledger.sessions(),
            LedgerView::Offline(ledger) => ledger.sessions(),
        }
    }

    pub(super) fn sums_over_time(&self, query: &SeriesQuery) -> Vec<(i64, SummaryRow)> {
        match self {
            LedgerView::Live(ledger) => ledger.sums_over_time(query),
            LedgerView::Offline(ledger) => ledger.sums_over_time(query),
        }
    }

    /// See [`Ledger::past`].
    pub(super) fn past(
        &self,
        by: Option<&Dimension>,
        names: &[&str],
        range: (i64, i64),
        step_ms: i64,
    ) -> Vec<Vec<Spent>> {
        match self {
            LedgerView::Live(ledger) => ledger.past(by, names, range, step_ms),
            LedgerView::Offline(ledger) => ledger.past(by, names, range, step_ms),
        }
    }

    /// Whether entries of this stretch were imported, or entered long after their time.
    pub(super) fn has_late_entries(&self, from_ms: i64, to_ms: i64) -> bool {
        match self {
            LedgerView::Live(ledger) => ledger.has_late_entries(from_ms, to_ms),
            LedgerView::Offline(ledger) => ledger.has_late_entries(from_ms, to_ms),
        }
    }

    pub(super) fn changes(&self, query: &ChangeQuery) -> Result<ChangePage, LedgerError> {
        match self {
            LedgerView::Live(ledger) => ledger.changes(query),
            LedgerView::Offline(ledger) => ledger.changes(query),
        }
    }

    /// Alerts that a gateway which does not run left behind, and how far each has come; `None` of one that runs.
    pub(super) fn alerts_left(&self) -> Result<Option<AlertsLeft>, LedgerError> {
        match self {
            LedgerView::Live(_) => Ok(None),
            LedgerView::Offline(ledger) => left_in(ledger).map(Some),
        }
    }

    /// What changes keep in force, by their subjects.
    pub(super) fn documents(&self, prefix: &str) -> Vec<Document> {
        match self {
            LedgerView::Live(ledger) => ledger.documents(prefix),
            LedgerView::Offline(ledger) => ledger.documents(prefix),
        }
    }

    /// Who was refused, the latest first.
    pub(super) fn denials(&self, query: &DenialQuery) -> Vec<DenialRow> {
        match self {
            LedgerView::Live(ledger) => ledger.denials(query),
            LedgerView::Offline(ledger) => ledger.denials(query),
        }
    }

    /// How far a source was taken over.
    pub(super) fn taken(&self, source: &str) -> Option<Taken> {
        match self {
            LedgerView::Live(ledger) => ledger.taken(source),
            LedgerView::Offline(ledger) => ledger.taken(source),
        }
    }

    /// Fingerprints of imported entries whose keys were seen since, each with the key's own.
    pub(super) fn links(&self) -> Vec<(Name, Name)> {
        match self {
            LedgerView::Live(ledger) => ledger.links(),
            LedgerView::Offline(ledger) => ledger.links(),
        }
    }

    /// What a request of this author was answered before.
    pub(super) fn answered(&self, author: &str, request: &str) -> Option<([u8; 32], Arc<str>)> {
        match self {
            LedgerView::Live(ledger) => ledger.answered(author, request),
            LedgerView::Offline(_) => None,
        }
    }

    /// By the clock that the gateway goes by.
    pub(super) fn now_ms(&self) -> i64 {
        match self {
            LedgerView::Live(ledger) => ledger.now_ms(),
            LedgerView::Offline(_) => now_ms(),
        }
    }

    /// Why no requests are taken at present.
    pub(super) fn not_ready(&self) -> Option<String> {
        not_ready(&self.health()?).map(|not_ready| not_ready.reason)
    }

    /// `None` where nothing is written at all.
    pub fn health(&self) -> Option<Health> {
        match self {
            LedgerView::Live(ledger) => Some(ledger.health()),
            LedgerView::Offline(_) => None,
        }
    }
}

/// Waits until what was entered is on disk and counted. It is decided by then, so that only the disk can say whether it is kept.
pub(super) fn on_disk(ledger: &Ledger, sequence: u64) -> Result<(), RpcError> {
    tokio::runtime::Handle::current()
        .block_on(ledger.applied(sequence))
        .map_err(|error| RpcError::OutcomeUnknown(error.to_string()))
}
