//! Request bodies in memory: how many bytes all requests together hold, and the share of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// The bytes of request bodies that all requests together hold in memory.
#[derive(Debug)]
pub struct BodyBudget {
    held: AtomicU64,
    max: u64,
}

impl BodyBudget {
    pub fn new(max: u64) -> Arc<BodyBudget> {
        Arc::new(BodyBudget {
            held: AtomicU64::new(0),
            max,
        })
    }

    fn take(&self, bytes: u64) -> bool {
        let taken = self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
            held.checked_add(bytes).filter(|sum| *sum <= self.max)
        });
        taken.is_ok()
    }
}

/// A part of the body budget, given back on drop.
#[derive(Debug)]
pub struct BodyShare {
    budget: Arc<BodyBudget>,
    bytes: u64,
}

impl BodyShare {
    pub fn none_of(budget: &Arc<BodyBudget>) -> BodyShare {
        BodyShare {
            budget: Arc::clone(budget),
            bytes: 0,
        }
    }

    /// Makes it a share of so many bytes. `false`: there is no room.
    pub fn resize(&mut self, bytes: u64) -> bool {
        if bytes > self.bytes {
            return self.grow(bytes - self.bytes);
        }
        self.budget.held.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
        self.bytes = bytes;
        true
    }

    /// Makes it larger by so many bytes. `false`: there is no room, and it stays as it was.
    pub fn grow(&mut self, by: u64) -> bool {
        let granted = self.budget.take(by);
        if granted {
            self.bytes += by;
        }
        granted
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A request's whole body, and its share of the memory that all bodies have.
#[derive(Debug)]
pub struct Body {
    pub bytes: Bytes,
    share: Option<BodyShare>,
}

impl Body {
    /// Counts `by` more bytes that are held for this request. `false`: there is no room.
    pub fn grow(&mut self, by: u64) -> bool {
        self.share.as_mut().is_none_or(|share| share.grow(by))
    }

    /// A body that came from a client, and what it takes of the budget.
    pub fn read(bytes: Bytes, share: BodyShare) -> Body {
        Body {
            bytes,
            share: Some(share),
        }
    }

    /// A body that the gateway made itself.
    pub fn own(bytes: Bytes) -> Body {
        Body { bytes, share: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_budget_is_given_back() {
        let budget = BodyBudget::new(10);
        let mut one = BodyShare::none_of(&budget);
        assert!(one.grow(4) && one.grow(6));
        assert!(!one.grow(1));
        assert!(!budget.take(1));
        drop(one);
        assert!(budget.take(10));
    }
}
