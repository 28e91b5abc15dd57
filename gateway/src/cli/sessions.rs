//! `agentledger sessions`: what each session called and cost, and how to stop one.

use clap::{Args, Subcommand};

use super::CliError;
use super::ask::{Ask, AskArgs, Elsewhere, params};
use super::costs::QueryArgs;
use super::view::{Column, Is, View};
use crate::control::parse_last;

/// What is shown where no `--last` is given.
const LAST_DEFAULT: &str = "24h";

#[derive(Debug, Default, Args)]
pub struct SessionsArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// active, completed or killed
    #[arg(long, default_value = "", hide_default_value = true)]
    status: String,
    /// Lines at most
    #[arg(long, default_value_t = 100)]
    limit: u64,
    #[command(subcommand)]
    then: Option<SessionsCommand>,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// Refuse the session's calls from now on, and cut those that run
    Kill(OneArgs),
    /// Mark the session as completed; a further call takes it up again
    End(OneArgs),
}

#[derive(Debug, Args)]
struct OneArgs {
    id: String,
    /// One tenant's session only
    #[arg(long)]
    tenant: Option<String>,
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

pub const SESSIONS: View = View {
    rows: "sessions",
    columns: &[
        Column("SESSION", "id", Is::Text),
        Column("AGENT", "agent", Is::Text),
        Column("USER", "user", Is::Text),
        Column("TASK", "task", Is::Text),
        Column("TENANT", "tenant", Is::Text),
        Column("PARENT", "parent", Is::Text),
        Column("STATUS", "status", Is::State),
        Column("STARTED", "started", Is::Text),
        Column("LAST SEEN", "last_seen", Is::Text),
        Column("CALLS", "calls", Is::Count),
        Column("TOKENS", "tokens", Is::Count),
        Column("COST (USD)", "cost_usd", Is::Usd),
    ],
    nothing: "No session in the given time window.",
    next: "",
};

pub fn run(args: &SessionsArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    match &args.then {
        None => list(&ask, args),
        Some(SessionsCommand::Kill(one)) => end(&ask, "session.kill", one),
        Some(SessionsCommand::End(one)) => end(&ask, "session.end", one),
    }
}

fn list(ask: &Ask, args: &SessionsArgs) -> Result<String, CliError> {
    let last = args.query.last.as_deref().unwrap_or(LAST_DEFAULT);
    // Checked here too: a bad value is the caller's mistake, whether or not there is a ledger.
    parse_last(last)?;
    let given = params([
        ("last", last.into()),
        ("status", args.status.as_str().into()),
        ("tenant", args.query.tenant.as_str().into()),
        ("limit", args.limit.into()),
    ]);
    ask.read("session.list", given, &SESSIONS)
}

/// Ends or kills a session through the running gateway, and shows how it stands.
fn end(ask: &Ask, method: &str, one: &OneArgs) -> Result<String, CliError> {
    let mut given = params([("id", one.id.as_str().into()), ("note", one.note.clone().into())]);
    // An empty one is a tenant too: the one of those without.
    if let Some(tenant) = &one.tenant {
        given.insert("tenant".to_owned(), tenant.as_str().into());
    }
    ask.change(method, given, |value| SESSIONS.table(value, ask.style))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use agentledger_ledger::Usd;

    use super::*;
    use crate::cli::style::Style;
    use crate::control::wire::{SessionRow, Sessions};

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
SESSION   AGENT     STATUS   STARTED                    LAST SEEN                  CALLS   TOKENS   COST (USD)
-------   -------   ------   ------------------------   ------------------------   -----   ------   ----------
s1        crawler   active   2026-11-22T10:00:00.000Z   2026-11-22T10:05:00.000Z      12    3,400      $1.2500
";
        let sessions = Sessions {
            sessions: vec![session],
        };
        let result = serde_json::to_value(sessions).unwrap();
        assert_eq!(SESSIONS.table(&result, Style::PLAIN), expected);
    }
}
