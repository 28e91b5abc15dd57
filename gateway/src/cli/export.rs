//! `agentledger export`: sums as CSV or JSON in the contract's forms, and every entry as JSON lines.

use std::io::{self, Write};

use super::client::{Client, ClientError};
use super::costs::{self, CostsError, CostsQuery};
use crate::config::Config;
use crate::control::contract_forms::{csv, json};
use crate::control::parse_last;
use crate::control::wire::{CostRow, Entries, QueryParams};

/// What sums are exported where no `--last` is given. Single entries are all exported then.
const LAST_DEFAULT: &str = "30d";
/// Entries asked for at a time.
const PAGE: usize = 1_000;
/// The word for single entries.
pub const BY_ENTRY: &str = "entry";

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

impl From<ClientError> for ExportError {
    fn from(error: ClientError) -> ExportError {
        ExportError::Costs(error.into())
    }
}

/// Writes and flushes the export. An empty `format` is csv, or jsonl for single entries.
pub fn run(config: &Config, query: &CostsQuery, format: &str, out: &mut dyn Write) -> Result<(), ExportError> {
    match write(config, query, format, out) {
        // A reader that has seen enough (`| head`) is no error.
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn write(config: &Config, query: &CostsQuery, format: &str, out: &mut dyn Write) -> Result<(), ExportError> {
    if query.by == BY_ENTRY {
        return match format {
            "" | "jsonl" => entries(config, query, out),
            _ => Err(ExportError::EntryFormat(format.to_owned())),
        };
    }
    let shape: fn(&str, &[CostRow]) -> String = match format {
        "" | "csv" => csv,
        "json" => json,
        _ => return Err(ExportError::Format(format.to_owned())),
    };
    let summary = costs::summary(config, query, LAST_DEFAULT)?;
    let (by, rows) = summary.map_or_else(Default::default, |summary| (summary.by, summary.rows));
    out.write_all(shape(&by, &rows).as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Every entry settled so far, oldest first, one JSON object a line.
fn entries(config: &Config, query: &CostsQuery, out: &mut dyn Write) -> Result<(), ExportError> {
    query
        .last
        .as_deref()
        .map(parse_last)
        .transpose()
        .map_err(CostsError::from)?;
    let Some(client) = Client::open(config)? else {
        return Ok(());
    };
    let mut params = QueryParams {
        last: query.last.clone(),
        tenant: query.tenant.clone(),
        limit: Some(PAGE),
        ..QueryParams::default()
    };
    loop {
        let page: Entries = client.call("ledger.query", &params)?;
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
