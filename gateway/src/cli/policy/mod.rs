//! `agentledger policy`: which are in force, how to turn one off, and `test`, which runs the specs beside a folder's.

mod explain;
mod replay;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::ask::{AskArgs, Elsewhere, params};
use crate::cli::changes::told;
use crate::cli::view::{Column, Is, View, fields};
use crate::cli::{CliError, Done};
use crate::policy::spec;

#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(subcommand)]
    then: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Print the policies in force, in the order in which they are asked
    List,
    /// Print one policy: its settings and its text
    Get { policy: String },
    /// Put a policy in force again
    Enable {
        policy: String,
        /// enforce (default), or shadow: what it says is noted and not done
        #[arg(long)]
        mode: Option<String>,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Take a policy out of force
    Disable {
        policy: String,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Decide the past's requests again: as they were, or by another policy, conf or prices
    Replay(replay::ReplayArgs),
    /// Where two policies would have decided the past's requests differently
    Diff(replay::DiffArgs),
    /// Why a past request got its verdict, policy by policy
    Explain(explain::ExplainArgs),
    /// Run the specs of a folder of policies (DIR/spec/*.lua)
    Test {
        /// The folder; `policies` without it
        #[arg(value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
        dir: Option<PathBuf>,
    },
}

pub const POLICIES: View = View {
    rows: "policies",
    columns: &[
        Column("POLICY", "name", Is::Text),
        Column("VERSION", "version", Is::Text),
        Column("PRIORITY", "priority", Is::Count),
        Column("MODE", "mode", Is::State),
        Column("SOURCE", "source", Is::Text),
        Column("PHASES", "phases", Is::Json),
        Column("DESCRIPTION", "description", Is::Text),
    ],
    nothing: "No policy is in force.",
    next: "",
};

pub fn run(args: PolicyArgs, elsewhere: &Elsewhere) -> Result<Done, CliError> {
    if let PolicyCommand::Test { dir } = args.then {
        elsewhere.refuse()?;
        return test(dir);
    }
    let ask = elsewhere.ask(&args.ask)?;
    match &args.then {
        PolicyCommand::Replay(args) => return replay::replay(&ask, args),
        PolicyCommand::Diff(args) => return replay::diff(&ask, args),
        PolicyCommand::Explain(args) => return explain::run(&ask, args),
        _ => {}
    }
    let told = |value: &Value| told(value, ask.style);
    let text = match args.then {
        PolicyCommand::List
        | PolicyCommand::Test { .. }
        | PolicyCommand::Replay(_)
        | PolicyCommand::Diff(_)
        | PolicyCommand::Explain(_) => ask.read("policy.list", params([]), &POLICIES)?,
        PolicyCommand::Get { policy } => {
            let given = params([("policy", policy.into())]);
            ask.read_as("policy.get", given, |value| fields(&flat(value), ask.style))?
        }
        PolicyCommand::Enable { policy, mode, note } => {
            let given = params([("policy", policy.into()), ("mode", mode.into()), ("note", note.into())]);
            ask.change("policy.enable", given, told)?
        }
        PolicyCommand::Disable { policy, note } => {
            let given = params([("policy", policy.into()), ("note", note.into())]);
            ask.change("policy.disable", given, told)?
        }
    };
    Ok(Done::well(text))
}

/// The policy's row, its settings and its text beside each other.
fn flat(result: &Value) -> Value {
    let Value::Object(mut all) = result.clone() else {
        return result.clone();
    };
    if let Some(Value::Object(row)) = all.remove("policy") {
        all.extend(row);
    }
    Value::Object(all)
}

/// The specs could not be run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SpecsError(String);

/// What came of each spec, and whether all went well. Without a folder it is `policies`.
fn test(dir: Option<PathBuf>) -> Result<Done, CliError> {
    let dir = dir.unwrap_or_else(|| PathBuf::from("policies"));
    let outcomes = spec::test_folder(&dir).map_err(|errors| {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        SpecsError(all.join("\n"))
    })?;
    let (mut report, mut file) = (String::new(), Path::new(""));
    for outcome in &outcomes {
        if outcome.file != file {
            file = &outcome.file;
            // Writing to a String cannot fail.
            let _ = writeln!(report, "{}", file.display());
        }
        let _ = match &outcome.fault {
            None => writeln!(report, "  ok    {}", outcome.spec),
            Some(fault) => writeln!(
                report,
                "  WRONG {}\n        {}",
                outcome.spec,
                fault.trim_end().replace('\n', "\n        ")
            ),
        };
    }
    let wrong = outcomes.iter().filter(|outcome| outcome.fault.is_some()).count();
    let _ = writeln!(report, "{} specs, {wrong} wrong", outcomes.len());
    Ok(Done {
        text: report,
        well: wrong == 0,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn each_spec_is_told_and_one_that_is_wrong_says_what_it_got() {
        let shipped = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies"));
        let Done { text: report, well } = test(Some(shipped)).unwrap();
        assert!(well && report.ends_with(" specs, 0 wrong\n"), "{report}");
        assert!(
            report.contains("  ok    a leaked key is refused, whatever it does\n"),
            "{report}"
        );

        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("spec")).unwrap();
        let spec = "return { policy = 'block', specs = { { name = 'hopeful', call = {}, expect = { 'allow' } } } }";
        std::fs::write(folder.path().join("spec/block.lua"), spec).unwrap();
        let Done { text: report, well } = test(Some(folder.path().to_owned())).unwrap();
        assert!(
            !well
                && report
                    .contains("  WRONG hopeful\n        expected\n          allow\n        got\n          nothing"),
            "{report}"
        );
        assert!(test(Some(folder.path().join("nowhere"))).is_err());
    }
}
