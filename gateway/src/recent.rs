//! Values that were used lately, by their keys, within a bound of number and of bytes.
//!
//! There are two generations. What is found in the old one moves into the young one; once that is full it becomes the old one, and what was
//! there and has not been used since is forgotten. So a use costs a look-up or two and no list is kept in order, and whoever sends
//! ever new keys cannot drive out what is used more often than once a generation.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// What one generation may hold. There are two.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub entries: usize,
    pub bytes: usize,
    /// A larger entry is not kept.
    pub entry_bytes: usize,
}

/// Beside its key and its value, what an entry takes in a table that is two thirds full.
const ENTRY_BYTES: usize = 64;

/// The values are cheap to clone.
pub struct Recent<K, V> {
    room: Room,
    /// With the bytes that each takes.
    young: HashMap<K, (V, usize)>,
    young_bytes: usize,
    old: HashMap<K, (V, usize)>,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    pub fn new(room: Room) -> Recent<K, V> {
        Recent {
            room,
            young: HashMap::new(),
            young_bytes: 0,
            old: HashMap::new(),
        }
    }

    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, bytes)) = self.old.remove_entry(key)?;
        self.add(key, value.clone(), bytes);
        Some(value)
    }

    /// Keeps a value that takes so many bytes, its key's among them. Whether it does: it may be too large.
    pub fn put(&mut self, key: K, value: V, bytes: usize) -> bool {
        if bytes > self.room.entry_bytes {
            return false;
        }
        self.old.remove(&key);
        self.add(key, value, bytes.saturating_add(ENTRY_BYTES));
        true
    }

    /// `bytes`: all that it takes, in the table, too.
    fn add(&mut self, key: K, value: V, bytes: usize) {
        let is_full = self.young.len() >= self.room.entries || self.young_bytes.saturating_add(bytes) > self.room.bytes;
        if is_full {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes = self.young_bytes.saturating_add(bytes);
        if let Some((_, before)) = self.young.insert(key, (value, bytes)) {
            self.young_bytes = self.young_bytes.saturating_sub(before);
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const ROOM: Room = Room {
        entries: 10,
        bytes: 10 * (ENTRY_BYTES + 100),
        entry_bytes: 400,
    };

    #[test]
    fn what_is_used_stays_however_much_comes() {
        let mut recent: Recent<String, usize> = Recent::new(ROOM);
        recent.put("used".to_owned(), 7, 10);
        for at in 0..1_000 {
            recent.put(format!("new {at}"), at, 10);
            if at % 5 == 0 {
                assert_eq!(recent.get("used"), Some(7), "{at}");
            }
            assert!(recent.len() <= 20);
        }
        assert_eq!(recent.get("new 0"), None);
        assert_eq!(recent.get("new 999"), Some(999));
    }

    #[test]
    fn bytes_are_bounded_as_entries_are() {
        let mut recent: Recent<u32, u32> = Recent::new(ROOM);
        assert!(!recent.put(0, 0, 401));
        assert_eq!(recent.get(&0), None);
        for at in 0..100 {
            assert!(recent.put(at, at, 400));
            assert!(recent.young_bytes <= ROOM.bytes && recent.len() <= 6, "{at}");
        }
        recent.put(99, 1, 10);
        assert_eq!(recent.get(&99), Some(1), "the later value");
    }

    #[test]
    fn what_is_used_for_long_takes_no_more_than_at_first() {
        let mut recent: Recent<u32, u32> = Recent::new(ROOM);
        recent.put(0, 7, 100);
        for at in 1..1_000 {
            recent.put(at, at, 100);
            assert_eq!(recent.get(&0), Some(7), "{at}");
        }
        let taken = recent.young.values().map(|(_, bytes)| *bytes);
        assert!(
            taken.clone().all(|bytes| bytes == 100 + ENTRY_BYTES),
            "{:?}",
            recent.young
        );
        assert_eq!(recent.young_bytes, taken.sum::<usize>());
    }

    #[test]
    fn a_value_that_is_put_again_counts_once() {
        let mut recent: Recent<u32, u32> = Recent::new(ROOM);
        (0..100).for_each(|at| {
            recent.put(1, at, 100);
        });
        recent.put(2, 2, 100);
        assert_eq!((recent.len(), recent.young_bytes), (2, 2 * (100 + ENTRY_BYTES)));
    }
}
