//! The books: accounts, their balances and the open holds. A pure state machine: time and questions in, decisions and
//! events out. It does no I/O, reads no clock and takes no lock.
//!
//! Each decision makes an [`Event`], and [`Books::apply`] alone changes the state by it, live as in replay. So the same
//! events in the same order always make the same books. The machine numbers its events itself, from 1 without a gap:
//! who holds the lock around it hands them to the journal in that order.
//!
//! **What is counted.** Every exchange is counted on its tenant, key, model and provider and on `global`, for the day, the
//! month (both UTC) and in total, in all three units, whether a bound asks for it or not; so a budget introduced later sees
//! what was spent before it. All other accounts its facts name ([`accounts_of`]), and other windows and zones, count from
//! their first bound on.
//!
//! **What operators change** stands here too ([`Documents`]): a rule in force is known at the same event as a balance, in
//! every opening, checkpoint and replay.
//!
//! **How many names there are.** Clients make names up. Keys and models that no bound names are forgotten when their day is
//! over, or their month where they cost something; past [`NamesMax::per_kind`] of a kind, those nothing was posted to make
//! way, and further ones are counted on `key:other` and `model:other`. An account that a bound names is never counted
//! together with others, and is kept while something that the bound counts is posted or held.
//!
//! **Promises**, asserted where they are made:
//! - no hold or extension is granted unless `posted + held + amount <= limit` on each hard bound it touches;
//! - so `posted + held - overage <= limit` at every instant, while every exchange of the account is held on that bound
//!   and the limit is not lowered;
//! - a hold ends exactly once, and settles in the window instances it was placed in, however late.

mod accounts;
mod apply;
mod changes;
mod clock_set;
mod denials;
mod earlier;
mod frozen;
mod holds;
mod imports;
mod living;
mod recorded;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;

use ulid::Ulid;

use self::accounts::other_of;
pub use self::accounts::{FOLDED_KINDS, NamesMax};
pub use self::apply::ApplyError;
use self::denials::Denials;
pub(crate) use self::frozen::FrozenBooks;
use self::holds::Open;
pub use self::imports::Taken;
pub use self::snapshot::SnapshotError;
use self::state::State;
pub use self::state::{BalanceView, accounts_of};
pub use self::types::{
    Adjustment, BooksError, Extension, Obstacle, OpenHold, Recorded, Refusal, Reserved, SettledHold, Standing,
};
use crate::amounts::Amounts;
use crate::bill_id::BillId;
use crate::bound::{Bound, Mode, Window, Zone};
use crate::entry::{Facts, Name, Settlement};
use crate::event::{
    Adjusted, Adjustee, ClockSet, Deferred, Event, Extended, Held, HeldBound, HoldId, Mark, Marked, Opening,
    SecretChecked, Settled, Voided,
};
use crate::money::Usd;
use crate::recorded::Record;
use crate::window::Period;

/// Open holds.
pub const HOLDS_MAX: usize = 1_000_000;
/// Bounds of one hold.
pub const BOUNDS_MAX: usize = 256;
/// What there are too many of where a hold needs one more account for a bound.
pub const BOUND_ACCOUNTS: &str = "accounts named by bounds (limits.bound_accounts_max)";

const BILLED_ABOVE_HOLD: &str = "billed_above_hold";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Books {
    state: State,
    denials: Denials,
}

impl Books {
    pub fn new() -> Books {
        Books::default()
    }

    /// The same books, with other limits on how many names they keep.
    #[must_use]
    pub fn with_names_max(mut self, names_max: NamesMax) -> Books {
        self.state.names_max = names_max;
        self
    }

    /// How many names were counted on `kind:other` since these books were made or read back, by [`FOLDED_KINDS`].
    pub fn folded(&self) -> [u64; FOLDED_KINDS.len()] {
        self.state.folded
    }

    /// The sequence of the last event; 0 before the first.
    pub fn head(&self) -> u64 {
        self.state.head
    }

    /// The latest time it has seen. It never goes back; earlier times given are taken as this one.
    pub fn now_ms(&self) -> i64 {
        self.state.now_ms
    }

    /// Reserves `amounts` on all bounds or on none. `basis` says why the hold has this size.
    pub fn reserve(
        &mut self,
        now_ms: i64,
        facts: &Arc<Facts>,
        bounds: &[Bound],
        amounts: Amounts,
        basis: &Name,
    ) -> Result<Reserved, BooksError> {
        self.reserve_recorded(now_ms, facts, bounds, amounts, basis, None)
    }

    /// As `reserve`, with what the decision read.
    pub fn reserve_recorded(
        &mut self,
        now_ms: i64,
        facts: &Arc<Facts>,
        bounds: &[Bound],
        amounts: Amounts,
        basis: &Name,
        record: Option<Record>,
    ) -> Result<Reserved, BooksError> {
        if !amounts.is_valid_hold() {
            return Err(BooksError::Invalid("a hold below zero"));
        }
        if bounds.len() > BOUNDS_MAX {
            return Err(BooksError::Full("bounds"));
        }
        if self.state.holds.len() >= HOLDS_MAX {
            return Err(BooksError::Full("open holds"));
        }
        self.state.turn(now_ms);
        let mut placed = Vec::with_capacity(bounds.len());
        let mut standings = Vec::with_capacity(bounds.len());
        let mut refusal: Option<Refusal> = None;
        for (place, bound) in bounds.iter().enumerate() {
            if self.state.is_full_for(bound.account()) {
                return Err(BooksError::Full(BOUND_ACCOUNTS));
            }
            let standing = self.state.standing(bound);
            let held = held_bound(bound, standing.period);
            let requested = amounts.get(bound.unit());
            let refused = obstacle(bound.mode(), &standing, 0, requested);
            // What is over for good is told before what waiting might cure.
            if let Some(obstacle) = refused
                && refusal
                    .as_ref()
                    .is_none_or(|first| first.obstacle == Obstacle::Held && obstacle != first.obstacle)
            {
                refusal = Some(Refusal {
                    obstacle,
                    place,
                    bound: held.clone(),
                    standing,
                    requested,
                });
            }
            standings.push(Standing {
                held: standing.held.saturating_add(requested),
                ..standing
            });
            placed.push(held);
        }
        if let Some(refusal) = refusal {
            return Err(BooksError::Refused(Box::new(refusal)));
        }
        if !self.state.can_hold(&amounts) {
            return Err(BooksError::Full("amounts held"));
        }
        let held = Held {
            at_ms: self.state.now_ms,
            facts: facts.clone(),
            amounts,
            basis: basis.clone(),
            bounds: placed,
            record,
        };
        let recorded = self.record(Event::Held(Arc::new(held)));
        let hold = HoldId(recorded.seq);
        self.assert_within_limits(hold);
        Ok(Reserved {
            hold,
            standings,
            recorded,
        })
    }

    /// Adds `step` to a hold, or what is left where that is less. Refused where nothing is left in a unit requested.
    pub fn extend(&mut self, now_ms: i64, hold: HoldId, step: Amounts) -> Result<Extension, BooksError> {
        if !step.is_valid_hold() || step.is_zero() {
            return Err(BooksError::Invalid("an extension of nothing"));
        }
        self.state.turn(now_ms);
        let open = self.state.holds.get(hold).ok_or(BooksError::UnknownHold)?;
        let mut granted = step;
        let mut refusal: Option<Refusal> = None;
        for (place, (bound, standing)) in self.state.standings_of(open).enumerate() {
            let requested = step.get(bound.unit);
            if bound.mode == Mode::Watch || requested == 0 {
                continue;
            }
            let left = i64::try_from(standing.left().clamp(0, i128::from(requested))).unwrap_or_default();
            if left > 0 {
                granted.set(bound.unit, granted.get(bound.unit).min(left));
                continue;
            }
            let own = open.amounts.get(bound.unit);
            if let Some(obstacle) = obstacle(bound.mode, &standing, own, 1)
                && refusal
                    .as_ref()
                    .is_none_or(|first| first.obstacle == Obstacle::Held && obstacle != first.obstacle)
            {
                refusal = Some(Refusal {
                    obstacle,
                    place,
                    bound: bound.clone(),
                    standing,
                    requested,
                });
            }
        }
        if let Some(refusal) = refusal {
            return Err(BooksError::Refused(Box::new(refusal)));
        }
        if !self.state.can_hold(&granted) {
            return Err(BooksError::Full("amounts held"));
        }
        let at_ms = self.state.now_ms;
        let before = self.excess(hold);
        let recorded = self.record(Event::Extended(Extended {
            at_ms,
            hold,
            amounts: granted,
        }));
        assert!(
            self.excess(hold) <= before.max(0),
            "an extension went beyond a hard limit"
        );
        Ok(Extension { granted, recorded })
    }

    /// Ends a hold with what was really billed. A cost below zero is taken as zero. `overage_reason` is kept where
    /// more was billed than held.
    pub fn settle(
        &mut self,
        now_ms: i64,
        hold: HoldId,
        settlement: Settlement,
        overage_reason: Option<Name>,
    ) -> Result<SettledHold, BooksError> {
        self.settle_bills(now_ms, hold, settlement, overage_reason, Vec::new())
    }

    /// As `settle`, with the ids under which it was billed; that of a deferred hold needs no telling.
    pub fn settle_bills(
        &mut self,
        now_ms: i64,
        hold: HoldId,
        mut settlement: Settlement,
        overage_reason: Option<Name>,
        mut bills: Vec<BillId>,
    ) -> Result<SettledHold, BooksError> {
        self.state.turn(now_ms);
        let open = self.state.holds.get(hold).ok_or(BooksError::UnknownHold)?;
        let held = open.held.clone();
        bills.extend(open.bill.filter(|bill| !bills.contains(bill)));
        settlement.cost = settlement.cost.max(Usd::ZERO);
        let mut settled = Settled {
            at_ms: self.state.now_ms,
            hold,
            held: open.amounts,
            overage_reason: None,
            settlement,
            bills,
        };
        if !settled.overage().is_zero() {
            settled.overage_reason = Some(overage_reason.unwrap_or_else(|| Name::from(BILLED_ABOVE_HOLD)));
        }
        let settled = Arc::new(settled);
        let recorded = self.record(Event::Settled(settled.clone()));
        Ok(SettledHold {
            held,
            settled,
            recorded,
        })
    }

    /// Notes under which id the result is billed that a hold waits for.
    pub fn defer(&mut self, now_ms: i64, hold: HoldId, bill: BillId) -> Result<Recorded, BooksError> {
        self.state.turn(now_ms);
        if !self.state.holds.is_open(hold) {
            return Err(BooksError::UnknownHold);
        }
        let at_ms = self.state.now_ms;
        Ok(self.record(Event::Deferred(Deferred { at_ms, hold, bill })))
    }

    /// Ends a hold that nothing is billed for.
    pub fn void(&mut self, now_ms: i64, hold: HoldId, reason: &Name) -> Result<Recorded, BooksError> {
        self.state.turn(now_ms);
        if !self.state.holds.is_open(hold) {
            return Err(BooksError::UnknownHold);
        }
        Ok(self.record(Event::Voided(Voided {
            at_ms: self.state.now_ms,
            hold,
            reason: reason.clone(),
        })))
    }

    /// Marks a session. Nothing is posted by it.
    pub fn mark_session(&mut self, now_ms: i64, tenant: &Name, session: &Name, mark: Mark) -> Recorded {
        self.state.turn(now_ms);
        self.record(Event::Marked(Arc::new(Marked {
            at_ms: self.state.now_ms,
            tenant: Name::clone(tenant),
            session: Name::clone(session),
            mark,
        })))
    }

    /// Corrects a settled entry on the accounts it was posted to: in their totals, and in windows that still hold the
    /// moment it was held at.
    pub fn adjust(&mut self, now_ms: i64, adjustment: &Adjustment<'_>) -> Result<Recorded, BooksError> {
        if adjustment.amounts.is_zero() {
            return Err(BooksError::Invalid("an adjustment of nothing"));
        }
        if self.state.holds.is_open(adjustment.hold) {
            return Err(BooksError::Invalid("the hold is still open"));
        }
        self.state.turn(now_ms);
        let id: Ulid = adjustment.held.facts.id;
        let mut accounts = accounts_of(&adjustment.held.facts);
        for account in &mut accounts {
            if let Some(linked) = self.state.linked_account(account) {
                *account = Name::from(linked);
            }
        }
        for bound in &adjustment.held.bounds {
            if !accounts.contains(&bound.account) {
                accounts.push(bound.account.clone());
            }
        }
        Ok(self.record(Event::Adjusted(Arc::new(Adjusted {
            at_ms: self.state.now_ms,
            hold: adjustment.hold,
            id,
            held_at_ms: adjustment.held.at_ms,
            accounts,
            amounts: adjustment.amounts,
            reason: adjustment.reason.clone(),
            bill: adjustment.bill,
            of: Some(Adjustee {
                facts: Arc::clone(&adjustment.held.facts),
                model: adjustment.model.clone(),
            }),
        }))))
    }

    /// The first event of a month. `books` are these, as bytes; or none, where whoever writes the event fills them in: there
    /// may be too many accounts to copy them here.
    pub fn open_month(
        &mut self,
        now_ms: i64,
        previous: Option<[u8; 32]>,
        digests: Vec<(Name, [u8; 32])>,
        books: Vec<u8>,
    ) -> Recorded {
        self.state.turn(now_ms);
        let opening = Opening {
            at_ms: self.state.now_ms,
            previous,
            books,
            digests,
        };
        self.record(Event::Opening(Arc::new(opening)))
    }

    /// After a replay: settles an open hold, as estimated and `recovered`, at what its call is `expected` to cost where that is
    /// known and no more than it held, else at what it held. Only an adjustment can know better.
    pub fn recover(
        &mut self,
        now_ms: i64,
        hold: HoldId,
        expected: impl FnOnce(&Facts) -> Option<Usd>,
    ) -> Option<SettledHold> {
        self.state.turn(now_ms);
        let open = self.open_hold(hold)?;
        let reason = Name::from("recovered");
        let (facts, held) = (&open.held.facts, open.amounts.usd);
        let settlement = Settlement {
            cost: expected(facts).map_or(held, |cost| cost.max(Usd::ZERO).min(held)),
            ..Settlement::recovered(self.now_ms(), facts, held, reason)
        };
        self.settle(now_ms, hold, settlement, None).ok()
    }

    /// Notes the check value of the fingerprints' secret.
    pub fn check_secret(&mut self, now_ms: i64, check: [u8; 16]) -> Recorded {
        self.state.turn(now_ms);
        let at_ms = self.state.now_ms;
        self.record(Event::SecretChecked(SecretChecked { at_ms, check }))
    }

    /// Sets the time back to `to_ms`: the clock that it followed was wrong. Windows that run go on, with what was counted in
    /// them, as those that hold `to_ms`: it was spent just now, whatever the date was said to be.
    pub fn set_clock(&mut self, to_ms: i64) -> Recorded {
        let at_ms = self.state.now_ms;
        self.record(Event::ClockSet(ClockSet { at_ms, to_ms }))
    }

    /// Takes in an event of the journal. On fresh books the first may be any month's opening, or sequence 1.
    pub fn apply(&mut self, seq: u64, event: &Event) -> Result<(), ApplyError> {
        self.state.apply(seq, event)
    }

    /// The books as bytes, for checkpoints and openings: equal books have equal bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        snapshot::write(&self.state)
    }

    pub fn restore(bytes: &[u8]) -> Result<Books, SnapshotError> {
        Ok(Books {
            state: snapshot::read(bytes)?,
            denials: Denials::default(),
        })
    }

    /// How the bound's account stands at `now_ms`. Changes nothing.
    pub fn standing(&self, now_ms: i64, bound: &Bound) -> Standing {
        self.state.standing_at(now_ms, bound)
    }

    /// What an account has posted in the running window, in UTC. As `spent_in`.
    pub fn spent(&self, now_ms: i64, account: &str, window: Window) -> Amounts {
        self.spent_in(now_ms, account, window, &Zone::utc())
    }

    /// What an account has posted in the running window of a zone. Tenants, keys, models, providers and `global` are counted
    /// by day, month and in total in UTC; everything else from the first bound on it, and is zero before.
    ///
    /// A key or a model beyond [`NamesMax::per_kind`] has no account of its own: then this is what all such names have spent
    /// together this day, or this month. So it never says less than was spent.
    pub fn spent_in(&self, now_ms: i64, account: &str, window: Window, zone: &Zone) -> Amounts {
        let balance = self.counted_or_other(now_ms, account, window, zone);
        balance.map_or(Amounts::ZERO, |balance| balance.posted)
    }

    /// What open holds reserve on an account, since its first bound where its kind is counted on demand. As `spent_in` for
    /// names beyond the limit.
    pub fn held(&self, account: &str) -> Amounts {
        let balance = self.counted_or_other(self.state.now_ms, account, Window::Total, &Zone::utc());
        balance.map_or(Amounts::ZERO, |balance| self.state.held_on(balance))
    }

    fn counted_or_other(&self, now_ms: i64, account: &str, window: Window, zone: &Zone) -> Option<&state::Balance> {
        let now_s = now_ms.max(self.state.now_ms).div_euclid(1_000);
        if self.state.account(account, now_s).is_some() {
            return self.state.counts(now_ms, account, window, zone);
        }
        let other = other_of(account).filter(|_| zone.is_utc())?;
        // In total is all that was ever counted together: a name that is new today has no part in most of it.
        let window = if window == Window::Total { Window::Month } else { window };
        self.state.counts(now_ms, other, window, zone)
    }

    /// In no particular order.
    pub fn open_holds(&self) -> Vec<OpenHold> {
        let open = |open: &Open| OpenHold {
            id: open.id,
            held: open.held.clone(),
            amounts: open.amounts,
        };
        self.state.holds.iter().map(open).collect()
    }

    /// Ascending.
    pub fn open_ids(&self) -> Vec<HoldId> {
        let mut ids: Vec<HoldId> = self.state.holds.iter().map(|open| open.id).collect();
        ids.sort_unstable();
        ids
    }

    pub fn held_of(&self, hold: HoldId) -> Option<Arc<Held>> {
        self.state.holds.get(hold).map(|open| Arc::clone(&open.held))
    }

    /// The result that an open hold waits for.
    pub fn bill_of(&self, hold: HoldId) -> Option<BillId> {
        self.state.holds.get(hold)?.bill
    }

    pub fn open_hold(&self, id: HoldId) -> Option<OpenHold> {
        let open = self.state.holds.get(id)?;
        Some(OpenHold {
            id,
            held: open.held.clone(),
            amounts: open.amounts,
        })
    }

    /// How the bounds of an open hold stand, in their order.
    pub fn standings(&self, id: HoldId) -> Vec<Standing> {
        let open = self.state.holds.get(id);
        open.map(|open| self.state.standings_of(open).map(|(_, standing)| standing).collect())
            .unwrap_or_default()
    }

    pub fn open_count(&self) -> usize {
        self.state.holds.len()
    }

    /// Accounts that live.
    pub fn account_count(&self) -> usize {
        self.state.kept + self.state.living.iter().map(|living| living.count).sum::<usize>()
    }

    /// All running balances, in no particular order.
    pub fn balances(&self) -> impl Iterator<Item = BalanceView<'_>> {
        self.state.views()
    }

    /// The running balances of the first accounts whose names begin with `prefix` and come after `after`, in the order of
    /// their names: those that a bound names, and those with something posted or held. Of `accounts_max` at most; whether there
    /// are more.
    pub fn balances_after(
        &self,
        prefix: &str,
        after: Option<&str>,
        accounts_max: usize,
    ) -> (Vec<BalanceView<'_>>, bool) {
        self.state.views_after(prefix, after, accounts_max)
    }

    /// Gives the event its sequence and changes the state by it.
    fn record(&mut self, event: Event) -> Recorded {
        let seq = self.state.head + 1;
        let applied = self.state.apply(seq, &event);
        assert!(applied.is_ok(), "a decision that cannot be applied: {applied:?}");
        Recorded { seq, event }
    }

    fn assert_within_limits(&self, hold: HoldId) {
        assert!(self.excess(hold) <= 0, "a hold was granted beyond a hard limit");
    }

    /// How far the worst hard bound of a hold is beyond its limit.
    fn excess(&self, hold: HoldId) -> i128 {
        let Some(open) = self.state.holds.get(hold) else {
            return i128::MIN;
        };
        let hard = self
            .state
            .standings_of(open)
            .filter(|(bound, _)| bound.mode == Mode::Hard);
        hard.map(|(_, standing)| -standing.left()).max().unwrap_or(i128::MIN)
    }
}

/// Whether a bound is in the way of `requested` more. `own` is what the asking hold already holds on it.
fn obstacle(mode: Mode, standing: &Standing, own: i64, requested: i64) -> Option<Obstacle> {
    if mode == Mode::Watch || standing.left() >= i128::from(requested) {
        return None;
    }
    let others = i128::from(standing.held) - i128::from(own);
    let fits_alone = standing.left() + others >= i128::from(requested);
    Some(if fits_alone { Obstacle::Held } else { Obstacle::Exceeded })
}

fn held_bound(bound: &Bound, period: Period) -> HeldBound {
    HeldBound {
        account: bound.account().clone(),
        window: bound.window(),
        zone: bound.zone().name().clone(),
        unit: bound.unit(),
        mode: bound.mode(),
        limit: bound.limit().count(),
        start_s: period.start_s,
        end_s: period.end_s,
    }
}
