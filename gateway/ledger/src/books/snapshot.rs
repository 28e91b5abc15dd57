//! The books as bytes. Accounts stand in the order of their names, so equal books have equal bytes, however they came about.

use std::collections::HashMap;

use super::state::{Balance, Open, Slot, State};
use crate::billed::BillId;
use crate::bound::{Window, Zone};
use crate::codec::{self, DecodeError, read_amounts, write_amounts};
use crate::entry::Name;
use crate::event::{Event, HoldId};
use crate::names::Names;
use crate::window::Stretch;
use crate::wire::{Reader, Writer};

const VERSION: u8 = 2;

/// Why bytes are no books.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("the books' bytes are broken: {0}")]
    Decode(#[from] DecodeError),
    #[error("the books contradict themselves: {0}")]
    Inconsistent(&'static str),
}

pub(super) fn write(state: &State) -> Vec<u8> {
    let mut w = Writer::with_capacity(64 + state.accounts.len() * 64);
    w.byte(VERSION);
    w.unsigned(state.head);
    w.signed(state.now_ms);
    let mut past: HashMap<u32, Vec<u32>> = HashMap::new();
    for (place, balance) in state.balances.iter().filter(|(_, balance)| !balance.running) {
        past.entry(balance.account).or_default().push(place);
    }
    let mut accounts: Vec<_> = state.accounts.iter().collect();
    accounts.sort_unstable_by(|(_, one), (_, other)| one.name.cmp(&other.name));
    // Balances are numbered as they are written; holds name them by that.
    let mut written: HashMap<u32, u64> = HashMap::new();
    w.unsigned(accounts.len() as u64);
    for (number, account) in accounts {
        w.text(&account.name);
        w.signed(account.used_ms);
        let mut slots = account.slots.clone();
        slots.sort_unstable_by_key(|slot| calendar_key(state, slot.calendar));
        w.unsigned(slots.len() as u64);
        for slot in &slots {
            write_calendar(&mut w, state, slot.calendar);
            w.signed(slot.bound_ms);
            let balance = slot.balance.and_then(|place| Some((place, state.balances.get(place)?)));
            w.byte(u8::from(balance.is_some()));
            if let Some((place, balance)) = balance {
                written.insert(place, written.len() as u64);
                write_balance(&mut w, balance);
            }
        }
        let mut past = past.remove(&number).unwrap_or_default();
        past.sort_unstable_by_key(|place| {
            state
                .balances
                .get(*place)
                .map(|balance| (calendar_key(state, balance.calendar), balance.stretch))
        });
        w.unsigned(past.len() as u64);
        for place in past {
            if let Some(balance) = state.balances.get(place) {
                write_calendar(&mut w, state, balance.calendar);
                written.insert(place, written.len() as u64);
                write_balance(&mut w, balance);
            }
        }
    }
    write_holds(&mut w, state, &written);
    w.finish()
}

fn write_holds(w: &mut Writer, state: &State, written: &HashMap<u32, u64>) {
    let mut names = Names::new();
    let mut holds: Vec<_> = state.holds.iter().collect();
    holds.sort_unstable_by_key(|(id, _)| **id);
    w.unsigned(holds.len() as u64);
    for (id, open) in holds {
        w.unsigned(id.0);
        w.blob(&codec::encode(&Event::Held(open.held.clone()), &mut names));
        write_amounts(w, &open.amounts);
        w.byte(u8::from(open.bill.is_some()));
        if let Some(bill) = &open.bill {
            w.raw(&bill.0);
        }
        let mut balances: Vec<u64> = open
            .balances
            .iter()
            .filter_map(|place| written.get(place).copied())
            .collect();
        balances.sort_unstable();
        for places in [
            balances,
            open.bounds
                .iter()
                .filter_map(|place| written.get(place).copied())
                .collect(),
        ] {
            w.unsigned(places.len() as u64);
            for place in places {
                w.unsigned(place);
            }
        }
    }
}

fn calendar_key(state: &State, calendar: usize) -> Option<(Window, &Name)> {
    state
        .calendars
        .get(calendar)
        .map(|calendar| (calendar.window, calendar.zone.name()))
}

fn write_calendar(w: &mut Writer, state: &State, calendar: usize) {
    if let Some((window, zone)) = calendar_key(state, calendar) {
        w.byte(window as u8);
        w.text(zone);
    }
}

fn write_balance(w: &mut Writer, balance: &Balance) {
    w.signed(balance.stretch.start_s);
    w.signed(balance.stretch.end_s);
    w.unsigned(balance.since);
    for amounts in [&balance.posted, &balance.held, &balance.overage] {
        write_amounts(w, amounts);
    }
}

/// Reading gives every balance the count of its holds anew, and checks that what they hold adds up.
pub(super) fn read(bytes: &[u8]) -> Result<State, SnapshotError> {
    let mut reader = Reader::new(bytes);
    let r = &mut reader;
    if r.byte()? != VERSION {
        return Err(DecodeError::Version.into());
    }
    let head = r.unsigned()?;
    let mut state = State::new(r.signed()?);
    state.head = head;
    let mut written: Vec<u32> = Vec::new();
    for _ in 0..r.count()? {
        read_account(r, &mut state, &mut written)?;
    }
    let mut names = Names::new();
    for _ in 0..r.count()? {
        read_hold(r, &mut state, &written, &mut names)?;
    }
    reader.end()?;
    for (_, balance) in state.balances.iter() {
        if !balance.running && balance.holds == 0 {
            return Err(SnapshotError::Inconsistent("a past balance without a hold"));
        }
    }
    let mut held: HashMap<u32, crate::amounts::Amounts> = HashMap::new();
    for open in state.holds.values() {
        for place in &open.balances {
            let sum = held.entry(*place).or_default();
            *sum = sum.plus(&open.amounts);
        }
    }
    if state
        .balances
        .iter()
        .any(|(place, balance)| held.get(&place).copied().unwrap_or_default() != balance.held)
    {
        return Err(SnapshotError::Inconsistent("holds and balances differ"));
    }
    Ok(state)
}

fn read_account(r: &mut Reader<'_>, state: &mut State, written: &mut Vec<u32>) -> Result<(), SnapshotError> {
    let name = Name::from(r.text()?);
    if state.numbers.contains_key(&name) {
        return Err(SnapshotError::Inconsistent("an account twice"));
    }
    let number = state.make_account(name);
    let used_ms = r.signed()?;
    let mut slots: Vec<Slot> = Vec::new();
    for _ in 0..r.count()? {
        let calendar = read_calendar(r, state)?;
        if slots.iter().any(|slot| slot.calendar == calendar) {
            return Err(SnapshotError::Inconsistent("a window twice"));
        }
        let bound_ms = r.signed()?;
        let balance = match r.byte()? {
            0 => None,
            1 => Some(read_balance(r, state, number, calendar, true, written)?),
            _ => return Err(DecodeError::Malformed("neither yes nor no").into()),
        };
        slots.push(Slot {
            calendar,
            balance,
            bound_ms,
        });
    }
    // Live, the standing windows come first: their order decides nothing, but keep it.
    slots.sort_by_key(|slot| slot.calendar);
    for _ in 0..r.count()? {
        let calendar = read_calendar(r, state)?;
        read_balance(r, state, number, calendar, false, written)?;
    }
    if let Some(account) = state.accounts.get_mut(number) {
        account.used_ms = used_ms;
        account.slots = slots;
    }
    Ok(())
}

fn read_calendar(r: &mut Reader<'_>, state: &mut State) -> Result<usize, SnapshotError> {
    let window = Window::ALL
        .get(usize::from(r.byte()?))
        .copied()
        .ok_or(DecodeError::Malformed("unknown window"))?;
    Ok(state.make_calendar(window, Zone::of_record(&Name::from(r.text()?))))
}

fn read_balance(
    r: &mut Reader<'_>,
    state: &mut State,
    account: u32,
    calendar: usize,
    running: bool,
    written: &mut Vec<u32>,
) -> Result<u32, SnapshotError> {
    let stretch = Stretch {
        start_s: r.signed()?,
        end_s: r.signed()?,
    };
    let since = r.unsigned()?;
    let (posted, held, overage) = (read_amounts(r)?, read_amounts(r)?, read_amounts(r)?);
    let place = state.balances.insert(Balance {
        account,
        calendar,
        stretch,
        since,
        posted,
        held,
        overage,
        holds: 0,
        running,
    });
    written.push(place);
    Ok(place)
}

fn read_hold(r: &mut Reader<'_>, state: &mut State, written: &[u32], names: &mut Names) -> Result<(), SnapshotError> {
    let id = HoldId(r.unsigned()?);
    let Event::Held(held) = codec::decode(r.blob()?, names)? else {
        return Err(SnapshotError::Inconsistent("a hold that is another event"));
    };
    let amounts = read_amounts(r)?;
    let bill = match r.byte()? {
        0 => None,
        1 => Some(BillId(r.array()?)),
        _ => return Err(DecodeError::Malformed("neither yes nor no").into()),
    };
    let mut places = || -> Result<Vec<u32>, SnapshotError> {
        let count = r.count()?;
        let mut places = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let number: usize = r.small()?;
            let place = written
                .get(number)
                .ok_or(SnapshotError::Inconsistent("a hold on no balance"))?;
            places.push(*place);
        }
        Ok(places)
    };
    let (balances, bounds) = (places()?, places()?);
    if bounds.len() != held.bounds.len() || !amounts.is_valid_hold() {
        return Err(SnapshotError::Inconsistent("a hold and its bounds differ"));
    }
    for place in &balances {
        if let Some(balance) = state.balances.get_mut(*place) {
            balance.holds += 1;
        }
    }
    if !state.can_hold(&amounts) {
        return Err(SnapshotError::Inconsistent("holds that cannot be counted"));
    }
    state.held = state.held.plus(&amounts);
    match state.holds.insert(
        id,
        Open {
            held,
            amounts,
            balances,
            bounds,
            bill,
        },
    ) {
        None => Ok(()),
        Some(_) => Err(SnapshotError::Inconsistent("a hold twice")),
    }
}
