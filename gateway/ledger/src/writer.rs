//! The one thread that writes the journal: it takes what waits, makes one group of it, writes and syncs it once
//! (`store::ahead`), then notifies the waiters and hands the events to the applier, and now and then the database that is to
//! take them. Nobody who waits for the disk ever waits for a reader of derived state.
//!
//! A write that the disk has no room for suspends the writer: what was to be written stays here, admission is refused, and
//! it is tried again until there is room. After any other failed write, or a failed sync, it stops for good: what the disk
//! has then is known to the next start alone.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::applier::Applier;
use crate::books::FrozenBooks;
use crate::clock::instant;
use crate::codec;
use crate::event::Event;
use crate::head::Head;
use crate::journal::frame::{Chunk, ChunkBuilder};
use crate::names::Names;
use crate::queue::{Item, Queue};
use crate::store::{Change, Month, Store, StoreError, Stores};

/// A chunk is sealed when it has grown to this; the database copes best with values well below its pages.
const CHUNK_BYTES_MAX: usize = 8 << 10;

/// After so many events one is written that needs none before it, so that one who reads an event, or some hour, need read
/// few before it.
const SELF_CONTAINED_EVERY: u32 = 1_024;

/// So much waits ahead of the database before it is put there; what is less is put there by time.
const DRAIN_BYTES: usize = 1 << 20;

/// How often time alone brings work: heads to note, denials to count, checkpoints, another try at a full disk.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Notified of each group commit, on the writer's thread: it must be quick and must not panic.
pub trait CommitObserver: Send + Sync {
    /// So many events came on disk together; writing and syncing them took so long.
    fn committed(&self, events: usize, took: Duration);
}

impl fmt::Debug for dyn CommitObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommitObserver")
    }
}

/// What is to be done once a second; may put down events.
pub(crate) type Ticker = Box<dyn FnMut() + Send>;

/// The writing side, owned by its thread.
pub(crate) struct Writer {
    queue: Arc<Queue>,
    stores: Arc<dyn Stores>,
    applier: Arc<Applier>,
    ticker: Ticker,
    /// The newest month, and its database.
    month: Month,
    store: Arc<dyn Store>,
    /// The head that the database is known to have; `None` while nothing was written to it.
    committed: Option<Head>,
    chunk: ChunkBuilder,
    names: Names,
    /// Taken from the queue, in order; what a suspended writer has not come to stays.
    group: VecDeque<Item>,
    /// Sealed and not yet known to be on disk.
    changes: Vec<Change>,
    /// The events of `changes` and of the chunk that is being filled.
    pending: Vec<(u64, Event)>,
    /// Free again only once what they were for is on disk: what waits for the disk is bounded, too.
    permits: Vec<OwnedSemaphorePermit>,
    since_self_contained: u32,
    is_suspended: bool,
    noted: Head,
    observer: Option<Arc<dyn CommitObserver>>,
}

impl Writer {
    /// A writer that carries on in `store`, the database of `month`, which is the newest. `is_new`: nothing is in it.
    pub fn new(
        queue: Arc<Queue>,
        stores: Arc<dyn Stores>,
        applier: Arc<Applier>,
        (month, store, is_new): (Month, Arc<dyn Store>, bool),
        observer: Option<Arc<dyn CommitObserver>>,
        ticker: Ticker,
    ) -> Writer {
        let head = queue.head();
        Writer {
            queue,
            stores,
            applier,
            ticker,
            month,
            store,
            committed: (!is_new).then_some(head),
            chunk: ChunkBuilder::new(head),
            names: Names::new(),
            group: VecDeque::new(),
            changes: Vec::new(),
            pending: Vec::new(),
            permits: Vec::new(),
            since_self_contained: 0,
            is_suspended: false,
            noted: Head::default(),
            observer,
        }
    }

    /// Runs until the queue is closed or a write fails. A panic below is a failure like any other.
    pub fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut ticked = instant();
            loop {
                let ended = self.queue.take(&mut self.group, TICK);
                let is_tick = ticked.elapsed() >= TICK || (self.is_suspended && self.queue.is_closing());
                if self.is_suspended && !is_tick {
                    // What gathers meanwhile is bounded by the permits of those who have one.
                    std::thread::sleep(TICK / 20);
                    continue;
                }
                self.turn()?;
                if is_tick {
                    ticked = instant();
                    self.tick()?;
                }
                if self.queue.is_closing() {
                    if let Some(why) = self.queue.suspended() {
                        return Err(StoreError::Io(why.0.to_string()));
                    }
                    if ended {
                        return self.end();
                    }
                }
            }
        }));
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

    /// What `run` does at a time, for a caller that has no threads: takes what waits and commits it as one group.
    ///
    /// # Errors
    /// The writer stops for good.
    pub fn step(&mut self) -> Result<(), StoreError> {
        self.queue.take_now(&mut self.group);
        if self.is_suspended {
            return Ok(());
        }
        self.turn()
    }

    /// What is due by time. A suspended writer tries again.
    pub fn tick(&mut self) -> Result<(), StoreError> {
        if self.is_suspended {
            self.turn()?;
        }
        self.stores.check()?;
        self.note_head();
        self.drain_from(1);
        (self.ticker)();
        Ok(())
    }

    /// The last of it: the queue is closed and empty.
    pub fn end(&mut self) -> Result<(), StoreError> {
        self.commit()?;
        self.note_head();
        if let Err(error) = self.store.close() {
            tracing::warn!(%error, "the journal's database lacks what is in its write-ahead log: the next start reads it there");
        }
        Ok(())
    }

    /// Has what is ahead of the database put there, where it is so much.
    fn drain_from(&self, bytes: usize) {
        if self.store.ahead_bytes() >= bytes {
            self.applier.drain(Arc::clone(&self.store));
        }
    }

    /// Writes down what was taken, unless there is no room for it.
    fn turn(&mut self) -> Result<(), StoreError> {
        match self.write_group() {
            Ok(()) => {
                self.is_suspended = false;
                if self.queue.resume() {
                    tracing::warn!("the ledger writes again");
                }
                Ok(())
            }
            Err(error) if error.may_pass() => {
                if !std::mem::replace(&mut self.is_suspended, true) {
                    tracing::error!(%error, "the ledger cannot write for now: nothing is admitted until it can");
                }
                self.queue.suspend(&error.to_string());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn write_group(&mut self) -> Result<(), StoreError> {
        if self.is_suspended {
            self.find_place()?;
        }
        while let Some(item) = self.group.pop_front() {
            match item {
                Item::Event {
                    journal_ms,
                    event,
                    permit,
                } => {
                    self.permits.extend(permit);
                    self.encode(journal_ms, event);
                }
                Item::Together {
                    journal_ms,
                    events,
                    permit,
                } => {
                    self.permits.extend(permit);
                    self.make_room();
                    for event in events {
                        self.append(journal_ms, event);
                    }
                }
                Item::Opening {
                    journal_ms,
                    month,
                    event,
                    books,
                } => {
                    if let Err(error) = self.begin_month(month) {
                        self.group.push_front(Item::Opening {
                            journal_ms,
                            month,
                            event,
                            books,
                        });
                        return Err(error);
                    }
                    let opening = self.filled(event, books);
                    self.encode(journal_ms, opening);
                    // Alone, and on disk before anything follows it.
                    self.commit()?;
                }
                Item::Checkpoint(at, books) => {
                    if let Err(error) = self.commit() {
                        self.group.push_front(Item::Checkpoint(at, books));
                        return Err(error);
                    }
                    self.note_head();
                    self.applier.checkpoint(at, self.chunk.head(), books);
                    self.begin_self_contained();
                }
            }
        }
        self.commit()
    }

    fn encode(&mut self, journal_ms: i64, event: Event) {
        self.make_room();
        self.append(journal_ms, event);
    }

    /// A new chunk is begun where this one is full.
    fn make_room(&mut self) {
        if self.chunk.len_bytes() >= CHUNK_BYTES_MAX {
            self.seal();
        }
        if self.chunk.is_empty() && self.since_self_contained >= SELF_CONTAINED_EVERY {
            self.begin_self_contained();
        }
    }

    fn append(&mut self, journal_ms: i64, event: Event) {
        // A reader of one event, or of some hour, decodes all entries before it, too.
        let weight = u32::try_from(event.weight()).unwrap_or(u32::MAX);
        self.since_self_contained = self.since_self_contained.saturating_add(weight);
        let bytes = codec::encode(&event, &mut self.names);
        let sequence = self.chunk.next_sequence();
        self.chunk.push(journal_ms, &bytes);
        self.pending.push((sequence, event));
    }

    fn seal(&mut self) {
        if let Some((key, value)) = self.chunk.seal() {
            self.changes.push(Change::Put(key.to_vec(), value));
        }
    }

    /// What was encoded is on disk when this returns. Called again after an error it goes on with the same.
    fn commit(&mut self) -> Result<(), StoreError> {
        self.seal();
        if self.pending.is_empty() {
            return Ok(());
        }
        let began = instant();
        if !self.changes.is_empty() {
            self.store.apply(self.changes.clone())?;
        }
        self.store.flush()?;
        let (events, took) = (self.pending.len(), began.elapsed());
        self.changes.clear();
        self.committed = Some(self.chunk.head());
        // Before anybody learns of it: who waited for the disk finds the places free.
        self.permits.clear();
        self.queue.advance(self.chunk.head());
        self.applier.committed(std::mem::take(&mut self.pending));
        if let Some(observer) = &self.observer {
            observer.committed(events, took);
        }
        self.drain_from(DRAIN_BYTES);
        Ok(())
    }

    /// After a write that failed, the database is opened anew and requested how far it is: at what is committed, or at a chunk of
    /// those that failed. They are all written again, which changes none that is there: that it was read back does not mean
    /// that it is on disk, and a further failure may still lose it.
    fn find_place(&mut self) -> Result<(), StoreError> {
        // An engine that has no room may not even open, and says all sorts of things then: nothing is lost by another try.
        self.store.reopen().map_err(|error| match error {
            full @ StoreError::Full(_) => full,
            other => StoreError::Full(other.to_string()),
        })?;
        let found = match self.store.last()? {
            None => None,
            Some((key, value)) => Some(end_of(&key, &value)?),
        };
        let is_failed = |change: &Change| match change {
            Change::Put(key, value) => end_of(key, value).ok() == found,
            Change::Remove(_) => false,
        };
        if found == self.committed || self.changes.iter().any(is_failed) {
            return Ok(());
        }
        let expected = self.committed.unwrap_or_default();
        let found = found.unwrap_or_default();
        Err(StoreError::Io(format!(
            "the journal ends with {found}, not with {expected}, after a write that failed"
        )))
    }

    /// Goes on in the new month's database.
    fn begin_month(&mut self, month: Month) -> Result<(), StoreError> {
        self.commit()?;
        if self.month != month {
            self.store.close()?;
            self.store = self.stores.create_month(month)?;
            (self.month, self.committed) = (month, None);
        }
        self.begin_self_contained();
        Ok(())
    }

    /// An opening with what was not known, or too large to be copied, when it was decided.
    fn filled(&self, mut event: Event, books: Option<Arc<FrozenBooks>>) -> Event {
        if let Event::Opening(opening) = &mut event {
            let head = self.chunk.head();
            let opening = Arc::make_mut(opening);
            opening.previous = (head.sequence > 0).then_some(head.hash.0);
            if let Some(books) = books {
                opening.books = books.snapshot();
            }
        }
        event
    }

    /// Notes beside the journal how far it is on disk: an engine that takes damage for a torn tail drops what comes after it
    /// without a word. After the waiters were notified, so nobody waits for it. One that failed is tried again.
    fn note_head(&mut self) {
        let Some(head) = self.committed.filter(|head| *head != self.noted) else {
            return;
        };
        match self.stores.note_head(head) {
            Ok(()) => self.noted = head,
            Err(error) => {
                tracing::warn!(%error, "cannot note how far the journal reaches: verify may not see the loss of its end");
            }
        }
    }

    /// The next event is encoded so that it can be read without any before it. Between chunks only.
    fn begin_self_contained(&mut self) {
        self.chunk.begin_self_contained();
        self.names = Names::new();
        self.since_self_contained = 0;
    }
}

/// The head that a chunk of the journal makes.
fn end_of(key: &[u8], value: &[u8]) -> Result<Head, StoreError> {
    let chunk = Chunk::parse(key, value).map_err(|damage| StoreError::Io(damage.to_string()))?;
    Ok(Head {
        sequence: chunk.last_sequence(),
        hash: chunk.hash,
    })
}
