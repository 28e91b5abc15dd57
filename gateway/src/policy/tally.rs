//! Counts of what one version of a policy did since it came to stand where it stands. They are counted on the way of requests:
//! no lock, and nothing but additions where all is well.

use std::array::from_fn;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use agentledger_ledger::Clock;

use super::set::Phase;

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
    fn is_exceeded(self, calls: u64, failures: u64) -> bool {
        calls >= self.calls
            && u128::from(failures) * u128::from(SHARE_WHOLE) > u128::from(calls) * u128::from(self.share)
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

/// Of one phase more calls failed than may: in all, or within the last minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// `None` where it does not even load.
    pub phase: Option<Phase>,
    pub calls: u64,
    pub failures: u64,
    pub is_of_last_minute: bool,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Excess { calls, failures, .. } = self;
        match self.phase {
            Some(phase) => write!(f, "{failures} of {calls} calls of {} failed", phase.name())?,
            None => write!(f, "{failures} of {calls} times it did not load")?,
        }
        match self.is_of_last_minute {
            true => f.write_str(" within a minute"),
            false => Ok(()),
        }
    }
}

/// Called once, when more calls have failed than may.
pub type OnExceeded = Arc<dyn Fn() + Send + Sync>;

/// Ten seconds' calls: what was counted before, in the same place, is forgotten when they begin.
#[derive(Default)]
struct Slot {
    /// Which ten seconds, by the monotonic clock.
    number: AtomicI64,
    calls: AtomicU64,
    failures: AtomicU64,
}

const SLOT_MS: i64 = 10_000;
/// A minute's slots.
const SLOTS: usize = 6;

/// Calls and failures of one phase.
#[derive(Default)]
struct PhaseCounts {
    calls: AtomicU64,
    failures: AtomicU64,
    lately: [Slot; SLOTS],
}

impl PhaseCounts {
    fn count(&self, now_ms: i64, failed: bool) {
        let failures = u64::from(failed);
        // The calls first: there are never more failures than calls.
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(failures, Ordering::Relaxed);
        let number = now_ms.div_euclid(SLOT_MS);
        let place = usize::try_from(number.rem_euclid(6)).unwrap_or_default();
        let Some(slot) = self.lately.get(place) else { return };
        // Who counts in the very moment in which a slot begins may be forgotten with what was in it.
        if slot.number.swap(number, Ordering::Relaxed) != number {
            slot.calls.store(0, Ordering::Relaxed);
            slot.failures.store(0, Ordering::Relaxed);
        }
        slot.calls.fetch_add(1, Ordering::Relaxed);
        slot.failures.fetch_add(failures, Ordering::Relaxed);
    }

    /// Calls and failures of the last minute.
    fn lately(&self, now_ms: i64) -> (u64, u64) {
        let number = now_ms.div_euclid(SLOT_MS);
        let is_recent = |slot: &&Slot| (number - 5..=number).contains(&slot.number.load(Ordering::Relaxed));
        let recent = self.lately.iter().filter(is_recent);
        recent.fold((0, 0), |(calls, failures), slot| {
            let (more, failed) = (&slot.calls, &slot.failures);
            (
                calls + more.load(Ordering::Relaxed),
                failures + failed.load(Ordering::Relaxed),
            )
        })
    }
}

/// See the module.
pub struct Tally {
    /// By phase, and last how often it did not load.
    phases: [PhaseCounts; Phase::COUNT + 1],
    denials: AtomicU64,
    limit: Option<FailureLimit>,
    excess: OnceLock<Excess>,
    on_exceeded: OnExceeded,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tally").field(&self.counts()).finish()
    }
}

impl Tally {
    pub fn new(limit: Option<FailureLimit>, on_exceeded: OnExceeded, clock: Arc<dyn Clock>) -> Tally {
        Tally {
            phases: from_fn(|_| PhaseCounts::default()),
            denials: AtomicU64::new(0),
            limit,
            excess: OnceLock::new(),
            on_exceeded,
            clock,
        }
    }

    fn of(&self, phase: Option<Phase>) -> Option<&PhaseCounts> {
        self.phases.get(phase.map_or(Phase::COUNT, Phase::place))
    }

    /// It was asked in a phase, and gave an answer.
    pub(super) fn answered(&self, phase: Phase, denied: bool) {
        if let Some(counts) = self.of(Some(phase)) {
            counts.count(self.clock.monotonic_ms(), false);
        }
        if denied {
            self.denials.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It was asked in a phase, and failed; `None`: it did not load. The failure that is one too many is notified of here, on the
    /// way of the request that it fails: the next one shall not fail, too. Each phase counts by itself: what goes well in one
    /// hides nothing of another. So does the last minute: a version that went well for long is no less broken.
    pub(super) fn failed(&self, phase: Option<Phase>) {
        let (Some(counts), now_ms) = (self.of(phase), self.clock.monotonic_ms()) else {
            return;
        };
        counts.count(now_ms, true);
        let failures = counts.failures.load(Ordering::Relaxed);
        let all = (counts.calls.load(Ordering::Relaxed).max(failures), failures);
        for (is_of_last_minute, (calls, failures)) in [(false, all), (true, counts.lately(now_ms))] {
            let excess = Excess {
                phase,
                calls,
                failures,
                is_of_last_minute,
            };
            let exceeded = self.limit.is_some_and(|limit| limit.is_exceeded(calls, failures));
            if exceeded && self.excess.set(excess).is_ok() {
                (self.on_exceeded)();
            }
        }
    }

    /// In all phases together.
    pub fn counts(&self) -> TallyCounts {
        let sum = |of: fn(&PhaseCounts) -> &AtomicU64| {
            let counts = self.phases.iter().map(of);
            counts.map(|count| count.load(Ordering::Relaxed)).sum::<u64>()
        };
        // The failures first: a call is counted before its failure, so that there are never more failures than calls.
        let failures = sum(|counts| &counts.failures);
        TallyCounts {
            calls: sum(|counts| &counts.calls).max(failures),
            denials: self.denials.load(Ordering::Relaxed),
            failures,
        }
    }

    /// Where more calls failed than may, at any time since it is counted: what first was too many.
    pub fn excess(&self) -> Option<Excess> {
        self.excess.get().copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use agentledger_ledger::ManualClock;

    use super::*;

    /// Of at least twenty calls a twentieth.
    const LIMIT: FailureLimit = FailureLimit {
        share: SHARE_WHOLE / 20,
        calls: 20,
    };

    struct Counted {
        tally: Tally,
        notified: Arc<AtomicU64>,
        clock: Arc<ManualClock>,
    }

    impl Counted {
        fn new(limit: Option<FailureLimit>) -> Counted {
            let notified = Arc::new(AtomicU64::new(0));
            let by = Arc::clone(&notified);
            let on_exceeded = Arc::new(move || {
                by.fetch_add(1, Ordering::Relaxed);
            });
            let clock = Arc::new(ManualClock::new(0));
            Counted {
                tally: Tally::new(limit, on_exceeded, Arc::clone(&clock) as Arc<dyn Clock>),
                notified,
                clock,
            }
        }

        fn fail(&self, times: usize) -> Option<Excess> {
            (0..times).for_each(|_| self.tally.failed(Some(Phase::Request)));
            self.tally.excess()
        }

        fn notified(&self) -> u64 {
            self.notified.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn more_than_the_share_of_enough_calls_is_notified_of_once() {
        let counted = Counted::new(Some(LIMIT));
        assert_eq!(counted.fail(19), None, "of so few calls nothing is said");
        assert!(counted.fail(2).is_some());
        assert_eq!(counted.notified(), 1);

        let counted = Counted::new(Some(LIMIT));
        (0..99).for_each(|at| counted.tally.answered(Phase::Request, at % 3 == 0));
        assert_eq!(counted.fail(5), None, "5 of 104 are not more than a twentieth");
        let excess = counted.fail(1).unwrap();
        assert_eq!(excess.to_string(), "6 of 105 calls of request failed");
        let counts = TallyCounts {
            calls: 105,
            denials: 33,
            failures: 6,
        };
        assert_eq!((counted.tally.counts(), counted.notified()), (counts, 1));
    }

    #[test]
    fn what_goes_well_in_one_phase_hides_nothing_of_another() {
        let counted = Counted::new(Some(LIMIT));
        (0..100).for_each(|_| counted.tally.answered(Phase::Tenant, false));
        (0..92).for_each(|_| counted.tally.answered(Phase::Request, false));
        // 8 of 200 are a twenty-fifth; of 100 they are too many.
        assert_eq!(counted.fail(8).unwrap().to_string(), "5 of 97 calls of request failed");
    }

    #[test]
    fn a_version_that_went_well_for_long_is_no_less_broken() {
        let counted = Counted::new(Some(LIMIT));
        (0..10_000).for_each(|_| counted.tally.answered(Phase::Request, false));
        assert_eq!(counted.fail(19), None, "among the last minute's calls they are few");
        counted.clock.advance_ms(60_000);
        assert_eq!(counted.fail(19), None, "of so few calls nothing is said");
        let excess = counted.fail(1).unwrap();
        assert_eq!(excess.to_string(), "20 of 20 calls of request failed within a minute");
        assert_eq!(counted.notified(), 1);
    }

    #[test]
    fn one_that_does_not_load_fails_by_that_alone() {
        let counted = Counted::new(Some(LIMIT));
        (0..1_000).for_each(|_| counted.tally.answered(Phase::Request, false));
        (0..20).for_each(|_| counted.tally.failed(None));
        assert_eq!(
            counted.tally.excess().unwrap().to_string(),
            "20 of 20 times it did not load"
        );
    }

    #[test]
    fn without_a_limit_failures_are_counted_and_nothing_more() {
        let counted = Counted::new(None);
        assert_eq!(counted.fail(1_000), None);
        assert_eq!((counted.tally.counts().failures, counted.notified()), (1_000, 0));
    }
}
