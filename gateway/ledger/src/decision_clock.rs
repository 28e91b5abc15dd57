//! The time of decisions: the wall clock, as far as it can be believed. It never goes back, and it moves on by no more than
//! the monotonic clock says has passed, plus a tolerance. A wall clock that claims more (an RTC gone wild, an NTP server's
//! mistake) moves nothing: windows do not turn, no month is opened, and no new hold is placed until the clock is right again
//! or an operator accepts it.

use std::sync::Arc;

use crate::clock::Clock;

/// How far the wall may run ahead of what has passed: corrections that clocks get all the time.
pub const TOLERANCE_MS: i64 = 5 * 60_000;
/// How far it may be ahead of the journal's last event at a start, when nobody knows what has passed.
pub const GAP_MAX_MS: i64 = 92 * 86_400_000;

/// How the wall clock stands to the time of decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockState {
    #[default]
    Sound,
    /// So far behind: decisions stand still until the wall is there again.
    Behind { ms: i64 },
    /// So far ahead of what can have passed: no new hold is placed.
    Ahead { ms: i64 },
}

impl ClockState {
    /// How a start would find it, after a last decision at `last_ms`.
    pub fn at_start(wall_ms: i64, last_ms: i64) -> ClockState {
        let ahead_ms = wall_ms.saturating_sub(last_ms);
        if ahead_ms > GAP_MAX_MS && last_ms > 0 {
            ClockState::Ahead { ms: ahead_ms }
        } else if -ahead_ms > TOLERANCE_MS {
            ClockState::Behind { ms: -ahead_ms }
        } else {
            ClockState::Sound
        }
    }
}

pub(crate) struct DecisionClock {
    clock: Arc<dyn Clock>,
    now_ms: i64,
    /// What the clocks said then.
    monotonic_ms: i64,
    suspended_ms: i64,
    state: ClockState,
    /// The next reading believes the wall, whatever it says.
    believes: bool,
}

impl DecisionClock {
    /// Goes on from `last_ms`, the time of the last decision; 0 where there was none. `accepted`: an operator vouches for the
    /// wall clock.
    pub fn new(clock: Arc<dyn Clock>, last_ms: i64, accepted: bool) -> DecisionClock {
        let gap_ms = clock.now_ms().saturating_sub(last_ms);
        let mut decisions = DecisionClock {
            now_ms: last_ms,
            monotonic_ms: clock.monotonic_ms(),
            suspended_ms: clock.suspended_ms(),
            state: ClockState::Sound,
            believes: accepted || last_ms <= 0 || gap_ms <= GAP_MAX_MS,
            clock,
        };
        decisions.now();
        decisions
    }

    /// The time for a decision.
    pub fn now(&mut self) -> i64 {
        let (wall_ms, monotonic_ms) = (self.clock.now_ms(), self.clock.monotonic_ms());
        let passed_ms = monotonic_ms.saturating_sub(self.monotonic_ms).max(0);
        let mut most_ms = self.now_ms.saturating_add(passed_ms);
        if wall_ms > most_ms.saturating_add(TOLERANCE_MS) && !self.believes {
            // A machine that slept has more behind it than the monotonic clock counts.
            let suspended_ms = self.clock.suspended_ms();
            most_ms = most_ms.saturating_add(suspended_ms.saturating_sub(self.suspended_ms).max(0));
            self.suspended_ms = suspended_ms;
        }
        let before = self.state;
        if wall_ms > most_ms.saturating_add(TOLERANCE_MS) && !self.believes {
            self.now_ms = most_ms;
            self.state = ClockState::Ahead {
                ms: wall_ms.saturating_sub(most_ms),
            };
        } else {
            self.now_ms = self.now_ms.max(wall_ms);
            let behind_ms = self.now_ms.saturating_sub(wall_ms);
            self.state = match behind_ms > TOLERANCE_MS {
                true => ClockState::Behind { ms: behind_ms },
                false => ClockState::Sound,
            };
        }
        (self.monotonic_ms, self.believes) = (monotonic_ms, false);
        self.announce(before);
        self.now_ms
    }

    fn announce(&self, before: ClockState) {
        if std::mem::discriminant(&before) == std::mem::discriminant(&self.state) {
            return;
        }
        match self.state {
            ClockState::Sound => tracing::warn!("the machine's clock is right again"),
            ClockState::Behind { ms } => tracing::error!(
                behind_s = ms / 1_000,
                "the machine's clock is behind the ledger's last decision: windows stand still until it is there again; \
                 `agentledger clock accept` sets the ledger back if the clock is right"
            ),
            ClockState::Ahead { ms } => tracing::error!(
                ahead_s = ms / 1_000,
                "the machine's clock is ahead of what can have passed: no new request is admitted; set the clock, or \
                 `agentledger clock accept` if it is right"
            ),
        }
    }

    /// How the wall stood at the last reading.
    pub fn state(&self) -> ClockState {
        self.state
    }

    /// The wall clock is right, an operator says. Where it is behind, the time to go back to: an event must say so.
    pub fn accept(&mut self) -> Option<i64> {
        self.now();
        match self.state {
            ClockState::Sound => None,
            ClockState::Ahead { .. } => {
                self.believes = true;
                self.now();
                None
            }
            ClockState::Behind { .. } => Some(self.clock.now_ms().max(0)),
        }
    }

    /// Decisions go on from here.
    pub fn set_back(&mut self, now_ms: i64) {
        let before = self.state;
        (self.now_ms, self.state) = (now_ms, ClockState::Sound);
        self.announce(before);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::clock::ManualClock;

    const START_MS: i64 = 1_795_305_600_000;
    const YEAR_MS: i64 = 365 * 86_400_000;

    fn clocks() -> (Arc<ManualClock>, DecisionClock) {
        let clock = Arc::new(ManualClock::new(START_MS));
        let decisions = DecisionClock::new(Arc::clone(&clock) as _, START_MS - 1_000, false);
        (clock, decisions)
    }

    #[test]
    fn a_jump_of_years_moves_decisions_by_what_has_passed_alone() {
        let (clock, mut decisions) = clocks();
        clock.jump_ms(4 * YEAR_MS);
        clock.advance_ms(2_000);
        assert_eq!(decisions.now(), START_MS + 2_000);
        assert!(matches!(decisions.state(), ClockState::Ahead { ms } if ms == 4 * YEAR_MS));
        clock.jump_ms(-4 * YEAR_MS);
        clock.advance_ms(1_000);
        assert_eq!(decisions.now(), START_MS + 3_000);
        assert_eq!(decisions.state(), ClockState::Sound);
    }

    #[test]
    fn a_correction_of_minutes_is_believed_and_one_back_stands_still() {
        let (clock, mut decisions) = clocks();
        clock.jump_ms(TOLERANCE_MS);
        assert_eq!(decisions.now(), START_MS + TOLERANCE_MS);
        clock.jump_ms(-60_000);
        assert_eq!(decisions.now(), START_MS + TOLERANCE_MS);
        assert_eq!(decisions.state(), ClockState::Sound);
        clock.jump_ms(-3_600_000);
        assert_eq!(decisions.now(), START_MS + TOLERANCE_MS);
        assert_eq!(decisions.state(), ClockState::Behind { ms: 3_660_000 });
    }

    #[test]
    fn a_start_after_weeks_goes_on_and_one_after_years_waits_for_an_operator() {
        let clock = Arc::new(ManualClock::new(START_MS));
        let mut weeks = DecisionClock::new(Arc::clone(&clock) as _, START_MS - 60 * 86_400_000, false);
        assert_eq!((weeks.now(), weeks.state()), (START_MS, ClockState::Sound));
        let last_ms = START_MS - 11 * YEAR_MS;
        let mut years = DecisionClock::new(Arc::clone(&clock) as _, last_ms, false);
        assert_eq!(years.now(), last_ms);
        assert!(matches!(years.state(), ClockState::Ahead { .. }));
        assert_eq!(years.accept(), None);
        assert_eq!((years.now(), years.state()), (START_MS, ClockState::Sound));
    }

    #[test]
    fn a_ledger_that_saw_2037_is_set_back_by_an_operator() {
        let clock = Arc::new(ManualClock::new(START_MS));
        let mut decisions = DecisionClock::new(Arc::clone(&clock) as _, START_MS + 11 * YEAR_MS, false);
        assert!(matches!(decisions.state(), ClockState::Behind { .. }));
        let to_ms = decisions.accept().unwrap();
        decisions.set_back(to_ms);
        clock.advance_ms(5);
        assert_eq!((decisions.now(), decisions.state()), (START_MS + 5, ClockState::Sound));
    }

    /// A machine that slept for a night: the monotonic clock did not count it.
    struct Slept(ManualClock, i64);

    impl Clock for Slept {
        fn now_ms(&self) -> i64 {
            self.0.now_ms()
        }
        fn monotonic_ms(&self) -> i64 {
            self.0.monotonic_ms()
        }
        fn suspended_ms(&self) -> i64 {
            if self.0.now_ms() > START_MS + self.1 { self.1 } else { 0 }
        }
    }

    #[test]
    fn a_machine_that_slept_a_night_goes_on_when_it_wakes() {
        let night_ms = 8 * 3_600_000;
        let clock = Arc::new(Slept(ManualClock::new(START_MS), night_ms));
        let mut decisions = DecisionClock::new(Arc::clone(&clock) as _, START_MS, false);
        clock.0.jump_ms(night_ms);
        clock.0.advance_ms(1_000);
        assert_eq!(decisions.now(), START_MS + night_ms + 1_000);
        assert_eq!(decisions.state(), ClockState::Sound);
    }
}
