//! One circuit breaker a provider: after too many failures in a row it answers for the upstream, until a probe succeeds.

use parking_lot::Mutex;

use crate::config::Breaker as Settings;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    Closed,
    Open,
    /// One probe is under way; others are still refused.
    HalfOpen,
}

#[derive(Debug, Default)]
struct Counts {
    failures: u32,
    open_until_ms: Option<i64>,
    probing: bool,
    /// How often it has opened. What a call that began before says comes too late to be news.
    opened: u64,
}

/// Counts failures that are the upstream's (transport errors and statuses of 500 and above). A 4xx, 429 included, is an
/// answer like any other. All moments are the monotonic clock's.
#[derive(Debug, Default)]
pub struct Breaker {
    counts: Mutex<Counts>,
}

/// Leave to call the upstream. Dropped without a verdict (the client left), it says nothing about the upstream.
#[derive(Debug)]
pub struct Attempt<'a> {
    breaker: &'a Breaker,
    probe: bool,
    /// As often as the breaker had opened when the call began.
    opened: u64,
}

impl Breaker {
    /// `Err`: open; seconds until the next probe.
    pub fn attempt(&self, settings: &Settings, now_ms: i64) -> Result<Attempt<'_>, u64> {
        let mut counts = self.counts.lock();
        let opened = counts.opened;
        let attempt = |probe| Attempt {
            breaker: self,
            probe,
            opened,
        };
        let Some(until_ms) = counts.open_until_ms.filter(|_| settings.max_failures > 0) else {
            return Ok(attempt(false));
        };
        if now_ms < until_ms {
            return Err(u64::try_from((until_ms - now_ms + 999) / 1000).unwrap_or(1));
        }
        if counts.probing {
            return Err(1);
        }
        counts.probing = true;
        Ok(attempt(true))
    }

    /// Forgets all failures: calls that run count as if it had opened meanwhile.
    pub fn reset(&self) {
        let mut counts = self.counts.lock();
        let opened = counts.opened.wrapping_add(1);
        *counts = Counts {
            opened,
            ..Counts::default()
        };
    }

    /// The state, and the failures in a row.
    pub fn status(&self, now_ms: i64) -> (CircuitState, u32) {
        let counts = self.counts.lock();
        let state = match counts.open_until_ms {
            None => CircuitState::Closed,
            Some(until_ms) if now_ms < until_ms => CircuitState::Open,
            Some(_) => CircuitState::HalfOpen,
        };
        (state, counts.failures)
    }
}

impl Attempt<'_> {
    /// What became of the call. Of one that began before the breaker opened it is not heard: a late success would close it
    /// though the upstream fails, late time-outs would keep it open though it is well again.
    /// Whether the breaker opened by it.
    pub fn done(self, succeeded: bool, settings: &Settings, now_ms: i64) -> bool {
        let mut counts = self.breaker.counts.lock();
        if self.opened != counts.opened {
            return false;
        }
        if succeeded {
            counts.failures = 0;
            counts.open_until_ms = None;
        } else if settings.max_failures > 0 {
            counts.failures = counts.failures.saturating_add(1);
            if self.probe || counts.failures >= settings.max_failures {
                let timeout_ms = i64::try_from(settings.timeout.as_millis()).unwrap_or(i64::MAX);
                counts.open_until_ms = Some(now_ms.saturating_add(timeout_ms));
                counts.opened = counts.opened.wrapping_add(1);
                return true;
            }
        }
        false
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.counts.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::time::Duration;

    const SETTINGS: Settings = Settings {
        max_failures: 2,
        timeout: Duration::from_secs(30),
    };

    #[test]
    fn opens_after_failures_in_a_row_and_closes_after_one_good_probe() {
        let breaker = Breaker::default();
        breaker.attempt(&SETTINGS, 0).unwrap().done(false, &SETTINGS, 0);
        breaker.attempt(&SETTINGS, 0).unwrap().done(true, &SETTINGS, 0);
        breaker.attempt(&SETTINGS, 0).unwrap().done(false, &SETTINGS, 0);
        breaker.attempt(&SETTINGS, 0).unwrap().done(false, &SETTINGS, 0);
        assert_eq!(breaker.attempt(&SETTINGS, 1_000).unwrap_err(), 29);
        let probe = breaker.attempt(&SETTINGS, 30_000).unwrap();
        assert!(breaker.attempt(&SETTINGS, 30_000).is_err(), "one probe at a time");
        probe.done(true, &SETTINGS, 30_000);
        assert_eq!(breaker.status(30_000).0, CircuitState::Closed);
    }

    #[test]
    fn a_reset_closes_it_and_what_began_before_is_no_news() {
        let breaker = Breaker::default();
        let late = breaker.attempt(&SETTINGS, 0).unwrap();
        for _ in 0..2 {
            breaker.attempt(&SETTINGS, 0).unwrap().done(false, &SETTINGS, 0);
        }
        breaker.reset();
        assert_eq!(breaker.status(0), (CircuitState::Closed, 0));
        late.done(false, &SETTINGS, 0);
        assert_eq!(breaker.status(0), (CircuitState::Closed, 0));
        assert!(breaker.attempt(&SETTINGS, 0).is_ok());
    }

    #[test]
    fn a_failed_probe_opens_again_and_an_abandoned_one_lets_the_next_try() {
        let breaker = Breaker::default();
        for _ in 0..2 {
            breaker.attempt(&SETTINGS, 0).unwrap().done(false, &SETTINGS, 0);
        }
        drop(breaker.attempt(&SETTINGS, 30_000).unwrap());
        breaker
            .attempt(&SETTINGS, 30_000)
            .unwrap()
            .done(false, &SETTINGS, 30_000);
        assert_eq!(breaker.status(59_999).0, CircuitState::Open);
    }

    #[test]
    fn calls_that_began_before_it_opened_neither_close_it_nor_keep_it_open() {
        let breaker = Breaker::default();
        let [good, bad, late] = [0; 3].map(|at| breaker.attempt(&SETTINGS, at).unwrap());
        for _ in 0..2 {
            breaker.attempt(&SETTINGS, 0).unwrap().done(false, &SETTINGS, 0);
        }
        good.done(true, &SETTINGS, 1_000);
        assert_eq!(
            breaker.status(1_000),
            (CircuitState::Open, 2),
            "a late success is no probe"
        );
        bad.done(false, &SETTINGS, 20_000);
        let probe = breaker.attempt(&SETTINGS, 30_000);
        probe
            .expect("a late failure does not push the probe on")
            .done(true, &SETTINGS, 30_000);
        late.done(false, &SETTINGS, 31_000);
        assert_eq!(
            breaker.status(31_000),
            (CircuitState::Closed, 0),
            "nor is it counted afterwards"
        );
    }

    #[test]
    fn zero_failures_is_off() {
        let off = Settings {
            max_failures: 0,
            timeout: Duration::from_secs(30),
        };
        let breaker = Breaker::default();
        for _ in 0..9 {
            breaker.attempt(&off, 0).unwrap().done(false, &off, 0);
        }
        assert!(breaker.attempt(&off, 0).is_ok());
    }
}
