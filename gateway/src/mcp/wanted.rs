//! Which calls their clients still want answered. One that was cancelled, or whose session ended, gets no answer any more, on no
//! stream: it does not wait for one, and its hold is free for others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::waiting::WaitKey;

/// All calls that run or wait, by the request of each.
#[derive(Default)]
pub struct WantedCalls {
    calls: Mutex<HashMap<WaitKey, Known>>,
}

struct Known {
    channel: WaitKey,
    is_wanted: Arc<AtomicBool>,
}

/// One of them, as long as it is open.
pub struct Wanted {
    key: WaitKey,
    is_wanted: Arc<AtomicBool>,
    all: Arc<WantedCalls>,
}

impl WantedCalls {
    /// Notes the call with this id on a channel.
    pub fn begin(self: &Arc<Self>, channel: &str, id: &str) -> Wanted {
        let wanted = Wanted {
            key: WaitKey::answer(channel, id),
            is_wanted: Arc::new(AtomicBool::new(true)),
            all: Arc::clone(self),
        };
        let known = Known {
            channel: WaitKey::channel(channel),
            is_wanted: Arc::clone(&wanted.is_wanted),
        };
        self.calls.lock().insert(wanted.key, known);
        wanted
    }

    /// Its client cancels the call with this id. Under which an answer to it would be found.
    pub fn cancel(&self, channel: &str, id: &str) -> WaitKey {
        let key = WaitKey::answer(channel, id);
        if let Some(known) = self.calls.lock().get(&key) {
            known.is_wanted.store(false, Ordering::Relaxed);
        }
        key
    }

    /// No answer can come on this channel any more. Under which those to its calls would be found.
    pub fn end(&self, channel: &str) -> Vec<WaitKey> {
        let channel = WaitKey::channel(channel);
        let calls = self.calls.lock();
        let ended = calls.iter().filter(|(_, known)| known.channel == channel);
        ended
            .map(|(key, known)| {
                known.is_wanted.store(false, Ordering::Relaxed);
                *key
            })
            .collect()
    }
}

impl Wanted {
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut calls = self.all.calls.lock();
        // A client may have used the id again.
        let is_own = |known: &Known| Arc::ptr_eq(&known.is_wanted, &self.is_wanted);
        if calls.get(&self.key).is_some_and(is_own) {
            calls.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cancelled_or_ended_is_wanted_no_more_and_nothing_is_kept_of_what_is_over() {
        let calls = Arc::new(WantedCalls::default());
        let (one, two, other) = (calls.begin("a", "n1"), calls.begin("a", "n2"), calls.begin("b", "n1"));
        assert_eq!(calls.cancel("a", "n1"), WaitKey::answer("a", "n1"));
        assert!(!one.is_wanted() && two.is_wanted() && other.is_wanted());
        assert_eq!(calls.end("a").len(), 2);
        assert!(!two.is_wanted() && other.is_wanted());
        let again = calls.begin("b", "n1");
        drop((one, two, other));
        assert_eq!(
            calls.end("b").len(),
            1,
            "an id that was used again is of the later call"
        );
        drop(again);
        assert!(calls.calls.lock().is_empty());
    }
}
