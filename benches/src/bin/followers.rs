//! What a thousand followers of the ledger do to the requests beside them:
//! `cargo build --release -p agentledger -p agentledger-benches && target/release/followers [FOLLOWERS] [RATE] [SECONDS] [ROUNDS]`
//!
//! Starts the scripted upstream and a gateway beside it (of the same folder as this binary), and sends RATE chats a second (50) for
//! SECONDS (10), in ROUNDS (5) of three segments each: without followers, without followers once more, and with FOLLOWERS
//! (1,000) WebSockets that follow `ledger.tail`. The two without say how much the same thing differs from itself; the third
//! is compared with that. Every follower must be given every entry, or the run fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agentledger_benches::paced::{CHATTERS, band, medians, segment};
use agentledger_benches::started::{Failure, GATEWAY, Started, TOKEN};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What every notification of an entry has in it once.
const MARK: &[u8] = b"\"sequence\":";
/// After so long without a request everything is settled and given out.
const QUIET: Duration = Duration::from_secs(1);
/// Connections that are opened at one time.
const OPENING: usize = 50;

struct Plan {
    followers: u64,
    rate: u64,
    seconds: u64,
    rounds: u64,
}

fn main() -> Result<(), Failure> {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let plan = Plan {
        followers: number(0, 1_000),
        rate: number(1, 50),
        seconds: number(2, 10),
        rounds: number(3, 5),
    };
    let dir = tempfile::tempdir()?;
    let started = Started::new(dir.path(), "read")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        started.ready().await?;
        run(&plan).await
    })
}

async fn run(plan: &Plan) -> Result<(), Failure> {
    segment(plan.rate, plan.seconds, "").await?;
    let (mut quiet, mut again, mut followed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        quiet.push(segment(plan.rate, plan.seconds, "").await?);
        again.push(segment(plan.rate, plan.seconds, "").await?);
        followed.push(with_followers(plan).await?);
        println!(
            "round {round}: p99 {:.2} and {:.2} ms without followers, {:.2} ms with {}",
            last(&quiet).1,
            last(&again).1,
            last(&followed).1,
            plan.followers
        );
    }
    println!(
        "median of {} rounds, {} chats a second: p50 and p99, ms",
        plan.rounds, plan.rate
    );
    for (name, segments) in [("A", &quiet), ("A again", &again), ("followed", &followed)] {
        let (p50, p99) = medians(segments);
        println!("{name:10} {p50:6.2} {p99:6.2}");
    }
    let (low, high) = band(&quiet, &again);
    println!("the A/A band of p99: {low:.2} to {high:.2} ms");
    Ok(())
}

fn last(segments: &[(f64, f64)]) -> (f64, f64) {
    segments.last().copied().unwrap_or_default()
}

/// A segment while followers are given every entry.
async fn with_followers(plan: &Plan) -> Result<(f64, f64), Failure> {
    let (heard, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let ready = Arc::new(AtomicU64::new(0));
    let followers = plan.followers;
    let followed = {
        let (heard, over, ready) = (Arc::clone(&heard), Arc::clone(&over), Arc::clone(&ready));
        // On a thread of their own: what is measured does not wait for them here.
        std::thread::spawn(move || -> Result<(), Failure> {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(follow(followers, &heard, &over, &ready))
        })
    };
    while ready.load(Ordering::SeqCst) < followers {
        if followed.is_finished() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    // What the segment before left is no news of this one.
    sleep(QUIET).await;
    heard.store(0, Ordering::SeqCst);
    let shown = segment(plan.rate, plan.seconds, "").await;
    let expected = (plan.rate * plan.seconds / CHATTERS) * CHATTERS * followers;
    // The last of them are under way.
    for _ in 0..500 {
        if heard.load(Ordering::SeqCst) >= expected {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    over.store(true, Ordering::SeqCst);
    let heard = heard.load(Ordering::SeqCst);
    followed.join().map_err(|_| "the followers panicked")??;
    if heard != expected {
        return Err(format!("{heard} of {expected} entries were given to followers").into());
    }
    shown
}

async fn follow(
    followers: u64,
    heard: &Arc<AtomicU64>,
    over: &Arc<AtomicBool>,
    ready: &Arc<AtomicU64>,
) -> Result<(), Failure> {
    let mut all = JoinSet::new();
    let opening = Arc::new(tokio::sync::Semaphore::new(OPENING));
    for _ in 0..followers {
        let (heard, ready, opening) = (Arc::clone(heard), Arc::clone(ready), Arc::clone(&opening));
        all.spawn(async move {
            let place = opening.acquire_owned().await?;
            let mut stream = subscribed().await?;
            drop(place);
            ready.fetch_add(1, Ordering::SeqCst);
            // A mark may lie across two reads.
            let mut kept = Vec::new();
            let mut buffer = vec![0; 16 << 10];
            loop {
                let read = stream.read(&mut buffer).await?;
                if read == 0 {
                    return Ok::<(), Failure>(());
                }
                kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
                let found = kept.windows(MARK.len()).filter(|part| *part == MARK).count();
                heard.fetch_add(found as u64, Ordering::SeqCst);
                let keep = kept.len().saturating_sub(MARK.len() - 1);
                kept.drain(..keep);
            }
        });
    }
    while !over.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(50)).await;
        if let Some(ended) = all.try_join_next() {
            ended??;
            return Err("a follower's connection ended".into());
        }
    }
    Ok(())
}

/// A connection that follows the ledger.
async fn subscribed() -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(GATEWAY).await?;
    let handshake = format!(
        "GET /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).await?;
    until(&mut stream, b"\r\n\r\n").await?;
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"ledger.tail","params":{}}"#;
    // A final text frame, shorter than 126 bytes, masked with zeros.
    let mut frame = vec![0x81, 0x80 | u8::try_from(call.len())?, 0, 0, 0, 0];
    frame.extend_from_slice(call);
    stream.write_all(&frame).await?;
    until(&mut stream, b"\"result\":").await?;
    Ok(stream)
}

async fn until(stream: &mut TcpStream, mark: &[u8]) -> Result<(), Failure> {
    let mut seen = Vec::new();
    while !seen.windows(mark.len()).any(|part| part == mark) {
        seen.push(stream.read_u8().await?);
        if seen.len() > 4_096 {
            return Err("no answer that was expected".into());
        }
    }
    Ok(())
}
