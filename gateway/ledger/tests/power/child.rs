//! The process whose power is cut: exchanges on a ledger, each acknowledgement said on its standard output at once.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use agentledger_ledger::{Clock, Ledger, Mark, Name, Options};

use crate::common::*;

pub const DIR: &str = "AGENTLEDGER_POWER_CHILD_DIR";
pub const ROUND: &str = "AGENTLEDGER_POWER_CHILD_ROUND";
pub const WORKERS: &str = "AGENTLEDGER_POWER_CHILD_WORKERS";

/// A month goes by in about a second, so that databases are made and checkpoints written while the power is still on.
const MS_A_MS: i64 = 2_500_000;

/// Both clocks of a machine whose time flies.
struct Hasty {
    began: Instant,
    from_ms: i64,
}

impl Clock for Hasty {
    fn now_ms(&self) -> i64 {
        self.from_ms + self.monotonic_ms()
    }

    fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap() * MS_A_MS
    }
}

fn say(what: &str, id: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{what} {id}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Opens a ledger whose clock goes on from its newest event.
pub fn open(dir: &Path) -> Result<Arc<Ledger>, agentledger_ledger::LedgerError> {
    let months = std::fs::read_dir(dir.join("journal")).into_iter().flatten();
    let newest = months
        .filter_map(|month| agentledger_ledger::store::Month::parse(month.ok()?.file_name().to_str()?))
        .max();
    let from_ms = newest.map_or(START_MS, |month| month.next().start_ms() - 1);
    let clock = Hasty {
        began: Instant::now(),
        from_ms,
    };
    Ledger::open(Options::new(dir), Arc::new(clock))
}

/// Says `held ID`, `settled ID` and `marked NAME` once they are on disk. Ends when the ledger stops.
pub fn main(dir: &Path) {
    let number = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (round, workers) = (number(ROUND), number(WORKERS));
    let ledger = open(dir).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let workers: Vec<_> = (0..workers)
            .map(|worker| tokio::spawn(work(Arc::clone(&ledger), (round << 32) | (worker << 24))))
            .collect();
        for worker in workers {
            let _ = worker.await;
        }
    });
    // No orderly end: the power is gone.
    std::process::exit(1);
}

async fn work(ledger: Arc<Ledger>, first: u64) -> Option<()> {
    for number in first.. {
        let permit = ledger.admit().await.ok()?;
        let is_marked = number % 7 == 6;
        let mut facts = facts(ledger.now_ms(), number);
        if is_marked {
            facts.session = format!("marked-{number}").into();
        }
        let amounts = agentledger_ledger::Amounts::of_request(usd(100), 1_000);
        let hold = ledger
            .reserve(permit, facts, &[], amounts, &Name::from("named_max"))
            .ok()?;
        hold.durable().await.ok()?;
        say("held", &hold.facts().id.to_string());
        if is_marked {
            let facts = hold.facts();
            let sequence = ledger.mark_session(&facts.tenant, &facts.session, Mark::Killed);
            ledger.durable(sequence).await.ok()?;
            say("marked", &facts.session);
        }
        let settled = hold.settle(settlement(ledger.now_ms(), 70 + number as i64 % 60));
        settled.durable().await.ok()?;
        say("settled", &settled.entry.facts.id.to_string());
    }
    Some(())
}
