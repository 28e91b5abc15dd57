//! `agentledger budgets`: what accounts have spent and hold, beside their limits: one line a limit.

use agentledger_ledger::Usd;

use super::client::{Client, ClientError};
use super::costs::fixed;
use super::table::Table;
use crate::config::Config;
use crate::control::wire::{BudgetParams, BudgetRow, BudgetStatus, LimitRow};

/// Printed where no account has a running window.
pub const NOTHING: &str = "No budget is in use.";
/// Printed where accounts have running windows, and no limit was asked for them.
pub const UNLIMITED: &str = "No account has a limit. --all shows what the others have spent.";

/// Which accounts to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetsQuery<'a> {
    /// Those that begin so; empty is all that have a limit.
    pub account: &'a str,
    /// One kind of window; empty is all.
    pub window: &'a str,
    /// Also those without a limit.
    pub all: bool,
}

/// The table, with its last line break. Limits are known to a running gateway only, which has seen policies ask for them:
/// without one all accounts are shown.
pub fn run(config: &Config, query: BudgetsQuery<'_>) -> Result<String, ClientError> {
    let Some(client) = Client::open(config)? else {
        return Ok(format!("{NOTHING}\n"));
    };
    let only_limited = client.is_gateway() && query.account.is_empty() && !query.all;
    let mut params = BudgetParams {
        account: query.account.to_owned(),
        window: query.window.to_owned(),
        ..BudgetParams::default()
    };
    let (mut budgets, mut is_any): (Vec<BudgetRow>, bool) = (Vec::new(), false);
    loop {
        let mut page: BudgetStatus = client.call("budget.status", &params)?;
        is_any |= !page.budgets.is_empty();
        page.budgets.retain(|row| !only_limited || !row.limits.is_empty());
        budgets.append(&mut page.budgets);
        match page.next {
            Some(next) => params.after = next,
            None => break,
        }
    }
    Ok(match (is_any, budgets.is_empty()) {
        (false, _) => format!("{NOTHING}\n"),
        (true, true) => format!("{UNLIMITED}\n"),
        (true, false) => table(&budgets),
    })
}

fn table(budgets: &[BudgetRow]) -> String {
    let header = [
        "ACCOUNT", "WINDOW", "ENDS", "UNIT", "SPENT", "HELD", "OVERAGE", "LIMIT", "LEFT",
    ];
    let mut table = Table::new(header);
    for row in budgets {
        if row.limits.is_empty() {
            let figures = usd_figures(row, None);
            table.row(line(row, "usd", figures, "-".to_owned()));
        }
        for limit in &row.limits {
            let figures = match limit.unit.as_str() {
                "tokens" => count_figures(row.spent_tokens, row.held_tokens, limit),
                "requests" => count_figures(row.spent_requests, row.held_requests, limit),
                _ => usd_figures(row, Some(limit)),
            };
            let soft = if limit.mode == "watch" { " (warn)" } else { "" };
            let shown = format!("{}{soft}", figures.limit);
            table.row(line(row, &limit.unit, figures, shown));
        }
    }
    table.render()
}

/// Figures in one unit, as text; `-` where there is none.
struct Figures {
    spent: String,
    held: String,
    overage: String,
    limit: String,
    left: String,
}

fn line(row: &BudgetRow, unit: &str, figures: Figures, limit: String) -> Vec<String> {
    let zone = if row.zone == "UTC" {
        String::new()
    } else {
        format!(" {}", row.zone)
    };
    vec![
        row.account.clone(),
        format!("{}{zone}", row.window),
        row.to.clone().unwrap_or_else(|| "never".to_owned()),
        unit.to_owned(),
        figures.spent,
        figures.held,
        figures.overage,
        limit,
        figures.left,
    ]
}

/// What is left may be below zero: overage, or a limit that was lowered.
fn usd_figures(row: &BudgetRow, limit: Option<&LimitRow>) -> Figures {
    let shown = |usd: Usd| {
        let text = fixed(usd, 4);
        text.strip_prefix('-')
            .map_or_else(|| format!("${text}"), |text| format!("-${text}"))
    };
    // A gateway of another version may say what this one cannot read.
    let limit = limit.and_then(|limit| limit.limit.parse::<Usd>().ok());
    let left = |limit: Usd| limit.saturating_sub(row.spent_usd).saturating_sub(row.held_usd);
    Figures {
        spent: shown(row.spent_usd),
        held: shown(row.held_usd),
        overage: shown(row.overage_usd),
        limit: limit.map_or_else(|| "-".to_owned(), shown),
        left: limit.map_or_else(|| "-".to_owned(), |limit| shown(left(limit))),
    }
}

fn count_figures(spent: i64, held: i64, limit: &LimitRow) -> Figures {
    let count = limit.limit.parse::<i64>().ok();
    let left = |count: i64| count.saturating_sub(spent).saturating_sub(held).to_string();
    Figures {
        spent: spent.to_string(),
        held: held.to_string(),
        overage: "-".to_owned(),
        limit: limit.limit.clone(),
        left: count.map_or_else(|| "-".to_owned(), left),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn limit(unit: &str, limit: &str, mode: &str) -> LimitRow {
        LimitRow {
            unit: unit.into(),
            limit: limit.into(),
            mode: mode.into(),
        }
    }

    #[test]
    fn each_limit_has_a_line_with_what_is_left_of_it() {
        let row = BudgetRow {
            account: "key:0123".into(),
            window: "day".into(),
            zone: "UTC".into(),
            to: Some("2026-11-23T00:00:00.000Z".into()),
            spent_usd: Usd::from_nanos(1_500_000_000),
            held_usd: Usd::from_nanos(250_000_000),
            overage_usd: Usd::from_nanos(10_000_000),
            spent_tokens: 900,
            held_tokens: 50,
            spent_requests: 3,
            limits: vec![
                limit("usd", "5", "hard"),
                limit("usd", "1.5", "watch"),
                limit("tokens", "1000", "hard"),
                limit("requests", "10", "hard"),
            ],
            ..BudgetRow::default()
        };
        let unlimited = BudgetRow {
            account: "global".into(),
            window: "total".into(),
            zone: "UTC".into(),
            limits: Vec::new(),
            ..row.clone()
        };
        let expected = "\
ACCOUNT    WINDOW   ENDS                       UNIT       SPENT     HELD      OVERAGE   LIMIT            LEFT
--------   ------   ------------------------   --------   -------   -------   -------   --------------   --------
key:0123   day      2026-11-23T00:00:00.000Z   usd        $1.5000   $0.2500   $0.0100   $5.0000          $3.2500
key:0123   day      2026-11-23T00:00:00.000Z   usd        $1.5000   $0.2500   $0.0100   $1.5000 (warn)   -$0.2500
key:0123   day      2026-11-23T00:00:00.000Z   tokens     900       50        -         1000             50
key:0123   day      2026-11-23T00:00:00.000Z   requests   3         0         -         10               7
global     total    2026-11-23T00:00:00.000Z   usd        $1.5000   $0.2500   $0.0100   -                -
";
        assert_eq!(table(&[row, unlimited]), expected);
    }
}
