//! The queue between those who decide and the one who writes.
//!
//! A permit is a place in the queue, so a full queue slows admission and nothing else: who has a permit may always put its
//! event down, without waiting. While the writer is suspended (the disk is full) events still gather here, but nobody new
//! gets a permit; once it has stopped, nothing is taken any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::books::FrozenBooks;
use crate::checkpoint::CheckpointAt;
use crate::clock::instant;
use crate::event::Event;
use crate::head::Head;
use crate::store::Month;

/// Places for what operators do, beside those of exchanges: neither ever waits for the other.
const OPERATOR_EVENTS_MAX: usize = 1_024;
/// Events of one group at most; more wait for the next.
pub(crate) const GROUP_EVENTS_MAX: usize = 1_024;

/// So many waiters notified by one commit are a crowd: more are about to come, and one sync can serve them all.
const CROWD: usize = 8;
/// How long a crowd gathers before it is written. One who waits alone is never kept.
const CROWD_GATHERS: Duration = Duration::from_millis(2);

/// Why nothing is written any more, or for now.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the ledger has stopped writing: {0}")]
pub struct Stopped(pub Arc<str>);

/// What waits for the writer. `journal_ms` never decreases, whatever the clock does: the journal is ordered by it.
pub(crate) enum Item {
    Event {
        journal_ms: i64,
        event: Event,
        permit: Option<OwnedSemaphorePermit>,
    },
    /// Events of one decision, in one record of the journal: a crash leaves all or none.
    Together {
        journal_ms: i64,
        events: Vec<Event>,
        permit: Option<OwnedSemaphorePermit>,
    },
    /// The first event of a month. The books before it are filled in when it is written; `None`: they are in it.
    Opening {
        journal_ms: i64,
        month: Month,
        event: Event,
        books: Option<Arc<FrozenBooks>>,
    },
    /// With the books there.
    Checkpoint(CheckpointAt, Arc<FrozenBooks>),
}

struct Inner {
    items: VecDeque<Item>,
    /// Somebody waits: no lingering.
    urgent: bool,
    /// How many waiters the last commit notified.
    notified: usize,
    closing: bool,
    stopped: Option<Stopped>,
    suspended: Option<Stopped>,
    /// Sequence of the last event that was put down.
    queued_sequence: u64,
    head: Head,
    waiters: Vec<(u64, oneshot::Sender<Result<(), Stopped>>)>,
}

pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    permits: Arc<Semaphore>,
    operator_permits: Arc<Semaphore>,
    /// How long events without a waiter may gather.
    linger: Duration,
}

impl Queue {
    pub fn new(head: Head, permits_max: usize, linger: Duration) -> Queue {
        let inner = Inner {
            items: VecDeque::new(),
            urgent: false,
            notified: 0,
            closing: false,
            stopped: None,
            suspended: None,
            queued_sequence: head.sequence,
            head,
            waiters: Vec::new(),
        };
        Queue {
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            permits: Arc::new(Semaphore::new(permits_max.min(Semaphore::MAX_PERMITS))),
            operator_permits: Arc::new(Semaphore::new(OPERATOR_EVENTS_MAX)),
            linger,
        }
    }

    /// `count` permits, all or none; waits while the queue is full.
    ///
    /// # Errors
    /// The writer has stopped, or is suspended: nothing new is taken then.
    pub async fn permits(&self, count: u32) -> Result<OwnedSemaphorePermit, Stopped> {
        self.is_open()?;
        let permits = Arc::clone(&self.permits).acquire_many_owned(count).await;
        let permits = permits.map_err(|_| self.stopped().unwrap_or_else(closed))?;
        self.is_open()?;
        Ok(permits)
    }

    /// A place for what an operator does; `None` where very many of them wait for the disk.
    ///
    /// # Errors
    /// The writer has stopped, or is suspended.
    pub fn operator_permit(&self) -> Result<Option<OwnedSemaphorePermit>, Stopped> {
        self.is_open()?;
        Ok(Arc::clone(&self.operator_permits).try_acquire_owned().ok())
    }

    /// # Errors
    /// The writer has stopped, or is suspended.
    pub fn is_open(&self) -> Result<(), Stopped> {
        let inner = self.inner.lock();
        match inner.stopped.as_ref().or(inner.suspended.as_ref()) {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    /// As `permits`, if there are so many at this moment and the writer writes.
    pub fn permits_now(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        self.is_open().ok()?;
        Arc::clone(&self.permits).try_acquire_many_owned(count).ok()
    }

    /// A permit, if there is one at this moment.
    pub fn permit_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    pub fn permits_left(&self) -> usize {
        self.permits.available_permits()
    }

    /// Puts down the event with this sequence. The caller's lock makes the order of calls the order of decisions. An event
    /// that is not the next one stops the writer: books and journal would number events differently from there on.
    pub fn put(
        &self,
        sequence: u64,
        journal_ms: i64,
        event: Event,
        permit: Option<OwnedSemaphorePermit>,
        urgent: bool,
    ) {
        let item = Item::Event {
            journal_ms,
            event,
            permit,
        };
        self.push(Some((sequence, 1)), item, urgent);
    }

    /// As `put`, of several events, the first of which has this sequence.
    pub fn put_together(
        &self,
        sequence: u64,
        journal_ms: i64,
        events: Vec<Event>,
        permit: Option<OwnedSemaphorePermit>,
        urgent: bool,
    ) {
        let count = events.len() as u64;
        let item = Item::Together {
            journal_ms,
            events,
            permit,
        };
        self.push(Some((sequence, count)), item, urgent);
    }

    /// Begins a month with its opening, and the books before it where it does not bear them yet.
    pub fn open_month(
        &self,
        sequence: u64,
        journal_ms: i64,
        month: Month,
        event: Event,
        books: Option<Arc<FrozenBooks>>,
    ) {
        let item = Item::Opening {
            journal_ms,
            month,
            event,
            books,
        };
        self.push(Some((sequence, 1)), item, true);
    }

    /// Has the state at this place of the sequence written down.
    pub fn checkpoint(&self, at: CheckpointAt, books: Arc<FrozenBooks>) {
        self.push(None, Item::Checkpoint(at, books), false);
    }

    /// `events`: the sequence of the first of them, and how many they are.
    fn push(&self, events: Option<(u64, u64)>, item: Item, urgent: bool) {
        let mut inner = self.inner.lock();
        if inner.stopped.is_some() {
            return;
        }
        if let Some((sequence, count)) = events {
            let next = inner.queued_sequence + 1;
            if sequence != next {
                drop(inner);
                tracing::error!(sequence, next, "the books and the journal number events differently");
                return self.stop(&format!(
                    "the books gave event {sequence}, but the journal's next is {next}"
                ));
            }
            inner.queued_sequence = sequence + count - 1;
        }
        let wakes = inner.items.is_empty() || (urgent && !inner.urgent);
        inner.urgent |= urgent;
        inner.items.push_back(item);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Waits until the event with this sequence, and all before it, are on disk.
    pub async fn durable(&self, sequence: u64) -> Result<(), Stopped> {
        let notified = {
            let mut inner = self.inner.lock();
            if inner.head.sequence >= sequence {
                return Ok(());
            }
            if let Some(why) = inner.stopped.as_ref().or(inner.suspended.as_ref()) {
                return Err(why.clone());
            }
            let (notify, notified) = oneshot::channel();
            inner.waiters.push((sequence, notify));
            if !std::mem::replace(&mut inner.urgent, true) {
                self.wake.notify_one();
            }
            notified
        };
        notified
            .await
            .unwrap_or_else(|_| Err(self.stopped().unwrap_or_else(closed)))
    }

    /// How far the disk reaches.
    pub fn head(&self) -> Head {
        self.inner.lock().head
    }

    pub fn queued_sequence(&self) -> u64 {
        self.inner.lock().queued_sequence
    }

    /// Why nothing is written any more, for good.
    pub fn stopped(&self) -> Option<Stopped> {
        self.inner.lock().stopped.clone()
    }

    /// Why nothing is written for now.
    pub fn suspended(&self) -> Option<Stopped> {
        self.inner.lock().suspended.clone()
    }

    /// Lets the writer finish what waits and end.
    pub fn close(&self) {
        self.close_permits();
        self.inner.lock().closing = true;
        self.wake.notify_one();
    }

    fn close_permits(&self) {
        self.permits.close();
        self.operator_permits.close();
    }

    pub fn is_closing(&self) -> bool {
        self.inner.lock().closing
    }

    /// Nothing is written any more.
    pub fn stop(&self, reason: &str) {
        self.close_permits();
        let stopped = Stopped(reason.into());
        let (items, waiters) = {
            let mut inner = self.inner.lock();
            inner.stopped.get_or_insert_with(|| stopped.clone());
            (std::mem::take(&mut inner.items), std::mem::take(&mut inner.waiters))
        };
        drop(items);
        fail(waiters, &stopped);
    }

    /// Nothing is written for now: who waits is refused, and nobody new is admitted.
    pub fn suspend(&self, reason: &str) {
        let suspended = Stopped(reason.into());
        let waiters = {
            let mut inner = self.inner.lock();
            inner.suspended = Some(suspended.clone());
            std::mem::take(&mut inner.waiters)
        };
        fail(waiters, &suspended);
    }

    /// Events are written again. Whether they were not.
    pub fn resume(&self) -> bool {
        self.inner.lock().suspended.take().is_some()
    }

    /// Waits up to `tick` for something to write, then moves it into `group`, gathering until somebody waits for it or the
    /// time is up. Says whether the queue is closed and empty.
    pub fn take(&self, group: &mut VecDeque<Item>, tick: Duration) -> bool {
        let idle_until = instant() + tick;
        let mut inner = self.inner.lock();
        while inner.items.is_empty() && !inner.closing && inner.stopped.is_none() {
            if self.wake.wait_until(&mut inner, idle_until).timed_out() {
                return false;
            }
        }
        let gather_until = instant() + self.linger;
        while !inner.urgent && !inner.closing && inner.items.len() < GROUP_EVENTS_MAX {
            if self.wake.wait_until(&mut inner, gather_until).timed_out() {
                break;
            }
        }
        if inner.notified >= CROWD {
            let crowd_until = instant() + CROWD_GATHERS;
            while !inner.closing && inner.items.len() < GROUP_EVENTS_MAX {
                if self.wake.wait_until(&mut inner, crowd_until).timed_out() {
                    break;
                }
            }
        }
        inner.move_to(group)
    }

    /// As `take`, without waiting for anything.
    pub fn take_now(&self, group: &mut VecDeque<Item>) -> bool {
        self.inner.lock().move_to(group)
    }

    /// The journal is on disk up to `head`: who waited for that is notified.
    pub fn advance(&self, head: Head) {
        let due = {
            let mut inner = self.inner.lock();
            inner.head = head;
            let waiters = std::mem::take(&mut inner.waiters);
            let (due, early): (Vec<_>, Vec<_>) = waiters
                .into_iter()
                .partition(|(sequence, _)| *sequence <= head.sequence);
            inner.urgent |= !early.is_empty();
            inner.notified = due.len();
            inner.waiters = early;
            due
        };
        for (_, notify) in due {
            let _ = notify.send(Ok(()));
        }
    }
}

impl Inner {
    fn move_to(&mut self, group: &mut VecDeque<Item>) -> bool {
        if group.is_empty() && self.items.len() <= GROUP_EVENTS_MAX {
            std::mem::swap(&mut self.items, group);
            self.urgent = false;
        } else {
            let room = GROUP_EVENTS_MAX.saturating_sub(group.len()).min(self.items.len());
            group.extend(self.items.drain(..room));
        }
        self.closing && group.is_empty()
    }
}

fn closed() -> Stopped {
    Stopped("it was closed".into())
}

fn fail(waiters: Vec<(u64, oneshot::Sender<Result<(), Stopped>>)>, why: &Stopped) {
    for (_, notify) in waiters {
        // Nobody may be waiting any more.
        let _ = notify.send(Err(why.clone()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::event::{HoldId, Voided};

    fn voided(hold: u64) -> Event {
        Event::Voided(Voided {
            at_ms: 5,
            hold: HoldId(hold),
            reason: "test".into(),
        })
    }

    #[tokio::test]
    async fn an_event_that_is_not_the_next_one_stops_the_writer() {
        let queue = Queue::new(Head::default(), 64, Duration::ZERO);
        queue.put(1, 5, voided(1), None, false);
        assert_eq!((queue.queued_sequence(), queue.stopped()), (1, None));
        queue.put(3, 5, voided(2), None, false);
        assert!(queue.stopped().is_some_and(|why| why.0.contains("event 3")));
        assert!(queue.permits(1).await.is_err() && queue.durable(1).await.is_err());
    }
}
