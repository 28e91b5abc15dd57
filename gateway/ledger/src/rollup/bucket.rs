//! The rows of one minute, hour or day: those that are stored, by their axis, and sums of them that reports would otherwise add
//! up row by row each time.

use super::packed::Sums;
use super::rows::{Axis, RowKey};
use super::totals::Totals;
use crate::map::Map;

const AXES: usize = Axis::STORED.len() + Axis::MADE.len();

#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// By axis, in the order of their bytes.
    rows: [Map<RowKey, Sums>; AXES],
}

impl Bucket {
    pub fn of(&self, axis: Axis) -> impl Iterator<Item = (&RowKey, &Sums)> {
        self.rows.get(axis as usize).into_iter().flatten()
    }

    pub fn get(&self, key: &RowKey) -> Option<&Sums> {
        self.rows.get(key.axis as usize)?.get(key)
    }

    /// Adds to a row, and to those that are made of it. Whether the row is new.
    pub fn add(&mut self, key: RowKey, totals: &Totals, is_busy: bool) -> bool {
        if let Some(made) = made_of(&key) {
            self.add_one(made, totals, is_busy);
        }
        self.add_one(key, totals, is_busy)
    }

    /// Adds to one row alone: for whoever brings those that are made of it, too.
    pub fn add_one(&mut self, key: RowKey, totals: &Totals, is_busy: bool) -> bool {
        let Some(rows) = self.rows.get_mut(key.axis as usize) else {
            return false;
        };
        if let Some(row) = rows.get_mut(&key) {
            row.add(totals, is_busy);
            return false;
        }
        rows.insert(key, Sums::of(totals));
        true
    }

    /// Takes a row out. What is made of it is right again after `make`.
    pub fn remove(&mut self, key: &RowKey) -> Option<Sums> {
        self.rows.get_mut(key.axis as usize)?.remove(key)
    }

    /// Makes anew what is made of others.
    pub fn make(&mut self) {
        for axis in Axis::MADE {
            if let Some(rows) = self.rows.get_mut(axis as usize) {
                rows.clear();
            }
        }
        let stored: Vec<(RowKey, Totals)> = self
            .stored()
            .filter_map(|(key, sums)| Some((made_of(key)?, sums.totals())))
            .collect();
        for (made, totals) in stored {
            self.add_one(made, &totals, false);
        }
    }

    /// The rows that are stored.
    pub fn stored(&self) -> impl Iterator<Item = (&RowKey, &Sums)> {
        self.rows.iter().take(Axis::STORED.len()).flatten()
    }

    /// All rows, those that are made of others, too.
    pub fn into_rows(self) -> impl Iterator<Item = (RowKey, Sums)> {
        self.rows.into_iter().flatten()
    }

    pub fn stored_count(&self) -> usize {
        self.rows.iter().take(Axis::STORED.len()).map(Map::len).sum()
    }
}

/// The row that sums up all rows like this one. It repeats a name where it needs none.
fn made_of(key: &RowKey) -> Option<RowKey> {
    let RowKey { tenant, first, .. } = *key;
    let (axis, first) = match key.axis {
        Axis::Model => (Axis::Provider, first),
        Axis::Session => (Axis::Agent, first),
        Axis::Key => (Axis::Tenant, tenant),
        _ => return None,
    };
    Some(RowKey {
        tenant,
        first,
        second: first,
        axis,
    })
}
