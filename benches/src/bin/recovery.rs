//! How long a start takes after a million exchanges, and what they take on disk.
//!
//! `cargo run --release -p agentledger-benches --bin recovery -- [EXCHANGES]`
//!
//! A child process writes the exchanges and is then killed by SIGKILL with a hundred holds open. Then the ledger is
//! opened: as it was left (the last checkpoint, and what came after it), and once more with all derived state
//! removed, so that the whole journal is replayed.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use agentledger_benches::{process, sample};
use agentledger_ledger::{Durability, Ledger, Name, Options, SystemClock};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error + Send + Sync>;

/// Tasks that write at one time.
const TASKS: u64 = 256;
/// Holds that the child leaves open.
const LEFT_OPEN: u64 = 100;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => measure(1_000_000),
        [exchanges] => measure(exchanges.parse()?),
        [word, dir, exchanges] if word == "write" => write(Path::new(dir), exchanges.parse()?),
        _ => Err("usage: recovery [EXCHANGES]".into()),
    }
}

fn open(dir: &Path) -> Result<Arc<Ledger>, Failure> {
    let options = Options {
        durability: Durability::Relaxed,
        ..Options::new(dir)
    };
    Ok(Ledger::open(options, Arc::new(SystemClock::default()))?)
}

/// Writes whole exchanges and dies.
fn write(dir: &Path, exchanges: u64) -> Result<(), Failure> {
    let ledger = open(dir)?;
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let tasks = (0..TASKS).map(|task| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                for number in (task..exchanges).step_by(TASKS as usize) {
                    hold(&ledger, number).await?.settle(sample::settlement(ledger.now_ms()));
                }
                Ok::<(), Failure>(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await??;
        }
        let mut open = Vec::new();
        for number in 0..LEFT_OPEN {
            open.push(hold(&ledger, number).await?);
        }
        ledger.flushed().await;
        println!("written");
        // The parent kills this process now; if it is gone, the end of its pipe ends this one.
        std::io::stdin().read_line(&mut String::new())?;
        Ok(())
    })
}

async fn hold(ledger: &Arc<Ledger>, number: u64) -> Result<agentledger_ledger::Hold, Failure> {
    let permit = ledger.admit().await?;
    let facts = sample::facts(ledger.now_ms(), number);
    let bounds = sample::bounds(&facts, 2)?;
    Ok(ledger.reserve(permit, facts, &bounds, sample::amounts(), &Name::from("named_max"))?)
}

fn measure(exchanges: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path();
    let began = Instant::now();
    write_and_kill(dir, exchanges)?;
    println!(
        "{exchanges} exchanges on two bounds each, written in {:.1?}",
        began.elapsed()
    );
    let journal = process::disk_bytes(&dir.join("journal"));
    println!(
        "journal: {:.0} B an exchange on disk; state: {} KiB",
        ratio(journal, exchanges),
        state_kib(dir)
    );

    let (ledger, took) = timed(|| open(dir))?;
    println!(
        "start from the last checkpoint: {took}, {} holds recovered",
        ledger.recovered_holds()
    );
    if ledger.recovered_holds() != usize::try_from(LEFT_OPEN)? {
        return Err("the open holds were not recovered: nothing above counts".into());
    }
    ledger.close();
    drop(ledger);

    std::fs::remove_dir_all(dir.join("state"))?;
    let (ledger, took) = timed(|| open(dir))?;
    println!("start from the whole journal: {took}");
    let events = ledger.head().sequence;
    drop(ledger);

    let (report, took) = timed(|| Ok(agentledger_ledger::verify(dir, None)?))?;
    println!("verify of {events} events: {took}, sound: {}", report.is_sound());
    if report.is_sound() {
        Ok(())
    } else {
        Err("the journal is damaged: nothing above counts".into())
    }
}

/// Does it, and tells how long it took, by the clock and in CPU: on a busy machine the two differ.
fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(T, String), Failure> {
    let cpu_us = || process::cpu_us(std::process::id()).unwrap_or(f64::NAN);
    let (began, began_us) = (Instant::now(), cpu_us());
    let done = work()?;
    let took = format!("{:.2?} ({:.2} s of CPU)", began.elapsed(), (cpu_us() - began_us) / 1e6);
    Ok((done, took))
}

/// Has a child write, and ends it by SIGKILL once all is on disk: nothing is settled, closed or checkpointed.
fn write_and_kill(dir: &Path, exchanges: u64) -> Result<(), Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("write").arg(dir).arg(exchanges.to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    child.kill()?;
    child.wait()?;
    if line.trim() == "written" {
        Ok(())
    } else {
        Err("the writing process failed".into())
    }
}

fn ratio(bytes: u64, count: u64) -> f64 {
    bytes as f64 / count.max(1) as f64
}

fn state_kib(dir: &Path) -> u64 {
    process::disk_bytes(&dir.join("state")) >> 10
}
