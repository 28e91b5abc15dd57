//! The machine a ledger runs on: its stores, watched, and its clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use agentledger_ledger::Head;
use agentledger_ledger::store::{Change, Faults, Heads, MemoryStores, Month, Pair, Store, StoreError, Stores};

/// The stores as the ledger has them. What is written to derived state must be a checkpoint, whole: rows that change without
/// one would be counted twice, or not at all, by the start after a crash.
#[derive(Clone)]
pub struct Watched {
    pub inner: MemoryStores,
    stray: Arc<AtomicBool>,
    /// Months that the ledger has removed.
    removed: Arc<Mutex<Vec<Written>>>,
}

pub type Written = (Month, Arc<dyn Store>);

impl Watched {
    pub fn new(inner: MemoryStores) -> Watched {
        Watched {
            inner,
            stray: Arc::default(),
            removed: Arc::default(),
        }
    }

    /// All months that there are, and those removed since the last call: what the ledger has written, whatever fails now.
    pub fn written(&self) -> Vec<Written> {
        let mut written = std::mem::take(&mut *self.removed.lock());
        for month in self.inner.months().unwrap() {
            written.extend(self.inner.peek(month).map(|store| (month, store)));
        }
        written
    }

    /// Does something without the faults that are set.
    pub fn undisturbed<T>(&self, act: impl FnOnce() -> T) -> T {
        let faults = self.inner.faults();
        self.inner.set_faults(Faults::default());
        let done = act();
        self.inner.set_faults(faults);
        done
    }

    /// Whether rows of derived state were changed outside of a checkpoint.
    pub fn has_stray_rows(&self) -> bool {
        self.stray.load(Ordering::Relaxed)
    }

    pub fn set_faults(&self, faults: Faults) {
        self.inner.set_faults(faults);
    }
}

impl Stores for Watched {
    fn months(&self) -> Result<Vec<Month>, StoreError> {
        self.inner.months()
    }

    fn month(&self, month: Month) -> Result<Option<Arc<dyn Store>>, StoreError> {
        self.inner.month(month)
    }

    fn create_month(&self, month: Month) -> Result<Arc<dyn Store>, StoreError> {
        self.inner.create_month(month)
    }

    fn remove_month(&self, month: Month) -> Result<(), StoreError> {
        let store = self.inner.peek(month);
        let removed = self.inner.remove_month(month);
        if self.inner.peek(month).is_none() {
            crate::seen("a month that was removed");
            self.removed.lock().extend(store.map(|store| (month, store)));
        }
        removed
    }

    fn state(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(State {
            inner: self.inner.state()?,
            stray: Arc::clone(&self.stray),
        }))
    }

    fn discard_state(&self) -> Result<(), StoreError> {
        self.inner.discard_state()
    }

    fn check(&self) -> Result<(), StoreError> {
        self.inner.check()
    }

    fn heads(&self) -> Result<Heads, StoreError> {
        self.inner.heads()
    }

    fn note_head(&self, head: Head) -> Result<(), StoreError> {
        self.inner.note_head(head)
    }
}

struct State {
    inner: Arc<dyn Store>,
    stray: Arc<AtomicBool>,
}

impl Store for State {
    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        let is_checkpoint = matches!(batch.last(), Some(Change::Put(key, _)) if key == b"checkpoint");
        // A start that finds no checkpoint it can use clears all there is.
        let clears = batch.iter().all(|change| matches!(change, Change::Remove(_)))
            && self.inner.scan(&[]).count() == batch.len();
        if !is_checkpoint && !clears {
            self.stray.store(true, Ordering::Relaxed);
        }
        self.inner.apply(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.inner.reopen()
    }

    fn scan<'a>(&'a self, from: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send + 'a> {
        self.inner.scan(from)
    }

    fn at_or_before(&self, at: &[u8]) -> Result<Option<Pair>, StoreError> {
        self.inner.at_or_before(at)
    }

    fn last(&self) -> Result<Option<Pair>, StoreError> {
        self.inner.last()
    }
}
