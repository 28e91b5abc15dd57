//! The one place where events change the books, live as in replay.

use std::sync::Arc;

use super::snapshot::{self, SnapshotError};
use super::state::{Balance, Open, State};
use crate::amounts::Amounts;
use crate::event::{Adjusted, Deferred, Event, Extended, Held, HoldId, Opening, Settled};

/// Why an event does not follow from those before it: the journal is damaged, or not all there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("event {found} follows event {head}")]
    Sequence { head: u64, found: u64 },
    #[error("event {seq} ends or extends hold {}, which is not open", .hold.0)]
    UnknownHold { seq: u64, hold: HoldId },
    #[error("event {seq} holds less than nothing, or more than can be counted")]
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
            Event::ClockSet(set) => {
                self.set_clock(set.to_ms);
                Ok(())
            }
            // A later month's opening says what the events before it have made already.
            Event::Opening(_) | Event::Denied(_) | Event::Marked(_) | Event::SecretChecked(_) => Ok(()),
        };
        known.map_err(|hold| ApplyError::UnknownHold { seq, hold })?;
        self.head = seq;
        Ok(())
    }

    fn may_hold(&self, amounts: &Amounts) -> bool {
        amounts.is_valid_hold() && self.can_hold(amounts)
    }

    /// The first event that fresh books see brings what was before it.
    fn apply_first(&mut self, seq: u64, opening: &Opening) -> Result<(), ApplyError> {
        *self = snapshot::read(&opening.books).map_err(|error| ApplyError::Opening { seq, error })?;
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
            let account = self.make_account(bound.account.clone());
            if !accounts.contains(&account) {
                accounts.push(account);
            }
            bounds.extend(self.bind(account, bound));
        }
        let mut balances = Vec::with_capacity(accounts.len() * 4);
        for account in accounts {
            self.running_of(account, &mut balances);
        }
        for place in &balances {
            if let Some(balance) = self.balances.get_mut(*place) {
                balance.held = balance.held.plus(&held.amounts);
                balance.holds += 1;
            }
        }
        self.held = self.held.plus(&held.amounts);
        self.holds.insert(
            id,
            Open {
                held: held.clone(),
                amounts: held.amounts,
                balances,
                bounds,
                bill: None,
            },
        );
        Ok(())
    }

    fn apply_extended(&mut self, extended: &Extended) -> Result<(), HoldId> {
        let open = self.holds.get_mut(&extended.hold).ok_or(extended.hold)?;
        open.amounts = open.amounts.plus(&extended.amounts);
        self.held = self.held.plus(&extended.amounts);
        for place in &open.balances {
            if let Some(balance) = self.balances.get_mut(*place) {
                balance.held = balance.held.plus(&extended.amounts);
            }
        }
        Ok(())
    }

    fn apply_deferred(&mut self, deferred: &Deferred) -> Result<(), HoldId> {
        let open = self.holds.get_mut(&deferred.hold).ok_or(deferred.hold)?;
        open.bill = Some(deferred.bill);
        Ok(())
    }

    fn apply_settled(&mut self, settled: &Settled) -> Result<(), HoldId> {
        self.end(settled.hold, settled.posted())
    }

    /// A hold ends: what it held is free, what was billed is posted, the surplus is overage.
    fn end(&mut self, hold: HoldId, posted: Amounts) -> Result<(), HoldId> {
        let open = self.holds.remove(&hold).ok_or(hold)?;
        let overage = posted.beyond(&open.amounts);
        self.held = self.held.minus(&open.amounts);
        for place in open.balances {
            let Some(balance) = self.balances.get_mut(place) else {
                continue;
            };
            balance.held = balance.held.minus(&open.amounts);
            balance.posted = balance.posted.plus(&posted);
            balance.overage = balance.overage.plus(&overage);
            balance.holds -= 1;
            if balance.holds == 0 {
                assert!(balance.held.is_zero(), "held without a hold");
                if !balance.running {
                    self.balances.remove(place);
                }
            }
        }
        Ok(())
    }

    /// Time goes back: balances that run are those of the windows that hold the moment now.
    fn set_clock(&mut self, to_ms: i64) {
        let stretches = self.set_calendars(to_ms);
        let running: Vec<u32> = self
            .balances
            .iter()
            .filter(|(_, it)| it.running)
            .map(|(at, _)| at)
            .collect();
        for place in running {
            if let Some(balance) = self.balances.get_mut(place)
                && let Some(stretch) = stretches.get(balance.calendar)
            {
                balance.stretch = *stretch;
            }
        }
    }

    fn apply_adjusted(&mut self, adjusted: &Adjusted) -> Result<(), HoldId> {
        let held_at_s = adjusted.held_at_ms.div_euclid(1_000);
        let overage = adjusted.amounts.beyond(&Amounts::ZERO);
        for name in &adjusted.accounts {
            let account = self.numbers.get(name).and_then(|number| self.accounts.get(*number));
            for place in account
                .into_iter()
                .flat_map(|account| &account.slots)
                .filter_map(|slot| slot.balance)
            {
                let counts_it =
                    |balance: &&mut Balance| balance.stretch.contains(held_at_s) && balance.since <= adjusted.hold.0;
                let balance = self.balances.get_mut(place).filter(counts_it);
                if let Some(balance) = balance {
                    balance.posted = balance.posted.plus(&adjusted.amounts);
                    balance.overage = balance.overage.plus(&overage);
                }
            }
        }
        Ok(())
    }
}
