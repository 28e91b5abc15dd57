//! What live sessions take in memory: `cargo run --release -p agentledger-benches --bin sessions -- [SESSIONS]`
//!
//! Two processes settle the same number of calls in a ledger on disk, one of them all in one session, the other in as many
//! sessions as are asked for (100,000), each with its steps in the loop window. What the second one takes beyond the first is what
//! the sessions take: themselves, their accounts in the books, their sums, their steps.

use std::error::Error;
use std::process::Command;
use std::sync::Arc;

use agentledger::testing::progress::{Bounds, SessionProgress};
use agentledger_benches::{process, sample};
use agentledger_ledger::{Durability, Ledger, Name, Options, SystemClock, Usd};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error + Send + Sync>;

const CALLS_PER_SESSION: u64 = 2;
const BOUNDS: Bounds = Bounds {
    window_ms: 300_000,
    steps_max: 1_024,
};

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => compare(100_000),
        [sessions] => compare(sessions.parse()?),
        [word, sessions, calls] if word == "run" => run(sessions.parse()?, calls.parse()?),
        _ => Err("usage: sessions [SESSIONS]".into()),
    }
}

fn compare(sessions: u64) -> Result<(), Failure> {
    let calls = sessions * CALLS_PER_SESSION;
    let one = child(1, calls)?;
    println!("{calls} calls in one session: {:.1} MiB resident", one / 1_024.0);
    let many = child(sessions, calls)?;
    println!(
        "{calls} calls in {sessions} sessions: {:.1} MiB resident",
        many / 1_024.0
    );
    let more = many - one;
    println!(
        "the sessions take {:.1} MiB, {:.0} B each",
        more / 1_024.0,
        more * 1_024.0 / (sessions as f64)
    );
    Ok(())
}

/// Resident KiB at the end, as a process of its own says.
fn child(sessions: u64, calls: u64) -> Result<f64, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .args(["run", &sessions.to_string(), &calls.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn run(sessions: u64, calls: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let options = Options {
        durability: Durability::Relaxed,
        ..Options::new(folder.path())
    };
    let ledger = Ledger::open(options, Arc::new(SystemClock::default()))?;
    let progress = Arc::new(SessionProgress::default());
    Runtime::new()?.block_on(async {
        for number in 0..calls {
            let mut facts = sample::facts(ledger.now_ms(), number);
            facts.session = format!("0f0e7f7a-0000-4000-8000-{:012}", number % sessions).into();
            facts.agent = format!("agent-{}", number % sessions % 100).into();
            let doing = progress.doing("/v1/messages", &number.to_le_bytes(), None);
            let (_, step) = progress.begin(BOUNDS, ledger.now_ms(), ("", &facts.session), doing, false);
            let permit = ledger.admit().await?;
            let hold = ledger.reserve(permit, facts, &[], sample::amounts(), &Name::from("named_max"))?;
            hold.settle(sample::settlement(ledger.now_ms()));
            step.answered(Usd::ZERO, None);
            // What waits to be applied is bounded, and not what is measured here.
            if number % 4_096 == 0 {
                ledger.flushed().await;
            }
        }
        ledger.flushed().await;
        let resident = process::resident_kib(std::process::id()).ok_or("no /proc here")?;
        let live = ledger.sessions().select(|_| true).len();
        if live as u64 != sessions {
            return Err(format!("{live} sessions are live, not {sessions}").into());
        }
        println!("{resident}");
        Ok(())
    })
}
