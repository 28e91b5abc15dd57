//! `agentledger export`: sums as CSV or JSON in the contract's forms, and every entry as JSON lines.

use std::io::{self, Write};

use clap::Args;

use super::CliError;
use super::ask::{ConfigArgs, Elsewhere, Target};
use super::client::ClientError;
use super::costs::{self, CostsError, CostsQuery, QueryArgs};
use super::progress::Progress;
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
    /// model, provider, key, agent, session, user, task, tenant, tag:NAME, or entry for every single entry; any other word
    /// means model
    #[arg(long, default_value = "model")]
    by: String,
    /// csv (default) or json; jsonl with --by entry
    #[arg(short, long, default_value = "", hide_default_value = true)]
    format: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("unsupported format {0:?}: use csv or json")]
    Format(String),
    #[error("unsupported format {0:?} for single entries: use jsonl")]
    EntryFormat(String),
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
            ExportError::Write(_) => false,
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
    Ok(export(&target, &args.query.by(&args.by), &args.format, &mut out)?)
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
    if query.by == BY_ENTRY {
        return match format {
            "" | "jsonl" => entries(target, query, out),
            _ => Err(ExportError::EntryFormat(format.to_owned())),
        };
    }
    let shape: fn(&str, &[CostRow]) -> String = match format {
        "" | "csv" => csv,
        "json" => json,
        _ => return Err(ExportError::Format(format.to_owned())),
    };
    let summary = costs::summary(target, query, LAST_DEFAULT)?;
    let (by, rows) = summary.map_or_else(Default::default, |summary| (summary.by, summary.rows));
    out.write_all(shape(&by, &rows).as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Every entry settled so far, oldest first, one JSON object a line.
fn entries(target: &Target, query: &CostsQuery, out: &mut dyn Write) -> Result<(), ExportError> {
    query
        .last
        .as_deref()
        .map(parse_last)
        .transpose()
        .map_err(CostsError::from)?;
    let Some(client) = target.open()? else {
        return Ok(());
    };
    let mut params = QueryParams {
        last: query.last.clone(),
        tenant: query.tenant.clone(),
        limit: Some(PAGE),
        ..QueryParams::default()
    };
    let (mut progress, mut done) = (Progress::new("export"), 0);
    loop {
        let page: Entries = client.call("ledger.query", &params)?;
        done += page.entries.len();
        progress.at(done, "entries");
        for entry in &page.entries {
            out.write_all(entry.get().as_bytes())?;
            out.write_all(b"\n")?;
        }
        match page.next {
            Some(next) => params.cursor = Some(next),
            None => break,
        }
    }
    out.flush()?;
    Ok(())
}
