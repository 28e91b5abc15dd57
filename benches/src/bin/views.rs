//! What the dashboard's views cost a gateway with many entries: `cargo build --release -p agentledger -p agentledger-load --bins &&
//! cargo run --release -p agentledger-benches --bin views -- [ENTRIES]`
//!
//! Fills a ledger on disk with the last thirty days of a thousand agents (a key each, twenty models, four providers, fifty tenants,
//! five hundred users, a session for each fifty calls), serves it, and requests twenty times what each view requests
//! (gateway/dashboard/views). From the request's first byte to the answer's last, over loopback: JSON and HTTP included.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agentledger_benches::http::Connection;
use agentledger_benches::sample;
use agentledger_benches::started::{Started, call, connected};
use agentledger_ledger::{
    Bound, Durability, Facts, Ledger, Limit, ManualClock, Mode, Name, Options, Settlement, Usd, Window, Zone,
};
use tokio::runtime::Runtime;
use ulid::Ulid;

type Failure = Box<dyn Error + Send + Sync>;

const ENTRIES: u64 = 10_000_000;
const SPAN_MS: i64 = 30 * 86_400_000;
const AGENTS: u64 = 1_000;
const CALLS_A_SESSION: u64 = 50;
const ROUNDS: usize = 20;
/// Waited for on disk now and then, so that the queue to the disk stays short.
const FLUSH_EVERY: u64 = 50_000;

fn main() -> Result<(), Failure> {
    let entries = std::env::args().nth(1).map_or(Ok(ENTRIES), |text| text.parse())?;
    // Not in memory, as the system's folder for passing files may be.
    let folder = tempfile::tempdir_in(std::env::var_os("BENCH_DIR").unwrap_or_else(|| "/var/tmp".into()))?;
    let runtime = Runtime::new()?;
    let began = Instant::now();
    let session = fill(&runtime, &folder.path().join("ledger"), entries)?;
    let took = began.elapsed().as_secs_f64();
    println!(
        "{entries} entries written in {took:.0} s, {:.1} µs each",
        took * 1e6 / entries as f64
    );
    let began = Instant::now();
    let gateway = Started::new(folder.path(), "admin")?;
    runtime.block_on(gateway.ready())?;
    println!("the gateway serves them after {:.1} s", began.elapsed().as_secs_f64());
    println!("\n| view | requests | bytes | median | slowest |\n|---|---|---:|---:|---:|");
    runtime.block_on(async {
        let mut connection = connected().await?;
        for (view, method, params) in requests(&session) {
            measure(&mut connection, view, method, &params).await?;
        }
        Ok::<_, Failure>(())
    })?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.gateway_pid()))?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("\nmemory of the gateway at most: {}", peak.unwrap_or("unknown"));
    Ok(())
}

/// What the views request, each named by its address in the page.
fn requests(session: &str) -> Vec<(&'static str, &'static str, String)> {
    let mut all: Vec<(&str, &str, String)> = vec![
        ("now", "ledger.series", r#"{"step":"day","last":"30d"}"#.into()),
        ("now", "ledger.series", r#"{"step":"minute","last":"1h"}"#.into()),
        ("now", "ledger.pace", "{}".into()),
        (
            "now",
            "ledger.forecast",
            r#"{"account":"global","window":"month"}"#.into(),
        ),
        (
            "now, live calls",
            "ledger.calls",
            r#"{"last":"24h","limit":100}"#.into(),
        ),
    ];
    for by in [
        "tenant", "agent", "session", "user", "model", "provider", "key", "tag:team",
    ] {
        all.push((
            "who",
            "ledger.summary",
            format!(r#"{{"by":"{by}","last":"30d","limit":100}}"#),
        ));
        all.push((
            "spend",
            "ledger.series",
            format!(r#"{{"by":"{by}","step":"day","last":"30d","limit":20000}}"#),
        ));
    }
    all.extend([
        (
            "who, one agent",
            "ledger.summary",
            r#"{"by":"model","agent":"agent-7","last":"30d"}"#.to_owned(),
        ),
        (
            "who, one tenant",
            "ledger.summary",
            r#"{"by":"agent","tenant":"tenant-7","last":"30d"}"#.to_owned(),
        ),
        (
            "calls, latest",
            "ledger.calls",
            r#"{"last":"30d","limit":1000}"#.to_owned(),
        ),
        (
            "calls, dearest",
            "ledger.calls",
            r#"{"last":"30d","sort":"cost","limit":100}"#.to_owned(),
        ),
        (
            "calls of one agent",
            "ledger.calls",
            r#"{"last":"30d","agent":"agent-7","limit":100}"#.to_owned(),
        ),
        (
            "errors",
            "ledger.calls",
            r#"{"last":"24h","is":"error","limit":100}"#.to_owned(),
        ),
        ("sessions", "session.list", r#"{"limit":100}"#.to_owned()),
        (
            "sessions, one",
            "session.tree",
            format!(r#"{{"id":"{session}","tenant":"tenant-0"}}"#),
        ),
        (
            "budgets",
            "budget.status",
            r#"{"order":"urgency","limit":100}"#.to_owned(),
        ),
        ("keys", "key.list", r#"{"last":"30d"}"#.to_owned()),
        ("ledger", "ledger.months", "{}".to_owned()),
        ("ledger", "ledger.journal", r#"{"limit":40}"#.to_owned()),
        (
            "ledger, in its midst",
            "ledger.journal",
            r#"{"limit":40,"before":9000000}"#.to_owned(),
        ),
        ("alerts", "alert.list", r#"{"limit":10}"#.to_owned()),
    ]);
    all
}

async fn measure(connection: &mut Connection, view: &str, method: &str, params: &str) -> Result<(), Failure> {
    let answer = match call(connection, method, params).await {
        Ok(answer) => answer,
        Err(failure) => {
            println!("| {view} | `{method} {params}` | | {failure} | |");
            return Ok(());
        }
    };
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        call(connection, method, params).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
    let (median, slowest) = (ms(took.get(ROUNDS / 2)), ms(took.last()));
    let bytes = answer.len();
    println!("| {view} | `{method} {params}` | {bytes} | {median:.1} ms | {slowest:.1} ms |");
    Ok(())
}

/// Fills a ledger with the last thirty days; the id of a session of its last hours.
fn fill(runtime: &Runtime, folder: &Path, entries: u64) -> Result<String, Failure> {
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let start_ms = now_ms - SPAN_MS - 60_000;
    let clock = Arc::new(ManualClock::new(start_ms));
    let options = Options {
        durability: Durability::Relaxed,
        ..Options::new(folder)
    };
    let ledger = Ledger::open(options, Arc::clone(&clock) as _)?;
    let mut calls = vec![0_u64; usize::try_from(AGENTS)?];
    let bound = |account: &str, window| {
        let limit = Limit::usd(Usd::from_nanos(i64::MAX / 4))?;
        Bound::new(account.into(), window, Zone::utc(), limit, Mode::Hard)
    };
    let bounds = [bound("global", Window::Month)?, bound("global", Window::Day)?];
    let mut last = String::new();
    runtime.block_on(async {
        for number in 0..entries {
            let at_ms = start_ms + i64::try_from(i128::from(number) * i128::from(SPAN_MS) / i128::from(entries))?;
            clock.advance_ms(at_ms - ledger.now_ms());
            let agent = scattered(number) % AGENTS;
            let count = calls.get_mut(usize::try_from(agent)?).ok_or("no such agent")?;
            *count += 1;
            let (facts, settlement) = exchange(at_ms, number, agent, *count / CALLS_A_SESSION);
            if agent == 0 {
                last = facts.session.to_string();
            }
            let permit = ledger.admit().await?;
            let hold = ledger.reserve(permit, facts, &bounds, sample::amounts(), &Name::from("named_max"))?;
            hold.settle(settlement);
            if number % FLUSH_EVERY == 0 {
                ledger.flushed().await;
            }
        }
        ledger.flushed().await;
        Ok::<_, Failure>(())
    })?;
    ledger.close();
    Ok(last)
}

fn exchange(at_ms: i64, number: u64, agent: u64, session: u64) -> (Facts, Settlement) {
    let chance = scattered(number ^ 0xabc);
    let facts = Facts {
        id: Ulid::from_parts(
            u64::try_from(at_ms).unwrap_or_default(),
            u128::from(scattered(number)) << 16 | u128::from(number),
        ),
        provider: format!("provider-{}", chance % 4).into(),
        requested_model: format!("model-{}", chance % 20).into(),
        key: format!("{agent:024x}").into(),
        tenant: format!("tenant-{}", agent % 50).into(),
        agent: format!("agent-{agent}").into(),
        session: format!("session-{agent}-{session}").into(),
        user: format!("user-{}", chance % 500).into(),
        tags: BTreeMap::from([("team".into(), format!("team-{}", agent % 5).into())]),
        ..sample::facts(at_ms, number)
    };
    let settlement = Settlement {
        model: format!("model-{}", chance % 20).into(),
        cost: Usd::from_nanos(i64::try_from(chance % 50_000_000).unwrap_or_default()),
        status: if chance.is_multiple_of(500) { 529 } else { 200 },
        ..sample::settlement(at_ms)
    };
    (facts, settlement)
}

/// The same in every run, and without a pattern.
fn scattered(number: u64) -> u64 {
    let mixed = (number ^ 0x51).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}
