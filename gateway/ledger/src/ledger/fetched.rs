//! What is billed when a result is fetched: holds that wait for it, and entries without a hold.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Ledger;
use crate::amounts::Amounts;
use crate::billed::BillId;
use crate::books::BooksError;
use crate::bound::Bound;
use crate::entry::{Facts, Name, Settlement};
use crate::event::HoldId;
use crate::hold::{Permit, Settled};

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
        core.billed.add(now_ms, &settled.settled.bills);
        let (entry, recorded) = (settled.entry(), settled.recorded);
        let sequence = self.put(recorded, Some(last), false);
        drop(core);
        Ok(Some(Settled::new(entry, Arc::clone(self), Some(sequence))))
    }
}
