//! `agentledger budgets`: what accounts have spent and hold, beside their limits, one line a limit; and how to set one.

use agentledger_ledger::Usd;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::CliError;
use super::aliases;
use super::ask::{Ask, AskArgs, Elsewhere, number, params};
use super::changes::{ChangeArgs, moment, rule_told};
use super::client::ClientError;
use super::form::Form;
use super::style::Style;
use super::table::{Cell, Table};
use super::view::{Column, Is, View, pages, state};
use crate::control::wire::{BudgetRow, BudgetStatus, LimitRow};

/// Printed where no account has a running window.
pub const NOTHING: &str = "No budget is in use.";
/// Printed where accounts have running windows, and no limit was asked for them.
pub const UNLIMITED: &str = "No account has a limit. --all shows what the others have spent.";

/// Its pages, and its columns for programs: for people the rows are shown one a limit.
pub const PAGES: View = View {
    rows: "budgets",
    columns: &[
        Column("ACCOUNT", "account", Is::Text),
        Column("WINDOW", "window", Is::Text),
        Column("ZONE", "zone", Is::Text),
        Column("FROM", "from", Is::Text),
        Column("TO", "to", Is::Text),
        Column("SPENT (USD)", "spent_usd", Is::Usd),
        Column("HELD (USD)", "held_usd", Is::Usd),
        Column("OVERAGE (USD)", "overage_usd", Is::Usd),
        Column("SPENT TOKENS", "spent_tokens", Is::Count),
        Column("HELD TOKENS", "held_tokens", Is::Count),
        Column("SPENT REQUESTS", "spent_requests", Is::Count),
        Column("HELD REQUESTS", "held_requests", Is::Count),
        Column("LIMITS", "limits", Is::Json),
    ],
    nothing: NOTHING,
    next: "after",
};

#[derive(Debug, Default, Args)]
pub struct BudgetsArgs {
    #[command(flatten)]
    pub(super) ask: AskArgs,
    /// Accounts that begin so, such as key: or agent:crawler, with a limit or without
    #[arg(long, default_value = "", hide_default_value = true)]
    pub account: String,
    /// minute, hour, day, week, month or total
    #[arg(long, default_value = "", hide_default_value = true)]
    pub window: String,
    /// Also accounts without a limit
    #[arg(long)]
    pub all: bool,
    #[command(subcommand)]
    pub(super) then: Option<BudgetsCommand>,
}

#[derive(Debug, Subcommand)]
pub(super) enum BudgetsCommand {
    /// Set a limit, in place of the one of the same account, window and unit that was set before
    #[command(allow_missing_positional = true)]
    Set(SetArgs),
    /// Grant more for a while, on top of the limits that an account has
    #[command(allow_missing_positional = true)]
    TopUp(TopUpArgs),
}

#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// agent:crawler, tag:team=ml, agent (each agent by itself), global, …
    #[arg(required_unless_present_any = ["api_key_pattern", "tenant"], conflicts_with_all = ["api_key_pattern", "tenant"])]
    account: Option<String>,
    /// How much, in the unit
    limit: String,
    /// Keys that fit this pattern, each by itself (sk-dev-*)
    #[arg(long, value_name = "PATTERN", conflicts_with = "tenant")]
    api_key_pattern: Option<String>,
    /// A tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// minute, hour, day, week, month or total
    #[arg(long)]
    window: String,
    /// usd (default), tokens or requests
    #[arg(long)]
    unit: Option<String>,
    /// What happens at the limit: block, warn, clamp, downgrade
    #[arg(long)]
    action: Option<String>,
    /// Warn at these parts of the limit, 0.8 or 0.8,0.9
    #[arg(long, value_delimiter = ',', value_parser = part)]
    soft: Vec<String>,
    /// The time zone by which windows begin
    #[arg(long)]
    zone: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(super) struct TopUpArgs {
    /// agent:crawler, tag:team=ml, …
    #[arg(required_unless_present = "api_key_pattern", conflicts_with = "api_key_pattern")]
    account: Option<String>,
    /// How much more, in the unit
    amount: String,
    /// Keys that fit this pattern (sk-dev-*)
    #[arg(long, value_name = "PATTERN")]
    api_key_pattern: Option<String>,
    /// Until when: a time, a day (its beginning, UTC), or so long from now (2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: String,
    /// From when; at once without it
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<String>,
    /// Of this window's limits only
    #[arg(long)]
    window: Option<String>,
    /// usd (default), tokens or requests
    #[arg(long)]
    unit: Option<String>,
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

fn part(text: &str) -> Result<String, String> {
    let part = text.parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
    part.map(|_| text.to_owned())
        .ok_or_else(|| "a part is a number from 0 to 1".to_owned())
}

pub fn run(args: &BudgetsArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let told = |value: &Value| rule_told(value, ask.style);
    match &args.then {
        None => status(&ask, args),
        Some(BudgetsCommand::Set(set)) => ask.change("budget.set", set.params(), told),
        Some(BudgetsCommand::TopUp(top_up)) => ask.change("budget.top_up", top_up.params(), told),
    }
}

impl SetArgs {
    fn params(&self) -> Map<String, Value> {
        let soft: Vec<Value> = self.soft.iter().map(|part| number(part)).collect();
        let mut given = params([
            ("account", self.account.clone().into()),
            ("api_key_pattern", self.api_key_pattern.clone().into()),
            ("tenant", self.tenant.clone().into()),
            ("window", self.window.clone().into()),
            ("limit", self.limit.clone().into()),
            ("unit", self.unit.clone().into()),
            ("action", self.action.clone().into()),
            ("zone", self.zone.clone().into()),
        ]);
        if !soft.is_empty() {
            given.insert("soft".to_owned(), soft.into());
        }
        self.change.add_to(&mut given);
        given
    }
}

impl TopUpArgs {
    fn params(&self) -> Map<String, Value> {
        params([
            ("account", self.account.clone().into()),
            ("api_key_pattern", self.api_key_pattern.clone().into()),
            ("amount", self.amount.clone().into()),
            ("until", self.until.clone().into()),
            ("from", self.from.clone().into()),
            ("window", self.window.clone().into()),
            ("unit", self.unit.clone().into()),
            ("reason", self.reason.clone().into()),
            ("dry_run", self.dry_run.into()),
        ])
    }
}

/// The table, with its last line break. Limits are known to a running gateway only, which has seen policies ask for them:
/// without one all accounts are shown.
pub fn status(ask: &Ask, query: &BudgetsArgs) -> Result<String, CliError> {
    let client = ask.target.open()?;
    let only_limited = client.is_gateway() && query.account.is_empty() && !query.all;
    let given = params([
        ("account", query.account.clone().into()),
        ("window", query.window.clone().into()),
    ]);
    let mut result = pages(&client, "budget.status", given, &PAGES)?;
    if ask.form() != Form::Table {
        return Ok(ask.list(result, &PAGES));
    }
    aliases::put_in(&ask.aliases(), &mut result);
    let unexpected = |error| ClientError::Answer {
        method: "budget.status".to_owned(),
        error,
    };
    let status: BudgetStatus = serde_json::from_value(result).map_err(unexpected)?;
    let is_any = !status.budgets.is_empty();
    let mut budgets = status.budgets;
    budgets.retain(|row| !only_limited || !row.limits.is_empty());
    Ok(match (is_any, budgets.is_empty()) {
        (false, _) => format!("{NOTHING}\n"),
        (true, true) => format!("{UNLIMITED}\n"),
        (true, false) => table(&budgets, ask.style),
    })
}

fn table(budgets: &[BudgetRow], style: Style) -> String {
    let header = [
        "ACCOUNT", "WINDOW", "ENDS", "UNIT", "SPENT", "HELD", "OVERAGE", "LIMIT", "LEFT", "MODE",
    ];
    let mut table = Table::new(header);
    for row in budgets {
        if row.limits.is_empty() {
            table.row(line(row, "usd", usd_figures(row, None), ""));
        }
        for limit in &row.limits {
            let figures = match limit.unit.as_str() {
                "tokens" => count_figures(row.spent_tokens, row.held_tokens, limit),
                "requests" => count_figures(row.spent_requests, row.held_requests, limit),
                _ => usd_figures(row, Some(limit)),
            };
            table.row(line(row, &limit.unit, figures, &limit.mode));
        }
    }
    table.render(style)
}

/// Spent, held, overage, limit and left, in one unit; `-` where there is none.
type Figures = [Cell; 5];

fn line(row: &BudgetRow, unit: &str, figures: Figures, mode: &str) -> Vec<Cell> {
    let zone = if row.zone == "UTC" {
        String::new()
    } else {
        format!(" {}", row.zone)
    };
    let mut cells: Vec<Cell> = vec![
        row.account.as_str().into(),
        format!("{}{zone}", row.window).into(),
        row.to.as_deref().unwrap_or("never").into(),
        unit.into(),
    ];
    cells.extend(figures);
    cells.push(state(mode));
    cells
}

fn none() -> Cell {
    "-".into()
}

/// What is left may be below zero: overage, or a limit that was lowered.
fn usd_figures(row: &BudgetRow, limit: Option<&LimitRow>) -> Figures {
    // A gateway of another version may say what this one cannot read.
    let limit = limit.and_then(|limit| limit.limit.parse::<Usd>().ok());
    let left = |limit: Usd| limit.saturating_sub(row.spent_usd).saturating_sub(row.held_usd);
    [
        row.spent_usd.into(),
        row.held_usd.into(),
        row.overage_usd.into(),
        limit.map_or_else(none, Cell::from),
        limit.map_or_else(none, |limit| left(limit).into()),
    ]
}

fn count_figures(spent: i64, held: i64, limit: &LimitRow) -> Figures {
    let count = limit.limit.parse::<i64>().ok();
    let left = |count: i64| count.saturating_sub(spent).saturating_sub(held);
    [
        spent.into(),
        held.into(),
        none(),
        count.map_or_else(|| limit.limit.as_str().into(), Cell::from),
        count.map_or_else(none, |count| left(count).into()),
    ]
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
            ..LimitRow::default()
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
ACCOUNT    WINDOW   ENDS                       UNIT         SPENT      HELD   OVERAGE     LIMIT       LEFT   MODE
--------   ------   ------------------------   --------   -------   -------   -------   -------   --------   -----
key:0123   day      2026-11-23T00:00:00.000Z   usd        $1.5000   $0.2500   $0.0100   $5.0000    $3.2500   hard
key:0123   day      2026-11-23T00:00:00.000Z   usd        $1.5000   $0.2500   $0.0100   $1.5000   -$0.2500   watch
key:0123   day      2026-11-23T00:00:00.000Z   tokens         900        50         -     1,000         50   hard
key:0123   day      2026-11-23T00:00:00.000Z   requests         3         0         -        10          7   hard
global     total    2026-11-23T00:00:00.000Z   usd        $1.5000   $0.2500   $0.0100         -          -
";
        assert_eq!(table(&[row, unlimited], Style::PLAIN), expected);
    }
}
