//! Holds of work that goes on at a provider after its answer, until the result is fetched.

use std::collections::HashMap;
use std::sync::Arc;

use agentledger_ledger::{BillId, Hold, Name};
use parking_lot::Mutex;

use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::expected_use::ExpectedUse;

/// An exchange whose result is still to be fetched.
pub struct DeferredHold {
    pub exchange: Box<Exchange>,
    pub hold: Hold,
    pub verdict: Vec<Name>,
    /// The request's size, as estimated for the hold.
    pub expected: ExpectedUse,
    pub ttfb_ms: Option<u64>,
}

/// All that wait, and who fetches results right now.
#[derive(Default)]
pub struct DeferredHolds {
    waiting: Mutex<HashMap<BillId, DeferredHold>>,
    fetch_locks: Mutex<HashMap<BillId, Arc<tokio::sync::Mutex<()>>>>,
}

impl DeferredHolds {
    /// Ends a waiting exchange. Under the lock, so that of two fetches of one result one ends it and the other finds it
    /// billed. `None`: nothing waits for this.
    pub fn end<T>(&self, bill: &BillId, end: impl FnOnce(DeferredHold) -> T) -> Option<T> {
        let mut waiting = self.waiting.lock();
        waiting.remove(bill).map(end)
    }

    /// Lets a hold wait for the result with this id. A provider that gave one id twice bills one result: the hold that
    /// waited for it before is void.
    pub fn insert(&self, bill: BillId, hold: DeferredHold) {
        let before = self.waiting.lock().insert(bill, hold);
        if let Some(before) = before {
            before.hold.void("deferred_twice");
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One turn after the other for results that are billed line by line: a second fetch must see what the first billed.
    pub async fn lock_fetch(&self, bill: BillId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = Arc::clone(self.fetch_locks.lock().entry(bill).or_default());
        let guard = lock.lock_owned().await;
        // Who waits, or has its turn, holds a handle of its own.
        self.fetch_locks.lock().retain(|_, lock| Arc::strong_count(lock) > 1);
        guard
    }
}
