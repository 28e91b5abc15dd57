//! What the journal costs: `cargo run --release -p agentledger-ledger --example measure -- [EXCHANGES] [TASKS]`.
//!
//! Runs whole exchanges (admit, reserve, wait for the disk, settle) from TASKS tasks and prints their rate, the bytes on
//! disk, and how long a start takes, from the last checkpoint and from the whole journal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use agentledger_ledger::{Durability, Ledger, Options, SystemClock};

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u64>().expect("a number"));
    let exchanges = arguments.next().unwrap_or(100_000);
    let tasks = arguments.next().unwrap_or(64);
    for durability in [Durability::Strict, Durability::Relaxed] {
        let dir = tempfile::tempdir().unwrap();
        measure(dir.path(), durability, exchanges, tasks);
    }
}

fn open(dir: &Path, durability: Durability) -> Arc<Ledger> {
    let options = Options {
        durability,
        ..Options::new(dir)
    };
    Ledger::open(options, Arc::new(SystemClock::default())).unwrap()
}

fn measure(dir: &Path, durability: Durability, exchanges: u64, tasks: u64) {
    let ledger = open(dir, durability);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let (began, began_cpu) = (Instant::now(), cpu_ms());
    runtime.block_on(async {
        let work = (0..tasks).map(|task| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                for number in (task..exchanges).step_by(usize::try_from(tasks).unwrap()) {
                    let hold = common::hold(&ledger, number, 1_000).await;
                    hold.durable().await.unwrap();
                    hold.settle(common::settlement(ledger.now_ms(), 900));
                }
            })
        });
        for task in work.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        ledger.flushed().await;
    });
    let (took, took_cpu) = (began.elapsed(), cpu_ms() - began_cpu);
    println!("{durability:?}, {exchanges} exchanges from {tasks} tasks");
    println!(
        "  {:.0} exchanges/s, {:.1} us of CPU each",
        exchanges as f64 / took.as_secs_f64(),
        took_cpu * 1e3 / exchanges as f64
    );
    let journal = bytes(&dir.join("journal"));
    println!(
        "  journal {} B an exchange, state {} KiB",
        journal / exchanges,
        bytes(&dir.join("state")) >> 10
    );
    drop(ledger);
    for from in ["the last checkpoint", "the whole journal"] {
        let began = Instant::now();
        let ledger = open(dir, durability);
        println!(
            "  start from {from}: {:?}, journal {} B an exchange",
            began.elapsed(),
            bytes(&dir.join("journal")) / exchanges
        );
        drop(ledger);
        std::fs::remove_dir_all(dir.join("state")).unwrap();
    }
    let began = Instant::now();
    let report = agentledger_ledger::verify(dir, None).unwrap();
    println!(
        "  verify of {} events: {:?}, sound: {}",
        report.events,
        began.elapsed(),
        report.is_sound()
    );
}

fn bytes(path: &Path) -> u64 {
    let Ok(folder) = std::fs::read_dir(path) else { return 0 };
    let files = folder.flatten().map(|file| match file.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes(&file.path()),
        Ok(metadata) => allocated(&metadata),
        Err(_) => 0,
    });
    files.sum()
}

#[cfg(unix)]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

/// User and system time of this process, where the system tells.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|f| f.parse().unwrap_or(0.0))
        .collect();
    fields
        .get(11)
        .zip(fields.get(12))
        .map_or(0.0, |(user, system)| (user + system) * 10.0)
}
