//! `agentledger budgets`: what accounts have spent and hold, beside their limits.

use super::client::{Client, ClientError};
use super::costs::fixed;
use super::table::Table;
use crate::config::Config;
use crate::control::wire::{BudgetParams, BudgetRow, BudgetStatus};

/// Printed where no account has a running window.
pub const NOTHING: &str = "No budget is in use.";

/// The table, with its last line break. `account` picks those that begin so, `window` one kind of window; empty is all.
pub fn run(config: &Config, account: &str, window: &str) -> Result<String, ClientError> {
    let Some(client) = Client::open(config)? else {
        return Ok(format!("{NOTHING}\n"));
    };
    let params = BudgetParams {
        account: account.to_owned(),
        window: window.to_owned(),
    };
    let status: BudgetStatus = client.call("budget.status", &params)?;
    Ok(if status.budgets.is_empty() {
        format!("{NOTHING}\n")
    } else {
        table(&status.budgets)
    })
}

fn table(budgets: &[BudgetRow]) -> String {
    let header = [
        "ACCOUNT",
        "WINDOW",
        "ENDS",
        "SPENT (USD)",
        "HELD (USD)",
        "OVERAGE (USD)",
        "TOKENS",
        "REQUESTS",
        "LIMITS",
    ];
    let mut table = Table::new(header);
    for row in budgets {
        let limits: Vec<String> = row
            .limits
            .iter()
            .map(|limit| {
                let soft = if limit.mode == "watch" { " (warn)" } else { "" };
                format!("{} {}{soft}", limit.limit, limit.unit)
            })
            .collect();
        let zone = if row.zone == "UTC" {
            String::new()
        } else {
            format!(" {}", row.zone)
        };
        table.row(vec![
            row.account.clone(),
            format!("{}{zone}", row.window),
            row.to.clone().unwrap_or_else(|| "never".to_owned()),
            format!("${}", fixed(row.spent_usd, 4)),
            format!("${}", fixed(row.held_usd, 4)),
            format!("${}", fixed(row.overage_usd, 4)),
            row.spent_tokens.to_string(),
            row.spent_requests.to_string(),
            if limits.is_empty() {
                "-".to_owned()
            } else {
                limits.join(", ")
            },
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::control::wire::LimitRow;
    use agentledger_ledger::Usd;

    #[test]
    fn spent_held_and_overage_stand_apart() {
        let row = BudgetRow {
            account: "key:0123".into(),
            window: "day".into(),
            zone: "UTC".into(),
            to: Some("2026-11-23T00:00:00.000Z".into()),
            spent_usd: Usd::from_nanos(1_500_000_000),
            held_usd: Usd::from_nanos(250_000_000),
            overage_usd: Usd::from_nanos(10_000_000),
            spent_tokens: 900,
            spent_requests: 3,
            limits: vec![LimitRow {
                unit: "usd".into(),
                limit: "5".into(),
                mode: "watch".into(),
            }],
            ..BudgetRow::default()
        };
        let text = table(&[row]);
        let expected = "key:0123   day      2026-11-23T00:00:00.000Z   $1.5000       $0.2500      $0.0100         900      3          5 usd (warn)";
        assert_eq!(text.lines().nth(2), Some(expected));
    }
}
