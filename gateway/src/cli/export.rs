//! `agentledger export`: sums as CSV or JSON in the contract's forms, and every entry as JSON lines.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::CliError;
use super::aliases;
use super::ask::{ConfigArgs, Elsewhere, Target};
use super::client::ClientError;
use super::costs::{self, CostsError, CostsQuery, QueryArgs};
use super::form::{self, Form};
use super::progress::Progress;
use super::style::Style;
use super::view::{Column, Is, View};
use crate::control::contract_forms::{self, csv};
use crate::control::parse_last;
use crate::control::wire::{Entries, QueryParams, Summary};

/// What sums are exported where no `--last` is given. Single entries are all exported then.
const LAST_DEFAULT: &str = "30d";
/// Entries asked for at a time.
const PAGE: usize = 1_000;
/// The word for single entries.
pub const BY_ENTRY: &str = "entry";

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// model, provider, key, agent, session, user, task, tenant, tag:NAME, or entry for every single entry
    #[arg(long, default_value = "model", value_name = "WORD")]
    by: String,
    /// csv (default), json, jsonl or table; with --by entry jsonl (default), csv, json or table
    #[arg(short, long, default_value = "", hide_default_value = true)]
    format: String,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// In the contract's words; it has the other two as well.
    #[error("unsupported format {0:?}: use csv or json")]
    Format(String),
    #[error("unsupported format {0:?} for single entries: use jsonl, csv, json or table")]
    EntryFormat(String),
    #[error("an entry that is no JSON: {0}")]
    Entry(serde_json::Error),
    #[error(transparent)]
    Costs(#[from] CostsError),
    #[error("writing: {0}")]
    Write(#[from] io::Error),
}

impl ExportError {
    pub const fn is_usage(&self) -> bool {
        match self {
            ExportError::Format(_) | ExportError::EntryFormat(_) => true,
            ExportError::Costs(error) => error.is_usage(),
            ExportError::Write(_) | ExportError::Entry(_) => false,
        }
    }
}

impl From<ClientError> for ExportError {
    fn from(error: ClientError) -> ExportError {
        ExportError::Costs(error.into())
    }
}

pub fn run(args: &ExportArgs, elsewhere: &Elsewhere) -> Result<(), CliError> {
    let target = elsewhere.target(&args.config)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    Ok(export(
        &target,
        &args.query.by(std::slice::from_ref(&args.by)),
        if args.json { "json" } else { &args.format },
        &mut out,
    )?)
}

/// Writes and flushes the export. An empty `format` is csv, or jsonl for single entries.
pub fn export(target: &Target, query: &CostsQuery, format: &str, out: &mut dyn Write) -> Result<(), ExportError> {
    match write(target, query, format, out) {
        // A reader that has seen enough (`| head`) is no error.
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn write(target: &Target, query: &CostsQuery, format: &str, out: &mut dyn Write) -> Result<(), ExportError> {
    let is_entries = query.by == [BY_ENTRY];
    let form = match format {
        "" if is_entries => Form::Jsonl,
        "" => Form::Csv,
        word => Form::from_str(word, false).map_err(|_| match is_entries {
            true => ExportError::EntryFormat(word.to_owned()),
            false => ExportError::Format(word.to_owned()),
        })?,
    };
    if is_entries {
        return entries(target, query, form, out);
    }
    let summary = costs::summary(target, query, LAST_DEFAULT)?;
    let text = match form {
        Form::Csv => csv(&summary.by, &summary.rows),
        Form::Json => contract_forms::json(&summary.by, &summary.rows),
        Form::Jsonl => rows_of(&summary)?.iter().map(|row| format!("{row}\n")).collect(),
        Form::Table => table(target, &SUMS, rows_of(&summary)?),
    };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// For people, who know keys by their names.
fn table(target: &Target, view: &View, rows: Vec<Value>) -> String {
    let mut result = json!({ view.rows: rows });
    aliases::put_in(&aliases::of(target), &mut result);
    view.table(&result, Style::of_stdout())
}

/// The sums as the method answers them.
fn rows_of(summary: &Summary) -> Result<Vec<Value>, ExportError> {
    let rows = summary.rows.iter().map(serde_json::to_value);
    rows.collect::<Result<_, _>>().map_err(ExportError::Entry)
}

/// Sums as a table; columns that nothing stands in are left out.
const SUMS: View = View {
    rows: "rows",
    columns: &[
        Column("PROVIDER", "provider", Is::Text),
        Column("MODEL", "model", Is::Text),
        Column("KEY", "key", Is::Text),
        Column("AGENT", "agent", Is::Text),
        Column("SESSION", "session", Is::Text),
        Column("USER", "user", Is::Text),
        Column("TASK", "task", Is::Text),
        Column("TENANT", "tenant", Is::Text),
        Column("TAG", "tag", Is::Text),
        Column("REQUESTS", "requests", Is::Count),
        Column("INPUT TOKENS", "input_tokens", Is::Count),
        Column("OUTPUT TOKENS", "output_tokens", Is::Count),
        Column("COST (USD)", "cost_usd", Is::Usd),
    ],
    nothing: costs::NOTHING,
    next: "",
};

/// Entries as a table.
const ENTRIES: View = View {
    rows: "entries",
    columns: &[
        Column("ID", "id", Is::Text),
        Column("AT", "at", Is::Text),
        Column("PROVIDER", "provider", Is::Text),
        Column("MODEL", "model", Is::Text),
        Column("KEY", "key", Is::Text),
        Column("AGENT", "agent", Is::Text),
        Column("SESSION", "session", Is::Text),
        Column("STATUS", "status", Is::Count),
        Column("OUTCOME", "outcome", Is::State),
        Column("COST (USD)", "cost_usd", Is::Usd),
    ],
    nothing: costs::NOTHING,
    next: "",
};

/// An entry in CSV: its fields under their names.
const COLUMNS: [Column; 28] = [
    Column("", "id", Is::Text),
    Column("", "at", Is::Text),
    Column("", "provider", Is::Text),
    Column("", "operation", Is::Text),
    Column("", "requested_model", Is::Text),
    Column("", "model", Is::Text),
    Column("", "stream", Is::Text),
    Column("", "status", Is::Count),
    Column("", "outcome", Is::Text),
    Column("", "key", Is::Text),
    Column("", "tenant", Is::Text),
    Column("", "agent", Is::Text),
    Column("", "session", Is::Text),
    Column("", "user", Is::Text),
    Column("", "task", Is::Text),
    Column("", "tags", Is::Json),
    Column("", "path", Is::Text),
    Column("", "usage", Is::Json),
    Column("", "reasoning", Is::Count),
    Column("", "cost_usd", Is::Usd),
    Column("", "held_usd", Is::Usd),
    Column("", "overage_usd", Is::Usd),
    Column("", "estimated", Is::Text),
    Column("", "estimate_reason", Is::Text),
    Column("", "duration_ms", Is::Count),
    Column("", "ttfb_ms", Is::Count),
    Column("", "response_id", Is::Text),
    Column("", "request_id", Is::Text),
];

/// Every entry settled so far, oldest first: one JSON object a line, a list of them, CSV, or a table.
fn entries(target: &Target, query: &CostsQuery, form: Form, out: &mut dyn Write) -> Result<(), ExportError> {
    query
        .last
        .as_deref()
        .map(parse_last)
        .transpose()
        .map_err(CostsError::from)?;
    let client = target.open()?;
    let mut params = QueryParams {
        last: query.last.clone(),
        tenant: query.tenant.clone(),
        limit: Some(PAGE),
        ..QueryParams::default()
    };
    if form == Form::Csv {
        out.write_all(form::csv_header(&COLUMNS).as_bytes())?;
    }
    let (mut progress, mut done) = (Progress::new("export"), 0_usize);
    // A table knows how wide it is once all of it is there.
    let mut in_table: Vec<Value> = Vec::new();
    let parsed = |entry: &RawValue| serde_json::from_str::<Value>(entry.get()).map_err(ExportError::Entry);
    loop {
        let page: Entries = client.call("ledger.query", &params)?;
        for entry in &page.entries {
            match form {
                Form::Csv => out.write_all(form::csv_row(&parsed(entry)?, &COLUMNS).as_bytes())?,
                Form::Table => in_table.push(parsed(entry)?),
                Form::Jsonl => {
                    out.write_all(entry.get().as_bytes())?;
                    out.write_all(b"\n")?;
                }
                Form::Json => {
                    out.write_all(if done == 0 { b"[" } else { b"," })?;
                    out.write_all(entry.get().as_bytes())?;
                }
            }
            done += 1;
        }
        progress.at(done, "entries");
        match page.next {
            Some(next) => params.cursor = Some(next),
            None => break,
        }
    }
    match form {
        Form::Json if done == 0 => out.write_all(b"[]\n")?,
        Form::Json => out.write_all(b"]\n")?,
        Form::Table => {
            out.write_all(table(target, &ENTRIES, in_table).as_bytes())?;
        }
        Form::Csv | Form::Jsonl => {}
    }
    out.flush()?;
    Ok(())
}
