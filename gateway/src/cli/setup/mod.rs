//! `agentledger setup`: what a client needs to send its requests here, printed, or put into the client's own configuration.
//!
//! Keys stay where they are: none is read, and none is written.

mod clients;
mod json;
mod put;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::CliError;
use super::announce;
use super::ask::{ConfigArgs, Elsewhere, Target};
use super::client::ClientError;
use super::form::FormArgs;
use super::running;
use crate::config::{Config, Env};
use clients::Client;
use put::Put;

#[derive(Debug, Args)]
pub struct SetupArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    format: FormArgs,
    /// Whose configuration
    client: Name,
    /// Put it into the client's own configuration; what is there is kept, and a copy of the file as it was
    #[arg(long)]
    write: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Claude Code
    Claude,
    /// Codex
    Codex,
    /// Gemini CLI
    Gemini,
    /// Cursor
    Cursor,
    /// opencode
    Opencode,
}

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{path}: {text}\nNothing was changed. These are the lines:\n\n{lines}", path = path.display())]
    Unreadable { path: PathBuf, text: String, lines: String },
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("there is no home folder: HOME is not set")]
    NoHome,
    #[error("Cursor keeps this in its application's own store: enter it in its settings\n\n{0}")]
    ByHand(String),
}

pub fn run(args: &SetupArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let target = elsewhere.target(&args.config)?;
    let gateway = Gateway::of(&target)?;
    let env = Env::of_process();
    let client = match args.client {
        Name::Claude => clients::claude(&gateway, &env),
        Name::Codex => clients::codex(&gateway, &env),
        Name::Gemini => clients::gemini(&gateway, &env),
        Name::Cursor => clients::cursor(&gateway),
        Name::Opencode => clients::opencode(&gateway, &env),
    }?;
    let written = args.write.then(|| write(&client)).transpose()?;
    let result = json!({
        "lines": client.lines,
        "file": client.file.as_ref().map(|(file, _)| file.display().to_string()),
        "environment": client.environment,
        "written": written,
        "warnings": client.warnings,
    });
    Ok(args.format.one(&result, || {
        let warnings = client.warnings.iter().map(|warning| format!("\nwarning: {warning}\n"));
        written.clone().unwrap_or_else(|| printed(&client)) + &warnings.collect::<String>()
    }))
}

/// The gateway that the client is to send its requests to.
struct Gateway {
    /// Without a slash at its end.
    url: String,
    /// What it serves, where that is known.
    config: Option<Config>,
}

impl Gateway {
    fn of(target: &Target) -> Result<Gateway, ClientError> {
        match target {
            Target::Elsewhere(remote) => Ok(Gateway {
                url: remote.base_url(),
                config: None,
            }),
            Target::Here(config) => {
                let socket = std::path::absolute(&config.control.socket).unwrap_or_default();
                // Where it listens says best who runs: its configuration may leave the port to the system.
                let running = running::find().into_iter().find(|running| running.socket == socket);
                let url = match running {
                    Some(running) => running.url,
                    None => announce::configured_url(config)
                        .ok_or_else(|| ClientError::Usage("no gateway runs here, and its configuration leaves the port open: start it (agentledger serve)".to_owned()))?,
                };
                Ok(Gateway {
                    url,
                    config: Some(Config::clone(config)),
                })
            }
        }
    }

    /// Whether it serves a provider; one elsewhere may.
    fn serves(&self, provider: &str) -> bool {
        let serves = |config: &Config| config.providers.iter().any(|known| known.name == provider);
        self.config.as_ref().is_none_or(serves)
    }
}

fn printed(client: &Client) -> String {
    let where_to = client
        .file
        .as_ref()
        .map(|(file, _)| format!("In {}:\n\n", file.display()));
    let once = client
        .environment
        .as_ref()
        .map(|line| format!("\nOr for one run:\n\n  {line}\n"));
    format!(
        "{}{}{}",
        where_to.unwrap_or_default(),
        indented(&client.lines),
        once.unwrap_or_default()
    )
}

fn indented(lines: &str) -> String {
    lines
        .lines()
        .map(|line| format!("  {line}").trim_end().to_owned() + "\n")
        .collect()
}

fn write(client: &Client) -> Result<String, SetupError> {
    let Some((file, change)) = &client.file else {
        return Err(SetupError::ByHand(indented(&client.lines)));
    };
    Ok(match put::put(file, change, &client.lines)? {
        Put::AsItWas => format!("{}: is so already\n", file.display()),
        Put::New => format!("{}: written\n", file.display()),
        Put::Changed(copy) => format!("{}: changed; as it was: {}\n", file.display(), copy.display()),
    })
}

/// A folder that a variable names, else one in the home folder.
fn folder(env: &Env, variable: &str, at_home: &str) -> Result<PathBuf, SetupError> {
    let given = |name: &str| env.get(name).filter(|given| !given.is_empty());
    match given(variable) {
        Some(given) => Ok(PathBuf::from(given)),
        None => given("HOME")
            .map(|home| Path::new(home).join(at_home))
            .ok_or(SetupError::NoHome),
    }
}
