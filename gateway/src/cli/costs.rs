//! `agentledger costs`: what was spent, as a table.

use std::collections::BTreeMap;

use agentledger_ledger::Usd;

use super::client::{Client, ClientError};
use super::table::Table;
use crate::config::Config;
pub use crate::control::contract_forms::fixed;
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

/// What `costs` sums where no `--last` is given.
const LAST_DEFAULT: &str = "24h";

/// What to sum: the flags of `costs` and `export`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CostsQuery {
    /// `None`: not given. Empty is 24 hours, as in the contract.
    pub last: Option<String>,
    pub by: String,
    pub tenant: String,
}

/// The table, or the text that says there is none; with its last line break.
pub fn run(config: &Config, query: &CostsQuery) -> Result<String, CostsError> {
    let Some((client, mut summary)) = ask(config, query, LAST_DEFAULT)? else {
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
        table(&summary, &held)
    })
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
pub fn summary(config: &Config, query: &CostsQuery, last_default: &str) -> Result<Option<Summary>, CostsError> {
    Ok(ask(config, query, last_default)?.map(|(_, summary)| summary))
}

fn ask(config: &Config, query: &CostsQuery, last_default: &str) -> Result<Option<(Client, Summary)>, CostsError> {
    // Checked here too: a bad value is the caller's mistake, whether or not there is a ledger.
    let last = query.last.as_deref().unwrap_or(last_default);
    parse_last(last)?;
    let Some(client) = Client::open(config)? else {
        return Ok(None);
    };
    let last = Some(last.to_owned());
    let params = SummaryParams {
        last,
        by: query.by.clone(),
        tenant: query.tenant.clone(),
        ..SummaryParams::default()
    };
    let summary = client.call("ledger.summary", &params)?;
    Ok(Some((client, summary)))
}

/// The contract's table. What its original got wrong is right: `--by key` names the key, and `--by provider` is one row
/// a provider.
fn table(summary: &Summary, held: &HeldByKey) -> String {
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
        let mut cells = row_names(by, row);
        let held_now = held.get(&row.key).copied().unwrap_or_default();
        cells.extend(figures(row, with_holds.then_some(held_now)));
        table.row(cells);
        total.requests += row.requests;
        total.input_tokens = total.input_tokens.saturating_add(row.input_tokens);
        total.output_tokens = total.output_tokens.saturating_add(row.output_tokens);
        total.cost_usd = total.cost_usd.saturating_add(row.cost_usd);
        total.overage_usd = total.overage_usd.saturating_add(row.overage_usd);
    }
    let mut cells = vec![String::new(); names.len()];
    if let Some(first) = cells.first_mut() {
        "TOTAL".clone_into(first);
    }
    let held_now = held.values().fold(Usd::ZERO, |sum, held| sum.saturating_add(*held));
    cells.extend(figures(&total, with_holds.then_some(held_now)));
    table.footer(cells);
    table.render()
}

fn row_names(by: &str, row: &CostRow) -> Vec<String> {
    let named = |name: &String| {
        if name.is_empty() {
            "(none)".to_owned()
        } else {
            name.clone()
        }
    };
    match by {
        "provider" => vec![named(&row.provider)],
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

fn figures(row: &CostRow, held_now: Option<Usd>) -> Vec<String> {
    let mut cells = vec![
        row.requests.to_string(),
        row.input_tokens.to_string(),
        row.output_tokens.to_string(),
    ];
    cells.push(format!("${}", fixed(row.cost_usd, 4)));
    if let Some(held_now) = held_now {
        cells.extend([held_now, row.overage_usd].map(|usd| format!("${}", fixed(usd, 4))));
    }
    cells
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

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
        table(summary, &HeldByKey::new())
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
        assert_eq!(table(&summary("key", rows), &held), expected);
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

    #[test]
    fn money_is_rounded_half_up_and_never_minus_zero() {
        assert_eq!(fixed(Usd::from_nanos(50_000), 4), "0.0001");
        assert_eq!(fixed(Usd::from_nanos(49_999), 4), "0.0000");
        assert_eq!(fixed(Usd::from_nanos(-49_999), 4), "0.0000");
        assert_eq!(fixed(Usd::from_nanos(-1_500_000_000), 4), "-1.5000");
        assert_eq!(fixed(Usd::from_nanos(1_000_000_500), 6), "1.000001");
        assert_eq!(fixed(Usd::from_nanos(i64::MAX), 6), "9223372036.854776");
    }
}
