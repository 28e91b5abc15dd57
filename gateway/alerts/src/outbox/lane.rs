//! What waits for one receiver. A receiver that hangs holds up its own lane and no other.

use std::collections::{BTreeMap, BTreeSet};

use ulid::Ulid;

use super::{Delivery, WAITING_MAX};
use crate::alert::Alert;
use crate::room::{Fold, fold};

#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    pub waiting: BTreeMap<Ulid, Delivery>,
    /// Of those that wait: being tried.
    pub in_flight: BTreeSet<Ulid>,
    /// The receiver asked to be left alone until then.
    pub paused_until_ms: i64,
}

impl Lane {
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    pub fn put(&mut self, delivery: Delivery) {
        self.waiting.insert(delivery.alert.id, delivery);
    }

    /// Puts a delivery where there is no room for one more: the least severe gives way, and another counts it. What was tried
    /// once is not changed any more, as long as there are others. Which have changed.
    pub fn put_folding(&mut self, mut new: Delivery) -> Vec<Ulid> {
        let Lane { waiting, in_flight, .. } = self;
        let idle = || waiting.iter().filter(|(id, _)| !in_flight.contains(id));
        let severity = |(id, delivery): (&Ulid, &Delivery)| (*id, delivery.alert.severity);
        let untried = idle().filter(|(_, delivery)| delivery.attempts == 0).map(severity);
        let of = new.alert.severity;
        let Some(Fold { gone, bearer }) = fold(untried, of).or_else(|| fold(idle().map(severity), of)) else {
            return Vec::new();
        };
        let gone_delivery = gone.and_then(|id| waiting.remove(&id));
        let counted = gone_delivery.map_or_else(|| new.alert.clone(), |gone| gone.alert);
        match bearer.and_then(|id| waiting.get_mut(&id)) {
            Some(bearer) => bearer.alert.absorb(&counted),
            None => new.alert.absorb(&counted),
        }
        let put = gone.map(|_| new.alert.id);
        if put.is_some() {
            self.put(new);
        }
        [gone, bearer, put].into_iter().flatten().collect()
    }

    pub fn first_held_due_ms(&self) -> Option<i64> {
        let held = self.waiting.values().filter(|delivery| delivery.is_held);
        held.map(|delivery| delivery.due_ms).min()
    }

    /// Those that are due, oldest first, no more in flight than `most`.
    pub fn take_due(&mut self, now_ms: i64, most: usize) -> Vec<Alert> {
        let room = most.saturating_sub(self.in_flight.len());
        if room == 0 || self.paused_until_ms > now_ms {
            return Vec::new();
        }
        let is_due = |delivery: &&Delivery| {
            !delivery.is_held && delivery.due_ms <= now_ms && !self.in_flight.contains(&delivery.alert.id)
        };
        let due = self.waiting.values().filter(is_due);
        let taken: Vec<Alert> = due.take(room).map(|delivery| delivery.alert.clone()).collect();
        self.in_flight.extend(taken.iter().map(|alert| alert.id));
        taken
    }

    /// Waits that no rule could have made are shortened.
    pub fn bound_waits(&mut self, now_ms: i64, wait_max_ms: i64, pause_max_ms: i64) {
        self.paused_until_ms = self.paused_until_ms.min(now_ms.saturating_add(pause_max_ms));
        let latest_ms = now_ms.saturating_add(wait_max_ms);
        for delivery in self.waiting.values_mut().filter(|delivery| !delivery.is_held) {
            delivery.due_ms = delivery.due_ms.min(latest_ms);
        }
    }

    pub fn next_ms(&self, most: usize) -> Option<i64> {
        if self.in_flight.len() >= most {
            return self.first_held_due_ms();
        }
        let idle = |delivery: &&Delivery| !self.in_flight.contains(&delivery.alert.id);
        let due_ms = |delivery: &Delivery| match delivery.is_held {
            true => delivery.due_ms,
            false => delivery.due_ms.max(self.paused_until_ms),
        };
        self.waiting.values().filter(idle).map(due_ms).min()
    }
}
