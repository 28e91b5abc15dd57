//! What taking over entries costs: `cargo run --release -p agentledger-ledger --example import -- [ROWS]`.
//!
//! A year of calls of 200 keys, 30 models, 100 agents and sessions of twenty calls, in batches as the control plane brings them,
//! into a ledger on disk, until all of it is written and counted. Then a query for some hour of that year.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Instant;

use agentledger_ledger::{EntryQuery, ImportRow, ImportedEntry, Ledger, Name, Options, SystemClock, verify};

const BATCH: u64 = 4_000;
const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1_000;

fn main() {
    let rows = std::env::args()
        .nth(1)
        .map_or(1_000_000, |rows| rows.parse::<u64>().expect("a number"));
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::default());
    let ledger = Ledger::open(Options::new(dir.path()), clock).unwrap();
    let names =
        |kind: &str, count: u64| -> Vec<Name> { (0..count).map(|n| Name::from(format!("{kind}-{n}"))).collect() };
    let (keys, models, agents) = (names("key", 200), names("model", 30), names("agent", 100));
    let from_ms = ledger.now_ms() - YEAR_MS;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let source = Name::from("measured");
    let mut preparing = std::time::Duration::ZERO;
    let began = Instant::now();
    for first in (1..=rows).step_by(BATCH as usize) {
        let prepared = Instant::now();
        let batch = (first..(first + BATCH).min(rows + 1)).map(|place| {
            let mut facts = common::facts(from_ms + (YEAR_MS as u64 / rows * place) as i64, place);
            facts.key = keys[(place % 200) as usize].clone();
            facts.requested_model = models[(place % 30) as usize].clone();
            facts.agent = agents[(place / 20 % 100) as usize].clone();
            facts.session = Name::from(format!("run-{}", place / 20));
            let mut settlement = common::settlement(facts.at_ms + 800, 1_000);
            settlement.model = facts.requested_model.clone();
            ImportRow {
                place,
                entry: ImportedEntry {
                    facts: Arc::new(facts),
                    settlement,
                },
            }
        });
        let batch: Vec<ImportRow> = batch.collect();
        preparing += prepared.elapsed();
        runtime.block_on(ledger.import(&source, true, batch)).unwrap();
    }
    runtime.block_on(ledger.flushed());
    let took = began.elapsed() - preparing;
    let rate = rows as f64 / took.as_secs_f64();
    println!("{rows} rows in {took:.1?} ({rate:.0} a second), made in {preparing:.1?}");
    let asked = Instant::now();
    let middle_ms = from_ms + YEAR_MS / 2;
    let query = EntryQuery {
        from_ms: middle_ms,
        to_ms: middle_ms + 3_600_000,
        limit: 1_000,
        after: None,
    };
    let found = ledger.entries(&query).unwrap().entries.len();
    println!("one hour of it: {found} entries in {:.1?}", asked.elapsed());
    ledger.close();
    drop(ledger);
    let bytes: u64 = walk(dir.path());
    println!("on disk: {} bytes a row", bytes / rows);
    let walked = Instant::now();
    let report = verify(dir.path(), None).unwrap();
    assert!(report.is_sound() && report.entries == rows);
    println!("verified in {:.1?}", walked.elapsed());
}

fn walk(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}
