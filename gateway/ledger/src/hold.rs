//! A hold in a caller's hands: it ends exactly once, settled or voided, and dropping it settles it too.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::amounts::Amounts;
use crate::bill_id::BillId;
use crate::books::{BooksError, Standing};
use crate::core::{Core, End, Posted};
use crate::entry::{Entry, Facts, Name, Settlement};
use crate::error::LedgerError;
use crate::event::HoldId;
use crate::money::Usd;

/// Places in the journal's queue for a hold's first and last event: whoever has it can always settle.
#[derive(Debug)]
pub struct Permit {
    pub(crate) first: OwnedSemaphorePermit,
    pub(crate) last: OwnedSemaphorePermit,
}

impl Permit {
    /// Of two places. `None`: there were fewer.
    pub(crate) fn of(mut first: OwnedSemaphorePermit) -> Option<Permit> {
        first.split(1).map(|last| Permit { first, last })
    }
}

/// Amounts reserved for one exchange.
pub struct Hold {
    core: Arc<Core>,
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
        core: Arc<Core>,
        id: HoldId,
        facts: Arc<Facts>,
        amounts: Amounts,
        standings: Vec<Standing>,
        last: Option<OwnedSemaphorePermit>,
    ) -> Hold {
        Hold {
            core,
            id,
            facts,
            amounts,
            standings,
            last,
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

    /// Waits until the hold is on disk; with `relaxed` durability it does not wait.
    ///
    /// # Errors
    /// The writer has stopped, or cannot write for now.
    pub async fn durable(&self) -> Result<(), LedgerError> {
        Ok(self.core.hold_durable(self.id.0).await?)
    }

    /// Adds `step`, or what is left of it; what was added.
    ///
    /// # Errors
    /// Nothing is left on a hard bound.
    pub fn extend(&mut self, step: Amounts) -> Result<Amounts, BooksError> {
        let granted = self.core.extend(self.id, step)?;
        self.amounts = self.amounts.plus(&granted);
        Ok(granted)
    }

    /// Ends the hold with what was really billed. Never waits and never fails; ask the result whether it is on disk.
    pub fn settle(self, settlement: Settlement) -> Settled {
        self.settle_over(settlement, None)
    }

    /// As `settle`, with the reason for what was billed beyond the hold.
    pub fn settle_over(mut self, settlement: Settlement, overage_reason: Option<Name>) -> Settled {
        let unknown = self.unknown(&settlement);
        self.end(settlement, overage_reason, Vec::new()).unwrap_or(unknown)
    }

    /// As `settle_over`, with the ids under which it was billed and is not billed again. `None`: the same work was entered
    /// when its result was fetched, and this hold is void.
    pub fn settle_bills(
        mut self,
        settlement: Settlement,
        overage_reason: Option<Name>,
        bills: Vec<BillId>,
    ) -> Option<Settled> {
        self.end(settlement, overage_reason, bills)
    }

    fn end(&mut self, settlement: Settlement, overage_reason: Option<Name>, bills: Vec<BillId>) -> Option<Settled> {
        self.ended = true;
        let permit = self.last.take();
        let unknown = self.unknown(&settlement);
        match self.core.settle(self.id, settlement, overage_reason, bills, permit) {
            End::Settled(posted) => Some(Settled::new(posted, Arc::clone(&self.core))),
            End::Billed => None,
            End::Unknown(_) => Some(unknown),
        }
    }

    /// What is said of a hold that the books do not know. Cannot be: it is open until its one owner ends it.
    fn unknown(&self, settlement: &Settlement) -> Settled {
        Settled {
            entry: Entry {
                facts: Facts::clone(&self.facts),
                settlement: settlement.clone(),
                held: Usd::ZERO,
                overage: Usd::ZERO,
                overage_reason: None,
                source: None,
            },
            core: Arc::clone(&self.core),
            sequence: None,
        }
    }

    /// The hold waits for a result that is fetched later, billed under this id; the journal knows it, so that a restart
    /// does not bill it twice. It may wait long: its place in the queue is given back. `None`: the result was fetched and
    /// entered already, and the hold is void.
    #[must_use = "dropping it settles it"]
    pub fn defer(mut self, bill: BillId) -> Option<Hold> {
        let permit = self.last.take();
        if self.core.defer(self.id, bill, permit) {
            return Some(self);
        }
        self.ended = true;
        None
    }

    /// Ends the hold without an entry: nothing was sent upstream, or nothing that is billed.
    pub fn void(mut self, reason: &str) {
        self.ended = true;
        let permit = self.last.take();
        self.core.void(self.id, &Name::from(reason), permit);
    }
}

impl Drop for Hold {
    /// A hold that nobody ended, after a panic: what was held is taken as spent, and said to be an estimate.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let at_ms = self.core.clock.now_ms();
        let settlement = Settlement::recovered(at_ms, &self.facts, self.amounts.usd, Name::from("dropped"));
        self.end(settlement, None, Vec::new());
    }
}

/// A settled exchange.
pub struct Settled {
    pub entry: Entry,
    core: Arc<Core>,
    /// Of its event. `None` for a hold that the books did not know.
    sequence: Option<u64>,
}

impl Settled {
    pub(crate) fn new(posted: Posted, core: Arc<Core>) -> Settled {
        Settled {
            entry: posted.settled.entry(&posted.held.facts),
            core,
            sequence: Some(posted.sequence),
        }
    }

    /// Waits until the entry is on disk, whatever the durability.
    ///
    /// # Errors
    /// The writer has stopped, or cannot write for now.
    pub async fn durable(&self) -> Result<(), LedgerError> {
        match self.sequence {
            Some(sequence) => Ok(self.core.durable(sequence).await?),
            None => Err(BooksError::UnknownHold.into()),
        }
    }
}
