//! `agentledger costs`: what was spent, as a table.

use std::collections::BTreeMap;

use agentledger_ledger::Usd;
use clap::Args;

use super::CliError;
use super::ask::{Ask, AskArgs, Elsewhere, Target};
use super::client::{Client, ClientError};
use super::table::{Cell, Table};
use super::view::named;
use crate::control::wire::{CostRow, Holds, Summary, SummaryParams};
use crate::control::{LastError, parse_last};

/// Printed where nothing was recorded.
pub const NOTHING: &str = "No usage recorded in the given time window.";

#[derive(Debug, thiserror::Error)]
pub enum CostsError {
    #[error(transparent)]
    Last(#[from] LastError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl CostsError {
    pub const fn is_usage(&self) -> bool {
        match self {
            CostsError::Last(_) => true,
            CostsError::Client(error) => error.is_usage(),
        }
    }
}

/// What `costs` sums where no `--last` is given.
const LAST_DEFAULT: &str = "24h";

#[derive(Debug, Default, Args)]
pub struct QueryArgs {
    /// How far back: days (30d) or a duration (90m, 1h30m)
    #[arg(long, value_name = "TIME")]
    pub last: Option<String>,
    /// One tenant only
    #[arg(long, default_value = "", hide_default_value = true)]
    pub tenant: String,
}

#[derive(Debug, Args)]
pub struct CostsArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    pub query: QueryArgs,
    /// model, provider, key, agent, session, user, task, tenant, team, feature, project, cost_centre, page or tag:NAME; any other
    /// word means model
    #[arg(long, default_value = "model")]
    pub by: String,
}

/// What to sum: the flags of `costs` and `export`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CostsQuery {
    /// `None`: not given. Empty is 24 hours, as in the contract.
    pub last: Option<String>,
    pub by: String,
    pub tenant: String,
}

impl QueryArgs {
    pub fn by(&self, by: &str) -> CostsQuery {
        CostsQuery {
            last: self.last.clone(),
            by: by.to_owned(),
            tenant: self.tenant.clone(),
        }
    }
}

pub fn run(args: &CostsArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    Ok(shown(&ask, &args.query.by(&args.by))?)
}

/// The table, or the text that says there is none; with its last line break.
pub fn shown(ask: &Ask, query: &CostsQuery) -> Result<String, CostsError> {
    if ask.json {
        return json(ask, query);
    }
    let Some((client, mut summary)) = summed(&ask.target, query, LAST_DEFAULT)? else {
        return Ok(format!("{NOTHING}\n"));
    };
    let mut held = HeldByKey::new();
    if summary.by == "key" {
        held = held_now(&client, &query.tenant)?;
        let only_held: Vec<String> = held
            .keys()
            .filter(|key| !summary.rows.iter().any(|row| row.key == **key))
            .cloned()
            .collect();
        summary.rows.extend(only_held.into_iter().map(|key| CostRow {
            key,
            ..CostRow::default()
        }));
    }
    Ok(if summary.rows.is_empty() {
        format!("{NOTHING}\n")
    } else {
        table(&summary, &held).render_contract(ask.style)
    })
}

fn json(ask: &Ask, query: &CostsQuery) -> Result<String, CostsError> {
    let params = checked_params(query, LAST_DEFAULT)?;
    let Some(client) = ask.target.open()? else {
        return Ok("{\"from\":\"\",\"to\":\"\",\"by\":\"\",\"rows\":[]}\n".to_owned());
    };
    Ok(format!("{}\n", client.call_raw("ledger.summary", &params)?.get()))
}

/// What open holds hold now, by key.
type HeldByKey = BTreeMap<String, Usd>;

fn held_now(client: &Client, tenant: &str) -> Result<HeldByKey, ClientError> {
    let open: Holds = client.call("hold.list", &serde_json::json!({}))?;
    let mut held = HeldByKey::new();
    for hold in open
        .holds
        .into_iter()
        .filter(|hold| tenant.is_empty() || hold.tenant == tenant)
    {
        let sum = held.entry(hold.key).or_default();
        *sum = sum.saturating_add(hold.held_usd);
    }
    Ok(held)
}

/// The sums; `None` where there is no ledger yet.
pub fn summary(target: &Target, query: &CostsQuery, last_default: &str) -> Result<Option<Summary>, CostsError> {
    Ok(summed(target, query, last_default)?.map(|(_, summary)| summary))
}

fn summed(target: &Target, query: &CostsQuery, last_default: &str) -> Result<Option<(Client, Summary)>, CostsError> {
    let params = checked_params(query, last_default)?;
    let Some(client) = target.open()? else {
        return Ok(None);
    };
    let summary = client.call("ledger.summary", &params)?;
    Ok(Some((client, summary)))
}

/// Checked here too: a bad value is the caller's mistake, whether or not there is a ledger.
fn checked_params(query: &CostsQuery, last_default: &str) -> Result<SummaryParams, LastError> {
    let last = query.last.as_deref().unwrap_or(last_default);
    parse_last(last)?;
    Ok(SummaryParams {
        last: Some(last.to_owned()),
        by: query.by.clone(),
        tenant: query.tenant.clone(),
        ..SummaryParams::default()
    })
}

/// The contract's table. What its original got wrong is right: `--by key` names the key, and `--by provider` is one row
/// a provider.
fn table(summary: &Summary, held: &HeldByKey) -> Table {
    let by = summary.by.as_str();
    let names: Vec<String> = match by {
        "provider" => vec!["PROVIDER".into()],
        "key" => vec!["KEY".into()],
        "agent" => vec!["AGENT".into()],
        "session" => vec!["AGENT".into(), "SESSION".into()],
        "user" => vec!["USER".into()],
        "task" => vec!["TASK".into()],
        "tenant" => vec!["TENANT".into()],
        _ => match by.strip_prefix("tag:") {
            Some(tag) => vec![tag.to_uppercase()],
            None => vec!["PROVIDER".into(), "MODEL".into()],
        },
    };
    // What is held now, and what was billed beyond holds, is told where budgets are: by key.
    let with_holds = by == "key";
    let mut header = names.clone();
    header.extend(["REQUESTS", "INPUT TOKENS", "OUTPUT TOKENS", "COST (USD)"].map(String::from));
    if with_holds {
        header.extend(["HELD (USD)", "OVERAGE (USD)"].map(String::from));
    }
    let mut table = Table::new(header);
    let mut total = CostRow::default();
    for row in &summary.rows {
        let mut cells: Vec<Cell> = row_names(by, row).into_iter().map(Cell::from).collect();
        let held_now = held.get(&row.key).copied().unwrap_or_default();
        cells.extend(figures(row, with_holds.then_some(held_now)));
        table.row(cells);
        total.requests += row.requests;
        total.input_tokens = total.input_tokens.saturating_add(row.input_tokens);
        total.output_tokens = total.output_tokens.saturating_add(row.output_tokens);
        total.cost_usd = total.cost_usd.saturating_add(row.cost_usd);
        total.overage_usd = total.overage_usd.saturating_add(row.overage_usd);
    }
    let mut cells: Vec<Cell> = vec!["".into(); names.len()];
    if let Some(first) = cells.first_mut() {
        *first = "TOTAL".into();
    }
    let held_now = held.values().fold(Usd::ZERO, |sum, held| sum.saturating_add(*held));
    cells.extend(figures(&total, with_holds.then_some(held_now)));
    table.footer(cells);
    table
}

fn row_names(by: &str, row: &CostRow) -> Vec<String> {
    match by {
        "provider" => vec![named(&row.provider)],
        "key" if !row.key_now.is_empty() => vec![format!("{} (now {})", row.key, row.key_now)],
        "key" => vec![named(&row.key)],
        "agent" => vec![named(&row.agent)],
        "session" => vec![named(&row.agent), named(&row.session)],
        "user" => vec![named(&row.user)],
        "task" => vec![named(&row.task)],
        "tenant" => vec![named(&row.tenant)],
        _ if by.starts_with("tag:") => vec![named(&row.tag)],
        _ => vec![named(&row.provider), named(&row.model)],
    }
}

fn figures(row: &CostRow, held_now: Option<Usd>) -> Vec<Cell> {
    let mut cells: Vec<Cell> = vec![
        row.requests.into(),
        row.input_tokens.into(),
        row.output_tokens.into(),
        row.cost_usd.into(),
    ];
    if let Some(held_now) = held_now {
        cells.extend([held_now, row.overage_usd].map(Cell::from));
    }
    cells
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::cli::style::Style;

    fn row(provider: &str, model: &str, requests: u64, nanos: i64) -> CostRow {
        CostRow {
            provider: provider.into(),
            model: model.into(),
            requests,
            input_tokens: 1_000 * requests,
            output_tokens: 10 * requests,
            cost_usd: Usd::from_nanos(nanos),
            ..CostRow::default()
        }
    }

    fn summary(by: &str, rows: Vec<CostRow>) -> Summary {
        Summary {
            from: String::new(),
            to: String::new(),
            by: by.into(),
            rows,
        }
    }

    fn shown(summary: &Summary) -> String {
        table(summary, &HeldByKey::new()).render_contract(Style::PLAIN)
    }

    #[test]
    fn the_table_by_model_is_the_contracts() {
        let rows = vec![
            row("anthropic", "claude-opus-4-5", 3, 1_234_567_890),
            row("openai", "", 12, 49_999),
        ];
        let expected = "\
PROVIDER    MODEL             REQUESTS   INPUT TOKENS   OUTPUT TOKENS   COST (USD)
---------   ---------------   --------   ------------   -------------   ----------
anthropic   claude-opus-4-5   3          3000           30              $1.2346
openai      (none)            12         12000          120             $0.0000
---------   ---------------   --------   ------------   -------------   ----------
TOTAL                         15         15000          150             $1.2346
";
        assert_eq!(shown(&summary("model", rows)), expected);
    }

    #[test]
    fn by_key_has_a_key_column() {
        let key = CostRow {
            key: "0123456789abcdef01234567".into(),
            overage_usd: Usd::from_nanos(100_000),
            ..row("", "", 1, 250_000_000)
        };
        let expected = "\
KEY                        REQUESTS   INPUT TOKENS   OUTPUT TOKENS   COST (USD)   HELD (USD)   OVERAGE (USD)
------------------------   --------   ------------   -------------   ----------   ----------   -------------
0123456789abcdef01234567   1          1000           10              $0.2500      $0.5000      $0.0001
(none)                     1          1000           10              $0.1000      $0.0000      $0.0000
------------------------   --------   ------------   -------------   ----------   ----------   -------------
TOTAL                      2          2000           20              $0.3500      $0.5000      $0.0001
";
        let held = HeldByKey::from([("0123456789abcdef01234567".to_owned(), Usd::from_nanos(500_000_000))]);
        let rows = vec![key, row("", "", 1, 100_000_000)];
        assert_eq!(
            table(&summary("key", rows), &held).render_contract(Style::PLAIN),
            expected
        );
    }

    #[test]
    fn by_provider_has_no_arbitrary_model() {
        let text = shown(&summary("provider", vec![row("openai", "", 2, 0)]));
        assert_eq!(
            text.lines().next(),
            Some("PROVIDER   REQUESTS   INPUT TOKENS   OUTPUT TOKENS   COST (USD)")
        );
        assert_eq!(
            text.lines().nth(2),
            Some("openai     2          2000           20              $0.0000")
        );
    }

    #[test]
    fn sessions_come_with_their_agent() {
        let session = CostRow {
            agent: "crawler".into(),
            session: "s1".into(),
            ..row("", "", 1, 0)
        };
        let text = shown(&summary("session", vec![session]));
        assert!(text.starts_with("AGENT     SESSION   REQUESTS"), "{text}");
        assert!(text.contains("\ncrawler   s1        1"), "{text}");
        let agents = shown(&summary("agent", vec![row("", "", 1, 0)]));
        assert!(agents.contains("\n(none)   1"), "{agents}");
        assert!(shown(&summary("user", vec![row("", "", 1, 0)])).starts_with("USER"));
        let tenant = CostRow {
            tenant: "acme".into(),
            ..row("", "", 1, 0)
        };
        assert!(shown(&summary("tenant", vec![tenant])).contains("\nacme     1"));
        assert!(shown(&summary("tag:team", vec![row("", "", 1, 0)])).starts_with("TEAM"));
    }
}
