//! `agentledger keys`: which keys call, what they cost, and which are blocked.

use std::io::{self, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::CliError;
use super::ask::{Ask, AskArgs, Elsewhere, params};
use super::changes::{moment, rule_told};
use super::form::Form;
use super::view::{Column, Is, View, pages};
use crate::fingerprints;
use crate::secret::Secret;

/// A longer line is no key.
const KEY_BYTES_MAX: u64 = 64 << 10;

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
        /// How far back: weeks (1w), days (30d) or a duration (90m, 1h30m)
        #[arg(long, value_name = "TIME")]
        last: Option<String>,
    },
    /// Print the fingerprint of a key, which is read from standard input: arguments can be read by every process
    Fingerprint,
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
        Column("NAME", "name", Is::Text),
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
    let told = |value: &Value| rule_told(value, ask.style);
    match &args.then {
        KeysCommand::Fingerprint => fingerprint(&ask),
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
    fn params(&self) -> serde_json::Map<String, Value> {
        params([
            ("pattern", self.pattern.clone().into()),
            ("fingerprint", self.fingerprint.clone().into()),
        ])
    }
}

/// Why a key has no fingerprint here.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    #[error("{0}")]
    Secret(#[from] fingerprints::Refused),
    #[error("the ledger {} has no secret to name keys by yet: start its gateway once", .0.display())]
    NoSecret(PathBuf),
    #[error("standard input: {0}")]
    Read(io::Error),
    #[error("no key on standard input, or more than one line")]
    NoKey,
}

/// Found with the secret that lies beside the ledger, on this machine: the key goes nowhere.
fn fingerprint(ask: &Ask) -> Result<String, CliError> {
    let config = ask.target.config()?;
    let found = fingerprints::find(config.fingerprint_secret.as_ref(), &config.storage.dir);
    let found = found.map_err(FingerprintError::from)?;
    let secret = found.ok_or_else(|| FingerprintError::NoSecret(config.storage.dir.clone()))?;
    let key = key_of(io::stdin().lock())?;
    let fingerprint = secret.fingerprints().of(&key);
    let name = config.alias_of(&fingerprint);
    let shown = json!({ "fingerprint": fingerprint, "name": name });
    ask.show(&shown, |_| match name {
        Some(name) => format!("{fingerprint}   {name}\n"),
        None => format!("{fingerprint}\n"),
    })
}

/// One line, without the blanks around it.
fn key_of(input: impl Read) -> Result<Secret<String>, FingerprintError> {
    let mut text = String::new();
    input
        .take(KEY_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(FingerprintError::Read)?;
    let key = text.trim();
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(FingerprintError::NoKey);
    }
    Ok(Secret::new(key.to_owned()))
}

fn list(ask: &Ask, last: Option<&str>) -> Result<String, CliError> {
    let given = params([("last", last.into())]);
    if ask.form() != Form::Table {
        return ask.read("key.list", given, &KEYS);
    }
    // With their fingerprints and not only their names: here one looks them up.
    let result = pages(&ask.target.open()?, "key.list", given, &KEYS)?;
    let keys = KEYS.table(&result, ask.style);
    let blocks = BLOCKS.table(&result, ask.style);
    Ok(format!("{keys}\n{blocks}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_key_is_one_line_of_standard_input() {
        let read = |text: &str| key_of(text.as_bytes()).map(|key| key.expose().clone());
        assert_eq!(read(" sk-test-0123\n").unwrap(), "sk-test-0123");
        for none in ["", " \n", "sk-a\nsk-b\n"] {
            assert!(matches!(read(none), Err(FingerprintError::NoKey)), "{none:?}");
        }
    }
}
