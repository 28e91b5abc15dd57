//! `agentledger holds`: open holds, why one is as it is, how to end one, and what became of those whose end nobody saw.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::CliError;
use super::ask::{Ask, AskArgs, Elsewhere, params};
use super::changes::told;
use super::style::Style;
use super::table::{Cell, Table};
use super::view::{Column, Is, View, fields, named};
use crate::control::wire::Explained;

/// Printed where nothing is held.
pub const NOTHING: &str = "No hold is open.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub struct HoldsArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// The hold to explain, by its id or its exchange's
    id: Option<String>,
    #[command(subcommand)]
    then: Option<HoldsCommand>,
}

#[derive(Debug, Subcommand)]
enum HoldsCommand {
    /// End a hold and give back what it held; its request runs on, and what it costs is posted all the same
    Void {
        id: String,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Holds whose end a crash left nobody to see: what they were entered at, and what they cost now
    Recovered {
        /// Entered within this long: days (30d) or 90m, 1h30m
        #[arg(long, value_name = "TIME")]
        last: Option<String>,
        /// Rows, the latest first
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Correct one of them to what it cost; the same again changes nothing
    Correct {
        /// As `holds recovered` lists it, or its entry's id
        id: String,
        /// What it cost in all, in dollars
        #[arg(
            long,
            value_name = "USD",
            required_unless_present = "expected",
            conflicts_with = "expected"
        )]
        cost: Option<String>,
        /// What such calls cost on average, as learned
        #[arg(long)]
        expected: bool,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

pub const RECOVERED: View = View {
    rows: "holds",
    columns: &[
        Column("ID", "id", Is::Text),
        Column("ENTRY", "entry", Is::Text),
        Column("BEGAN", "began", Is::Text),
        Column("ENTERED", "entered", Is::Text),
        Column("MODEL", "model", Is::Text),
        Column("KEY", "key", Is::Text),
        Column("AGENT", "agent", Is::Text),
        Column("WHY", "reason", Is::Text),
        Column("HELD (USD)", "held_usd", Is::Usd),
        Column("ENTERED (USD)", "entered_usd", Is::Usd),
        Column("COST (USD)", "cost_usd", Is::Usd),
        Column("CORRECTED", "corrected", Is::Text),
    ],
    nothing: "No hold was left open.",
    next: "",
};

pub const HOLDS: View = View {
    rows: "holds",
    columns: &[
        Column("ID", "id", Is::Text),
        Column("SINCE", "since", Is::Text),
        Column("PROVIDER", "provider", Is::Text),
        Column("MODEL", "model", Is::Text),
        Column("KEY", "key", Is::Text),
        Column("TENANT", "tenant", Is::Text),
        Column("AGENT", "agent", Is::Text),
        Column("HELD (USD)", "held_usd", Is::Usd),
        Column("HELD TOKENS", "held_tokens", Is::Count),
    ],
    nothing: NOTHING,
    next: "",
};

pub fn run(args: &HoldsArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    match (&args.then, &args.id) {
        (Some(HoldsCommand::Void { id, reason }), _) => {
            let given = params([("id", id.as_str().into()), ("reason", reason.as_str().into())]);
            ask.change("hold.void", given, |value: &Value| told(value, ask.style))
        }
        (Some(HoldsCommand::Recovered { last, limit }), _) => {
            let given = params([("last", last.clone().into()), ("limit", (*limit).into())]);
            ask.read("hold.recovered", given, &RECOVERED)
        }
        (
            Some(HoldsCommand::Correct {
                id,
                cost,
                expected,
                reason,
            }),
            _,
        ) => {
            let given = params([
                ("id", id.as_str().into()),
                ("cost_usd", cost.clone().into()),
                ("expected", (*expected).into()),
                ("reason", reason.clone().into()),
            ]);
            ask.change("hold.correct", given, |value: &Value| told(value, ask.style))
        }
        (None, Some(id)) => explain(&ask, id),
        (None, None) => list(&ask),
    }
}

/// All open holds as a table, with its last line break.
pub fn list(ask: &Ask) -> Result<String, CliError> {
    ask.read("hold.list", params([]), &HOLDS)
}

/// One hold: its size and why, since when, and its bounds. `id` is the hold's, or its exchange's.
pub fn explain(ask: &Ask, id: &str) -> Result<String, CliError> {
    ask.read_as("hold.explain", params([("id", id.into())]), |value| {
        let explained = serde_json::from_value(value.clone());
        explained.map_or_else(|_| fields(value, ask.style), |explained| text(&explained, ask.style))
    })
}

fn text(explained: &Explained, style: Style) -> String {
    let hold = &explained.hold;
    let mut out = format!(
        "hold      {}\nexchange  {}\nsince     {} ({} ms)\nmodel     {} at {}\nheld      ${} and {} tokens, at first ${}\nwhy       {}\n\n",
        hold.id,
        hold.exchange,
        hold.since,
        hold.age_ms,
        named(&hold.model),
        named(&hold.provider),
        hold.held_usd,
        hold.held_tokens,
        hold.first_usd,
        named(&hold.basis),
    );
    if explained.bounds.is_empty() {
        out.push_str("No limit touches it.\n");
        return out;
    }
    let mut table = Table::new([
        "ACCOUNT",
        "WINDOW",
        "UNIT",
        "MODE",
        "LIMIT",
        "SPENT",
        "HELD",
        "OVERAGE",
        "LEFT",
        "OF THIS HOLD",
    ]);
    let now = |value: &Option<String>| value.as_deref().map_or_else(|| "-".into(), figure);
    for bound in &explained.bounds {
        table.row::<Cell>([
            bound.account.as_str().into(),
            bound.window.as_str().into(),
            bound.unit.as_str().into(),
            bound.mode.as_str().into(),
            figure(&bound.limit),
            now(&bound.spent),
            now(&bound.held),
            now(&bound.overage),
            now(&bound.left),
            figure(&bound.held_here),
        ]);
    }
    out.push_str(&table.render(style));
    out
}

/// Decimal dollars or a count, with every digit.
fn figure(text: &str) -> Cell {
    Cell::Digits(text.to_owned())
}
