//! The limits that policies requested last, for reports: a policy says them anew for each request, so the books only know
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

/// A limit as it was requested last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedLimit {
    pub window: Window,
    pub zone: Name,
    pub unit: Unit,
    pub mode: Mode,
    /// In the unit's count.
    pub limit: i64,
}

impl RequestedLimit {
    fn of(bound: &Bound) -> RequestedLimit {
        RequestedLimit {
            window: bound.window(),
            zone: bound.zone().name().clone(),
            unit: bound.unit(),
            mode: bound.mode(),
            limit: bound.limit().count(),
        }
    }

    fn is(&self, bound: &Bound) -> bool {
        (self.window, self.unit, self.mode, self.limit)
            == (bound.window(), bound.unit(), bound.mode(), bound.limit().count())
            && self.zone == *bound.zone().name()
    }
}

#[derive(Debug, Default)]
pub(crate) struct LastLimits(RwLock<Map<Name, Vec<RequestedLimit>>>);

impl LastLimits {
    /// What a request asks for on an account is all that holds there now: limits that are requested no longer are not shown.
    pub fn remember(&self, bounds: &[Bound]) {
        if bounds.is_empty() {
            return;
        }
        // Most requests ask for what the one before them requested: nothing is written then, and nobody waits.
        let accounts = self.0.read();
        let is_known = |bound: &Bound| {
            let known = accounts.get(bound.account());
            known.is_some_and(|known| {
                let of_account = on(bounds, bound.account());
                known.len() == of_account.clone().count()
                    && known.iter().zip(of_account).all(|(known, bound)| known.is(bound))
            })
        };
        if bounds.iter().all(is_known) {
            return;
        }
        drop(accounts);
        let mut accounts = self.0.write();
        for bound in bounds {
            let account = bound.account();
            if accounts.len() >= ACCOUNTS_MAX && !accounts.contains_key(account) {
                accounts.clear();
            }
            let limits: Vec<RequestedLimit> = on(bounds, account).map(RequestedLimit::of).collect();
            accounts.insert(account.clone(), limits);
        }
    }

    /// Of all accounts.
    pub fn all(&self) -> Vec<(Name, Vec<RequestedLimit>)> {
        let accounts = self.0.read();
        accounts
            .iter()
            .map(|(account, limits)| (account.clone(), limits.clone()))
            .collect()
    }

    pub fn of(&self, account: &str) -> Vec<RequestedLimit> {
        self.0.read().get(account).cloned().unwrap_or_default()
    }
}

/// The bounds on one account.
fn on<'b>(bounds: &'b [Bound], account: &'b Name) -> impl Iterator<Item = &'b Bound> + Clone {
    bounds
        .iter()
        .filter(move |bound| bound.account() == account)
        .take(LIMITS_MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::bound::{Limit, Zone};

    #[test]
    fn what_was_asked_for_last_is_what_holds() {
        let requested = LastLimits::default();
        let bound = |account: &str, window, tokens, mode| {
            let limit = Limit::tokens(tokens).unwrap();
            Bound::new(account.into(), window, Zone::utc(), limit, mode).unwrap()
        };
        requested.remember(&[
            bound("key:a", Window::Day, 5, Mode::Hard),
            bound("global", Window::Day, 50, Mode::Hard),
            bound("key:a", Window::Month, 9, Mode::Watch),
        ]);
        assert_eq!(requested.of("key:a").len(), 2);
        // A top-up has ended, and what refused only warns now.
        requested.remember(&[bound("key:a", Window::Day, 4, Mode::Watch)]);
        let limits = requested.of("key:a");
        assert_eq!((limits.len(), limits[0].limit, limits[0].mode), (1, 4, Mode::Watch));
        assert_eq!(requested.of("global").len(), 1, "nothing was said of it");
    }
}
