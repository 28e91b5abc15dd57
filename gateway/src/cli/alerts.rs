//! `agentledger alerts`: what people should have noticed, and how it was delivered.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::ask::{Ask, AskArgs, Elsewhere, params};
use super::changes::moment;
use super::style::printable;
use super::view::{Column, Is, View, fields};
use super::{CliError, Done};
use crate::control::parse_last;
use crate::control::wire::{AlertTestParams, AlertTested};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub struct AlertsArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    what: Option<What>,
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
    Silences,
}

#[derive(Debug, Args)]
struct ListArgs {
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
    /// By its name in the configuration; the contract's are slack, webhook1, webhook2, …
    receiver: String,
}

#[derive(Debug, Args)]
struct RetryArgs {
    /// Only this alert's
    #[arg(default_value = "", hide_default_value = true)]
    id: String,
    /// Only those to this receiver
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    receiver: String,
}

#[derive(Debug, Args)]
struct SilenceArgs {
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

pub fn run(args: &AlertsArgs, elsewhere: &Elsewhere) -> Result<Done, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let text = match &args.what {
        Some(What::Test(test)) => return tested(&ask, test),
        None => list(&ask, &args.list),
        Some(What::List(list_args)) => list(&ask, list_args),
        Some(What::Retry(retry)) => {
            let given = params([
                ("id", retry.id.as_str().into()),
                ("receiver", retry.receiver.as_str().into()),
            ]);
            ask.read_as("alert.retry", given, |value| {
                let count = value.get("retried").and_then(Value::as_u64).unwrap_or_default();
                format!("{count} tried again\n")
            })
        }
        Some(What::Silence(silence)) => {
            let given = params([
                ("type", silence.kind.as_str().into()),
                ("about", silence.about.as_str().into()),
                ("tenant", silence.tenant.as_str().into()),
                ("until", silence.until.as_str().into()),
                ("note", silence.note.as_str().into()),
            ]);
            ask.change("alert.silence", given, |value| told(value, &ask))
        }
        Some(What::Unsilence(unsilence)) => {
            let given = params([
                ("id", unsilence.id.as_str().into()),
                ("note", unsilence.note.as_str().into()),
            ]);
            ask.change("alert.unsilence", given, |value| told(value, &ask))
        }
        Some(What::Silences) => ask.read("alert.list", params([("limit", 1.into())]), &SILENCES),
    };
    Ok(Done::well(text?))
}

/// Well only where the receiver has the test: a script that checks receivers goes by that.
fn tested(ask: &Ask, test: &TestArgs) -> Result<Done, CliError> {
    let client = ask.target.open()?;
    let asked = AlertTestParams {
        receiver: test.receiver.clone(),
    };
    let tested: AlertTested = client.call("alert.test", &asked)?;
    Ok(Done {
        text: ask.show(&tested, |value| format!("{}\n", test_text(value)))?,
        well: tested.delivered,
    })
}

fn told(value: &Value, ask: &Ask) -> String {
    fields(value.get("silence").unwrap_or(value), ask.style)
}

fn list(ask: &Ask, args: &ListArgs) -> Result<String, CliError> {
    if let Some(last) = &args.last {
        parse_last(last)?;
    }
    let given = params([
        ("last", args.last.clone().into()),
        ("type", args.kind.as_str().into()),
        ("state", args.state.as_str().into()),
        ("limit", args.limit.into()),
    ]);
    ask.read("alert.list", given, &ALERTS)
}

fn test_text(value: &Value) -> String {
    let said = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_there = value.get("delivered").and_then(Value::as_bool).unwrap_or_default();
    let how = if is_there {
        "has the test"
    } else {
        "does not have the test"
    };
    printable(&format!("{} {how}: {}", said("receiver"), said("answer")))
}
