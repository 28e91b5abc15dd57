//! What sums over ten million entries cost: `cargo run --release -p agentledger-ledger --example sums -- [ENTRIES]`.
//!
//! Thirty days of a thousand agents with a key each, twenty models of four providers, fifty tenants, a new session every fifty
//! calls, five hundred users, five teams; counted as the ledger counts them, with a checkpoint's merge every 65,536 entries and the
//! shipped limits. Then each query is made twenty times; the median and the slowest are printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agentledger_ledger::testing::Rollups;
use agentledger_ledger::{
    Dimension, Entry, Facts, Kind, Name, Outcome, Retention, SeriesQuery, Settlement, SummaryQuery, Usage, Usd,
};
use ulid::Ulid;

const START_MS: i64 = 1_795_305_600_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const DAYS: i64 = 30;
const AGENTS: u64 = 1_000;
const MODELS: u64 = 20;
const TENANTS: u64 = 50;
const CALLS_A_SESSION: u64 = 50;
const MERGE_EVERY: u64 = 65_536;
const ROUNDS: usize = 20;

fn main() {
    let entries = std::env::args()
        .nth(1)
        .map_or(10_000_000, |argument| argument.parse().expect("a number"));
    let began = Instant::now();
    let rollups = filled(entries);
    let took = began.elapsed();
    println!(
        "{entries} entries counted in {:.1} s, {:.1} µs each",
        took.as_secs_f64(),
        took.as_micros() as f64 / entries as f64
    );
    let end_ms = START_MS + DAYS * DAY_MS;
    println!("\n| query | rows | median | slowest |\n|---|---:|---:|---:|");
    let one = || Some(Name::from("tenant-7"));
    for (name, by) in dimensions() {
        for (range, from_ms) in [
            ("30 days", 0),
            ("7 days", end_ms - 7 * DAY_MS),
            ("24 h", end_ms - DAY_MS),
        ] {
            let query = SummaryQuery {
                from_ms,
                to_ms: i64::MAX,
                by: by.clone(),
                tenant: None,
            };
            measure(&format!("summary by {name}, {range}"), || rollups.summary(&query).len());
        }
        let query = SummaryQuery {
            from_ms: 0,
            to_ms: i64::MAX,
            by,
            tenant: one(),
        };
        measure(&format!("summary by {name}, 30 days, one tenant"), || {
            rollups.summary(&query).len()
        });
    }
    let all = dimensions().into_iter().map(|(name, by)| (name, Some(by)));
    for (name, by) in [("nothing", None)].into_iter().chain(all) {
        for (step, range, step_ms, from_ms) in [
            ("day", "30 days", DAY_MS, 0),
            ("hour", "24 h", HOUR_MS, end_ms - DAY_MS),
            ("minute", "1 h", MINUTE_MS, end_ms - HOUR_MS),
        ] {
            let query = SeriesQuery {
                from_ms,
                to_ms: i64::MAX,
                step_ms,
                by: by.clone(),
                tenant: None,
            };
            measure(&format!("series by {name}, by {step}, {range}"), || {
                rollups.sums_over_time(&query).len()
            });
        }
    }
}

fn dimensions() -> Vec<(&'static str, Dimension)> {
    vec![
        ("model", Dimension::Model),
        ("provider", Dimension::Provider),
        ("key", Dimension::Key),
        ("agent", Dimension::Agent),
        ("tenant", Dimension::Tenant),
        ("user", Dimension::User),
        ("tag", Dimension::Tag("team".into())),
        ("session", Dimension::Session),
    ]
}

fn measure(query: &str, mut make: impl FnMut() -> usize) {
    let rows = make();
    let mut took: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box(make());
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
    println!(
        "| {query} | {rows} | {:.1} ms | {:.1} ms |",
        ms(took[ROUNDS / 2]),
        ms(took[ROUNDS - 1])
    );
}

/// The same in every run, and without a pattern.
fn scattered(number: u64) -> u64 {
    let mixed = (number ^ 0x51).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

fn filled(entries: u64) -> Rollups {
    let mut rollups = Rollups::new(Retention::default());
    let names = |kind: &str, count: u64| {
        (0..count)
            .map(|number| Name::from(format!("{kind}-{number}")))
            .collect::<Vec<_>>()
    };
    let (agents, keys, models) = (names("agent", AGENTS), names("key", AGENTS), names("model", MODELS));
    let (tenants, users, teams) = (names("tenant", TENANTS), names("user", 500), names("team", 5));
    let providers = names("provider", 4);
    let mut calls = vec![0_u64; AGENTS as usize];
    for number in 0..entries {
        let at_ms = START_MS + (number as i128 * (DAYS * DAY_MS) as i128 / entries as i128) as i64;
        let chance = scattered(number);
        // Some agents call far more than others.
        let agent = (chance % AGENTS * (chance / AGENTS % AGENTS) / AGENTS) as usize;
        calls[agent] += 1;
        let model = (agent as u64 * 7 + chance % 4) % MODELS;
        let session = format!("{agent:04}-{}", calls[agent] / CALLS_A_SESSION);
        let entry = Entry {
            facts: Facts {
                id: Ulid::from_parts(at_ms as u64, u128::from(number)),
                at_ms,
                provider: providers[model as usize % 4].clone(),
                operation: "chat".into(),
                requested_model: models[model as usize].clone(),
                stream: true,
                key: keys[agent].clone(),
                tenant: tenants[agent % TENANTS as usize].clone(),
                agent: agents[agent].clone(),
                session: session.into(),
                user: users[chance as usize / 7 % 500].clone(),
                task: "".into(),
                tags: BTreeMap::from([("team".into(), teams[agent % 5].clone())]),
                path: "/v1/chat/completions".into(),
                inferred: Default::default(),
            },
            settlement: Settlement {
                model: models[model as usize].clone(),
                usage: Usage::default()
                    .with(Kind::Input, 1_000 + chance % 500)
                    .with(Kind::CacheRead, 20_000)
                    .with(Kind::Output, chance % 1_500),
                cost: Usd::from_nanos((chance % 40_000_000) as i64),
                status: 200,
                ..Settlement::unanswered(at_ms, Outcome::Completed, 200, "".into(), 2_000)
            },
            held: Usd::from_nanos(40_000_000),
            overage: Usd::ZERO,
            overage_reason: None,
            source: None,
        };
        rollups.add(&entry);
        if number % MERGE_EVERY == 0 {
            rollups.merge(at_ms);
            // As a checkpoint does.
            rollups.saved();
        }
    }
    rollups.merge(START_MS + DAYS * DAY_MS);
    rollups
}
