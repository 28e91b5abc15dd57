//! Accounts, their balances by window, and the open holds.

use crate::map::Map;
use std::sync::Arc;

use crate::amounts::{Amounts, Unit};
use crate::billed::BillId;
use crate::books::{ACCOUNTS_MAX, BOUND_ACCOUNTS_MAX, Standing};
use crate::bound::{ACCOUNT_BYTES_MAX, Bound, Window, Zone};
use crate::entry::{Facts, Name};
use crate::event::{Held, HeldBound, HoldId};
use crate::slab::Slab;
use crate::window::{AT_MS_MAX, Stretch};

/// An account idle for so long is forgotten, unless a bound was put on its total. Beyond a month and the one before.
const FORGET_AFTER_MS: i64 = 62 * 86_400_000;

/// The windows that every account counts in, by their place in `State::calendars`.
const STANDING_WINDOWS: [Window; 3] = [Window::Day, Window::Month, Window::Total];
const DAY: usize = 0;

#[derive(Clone, Debug)]
pub(super) struct State {
    pub head: u64,
    pub now_ms: i64,
    pub calendars: Vec<Calendar>,
    /// The first moment at which some calendar turns.
    next_turn_s: i64,
    pub numbers: Map<Name, u32>,
    pub accounts: Slab<Account>,
    pub balances: Slab<Balance>,
    pub holds: Map<HoldId, Open>,
    /// What all open holds hold together: no balance ever holds more, so none overflows where this does not.
    pub held: Amounts,
    /// Room to spell account names in.
    spelling: String,
}

/// A window in a zone, and its running instance.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    pub window: Window,
    pub zone: Zone,
    pub stretch: Stretch,
}

#[derive(Clone, Debug)]
pub(super) struct Account {
    pub name: Name,
    pub used_ms: i64,
    pub slots: Vec<Slot>,
}

/// One window an account counts in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub calendar: usize,
    /// The running instance, made when it is first needed. It may have ended already.
    pub balance: Option<u32>,
    /// When a bound last asked for it; `i64::MIN` for never.
    pub bound_ms: i64,
}

/// What one account counts in one instance of a window.
#[derive(Clone, Debug)]
pub(super) struct Balance {
    pub account: u32,
    pub calendar: usize,
    pub stretch: Stretch,
    /// The sequence it was made by: holds before it are not counted here.
    pub since: u64,
    pub posted: Amounts,
    pub held: Amounts,
    pub overage: Amounts,
    /// Open holds that settle here.
    pub holds: u32,
    /// Whether a slot names it. One that none does lives on until its last hold ends.
    pub running: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Open {
    pub held: Arc<Held>,
    /// Extensions included.
    pub amounts: Amounts,
    /// The balances it is counted on, each once.
    pub balances: Vec<u32>,
    /// The balance of each bound, in the order of the bounds.
    pub bounds: Vec<u32>,
    /// The result that it waits for.
    pub bill: Option<BillId>,
}

/// A running balance, for `budget.status`.
#[derive(Clone, Debug)]
pub struct BalanceView<'a> {
    pub account: &'a Name,
    pub window: Window,
    pub zone: &'a Name,
    pub stretch: Stretch,
    pub posted: Amounts,
    pub held: Amounts,
    pub overage: Amounts,
}

/// The accounts an exchange is counted on: `global` and one for each name its facts bear. Names too long for an account
/// have none.
pub fn accounts_of(facts: &Facts) -> Vec<Name> {
    let mut accounts = Vec::with_capacity(12);
    let mut spelling = String::new();
    each_account(facts, &mut spelling, |account| accounts.push(Name::from(account)));
    accounts
}

fn each_account(facts: &Facts, spelling: &mut String, mut each: impl FnMut(&str)) {
    each("global");
    for (kind, name) in [
        ("key:", &facts.key),
        ("tenant:", &facts.tenant),
        ("agent:", &facts.agent),
        ("session:", &facts.session),
        ("user:", &facts.user),
        ("task:", &facts.task),
        ("model:", &facts.requested_model),
        ("provider:", &facts.provider),
    ] {
        if !name.is_empty() && kind.len() + name.len() <= ACCOUNT_BYTES_MAX {
            spelling.clear();
            spelling.push_str(kind);
            spelling.push_str(name);
            each(spelling);
        }
    }
    for (tag, value) in &facts.tags {
        if "tag:=".len() + tag.len() + value.len() <= ACCOUNT_BYTES_MAX {
            spelling.clear();
            spelling.push_str("tag:");
            spelling.push_str(tag);
            spelling.push('=');
            spelling.push_str(value);
            each(spelling);
        }
    }
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
            stretch: window.stretch(&Zone::utc(), now_ms),
        };
        let mut state = State {
            head: 0,
            now_ms,
            calendars: STANDING_WINDOWS.map(calendar).to_vec(),
            next_turn_s: 0,
            numbers: Map::default(),
            accounts: Slab::default(),
            balances: Slab::default(),
            holds: Map::default(),
            held: Amounts::ZERO,
            spelling: String::new(),
        };
        state.find_next_turn();
        state
    }

    pub fn now_s(&self) -> i64 {
        self.now_ms.div_euclid(1_000)
    }

    /// Time passes, and never goes back.
    pub fn turn(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms.min(AT_MS_MAX));
        let now_s = self.now_s();
        if now_s < self.next_turn_s {
            return;
        }
        let today = self.calendars.get(DAY).map(|day| day.stretch);
        for calendar in self
            .calendars
            .iter_mut()
            .filter(|calendar| calendar.stretch.end_s <= now_s)
        {
            calendar.stretch = calendar.window.stretch(&calendar.zone, self.now_ms);
        }
        self.find_next_turn();
        if self.calendars.get(DAY).map(|day| day.stretch) != today {
            self.sweep();
        }
    }

    /// Puts all calendars at this time, be it earlier; their instances then.
    pub fn set_calendars(&mut self, to_ms: i64) -> Vec<Stretch> {
        self.now_ms = to_ms.clamp(0, AT_MS_MAX);
        for calendar in &mut self.calendars {
            calendar.stretch = calendar.window.stretch(&calendar.zone, self.now_ms);
        }
        self.find_next_turn();
        self.calendars.iter().map(|calendar| calendar.stretch).collect()
    }

    fn find_next_turn(&mut self) {
        let ends = self.calendars.iter().map(|calendar| calendar.stretch.end_s);
        self.next_turn_s = ends.min().unwrap_or(i64::MAX);
    }

    /// Once a day: frees balances whose window is over, and forgets accounts and windows long unused.
    fn sweep(&mut self) {
        let (now_ms, now_s) = (self.now_ms, self.now_s());
        let long_ago_ms = now_ms.saturating_sub(FORGET_AFTER_MS);
        let numbers: Vec<u32> = self.accounts.iter().map(|(number, _)| number).collect();
        for number in numbers {
            let Some(account) = self.accounts.get_mut(number) else {
                continue;
            };
            let mut is_held = false;
            for slot in &mut account.slots {
                let Some(place) = slot.balance else { continue };
                let Some(balance) = self.balances.get_mut(place) else {
                    continue;
                };
                is_held |= balance.holds > 0;
                if balance.stretch.end_s <= now_s {
                    slot.balance = None;
                    balance.running = false;
                    if balance.holds == 0 {
                        self.balances.remove(place);
                    }
                }
            }
            account.slots.retain(|slot| {
                slot.calendar < STANDING_WINDOWS.len() || slot.balance.is_some() || slot.bound_ms >= long_ago_ms
            });
            if account.used_ms < long_ago_ms && !is_held && account.is_forgettable() {
                self.forget(number);
            }
        }
    }

    fn forget(&mut self, number: u32) {
        let Some(account) = self.accounts.remove(number) else {
            return;
        };
        for place in account.slots.iter().filter_map(|slot| slot.balance) {
            self.balances.remove(place);
        }
        self.numbers.remove(&account.name);
    }

    /// Whether all holds together can still be counted with these amounts added.
    pub fn can_hold(&self, amounts: &Amounts) -> bool {
        Unit::ALL
            .into_iter()
            .all(|unit| self.held.get(unit).checked_add(amounts.get(unit)).is_some())
    }

    /// Whether a bound on this account would need one more than there may be.
    pub fn is_full_for(&self, account: &str) -> bool {
        self.accounts.len() >= BOUND_ACCOUNTS_MAX && !self.numbers.contains_key(account)
    }

    fn calendar_of(&self, window: Window, zone: &str) -> Option<usize> {
        self.calendars
            .iter()
            .position(|calendar| calendar.window == window && **calendar.zone.name() == *zone)
    }

    pub fn make_calendar(&mut self, window: Window, zone: Zone) -> usize {
        if let Some(place) = self.calendar_of(window, zone.name()) {
            return place;
        }
        let stretch = window.stretch(&zone, self.now_ms);
        self.calendars.push(Calendar { window, zone, stretch });
        self.find_next_turn();
        self.calendars.len() - 1
    }

    /// The running balance of an account in a window, where there is one.
    pub fn counts(&self, now_ms: i64, account: &str, window: Window, zone: &Zone) -> Option<&Balance> {
        let calendar = self.calendar_of(window, if window == Window::Total { "UTC" } else { zone.name() })?;
        let account = self.accounts.get(*self.numbers.get(account)?)?;
        let slot = account.slots.iter().find(|slot| slot.calendar == calendar)?;
        let balance = self.balances.get(slot.balance?)?;
        (now_ms.max(self.now_ms).div_euclid(1_000) < balance.stretch.end_s).then_some(balance)
    }

    pub fn standing_at(&self, now_ms: i64, bound: &Bound) -> Standing {
        let limit = bound.limit().count();
        match self.counts(now_ms, bound.account(), bound.window(), bound.zone()) {
            Some(balance) => balance.standing(bound.unit(), limit),
            None => {
                let stretch = bound.window().stretch(bound.zone(), now_ms.max(self.now_ms));
                Standing {
                    posted: 0,
                    held: 0,
                    overage: 0,
                    limit,
                    stretch,
                }
            }
        }
    }

    /// As `standing_at` now, by the calendars at hand.
    pub fn standing(&mut self, bound: &Bound) -> Standing {
        let limit = bound.limit().count();
        if let Some(balance) = self.counts(self.now_ms, bound.account(), bound.window(), bound.zone()) {
            return balance.standing(bound.unit(), limit);
        }
        let calendar = self.make_calendar(bound.window(), bound.zone().clone());
        let stretch = self
            .calendars
            .get(calendar)
            .map_or(Stretch::ALWAYS, |calendar| calendar.stretch);
        Standing {
            posted: 0,
            held: 0,
            overage: 0,
            limit,
            stretch,
        }
    }

    /// How the bounds of an open hold stand, where it was placed.
    pub fn standings_of<'a>(&'a self, open: &'a Open) -> impl Iterator<Item = (&'a HeldBound, Standing)> {
        open.held
            .bounds
            .iter()
            .zip(&open.bounds)
            .filter_map(|(bound, place)| Some((bound, self.balances.get(*place)?.standing(bound.unit, bound.limit))))
    }

    pub fn views(&self) -> impl Iterator<Item = BalanceView<'_>> {
        let now_s = self.now_s();
        self.balances
            .iter()
            .filter(move |(_, balance)| balance.running && balance.stretch.end_s > now_s)
            .filter_map(|(_, balance)| {
                let calendar = self.calendars.get(balance.calendar)?;
                Some(BalanceView {
                    account: &self.accounts.get(balance.account)?.name,
                    window: calendar.window,
                    zone: calendar.zone.name(),
                    stretch: balance.stretch,
                    posted: balance.posted,
                    held: balance.held,
                    overage: balance.overage,
                })
            })
    }

    /// The numbers of the accounts that the facts name, made where they are new and there is room.
    pub fn accounts_named(&mut self, facts: &Facts, numbers: &mut Vec<u32>) {
        let mut spelling = std::mem::take(&mut self.spelling);
        each_account(facts, &mut spelling, |account| {
            if let Some(number) = self.numbers.get(account) {
                numbers.push(*number);
            } else if self.accounts.len() < ACCOUNTS_MAX {
                numbers.push(self.make_account(account.into()));
            }
        });
        self.spelling = spelling;
    }

    pub fn make_account(&mut self, name: Name) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let slot = |calendar| Slot {
            calendar,
            balance: None,
            bound_ms: i64::MIN,
        };
        let slots = (0..STANDING_WINDOWS.len()).map(slot).collect();
        let number = self.accounts.insert(Account {
            name: name.clone(),
            used_ms: self.now_ms,
            slots,
        });
        self.numbers.insert(name, number);
        number
    }

    /// A bound asks for a window: its account counts in it from now on. The event's stretch decides, not the calendar.
    pub fn bind(&mut self, account: u32, bound: &HeldBound) -> Option<u32> {
        let calendar = match self.calendar_of(bound.window, &bound.zone) {
            Some(calendar) => calendar,
            None => self.make_calendar(bound.window, Zone::of_record(&bound.zone)),
        };
        let now_ms = self.now_ms;
        let slots = &mut self.accounts.get_mut(account)?.slots;
        let place = match slots.iter().position(|slot| slot.calendar == calendar) {
            Some(place) => place,
            None => {
                slots.push(Slot {
                    calendar,
                    balance: None,
                    bound_ms: now_ms,
                });
                slots.len() - 1
            }
        };
        slots.get_mut(place)?.bound_ms = now_ms;
        self.running(
            account,
            place,
            Stretch {
                start_s: bound.start_s,
                end_s: bound.end_s,
            },
        )
    }

    /// The balance of a slot's running instance; `stretch` where it must be made.
    fn running(&mut self, account: u32, place: usize, stretch: Stretch) -> Option<u32> {
        let now_s = self.now_s();
        let slot = self.accounts.get_mut(account)?.slots.get_mut(place)?;
        if let Some(number) = slot.balance {
            let balance = self.balances.get_mut(number)?;
            if balance.stretch.end_s > now_s {
                return Some(number);
            }
            balance.running = false;
            if balance.holds == 0 {
                self.balances.remove(number);
            }
        }
        let number = self.balances.insert(Balance {
            account,
            calendar: slot.calendar,
            stretch,
            since: self.head + 1,
            posted: Amounts::ZERO,
            held: Amounts::ZERO,
            overage: Amounts::ZERO,
            holds: 0,
            running: true,
        });
        slot.balance = Some(number);
        Some(number)
    }

    /// The running balances of an account, in all windows it counts in.
    pub fn running_of(&mut self, account: u32, balances: &mut Vec<u32>) {
        let now_ms = self.now_ms;
        let Some(entry) = self.accounts.get_mut(account) else {
            return;
        };
        entry.used_ms = now_ms;
        for place in 0..entry.slots.len() {
            let slot = self.accounts.get(account).and_then(|entry| entry.slots.get(place));
            let Some(calendar) = slot.and_then(|slot| self.calendars.get(slot.calendar)) else {
                continue;
            };
            let stretch = calendar.stretch;
            balances.extend(self.running(account, place, stretch));
        }
    }
}

impl Account {
    /// Accounts that clients can make up at will. The few that the config names are kept for ever.
    fn is_forgettable(&self) -> bool {
        let is_kept =
            ["tenant:", "provider:"].iter().any(|kind| self.name.starts_with(kind)) || &*self.name == "global";
        let total_is_bound = self.slots.iter().any(|slot| {
            slot.calendar < STANDING_WINDOWS.len()
                && STANDING_WINDOWS.get(slot.calendar) == Some(&Window::Total)
                && slot.bound_ms != i64::MIN
        });
        !is_kept && !total_is_bound
    }
}

impl Balance {
    fn standing(&self, unit: Unit, limit: i64) -> Standing {
        Standing {
            posted: self.posted.get(unit),
            held: self.held.get(unit),
            overage: self.overage.get(unit),
            limit,
            stretch: self.stretch,
        }
    }
}
