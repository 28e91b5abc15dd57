//! `agentledger costs`: what was spent, as a table.

mod by;
mod shown;
mod sums;

use std::collections::BTreeMap;
use std::io::{self, Write};

use agentledger_ledger::Usd;
use clap::Args;

use super::CliError;
use super::ask::{Ask, AskArgs, Elsewhere, Target};
use super::client::{Client, ClientError};
use super::form::Form;
use crate::control::wire::{CostRow, Denials, DenialsParams, Holds, Summary, SummaryParams};
use crate::control::{LastError, parse_last};
pub use by::By;
use shown::Shown;
use sums::{SumRow, Sums};

/// Printed where nothing was recorded.
pub const NOTHING: &str = "No usage recorded in the given time window.";

#[derive(Debug, thiserror::Error)]
pub enum CostsError {
    #[error(transparent)]
    Last(#[from] LastError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("a result that is no JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl CostsError {
    pub const fn is_usage(&self) -> bool {
        match self {
            CostsError::Last(_) => true,
            CostsError::Client(error) => error.is_usage(),
            CostsError::Json(_) => false,
        }
    }
}

#[derive(Debug, Default, Args)]
pub struct QueryArgs {
    /// How far back: weeks (1w), days (30d) or a duration (90m, 1h30m)
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
    /// model, provider, key, agent, session, user, task, tenant, team, feature, project, cost_centre, page, server, tool, tag:NAME;
    /// hour, day, week, month; or several: day,model
    #[arg(long, default_value = "model", value_name = "WORDS")]
    pub by: Vec<String>,
}

/// What to sum: the flags of `costs` and `export`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CostsQuery {
    /// `None`: not given. Empty is 24 hours, as in the contract.
    pub last: Option<String>,
    /// As they were typed; none is by model.
    pub by: Vec<String>,
    pub tenant: String,
}

impl QueryArgs {
    pub fn by(&self, by: &[String]) -> CostsQuery {
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

/// What was asked for, in the form that was asked for; with its last line break.
pub fn shown(ask: &Ask, query: &CostsQuery) -> Result<String, CostsError> {
    let by = By::parse(&query.by)?;
    // Checked here too: a bad value is the caller's mistake, whether or not there is a ledger.
    let last = checked_last(query, by.last_default())?;
    let client = ask.target.open()?;
    if let (Form::Json, Some(name)) = (ask.form(), by.single()) {
        let params = SummaryParams {
            last: Some(last),
            by: name.to_owned(),
            tenant: query.tenant.clone(),
            ..SummaryParams::default()
        };
        return Ok(format!("{}\n", client.call_raw("ledger.summary", &params)?.get()));
    }
    let mut sums = sums::sums(&client, query)?;
    match ask.form() {
        Form::Json => return Ok(format!("{}\n", sums::json(&sums)?)),
        Form::Jsonl => return Ok(super::form::jsonl(&sums::json(&sums)?, "rows")),
        Form::Csv => return Ok(shown::csv(&sums)),
        Form::Table => {}
    }
    let mut held = HeldByKey::new();
    if by.single() == Some("key") {
        held = held_now(&client, &query.tenant)?;
        add_held(&mut sums, &held);
    }
    let aliases = ask.aliases();
    for row in &mut sums.rows {
        if let Some(name) = aliases.get(&row.sums.key) {
            held.remove(&row.sums.key).map(|usd| held.insert(name.clone(), usd));
            row.sums.key.clone_from(name);
        }
    }
    let shown = Shown {
        sums: &sums,
        held: &held,
        refused: || refused(&client, &last, &query.tenant),
    };
    // A program that reads the contract's table gets the contract's table.
    let is_contract = ask.form.is_none() && !ask.style.terminal && by.single().is_some();
    Ok(if is_contract {
        // What the contract's columns have no place for goes to whoever looks on.
        note(&shown.beside());
        shown.contract(ask.style)
    } else {
        shown.whole(ask.style)
    })
}

/// On standard error, so that what is printed stays the table. Nothing can be done where even this cannot be written.
fn note(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Keys that hold something and have spent nothing yet stand in the table, too.
fn add_held(sums: &mut Sums, held: &HeldByKey) {
    let is_known = |key: &String| sums.rows.iter().any(|row| row.sums.key == *key);
    let only_held: Vec<String> = held.keys().filter(|key| !is_known(key)).cloned().collect();
    sums.rows.extend(only_held.into_iter().map(|key| SumRow {
        sums: CostRow {
            key,
            ..CostRow::default()
        },
        ..SumRow::default()
    }));
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

/// How many requests were refused in the same time; a gateway of an older version does not say.
fn refused(client: &Client, last: &str, tenant: &str) -> u64 {
    let params = DenialsParams {
        last: Some(last.to_owned()),
        tenant: tenant.to_owned(),
        ..DenialsParams::default()
    };
    let denials: Result<Denials, ClientError> = client.call("denial.list", &params);
    denials.map_or(0, |denials| denials.refused)
}

/// The sums by one name, for the contract's exports.
pub fn summary(target: &Target, query: &CostsQuery, last_default: &str) -> Result<Summary, CostsError> {
    let by = By::parse(&query.by)?;
    let name = by.single().ok_or_else(|| {
        ClientError::Usage("exports are by one word; `costs --by day,model -f csv` sums by several".to_owned())
    })?;
    let params = SummaryParams {
        last: Some(checked_last(query, last_default)?),
        by: name.to_owned(),
        tenant: query.tenant.clone(),
        ..SummaryParams::default()
    };
    Ok(target.open()?.call("ledger.summary", &params)?)
}

fn checked_last(query: &CostsQuery, last_default: &str) -> Result<String, LastError> {
    let last = query.last.as_deref().unwrap_or(last_default);
    parse_last(last)?;
    Ok(last.to_owned())
}
