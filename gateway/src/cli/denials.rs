//! `agentledger denials`: which requests rules refused, by code, account and policy.

use clap::Args;

use super::CliError;
use super::ask::{AskArgs, Elsewhere, params};
use super::costs::QueryArgs;
use super::view::{Column, Is, View};
use crate::control::parse_last;

/// What is shown where no `--last` is given.
const LAST_DEFAULT: &str = "24h";

#[derive(Debug, Args)]
pub struct DenialsArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// Codes that begin so: budget_exceeded, rate_limited, loop_detected, …
    #[arg(long, default_value = "", hide_default_value = true)]
    code: String,
    /// Accounts that begin so, such as key: or agent:crawler
    #[arg(long, default_value = "", hide_default_value = true)]
    account: String,
    /// Lines at most
    #[arg(long, default_value_t = 1_000)]
    limit: u64,
}

pub const DENIALS: View = View {
    rows: "denials",
    columns: &[
        Column("CODE", "code", Is::Text),
        Column("ACCOUNT", "account", Is::Text),
        Column("POLICY", "policy", Is::Text),
        Column("TENANT", "tenant", Is::Text),
        Column("REQUESTS", "requests", Is::Count),
        Column("FIRST", "first", Is::Text),
        Column("LAST", "last", Is::Text),
    ],
    nothing: "No request was refused by a rule in the given time window.",
    next: "",
};

pub fn run(args: &DenialsArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let last = args.query.last.as_deref().unwrap_or(LAST_DEFAULT);
    parse_last(last)?;
    let given = params([
        ("last", last.into()),
        ("code", args.code.as_str().into()),
        ("account", args.account.as_str().into()),
        ("tenant", args.query.tenant.as_str().into()),
        ("limit", args.limit.into()),
    ]);
    ask.read("denial.list", given, &DENIALS)
}
