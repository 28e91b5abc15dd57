//! Accounts: what one is, and the names by which an exchange has them.

use crate::amounts::{Amounts, Unit};
use crate::bound::{ACCOUNT_BYTES_MAX, Window};
use crate::entry::{Facts, Name};
use crate::event::HeldBound;
use crate::slab::Place;
use crate::window::Period;

/// The windows that accounts of standing kinds count in unasked, by their place in `State::calendars`.
pub(super) const STANDING_WINDOWS: [Window; 3] = [Window::Day, Window::Month, Window::Total];
pub(super) const DAY: u16 = 0;
pub(super) const MONTH: u16 = 1;
pub(super) const TOTAL: u16 = 2;

/// How many accounts may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamesMax {
    /// Accounts of one kind that no bound names; what further names spend is counted on `kind:other`.
    pub per_kind: usize,
    /// Accounts that bounds name. They are never counted together: a hold that needs one more is refused.
    pub bound: usize,
}

impl Default for NamesMax {
    fn default() -> NamesMax {
        NamesMax {
            per_kind: 100_000,
            bound: 2_000_000,
        }
    }
}

/// What limits how many there are of an account's sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// Keys that no bound names.
    Key = 0,
    /// Models that no bound names.
    Model = 1,
    /// Named by a bound.
    Bound = 2,
    /// Tenants, which policies name: kept once they have cost something.
    Tenant = 3,
    /// `global`, providers, and what is counted together: never forgotten.
    Kept = 4,
}

impl Class {
    pub const ALL: [Class; 5] = [Class::Key, Class::Model, Class::Bound, Class::Tenant, Class::Kept];
    /// The classes that are limited come first.
    pub const LIMITED: usize = 4;
}

/// The kinds whose names the books count together past the limit, in the order of [`super::Books::folded`].
pub const FOLDED_KINDS: [&str; 3] = ["key", "model", "tenant"];

#[derive(Clone, Debug)]
pub(super) struct Account {
    pub name: Name,
    /// The event that began or ended a hold on it last, or corrected it.
    pub used: u64,
    /// When all that it counts is over, holds aside.
    pub until_s: i64,
    /// Windows beside the standing ones, each from its first bound on.
    pub slots: Slots,
    /// The balances in the standing windows, each made when it is first needed. It may be over already.
    pub standing: [Option<Place>; 3],
    pub flags: Flags,
    pub class: Class,
}

/// Most accounts have none: then it is no more than a pointer.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Option<Box<SlotList>>);

#[derive(Clone, Debug, Default)]
struct SlotList(Vec<Slot>);

impl Slots {
    pub fn as_slice(&self) -> &[Slot] {
        self.0.as_ref().map_or(&[], |list| &list.0)
    }

    pub fn as_mut_slice(&mut self) -> &mut [Slot] {
        self.0.as_mut().map_or(&mut [], |list| &mut list.0)
    }

    pub fn push(&mut self, slot: Slot) {
        let list = &mut self.0.get_or_insert_default().0;
        list.reserve_exact(1);
        list.push(slot);
    }

    pub fn retain(&mut self, keep: impl FnMut(&Slot) -> bool) {
        if let Some(list) = &mut self.0 {
            list.0.retain(keep);
            if list.0.is_empty() {
                self.0 = None;
            }
        }
    }
}

/// A window beside the standing ones that an account counts in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// The running instance, made when it is first needed. It may be over already.
    pub balance: Option<Place>,
    /// The day since the epoch on which a bound last requested it.
    pub bound_day: u32,
    pub calendar: u16,
    /// The units that bounds count here, a bit each.
    pub units: u8,
}

/// Three bits for each standing window, the units that bounds count there; and what the account is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(pub u16);

impl Flags {
    /// Of a kind that counts in all standing windows unasked.
    const STANDING: u16 = 1 << 9;
    /// Kept until the month is over once it has cost something.
    pub const MONTHLY: u16 = 1 << 10;
    /// Something that counts was posted: it is not given up for another.
    pub const SPENT: u16 = 1 << 11;
    /// What a snapshot keeps of them: the rest follows from the name.
    pub const STORED: u16 = 0x1ff | Flags::SPENT;

    fn of(name: &str) -> Flags {
        let is_of = |kind: &str| name.starts_with(kind);
        let monthly = is_of("key:") || is_of("model:");
        let standing = monthly || is_of("tenant:") || is_of("provider:") || name == "global";
        Flags(u16::from(standing) * Flags::STANDING + u16::from(monthly) * Flags::MONTHLY)
    }

    pub fn is_standing(self) -> bool {
        self.0 & Flags::STANDING != 0
    }

    pub fn is_spent(self) -> bool {
        self.0 & Flags::SPENT != 0
    }

    /// Whether a bound counts in a standing window.
    pub fn is_bound(self) -> bool {
        self.0 & 0x1ff != 0
    }

    /// The units that bounds count in a standing window.
    pub fn units(self, window: u16) -> u8 {
        (self.0 >> (3 * window) & 7) as u8
    }

    pub fn add_unit(&mut self, window: u16, unit: Unit) {
        self.0 |= u16::from(bit(unit)) << (3 * window);
    }
}

pub(super) fn period_of(bound: &HeldBound) -> Period {
    Period {
        start_s: bound.start_s,
        end_s: bound.end_s,
    }
}

pub(super) fn bit(unit: Unit) -> u8 {
    1 << unit as u8
}

pub(super) fn has_any(amounts: &Amounts, units: u8) -> bool {
    Unit::ALL
        .into_iter()
        .any(|unit| units & bit(unit) != 0 && amounts.get(unit) != 0)
}

impl Account {
    pub fn new(name: Name, class: Class) -> Account {
        Account {
            flags: Flags::of(&name),
            name,
            used: 0,
            until_s: 0,
            slots: Slots::default(),
            standing: [None; 3],
            class,
        }
    }

    /// Whether it counts in a standing window.
    pub fn counts_in(&self, window: u16) -> bool {
        self.flags.is_standing() || window == TOTAL || self.flags.units(window) != 0
    }

    /// All balances that it names.
    pub fn balances(&self) -> impl Iterator<Item = Place> {
        self.standing
            .into_iter()
            .chain(self.slots.as_slice().iter().map(|slot| slot.balance))
            .flatten()
    }

    /// The balance that it names for a window.
    pub fn balance_in(&self, calendar: u16) -> Option<Place> {
        match self.standing.get(usize::from(calendar)) {
            Some(place) => *place,
            None => {
                let slot = self.slots.as_slice().iter().find(|slot| slot.calendar == calendar);
                slot.and_then(|slot| slot.balance)
            }
        }
    }

    /// The units that bounds count in a window.
    pub fn units_in(&self, calendar: u16) -> u8 {
        if usize::from(calendar) < STANDING_WINDOWS.len() {
            self.flags.units(calendar)
        } else {
            let slot = self.slots.as_slice().iter().find(|slot| slot.calendar == calendar);
            slot.map_or(0, |slot| slot.units)
        }
    }
}

/// What facts name an account by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FactKind {
    /// `global`, and providers: the config's.
    Config,
    Tenant,
    Key,
    Model,
    /// Counted only where a bound asks for it.
    OnDemand,
}

pub(super) fn each_account(facts: &Facts, spelling: &mut String, mut each: impl FnMut(FactKind, &str)) {
    each(FactKind::Config, "global");
    for (kind, prefix, name) in [
        (FactKind::Key, "key:", &facts.key),
        (FactKind::Tenant, "tenant:", &facts.tenant),
        (FactKind::OnDemand, "agent:", &facts.agent),
        (FactKind::OnDemand, "session:", &facts.session),
        (FactKind::OnDemand, "user:", &facts.user),
        (FactKind::OnDemand, "task:", &facts.task),
        (FactKind::Model, "model:", &facts.requested_model),
        (FactKind::Config, "provider:", &facts.provider),
    ] {
        if !name.is_empty() && prefix.len() + name.len() <= ACCOUNT_BYTES_MAX {
            spelling.clear();
            spelling.push_str(prefix);
            spelling.push_str(name);
            each(kind, spelling);
        }
    }
    for (tag, value) in &facts.tags {
        if "tag:=".len() + tag.len() + value.len() <= ACCOUNT_BYTES_MAX {
            spelling.clear();
            spelling.push_str("tag:");
            spelling.push_str(tag);
            spelling.push('=');
            spelling.push_str(value);
            each(FactKind::OnDemand, spelling);
        }
    }
}

/// The account on which a name is counted that has none of its own.
pub(super) fn other_of(account: &str) -> Option<&'static str> {
    let kinds = [
        ("key:", "key:other"),
        ("model:", "model:other"),
        ("tenant:", "tenant:other"),
    ];
    kinds
        .into_iter()
        .find_map(|(kind, other)| account.starts_with(kind).then_some(other))
}
