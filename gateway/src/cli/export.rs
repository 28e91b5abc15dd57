//! `agentledger export`: sums as CSV or JSON in the contract's forms, and every entry as JSON lines.

use std::io::{self, Write};

use clap::Args;

use super::CliError;
use super::ask::{ConfigArgs, Elsewhere, Target};
use super::client::ClientError;
use super::costs::{self, CostsError, CostsQuery, QueryArgs};
use super::form::{self, Form};
use super::progress::Progress;
use super::view::{Column, Is};
use crate::control::contract_forms::{csv, json};
use crate::control::parse_last;
use crate::control::wire::{CostRow, Entries, QueryParams};

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
    /// csv (default) or json; with --by entry jsonl (default) or csv
    #[arg(short, long, default_value = "", hide_default_value = true)]
    format: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("unsupported format {0:?}: use csv or json")]
    Format(String),
    #[error("unsupported format {0:?} for single entries: use jsonl or csv")]
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
        &args.format,
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
    if query.by == [BY_ENTRY] {
        return match format {
            "" | "jsonl" => entries(target, query, Form::Jsonl, out),
            "csv" => entries(target, query, Form::Csv, out),
            _ => Err(ExportError::EntryFormat(format.to_owned())),
        };
    }
    let shape: fn(&str, &[CostRow]) -> String = match format {
        "" | "csv" => csv,
        "json" => json,
        _ => return Err(ExportError::Format(format.to_owned())),
    };
    let summary = costs::summary(target, query, LAST_DEFAULT)?;
    out.write_all(shape(&summary.by, &summary.rows).as_bytes())?;
    out.flush()?;
    Ok(())
}

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

/// Every entry settled so far, oldest first: one JSON object a line, or CSV.
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
    let (mut progress, mut done) = (Progress::new("export"), 0);
    loop {
        let page: Entries = client.call("ledger.query", &params)?;
        done += page.entries.len();
        progress.at(done, "entries");
        for entry in &page.entries {
            if form == Form::Csv {
                let entry = serde_json::from_str(entry.get()).map_err(ExportError::Entry)?;
                out.write_all(form::csv_row(&entry, &COLUMNS).as_bytes())?;
            } else {
                out.write_all(entry.get().as_bytes())?;
                out.write_all(b"\n")?;
            }
        }
        match page.next {
            Some(next) => params.cursor = Some(next),
            None => break,
        }
    }
    out.flush()?;
    Ok(())
}
