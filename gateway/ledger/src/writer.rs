//! The one thread that writes the journal: it takes what waits, makes one batch of it, syncs once, then tells the waiters.
//!
//! A place in the queue is a permit of a semaphore, so a full queue slows admission and nothing else: who holds a place
//! may always put its event down, without waiting. After a failed write or sync the writer stops for good.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::journal::frame::{ChunkBuilder, Head};
use crate::store::{Change, Month, Store, StoreError, Stores};

/// A chunk is sealed when it has grown to this; sled copes best with values well below its pages.
const CHUNK_BYTES_MAX: usize = 8 << 10;

/// Events of one batch at most; more wait for the next.
const BATCH_EVENTS_MAX: usize = 1_024;

/// After so many events one is written that needs none before it, so that a reader of some hour need not begin with the
/// month.
const ANEW_EVENTS: u32 = 16_384;

/// So many waiters told by one commit are a crowd: more are about to come, and one sync can serve them all.
const CROWD: usize = 8;
/// How long a crowd gathers before it is written. One who waits alone is never kept.
const CROWD_GATHERS: Duration = Duration::from_millis(2);

/// How often the scribe is asked whether there is anything to do by time.
const TICK: Duration = Duration::from_secs(1);

/// Why nothing is written any more.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the ledger has stopped writing: {0}")]
pub struct Stopped(pub Arc<str>);

/// What the writer does not know: how events look and what follows from them.
pub trait Scribe: Send + 'static {
    type Event: Send + 'static;
    /// Derived state at one place of the sequence, to be written down beside the journal.
    type Snapshot: Send + 'static;

    fn encode(&mut self, event: &Self::Event, out: &mut Vec<u8>);
    /// The next event must be encoded so that it can be read without any before it.
    fn begin_anew(&mut self);
    /// The event is on disk.
    fn committed(&mut self, sequence: u64, event: Self::Event);
    /// Tells an opening what it carries on from, which was not known when it was decided.
    fn opens_after(&mut self, opening: &mut Self::Event, previous: Head);
    /// Everything up to `head` is on disk and was told to `committed`.
    fn checkpoint(&mut self, snapshot: Self::Snapshot, head: Head);
    /// Called about once a second; may put down events.
    fn tick(&mut self);
    /// A month has begun: its opening is on disk.
    fn opened(&mut self, month: Month);
}

/// Told of each group commit, on the writer's thread: it must be quick and must not panic.
pub trait CommitObserver: Send + Sync {
    /// So many events came on disk together; writing and syncing them took so long.
    fn committed(&self, events: usize, took: Duration);
}

impl fmt::Debug for dyn CommitObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommitObserver")
    }
}

/// What waits for the writer.
enum Item<S: Scribe> {
    Event {
        at_ms: i64,
        event: S::Event,
        place: Option<OwnedSemaphorePermit>,
    },
    Opening {
        at_ms: i64,
        month: Month,
        event: S::Event,
    },
    Checkpoint {
        snapshot: S::Snapshot,
    },
}

struct Inner<S: Scribe> {
    items: Vec<Item<S>>,
    /// Somebody waits: no lingering.
    urgent: bool,
    /// How many waiters the last commit told.
    told: usize,
    closing: bool,
    stopped: Option<Stopped>,
    /// Sequence of the last event that was put down.
    queued_sequence: u64,
    head: Head,
    waiters: Vec<(u64, oneshot::Sender<Result<(), Stopped>>)>,
}

/// The queue between those who decide and the one who writes.
pub struct Queue<S: Scribe> {
    inner: Mutex<Inner<S>>,
    wake: Condvar,
    places: Arc<Semaphore>,
    /// How long events without a waiter may gather.
    linger: Duration,
}

impl<S: Scribe> Queue<S> {
    pub fn new(head: Head, places_max: usize, linger: Duration) -> Queue<S> {
        let inner = Inner {
            items: Vec::new(),
            urgent: false,
            told: 0,
            closing: false,
            stopped: None,
            queued_sequence: head.sequence,
            head,
            waiters: Vec::new(),
        };
        let places = Arc::new(Semaphore::new(places_max.min(Semaphore::MAX_PERMITS)));
        Queue {
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            places,
            linger,
        }
    }

    /// `count` places for events, all or none; waits while the queue is full.
    pub async fn places(&self, count: u32) -> Result<OwnedSemaphorePermit, Stopped> {
        let places = Arc::clone(&self.places).acquire_many_owned(count).await;
        places.map_err(|_| self.stopped().unwrap_or_else(|| Stopped("it was closed".into())))
    }

    /// A place, if there is one at this moment.
    pub fn place_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    pub fn places_left(&self) -> usize {
        self.places.available_permits()
    }

    /// Puts down an event and gives its sequence. The caller's lock makes the order of calls the order of decisions.
    pub fn put(&self, at_ms: i64, event: S::Event, place: Option<OwnedSemaphorePermit>, urgent: bool) -> u64 {
        let mut inner = self.inner.lock();
        inner.queued_sequence += 1;
        let sequence = inner.queued_sequence;
        self.push(&mut inner, Item::Event { at_ms, event, place }, urgent);
        sequence
    }

    /// Begins a month with its opening.
    pub fn open_month(&self, at_ms: i64, month: Month, event: S::Event) -> u64 {
        let mut inner = self.inner.lock();
        inner.queued_sequence += 1;
        let sequence = inner.queued_sequence;
        self.push(&mut inner, Item::Opening { at_ms, month, event }, true);
        sequence
    }

    /// Has the state at this place of the sequence written down.
    pub fn checkpoint(&self, snapshot: S::Snapshot) {
        self.push(&mut self.inner.lock(), Item::Checkpoint { snapshot }, false);
    }

    fn push(&self, inner: &mut Inner<S>, item: Item<S>, urgent: bool) {
        if inner.stopped.is_some() {
            return;
        }
        let wakes = inner.items.is_empty() || (urgent && !inner.urgent);
        inner.urgent |= urgent;
        inner.items.push(item);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Waits until the event with this sequence, and all before it, are on disk.
    pub async fn durable(&self, sequence: u64) -> Result<(), Stopped> {
        let told = {
            let mut inner = self.inner.lock();
            if inner.head.sequence >= sequence {
                return Ok(());
            }
            if let Some(stopped) = &inner.stopped {
                return Err(stopped.clone());
            }
            let (tell, told) = oneshot::channel();
            inner.waiters.push((sequence, tell));
            if !std::mem::replace(&mut inner.urgent, true) {
                self.wake.notify_one();
            }
            told
        };
        told.await
            .unwrap_or_else(|_| Err(self.stopped().unwrap_or_else(|| Stopped("it was closed".into()))))
    }

    /// How far the disk reaches.
    pub fn head(&self) -> Head {
        self.inner.lock().head
    }

    pub fn queued_sequence(&self) -> u64 {
        self.inner.lock().queued_sequence
    }

    pub fn stopped(&self) -> Option<Stopped> {
        self.inner.lock().stopped.clone()
    }

    /// Lets the writer finish what waits and end.
    pub fn close(&self) {
        self.places.close();
        self.inner.lock().closing = true;
        self.wake.notify_one();
    }

    fn stop(&self, reason: &str) {
        self.places.close();
        let stopped = Stopped(reason.into());
        let (items, waiters) = {
            let mut inner = self.inner.lock();
            inner.stopped.get_or_insert_with(|| stopped.clone());
            (std::mem::take(&mut inner.items), std::mem::take(&mut inner.waiters))
        };
        drop(items);
        for (_, tell) in waiters {
            // Nobody may be waiting any more.
            let _ = tell.send(Err(stopped.clone()));
        }
    }

    /// Moves what waits into `batch`: after the first item, gathers until somebody waits for it or the time is up.
    /// Tells whether the queue is closed and empty.
    fn take(&self, batch: &mut Vec<Item<S>>) -> bool {
        let idle_until = Instant::now() + TICK;
        let mut inner = self.inner.lock();
        while inner.items.is_empty() && !inner.closing {
            if self.wake.wait_until(&mut inner, idle_until).timed_out() {
                return false;
            }
        }
        let gather_until = Instant::now() + self.linger;
        while !inner.urgent && !inner.closing && inner.items.len() < BATCH_EVENTS_MAX {
            if self.wake.wait_until(&mut inner, gather_until).timed_out() {
                break;
            }
        }
        if inner.told >= CROWD {
            let crowd_until = Instant::now() + CROWD_GATHERS;
            while !inner.closing && inner.items.len() < BATCH_EVENTS_MAX {
                if self.wake.wait_until(&mut inner, crowd_until).timed_out() {
                    break;
                }
            }
        }
        if inner.items.len() <= BATCH_EVENTS_MAX {
            std::mem::swap(&mut inner.items, batch);
            inner.urgent = false;
        } else {
            batch.extend(inner.items.drain(..BATCH_EVENTS_MAX));
        }
        inner.closing && batch.is_empty()
    }

    fn advance(&self, head: Head) {
        let due = {
            let mut inner = self.inner.lock();
            inner.head = head;
            let waiters = std::mem::take(&mut inner.waiters);
            let (due, early): (Vec<_>, Vec<_>) = waiters
                .into_iter()
                .partition(|(sequence, _)| *sequence <= head.sequence);
            inner.urgent |= !early.is_empty();
            inner.told = due.len();
            inner.waiters = early;
            due
        };
        for (_, tell) in due {
            let _ = tell.send(Ok(()));
        }
    }
}

/// The writing side, owned by its thread.
pub struct Writer<S: Scribe> {
    queue: Arc<Queue<S>>,
    stores: Arc<dyn Stores>,
    store: Arc<dyn Store>,
    chunk: ChunkBuilder,
    scribe: S,
    /// Reused for each event's bytes.
    event_bytes: Vec<u8>,
    changes: Vec<Change>,
    since_anew: u32,
    /// Events that are encoded but not yet on disk.
    pending: Vec<(u64, S::Event)>,
    notes: Notes,
    observer: Option<Arc<dyn CommitObserver>>,
}

/// The heads noted beside the journal.
#[derive(Default)]
struct Notes {
    head: Head,
    at: Option<Instant>,
    /// A note failed: no more are tried, and what is there stays true.
    broken: bool,
}

impl<S: Scribe> Writer<S> {
    /// A writer that carries on in `store`, the newest month's.
    pub fn new(queue: Arc<Queue<S>>, stores: Arc<dyn Stores>, store: Arc<dyn Store>, scribe: S) -> Writer<S> {
        let chunk = ChunkBuilder::new(queue.head());
        let (event_bytes, changes, pending) = (Vec::new(), Vec::new(), Vec::new());
        Writer {
            queue,
            stores,
            store,
            chunk,
            scribe,
            event_bytes,
            changes,
            since_anew: 0,
            pending,
            notes: Notes::default(),
            observer: None,
        }
    }

    /// Has `observer` told of each commit.
    #[must_use]
    pub fn observed_by(self, observer: Option<Arc<dyn CommitObserver>>) -> Writer<S> {
        Writer { observer, ..self }
    }

    /// Runs until the queue is closed or a write fails. A panic below is a failure like any other.
    pub fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        let ended = catch_unwind(AssertUnwindSafe(|| self.write_all()));
        match ended {
            Ok(Ok(())) => queue.stop("it was closed"),
            Ok(Err(error)) => {
                tracing::error!(%error, "the ledger stops writing");
                queue.stop(&error.to_string());
            }
            Err(_) => {
                tracing::error!("the ledger stops writing: its writer panicked");
                queue.stop("its writer panicked");
            }
        }
    }

    fn write_all(&mut self) -> Result<(), StoreError> {
        let mut batch = Vec::new();
        let mut ticked = Instant::now();
        let mut places = Vec::new();
        loop {
            let ended = self.queue.take(&mut batch);
            for item in batch.drain(..) {
                match item {
                    Item::Event { at_ms, event, place } => {
                        self.encode(at_ms, event);
                        places.extend(place);
                    }
                    Item::Opening { at_ms, month, event } => self.open_month(at_ms, month, event)?,
                    Item::Checkpoint { snapshot } => {
                        self.commit()?;
                        self.note_head(true);
                        self.scribe.checkpoint(snapshot, self.chunk.head());
                        self.begin_anew();
                    }
                }
            }
            self.commit()?;
            // Places are free again only now: what waits for the disk is bounded, too.
            places.clear();
            self.note_head(ended);
            if ended {
                return Ok(());
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.scribe.tick();
            }
        }
    }

    fn encode(&mut self, at_ms: i64, event: S::Event) {
        if self.chunk.len_bytes() >= CHUNK_BYTES_MAX {
            self.seal();
        }
        if self.chunk.is_empty() && self.since_anew >= ANEW_EVENTS {
            self.begin_anew();
        }
        self.since_anew += 1;
        self.event_bytes.clear();
        self.scribe.encode(&event, &mut self.event_bytes);
        let sequence = self.chunk.next_sequence();
        self.chunk.push(at_ms, &self.event_bytes);
        self.pending.push((sequence, event));
    }

    fn seal(&mut self) {
        if let Some((key, value)) = self.chunk.seal() {
            self.changes.push(Change::Put(key.to_vec(), value));
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.seal();
        if self.changes.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        self.store.apply(std::mem::take(&mut self.changes))?;
        self.store.flush()?;
        let (events, took) = (self.pending.len(), began.elapsed());
        for (sequence, event) in self.pending.drain(..) {
            self.scribe.committed(sequence, event);
        }
        self.queue.advance(self.chunk.head());
        if let Some(observer) = &self.observer {
            observer.committed(events, took);
        }
        Ok(())
    }

    /// Notes beside the journal how far it is on disk, about once a second while it grows: an engine that takes damage
    /// for a torn tail drops what comes after it without a word. After the waiters were told, so nobody waits for it.
    fn note_head(&mut self, at_once: bool) {
        let head = self.chunk.head();
        let is_due = at_once || self.notes.at.is_none_or(|at| at.elapsed() >= TICK);
        if head == self.notes.head || !is_due || self.notes.broken {
            return;
        }
        match self.stores.note_head(head) {
            Ok(()) => (self.notes.head, self.notes.at) = (head, Some(Instant::now())),
            Err(error) => {
                self.notes.broken = true;
                tracing::warn!(%error, "cannot note how far the journal reaches: verify cannot see the loss of its end");
            }
        }
    }

    /// The new month's first record is its opening, alone and on disk before anything follows it.
    fn open_month(&mut self, at_ms: i64, month: Month, mut event: S::Event) -> Result<(), StoreError> {
        self.commit()?;
        self.store = self.stores.month(month)?;
        self.scribe.opens_after(&mut event, self.chunk.head());
        self.begin_anew();
        self.encode(at_ms, event);
        self.commit()?;
        self.scribe.opened(month);
        Ok(())
    }

    /// Between chunks only.
    fn begin_anew(&mut self) {
        self.chunk.begin_anew();
        self.scribe.begin_anew();
        self.since_anew = 0;
    }
}
