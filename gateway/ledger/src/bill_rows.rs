//! The ids that were billed once, as rows of the state database: one a checkpoint, and one for each entry that a late result
//! may correct.

use std::collections::VecDeque;

use crate::bill_id::BillId;
use crate::billed::{Billed, EntryPlace, MONTHS_KNOWN, guesses_of, known_by};
use crate::event::{Event, HoldId};
use crate::journal::bytes::{Reader, put_i64, put_u64};
use crate::store::{Change, Month};

/// What rows of billed ids begin with in the state database,
pub(crate) const ROW_PREFIX: u8 = b'b';
/// and those of entries that may be corrected.
pub(crate) const GUESS_PREFIX: u8 = b'g';

#[derive(Debug, Default)]
pub(crate) struct BillRows {
    /// On disk in the journal, and in no row yet.
    fresh: Vec<BillId>,
    /// Entries that may be corrected, and those that no longer may: since the last checkpoint.
    guesses: Vec<(BillId, Option<EntryPlace>)>,
    /// Rows there are: the sequence they end with, and their time.
    rows: VecDeque<(u64, i64)>,
}

impl BillRows {
    /// The event is on disk; `held_ms`: when the hold was placed that it ends.
    pub fn committed(&mut self, sequence: u64, event: &Event, held_ms: Option<i64>) {
        self.fresh.extend(known_by(event));
        match event {
            Event::Settled(settled) => {
                let guesses = guesses_of(sequence, settled, held_ms.unwrap_or(settled.at_ms));
                self.guesses.extend(guesses.map(|(bill, place)| (bill, Some(place))));
            }
            Event::Adjusted(adjusted) => self.guesses.extend(adjusted.bill.map(|bill| (bill, None))),
            _ => {}
        }
    }

    /// A row as it was read back. `None`: it is broken.
    pub fn load(&mut self, key: &[u8], value: &[u8], billed: &mut Billed) -> Option<()> {
        let (prefix, key) = key.split_first()?;
        if *prefix == GUESS_PREFIX {
            let mut reader = Reader::new(value);
            let place = EntryPlace {
                held: HoldId(reader.u64()?),
                held_ms: reader.i64()?,
                settled: reader.u64()?,
                settled_ms: reader.i64()?,
            };
            billed.guess(BillId(key.try_into().ok()?), place);
            return Some(());
        }
        let sequence = u64::from_be_bytes(key.try_into().ok()?);
        let (at_ms, value) = value.split_first_chunk::<8>()?;
        let at_ms = i64::from_be_bytes(*at_ms);
        let mut ids = Vec::with_capacity(value.len() / 16);
        for id in value.chunks(16) {
            ids.push(BillId(id.try_into().ok()?));
        }
        billed.add(at_ms, &ids);
        self.rows.push_back((sequence, at_ms));
        Some(())
    }

    /// What a checkpoint at `sequence` changes: one row for what is new, and none any more for what is old.
    pub fn changes(&self, sequence: u64, at_ms: i64) -> Vec<Change> {
        let old = self.old(at_ms);
        let mut changes: Vec<Change> = old.map(|(row, _)| Change::Remove(row_key(*row))).collect();
        if !self.fresh.is_empty() {
            let mut value = Vec::with_capacity(8 + self.fresh.len() * 16);
            value.extend_from_slice(&at_ms.to_be_bytes());
            for id in &self.fresh {
                value.extend_from_slice(&id.0);
            }
            changes.push(Change::Put(row_key(sequence), value));
        }
        for (bill, place) in &self.guesses {
            let mut key = vec![GUESS_PREFIX];
            key.extend_from_slice(&bill.0);
            changes.push(match place {
                None => Change::Remove(key),
                Some(place) => {
                    let mut value = Vec::with_capacity(32);
                    put_u64(&mut value, place.held.0);
                    put_i64(&mut value, place.held_ms);
                    put_u64(&mut value, place.settled);
                    put_i64(&mut value, place.settled_ms);
                    Change::Put(key, value)
                }
            });
        }
        changes
    }

    /// They are on disk.
    pub fn saved(&mut self, sequence: u64, at_ms: i64) {
        let old = self.old(at_ms).count();
        self.rows.drain(..old);
        if !std::mem::take(&mut self.fresh).is_empty() {
            self.rows.push_back((sequence, at_ms));
        }
        self.guesses = Vec::new();
    }

    fn old(&self, at_ms: i64) -> impl Iterator<Item = &(u64, i64)> {
        let first_ms = Month::of_ms(at_ms).back(MONTHS_KNOWN - 1).start_ms();
        self.rows.iter().take_while(move |(_, row_ms)| *row_ms < first_ms)
    }
}

fn row_key(sequence: u64) -> Vec<u8> {
    let mut key = vec![ROW_PREFIX];
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn id(number: u64) -> BillId {
        BillId::of(&["p", &number.to_string()])
    }

    #[test]
    fn rows_bring_back_what_they_were_made_of() {
        let place = EntryPlace {
            held: HoldId(3),
            held_ms: 4,
            settled: 5,
            settled_ms: 40 * DAY_MS,
        };
        let mut rows = BillRows {
            fresh: vec![id(1), id(2)],
            guesses: vec![(id(1), Some(place))],
            ..BillRows::default()
        };
        let changes = rows.changes(7, 40 * DAY_MS);
        assert_eq!(
            rows.changes(7, 40 * DAY_MS),
            changes,
            "nothing is forgotten before it is on disk"
        );
        rows.saved(7, 40 * DAY_MS);
        assert!(rows.changes(8, 40 * DAY_MS).is_empty());
        let [Change::Put(key, value), Change::Put(guess, at)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let (mut billed, mut again) = (Billed::default(), BillRows::default());
        again.load(key, value, &mut billed).unwrap();
        again.load(guess, at, &mut billed).unwrap();
        assert!(billed.contains(&id(1)) && billed.contains(&id(2)) && !billed.contains(&id(3)));
        assert_eq!(billed.place(&id(1)), Some(place));
        assert!(again.changes(8, 45 * DAY_MS).is_empty());
        assert_eq!(again.changes(9, 900 * DAY_MS), [Change::Remove(key.clone())]);
        assert!(again.load(key, &value[..20], &mut billed).is_none());
    }
}
