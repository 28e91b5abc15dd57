//! Who waits for room on an account is notified when a hold on it ends, and only then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::entry::Name;

/// Waiters by account.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    accounts: Mutex<HashMap<Name, Weak<Notify>>>,
    /// So that who ends a hold need not lock while nobody waits.
    known: AtomicUsize,
}

impl Waiters {
    /// Notified whenever a hold on the account ends, for as long as the handle lives.
    pub fn of(&self, account: &Name) -> Arc<Notify> {
        let mut accounts = self.accounts.lock();
        if let Some(known) = accounts.get(account).and_then(Weak::upgrade) {
            return known;
        }
        accounts.retain(|_, notify| notify.strong_count() > 0);
        let notify = Arc::new(Notify::new());
        accounts.insert(Name::clone(account), Arc::downgrade(&notify));
        self.known.store(accounts.len(), Ordering::SeqCst);
        notify
    }

    pub fn notify<'a>(&self, ended_on: impl Iterator<Item = &'a Name>) {
        if self.known.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut accounts = self.accounts.lock();
        for account in ended_on {
            match accounts.get(account).map(Weak::upgrade) {
                Some(Some(notify)) => notify.notify_waiters(),
                Some(None) => {
                    accounts.remove(account);
                }
                None => {}
            }
        }
        self.known.store(accounts.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use tokio::time::{Duration, timeout};

    #[tokio::test]
    async fn a_hold_that_ends_wakes_those_of_its_accounts_alone() {
        let waiters = Waiters::default();
        let (one, other) = (Name::from("key:a"), Name::from("key:b"));
        let (of_one, of_other) = (waiters.of(&one), waiters.of(&other));
        let (mut first, mut second) = (Box::pin(of_one.notified()), Box::pin(of_other.notified()));
        assert!(!first.as_mut().enable() && !second.as_mut().enable());
        waiters.notify([&one].into_iter());
        timeout(Duration::from_secs(5), first).await.unwrap();
        assert!(timeout(Duration::from_millis(20), &mut second).await.is_err());
        drop(second);
        drop((of_one, of_other));
        waiters.notify([&one, &other].into_iter());
        assert_eq!(waiters.known.load(Ordering::SeqCst), 0);
    }
}
