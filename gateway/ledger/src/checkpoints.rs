//! Checkpoints, made on a thread of their own from books of their own: writing many open holds down takes long, and
//! neither requests nor the journal shall wait for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::books::Books;
use crate::derived::{self, Row, Snapshot};
use crate::event::Event;
use crate::journal::frame::Head;
use crate::sessions::Sessions;
use crate::store::{Change, Store, StoreError};

/// Events are handed over in batches of this size, at the latest with the next checkpoint.
const BATCH_EVENTS: usize = 256;
/// Batches that may wait while a checkpoint is written; then the journal's writer waits.
const BATCHES_MAX: usize = 1_024;

/// Rows of the rollups that have changed, at the place of a checkpoint.
pub(crate) struct Due {
    pub snapshot: Snapshot,
    pub head: Head,
    pub floors_ms: (i64, i64),
    pub rows: Vec<Row>,
    /// Rows of billed ids.
    pub bills: Vec<Change>,
    pub session_rows: Vec<Change>,
}

enum Told {
    Events(Vec<(u64, Event)>),
    Due(Box<Due>),
}

/// The writer's end. Dropping it waits until all is written down.
pub(crate) struct Checkpoints {
    batch: Vec<(u64, Event)>,
    /// `None` once a checkpoint failed: the rows it bore are lost to the next one, so a start must replay from the last.
    sender: Option<SyncSender<Told>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// `books` are those at the journal's head. `sessions` are told what is on disk.
    pub fn start(books: Books, state: Arc<dyn Store>, sessions: Arc<Sessions>) -> std::io::Result<Checkpoints> {
        let (sender, receiver) = sync_channel(BATCHES_MAX);
        let thread = thread::Builder::new()
            .name("ledger-checkpoint".into())
            .spawn(move || run(books, &*state, &sessions, &receiver))?;
        Ok(Checkpoints {
            batch: Vec::new(),
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    /// The event is on disk.
    pub fn committed(&mut self, sequence: u64, event: Event) {
        if self.sender.is_none() {
            return;
        }
        self.batch.push((sequence, event));
        if self.batch.len() >= BATCH_EVENTS {
            self.hand_over();
        }
    }

    /// Whether checkpoints are still written.
    pub fn is_running(&self) -> bool {
        self.sender.is_some()
    }

    pub fn checkpoint(&mut self, due: Due) {
        self.hand_over();
        self.tell(Told::Due(Box::new(due)));
    }

    fn hand_over(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.tell(Told::Events(batch));
        }
    }

    fn tell(&mut self, told: Told) {
        // The other end is gone only after it has said why.
        if self.sender.as_ref().is_some_and(|sender| sender.send(told).is_err()) {
            self.sender = None;
            self.batch = Vec::new();
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.sender = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes checkpoints panicked");
        }
    }
}

fn run(mut books: Books, state: &dyn Store, sessions: &Sessions, receiver: &Receiver<Told>) {
    for told in receiver {
        if let Err(error) = take_in(&mut books, state, sessions, told) {
            tracing::warn!(%error, "no more checkpoints: the next start replays the journal from the last one");
            return;
        }
    }
}

fn take_in(books: &mut Books, state: &dyn Store, sessions: &Sessions, told: Told) -> Result<(), StoreError> {
    match told {
        Told::Events(events) => {
            for (sequence, event) in &events {
                let applied = books.apply(*sequence, event);
                applied.map_err(|error| StoreError::Io(error.to_string()))?;
            }
            Ok(())
        }
        Told::Due(due) if books.head() == due.head.sequence => {
            let (sequence, now_ms) = (due.head.sequence, due.snapshot.at_ms);
            derived::save(state, books.snapshot(), *due)?;
            sessions.saved(sequence, now_ms);
            Ok(())
        }
        Told::Due(due) => {
            let (at, head) = (books.head(), due.head.sequence);
            Err(StoreError::Io(format!("the books are at event {at}, not {head}")))
        }
    }
}
