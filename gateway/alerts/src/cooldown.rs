//! Cooldowns: the same thing is said once a while; what came meanwhile is counted, and the next that is said bears the count.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Things of one kind that are remembered; past that further ones of the kind share one. Things are named by what clients make
/// up, so a kind that is flooded takes no room from another.
pub const THINGS_MAX: usize = 10_000;
/// Kinds that are told apart: policies may make some up. Past that further ones are one kind.
const KINDS_MAX: usize = 50;
const OTHER_KINDS: &str = "";
/// The longest cooldown of things that share one: a flood must not silence what is new for good.
pub const SHARED_MAX_MS: i64 = 300_000;

#[derive(Clone, Copy, Debug, Default)]
struct Cooling {
    /// By the monotonic clock.
    until_ms: i64,
    folded: u64,
}

impl Cooling {
    /// How many were folded, where the thing is due: from now on it cools down again.
    fn admit(&mut self, now_ms: i64, cooldown_ms: i64, is_counted: bool) -> Option<u64> {
        if self.until_ms > now_ms {
            self.folded = self.folded.saturating_add(u64::from(is_counted));
            return None;
        }
        self.until_ms = now_ms.saturating_add(cooldown_ms);
        Some(std::mem::take(&mut self.folded))
    }
}

/// What is cooling down of one kind, by hash.
#[derive(Debug, Default)]
struct Kind {
    things: HashMap<u64, Cooling>,
    /// All that found no room.
    shared: Cooling,
    /// No thing's cooldown ends before.
    next_end_ms: i64,
}

impl Kind {
    fn has_room(&mut self, now_ms: i64) -> bool {
        if self.things.len() >= THINGS_MAX && self.next_end_ms <= now_ms {
            self.things.retain(|_, cooling| cooling.until_ms > now_ms);
            let ends = self.things.values().map(|cooling| cooling.until_ms);
            self.next_end_ms = ends.min().unwrap_or(i64::MAX);
        }
        self.things.len() < THINGS_MAX
    }
}

/// What is cooling down, by kind.
#[derive(Debug, Default)]
pub struct Cooldown {
    kinds: HashMap<String, Kind>,
    hasher: RandomState,
}

impl Cooldown {
    /// How many were folded since the last time that `thing` was due, where it is due again: not within `cooldown_ms` of that
    /// time. `now_ms` is a monotonic clock's: a date set back must not silence an alert. One that is not counted is a look at
    /// what has not changed, and no further occurrence of it.
    pub fn admit(
        &mut self,
        now_ms: i64,
        cooldown_ms: i64,
        (kind, thing): (&str, &[&str]),
        is_counted: bool,
    ) -> Option<u64> {
        let hash = self.hasher.hash_one(thing);
        let kind = self.kind(kind);
        if let Some(known) = kind.things.get_mut(&hash) {
            let due = known.admit(now_ms, cooldown_ms, is_counted);
            kind.next_end_ms = kind.next_end_ms.min(known.until_ms);
            return due;
        }
        if !kind.has_room(now_ms) {
            return kind.shared.admit(now_ms, cooldown_ms.min(SHARED_MAX_MS), is_counted);
        }
        let mut cooling = Cooling {
            until_ms: now_ms,
            folded: 0,
        };
        let due = cooling.admit(now_ms, cooldown_ms, is_counted);
        kind.next_end_ms = kind.next_end_ms.min(cooling.until_ms);
        kind.things.insert(hash, cooling);
        due
    }

    /// Goes on with a cooldown of an earlier run, where there is room.
    pub fn restore(&mut self, until_ms: i64, (kind, thing): (&str, &[&str])) {
        let hash = self.hasher.hash_one(thing);
        let kind = self.kind(kind);
        if kind.things.len() < THINGS_MAX {
            kind.next_end_ms = kind.next_end_ms.min(until_ms);
            kind.things.insert(hash, Cooling { until_ms, folded: 0 });
        }
    }

    fn kind(&mut self, name: &str) -> &mut Kind {
        let is_told_apart = self.kinds.contains_key(name) || self.kinds.len() < KINDS_MAX;
        let name = if is_told_apart { name } else { OTHER_KINDS };
        self.kinds.entry(name.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    /// Whether a thing of the kind `k` is due, for 300 ms.
    fn due(cooldown: &mut Cooldown, at_ms: i64, thing: &str) -> Option<u64> {
        cooldown.admit(at_ms, 300, ("k", &[thing]), true)
    }

    #[test]
    fn the_next_that_is_due_says_how_many_were_folded() {
        let mut cooldown = Cooldown::default();
        assert_eq!(due(&mut cooldown, 0, "a"), Some(0));
        for at in 1..300 {
            assert_eq!(due(&mut cooldown, at, "a"), None);
        }
        assert_eq!(due(&mut cooldown, 5, "b"), Some(0));
        assert_eq!(due(&mut cooldown, 300, "a"), Some(299));
        assert_eq!(due(&mut cooldown, 600, "a"), Some(0));
    }

    #[test]
    fn looks_at_what_has_not_changed_are_not_counted() {
        let mut cooldown = Cooldown::default();
        let mut look = |at_ms| cooldown.admit(at_ms, 300, ("hold", &["1"]), false);
        assert_eq!(look(0), Some(0));
        assert!((1..300).all(|at| look(at).is_none()));
        assert_eq!(look(300), Some(0));
    }

    #[test]
    fn memory_is_bounded_however_many_things_there_are() {
        let mut cooldown = Cooldown::default();
        let count = (0..50_000_u32)
            .filter(|at| due(&mut cooldown, 0, &at.to_string()).is_some())
            .count();
        assert_eq!((count, cooldown.kinds["k"].things.len()), (THINGS_MAX + 1, THINGS_MAX));
        for kind in 0..1_000 {
            assert_eq!(
                cooldown.admit(0, 300, (&kind.to_string(), &["x"]), true).is_some(),
                kind < 50
            );
        }
        assert!(cooldown.kinds.len() <= KINDS_MAX + 1);
    }

    #[test]
    fn a_flood_of_one_kind_silences_no_other_and_itself_not_for_good() {
        let mut cooldown = Cooldown::default();
        let mut admit =
            |at_ms, cooldown_ms, kind: &str, thing: &str| cooldown.admit(at_ms, cooldown_ms, (kind, &[thing]), true);
        for at in 0..20_000_u32 {
            admit(0, i64::MAX, "unpriced", &at.to_string());
        }
        assert_eq!(admit(1, 300, "budget", "key:new"), Some(0), "another kind");
        assert_eq!(admit(SHARED_MAX_MS - 1, i64::MAX, "unpriced", "new"), None);
        assert_eq!(
            admit(SHARED_MAX_MS, i64::MAX, "unpriced", "newer"),
            Some(10_000),
            "it says how many"
        );
    }

    #[test]
    fn what_is_over_leaves_room_whatever_was_folded() {
        let mut cooldown = Cooldown::default();
        for at in 0..10_000_u32 {
            due(&mut cooldown, 0, &at.to_string());
            due(&mut cooldown, 1, &at.to_string());
        }
        let new: Vec<Option<u64>> = ["x", "y", "z"].map(|thing| due(&mut cooldown, 300, thing)).to_vec();
        assert_eq!(new, [Some(0); 3], "each by itself");
        assert_eq!(cooldown.kinds["k"].things.len(), 3);
    }

    #[test]
    fn a_cooldown_goes_on_after_a_restart() {
        let mut cooldown = Cooldown::default();
        cooldown.restore(500, ("k", &["a"]));
        assert_eq!(due(&mut cooldown, 499, "a"), None);
        assert_eq!(due(&mut cooldown, 500, "a"), Some(1));
    }
}
