//! The one place where events change the books, live as in replay.

use std::sync::Arc;

use super::accounts::{Account, other_of};
use super::holds::Open;
use super::snapshot::{self, SnapshotError};
use super::state::{Balance, Share, State};
use crate::amounts::Amounts;
use crate::event::{Adjusted, Deferred, Event, Extended, Held, HoldId, Opening, Settled};
use crate::money::Usd;
use crate::slab::Place;

/// Why an event does not follow from those before it: the journal is damaged, or not all there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("event {found} follows event {head}")]
    Sequence { head: u64, found: u64 },
    #[error("event {seq} ends or extends hold {}, which is not open", .hold.0)]
    UnknownHold { seq: u64, hold: HoldId },
    #[error("event {seq} holds or enters less than nothing, or more than can be counted")]
    Amounts { seq: u64 },
    #[error("event {seq} opens a month with broken books")]
    Opening {
        seq: u64,
        #[source]
        error: SnapshotError,
    },
}

impl State {
    pub fn apply(&mut self, seq: u64, event: &Event) -> Result<(), ApplyError> {
        let is_fresh = self.head == 0 && self.accounts.len() == 0;
        match event {
            Event::Opening(opening) if is_fresh => return self.apply_first(seq, opening),
            _ if seq != self.head + 1 => {
                return Err(ApplyError::Sequence {
                    head: self.head,
                    found: seq,
                });
            }
            Event::Held(held) if !self.may_hold(&held.amounts) => return Err(ApplyError::Amounts { seq }),
            Event::Imported(imported) if imported.entries.iter().any(|entry| entry.settlement.cost < Usd::ZERO) => {
                return Err(ApplyError::Amounts { seq });
            }
            Event::Extended(extended) if !self.may_hold(&extended.amounts) => {
                return Err(ApplyError::Amounts { seq });
            }
            _ => self.turn(event.at_ms()),
        }
        let known = match event {
            Event::Held(held) => self.apply_held(HoldId(seq), held),
            Event::Extended(extended) => self.apply_extended(extended),
            Event::Settled(settled) => self.apply_settled(settled),
            Event::Voided(voided) => self.end(voided.hold, Amounts::ZERO),
            Event::Adjusted(adjusted) => self.apply_adjusted(adjusted),
            Event::Deferred(deferred) => self.apply_deferred(deferred),
            Event::Imported(imported) => {
                self.apply_imported(imported);
                Ok(())
            }
            Event::Linked(linked) => {
                self.apply_linked(linked);
                Ok(())
            }
            Event::ClockSet(set) => {
                self.set_clock(set.to_ms);
                Ok(())
            }
            Event::Changed(change) => {
                Arc::make_mut(&mut self.documents).apply(change);
                Ok(())
            }
            // A later month's opening says what the events before it have made already.
            Event::Opening(_)
            | Event::Denied(_)
            | Event::Marked(_)
            | Event::SecretChecked(_)
            | Event::Refused(_)
            | Event::InForce(_) => Ok(()),
        };
        known.map_err(|hold| ApplyError::UnknownHold { seq, hold })?;
        self.head = seq;
        self.sweep_on();
        Ok(())
    }

    fn may_hold(&self, amounts: &Amounts) -> bool {
        amounts.is_valid_hold() && self.can_hold(amounts)
    }

    /// The first event that fresh books see brings what was before it.
    fn apply_first(&mut self, seq: u64, opening: &Opening) -> Result<(), ApplyError> {
        let names_max = self.names_max;
        *self = snapshot::read(&opening.books).map_err(|error| ApplyError::Opening { seq, error })?;
        self.names_max = names_max;
        if self.head + 1 != seq {
            return Err(ApplyError::Sequence {
                head: self.head,
                found: seq,
            });
        }
        self.turn(opening.at_ms);
        self.head = seq;
        Ok(())
    }

    fn apply_held(&mut self, id: HoldId, held: &Arc<Held>) -> Result<(), HoldId> {
        let mut accounts = Vec::with_capacity(16);
        self.accounts_named(&held.facts, &mut accounts);
        let mut bounds = Vec::with_capacity(held.bounds.len());
        for bound in &held.bounds {
            let account = self.account_bound(bound, &mut accounts);
            bounds.extend(self.bind(account, bound));
        }
        let mut balances = Vec::with_capacity(accounts.len() * 3);
        let mut untouched = Vec::new();
        for account in accounts {
            let before = balances.len();
            self.running_of(account, &mut balances);
            if held.is_late() {
                self.keep_windows_of(&mut balances, before, held.facts.at_ms);
                untouched.extend((balances.len() == before).then_some(account));
            }
        }
        if !untouched.is_empty() {
            self.rest(&untouched);
        }
        for place in &balances {
            if let Some(balance) = self.balances.get_mut(*place) {
                let share = *balance.held.get_or_insert_with(|| self.shares.insert(Share::default()));
                if let Some(share) = self.shares.get_mut(share) {
                    share.amounts = share.amounts.plus(&held.amounts);
                    share.holds += 1;
                }
            }
        }
        self.held = self.held.plus(&held.amounts);
        self.holds.insert(Open {
            id,
            held: held.clone(),
            amounts: held.amounts,
            balances,
            bounds,
            bill: None,
        });
        Ok(())
    }

    /// Of the balances from the place `from` on those stay whose window holds this time: what is entered late belongs to no other.
    fn keep_windows_of(&self, balances: &mut Vec<Place>, from: usize, at_ms: i64) {
        let running = balances.split_off(from);
        balances.extend(running.into_iter().filter(|place| {
            let balance = self.balances.get(*place);
            balance.is_some_and(|balance| self.period_of(balance).contains(at_ms.div_euclid(1_000)))
        }));
    }

    fn apply_extended(&mut self, extended: &Extended) -> Result<(), HoldId> {
        let open = self.holds.get_mut(extended.hold).ok_or(extended.hold)?;
        open.amounts = open.amounts.plus(&extended.amounts);
        self.held = self.held.plus(&extended.amounts);
        for place in &open.balances {
            let share = self.balances.get(*place).and_then(|balance| balance.held);
            if let Some(share) = share.and_then(|place| self.shares.get_mut(place)) {
                share.amounts = share.amounts.plus(&extended.amounts);
            }
        }
        Ok(())
    }

    fn apply_deferred(&mut self, deferred: &Deferred) -> Result<(), HoldId> {
        let open = self.holds.get_mut(deferred.hold).ok_or(deferred.hold)?;
        open.bill = Some(deferred.bill);
        Ok(())
    }

    fn apply_settled(&mut self, settled: &Settled) -> Result<(), HoldId> {
        self.end(settled.hold, settled.posted())
    }

    /// A hold ends: what it held is free, what was billed is posted, the surplus is overage.
    fn end(&mut self, hold: HoldId, posted: Amounts) -> Result<(), HoldId> {
        let open = self.holds.remove(hold).ok_or(hold)?;
        let overage = posted.beyond(&open.amounts);
        self.held = self.held.minus(&open.amounts);
        let mut accounts = Vec::with_capacity(16);
        for place in open.balances {
            self.release(place, &open.amounts);
            let Some(account) = self.post(place, &posted, &overage) else {
                continue;
            };
            if accounts.last() != Some(&account) {
                accounts.push(account);
            }
            let is_named = |account: &Account| account.balances().any(|named| named == place);
            if !self.accounts.get(account).is_some_and(is_named) {
                self.free_unless_held(place);
            }
        }
        self.rest(&accounts);
        Ok(())
    }

    /// One hold less on a balance.
    fn release(&mut self, place: Place, amounts: &Amounts) {
        let Some(balance) = self.balances.get_mut(place) else {
            return;
        };
        let Some(share) = balance.held.and_then(|place| self.shares.get_mut(place)) else {
            return;
        };
        share.amounts = share.amounts.minus(amounts);
        share.holds -= 1;
        if share.holds == 0 {
            assert!(share.amounts.is_zero(), "held without a hold");
            if let Some(share) = balance.held.take() {
                self.shares.remove(share);
            }
        }
    }

    /// Posts to a balance. Its account.
    pub(super) fn post(&mut self, place: Place, posted: &Amounts, overage: &Amounts) -> Option<Place> {
        let balance = self.balances.get_mut(place)?;
        balance.posted = balance.posted.plus(posted);
        if !overage.is_zero() {
            let place = *balance
                .overage
                .get_or_insert_with(|| self.overages.insert(Amounts::ZERO));
            if let Some(sum) = self.overages.get_mut(place) {
                *sum = sum.plus(overage);
            }
        }
        let account = balance.account;
        let balance = self.balances.get(place)?;
        let (calendar, end_s) = (self.calendar_on(balance), self.period_of(balance).end_s);
        self.post_counts(account, calendar, end_s, posted);
        Some(account)
    }

    fn apply_adjusted(&mut self, adjusted: &Adjusted) -> Result<(), HoldId> {
        let held_at_s = adjusted.held_at_ms.div_euclid(1_000);
        let overage = adjusted.amounts.beyond(&Amounts::ZERO);
        let mut corrected = Vec::new();
        for name in &adjusted.accounts {
            let place = self.account(name, self.now_s()).or_else(|| {
                // What was counted on the name that stands for all further ones is corrected there.
                other_of(name).and_then(|other| self.account(other, self.now_s()))
            });
            let Some(place) = place.filter(|place| !corrected.contains(place)) else {
                continue;
            };
            let balances: Vec<Place> = self
                .accounts
                .get(place)
                .into_iter()
                .flat_map(Account::balances)
                .collect();
            let counts_it =
                |balance: &Balance| self.period_of(balance).contains(held_at_s) && balance.since <= adjusted.hold.0;
            let counted: Vec<Place> = balances
                .into_iter()
                .filter(|place| self.balances.get(*place).is_some_and(counts_it))
                .filter(|place| self.is_running_on(*place))
                .collect();
            self.unrest(place);
            for balance in counted {
                self.post(balance, &adjusted.amounts, &overage);
            }
            corrected.push(place);
        }
        self.rest(&corrected);
        Ok(())
    }
}
