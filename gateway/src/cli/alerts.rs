//! `agentledger alerts`: what people should have noticed, and how it was delivered.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::CliError;
use super::ask::{AskArgs, Elsewhere, params};
use super::changes::moment;
use super::style::printable;
use super::view::{Column, Is, View, fields};
use crate::control::parse_last;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AlertsArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print alerts with how far each has come
    List(ListArgs),
    /// Send a test alert to a receiver, and print what it said
    Test(TestArgs),
    /// Have dead letters delivered after all
    Retry(RetryArgs),
    /// Note alerts and do not deliver them, for a while
    Silence(SilenceArgs),
    /// End a silence before its time
    Unsilence(UnsilenceArgs),
    /// Print the silences in force
    Silences(AskArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// How far back: weeks (1w), days (30d) or a duration (90m, 1h30m)
    #[arg(long, value_name = "TIME")]
    last: Option<String>,
    /// budget_warning, budget_exceeded, loop_detected, ghost_detected, …
    #[arg(long = "type", value_name = "TYPE", default_value = "", hide_default_value = true)]
    kind: String,
    /// With a delivery that is pending, failed, delivered, dead, silenced or folded
    #[arg(long, value_name = "STATE", default_value = "", hide_default_value = true)]
    state: String,
    /// Alerts at most
    #[arg(long, default_value_t = 100)]
    limit: u64,
}

#[derive(Debug, Args)]
struct TestArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// By its name in the configuration; the contract's are slack, webhook1, webhook2, …
    receiver: String,
}

#[derive(Debug, Args)]
struct RetryArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Only this alert's
    #[arg(default_value = "", hide_default_value = true)]
    id: String,
    /// Only those to this receiver
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    receiver: String,
}

#[derive(Debug, Args)]
struct SilenceArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// A pattern over types: budget_*
    #[arg(long = "type", value_name = "TYPE", default_value = "", hide_default_value = true)]
    kind: String,
    /// A pattern over what alerts are about: key:*, a session
    #[arg(long, value_name = "THING", default_value = "", hide_default_value = true)]
    about: String,
    /// A pattern over tenants
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    tenant: String,
    /// When it ends: a time (2026-12-31T18:00:00Z), a day (its beginning, UTC), or so long from now (2h, 7d)
    #[arg(long = "for", value_name = "TIME", value_parser = moment)]
    until: String,
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

#[derive(Debug, Args)]
struct UnsilenceArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// The silence's id
    id: String,
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

pub const ALERTS: View = View {
    rows: "alerts",
    columns: &[
        Column("AT", "at", Is::Text),
        Column("SEVERITY", "severity", Is::State),
        Column("TYPE", "type", Is::Text),
        Column("MESSAGE", "message", Is::Text),
        Column("ABOUT", "about", Is::Text),
        Column("DELIVERIES", "deliveries", Is::Json),
        Column("POLICY", "policy", Is::Text),
        Column("ID", "id", Is::Text),
    ],
    nothing: "No alert.",
    next: "",
};

const SILENCES: View = View {
    rows: "silences",
    columns: &[
        Column("ID", "id", Is::Text),
        Column("TYPE", "type", Is::Text),
        Column("ABOUT", "about", Is::Text),
        Column("TENANT", "tenant", Is::Text),
        Column("UNTIL", "until", Is::Text),
    ],
    nothing: "No silence.",
    next: "",
};

pub fn run(args: &AlertsArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    match &args.what {
        None => list(&args.list, elsewhere),
        Some(What::List(args)) => list(args, elsewhere),
        Some(What::Test(args)) => {
            let ask = elsewhere.ask(&args.ask)?;
            let given = params([("receiver", args.receiver.as_str().into())]);
            ask.read_as("alert.test", given, |value| format!("{}\n", tested(value)))
        }
        Some(What::Retry(args)) => {
            let ask = elsewhere.ask(&args.ask)?;
            let given = params([
                ("id", args.id.as_str().into()),
                ("receiver", args.receiver.as_str().into()),
            ]);
            ask.read_as("alert.retry", given, |value| {
                let count = value.get("retried").and_then(Value::as_u64).unwrap_or_default();
                format!("{count} tried again\n")
            })
        }
        Some(What::Silence(args)) => silence(args, elsewhere),
        Some(What::Unsilence(args)) => {
            let ask = elsewhere.ask(&args.ask)?;
            let given = params([("id", args.id.as_str().into()), ("note", args.note.as_str().into())]);
            ask.change("alert.unsilence", given, |value| {
                fields(value.get("silence").unwrap_or(value), ask.style)
            })
        }
        Some(What::Silences(args)) => {
            let given = params([("limit", 1.into())]);
            elsewhere.ask(args)?.read("alert.list", given, &SILENCES)
        }
    }
}

fn list(args: &ListArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    if let Some(last) = &args.last {
        parse_last(last)?;
    }
    let given = params([
        ("last", args.last.clone().into()),
        ("type", args.kind.as_str().into()),
        ("state", args.state.as_str().into()),
        ("limit", args.limit.into()),
    ]);
    elsewhere.ask(&args.ask)?.read("alert.list", given, &ALERTS)
}

fn silence(args: &SilenceArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let given = params([
        ("type", args.kind.as_str().into()),
        ("about", args.about.as_str().into()),
        ("tenant", args.tenant.as_str().into()),
        ("until", args.until.as_str().into()),
        ("note", args.note.as_str().into()),
    ]);
    ask.change("alert.silence", given, |value| {
        fields(value.get("silence").unwrap_or(value), ask.style)
    })
}

fn tested(value: &Value) -> String {
    let said = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_there = value.get("delivered").and_then(Value::as_bool).unwrap_or_default();
    let how = if is_there { "has the test" } else { "does not have the test" };
    printable(&format!("{} {how}: {}", said("receiver"), said("answer"))).to_string()
}
