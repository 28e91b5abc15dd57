//! `kill -9` under load, again and again, over one ledger: nothing acknowledged is lost, no hold leaks, the chain is whole.
//!
//! The test starts itself as the process to be killed. `AGENTLEDGER_KILL_ROUNDS` sets the number of rounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{
    Answered, Change, ChangeQuery, Ledger, Options, Outcome, Report, SummaryQuery, SystemClock, Window,
};
use common::*;
use ulid::Ulid;

const CHILD_DIR: &str = "AGENTLEDGER_KILL_CHILD_DIR";
const CHILD_ROUND: &str = "AGENTLEDGER_KILL_CHILD_ROUND";

fn open(dir: &Path) -> Arc<Ledger> {
    Ledger::open(Options::new(dir), Arc::new(SystemClock::default())).unwrap()
}

/// Not a test of its own: what the killed process does. Says `held ID` and `settled ID` once they are on disk.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let round: u64 = std::env::var(CHILD_ROUND).unwrap().parse().unwrap();
    let ledger = open(Path::new(&dir));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let workers = (0..8u64).map(|worker| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move {
                for turn in 0.. {
                    let number = (round << 32) | (worker << 24) | turn;
                    let mut hold = hold(&ledger, number, 100).await;
                    hold.durable().await.unwrap();
                    say("held", &hold.facts().id.to_string());
                    if turn % 5 == 4 {
                        hold.extend(agentledger_ledger::Amounts::of_request(usd(11), 0))
                            .unwrap();
                    }
                    match turn % 7 {
                        // Left open for ever, as by a stream that runs.
                        6 => std::mem::forget(hold),
                        5 => hold.void("refused upstream"),
                        _ => {
                            let settled = hold.settle(settlement(ledger.now_ms(), 70 + turn as i64 % 60));
                            settled.durable().await.unwrap();
                            say("settled", &settled.entry.facts.id.to_string());
                            if turn % 3 == 0 {
                                adjust(&ledger, settled.entry.facts.id, number).await;
                            }
                        }
                    }
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.unwrap();
        }
    });
}

/// An operator's request: a nano-dollar more for an entry, with the change that tells of it.
async fn adjust(ledger: &Ledger, entry: Ulid, number: u64) {
    let id = Ulid::from_parts(1, u128::from(number));
    let change = |_| Change {
        id,
        at_ms: i64::MAX,
        author: "ops".into(),
        peer: "socket".into(),
        action: "ledger.adjust".into(),
        subject: format!("entry:{}", number % 50).into(),
        tenant: "".into(),
        note: "".into(),
        before: None,
        after: Some("{}".into()),
        kept: true,
        min_version: 0,
        request: Some(Answered {
            id: id.to_string().into(),
            digest: [1; 32],
            answer: "{}".into(),
        }),
    };
    let sequence = ledger.adjust_audited(entry, usd(1), "invoice", change).unwrap();
    ledger.durable(sequence).await.unwrap();
    say("changed", &id.to_string());
}

fn say(what: &str, id: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{what} {id}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What a process said to be settled and changed before it was killed.
fn killed(dir: &Path, round: u64) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIR, dir)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut lines = String::new();
    // Some traffic first, so that each kill falls into the middle of it; then a moment that differs by round.
    for _ in 0..40 {
        out.read_line(&mut lines).unwrap();
    }
    std::thread::sleep(Duration::from_millis(round * 7 % 31));
    child.kill().unwrap();
    child.wait().unwrap();
    out.read_to_string(&mut lines).unwrap();
    let said = |what: &str| {
        let ids = lines.lines().filter_map(|line| line.strip_prefix(what));
        // The last line may be cut off by the kill.
        ids.filter(|id| id.len() == 26)
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    (said("settled "), said("changed "))
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let rounds: u64 = std::env::var("AGENTLEDGER_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100);
    let dir = tempfile::tempdir().unwrap();
    let (mut settled, mut changed, mut recovered_all) = (BTreeSet::new(), BTreeSet::new(), 0);
    for round in 0..rounds {
        let (now_settled, now_changed) = killed(dir.path(), round);
        assert!(
            !now_settled.is_empty(),
            "round {round}: nothing was settled before the kill"
        );
        settled.extend(now_settled);
        changed.extend(now_changed);
        let report = agentledger_ledger::verify(dir.path(), None).unwrap();
        assert!(report.is_sound(), "round {round}: {report:?}");
        let ledger = open(dir.path());
        let recovered = ledger.recovered_holds() as u64;
        assert_eq!(recovered, report.open_holds, "round {round}");
        recovered_all += recovered;
        assert!(ledger.open_holds().is_empty());
        if round % 10 == 9 || round + 1 == rounds {
            check_books(&ledger, &settled, &changed, recovered_all);
        }
        ledger.close();
    }
    assert!(recovered_all > 0 && (rounds < 10 || !changed.is_empty()));
}

/// Every acknowledged change is there once, and its answer known; what each of them adds is posted once. How many there are.
fn check_changes(ledger: &Ledger, changed: &BTreeSet<String>) -> i64 {
    let mut query = ChangeQuery::default();
    let mut found = BTreeSet::new();
    loop {
        let page = ledger.changes(&query).unwrap();
        for (_, change) in &page.changes {
            assert!(found.insert(change.id.to_string()), "a change twice");
        }
        match page.next {
            None => break,
            next => query.before_sequence = next,
        }
    }
    let lost: Vec<_> = changed.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged, but lost: {lost:?}");
    assert!(
        changed
            .iter()
            .rev()
            .take(1_000)
            .all(|id| ledger.answered("ops", id).is_some())
    );
    let versions = ledger
        .documents("entry:")
        .iter()
        .map(|document| document.version)
        .sum::<u64>();
    assert_eq!(versions, found.len() as u64);
    found.len() as i64
}

/// Every acknowledged entry is there once, every hold left open was recovered once, and all sums agree.
fn check_books(ledger: &Ledger, settled: &BTreeSet<String>, changed: &BTreeSet<String>, recovered: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(ledger.flushed());
    let entries = all_entries(ledger, 500);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for entry in &entries {
        *seen.entry(entry.facts.id.to_string()).or_default() += 1;
    }
    assert!(seen.values().all(|count| *count == 1), "an entry twice");
    let lost: Vec<_> = settled.iter().filter(|id| !seen.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged, but lost: {lost:?}");
    let found = entries
        .iter()
        .filter(|entry| entry.settlement.outcome == Outcome::Recovered);
    assert!(found.clone().all(|entry| entry.settlement.cost == entry.held));
    assert_eq!(found.count() as u64, recovered);
    let posted = sum(&entries) + check_changes(ledger, changed);
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(posted));
    assert_eq!(ledger.held("global").usd, usd(0));
    let by = agentledger_ledger::Dimension::Session;
    let rows = ledger.summary(&SummaryQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        by,
        tenant: None,
    });
    assert_eq!(rows.iter().map(|row| row.cost.nanos()).sum::<i64>(), posted);
    assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), entries.len() as u64);
    assert!(Report::is_sound(&ledger.verify(Some(ledger.head().hash)).unwrap()));
}
