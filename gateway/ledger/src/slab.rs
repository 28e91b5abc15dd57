//! Items under small numbers that stay the same while the item lives; freed numbers are used again. Items lie in chunks, so
//! that a slab grows without copying what it has and without ever holding twice its size.

use std::num::NonZeroU32;

const CHUNK_ITEMS: usize = 1_024;

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

#[derive(Clone, Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    /// Numbers given so far, freed ones included.
    given: usize,
    free: Vec<Place>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            given: 0,
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub fn len(&self) -> usize {
        self.given - self.free.len()
    }

    /// Numbers given so far, freed ones included: where a walk with `nth` ends.
    pub fn given(&self) -> usize {
        self.given
    }

    /// The place of the number given as the `index`th, whether an item is there or not.
    pub fn nth(&self, index: usize) -> Place {
        Place::of(index)
    }

    fn item_mut(&mut self, place: Place) -> Option<&mut Option<T>> {
        let index = place.index();
        self.chunks.get_mut(index / CHUNK_ITEMS)?.get_mut(index % CHUNK_ITEMS)
    }

    pub fn insert(&mut self, item: T) -> Place {
        if let Some(place) = self.free.pop() {
            if let Some(free) = self.item_mut(place) {
                *free = Some(item);
            }
            return place;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_ITEMS) {
            self.chunks.push(Vec::with_capacity(CHUNK_ITEMS));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Some(item));
        }
        self.given += 1;
        Place::of(self.given - 1)
    }

    pub fn get(&self, place: Place) -> Option<&T> {
        let index = place.index();
        self.chunks.get(index / CHUNK_ITEMS)?.get(index % CHUNK_ITEMS)?.as_ref()
    }

    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        self.item_mut(place)?.as_mut()
    }

    pub fn remove(&mut self, place: Place) -> Option<T> {
        let item = self.item_mut(place)?.take();
        if item.is_some() {
            self.free.push(place);
        }
        item
    }

    pub fn iter(&self) -> impl Iterator<Item = (Place, &T)> {
        self.chunks
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, item)| Some((Place::of(index), item.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn numbers_stay_and_freed_ones_are_used_again() {
        let mut slab = Slab::default();
        let places: Vec<Place> = (0..3 * CHUNK_ITEMS).map(|item| slab.insert(item)).collect();
        assert_eq!(slab.remove(places[1_500]), Some(1_500));
        assert_eq!((slab.get(places[1_500]), slab.len()), (None, 3 * CHUNK_ITEMS - 1));
        assert_eq!(slab.insert(7), places[1_500]);
        assert_eq!(slab.given(), 3 * CHUNK_ITEMS);
        assert!(slab.iter().all(|(place, item)| *item == 7 || places[*item] == place));
        assert_eq!(slab.nth(2_999), places[2_999]);
    }
}
