//! The commands: `agentledger <command>`. Each prints to stdout; an error goes to stderr and exits with 1.

pub mod budgets;
pub mod check;
pub mod client;
pub mod costs;
pub mod export;
pub mod healthcheck;
pub mod holds;
pub mod serve;
pub mod table;
pub mod verify;

#[cfg(test)]
mod command_tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Env, Known};
use crate::launch::VERSION;

/// A gateway between AI agents and LLM providers: every token metered, every dollar held before it is spent.
#[derive(Debug, Parser)]
#[command(name = "agentledger", disable_version_flag = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway in the foreground.
    Serve(ConfigFlag),
    /// Shows the main job with no API key and no network.
    Demo,
    /// What was spent, as a table.
    Costs(CostsFlags),
    /// What was spent, as CSV or JSON; single entries with `--by entry`.
    Export(ExportFlags),
    /// What is spent, held and left of each budget.
    Budgets(BudgetsFlags),
    /// Holds of running requests; one of them in full.
    Holds(HoldsFlags),
    /// Walks the journal and its hash chain.
    Verify(VerifyFlags),
    /// Checks a configuration and everything it names: all faults at once.
    Check(ConfigFlag),
    /// Asks a running gateway whether it is up.
    #[command(hide = true)]
    Healthcheck {
        #[arg(long, default_value = "localhost:8787")]
        addr: String,
    },
    /// Prints the version.
    Version,
}

#[derive(Debug, Args)]
struct ConfigFlag {
    /// Configuration file; else the first found of the usual places.
    #[arg(short, long)]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CostsFlags {
    #[command(flatten)]
    config: ConfigFlag,
    /// How far back: 90m, 24h, 7d.
    #[arg(long, default_value = "24h")]
    last: String,
    /// model, provider, key, agent, session, user, tag:NAME.
    #[arg(long, default_value = "model")]
    by: String,
    #[arg(long, default_value = "")]
    tenant: String,
}

#[derive(Debug, Args)]
struct ExportFlags {
    #[command(flatten)]
    config: ConfigFlag,
    /// How far back: 24h, 30d. 30d for sums, everything for entries.
    #[arg(long)]
    last: Option<String>,
    /// As in `costs`; `entry` for single entries.
    #[arg(long, default_value = "model")]
    by: String,
    #[arg(long, default_value = "")]
    tenant: String,
    /// csv or json; jsonl for entries.
    #[arg(short, long, default_value = "")]
    format: String,
}

#[derive(Debug, Args)]
struct BudgetsFlags {
    #[command(flatten)]
    config: ConfigFlag,
    /// Only accounts that begin so: `key:`, `tenant:acme`.
    #[arg(long, default_value = "")]
    account: String,
    /// Only this window: day, month, total.
    #[arg(long, default_value = "")]
    window: String,
}

#[derive(Debug, Args)]
struct HoldsFlags {
    #[command(flatten)]
    config: ConfigFlag,
    /// Explains one hold: its bounds, why it has its size, since when.
    #[arg(long)]
    explain: Option<String>,
}

#[derive(Debug, Args)]
struct VerifyFlags {
    #[command(flatten)]
    config: ConfigFlag,
    /// A head kept elsewhere, which the journal must contain.
    #[arg(long)]
    expect: Option<String>,
}

/// Why a command failed: its text for stderr.
#[derive(Debug)]
pub struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(Failure(text)) => {
            let _ = writeln!(std::io::stderr(), "Error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(flag) => serve::run(flag.config.as_deref())?,
        Command::Demo => crate::demo::run()?,
        Command::Costs(flags) => {
            let asked = costs::Asked { last: Some(flags.last), by: flags.by, tenant: flags.tenant };
            print(&costs::run(&load(flags.config.config.as_deref())?, &asked)?)?;
        }
        Command::Export(flags) => {
            let asked = costs::Asked { last: flags.last, by: flags.by, tenant: flags.tenant };
            let config = load(flags.config.config.as_deref())?;
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            export::run(&config, &asked, &flags.format, &mut out)?;
        }
        Command::Budgets(flags) => {
            print(&budgets::run(&load(flags.config.config.as_deref())?, &flags.account, &flags.window)?)?;
        }
        Command::Holds(flags) => {
            let config = load(flags.config.config.as_deref())?;
            print(&match flags.explain {
                Some(id) => holds::explain(&config, &id)?,
                None => holds::list(&config)?,
            })?;
        }
        Command::Verify(flags) => {
            let (report, good) = verify::run(&load(flags.config.config.as_deref())?, flags.expect.as_deref())?;
            print(&report)?;
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Check(flag) => print(&check::run(flag.config.as_deref())?)?,
        Command::Healthcheck { addr } => print(&healthcheck::run(&addr)?)?,
        Command::Version => print(&format!("agentledger {VERSION}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the clients of a gateway need to find it: the configuration, its plugins not loaded.
fn load(path: Option<&Path>) -> Result<Config, Failure> {
    Ok(config::load(path, &Env::of_process(), &Known::built_in())?.0)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that has seen enough (`| head`) is no error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
