//! Alerts as they are raised: what people should know, once per thing and cooldown, in bounded memory. Nothing on a request's
//! way waits for anything here: who delivers alerts is notified and takes them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use agentledger_alerts::cooldown::Cooldown;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

pub use agentledger_alerts::{Alert, Severity};

/// Alerts that wait to be taken; past that further ones are counted in the newest.
pub const ALERTS_MAX: usize = 1_000;
/// Alerts that wait for the slowest who follows.
const FEED_MAX: usize = 1_024;

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
    cooldown: Cooldown,
}

impl Inner {
    fn number(&mut self, alert: Alert) -> Arc<NumberedAlert> {
        self.raised += 1;
        let numbered = Arc::new(NumberedAlert {
            sequence: self.raised,
            alert,
        });
        if self.recent.len() >= ALERTS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(&numbered));
        numbered
    }
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    feed: broadcast::Sender<Arc<NumberedAlert>>,
    /// Notified of each alert that is put.
    put: Notify,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox {
            inner: Mutex::default(),
            feed: broadcast::Sender::new(FEED_MAX),
            put: Notify::new(),
        }
    }
}

impl Outbox {
    /// How many times a thing was not due since it last was, where it is due again: not within `cooldown` of that time.
    /// `now_ms` is the monotonic clock's: a date set back must not silence an alert.
    pub fn due(&self, now_ms: i64, cooldown: Duration, thing: &[&str]) -> Option<u64> {
        let cooldown_ms = i64::try_from(cooldown.as_millis()).unwrap_or(i64::MAX);
        self.inner.lock().cooldown.admit(now_ms, cooldown_ms, thing)
    }

    /// Puts an alert out, unless one of its type about the same thing was within `cooldown` by the monotonic clock.
    pub fn put(&self, now_ms: i64, alert: Alert, cooldown: Duration) -> bool {
        let Some(folded) = self.due(now_ms, cooldown, &["alert", &alert.kind, &alert.about]) else {
            return false;
        };
        let mut alert = alert.bounded();
        alert.folded = alert.folded.saturating_add(folded);
        let mut inner = self.inner.lock();
        let is_full = inner.waiting.len() >= ALERTS_MAX;
        match inner.waiting.back_mut() {
            Some(newest) if is_full => {
                newest.folded = newest.folded.saturating_add(1).saturating_add(alert.folded);
                newest.severity = newest.severity.max(alert.severity);
            }
            _ => inner.waiting.push_back(alert.clone()),
        }
        let numbered = inner.number(alert);
        drop(inner);
        // Nobody need follow.
        let _ = self.feed.send(numbered);
        self.put.notify_one();
        true
    }

    /// Hands over what waits, oldest first.
    pub fn take(&self) -> Vec<Alert> {
        self.inner.lock().waiting.drain(..).collect()
    }

    /// Waits until something was put since this last returned.
    pub async fn wait(&self) {
        self.put.notified().await;
    }

    /// Shows alerts of an earlier run among the recent ones, and nowhere else.
    pub fn restore(&self, alerts: impl IntoIterator<Item = Alert>) {
        let mut inner = self.inner.lock();
        for alert in alerts {
            inner.number(alert);
        }
    }

    /// The latest alerts, delivered or not, oldest first.
    pub fn recent(&self) -> Vec<Arc<NumberedAlert>> {
        self.inner.lock().recent.iter().cloned().collect()
    }

    /// Alerts as they are put out from now on.
    pub fn follow(&self) -> broadcast::Receiver<Arc<NumberedAlert>> {
        self.feed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(300);

    fn alert(about: &str) -> Alert {
        Alert {
            id: ulid::Ulid::nil(),
            at_ms: 1_772_366_400_000,
            kind: "budget_warning".to_owned(),
            severity: Severity::Warning,
            message: "near".to_owned(),
            details: Vec::new(),
            about: about.to_owned(),
            tenant: String::new(),
            policy: "budget@2".to_owned(),
            folded: 0,
        }
    }

    #[test]
    fn one_thing_is_put_once_a_cooldown_and_says_what_was_folded() {
        let outbox = Outbox::default();
        assert!(outbox.put(0, alert("key:a"), COOLDOWN));
        assert!(!outbox.put(299_999, alert("key:a"), COOLDOWN));
        assert!(outbox.put(1, alert("key:b"), COOLDOWN));
        assert!(outbox.put(300_000, alert("key:a"), COOLDOWN));
        let folded: Vec<u64> = outbox.take().iter().map(|alert| alert.folded).collect();
        assert_eq!((folded, outbox.take().len()), (vec![0, 0, 1], 0));
    }

    #[test]
    fn memory_is_bounded_however_many_things_there_are_and_each_is_counted() {
        let outbox = Outbox::default();
        let put = (0..50_000)
            .filter(|at| outbox.put(0, alert(&format!("agent:{at}")), COOLDOWN))
            .count();
        assert!(put <= 10_001, "{put}");
        let recent = outbox.recent();
        assert_eq!(recent.len(), ALERTS_MAX);
        assert_eq!(recent.last().unwrap().sequence, put as u64);
        let taken = outbox.take();
        let counted: u64 = taken.iter().map(|alert| 1 + alert.folded).sum();
        assert_eq!((taken.len(), counted), (ALERTS_MAX, put as u64));
    }
}
