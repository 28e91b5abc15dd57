//! What names that clients make up take: `cargo run --release -p agentledger-benches --bin names -- [NAMES]`
//!
//! A process settles as many exchanges as are asked for (1,000,000), each with a session, a key and a tag that no other has, in
//! a ledger on disk. Then it says what it takes in memory beyond an idle one, what is on disk, and how long a summary takes;
//! another one says how long a start takes and what is in memory after it.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use agentledger_benches::{process, sample};
use agentledger_ledger::{Dimension, Durability, Ledger, Name, Options, SummaryQuery, SystemClock};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => measure(1_000_000),
        [names] => measure(names.parse()?),
        [word, folder, names] if word == "run" => run(Path::new(folder), names.parse()?),
        _ => Err("usage: names [NAMES]".into()),
    }
}

fn measure(names: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    for (title, names) in [
        ("idle", 0),
        ("exchanges with names of their own", names),
        ("after a restart", 0),
    ] {
        println!("{names} {title}:");
        let output = Command::new(std::env::current_exe()?)
            .args(["run".as_ref(), folder.path().as_os_str(), names.to_string().as_ref()])
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        print!("{}", String::from_utf8(output.stdout)?);
    }
    let bytes = process::disk_bytes(folder.path());
    println!("on disk: {:.0} MiB", bytes as f64 / f64::from(1 << 20));
    Ok(())
}

fn run(folder: &Path, names: u64) -> Result<(), Failure> {
    let options = Options {
        durability: Durability::Relaxed,
        ..Options::new(folder)
    };
    let started = Instant::now();
    let ledger = Ledger::open(options, Arc::new(SystemClock::default()))?;
    println!("    open after {:.2} s", started.elapsed().as_secs_f64());
    Runtime::new()?.block_on(async {
        for number in 0..names {
            let mut facts = sample::facts(ledger.now_ms(), number);
            facts.session = format!("0f0e7f7a-0000-4000-8000-{number:012}").into();
            facts.key = format!("{number:024x}").into();
            facts.tags = BTreeMap::from([("request_id".into(), format!("{number:016x}").into())]);
            let permit = ledger.admit().await?;
            let hold = ledger.reserve(permit, facts, &[], sample::amounts(), &Name::from("named_max"))?;
            hold.settle(sample::settlement(ledger.now_ms()));
            // What waits to be applied is bounded, and not what is measured here.
            if number % 4_096 == 0 {
                ledger.flushed().await;
            }
        }
        ledger.flushed().await;
        Ok::<(), Failure>(())
    })?;
    if names > 0 {
        println!("    settled after {:.0} s", started.elapsed().as_secs_f64());
    }
    let resident = process::resident_kib(std::process::id()).ok_or("no /proc here")?;
    println!("    resident: {:.1} MiB", resident / 1_024.0);
    let asked = Instant::now();
    let query = SummaryQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        by: Dimension::Session,
        tenant: None,
    };
    let rows = ledger.summary(&query);
    let counted: u64 = rows.iter().map(|row| row.requests).sum();
    let took = asked.elapsed();
    println!(
        "    summary: {counted} exchanges in {} rows in {:.0} ms",
        rows.len(),
        took.as_secs_f64() * 1e3
    );
    let folded: Vec<String> = ledger
        .folded_names()
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    println!("    counted on `other`: {}", folded.join(", "));
    let closing = Instant::now();
    ledger.close();
    println!("    closed in {:.2} s", closing.elapsed().as_secs_f64());
    Ok(())
}
