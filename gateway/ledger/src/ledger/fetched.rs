//! What is billed when a result is fetched: holds that wait for it, and entries without a hold.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use ulid::Ulid;

use super::{Ledger, LedgerError};
use crate::amounts::Amounts;
use crate::billed::BillId;
use crate::books::{Adjustment, BooksError};
use crate::bound::Bound;
use crate::entry::{Facts, Name, Settlement};
use crate::event::HoldId;
use crate::hold::{Permit, Settled};
use crate::money::Usd;
use crate::query;
use crate::store::Month;

/// What a result that came late changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The entry's id.
    pub id: Ulid,
    /// What was added to its cost; below zero where it was given back.
    pub usd: Usd,
}

impl Ledger {
    pub(crate) fn defer(&self, hold: HoldId, bill: BillId, place: Option<OwnedSemaphorePermit>) {
        let mut core = self.core.lock();
        let now_ms = self.now_in_month(&mut core);
        match core.books.defer(now_ms, hold, bill) {
            Ok(recorded) => {
                self.put(recorded, place, false);
            }
            Err(error) => tracing::error!(hold = hold.0, %error, "a hold could not be deferred"),
        }
    }

    /// Whether this was billed already, as far as the journal of this month and the last knows.
    pub fn is_billed(&self, bill: &BillId) -> bool {
        self.core.lock().billed.contains(bill)
    }

    /// Whether this was billed at what was held for it, nobody knowing better by then, and was not corrected since.
    pub fn is_guessed(&self, bill: &BillId) -> bool {
        self.core.lock().billed.is_guessed(bill)
    }

    /// Corrects the entry that took what was held for what this result `used`: now it is known. The difference is added to
    /// the accounts that the entry was posted to. `None`: there is nothing to correct, or it was done before. Reads the journal to find the
    /// entry: not for the request path.
    pub fn correct(&self, bill: &BillId, used: &Amounts, reason: &Name) -> Result<Option<Correction>, LedgerError> {
        if !self.is_guessed(bill) {
            return Ok(None);
        }
        // So far back ids are known by heart.
        let from_ms = Month::of_ms(self.now_ms()).back(1).start_ms();
        let until = self.head().sequence;
        let found = query::find(&*self.stores, from_ms, until, |_, settled| settled.bills.contains(bill))?;
        let Some(found) = found else {
            return Ok(None);
        };
        let amounts = used.minus(&found.settled.posted());
        let adjustment = Adjustment {
            hold: found.hold,
            held: &found.held,
            amounts,
            reason: reason.clone(),
            bill: Some(*bill),
        };
        let mut core = self.core.lock();
        if !core.billed.is_guessed(bill) {
            return Ok(None);
        }
        let now_ms = self.now_in_month(&mut core);
        core.billed.add(now_ms, &[bill.corrected()]);
        if amounts.is_zero() {
            return Ok(None);
        }
        let recorded = core.books.adjust(now_ms, &adjustment)?;
        self.put(recorded, None, false);
        Ok(Some(Correction {
            id: found.held.facts.id,
            usd: amounts.usd,
        }))
    }

    /// Enters what is billed without a hold before it: the result of earlier work, told when it is fetched. It is posted
    /// as overage with its reason on all accounts of its facts and bounds, whatever their limits: it is spent. `None`:
    /// one of `bills` was billed before.
    pub fn enter(
        self: &Arc<Self>,
        permit: Permit,
        facts: impl Into<Arc<Facts>>,
        bounds: &[Bound],
        settlement: Settlement,
        overage_reason: Name,
        bills: Vec<BillId>,
    ) -> Result<Option<Settled>, BooksError> {
        let Permit { first, last } = permit;
        let facts = facts.into();
        let watched: Vec<Bound> = bounds.iter().map(Bound::watched).collect();
        let mut core = self.core.lock();
        if bills.iter().any(|bill| core.billed.contains(bill)) {
            return Ok(None);
        }
        let now_ms = self.now_in_month(&mut core);
        let reserved = core
            .books
            .reserve(now_ms, &facts, &watched, Amounts::ZERO, &overage_reason)?;
        self.put(reserved.recorded, Some(first), false);
        let settled = core
            .books
            .settle_bills(now_ms, reserved.hold, settlement, Some(overage_reason), bills)?;
        core.billed.settled(&settled.settled);
        let (entry, recorded) = (settled.entry(), settled.recorded);
        let sequence = self.put(recorded, Some(last), false);
        drop(core);
        Ok(Some(Settled::new(entry, Arc::clone(self), Some(sequence))))
    }
}
