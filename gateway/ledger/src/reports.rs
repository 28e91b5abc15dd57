//! What reports read of the books.

use crate::amounts::Amounts;
use crate::books::{BalanceView, Books};
use crate::bound::Window;
use crate::entry::Name;
use crate::window::Stretch;

/// What an account has spent and held in a window that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRow {
    pub account: Name,
    pub window: Window,
    pub zone: Name,
    pub stretch: Stretch,
    pub posted: Amounts,
    pub held: Amounts,
    pub overage: Amounts,
}

pub(crate) fn balance_rows(books: &Books) -> Vec<BalanceRow> {
    let row = |view: BalanceView<'_>| BalanceRow {
        account: Name::clone(view.account),
        window: view.window,
        zone: Name::clone(view.zone),
        stretch: view.stretch,
        posted: view.posted,
        held: view.held,
        overage: view.overage,
    };
    books.balances().map(row).collect()
}
