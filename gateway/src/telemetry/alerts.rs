//! Alerts as they are raised: what people should know, once per thing and cooldown, in bounded memory. Nothing on a request's
//! way waits for anything here: who delivers alerts is notified and takes them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use agentledger_alerts::Cooled;
use agentledger_alerts::cooldown::Cooldown;
use agentledger_alerts::outbox::COOLED_MIN_MS;
use agentledger_alerts::room::{Fold, fold};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

pub use agentledger_alerts::{Alert, Severity};

/// Alerts that wait to be taken; past that the least severe give way, and others count them.
pub const ALERTS_MAX: usize = 1_000;
/// Long cooldowns that wait to be written down; past that further ones are of this run alone.
const COOLED_MAX: usize = 1_000;
/// How an alert is named among what cools down, apart from facts that are shown to policies.
const ALERT: &str = "alert";
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
    cooled: Vec<Cooled>,
    /// The latest of all, taken or not.
    recent: VecDeque<Arc<NumberedAlert>>,
    raised: u64,
    cooldown: Cooldown,
}

impl Inner {
    fn push(&mut self, mut alert: Alert) {
        if self.waiting.len() < ALERTS_MAX {
            self.waiting.push_back(alert);
            return;
        }
        let waiting = self.waiting.iter().map(|waiting| waiting.severity).enumerate();
        let Some(Fold { gone, bearer }) = fold(waiting, alert.severity) else {
            return;
        };
        let counted = gone.and_then(|at| self.waiting.get(at)).unwrap_or(&alert).clone();
        match bearer.and_then(|at| self.waiting.get_mut(at)) {
            Some(bearer) => bearer.absorb(&counted),
            None => alert.absorb(&counted),
        }
        if let Some(gone) = gone {
            self.waiting.remove(gone);
            self.waiting.push_back(alert);
        }
    }

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

/// What is seen: something that happened, or that something is still as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Occurrence {
    #[default]
    New,
    /// Looked at again; it is not counted as folded.
    Standing,
}

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
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
    /// How many times a thing of a kind was not due since it last was, where it is due again: not within `cooldown` of that
    /// time. `now_ms` is the monotonic clock's: a date set back must not silence an alert.
    pub fn due(&self, now_ms: i64, cooldown: Duration, thing: (&str, &[&str]), occurrence: Occurrence) -> Option<u64> {
        let is_counted = occurrence == Occurrence::New;
        let mut inner = self.inner.lock();
        inner.cooldown.admit(now_ms, ms(cooldown), thing, is_counted)
    }

    /// Puts an alert out, unless one of its type about the same thing was within `cooldown` by the monotonic clock.
    pub fn put(&self, now_ms: i64, alert: Alert, cooldown: Duration, occurrence: Occurrence) -> bool {
        let mut alert = alert.bounded();
        let thing = [ALERT, &alert.about];
        let Some(folded) = self.due(now_ms, cooldown, (&alert.kind, &thing), occurrence) else {
            return false;
        };
        alert.folded = alert.folded.saturating_add(folded);
        let mut inner = self.inner.lock();
        if ms(cooldown) >= COOLED_MIN_MS && inner.cooled.len() < COOLED_MAX {
            inner.cooled.push(Cooled {
                kind: alert.kind.clone(),
                about: alert.about.clone(),
                since_ms: alert.at_ms,
                cooldown_ms: ms(cooldown),
            });
        }
        inner.push(alert.clone());
        let numbered = inner.number(alert);
        drop(inner);
        // Nobody need follow.
        let _ = self.feed.send(numbered);
        self.put.notify_one();
        true
    }

    /// Hands over what waits, oldest first, and the cooldowns that are to outlive this run.
    pub fn take(&self) -> (Vec<Alert>, Vec<Cooled>) {
        let mut inner = self.inner.lock();
        (inner.waiting.drain(..).collect(), std::mem::take(&mut inner.cooled))
    }

    /// Goes on with cooldowns of an earlier run, each for so many milliseconds. `now_ms` is the monotonic clock's.
    pub fn go_on_cooling(&self, now_ms: i64, cooling: &[(Cooled, i64)]) {
        let mut inner = self.inner.lock();
        for (cooled, left_ms) in cooling {
            let (until_ms, thing) = (now_ms.saturating_add(*left_ms), [ALERT, &cooled.about]);
            inner.cooldown.restore(until_ms, (&cooled.kind, &thing));
        }
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
        assert!(outbox.put(0, alert("key:a"), COOLDOWN, Occurrence::New));
        assert!(!outbox.put(299_999, alert("key:a"), COOLDOWN, Occurrence::New));
        assert!(outbox.put(1, alert("key:b"), COOLDOWN, Occurrence::New));
        assert!(outbox.put(300_000, alert("key:a"), COOLDOWN, Occurrence::New));
        let folded: Vec<u64> = outbox.take().0.iter().map(|alert| alert.folded).collect();
        assert_eq!((folded, outbox.take().0.len()), (vec![0, 0, 1], 0));
    }

    #[test]
    fn memory_is_bounded_however_many_things_there_are_and_each_is_counted() {
        let outbox = Outbox::default();
        let put = (0..50_000)
            .filter(|at| outbox.put(0, alert(&format!("agent:{at}")), COOLDOWN, Occurrence::New))
            .count();
        assert!(put <= 10_001, "{put}");
        let recent = outbox.recent();
        assert_eq!(recent.len(), ALERTS_MAX);
        assert_eq!(recent.last().unwrap().sequence, put as u64);
        let (taken, _) = outbox.take();
        let counted: u64 = taken.iter().map(|alert| 1 + alert.folded).sum();
        assert_eq!((taken.len(), counted), (ALERTS_MAX, put as u64));
    }

    #[test]
    fn where_all_room_is_taken_a_critical_alert_stands_for_itself() {
        let outbox = Outbox::default();
        for at in 0..1_500 {
            outbox.put(0, alert(&format!("agent:{at}")), COOLDOWN, Occurrence::New);
        }
        let mut fault = alert("ledger:stopped");
        (fault.kind, fault.severity) = ("ledger_fault".to_owned(), Severity::Critical);
        assert!(outbox.put(0, fault.clone(), COOLDOWN, Occurrence::New));
        let (taken, _) = outbox.take();
        assert_eq!((taken.len(), taken.last()), (ALERTS_MAX, Some(&fault)));
        let counted: u64 = taken.iter().map(|alert| 1 + alert.folded).sum();
        assert_eq!(counted, 1_501);
    }

    #[test]
    fn looks_are_not_counted_and_long_cooldowns_go_on_in_the_next_run() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let outbox = Outbox::default();
        let looks = (0..720).filter(|at| outbox.put(at * 5_000, alert("hold:1"), HOUR, Occurrence::Standing));
        assert_eq!(looks.count(), 1);
        assert!(outbox.put(3_600_000, alert("hold:1"), HOUR, Occurrence::Standing));
        outbox.put(0, alert("key:a"), COOLDOWN, Occurrence::New);
        let (taken, cooled) = outbox.take();
        assert!(taken.iter().all(|alert| alert.folded == 0), "{taken:?}");
        assert_eq!(cooled.len(), 2, "the short one is of this run alone");
        let next = Outbox::default();
        next.go_on_cooling(0, &[(cooled[1].clone(), 1_000)]);
        assert!(!next.put(999, alert("hold:1"), HOUR, Occurrence::Standing));
        assert!(next.put(1_000, alert("hold:1"), HOUR, Occurrence::Standing));
    }
}
