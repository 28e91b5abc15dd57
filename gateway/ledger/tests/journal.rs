//! The ledger over stores that can be torn, rot and fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use agentledger_ledger::store::{DiskStores, Faults, MemoryStores, Month, StoreError, Stores};
use agentledger_ledger::testing;
use agentledger_ledger::{
    Clock, Denial, Dimension, Durability, ExpectedCosts, Facts, HoldId, Ledger, LedgerError, ManualClock,
    OfflineLedger, Options, Outcome, RecoveredId, Report, SummaryQuery, Usd, Window,
};
use common::*;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_MS))
}

fn open(stores: &MemoryStores, clock: &Arc<ManualClock>) -> Result<Arc<Ledger>, LedgerError> {
    Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(clock) as _)
}

fn walk(stores: &MemoryStores) -> Report {
    testing::walk(stores, None, u64::MAX).unwrap()
}

const MONTH: Month = Month { year: 2026, month: 11 };

fn by(dimension: Dimension) -> SummaryQuery {
    SummaryQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        by: dimension,
        tenant: None,
    }
}

#[tokio::test]
async fn what_is_settled_is_in_the_books_the_sums_and_the_export() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock).unwrap();
    for number in 0..120 {
        clock.advance_ms(1_000);
        exchange(&ledger, number, 100).await.durable().await.unwrap();
    }
    assert_eq!(sum(&all_entries(&ledger, 7)), 12_000);
    assert_eq!(all_entries(&ledger, 1_000), all_entries(&ledger, 1));
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(12_000));
    let sessions = ledger.summary(&by(Dimension::Session));
    assert_eq!(
        sessions.iter().map(|row| row.requests).collect::<Vec<_>>(),
        [50, 50, 20]
    );
    assert_eq!(ledger.summary(&by(Dimension::Model))[0].cost, usd(12_000));
    assert_eq!(ledger.summary(&by(Dimension::Key)).len(), 7);
    assert_eq!(ledger.held("global").usd, usd(0));
    let report = ledger.verify(Some(ledger.head().hash)).unwrap();
    assert_eq!((report.entries, report.open_holds, report.is_sound()), (120, 0, true));
}

#[tokio::test]
async fn a_restart_goes_on_where_the_journal_ends() {
    let (stores, clock) = (MemoryStores::new(), clock());
    for round in 0..4 {
        let ledger = open(&stores, &clock).unwrap();
        for number in 0..10 {
            exchange(&ledger, round * 10 + number, 100).await;
        }
        ledger.flushed().await;
        let before = (
            ledger.summary(&by(Dimension::Session)),
            ledger.balances().len(),
            ledger.head(),
        );
        ledger.close();
        drop(ledger);
        if round % 2 == 1 {
            stores.drop_state();
        }
        let offline = OfflineLedger::open_in(Arc::new(stores.clone()), Default::default()).unwrap();
        assert_eq!(
            (
                offline.summary(&by(Dimension::Session)),
                offline.balances().len(),
                offline.head()
            ),
            before
        );
    }
    assert_eq!(walk(&stores).entries, 40);
}

#[tokio::test]
async fn a_hold_left_open_is_recovered_once_and_one_dropped_is_settled() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock).unwrap();
    drop(hold(&ledger, 1, 10).await);
    hold(&ledger, 2, 20).await.void("refused upstream");
    let left = hold(&ledger, 3, 30).await;
    left.durable().await.unwrap();
    assert_eq!(ledger.held("global").usd, usd(30));
    ledger.flushed().await;
    let crashed = stores.crashed(0);
    let offline = OfflineLedger::open_in(Arc::new(crashed.clone()), Default::default()).unwrap();
    assert_eq!((offline.open_holds().len(), offline.head()), (1, ledger.head()));
    for _ in 0..3 {
        let ledger = open(&crashed, &clock).unwrap();
        ledger.flushed().await;
        let entries = all_entries(&ledger, 2);
        let ends: Vec<_> = entries
            .iter()
            .map(|entry| (entry.settlement.outcome, entry.settlement.cost))
            .collect();
        assert_eq!(ends, [(Outcome::Recovered, usd(10)), (Outcome::Recovered, usd(30))]);
        assert!(entries.iter().all(|entry| entry.settlement.estimate_reason.is_some()));
        assert_eq!(ledger.spent("global", Window::Total).usd, usd(40));
        assert_eq!(ledger.held("global").usd, usd(0));
        ledger.close();
    }
}

/// Knows what every call costs.
#[derive(Debug)]
struct AlwaysSo(i64);

impl ExpectedCosts for AlwaysSo {
    fn of(&self, facts: &Facts) -> Option<Usd> {
        (facts.id != facts_of(2).id).then(|| usd(self.0))
    }
}

fn facts_of(number: u64) -> Facts {
    facts(START_MS, number)
}

#[tokio::test]
async fn what_a_crash_left_open_is_entered_at_what_is_expected_listed_and_corrected() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock).unwrap();
    exchange(&ledger, 1, 7).await.durable().await.unwrap();
    let unknown = hold(&ledger, 2, 30).await;
    let known = hold(&ledger, 3, 40).await;
    let (unknown_id, known_id) = (unknown.id(), known.id());
    for left in [&unknown, &known] {
        left.durable().await.unwrap();
    }
    assert_eq!(
        ledger.recovered_entry(RecoveredId::Hold(known_id)).unwrap(),
        None,
        "it is open"
    );
    let crashed = stores.crashed(0);
    let expecting = Options {
        expected_costs: Some(Arc::new(AlwaysSo(11))),
        ..options()
    };
    let again = Ledger::open_in(Arc::new(crashed.clone()), &expecting, Arc::clone(&clock) as _).unwrap();
    again.flushed().await;
    assert_eq!(again.spent("global", Window::Total).usd, usd(7 + 30 + 11));
    let listed = again.recovered(0).unwrap();
    let rows: Vec<_> = listed
        .iter()
        .map(|row| (row.hold, row.entry.held, row.cost(), row.is_corrected))
        .collect();
    assert_eq!(
        rows,
        [
            (unknown_id, usd(30), usd(30), false),
            (known_id, usd(40), usd(11), false)
        ]
    );
    assert_eq!(again.recovered(clock.now_ms() + 1).unwrap(), [], "entered before");

    let id = facts_of(3).id;
    for delta in [-4, 1] {
        let sequence = again.adjust(id, usd(delta), "as billed").unwrap();
        again.applied(sequence).await.unwrap();
    }
    for wanted in [RecoveredId::Entry(id), RecoveredId::Hold(known_id)] {
        let found = again.recovered_entry(wanted).unwrap().unwrap();
        assert_eq!(
            (found.cost(), found.adjusted, found.is_corrected),
            (usd(8), usd(-3), true)
        );
    }
    for none in [
        RecoveredId::Entry(facts_of(1).id),
        RecoveredId::Entry(facts_of(9).id),
        RecoveredId::Hold(HoldId(9_999)),
    ] {
        assert_eq!(again.recovered_entry(none).unwrap(), None, "{none:?}");
    }
    let report = again.verify(None).unwrap();
    assert!(report.is_sound(), "{report:?}");
    again.close();
    drop(again);
    // Read again by one that expects nothing: it stays as it was entered.
    let offline = OfflineLedger::open_in(Arc::new(crashed.clone()), Default::default()).unwrap();
    assert_eq!(offline.recovered(0).unwrap().len(), 2);
    let third = open(&crashed, &clock).unwrap();
    assert_eq!(third.spent("global", Window::Total).usd, usd(7 + 30 + 8));
}

#[tokio::test]
async fn a_month_opens_with_all_it_needs_and_old_ones_may_go() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let options = agentledger_ledger::Options {
        retention_months: Some(1),
        ..options()
    };
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options, Arc::clone(&clock) as _).unwrap();
    let long = hold(&ledger, 0, 5).await;
    for month in 0..4 {
        for number in 0..5 {
            exchange(&ledger, number + month * 10, 100).await;
        }
        clock.set_ms(Month::of_ms(clock_ms(&ledger)).next().start_ms() + 10);
    }
    let long = long.settle(settlement(ledger.now_ms(), 7));
    assert_eq!(long.entry.overage, usd(2));
    ledger.flushed().await;
    // They go behind a checkpoint, which the next tick requests.
    until(|| stores.months().unwrap().len() == 2).await;
    let months: Vec<String> = stores.months().unwrap().iter().map(Month::to_string).collect();
    assert_eq!(months, ["2027-02", "2027-03"]);
    assert!(ledger.verify(None).unwrap().is_sound());
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(2_007));
    // Five of February, and the one that began in November.
    assert_eq!(sum(&all_entries(&ledger, 100)), 507);
    ledger.close();
    drop(ledger);
    for drops_state in [false, true] {
        if drops_state {
            stores.drop_state();
        }
        let again = Ledger::open_in(Arc::new(stores.clone()), &options, Arc::clone(&clock) as _).unwrap();
        assert_eq!(again.spent("global", Window::Total).usd, usd(2_007));
    }
}

fn clock_ms(ledger: &Ledger) -> i64 {
    ledger.now_ms()
}

#[tokio::test]
async fn an_adjustment_corrects_balance_and_sums_and_survives() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock).unwrap();
    let entry = exchange(&ledger, 1, 100).await;
    entry.durable().await.unwrap();
    let sequence = ledger.adjust(entry.entry.facts.id, usd(-40), "credit note").unwrap();
    ledger.applied(sequence).await.unwrap();
    let unknown = ledger.adjust(facts(START_MS, 9).id, usd(1), "x");
    assert!(matches!(unknown, Err(LedgerError::NoSuchEntry(_))));
    for drops_state in [false, true] {
        assert_eq!(ledger.spent("global", Window::Total).usd, usd(60));
        assert_eq!(ledger.summary(&by(Dimension::Key))[0].cost, usd(60));
        let after = stores.crashed(0);
        if drops_state {
            after.drop_state();
        }
        let again = open(&after, &clock).unwrap();
        assert_eq!(again.spent("global", Window::Total).usd, usd(60));
        assert_eq!(again.summary(&by(Dimension::User))[0].cost, usd(60));
    }
}

#[tokio::test]
async fn refusals_are_one_event_a_minute() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock).unwrap();
    let denial = Denial {
        account: "key:a".into(),
        tenant: "".into(),
        reason: "budget_exceeded".into(),
        policy: "budget".into(),
    };
    for _ in 0..1_000 {
        ledger.deny(&denial);
    }
    ledger.close();
    // Opening, the first at once, the rest together.
    assert_eq!((walk(&stores).events, walk(&stores).entries), (3, 0));
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_loses_nothing_acknowledged() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock).unwrap();
    for number in 0..5 {
        exchange(&ledger, number, 100).await.durable().await.unwrap();
    }
    // One more batch is applied, but its sync fails: it may be on disk in any part.
    let open_hold = hold(&ledger, 6, 50).await;
    open_hold.durable().await.unwrap();
    stores.set_faults(Faults {
        flushes_left: Some(0),
        ..Faults::default()
    });
    let unacknowledged = open_hold.settle(settlement(START_MS, 50));
    assert!(unacknowledged.durable().await.is_err());
    let torn_bytes = stores.unflushed_bytes(MONTH);
    assert!(torn_bytes > 100);
    for kept in 0..=torn_bytes {
        let torn = stores.crashed(kept);
        assert!(walk(&torn).is_sound(), "{kept}");
        let again = open(&torn, &clock).unwrap();
        again.flushed().await;
        assert_eq!(sum(&all_entries(&again, 100)), 550, "{kept}");
        assert_eq!(again.spent("global", Window::Total).usd, usd(550), "{kept}");
        assert_eq!(all_entries(&again, 100).len(), 6, "{kept}");
    }
}

#[tokio::test]
async fn after_a_failed_write_or_sync_the_writer_stops_for_good() {
    let write = Faults {
        applies_left: Some(0),
        ..Faults::default()
    };
    let sync = Faults {
        flushes_left: Some(0),
        ..Faults::default()
    };
    for faults in [write, sync] {
        let (stores, clock) = (MemoryStores::new(), clock());
        let ledger = open(&stores, &clock).unwrap();
        exchange(&ledger, 1, 100).await.durable().await.unwrap();
        let running = hold(&ledger, 2, 20).await;
        running.durable().await.unwrap();
        stores.set_faults(faults);
        let waiting = hold(&ledger, 3, 30).await;
        assert!(matches!(waiting.durable().await, Err(LedgerError::Stopped(_))));
        // The disk is fine again, but nobody can know what was lost between.
        stores.set_faults(Faults::default());
        assert!(matches!(ledger.admit().await, Err(LedgerError::Stopped(_))));
        assert!(ledger.health().stopped.unwrap().contains("injected"));
        let settled = running.settle(settlement(START_MS, 20));
        assert_eq!(settled.entry.settlement.cost, usd(20));
        assert!(settled.durable().await.is_err());
        drop(waiting);
        ledger.flushed().await;
        ledger.close();
        let again = open(&stores.crashed(0), &clock).unwrap();
        again.flushed().await;
        assert_eq!(sum(&all_entries(&again, 10)), 120);
    }
}

#[tokio::test]
async fn admission_waits_while_the_queue_is_full_and_settling_never_does() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let options = agentledger_ledger::Options {
        queue_events_max: 1,
        ..options()
    };
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options, clock as _).unwrap();
    let mut holds = Vec::new();
    for number in 0..63 {
        holds.push(hold(&ledger, number, 1).await);
    }
    ledger.flushed().await;
    let waiting = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { ledger.admit().await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    for hold in holds {
        hold.settle(settlement(START_MS, 1));
    }
    waiting.await.unwrap().unwrap();
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(63));
}

#[tokio::test]
async fn damage_anywhere_is_reported_and_refuses_the_start() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock).unwrap();
    for number in 0..6 {
        exchange(&ledger, number, 100).await.durable().await.unwrap();
    }
    ledger.close();
    drop(ledger);
    stores.drop_state();
    let records = {
        stores
            .month(MONTH)
            .unwrap()
            .unwrap()
            .scan(&[])
            .map(|pair| pair.unwrap())
            .collect::<Vec<_>>()
    };
    assert!(records.len() > 6);
    for (place, (key, value)) in records.iter().enumerate() {
        for byte in 0..value.len() {
            let rotten = stores.crashed(0);
            rotten.edit(MONTH, |pairs| pairs.get_mut(key).unwrap()[byte] ^= 0x10);
            let report = walk(&rotten);
            assert!(report.damage.is_some(), "record {place} byte {byte}");
            assert!(
                matches!(open(&rotten, &clock), Err(LedgerError::Damaged(_))),
                "record {place} byte {byte}"
            );
        }
        let lost = stores.crashed(0);
        lost.edit(MONTH, |pairs| drop(pairs.remove(key)));
        assert!(walk(&lost).damage.is_some(), "record {place}");
    }
    let text = open_damaged(&stores, &records[3].0, &clock);
    assert!(
        text.contains("2026-11") && text.contains("agentledger verify"),
        "{text}"
    );
}

fn open_damaged(stores: &MemoryStores, key: &[u8], clock: &Arc<ManualClock>) -> String {
    let rotten = stores.crashed(0);
    rotten.edit(MONTH, |pairs| pairs.get_mut(key).unwrap().push(0));
    open(&rotten, clock).err().unwrap().to_string()
}

#[tokio::test]
async fn events_are_read_up_to_the_damage_which_is_named() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock).unwrap();
    for number in 0..6 {
        exchange(&ledger, number, 100).await.durable().await.unwrap();
    }
    let visited = |ledger: &Ledger| {
        let mut all = Vec::new();
        let read = ledger.events(0, |sequence, _| {
            all.push(sequence);
            std::ops::ControlFlow::Continue(())
        });
        (all, read)
    };
    let (all, read) = visited(&ledger);
    assert_eq!(read, Ok(()));
    assert_eq!(all, (1..=ledger.head().sequence).collect::<Vec<_>>());
    let last = stores.month(MONTH).unwrap().unwrap().last().unwrap().unwrap().0;
    stores.edit(MONTH, |pairs| pairs.get_mut(&last).unwrap()[40] ^= 1);
    let (sound, read) = visited(&ledger);
    let stopped = read.unwrap_err();
    assert_eq!(stopped.month.as_deref(), Some("2026-11"));
    assert_eq!(stopped.after_sequence, *sound.last().unwrap());
    assert!(sound.len() < all.len() && !sound.is_empty());
}

#[tokio::test]
async fn a_head_kept_elsewhere_must_be_one_the_journal_has_had() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock).unwrap();
    exchange(&ledger, 1, 100).await.durable().await.unwrap();
    let head = ledger.head();
    exchange(&ledger, 2, 100).await.durable().await.unwrap();
    ledger.close();
    let expects = |hash| testing::walk(&stores, Some(hash), u64::MAX).unwrap();
    assert!(expects(head.hash).is_sound());
    let other = expects(Default::default());
    assert_eq!((other.damage.is_none(), other.is_sound()), (true, false));
}

#[tokio::test]
async fn relaxed_holds_are_not_waited_for() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let options = agentledger_ledger::Options {
        durability: Durability::Relaxed,
        ..options()
    };
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options, clock as _).unwrap();
    let hold = hold(&ledger, 1, 10).await;
    // Nothing that a waiter would have to be told about.
    hold.durable().await.unwrap();
    stores.set_faults(Faults {
        flushes_left: Some(0),
        ..Faults::default()
    });
    assert!(hold.settle(settlement(START_MS, 10)).durable().await.is_err());
}

#[tokio::test]
async fn the_stores_on_disk_keep_the_same_contract() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let options = agentledger_ledger::Options::new(dir.path());
    let mut head = Default::default();
    for round in 0..3 {
        let ledger = Ledger::open(options.clone(), Arc::clone(&clock) as _).unwrap();
        let second = Ledger::open(options.clone(), Arc::clone(&clock) as _);
        assert_eq!(second.err(), Some(LedgerError::InUse(dir.path().to_owned())));
        assert!(matches!(
            DiskStores::open(dir.path()).err(),
            Some(StoreError::InUse { .. })
        ));
        for number in 0..20 {
            exchange(&ledger, round * 20 + number, 100)
                .await
                .durable()
                .await
                .unwrap();
        }
        clock.set_ms(Month::of_ms(ledger.now_ms()).next().start_ms());
        assert_eq!(all_entries(&ledger, 7).len() as u64, (round + 1) * 20);
        ledger.close();
        head = ledger.head();
        drop(ledger);
        let report = agentledger_ledger::verify(dir.path(), Some(head.hash)).unwrap();
        assert_eq!((report.is_sound(), report.entries), (true, (round + 1) * 20));
    }
    let offline = OfflineLedger::open(dir.path(), Default::default()).unwrap().unwrap();
    assert_eq!(offline.head(), head);
    assert_eq!(offline.summary(&by(Dimension::Provider))[0].cost, usd(6_000));
    assert!(
        OfflineLedger::open(&dir.path().join("none"), Default::default())
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_database_that_cannot_be_opened_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let options = agentledger_ledger::Options::new(dir.path());
    drop(Ledger::open(options.clone(), clock() as _).unwrap());
    let file = dir.path().join("journal/2026-11/db");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let opened = Ledger::open(options, clock() as _);
    let text = opened.err().unwrap().to_string();
    assert!(
        text.contains("journal/2026-11") && text.contains("agentledger verify"),
        "{text}"
    );
}

#[tokio::test]
async fn commits_are_told_with_all_their_events() {
    #[derive(Default)]
    struct Seen(std::sync::atomic::AtomicUsize);
    impl agentledger_ledger::CommitObserver for Seen {
        fn committed(&self, events: usize, _took: std::time::Duration) {
            assert!(events > 0);
            self.0.fetch_add(events, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let seen = Arc::new(Seen::default());
    let options = agentledger_ledger::Options {
        observer: Some(Arc::clone(&seen) as _),
        ..options()
    };
    let stores = MemoryStores::new();
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options, clock() as _).unwrap();
    for number in 0..10 {
        exchange(&ledger, number, 100).await.durable().await.unwrap();
    }
    ledger.close();
    assert_eq!(
        seen.0.load(std::sync::atomic::Ordering::SeqCst) as u64,
        walk(&stores).events
    );
}

#[tokio::test]
async fn pages_of_an_export_do_not_read_the_day_of_a_hold_that_waits_again_and_again() {
    let (stores, clock) = (TestStores::default(), clock());
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(&clock) as _).unwrap();
    let waits = hold(&ledger, 0, 900).await;
    for number in 1..=2_000 {
        clock.advance_ms(30_000);
        let settled = hold(&ledger, number, 10).await.settle(settlement(ledger.now_ms(), 10));
        if number % 10 == 0 {
            settled.durable().await.unwrap();
        }
    }
    waits.settle(settlement(ledger.now_ms(), 900));
    ledger.flushed().await;
    let before = stores.pairs_read.load(Ordering::SeqCst);
    let paged = all_entries(&ledger, 50);
    let read = stores.pairs_read.load(Ordering::SeqCst) - before;
    assert_eq!((paged.len(), sum(&paged)), (2_001, 20_900));
    assert_eq!(paged, all_entries(&ledger, 10_000));
    let records = stores.inner.month(MONTH).unwrap().unwrap().scan(&[]).count() as u64;
    // Each of forty pages begins with the names that its first record needs.
    assert!(
        read < 15 * records,
        "{read} of {records} records were read for 41 pages"
    );
}
