//! Books written before names were bounded: every name that facts bear had an account there, with three windows.

use super::accounts::{Class, STANDING_WINDOWS, Slot};
use super::snapshot::{SnapshotError, Written, fresh_account, read_balance, read_calendar, read_past, read_yes};
use super::state::State;
use crate::bound::{Window, Zone};
use crate::slab::Place;
use crate::wire::Reader;

pub(super) const VERSION: u8 = 2;

/// Which units bounds counted was not written down: all, to be safe.
const ALL_UNITS: u8 = 7;
const DAY_MS: i64 = 86_400_000;

/// Accounts that no bound has named live no longer than they would today: those of kinds that are now counted on demand
/// are over at once.
pub(super) fn read_account(
    r: &mut Reader<'_>,
    state: &mut State,
    written: &mut Vec<Written>,
) -> Result<(), SnapshotError> {
    let name = r.text()?;
    let class = match name {
        "global" => Class::Kept,
        _ if name.starts_with("provider:") => Class::Kept,
        _ if name.starts_with("tenant:") => Class::Tenant,
        _ if name.starts_with("key:") => Class::Key,
        _ if name.starts_with("model:") => Class::Model,
        _ => Class::Bound,
    };
    let place = fresh_account(state, name, class)?;
    let used_ms = r.signed()?;
    let mut windows: Vec<(u16, i64, Option<Place>)> = Vec::new();
    for _ in 0..r.count()? {
        let calendar = read_calendar(r, state)?;
        if windows.iter().any(|(known, ..)| *known == calendar) {
            return Err(SnapshotError::Inconsistent("a window twice"));
        }
        let bound_ms = r.signed()?;
        let balance = match read_yes(r)? {
            true => Some(read_balance(r, state, place, calendar, false, written)?),
            false => None,
        };
        windows.push((calendar, bound_ms, balance));
    }
    read_past(r, state, place, written)?;
    let is_bound = windows.iter().any(|(_, bound_ms, _)| *bound_ms != i64::MIN);
    let Some(account) = state.accounts.get_mut(place) else {
        return Ok(());
    };
    for (calendar, bound_ms, balance) in &windows {
        match account.standing.get_mut(usize::from(*calendar)) {
            Some(standing) => *standing = *balance,
            None => account.slots.push(Slot {
                balance: *balance,
                bound_day: u32::try_from(bound_ms.div_euclid(DAY_MS)).unwrap_or(0),
                calendar: *calendar,
                units: ALL_UNITS,
            }),
        }
        if usize::from(*calendar) < STANDING_WINDOWS.len() && *bound_ms != i64::MIN {
            account.flags.0 |= u16::from(ALL_UNITS) << (3 * calendar);
        }
    }
    if is_bound && matches!(class, Class::Key | Class::Model) {
        account.class = Class::Bound;
    }
    if class == Class::Tenant {
        account.until_s = i64::MAX;
    } else if is_bound || account.flags.is_standing() {
        account.until_s = Window::Day.period(&Zone::utc(), used_ms).end_s;
    }
    for (calendar, _, balance) in windows {
        if let Some(balance) = balance.and_then(|balance| state.balances.get(balance)) {
            let (end_s, posted) = (state.period_of(balance).end_s, balance.posted);
            state.post_counts(place, calendar, end_s, &posted);
        }
    }
    Ok(())
}
