//! Rows in one piece of memory, in the order in which they came: a walk over a hundred thousand of them reads what lies side by
//! side, their names and costs first, and where more is wanted their other sums, packed.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::packed::{add_packed, pack};
use super::rows::RowKey;
use super::totals::Totals;
use crate::index::Index;
use crate::journal::bytes::Reader;
use crate::money::Usd;
use crate::slab::Place;

/// Bytes that may be left unused, beside a quarter of all.
const UNUSED_MIN: usize = 256;
/// What nearly every row's packed sums fit in.
const PACKED_BYTES: usize = 64;

const ROOM_MIN: usize = 4;

/// Grows by a quarter and not to twice the size: most tables are days of the past, which stay as large as they are.
fn make_room<T>(items: &mut Vec<T>, more: usize) {
    if items.capacity() - items.len() < more {
        items.reserve_exact(more.max(ROOM_MIN).max(items.len() / 4));
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    /// The rows' sums without their cost. One that has grown lies at the end, and its old bytes are left unused.
    packed: Vec<u8>,
    unused: usize,
    index: Index<1>,
    /// Which rows have changed since they were last written down, a bit each.
    changed: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    key: RowKey,
    /// Where its packed sums begin.
    at: u32,
    cost: Usd,
}

/// A row as a walk meets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowRef<'a> {
    pub key: RowKey,
    pub cost: Usd,
    at: u32,
    packed: &'a [u8],
}

impl RowRef<'_> {
    /// Adds this row to `sums`, and says how many bytes it takes.
    pub fn add_to(&self, sums: &mut Totals) -> usize {
        let packed = self.packed.get(self.at as usize..).unwrap_or_default();
        let mut reader = Reader::new(packed);
        add_packed(self.cost, &mut reader, sums).unwrap_or_default();
        packed.len() - reader.left()
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.add_to(&mut totals);
        totals
    }
}

fn hash_in(rows: &[Row]) -> impl Fn(&RandomState, Place) -> u64 + '_ {
    |hasher, place| rows.get(place.number()).map_or(0, |row| hasher.hash_one(row.key))
}

impl Table {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        self.rows.iter().map(|row| self.row(row))
    }

    fn row(&self, row: &Row) -> RowRef<'_> {
        RowRef {
            key: row.key,
            cost: row.cost,
            at: row.at,
            packed: &self.packed,
        }
    }

    fn find(&self, key: &RowKey) -> Option<usize> {
        let is_it = |place: Place| self.rows.get(place.number()).is_some_and(|row| row.key == *key);
        Some(self.index.find(self.index.hash(key), is_it)?.number())
    }

    pub fn get(&self, key: &RowKey) -> Option<RowRef<'_>> {
        self.rows.get(self.find(key)?).map(|row| self.row(row))
    }

    pub fn changed(&self) -> impl Iterator<Item = RowRef<'_>> {
        let words = (0..).step_by(64).zip(&self.changed).filter(|(_, bits)| **bits != 0);
        let places = words.flat_map(|(first, bits)| {
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| first + bit)
        });
        places
            .filter_map(|place: usize| self.rows.get(place))
            .map(|row| self.row(row))
    }

    /// They are on disk as they are now.
    pub fn saved(&mut self) {
        self.changed = Vec::new();
    }

    /// Adds to a row. Whether it is new.
    pub fn add(&mut self, key: RowKey, totals: &Totals, is_saved: bool) -> bool {
        let found = self.find(&key);
        let place = found.unwrap_or(self.rows.len());
        match found {
            Some(place) => self.add_at(place, totals),
            None => self.insert(key, totals),
        }
        if !is_saved {
            self.note_change(place);
        }
        found.is_none()
    }

    fn note_change(&mut self, place: usize) {
        if self.changed.len() <= place / 64 {
            self.changed.resize(place / 64 + 1, 0);
        }
        if let Some(bits) = self.changed.get_mut(place / 64) {
            *bits |= 1 << (place % 64);
        }
    }

    fn insert(&mut self, key: RowKey, totals: &Totals) {
        let at = u32::try_from(self.packed.len()).unwrap_or(u32::MAX);
        make_room(&mut self.packed, PACKED_BYTES);
        pack(totals, &mut self.packed);
        let place = Place::of(self.rows.len());
        make_room(&mut self.rows, 1);
        self.rows.push(Row {
            key,
            at,
            cost: totals.cost,
        });
        let hash = self.index.hash(&key);
        self.index.insert(hash, place, hash_in(&self.rows));
    }

    fn add_at(&mut self, place: usize, totals: &Totals) {
        let Some(row) = self.rows.get(place).map(|row| self.row(row)) else {
            return;
        };
        let (mut sums, at) = (Totals::default(), row.at as usize);
        let taken = row.add_to(&mut sums);
        sums.add(totals);
        let end = self.packed.len();
        make_room(&mut self.packed, PACKED_BYTES);
        pack(&sums, &mut self.packed);
        let takes = self.packed.len() - end;
        let at = if takes <= taken {
            self.packed.copy_within(end.., at);
            self.packed.truncate(end);
            self.unused += taken - takes;
            at
        } else {
            self.unused += taken;
            end
        };
        if let Some(row) = self.rows.get_mut(place) {
            (row.at, row.cost) = (u32::try_from(at).unwrap_or(u32::MAX), sums.cost);
        }
        if self.unused > UNUSED_MIN + self.packed.len() / 4 {
            self.settle();
        }
    }

    /// Gives back the bytes that are not used, and puts the others into the order of the rows.
    fn settle(&mut self) {
        let mut packed = Vec::with_capacity(self.packed.len() - self.unused);
        for row in &mut self.rows {
            let old = self.packed.get(row.at as usize..).unwrap_or_default();
            let mut reader = Reader::new(old);
            add_packed(Usd::ZERO, &mut reader, &mut Totals::default()).unwrap_or_default();
            row.at = u32::try_from(packed.len()).unwrap_or(u32::MAX);
            packed.extend_from_slice(old.get(..old.len() - reader.left()).unwrap_or_default());
        }
        self.packed = packed;
        self.unused = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::usage::Kind;
    use proptest::prelude::*;

    fn key(number: usize) -> RowKey {
        let name = Place::of(number);
        RowKey {
            tenant: name,
            first: name,
            second: Place::of(number % 7),
        }
    }

    proptest! {
        #[test]
        fn rows_are_what_was_added(
            added in prop::collection::vec((0usize..40, -9i64..1 << 40, 0u32..60, 0i64..1_000, any::<bool>()), 1..600)
        ) {
            let (mut table, mut expected) = (Table::default(), BTreeMap::<usize, Totals>::new());
            for (name, nanos, bits, at_ms, is_settled) in added {
                let mut totals = Totals { requests: 1, cost: Usd::from_nanos(nanos), first_ms: at_ms, last_ms: at_ms, ..Totals::default() };
                totals.usage.set(Kind::ALL[bits as usize % Kind::COUNT], 1 << bits);
                prop_assert_eq!(table.add(key(name), &totals, name % 3 != 0), !expected.contains_key(&name));
                expected.entry(name).or_default().add(&totals);
                if is_settled && name == 0 {
                    table.settle();
                    prop_assert_eq!(table.unused, 0);
                }
                prop_assert!(table.unused <= UNUSED_MIN + table.packed.len() / 4);
            }
            prop_assert_eq!(table.len(), expected.len());
            prop_assert!(table.changed().map(|row| row.key).eq(table.iter().map(|row| row.key).filter(|key| key.tenant.number() % 3 == 0)));
            table.saved();
            prop_assert_eq!(table.changed().count(), 0);
            prop_assert!(table.get(&key(40)).is_none());
            for row in table.iter() {
                prop_assert_eq!(row.totals(), expected[&row.key.tenant.number()]);
            }
            for (name, totals) in expected {
                prop_assert_eq!(table.get(&key(name)).unwrap().totals(), totals);
            }
        }
    }
}
