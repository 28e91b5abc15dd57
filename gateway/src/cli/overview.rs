//! How the gateway does: `status`, `plugins`, `series`; and `adjust`, which corrects an entry.

use clap::Args;
use serde_json::Value;

use super::CliError;
use super::ask::{AskArgs, Elsewhere, params};
use super::changes::told;
use super::costs::QueryArgs;
use super::view::{self, Column, Is, View};
use crate::control::parse_last;

/// What is shown where no `--last` is given.
const LAST_DEFAULT: &str = "24h";

#[derive(Debug, Args)]
pub struct SeriesArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// minute, hour or day
    #[arg(long, default_value = "hour")]
    step: String,
    /// By model, provider, key, agent, user, task, tenant or tag:NAME; the sum of all without it
    #[arg(long, default_value = "", hide_default_value = true)]
    by: String,
    /// Rows at most
    #[arg(long)]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
pub struct AdjustArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// The entry's id
    entry: String,
    /// Dollars to add, or below zero to take off: -- -1.25
    #[arg(allow_hyphen_values = true)]
    usd: String,
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub const PLUGINS: View = View {
    rows: "plugins",
    columns: &[
        Column("PLUGIN", "name", Is::Text),
        Column("VERSION", "version", Is::Text),
        Column("SOURCE", "source", Is::Text),
        Column("PROVIDERS", "providers", Is::Json),
    ],
    nothing: "No plugin is loaded.",
    next: "",
};

pub const SERIES: View = View {
    rows: "points",
    columns: &[
        Column("AT", "at", Is::Text),
        Column("PROVIDER", "provider", Is::Text),
        Column("MODEL", "model", Is::Text),
        Column("KEY", "key", Is::Text),
        Column("AGENT", "agent", Is::Text),
        Column("USER", "user", Is::Text),
        Column("TASK", "task", Is::Text),
        Column("TENANT", "tenant", Is::Text),
        Column("TAG", "tag", Is::Text),
        Column("REQUESTS", "requests", Is::Count),
        Column("ERRORS", "errors", Is::Count),
        Column("INPUT TOKENS", "input_tokens", Is::Count),
        Column("OUTPUT TOKENS", "output_tokens", Is::Count),
        Column("COST (USD)", "cost_usd", Is::Usd),
    ],
    nothing: super::costs::NOTHING,
    next: view::FROM,
};

pub fn status(args: &AskArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    elsewhere.ask(args)?.read_one("system.status", params([]))
}

pub fn plugins(args: &AskArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    elsewhere.ask(args)?.read("plugin.list", params([]), &PLUGINS)
}

pub fn series(args: &SeriesArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let last = args.query.last.as_deref().unwrap_or(LAST_DEFAULT);
    parse_last(last)?;
    let given = params([
        ("last", last.into()),
        ("step", args.step.as_str().into()),
        ("by", args.by.as_str().into()),
        ("tenant", args.query.tenant.as_str().into()),
        ("limit", args.limit.into()),
    ]);
    elsewhere.ask(&args.ask)?.read("ledger.series", given, &SERIES)
}

pub fn adjust(args: &AdjustArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let given = params([
        ("entry", args.entry.as_str().into()),
        ("usd", args.usd.as_str().into()),
        ("reason", args.reason.as_str().into()),
    ]);
    ask.change("ledger.adjust", given, |value: &Value| told(value, ask.style))
}
