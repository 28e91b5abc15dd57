//! Takes rules away when they end.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Reloads;

/// How often it looks, at the latest.
const TICK: Duration = Duration::from_millis(250);

/// The thread that looks; it ends with this.
pub(super) struct Expiry {
    end: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Expiry {
    pub fn start(reloads: &Arc<Reloads>) -> std::io::Result<Expiry> {
        let reloads = Arc::downgrade(reloads);
        let (end, ended) = sync_channel(0);
        let thread = thread::Builder::new()
            .name("rule-expiry".into())
            .spawn(move || run(&reloads, &ended))?;
        Ok(Expiry {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.end = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that ends rules panicked");
        }
    }
}

fn run(reloads: &Weak<Reloads>, ended: &Receiver<()>) {
    let mut wait = TICK;
    while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let Some(reloads) = reloads.upgrade() else { return };
        wait = match reloads.expire() {
            Some(left_ms) => TICK.min(Duration::from_millis(left_ms)),
            None => TICK,
        };
    }
}
