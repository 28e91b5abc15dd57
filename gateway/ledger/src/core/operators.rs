//! What operators decide: changes, and acts that are changes, too. Those stand in one record of the journal with what they
//! did, so that a crash never leaves one without the other.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{Core, Decided, End};
use crate::amounts::Amounts;
use crate::bill_id::BillId;
use crate::books::{BooksError, Recorded};
use crate::bound::Bound;
use crate::change::Change;
use crate::entry::{Facts, Name, Outcome, Settlement};
use crate::error::LedgerError;
use crate::event::{HELD_WITHIN_MS, Held, HeldBound, HoldId, Mark};

/// Why an entry is above its hold: an operator had voided that while the answer came.
const BILLED_AFTER_VOID: &str = "billed_after_void";

/// A hold that an operator has voided while its exchange goes on.
pub(crate) struct VoidedHold {
    pub held: Arc<Held>,
    /// The result that its exchange waits for.
    pub bill: Option<BillId>,
}

/// Makes the change of an act, of the sequence that the act's own event has.
pub(crate) type ChangeOf<'a> = &'a mut dyn FnMut(u64) -> Change;

impl Core {
    /// Enters changes of different subjects, in force with this call and all or none of them. The sequence of the last one's
    /// event.
    ///
    /// # Errors
    /// One does not fit, or nothing can be written: then nothing is in force.
    pub fn change(&self, changes: Vec<Change>) -> Result<u64, LedgerError> {
        let permit = self.operator_permit()?;
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = self.now_in_month(decided);
        self.queue.is_open()?;
        decided
            .books
            .documents()
            .check_all(&changes)
            .map_err(BooksError::from)?;
        // They fit: they were checked together.
        let entered = changes.into_iter().map(|change| decided.books.change(now_ms, change));
        let entered = entered.collect::<Result<Vec<Recorded>, BooksError>>()?;
        Ok(self.put_together(decided, entered, Some(permit), true))
    }

    fn operator_permit(&self) -> Result<OwnedSemaphorePermit, LedgerError> {
        let permit = self.queue.operator_permit()?;
        Ok(permit.ok_or(BooksError::Full("changes that wait for the disk"))?)
    }

    /// Does what `act` does, with the change that tells it where there is one. The sequence of the last event.
    fn act(
        &self,
        change: Option<ChangeOf<'_>>,
        act: impl FnOnce(&mut Decided, i64) -> Result<Recorded, BooksError>,
    ) -> Result<u64, LedgerError> {
        let permit = self.operator_permit()?;
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = self.now_in_month(decided);
        self.queue.is_open()?;
        let Some(make) = change else {
            let acted = act(decided, now_ms)?;
            return Ok(self.put(decided, acted, Some(permit), true));
        };
        let change = make(decided.books.head() + 1);
        decided.books.documents().check(&change).map_err(BooksError::from)?;
        let acted = act(decided, now_ms)?;
        // It fits: it was checked, and the act changes no document.
        let changed = decided.books.change(now_ms, change)?;
        Ok(self.put_together(decided, vec![acted, changed], Some(permit), true))
    }

    pub fn adjust_by(
        &self,
        change: Option<ChangeOf<'_>>,
        adjust: impl FnOnce(&mut Decided, i64) -> Result<Recorded, BooksError>,
    ) -> Result<u64, LedgerError> {
        self.act(change, adjust)
    }

    /// Marks a session without an operator: nothing refuses it.
    pub fn mark_session(&self, tenant: &Name, session: &Name, mark: Mark) -> u64 {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = self.now_in_month(decided);
        let recorded = decided.books.mark_session(now_ms, tenant, session, mark);
        self.put(decided, recorded, None, false)
    }

    pub fn mark_session_by(
        &self,
        change: ChangeOf<'_>,
        tenant: &Name,
        session: &Name,
        mark: Mark,
    ) -> Result<u64, LedgerError> {
        self.act(Some(change), |decided, now_ms| {
            Ok(decided.books.mark_session(now_ms, tenant, session, mark))
        })
    }

    /// Ends an open hold without an entry, whoever has it.
    pub fn void_by(&self, change: Option<ChangeOf<'_>>, hold: HoldId, reason: &Name) -> Result<u64, LedgerError> {
        let mut ended = None;
        let voided = self.act(change, |decided, now_ms| {
            let held = decided.books.held_of(hold).ok_or(BooksError::UnknownHold)?;
            let bill = decided.books.bill_of(hold);
            let recorded = decided.books.void(now_ms, hold, reason)?;
            ended = Some(Arc::clone(&held));
            decided.voided.insert(hold, VoidedHold { held, bill });
            Ok(recorded)
        });
        self.notify(ended.as_deref());
        voided.map_err(|error| match error {
            LedgerError::Books(BooksError::UnknownHold) => LedgerError::NoSuchHold(hold),
            error => error,
        })
    }

    /// The exchange of a hold that was voided has ended: what was billed is entered all the same, on the accounts and bounds of
    /// the hold, all of it beyond what is held. Where nobody knows what was billed, what the operator said stands.
    pub(super) fn settle_voided(
        &self,
        decided: &mut Decided,
        now_ms: i64,
        voided: VoidedHold,
        settlement: Settlement,
        overage_reason: Option<Name>,
        mut bills: Vec<BillId>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> End {
        let VoidedHold { held, bill } = voided;
        bills.extend(bill.filter(|bill| !bills.contains(bill)));
        let is_entered = bills.iter().any(|bill| decided.billed.is_entered(bill));
        if is_entered || settlement.outcome == Outcome::Recovered {
            return End::Billed;
        }
        let reason = overage_reason.unwrap_or_else(|| Name::from(BILLED_AFTER_VOID));
        let facts = findable(&held.facts, now_ms);
        let bounds: Vec<Bound> = held.bounds.iter().filter_map(HeldBound::watched).collect();
        let books = &mut decided.books;
        // Without its bounds where they have no room: it is counted on the accounts of its facts at least.
        let reserved = books
            .reserve(now_ms, &facts, &bounds, Amounts::ZERO, &reason)
            .or_else(|_| books.reserve(now_ms, &facts, &[], Amounts::ZERO, &reason));
        let reserved = match reserved {
            Ok(reserved) => reserved,
            Err(error) => return End::Unknown(error),
        };
        let settled = decided
            .books
            .settle_bills(now_ms, reserved.hold, settlement, Some(reason), bills);
        let permits = (self.queue.permit_now(), permit);
        self.post_unheld(decided, reserved, settled, permits)
            .map_or_else(End::Unknown, End::Settled)
    }
}

/// Entries are looked for near the time of their hold: one that is entered long after its request began counts from now.
fn findable(facts: &Arc<Facts>, now_ms: i64) -> Arc<Facts> {
    if now_ms.saturating_sub(facts.at_ms) < HELD_WITHIN_MS {
        return Arc::clone(facts);
    }
    Arc::new(Facts {
        at_ms: now_ms,
        ..Facts::clone(facts)
    })
}
