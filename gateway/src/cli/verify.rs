//! `agentledger verify`: walks the journal's chain and says what is wrong with it.

use agentledger_ledger as ledger;
use agentledger_ledger::store::StoreError;

use clap::Args;

use super::ask::{AskArgs, Elsewhere, Target};
use super::client::{Address, Client, ClientError, wait_for_change};
use super::progress::Working;
use super::style::{Style, Tone};
use super::{CliError, Done};
use crate::config::Config;
use crate::control::methods::books::{expected, verified};
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

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// A head of the journal that was kept elsewhere, to compare
    #[arg(long, value_name = "HEAD")]
    expect: Option<String>,
}

pub fn run(args: &VerifyArgs, elsewhere: &Elsewhere) -> Result<Done, CliError> {
    let ask = elsewhere.ask(&args.ask)?;
    let expect = args.expect.as_deref();
    let verified = verify(&ask.target, expect)?;
    let text = ask.show(&verified, |_| report(&ask.target, &verified, expect, ask.style))?;
    Ok(Done {
        text,
        well: verified.ok,
    })
}

/// A running gateway walks its own journal; else it is walked here, also one that is too damaged to be opened.
pub fn verify(target: &Target, expect: Option<&str>) -> Result<Verified, VerifyError> {
    let hash = expected(expect).map_err(VerifyError::Expect)?;
    let ask = |client: Client| -> Result<Verified, ClientError> {
        let expect = expect.map(str::to_owned);
        client.call("ledger.verify", &VerifyParams { expect })
    };
    let config = match target {
        Target::Here(config) => config,
        Target::Elsewhere(remote) => return Ok(ask(Client::at(Address::Remote(remote.clone()))?)?),
    };
    let _working = Working::new("verify");
    let started = Timer::start();
    let mut verified: Verified = loop {
        if let Some(client) = Client::gateway(config)? {
            break ask(client)?;
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
    Ok(verified)
}

/// The journal may be sound and its keys' names lost: where the secret beside it is not the one they were made with.
fn foreign_secret(config: &Config, verified: &Verified) -> Option<String> {
    let text = verified.fingerprint_check.as_deref()?;
    let check = u128::from_str_radix(text, 16).ok()?.to_be_bytes();
    let fits = fingerprints::fits(config.fingerprint_secret.as_ref(), &config.storage.dir, check);
    fits.err().map(|refused| refused.to_string())
}

pub fn report(target: &Target, verified: &Verified, expect: Option<&str>, style: Style) -> String {
    let place = match target {
        Target::Here(config) => config.storage.dir.display().to_string(),
        Target::Elsewhere(remote) => Address::Remote(remote.clone()).to_string(),
    };
    let months = if verified.months.is_empty() {
        "none".to_owned()
    } else {
        verified.months.join(" ")
    };
    let mut lines = vec![
        format!("ledger      {place}"),
        format!("months      {months}"),
        format!("events      {}", verified.events),
        format!("entries     {}", verified.entries),
        format!("open holds  {}", verified.open_holds),
        format!("head        {}", verified.head),
    ];
    if let Some(expect) = expect {
        lines.push(format!("expected    {expect}"));
    }
    let damage = style.paint(Tone::Bad, "DAMAGE");
    lines.extend(verified.damage.iter().map(|text| format!("{damage}      {text}")));
    lines.push(match verified.ok {
        true => style.paint(Tone::Good, "OK"),
        false => style.paint(Tone::Bad, "NOT OK"),
    });
    lines.join("\n") + "\n"
}
