//! Where entries stand in the journal that were imported, or entered late: long after the time they belong to. By hours of the journal, so that a query
//! for some stretch of time reads those hours alone that bear entries of it. A row of the state database each.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Event;
use crate::journal::bytes::{Reader, put_i64, put_u64};
use crate::store::Change;

/// What rows begin with in the state database.
pub(crate) const ROW_PREFIX: u8 = b'i';
const HOUR_MS: i64 = 60 * 60 * 1_000;

/// Such entries of one hour of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImportPlace {
    /// When the first of their events was decided.
    pub at_ms: i64,
    pub first_sequence: u64,
    pub last_sequence: u64,
    /// The times of the first and the last of these entries.
    pub from_ms: i64,
    pub to_ms: i64,
}

#[derive(Debug, Default)]
pub(crate) struct ImportPlaces {
    /// By the sequence of their first event.
    places: BTreeMap<u64, ImportPlace>,
    /// In no row yet, or changed since.
    fresh: BTreeSet<u64>,
}

impl ImportPlaces {
    pub fn committed(&mut self, sequence: u64, event: &Event) {
        let (at_ms, last_sequence, from_ms, to_ms) = match event {
            Event::Imported(imported) => {
                let times = || imported.entries.iter().map(|entry| entry.facts.at_ms);
                let (Some(from_ms), Some(to_ms)) = (times().min(), times().max()) else {
                    return;
                };
                (imported.at_ms, sequence, from_ms, to_ms)
            }
            // It is settled by the next event: both are one record.
            Event::Held(held) if held.is_late() => (held.at_ms, sequence + 1, held.facts.at_ms, held.facts.at_ms),
            _ => return,
        };
        let hour = |at_ms: i64| at_ms.div_euclid(HOUR_MS);
        let last = self.places.last_key_value();
        let last = last.filter(|(_, place)| hour(place.at_ms) == hour(at_ms));
        let first_sequence = last.map_or(sequence, |(first, _)| *first);
        let place = self.places.entry(first_sequence).or_insert(ImportPlace {
            at_ms,
            first_sequence,
            last_sequence,
            from_ms,
            to_ms,
        });
        place.last_sequence = last_sequence;
        (place.from_ms, place.to_ms) = (place.from_ms.min(from_ms), place.to_ms.max(to_ms));
        self.fresh.insert(place.first_sequence);
    }

    /// Those that bear entries of `from_ms..to_ms`, in the order of the journal.
    pub fn within(&self, from_ms: i64, to_ms: i64) -> Vec<ImportPlace> {
        let places = self.places.values();
        places
            .filter(|place| place.from_ms < to_ms && place.to_ms >= from_ms)
            .copied()
            .collect()
    }

    /// What a checkpoint writes.
    pub fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        let fresh = self.fresh.iter().filter_map(|first| self.places.get(first));
        fresh.map(|place| {
            let mut key = vec![ROW_PREFIX];
            key.extend_from_slice(&place.first_sequence.to_be_bytes());
            let mut value = Vec::with_capacity(32);
            put_i64(&mut value, place.at_ms);
            put_u64(&mut value, place.last_sequence);
            put_i64(&mut value, place.from_ms);
            put_i64(&mut value, place.to_ms);
            Change::Put(key, value)
        })
    }

    /// It is on disk.
    pub fn saved(&mut self) {
        self.fresh.clear();
    }

    /// A row as it was read back, its key without the prefix. `None`: it is broken.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let first_sequence = u64::from_be_bytes(key.try_into().ok()?);
        let mut reader = Reader::new(value);
        let place = ImportPlace {
            at_ms: reader.i64()?,
            first_sequence,
            last_sequence: reader.u64()?,
            from_ms: reader.i64()?,
            to_ms: reader.i64()?,
        };
        self.places.insert(first_sequence, place);
        Some(())
    }
}
