//! Disks and folders that misbehave: a full one that has room again, a folder removed under the gateway, half a removal,
//! a cache that rots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agentledger_ledger::store::{DiskStores, MemoryStores, Month, Stores};
use agentledger_ledger::testing::walk;
use agentledger_ledger::{Ledger, ManualClock, Options, Window};
use common::*;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_MS))
}

#[tokio::test]
async fn a_full_disk_that_has_room_again_is_written_to_again_and_nothing_is_lost() {
    let stores = TestStores::default();
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options(), clock() as _).unwrap();
    exchange(&ledger, 1, 100).await.durable().await.unwrap();
    let running = hold(&ledger, 2, 50).await;
    running.durable().await.unwrap();
    stores.journal_is_full.store(true, Ordering::SeqCst);
    let refused = hold(&ledger, 3, 40).await;
    assert!(refused.durable().await.is_err(), "not on disk, and said so");
    refused.void("ledger_unavailable");
    assert!(ledger.admit().await.is_err());
    let health = ledger.health();
    assert!(health.stopped.is_none() && health.suspended.is_some(), "{health:?}");
    // What runs ends all the same.
    let settled = running.settle(settlement(START_MS, 45));
    assert!(settled.durable().await.is_err());
    stores.journal_is_full.store(false, Ordering::SeqCst);
    until(|| ledger.health().suspended.is_none()).await;
    exchange(&ledger, 4, 10).await.durable().await.unwrap();
    ledger.flushed().await;
    assert_eq!(sum(&all_entries(&ledger, 10)), 155);
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(155));
    assert_eq!(ledger.held("global").usd, usd(0));
    ledger.close();
    assert!(walk(&stores, None, u64::MAX).unwrap().is_sound());
    let again = Ledger::open_in(Arc::new(stores), &options(), clock() as _).unwrap();
    assert_eq!(again.spent("global", Window::Total).usd, usd(155));
}

#[tokio::test]
async fn a_month_that_cannot_begin_for_want_of_room_begins_when_there_is_some() {
    let (stores, clock) = (TestStores::default(), clock());
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(&clock) as _).unwrap();
    exchange(&ledger, 1, 100).await.durable().await.unwrap();
    stores.journal_is_full.store(true, Ordering::SeqCst);
    clock.set_ms(Month::of_ms(START_MS).next().start_ms() + 5);
    hold(&ledger, 2, 40).await.void("refused");
    until(|| ledger.health().suspended.is_some()).await;
    stores.journal_is_full.store(false, Ordering::SeqCst);
    until(|| ledger.health().suspended.is_none()).await;
    exchange(&ledger, 3, 100).await.durable().await.unwrap();
    assert!(ledger.verify(None).unwrap().is_sound());
    assert_eq!(stores.months().unwrap().len(), 2);
}

#[tokio::test]
async fn a_folder_that_is_removed_under_the_ledger_stops_it() {
    for removed in ["", "journal/2026-11", "journal/2026-11/ahead.0", "state", "lock"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let ledger = Ledger::open(Options::new(&path), clock() as _).unwrap();
        exchange(&ledger, 1, 100).await.durable().await.unwrap();
        let gone = path.join(removed);
        if gone.is_dir() {
            fs::remove_dir_all(&gone).unwrap();
        } else {
            fs::remove_file(&gone).unwrap();
        }
        until(|| ledger.health().stopped.is_some()).await;
        let why = ledger.health().stopped.unwrap();
        assert!(why.contains("removed or replaced"), "{removed}: {why}");
        assert!(ledger.admit().await.is_err());
    }
}

#[tokio::test]
async fn a_folder_that_is_replaced_by_another_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let ledger = Ledger::open(Options::new(&path), clock() as _).unwrap();
    exchange(&ledger, 1, 100).await.durable().await.unwrap();
    fs::rename(&path, dir.path().join("moved")).unwrap();
    let _other = DiskStores::open(&path).unwrap();
    until(|| ledger.health().stopped.is_some()).await;
}

#[tokio::test]
async fn a_removal_of_a_month_that_was_interrupted_is_ended_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Ledger::open(Options::new(dir.path()), clock() as _).unwrap();
    let ledger = open();
    exchange(&ledger, 1, 100).await.durable().await.unwrap();
    ledger.close();
    drop(ledger);
    let half = dir.path().join("journal/.removing-2026-10");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("db"), b"half of it").unwrap();
    let ledger = open();
    assert!(!half.exists() && ledger.verify(None).unwrap().is_sound());
}

#[test]
fn a_query_does_not_bring_a_removed_month_back() {
    let dir = tempfile::tempdir().unwrap();
    let stores = DiskStores::open(dir.path()).unwrap();
    let month = Month { year: 2026, month: 9 };
    stores.create_month(month).unwrap();
    stores.remove_month(month).unwrap();
    assert!(stores.month(month).unwrap().is_none());
    assert!(stores.months().unwrap().is_empty());
    assert!(MemoryStores::new().month(month).unwrap().is_none());
}

#[tokio::test]
async fn a_flipped_bit_in_the_state_database_is_made_good_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Ledger::open(Options::new(dir.path()), clock() as _);
    let ledger = open().unwrap();
    for number in 0..20 {
        exchange(&ledger, number, 100).await.durable().await.unwrap();
    }
    ledger.close();
    drop(ledger);
    for (name, step) in [("conf", 1), ("conf", 7), ("db", 61), ("db", 4_099)] {
        let path = dir.path().join("state").join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes.iter_mut().step_by(step).for_each(|byte| *byte ^= 1);
        fs::write(&path, bytes).unwrap();
        let ledger = open().unwrap_or_else(|error| panic!("{name} {step}: {error}"));
        assert_eq!(ledger.spent("global", Window::Total).usd, usd(2_000), "{name} {step}");
        ledger.flushed().await;
        assert_eq!(
            ledger.sessions().find(None, "session-0").unwrap()[0].cost,
            usd(2_000),
            "{name} {step}"
        );
        ledger.close();
    }
}

/// A file system of so many bytes in memory, gone with the value. `None` where this user may mount none.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(bytes: u64) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir.path())
            .status();
        mount.is_ok_and(|status| status.success()).then(|| SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_real_disk_that_fills_up_and_is_cleared_is_written_to_again() {
    let Some(disk) = SmallDisk::new(8 << 20) else {
        eprintln!("SKIPPED: this user may not mount a small file system");
        return;
    };
    let path = disk.0.path();
    let ledger = Ledger::open(Options::new(path.join("ledger")), clock() as _).unwrap();
    let mut settled = 0;
    let mut ballast = 0;
    let is_full = loop {
        // Others fill it up, in ever smaller pieces.
        let piece = if ballast < 64 { vec![0; 100_000] } else { vec![0; 500] };
        let _ = fs::write(path.join(format!("ballast-{ballast}")), piece);
        ballast += 1;
        let hold = hold(&ledger, settled, 100).await;
        if hold.durable().await.is_err() {
            hold.void("ledger_unavailable");
            break true;
        }
        if hold.settle(settlement(START_MS, 100)).durable().await.is_err() {
            settled += 1;
            break true;
        }
        settled += 1;
        if settled > 50_000 {
            break false;
        }
    };
    assert!(is_full && ledger.health().suspended.is_some() && ledger.admit().await.is_err());
    for number in 0..ballast {
        let _ = fs::remove_file(path.join(format!("ballast-{number}")));
    }
    until(|| ledger.health().suspended.is_none()).await;
    exchange(&ledger, settled, 100).await.durable().await.unwrap();
    ledger.close();
    drop(ledger);
    let report = agentledger_ledger::verify(&path.join("ledger"), None).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.entries, settled + 1);
}
