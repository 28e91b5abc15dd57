//! `agentledger verify`: walks the journal's chain and says what is wrong with it.

use agentledger_ledger as ledger;
use agentledger_ledger::store::StoreError;

use super::client::{Client, ClientError, wait_for_change};
use crate::config::Config;
use crate::control::books::{expected, verified};
use crate::control::wire::{Verified, VerifyParams};
use crate::fingerprints;
use crate::timer::Timer;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("--expect: {0}")]
    Expect(String),
    #[error("no ledger at {0}")]
    NoLedger(String),
    #[error("{0}")]
    Store(String),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The report as text, and whether all is well. A running gateway walks its own journal; else it is walked here, also one
/// that is too damaged to be opened.
pub fn run(config: &Config, expect: Option<&str>) -> Result<(String, bool), VerifyError> {
    let hash = expected(expect).map_err(VerifyError::Expect)?;
    let started = Timer::start();
    let mut verified: Verified = loop {
        if let Some(client) = Client::gateway(config)? {
            break client.call(
                "ledger.verify",
                &VerifyParams {
                    expect: expect.map(str::to_owned),
                },
            )?;
        }
        match ledger::verify(&config.storage.dir, hash) {
            Ok(report) => break verified(&report),
            Err(ledger::VerifyError::Nothing(dir)) => return Err(VerifyError::NoLedger(dir)),
            Err(ledger::VerifyError::Store(StoreError::InUse { .. })) => wait_for_change(config, started)?,
            Err(error) => return Err(VerifyError::Store(error.to_string())),
        }
    };
    if let Some(wrong) = foreign_secret(config, &verified) {
        verified.ok = false;
        verified.damage.push(wrong);
    }
    let ok = verified.ok;
    Ok((report(&config.storage.dir.display().to_string(), &verified, expect), ok))
}

/// The journal may be sound and its keys' names lost: where the secret beside it is not the one they were made with.
fn foreign_secret(config: &Config, verified: &Verified) -> Option<String> {
    let text = verified.fingerprint_check.as_deref()?;
    let check = u128::from_str_radix(text, 16).ok()?.to_be_bytes();
    let fits = fingerprints::fits(config.fingerprint_secret.as_ref(), &config.storage.dir, check);
    fits.err().map(|refused| refused.to_string())
}

fn report(dir: &str, verified: &Verified, expect: Option<&str>) -> String {
    let mut lines = vec![
        format!("ledger      {dir}"),
        format!(
            "months      {}",
            if verified.months.is_empty() {
                "none".to_owned()
            } else {
                verified.months.join(" ")
            }
        ),
        format!("events      {}", verified.events),
        format!("entries     {}", verified.entries),
        format!("open holds  {}", verified.open_holds),
        format!("head        {}", verified.head),
    ];
    if let Some(expect) = expect {
        lines.push(format!("expected    {expect}"));
    }
    lines.extend(verified.damage.iter().map(|damage| format!("DAMAGE      {damage}")));
    lines.push(if verified.ok {
        "OK".to_owned()
    } else {
        "NOT OK".to_owned()
    });
    lines.join("\n") + "\n"
}
