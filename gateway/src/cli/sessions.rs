//! `agentledger sessions`: what each session called and cost, and how to stop one.

use super::client::{Client, ClientError};
use super::costs::{CostsError, fixed};
use super::table::Table;
use crate::config::Config;
use crate::control::parse_last;
use crate::control::wire::{SessionParams, SessionRow, Sessions, SessionsParams};

/// Printed where there is none.
pub const NOTHING: &str = "No session in the given time window.";
/// What is shown where no `--last` is given.
const LAST_DEFAULT: &str = "24h";

/// What to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionsQuery<'a> {
    pub last: Option<&'a str>,
    pub status: &'a str,
    pub tenant: &'a str,
    pub limit: usize,
}

/// The table, or the text that says there is none; with its last line break.
pub fn list(config: &Config, query: &SessionsQuery<'_>) -> Result<String, CostsError> {
    let last = query.last.unwrap_or(LAST_DEFAULT);
    parse_last(last)?;
    let Some(client) = Client::open(config)? else {
        return Ok(format!("{NOTHING}\n"));
    };
    let params = SessionsParams {
        last: Some(last.to_owned()),
        status: query.status.to_owned(),
        tenant: query.tenant.to_owned(),
        limit: Some(query.limit),
    };
    let found: Sessions = client.call("session.list", &params)?;
    Ok(if found.sessions.is_empty() {
        format!("{NOTHING}\n")
    } else {
        table(&found.sessions)
    })
}

/// Ends or kills a session through the running gateway, and shows how it stands.
pub fn end(config: &Config, id: &str, tenant: Option<&str>, kill: bool) -> Result<String, ClientError> {
    let Some(client) = Client::open(config)? else {
        return Ok(format!("{NOTHING}\n"));
    };
    let params = SessionParams {
        note: String::new(),
        id: id.to_owned(),
        tenant: tenant.map(str::to_owned),
    };
    let method = if kill { "session.kill" } else { "session.end" };
    let found: Sessions = client.call(method, &params)?;
    Ok(table(&found.sessions))
}

fn table(sessions: &[SessionRow]) -> String {
    let mut table = Table::new([
        "SESSION",
        "AGENT",
        "USER",
        "TASK",
        "TENANT",
        "PARENT",
        "STATUS",
        "STARTED",
        "LAST SEEN",
        "CALLS",
        "TOKENS",
        "COST (USD)",
    ]);
    let named = |name: &String| {
        if name.is_empty() {
            "(none)".to_owned()
        } else {
            name.clone()
        }
    };
    for session in sessions {
        table.row(vec![
            session.id.clone(),
            named(&session.agent),
            named(&session.user),
            named(&session.task),
            named(&session.tenant),
            named(&session.parent),
            session.status.clone(),
            session.started.clone(),
            session.last_seen.clone(),
            session.calls.to_string(),
            session.tokens.to_string(),
            format!("${}", fixed(session.cost_usd, 4)),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use agentledger_ledger::Usd;

    use super::*;

    #[test]
    fn a_session_is_one_line() {
        let session = SessionRow {
            id: "s1".into(),
            agent: "crawler".into(),
            status: "active".into(),
            started: "2026-11-22T10:00:00.000Z".into(),
            last_seen: "2026-11-22T10:05:00.000Z".into(),
            calls: 12,
            tokens: 3_400,
            cost_usd: Usd::from_nanos(1_250_000_000),
            ..SessionRow::default()
        };
        let expected = "\
SESSION   AGENT     USER     TASK     TENANT   PARENT   STATUS   STARTED                    LAST SEEN                  CALLS   TOKENS   COST (USD)
-------   -------   ------   ------   ------   ------   ------   ------------------------   ------------------------   -----   ------   ----------
s1        crawler   (none)   (none)   (none)   (none)   active   2026-11-22T10:00:00.000Z   2026-11-22T10:05:00.000Z   12      3400     $1.2500
";
        assert_eq!(table(&[session]), expected);
    }
}
