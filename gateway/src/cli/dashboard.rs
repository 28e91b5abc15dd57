//! `agentledger dashboard`: where the dashboard is, and a token that opens it for a while.

use clap::Args;
use serde_json::Value;

use super::CliError;
use super::announce::configured_url;
use super::ask::{AskArgs, Elsewhere, Target, params};

#[derive(Debug, Args)]
pub struct DashboardArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// What may be done with it: read, operate or admin
    #[arg(long, default_value = "admin")]
    role: String,
    /// How long it opens: 90m, 12h, at most 7d
    #[arg(long = "for", value_name = "TIME", default_value = "12h")]
    lasts: String,
}

pub fn run(args: &DashboardArgs, elsewhere: &Elsewhere) -> Result<String, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let url = match &ask.target {
        Target::Here(config) => configured_url(config),
        Target::Elsewhere(gateway) => Some(gateway.url()),
    };
    let url = url.unwrap_or_else(|| "the gateway\u{2019}s address".to_owned());
    let given = params([
        ("role", args.role.as_str().into()),
        ("lasts", args.lasts.as_str().into()),
    ]);
    ask.read_as("system.token", given, |token| told(&url, token))
}

fn told(url: &str, token: &Value) -> String {
    let said = |name: &str| token.get(name).and_then(Value::as_str).unwrap_or_default();
    let (role, expires) = (said("role"), said("expires"));
    format!(
        "Open {url} and give this token, which may {role} until {expires} or until the gateway stops:\n\n{}\n",
        said("token")
    )
}
