//! What is billed once, however often it is fetched: a response that ran in the background, a batch's results. Each settled
//! event bears the ids that were billed with it; those of the running month and the one before are known by heart, since
//! providers keep a result for a month at most.

use std::collections::{HashSet, VecDeque};

use crate::entry::Outcome;
use crate::event::{Event, Settled};
use crate::store::{Change, Month};

/// Ids known of one month. Beyond it a result fetched again is billed again: 16 bytes each are memory.
pub const BILLS_MAX: usize = 4_000_000;
/// What rows of billed ids begin with in the state database.
pub(crate) const ROW_PREFIX: u8 = b'b';

/// A result, by a hash of whose it is and its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BillId(pub [u8; 16]);

impl BillId {
    /// Of its names in order: ("openai", "resp_1") is another id than ("openaires", "p_1").
    pub fn of(names: &[&str]) -> BillId {
        let mut hasher = blake3::Hasher::new();
        for name in names {
            hasher.update(&(name.len() as u64).to_be_bytes());
            hasher.update(name.as_bytes());
        }
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        BillId(id)
    }

    /// Known of a bill that was taken at what was held for it.
    pub(crate) fn guessed(self) -> BillId {
        self.also("agentledger: billed as held")
    }

    /// Known of such a bill once its entry is corrected.
    pub(crate) fn corrected(self) -> BillId {
        self.also("agentledger: corrected since")
    }

    fn also(self, what: &str) -> BillId {
        let mut hasher = blake3::Hasher::new_derive_key(what);
        hasher.update(&self.0);
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        BillId(id)
    }
}

/// What an event makes known. Of an entry that nobody could know better than its hold, that too: a result that is fetched
/// after it corrects it.
pub(crate) fn known_by(event: &Event) -> Vec<BillId> {
    match event {
        Event::Settled(settled) => known_by_settled(settled),
        Event::Adjusted(adjusted) => adjusted.bill.map(BillId::corrected).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn known_by_settled(settled: &Settled) -> Vec<BillId> {
    let mut ids = settled.bills.clone();
    if settled.settlement.outcome == Outcome::Recovered {
        ids.extend(settled.bills.iter().map(|bill| bill.guessed()));
    }
    ids
}

/// The ids billed in the running month and the one before.
#[derive(Debug)]
pub(crate) struct Billed {
    month: Month,
    current: HashSet<BillId>,
    previous: HashSet<BillId>,
}

impl Default for Billed {
    fn default() -> Billed {
        Billed {
            month: Month::of_ms(0),
            current: HashSet::new(),
            previous: HashSet::new(),
        }
    }
}

impl Billed {
    pub fn contains(&self, bill: &BillId) -> bool {
        self.current.contains(bill) || self.previous.contains(bill)
    }

    /// A hold has ended.
    pub fn settled(&mut self, settled: &Settled) {
        self.add(settled.at_ms, &known_by_settled(settled));
    }

    /// Billed at what was held, and not corrected since.
    pub fn is_guessed(&self, bill: &BillId) -> bool {
        self.contains(&bill.guessed()) && !self.contains(&bill.corrected())
    }

    /// Times come in their order.
    pub fn add(&mut self, at_ms: i64, bills: &[BillId]) {
        if bills.is_empty() {
            return;
        }
        let month = Month::of_ms(at_ms);
        if month > self.month {
            let follows = self.month.next() == month;
            self.previous = std::mem::take(&mut self.current);
            if !follows {
                self.previous = HashSet::new();
            }
            self.month = month;
        }
        let room = BILLS_MAX.saturating_sub(self.current.len());
        if room < bills.len() {
            tracing::warn!(
                max = BILLS_MAX,
                "too many ids billed once: results fetched again may be billed again"
            );
        }
        self.current.extend(bills.iter().take(room));
    }
}

/// The ids as rows of the state database: one a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct BillRows {
    /// On disk in the journal, and in no row yet.
    fresh: Vec<BillId>,
    /// Rows there are: the sequence they end with, and their time.
    rows: VecDeque<(u64, i64)>,
}

impl BillRows {
    /// The event is on disk.
    pub fn committed(&mut self, event: &Event) {
        self.fresh.extend(known_by(event));
    }

    /// A row as it was read back, `key` without its prefix. `None`: it is broken.
    pub fn load(&mut self, key: &[u8], value: &[u8], billed: &mut Billed) -> Option<()> {
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
    pub fn take_changes(&mut self, sequence: u64, at_ms: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        let first_ms = Month::of_ms(at_ms).back(1).start_ms();
        while let Some((old, _)) = self.rows.front().filter(|(_, row_ms)| *row_ms < first_ms).copied() {
            changes.push(Change::Remove(row_key(old)));
            self.rows.pop_front();
        }
        if !self.fresh.is_empty() {
            let mut value = Vec::with_capacity(8 + self.fresh.len() * 16);
            value.extend_from_slice(&at_ms.to_be_bytes());
            for id in std::mem::take(&mut self.fresh) {
                value.extend_from_slice(&id.0);
            }
            changes.push(Change::Put(row_key(sequence), value));
            self.rows.push_back((sequence, at_ms));
        }
        changes
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
    fn names_are_told_apart_by_where_they_end() {
        assert_eq!(BillId::of(&["a", "bc"]), BillId::of(&["a", "bc"]));
        assert_ne!(BillId::of(&["a", "bc"]), BillId::of(&["ab", "c"]));
        assert_ne!(BillId::of(&["abc"]), BillId::of(&["abc", ""]));
    }

    #[test]
    fn ids_are_known_for_this_month_and_the_last() {
        let mut billed = Billed::default();
        billed.add(5 * DAY_MS, &[id(1)]);
        billed.add(35 * DAY_MS, &[id(2)]);
        assert!(billed.contains(&id(1)) && billed.contains(&id(2)));
        billed.add(65 * DAY_MS, &[id(3)]);
        assert!(!billed.contains(&id(1)) && billed.contains(&id(2)));
        billed.add(200 * DAY_MS, &[id(4)]);
        assert!(!billed.contains(&id(3)) && billed.contains(&id(4)));
    }

    #[test]
    fn rows_bring_back_what_they_were_made_of() {
        let mut rows = BillRows {
            fresh: vec![id(1), id(2)],
            ..BillRows::default()
        };
        let changes = rows.take_changes(7, 40 * DAY_MS);
        let [Change::Put(key, value)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let (mut billed, mut again) = (Billed::default(), BillRows::default());
        again.load(&key[1..], value, &mut billed).unwrap();
        assert!(billed.contains(&id(1)) && billed.contains(&id(2)) && !billed.contains(&id(3)));
        assert!(again.take_changes(8, 45 * DAY_MS).is_empty());
        assert_eq!(again.take_changes(9, 100 * DAY_MS), [Change::Remove(key.clone())]);
        assert!(again.load(&key[1..], &value[..20], &mut billed).is_none());
    }
}
