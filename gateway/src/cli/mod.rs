//! The commands: one file each, in which stand what it takes and what it does. Results go to standard output, errors and
//! progress to standard error; the exit codes are in [`error`].

mod alerts;
mod aliases;
mod announce;
mod ask;
pub mod audit;
pub mod backup;
pub mod budgets;
mod changes;
pub mod check;
pub mod client;
mod clock;
pub mod costs;
mod dashboard;
mod demo;
mod denials;
mod error;
pub mod export;
mod form;
mod guide;
pub mod healthcheck;
pub mod holds;
pub mod import;
mod keys;
mod mcp_wrap;
mod overview;
pub mod policy;
pub mod prices;
mod progress;
mod providers;
mod rates;
mod rpc;
mod rules;
mod running;
pub mod serve;
pub mod sessions;
mod settings;
mod setup;
mod shell;
mod style;
pub mod table;
mod tail;
mod tenants;
mod top;
pub mod verify;
pub mod version;
mod view;

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{self, Env};
use crate::launch;
use ask::{AskArgs, ConfigArgs, Elsewhere};
pub use error::CliError;
use form::FormArgs;
use style::{Style, Tone};

/// Meters every token between AI agents and LLM providers, and holds every dollar before it is spent.
#[derive(Debug, Parser)]
#[command(name = "agentledger", disable_help_subcommand = false)]
struct Root {
    #[command(flatten, next_help_heading = "A gateway elsewhere")]
    elsewhere: Elsewhere,
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
    Costs(costs::CostsArgs),
    /// Print what was spent over time
    Series(overview::SeriesArgs),
    /// Write sums, or every entry, to standard output
    Export(export::ExportArgs),
    /// Print what happens, as it happens
    Tail(tail::TailArgs),
    /// Watch the running gateway: what is spent, sessions, holds, budgets and alerts, live in the terminal
    Top(top::TopArgs),
    /// Print what accounts with a limit have spent, hold and have left; set a limit, or grant more for a while
    Budgets(budgets::BudgetsArgs),
    /// Set how much may pass in a while
    Rates(rates::RatesArgs),
    /// Print and change rules while traffic runs
    Rules(rules::RulesArgs),
    /// Print keys, block one
    Keys(keys::KeysArgs),
    /// Print tenants, say which keys are theirs
    Tenants(tenants::TenantsArgs),
    /// Print open holds, or why one is as it is; end one
    Holds(holds::HoldsArgs),
    /// Print which requests rules refused, by code and account
    Denials(denials::DenialsArgs),
    /// Print sessions, or end one
    Sessions(sessions::SessionsArgs),
    /// Print providers, take one out of service
    Providers(providers::ProvidersArgs),
    /// Print policies, turn one off, run specs
    #[command(alias = "policies")]
    Policy(policy::PolicyArgs),
    /// Print the plugins that read the providers' dialects
    Plugins(AskArgs),
    /// The price book: its rows, what is wrong with it, what the past would cost at other prices
    #[command(subcommand)]
    Prices(prices::PricesCommand),
    /// Correct what an entry cost, by an adjustment of its own
    Adjust(overview::AdjustArgs),
    /// Print alerts, test and retry their delivery, silence them
    Alerts(alerts::AlertsArgs),
    /// Print who changed what, when and from where
    Audit(audit::AuditArgs),
    /// Print where the dashboard is, and a token that opens it for a while
    Dashboard(dashboard::DashboardArgs),
    /// Print how the running gateway does
    Status(AskArgs),
    /// Show how the machine's clock stands to the ledger, or accept it
    Clock(clock::ClockArgs),
    /// Check the ledger for damage
    Verify(verify::VerifyArgs),
    /// Take over what the original AgentLedger has recorded
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Write the ledger into one file, while it runs or not
    Backup(backup::BackupArgs),
    /// Make a ledger of such a file
    Restore(backup::RestoreArgs),
    /// Print what a client needs to send its requests here; with --write, put it into the client's configuration
    Setup(setup::SetupArgs),
    /// Start an MCP server in its client's place: its tool calls are held and entered by the running gateway
    McpWrap(mcp_wrap::McpWrapArgs),
    /// Check a configuration and everything it names
    Check(check::CheckArgs),
    /// Print settings, and where each comes from
    Config(settings::SettingsArgs),
    /// Call any method of the gateway
    Rpc(rpc::RpcArgs),
    /// Print a page of the guide, or which there are
    Guide(guide::GuideArgs),
    /// Print a script that completes commands in a shell
    Completions { shell: Shell },
    /// Print the manual page; with a folder, write one for each command
    Man {
        #[arg(value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
        dir: Option<PathBuf>,
    },
    /// Print the version
    Version(FormArgs),
    /// Ask a running gateway whether it is well
    #[command(hide = true)]
    Healthcheck(HealthcheckArgs),
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
struct HealthcheckArgs {
    /// Where the gateway listens
    #[arg(long, default_value = "localhost:8787")]
    addr: String,
}

/// What a command has to say, and whether all is well.
pub struct Done {
    pub text: String,
    pub well: bool,
}

impl Done {
    pub fn well(text: String) -> Done {
        Done { text, well: true }
    }
}

impl From<String> for Done {
    fn from(text: String) -> Done {
        Done::well(text)
    }
}

/// The process's whole work. `stamped`: the version of the binary.
pub fn main(stamped: Option<&'static str>) -> ExitCode {
    if let Some(version) = stamped.filter(|version| !version.is_empty()) {
        launch::stamp(version);
    }
    let matches = Root::command().version(launch::version()).try_get_matches();
    let root = match matches.and_then(|matches| Root::from_arg_matches(&matches)) {
        Ok(root) => root,
        Err(error) => {
            // Nothing can be done where even this cannot be printed.
            let _ = error.print();
            let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if is_help {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(error::USAGE)
            };
        }
    };
    match run(root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_closed_pipe() {
                tell(&error);
            }
            error.exit_code()
        }
    }
}

fn tell(error: &CliError) {
    let text = match error {
        CliError::Told | CliError::OfServer(_) => return,
        // Each line begins with its place already.
        CliError::Config(errors) => errors.to_string(),
        other => format!("{} {other}", Style::of_stderr().paint(Tone::Bad, "Error:")),
    };
    let _ = writeln!(io::stderr(), "{text}");
}

fn run(root: Root) -> Result<(), CliError> {
    let elsewhere = &root.elsewhere;
    let Some(command) = root.command else {
        return print(&Root::command().render_help().to_string());
    };
    let done: Done = match command {
        Command::Costs(args) => costs::run(&args, elsewhere)?.into(),
        Command::Series(args) => overview::series(&args, elsewhere)?.into(),
        Command::Export(args) => return export::run(&args, elsewhere),
        Command::Tail(args) => return tail::run(&args, elsewhere),
        Command::Top(args) => return top::run(&args, elsewhere),
        Command::Budgets(args) => budgets::run(&args, elsewhere)?.into(),
        Command::Rates(args) => rates::run(&args, elsewhere)?.into(),
        Command::Rules(args) => rules::run(args, elsewhere)?.into(),
        Command::Keys(args) => keys::run(&args, elsewhere)?.into(),
        Command::Tenants(args) => tenants::run(&args, elsewhere)?.into(),
        Command::Holds(args) => holds::run(&args, elsewhere)?.into(),
        Command::Denials(args) => denials::run(&args, elsewhere)?.into(),
        Command::Sessions(args) => sessions::run(&args, elsewhere)?.into(),
        Command::Providers(args) => providers::run(&args, elsewhere)?.into(),
        Command::Policy(args) => policy::run(args, elsewhere)?,
        Command::Plugins(args) => overview::plugins(&args, elsewhere)?.into(),
        Command::Prices(command) => prices::run(command, elsewhere)?,
        Command::Adjust(args) => overview::adjust(&args, elsewhere)?.into(),
        Command::Alerts(args) => alerts::run(&args, elsewhere)?,
        Command::Audit(args) => audit::run(&args, elsewhere)?.into(),
        Command::Dashboard(args) => dashboard::run(&args, elsewhere)?.into(),
        Command::Status(args) => overview::status(&args, elsewhere)?.into(),
        Command::Clock(args) => clock::run(&args, elsewhere)?.into(),
        Command::Verify(args) => verify::run(&args, elsewhere)?,
        Command::Config(args) => settings::run(&args, elsewhere)?.into(),
        Command::Setup(args) => setup::run(&args, elsewhere)?.into(),
        Command::Rpc(args) => rpc::run(&args, elsewhere)?.into(),
        Command::McpWrap(args) => mcp_wrap::run(&args, elsewhere)?.into(),
        here => {
            elsewhere.refuse()?;
            return run_here(here);
        }
    };
    finish(&done)
}

/// The commands that work on this machine alone.
fn run_here(command: Command) -> Result<(), CliError> {
    let text = match command {
        Command::Serve(args) => return Ok(serve::run(args.config.path(), args.new_fingerprints)?),
        Command::Demo => return Ok(demo::run()?),
        Command::Import(command) => return finish(&import::run(command)?),
        Command::Backup(args) => backup::run(&args)?,
        Command::Restore(args) => backup::restore(&args)?,
        Command::Check(args) => check::run(args.config.path(), args.format, &Env::of_process())?,
        Command::Version(form) => version::text(form),
        Command::Guide(args) => guide::run(&args)?,
        Command::Completions { shell } => shell::completions(Root::command(), shell)?,
        Command::Man { dir } => shell::man(Root::command(), dir.as_deref())?,
        Command::Healthcheck(args) => {
            healthcheck::run(&args.addr)?;
            "ok\n".to_owned()
        }
        // The others ask a gateway, see `run`.
        _ => String::new(),
    };
    print(&text)
}

fn finish(done: &Done) -> Result<(), CliError> {
    print(&done.text)?;
    if done.well { Ok(()) } else { Err(CliError::Told) }
}

/// Prints a finished text; unlike `print!` a closed pipe is an error here and no panic.
fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
