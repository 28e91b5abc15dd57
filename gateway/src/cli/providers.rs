//! `agentledger providers`: how providers do, and how to take one out of service.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::CliError;
use super::ask::{AskArgs, Elsewhere, params};
use super::changes::told;
use super::view::{Column, Is, View};

#[derive(Debug, Args)]
pub struct ProvidersArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(subcommand)]
    then: ProvidersCommand,
}

#[derive(Debug, Subcommand)]
enum ProvidersCommand {
    /// Print providers: breaker, health, how long answers take
    List {
        /// One provider only
        #[arg(long, default_value = "", hide_default_value = true)]
        provider: String,
        /// What each serves, too; with --json
        #[arg(long, requires = "json")]
        routes: bool,
    },
    /// Serve a provider's requests again
    Enable(OneArgs),
    /// Refuse a provider's requests; those that run end
    Disable(OneArgs),
    /// Close a breaker: the next request goes upstream
    ResetBreaker(OneArgs),
}

#[derive(Debug, Args)]
struct OneArgs {
    provider: String,
    /// Why, for whoever reads the audit
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

pub const PROVIDERS: View = View {
    rows: "providers",
    columns: &[
        Column("PROVIDER", "name", Is::Text),
        Column("DIALECT", "dialect", Is::Text),
        Column("PREFIX", "prefix", Is::Text),
        Column("UPSTREAM", "upstream", Is::Text),
        Column("ENABLED", "enabled", Is::State),
        Column("HEALTHY", "healthy", Is::State),
        Column("BREAKER", "breaker", Is::Text),
        Column("FAILURES", "failures", Is::Count),
        Column("REQUESTS", "traffic.requests", Is::Count),
        Column("ERRORS", "traffic.errors", Is::Count),
        Column("P50 (MS)", "traffic.duration.p50_ms", Is::Count),
        Column("P90 (MS)", "traffic.duration.p90_ms", Is::Count),
        Column("P99 (MS)", "traffic.duration.p99_ms", Is::Count),
        Column("FIRST BYTE P50 (MS)", "traffic.ttfb.p50_ms", Is::Count),
    ],
    nothing: "No provider is configured.",
    next: "",
};

pub fn run(args: &ProvidersArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let change = |method: &str, one: &OneArgs| {
        let given = params([
            ("provider", one.provider.as_str().into()),
            ("note", one.note.clone().into()),
        ]);
        ask.change(method, given, |value: &Value| told(value, ask.style))
    };
    match &args.then {
        ProvidersCommand::List { provider, routes } => {
            let given = params([("provider", provider.as_str().into()), ("routes", (*routes).into())]);
            ask.read("provider.list", given, &PROVIDERS)
        }
        ProvidersCommand::Enable(one) => change("provider.enable", one),
        ProvidersCommand::Disable(one) => change("provider.disable", one),
        ProvidersCommand::ResetBreaker(one) => change("provider.reset_breaker", one),
    }
}
