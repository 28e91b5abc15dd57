//! `agentledger mcp-wrap`: starts an MCP server in its client's place, and has the running gateway hold its tool calls. Standard
//! output is the client's alone: everything else goes to standard error.

mod printed;
mod rpc;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use ulid::Ulid;

use super::CliError;
use super::ask::{ConfigArgs, Elsewhere, Target};
use super::client::{Address, ClientError};
use super::{config, running};
use crate::config::{Config, Env, Known, Offline, ToolRefusals, is_server_name};
use crate::control::wire::ToolCaller;
use crate::fingerprints;
use crate::mcp::check_caller;
use crate::mcp::wrap::spool::Spool;
use crate::mcp::wrap::{Books, ClientEnds, LineLimits, Settings, run as run_wrapped, widen};
use crate::telemetry::logging;
use printed::{McpClient, Started};
use rpc::GatewayRpc;

#[derive(Debug, Args)]
pub struct McpWrapArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// What policies, prices and entries call the server; else mcp.stdio.server of the configuration
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// How a refused call is answered, in place of mcp.refusals: by a result that the model reads, or an error of JSON-RPC
    #[arg(long, value_name = "HOW")]
    refuse: Option<Refuse>,
    /// What becomes of calls while no gateway runs, in place of mcp.stdio.offline
    #[arg(long, value_name = "HOW")]
    offline: Option<WhenOffline>,
    /// The folder of calls that pass meanwhile, in place of mcp.stdio.spool
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    spool: Option<PathBuf>,
    /// The gateway's ledger, in place of storage.dsn; with --socket
    #[arg(long, value_name = "DIR", requires = "socket", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    ledger: Option<PathBuf>,
    /// The gateway's control socket, in place of control.socket; with --ledger
    #[arg(long, value_name = "FILE", requires = "ledger", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    socket: Option<PathBuf>,
    /// Start nothing: print the lines by which this client starts the server so
    #[arg(long, value_name = "CLIENT")]
    print_config: Option<McpClient>,
    /// The server's command, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Refuse {
    Result,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WhenOffline {
    Spool,
    Refuse,
    Pass,
}

#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    #[error("the server has no name: give --server NAME, or mcp.stdio.server in the configuration")]
    NoName,
    #[error("{0:?} is no server's name: letters, digits, '-', '_' and '.', 64 at most")]
    BadName(String),
    #[error("who calls cannot be read: {0}")]
    Caller(String),
    #[error("{command}: {error}")]
    Start { command: String, error: std::io::Error },
    #[error("{0}")]
    Logging(#[from] logging::LoggingError),
}

/// What of our own variables a server is given: who it works for, and no secrets.
const PASSED_ON: [&str; 6] = ["AGENT_ID", "SESSION_ID", "USER_ID", "TASK", "TAGS", "TENANT"];
const PREFIX: &str = "AGENTLEDGER_";

/// Runs the server to its end; what is to be printed instead, where nothing is started.
pub fn run(args: &McpWrapArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let target = target(args, elsewhere)?;
    let config = match &target {
        Target::Here(config) => Config::clone(config),
        Target::Elsewhere(_) => args.config.load()?,
    };
    let server = args.server.clone().or_else(|| config.mcp.stdio.server.clone());
    let server = server.ok_or(WrapError::NoName)?;
    if !is_server_name(&server) {
        return Err(WrapError::BadName(server).into());
    }
    let caller = caller(&Env::of_process());
    check_caller(&caller, &config.limits).map_err(WrapError::Caller)?;
    if let Some(client) = args.print_config {
        return print(args, elsewhere, client, &server, &config);
    }
    let _logs = logging::init(&config.log).map_err(WrapError::from)?;
    for warning in &config.warnings {
        tracing::debug!("{warning}");
    }
    let offline = match args.offline {
        None => config.mcp.stdio.offline,
        Some(WhenOffline::Spool) => Offline::Spool,
        Some(WhenOffline::Refuse) => Offline::Refuse,
        Some(WhenOffline::Pass) => Offline::Pass,
    };
    let spool = args.spool.clone().unwrap_or_else(|| config.spool_dir());
    let address = match target {
        Target::Here(_) => Address::socket(&config.control.socket),
        Target::Elsewhere(remote) => Address::Remote(remote),
    };
    let settings = Settings {
        server,
        caller,
        refusals: match args.refuse {
            None => config.mcp.refusals,
            Some(Refuse::Result) => ToolRefusals::Result,
            Some(Refuse::Error) => ToolRefusals::Error,
        },
        answer_timeout: config.mcp.stdio.answer_timeout,
        answer_wait: config.mcp.answer_wait,
    };
    let lines = LineLimits {
        bytes_max: usize::try_from(config.limits.body_bytes_max).unwrap_or(usize::MAX),
        long: config.mcp.stdio.long_lines,
    };
    let books = Books::new(
        GatewayRpc::new(address, config.hold.wait),
        offline,
        Spool::new(spool, fingerprints_of(&config)),
    );
    let failed = |error| WrapError::Start {
        command: args.command.first().cloned().unwrap_or_default(),
        error,
    };
    let code = client_ends()
        .and_then(|ends| run_wrapped(command(&args.command), ends, books, settings, lines))
        .map_err(failed)?;
    match code {
        0 => Ok(String::new()),
        code => Err(CliError::OfServer(code)),
    }
}

/// The gateway that holds the calls.
fn target(args: &McpWrapArgs, elsewhere: &Elsewhere) -> Result<Target, CliError> {
    let (Some(ledger), Some(socket)) = (&args.ledger, &args.socket) else {
        return elsewhere.target(&args.config);
    };
    elsewhere.refuse()?;
    let mut config = args.config.load()?;
    (config.storage.dir, config.control.socket) = (ledger.clone(), socket.clone());
    Ok(config.into())
}

/// Who calls, as the environment says it.
fn caller(env: &Env) -> ToolCaller {
    let said = |name: &str| {
        env.get(&format!("{PREFIX}{name}"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    ToolCaller {
        key: said("KEY"),
        agent: said("AGENT_ID"),
        session: said("SESSION_ID"),
        user: said("USER_ID"),
        task: said("TASK"),
        tags: said("TAGS"),
        tenant: said("TENANT"),
        // Since 2.1.154 servers are told: https://code.claude.com/docs/en/env-vars.
        claude_code_session: env.get("CLAUDE_CODE_SESSION_ID").unwrap_or_default().to_owned(),
        connection: Ulid::new().to_string(),
    }
}

/// By which keys are named in a spool. Where its secret cannot be read, they are not.
fn fingerprints_of(config: &Config) -> Option<crate::proxy::shared::rules::Fingerprints> {
    let found = fingerprints::find(config.fingerprint_secret.as_ref(), &config.storage.dir);
    found.ok().flatten().map(|found| found.fingerprints())
}

fn command(words: &[String]) -> Command {
    let (program, arguments) = words
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        let Some(ours) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        if !PASSED_ON.contains(&ours) {
            command.env_remove(&name);
        }
    }
    command
}

/// Our standard input and output, so that closing them closes them for the client.
fn client_ends() -> std::io::Result<ClientEnds> {
    let (reads, writes) = (
        File::from(std::io::stdin().as_fd().try_clone_to_owned()?),
        File::from(std::io::stdout().as_fd().try_clone_to_owned()?),
    );
    widen(&reads);
    widen(&writes);
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&nothing)?;
    nix::unistd::dup2_stdout(&nothing)?;
    Ok(ClientEnds {
        reads: Box::new(reads),
        writes: Box::new(writes),
    })
}

/// The lines for a client, and which file they go into.
fn print(
    args: &McpWrapArgs,
    elsewhere: &Elsewhere,
    client: McpClient,
    server: &str,
    config: &Config,
) -> Result<String, CliError> {
    let binary = std::env::current_exe()?;
    let mut options = match elsewhere.is_given() {
        true => elsewhere.options()?,
        false => way_here(args, config)?,
    };
    let mut option = |name: &str, value: String| options.extend([name.to_owned(), value]);
    // Clients start servers in folders of their own.
    let spool = args.spool.clone().unwrap_or_else(|| config.spool_dir());
    option("--spool", std::path::absolute(spool)?.display().to_string());
    // Lines that name no configuration say what this one says.
    let is_told = elsewhere.is_given();
    let refuse = args.refuse.or(is_told.then_some(match config.mcp.refusals {
        ToolRefusals::Result => Refuse::Result,
        ToolRefusals::Error => Refuse::Error,
    }));
    let offline = args.offline.or(is_told.then_some(match config.mcp.stdio.offline {
        Offline::Spool => WhenOffline::Spool,
        Offline::Refuse => WhenOffline::Refuse,
        Offline::Pass => WhenOffline::Pass,
    }));
    for (name, value) in [
        ("--refuse", refuse.and_then(|how| how.to_possible_value())),
        ("--offline", offline.and_then(|how| how.to_possible_value())),
    ] {
        if let Some(value) = value {
            option(name, value.get_name().to_owned());
        }
    }
    let env = Env::of_process();
    let named = PASSED_ON.iter().map(|name| format!("{PREFIX}{name}"));
    let said = named.filter_map(|name| Some((name.clone(), env.get(&name)?.to_owned())));
    let binary = binary.display().to_string();
    let started = Started {
        server,
        binary: &binary,
        options: &options,
        command: &args.command,
        env: &said.collect::<Vec<_>>(),
    };
    Ok(printed::text(client, &started, elsewhere.takes_variable()))
}

/// The options that lead to this machine's gateway from any folder. Relative paths of a configuration are by the folder of whoever
/// reads it.
fn way_here(args: &McpWrapArgs, config: &Config) -> Result<Vec<String>, CliError> {
    let (_, found) = config::load(args.config.path(), &Env::of_process(), &Known::undecided())?;
    let file = match found {
        Some(file) => Some(std::path::absolute(file)?),
        None => running_file(config),
    };
    let mut options = Vec::new();
    if let Some(file) = &file {
        options.extend(["--config".to_owned(), file.display().to_string()]);
    }
    // As it is read there: without this environment, in another folder.
    let there = file.and_then(|file| config::load(Some(&file), &Env::default(), &Known::undecided()).ok());
    let places = [&config.storage.dir, &config.control.socket];
    let leads = there.is_some_and(|(there, _)| {
        let found = [&there.storage.dir, &there.control.socket];
        found == places && places.iter().all(|place| place.is_absolute())
    });
    if !leads {
        for (name, place) in ["--ledger", "--socket"].into_iter().zip(places) {
            options.extend([name.to_owned(), std::path::absolute(place)?.display().to_string()]);
        }
    }
    Ok(options)
}

/// The configuration of the running gateway that is meant.
fn running_file(config: &Config) -> Option<PathBuf> {
    let socket = std::path::absolute(&config.control.socket).ok()?;
    let running = running::find().into_iter().find(|running| running.socket == socket)?;
    running.config
}

impl From<WrapError> for CliError {
    fn from(error: WrapError) -> CliError {
        match error {
            error @ (WrapError::NoName | WrapError::BadName(_) | WrapError::Caller(_)) => {
                ClientError::Usage(error.to_string()).into()
            }
            error => CliError::Wrap(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn who_calls_is_what_the_environment_says() {
        let env = Env::of([
            ("AGENTLEDGER_KEY", "sk-1"),
            ("AGENTLEDGER_AGENT_ID", "a"),
            ("AGENTLEDGER_SESSION_ID", " s "),
            ("AGENTLEDGER_TASK", "t"),
        ]);
        let caller = caller(&env);
        let said = [&caller.key, &caller.agent, &caller.session, &caller.user, &caller.task];
        assert_eq!(said, ["sk-1", "a", "s", "", "t"]);
        assert_eq!(caller.connection.len(), 26);
    }

    #[test]
    fn each_client_is_told_its_own_lines() {
        let words = ["npx".to_owned(), "-y".to_owned(), "server".to_owned()];
        let started = Started {
            server: "files",
            binary: "/opt/agentledger",
            options: &["--spool".to_owned(), "/var/spool/a".to_owned()],
            command: &words,
            env: &[("AGENTLEDGER_AGENT_ID".to_owned(), "a".to_owned())],
        };
        for client in McpClient::value_variants() {
            let lines: serde_json::Value = serde_json::from_str(&printed::lines(*client, &started)).unwrap();
            let member = if *client == McpClient::Vscode {
                "servers"
            } else {
                "mcpServers"
            };
            let entry = &lines[member]["files"];
            assert_eq!(entry["command"], "/opt/agentledger", "{client:?}");
            assert_eq!(
                entry["args"],
                serde_json::json!([
                    "mcp-wrap",
                    "--server",
                    "files",
                    "--spool",
                    "/var/spool/a",
                    "--",
                    "npx",
                    "-y",
                    "server"
                ])
            );
            assert_eq!(entry["env"]["AGENTLEDGER_AGENT_ID"], "a");
            assert_eq!(entry.get("type").is_some(), *client == McpClient::Vscode);
        }
    }
}
