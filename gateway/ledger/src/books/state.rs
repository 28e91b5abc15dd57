//! The state of the books: calendars, balances by window, and the open holds. What lives how long is in `accounts.rs`.

use std::collections::BinaryHeap;
use std::sync::Arc;

use super::accounts::{Account, Class, FOLDED_KINDS, NamesMax, STANDING_WINDOWS, TOTAL, each_account};
use super::holds::{Holds, Open};
use super::imports::Imports;
use super::living::Living;
use crate::amounts::{Amounts, Unit};
use crate::books::Standing;
use crate::bound::{Bound, Window, Zone};
use crate::change::Documents;
use crate::entry::{Facts, Name};
use crate::event::HeldBound;
use crate::index::Index;
use crate::slab::{Place, Slab};
use crate::window::{AT_MS_MAX, Period};

const DAY: usize = 0;
/// Accounts that each event looks at, until all have been after a day's turn.
const SWEEP_STEP: usize = 32;

#[derive(Clone, Debug)]
pub(super) struct State {
    pub head: u64,
    pub now_ms: i64,
    pub names_max: NamesMax,
    pub calendars: Vec<Calendar>,
    /// The first moment at which some calendar turns, or some account's end comes.
    pub next_turn_s: i64,
    pub index: Index,
    pub accounts: Slab<Account>,
    pub balances: Slab<Balance>,
    /// What open holds hold on balances; most balances have none.
    pub shares: Slab<Share>,
    /// What was billed beyond holds; most balances have none.
    pub overages: Slab<Amounts>,
    pub instances: Slab<Instance>,
    /// The accounts of the classes that are limited.
    pub living: [Living; Class::LIMITED],
    /// The accounts that are never forgotten.
    pub kept: usize,
    /// Which account the sweep looks at next; `None` while there is no sweep.
    pub sweep: Option<usize>,
    /// Names that were counted on `kind:other`, since these books were made. Nothing is decided by it.
    pub folded: [u64; FOLDED_KINDS.len()],
    pub holds: Holds,
    /// Seldom changed, and frozen with the rest: in one piece.
    pub imports: Arc<Imports>,
    /// What all open holds hold together: no balance ever holds more, so none overflows where this does not.
    pub held: Amounts,
    /// What operators have changed. As `imports`.
    pub documents: Arc<Documents>,
    /// Room to spell account names in.
    pub spelling: String,
}

/// A window in a zone, and its running instance.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    pub window: Window,
    pub zone: Zone,
    pub period: Period,
    /// The running instance, where a balance counts it.
    instance: Option<Place>,
}

/// One instance of a window, shared by the balances that count it.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub period: Period,
    pub calendar: u16,
    balances: u32,
}

/// What one account counts in one instance of a window. One that its account does not name lives on until its last
/// hold ends.
#[derive(Clone, Debug)]
pub(super) struct Balance {
    pub posted: Amounts,
    /// The sequence it was made by: holds before it are not counted here.
    pub since: u64,
    pub account: Place,
    pub instance: Place,
    pub held: Option<Place>,
    pub overage: Option<Place>,
}

/// What open holds hold on a balance.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub amounts: Amounts,
    pub holds: u32,
}

/// A running balance, for `budget.status`.
#[derive(Clone, Debug)]
pub struct BalanceView<'a> {
    pub account: &'a Name,
    pub window: Window,
    pub zone: &'a Name,
    pub period: Period,
    pub posted: Amounts,
    pub held: Amounts,
    pub overage: Amounts,
}

/// The accounts an exchange may be counted on: `global` and one for each name its facts bear. Names too long for an account
/// have none.
pub fn accounts_of(facts: &Facts) -> Vec<Name> {
    let mut accounts = Vec::with_capacity(12);
    let mut spelling = String::new();
    each_account(facts, &mut spelling, |_, account| accounts.push(Name::from(account)));
    accounts
}

impl Default for State {
    fn default() -> State {
        State::new(0)
    }
}

impl State {
    pub fn new(now_ms: i64) -> State {
        let now_ms = now_ms.clamp(0, AT_MS_MAX);
        let calendar = |window: Window| Calendar {
            window,
            zone: Zone::utc(),
            period: window.period(&Zone::utc(), now_ms),
            instance: None,
        };
        let mut state = State {
            head: 0,
            now_ms,
            names_max: NamesMax::default(),
            calendars: STANDING_WINDOWS.map(calendar).to_vec(),
            next_turn_s: 0,
            index: Index::default(),
            accounts: Slab::default(),
            balances: Slab::default(),
            shares: Slab::default(),
            overages: Slab::default(),
            instances: Slab::default(),
            living: Default::default(),
            kept: 0,
            sweep: None,
            folded: Default::default(),
            holds: Holds::default(),
            imports: Arc::default(),
            held: Amounts::ZERO,
            documents: Arc::default(),
            spelling: String::new(),
        };
        state.find_next_turn();
        state
    }

    pub fn now_s(&self) -> i64 {
        self.now_ms.div_euclid(1_000)
    }

    /// When the running instance of a standing window ends.
    pub fn end_of(&self, window: u16) -> i64 {
        let calendar = self.calendars.get(usize::from(window));
        calendar.map_or(i64::MAX, |calendar| calendar.period.end_s)
    }

    /// Time passes, and never goes back.
    pub fn turn(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms.min(AT_MS_MAX));
        let now_s = self.now_s();
        if now_s < self.next_turn_s {
            return;
        }
        let today = self.calendars.get(DAY).map(|day| day.period);
        for calendar in self
            .calendars
            .iter_mut()
            .filter(|calendar| calendar.period.end_s <= now_s)
        {
            calendar.period = calendar.window.period(&calendar.zone, self.now_ms);
            calendar.instance = None;
        }
        for living in &mut self.living {
            living.expire(now_s);
        }
        self.find_next_turn();
        if self.calendars.get(DAY).map(|day| day.period) != today {
            self.sweep = Some(0);
        }
    }

    pub fn find_next_turn(&mut self) {
        let ends = self.calendars.iter().map(|calendar| calendar.period.end_s);
        let ends = ends.chain(self.living.iter().map(Living::next_end_s));
        self.next_turn_s = ends.min().unwrap_or(i64::MAX);
    }

    /// Once a day, some accounts with each event: frees balances whose window is over and accounts that are. It decides
    /// nothing: what is over counts no more before it is freed.
    pub fn sweep_on(&mut self) {
        let Some(first) = self.sweep else { return };
        let last = first.saturating_add(SWEEP_STEP).min(self.accounts.given());
        for index in first..last {
            self.tidy(self.accounts.nth(index));
        }
        self.sweep = (last < self.accounts.given()).then_some(last);
    }

    /// Whether all holds together can still be counted with these amounts added.
    pub fn can_hold(&self, amounts: &Amounts) -> bool {
        Unit::ALL
            .into_iter()
            .all(|unit| self.held.get(unit).checked_add(amounts.get(unit)).is_some())
    }

    fn calendar_of(&self, window: Window, zone: &str) -> Option<u16> {
        let place = self
            .calendars
            .iter()
            .position(|calendar| calendar.window == window && **calendar.zone.name() == *zone)?;
        u16::try_from(place).ok()
    }

    pub fn make_calendar(&mut self, window: Window, zone: Zone) -> u16 {
        if let Some(place) = self.calendar_of(window, zone.name()) {
            return place;
        }
        let period = window.period(&zone, self.now_ms);
        self.calendars.push(Calendar {
            window,
            zone,
            period,
            instance: None,
        });
        self.find_next_turn();
        // There are some six hundred zones of six windows each.
        u16::try_from(self.calendars.len() - 1).unwrap_or(u16::MAX)
    }

    /// The calendar of a window that a record names.
    pub fn calendar_for(&mut self, window: Window, zone: &Name) -> u16 {
        match self.calendar_of(window, zone) {
            Some(calendar) => calendar,
            None => self.make_calendar(window, Zone::of_record(zone)),
        }
    }

    /// The running balance of an account in a window, where there is one.
    pub fn counts(&self, now_ms: i64, account: &str, window: Window, zone: &Zone) -> Option<&Balance> {
        let now_s = now_ms.max(self.now_ms).div_euclid(1_000);
        let calendar = self.calendar_of(window, if window == Window::Total { "UTC" } else { zone.name() })?;
        let account = self.accounts.get(self.account(account, now_s)?)?;
        let balance = self.balances.get(account.balance_in(calendar)?)?;
        (now_s < self.period_of(balance).end_s).then_some(balance)
    }

    pub fn standing_at(&self, now_ms: i64, bound: &Bound) -> Standing {
        match self.counts(now_ms, bound.account(), bound.window(), bound.zone()) {
            Some(balance) => self.standing_of(balance, bound.unit(), bound.limit().count()),
            None => empty_standing(bound, bound.window().period(bound.zone(), now_ms.max(self.now_ms))),
        }
    }

    /// As `standing_at` now, by the calendars at hand.
    pub fn standing(&mut self, bound: &Bound) -> Standing {
        if let Some(balance) = self.counts(self.now_ms, bound.account(), bound.window(), bound.zone()) {
            return self.standing_of(balance, bound.unit(), bound.limit().count());
        }
        let calendar = self.make_calendar(bound.window(), bound.zone().clone());
        let calendar = self.calendars.get(usize::from(calendar));
        empty_standing(bound, calendar.map_or(Period::ALWAYS, |calendar| calendar.period))
    }

    fn standing_of(&self, balance: &Balance, unit: Unit, limit: i64) -> Standing {
        Standing {
            posted: balance.posted.get(unit),
            held: self.held_on(balance).get(unit),
            overage: self.overage_of(balance).get(unit),
            limit,
            period: self.period_of(balance),
        }
    }

    /// How the bounds of an open hold stand, where it was placed.
    pub fn standings_of<'a>(&'a self, open: &'a Open) -> impl Iterator<Item = (&'a HeldBound, Standing)> {
        open.held.bounds.iter().zip(&open.bounds).filter_map(|(bound, place)| {
            let balance = self.balances.get(*place)?;
            Some((bound, self.standing_of(balance, bound.unit, bound.limit)))
        })
    }

    pub fn held_on(&self, balance: &Balance) -> Amounts {
        let share = balance.held.and_then(|place| self.shares.get(place));
        share.map_or(Amounts::ZERO, |share| share.amounts)
    }

    pub fn overage_of(&self, balance: &Balance) -> Amounts {
        let overage = balance.overage.and_then(|place| self.overages.get(place));
        overage.copied().unwrap_or_default()
    }

    pub fn period_of(&self, balance: &Balance) -> Period {
        let instance = self.instances.get(balance.instance);
        instance.map_or(Period::ALWAYS, |instance| instance.period)
    }

    pub fn calendar_on(&self, balance: &Balance) -> u16 {
        let instance = self.instances.get(balance.instance);
        instance.map_or(TOTAL, |instance| instance.calendar)
    }

    /// Whether the balance's window is not over.
    pub fn is_running_on(&self, place: Place) -> bool {
        let balance = self.balances.get(place);
        balance.is_some_and(|balance| self.period_of(balance).end_s > self.now_s())
    }

    /// The balances of living accounts whose window runs.
    pub fn views(&self) -> impl Iterator<Item = BalanceView<'_>> {
        let now_s = self.now_s();
        self.accounts
            .iter()
            .filter(move |(_, account)| self.is_living(account, now_s))
            .flat_map(move |(_, account)| self.views_of(account))
    }

    /// See `Books::balances_after`.
    pub fn views_after(&self, prefix: &str, after: Option<&str>, accounts_max: usize) -> (Vec<BalanceView<'_>>, bool) {
        let (now_s, accounts_max) = (self.now_s(), accounts_max.max(1));
        // The first names so far, the last of them on top.
        let mut first: BinaryHeap<(&Name, Place)> = BinaryHeap::new();
        let mut has_more = false;
        for (place, account) in self.accounts.iter() {
            let is_after = account.name.starts_with(prefix) && after.is_none_or(|after| &*account.name > after);
            if !is_after || !self.is_living(account, now_s) || !self.is_worth_showing(account) {
                continue;
            }
            first.push((&account.name, place));
            if first.len() > accounts_max {
                first.pop();
                has_more = true;
            }
        }
        let accounts = first.into_sorted_vec();
        let views = accounts.into_iter().filter_map(|(_, place)| self.accounts.get(place));
        (views.flat_map(|account| self.views_of(account)).collect(), has_more)
    }

    fn is_worth_showing(&self, account: &Account) -> bool {
        let is_used = |view: BalanceView<'_>| !view.posted.is_zero() || !view.held.is_zero();
        account.class == Class::Bound || account.flags.is_bound() || self.views_of(account).any(is_used)
    }

    /// The running balances of one account.
    pub fn views_of<'a>(&'a self, account: &'a Account) -> impl Iterator<Item = BalanceView<'a>> {
        account.balances().filter_map(move |place| {
            let balance = self.balances.get(place).filter(|_| self.is_running_on(place))?;
            let calendar = self.calendars.get(usize::from(self.calendar_on(balance)))?;
            Some(BalanceView {
                account: &account.name,
                window: calendar.window,
                zone: calendar.zone.name(),
                period: self.period_of(balance),
                posted: balance.posted,
                held: self.held_on(balance),
                overage: self.overage_of(balance),
            })
        })
    }

    /// The instance of a calendar, one balance more counting it.
    fn instance_for(&mut self, calendar: u16, period: Period) -> Place {
        let known = self
            .calendars
            .get(usize::from(calendar))
            .and_then(|known| known.instance);
        if let Some(place) = known
            && let Some(instance) = self.instances.get_mut(place)
            && instance.period == period
        {
            instance.balances += 1;
            return place;
        }
        let place = self.instances.insert(Instance {
            period,
            calendar,
            balances: 1,
        });
        if let Some(calendar) = self.calendars.get_mut(usize::from(calendar))
            && calendar.period == period
        {
            calendar.instance = Some(place);
        }
        place
    }

    pub fn make_balance(&mut self, account: Place, calendar: u16, period: Period, since: u64) -> Place {
        let instance = self.instance_for(calendar, period);
        self.balances.insert(Balance {
            posted: Amounts::ZERO,
            since,
            account,
            instance,
            held: None,
            overage: None,
        })
    }

    pub fn free_balance(&mut self, place: Place) {
        let Some(balance) = self.balances.remove(place) else {
            return;
        };
        if let Some(overage) = balance.overage {
            self.overages.remove(overage);
        }
        let Some(instance) = self.instances.get_mut(balance.instance) else {
            return;
        };
        instance.balances -= 1;
        if instance.balances == 0 {
            let calendar = usize::from(instance.calendar);
            self.instances.remove(balance.instance);
            if let Some(calendar) = self.calendars.get_mut(calendar)
                && calendar.instance == Some(balance.instance)
            {
                calendar.instance = None;
            }
        }
    }

    /// One that a hold settles in lives on.
    pub fn free_unless_held(&mut self, place: Place) {
        if self.balances.get(place).is_some_and(|balance| balance.held.is_none()) {
            self.free_balance(place);
        }
    }

    /// The balance of a window's running instance; `period` where it must be made.
    pub fn running(&mut self, account: Place, calendar: u16, period: Period) -> Option<Place> {
        if let Some(place) = self.accounts.get(account)?.balance_in(calendar) {
            if self.is_running_on(place) {
                return Some(place);
            }
            self.free_unless_held(place);
        }
        let place = self.make_balance(account, calendar, period, self.head + 1);
        let account = self.accounts.get_mut(account)?;
        match account.standing.get_mut(usize::from(calendar)) {
            Some(standing) => *standing = Some(place),
            None => {
                let mut slots = account.slots.as_mut_slice().iter_mut();
                slots.find(|slot| slot.calendar == calendar)?.balance = Some(place);
            }
        }
        Some(place)
    }

    /// The running balances of an account, in all windows it counts in.
    pub fn running_of(&mut self, account: Place, balances: &mut Vec<Place>) {
        for calendar in [0, 1, TOTAL] {
            let counts = self
                .accounts
                .get(account)
                .is_some_and(|account| account.counts_in(calendar));
            if let Some(known) = self.calendars.get(usize::from(calendar)).filter(|_| counts) {
                let period = known.period;
                balances.extend(self.running(account, calendar, period));
            }
        }
        if self
            .accounts
            .get(account)
            .is_none_or(|account| account.slots.as_slice().is_empty())
        {
            return;
        }
        let slots = self.accounts.get(account).map(|account| account.slots.as_slice());
        let calendars: Vec<u16> = slots.unwrap_or_default().iter().map(|slot| slot.calendar).collect();
        for calendar in calendars {
            if let Some(known) = self.calendars.get(usize::from(calendar)) {
                let period = known.period;
                balances.extend(self.running(account, calendar, period));
            }
        }
    }
}

fn empty_standing(bound: &Bound, period: Period) -> Standing {
    Standing {
        posted: 0,
        held: 0,
        overage: 0,
        limit: bound.limit().count(),
        period,
    }
}
