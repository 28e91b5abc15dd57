//! The books as bytes. Accounts stand in the order of their names, and what is over is left out whether it has been swept
//! away or not: so equal books have equal bytes, however they came about.

use std::collections::HashMap;
use std::sync::Arc;

use super::accounts::{Account, Class, Flags, STANDING_WINDOWS, Slot};
use super::earlier;
use super::holds::Open;
use super::imports::Imports;
use super::state::{Balance, Share, State};
use crate::amounts::Amounts;
use crate::bill_id::BillId;
use crate::bound::{Window, Zone};
use crate::change_bytes::{read_documents, write_documents};
use crate::codec::{self, DecodeError, read_amounts, write_amounts};
use crate::entry::Name;
use crate::event::{Event, HoldId};
use crate::names::Names;
use crate::slab::Place;
use crate::window::Period;
use crate::wire::{Reader, Writer};

/// Up to version 3 nothing was taken over from elsewhere, and operators changed nothing.
const VERSION: u8 = 4;
const VERSION_BEFORE: u8 = 3;

/// Why bytes are no books.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("the books' bytes are broken: {0}")]
    Decode(#[from] DecodeError),
    #[error("the books contradict themselves: {0}")]
    Inconsistent(&'static str),
}

pub(super) fn write(state: &State) -> Vec<u8> {
    let mut pieces = Pieces::of(state, usize::MAX);
    while pieces.write_more() {}
    pieces.w.finish()
}

/// The same bytes in pieces, in their order: of very many accounts one piece is in memory.
pub(crate) struct Pieces<'s> {
    state: &'s State,
    piece_bytes: usize,
    accounts: std::vec::IntoIter<(Place, &'s Account)>,
    past: HashMap<Place, Vec<Place>>,
    holds: std::vec::IntoIter<&'s Open>,
    names: Names,
    stage: Stage,
    numbers: Numbers,
    w: Writer,
    /// Of what is in `w` so much was given.
    given: usize,
}

enum Stage {
    Accounts,
    Holds,
    End,
}

/// Balances are numbered as they are written; holds name those that they hold on by it.
#[derive(Default)]
struct Numbers {
    next: u64,
    held: HashMap<Place, u64>,
}

impl Iterator for Pieces<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        while self.w.as_bytes().len() - self.given < self.piece_bytes && self.write_more() {}
        let rest = self.w.as_bytes().get(self.given..).unwrap_or_default();
        let piece = rest.get(..self.piece_bytes).unwrap_or(rest).to_vec();
        self.given += piece.len();
        if self.w.as_bytes().len() - self.given < self.piece_bytes {
            self.w.forget(self.given);
            self.given = 0;
        }
        (!piece.is_empty()).then_some(piece)
    }
}

impl<'s> Pieces<'s> {
    pub(super) fn of(state: &'s State, piece_bytes: usize) -> Pieces<'s> {
        let now_s = state.now_s();
        let living = state
            .accounts
            .iter()
            .filter(|(_, account)| state.is_living(account, now_s));
        let mut accounts: Vec<(Place, &Account)> = living.collect();
        accounts.sort_unstable_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        let mut holds: Vec<&Open> = state.holds.iter().collect();
        holds.sort_unstable_by_key(|open| open.id);
        let mut w = Writer::with_capacity(piece_bytes.min(64 + accounts.len() * 144));
        w.byte(VERSION);
        w.unsigned(state.head);
        w.signed(state.now_ms);
        w.unsigned(accounts.len() as u64);
        Pieces {
            state,
            piece_bytes,
            accounts: accounts.into_iter(),
            past: past_balances(state),
            holds: holds.into_iter(),
            names: Names::new(),
            stage: Stage::Accounts,
            numbers: Numbers::default(),
            w,
            given: 0,
        }
    }

    /// Whether there was more.
    fn write_more(&mut self) -> bool {
        match self.stage {
            Stage::Accounts => match self.accounts.next() {
                Some((place, account)) => self.write_account(place, account),
                None => {
                    self.w.unsigned(self.holds.len() as u64);
                    self.stage = Stage::Holds;
                }
            },
            Stage::Holds => match self.holds.next() {
                Some(open) => write_hold(&mut self.w, open, &mut self.names, &self.numbers),
                None => {
                    self.state.imports.write(&mut self.w);
                    write_documents(&mut self.w, &self.state.documents);
                    self.stage = Stage::End;
                }
            },
            Stage::End => return false,
        }
        true
    }

    fn write_account(&mut self, place: Place, account: &Account) {
        let (w, state) = (&mut self.w, self.state);
        w.text(&account.name);
        w.byte(account.class as u8);
        w.unsigned(account.used);
        w.signed(account.until_s);
        w.unsigned(u64::from(account.flags.0 & Flags::STORED));
        for balance in account.standing {
            write_running(w, state, balance, &mut self.numbers);
        }
        let counted = account.slots.as_slice().iter().filter(|slot| state.is_counted(slot));
        let mut slots: Vec<&Slot> = counted.collect();
        slots.sort_unstable_by_key(|slot| calendar_key(state, slot.calendar));
        w.unsigned(slots.len() as u64);
        for slot in slots {
            write_calendar(w, state, slot.calendar);
            w.unsigned(u64::from(slot.bound_day));
            w.byte(slot.units);
            write_running(w, state, slot.balance, &mut self.numbers);
        }
        let past = self.past.get(&place).map_or(&[][..], Vec::as_slice);
        w.unsigned(past.len() as u64);
        for place in past {
            if let Some(balance) = state.balances.get(*place) {
                write_calendar(w, state, state.calendar_on(balance));
                write_balance(w, state, *place, balance, &mut self.numbers);
            }
        }
    }
}

/// The balances that open holds will settle in although their windows are over, by account.
fn past_balances(state: &State) -> HashMap<Place, Vec<Place>> {
    let mut past: HashMap<Place, Vec<Place>> = HashMap::new();
    for place in state.holds.iter().flat_map(|open| &open.balances) {
        let Some(balance) = state.balances.get(*place).filter(|_| !is_current(state, *place)) else {
            continue;
        };
        let known = past.entry(balance.account).or_default();
        if !known.contains(place) {
            known.push(*place);
        }
    }
    let key = |place: &Place| {
        let balance = state.balances.get(*place)?;
        Some((
            calendar_key(state, state.calendar_on(balance)),
            state.period_of(balance),
            balance.since,
        ))
    };
    for places in past.values_mut() {
        places.sort_unstable_by_key(key);
    }
    past
}

/// Whether the balance's account counts in it now.
fn is_current(state: &State, place: Place) -> bool {
    let account = state
        .balances
        .get(place)
        .and_then(|balance| state.accounts.get(balance.account));
    state.is_running_on(place) && account.is_some_and(|account| account.balances().any(|named| named == place))
}

fn write_running(w: &mut Writer, state: &State, place: Option<Place>, numbers: &mut Numbers) {
    let running = place.filter(|place| state.is_running_on(*place));
    let balance = running.and_then(|place| Some((place, state.balances.get(place)?)));
    w.byte(u8::from(balance.is_some()));
    if let Some((place, balance)) = balance {
        write_balance(w, state, place, balance, numbers);
    }
}

fn write_hold(w: &mut Writer, open: &Open, names: &mut Names, numbers: &Numbers) {
    w.unsigned(open.id.0);
    w.blob(&codec::encode(&Event::Held(open.held.clone()), names));
    write_amounts(w, &open.amounts);
    w.byte(u8::from(open.bill.is_some()));
    if let Some(bill) = &open.bill {
        w.raw(&bill.0);
    }
    let number = |place: &Place| numbers.held.get(place).copied();
    let mut balances: Vec<u64> = open.balances.iter().filter_map(number).collect();
    balances.sort_unstable();
    for places in [balances, open.bounds.iter().filter_map(number).collect()] {
        w.unsigned(places.len() as u64);
        for place in places {
            w.unsigned(place);
        }
    }
}

fn calendar_key(state: &State, calendar: u16) -> Option<(Window, &Name)> {
    let calendar = state.calendars.get(usize::from(calendar))?;
    Some((calendar.window, calendar.zone.name()))
}

fn write_calendar(w: &mut Writer, state: &State, calendar: u16) {
    if let Some((window, zone)) = calendar_key(state, calendar) {
        w.byte(window as u8);
        w.text(zone);
    }
}

fn write_balance(w: &mut Writer, state: &State, place: Place, balance: &Balance, numbers: &mut Numbers) {
    if balance.held.is_some() {
        numbers.held.insert(place, numbers.next);
    }
    numbers.next += 1;
    let period = state.period_of(balance);
    w.signed(period.start_s);
    w.signed(period.end_s);
    w.unsigned(balance.since);
    for amounts in [balance.posted, state.held_on(balance), state.overage_of(balance)] {
        write_amounts(w, &amounts);
    }
}

/// A balance that was read, by the number it was written under.
pub(super) struct Written {
    place: Place,
    /// What holds hold on it, as it was written.
    held: Amounts,
    is_past: bool,
}

/// Reading gives every balance what its holds hold anew, and checks that it adds up.
pub(super) fn read(bytes: &[u8]) -> Result<State, SnapshotError> {
    let mut reader = Reader::new(bytes);
    let r = &mut reader;
    let version = r.byte()?;
    let read_account = match version {
        VERSION | VERSION_BEFORE => read_account,
        earlier::VERSION => earlier::read_account,
        _ => return Err(DecodeError::Version.into()),
    };
    let head = r.unsigned()?;
    let mut state = State::new(r.signed()?);
    state.head = head;
    let mut written: Vec<Written> = Vec::new();
    for _ in 0..r.count()? {
        read_account(r, &mut state, &mut written)?;
    }
    let mut names = Names::new();
    for _ in 0..r.count()? {
        read_hold(r, &mut state, &written, &mut names)?;
    }
    if version == VERSION {
        state.imports = Arc::new(Imports::read(r)?);
        state.documents = Arc::new(read_documents(r)?);
    }
    reader.end()?;
    for one in &written {
        let Some(balance) = state.balances.get(one.place) else {
            continue;
        };
        if one.is_past && balance.held.is_none() {
            return Err(SnapshotError::Inconsistent("a past balance without a hold"));
        }
        if state.held_on(balance) != one.held {
            return Err(SnapshotError::Inconsistent("holds and balances differ"));
        }
    }
    state.count_living();
    // What was written long ago may be over by now.
    state.sweep = Some(0);
    Ok(state)
}

/// An account of this name, made if it is the first of it.
pub(super) fn fresh_account(state: &mut State, name: &str, class: Class) -> Result<Place, SnapshotError> {
    if state.named(name).is_some() {
        return Err(SnapshotError::Inconsistent("an account twice"));
    }
    Ok(state.make_account(name.into(), class))
}

fn read_account(r: &mut Reader<'_>, state: &mut State, written: &mut Vec<Written>) -> Result<(), SnapshotError> {
    let name = r.text()?;
    let class = Class::ALL.get(usize::from(r.byte()?));
    let class = *class.ok_or(DecodeError::Malformed("unknown class"))?;
    let place = fresh_account(state, name, class)?;
    let (used, until_s, flags) = (r.unsigned()?, r.signed()?, r.small::<u16>()?);
    if flags & !Flags::STORED != 0 {
        return Err(DecodeError::Malformed("unknown flags").into());
    }
    let mut standing = [None; STANDING_WINDOWS.len()];
    for (calendar, balance) in (0..).zip(&mut standing) {
        if read_yes(r)? {
            *balance = Some(read_balance(r, state, place, calendar, false, written)?);
        }
    }
    let mut slots: Vec<Slot> = Vec::new();
    for _ in 0..r.count()? {
        let calendar = read_calendar(r, state)?;
        if usize::from(calendar) < standing.len() || slots.iter().any(|slot| slot.calendar == calendar) {
            return Err(SnapshotError::Inconsistent("a window twice"));
        }
        let (bound_day, units) = (r.small()?, r.byte()?);
        let balance = match read_yes(r)? {
            true => Some(read_balance(r, state, place, calendar, false, written)?),
            false => None,
        };
        slots.push(Slot {
            balance,
            bound_day,
            calendar,
            units,
        });
    }
    read_past(r, state, place, written)?;
    if let Some(account) = state.accounts.get_mut(place) {
        (account.used, account.until_s, account.standing) = (used, until_s, standing);
        account.flags.0 |= flags;
        slots.into_iter().for_each(|slot| account.slots.push(slot));
    }
    Ok(())
}

pub(super) fn read_past(
    r: &mut Reader<'_>,
    state: &mut State,
    account: Place,
    written: &mut Vec<Written>,
) -> Result<(), SnapshotError> {
    for _ in 0..r.count()? {
        let calendar = read_calendar(r, state)?;
        read_balance(r, state, account, calendar, true, written)?;
    }
    Ok(())
}

pub(super) fn read_yes(r: &mut Reader<'_>) -> Result<bool, SnapshotError> {
    match r.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Malformed("neither yes nor no").into()),
    }
}

pub(super) fn read_calendar(r: &mut Reader<'_>, state: &mut State) -> Result<u16, SnapshotError> {
    let window = Window::ALL
        .get(usize::from(r.byte()?))
        .copied()
        .ok_or(DecodeError::Malformed("unknown window"))?;
    Ok(state.make_calendar(window, Zone::of_record(&Name::from(r.text()?))))
}

pub(super) fn read_balance(
    r: &mut Reader<'_>,
    state: &mut State,
    account: Place,
    calendar: u16,
    is_past: bool,
    written: &mut Vec<Written>,
) -> Result<Place, SnapshotError> {
    let period = Period {
        start_s: r.signed()?,
        end_s: r.signed()?,
    };
    let since = r.unsigned()?;
    let (posted, held, overage) = (read_amounts(r)?, read_amounts(r)?, read_amounts(r)?);
    let place = state.make_balance(account, calendar, period, since);
    let overage = (!overage.is_zero()).then(|| state.overages.insert(overage));
    if let Some(balance) = state.balances.get_mut(place) {
        (balance.posted, balance.overage) = (posted, overage);
    }
    written.push(Written { place, held, is_past });
    Ok(place)
}

fn read_hold(
    r: &mut Reader<'_>,
    state: &mut State,
    written: &[Written],
    names: &mut Names,
) -> Result<(), SnapshotError> {
    let id = HoldId(r.unsigned()?);
    let Event::Held(held) = codec::decode(r.blob()?, names)? else {
        return Err(SnapshotError::Inconsistent("a hold that is another event"));
    };
    let amounts = read_amounts(r)?;
    let bill = match read_yes(r)? {
        true => Some(BillId(r.array()?)),
        false => None,
    };
    let mut places = || -> Result<Vec<Place>, SnapshotError> {
        let count = r.count()?;
        let mut places = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let number: usize = r.small()?;
            let one = written
                .get(number)
                .ok_or(SnapshotError::Inconsistent("a hold on no balance"))?;
            places.push(one.place);
        }
        Ok(places)
    };
    let (balances, bounds) = (places()?, places()?);
    if bounds.len() != held.bounds.len() || !amounts.is_valid_hold() {
        return Err(SnapshotError::Inconsistent("a hold and its bounds differ"));
    }
    if !state.can_hold(&amounts) {
        return Err(SnapshotError::Inconsistent("holds that cannot be counted"));
    }
    for place in &balances {
        if let Some(balance) = state.balances.get_mut(*place) {
            let share = *balance
                .held
                .get_or_insert_with(|| state.shares.insert(Share::default()));
            if let Some(share) = state.shares.get_mut(share) {
                share.amounts = share.amounts.plus(&amounts);
                share.holds += 1;
            }
        }
    }
    if state.holds.is_open(id) {
        return Err(SnapshotError::Inconsistent("a hold twice"));
    }
    state.held = state.held.plus(&amounts);
    state.holds.insert(Open {
        id,
        held,
        amounts,
        balances,
        bounds,
        bill,
    });
    Ok(())
}
