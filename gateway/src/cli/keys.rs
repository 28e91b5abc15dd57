//! `agentledger keys`: which keys call, what they cost, and which are blocked.

use clap::{Args, Subcommand};

use super::CliError;
use super::ask::{Ask, AskArgs, Elsewhere, params};
use super::changes::{moment, rule_told};
use super::client::ClientError;
use super::view::{Column, Is, View, pages};

#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(subcommand)]
    then: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Print keys by what they cost, and the blocks in force
    List {
        /// How far back: days (30d) or a duration (90m, 1h30m)
        #[arg(long, value_name = "TIME")]
        last: Option<String>,
    },
    /// Refuse a key's requests from the next one on
    Block {
        #[command(flatten)]
        key: KeyArgs,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Ends by itself: a time, a day (its beginning, UTC), or so long from now (2h, 7d)
        #[arg(long, value_name = "TIME", value_parser = moment)]
        expires: Option<String>,
    },
    /// End a block
    Unblock {
        #[command(flatten)]
        key: KeyArgs,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

#[derive(Debug, Args)]
struct KeyArgs {
    /// Keys that fit it (sk-dev-*); a raw key is better named by its fingerprint
    #[arg(required_unless_present = "fingerprint", conflicts_with = "fingerprint")]
    pattern: Option<String>,
    /// One key, as `keys list` and `costs --by key` name it
    #[arg(long)]
    fingerprint: Option<String>,
}

pub const KEYS: View = View {
    rows: "keys",
    columns: &[
        Column("FINGERPRINT", "fingerprint", Is::Text),
        Column("TENANT", "tenant", Is::Text),
        Column("REQUESTS", "requests", Is::Count),
        Column("COST (USD)", "cost_usd", Is::Usd),
        Column("LAST SEEN", "last_seen", Is::Text),
        Column("BLOCKED", "blocked", Is::Text),
    ],
    nothing: "No key has called in the given time window.",
    next: "",
};

pub const BLOCKS: View = View {
    rows: "blocked",
    columns: super::rules::RULES.columns,
    nothing: "No key is blocked.",
    next: "",
};

pub fn run(args: &KeysArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let told = |value: &serde_json::Value| rule_told(value, ask.style);
    match &args.then {
        KeysCommand::List { last } => list(&ask, last.as_deref()),
        KeysCommand::Block { key, note, expires } => {
            let mut given = key.params();
            given.extend(params([
                ("note", note.clone().into()),
                ("expires", expires.clone().into()),
            ]));
            ask.change("key.block", given, told)
        }
        KeysCommand::Unblock { key, note } => {
            let mut given = key.params();
            given.extend(params([("note", note.clone().into())]));
            ask.change("key.unblock", given, told)
        }
    }
}

impl KeyArgs {
    fn params(&self) -> serde_json::Map<String, serde_json::Value> {
        params([
            ("pattern", self.pattern.clone().into()),
            ("fingerprint", self.fingerprint.clone().into()),
        ])
    }
}

fn list(ask: &Ask, last: Option<&str>) -> Result<String, CliError> {
    let given = params([("last", last.into())]);
    if ask.json {
        return ask.read("key.list", given, &KEYS);
    }
    let client = ask.target.open()?.ok_or(ClientError::NoGateway)?;
    let result = pages(&client, "key.list", given, &KEYS)?;
    let keys = KEYS.table(&result, ask.style);
    let blocks = BLOCKS.table(&result, ask.style);
    Ok(format!("{keys}\n{blocks}"))
}
