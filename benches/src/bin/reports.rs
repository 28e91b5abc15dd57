//! What a report does to the requests beside it: `cargo run --release -p agentledger-benches --bin reports`
//!
//! A ledger on disk, `strict`, with a year of days of three hundred sessions each. Eight tasks place holds, wait until they are
//! on disk and settle them, in windows of time alike: two quiet ones, which say how much two windows alike differ here, then
//! one in which another thread asks for the year's sums without a pause; and again.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentledger_benches::sample;
use agentledger_ledger::{Dimension, Durability, Ledger, ManualClock, Name, Options, SummaryQuery};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

const DAYS: u64 = 365;
const SESSIONS_A_DAY: u64 = 300;
const DAY_MS: i64 = 86_400_000;
const TASKS: u64 = 8;
const WINDOW: Duration = Duration::from_secs(4);
const ROUNDS: usize = 5;

fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::new(sample::START_MS));
    let year = Options {
        durability: Durability::Relaxed,
        ..Options::new(folder.path())
    };
    let runtime = Runtime::new()?;
    let ledger = Ledger::open(year, Arc::clone(&clock) as _)?;
    runtime.block_on(async {
        for number in 0..DAYS * SESSIONS_A_DAY {
            if number % SESSIONS_A_DAY == 0 {
                clock.advance_ms(DAY_MS);
                ledger.flushed().await;
            }
            exchange(&ledger, number, false).await?;
        }
        Ok::<_, Failure>(())
    })?;
    ledger.close();
    drop(ledger);
    let ledger = Ledger::open(Options::new(folder.path()), Arc::clone(&clock) as _)?;
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    println!("| | exchanges/s | p50 µs | p99 µs | summaries |\n|---|---:|---:|---:|---:|");
    for _ in 0..ROUNDS {
        for with_reports in [false, false, true] {
            let (mut took, summaries) = runtime.block_on(window(&ledger, with_reports))?;
            took.sort_unstable();
            let at = |share: f64| {
                took.get((took.len() as f64 * share) as usize)
                    .copied()
                    .unwrap_or_default()
            };
            let name = if with_reports { "summaries" } else { "quiet" };
            let rate = took.len() as f64 / WINDOW.as_secs_f64();
            println!("| {name} | {rate:.0} | {} | {} | {summaries} |", at(0.5), at(0.99));
            if with_reports { &mut beside } else { &mut quiet }.push(at(0.99));
        }
    }
    quiet.sort_unstable();
    beside.sort_unstable();
    let median = |all: &[u64]| all.get(all.len() / 2).copied().unwrap_or_default();
    println!(
        "\np99 {} µs beside summaries; {} to {} µs (median {}) without",
        median(&beside),
        quiet.first().copied().unwrap_or_default(),
        quiet.last().copied().unwrap_or_default(),
        median(&quiet)
    );
    Ok(())
}

/// Microseconds that each admission took, until it was on disk; and how many summaries were made beside them.
async fn window(ledger: &Arc<Ledger>, with_reports: bool) -> Result<(Vec<u64>, u64), Failure> {
    let until = Instant::now() + WINDOW;
    let (ended, summaries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reporting = with_reports.then(|| {
        let (ledger, ended, summaries) = (Arc::clone(ledger), Arc::clone(&ended), Arc::clone(&summaries));
        std::thread::spawn(move || {
            let query = SummaryQuery {
                from_ms: 0,
                to_ms: i64::MAX,
                by: Dimension::Session,
                tenant: None,
            };
            while !ended.load(Ordering::Relaxed) {
                std::hint::black_box(ledger.summary(&query));
                summaries.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let ledger = Arc::clone(ledger);
        tasks.spawn(async move {
            let mut took = Vec::new();
            let mut number = task;
            while Instant::now() < until {
                took.push(exchange(&ledger, number, true).await?);
                number += TASKS;
            }
            Ok::<_, Failure>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = tasks.join_next().await {
        all.extend(took??);
    }
    ended.store(true, Ordering::Relaxed);
    if let Some(reporting) = reporting {
        reporting.join().map_err(|_| "the reports panicked")?;
    }
    Ok((all, summaries.load(Ordering::Relaxed)))
}

async fn exchange(ledger: &Arc<Ledger>, number: u64, waits: bool) -> Result<u64, Failure> {
    let mut facts = sample::facts(ledger.now_ms(), number);
    facts.session = Name::from(format!("s{number}"));
    let bounds = sample::bounds(&facts, 2)?;
    let began = Instant::now();
    let permit = ledger.admit().await?;
    let hold = ledger.reserve(permit, facts, &bounds, sample::amounts(), &Name::from("named_max"))?;
    if waits {
        hold.durable().await?;
    }
    let took = u64::try_from(began.elapsed().as_micros())?;
    hold.settle(sample::settlement(ledger.now_ms()));
    Ok(took)
}
