//! The limits that policies asked for last, for reports: a policy says them anew for each request, so the books only know
//! those of open holds.

use crate::map::Map;

use parking_lot::RwLock;

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

impl AskedLimit {
    fn is_of(&self, bound: &Bound) -> bool {
        (self.window, self.unit, self.mode) == (bound.window(), bound.unit(), bound.mode())
            && self.zone == *bound.zone().name()
    }
}

#[derive(Debug, Default)]
pub(crate) struct AskedLimits(RwLock<Map<Name, Vec<AskedLimit>>>);

impl AskedLimits {
    pub fn remember(&self, bounds: &[Bound]) {
        if bounds.is_empty() {
            return;
        }
        // Most requests ask for what the one before them asked for: nothing is written then, and nobody waits.
        let accounts = self.0.read();
        let is_known = |bound: &Bound| {
            let limits = accounts.get(bound.account())?;
            let known = limits.iter().find(|known| known.is_of(bound))?;
            (known.limit == bound.limit().count()).then_some(())
        };
        if bounds.iter().all(|bound| is_known(bound).is_some()) {
            return;
        }
        drop(accounts);
        let mut accounts = self.0.write();
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
            match limits.iter_mut().find(|known| known.is_of(bound)) {
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
        self.0.read().get(account).cloned().unwrap_or_default()
    }
}
