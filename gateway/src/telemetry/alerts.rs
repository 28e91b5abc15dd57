//! The alerts outbox: what people should know, once per thing and cooldown, in bounded memory. An alert is counted
//! (`agentledger_alerts_total{type}`) and logged when it is put here; who delivers alerts takes them from here. Nothing on a
//! request's way waits for a delivery.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::Name;
use parking_lot::Mutex;
use tokio::sync::broadcast;

/// Alerts that wait to be taken; past that the oldest go, and are counted.
pub const ALERTS_MAX: usize = 1_000;
/// Alerts that wait for the slowest who follows.
const FEED_MAX: usize = 1_024;
/// Things whose cooldown is remembered; past that further ones share one.
const COOLING_MAX: usize = 10_000;

/// Something that people should know. Bears no key: a key is named by its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// The contract's `type`: `budget_warning`, `budget_exceeded`, `loop_detected`, `ghost_detected`, or a policy's own.
    pub kind: String,
    /// `info`, `warning` or `critical`.
    pub severity: &'static str,
    pub message: String,
    pub details: Vec<(String, String)>,
    /// The session, account or key that it is about; empty for the gateway as a whole.
    pub about: String,
    /// `name@version` of the policy that asked for it.
    pub policy: Name,
}

/// An alert with its number, from 1 at each start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedAlert {
    pub sequence: u64,
    pub alert: Alert,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Alert>,
    /// The latest of all, taken or not.
    recent: VecDeque<Arc<NumberedAlert>>,
    raised: u64,
    lost: u64,
    /// By the hash of what cools down, until when by the monotonic clock.
    cooling: HashMap<u64, i64>,
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    hasher: RandomState,
    feed: broadcast::Sender<Arc<NumberedAlert>>,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox {
            inner: Mutex::default(),
            hasher: RandomState::default(),
            feed: broadcast::Sender::new(FEED_MAX),
        }
    }
}

impl Outbox {
    /// Whether a thing is due again: not within `cooldown` of the last time that this said yes. Of more things than can be
    /// remembered the surplus is taken for one. `now_ms` is the monotonic clock's: a date set back must not silence an alert.
    pub fn is_due(&self, now_ms: i64, cooldown: Duration, thing: &[&str]) -> bool {
        let mut inner = self.inner.lock();
        let mut hash = self.hasher.hash_one(thing);
        if inner.cooling.len() >= COOLING_MAX && !inner.cooling.contains_key(&hash) {
            inner.cooling.retain(|_, until_ms| *until_ms > now_ms);
            if inner.cooling.len() >= COOLING_MAX {
                hash = 0;
            }
        }
        if inner.cooling.get(&hash).is_some_and(|until_ms| *until_ms > now_ms) {
            return false;
        }
        let cooldown_ms = i64::try_from(cooldown.as_millis()).unwrap_or(i64::MAX);
        inner.cooling.insert(hash, now_ms.saturating_add(cooldown_ms));
        true
    }

    /// Puts an alert out, unless one of its kind about the same thing was within `cooldown` by the monotonic clock.
    pub fn put(&self, now_ms: i64, alert: Alert, cooldown: Duration) -> bool {
        if !self.is_due(now_ms, cooldown, &["alert", &alert.kind, &alert.about]) {
            return false;
        }
        let mut inner = self.inner.lock();
        if inner.waiting.len() >= ALERTS_MAX {
            inner.waiting.pop_front();
            inner.lost += 1;
        }
        inner.raised += 1;
        let numbered = Arc::new(NumberedAlert {
            sequence: inner.raised,
            alert: alert.clone(),
        });
        if inner.recent.len() >= ALERTS_MAX {
            inner.recent.pop_front();
        }
        inner.recent.push_back(Arc::clone(&numbered));
        inner.waiting.push_back(alert);
        // Nobody need follow.
        let _ = self.feed.send(numbered);
        true
    }

    /// Hands over what waits, oldest first, and how many were lost for want of room since the last time.
    pub fn take(&self) -> (Vec<Alert>, u64) {
        let mut inner = self.inner.lock();
        (inner.waiting.drain(..).collect(), std::mem::take(&mut inner.lost))
    }

    /// The latest alerts, delivered or not, oldest first.
    pub fn recent(&self) -> Vec<Arc<NumberedAlert>> {
        self.inner.lock().recent.iter().cloned().collect()
    }

    /// Alerts as they are put out from now on.
    pub fn follow(&self) -> broadcast::Receiver<Arc<NumberedAlert>> {
        self.feed.subscribe()
    }

    /// What waits, oldest first.
    pub fn waiting(&self) -> Vec<Alert> {
        self.inner.lock().waiting.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(300);

    fn alert(about: &str) -> Alert {
        Alert {
            at_ms: 1_772_366_400_000,
            kind: "budget_warning".to_owned(),
            severity: "warning",
            message: "near".to_owned(),
            details: Vec::new(),
            about: about.to_owned(),
            policy: "budget@2".into(),
        }
    }

    #[test]
    fn one_thing_is_told_once_a_cooldown() {
        let outbox = Outbox::default();
        assert!(outbox.put(0, alert("key:a"), COOLDOWN));
        assert!(!outbox.put(299_999, alert("key:a"), COOLDOWN));
        assert!(outbox.put(1, alert("key:b"), COOLDOWN));
        assert!(outbox.put(300_000, alert("key:a"), COOLDOWN));
        let (taken, lost) = outbox.take();
        assert_eq!((taken.len(), lost, outbox.waiting().len()), (3, 0, 0));
    }

    #[test]
    fn memory_is_bounded_however_many_things_there_are() {
        let outbox = Outbox::default();
        let told = (0..50_000)
            .filter(|at| outbox.put(0, alert(&format!("agent:{at}")), COOLDOWN))
            .count();
        assert!(told <= COOLING_MAX + 1, "{told}");
        let inner = outbox.inner.lock();
        assert!(inner.cooling.len() <= COOLING_MAX + 1 && inner.waiting.len() == ALERTS_MAX);
        assert_eq!(inner.lost, told as u64 - ALERTS_MAX as u64);
        assert_eq!(inner.recent.len(), ALERTS_MAX);
        assert_eq!(inner.recent.back().unwrap().sequence, told as u64);
    }
}
