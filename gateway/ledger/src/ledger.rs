//! The ledger as the gateway sees it: admission, holds, entries, sums, health.
//!
//! One short lock around the books decides and numbers events; the writer's queue takes them in that order under the same
//! lock. Nothing here waits for a disk but what is `async` or says so.

mod fetched;

pub use fetched::Correction;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use ulid::Ulid;

use crate::amounts::Amounts;
use crate::asked::{AskedLimit, AskedLimits};
use crate::billed::{BillId, Billed};
use crate::books::{Adjustment, Books, BooksError, OpenHold, Recorded, Standing};
use crate::bound::{AccountBalances, Bound, Window, Zone};
use crate::checkpoints::Checkpoints;
use crate::clock::Clock;
use crate::derived::{Bookkeeper, Derived, Snapshot, remove_before};
use crate::entry::{Entry, Facts, Name, Settlement};
pub use crate::error::LedgerError;
use crate::event::{HoldId, Mark};
use crate::hold::{Hold, Permit, Settled};
use crate::journal::frame::{Hash, Head};
use crate::money::Usd;
pub use crate::options::{Durability, Options};
use crate::query::{self, EntryPage, EntryQuery};
use crate::recover;
use crate::rollup::{Point, SummaryQuery, SummaryRow};
use crate::sessions::Sessions;
use crate::store::{DiskStores, Month, Stores};
use crate::verify::{self, Report};
use crate::window::Stretch;
use crate::writer::{Queue, Stopped, Writer};

/// How long settled events without a waiter may gather in `strict`: well within the 20 ms promised.
const STRICT_LINGER: Duration = Duration::from_millis(8);
/// How long any event may gather in `relaxed`, where at most 5 ms may be lost.
const RELAXED_LINGER: Duration = Duration::from_millis(4);
/// A checkpoint is due after so many events,
const CHECKPOINT_EVENTS: u64 = 65_536;
/// or after so long with any event.
const CHECKPOINT_MS: i64 = 60_000;
/// Fewer places than this would let two dozen slow streams stop all admission.
const QUEUE_EVENTS_MIN: usize = 64;

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The account that stood in the way, or asked.
    pub account: Name,
    pub tenant: Name,
    /// The refusal's code: `budget_exceeded`, `model_not_allowed`.
    pub reason: Name,
}

/// How the ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why nothing is written any more; `None` while all is well.
    pub stopped: Option<Arc<str>>,
    /// What is on disk.
    pub head: Head,
    /// Events decided but not yet on disk.
    pub waiting_events: u64,
    pub places_left: usize,
    pub open_holds: usize,
}

/// What an account has spent and held in a window that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRow {
    pub account: Name,
    pub window: Window,
    pub zone: Name,
    pub stretch: Stretch,
    pub posted: Amounts,
    pub held: Amounts,
    pub overage: Amounts,
}

struct Core {
    books: Books,
    billed: Billed,
    /// The month of the last event; its successor begins at `month_end_ms`.
    month: Month,
    month_end_ms: i64,
    digests: Vec<(Name, [u8; 32])>,
    checkpoint_sequence: u64,
    checkpoint_ms: i64,
}

pub struct Ledger {
    core: Mutex<Core>,
    queue: Arc<Queue<Bookkeeper>>,
    derived: Arc<RwLock<Derived>>,
    stores: Arc<dyn Stores>,
    clock: Arc<dyn Clock>,
    durability: Durability,
    /// Holds that the last process left open and this one settled.
    recovered_holds: usize,
    sessions: Arc<Sessions>,
    asked: AskedLimits,
    /// Told whenever a hold ends.
    freed: Notify,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Ledger {
    /// Opens the ledger in `options.dir`, made where there is none, recovers, and starts the writer. Blocks.
    pub fn open(options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Ledger>, LedgerError> {
        let stores = Arc::new(DiskStores::open(&options.dir)?);
        Ledger::open_in(stores, &options, clock)
    }

    /// As `open`, in any stores.
    pub fn open_in(
        stores: Arc<dyn Stores>,
        options: &Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Ledger>, LedgerError> {
        let now_ms = clock.now_ms();
        let state = stores.state()?;
        let recovered = recover::recover(&*stores, &state, (options.rollups, options.sessions), true)?;
        if let Some(kept) = options.retention_months {
            // Whatever the time, the start goes on from the newest month.
            let first = Month::of_ms(now_ms).back(kept);
            let newest = recovered.newest.as_ref().map_or(first, |(month, _)| *month);
            remove_before(&*stores, first.min(newest))?;
        }
        let linger = match options.durability {
            Durability::Strict => STRICT_LINGER,
            Durability::Relaxed => RELAXED_LINGER,
        };
        let places_max = options.queue_events_max.max(QUEUE_EVENTS_MIN);
        let queue = Arc::new(Queue::new(recovered.head, places_max, linger));
        let sessions = Arc::clone(&recovered.derived.sessions);
        let derived = Arc::new(RwLock::new(recovered.derived));
        let checkpoints = Checkpoints::start(recovered.books.clone(), state, Arc::clone(&sessions));
        let checkpoints = checkpoints.map_err(|error| LedgerError::Thread(error.to_string()))?;
        let (month, store, is_new) = match recovered.newest {
            Some((month, store)) => (month, store, false),
            None => (Month::of_ms(now_ms), stores.month(Month::of_ms(now_ms))?, true),
        };
        let core = Core {
            books: recovered.books,
            billed: recovered.billed,
            month,
            // A new journal begins with an opening, as a new month does.
            month_end_ms: if is_new { i64::MIN } else { month.next().start_ms() },
            digests: Vec::new(),
            checkpoint_sequence: recovered.replayed_from,
            checkpoint_ms: now_ms,
        };
        let recovered_holds = core.books.open_count();
        let ledger = Arc::new(Ledger {
            core: Mutex::new(core),
            queue: Arc::clone(&queue),
            derived: Arc::clone(&derived),
            stores: Arc::clone(&stores),
            clock,
            durability: options.durability,
            recovered_holds,
            sessions,
            asked: AskedLimits::default(),
            freed: Notify::new(),
            writer: Mutex::new(None),
        });
        let bookkeeper = Bookkeeper {
            names: crate::names::Names::new(),
            derived,
            stores: Arc::clone(&stores),
            checkpoints,
            retention_months: options.retention_months,
            ledger: Arc::downgrade(&ledger),
        };
        let writer = Writer::new(queue, stores, store, bookkeeper).observed_by(options.observer.clone());
        let thread = thread::Builder::new()
            .name("ledger-writer".into())
            .spawn(move || writer.run());
        *ledger.writer.lock() = Some(thread.map_err(|error| LedgerError::Thread(error.to_string()))?);
        ledger.begin(is_new);
        Ok(ledger)
    }

    /// Puts down the first opening, and ends what the last process left open.
    fn begin(&self, is_new: bool) {
        let mut core = self.core.lock();
        if is_new {
            self.now_in_month(&mut core);
        }
        if core.books.open_count() > 0 {
            let now_ms = self.now_in_month(&mut core);
            for settled in core.books.recover(now_ms) {
                core.billed.settled(&settled.settled);
                self.put(settled.recorded, None, false);
            }
            tracing::warn!(
                holds = self.recovered_holds,
                "settled the holds that the last run left open, at what they held"
            );
        }
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The time for a decision; a new month is opened before it.
    fn now_in_month(&self, core: &mut Core) -> i64 {
        let now_ms = self.clock.now_ms().max(core.books.now_ms());
        if now_ms >= core.month_end_ms {
            core.month = Month::of_ms(now_ms);
            core.month_end_ms = core.month.next().start_ms();
            let digests = core.digests.clone();
            let opening = core.books.open_month(now_ms, None, digests);
            self.queue.open_month(now_ms, core.month, opening.event);
        }
        now_ms
    }

    /// Only under the core's lock: the order of calls is the order of the journal.
    fn put(&self, recorded: Recorded, place: Option<OwnedSemaphorePermit>, urgent: bool) -> u64 {
        let sequence = self.queue.put(recorded.event.at_ms(), recorded.event, place, urgent);
        debug_assert!(
            sequence == recorded.seq,
            "the journal and the books number events alike"
        );
        sequence
    }

    /// Places in the queue for a hold and its end. Waits while the queue is full; an error once the writer has stopped.
    pub async fn admit(&self) -> Result<Permit, LedgerError> {
        let mut first = self.queue.places(2).await?;
        // Two were asked for, so one can be split off.
        match first.split(1) {
            Some(last) => Ok(Permit { first, last }),
            None => Err(Stopped("it was closed".into()).into()),
        }
    }

    /// Reserves `amounts` on all bounds or on none. `basis` says why the hold has this size.
    pub fn reserve(
        self: &Arc<Self>,
        permit: Permit,
        facts: impl Into<Arc<Facts>>,
        bounds: &[Bound],
        amounts: Amounts,
        basis: &Name,
    ) -> Result<Hold, BooksError> {
        let facts = facts.into();
        let Permit { first, last } = permit;
        self.asked.remember(bounds);
        let reserved = {
            let mut core = self.core.lock();
            let now_ms = self.now_in_month(&mut core);
            let reserved = core.books.reserve(now_ms, &facts, bounds, amounts, basis)?;
            self.put(reserved.recorded, Some(first), self.durability == Durability::Strict);
            (reserved.hold, reserved.standings)
        };
        let (id, standings) = reserved;
        Ok(Hold::new(Arc::clone(self), id, facts, amounts, standings, last))
    }

    pub(crate) fn extend(&self, hold: HoldId, step: Amounts) -> Result<Amounts, BooksError> {
        let place = self.queue.place_now();
        let mut core = self.core.lock();
        let now_ms = self.now_in_month(&mut core);
        let extension = core.books.extend(now_ms, hold, step)?;
        self.put(extension.recorded, place, false);
        Ok(extension.granted)
    }

    pub(crate) fn settle(
        self: &Arc<Self>,
        hold: HoldId,
        facts: &Facts,
        settlement: Settlement,
        overage_reason: Option<Name>,
        bills: Vec<BillId>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Settled {
        let fallback = settlement.clone();
        let settled = {
            let mut core = self.core.lock();
            let now_ms = self.now_in_month(&mut core);
            core.books
                .settle_bills(now_ms, hold, settlement, overage_reason, bills)
                .map(|settled| {
                    core.billed.settled(&settled.settled);
                    let sequence = self.put(settled.recorded, place, false);
                    (settled.held, settled.settled, sequence)
                })
        };
        self.freed.notify_waiters();
        match settled {
            Ok((held, settled, sequence)) => Settled::new(settled.entry(&held.facts), Arc::clone(self), Some(sequence)),
            // Cannot be: a hold is open until its one owner ends it.
            Err(error) => {
                tracing::error!(hold = hold.0, %error, "a hold could not be settled");
                let (facts, held, overage, overage_reason) = (facts.clone(), Usd::ZERO, Usd::ZERO, None);
                let entry = Entry {
                    facts,
                    settlement: fallback,
                    held,
                    overage,
                    overage_reason,
                };
                Settled::new(entry, Arc::clone(self), None)
            }
        }
    }

    pub(crate) fn void(&self, hold: HoldId, reason: &Name, place: Option<OwnedSemaphorePermit>) {
        let mut core = self.core.lock();
        let now_ms = self.now_in_month(&mut core);
        match core.books.void(now_ms, hold, reason) {
            Ok(recorded) => {
                self.put(recorded, place, false);
            }
            Err(error) => tracing::error!(hold = hold.0, %error, "a hold could not be voided"),
        }
        drop(core);
        self.freed.notify_waiters();
    }

    /// Ends when a hold ends after this call, whoever's it is: what was refused for being held may fit then.
    pub fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Counts a refusal: one event an account, reason and minute.
    pub fn deny(&self, denial: &Denial) {
        let mut core = self.core.lock();
        let now_ms = self.now_in_month(&mut core);
        for recorded in core.books.deny(now_ms, &denial.account, &denial.tenant, &denial.reason) {
            self.put(recorded, None, false);
        }
    }

    /// All sessions, as far as their events are on disk.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Marks a session. The sequence of its event, for `durable`.
    pub fn mark_session(&self, tenant: &Name, session: &Name, mark: Mark) -> u64 {
        let mut core = self.core.lock();
        let now_ms = self.now_in_month(&mut core);
        let recorded = core.books.mark_session(now_ms, tenant, session, mark);
        self.put(recorded, None, false)
    }

    /// Corrects a settled entry by `delta`. Reads the journal to find it: not for the request path. The sequence of its
    /// event, for `durable`.
    pub fn adjust(&self, entry_id: Ulid, delta: Usd, reason: &str) -> Result<u64, LedgerError> {
        // An entry's id is made as its request begins, before it is held.
        let from_ms = i64::try_from(entry_id.timestamp_ms()).unwrap_or(i64::MAX);
        let until = self.head().sequence;
        let found = query::find(&*self.stores, from_ms, until, |held, _| held.facts.id == entry_id)?;
        let found = found.ok_or(LedgerError::NoSuchEntry(entry_id))?;
        let amounts = Amounts {
            usd: delta,
            ..Amounts::ZERO
        };
        let adjustment = Adjustment {
            hold: found.hold,
            held: &found.held,
            amounts,
            reason: Name::from(reason),
            bill: None,
        };
        let mut core = self.core.lock();
        let now_ms = self.now_in_month(&mut core);
        let recorded = core.books.adjust(now_ms, &adjustment)?;
        Ok(self.put(recorded, None, false))
    }

    /// Waits until the event with this sequence is on disk.
    pub async fn durable(&self, sequence: u64) -> Result<(), LedgerError> {
        Ok(self.queue.durable(sequence).await?)
    }

    pub(crate) async fn hold_durable(&self, sequence: u64) -> Result<(), LedgerError> {
        match (self.durability, self.queue.stopped()) {
            (Durability::Strict, _) => self.durable(sequence).await,
            (Durability::Relaxed, Some(stopped)) => Err(stopped.into()),
            (Durability::Relaxed, None) => Ok(()),
        }
    }

    /// Waits until everything decided so far is on disk and counted in sums, or the writer has stopped.
    pub async fn flushed(&self) {
        // A stopped writer says so through `health`.
        let _ = self.queue.durable(self.queue.queued_sequence()).await;
    }

    /// Sums of entries on disk, dearest first.
    pub fn summary(&self, query: &SummaryQuery) -> Vec<SummaryRow> {
        self.derived.read().rollups.summary(query)
    }

    /// Sums by stretches of `step_ms`.
    pub fn series(&self, from_ms: i64, to_ms: i64, step_ms: i64, tenant: Option<&Name>) -> Vec<Point> {
        self.derived.read().rollups.series(from_ms, to_ms, step_ms, tenant)
    }

    /// One page of entries on disk. Reads the journal: not for the request path.
    pub fn entries(&self, query: &EntryQuery) -> Result<EntryPage, LedgerError> {
        Ok(query::entries(&*self.stores, query, self.head().sequence)?)
    }

    /// Open holds, oldest first.
    pub fn open_holds(&self) -> Vec<OpenHold> {
        sorted(self.core.lock().books.open_holds())
    }

    pub fn open_hold(&self, id: HoldId) -> Option<OpenHold> {
        self.core.lock().books.open_hold(id)
    }

    /// How the bounds of an open hold stand now.
    pub fn standings(&self, id: HoldId) -> Vec<Standing> {
        self.core.lock().books.standings(id)
    }

    /// How a bound's account stands now.
    pub fn standing(&self, bound: &Bound) -> Standing {
        self.core.lock().books.standing(self.clock.now_ms(), bound)
    }

    pub fn spent(&self, account: &str, window: Window) -> Amounts {
        self.core.lock().books.spent(self.clock.now_ms(), account, window)
    }

    pub fn spent_in(&self, account: &str, window: Window, zone: &Zone) -> Amounts {
        self.core
            .lock()
            .books
            .spent_in(self.clock.now_ms(), account, window, zone)
    }

    /// The limits that were asked for last on an account, refused requests included.
    pub fn asked_limits(&self, account: &str) -> Vec<AskedLimit> {
        self.asked.of(account)
    }

    /// What open holds reserve on an account.
    pub fn held(&self, account: &str) -> Amounts {
        self.core.lock().books.held(account)
    }

    /// How accounts stand at one moment: under one lock, so that an exchange which settles meanwhile is neither missed nor
    /// seen twice, within an account or across them.
    pub fn balances_of(&self, accounts: &[Name], zone: &Zone) -> Vec<AccountBalances> {
        let core = self.core.lock();
        let now_ms = self.clock.now_ms();
        let balances = |account: &Name| AccountBalances {
            posted: Window::ALL.map(|window| core.books.spent_in(now_ms, account, window, zone)),
            held: core.books.held(account),
        };
        accounts.iter().map(balances).collect()
    }

    /// All balances that run. Copies them under the lock: for reports, not for the request path.
    pub fn balances(&self) -> Vec<BalanceRow> {
        balance_rows(&self.core.lock().books)
    }

    /// Digests of what decides (`rules`, `policies`, `prices`), for the next month's opening.
    pub fn set_digests(&self, digests: Vec<(Name, [u8; 32])>) {
        self.core.lock().digests = digests;
    }

    pub fn health(&self) -> Health {
        let head = self.queue.head();
        Health {
            stopped: self.queue.stopped().map(|stopped| stopped.0),
            head,
            waiting_events: self.queue.queued_sequence().saturating_sub(head.sequence),
            places_left: self.queue.places_left(),
            open_holds: self.core.lock().books.open_count(),
        }
    }

    /// How far the disk reaches.
    pub fn head(&self) -> Head {
        self.queue.head()
    }

    /// Holds that the last process left open and this one settled.
    pub fn recovered_holds(&self) -> usize {
        self.recovered_holds
    }

    /// Walks the journal as far as it is on disk now. Blocks.
    pub fn verify(&self, expect: Option<Hash>) -> Result<Report, LedgerError> {
        Ok(verify::walk(&*self.stores, expect, self.head().sequence)?)
    }

    /// Writes down what is left and a checkpoint, and stops the writer. Blocks. Holds still open are recovered by the
    /// next start. Further calls do nothing.
    pub fn close(&self) {
        let Some(writer) = self.writer.lock().take() else {
            return;
        };
        {
            let mut core = self.core.lock();
            for recorded in core.books.finish_denials() {
                self.put(recorded, None, false);
            }
            self.checkpoint(&mut core);
        }
        self.queue.close();
        // The writer's own last handle may be what is being dropped here: it cannot wait for itself.
        if writer.thread().id() != thread::current().id() && writer.join().is_err() {
            tracing::error!("the ledger's writer panicked while closing");
        }
    }

    /// About once a second, on the writer's thread.
    pub(crate) fn tick(&self) {
        let mut core = self.core.lock();
        let now_ms = self.clock.now_ms().max(core.books.now_ms());
        let flushed = core.books.flush_denials(now_ms);
        if !flushed.is_empty() {
            self.now_in_month(&mut core);
        }
        for recorded in flushed {
            self.put(recorded, None, false);
        }
        let events = core.books.head().saturating_sub(core.checkpoint_sequence);
        let is_due = events >= CHECKPOINT_EVENTS || now_ms.saturating_sub(core.checkpoint_ms) >= CHECKPOINT_MS;
        if events > 0 && is_due {
            self.checkpoint(&mut core);
        }
    }

    /// Marks the place; the books are written down by another thread, from what it was told of the events.
    fn checkpoint(&self, core: &mut Core) {
        core.checkpoint_sequence = core.books.head();
        core.checkpoint_ms = core.books.now_ms();
        let (at_ms, month) = (core.books.now_ms(), core.month);
        self.queue.checkpoint(Snapshot { at_ms, month });
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

pub(crate) fn sorted(mut holds: Vec<OpenHold>) -> Vec<OpenHold> {
    holds.sort_unstable_by_key(|hold| hold.id);
    holds
}

pub(crate) fn balance_rows(books: &Books) -> Vec<BalanceRow> {
    let row = |view: crate::books::BalanceView<'_>| BalanceRow {
        account: Name::clone(view.account),
        window: view.window,
        zone: Name::clone(view.zone),
        stretch: view.stretch,
        posted: view.posted,
        held: view.held,
        overage: view.overage,
    };
    books.balances().map(row).collect()
}
