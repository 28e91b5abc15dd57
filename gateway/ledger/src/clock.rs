//! Time, injected so that tests can set it: the wall clock, which people correct and machines lose, and a monotonic one, which
//! only ever counts what has passed. Calendars go by the first, everything that measures a period by the second.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// For what is measured or waited for within the ledger itself: nothing is decided by it.
#[allow(clippy::disallowed_methods)]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Both clocks of a machine.
pub trait Clock: Send + Sync {
    /// Wall time: milliseconds since the Unix epoch, UTC. It may jump, both ways.
    fn now_ms(&self) -> i64;

    /// Milliseconds since some moment of this process. Never goes back, and no correction of the wall clock moves it.
    fn monotonic_ms(&self) -> i64;

    /// Milliseconds in which the machine slept since that moment, which `monotonic_ms` may not count. Slow to find out:
    /// requested only where the wall is ahead of what seems to have passed.
    fn suspended_ms(&self) -> i64 {
        0
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    /// The machine's uptime then, sleep included; `None` where the system does not say.
    started_uptime_ms: Option<i64>,
}

/// Milliseconds since the machine was started, sleep included, to a hundredth of a second.
fn uptime_ms() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let (seconds, hundredths): (i64, i64) = (seconds.parse().ok()?, hundredths.parse().ok()?);
    seconds.checked_mul(1_000)?.checked_add(hundredths * 10)
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock {
            started: instant(),
            started_uptime_ms: uptime_ms(),
        }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        #[allow(clippy::disallowed_methods)]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn suspended_ms(&self) -> i64 {
        let up_ms = self.started_uptime_ms.zip(uptime_ms()).map(|(then, now)| now - then);
        up_ms.map_or(0, |up_ms| up_ms.saturating_sub(self.monotonic_ms()).max(0))
    }
}

/// A clock that a test sets by hand.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
    monotonic_ms: AtomicI64,
    /// Both move together.
    moving: Mutex<()>,
}

impl ManualClock {
    pub fn new(now_ms: i64) -> ManualClock {
        ManualClock {
            now_ms: AtomicI64::new(now_ms),
            ..ManualClock::default()
        }
    }

    /// Time passes until the wall shows this; where it shows less than before, the wall alone is set back.
    pub fn set_ms(&self, now_ms: i64) {
        let _moving = self.moving.lock();
        let passed_ms = now_ms.saturating_sub(self.now_ms.load(Ordering::Relaxed)).max(0);
        self.now_ms.store(now_ms, Ordering::Relaxed);
        self.monotonic_ms.fetch_add(passed_ms, Ordering::Relaxed);
    }

    /// Time passes.
    pub fn advance_ms(&self, by_ms: i64) {
        let _moving = self.moving.lock();
        self.now_ms.fetch_add(by_ms, Ordering::Relaxed);
        self.monotonic_ms.fetch_add(by_ms.max(0), Ordering::Relaxed);
    }

    /// The wall clock is corrected, or goes wild: no time passes.
    pub fn jump_ms(&self, by_ms: i64) {
        let _moving = self.moving.lock();
        self.now_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    fn monotonic_ms(&self) -> i64 {
        self.monotonic_ms.load(Ordering::Relaxed)
    }
}
