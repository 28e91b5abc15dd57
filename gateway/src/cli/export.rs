//! `agentledger export`: sums as CSV or JSON in the contract's forms, and every entry as JSON lines.

use std::io::{self, Write};

use super::client::{Client, ClientError};
use super::costs::{self, CostsError, CostsQuery, fixed};
use crate::config::Config;
use crate::control::parse_last;
use crate::control::wire::{CostRow, Entries, QueryParams};

const CSV_HEADER: &str = "provider,model,api_key_hash,agent_id,session_id,requests,input_tokens,output_tokens,cost_usd";
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

/// The contract's CSV; sums by user or tenant have one more column at the end.
fn csv(by: &str, rows: &[CostRow]) -> String {
    let mut out = String::from(CSV_HEADER);
    out.push_str(match by {
        "user" => ",user_id\n",
        "task" => ",task\n",
        "tenant" => ",tenant_id\n",
        _ => "\n",
    });
    for row in rows {
        let mut fields: Vec<String> = [&row.provider, &row.model, &row.key, &row.agent, &row.session]
            .map(|name| quoted(name))
            .to_vec();
        fields.extend([row.requests, row.input_tokens, row.output_tokens].map(|count| count.to_string()));
        fields.push(fixed(row.cost_usd, 6));
        match by {
            "user" => fields.push(quoted(&row.user)),
            "task" => fields.push(quoted(&row.task)),
            "tenant" => fields.push(quoted(&row.tenant)),
            _ => {}
        }
        out.push_str(&fields.join(","));
        out.push('\n');
    }
    out
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\r', '\n']) || field.starts_with([' ', '\t']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// The contract's JSON: one line; `null` where there is nothing. Written by hand for two reasons: the order of the keys,
/// and a cost that is a JSON number but never a float here.
fn json(by: &str, rows: &[CostRow]) -> String {
    if rows.is_empty() {
        return "null\n".to_owned();
    }
    let text = |value: &str| serde_json::Value::from(value).to_string();
    let objects: Vec<String> = rows
        .iter()
        .map(|row| {
            let more = match by {
                "user" => format!(",\"UserID\":{}", text(&row.user)),
                "task" => format!(",\"Task\":{}", text(&row.task)),
                "tenant" => format!(",\"TenantID\":{}", text(&row.tenant)),
                _ => String::new(),
            };
            format!(
                "{{\"Provider\":{},\"Model\":{},\"APIKeyHash\":{},\"AgentID\":{},\"SessionID\":{},\"Requests\":{},\
                 \"InputTokens\":{},\"OutputTokens\":{},\"TotalCostUSD\":{}{more}}}",
                text(&row.provider),
                text(&row.model),
                text(&row.key),
                text(&row.agent),
                text(&row.session),
                row.requests,
                row.input_tokens,
                row.output_tokens,
                row.cost_usd,
            )
        })
        .collect();
    format!("[{}]\n", objects.join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use agentledger_ledger::Usd;

    fn rows() -> Vec<CostRow> {
        vec![CostRow {
            provider: "openai".into(),
            model: "a \"quoted\", one".into(),
            requests: 2,
            input_tokens: 10,
            output_tokens: 5,
            cost_usd: Usd::from_nanos(3_750_001),
            ..CostRow::default()
        }]
    }

    #[test]
    fn csv_is_the_contracts() {
        let expected = "provider,model,api_key_hash,agent_id,session_id,requests,input_tokens,output_tokens,cost_usd\n\
                        openai,\"a \"\"quoted\"\", one\",,,,2,10,5,0.003750\n";
        assert_eq!(csv("model", &rows()), expected);
        assert_eq!(csv("model", &[]), format!("{CSV_HEADER}\n"));
        assert_eq!(csv("tenant", &[]), format!("{CSV_HEADER},tenant_id\n"));
    }

    #[test]
    fn json_is_one_line_in_pascal_case_and_empty_is_null() {
        let expected = "[{\"Provider\":\"openai\",\"Model\":\"a \\\"quoted\\\", one\",\"APIKeyHash\":\"\",\"AgentID\":\"\",\
                        \"SessionID\":\"\",\"Requests\":2,\"InputTokens\":10,\"OutputTokens\":5,\"TotalCostUSD\":0.003750001}]\n";
        assert_eq!(json("model", &rows()), expected);
        assert_eq!(json("model", &[]), "null\n");
        let value: serde_json::Value = serde_json::from_str(&json("user", &rows())).unwrap();
        assert_eq!(value[0]["UserID"], "");
    }
}
