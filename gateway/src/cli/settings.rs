//! `agentledger config show`: each setting with its value and where that comes from.

use clap::{Args, Subcommand};

use super::CliError;
use super::ask::{AskArgs, Elsewhere, Target, params};
use super::client::Client;
use super::view::{Column, Is, View};
use crate::control::settings;
use crate::control::wire::ConfigValues;

#[derive(Debug, Args)]
pub struct SettingsArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(subcommand)]
    then: SettingsCommand,
}

#[derive(Debug, Subcommand)]
enum SettingsCommand {
    /// Print each setting of the running gateway with its source; where none runs, those it would start with. Secrets are ***
    Show {
        /// Settings that begin so, such as budgets
        #[arg(default_value = "", hide_default_value = true)]
        path: String,
    },
}

pub const SETTINGS: View = View {
    rows: "values",
    columns: &[
        Column("SETTING", "path", Is::Text),
        Column("VALUE", "value", Is::Json),
        Column("SOURCE", "source", Is::Text),
    ],
    nothing: "No such setting.",
    next: "",
};

pub fn run(args: &SettingsArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let SettingsCommand::Show { path } = &args.then;
    match &ask.target {
        // Where nothing was ever recorded, the file is all there is.
        Target::Here(config) if Client::open(config)?.is_none() => {
            let values = settings(config, path);
            ask.show(&ConfigValues { values }, |value| SETTINGS.table(value, ask.style))
        }
        _ => ask.read("config.get", params([("path", path.as_str().into())]), &SETTINGS),
    }
}
