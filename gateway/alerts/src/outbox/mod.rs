//! The outbox: what has to be delivered, until it was. A state machine over a small store; whoever runs it brings the time,
//! the seed and the connections.
//!
//! At least once: a delivery is in the store before it is tried (`save` stands between `raise` and `due`) and leaves it only
//! once the receiver has taken it. After a crash it is tried again, with the same id.

mod cooled;
mod digest;
mod lane;
mod store;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::alert::Alert;
use crate::plan::Plan;
use crate::random::Random;
use crate::silence::Silence;

pub use self::cooled::{COOLED_MAX, COOLED_MIN_MS, Cooled};
use self::lane::Lane;
pub use self::store::{Row, Store, StoreFailed, Write};

/// Deliveries that wait for one receiver; past that the least severe give way, and others count them.
pub const WAITING_MAX: usize = 1_000;
/// Attempts that run at once to one receiver.
pub const IN_FLIGHT_MAX: usize = 4;
/// Dead letters that are kept; past that the least severe go, of those the oldest, and are counted.
pub const DEAD_MAX: usize = 1_000;
/// The longest that a receiver may ask to be left alone.
const PAUSE_MAX_MS: i64 = 3_600_000;
const ERROR_BYTES_MAX: usize = 300;

/// One alert for one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub receiver: String,
    pub alert: Alert,
    /// Held for quiet hours or a digest: goes with the others that are due then.
    pub is_held: bool,
    /// Given up: kept to be looked at, and tried again by hand.
    pub is_dead: bool,
    pub attempts: u32,
    /// When it is tried (again).
    pub due_ms: i64,
    /// When it was put here.
    pub since_ms: i64,
    /// Why the last attempt failed.
    #[serde(default)]
    pub error: String,
}

/// What to send now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub receiver: String,
    pub alert: Alert,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// May succeed later; not before `after_ms`, where the receiver said so.
    Failed {
        error: String,
        after_ms: Option<i64>,
    },
    /// Would fail again.
    Refused {
        error: String,
    },
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Delivered,
    /// It is tried again then.
    Again {
        due_ms: i64,
    },
    Dead,
    /// It was not in flight.
    Unknown,
}

/// Where an alert went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed {
    /// To these; to nobody where there are none.
    To(Vec<String>),
    /// A silence with this id covers it.
    Silenced(String),
}

type Key = (Ulid, String);

pub struct Outbox<S> {
    store: S,
    plan: Plan,
    lanes: BTreeMap<String, Lane>,
    dead: BTreeMap<Key, Delivery>,
    dead_dropped: u64,
    /// Deliveries that are not in the store as they are here.
    unsaved: std::collections::BTreeSet<Key>,
    cooled: cooled::Kept,
    random: Random,
}

impl<S: Store> Outbox<S> {
    /// With what the last run left in the store. What cannot be read there is removed, and counted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(store: S, plan: Plan, seed: u64) -> Result<(Outbox<S>, u64), StoreFailed> {
        let mut unreadable = 0;
        let mut found = Vec::new();
        let mut foreign = Vec::new();
        let mut cooled = cooled::Kept::default();
        for (key, value) in store.scan()? {
            if cooled::is_cooled(&key) && cooled.read(&key, &value) {
                continue;
            }
            match serde_json::from_slice::<Delivery>(&value) {
                Ok(delivery) if row_key(&key_of(&delivery)) == key => found.push(delivery),
                _ => {
                    unreadable += 1;
                    foreign.push(Write::Remove(key));
                }
            }
        }
        let mut outbox = Outbox {
            store,
            plan,
            lanes: BTreeMap::new(),
            dead: BTreeMap::new(),
            dead_dropped: 0,
            unsaved: Default::default(),
            cooled,
            random: Random::new(seed),
        };
        if !foreign.is_empty() {
            outbox.store.apply(foreign)?;
        }
        for delivery in found {
            if delivery.is_dead {
                outbox.dead.insert(key_of(&delivery), delivery);
            } else {
                outbox.lane(&delivery.receiver.clone()).put(delivery);
            }
        }
        Ok((outbox, unreadable))
    }

    /// From now on alerts go by this plan; what waits stays where it is.
    pub fn set_plan(&mut self, plan: Plan) {
        self.plan = plan;
    }

    /// Takes alerts in, each to its receivers. They are in the store after the next `save`.
    pub fn raise(&mut self, now_ms: i64, alerts: &[Alert], silences: &[Silence]) -> Vec<Routed> {
        alerts
            .iter()
            .map(|alert| self.raise_one(now_ms, alert, silences))
            .collect()
    }

    fn raise_one(&mut self, now_ms: i64, alert: &Alert, silences: &[Silence]) -> Routed {
        if let Some(silence) = silences.iter().find(|silence| silence.covers(alert, now_ms)) {
            return Routed::Silenced(silence.id.clone());
        }
        let receivers: Vec<String> = self.plan.receivers_of(alert).into_iter().map(str::to_owned).collect();
        for receiver in &receivers {
            let first_due_ms = self.lanes.get(receiver).and_then(Lane::first_held_due_ms);
            let held_ms = self.plan.held_until_ms(alert.severity, now_ms, first_due_ms);
            self.put(Delivery {
                receiver: receiver.clone(),
                alert: alert.clone(),
                is_held: held_ms.is_some(),
                is_dead: false,
                attempts: 0,
                due_ms: held_ms.unwrap_or(now_ms),
                since_ms: now_ms,
                error: String::new(),
            });
        }
        Routed::To(receivers)
    }

    fn put(&mut self, delivery: Delivery) {
        let (id, receiver) = key_of(&delivery);
        let lane = self.lane(&receiver);
        let changed = match lane.is_full() {
            true => lane.put_folding(delivery),
            false => {
                lane.put(delivery);
                vec![id]
            }
        };
        self.unsaved
            .extend(changed.into_iter().map(|id| (id, receiver.clone())));
    }

    /// Keeps a cooldown beyond this run. It is in the store after the next `save`.
    pub fn cool(&mut self, cooled: Cooled) {
        self.cooled.put(cooled);
    }

    /// The cooldowns that are kept and go on, with how many milliseconds.
    pub fn cooling(&mut self, now_ms: i64) -> Vec<(Cooled, i64)> {
        self.cooled.going_on(now_ms)
    }

    fn lane(&mut self, receiver: &str) -> &mut Lane {
        self.lanes.entry(receiver.to_owned()).or_default()
    }

    /// Writes down what has changed.
    ///
    /// # Errors
    /// The store failed: what was to be written is so with the next call.
    pub fn save(&mut self) -> Result<(), StoreFailed> {
        if self.unsaved.is_empty() && self.cooled.is_saved() {
            return Ok(());
        }
        let write = |key: &Key| match self.find(key) {
            Some(delivery) => match serde_json::to_vec(delivery) {
                Ok(value) => Write::Put(row_key(key), value),
                Err(_) => Write::Remove(row_key(key)),
            },
            None => Write::Remove(row_key(key)),
        };
        let writes: Vec<Write> = self.unsaved.iter().map(write).chain(self.cooled.writes()).collect();
        self.store.apply(writes)?;
        self.unsaved.clear();
        self.cooled.saved();
        Ok(())
    }

    fn find(&self, key: &Key) -> Option<&Delivery> {
        let waiting = self.lanes.get(&key.1).and_then(|lane| lane.waiting.get(&key.0));
        waiting.or_else(|| self.dead.get(key))
    }

    /// What is to be tried now. Each comes once, until its outcome is `settled`.
    pub fn due(&mut self, now_ms: i64) -> Vec<Attempt> {
        self.release_held(now_ms);
        self.bury_unreachable();
        let longest_ms = i64::try_from(self.plan.retry.longest_ms).unwrap_or(i64::MAX);
        let mut attempts = Vec::new();
        for (receiver, lane) in &mut self.lanes {
            // A date set back must not hold anything up.
            lane.bound_waits(now_ms, longest_ms, PAUSE_MAX_MS);
            let taken = lane.take_due(now_ms, IN_FLIGHT_MAX);
            attempts.extend(taken.into_iter().map(|alert| Attempt {
                receiver: receiver.clone(),
                alert,
            }));
        }
        attempts
    }

    /// When there is something to do next without anything new; `None` for never.
    pub fn next_ms(&self) -> Option<i64> {
        self.lanes.values().filter_map(|lane| lane.next_ms(IN_FLIGHT_MAX)).min()
    }

    /// Takes in what came of an attempt.
    pub fn settled(&mut self, now_ms: i64, attempt: &Attempt, outcome: Outcome) -> Settled {
        let (id, receiver) = (attempt.alert.id, &attempt.receiver);
        let retry = self.plan.retry.clone();
        let Some(lane) = self.lanes.get_mut(receiver) else {
            return Settled::Unknown;
        };
        if !lane.in_flight.remove(&id) {
            return Settled::Unknown;
        }
        let Some(delivery) = lane.waiting.get_mut(&id) else {
            return Settled::Unknown;
        };
        self.unsaved.insert((id, receiver.clone()));
        delivery.attempts = delivery.attempts.saturating_add(1);
        let (mut error, after_ms, is_final) = match outcome {
            Outcome::Delivered => {
                lane.waiting.remove(&id);
                return Settled::Delivered;
            }
            Outcome::Failed { error, after_ms } => (error, after_ms, false),
            Outcome::Refused { error } => (error, None, true),
        };
        error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
        delivery.error = error;
        let age_ms = now_ms.saturating_sub(delivery.since_ms);
        if is_final || delivery.attempts >= retry.attempts_max || age_ms >= retry.age_max_ms {
            if let Some(delivery) = lane.waiting.remove(&id) {
                self.bury(delivery);
            }
            return Settled::Dead;
        }
        let wait_ms = retry.wait_ms(delivery.attempts, &mut self.random);
        if let Some(after_ms) = after_ms {
            let until_ms = now_ms.saturating_add(after_ms.clamp(0, PAUSE_MAX_MS));
            lane.paused_until_ms = lane.paused_until_ms.max(until_ms);
        }
        delivery.due_ms = now_ms.saturating_add(wait_ms);
        let due_ms = delivery.due_ms.max(lane.paused_until_ms);
        Settled::Again { due_ms }
    }

    fn bury(&mut self, mut delivery: Delivery) {
        delivery.is_dead = true;
        delivery.is_held = false;
        let key = key_of(&delivery);
        self.unsaved.insert(key.clone());
        self.dead.insert(key, delivery);
        while self.dead.len() > DEAD_MAX {
            let least = self.dead.iter().min_by_key(|(_, dead)| dead.alert.severity);
            let Some(key) = least.map(|(key, _)| key.clone()) else {
                return;
            };
            self.dead.remove(&key);
            self.unsaved.insert(key);
            self.dead_dropped += 1;
        }
    }

    /// Deliveries to receivers that the configuration no longer has: an operator may put them back and retry.
    fn bury_unreachable(&mut self) {
        let is_known = |name: &String| self.plan.receivers.contains(name);
        let gone: Vec<String> = self.lanes.keys().filter(|name| !is_known(name)).cloned().collect();
        for name in gone {
            let waiting = self.lanes.remove(&name).map(|lane| lane.waiting).unwrap_or_default();
            for (_, mut delivery) in waiting {
                delivery.error = format!("no receiver is named {name}");
                self.bury(delivery);
            }
        }
    }

    /// Puts dead letters back: those with this id, to this receiver; `None` for any. How many.
    pub fn retry(&mut self, now_ms: i64, id: Option<Ulid>, receiver: Option<&str>) -> usize {
        let wanted = |key: &&Key| id.is_none_or(|id| id == key.0) && receiver.is_none_or(|name| name == key.1);
        let keys: Vec<Key> = self.dead.keys().filter(wanted).cloned().collect();
        for key in &keys {
            if let Some(dead) = self.dead.remove(key) {
                self.unsaved.insert(key.clone());
                self.put(Delivery {
                    is_dead: false,
                    attempts: 0,
                    due_ms: now_ms,
                    since_ms: now_ms,
                    ..dead
                });
            }
        }
        keys.len()
    }

    /// Everything that waits or is dead, oldest first.
    pub fn deliveries(&self) -> Vec<&Delivery> {
        let waiting = self.lanes.values().flat_map(|lane| lane.waiting.values());
        let mut all: Vec<&Delivery> = waiting.chain(self.dead.values()).collect();
        all.sort_by(|a, b| (a.alert.id, &a.receiver).cmp(&(b.alert.id, &b.receiver)));
        all
    }

    /// How many wait, and how many are dead.
    pub fn counts(&self) -> (usize, usize) {
        (
            self.lanes.values().map(|lane| lane.waiting.len()).sum(),
            self.dead.len(),
        )
    }

    /// Dead letters that were removed for want of room.
    pub fn dead_dropped(&self) -> u64 {
        self.dead_dropped
    }
}

fn key_of(delivery: &Delivery) -> Key {
    (delivery.alert.id, delivery.receiver.clone())
}

/// By time, then by receiver.
fn row_key((id, receiver): &Key) -> Vec<u8> {
    format!("{id}/{receiver}").into_bytes()
}

#[cfg(test)]
mod tests;
