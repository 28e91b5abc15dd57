//! The commands: what each takes, and where its work is. Results go to standard output, errors to standard error with
//! exit code 1.

pub mod budgets;
pub mod check;
pub mod client;
mod clock;
pub mod costs;
mod demo;
pub mod export;
pub mod healthcheck;
pub mod holds;
pub mod policy;
pub mod prices;
pub mod serve;
pub mod sessions;
pub mod table;
pub mod verify;
pub mod version;

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{self, Config, ConfigErrors, Env, Known};
use crate::launch::LaunchError;
use client::ClientError;
use costs::{CostsError, CostsQuery};
use export::ExportError;
use serve::ServeCommandError;
use verify::VerifyError;

/// Meters every token between AI agents and LLM providers, and holds every dollar before it is spent.
#[derive(Debug, Parser)]
#[command(name = "agentledger", disable_help_subcommand = false)]
struct Root {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground
    Serve(ServeArgs),
    /// Show the main job without a key and without a network
    Demo,
    /// Print what was spent as a table
    Costs(CostsArgs),
    /// Write sums, or every entry, to standard output
    Export(ExportArgs),
    /// Print what accounts with a limit have spent, hold and have left
    Budgets(BudgetsArgs),
    /// Print open holds, or why one is as it is
    Holds(HoldsArgs),
    /// Print sessions, or end one
    Sessions(SessionsArgs),
    /// Show how the machine's clock stands to the ledger, or accept it
    Clock(ClockArgs),
    /// Check the ledger for damage
    Verify(VerifyArgs),
    /// Check a configuration and everything it names
    Check(ConfigArgs),
    /// The price book: its rows, what is wrong with it, what the past would cost at other prices
    #[command(subcommand)]
    Prices(prices::PricesCommand),
    /// Work on policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Print the version
    Version,
    /// Ask a running gateway whether it is well
    #[command(hide = true)]
    Healthcheck(HealthcheckArgs),
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Run the specs of a folder of policies (DIR/spec/*.lua)
    Test {
        /// The folder; `policies` without it
        #[arg(value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// Configuration file; without it the first found of ./agentledger.yaml, ./configs/agentledger.yaml,
    /// ~/.config/agentledger/agentledger.yaml, /etc/agentledger/agentledger.yaml
    #[arg(short, long, value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Give every key a new name, with budgets that start anew: where fingerprint.key is lost for good
    #[arg(long)]
    new_fingerprints: bool,
}

#[derive(Debug, Args)]
struct QueryArgs {
    /// How far back: days (30d) or a duration (90m, 1h30m)
    #[arg(long, value_name = "TIME")]
    last: Option<String>,
    /// One tenant only
    #[arg(long, default_value = "")]
    tenant: String,
}

#[derive(Debug, Args)]
struct CostsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// model, provider, key, agent, session, user, task, tenant, team, feature, project, cost_centre, page or tag:NAME; any other
    /// word means model
    #[arg(long, default_value = "model")]
    by: String,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// model, provider, key, agent, session, user, task, tenant, tag:NAME, or entry for every single entry; any other word
    /// means model
    #[arg(long, default_value = "model")]
    by: String,
    /// csv (default) or json; jsonl with --by entry
    #[arg(short, long, default_value = "", hide_default_value = true)]
    format: String,
}

#[derive(Debug, Args)]
struct BudgetsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Accounts that begin so, such as key: or agent:crawler, with a limit or without
    #[arg(long, default_value = "", hide_default_value = true)]
    account: String,
    /// minute, hour, day, week, month or total
    #[arg(long, default_value = "", hide_default_value = true)]
    window: String,
    /// Also accounts without a limit
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct HoldsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The hold to explain, by its id or its exchange's
    id: Option<String>,
}

#[derive(Debug, Args)]
struct SessionsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    query: QueryArgs,
    /// active, completed or killed
    #[arg(long, default_value = "", hide_default_value = true)]
    status: String,
    /// Lines at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(subcommand)]
    then: Option<SessionCommand>,
}

#[derive(Debug, Args)]
struct ClockArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    then: Option<ClockCommand>,
}

#[derive(Debug, Subcommand)]
enum ClockCommand {
    /// The machine's clock is right, however far it is from the ledger's last decision
    Accept(ConfigArgs),
}

#[derive(Debug, Subcommand)]
enum SessionCommand {
    /// Refuse the session's calls from now on, and cut those that run
    Kill(SessionArgs),
    /// Mark the session as completed; a further call takes it up again
    End(SessionArgs),
}

#[derive(Debug, Args)]
struct SessionArgs {
    #[command(flatten)]
    config: ConfigArgs,
    id: String,
    /// One tenant's session only
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A head of the journal that was kept elsewhere, to compare
    #[arg(long, value_name = "HEAD")]
    expect: Option<String>,
}

#[derive(Debug, Args)]
struct HealthcheckArgs {
    /// Where the gateway listens
    #[arg(long, default_value = "localhost:8787")]
    addr: String,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Launch(LaunchError),
    #[error("{0}")]
    Serve(ServeCommandError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{0}")]
    Costs(#[from] CostsError),
    #[error("{0}")]
    Export(ExportError),
    #[error("{0}")]
    Verify(#[from] VerifyError),
    #[error("{0}")]
    Prices(#[from] prices::PricesError),
    #[error("{0}")]
    Specs(#[from] policy::SpecsError),
    #[error("{0}")]
    Unwell(#[from] healthcheck::Unwell),
    #[error("{0}")]
    Demo(#[from] demo::DemoError),
    #[error("writing: {0}")]
    Write(#[from] io::Error),
    /// What is wrong was printed already.
    #[error("")]
    Told,
}

impl From<LaunchError> for CliError {
    fn from(error: LaunchError) -> CliError {
        match error {
            LaunchError::Config(errors) => CliError::Config(errors),
            other => CliError::Launch(other),
        }
    }
}

impl From<ServeCommandError> for CliError {
    fn from(error: ServeCommandError) -> CliError {
        match error {
            ServeCommandError::Launch(launch) => launch.into(),
            other => CliError::Serve(other),
        }
    }
}

impl From<ExportError> for CliError {
    fn from(error: ExportError) -> CliError {
        match error {
            ExportError::Write(write) => CliError::Write(write),
            other => CliError::Export(other),
        }
    }
}

/// The process's whole work.
pub fn main() -> ExitCode {
    let root = match Root::try_parse() {
        Ok(root) => root,
        Err(error) => {
            // Nothing can be done where even this cannot be printed.
            let _ = error.print();
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked_for {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
    };
    match run(root.command) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe went away: it has what it wanted.
        Err(CliError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

fn tell(error: &CliError) {
    let text = match error {
        CliError::Told => return,
        // Each line begins with its place already.
        CliError::Config(errors) => errors.to_string(),
        other => format!("Error: {other}"),
    };
    let _ = writeln!(io::stderr(), "{text}");
}

fn run(command: Option<Command>) -> Result<(), CliError> {
    match command {
        None => print(&Root::command().render_help().to_string()),
        Some(Command::Serve(args)) => Ok(serve::run(args.config.path(), args.new_fingerprints)?),
        Some(Command::Demo) => Ok(demo::run()?),
        Some(Command::Costs(args)) => print(&costs::run(&args.config.load()?, &args.query.by(args.by))?),
        Some(Command::Export(args)) => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            export::run(&args.config.load()?, &args.query.by(args.by), &args.format, &mut out)?;
            Ok(out.flush()?)
        }
        Some(Command::Budgets(args)) => print(&budgets::run(&args.config.load()?, args.query())?),
        Some(Command::Holds(args)) => {
            let config = args.config.load()?;
            print(&match args.id {
                Some(id) => holds::explain(&config, &id)?,
                None => holds::list(&config)?,
            })
        }
        Some(Command::Sessions(args)) => print(&sessions(args)?),
        Some(Command::Clock(args)) => print(&match args.then {
            None => clock::show(&args.config.load()?)?,
            // `-c` may stand before the word or after it.
            Some(ClockCommand::Accept(own)) if own.path().is_some() => clock::accept(&own.load()?)?,
            Some(ClockCommand::Accept(_)) => clock::accept(&args.config.load()?)?,
        }),
        Some(Command::Verify(args)) => {
            let (report, ok) = verify::run(&args.config.load()?, args.expect.as_deref())?;
            print(&report)?;
            if ok { Ok(()) } else { Err(CliError::Told) }
        }
        Some(Command::Check(args)) => print(&check::run(args.path(), &Env::of_process())?),
        Some(Command::Prices(command)) => {
            let (report, ok) = prices::run(command)?;
            print(&report)?;
            if ok { Ok(()) } else { Err(CliError::Told) }
        }
        Some(Command::Policy(PolicyCommand::Test { dir })) => {
            let (report, ok) = policy::test(dir)?;
            print(&report)?;
            if ok { Ok(()) } else { Err(CliError::Told) }
        }
        Some(Command::Version) => print(&version::text()),
        Some(Command::Healthcheck(args)) => {
            healthcheck::run(&args.addr)?;
            print("ok\n")
        }
    }
}

fn sessions(args: SessionsArgs) -> Result<String, CliError> {
    let (one, kill) = match args.then {
        None => {
            let query = sessions::SessionsQuery {
                last: args.query.last.as_deref(),
                status: &args.status,
                tenant: &args.query.tenant,
                limit: args.limit,
            };
            return Ok(sessions::list(&args.config.load()?, &query)?);
        }
        Some(SessionCommand::Kill(one)) => (one, true),
        Some(SessionCommand::End(one)) => (one, false),
    };
    // `-c` may stand before the word or after it.
    let config = if one.config.path().is_some() {
        &one.config
    } else {
        &args.config
    };
    Ok(sessions::end(&config.load()?, &one.id, one.tenant.as_deref(), kill)?)
}

/// Prints a finished text; unlike `print!` a closed pipe is an error here and no panic.
fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

impl ConfigArgs {
    /// An empty path is none, as in the contract.
    fn path(&self) -> Option<&Path> {
        self.config.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// For commands that serve nothing: which providers could be served is of no concern to them.
    fn load(&self) -> Result<Config, CliError> {
        Ok(config::load(self.path(), &Env::of_process(), &Known::undecided())?.0)
    }
}

impl BudgetsArgs {
    fn query(&self) -> budgets::BudgetsQuery<'_> {
        budgets::BudgetsQuery {
            account: &self.account,
            window: &self.window,
            all: self.all,
        }
    }
}

impl QueryArgs {
    fn by(self, by: String) -> CostsQuery {
        CostsQuery {
            last: self.last,
            by,
            tenant: self.tenant,
        }
    }
}
