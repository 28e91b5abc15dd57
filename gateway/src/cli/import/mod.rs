//! `agentledger import`: takes over what the original AgentLedger has recorded: its calls as entries at their own time, its
//! sessions, and what operators changed in it. Through the running gateway, or into a ledger that no gateway has open. Begun
//! again it goes on where it was, and what was taken is never taken twice.

mod operators;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use agentledger_ledger::{Clock, SystemClock, Usd, rfc3339_ms};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::Done;
use super::ask::ConfigArgs;
use super::client::{Client, ClientError};
use super::form::FormArgs;
use super::progress::Progress;
use crate::config::Config;
use crate::control::wire::{ImportParams, ImportRow, ImportedRows};
use crate::launch::{self, LaunchError};
use crate::moving::original::{Misfit, Original, SessionRow, SourceError, UsageRow, operation_of};
use crate::moving::postgres::PostgresSource;
use crate::moving::sqlite::SqliteSource;
use crate::thousands::thousands;
use crate::timer::Timer;
use operators::{end_sessions, leave_rules, put_rules};
use report::Report;

/// Bytes of rows in one call, as they stand in its JSON: well below what the control plane takes.
const BATCH_BYTES: usize = 800 << 10;
/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 2;
/// Rows that are named in the report; all are counted.
const MISFITS_NAMED: usize = 20;
const NOTE: &str = "taken over from the original AgentLedger";

#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// From its SQLite file, which is only read
    Sqlite {
        /// The file: data/agentledger.db unless its configuration says otherwise
        #[arg(value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
        file: PathBuf,
        #[command(flatten)]
        args: ImportArgs,
    },
    /// From its PostgreSQL database, which is only read
    Postgres {
        /// postgres://USER:PASSWORD@HOST:PORT/DATABASE
        #[arg(value_name = "ADDRESS")]
        address: String,
        #[command(flatten)]
        args: ImportArgs,
    },
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    format: FormArgs,
    /// Read all of it, say what would be taken and what would not, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command: its report, and whether the source was whole.
pub fn run(command: ImportCommand) -> Result<Done, super::CliError> {
    let (args, source): (ImportArgs, Box<dyn Original + Send>) = match command {
        ImportCommand::Sqlite { file, args } => {
            let source = SqliteSource::open(&file).map_err(ImportError::from)?;
            (args, Box::new(source))
        }
        ImportCommand::Postgres { address, args } => {
            let source = PostgresSource::open(&address).map_err(ImportError::from)?;
            (args, Box::new(source))
        }
    };
    let report = take_over(&args.config.load()?, source, args.dry_run)?;
    Ok(Done {
        text: args.format.one(&report.value(), || report.text()),
        well: report.is_whole(),
    })
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{0}")]
    Launch(#[from] LaunchError),
    #[error(
        "{source_name} is not what was taken over before: its record {place} is another one than then ({found}, not {last}). \
         Was it made anew, or did records come in between? Nothing was taken"
    )]
    Changed {
        source_name: String,
        place: u64,
        found: String,
        last: String,
    },
    #[error("the thread that reads the source panicked")]
    Reader,
}

/// Rows that were left out: all counted by their reason, some named.
#[derive(Debug, Default)]
struct Misfits {
    count: u64,
    by_reason: BTreeMap<String, u64>,
    named: Vec<Misfit>,
}

impl Misfits {
    fn add(&mut self, misfit: Misfit) {
        self.count += 1;
        *self.by_reason.entry(misfit.reason.clone()).or_default() += 1;
        if self.named.len() < MISFITS_NAMED {
            self.named.push(misfit);
        }
    }
}

/// What the calls of one session come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    calls: u64,
    cost: Usd,
    tokens: u64,
}

/// What the reading side has seen.
#[derive(Debug, Default)]
struct Read {
    rows: u64,
    all: Totals,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    misfits: Misfits,
    by_session: HashMap<String, Totals>,
    failed: Option<SourceError>,
}

/// Takes a source over; with `dry_run` it is only read. The report, whether or not the source turned out to be damaged on the way.
fn take_over(config: &Config, source: Box<dyn Original + Send>, dry_run: bool) -> Result<Report, ImportError> {
    let started = Timer::start();
    let mut report = Report {
        source: source.name()?.unwrap_or_default(),
        dry_run,
        ..Report::default()
    };
    let client = destination(config, dry_run)?;
    let known = known(client.as_ref(), &report.source)?;
    report.before = known.place;
    check_same(source.as_ref(), &report.source, &known)?;
    let (sessions, session_misfits) = source.sessions()?;
    let (admin, admin_misfits) = source.admin()?;
    let total = source.count_after(known.place)?;
    let tasks: HashMap<String, String> = sessions
        .iter()
        .filter(|session| !session.task.is_empty())
        .map(|session| (session.id.clone(), session.task.clone()))
        .collect();
    let (batches, arriving) = sync_channel(BATCHES_AHEAD);
    let reading = thread::Builder::new().name("import-reader".into()).spawn(move || {
        let read = read_usage(source.as_ref(), known.place, &tasks, &batches);
        // The database closes on the thread that read it.
        drop(source);
        read
    });
    let reading = reading.map_err(ClientError::Runtime)?;
    let sent = send(client.as_ref().filter(|_| !dry_run), &report.source, total, &arriving);
    // A reader that still has something to give finds nobody to take it, and ends.
    drop(arriving);
    report.read = reading.join().map_err(|_| ImportError::Reader)?;
    report.taken = sent?;
    session_misfits
        .into_iter()
        .chain(admin_misfits)
        .for_each(|misfit| report.read.misfits.add(misfit));
    if known.place == 0 && report.read.failed.is_none() {
        compare_sessions(&sessions, &mut report.read);
    }
    report.sessions = sessions.len() as u64;
    if let Some(client) = client.as_ref().filter(|_| !dry_run) {
        if !report.source.is_empty() {
            finish(client, &report)?;
        }
        end_sessions(client, &sessions, &mut report)?;
        if client.is_gateway() {
            put_rules(client, &admin, &mut report);
        } else {
            leave_rules(&admin, &mut report);
        }
    } else {
        report.sessions_killed = sessions.iter().filter(|session| session.status == "killed").count() as u64;
        report.rules = admin.budget_rules.len() as u64;
        report.blocked = admin.blocked_keys.len() as u64;
        report.providers = admin.disabled_providers.len() as u64;
    }
    report.took = started.elapsed();
    Ok(report)
}

/// The gateway that runs, else the ledger itself; for a dry run `None` where there is no ledger yet.
fn destination(config: &Config, dry_run: bool) -> Result<Option<Client>, ImportError> {
    if dry_run {
        return Ok(Client::open(config)?);
    }
    if let Some(client) = Client::gateway(config)? {
        return Ok(Some(client));
    }
    let ledger = launch::open_ledger(config)?;
    Ok(Some(Client::of_ledger(config, ledger)?))
}

fn known(client: Option<&Client>, source: &str) -> Result<ImportedRows, ImportError> {
    match client {
        Some(client) if !source.is_empty() => {
            let params = ImportParams {
                source: source.to_owned(),
                ..ImportParams::default()
            };
            Ok(client.call("ledger.import", &params)?)
        }
        _ => Ok(ImportedRows::default()),
    }
}

/// Going on in another database would leave out its first records, and take others twice.
fn check_same(source: &dyn Original, name: &str, known: &ImportedRows) -> Result<(), ImportError> {
    let Some(last) = known.last.as_ref().filter(|_| known.place > 0) else {
        return Ok(());
    };
    match source.id_at(known.place)? {
        Some(found) if found.to_string() == *last => Ok(()),
        found => Err(ImportError::Changed {
            source_name: name.to_owned(),
            place: known.place,
            found: found.map_or_else(|| "none".to_owned(), |found| found.to_string()),
            last: last.clone(),
        }),
    }
}

/// Some rows as they go over the wire.
struct Batch {
    lines: String,
    rows: u64,
}

/// Reads all records after a place and hands them on; ends early where nobody takes them.
fn read_usage(source: &dyn Original, after: u64, tasks: &HashMap<String, String>, batches: &SyncSender<Batch>) -> Read {
    let mut read = Read::default();
    let (mut lines, mut rows, mut bytes) = (String::new(), 0, 0);
    let now_ms = SystemClock::default().now_ms();
    let ended = source.each_usage(after, now_ms, &mut |row| {
        read.rows += 1;
        let row = match row {
            Ok(row) => row,
            Err(misfit) => {
                read.misfits.add(misfit);
                return true;
            }
        };
        read.count(&row);
        let task = tasks.get(&row.session).cloned().unwrap_or_default();
        let Ok(line) = serde_json::to_string(&wire_row(row, task)) else {
            return true;
        };
        // Quotes and backslashes are escaped once more within the call.
        bytes += line.len() + line.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count() + 2;
        lines.push_str(&line);
        lines.push('\n');
        rows += 1;
        if bytes < BATCH_BYTES {
            return true;
        }
        bytes = 0;
        let batch = Batch {
            lines: std::mem::take(&mut lines),
            rows: std::mem::take(&mut rows),
        };
        batches.send(batch).is_ok()
    });
    read.failed = ended.err();
    if rows > 0 {
        // Where nobody takes it, whoever stopped taking knows why.
        let _ = batches.send(Batch { lines, rows });
    }
    read
}

impl Read {
    fn count(&mut self, row: &UsageRow) {
        let add = |totals: &mut Totals| {
            totals.calls += 1;
            totals.cost = totals.cost.saturating_add(row.cost);
            totals.tokens += row.usage.tokens();
        };
        add(&mut self.all);
        if !row.session.is_empty() {
            add(self.by_session.entry(row.session.clone()).or_default());
        }
        let first_ms = self.first_ms.unwrap_or(row.at_ms).min(row.at_ms);
        let last_ms = self.last_ms.unwrap_or(row.at_ms).max(row.at_ms);
        (self.first_ms, self.last_ms) = (Some(first_ms), Some(last_ms));
    }
}

fn wire_row(row: UsageRow, task: String) -> ImportRow {
    ImportRow {
        place: row.place,
        id: row.id.to_string(),
        at: rfc3339_ms(row.at_ms),
        operation: operation_of(&row.path).to_owned(),
        provider: row.provider,
        model: row.model,
        key: row.key,
        tenant: row.tenant,
        agent: row.agent,
        session: row.session,
        user: row.user,
        task,
        path: row.path,
        usage: row.usage,
        cost_usd: row.cost,
        estimated: row.estimated,
        status: row.status,
        duration_ms: row.duration_ms,
    }
}

/// Sends what is read, in its order. How many rows were taken.
fn send(client: Option<&Client>, source: &str, total: u64, arriving: &Receiver<Batch>) -> Result<u64, ImportError> {
    let (mut taken, mut sent) = (0, 0);
    let mut progress = Progress::new("taking over");
    let of_all = format!("of {} records", thousands(total));
    for batch in arriving {
        if let Some(client) = client {
            let params = ImportParams {
                source: source.to_owned(),
                rows: batch.lines,
                legacy_keys: true,
                note: None,
            };
            taken += client.call::<_, ImportedRows>("ledger.import", &params)?.taken;
        }
        sent += batch.rows;
        progress.at(usize::try_from(sent).unwrap_or(usize::MAX), &of_all);
    }
    Ok(taken)
}

/// Waits until all of it is on disk and counted, and has the journal say that it was imported.
fn finish(client: &Client, report: &Report) -> Result<(), ImportError> {
    let note = (report.taken > 0).then(|| {
        format!(
            "{NOTE}: {} calls, {} USD, {} left out",
            report.taken, report.read.all.cost, report.read.misfits.count
        )
    });
    let params = ImportParams {
        source: report.source.clone(),
        legacy_keys: true,
        note,
        ..ImportParams::default()
    };
    client.call::<_, ImportedRows>("ledger.import", &params)?;
    Ok(())
}

/// The original kept sums beside its records: where they differ, the records count.
fn compare_sessions(sessions: &[SessionRow], read: &mut Read) {
    for session in sessions {
        let found = read.by_session.get(&session.id).copied().unwrap_or_default();
        // Its sums were added up in floats.
        let apart = found.cost.nanos().abs_diff(session.cost.nanos());
        if found.calls != session.calls || found.tokens != session.tokens || apart > 1_000 + found.calls {
            read.misfits.add(Misfit {
                row: format!("agent_sessions {}", session.id),
                reason: "its sums are not those of its records, which count".to_owned(),
            });
        }
    }
}
