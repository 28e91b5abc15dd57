//! The prices of a running gateway: its book as it is in force, and rows that are put over those of all files.

use clap::Args;
use serde_json::{Map, Value};

use super::super::CliError;
use super::super::ask::{Ask, AskArgs, Elsewhere, params};
use super::super::changes::told;
use super::super::client::ClientError;
use super::super::form::Form;
use super::super::rules::input;
use super::ROWS;
use crate::control::wire::{PriceRow, Prices};

#[derive(Debug, Args)]
pub struct PutArgs {
    #[command(flatten)]
    ask: AskArgs,
    provider: String,
    /// The row as JSON, as `models` of a price file has it; - reads it from standard input
    row: String,
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    ask: AskArgs,
    provider: String,
    /// The row's id
    model: String,
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What the running gateway answers, shown as the files' rows are.
pub(super) fn read(
    ask: &Ask,
    method: &str,
    given: Vec<(&str, &str)>,
    shown: fn(&[PriceRow]) -> String,
) -> Result<String, CliError> {
    let filled = given.into_iter().filter(|(_, text)| !text.is_empty());
    let given: Map<String, Value> = filled.map(|(name, text)| (name.to_owned(), text.into())).collect();
    if ask.form() != Form::Table {
        return ask.read(method, given, &ROWS);
    }
    let prices: Prices = ask.target.open()?.call(method, &given)?;
    Ok(shown(&prices.rows))
}

pub(super) fn put(args: &PutArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let text = match args.row.as_str() {
        "-" => input()?,
        text => text.to_owned(),
    };
    let row: Value =
        serde_json::from_str(&text).map_err(|error| ClientError::Usage(format!("the row is no JSON: {error}")))?;
    let ask = elsewhere.ask(&args.ask)?;
    let given = params([
        ("provider", args.provider.as_str().into()),
        ("row", row),
        ("note", args.note.clone().into()),
        ("dry_run", args.dry_run.into()),
    ]);
    ask.change("price.put", given, |value| told(value, ask.style))
}

pub(super) fn delete(args: &DeleteArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let given = params([
        ("provider", args.provider.as_str().into()),
        ("model", args.model.as_str().into()),
        ("note", args.note.clone().into()),
        ("dry_run", args.dry_run.into()),
    ]);
    ask.change("price.delete", given, |value| told(value, ask.style))
}
