//! `agentledger rates`: how many requests and tokens may pass in a while.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::CliError;
use super::ask::{AskArgs, Elsewhere, params};
use super::changes::{ChangeArgs, rule_told};

#[derive(Debug, Args)]
pub struct RatesArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(subcommand)]
    then: RatesCommand,
}

#[derive(Debug, Subcommand)]
enum RatesCommand {
    /// Set the rates of an account, in place of those that were set before
    Set(Box<SetArgs>),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// agent:crawler, tag:team=ml, agent (each agent by itself), global, …
    #[arg(required_unless_present = "api_key_pattern", conflicts_with = "api_key_pattern")]
    account: Option<String>,
    /// Keys that fit this pattern, each by itself (sk-dev-*)
    #[arg(long, value_name = "PATTERN")]
    api_key_pattern: Option<String>,
    #[arg(long, value_name = "N")]
    requests_per_second: Option<u64>,
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u64>,
    #[arg(long, value_name = "N")]
    requests_per_hour: Option<u64>,
    #[arg(long, value_name = "N")]
    requests_per_day: Option<u64>,
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    #[arg(long, value_name = "N")]
    tokens_per_hour: Option<u64>,
    #[arg(long, value_name = "N")]
    tokens_per_day: Option<u64>,
    /// Requests at one time
    #[arg(long, value_name = "N")]
    parallel: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
}

pub fn run(args: &RatesArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let RatesCommand::Set(set) = &args.then;
    let mut given = params([
        ("account", set.account.clone().into()),
        ("api_key_pattern", set.api_key_pattern.clone().into()),
        ("requests_per_second", set.requests_per_second.into()),
        ("requests_per_minute", set.requests_per_minute.into()),
        ("requests_per_hour", set.requests_per_hour.into()),
        ("requests_per_day", set.requests_per_day.into()),
        ("tokens_per_minute", set.tokens_per_minute.into()),
        ("tokens_per_hour", set.tokens_per_hour.into()),
        ("tokens_per_day", set.tokens_per_day.into()),
        ("parallel", set.parallel.into()),
    ]);
    set.change.add_to(&mut given);
    ask.change("rate.set", given, |value: &Value| rule_told(value, ask.style))
}
