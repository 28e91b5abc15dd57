//! `agentledger policy put`, `activate`, `shadow`, `rollback`, `deactivate` and `history`: which version of a policy is in force.
//! They work on a running gateway, and where none runs on its store.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde_json::{Map, Value};

use crate::cli::CliError;
use crate::cli::ask::{Ask, params};
use crate::cli::client::ClientError;
use crate::cli::form::Form;
use crate::cli::style::{Style, Tone, printable};
use crate::cli::view::{Column, Is, View};
use crate::files;

/// Longest file that is read: the gateway refuses it by its own, smaller limit.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Digits of a hash that people are shown.
const HASH_SHOWN: usize = 12;

#[derive(Debug, Subcommand)]
pub enum VersionsCommand {
    /// Keep a version of a policy in the store; nothing is in force of it yet
    Put {
        #[arg(value_name = "FILE", value_parser = path())]
        file: PathBuf,
        /// The specs by which its activation is judged
        #[arg(long, value_name = "FILE", value_parser = path())]
        specs: Option<PathBuf>,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Put a version in force: NAME is the one that was put last, NAME@HASH the one whose hash begins so
    Activate {
        #[arg(value_name = "NAME[@HASH]")]
        policy: String,
        /// First run it in shadow for so long (1h), then it comes into force by itself
        #[arg(long, value_name = "TIME")]
        shadow_for: Option<String>,
        /// enforce (default), or shadow: what it says is noted and not done
        #[arg(long)]
        mode: Option<String>,
        /// Put it in force though its specs fail
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Run a version in shadow beside what is in force
    Shadow {
        #[arg(value_name = "NAME[@HASH]")]
        policy: String,
        /// What runs in shadow shall run no more
        #[arg(long)]
        end: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Put the version before in force again
    Rollback {
        #[arg(value_name = "NAME")]
        policy: String,
        #[command(flatten)]
        why: Why,
    },
    /// Put what the files say in force again
    Deactivate {
        #[arg(value_name = "NAME")]
        policy: String,
        #[command(flatten)]
        why: Why,
    },
    /// Print the versions of a policy: who put each and why, how each stands, and what it did
    History {
        #[arg(value_name = "NAME")]
        policy: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct Why {
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Only where what stands of the policy was changed so often; 0: never yet
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

const VERSIONS: View = View {
    rows: "versions",
    columns: &[
        Column("VERSION", "hash", Is::Text),
        Column("NAMED", "version", Is::Text),
        Column("STATE", "state", Is::State),
        Column("CALLS", "calls", Is::Count),
        Column("DENIED", "denials", Is::Count),
        Column("FAILED", "failures", Is::Count),
        Column("BY", "author", Is::Text),
        Column("PUT", "at", Is::Text),
        Column("ACTIVATE AT", "activate_at", Is::Text),
        Column("NOTE", "note", Is::Text),
        Column("WHY", "why", Is::Text),
    ],
    nothing: "No version of it is in the store.",
    next: "",
};

pub fn run(command: VersionsCommand, ask: &Ask) -> Result<String, CliError> {
    let (method, given) = match command {
        VersionsCommand::History { policy } => return history(ask, policy),
        VersionsCommand::Put { file, specs, note } => {
            let specs = specs.as_deref().map(read).transpose()?;
            let given = [
                ("text", read(&file)?.into()),
                ("specs", specs.into()),
                ("note", note.into()),
            ];
            ("policy.put", params(given))
        }
        VersionsCommand::Activate {
            policy,
            shadow_for,
            mode,
            force,
            why,
        } => {
            let given = [
                ("shadow_for", shadow_for.into()),
                ("mode", mode.into()),
                ("force", force.into()),
            ];
            ("policy.activate", with(&policy, why, params(given)))
        }
        VersionsCommand::Shadow { policy, end, why } => {
            ("policy.shadow", with(&policy, why, params([("end", end.into())])))
        }
        VersionsCommand::Rollback { policy, why } => ("policy.rollback", with(&policy, why, Map::new())),
        VersionsCommand::Deactivate { policy, why } => ("policy.deactivate", with(&policy, why, Map::new())),
    };
    ask.change_policy(method, given, |value| changed_told(value, ask.style))
}

/// `NAME@HASH`, or `NAME` alone.
pub fn named(policy: &str) -> (&str, &str) {
    policy.split_once('@').unwrap_or((policy, ""))
}

fn with(policy: &str, why: Why, given: Map<String, Value>) -> Map<String, Value> {
    let (name, hash) = named(policy);
    let mut all = params([
        ("policy", name.into()),
        ("version", hash.into()),
        ("note", why.note.into()),
        ("if_version", why.if_version.into()),
    ]);
    all.extend(given);
    all
}

fn read(file: &Path) -> Result<String, ClientError> {
    let failed = |error: std::io::Error| ClientError::Usage(format!("{}: {error}", file.display()));
    files::read_text(file, FILE_BYTES_MAX).map_err(failed)
}

fn history(ask: &Ask, policy: String) -> Result<String, CliError> {
    let given = params([("policy", policy.into())]);
    if ask.form() != Form::Table {
        return ask.read("policy.history", given, &VERSIONS);
    }
    ask.read_as("policy.history", given, |value| {
        let mut shown = value.clone();
        for row in shown
            .get_mut("versions")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(hash) = row.get_mut("hash") {
                *hash = short(hash.as_str().unwrap_or_default()).into();
            }
        }
        format!("{}\n{}", stands_told(value), VERSIONS.table(&shown, ask.style))
    })
}

fn short(hash: &str) -> &str {
    hash.get(..HASH_SHOWN).unwrap_or(hash)
}

fn said<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// In one line, what is in force of a policy and what runs beside it.
fn stands_told(result: &Value) -> String {
    let (policy, hash) = (said(result, "/policy"), short(said(result, "/in_force/hash")));
    let (origin, over) = (said(result, "/in_force/origin"), said(result, "/in_force/overridden"));
    let mut line = match said(result, "/in_force/source") {
        "store" => format!("{policy}: version {hash} of the store is in force"),
        "none" => format!("{policy}: nothing is in force"),
        "files" => format!("{policy}: no version of the store is in force, and what the files say is"),
        _ => format!("{policy}: {origin} is in force, and no version of the store"),
    };
    if said(result, "/in_force/mode") == "shadow" {
        line.push_str(", in shadow: it enforces nothing");
    }
    if !over.is_empty() {
        line.push_str(&format!(", over {over}"));
    }
    let shadow = short(said(result, "/shadow/hash"));
    if !shadow.is_empty() {
        line.push_str(&format!("; version {shadow} runs in shadow beside it"));
    }
    let at = said(result, "/shadow/activate_at");
    if !at.is_empty() {
        line.push_str(&format!(", and comes into force at {at}"));
    }
    printable(&line)
}

/// What became of a policy.
fn changed_told(result: &Value, style: Style) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: &str| {
        if !text.is_empty() {
            out.push_str(&format!("{name:<9} {}\n", printable(text)));
        }
    };
    line("version", said(result, "/version"));
    let count = |path: &str| result.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let failed = result.pointer("/specs/failed").and_then(Value::as_array);
    if let Some(failed) = failed {
        let (run, failed) = (count("/specs/run"), failed.len());
        line("specs", &format!("{run} run, {failed} failed"));
    }
    let dropped = result.get("dropped").and_then(Value::as_array);
    for dropped in dropped.into_iter().flatten().filter_map(Value::as_str) {
        line("dropped", dropped);
    }
    line("cancelled", said(result, "/cancelled"));
    line("change", said(result, "/change"));
    out.push_str(&style.paint(Tone::Good, &stands_told(result)));
    out.push('\n');
    let policy = said(result, "/policy");
    let next = match (said(result, "/in_force/hash"), said(result, "/version")) {
        (_, "") => String::new(),
        (in_force, version) if in_force == version => format!("undo: agentledger policy rollback {policy}"),
        (_, version) => format!("next: agentledger policy activate {policy}@{}", short(version)),
    };
    if !next.is_empty() && said(result, "/shadow/activate_at").is_empty() {
        out.push_str(&style.paint(Tone::Faint, &next));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_what_is_in_force() {
        let hash = "0123456789abcdef";
        let told = |in_force: Value, shadow: Value| {
            stands_told(&json!({"policy": "p", "in_force": in_force, "shadow": shadow}))
        };
        assert_eq!(
            told(
                json!({"source": "store", "hash": hash, "overridden": "built-in/p.lua", "mode": null}),
                json!({"hash": "fedcba9876543210", "activate_at": "2026-01-01T00:00:00.000Z"})
            ),
            "p: version 0123456789ab of the store is in force, over built-in/p.lua; version fedcba987654 runs in shadow beside \
             it, and comes into force at 2026-01-01T00:00:00.000Z"
        );
        assert_eq!(
            told(
                json!({"source": "file", "origin": "policies/p.lua", "hash": hash}),
                Value::Null
            ),
            "p: policies/p.lua is in force, and no version of the store"
        );
        assert_eq!(told(json!({"source": "none"}), Value::Null), "p: nothing is in force");
    }

    #[test]
    fn what_was_changed_says_what_comes_next_and_how_to_undo_it() {
        let mut result = json!({
            "policy": "p", "version": "0123456789abcdef", "change": "01C", "dropped": [], "cancelled": null,
            "specs": {"run": 3, "failed": []}, "in_force": {"source": "none"}, "shadow": null,
        });
        let put = changed_told(&result, Style::PLAIN);
        assert!(
            put.ends_with("p: nothing is in force\nnext: agentledger policy activate p@0123456789ab\n"),
            "{put}"
        );
        result["in_force"] = json!({"source": "store", "hash": "0123456789abcdef"});
        let activated = changed_told(&result, Style::PLAIN);
        assert!(
            activated.contains("specs     3 run, 0 failed\nchange    01C\n"),
            "{activated}"
        );
        assert!(
            activated.ends_with("undo: agentledger policy rollback p\n"),
            "{activated}"
        );
        assert_eq!((named("p@0a"), named("p")), (("p", "0a"), ("p", "")));
    }
}
