//! Cooldowns: the same thing is said once a while; what came meanwhile is counted, and the next that is said bears the count.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Things that are remembered; past that further ones share one.
pub const THINGS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Cooling {
    /// By the monotonic clock.
    until_ms: i64,
    folded: u64,
}

/// What is cooling down, by hash.
#[derive(Debug, Default)]
pub struct Cooldown {
    things: HashMap<u64, Cooling>,
    hasher: RandomState,
}

impl Cooldown {
    /// How many were folded since the last time that `thing` was due, where it is due again: not within `cooldown_ms` of that
    /// time. `now_ms` is a monotonic clock's: a date set back must not silence an alert.
    pub fn admit(&mut self, now_ms: i64, cooldown_ms: i64, thing: &[&str]) -> Option<u64> {
        let mut hash = self.hasher.hash_one(thing);
        if self.things.len() >= THINGS_MAX && !self.things.contains_key(&hash) {
            self.things
                .retain(|_, cooling| cooling.until_ms > now_ms || cooling.folded > 0);
            if self.things.len() >= THINGS_MAX {
                hash = 0;
            }
        }
        if let Some(cooling) = self.things.get_mut(&hash).filter(|cooling| cooling.until_ms > now_ms) {
            cooling.folded = cooling.folded.saturating_add(1);
            return None;
        }
        let until_ms = now_ms.saturating_add(cooldown_ms);
        let before = self.things.insert(hash, Cooling { until_ms, folded: 0 });
        Some(before.map_or(0, |cooling| cooling.folded))
    }

    pub fn len(&self) -> usize {
        self.things.len()
    }

    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_next_that_is_due_says_how_many_were_folded() {
        let mut cooldown = Cooldown::default();
        assert_eq!(cooldown.admit(0, 300, &["a"]), Some(0));
        for at in 1..300 {
            assert_eq!(cooldown.admit(at, 300, &["a"]), None);
        }
        assert_eq!(cooldown.admit(5, 300, &["b"]), Some(0));
        assert_eq!(cooldown.admit(300, 300, &["a"]), Some(299));
        assert_eq!(cooldown.admit(600, 300, &["a"]), Some(0));
    }

    #[test]
    fn memory_is_bounded_however_many_things_there_are() {
        let mut cooldown = Cooldown::default();
        let due = (0..50_000_u32)
            .filter(|at| cooldown.admit(0, 300, &[&at.to_string()]).is_some())
            .count();
        assert_eq!((due, cooldown.len()), (THINGS_MAX + 1, THINGS_MAX + 1));
        assert_eq!(cooldown.admit(300, 300, &["later"]), Some(0));
    }
}
