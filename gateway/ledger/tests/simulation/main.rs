//! Deterministic simulation of the whole ledger: its queue, writer, applier, checkpoints, months and retention, on stores
//! that fail, fill and lose their power in the middle of any operation, under clocks that jump, with clients that leave at
//! any moment. One seed is one run, always the same. `AGENTLEDGER_SEED=n` runs that one alone, `AGENTLEDGER_SEEDS=n` so many (from that one on);
//! `AGENTLEDGER_TRACE=1` says what happens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod check;
mod client;
mod machine;
mod mirror;
mod oracle;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Without a number of seeds: as many as this takes.
const RUNS_FOR: Duration = Duration::from_secs(20);

/// Whether each step is said, for a seed that failed.
fn is_traced() -> bool {
    static TRACED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *TRACED.get_or_init(|| std::env::var_os("AGENTLEDGER_TRACE").is_some())
}

/// What must have come about in some seeds, or the simulation says less than it seems to.
const WANTED: [&str; 26] = [
    "a power cut",
    "a power cut with events ahead of the database",
    "a database that took what was ahead",
    "a power cut during a start",
    "an orderly restart",
    "suspended for want of room",
    "writing again",
    "stopped by a failure",
    "a checkpoint that failed",
    "a month that was removed",
    "months turned",
    "a refusal",
    "the clock ahead",
    "the clock set back",
    "a hold dropped",
    "a hold deferred",
    "a hold voided when its result was entered",
    "a result entered without a hold",
    "a result that was billed already",
    "a guess corrected",
    "an entry adjusted",
    "a session forgotten",
    "a change",
    "a request answered again",
    "a hold voided by an operator",
    "an answer entered after its hold was voided",
];

static SEEN: Mutex<BTreeMap<&str, u64>> = Mutex::new(BTreeMap::new());

/// This has come about.
fn seen(what: &'static str) {
    assert!(WANTED.contains(&what), "{what} is not on the list");
    *SEEN.lock().entry(what).or_default() += 1;
}

thread_local! {
    /// What the panic of this thread said, and where.
    static FAILED: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

#[test]
fn the_ledger_holds_over_many_seeds() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (first, seeds) = match number("AGENTLEDGER_SEED") {
        Some(seed) => (seed, Some(number("AGENTLEDGER_SEEDS").unwrap_or(1))),
        None => (0, number("AGENTLEDGER_SEEDS")),
    };
    std::panic::set_hook(Box::new(|panic| {
        FAILED.with(|failed| *failed.borrow_mut() = panic.to_string());
    }));
    let (next, done, stops) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<(u64, String)> = std::thread::scope(|scope| {
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let is_over = seeds.map_or(began.elapsed() >= RUNS_FOR, |seeds| number >= seeds);
                if is_over || stops.load(Ordering::Relaxed) {
                    return None;
                }
                let seed = first + number;
                if catch_unwind(AssertUnwindSafe(|| world::run(seed))).is_err() {
                    stops.store(true, Ordering::Relaxed);
                    return Some((seed, FAILED.with(|failed| failed.borrow().clone())));
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running
            .into_iter()
            .filter_map(|thread| thread.join().unwrap())
            .collect()
    });
    let _ = std::panic::take_hook();
    let seconds = began.elapsed().as_secs_f64();
    let done = done.into_inner();
    // Past the harness, which shows nothing of a test that passes.
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "simulated {done} seeds in {seconds:.1} s, {:.0} a second",
        done as f64 / seconds
    );
    if let Some((seed, why)) = failures.into_iter().min() {
        panic!("{why}\nrepeat: AGENTLEDGER_SEED={seed} cargo test -p agentledger-ledger --test simulation");
    }
    let seen = SEEN.lock();
    if is_traced() {
        eprintln!("{seen:#?}");
    }
    if done >= 500 {
        let unseen: Vec<_> = WANTED.iter().filter(|what| !seen.contains_key(*what)).collect();
        assert!(unseen.is_empty(), "in no seed there was {unseen:?}");
    }
}
