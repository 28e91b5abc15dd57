//! `agentledger clock`: how the machine's clock stands to the ledger's last decision, and what to do where it was wrong.

use clap::{Args, Subcommand};

use super::CliError;
use super::ask::{Ask, AskArgs, Elsewhere, Target, params};
use super::client::{Client, ClientError};
use crate::control::wire::ClockStatus;
use crate::launch;

/// Printed where there is no ledger.
const NOTHING: &str = "There is no ledger yet.\n";

#[derive(Debug, Args)]
pub struct ClockArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(subcommand)]
    then: Option<ClockCommand>,
}

#[derive(Debug, Subcommand)]
enum ClockCommand {
    /// The machine's clock is right, however far it is from the ledger's last decision
    Accept,
}

pub fn run(args: &ClockArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    match args.then {
        None => show(&ask),
        Some(ClockCommand::Accept) => accept(&ask),
    }
}

/// How the clocks stand.
fn show(ask: &Ask) -> Result<String, CliError> {
    ask.read_as("clock.status", params([]), told)
}

/// Believes the machine's clock, through the running gateway or, where none runs, in the ledger itself.
fn accept(ask: &Ask) -> Result<String, CliError> {
    if let Target::Here(config) = &ask.target
        && Client::gateway(config)?.is_none()
    {
        if !config.storage.dir.join("journal").is_dir() {
            return Ok(NOTHING.to_owned());
        }
        launch::accept_clock(config).map_err(|error| ClientError::Ledger(error.to_string()))?;
        return show(ask);
    }
    ask.change("clock.accept", params([]), told)
}

fn told(value: &serde_json::Value) -> String {
    text(&serde_json::from_value(value.clone()).unwrap_or_default())
}

fn text(status: &ClockStatus) -> String {
    let advice = match status.state.as_str() {
        "ahead" => {
            "The machine's clock is ahead of what can have passed: no request is admitted.\n\
             Set the clock; or, if it is right, run `agentledger clock accept`.\n"
        }
        "behind" => {
            "The machine's clock is behind the ledger: days and months stand still until it is there again.\n\
             Set the clock; or, if it is right, run `agentledger clock accept`: windows that run go on with what was\n\
             counted in them.\n"
        }
        _ => "",
    };
    format!(
        "machine  {}\nledger   {}\nclock    {} ({} ms)\n{advice}",
        status.machine, status.ledger, status.state, status.offset_ms
    )
}
