//! What reports read of the books.

use crate::amounts::Amounts;
use crate::books::{BalanceView, Books};
use crate::bound::Window;
use crate::entry::Name;
use crate::window::Period;

/// What an account has spent and held in a window that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRow {
    pub account: Name,
    pub window: Window,
    pub zone: Name,
    pub period: Period,
    pub posted: Amounts,
    pub held: Amounts,
    pub overage: Amounts,
}

/// The balances of some accounts, in the order of their names, and whether there are more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancePage {
    pub rows: Vec<BalanceRow>,
    /// The account after which the next page begins; `None`: there are no more.
    pub next: Option<Name>,
}

impl BalanceRow {
    fn of(view: BalanceView<'_>) -> BalanceRow {
        BalanceRow {
            account: Name::clone(view.account),
            window: view.window,
            zone: Name::clone(view.zone),
            period: view.period,
            posted: view.posted,
            held: view.held,
            overage: view.overage,
        }
    }
}

pub(crate) fn balance_rows(books: &Books) -> Vec<BalanceRow> {
    books.balances().map(BalanceRow::of).collect()
}

pub(crate) fn balance_page(books: &Books, prefix: &str, after: Option<&str>, accounts_max: usize) -> BalancePage {
    let (views, has_more) = books.balances_after(prefix, after, accounts_max.max(1));
    let next = views.last().filter(|_| has_more).map(|view| Name::clone(view.account));
    BalancePage {
        rows: views.into_iter().map(BalanceRow::of).collect(),
        next,
    }
}
