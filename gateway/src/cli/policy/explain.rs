//! `agentledger policy explain`: why a past request got its verdict.

use clap::Args;

use crate::cli::ask::{Ask, params};
use crate::cli::{CliError, Done};
use crate::control::wire::ExplainedRequest;

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The exchange: the id of an entry, or of a refusal (X-AgentLedger-Exchange)
    #[arg(long, value_name = "ULID")]
    id: String,
}

pub fn run(ask: &Ask, args: &ExplainArgs) -> Result<Done, CliError> {
    let given = params([("id", args.id.as_str().into())]);
    let shown = ask.read_as("policy.explain", given, |value| {
        serde_json::from_value(value.clone()).map_or_else(|_| format!("{value}\n"), |explained| text(&explained))
    })?;
    Ok(Done::well(shown))
}

fn text(explained: &ExplainedRequest) -> String {
    let mut lines = vec![
        format!("{}  {}  {}", explained.id, explained.at, explained.outcome),
        format!(
            "key {}  tenant {}  agent {}  session {}  user {}  model {}",
            or_none(&explained.key),
            or_none(&explained.tenant),
            or_none(&explained.agent),
            or_none(&explained.session),
            or_none(&explained.user),
            or_none(&explained.model)
        ),
    ];
    if !explained.not_known.is_empty() {
        lines.push(format!("not known: {}", explained.not_known));
    }
    for policy in &explained.policies {
        let shadow = if policy.mode == "shadow" { ", in shadow" } else { "" };
        lines.push(format!(
            "{} ({}{shadow}, about {})",
            policy.policy, policy.phase, policy.model
        ));
        lines.extend(policy.read.iter().map(|read| format!("  read      {read}")));
        lines.extend(policy.requested.iter().map(|said| format!("  requested {said}")));
        if policy.requested.is_empty() {
            lines.push("  had nothing to say".to_owned());
        }
    }
    for limit in &explained.limits {
        lines.push(format!("limit {} ({})", limit.limit, or_none(&limit.policy)));
        lines.push(format!(
            "  spent {}  held {}  requested {}  of {}: {}",
            limit.spent,
            limit.held,
            limit.requested,
            limit.most,
            if limit.fits { "fits" } else { "does not fit" }
        ));
    }
    lines.extend(explained.decided.iter().map(|said| format!("decided: {said}")));
    lines.join("\n") + "\n"
}

fn or_none(name: &str) -> &str {
    if name.is_empty() { "-" } else { name }
}
