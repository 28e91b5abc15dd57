//! What is billed without a hold: held at nothing and settled in one record.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{Core, Decided, Posted};
use crate::amounts::Amounts;
use crate::bill_id::BillId;
use crate::books::{BooksError, Reserved, SettledHold};
use crate::bound::Bound;
use crate::entry::{Facts, Name, Settlement};

impl Core {
    /// Enters what is billed without a hold before it. `None`: one of `bills` was billed before.
    pub fn enter(
        &self,
        facts: &Arc<Facts>,
        bounds: &[Bound],
        settlement: Settlement,
        overage_reason: Name,
        bills: Vec<BillId>,
        (first, last): (OwnedSemaphorePermit, OwnedSemaphorePermit),
    ) -> Result<Option<Posted>, BooksError> {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        if bills.iter().any(|bill| decided.billed.contains(bill)) {
            return Ok(None);
        }
        let now_ms = self.now_in_month(decided);
        let reserved = decided
            .books
            .reserve(now_ms, facts, bounds, Amounts::ZERO, &overage_reason)?;
        let settled = decided
            .books
            .settle_bills(now_ms, reserved.hold, settlement, Some(overage_reason), bills);
        let permits = (Some(first), Some(last));
        Ok(Some(self.post_unheld(decided, reserved, settled, permits)?))
    }

    /// Puts down what is billed without a hold, in one record: half of it would be an open hold of which nobody knows what it was
    /// billed under, and entered by the next start beside what is told again.
    pub(super) fn post_unheld(
        &self,
        decided: &mut Decided,
        reserved: Reserved,
        settled: Result<SettledHold, BooksError>,
        (mut first, last): (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>),
    ) -> Result<Posted, BooksError> {
        let SettledHold {
            held,
            settled,
            recorded,
        } = match settled {
            Ok(settled) => settled,
            // Cannot be, it was just placed; what the books have, the journal must have.
            Err(error) => {
                self.put(decided, reserved.recorded, first, false);
                return Err(error);
            }
        };
        match (&mut first, last) {
            (Some(first), Some(last)) => first.merge(last),
            (_, last) => first = first.or(last),
        }
        let sequence = self.put_together(decided, vec![reserved.recorded, recorded], first, false);
        decided.billed.settled(sequence, &settled, held.at_ms);
        Ok(Posted {
            held,
            settled,
            sequence,
        })
    }
}
