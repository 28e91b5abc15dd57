//! How far alerts have come, by receiver: for whoever looks at the list.

use std::collections::{BTreeMap, HashMap, VecDeque};

use agentledger_alerts::outbox::Delivery;
use ulid::Ulid;

/// Alerts whose ways are remembered.
const ALERTS_MAX: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Pending,
    /// Tried, and to be tried again.
    Failed,
    Delivered,
    /// Given up.
    Dead,
    Silenced,
    /// Goes with another alert: for want of room, or in a digest.
    Folded,
}

impl Progress {
    pub fn name(self) -> &'static str {
        match self {
            Progress::Pending => "pending",
            Progress::Failed => "failed",
            Progress::Delivered => "delivered",
            Progress::Dead => "dead",
            Progress::Silenced => "silenced",
            Progress::Folded => "folded",
        }
    }

    fn of(delivery: &Delivery) -> Progress {
        match delivery {
            Delivery { is_dead: true, .. } => Progress::Dead,
            Delivery { attempts: 0, .. } => Progress::Pending,
            Delivery { .. } => Progress::Failed,
        }
    }
}

/// An alert's way to one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryState {
    /// Empty for an alert that a silence covers.
    pub receiver: String,
    pub progress: Progress,
    pub attempts: u32,
    /// Why the last attempt failed, or which silence covers it.
    pub error: String,
    /// When it is tried next, milliseconds since the epoch.
    pub due_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Way {
    receivers: Vec<String>,
    delivered: Vec<String>,
    silenced: Option<String>,
}

/// What the outbox does not know any more.
#[derive(Debug, Default)]
pub(super) struct Ways {
    by_id: HashMap<Ulid, Way>,
    order: VecDeque<Ulid>,
}

impl Ways {
    fn way(&mut self, id: Ulid) -> &mut Way {
        if !self.by_id.contains_key(&id) {
            self.order.push_back(id);
            if self.order.len() > ALERTS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_id.remove(&oldest);
            }
        }
        self.by_id.entry(id).or_default()
    }

    pub fn routed(&mut self, id: Ulid, receivers: Vec<String>) {
        self.way(id).receivers = receivers;
    }

    pub fn silenced(&mut self, id: Ulid, silence: String) {
        self.way(id).silenced = Some(silence);
    }

    pub fn delivered(&mut self, id: Ulid, receiver: &str) {
        self.way(id).delivered.push(receiver.to_owned());
    }

    /// Of all alerts that are known, with what the outbox has of them.
    pub fn states(&self, deliveries: &[&Delivery]) -> HashMap<Ulid, Vec<DeliveryState>> {
        let mut found: HashMap<Ulid, BTreeMap<&str, DeliveryState>> = HashMap::new();
        for (id, way) in &self.by_id {
            let states = found.entry(*id).or_default();
            let note = |receiver: &str, progress, error: &str| DeliveryState {
                receiver: receiver.to_owned(),
                progress,
                attempts: 0,
                error: error.to_owned(),
                due_ms: None,
            };
            for receiver in &way.receivers {
                states.insert(receiver, note(receiver, Progress::Folded, ""));
            }
            for receiver in &way.delivered {
                states.insert(receiver, note(receiver, Progress::Delivered, ""));
            }
            if let Some(silence) = &way.silenced {
                states.insert("", note("", Progress::Silenced, silence));
            }
        }
        for delivery in deliveries {
            let state = DeliveryState {
                receiver: delivery.receiver.clone(),
                progress: Progress::of(delivery),
                attempts: delivery.attempts,
                error: delivery.error.clone(),
                due_ms: (!delivery.is_dead).then_some(delivery.due_ms),
            };
            let states = found.entry(delivery.alert.id).or_default();
            states.insert(&delivery.receiver, state);
        }
        let list = |(id, states): (Ulid, BTreeMap<&str, DeliveryState>)| (id, states.into_values().collect());
        found.into_iter().map(list).collect()
    }
}
