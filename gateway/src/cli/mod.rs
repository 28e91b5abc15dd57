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
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{self, Config, ConfigErrors, Env, Known};
use crate::launch::VERSION;

/// A gateway between AI agents and LLM providers: every token metered, every dollar held before it is spent.
#[derive(Debug, Parser)]
#[command(name = "agentledger", disable_version_flag = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
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
    #[arg(short, long, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CostsFlags {
    #[command(flatten)]
    config: ConfigFlag,
    /// How far back: 90m, 24h, 7d.
    #[arg(long, default_value = "24h")]
    last: String,
    /// model, provider, key, agent, session, user, tenant.
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

impl ConfigFlag {
    /// An empty path is none, as in the contract.
    fn path(&self) -> Option<&Path> {
        self.config.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// What the clients of a gateway need to find it. They serve nothing: plugins and price books are no concern of theirs.
    fn load(&self) -> Result<Config, Failure> {
        Ok(config::load(self.path(), &Env::of_process(), &Known::undecided())?.0)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// Its text for stderr, whole.
    Told(String),
    /// The reader of our output went away (`| head`): it has what it wanted.
    NotRead,
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(one) = cause {
            // Each of these lines begins with its place, for editors to jump to.
            if let Some(errors) = one.downcast_ref::<ConfigErrors>() {
                return Failure::Told(errors.to_string());
            }
            if one
                .downcast_ref::<std::io::Error>()
                .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
            {
                return Failure::NotRead;
            }
            cause = one.source();
        }
        Failure::Told(format!("Error: {error}"))
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout; a mistake goes to stderr and ends with 1 like every error, not with clap's 2.
            let _ = error.print();
            return if error.kind() == ErrorKind::DisplayHelp {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(Failure::NotRead) => ExitCode::SUCCESS,
        Err(Failure::Told(text)) => {
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Option<Command>) -> Result<ExitCode, Failure> {
    let Some(command) = command else {
        print(&Cli::command().render_help().to_string())?;
        return Ok(ExitCode::SUCCESS);
    };
    match command {
        Command::Serve(flag) => serve::run(flag.path())?,
        Command::Demo => crate::demo::run()?,
        Command::Costs(flags) => {
            let asked = costs::Asked {
                last: Some(flags.last),
                by: flags.by,
                tenant: flags.tenant,
            };
            print(&costs::run(&flags.config.load()?, &asked)?)?;
        }
        Command::Export(flags) => {
            let asked = costs::Asked {
                last: flags.last,
                by: flags.by,
                tenant: flags.tenant,
            };
            let config = flags.config.load()?;
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            export::run(&config, &asked, &flags.format, &mut out)?;
            out.flush()?;
        }
        Command::Budgets(flags) => {
            print(&budgets::run(&flags.config.load()?, &flags.account, &flags.window)?)?;
        }
        Command::Holds(flags) => {
            let config = flags.config.load()?;
            print(&match flags.explain {
                Some(id) => holds::explain(&config, &id)?,
                None => holds::list(&config)?,
            })?;
        }
        Command::Verify(flags) => {
            let (report, good) = verify::run(&flags.config.load()?, flags.expect.as_deref())?;
            print(&report)?;
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Check(flag) => print(&check::run(flag.path(), &Env::of_process())?)?,
        Command::Healthcheck { addr } => print(&healthcheck::run(&addr)?)?,
        Command::Version => print(&format!("agentledger {VERSION}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
