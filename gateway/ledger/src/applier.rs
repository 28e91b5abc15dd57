//! Applies what is on disk to everything that follows from it: cost sums, sessions; writes checkpoints of them and of the
//! books, which come here frozen; and puts into the journal's database what is on disk ahead of it. On a thread of its own, with
//! a watermark of its own: reports read here, and neither requests nor the journal wait for a report, or for a checkpoint.
//!
//! Whatever is written to the state database is written under one lock: no two batches ever mix there.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::watch;

use crate::books::FrozenBooks;
use crate::checkpoint::{self, CheckpointAt, Marked, PART_BYTES};
use crate::clock::Clock;
use crate::derived::Derived;
use crate::event::Event;
use crate::happened::{Followers, Happened};
use crate::head::Head;
use crate::queue::Queue;
use crate::retention::Retention;
use crate::store::{Change, Store, StoreError, Stores};

/// Events that may wait here; then the journal's writer waits. A kilobyte each, where their names are made up.
const WAITING_EVENTS_MAX: usize = 32_768;
/// Events that are applied under one lock: reports get their turn between.
const SLICE_EVENTS: usize = 256;
/// How soon a checkpoint that failed is tried again; twice as long each time.
const RETRY_FIRST_MS: i64 = 1_000;
const RETRY_LONGEST_MS: i64 = 60_000;

enum Message {
    Events(Vec<(u64, Event)>),
    Checkpoint(CheckpointAt, Head, Arc<FrozenBooks>),
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Message>,
    events: usize,
    /// A database that lacks what is in its write-ahead log.
    drain: Option<Arc<dyn Store>>,
    closing: bool,
}

/// How checkpoints fare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckpointHealth {
    /// When the last one was written, by the monotonic clock; the start counts as one.
    pub written_ms: i64,
    /// Why the last try failed; `None` where it did not.
    pub failed: Option<Arc<str>>,
    /// Tries that failed in a row, and when the next one is due.
    pub failures: u32,
    pub retry_at_ms: i64,
}

/// What one of those who may apply needs; whoever holds it works.
struct Work {
    retention: Retention,
}

pub(crate) struct Applier {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    room: Condvar,
    work: Mutex<Work>,
    /// The state database, and the right to write to it.
    state_writes: Mutex<Arc<dyn Store>>,
    derived: Arc<RwLock<Derived>>,
    /// The last event that was applied; `u64::MAX` once none will be any more.
    watermark: watch::Sender<u64>,
    health: Mutex<CheckpointHealth>,
    stores: Arc<dyn Stores>,
    clock: Arc<dyn Clock>,
    /// Stopped where the journal's database fails.
    queue: Arc<Queue>,
    pub followers: Followers,
}

impl Applier {
    /// `derived` is that at the journal's head, which is event `head`.
    pub fn new(
        head: u64,
        derived: Arc<RwLock<Derived>>,
        state: Arc<dyn Store>,
        stores: Arc<dyn Stores>,
        retention: Retention,
        clock: Arc<dyn Clock>,
        queue: Arc<Queue>,
    ) -> Applier {
        let health = CheckpointHealth {
            written_ms: clock.monotonic_ms(),
            ..CheckpointHealth::default()
        };
        Applier {
            inbox: Mutex::default(),
            wake: Condvar::new(),
            room: Condvar::new(),
            work: Mutex::new(Work { retention }),
            state_writes: Mutex::new(state),
            watermark: watch::Sender::new(head),
            derived,
            health: Mutex::new(health),
            stores,
            clock,
            queue,
            followers: Followers::new(),
        }
    }

    /// These events are on disk, in their order. Waits only where far too many wait already.
    pub fn committed(&self, events: Vec<(u64, Event)>) {
        let mut inbox = self.inbox.lock();
        while inbox.events >= WAITING_EVENTS_MAX && !inbox.closing {
            self.room.wait(&mut inbox);
        }
        inbox.events += weight(&events);
        inbox.messages.push_back(Message::Events(events));
        self.wake.notify_one();
    }

    /// All events so far were handed over, and a checkpoint is due here; `books` are those here.
    pub fn checkpoint(&self, at: CheckpointAt, head: Head, books: Arc<FrozenBooks>) {
        let message = Message::Checkpoint(at, head, books);
        self.inbox.lock().messages.push_back(message);
        self.wake.notify_one();
    }

    /// The journal's database is to be given what is ahead of it: here, where nobody waits for its disk.
    pub fn drain(&self, journal: Arc<dyn Store>) {
        self.inbox.lock().drain = Some(journal);
        self.wake.notify_one();
    }

    /// Waits until the event with this sequence is applied, or none will be any more.
    pub async fn applied(&self, sequence: u64) {
        let mut watermark = self.watermark.subscribe();
        // The sender lives in `self`.
        let _ = watermark.wait_for(|applied| *applied >= sequence).await;
    }

    /// Writes rows that no checkpoint bears; on disk when it returns. A database that failed is opened anew by the next
    /// checkpoint.
    pub fn write_rows(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let state = self.state_writes.lock();
        state.apply(changes)?;
        state.flush()
    }

    pub fn health(&self) -> CheckpointHealth {
        self.health.lock().clone()
    }

    /// Lets the thread finish what waits and end.
    pub fn close(&self) {
        self.inbox.lock().closing = true;
        self.wake.notify_one();
        self.room.notify_all();
    }

    /// Runs until it is closed and nothing waits. A panic below stops the writer: its derived state would be wrong for ever.
    pub fn run(&self) {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            loop {
                self.work();
                let mut inbox = self.inbox.lock();
                if inbox.messages.is_empty() && inbox.drain.is_none() {
                    if inbox.closing {
                        return;
                    }
                    self.wake.wait_for(&mut inbox, Duration::from_secs(60));
                }
            }
        }));
        if ended.is_err() {
            self.queue.stop("the thread that applies events panicked");
        }
        self.watermark.send_replace(u64::MAX);
    }

    /// Works through all that waits.
    pub fn work(&self) {
        let mut work = self.work.lock();
        loop {
            let (drain, message) = {
                let mut inbox = self.inbox.lock();
                (inbox.drain.take(), inbox.messages.pop_front())
            };
            if let Some(journal) = drain {
                self.drain_now(&*journal);
            }
            match message {
                None => return,
                Some(Message::Events(events)) => self.apply(&events),
                Some(Message::Checkpoint(at, head, books)) => self.write(&mut work, at, head, books),
            }
        }
    }

    /// What has no room now has some later, and the writer waits for it. After any other failure nothing more may be written.
    fn drain_now(&self, journal: &dyn Store) {
        match journal.drain() {
            Ok(()) => {}
            Err(error) if error.may_pass() => {
                tracing::warn!(%error, "the journal's database cannot take what is in its write-ahead log for now");
            }
            Err(error) => {
                tracing::error!(%error, "the journal's database failed");
                self.queue.stop(&error.to_string());
            }
        }
    }

    fn apply(&self, events: &[(u64, Event)]) {
        for slice in events.chunks(SLICE_EVENTS) {
            self.apply_derived(slice);
        }
        let last = events.last().map_or(0, |(sequence, _)| *sequence);
        self.watermark.send_if_modified(|applied| {
            let is_later = last > *applied;
            *applied = last.max(*applied);
            is_later
        });
        let mut inbox = self.inbox.lock();
        inbox.events = inbox.events.saturating_sub(weight(events));
        self.room.notify_all();
    }

    fn apply_derived(&self, slice: &[(u64, Event)]) {
        let mut happened = Vec::new();
        let are_followed = self.followers.are_there();
        let mut derived = self.derived.write();
        for (sequence, event) in slice {
            let facts = if are_followed { derived.facts_of(event) } else { None };
            let entry = derived.apply(*sequence, event, &*self.stores);
            if are_followed {
                happened.push(Happened {
                    sequence: *sequence,
                    event: event.clone(),
                    entry: entry.map(Arc::new),
                    facts,
                });
            }
        }
        drop(derived);
        happened
            .into_iter()
            .for_each(|happened| self.followers.notify(happened));
    }

    /// Writes a checkpoint. One that failed is not the last: what it would have borne, the next one bears.
    fn write(&self, work: &mut Work, at: CheckpointAt, head: Head, books: Arc<FrozenBooks>) {
        // Also where nothing can be written: memory must not grow because of it.
        {
            let mut derived = self.derived.write();
            derived.rollups.merge(at.at_ms);
            derived.peaks.forget(at.at_ms);
        }
        let now_ms = self.clock.monotonic_ms();
        match self.try_write(work, at, head, books) {
            Ok(()) => {
                let mut health = self.health.lock();
                if health.failed.is_some() {
                    tracing::info!("checkpoints are written again");
                }
                *health = CheckpointHealth {
                    written_ms: now_ms,
                    ..CheckpointHealth::default()
                };
                drop(health);
                let sessions = Arc::clone(&self.derived.read().sessions);
                if let Some(first) = work.retention.remove_old(&*self.stores, &at, &sessions) {
                    self.derived.write().change_rows.forget_before(first);
                }
            }
            Err(error) => {
                let mut health = self.health.lock();
                health.failed = Some(error.to_string().into());
                health.failures = health.failures.saturating_add(1);
                let wait_ms = RETRY_FIRST_MS << health.failures.saturating_sub(1).min(6);
                health.retry_at_ms = now_ms.saturating_add(wait_ms.min(RETRY_LONGEST_MS));
                tracing::warn!(%error, failures = health.failures, "a checkpoint could not be written; it is tried again");
            }
        }
    }

    fn try_write(
        &self,
        work: &mut Work,
        at: CheckpointAt,
        head: Head,
        books: Arc<FrozenBooks>,
    ) -> Result<(), StoreError> {
        let state = self.state_writes.lock();
        if self.health.lock().failed.is_some() {
            state.reopen()?;
        }
        if books.head() != head.sequence {
            let (found, named) = (books.head(), head.sequence);
            return Err(StoreError::Io(format!("the books are at event {found}, not {named}")));
        }
        let checkpoint = {
            // Only this thread writes: readers alone are beside it.
            let derived = self.derived.read();
            let checkpoint = Marked {
                head,
                at,
                floors_ms: derived.rollups.floors_ms(),
            };
            let rows = derived.rollups.changes().map(checkpoint::rollup_change);
            let rows = rows.chain(derived.peaks.changes().map(checkpoint::peaks_change));
            let rows = rows.chain(derived.bill_rows.changes(head.sequence, at.at_ms));
            let rows = rows.chain(derived.import_places.changes());
            let rows = rows.chain(derived.change_rows.changes());
            let rows = rows.chain(derived.denial_rows.changes());
            // Before the others: a session that was to be forgotten may have come back since.
            let rows = rows.chain(work.retention.forgotten());
            let rows = rows.chain(derived.sessions.changes());
            state.apply_each(&mut rows.chain(checkpoint.changes(books.pieces(PART_BYTES))))
        };
        // From here on what the live books change needs no copy.
        drop(books);
        checkpoint?;
        state.flush()?;
        drop(state);
        work.retention.saved();
        let mut derived = self.derived.write();
        derived.rollups.saved();
        derived.peaks.saved();
        derived.bill_rows.saved(head.sequence, at.at_ms);
        derived.import_places.saved();
        derived.change_rows.saved();
        derived.denial_rows.saved();
        derived.sessions.saved(head.sequence, at.at_ms);
        Ok(())
    }
}

fn weight(events: &[(u64, Event)]) -> usize {
    events.iter().map(|(_, event)| event.weight()).sum()
}
