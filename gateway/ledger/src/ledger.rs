//! The ledger as the gateway sees it: admission, holds, entries, sums, health.
//!
//! Decisions are made in `core`, the journal is written by `writer`, what follows from it is kept by `applier`: this puts
//! the three together, with a thread for each of the last two. Nothing here waits for a disk but what is `async` or says so.

mod imports;
mod operators;
mod recorded;
mod sums;

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use ulid::Ulid;

use crate::amounts::Amounts;
use crate::applier::Applier;
use crate::archive::{self, Exported};
use crate::bill_id::BillId;
use crate::books::{self, Adjustment, BooksError, OpenHold, Standing};
use crate::bound::{AccountBalances, Bound, Window, Zone};
use crate::clock::Clock;
use crate::core::{Core, Decided};
use crate::decision_clock::{ClockState, DecisionClock};
use crate::derived::Derived;
use crate::entry::{Facts, Name, Settlement};
use crate::error::LedgerError;
use crate::event::HoldId;
use crate::head::{Hash, Head};
use crate::hold::{Hold, Permit, Settled};
use crate::import_places::ImportPlace;
use crate::last_limits::{LastLimits, RequestedLimit};
use crate::money::Usd;
use crate::options::{Durability, Options};
use crate::query;
use crate::queue::{Queue, Stopped};
use crate::recorded::HoldNotes;
use crate::recover;
use crate::reports::{self, BalancePage, BalanceRow};
use crate::retention::Retention;
use crate::rollup;
use crate::sessions::Sessions;
use crate::store::{DiskStores, Month, Pair, Store, Stores};
use crate::verify::{self, Report};
use crate::writer::Writer;

/// How long settled events without a waiter may gather in `strict`: well within the 20 ms promised.
const STRICT_LINGER: Duration = Duration::from_millis(8);
/// How long any event may gather in `relaxed`, where at most 5 ms may be lost.
const RELAXED_LINGER: Duration = Duration::from_millis(4);
/// Fewer permits than this would let two dozen slow streams stop all admission.
const QUEUE_EVENTS_MIN: usize = 64;

/// What a result that came late changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The entry's id.
    pub id: Ulid,
    /// What was added to its cost; below zero where it was given back.
    pub usd: Usd,
}

/// How the ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why nothing is written any more; `None` while all is well.
    pub stopped: Option<Arc<str>>,
    /// Why nothing is written for now: it is tried again.
    pub suspended: Option<Arc<str>>,
    pub clock: ClockState,
    /// What is on disk.
    pub head: Head,
    /// Events decided but not yet on disk.
    pub waiting_events: u64,
    pub permits_left: usize,
    pub open_holds: usize,
    /// How long no checkpoint was written though there is something to write down; 0 where there is not.
    pub checkpoint_age_ms: i64,
    /// Why the last checkpoint failed; `None` where it did not.
    pub checkpoint_failed: Option<Arc<str>>,
}

pub use self::imports::ImportRow;

pub struct Ledger {
    core: Arc<Core>,
    applier: Arc<Applier>,
    derived: Arc<RwLock<Derived>>,
    stores: Arc<dyn Stores>,
    state: Arc<dyn Store>,
    sessions: Arc<Sessions>,
    last_limits: LastLimits,
    /// Holds that the last process left open and this one settled.
    recovered_holds: usize,
    /// The last event by which rows were imported.
    imported: tokio::sync::Mutex<u64>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A ledger and its two workers, which somebody must run.
pub(crate) struct Assembled {
    pub ledger: Ledger,
    pub writer: Writer,
    pub applier: Arc<Applier>,
}

impl Ledger {
    /// Opens the ledger in `options.dir`, made where there is none, recovers, and starts the writer. Blocks.
    ///
    /// # Errors
    /// Another process has it, the journal is damaged, or the disk fails.
    pub fn open(options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Ledger>, LedgerError> {
        let stores = Arc::new(DiskStores::open(&options.dir)?);
        stores.mark()?;
        Ledger::open_in(stores, &options, clock)
    }

    /// As `open`, in any stores.
    pub fn open_in(
        stores: Arc<dyn Stores>,
        options: &Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Ledger>, LedgerError> {
        let Assembled {
            ledger,
            writer,
            applier,
        } = Ledger::assemble(stores, options, clock)?;
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map_err(|error| LedgerError::Thread(error.to_string()))
        };
        let applying = spawn("ledger-applier", Box::new(move || applier.run()))?;
        let writing = spawn("ledger-writer", Box::new(move || writer.run()))?;
        *ledger.threads.lock() = vec![writing, applying];
        Ok(Arc::new(ledger))
    }

    /// Recovers, and puts everything together without running it.
    pub(crate) fn assemble(
        stores: Arc<dyn Stores>,
        options: &Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Assembled, LedgerError> {
        let state = recover::state(&*stores)?;
        let recovered = recover::recover(&*stores, &state, options.keep(), true)?;
        let linger = match options.durability {
            Durability::Strict => STRICT_LINGER,
            Durability::Relaxed => RELAXED_LINGER,
        };
        let permits_max = options.queue_events_max.max(QUEUE_EVENTS_MIN);
        let queue = Arc::new(Queue::new(recovered.head, permits_max, linger));
        let sessions = Arc::clone(&recovered.derived.sessions);
        let derived = Arc::new(RwLock::new(recovered.derived));
        let applier = Arc::new(Applier::new(
            recovered.head.sequence,
            Arc::clone(&derived),
            Arc::clone(&state),
            Arc::clone(&stores),
            Retention::new(options.retention_months),
            Arc::clone(&clock),
            Arc::clone(&queue),
        ));
        let last_ms = recovered.books.now_ms();
        let mut decisions = DecisionClock::new(Arc::clone(&clock), last_ms, options.accept_clock);
        let now_ms = decisions.now();
        let (month, store, is_new) = match recovered.newest {
            Some((month, store)) => (month, store, false),
            None => (Month::of_ms(now_ms), stores.create_month(Month::of_ms(now_ms))?, true),
        };
        let decided = Decided {
            books: recovered.books,
            billed: recovered.billed,
            voided: Default::default(),
            clock: decisions,
            journal_ms: recovered.journal_ms,
            month,
            // A new journal begins with an opening, as a new month does.
            month_end_ms: match is_new {
                true => i64::MIN,
                false => Month::of_ms(last_ms).next().start_ms(),
            },
            digests: Vec::new(),
            secret_check: recovered.secret_check,
            in_force: None,
            has_turned: false,
            checkpoint_sequence: recovered.replayed_from,
            checkpoint_books: Weak::new(),
            folded_noted: Default::default(),
            checkpoint_ms: clock.monotonic_ms(),
        };
        let core = Arc::new(Core::new(
            decided,
            Arc::clone(&queue),
            Arc::clone(&applier),
            clock,
            options.durability,
        ));
        if options.accept_clock {
            core.accept_clock();
        }
        let recovered_holds = core.begin(options.expected_costs.as_deref());
        if recovered_holds > 0 {
            tracing::warn!(
                holds = recovered_holds,
                "entered the holds that the last run left open, as recovered"
            );
        }
        // Weak: a ledger that nobody has any more ticks no more.
        let ticking = Arc::downgrade(&core);
        let ticker = Box::new(move || {
            if let Some(core) = ticking.upgrade() {
                core.tick();
            }
        });
        let observer = options.observer.clone();
        let place = (month, store, is_new);
        let writer = Writer::new(
            queue,
            Arc::clone(&stores),
            Arc::clone(&applier),
            place,
            observer,
            ticker,
        );
        let ledger = Ledger {
            core,
            applier: Arc::clone(&applier),
            derived,
            stores,
            state,
            sessions,
            last_limits: LastLimits::default(),
            recovered_holds,
            imported: tokio::sync::Mutex::default(),
            threads: Mutex::default(),
        };
        Ok(Assembled {
            ledger,
            writer,
            applier,
        })
    }

    /// The machine's wall time, milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.core.clock.now_ms()
    }

    /// Places in the queue for a hold and its end. Waits while the queue is full: race it with whatever ends the wait.
    ///
    /// # Errors
    /// The writer has stopped, or cannot write for now.
    pub async fn admit(&self) -> Result<Permit, LedgerError> {
        let places = self.core.queue.permits(2).await?;
        Permit::of(places).ok_or_else(|| Stopped("it was closed".into()).into())
    }

    /// As `admit`, where it need not wait.
    pub fn admit_now(&self) -> Option<Permit> {
        self.core.queue.permits_now(2).and_then(Permit::of)
    }

    /// Reserves `amounts` on all bounds or on none. `basis` says why the hold has this size.
    ///
    /// # Errors
    /// A bound refuses, the books are full, or the machine's clock cannot be believed.
    pub fn reserve(
        &self,
        permit: Permit,
        facts: impl Into<Arc<Facts>>,
        bounds: &[Bound],
        amounts: Amounts,
        basis: &Name,
    ) -> Result<Hold, BooksError> {
        self.reserve_noted(permit, facts, bounds, amounts, basis, HoldNotes::default())
    }

    /// Notified whenever a hold on the account ends: what was refused for being held may fit then. Requested after a refusal,
    /// and before the next try, it misses none.
    pub fn freed(&self, account: &Name) -> Arc<Notify> {
        self.core.waiters.of(account)
    }

    /// All sessions, as far as their events are applied.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Whether this was billed already, as far as the journal of the last thirteen months knows.
    pub fn is_billed(&self, bill: &BillId) -> bool {
        self.core.read(|decided| decided.billed.contains(bill))
    }

    /// Whether this was billed at what was held for it, nobody knowing better by then, and was not corrected since.
    pub fn is_guessed(&self, bill: &BillId) -> bool {
        self.core.read(|decided| decided.billed.is_guessed(bill))
    }

    /// Enters what is billed without a hold before it: the result of earlier work, known when it is fetched. It is posted
    /// as overage with its reason on all accounts of its facts and bounds, whatever their limits: it is spent. `None`:
    /// one of `bills` was billed before.
    ///
    /// # Errors
    /// The books are full.
    pub fn enter(
        &self,
        permit: Permit,
        facts: impl Into<Arc<Facts>>,
        bounds: &[Bound],
        settlement: Settlement,
        overage_reason: Name,
        bills: Vec<BillId>,
    ) -> Result<Option<Settled>, BooksError> {
        let Permit { first, last } = permit;
        let watched: Vec<Bound> = bounds.iter().map(Bound::watched).collect();
        let permits = (first, last);
        let entered = self
            .core
            .enter(&facts.into(), &watched, settlement, overage_reason, bills, permits)?;
        Ok(entered.map(|posted| Settled::new(posted, Arc::clone(&self.core))))
    }

    /// Corrects the entry that took what was held for what this result `used`: now it is known. The difference is added to
    /// the accounts that the entry was posted to. `None`: there is nothing to correct, or it was done before. Two point reads
    /// of the journal: not for the request path.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn correct(&self, bill: &BillId, used: &Amounts, reason: &Name) -> Result<Option<Correction>, LedgerError> {
        let (is_guessed, place) = self
            .core
            .read(|decided| (decided.billed.is_guessed(bill), decided.billed.place(bill)));
        if !is_guessed {
            return Ok(None);
        }
        let Some(found) = query::find_billed(&*self.stores, bill, place, self.head().sequence)? else {
            return Ok(None);
        };
        let amounts = used.minus(&found.settled.posted());
        let corrected = self.core.adjust(|decided, now_ms| {
            if !decided.billed.is_guessed(bill) {
                return Ok(None);
            }
            decided.billed.corrected(now_ms, bill);
            if amounts.is_zero() {
                return Ok(None);
            }
            let adjustment = Adjustment {
                hold: found.hold,
                held: &found.held,
                model: found.model().clone(),
                amounts,
                reason: reason.clone(),
                bill: Some(*bill),
            };
            Ok(Some((decided.books.adjust(now_ms, &adjustment)?, ())))
        })?;
        Ok(corrected.map(|_| Correction {
            id: found.held.facts.id,
            usd: amounts.usd,
        }))
    }

    /// Waits until the event with this sequence is on disk.
    ///
    /// # Errors
    /// The writer has stopped, or cannot write for now.
    pub async fn durable(&self, sequence: u64) -> Result<(), LedgerError> {
        Ok(self.core.durable(sequence).await?)
    }

    /// As `durable`, and until sums, sessions and balances know of it.
    ///
    /// # Errors
    /// As `durable`.
    pub async fn applied(&self, sequence: u64) -> Result<(), LedgerError> {
        self.durable(sequence).await?;
        self.applier.applied(sequence).await;
        Ok(())
    }

    /// Waits until everything decided so far is on disk and counted in sums, or the writer writes no more.
    pub async fn flushed(&self) {
        // A writer that has stopped says so through `health`.
        let _ = self.applied(self.last_sequence()).await;
    }

    /// Open holds, oldest first.
    pub fn open_holds(&self) -> Vec<OpenHold> {
        self.core.open_holds()
    }

    pub fn open_hold(&self, id: HoldId) -> Option<OpenHold> {
        self.core.read(|decided| decided.books.open_hold(id))
    }

    /// How the bounds of an open hold stand now.
    pub fn standings(&self, id: HoldId) -> Vec<Standing> {
        self.core.read(|decided| decided.books.standings(id))
    }

    /// How a bound's account stands now.
    pub fn standing(&self, bound: &Bound) -> Standing {
        self.core
            .set(|decided| decided.books.standing(decided.clock.now(), bound))
    }

    pub fn spent(&self, account: &str, window: Window) -> Amounts {
        self.spent_in(account, window, &Zone::utc())
    }

    pub fn spent_in(&self, account: &str, window: Window, zone: &Zone) -> Amounts {
        self.core
            .set(|decided| decided.books.spent_in(decided.clock.now(), account, window, zone))
    }

    /// The limits that were requested last on an account, refused requests included.
    pub fn requested_limits(&self, account: &str) -> Vec<RequestedLimit> {
        self.last_limits.of(account)
    }

    /// What open holds reserve on an account.
    pub fn held(&self, account: &str) -> Amounts {
        self.core.read(|decided| decided.books.held(account))
    }

    /// How accounts stand at one moment: under one lock, so that an exchange which settles meanwhile is neither missed nor
    /// seen twice, within an account or across them.
    pub fn balances_of(&self, accounts: &[Name], zone: &Zone) -> Vec<AccountBalances> {
        self.core.set(|decided| {
            let now_ms = decided.clock.now();
            let books = &decided.books;
            let balances = |account: &Name| AccountBalances {
                posted: Window::ALL.map(|window| books.spent_in(now_ms, account, window, zone)),
                held: books.held(account),
            };
            accounts.iter().map(balances).collect()
        })
    }

    /// All balances that run now. For reports: no request waits for it.
    pub fn balances(&self) -> Vec<BalanceRow> {
        reports::balance_rows(self.core.frozen_books().balances())
    }

    /// A page of what `balances` shows: of the first accounts whose names begin with `prefix` and come after `after`, those
    /// that a bound names and those with something posted or held.
    pub fn balances_after(&self, prefix: &str, after: Option<&str>, accounts_max: usize) -> BalancePage {
        let books = self.core.frozen_books();
        reports::balance_page(books.balances_after(prefix, after, accounts_max))
    }

    /// How many names of each kind were counted together since the start, for there were too many to be told apart: as
    /// accounts, in the cost sums, and sessions that are not listed.
    pub fn folded_names(&self) -> Vec<(&'static str, u64)> {
        let rollups = self.derived.read().rollups.folded();
        let books = self.core.read(|decided| decided.books.folded());
        let mut folded: Vec<(&'static str, u64)> = rollup::FOLDED_KINDS.into_iter().zip(rollups).collect();
        let others = books::FOLDED_KINDS.into_iter().zip(books);
        for (kind, count) in others.chain([("session", self.sessions.folded())]) {
            match folded.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, sum)) => *sum += count,
                None => folded.push((kind, count)),
            }
        }
        folded
    }

    /// Digests of what decides (`rules`, `policies`, `prices`), for the next month's opening.
    pub fn set_digests(&self, digests: Vec<(Name, [u8; 32])>) {
        self.core.set(|decided| decided.digests = digests);
    }

    /// The check value of the secret that gave keys their fingerprints so far; `None` where none was noted.
    pub fn fingerprint_check(&self) -> Option<[u8; 16]> {
        self.core.read(|decided| decided.secret_check)
    }

    /// Notes the check value of the secret that gives keys their fingerprints from now on. The sequence of its event.
    pub fn set_fingerprint_check(&self, check: [u8; 16]) -> u64 {
        self.core.set_secret_check(check)
    }

    /// Believes the machine's clock from now on, also where it is years ahead of, or behind, the last decision. The sequence
    /// of the event that says so, where time is set back.
    pub fn accept_clock(&self) -> Option<u64> {
        self.core.accept_clock()
    }

    /// The time of decisions, milliseconds since the epoch: never before an earlier one.
    pub fn decision_ms(&self) -> i64 {
        self.core.now_ms()
    }

    pub fn health(&self) -> Health {
        let queue = &self.core.queue;
        let head = queue.head();
        let clock = self.core.clock_state();
        let (open_holds, is_covered) = self.core.read(|decided| {
            let is_covered = decided.books.head() <= decided.checkpoint_sequence;
            (decided.books.open_count(), is_covered)
        });
        let checkpoint = self.applier.health();
        let is_covered = is_covered && checkpoint.failed.is_none();
        let age_ms = self.core.clock.monotonic_ms().saturating_sub(checkpoint.written_ms);
        Health {
            stopped: queue.stopped().map(|stopped| stopped.0),
            suspended: queue.suspended().map(|suspended| suspended.0),
            clock,
            head,
            waiting_events: queue.queued_sequence().saturating_sub(head.sequence),
            permits_left: queue.permits_left(),
            open_holds,
            checkpoint_age_ms: if is_covered { 0 } else { age_ms },
            checkpoint_failed: checkpoint.failed,
        }
    }

    /// How far the disk reaches.
    pub fn head(&self) -> Head {
        self.core.queue.head()
    }

    /// The sequence of the last event that was decided, on disk or not.
    pub fn last_sequence(&self) -> u64 {
        self.core.queue.queued_sequence()
    }

    /// Holds that the last process left open and this one settled.
    pub fn recovered_holds(&self) -> usize {
        self.recovered_holds
    }

    /// Visits the journal's records as far as they are on disk now, in their order, while others are written. Blocks.
    ///
    /// # Errors
    /// The disk fails, the journal is damaged, or `visit` fails.
    pub fn export_journal<E: From<LedgerError>>(
        &self,
        visit: impl FnMut(Month, &Pair) -> Result<(), E>,
    ) -> Result<Exported, E> {
        archive::export(&*self.stores, Some(self.head()), visit)
    }

    /// Walks the journal as far as it is on disk now. Blocks.
    ///
    /// # Errors
    /// The disk fails; damage is not an error but what the report says.
    pub fn verify(&self, expect: Option<Hash>) -> Result<Report, LedgerError> {
        Ok(verify::walk(&*self.stores, expect, self.head().sequence)?)
    }

    /// Writes down what is left and a checkpoint, and stops both threads. Blocks. Holds still open are recovered by the
    /// next start. Further calls do nothing.
    pub fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return;
        }
        self.finish();
        for (place, running) in threads.into_iter().enumerate() {
            if running.thread().id() == thread::current().id() {
                continue;
            }
            if running.join().is_err() {
                tracing::error!("a thread of the ledger panicked while closing");
            }
            // The writer has handed over all it wrote.
            if place == 0 {
                self.applier.close();
            }
        }
    }

    /// Nothing is written any more.
    pub(crate) fn stop(&self, reason: &str) {
        self.core.queue.stop(reason);
    }

    pub(crate) fn stores(&self) -> &dyn Stores {
        &*self.stores
    }

    /// Where entries of this time stand that came long after it.
    pub(crate) fn import_places(&self, (from_ms, to_ms): (i64, i64)) -> Vec<ImportPlace> {
        self.derived.read().import_places.within(from_ms, to_ms)
    }

    /// The last events and a checkpoint are put down, and the queue takes no more.
    pub(crate) fn finish(&self) {
        self.core.finish();
        self.core.queue.close();
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}
