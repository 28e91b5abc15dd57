//! Versions of a policy put in force under full load:
//! `cargo build --release -p agentledger -p agentledger-benches && target/release/activation [ACTIVATIONS] [CONNECTIONS]`
//!
//! Starts the scripted upstream and a gateway beside it. CONNECTIONS (64) send chats without a pause; meanwhile ACTIVATIONS (200)
//! times, one each 50 ms, the other of two versions of a policy is put in force by `policy.activate`, every tenth time by
//! `policy.rollback`. Both phases of the policy say its version: an answer that mixes them, lacks it, or is no 200, is a failed
//! request (goal: none). Then a connection of its own sends a chat, which must go by the new version. Times are of the call, which
//! is synced before its answer, and of the call with that chat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentledger_benches::http::{Connection, Head};
use agentledger_benches::paced::median;
use agentledger_benches::started::{Failure, Started, call, chat, connected};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

const EVERY: Duration = Duration::from_millis(50);
/// Requests before and after, without an activation.
const QUIET: Duration = Duration::from_secs(3);
const HEADER: &str = "x-bench-version";

fn main() -> Result<(), Failure> {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let activations = numbers.first().copied().unwrap_or(200);
    let connections = numbers.get(1).copied().unwrap_or(64);
    let dir = tempfile::tempdir()?;
    let started = Started::new(dir.path(), "admin")?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        started.ready().await?;
        run(activations, connections).await
    })
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    served: AtomicU64,
    failed: AtomicU64,
    ended: AtomicBool,
}

async fn run(activations: usize, connections: usize) -> Result<(), Failure> {
    let mut control = connected().await?;
    let mut hashes = Vec::new();
    for version in ["1", "2"] {
        let text = serde_json::to_string(&policy(version))?;
        let answer = call(&mut control, "policy.put", &format!("{{\"text\":{text}}}")).await?;
        hashes.push(hash_of(&answer)?);
    }
    activate(&mut control, &hashes, 0).await?;

    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for number in 0..connections {
        let seen = Arc::clone(&seen);
        clients.spawn(async move { ask_on(&seen, number).await });
    }
    let quiet = rate(&seen, QUIET).await;
    let (mut calls, mut effects) = (Vec::new(), Vec::new());
    let mut probe = connected().await?;
    let (began, before) = (Instant::now(), seen.served.load(Ordering::Relaxed));
    for round in 1..=activations {
        let due = began + EVERY * u32::try_from(round)?;
        tokio::time::sleep_until(due.into()).await;
        let start = Instant::now();
        if round % 10 == 0 {
            call(&mut control, "policy.rollback", "{\"policy\":\"bench\"}").await?;
        } else {
            activate(&mut control, &hashes, round % 2).await?;
        }
        calls.push(start.elapsed().as_secs_f64() * 1e3);
        let expected = if round % 2 == 0 { "1-1" } else { "2-2" };
        let head = chat(&mut probe, "").await?;
        if marked(&head).as_deref() != Some(expected) {
            return Err(format!(
                "after activation {round} a chat is not decided by it: {:?}",
                marked(&head)
            )
            .into());
        }
        effects.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let changing = (seen.served.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    rate(&seen, QUIET).await;
    seen.ended.store(true, Ordering::Release);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let (served, failed) = (seen.served.load(Ordering::Relaxed), seen.failed.load(Ordering::Relaxed));
    println!(
        "| activations | connections | requests | failed | requests/s before | meanwhile | call, median | slowest | to effect, \
         median | slowest |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
    println!(
        "| {activations} | {connections} | {} | {failed} | {quiet:.0} | {changing:.0} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms |",
        served + failed,
        median(calls.iter().copied()),
        slowest(&calls),
        median(effects.iter().copied()),
        slowest(&effects)
    );
    if failed > 0 {
        return Err(format!("{failed} requests failed").into());
    }
    Ok(())
}

/// Both phases name the version.
fn policy(version: &str) -> String {
    format!(
        r#"return {{ name = "bench", version = "{version}", priority = 10,
            tenant = function() return tag{{ name = "seen", value = "{version}" }} end,
            request = function(conf, call)
                return header{{ name = "X-Bench-Version", value = "{version}-" .. tostring(call.tags.seen) }}
            end }}"#
    )
}

fn hash_of(answer: &str) -> Result<String, Failure> {
    let answer: serde_json::Value = serde_json::from_str(answer)?;
    let hash = answer.pointer("/result/version").and_then(serde_json::Value::as_str);
    hash.map(str::to_owned)
        .ok_or_else(|| "policy.put names no version".into())
}

async fn activate(connection: &mut Connection, hashes: &[String], which: usize) -> Result<(), Failure> {
    let hash = hashes.get(which).ok_or("there is no such version")?;
    let params = format!(r#"{{"policy":"bench","version":"{hash}"}}"#);
    call(connection, "policy.activate", &params).await.map(drop)
}

fn marked(head: &Head) -> Option<String> {
    head.header(HEADER).map(str::to_owned)
}

/// One client, until all end.
async fn ask_on(seen: &Seen, number: usize) -> Result<(), Failure> {
    let mut connection = connected().await?;
    let agent = format!("X-Agent-Id: bench-{number}\r\n");
    while !seen.ended.load(Ordering::Acquire) {
        let well = match chat(&mut connection, &agent).await {
            Ok(head) => head.status() == Some(200) && matches!(marked(&head).as_deref(), Some("1-1" | "2-2")),
            Err(_) => {
                connection = connected().await?;
                false
            }
        };
        let counter = if well { &seen.served } else { &seen.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Requests a second over a while.
async fn rate(seen: &Seen, during: Duration) -> f64 {
    let before = seen.served.load(Ordering::Relaxed);
    tokio::time::sleep(during).await;
    (seen.served.load(Ordering::Relaxed) - before) as f64 / during.as_secs_f64()
}

fn slowest(times: &[f64]) -> f64 {
    times.iter().copied().fold(0.0, f64::max)
}
