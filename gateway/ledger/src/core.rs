//! Where it is decided: the books and what is billed once, behind one short lock, which also gives events their order.
//! Nothing here waits for a disk, and nothing walks over all accounts.

mod due;
mod operators;
mod unheld;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::amounts::Amounts;
use crate::applier::Applier;
use crate::bill_id::BillId;
use crate::billed::Billed;
use crate::books::{Books, BooksError, FOLDED_KINDS, FrozenBooks, OpenHold, Recorded, Reserved, SettledHold, Standing};
use crate::bound::Bound;
use crate::clock::Clock;
use crate::decision_clock::{ClockState, DecisionClock};
use crate::entry::{Facts, Name, Settlement};
use crate::event::{Denial, Event, Held, HoldId, ImportedEntry, Settled};
use crate::map::Map;
use crate::options::{Durability, ExpectedCosts};
use crate::queue::{Queue, Stopped};
use crate::recorded::{Base, HoldNotes, RefusalRecord};
use crate::store::Month;
use crate::waiters::Waiters;

pub(crate) use self::operators::ChangeOf;

/// Why a hold ends without being settled although its work was billed.
const BILLED_WHEN_FETCHED: &str = "billed_when_fetched";

/// How a hold ended that was to be settled.
pub(crate) enum End {
    Settled(Posted),
    /// Its work was billed already: nothing was posted.
    Billed,
    /// Cannot be: a hold is open until its one owner ends it.
    Unknown(BooksError),
}

/// A settled hold in the journal's queue.
pub(crate) struct Posted {
    pub held: Arc<Held>,
    pub settled: Arc<Settled>,
    pub sequence: u64,
}

/// What decisions go by, as it was recorded last.
pub(crate) struct RulesInForce {
    id: u64,
    digest: [u8; 32],
    base: Arc<[u8]>,
    /// The one that this month has the base of.
    base_id: u64,
}

pub(crate) struct Decided {
    pub books: Books,
    pub billed: Billed,
    /// Holds that an operator has voided and whose owners do not know yet.
    pub voided: Map<HoldId, operators::VoidedHold>,
    pub clock: DecisionClock,
    /// The time by which the journal is ordered: never less than that of an event before.
    pub journal_ms: i64,
    /// The month that is written to. Its successor begins at `month_end_ms`.
    pub month: Month,
    pub month_end_ms: i64,
    pub digests: Vec<(Name, [u8; 32])>,
    pub secret_check: Option<[u8; 16]>,
    /// What decisions go by; `None` while nobody said so.
    pub in_force: Option<RulesInForce>,
    /// A month has begun: a checkpoint in it lets old ones go.
    pub has_turned: bool,
    pub checkpoint_sequence: u64,
    /// The books that the last one was requested for, until they are written down.
    pub checkpoint_books: Weak<FrozenBooks>,
    /// When the last one was requested, by the monotonic clock.
    pub checkpoint_ms: i64,
    /// Kinds of which it was said that names are counted together.
    pub folded_noted: [bool; FOLDED_KINDS.len()],
}

pub(crate) struct Core {
    decided: Mutex<Decided>,
    pub queue: Arc<Queue>,
    pub applier: Arc<Applier>,
    pub clock: Arc<dyn Clock>,
    pub durability: Durability,
    pub waiters: Waiters,
    /// As the books say: asked for each request, without the lock.
    unseen_keys: AtomicUsize,
}

impl Core {
    pub fn new(
        decided: Decided,
        queue: Arc<Queue>,
        applier: Arc<Applier>,
        clock: Arc<dyn Clock>,
        durability: Durability,
    ) -> Core {
        let unseen_keys = AtomicUsize::new(decided.books.unseen_count());
        Core {
            decided: Mutex::new(decided),
            queue,
            applier,
            clock,
            durability,
            waiters: Waiters::default(),
            unseen_keys,
        }
    }

    /// For reading: a decision goes through the methods here.
    pub fn read<T>(&self, read: impl FnOnce(&Decided) -> T) -> T {
        read(&self.decided.lock())
    }

    /// Changes what is no event.
    pub fn set<T>(&self, set: impl FnOnce(&mut Decided) -> T) -> T {
        set(&mut self.decided.lock())
    }

    /// The books now, for who walks over all accounts: without the lock.
    pub fn frozen_books(&self) -> FrozenBooks {
        self.decided.lock().books.frozen()
    }

    /// The time of decisions, now.
    pub fn now_ms(&self) -> i64 {
        self.decided.lock().clock.now()
    }

    pub fn clock_state(&self) -> ClockState {
        let mut decided = self.decided.lock();
        decided.clock.now();
        decided.clock.state()
    }

    /// The time for a decision; a new month is opened before it.
    fn now_in_month(&self, decided: &mut Decided) -> i64 {
        let now_ms = decided.clock.now().max(decided.books.now_ms());
        if now_ms >= decided.month_end_ms {
            let month = Month::of_ms(now_ms);
            // A journal that once followed a wrong clock is ahead of the calendar: its months go on in their order.
            decided.month = match decided.month_end_ms {
                i64::MIN => month,
                _ => month.max(decided.month.next()),
            };
            decided.month_end_ms = month.next().start_ms();
            let mut digests = decided.digests.clone();
            digests.extend(decided.secret_check.map(crate::secret_check::digest));
            // To write all accounts down takes long: the writer does, of these.
            let frozen = (decided.books.head() > 0).then(|| Arc::new(decided.books.frozen()));
            let books = if frozen.is_none() {
                decided.books.snapshot()
            } else {
                Vec::new()
            };
            let opening = decided.books.open_month(now_ms, None, digests, books);
            decided.journal_ms = decided.journal_ms.max(now_ms);
            decided.has_turned = true;
            let month = decided.month;
            self.queue
                .open_month(opening.seq, decided.journal_ms, month, opening.event, frozen);
            self.carry_in_force(decided, now_ms);
        }
        now_ms
    }

    /// As `put`, of events that stand or fall together. The sequence of the last.
    fn put_together(
        &self,
        decided: &mut Decided,
        recorded: Vec<Recorded>,
        permit: Option<OwnedSemaphorePermit>,
        urgent: bool,
    ) -> u64 {
        let (Some(first), Some(last)) = (recorded.first(), recorded.last()) else {
            return decided.books.head();
        };
        let (first, last) = (first.seq, last.seq);
        let events: Vec<Event> = recorded.into_iter().map(|recorded| recorded.event).collect();
        let latest_ms = events.iter().map(Event::at_ms).max().unwrap_or_default();
        decided.journal_ms = decided.journal_ms.max(latest_ms);
        self.queue
            .put_together(first, decided.journal_ms, events, permit, urgent);
        last
    }

    /// A month says itself what is in force in it: those before may be removed.
    fn carry_in_force(&self, decided: &mut Decided, now_ms: i64) {
        let Some(mut rules) = decided.in_force.take() else {
            return;
        };
        rules.base_id = rules.id;
        let base = Base::Whole(Arc::clone(&rules.base));
        let recorded = decided.books.put_in_force(now_ms, rules.id, rules.digest, base);
        decided.in_force = Some(rules);
        self.put(decided, recorded, None, false);
    }

    /// Records what decisions go by from now on; the id by which they name it. The base is written once a month, and again where it
    /// is another one.
    pub fn put_in_force(&self, digest: [u8; 32], base: &Arc<[u8]>) -> u64 {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = self.now_in_month(decided);
        let known = decided.in_force.as_ref().filter(|rules| rules.base == *base);
        let known = known.map(|rules| rules.base_id);
        let written = known.map_or_else(|| Base::Whole(Arc::clone(base)), Base::Of);
        let recorded = decided.books.put_in_force(now_ms, 0, digest, written);
        let id = self.put(decided, recorded, None, false);
        decided.in_force = Some(RulesInForce {
            id,
            digest,
            base: Arc::clone(base),
            base_id: known.unwrap_or(id),
        });
        id
    }

    /// Only under the lock: the order of calls is the order of the journal.
    fn put(
        &self,
        decided: &mut Decided,
        recorded: Recorded,
        permit: Option<OwnedSemaphorePermit>,
        urgent: bool,
    ) -> u64 {
        let Recorded { seq, event } = recorded;
        decided.journal_ms = decided.journal_ms.max(event.at_ms());
        self.queue.put(seq, decided.journal_ms, event, permit, urgent);
        seq
    }

    /// Puts down the first opening, and ends what the last process left open. How many holds that were.
    pub fn begin(&self, expected_costs: Option<&dyn ExpectedCosts>) -> usize {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        if decided.month_end_ms == i64::MIN {
            self.now_in_month(decided);
        }
        let open = decided.books.open_count();
        if open == 0 {
            return 0;
        }
        let now_ms = self.now_in_month(decided);
        let expected = |facts: &Facts| expected_costs.and_then(|costs| costs.of(facts));
        for hold in decided.books.open_ids() {
            let bill = decided.books.bill_of(hold);
            if bill.is_some_and(|bill| decided.billed.is_entered(&bill)) {
                // It is open: it was just listed.
                let _ = self.void_under(decided, now_ms, hold, &Name::from(BILLED_WHEN_FETCHED), None);
            } else if let Some(settled) = decided.books.recover(now_ms, hold, expected) {
                self.post(decided, settled, None);
            }
        }
        open
    }

    pub fn reserve(
        &self,
        facts: &Arc<Facts>,
        bounds: &[Bound],
        amounts: Amounts,
        basis: &Name,
        notes: HoldNotes,
        permit: OwnedSemaphorePermit,
    ) -> Result<(HoldId, Vec<Standing>), BooksError> {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = self.now_in_month(decided);
        if let ClockState::Ahead { ms } = decided.clock.state() {
            return Err(BooksError::ClockAhead(ms));
        }
        let reserved = decided
            .books
            .reserve_recorded(now_ms, facts, bounds, amounts, basis, notes.record)?;
        let Reserved {
            hold,
            standings,
            recorded,
        } = reserved;
        let is_urgent = self.durability == Durability::Strict;
        match notes.bill {
            None => {
                self.put(decided, recorded, Some(permit), is_urgent);
            }
            Some(bill) => {
                // It is open: it was just placed.
                let named = decided.books.defer(now_ms, hold, bill).ok();
                let events = [recorded].into_iter().chain(named).collect();
                self.put_together(decided, events, Some(permit), is_urgent);
            }
        }
        Ok((hold, standings))
    }

    pub fn extend(&self, hold: HoldId, step: Amounts) -> Result<Amounts, BooksError> {
        let permit = self.queue.permit_now();
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = self.now_in_month(decided);
        let extension = decided.books.extend(now_ms, hold, step)?;
        self.put(decided, extension.recorded, permit, false);
        Ok(extension.granted)
    }

    /// Ends a hold. One whose work was entered when its result was fetched is voided instead: it is billed once, and only
    /// here can that be decided.
    pub fn settle(
        &self,
        hold: HoldId,
        settlement: Settlement,
        overage_reason: Option<Name>,
        mut bills: Vec<BillId>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> End {
        let (end, held) = {
            let mut decided = self.decided.lock();
            let decided = &mut *decided;
            let now_ms = self.now_in_month(decided);
            let held = decided.books.held_of(hold);
            bills.extend(decided.books.bill_of(hold).filter(|bill| !bills.contains(bill)));
            let end = if let Some(voided) = decided.voided.remove(&hold) {
                self.settle_voided(decided, now_ms, voided, settlement, overage_reason, bills, permit)
            } else if bills.iter().any(|bill| decided.billed.is_entered(bill)) {
                self.void_under(decided, now_ms, hold, &Name::from(BILLED_WHEN_FETCHED), permit)
                    .map_or_else(End::Unknown, |()| End::Billed)
            } else {
                match decided
                    .books
                    .settle_bills(now_ms, hold, settlement, overage_reason, bills)
                {
                    Ok(settled) => End::Settled(self.post(decided, settled, permit)),
                    Err(error) => End::Unknown(error),
                }
            };
            (end, held)
        };
        self.notify(held.as_deref());
        if let End::Unknown(error) = &end {
            tracing::error!(hold = hold.0, %error, "a hold could not be settled");
        }
        end
    }

    fn post(&self, decided: &mut Decided, settled: SettledHold, permit: Option<OwnedSemaphorePermit>) -> Posted {
        let SettledHold {
            held,
            settled,
            recorded,
        } = settled;
        let sequence = self.put(decided, recorded, permit, false);
        decided.billed.settled(sequence, &settled, held.at_ms);
        Posted {
            held,
            settled,
            sequence,
        }
    }

    fn void_under(
        &self,
        decided: &mut Decided,
        now_ms: i64,
        hold: HoldId,
        reason: &Name,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<(), BooksError> {
        let recorded = decided.books.void(now_ms, hold, reason)?;
        self.put(decided, recorded, permit, false);
        Ok(())
    }

    pub fn void(&self, hold: HoldId, reason: &Name, permit: Option<OwnedSemaphorePermit>) {
        let (voided, held) = {
            let mut decided = self.decided.lock();
            if decided.voided.remove(&hold).is_some() {
                return;
            }
            let now_ms = self.now_in_month(&mut decided);
            let held = decided.books.held_of(hold);
            (self.void_under(&mut decided, now_ms, hold, reason, permit), held)
        };
        if let Err(error) = voided {
            tracing::error!(hold = hold.0, %error, "a hold could not be voided");
        }
        self.notify(held.as_deref());
    }

    /// Lets a hold wait for the result with this id. `false`: that was entered already, and the hold is void.
    pub fn defer(&self, hold: HoldId, bill: BillId, permit: Option<OwnedSemaphorePermit>) -> bool {
        let mut guard = self.decided.lock();
        let decided = &mut *guard;
        let now_ms = self.now_in_month(decided);
        let is_billed = decided.billed.is_entered(&bill);
        if let Some(voided) = decided.voided.get_mut(&hold) {
            voided.bill = Some(bill);
            if is_billed {
                decided.voided.remove(&hold);
            }
            return !is_billed;
        }
        let held = decided.books.held_of(hold).filter(|_| is_billed);
        let done = if is_billed {
            self.void_under(decided, now_ms, hold, &Name::from(BILLED_WHEN_FETCHED), permit)
        } else {
            decided.books.defer(now_ms, hold, bill).map(|recorded| {
                self.put(decided, recorded, permit, false);
            })
        };
        drop(guard);
        if let Err(error) = done {
            tracing::error!(hold = hold.0, %error, "a hold could not be deferred");
        }
        self.notify(held.as_deref());
        !is_billed
    }

    /// Puts down what `adjust` makes of the books at this moment; nothing where it makes nothing.
    pub fn adjust<T>(
        &self,
        adjust: impl FnOnce(&mut Decided, i64) -> Result<Option<(Recorded, T)>, BooksError>,
    ) -> Result<Option<(u64, T)>, BooksError> {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = self.now_in_month(decided);
        let adjusted = adjust(decided, now_ms)?;
        Ok(adjusted.map(|(recorded, made)| (self.put(decided, recorded, None, false), made)))
    }

    /// Takes over entries of elsewhere. The sequence of their event.
    pub fn import(
        &self,
        source: &Name,
        place: u64,
        has_legacy_keys: bool,
        entries: Vec<ImportedEntry>,
        permit: OwnedSemaphorePermit,
    ) -> Result<u64, BooksError> {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = self.now_in_month(decided);
        let recorded = decided.books.import(now_ms, source, place, has_legacy_keys, entries)?;
        self.note_unseen_keys(decided);
        Ok(self.put(decided, recorded, Some(permit), false))
    }

    pub fn link_key(&self, legacy: &Name, key: &Name) -> bool {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        if !decided.books.is_unseen(legacy) {
            return false;
        }
        let now_ms = self.now_in_month(decided);
        let linked = decided.books.link(now_ms, legacy, key);
        let is_linked = linked.is_some();
        if let Some(recorded) = linked {
            self.put(decided, recorded, None, false);
        }
        self.note_unseen_keys(decided);
        is_linked
    }

    fn note_unseen_keys(&self, decided: &Decided) {
        self.unseen_keys.store(decided.books.unseen_count(), Ordering::Release);
    }

    pub fn has_unseen_keys(&self) -> bool {
        self.unseen_keys.load(Ordering::Acquire) > 0
    }

    /// Counts a refusal: one event an account, reason, policy and minute. While nothing can be written refusals are not counted.
    /// One with what it read is recorded beside, as long as there are few.
    pub fn deny(&self, denial: &Denial, call: impl FnOnce() -> Option<RefusalRecord>) {
        if self.queue.suspended().is_some() {
            return;
        }
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = self.now_in_month(decided);
        for recorded in decided.books.deny(now_ms, denial) {
            self.put(decided, recorded, None, false);
        }
        if let Some(recorded) = decided.books.refuse(denial, call) {
            self.put(decided, recorded, None, false);
        }
    }

    /// Notes which secret gives keys their fingerprints from now on.
    pub fn set_secret_check(&self, check: [u8; 16]) -> u64 {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let now_ms = self.now_in_month(decided);
        decided.secret_check = Some(check);
        let recorded = decided.books.check_secret(now_ms, check);
        self.put(decided, recorded, None, false)
    }

    /// Believes the machine's clock, whatever it says. Set back, an event says so: windows that run go on with what was
    /// counted in them, as those of the time that holds now.
    pub fn accept_clock(&self) -> Option<u64> {
        let mut decided = self.decided.lock();
        let decided = &mut *decided;
        let to_ms = decided.clock.accept()?;
        self.now_in_month(decided);
        let recorded = decided.books.set_clock(to_ms);
        let sequence = self.put(decided, recorded, None, true);
        decided.clock.set_back(to_ms);
        decided.month_end_ms = Month::of_ms(to_ms).next().start_ms();
        Some(sequence)
    }

    /// Waits until the event with this sequence is on disk.
    pub async fn durable(&self, sequence: u64) -> Result<(), Stopped> {
        self.queue.durable(sequence).await
    }

    pub async fn hold_durable(&self, sequence: u64) -> Result<(), Stopped> {
        match self.durability {
            Durability::Strict => self.durable(sequence).await,
            Durability::Relaxed => match self.queue.stopped().or_else(|| self.queue.suspended()) {
                Some(stopped) => Err(stopped),
                None => Ok(()),
            },
        }
    }

    /// Those who wait for room on an account of this hold are notified: it has ended.
    fn notify(&self, held: Option<&Held>) {
        if let Some(held) = held {
            self.waiters.notify(held.bounds.iter().map(|bound| &bound.account));
        }
    }

    pub fn open_holds(&self) -> Vec<OpenHold> {
        let mut holds = self.decided.lock().books.open_holds();
        holds.sort_unstable_by_key(|hold| hold.id);
        holds
    }
}
