//! `agentledger tenants`: what tenants spend, and which keys are whose.

use clap::{Args, Subcommand};

use super::CliError;
use super::ask::{AskArgs, Elsewhere, params};
use super::changes::{moment, rule_told};
use super::view::{Column, Is, View};

#[derive(Debug, Args)]
pub struct TenantsArgs {
    #[command(flatten)]
    ask: AskArgs,
    #[command(subcommand)]
    then: TenantsCommand,
}

#[derive(Debug, Subcommand)]
enum TenantsCommand {
    /// Print tenants by what they cost
    List {
        /// How far back: weeks (1w), days (30d) or a duration (90m, 1h30m)
        #[arg(long, value_name = "TIME")]
        last: Option<String>,
    },
    /// Print one tenant
    Get { tenant: String },
    /// Keys that fit a pattern are a tenant's
    Map {
        /// sk-acme-*
        api_key_pattern: String,
        tenant: String,
        /// Also turn tenants on, where they are off
        #[arg(long)]
        enable: bool,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Ends by itself: a time, a day (its beginning, UTC), or so long from now (2h, 7d)
        #[arg(long, value_name = "TIME", value_parser = moment)]
        expires: Option<String>,
        /// Say what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take such a pattern back
    Unmap {
        api_key_pattern: String,
        tenant: String,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Keys that fit a pattern are one user, agent, session or task, whatever their headers say
    Bind {
        /// sk-alice-*
        api_key_pattern: String,
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        #[arg(long, value_name = "NAME")]
        agent: Option<String>,
        #[arg(long, value_name = "NAME")]
        session: Option<String>,
        #[arg(long, value_name = "NAME")]
        task: Option<String>,
        /// Why, for whoever reads the audit
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Say what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub const TENANTS: View = View {
    rows: "tenants",
    columns: &[
        Column("TENANT", "tenant", Is::Text),
        Column("REQUESTS", "requests", Is::Count),
        Column("COST (USD)", "cost_usd", Is::Usd),
        Column("TODAY (USD)", "spent_day_usd", Is::Usd),
        Column("THIS MONTH (USD)", "spent_month_usd", Is::Usd),
        Column("KEY PATTERNS", "mappings", Is::Count),
    ],
    nothing: "No tenant.",
    next: "",
};

pub fn run(args: &TenantsArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let told = |value: &serde_json::Value| rule_told(value, ask.style);
    match &args.then {
        TenantsCommand::List { last } => ask.read("tenant.list", params([("last", last.clone().into())]), &TENANTS),
        TenantsCommand::Get { tenant } => ask.read_one("tenant.get", params([("tenant", tenant.as_str().into())])),
        TenantsCommand::Map {
            api_key_pattern,
            tenant,
            enable,
            note,
            expires,
            dry_run,
        } => {
            let given = params([
                ("api_key_pattern", api_key_pattern.as_str().into()),
                ("tenant", tenant.as_str().into()),
                ("enable", (*enable).into()),
                ("note", note.clone().into()),
                ("expires", expires.clone().into()),
                ("dry_run", (*dry_run).into()),
            ]);
            ask.change("tenant.map", given, told)
        }
        TenantsCommand::Unmap {
            api_key_pattern,
            tenant,
            note,
        } => {
            let given = params([
                ("api_key_pattern", api_key_pattern.as_str().into()),
                ("tenant", tenant.as_str().into()),
                ("note", note.clone().into()),
            ]);
            ask.change("tenant.unmap", given, told)
        }
        TenantsCommand::Bind {
            api_key_pattern,
            user,
            agent,
            session,
            task,
            note,
            dry_run,
        } => {
            let given = params([
                ("api_key_pattern", api_key_pattern.as_str().into()),
                ("user", user.clone().into()),
                ("agent", agent.clone().into()),
                ("session", session.clone().into()),
                ("task", task.clone().into()),
                ("note", note.clone().into()),
                ("dry_run", (*dry_run).into()),
            ]);
            ask.change("tenant.bind", given, told)
        }
    }
}
