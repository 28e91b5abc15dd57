//! Events that were on disk and are gone: no walk over what is left may call it sound, and no start may go on from it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentledger_ledger::store::{DiskStores, MemoryStores, Month, Stores, read_heads};
use agentledger_ledger::testing::{Damage, Stepped, walk};
use agentledger_ledger::{Ledger, LedgerError, ManualClock, OfflineLedger, Options, VerifyError};
use common::*;

const MONTH: Month = Month { year: 2026, month: 11 };
const EXCHANGES: u64 = 200;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_MS))
}

fn open(stores: &MemoryStores) -> Result<Arc<Ledger>, LedgerError> {
    Ledger::open_in(Arc::new(stores.clone()), &options(), clock() as _)
}

fn is_behind(opened: Result<Arc<Ledger>, LedgerError>) -> bool {
    matches!(opened, Err(LedgerError::Damaged(damaged)) if matches!(damaged.damage, Damage::Behind { .. }))
}

#[tokio::test]
async fn a_lost_end_is_seen_by_the_checkpoint_and_by_the_noted_heads_alone() {
    let stores = MemoryStores::new();
    let ledger = open(&stores).unwrap();
    exchange(&ledger, 1, 100).await.durable().await.unwrap();
    ledger.close();
    let head = ledger.head();
    drop(ledger);
    assert_eq!(stores.heads().unwrap().noted.last(), Some(&head));
    for drops_state in [false, true] {
        let rest = stores.crashed(0);
        if drops_state {
            rest.drop_state();
        } else {
            rest.drop_heads();
        }
        assert!(walk(&rest, None, u64::MAX).unwrap().is_sound());
        while let Some((_, last)) = last_record(&rest) {
            rest.edit(MONTH, |pairs| drop(pairs.pop_last()));
            let report = walk(&rest, None, u64::MAX).unwrap();
            let damage = report.damage.as_ref().map(|damaged| &damaged.damage);
            assert!(
                matches!(damage, Some(Damage::Behind { named, .. }) if *named == head),
                "{report:?}"
            );
            assert!(!report.is_sound() && report.head != head, "after losing {last:?}");
            assert!(is_behind(open(&rest)));
        }
    }
}

fn last_record(stores: &MemoryStores) -> Option<(Vec<u8>, Vec<u8>)> {
    stores.month(MONTH).unwrap().unwrap().last().unwrap()
}

#[tokio::test]
async fn another_journal_in_place_of_the_noted_one_is_seen() {
    let (one, other) = (MemoryStores::new(), MemoryStores::new());
    for (stores, cost) in [(&one, 100), (&other, 101)] {
        let ledger = open(stores).unwrap();
        for number in 0..5 {
            exchange(&ledger, number, cost).await.durable().await.unwrap();
        }
        ledger.close();
    }
    let records: Vec<_> = other
        .month(MONTH)
        .unwrap()
        .unwrap()
        .scan(&[])
        .map(Result::unwrap)
        .collect();
    one.edit(MONTH, |pairs| *pairs = records.into_iter().collect());
    one.drop_state();
    assert!(!walk(&one, None, u64::MAX).unwrap().is_sound());
    assert!(is_behind(open(&one)));
}

#[tokio::test]
async fn a_first_month_that_lost_all_is_seen() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(&clock) as _).unwrap();
    exchange(&ledger, 1, 100).await.durable().await.unwrap();
    clock.set_ms(MONTH.next().start_ms());
    exchange(&ledger, 2, 100).await.durable().await.unwrap();
    ledger.close();
    drop(ledger);
    stores.edit(MONTH, std::collections::BTreeMap::clear);
    let report = walk(&stores, None, u64::MAX).unwrap();
    assert!(!report.is_sound(), "{report:?}");
    // Removed as retention removes it, the rest stands for itself.
    stores.remove_month(MONTH).unwrap();
    assert!(walk(&stores, None, u64::MAX).unwrap().is_sound());
}

/// What `kill -9` leaves of a ledger with all its events noted: with `drained` in its database, else in its log alone.
async fn killed(drained: bool) -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    let stores = DiskStores::open(dir.path()).unwrap();
    stores.mark().unwrap();
    let mut stepped = Stepped::open(Arc::new(stores), &Options::new(dir.path()), clock() as _).unwrap();
    for number in 0..EXCHANGES {
        let held = hold(stepped.ledger(), number, 100).await;
        assert!(stepped.write());
        held.settle(settlement(START_MS, 100));
        assert!(stepped.write());
    }
    assert!(stepped.tick());
    if drained {
        stepped.apply();
    }
    let head = stepped.ledger().head();
    drop(stepped);
    assert_eq!(read_heads(&dir.path().join("heads")).unwrap().noted.last(), Some(&head));
    (dir, head.sequence)
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(file.file_name());
        if file.metadata().unwrap().is_dir() {
            copy_all(&file.path(), &to);
        } else if file.file_name() != "lock" {
            fs::copy(file.path(), to).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if file.metadata().unwrap().is_dir() {
            found.extend(files(&file.path()));
        } else {
            found.push(file.path());
        }
    }
    found
}

/// Sound, or how it was found not to be. Whatever is said, all events are there where it is sound.
fn is_sound(dir: &Path, events: u64) -> bool {
    let is_sound = match agentledger_ledger::verify(dir, None) {
        Ok(report) => {
            assert!(!report.is_sound() || report.events == events, "{report:?}");
            report.is_sound()
        }
        Err(VerifyError::Store(_)) => false,
        Err(error) => panic!("{error}"),
    };
    if !is_sound {
        assert!(Ledger::open(Options::new(dir), clock() as _).is_err());
    }
    is_sound
}

fn copied(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_all(dir, copy.path());
    copy
}

#[tokio::test]
async fn damaged_files_of_the_journal_never_pass_for_a_torn_tail() {
    for (drained, log) in [(true, "db"), (false, "ahead.0")] {
        let (dir, events) = killed(drained).await;
        assert!(is_sound(copied(dir.path()).path(), events));
        if drained {
            // Drained, but not yet written over: it would make good what the database loses.
            fs::remove_file(dir.path().join("journal/2026-11/ahead.0")).unwrap();
        }
        for (drops_state, step) in [(false, 512), (true, 512), (true, 64)] {
            let rotten = copied(dir.path());
            for path in files(&rotten.path().join("journal")) {
                let mut bytes = fs::read(&path).unwrap();
                bytes.iter_mut().step_by(step).for_each(|byte| *byte ^= 0x55);
                fs::write(&path, bytes).unwrap();
            }
            if drops_state {
                fs::remove_dir_all(rotten.path().join("state")).unwrap();
            }
            assert!(!is_sound(rotten.path(), events), "{log}: every {step} bytes");
        }
        // One byte somewhere: found, or of no consequence.
        let log = Path::new("journal/2026-11").join(log);
        let len = fs::metadata(dir.path().join(&log)).unwrap().len() as usize;
        let mut lost = 0;
        for place in (0..len).step_by(len / 12) {
            let rotten = copied(dir.path());
            fs::remove_dir_all(rotten.path().join("state")).unwrap();
            let mut bytes = fs::read(rotten.path().join(&log)).unwrap();
            bytes[place] ^= 0x01;
            fs::write(rotten.path().join(&log), bytes).unwrap();
            lost += u32::from(!is_sound(rotten.path(), events));
        }
        assert!(lost > 0, "{log:?}: no byte was of any consequence");
    }
}

#[tokio::test]
async fn a_month_whose_database_opens_as_an_empty_one_is_seen() {
    let (dir, events) = killed(true).await;
    for drops_state in [false, true] {
        for (name, bytes) in [
            ("conf", b"garbage".to_vec()),
            ("conf", vec![0xff; 256]),
            ("db", Vec::new()),
        ] {
            for drops_log in [false, true] {
                let rotten = copied(dir.path());
                let month = rotten.path().join("journal/2026-11");
                if drops_state {
                    fs::remove_dir_all(rotten.path().join("state")).unwrap();
                }
                if drops_log {
                    fs::remove_file(month.join("ahead.0")).unwrap();
                }
                fs::write(month.join(name), bytes.clone()).unwrap();
                // The engine may do without its `conf`, and a log that is not yet written over has all: `is_sound` has looked.
                let sound = is_sound(rotten.path(), events);
                assert!(!sound || name == "conf" || !drops_log, "{name}");
            }
        }
    }
    let rotten = copied(dir.path());
    fs::remove_dir_all(rotten.path().join("state")).unwrap();
    fs::remove_dir_all(rotten.path().join("journal/2026-11")).unwrap();
    assert!(!is_sound(rotten.path(), events));
}

#[tokio::test]
async fn a_log_that_is_gone_or_ends_early_is_seen() {
    let (dir, events) = killed(false).await;
    let log = dir.path().join("journal/2026-11/ahead.0");
    let whole = fs::read(&log).unwrap();
    for left in [None, Some(0), Some(512), Some(700), Some(whole.len() / 2)] {
        let rotten = copied(dir.path());
        let log = rotten.path().join("journal/2026-11/ahead.0");
        match left {
            None => fs::remove_file(&log).unwrap(),
            Some(left) => fs::write(&log, &whole[..left]).unwrap(),
        }
        assert!(!is_sound(rotten.path(), events), "{left:?}");
    }
    // A hole in its middle is named for what it is, and nothing is changed.
    let mut hole = whole.clone();
    hole[5_000..5_100].fill(0);
    fs::write(&log, &hole).unwrap();
    let report = agentledger_ledger::verify(dir.path(), None).unwrap();
    let damage = report.damage.unwrap().to_string();
    assert!(
        damage.contains("write-ahead log") && damage.contains("whole"),
        "{damage}"
    );
    let refused = Ledger::open(Options::new(dir.path()), clock() as _)
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("agentledger verify") && refused.contains("write-ahead log"),
        "{refused}"
    );
    assert!(OfflineLedger::open(dir.path(), Default::default()).is_err());
    assert_eq!(fs::read(&log).unwrap(), hole);
}

#[tokio::test]
async fn what_the_log_alone_has_is_read_by_every_command_that_finds_no_gateway() {
    let (dir, events) = killed(false).await;
    let offline = OfflineLedger::open(dir.path(), Default::default()).unwrap().unwrap();
    assert_eq!(offline.head().sequence, events);
    drop(offline);
    let mut exported = 0;
    agentledger_ledger::export_journal(dir.path(), |_, _| {
        exported += 1;
        Ok::<_, LedgerError>(())
    })
    .unwrap();
    assert!(exported > EXCHANGES);
    let log = fs::read(dir.path().join("journal/2026-11/ahead.0")).unwrap();
    let ledger = Ledger::open(Options::new(dir.path()), clock() as _).unwrap();
    exchange(&ledger, EXCHANGES, 100).await.durable().await.unwrap();
    assert_ne!(
        fs::read(dir.path().join("journal/2026-11/ahead.0")).unwrap(),
        log,
        "begun anew"
    );
    ledger.close();
    drop(ledger);
    assert!(
        !dir.path().join("journal/2026-11/ahead.0").exists(),
        "an orderly end leaves none"
    );
    assert!(is_sound(dir.path(), events + 2));
}

#[tokio::test]
async fn broken_notes_are_told_and_a_torn_one_is_not() {
    let (dir, _) = killed(true).await;
    let path = dir.path().join("heads");
    let notes = fs::read(&path).unwrap();
    fs::write(&path, &notes[..notes.len() - 5]).unwrap();
    assert!(agentledger_ledger::verify(dir.path(), None).unwrap().is_sound());
    let rotten: Vec<u8> = notes.iter().chain(&notes).map(|byte| byte ^ 0x20).collect();
    fs::write(&path, rotten).unwrap();
    let report = agentledger_ledger::verify(dir.path(), None).unwrap();
    assert!(matches!(report.damage.unwrap().damage, Damage::Heads(count) if count > 1));
}
