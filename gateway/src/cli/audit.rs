//! `agentledger audit`: who changed what, when and from where.

use clap::Args;

use super::CliError;
use super::ask::{AskArgs, Elsewhere, params};
use super::rules::CHANGES;
use crate::control::parse_last;

#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// How far back: weeks (1w), days (30d) or a duration (90m, 1h30m); everything without it
    #[arg(long, value_name = "TIME")]
    last: Option<String>,
    /// What was changed: rule:ID, provider:NAME, session:TENANT/ID, entry:ID, …
    #[arg(long, default_value = "", hide_default_value = true)]
    subject: String,
    /// The method: rule.put, hold.void, …
    #[arg(long, default_value = "", hide_default_value = true)]
    action: String,
    /// A token's name, or owner
    #[arg(long, default_value = "", hide_default_value = true)]
    author: String,
    /// Changes at most
    #[arg(long, default_value_t = 100)]
    limit: u64,
}

pub fn run(args: &AuditArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    if let Some(last) = &args.last {
        parse_last(last)?;
    }
    let given = params([
        ("last", args.last.clone().into()),
        ("subject", args.subject.as_str().into()),
        ("action", args.action.as_str().into()),
        ("author", args.author.as_str().into()),
        ("limit", args.limit.into()),
    ]);
    ask.read("audit.list", given, &CHANGES)
}
