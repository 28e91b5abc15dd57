//! `agentledger rules`: rules that are changed while traffic runs.

use std::io::Read as _;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use ulid::Ulid;

use super::CliError;
use super::ask::{Ask, AskArgs, Elsewhere, Target, params};
use super::changes::{ChangeArgs, deleted_told, rule_told};
use super::client::{Client, ClientError};
use super::view::{Column, Is, View};
use crate::config::Config;
use crate::control::wire::{RuleChanged, RuleRow};
use crate::launch;

/// Longest value that is read from standard input.
const VALUE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Args)]
pub struct RulesArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(subcommand)]
    then: RulesCommand,
}

#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// Print the rules of the file and those put at run time, as they are in force
    List {
        /// One policy's only
        #[arg(long, default_value = "", hide_default_value = true)]
        policy: String,
        /// One list's only, such as budget.limits
        #[arg(long, default_value = "", hide_default_value = true)]
        list: String,
        /// file or runtime
        #[arg(long, default_value = "", hide_default_value = true)]
        source: String,
        /// Rules at most
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Print one rule
    Get { id: String },
    /// Put a rule in force with the next request, or another value in place of one's
    Put {
        /// Where it goes: POLICY.LIST (budget.limits), or POLICY for its other settings (loop)
        list: String,
        /// JSON, or name=value pairs (account=agent window=day limit=5), or - to read JSON from standard input
        #[arg(required = true, value_name = "VALUE")]
        value: Vec<String>,
        /// The rule to change; a new one without it
        #[arg(long, default_value = "", hide_default_value = true)]
        id: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Take a rule out of force; where no gateway runs, out of the ledger
    Delete {
        id: String,
        #[command(flatten)]
        change: DeleteArgs,
    },
    /// Print what became of a rule, or of all of a list, latest first
    History {
        /// The rule
        #[arg(default_value = "", hide_default_value = true)]
        id: String,
        /// One list's only
        #[arg(long, default_value = "", hide_default_value = true)]
        list: String,
        /// Changes at most
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
    /// Undo one change, which `history` and `audit` name
    Revert {
        change: String,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Say what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
struct DeleteArgs {
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Only where the rule still has this version
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub const RULES: View = View {
    rows: "rules",
    columns: &[
        Column("ID", "id", Is::Text),
        Column("LIST", "list", Is::Text),
        Column("VALUE", "value", Is::Json),
        Column("SOURCE", "source", Is::Text),
        Column("IN FORCE", "in_force", Is::State),
        Column("VERSION", "version", Is::Count),
        Column("TENANT", "tenant", Is::Text),
        Column("EXPIRES", "expires", Is::Text),
        Column("AUTHOR", "author", Is::Text),
        Column("NOTE", "note", Is::Text),
    ],
    nothing: "No rule.",
    next: "after",
};

/// The changes of rules, and in `audit` of everything.
pub const CHANGES: View = View {
    rows: "changes",
    columns: &[
        Column("CHANGE", "id", Is::Text),
        Column("AT", "at", Is::Text),
        Column("AUTHOR", "author", Is::Text),
        Column("FROM", "peer", Is::Text),
        Column("ACTION", "action", Is::Text),
        Column("SUBJECT", "subject", Is::Text),
        Column("TENANT", "tenant", Is::Text),
        Column("BEFORE", "before", Is::Json),
        Column("AFTER", "after", Is::Json),
        Column("NOTE", "note", Is::Text),
    ],
    nothing: "No change.",
    next: "before",
};

pub fn run(args: RulesArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let told = |value: &Value| rule_told(value, ask.style);
    match args.then {
        RulesCommand::List {
            policy,
            list,
            source,
            limit,
        } => {
            let given = params([
                ("policy", policy.into()),
                ("list", list.into()),
                ("source", source.into()),
                ("limit", limit.into()),
            ]);
            ask.read("rule.list", given, &RULES)
        }
        RulesCommand::Get { id } => ask.read_one("rule.get", params([("id", id.into())])),
        RulesCommand::Put {
            list,
            value,
            id,
            change,
        } => {
            let mut given = params([("list", list.into()), ("id", id.into())]);
            given.insert("value".to_owned(), self::value(&value)?);
            change.add_to(&mut given);
            ask.change("rule.put", given, told)
        }
        RulesCommand::Delete { id, change } => delete(&ask, &id, &change),
        RulesCommand::History { id, list, limit } => {
            let given = params([("id", id.into()), ("list", list.into()), ("limit", limit.into())]);
            ask.read("rule.history", given, &CHANGES)
        }
        RulesCommand::Revert { change, note, dry_run } => {
            let given = params([
                ("change", change.into()),
                ("note", note.into()),
                ("dry_run", dry_run.into()),
            ]);
            ask.change("rule.revert", given, told)
        }
    }
}

fn delete(ask: &Ask, id: &str, change: &DeleteArgs) -> Result<String, CliError> {
    let told = |value: &Value| deleted_told(value, ask.style);
    if let Target::Here(config) = &ask.target
        && Client::gateway(config)?.is_none()
    {
        // What is to be checked first takes a gateway.
        if change.dry_run || change.if_version.is_some() {
            return Err(ClientError::NoGateway.into());
        }
        let deleted = delete_here(config, id, change.note.as_deref().unwrap_or_default())?;
        return ask.show(&deleted, told);
    }
    let given = params([
        ("id", id.into()),
        ("note", change.note.clone().into()),
        ("if_version", change.if_version.into()),
        ("dry_run", change.dry_run.into()),
    ]);
    ask.change("rule.delete", given, told)
}

/// Deletes a rule in the ledger itself: one that keeps a gateway from starting.
fn delete_here(config: &Config, id: &str, note: &str) -> Result<RuleChanged, ClientError> {
    let unknown = || ClientError::Local(format!("no runtime rule {id}"));
    Ulid::from_string(id).map_err(|_| unknown())?;
    if !config.storage.dir.join("journal").is_dir() {
        return Err(unknown());
    }
    let deleted = launch::remove_document(config, &format!("rule:{id}"), note)
        .map_err(|error| ClientError::Ledger(error.to_string()))?;
    let (document, change) = deleted.ok_or_else(unknown)?;
    let kept: Value = serde_json::from_str(&document.value).unwrap_or_default();
    let list = kept.get("list").and_then(Value::as_str).unwrap_or_default().to_owned();
    let value = kept.get("value").cloned().unwrap_or_default();
    Ok(RuleChanged {
        rule: RuleRow {
            id: id.to_owned(),
            policy: list.split('.').next().unwrap_or_default().to_owned(),
            list,
            value: value.clone(),
            source: "runtime".to_owned(),
            version: Some(document.version),
            ..RuleRow::default()
        },
        change: Some(change.to_string()),
        before: Some(value),
        dry_run: false,
        warning: None,
        after: None,
    })
}

/// What was typed for a value: one JSON text, `-` for one on standard input, or pairs.
fn value(given: &[String]) -> Result<Value, CliError> {
    let wrong = |text: String| CliError::from(ClientError::Usage(text));
    if let [one] = given {
        if one == "-" {
            return json(&input()?).map_err(wrong);
        }
        if one.starts_with(['{', '[', '"']) {
            return json(one).map_err(wrong);
        }
        if !one.contains('=') {
            return Ok(typed(one));
        }
    }
    let mut fields = Map::new();
    for pair in given {
        let (name, text) = pair
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| wrong(format!("{pair:?} is no name=value")))?;
        if fields.insert(name.to_owned(), typed(text)).is_some() {
            return Err(wrong(format!("{name:?} is given twice")));
        }
    }
    Ok(Value::Object(fields))
}

/// What is no JSON is text: `account=agent`, `limit=5`, `soft=[0.8,1]`.
fn typed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("the value is no JSON: {error}"))
}

/// Standard input, within bounds.
pub fn input() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin()
        .lock()
        .take(VALUE_BYTES_MAX + 1)
        .read_to_string(&mut text);
    read.map_err(|error| ClientError::Usage(format!("standard input: {error}")))?;
    if text.len() as u64 > VALUE_BYTES_MAX {
        let text = format!("standard input: longer than {VALUE_BYTES_MAX} bytes");
        return Err(ClientError::Usage(text).into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    fn read(given: &[&str]) -> Result<Value, String> {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        value(&given).map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_is_json_or_pairs() {
        assert_eq!(read(&[r#"{"a": "x=y"}"#]).unwrap(), json!({"a": "x=y"}));
        assert_eq!(read(&["5"]).unwrap(), json!(5));
        assert_eq!(read(&["shadow"]).unwrap(), json!("shadow"));
        assert_eq!(
            read(&["account=tag:team=ml", "limit=5", "soft=[0.8,1]", "note=two words"]).unwrap(),
            json!({"account": "tag:team=ml", "limit": 5, "soft": [0.8, 1], "note": "two words"})
        );
        assert!(read(&["{a: 1}"]).unwrap_err().contains("no JSON"));
        assert!(read(&["a=1", "b"]).unwrap_err().contains("no name=value"));
        assert!(read(&["a=1", "a=2"]).unwrap_err().contains("twice"));
    }
}
