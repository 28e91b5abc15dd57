//! The books as they were at one moment, to be read without the lock that they change under: for checkpoints, openings and
//! reports, which walk over all accounts.
//!
//! Nothing is copied when they are frozen, but a pointer for each few hundred accounts. What the live books change while
//! these are kept is copied first, once, a chunk at a time (`slab`): so no second set of books ever stands beside them, and what
//! is in memory twice is what changed since.

use std::sync::Arc;

use super::Books;
use super::snapshot::{self, Pieces};
use super::state::{BalanceView, State};
use crate::index::Index;

/// See the module.
#[derive(Debug)]
pub(crate) struct FrozenBooks(State);

impl Books {
    /// As they are now.
    pub(crate) fn frozen(&mut self) -> FrozenBooks {
        let state = &mut self.state;
        FrozenBooks(State {
            calendars: state.calendars.clone(),
            accounts: state.accounts.frozen(),
            balances: state.balances.frozen(),
            shares: state.shares.frozen(),
            overages: state.overages.frozen(),
            instances: state.instances.frozen(),
            holds: state.holds.frozen(),
            imports: Arc::clone(&state.imports),
            documents: Arc::clone(&state.documents),
            // What only decides or finds: these are walked through.
            index: Index::default(),
            living: Default::default(),
            spelling: String::new(),
            ..*state
        })
    }
}

impl FrozenBooks {
    /// The sequence of the last event in them.
    pub fn head(&self) -> u64 {
        self.0.head
    }

    /// As [`Books::snapshot`].
    pub fn snapshot(&self) -> Vec<u8> {
        snapshot::write(&self.0)
    }

    /// The same bytes in pieces of this size, the last one shorter.
    pub fn pieces(&self, piece_bytes: usize) -> Pieces<'_> {
        Pieces::of(&self.0, piece_bytes)
    }

    /// As [`Books::balances`].
    pub fn balances(&self) -> impl Iterator<Item = BalanceView<'_>> {
        self.0.views()
    }

    /// As [`Books::balances_after`].
    pub fn balances_after(
        &self,
        prefix: &str,
        after: Option<&str>,
        accounts_max: usize,
    ) -> (Vec<BalanceView<'_>>, bool) {
        self.0.views_after(prefix, after, accounts_max)
    }
}
