//! `agentledger policy eval`: asks one policy about one call, without a gateway.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde_json::{Value, json};

use super::author::AuthoringError;
use super::check::{conf_of, source_at};
use crate::cli::form::FormArgs;
use crate::cli::{CliError, Done};
use crate::files;
use crate::policy::eval::{Evaluated, Question, evaluate};

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The policy
    #[arg(value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    file: PathBuf,
    /// Facts of the call, JSON: {"agent": "coder"}; @FILE reads them from a file. What is left out is as on an ordinary call
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    call: String,
    /// The policy's conf, YAML or JSON
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    conf: Option<PathBuf>,
    /// What an account has spent; of one named by its kind alone (agent, tag:team) the call's own. May be repeated
    #[arg(long, value_name = "ACCOUNT:WINDOW[:UNIT]=AMOUNT")]
    spent: Vec<String>,
    /// What is held on an account. May be repeated
    #[arg(long, value_name = "ACCOUNT[:UNIT]=AMOUNT")]
    held: Vec<String>,
}

pub fn run(args: EvalArgs, format: FormArgs) -> Result<Done, CliError> {
    let source = source_at(&args.file)?;
    let text = match args.call.strip_prefix('@') {
        Some(file) => files::read_text(Path::new(file), files::TEXT_BYTES_MAX)
            .map_err(|error| AuthoringError(format!("{file}: {error}")))?,
        None => args.call,
    };
    let call = serde_json::from_str(&text).map_err(|error| AuthoringError(format!("--call is no JSON: {error}")))?;
    let question = Question {
        call,
        conf: args.conf.as_deref().map(conf_of).transpose()?,
        spent: args.spent,
        held: args.held,
    };
    let evaluated = evaluate(&source, &question).map_err(AuthoringError)?;
    let Evaluated {
        words,
        assumed,
        verdict,
    } = &evaluated;
    let result = json!({"words": words, "verdict": verdict, "assumed": assumed});
    Ok(Done::well(format.one(&result, || report(&evaluated))))
}

fn report(evaluated: &Evaluated) -> String {
    let mut text: String = evaluated.words.iter().map(|line| format!("{line}\n")).collect();
    if evaluated.words.is_empty() {
        text.push_str("nothing is asked for: the call goes on\n");
    }
    let reads = evaluated.verdict.get("reads").and_then(Value::as_array);
    for read in reads.into_iter().flatten() {
        let said = |name: &str| match read.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        let what = match said("window").as_str() {
            "" => format!("held of {}", said("account")),
            window => format!("spent of {} in the {window}", said("account")),
        };
        let _ = writeln!(text, "read     {what}: {} {}", said("value"), said("unit"));
    }
    let assumed: Vec<String> = evaluated
        .assumed
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let _ = writeln!(text, "assumed  {}", assumed.join(", "));
    text
}
