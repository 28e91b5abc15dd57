//! What a hung receiver of alerts does to the requests beside it:
//! `cargo build --release -p agentledger -p agentledger-benches && target/release/hung_receiver [RATE] [SECONDS] [ROUNDS]`
//!
//! Starts the scripted upstream and a gateway whose webhook takes connections and never answers, with a policy that raises an
//! alert for each request that wishes one. Sends RATE chats a second (200) for SECONDS (10), in ROUNDS (5) of three segments each:
//! without alerts, without alerts once more, and with one for each request. The two without say how much the same thing differs from
//! itself; the third is compared with that.

use std::net::TcpListener;

use agentledger_benches::paced::{band, medians, segment};
use agentledger_benches::started::{Failure, Started};
use tokio::runtime::Builder;

const POLICY: &str = "return { name = 'alarm', version = '1', settled = function(_, entry)
  if entry.agent == 'alarming' then return alert{ type = 'alarm', message = 'a request', about = entry.id } end
end }";

fn main() -> Result<(), Failure> {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (rate, seconds, rounds) = (number(0, 200), number(1, 10), number(2, 5));
    let hung = TcpListener::bind("127.0.0.1:0")?;
    let address = hung.local_addr()?;
    std::thread::spawn(move || {
        // Taken, kept, and never answered.
        let _kept: Vec<_> = hung.incoming().collect();
    });
    let dir = tempfile::tempdir()?;
    std::fs::create_dir_all(dir.path().join("policies"))?;
    std::fs::write(dir.path().join("policies/alarm.lua"), POLICY)?;
    let yaml = format!("alerts: {{webhooks: [{{url: \"http://{address}/\"}}]}}\n");
    let started = Started::with(dir.path(), "read", &yaml)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        started.ready().await?;
        run(rate, seconds, rounds).await
    })
}

async fn run(rate: u64, seconds: u64, rounds: u64) -> Result<(), Failure> {
    const QUIET: &str = "";
    const ALARMING: &str = "X-Agent-Id: alarming\r\n";
    segment(rate, seconds, QUIET).await?;
    let (mut without, mut again, mut with) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let shown = [QUIET, QUIET, ALARMING];
        let mut p99 = Vec::new();
        for (headers, into) in shown.into_iter().zip([&mut without, &mut again, &mut with]) {
            let times = segment(rate, seconds, headers).await?;
            p99.push(times.1);
            into.push(times);
        }
        println!("round {round}: p99 {p99:.2?} ms: without alerts, without alerts, with a hung receiver");
    }
    for (name, segments) in [("A", &without), ("A again", &again), ("hung", &with)] {
        let (p50, p99) = medians(segments);
        println!("{name:10} p50 {p50:6.2} ms, p99 {p99:6.2} ms, the median of {rounds}");
    }
    let (low, high) = band(&without, &again);
    println!("the A/A band of p99: {low:.2} to {high:.2} ms");
    Ok(())
}
