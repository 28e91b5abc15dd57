//! `agentledger clock`: how the machine's clock stands to the ledger's last decision, and what to do where it was wrong.

use super::client::{Client, ClientError};
use crate::config::Config;
use crate::control::wire::ClockStatus;
use crate::launch;

/// Printed where there is no ledger.
const NOTHING: &str = "There is no ledger yet.\n";

/// How the clocks stand.
///
/// # Errors
/// The gateway, or the ledger, cannot be reached.
pub fn show(config: &Config) -> Result<String, ClientError> {
    let Some(client) = Client::open(config)? else {
        return Ok(NOTHING.to_owned());
    };
    Ok(text(&client.call("clock.status", &serde_json::json!({}))?))
}

/// Believes the machine's clock, through the running gateway or, where none runs, in the ledger itself.
///
/// # Errors
/// The gateway, or the ledger, cannot be reached.
pub fn accept(config: &Config) -> Result<String, ClientError> {
    if let Some(client) = Client::gateway(config)? {
        return Ok(text(&client.call("clock.accept", &serde_json::json!({}))?));
    }
    if !config.storage.dir.join("journal").is_dir() {
        return Ok(NOTHING.to_owned());
    }
    launch::accept_clock(config).map_err(|error| ClientError::Ledger(error.to_string()))?;
    show(config)
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
