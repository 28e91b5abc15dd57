//! Alerts that were held go out together, as one alert of the type `digest` that names them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ulid::Ulid;

use super::{Delivery, Outbox, Store, key_of};
use crate::alert::Alert;

/// Alerts that a digest names one by one.
const NAMED_MAX: usize = 20;
pub const DIGEST: &str = "digest";

impl<S: Store> Outbox<S> {
    /// Makes what was held long enough ready to go: one by itself, more as one.
    pub(super) fn release_held(&mut self, now_ms: i64) {
        let random = &mut self.random;
        for (receiver, lane) in &mut self.lanes {
            let is_due = |delivery: &&Delivery| delivery.is_held && delivery.due_ms <= now_ms;
            let due: Vec<Ulid> = lane.waiting.values().filter(is_due).map(|held| held.alert.id).collect();
            if let [only] = due.as_slice() {
                if let Some(delivery) = lane.waiting.get_mut(only) {
                    delivery.is_held = false;
                    self.unsaved.insert(key_of(delivery));
                }
                continue;
            }
            let held: Vec<Delivery> = due.iter().filter_map(|id| lane.waiting.remove(id)).collect();
            self.unsaved.extend(held.iter().map(key_of));
            let digits = (u128::from(random.next()) << 64) | u128::from(random.next());
            let id = Ulid::from_parts(u64::try_from(now_ms).unwrap_or_default(), digits);
            let Some(alert) = digest(id, now_ms, receiver, &held) else {
                continue;
            };
            let delivery = Delivery {
                receiver: receiver.clone(),
                alert,
                is_held: false,
                is_dead: false,
                attempts: 0,
                due_ms: now_ms,
                since_ms: now_ms,
                error: String::new(),
            };
            self.unsaved.insert(key_of(&delivery));
            lane.put(delivery);
        }
    }
}

/// One alert for all of them; `None` for none.
fn digest(id: Ulid, now_ms: i64, receiver: &str, held: &[Delivery]) -> Option<Alert> {
    let severity = held.iter().map(|delivery| delivery.alert.severity).max()?;
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    let mut folded = 0_u64;
    let mut message = format!("{} alerts", held.len());
    for (at, alert) in held.iter().map(|delivery| &delivery.alert).enumerate() {
        *kinds.entry(&alert.kind).or_default() += 1;
        folded = folded.saturating_add(alert.folded);
        if at < NAMED_MAX {
            // Writing to a string does not fail.
            let _ = write!(message, "\n{} {}: {}", alert.severity.name(), alert.kind, alert.message);
        }
    }
    if held.len() > NAMED_MAX {
        let _ = write!(message, "\nand {} more", held.len() - NAMED_MAX);
    }
    let details = kinds
        .into_iter()
        .map(|(kind, count)| (kind.to_owned(), count.to_string()));
    let tenant = held.first().map(|first| first.alert.tenant.clone()).unwrap_or_default();
    let is_of_one = held.iter().all(|delivery| delivery.alert.tenant == tenant);
    let alert = Alert {
        id,
        at_ms: now_ms,
        kind: DIGEST.to_owned(),
        severity,
        message,
        details: details.collect(),
        about: receiver.to_owned(),
        tenant: if is_of_one { tenant } else { String::new() },
        policy: String::new(),
        folded,
    };
    Some(alert.bounded())
}
