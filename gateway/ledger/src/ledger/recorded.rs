//! Decisions with what they read.

use std::sync::Arc;

use super::Ledger;
use crate::amounts::Amounts;
use crate::books::BooksError;
use crate::bound::Bound;
use crate::entry::{Facts, Name};
use crate::event::Denial;
use crate::hold::{Hold, Permit};
use crate::recorded::{HoldNotes, RefusalRecord};

impl Ledger {
    /// As `reserve`, with what the decision read, and under which id the hold is billed. That stands in one record of the journal
    /// with the hold: no crash leaves it open without its id. Such a hold may wait long, and has no place in the queue.
    ///
    /// # Errors
    /// As `reserve`.
    pub fn reserve_noted(
        &self,
        permit: Permit,
        facts: impl Into<Arc<Facts>>,
        bounds: &[Bound],
        amounts: Amounts,
        basis: &Name,
        notes: HoldNotes,
    ) -> Result<Hold, BooksError> {
        let facts = facts.into();
        let Permit { first, last } = permit;
        let last = notes.bill.is_none().then_some(last);
        self.last_limits.remember(bounds);
        let (id, standings) = self.core.reserve(&facts, bounds, amounts, basis, notes, first)?;
        Ok(Hold::new(Arc::clone(&self.core), id, facts, amounts, standings, last))
    }

    /// Counts a refusal: one event an account, reason, policy and minute.
    pub fn deny(&self, denial: &Denial) {
        self.core.deny(denial, || None);
    }

    /// As `deny`, with what the decision read, which is recorded of the first few of a minute.
    pub fn deny_recorded(&self, denial: &Denial, call: impl FnOnce() -> Option<RefusalRecord>) {
        self.core.deny(denial, call);
    }

    /// Records what decisions go by from now on: its digest, and what the documents of this moment lie over, in a layout of the
    /// caller's. The id by which they name it.
    pub fn put_in_force(&self, digest: [u8; 32], base: &Arc<[u8]>) -> u64 {
        self.core.put_in_force(digest, base)
    }
}
