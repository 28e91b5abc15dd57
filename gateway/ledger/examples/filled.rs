//! A ledger with many entries: `cargo run --release -p agentledger-ledger --example filled -- FOLDER [ENTRIES]`.
//!
//! The last thirty days of a thousand agents: a key each, twenty models, four providers, fifty tenants, five hundred users, five teams,
//! a session for each fifty calls. Written as a gateway writes them, with holds and ends; then the id of a session of the last hours
//! is printed. What reads it is measured elsewhere (benches/load/views).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use agentledger_ledger::{
    Amounts, Bound, Durability, Facts, Ledger, Limit, ManualClock, Mode, Name, Options, Settlement, Usd, Window, Zone,
};
use ulid::Ulid;

const SPAN_MS: i64 = 30 * 86_400_000;
const AGENTS: u64 = 1_000;
const CALLS_A_SESSION: u64 = 50;
/// Waited for on disk now and then, so that the queue to the disk stays short.
const FLUSH_EVERY: u64 = 50_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder");
    let entries = arguments
        .next()
        .map_or(10_000_000, |text| text.parse().expect("a number of entries"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("{}", runtime.block_on(fill(Path::new(&folder), entries)));
}

async fn fill(folder: &Path, entries: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let start_ms = i64::try_from(now.as_millis()).unwrap() - SPAN_MS - 60_000;
    let clock = Arc::new(ManualClock::new(start_ms));
    let options = Options {
        durability: Durability::Relaxed,
        ..Options::new(folder)
    };
    let ledger = Ledger::open(options, Arc::clone(&clock) as _).unwrap();
    let bounds = [Window::Month, Window::Day].map(|window| {
        let limit = Limit::usd(Usd::from_nanos(i64::MAX / 4)).unwrap();
        Bound::new("global".into(), window, Zone::utc(), limit, Mode::Hard).unwrap()
    });
    let mut calls = vec![0_u64; AGENTS as usize];
    let (mut last, basis) = (String::new(), Name::from("named_max"));
    for number in 0..entries {
        let at_ms = start_ms + (i128::from(number) * i128::from(SPAN_MS) / i128::from(entries)) as i64;
        clock.advance_ms(at_ms - ledger.now_ms());
        let agent = scattered(number) % AGENTS;
        calls[agent as usize] += 1;
        let session = format!("session-{agent}-{}", calls[agent as usize] / CALLS_A_SESSION);
        if agent == 0 {
            last.clone_from(&session);
        }
        let (facts, settlement) = exchange(at_ms, number, agent, &session);
        let permit = ledger.admit().await.unwrap();
        let hold = ledger
            .reserve(
                permit,
                facts,
                &bounds,
                Amounts::of_request(Usd::from_nanos(120_000_000), 30_000),
                &basis,
            )
            .unwrap();
        hold.settle(settlement);
        if number % FLUSH_EVERY == 0 {
            ledger.flushed().await;
        }
    }
    ledger.flushed().await;
    ledger.close();
    last
}

fn exchange(at_ms: i64, number: u64, agent: u64, session: &str) -> (Facts, Settlement) {
    let chance = scattered(number ^ 0xabc);
    let model = Name::from(format!("model-{}", chance % 20));
    let facts = Facts {
        id: Ulid::from_parts(at_ms as u64, u128::from(scattered(number)) << 24 | u128::from(number)),
        provider: format!("provider-{}", chance % 4).into(),
        requested_model: model.clone(),
        key: format!("{agent:024x}").into(),
        tenant: format!("tenant-{}", agent % 50).into(),
        agent: format!("agent-{agent}").into(),
        session: session.into(),
        user: format!("user-{}", chance % 500).into(),
        tags: [("team".into(), format!("team-{}", agent % 5).into())].into(),
        ..common::facts(at_ms, number)
    };
    let settlement = Settlement {
        model,
        cost: Usd::from_nanos((chance % 50_000_000) as i64),
        status: if chance.is_multiple_of(500) { 529 } else { 200 },
        ..common::settlement(at_ms, 900)
    };
    (facts, settlement)
}

/// The same in every run, and without a pattern.
fn scattered(number: u64) -> u64 {
    let mixed = (number ^ 0x51).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}
