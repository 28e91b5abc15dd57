//! `agentledger rpc`: calls any method.

use clap::Args;
use serde_json::{Map, Value};

use super::CliError;
use super::ask::{AskArgs, Elsewhere};
use super::client::ClientError;
use super::rules::input;
use super::style::Style;
use super::view;

#[derive(Debug, Args)]
pub struct RpcArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Such as ledger.summary; rpc.discover lists them all
    method: String,
    /// The parameters, an object; - reads them from standard input
    #[arg(value_name = "JSON")]
    params: Option<String>,
}

/// The result as it came, where no form is named; on a terminal one field a line.
pub fn run(args: &RpcArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let text = match args.params.as_deref() {
        Some("-") => input()?,
        Some(text) => text.to_owned(),
        None => "{}".to_owned(),
    };
    let params: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| ClientError::Usage(format!("the parameters are no JSON object: {error}")))?;
    let client = elsewhere.target(&args.ask.config)?.open()?;
    let result = client.call_raw(&args.method, &params)?;
    if args.ask.form().is_some() {
        let value = serde_json::from_str(result.get()).unwrap_or_default();
        return Ok(args.ask.format.one(&value, || view::fields(&value, Style::of_stdout())));
    }
    let indented = || {
        let value: Value = serde_json::from_str(result.get()).ok()?;
        serde_json::to_string_pretty(&value).ok()
    };
    let text = if Style::of_stdout().terminal { indented() } else { None };
    Ok(format!("{}\n", text.unwrap_or_else(|| result.get().to_owned())))
}
