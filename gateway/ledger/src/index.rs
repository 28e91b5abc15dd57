//! Finds the items of a slab by their names, in four bytes an item beside what the slab holds: a hash map would keep each
//! name's pointer a second time. In shards, so that one that grows stops nobody for long; a small one has one shard.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;

use crate::slab::Place;

const SHARDS: usize = 64;
const SHARD_PLACES_MIN: usize = 8;

/// Open addressing with linear probing. Who calls it knows the items: it is requested their hashes, and which one is meant.
#[derive(Clone, Debug)]
pub(crate) struct Index<const N: usize = SHARDS> {
    hasher: RandomState,
    shards: [Shard; N],
}

#[derive(Clone, Debug, Default)]
struct Shard {
    places: Vec<Option<Place>>,
    len: usize,
}

impl<const N: usize> Default for Index<N> {
    fn default() -> Index<N> {
        Index {
            hasher: RandomState::default(),
            shards: std::array::from_fn(|_| Shard::default()),
        }
    }
}

impl<const N: usize> Index<N> {
    pub fn hash(&self, name: &(impl Hash + ?Sized)) -> u64 {
        self.hasher.hash_one(name)
    }

    fn shard(hash: u64) -> usize {
        (hash >> 58) as usize % N
    }

    pub fn find(&self, hash: u64, is: impl Fn(Place) -> bool) -> Option<Place> {
        let shard = self.shards.get(Self::shard(hash))?;
        let mask = shard.places.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        while let Some(place) = shard.places.get(at).copied().flatten() {
            if is(place) {
                return Some(place);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// `place` must not be there yet. `hash_of` tells the hash of another item's name.
    pub fn insert(&mut self, hash: u64, place: Place, hash_of: impl Fn(&RandomState, Place) -> u64) {
        let Some(shard) = self.shards.get_mut(Self::shard(hash)) else {
            return;
        };
        if (shard.len + 1) * 4 > shard.places.len() * 3 {
            let larger = (shard.places.len() * 2).max(SHARD_PLACES_MIN);
            let old = std::mem::replace(&mut shard.places, vec![None; larger]);
            for place in old.into_iter().flatten() {
                shard.put(hash_of(&self.hasher, place), place);
            }
        }
        shard.put(hash, place);
        shard.len += 1;
    }

    pub fn remove(&mut self, hash: u64, place: Place, hash_of: impl Fn(&RandomState, Place) -> u64) {
        let Some(shard) = self.shards.get_mut(Self::shard(hash)) else {
            return;
        };
        let Some(mask) = shard.places.len().checked_sub(1) else {
            return;
        };
        let mut hole = hash as usize & mask;
        loop {
            match shard.places.get(hole).copied().flatten() {
                Some(found) if found == place => break,
                Some(_) => hole = (hole + 1) & mask,
                None => return,
            }
        }
        // What follows moves up, so that no search ends too early.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(next) = shard.places.get(at).copied().flatten() else {
                break;
            };
            let home = hash_of(&self.hasher, next) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                shard.set(hole, Some(next));
                hole = at;
            }
        }
        shard.set(hole, None);
        shard.len -= 1;
    }
}

impl Shard {
    fn set(&mut self, at: usize, place: Option<Place>) {
        if let Some(entry) = self.places.get_mut(at) {
            *entry = place;
        }
    }

    fn put(&mut self, hash: u64, place: Place) {
        let mask = self.places.len() - 1;
        let mut at = hash as usize & mask;
        while self.places.get(at).copied().flatten().is_some() {
            at = (at + 1) & mask;
        }
        self.set(at, Some(place));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::slab::Slab;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_finds_what_a_map_finds(steps in prop::collection::vec((0u16..600, prop::bool::weighted(0.6)), 1..3_000)) {
            let (mut index, mut slab, mut map) = (Index::<SHARDS>::default(), Slab::default(), HashMap::new());
            for (name, is_put) in steps {
                let hash = index.hash(&name);
                let found = index.find(hash, |place| slab.get(place) == Some(&name));
                prop_assert_eq!(found, map.get(&name).copied());
                match found {
                    None if is_put => {
                        let place = slab.insert(name);
                        index.insert(hash, place, |hasher, place| hasher.hash_one(slab.get(place).unwrap()));
                        map.insert(name, place);
                    }
                    Some(place) if !is_put => {
                        index.remove(hash, place, |hasher, place| hasher.hash_one(slab.get(place).unwrap()));
                        slab.remove(place);
                        map.remove(&name);
                    }
                    _ => {}
                }
            }
            for (name, place) in map {
                prop_assert_eq!(index.find(index.hash(&name), |place| slab.get(place) == Some(&name)), Some(place));
            }
        }
    }
}
