//! Rows in one piece of memory, in the order in which they came: a walk over a hundred thousand of them reads what lies side by
//! side, their names and costs first, and where more is wanted their other sums, packed.
//!
//! Packing is most of what counting an entry costs, and nearly every entry is counted on the same few rows: its model, its tenant,
//! nobody's task. So what a few rows were added lately stays beside them unpacked, and is packed once for many entries.

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

/// Rows of a table that are open at a time.
const OPEN_MAX: usize = 16;
/// Set in a row's place of its packed sums while it is open.
const IS_OPEN: u32 = 1 << 31;

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
    /// By the number of their row: what is to be added to its packed sums. Its cost stands in the row already.
    open: Vec<(u32, Totals)>,
    /// Which of them is closed next, where there is no room for one more.
    closes_next: usize,
    index: Index<1>,
    /// Which rows have changed since they were last written down, a bit each.
    changed: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    key: RowKey,
    /// Where its packed sums begin, and [`IS_OPEN`].
    at: u32,
    cost: Usd,
}

impl Row {
    fn at(&self) -> usize {
        (self.at & !IS_OPEN) as usize
    }

    fn is_open(&self) -> bool {
        self.at & IS_OPEN != 0
    }

    /// Has its packed sums there from now on. Whether it is open stays as it was.
    fn set_at(&mut self, at: usize) {
        let at = u32::try_from(at).unwrap_or(u32::MAX) & !IS_OPEN;
        self.at = (self.at & IS_OPEN) | at;
    }
}

/// A row as a walk meets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowRef<'a> {
    pub key: RowKey,
    pub cost: Usd,
    at: usize,
    packed: &'a [u8],
    open: Option<&'a Totals>,
}

impl RowRef<'_> {
    /// Adds this row to `sums`.
    pub fn add_to(&self, sums: &mut Totals) {
        let packed = self.packed.get(self.at..).unwrap_or_default();
        add_packed(self.cost, &mut Reader::new(packed), sums).unwrap_or_default();
        if let Some(open) = self.open {
            sums.add(open);
        }
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
        (0..self.rows.len()).filter_map(|place| self.row(place))
    }

    fn row(&self, place: usize) -> Option<RowRef<'_>> {
        let row = self.rows.get(place)?;
        Some(RowRef {
            key: row.key,
            cost: row.cost,
            at: row.at(),
            packed: &self.packed,
            open: row.is_open().then(|| self.open_of(place)).flatten(),
        })
    }

    fn open_of(&self, place: usize) -> Option<&Totals> {
        let mut open = self.open.iter();
        open.find(|(of, _)| *of as usize == place).map(|(_, totals)| totals)
    }

    fn find(&self, key: &RowKey) -> Option<usize> {
        let is_it = |place: Place| self.rows.get(place.number()).is_some_and(|row| row.key == *key);
        Some(self.index.find(self.index.hash(key), is_it)?.number())
    }

    pub fn get(&self, key: &RowKey) -> Option<RowRef<'_>> {
        self.row(self.find(key)?)
    }

    pub fn changed(&self) -> impl Iterator<Item = RowRef<'_>> {
        let words = (0..).step_by(64).zip(&self.changed).filter(|(_, bits)| **bits != 0);
        let places = words.flat_map(|(first, bits)| {
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| first + bit)
        });
        places.filter_map(|place: usize| self.row(place))
    }

    /// They are on disk as they are now.
    pub fn saved(&mut self) {
        self.changed = Vec::new();
        // No more may come for this minute: nothing is kept for it.
        while let Some((place, totals)) = self.open.pop() {
            self.close(place, &totals);
        }
        self.open = Vec::new();
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
            at: at & !IS_OPEN,
            cost: totals.cost,
        });
        let hash = self.index.hash(&key);
        self.index.insert(hash, place, hash_in(&self.rows));
    }

    /// What is added to a row that is there stays beside it, unpacked.
    fn add_at(&mut self, place: usize, totals: &Totals) {
        let Some(row) = self.rows.get_mut(place) else {
            return;
        };
        let is_open = row.is_open();
        row.cost = row.cost.saturating_add(totals.cost);
        row.at |= IS_OPEN;
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let rest = Totals {
            cost: Usd::ZERO,
            ..*totals
        };
        if is_open && let Some((_, open)) = self.open.iter_mut().find(|(of, _)| *of == place) {
            return open.add(&rest);
        }
        if self.open.len() < OPEN_MAX {
            return self.open.push((place, rest));
        }
        self.closes_next = (self.closes_next + 1) % OPEN_MAX;
        if let Some(open) = self.open.get_mut(self.closes_next) {
            let (closed, totals) = std::mem::replace(open, (place, rest));
            self.close(closed, &totals);
        }
    }

    /// Packs what an open row was added, with what it had.
    fn close(&mut self, place: u32, totals: &Totals) {
        let Some(row) = self.rows.get_mut(place as usize) else {
            return;
        };
        row.at &= !IS_OPEN;
        let (mut sums, at) = (Totals::default(), row.at());
        let old = self.packed.get(at..).unwrap_or_default();
        let mut reader = Reader::new(old);
        add_packed(Usd::ZERO, &mut reader, &mut sums).unwrap_or_default();
        let taken = old.len() - reader.left();
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
        row.set_at(at);
        if self.unused > UNUSED_MIN + self.packed.len() / 4 {
            self.settle();
        }
    }

    /// Gives back the bytes that are not used, and puts the others into the order of the rows.
    fn settle(&mut self) {
        let mut packed = Vec::with_capacity(self.packed.len() - self.unused);
        for row in &mut self.rows {
            let old = self.packed.get(row.at()..).unwrap_or_default();
            let mut reader = Reader::new(old);
            add_packed(Usd::ZERO, &mut reader, &mut Totals::default()).unwrap_or_default();
            row.set_at(packed.len());
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
                prop_assert!(table.open.len() <= OPEN_MAX);
                prop_assert_eq!(table.get(&key(name)).unwrap().totals(), expected[&name]);
                prop_assert_eq!(table.get(&key(name)).unwrap().cost, expected[&name].cost);
            }
            for row in table.iter() {
                prop_assert_eq!(row.totals(), expected[&row.key.tenant.number()]);
            }
            prop_assert_eq!(table.len(), expected.len());
            prop_assert!(table.changed().map(|row| row.key).eq(table.iter().map(|row| row.key).filter(|key| key.tenant.number() % 3 == 0)));
            table.saved();
            prop_assert_eq!(table.changed().count(), 0);
            prop_assert_eq!((table.open.capacity(), table.rows.iter().any(Row::is_open)), (0, false));
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
