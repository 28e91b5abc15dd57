//! Accounts: which of them live, until when, and how many may.
//!
//! Names that clients make up must not be memory for ever. So an account lives only as long as something that it counts
//! is running: until its day is over, the month where it is a key or a model that cost something, the windows of its
//! bounds in which something is posted, and the end of its last hold. When that is over the account is no more, whether or
//! not it has been swept away yet: nothing that is decided or written down depends on how far a sweep has come.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::accounts::{
    Account, Class, DAY, FactKind, Flags, MONTH, STANDING_WINDOWS, Slot, bit, each_account, has_any, other_of,
    period_of,
};
use super::state::State;
use crate::amounts::Amounts;
use crate::entry::{Facts, Name};
use crate::event::HeldBound;
use crate::slab::{Place, Slab};

/// A window that no bound has requested in so many days is no longer counted. Beyond a month and the one before.
const WINDOW_KEPT_DAYS: u32 = 62;
const DAY_S: i64 = 86_400;

/// The living accounts of a class: how many, when they end, and which of them could be given up for another.
#[derive(Clone, Debug, Default)]
pub(super) struct Living {
    pub count: usize,
    /// How many end at a moment; `i64::MAX` for those with a hold, and those that never end. Few moments: ends of windows.
    ends: Vec<(i64, usize)>,
    /// Those without a hold that nothing was posted to, by the event that ended their last one. Entries whose account has
    /// been used since are void.
    idle: VecDeque<(u64, Place)>,
}

impl Living {
    fn enter(&mut self, until_s: i64, now_s: i64) {
        if until_s <= now_s {
            return;
        }
        self.count += 1;
        match self.ends.iter_mut().find(|(end_s, _)| *end_s == until_s) {
            Some((_, count)) => *count += 1,
            None => self.ends.push((until_s, 1)),
        }
    }

    fn leave(&mut self, until_s: i64, now_s: i64) {
        if until_s <= now_s {
            return;
        }
        if let Some((_, count)) = self.ends.iter_mut().find(|(end_s, _)| *end_s == until_s) {
            *count -= 1;
            self.count -= 1;
        }
        self.ends.retain(|(_, count)| *count > 0);
    }

    /// Those whose end has come live no longer.
    pub fn expire(&mut self, now_s: i64) {
        self.ends.retain(|(end_s, count)| {
            let lives = *end_s > now_s;
            if !lives {
                self.count -= count;
            }
            lives
        });
    }

    pub fn next_end_s(&self) -> i64 {
        self.ends.iter().map(|(end_s, _)| *end_s).min().unwrap_or(i64::MAX)
    }
}

impl State {
    pub fn is_holding(&self, account: &Account) -> bool {
        let total = account.standing.last().copied().flatten();
        total
            .and_then(|place| self.balances.get(place))
            .is_some_and(|balance| balance.held.is_some())
    }

    pub fn is_living(&self, account: &Account, now_s: i64) -> bool {
        account.class == Class::Kept || account.until_s > now_s || self.is_holding(account)
    }

    pub fn named(&self, name: &str) -> Option<Place> {
        let is_it = |place| self.accounts.get(place).is_some_and(|account| *account.name == *name);
        self.index.find(self.index.hash(name), is_it)
    }

    /// The living account of this name.
    pub fn account(&self, name: &str, now_s: i64) -> Option<Place> {
        let place = self.named(name)?;
        let account = self.accounts.get(place)?;
        self.is_living(account, now_s).then_some(place)
    }

    /// The account as it is; one that lives no longer is swept away first.
    fn account_or_sweep(&mut self, name: &str) -> Option<Place> {
        let place = self.named(name)?;
        if !self.is_living(self.accounts.get(place)?, self.now_s()) {
            self.forget(place);
            return None;
        }
        Some(place)
    }

    pub fn make_account(&mut self, name: Name, class: Class) -> Place {
        let hash = self.index.hash(&*name);
        let place = self.accounts.insert(Account::new(name, class));
        self.index.insert(hash, place, hash_in(&self.accounts));
        self.kept += usize::from(class == Class::Kept);
        place
    }

    pub fn forget(&mut self, place: Place) {
        let Some(name) = self.accounts.get(place).map(|account| account.name.clone()) else {
            return;
        };
        self.index
            .remove(self.index.hash(&*name), place, hash_in(&self.accounts));
        let Some(account) = self.accounts.remove(place) else {
            return;
        };
        for balance in account.balances() {
            self.free_balance(balance);
        }
        let now_s = self.now_s();
        match self.living.get_mut(account.class as usize) {
            Some(living) => living.leave(account.until_s, now_s),
            None => self.kept -= 1,
        }
    }

    /// A hold is being placed on the account, by the event after the head.
    pub fn begin(&mut self, place: Place) {
        let (now_s, day_end_s) = (self.now_s(), self.end_of(DAY));
        let Some(account) = self.accounts.get(place) else {
            return;
        };
        let is_holding = self.is_holding(account);
        let used = self.head + 1;
        let Some(account) = self.accounts.get_mut(place) else {
            return;
        };
        let (class, was_until_s) = (account.class, account.until_s);
        account.used = used;
        account.until_s = match class {
            Class::Tenant => i64::MAX,
            _ => account.until_s.max(day_end_s),
        };
        if !is_holding && let Some(living) = self.living.get_mut(class as usize) {
            living.leave(was_until_s, now_s);
            living.enter(i64::MAX, now_s);
        }
        if self
            .accounts
            .get(place)
            .is_some_and(|account| !account.slots.as_slice().is_empty())
        {
            // Windows that were not requested in a long time are no longer counted.
            self.tidy(place);
        }
    }

    /// A hold on the accounts has ended, or they were corrected: how long do they live, and can they be given up?
    pub fn rest(&mut self, places: &[Place]) {
        let (now_s, day_end_s, seq) = (self.now_s(), self.end_of(DAY), self.head + 1);
        let mut idle: Vec<(Name, usize, Place)> = Vec::new();
        for place in places {
            let Some(account) = self.accounts.get(*place) else {
                continue;
            };
            let is_holding = self.is_holding(account);
            let Some(account) = self.accounts.get_mut(*place) else {
                continue;
            };
            account.used = seq;
            account.until_s = account.until_s.max(day_end_s);
            let class = account.class as usize;
            if !is_holding && let Some(living) = self.living.get_mut(class) {
                living.leave(i64::MAX, now_s);
                living.enter(account.until_s, now_s);
                self.next_turn_s = self.next_turn_s.min(account.until_s);
                if !account.flags.is_spent() {
                    idle.push((account.name.clone(), class, *place));
                }
            }
        }
        // Books that are read back know no order but that of the names.
        idle.sort_unstable();
        for (_, class, place) in idle {
            self.push_idle(class, seq, place);
        }
    }

    /// Takes an account from under its end, while it is corrected; `rest` puts it back.
    pub fn unrest(&mut self, place: Place) {
        let now_s = self.now_s();
        let Some(account) = self.accounts.get(place) else {
            return;
        };
        let is_holding = self.is_holding(account);
        if !is_holding && let Some(living) = self.living.get_mut(account.class as usize) {
            living.leave(account.until_s, now_s);
            living.enter(i64::MAX, now_s);
        }
    }

    pub fn push_idle(&mut self, class: usize, used: u64, place: Place) {
        let Some(living) = self.living.get_mut(class) else {
            return;
        };
        living.idle.push_back((used, place));
        if living.idle.len() > 2 * living.count + 64 {
            let mut idle = std::mem::take(&mut living.idle);
            idle.retain(|entry| self.is_idle(class, *entry));
            if let Some(living) = self.living.get_mut(class) {
                living.idle = idle;
            }
        }
    }

    fn is_idle(&self, class: usize, (used, place): (u64, Place)) -> bool {
        self.accounts.get(place).is_some_and(|account| {
            account.used == used
                && account.class as usize == class
                && !account.flags.is_spent()
                && account.until_s > self.now_s()
                && !self.is_holding(account)
        })
    }

    /// After reading back: counts the accounts, and finds those that could be given up.
    pub fn count_living(&mut self) {
        let now_s = self.now_s();
        let mut idle: Vec<(u64, Name, usize, Place)> = Vec::new();
        for (place, account) in self.accounts.iter() {
            let is_holding = self.is_holding(account);
            let class = account.class as usize;
            let Some(living) = self.living.get_mut(class) else {
                continue;
            };
            living.enter(if is_holding { i64::MAX } else { account.until_s }, now_s);
            if !is_holding && !account.flags.is_spent() && account.until_s > now_s {
                idle.push((account.used, account.name.clone(), class, place));
            }
        }
        idle.sort_unstable();
        for (used, _, class, place) in idle {
            self.push_idle(class, used, place);
        }
        self.find_next_turn();
    }

    /// Drops void entries from the front: whether there is an account to be given up.
    fn has_idle(&mut self, class: Class) -> bool {
        let class = class as usize;
        while let Some(first) = self.living.get(class).and_then(|living| living.idle.front().copied()) {
            if self.is_idle(class, first) {
                return true;
            }
            if let Some(living) = self.living.get_mut(class) {
                living.idle.pop_front();
            }
        }
        false
    }

    /// Gives up the account longest unused to which nothing was posted. False where there is none.
    fn give_up_one(&mut self, class: Class) -> bool {
        let found = self.has_idle(class);
        let first = self
            .living
            .get_mut(class as usize)
            .and_then(|living| living.idle.pop_front());
        if let Some((_, place)) = first {
            self.forget(place);
        }
        found
    }

    fn count_of(&self, class: Class) -> usize {
        self.living.get(class as usize).map_or(self.kept, |living| living.count)
    }

    /// Whether a bound on this account would need one more than there may be.
    pub fn is_full_for(&mut self, name: &str) -> bool {
        if self.count_of(Class::Bound) < self.names_max.bound {
            return false;
        }
        let known = self
            .account(name, self.now_s())
            .and_then(|place| self.accounts.get(place));
        let needs_one = known.is_none_or(|account| matches!(account.class, Class::Key | Class::Model));
        needs_one && !self.has_idle(Class::Bound)
    }

    /// The accounts that a hold's facts name, made where they are new; each is now in use.
    pub fn accounts_named(&mut self, facts: &Facts, places: &mut Vec<Place>) {
        let mut spelling = std::mem::take(&mut self.spelling);
        each_account(facts, &mut spelling, |kind, name| {
            if let Some(place) = self
                .account_counting(kind, name)
                .filter(|place| !places.contains(place))
            {
                self.begin(place);
                places.push(place);
            }
        });
        self.spelling = spelling;
    }

    /// As `accounts_named`, for one of many entries that are taken in together: each account begins once, and is in `begun`
    /// then. A key that was seen since counts on the account that it has here.
    pub fn accounts_imported(
        &mut self,
        facts: &Facts,
        has_legacy_key: bool,
        places: &mut Vec<Place>,
        begun: &mut Vec<Place>,
    ) {
        let mut spelling = std::mem::take(&mut self.spelling);
        each_account(facts, &mut spelling, |kind, name| {
            let linked = match kind {
                FactKind::Key if has_legacy_key => self.linked_account(name),
                _ => None,
            };
            let Some(place) = self.account_counting(kind, linked.as_deref().unwrap_or(name)) else {
                return;
            };
            if !begun.contains(&place) {
                self.begin(place);
                begun.push(place);
            }
            if !places.contains(&place) {
                places.push(place);
            }
        });
        self.spelling = spelling;
    }

    /// The account on which a name of these facts counts, made where it is the first of it.
    pub fn account_counting(&mut self, kind: FactKind, name: &str) -> Option<Place> {
        match self.account_or_sweep(name) {
            Some(place) => Some(place),
            None => self.make_named(kind, name),
        }
    }

    fn make_named(&mut self, kind: FactKind, name: &str) -> Option<Place> {
        let per_kind = self.names_max.per_kind;
        let (class, folded) = match kind {
            FactKind::OnDemand => return None,
            FactKind::Config => return Some(self.make_account(name.into(), Class::Kept)),
            FactKind::Key => (Class::Key, 0),
            FactKind::Model => (Class::Model, 1),
            FactKind::Tenant => (Class::Tenant, 2),
        };
        if self.count_of(class) < per_kind || self.give_up_one(class) {
            return Some(self.make_account(name.into(), class));
        }
        if let Some(count) = self.folded.get_mut(folded) {
            *count += 1;
        }
        let other = other_of(name)?;
        match self.named(other) {
            Some(place) => Some(place),
            None => Some(self.make_account(other.into(), Class::Kept)),
        }
    }

    /// The account of a bound, which is counted for itself whatever the limit: `reserve` has seen to that. It is now in use.
    pub fn account_bound(&mut self, bound: &HeldBound, places: &mut Vec<Place>) -> Place {
        let place = match self.account_or_sweep(&bound.account) {
            Some(place) => place,
            None => {
                if self.count_of(Class::Bound) >= self.names_max.bound {
                    self.give_up_one(Class::Bound);
                }
                self.make_account(bound.account.clone(), Class::Bound)
            }
        };
        if !places.contains(&place) {
            self.begin(place);
            places.push(place);
        }
        let class = self.accounts.get(place).map(|account| account.class);
        if matches!(class, Some(Class::Key | Class::Model)) {
            if self.count_of(Class::Bound) >= self.names_max.bound {
                self.give_up_one(Class::Bound);
            }
            let now_s = self.now_s();
            // It holds, or is about to: so it stands under the end of time.
            if let Some(living) = class.and_then(|class| self.living.get_mut(class as usize)) {
                living.leave(i64::MAX, now_s);
            }
            if let Some(living) = self.living.get_mut(Class::Bound as usize) {
                living.enter(i64::MAX, now_s);
            }
            if let Some(account) = self.accounts.get_mut(place) {
                account.class = Class::Bound;
            }
        }
        place
    }

    /// A bound asks for a window: its account counts in it from now on. The event's period decides, not the calendar.
    pub fn bind(&mut self, place: Place, bound: &HeldBound) -> Option<Place> {
        let calendar = self.calendar_for(bound.window, &bound.zone);
        let today = self.today();
        let account = self.accounts.get_mut(place)?;
        if usize::from(calendar) < STANDING_WINDOWS.len() {
            account.flags.add_unit(calendar, bound.unit);
        } else {
            let known = account
                .slots
                .as_mut_slice()
                .iter_mut()
                .find(|slot| slot.calendar == calendar);
            match known {
                Some(slot) => {
                    slot.bound_day = today;
                    slot.units |= bit(bound.unit);
                }
                None => account.slots.push(Slot {
                    balance: None,
                    bound_day: today,
                    calendar,
                    units: bit(bound.unit),
                }),
            }
        }
        let balance = self.running(place, calendar, period_of(bound))?;
        // What was spent before the bound came counts for it.
        let posted = self.balances.get(balance)?.posted;
        self.post_counts(place, calendar, bound.end_s, &posted);
        Some(balance)
    }

    /// Something was posted to an account in a window: how long must the account be remembered for it?
    pub fn post_counts(&mut self, place: Place, calendar: u16, end_s: i64, posted: &Amounts) {
        let month_end_s = self.end_of(MONTH);
        let Some(account) = self.accounts.get_mut(place) else {
            return;
        };
        if has_any(posted, account.units_in(calendar)) {
            account.until_s = account.until_s.max(end_s);
            account.flags.0 |= Flags::SPENT;
        }
        let has_cost = !posted.usd.is_zero() || posted.tokens != 0;
        if calendar == DAY && has_cost && account.flags.is_standing() {
            account.flags.0 |= Flags::SPENT;
            if account.flags.0 & Flags::MONTHLY != 0 {
                account.until_s = account.until_s.max(month_end_s);
            }
        }
    }

    pub fn today(&self) -> u32 {
        u32::try_from(self.now_s().div_euclid(DAY_S)).unwrap_or(0)
    }

    /// Whether an account still counts in a window beside the standing ones.
    pub fn is_counted(&self, slot: &Slot) -> bool {
        let runs = slot.balance.is_some_and(|place| self.is_running_on(place));
        runs || slot.bound_day.saturating_add(WINDOW_KEPT_DAYS) >= self.today()
    }

    /// Frees what is over on an account, and the account where all is.
    pub fn tidy(&mut self, place: Place) {
        let Some(account) = self.accounts.get(place) else {
            return;
        };
        if !self.is_living(account, self.now_s()) {
            return self.forget(place);
        }
        let over: Vec<Place> = account
            .balances()
            .filter(|balance| !self.is_running_on(*balance))
            .collect();
        let gone: Vec<u16> = account
            .slots
            .as_slice()
            .iter()
            .filter(|slot| !self.is_counted(slot))
            .map(|slot| slot.calendar)
            .collect();
        let Some(account) = self.accounts.get_mut(place) else {
            return;
        };
        for balance in &mut account.standing {
            if balance.is_some_and(|place| over.contains(&place)) {
                *balance = None;
            }
        }
        for slot in account.slots.as_mut_slice() {
            if slot.balance.is_some_and(|place| over.contains(&place)) {
                slot.balance = None;
            }
        }
        account.slots.retain(|slot| !gone.contains(&slot.calendar));
        for balance in over {
            self.free_unless_held(balance);
        }
    }
}

/// How the index hashes an account that it has.
fn hash_in(accounts: &Slab<Account>) -> impl Fn(&RandomState, Place) -> u64 + '_ {
    |hasher, place| hasher.hash_one(accounts.get(place).map_or("", |account| &*account.name))
}
