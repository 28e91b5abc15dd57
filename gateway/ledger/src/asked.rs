//! The limits that policies asked for last, for reports: a policy says them anew for each request, so the books only know
//! those of open holds.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::amounts::Unit;
use crate::bound::{Bound, Mode, Window};
use crate::entry::Name;

/// Accounts that are remembered; past that all are forgotten, and remembered anew as they come.
const ACCOUNTS_MAX: usize = 100_000;
/// Limits of one account that are remembered.
const LIMITS_MAX: usize = 32;

/// A limit as it was asked for last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedLimit {
    pub window: Window,
    pub zone: Name,
    pub unit: Unit,
    pub mode: Mode,
    /// In the unit's count.
    pub limit: i64,
}

#[derive(Debug, Default)]
pub(crate) struct AskedLimits(Mutex<HashMap<Name, Vec<AskedLimit>>>);

impl AskedLimits {
    pub fn remember(&self, bounds: &[Bound]) {
        if bounds.is_empty() {
            return;
        }
        let mut accounts = self.0.lock();
        for bound in bounds {
            if accounts.len() >= ACCOUNTS_MAX && !accounts.contains_key(bound.account()) {
                accounts.clear();
            }
            let limits = match accounts.get_mut(bound.account()) {
                Some(limits) => limits,
                None => accounts.entry(bound.account().clone()).or_default(),
            };
            let limit = bound.limit().count();
            let room = limits.len() < LIMITS_MAX;
            let known = limits.iter_mut().find(|known| {
                (known.window, known.unit, known.mode) == (bound.window(), bound.unit(), bound.mode())
                    && known.zone == *bound.zone().name()
            });
            match known {
                Some(known) => known.limit = limit,
                None if room => limits.push(AskedLimit {
                    window: bound.window(),
                    zone: bound.zone().name().clone(),
                    unit: bound.unit(),
                    mode: bound.mode(),
                    limit,
                }),
                None => {}
            }
        }
    }

    pub fn of(&self, account: &str) -> Vec<AskedLimit> {
        self.0.lock().get(account).cloned().unwrap_or_default()
    }
}
