//! `agentledger verify`: walks the journal's chain and says what is wrong with it.

use super::client::{Client, ClientError};
use crate::config::Config;
use crate::control::wire::{Verified, VerifyParams};

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("no ledger at {0}")]
    NoLedger(String),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The report as text, and whether all is well.
pub fn run(config: &Config, expect: Option<&str>) -> Result<(String, bool), VerifyError> {
    let dir = config.storage.dir.display().to_string();
    let client = Client::open(config)?.ok_or_else(|| VerifyError::NoLedger(dir.clone()))?;
    let params = VerifyParams { expect: expect.map(str::to_owned) };
    let verified: Verified = client.call("ledger.verify", &params)?;
    let ok = verified.ok;
    Ok((report(&dir, &verified, expect), ok))
}

fn report(dir: &str, verified: &Verified, expect: Option<&str>) -> String {
    let mut lines = vec![
        format!("ledger      {dir}"),
        format!("months      {}", if verified.months.is_empty() { "none".to_owned() } else { verified.months.join(" ") }),
        format!("events      {}", verified.events),
        format!("entries     {}", verified.entries),
        format!("open holds  {}", verified.open_holds),
        format!("head        {} at {}", verified.head, verified.sequence),
    ];
    if let Some(expect) = expect {
        lines.push(format!("expected    {expect}"));
    }
    lines.extend(verified.damage.iter().map(|damage| format!("DAMAGE      {damage}")));
    lines.push(if verified.ok { "OK".to_owned() } else { "NOT OK".to_owned() });
    lines.join("\n") + "\n"
}
