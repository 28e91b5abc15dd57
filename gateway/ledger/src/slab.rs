//! Items under small numbers that stay the same while the item lives; freed numbers are used again. Items lie in chunks, so
//! that a slab grows without copying what it has and without ever holding twice its size.
//!
//! A slab can be frozen: what it holds at that moment is read at leisure while the slab goes on. Both have the same chunks, and a
//! chunk is copied when the slab changes it first, if the frozen one is still there.

use std::num::NonZeroU32;
use std::sync::Arc;

/// So few that the copy of a chunk, which a request may have to wait for, takes some microseconds.
const CHUNK_ITEMS: usize = 256;

/// The number of an item. `Option<Place>` is no larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(NonZeroU32);

impl Place {
    /// The place of what lies at an index.
    pub fn of(index: usize) -> Place {
        Place(NonZeroU32::MIN.saturating_add(u32::try_from(index).unwrap_or(u32::MAX)))
    }

    /// From 0 on, below what [`Slab::given`] says.
    pub fn number(self) -> usize {
        self.index()
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

type Items<T> = Vec<Option<T>>;

/// Until it is frozen a chunk is its slab's own: changes look at no reference count.
#[derive(Clone, Debug)]
struct Chunk<T> {
    own: Items<T>,
    /// Frozen, and not changed since; then `own` is empty.
    shared: Option<Arc<Items<T>>>,
}

impl<T> Chunk<T> {
    fn empty() -> Chunk<T> {
        Chunk {
            own: Vec::with_capacity(CHUNK_ITEMS),
            shared: None,
        }
    }

    fn items(&self) -> &Items<T> {
        self.shared.as_deref().unwrap_or(&self.own)
    }

    fn frozen(&mut self) -> Chunk<T> {
        let own = &mut self.own;
        let shared = self.shared.get_or_insert_with(|| Arc::new(std::mem::take(own)));
        Chunk {
            own: Vec::new(),
            shared: Some(Arc::clone(shared)),
        }
    }
}

impl<T: Clone> Chunk<T> {
    fn items_mut(&mut self) -> &mut Items<T> {
        if let Some(shared) = self.shared.take() {
            self.own = Arc::try_unwrap(shared).unwrap_or_else(|shared| {
                // Room for all: the last chunk grows.
                let mut copy = Vec::with_capacity(CHUNK_ITEMS);
                copy.extend(shared.iter().cloned());
                copy
            });
        }
        &mut self.own
    }
}

#[derive(Clone, Debug)]
pub struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Numbers given so far, freed ones included.
    given: usize,
    len: usize,
    free: Vec<Place>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            given: 0,
            len: 0,
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Numbers given so far, freed ones included: where a walk with `nth` ends.
    pub fn given(&self) -> usize {
        self.given
    }

    /// The place of the number given as the `index`th, whether an item is there or not.
    pub fn nth(&self, index: usize) -> Place {
        Place::of(index)
    }

    pub fn get(&self, place: Place) -> Option<&T> {
        let index = place.index();
        let items = self.chunks.get(index / CHUNK_ITEMS)?.items();
        items.get(index % CHUNK_ITEMS)?.as_ref()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Place, &T)> {
        self.chunks
            .iter()
            .flat_map(Chunk::items)
            .enumerate()
            .filter_map(|(index, item)| Some((Place::of(index), item.as_ref()?)))
    }

    /// The items as they are now, to be read while these change. Copies none of them. Numbers that are free here are not known
    /// to be free there.
    pub fn frozen(&mut self) -> Slab<T> {
        Slab {
            chunks: self.chunks.iter_mut().map(Chunk::frozen).collect(),
            given: self.given,
            len: self.len,
            free: Vec::new(),
        }
    }
}

impl<T: Clone> Slab<T> {
    fn item_mut(&mut self, place: Place) -> Option<&mut Option<T>> {
        let index = place.index();
        let items = self.chunks.get_mut(index / CHUNK_ITEMS)?.items_mut();
        items.get_mut(index % CHUNK_ITEMS)
    }

    pub fn insert(&mut self, item: T) -> Place {
        self.len += 1;
        if let Some(place) = self.free.pop() {
            if let Some(free) = self.item_mut(place) {
                *free = Some(item);
            }
            return place;
        }
        if self.given.is_multiple_of(CHUNK_ITEMS) {
            self.chunks.push(Chunk::empty());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.items_mut().push(Some(item));
        }
        self.given += 1;
        Place::of(self.given - 1)
    }

    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        self.item_mut(place)?.as_mut()
    }

    pub fn remove(&mut self, place: Place) -> Option<T> {
        let item = self.item_mut(place)?.take();
        if item.is_some() {
            self.len -= 1;
            self.free.push(place);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_stay_and_freed_ones_are_used_again() {
        let mut slab = Slab::default();
        let places: Vec<Place> = (0..12 * CHUNK_ITEMS).map(|item| slab.insert(item)).collect();
        assert_eq!(slab.remove(places[1_500]), Some(1_500));
        assert_eq!((slab.get(places[1_500]), slab.len()), (None, 12 * CHUNK_ITEMS - 1));
        assert_eq!(slab.insert(7), places[1_500]);
        assert_eq!(slab.given(), 12 * CHUNK_ITEMS);
        assert!(slab.iter().all(|(place, item)| *item == 7 || places[*item] == place));
        assert_eq!(slab.nth(2_999), places[2_999]);
    }

    proptest! {
        #[test]
        fn what_is_frozen_stays_as_it_was(
            steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..3_000)
        ) {
            let (mut slab, mut expected) = (Slab::<String>::default(), BTreeMap::<Place, String>::new());
            let mut frozen: Vec<(Slab<String>, BTreeMap<Place, String>)> = Vec::new();
            for (number, (step, pick)) in steps.into_iter().enumerate() {
                let known = (!expected.is_empty()).then(|| *expected.keys().nth(pick.index(expected.len())).unwrap());
                match (step, known) {
                    (1, Some(place)) => {
                        slab.get_mut(place).unwrap().push('!');
                        expected.get_mut(&place).unwrap().push('!');
                    }
                    (2, Some(place)) => prop_assert_eq!(slab.remove(place), expected.remove(&place)),
                    (3, _) if number % 16 == 0 => {
                        frozen.truncate(pick.index(frozen.len() + 1));
                        frozen.push((slab.frozen(), expected.clone()));
                    }
                    _ => {
                        let place = slab.insert(number.to_string());
                        prop_assert_eq!(expected.insert(place, number.to_string()), None);
                    }
                }
            }
            frozen.push((slab, expected));
            for (slab, expected) in frozen {
                prop_assert_eq!(slab.len(), expected.len());
                prop_assert!(slab.iter().eq(expected.iter().map(|(place, item)| (*place, item))));
                prop_assert!(expected.iter().all(|(place, item)| slab.get(*place) == Some(item)));
            }
        }
    }

    #[test]
    fn what_is_frozen_and_gone_costs_no_copy() {
        let mut slab = Slab::default();
        let place = slab.insert(Arc::new(()));
        drop(slab.frozen());
        let before = Arc::clone(slab.get(place).unwrap());
        slab.get_mut(place).unwrap();
        assert_eq!(Arc::strong_count(&before), 2, "the slab's and this one");
        let frozen = slab.frozen();
        slab.get_mut(place).unwrap();
        assert_eq!(Arc::strong_count(&before), 3, "the frozen one's, too");
        drop(frozen);
        assert_eq!(Arc::strong_count(&before), 2);
    }
}
