//! `agentledger policy`: which are in force, how to turn one off; and what their authors need, without a gateway.

mod author;
mod check;
mod eval;
mod explain;
mod new;
mod replay;
mod test;
mod versions;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::ask::{AskArgs, Elsewhere, params};
use crate::cli::changes::told;
use crate::cli::view::{Column, Is, View, fields};
use crate::cli::{CliError, Done};
use author::AuthorCommand;
pub use author::AuthoringError;
use versions::VersionsCommand;

#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(subcommand)]
    then: AnyCommand,
}

#[derive(Debug, Subcommand)]
enum AnyCommand {
    #[command(flatten)]
    Gateway(PolicyCommand),
    #[command(flatten)]
    Author(AuthorCommand),
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Print the policies in force, in the order in which they are asked
    List,
    /// Print one policy: its settings and its text; NAME@HASH is a version of the store
    Get {
        #[arg(value_name = "NAME[@HASH]")]
        policy: String,
    },
    #[command(flatten)]
    Versions(VersionsCommand),
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
}

pub const POLICIES: View = View {
    rows: "policies",
    columns: &[
        Column("POLICY", "name", Is::Text),
        Column("VERSION", "version", Is::Text),
        Column("PRIORITY", "priority", Is::Count),
        Column("MODE", "mode", Is::State),
        Column("SOURCE", "source", Is::Text),
        Column("OVERRIDDEN", "overridden", Is::Text),
        Column("IN SHADOW", "in_shadow", Is::Text),
        Column("PHASES", "phases", Is::Json),
        Column("DESCRIPTION", "description", Is::Text),
    ],
    nothing: "No policy is in force.",
    next: "",
};

pub fn run(args: PolicyArgs, elsewhere: &Elsewhere) -> Result<Done, CliError> {
    let then = match args.then {
        AnyCommand::Gateway(then) => then,
        AnyCommand::Author(command) => {
            elsewhere.refuse()?;
            return command.run(args.ask.format);
        }
    };
    let ask = elsewhere.ask(&args.ask)?;
    let told = |value: &Value| told(value, ask.style);
    let text = match then {
        PolicyCommand::Replay(args) => return replay::replay(&ask, &args),
        PolicyCommand::Diff(args) => return replay::diff(&ask, &args),
        PolicyCommand::Explain(args) => return explain::run(&ask, &args),
        PolicyCommand::List => ask.read("policy.list", params([]), &POLICIES)?,
        PolicyCommand::Get { policy } => {
            let (name, hash) = versions::named(&policy);
            let given = params([("policy", name.into()), ("version", hash.into())]);
            ask.read_as("policy.get", given, |value| fields(&flat(value), ask.style))?
        }
        PolicyCommand::Versions(command) => versions::run(command, &ask)?,
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
