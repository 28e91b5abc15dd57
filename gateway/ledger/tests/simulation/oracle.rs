//! What the clients know: what they were promised, and what they were billed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use agentledger_ledger::{Amounts, BillId, Hold, HoldId, Ledger, Name, Usd};
use ulid::Ulid;

/// Work that runs in the background upstream, billed under one id.
#[derive(Debug)]
pub struct Response {
    pub bill: BillId,
    pub cost: i64,
    pub tokens: u64,
}

#[derive(Default)]
pub struct Oracle {
    /// The world ends: what clients do from here on happens no more.
    pub is_over: bool,
    /// Nothing less than this may be on disk, ever.
    pub acknowledged: u64,
    pub acknowledged_settled: BTreeSet<HoldId>,
    /// All that was posted since the start, written or not: entries and corrections. Added to what the journal had then.
    pub posted: Usd,
    /// Holds that clients have, or dropped.
    pub open: BTreeMap<HoldId, Amounts>,
    /// Entries that may be adjusted.
    pub entries: Vec<Ulid>,
    pub denied: u64,
    pub responses: Vec<Rc<Response>>,
    /// Documents in force, with their versions.
    pub documents: BTreeMap<Name, (Name, u64)>,
    /// Requests of operators that were not answered, so that they are made again: each its number and the entry that it adjusts.
    pub unanswered: Vec<(u64, Ulid)>,
    pub requests: u64,
    /// Holds that an operator has voided while their clients have them.
    pub voided: BTreeSet<HoldId>,
    /// Deferred holds by their response's number: what `Awaited` is in the gateway.
    pub deferred: BTreeMap<usize, Tracked>,
}

pub type Shared = Rc<RefCell<Oracle>>;

impl Oracle {
    pub fn posts(&mut self, amount: Usd) {
        if !self.is_over {
            self.posted = usd(self.posted.nanos() + amount.nanos());
        }
    }

    /// A document of this value is in force; without one, none.
    pub fn changes(&mut self, subject: &Name, value: Option<&Name>) {
        match value {
            None => drop(self.documents.remove(subject)),
            Some(value) => {
                let version = self.documents.get(subject).map_or(0, |(_, version)| *version);
                self.documents.insert(subject.clone(), (value.clone(), version + 1));
            }
        }
    }

    pub fn is_deferred(&self, hold: &HoldId) -> bool {
        self.deferred.values().any(|waiting| waiting.id() == Some(*hold))
    }

    pub fn acknowledges(&mut self, sequence: u64) {
        if !self.is_over {
            self.acknowledged = self.acknowledged.max(sequence);
        }
    }
}

/// A hold in a client's hands: the oracle hears of its end, also where the client vanishes.
pub struct Tracked {
    hold: Option<Hold>,
    /// The result that it waits for.
    bill: Option<BillId>,
    ledger: Arc<Ledger>,
    oracle: Shared,
}

impl Tracked {
    pub fn new(hold: Hold, bill: Option<BillId>, ledger: &Arc<Ledger>, oracle: &Shared) -> Tracked {
        // One that was voided is not open any more, whoever has it.
        if !oracle.borrow().voided.contains(&hold.id()) {
            oracle.borrow_mut().open.insert(hold.id(), hold.amounts());
        }
        Tracked {
            hold: Some(hold),
            bill,
            ledger: Arc::clone(ledger),
            oracle: Rc::clone(oracle),
        }
    }

    pub fn id(&self) -> Option<HoldId> {
        self.hold.as_ref().map(Hold::id)
    }

    pub fn get(&mut self) -> &mut Hold {
        self.hold.as_mut().unwrap()
    }

    /// Extends it; what was granted is held.
    pub fn extended(&mut self) {
        let hold = self.hold.as_ref().unwrap();
        let (id, amounts) = (hold.id(), hold.amounts());
        self.oracle.borrow_mut().open.insert(id, amounts);
    }

    /// It is about to end in the caller's way.
    pub fn take(mut self) -> Hold {
        let hold = self.hold.take().unwrap();
        self.oracle.borrow_mut().open.remove(&hold.id());
        hold
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            let mut oracle = self.oracle.borrow_mut();
            oracle.open.remove(&hold.id());
            // Dropped, it is spent; unless an operator has voided it, or its result was fetched and entered meanwhile.
            let is_voided = oracle.voided.contains(&hold.id());
            if !is_voided && self.bill.is_none_or(|bill| !self.ledger.is_billed(&bill)) {
                if !oracle.is_over {
                    crate::seen("a hold dropped");
                }
                oracle.posts(hold.held());
                oracle.entries.push(hold.facts().id);
            }
            drop(oracle);
            drop(hold);
        }
    }
}

pub fn usd(nanos: i64) -> Usd {
    Usd::from_nanos(nanos)
}
