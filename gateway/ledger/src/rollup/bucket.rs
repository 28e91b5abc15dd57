//! The rows of one minute, hour or day, by their axis: those that are stored, and in a day those that are made of them, so that
//! reports over months need not add them up each time. Minutes and hours hold few rows in all: a report walks over those that
//! are stored, and counting an entry costs no more for it.

use super::rows::{Axis, Grain, RowKey};
use super::table::{RowRef, Table};
use super::totals::Totals;

#[derive(Debug)]
pub(super) struct Bucket {
    /// By axis, in the order of their bytes.
    tables: Vec<Table>,
}

impl Bucket {
    pub fn new(grain: Grain) -> Bucket {
        let made = if grain == Grain::Day { Axis::MADE.len() } else { 0 };
        let mut tables = Vec::new();
        tables.resize_with(Axis::STORED.len() + made, Table::default);
        Bucket { tables }
    }

    pub fn of(&self, axis: Axis) -> impl Iterator<Item = RowRef<'_>> {
        self.tables.get(axis as usize).into_iter().flat_map(Table::iter)
    }

    pub fn get(&self, axis: Axis, key: &RowKey) -> Option<RowRef<'_>> {
        self.tables.get(axis as usize)?.get(key)
    }

    /// Adds to a row that is stored what is on disk already or is not, and to what is made of it. Whether the row is new.
    pub fn add(&mut self, axis: Axis, key: RowKey, totals: &Totals, is_saved: bool) -> bool {
        if let Some((made, key)) = made_of(axis, key)
            && let Some(table) = self.tables.get_mut(made as usize)
        {
            table.add(key, totals, true);
        }
        self.tables
            .get_mut(axis as usize)
            .is_some_and(|table| table.add(key, totals, is_saved))
    }

    /// The rows that are stored and not on disk as they are now.
    pub fn changed(&self) -> impl Iterator<Item = (Axis, RowRef<'_>)> {
        let tables = Axis::STORED.into_iter().zip(&self.tables);
        tables.flat_map(|(axis, table)| table.changed().map(move |row| (axis, row)))
    }

    pub fn saved(&mut self) {
        self.tables.iter_mut().for_each(Table::saved);
    }

    /// The rows that are stored.
    pub fn stored(&self) -> impl Iterator<Item = (Axis, RowRef<'_>)> {
        let tables = Axis::STORED.into_iter().zip(&self.tables);
        tables.flat_map(|(axis, table)| table.iter().map(move |row| (axis, row)))
    }

    pub fn stored_count(&self) -> usize {
        self.tables.iter().take(Axis::STORED.len()).map(Table::len).sum()
    }
}

/// The row that sums up all rows like this one. It repeats a name where it needs none.
fn made_of(axis: Axis, key: RowKey) -> Option<(Axis, RowKey)> {
    let RowKey { tenant, first, .. } = key;
    Some(match axis {
        Axis::Model => (Axis::ModelOfAll, RowKey { tenant: first, ..key }),
        Axis::User => (Axis::UserOfAll, RowKey { tenant: first, ..key }),
        Axis::Tag => (Axis::TagOfAll, RowKey { tenant: first, ..key }),
        Axis::Task => (Axis::TaskOfAll, RowKey { tenant: first, ..key }),
        Axis::Session => (Axis::Agent, RowKey { second: first, ..key }),
        Axis::Key => {
            let key = RowKey {
                tenant,
                first: tenant,
                second: tenant,
            };
            (Axis::Tenant, key)
        }
        Axis::ModelOfAll | Axis::UserOfAll | Axis::TagOfAll | Axis::TaskOfAll | Axis::Agent | Axis::Tenant => {
            return None;
        }
    })
}
