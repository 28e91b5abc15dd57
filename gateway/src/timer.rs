//! How long something takes. Time of day and time that others see come from the injected clock; this is for what is measured
//! or waited for here, and the only place that reads the machine's monotonic clock.

use std::time::{Duration, Instant};

/// Runs from its start on.
#[derive(Clone, Copy, Debug)]
pub struct Timer(Instant);

impl Timer {
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Timer {
        Timer(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Whole milliseconds.
    pub fn elapsed_ms(self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
