//! A hold in a caller's hands: it ends exactly once, settled or voided, and dropping it settles it too.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::amounts::Amounts;
use crate::billed::BillId;
use crate::books::{BooksError, Standing};
use crate::entry::{Entry, Facts, Name, Settlement};
use crate::event::HoldId;
use crate::ledger::{Ledger, LedgerError};
use crate::money::Usd;

/// Places in the journal's queue for a hold's first and last event: whoever has it can always settle.
#[derive(Debug)]
pub struct Permit {
    pub(crate) first: OwnedSemaphorePermit,
    pub(crate) last: OwnedSemaphorePermit,
}

/// Amounts reserved for one exchange.
pub struct Hold {
    ledger: Arc<Ledger>,
    id: HoldId,
    facts: Arc<Facts>,
    amounts: Amounts,
    standings: Vec<Standing>,
    /// Taken by the event that ends the hold; a deferred one has none.
    last: Option<OwnedSemaphorePermit>,
    ended: bool,
}

impl Hold {
    pub(crate) fn new(
        ledger: Arc<Ledger>,
        id: HoldId,
        facts: Arc<Facts>,
        amounts: Amounts,
        standings: Vec<Standing>,
        last: OwnedSemaphorePermit,
    ) -> Hold {
        Hold {
            ledger,
            id,
            facts,
            amounts,
            standings,
            last: Some(last),
            ended: false,
        }
    }

    pub fn id(&self) -> HoldId {
        self.id
    }

    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// What is held in dollars, extensions included.
    pub fn held(&self) -> Usd {
        self.amounts.usd
    }

    pub fn amounts(&self) -> Amounts {
        self.amounts
    }

    /// How each bound stood right after the hold was placed, in the order of the bounds, this hold included.
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// Waits until the hold is on disk; with `relaxed` durability it does not wait. An error once the writer has stopped.
    pub async fn durable(&self) -> Result<(), LedgerError> {
        self.ledger.hold_durable(self.id.0).await
    }

    /// Adds `step`, or what is left of it; what was added.
    pub fn extend(&mut self, step: Amounts) -> Result<Amounts, BooksError> {
        let granted = self.ledger.extend(self.id, step)?;
        self.amounts = self.amounts.plus(&granted);
        Ok(granted)
    }

    /// Ends the hold with what was really billed. Never waits and never fails; ask the result whether it is on disk.
    pub fn settle(self, settlement: Settlement) -> Settled {
        self.settle_over(settlement, None)
    }

    /// As `settle`, with the reason for what was billed beyond the hold.
    pub fn settle_over(self, settlement: Settlement, overage_reason: Option<Name>) -> Settled {
        self.settle_bills(settlement, overage_reason, Vec::new())
    }

    /// As `settle_over`, with the ids under which it was billed and is not billed again.
    pub fn settle_bills(mut self, settlement: Settlement, overage_reason: Option<Name>, bills: Vec<BillId>) -> Settled {
        self.ended = true;
        let place = self.last.take();
        self.ledger
            .settle(self.id, &self.facts, settlement, overage_reason, bills, place)
    }

    /// The hold waits for a result that is fetched later, billed under this id; the journal knows it, so that a restart
    /// does not bill it twice. It may wait long: its place in the queue is given back.
    pub fn defer(&mut self, bill: BillId) {
        let place = self.last.take();
        self.ledger.defer(self.id, bill, place);
    }

    /// Ends the hold without an entry: nothing was sent upstream, or nothing that is billed.
    pub fn void(mut self, reason: &str) {
        self.ended = true;
        let place = self.last.take();
        self.ledger.void(self.id, &Name::from(reason), place);
    }
}

impl Drop for Hold {
    /// A hold that nobody ended, after a panic: what was held is taken as spent, and said to be an estimate.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let place = self.last.take();
        let at_ms = self.ledger.now_ms();
        let settlement = Settlement::recovered(at_ms, &self.facts, self.amounts.usd, Name::from("dropped"));
        self.ledger
            .settle(self.id, &self.facts, settlement, None, Vec::new(), place);
    }
}

/// A settled exchange.
pub struct Settled {
    pub entry: Entry,
    ledger: Arc<Ledger>,
    /// Of its event. `None` for a hold that the books did not know.
    sequence: Option<u64>,
}

impl Settled {
    pub(crate) fn new(entry: Entry, ledger: Arc<Ledger>, sequence: Option<u64>) -> Settled {
        Settled {
            entry,
            ledger,
            sequence,
        }
    }

    /// Waits until the entry is on disk, whatever the durability.
    pub async fn durable(&self) -> Result<(), LedgerError> {
        match self.sequence {
            Some(sequence) => self.ledger.durable(sequence).await,
            None => Err(BooksError::UnknownHold.into()),
        }
    }
}
