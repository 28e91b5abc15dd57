//! `agentledger backup` and `agentledger restore`: a ledger in one file, and a ledger of such a file.

use std::io;
use std::path::{Path, PathBuf};

use agentledger_ledger::{Clock, LedgerError, SystemClock};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde_json::json;

use super::ask::ConfigArgs;
use super::client::{Client, ClientError, wait_for_change};
use super::form::FormArgs;
use super::progress::Working;
use crate::config::Config;
use crate::control::wire::{BackedUp, BackupParams};
use crate::launch::version;
use crate::moving::archive::{self, ArchiveError, Source, Written};
use crate::moving::restore::{self, RestoreError};
use crate::timer::Timer;

/// The file name that means standard output.
const STDOUT: &str = "-";

#[derive(Debug, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    format: FormArgs,
    /// Where the archive is written; - for standard output, where no gateway runs
    #[arg(value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    #[command(flatten)]
    format: FormArgs,
    /// An archive that backup wrote
    #[arg(value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    file: PathBuf,
    /// The ledger's folder: empty, or not there yet
    #[arg(value_name = "DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{0}")]
    Archive(#[from] ArchiveError),
    #[error("{0}")]
    Restore(#[from] RestoreError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("a gateway runs here: it writes archives into files, name one")]
    Stream,
}

/// Writes an archive. What was written, for people; nothing where the archive itself goes to standard output.
pub fn run(args: &BackupArgs) -> Result<String, super::CliError> {
    let Some(written) = write(&args.config.of_gateway()?, &args.file)? else {
        return Ok(String::new());
    };
    let result = serde_json::to_value(&written).unwrap_or_default();
    Ok(args.format.one(&result, || text(&written)))
}

/// `None`: it went to standard output.
fn write(config: &Config, file: &Path) -> Result<Option<BackedUp>, BackupError> {
    let _working = Working::new("backup");
    let started = Timer::start();
    loop {
        if let Some(client) = Client::gateway(config)? {
            return through_gateway(&client, file).map(Some);
        }
        match stopped(config, file) {
            Err(BackupError::Archive(ArchiveError::Ledger(LedgerError::InUse(_)))) => wait_for_change(config, started)?,
            done => return done,
        }
    }
}

fn through_gateway(client: &Client, file: &Path) -> Result<BackedUp, BackupError> {
    if file == Path::new(STDOUT) {
        return Err(BackupError::Stream);
    }
    let path = std::path::absolute(file).map_err(|error| BackupError::Io {
        path: file.to_owned(),
        error,
    })?;
    let params = BackupParams {
        path: path.display().to_string(),
    };
    Ok(client.call("system.backup", &params)?)
}

fn stopped(config: &Config, file: &Path) -> Result<Option<BackedUp>, BackupError> {
    let source = Source::Stopped(&config.storage.dir);
    let now_ms = SystemClock::default().now_ms();
    if file == Path::new(STDOUT) {
        let (_, out) = archive::into_writer(&source, io::stdout().lock(), version(), now_ms)?;
        drop(out);
        return Ok(None);
    }
    let Written { manifest, bytes } = archive::into_file(&source, file, version(), now_ms)?;
    Ok(Some(BackedUp {
        path: file.display().to_string(),
        bytes,
        events: manifest.events,
        head: manifest.head.to_string(),
        has_secret: manifest.has_secret,
    }))
}

fn text(written: &BackedUp) -> String {
    let secret = if written.has_secret {
        "The secret that keys are named by is in it: keep it as you keep the ledger.\n"
    } else {
        "The secret that keys are named by is not in it: it is given by the configuration, which is to be kept, too.\n"
    };
    format!(
        "archive     {}\nbytes       {}\nevents      {}\nhead        {}\n{secret}",
        written.path, written.bytes, written.events, written.head
    )
}

/// Makes a ledger of an archive. What was restored.
pub fn restore(args: &RestoreArgs) -> Result<String, BackupError> {
    let _working = Working::new("restore");
    let restored = restore::restore(&args.file, &args.dir)?;
    let report = &restored.report;
    let result = json!({
        "ledger": args.dir.display().to_string(),
        "of": restored.about.at,
        "months": restored.manifest.months,
        "events": report.events,
        "entries": report.entries,
        "open_holds": report.open_holds,
        "head": report.head.to_string(),
        "ok": true,
    });
    Ok(args.format.one(&result, || {
        format!(
            "ledger      {}\nof          {}\nmonths      {}\nevents      {}\nentries     {}\nopen holds  {}\nhead        {}\nOK\n",
            args.dir.display(),
            restored.about.at,
            restored.manifest.months.join(" "),
            report.events,
            report.entries,
            report.open_holds,
            report.head
        )
    }))
}
