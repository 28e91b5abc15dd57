//! What becomes due by itself: rules that end, and versions of policies that come into force or are rolled back.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Reloads;

/// How often it looks, at the latest.
const TICK: Duration = Duration::from_millis(250);

/// Why the thread wakes before its time.
enum Wake {
    /// More calls of a policy's version failed than may.
    Look,
    End,
}

/// Has the thread look at once.
#[derive(Clone)]
pub(super) struct WakeUp(SyncSender<Wake>);

impl WakeUp {
    pub fn look(&self) {
        // One that is asked for already will see what this one would.
        let _ = self.0.try_send(Wake::Look);
    }
}

/// Before the thread runs.
pub(super) struct Woken(Receiver<Wake>);

pub(super) fn wake_up() -> (WakeUp, Woken) {
    let (wake, woken) = sync_channel(1);
    (WakeUp(wake), Woken(woken))
}

/// The thread that looks; it ends with this.
pub(super) struct Expiry {
    wake: WakeUp,
    thread: Option<JoinHandle<()>>,
}

impl Expiry {
    pub fn start(reloads: &Arc<Reloads>, wake: WakeUp, woken: Woken) -> std::io::Result<Expiry> {
        let reloads = Arc::downgrade(reloads);
        let thread = thread::Builder::new()
            .name("rule-expiry".into())
            .spawn(move || run(&reloads, &woken.0))?;
        Ok(Expiry {
            wake,
            thread: Some(thread),
        })
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        // Where it has ended already nobody hears this.
        let _ = self.wake.0.send(Wake::End);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that ends rules panicked");
        }
    }
}

fn run(reloads: &Weak<Reloads>, woken: &Receiver<Wake>) {
    let mut wait = TICK;
    while matches!(
        woken.recv_timeout(wait),
        Err(RecvTimeoutError::Timeout) | Ok(Wake::Look)
    ) {
        let Some(reloads) = reloads.upgrade() else { return };
        reloads.roll_back_failing();
        let due = [reloads.expire(), reloads.activate_due()];
        let next = due.into_iter().flatten().min();
        wait = next.map_or(TICK, |left_ms| TICK.min(Duration::from_millis(left_ms)));
    }
}
