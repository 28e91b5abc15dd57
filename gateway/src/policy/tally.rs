//! Counts of what one version of a policy did since it came to stand where it stands. They are counted on the way of requests:
//! no lock, and nothing but an addition where all is well.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Parts of a million that a share is counted in.
pub const SHARE_WHOLE: u64 = 1_000_000;

/// How much of a version's calls may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureLimit {
    /// Parts of [`SHARE_WHOLE`]: more than that is too many.
    pub share: u64,
    /// Nothing is said of fewer calls.
    pub calls: u64,
}

impl FailureLimit {
    fn is_exceeded(self, counts: TallyCounts) -> bool {
        counts.calls >= self.calls
            && u128::from(counts.failures) * u128::from(SHARE_WHOLE) > u128::from(counts.calls) * u128::from(self.share)
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TallyCounts {
    /// How often it was asked, in whichever phase.
    pub calls: u64,
    /// How often it denied, or would have.
    pub denials: u64,
    /// How often it failed: by an error, its deadline, memory, or at loading.
    pub failures: u64,
}

/// Called once, when more calls have failed than may.
pub type OnExceeded = Arc<dyn Fn() + Send + Sync>;

/// See the module.
pub struct Tally {
    calls: AtomicU64,
    denials: AtomicU64,
    failures: AtomicU64,
    limit: Option<FailureLimit>,
    is_exceeded: AtomicBool,
    on_exceeded: OnExceeded,
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tally").field(&self.counts()).finish()
    }
}

impl Tally {
    pub fn new(limit: Option<FailureLimit>, on_exceeded: OnExceeded) -> Tally {
        Tally {
            calls: AtomicU64::new(0),
            denials: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            limit,
            is_exceeded: AtomicBool::new(false),
            on_exceeded,
        }
    }

    /// It was asked, and gave an answer.
    pub(super) fn answered(&self, denied: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if denied {
            self.denials.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It was asked, and failed. The failure that is one too many is notified of here, on the way of the request that it
    /// fails: the next one shall not fail, too.
    pub(super) fn failed(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        let exceeded = self.limit.is_some_and(|limit| limit.is_exceeded(self.counts()));
        if exceeded && !self.is_exceeded.swap(true, Ordering::Relaxed) {
            (self.on_exceeded)();
        }
    }

    pub fn counts(&self) -> TallyCounts {
        // The failures first: a call is counted before its failure, so that there are never more failures than calls.
        let failures = self.failures.load(Ordering::Relaxed);
        TallyCounts {
            calls: self.calls.load(Ordering::Relaxed).max(failures),
            denials: self.denials.load(Ordering::Relaxed),
            failures,
        }
    }

    /// Whether more calls failed than may, at any time since it is counted.
    pub fn is_exceeded(&self) -> bool {
        self.is_exceeded.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn tally(limit: Option<FailureLimit>) -> (Tally, Arc<AtomicU64>) {
        let notified = Arc::new(AtomicU64::new(0));
        let by = Arc::clone(&notified);
        let on_exceeded = Arc::new(move || {
            by.fetch_add(1, Ordering::Relaxed);
        });
        (Tally::new(limit, on_exceeded), notified)
    }

    #[test]
    fn more_than_the_share_of_enough_calls_is_notified_of_once() {
        let limit = FailureLimit {
            share: SHARE_WHOLE / 20,
            calls: 20,
        };
        let (counted, notified) = tally(Some(limit));
        (0..19).for_each(|_| counted.failed());
        assert!(!counted.is_exceeded(), "of so few calls nothing is said");
        counted.failed();
        counted.failed();
        assert_eq!((counted.is_exceeded(), notified.load(Ordering::Relaxed)), (true, 1));

        let (counted, notified) = tally(Some(limit));
        (0..99).for_each(|at| counted.answered(at % 3 == 0));
        (0..5).for_each(|_| counted.failed());
        assert_eq!(
            notified.load(Ordering::Relaxed),
            0,
            "5 of 104 are not more than a twentieth"
        );
        counted.failed();
        let counts = TallyCounts {
            calls: 105,
            denials: 33,
            failures: 6,
        };
        assert_eq!((counted.counts(), notified.load(Ordering::Relaxed)), (counts, 1));
    }

    #[test]
    fn without_a_limit_failures_are_counted_and_nothing_more() {
        let (counted, notified) = tally(None);
        (0..1_000).for_each(|_| counted.failed());
        assert_eq!(
            (counted.counts().failures, notified.load(Ordering::Relaxed)),
            (1_000, 0)
        );
        assert!(!counted.is_exceeded());
    }
}
