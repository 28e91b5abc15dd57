//! What is billed once, however often it is fetched: a response that ran in the background, a batch's results. Each settled
//! event bears the ids that were billed with it; those of a year are known by heart.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::bill_id::BillId;
use crate::entry::Outcome;
use crate::event::{Event, HoldId, Settled};
use crate::store::Month;

/// Ids known of one month. Beyond it a result fetched again is billed again.
pub const BILLS_MAX: usize = 4_000_000;
/// Months whose ids are known, the running one included: providers keep results for weeks, some for as long as one pays.
pub const MONTHS_KNOWN: u32 = 13;

/// Where an entry stands in the journal: its hold's event and the one that settled it, each with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryPlace {
    pub held: HoldId,
    pub held_ms: i64,
    pub settled: u64,
    pub settled_ms: i64,
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
    if is_guess(settled) {
        ids.extend(settled.bills.iter().map(|bill| bill.guessed()));
    }
    // Only what is entered when it is fetched holds nothing at all, not even its one request.
    if settled.held.is_zero() {
        ids.extend(settled.bills.iter().map(|bill| bill.entered()));
    }
    ids
}

/// The bills whose entry a late result may correct, and where it stands.
pub(crate) fn guesses_of(
    sequence: u64,
    settled: &Settled,
    held_ms: i64,
) -> impl Iterator<Item = (BillId, EntryPlace)> + '_ {
    let place = EntryPlace {
        held: settled.hold,
        held_ms,
        settled: sequence,
        settled_ms: settled.at_ms,
    };
    let bills = settled.bills.iter().filter(|_| is_guess(settled));
    bills.map(move |bill| (*bill, place))
}

/// Nobody knew better than the hold.
fn is_guess(settled: &Settled) -> bool {
    settled.settlement.outcome == Outcome::Recovered && !settled.bills.is_empty()
}

/// The ids billed in the months that are known.
#[derive(Debug)]
pub(crate) struct Billed {
    month: Month,
    current: HashSet<BillId>,
    /// The months before, the newest first: the beginnings of their ids, ascending.
    past: VecDeque<(Month, Box<[u64]>)>,
    /// Where the entries stand that a late result may correct.
    guesses: HashMap<BillId, EntryPlace>,
}

impl Default for Billed {
    fn default() -> Billed {
        Billed {
            month: Month::of_ms(0),
            current: HashSet::new(),
            past: VecDeque::new(),
            guesses: HashMap::new(),
        }
    }
}

impl Billed {
    pub fn contains(&self, bill: &BillId) -> bool {
        let prefix = bill.prefix();
        self.current.contains(bill) || self.past.iter().any(|(_, ids)| ids.binary_search(&prefix).is_ok())
    }

    /// It was entered when its result was fetched: a hold of the same work has nothing left to bill.
    pub fn is_entered(&self, bill: &BillId) -> bool {
        self.contains(&bill.entered())
    }

    /// Billed at what was held, and not corrected since.
    pub fn is_guessed(&self, bill: &BillId) -> bool {
        self.contains(&bill.guessed()) && !self.contains(&bill.corrected())
    }

    /// Where the entry of a guessed bill stands, as far as that is known.
    pub fn place(&self, bill: &BillId) -> Option<EntryPlace> {
        self.guesses.get(bill).copied()
    }

    /// A hold has ended by the event with this sequence; `held_ms`: when it was placed.
    pub fn settled(&mut self, sequence: u64, settled: &Settled, held_ms: i64) {
        self.add(settled.at_ms, &known_by_settled(settled));
        for (bill, place) in guesses_of(sequence, settled, held_ms) {
            self.guess(bill, place);
        }
    }

    pub fn guess(&mut self, bill: BillId, place: EntryPlace) {
        if self.guesses.len() < BILLS_MAX {
            self.guesses.insert(bill, place);
        }
    }

    /// The entry of a guessed bill was corrected.
    pub fn corrected(&mut self, at_ms: i64, bill: &BillId) {
        self.add(at_ms, &[bill.corrected()]);
        self.guesses.remove(bill);
    }

    /// Times come in their order; one set back counts to the running month.
    pub fn add(&mut self, at_ms: i64, bills: &[BillId]) {
        if bills.is_empty() {
            return;
        }
        let month = Month::of_ms(at_ms);
        if month > self.month {
            self.turn(month);
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

    fn turn(&mut self, month: Month) {
        let mut ids: Vec<u64> = self.current.drain().map(BillId::prefix).collect();
        ids.sort_unstable();
        if !ids.is_empty() {
            self.past.push_front((self.month, ids.into_boxed_slice()));
        }
        self.month = month;
        let first = month.back(MONTHS_KNOWN - 1);
        self.past.retain(|(past, _)| *past >= first);
        let first_ms = first.start_ms();
        self.guesses.retain(|_, place| place.settled_ms >= first_ms);
    }
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
    fn a_result_fetched_after_three_months_is_still_known_and_one_after_two_years_is_not() {
        let mut billed = Billed::default();
        billed.add(5 * DAY_MS, &[id(1)]);
        billed.add(35 * DAY_MS, &[id(2)]);
        billed.add(100 * DAY_MS, &[id(3)]);
        assert!([1, 2, 3].iter().all(|number| billed.contains(&id(*number))));
        assert!(!billed.contains(&id(4)));
        billed.add(740 * DAY_MS, &[id(4)]);
        assert!([1, 2, 3].iter().all(|number| !billed.contains(&id(*number))));
        assert!(billed.contains(&id(4)));
    }
}
