//! The ledger's parts: holding and settling, admission from many threads, the journal with its disk.
//!
//! `cargo bench -p agentledger-benches --bench ledger`
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use agentledger_benches::sample;
use agentledger_ledger::store::{MemoryStores, Stores};
use agentledger_ledger::{Books, Durability, Facts, Hold, Ledger, ManualClock, Name, Options, SystemClock};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// The state machine alone: a hold on so many bounds, and its end.
fn hold_and_settle(c: &mut Criterion) {
    let mut group = c.benchmark_group("hold_and_settle");
    for count in [1, 5] {
        let facts = Arc::new(sample::facts(sample::START_MS, 1));
        let bounds = sample::bounds(&facts, count).unwrap();
        let basis = Name::from("named_max");
        let settlement = sample::settlement(sample::START_MS);
        let mut books = Books::new();
        group.bench_function(BenchmarkId::new("bounds", count), |b| {
            // Settling takes its settlement by value: made beforehand, as the meter makes it.
            b.iter_batched(
                || settlement.clone(),
                |settlement| {
                    let amounts = sample::amounts();
                    let reserved = books
                        .reserve(sample::START_MS, &facts, &bounds, amounts, &basis)
                        .unwrap();
                    let settled = books.settle(sample::START_MS, reserved.hold, settlement, None).unwrap();
                    (reserved, settled)
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn open(options: Options) -> Arc<Ledger> {
    Ledger::open(options, Arc::new(SystemClock::default())).unwrap()
}

const THREADS: u64 = 16;
/// Holds that one thread makes in a round: all of them fit into the queue together.
const HOLDS_PER_THREAD: u64 = 1_000;

/// Sixteen threads reserve on two shared bounds at once; only the time in `reserve` counts, not that of making facts.
fn reserve_throughput(c: &mut Criterion) {
    let mut group = c.benchmark_group("reserve");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(THREADS * HOLDS_PER_THREAD));
    group.bench_function("16_threads", |b| {
        b.iter_custom(|rounds| {
            let stores: Arc<dyn Stores> = Arc::new(MemoryStores::new());
            let options = Options {
                durability: Durability::Relaxed,
                ..Options::new("unused")
            };
            let ledger = Ledger::open_in(stores, &options, Arc::new(ManualClock::new(sample::START_MS))).unwrap();
            (0..rounds).map(|_| reserve_round(&ledger)).sum()
        });
    });
    group.finish();
}

/// The time from the first thread's start to the last one's end.
fn reserve_round(ledger: &Arc<Ledger>) -> Duration {
    let barrier = Arc::new(Barrier::new(THREADS as usize + 1));
    let threads = (0..THREADS).map(|thread| {
        let (ledger, barrier) = (Arc::clone(ledger), Arc::clone(&barrier));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let facts: Arc<Facts> = Arc::new(sample::facts(sample::START_MS, thread));
            let bounds = sample::bounds(&facts, 2).unwrap();
            let basis = Name::from("named_max");
            barrier.wait();
            let holds: Vec<Hold> = runtime.block_on(async {
                let mut holds = Vec::with_capacity(HOLDS_PER_THREAD as usize);
                for _ in 0..HOLDS_PER_THREAD {
                    let permit = ledger.admit().await.unwrap();
                    let hold = ledger.reserve(permit, Arc::clone(&facts), &bounds, sample::amounts(), &basis);
                    holds.push(hold.unwrap());
                }
                holds
            });
            let ended = Instant::now();
            for hold in holds {
                hold.void("bench");
            }
            ended
        })
    });
    let threads: Vec<_> = threads.collect();
    barrier.wait();
    let began = Instant::now();
    let ended = threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap();
    // The writer catches up before the next round.
    Runtime::new().unwrap().block_on(ledger.flushed());
    ended - began
}

/// One exchange into an open ledger on disk without waiting for it: what a request's thread pays.
fn append(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(Options {
        durability: Durability::Relaxed,
        ..Options::new(dir.path())
    });
    let mut number = 0;
    let mut group = c.benchmark_group("journal");
    group.throughput(Throughput::Elements(1));
    group.bench_function("append", |b| {
        b.iter_custom(|rounds| {
            let began = Instant::now();
            for _ in 0..rounds {
                number += 1;
                let hold = runtime.block_on(hold(&ledger, number));
                black_box(hold.settle(sample::settlement(ledger.now_ms())));
            }
            began.elapsed()
        });
    });
    group.finish();
}

async fn hold(ledger: &Arc<Ledger>, number: u64) -> Hold {
    let permit = ledger.admit().await.unwrap();
    let facts = sample::facts(ledger.now_ms(), number);
    let bounds = sample::bounds(&facts, 2).unwrap();
    ledger
        .reserve(permit, facts, &bounds, sample::amounts(), &Name::from("named_max"))
        .unwrap()
}

/// So many exchanges at once, each waiting until its hold is on disk: one group commit. With one it is the price of the sync.
fn group_commit(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(Options::new(dir.path()));
    let mut number = 0;
    let mut group = c.benchmark_group("group_commit");
    group.sample_size(20);
    for count in [1_u64, 64, 256] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("exchanges", count), |b| {
            b.iter(|| {
                let work = (0..count).map(|_| {
                    number += 1;
                    let (ledger, number) = (Arc::clone(&ledger), number);
                    runtime.spawn(async move {
                        let hold = hold(&ledger, number).await;
                        hold.durable().await.unwrap();
                        hold.settle(sample::settlement(ledger.now_ms()));
                    })
                });
                let work: Vec<_> = work.collect();
                runtime.block_on(async {
                    for task in work {
                        task.await.unwrap();
                    }
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, hold_and_settle, reserve_throughput, append, group_commit);
criterion_main!(benches);
