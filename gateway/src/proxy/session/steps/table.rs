//! Which step was the last with a digest.

/// Finds a step by a digest that it has itself, so that four bytes a slot are enough. A digest is keyed: nobody can choose one, and it
/// is its own hash.
#[derive(Debug, Default)]
pub struct Table {
    /// 0, or a step's label; the number of slots is a power of two.
    slots: Vec<u32>,
    used: usize,
}

const SLOTS_MIN: usize = 32;

impl Table {
    /// The label of the step with this digest. `digest_of` has that of each label in the table.
    pub fn find(&self, digest: u64, digest_of: impl Fn(u32) -> Option<u64>) -> Option<u32> {
        let slot = self.slot(digest, digest_of)?;
        Some(self.get(slot)).filter(|label| *label != 0)
    }

    /// From now on this step stands for its digest.
    pub fn set(&mut self, digest: u64, label: u32, digest_of: impl Fn(u32) -> Option<u64>) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow(&digest_of);
        }
        let Some(slot) = self.slot(digest, digest_of) else {
            return;
        };
        self.used += usize::from(self.get(slot) == 0);
        self.put(slot, label);
    }

    /// No step has this digest any more.
    pub fn remove(&mut self, digest: u64, digest_of: impl Fn(u32) -> Option<u64>) {
        let Some(mut gap) = self.slot(digest, &digest_of).filter(|slot| self.get(*slot) != 0) else {
            return;
        };
        self.used -= 1;
        let mut at = self.after(gap);
        // What was put further on because this slot was taken moves up.
        while let label @ 1.. = self.get(at) {
            let home = digest_of(label).map_or(at, |digest| self.home(digest));
            if self.distance(home, at) >= self.distance(gap, at) {
                self.put(gap, label);
                gap = at;
            }
            at = self.after(at);
        }
        self.put(gap, 0);
    }

    /// Where the digest stands, or would.
    fn slot(&self, digest: u64, digest_of: impl Fn(u32) -> Option<u64>) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(digest);
        while let label @ 1.. = self.get(at) {
            if digest_of(label) == Some(digest) {
                break;
            }
            at = self.after(at);
        }
        Some(at)
    }

    fn grow(&mut self, digest_of: impl Fn(u32) -> Option<u64>) {
        let slots = (self.slots.len() * 2).max(SLOTS_MIN);
        let known = std::mem::replace(&mut self.slots, vec![0; slots]);
        for label in known.into_iter().filter(|label| *label != 0) {
            let Some(digest) = digest_of(label) else { continue };
            let mut at = self.home(digest);
            while self.get(at) != 0 {
                at = self.after(at);
            }
            self.put(at, label);
        }
    }

    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    #[allow(clippy::cast_possible_truncation)]
    fn home(&self, digest: u64) -> usize {
        digest as usize & self.mask()
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & self.mask()
    }

    /// Slots from one on to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }

    fn get(&self, slot: usize) -> u32 {
        self.slots.get(slot).copied().unwrap_or(0)
    }

    fn put(&mut self, slot: usize, label: u32) {
        if let Some(known) = self.slots.get_mut(slot) {
            *known = label;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Digests that want the same few slots, of which more and fewer are known.
        #[test]
        fn a_digest_is_found_until_it_is_removed(digests in prop::collection::vec((0..90_u64, 0..4_u64, prop::bool::weighted(0.6)), 0..200)) {
            let digests: Vec<(u64, bool)> = digests.into_iter().map(|(high, home, is_set)| ((high << 32) + home + 29, is_set)).collect();
            let digest_of = |label: u32| digests.get(label as usize - 1).map(|(digest, _)| *digest);
            let (mut table, mut known) = (Table::default(), HashMap::new());
            for (label, (digest, is_set)) in (1..).zip(&digests) {
                if *is_set {
                    table.set(*digest, label, digest_of);
                    known.insert(*digest, label);
                } else {
                    table.remove(*digest, digest_of);
                    known.remove(digest);
                }
                prop_assert_eq!(table.used, known.len());
                for (digest, _) in &digests {
                    prop_assert_eq!(table.find(*digest, digest_of), known.get(digest).copied());
                }
            }
        }
    }
}
