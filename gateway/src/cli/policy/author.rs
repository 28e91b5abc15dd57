//! What a policy's author needs, on this machine alone: `check`, `test`, `new` and `eval`.

use std::path::PathBuf;

use clap::Subcommand;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::{check, eval, new, test};
use crate::cli::form::FormArgs;
use crate::cli::{CliError, Done};
use crate::policy::PolicyError;

#[derive(Debug, Subcommand)]
pub enum AuthorCommand {
    /// Check policy files and folders of them: syntax, schema, names, intents, and a conf
    Check {
        /// Files and folders; `policies` without any
        #[arg(value_name = "FILE|DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
        paths: Vec<PathBuf>,
        /// A conf for the one policy that is named, YAML or JSON
        #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
        conf: Option<PathBuf>,
    },
    /// Run the specs of a folder of policies (DIR/spec/*.lua)
    Test(test::TestArgs),
    /// Write a policy and its spec to begin from
    New {
        name: String,
        /// The folder
        #[arg(long, default_value = "policies", value_parser = OsStringValueParser::new().map(PathBuf::from))]
        dir: PathBuf,
    },
    /// Ask one policy about one call, without a gateway
    Eval(eval::EvalArgs),
}

impl AuthorCommand {
    pub fn run(self, format: FormArgs) -> Result<Done, CliError> {
        match self {
            AuthorCommand::Check { paths, conf } => check::run(paths, conf.as_deref(), format),
            AuthorCommand::Test(args) => test::run(args, format),
            AuthorCommand::New { name, dir } => new::run(&name, &dir, format),
            AuthorCommand::Eval(args) => eval::run(args, format),
        }
    }
}

/// Why a policy could not be checked, tested, made or asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AuthoringError(pub(super) String);

impl AuthoringError {
    pub(super) fn of(errors: &[PolicyError]) -> AuthoringError {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        AuthoringError(all.join("\n"))
    }
}
