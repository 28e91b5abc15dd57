//! What reports read of the books.

use crate::amounts::Amounts;
use crate::books::BalanceView;
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

pub(crate) fn balance_rows<'b>(views: impl Iterator<Item = BalanceView<'b>>) -> Vec<BalanceRow> {
    views.map(BalanceRow::of).collect()
}

/// From what the books say of the first accounts after one, and whether there are more.
pub(crate) fn balance_page((views, has_more): (Vec<BalanceView<'_>>, bool)) -> BalancePage {
    let next = views.last().filter(|_| has_more).map(|view| Name::clone(view.account));
    BalancePage {
        rows: balance_rows(views.into_iter()),
        next,
    }
}
