//! Going down in order: new exchanges are still counted while old ones end; when patience ends, streams are cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

/// How far the shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainPhase {
    Running,
    /// No new connections; running answers go on.
    Draining,
    /// Running answers end at their next frame.
    Cutting,
}

#[derive(Debug)]
pub struct Drain {
    in_flight: AtomicU64,
    idle: Notify,
    phase: watch::Sender<DrainPhase>,
}

/// One exchange in flight.
#[derive(Debug)]
pub struct InFlight(Arc<Drain>);

impl Drain {
    pub fn new() -> Arc<Drain> {
        Arc::new(Drain {
            in_flight: AtomicU64::new(0),
            idle: Notify::new(),
            phase: watch::Sender::new(DrainPhase::Running),
        })
    }

    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(self))
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    pub fn phase(&self) -> DrainPhase {
        *self.phase.borrow()
    }

    pub fn advance(&self, to: DrainPhase) {
        self.phase.send_if_modified(|phase| {
            let further = to > *phase;
            *phase = (*phase).max(to);
            further
        });
    }

    /// Returns when no further answers are to begin.
    pub async fn draining(&self) {
        let mut phase = self.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase > DrainPhase::Running).await;
    }

    /// Returns when running answers are to end.
    pub async fn cutting(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = phase.wait_for(|phase| *phase == DrainPhase::Cutting).await;
    }

    /// Returns when nothing is in flight.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[tokio::test]
    async fn idle_waits_for_the_last_exchange() {
        let drain = Drain::new();
        let one = drain.enter();
        let waiting = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.idle().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(one);
        assert!(waiting.await.is_ok());
        drain.advance(DrainPhase::Cutting);
        drain.advance(DrainPhase::Draining);
        assert_eq!(drain.phase(), DrainPhase::Cutting, "never back");
        drain.cutting().await;
    }
}
