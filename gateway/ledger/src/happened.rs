//! What those hear of who follow the ledger.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::entry::{Entry, Facts};
use crate::event::Event;

/// Events that wait for one who reads slowly; then the oldest is missed, and it is notified how many were.
const WAITING_MAX: usize = 1_024;

/// An event that is on disk and applied.
#[derive(Clone, Debug)]
pub struct Happened {
    pub sequence: u64,
    pub event: Event,
    /// The entry that a settled hold became.
    pub entry: Option<Arc<Entry>>,
    /// What the hold that the event is about is for.
    pub facts: Option<Arc<Facts>>,
}

/// All who follow the ledger.
#[derive(Debug)]
pub(crate) struct Followers {
    sender: broadcast::Sender<Arc<Happened>>,
}

impl Followers {
    pub fn new() -> Followers {
        Followers {
            sender: broadcast::Sender::new(WAITING_MAX),
        }
    }

    /// What happens from now on.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Happened>> {
        self.sender.subscribe()
    }

    pub fn are_there(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub fn notify(&self, happened: Happened) {
        // The last of them may have left.
        let _ = self.sender.send(Arc::new(happened));
    }
}
