//! What the journal costs: `cargo run --release -p agentledger-ledger --example measure -- [EXCHANGES] [TASKS]`.
//!
//! Runs whole exchanges (admit, reserve, wait for the disk, settle) from TASKS tasks and prints their rate, the bytes on
//! disk, and how long a start takes, from the last checkpoint and from the whole journal. Before that, what the parts on
//! the request path cost: a hold with its end, and admission from 16 threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use agentledger_ledger::store::MemoryStores;
use agentledger_ledger::{
    Amounts, Bound, Durability, Ledger, Limit, ManualClock, Mode, Name, Options, SystemClock, Usd, Window, Zone,
};

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u64>().expect("a number"));
    let exchanges = arguments.next().unwrap_or(100_000);
    let tasks = arguments.next().unwrap_or(64);
    for count in [1, 5] {
        measure_books(count);
    }
    for _ in 0..3 {
        measure_reserve();
    }
    if exchanges == 0 {
        return;
    }
    for durability in [Durability::Strict, Durability::Relaxed] {
        let dir = tempfile::tempdir().unwrap();
        measure(dir.path(), durability, exchanges, tasks);
    }
}

fn bounds(count: usize) -> Vec<Bound> {
    let facts = common::facts(common::START_MS, 1);
    [
        (format!("key:{}", facts.key), Window::Day),
        (format!("tenant:{}", facts.tenant), Window::Month),
        (format!("agent:{}", facts.agent), Window::Hour),
        (format!("session:{}", facts.session), Window::Total),
        ("global".to_owned(), Window::Month),
    ]
    .into_iter()
    .take(count)
    .map(|(account, window)| {
        let limit = Limit::usd(Usd::from_nanos(i64::MAX / 2)).unwrap();
        Bound::new(Name::from(account), window, Zone::utc(), limit, Mode::Hard).unwrap()
    })
    .collect()
}

/// The state machine alone, one thread.
fn measure_books(count: usize) {
    const ROUNDS: u32 = 200_000;
    let facts = Arc::new(common::facts(common::START_MS, 1));
    let (bounds, basis) = (bounds(count), Name::from("named_max"));
    let mut books = agentledger_ledger::Books::new();
    let amounts = Amounts::of_request(common::usd(1_000), 1_000);
    let mut settlements = vec![common::settlement(common::START_MS, 900); ROUNDS as usize];
    let began = Instant::now();
    while let Some(settlement) = settlements.pop() {
        let reserved = books
            .reserve(common::START_MS, &facts, &bounds, amounts, &basis)
            .unwrap();
        books.settle(common::START_MS, reserved.hold, settlement, None).unwrap();
    }
    println!("hold and settle on {count} bounds: {:?}", began.elapsed() / ROUNDS);
}

/// Admission from 16 threads on two shared bounds, the journal in memory.
fn measure_reserve() {
    const THREADS: usize = 16;
    const EACH: usize = 1_000;
    let options = Options {
        durability: Durability::Relaxed,
        ..Options::new("unused")
    };
    let clock = Arc::new(ManualClock::new(common::START_MS));
    let ledger = Ledger::open_in(Arc::new(MemoryStores::new()), &options, clock).unwrap();
    let barrier = Arc::new(Barrier::new(THREADS + 1));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (ledger, barrier) = (Arc::clone(&ledger), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let facts = Arc::new(common::facts(common::START_MS, thread as u64));
                let (bounds, basis) = (bounds(2), Name::from("named_max"));
                let amounts = Amounts::of_request(common::usd(1_000), 1_000);
                barrier.wait();
                let holds: Vec<_> = runtime.block_on(async {
                    let mut holds = Vec::with_capacity(EACH);
                    for _ in 0..EACH {
                        let permit = ledger.admit().await.unwrap();
                        holds.push(
                            ledger
                                .reserve(permit, Arc::clone(&facts), &bounds, amounts, &basis)
                                .unwrap(),
                        );
                    }
                    holds
                });
                let ended = Instant::now();
                holds.into_iter().for_each(|hold| hold.void("measured"));
                ended
            })
        })
        .collect();
    barrier.wait();
    let began = Instant::now();
    let ended = threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap();
    let took = ended - began;
    println!(
        "reserve from {THREADS} threads: {:.0} a second",
        (THREADS * EACH) as f64 / took.as_secs_f64()
    );
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
