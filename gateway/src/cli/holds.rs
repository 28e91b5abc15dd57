//! `agentledger holds`: open holds, and why one is as it is.

use super::client::{Client, ClientError};
use super::costs::fixed;
use super::table::Table;
use crate::config::Config;
use crate::control::wire::{Explained, HoldParams, HoldRow, Holds};

/// Printed where nothing is held.
pub const NOTHING: &str = "No hold is open.";

/// All open holds as a table, with its last line break.
pub fn list(config: &Config) -> Result<String, ClientError> {
    let Some(client) = Client::open(config)? else {
        return Ok(format!("{NOTHING}\n"));
    };
    let holds: Holds = client.call("hold.list", &serde_json::json!({}))?;
    Ok(if holds.holds.is_empty() {
        format!("{NOTHING}\n")
    } else {
        table(&holds.holds)
    })
}

/// One hold: its size and why, since when, and its bounds. `id` is the hold's, or its exchange's.
pub fn explain(config: &Config, id: &str) -> Result<String, ClientError> {
    let Some(client) = Client::open(config)? else {
        return Ok(format!("{NOTHING}\n"));
    };
    let params = HoldParams { id: id.to_owned() };
    let explained: Explained = client.call("hold.explain", &params)?;
    Ok(text(&explained))
}

fn named(name: &str) -> String {
    if name.is_empty() {
        "(none)".to_owned()
    } else {
        name.to_owned()
    }
}

fn table(holds: &[HoldRow]) -> String {
    let mut table = Table::new([
        "ID",
        "SINCE",
        "PROVIDER",
        "MODEL",
        "KEY",
        "AGENT",
        "HELD (USD)",
        "HELD TOKENS",
    ]);
    for hold in holds {
        table.row(vec![
            hold.id.to_string(),
            hold.since.clone(),
            named(&hold.provider),
            named(&hold.model),
            named(&hold.key),
            named(&hold.agent),
            format!("${}", fixed(hold.held_usd, 4)),
            hold.held_tokens.to_string(),
        ]);
    }
    table.render()
}

fn text(explained: &Explained) -> String {
    let hold = &explained.hold;
    let mut out = format!(
        "hold      {}\nexchange  {}\nsince     {} ({} ms)\nmodel     {} at {}\nheld      ${} and {} tokens, at first ${}\nwhy       {}\n\n",
        hold.id,
        hold.exchange,
        hold.since,
        hold.age_ms,
        named(&hold.model),
        named(&hold.provider),
        hold.held_usd,
        hold.held_tokens,
        hold.first_usd,
        named(&hold.basis),
    );
    if explained.bounds.is_empty() {
        out.push_str("No limit touches it.\n");
        return out;
    }
    let mut table = Table::new([
        "ACCOUNT",
        "WINDOW",
        "UNIT",
        "MODE",
        "LIMIT",
        "SPENT",
        "HELD",
        "OVERAGE",
        "LEFT",
        "OF THIS HOLD",
    ]);
    let now = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    for bound in &explained.bounds {
        table.row(vec![
            bound.account.clone(),
            bound.window.clone(),
            bound.unit.clone(),
            bound.mode.clone(),
            bound.limit.clone(),
            now(&bound.spent),
            now(&bound.held),
            now(&bound.overage),
            now(&bound.left),
            bound.held_here.clone(),
        ]);
    }
    out.push_str(&table.render());
    out
}
