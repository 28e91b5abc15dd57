//! Checkpoints that fail, are old, or are missing, and readers of derived state: none of them stops the journal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use agentledger_ledger::store::{Change, DiskStores, MemoryStores, Month, Stores};
use agentledger_ledger::testing::{Stepped, walk};
use agentledger_ledger::{Amounts, BillId, Dimension, Ledger, ManualClock, Name, Options, SummaryQuery, Window};
use common::*;

const MINUTE_MS: i64 = 60_000;

fn all() -> SummaryQuery {
    SummaryQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        by: Dimension::Provider,
        tenant: None,
    }
}

/// A future that must be ready, without a runtime.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn stepped(stores: &TestStores, options: &Options) -> (Arc<ManualClock>, Stepped) {
    let clock = Arc::new(ManualClock::new(START_MS));
    let stepped = Stepped::open(Arc::new(stores.clone()), options, Arc::clone(&clock) as _).unwrap();
    (clock, stepped)
}

#[test]
fn an_acknowledgement_waits_for_no_reader_of_derived_state() {
    let stores = TestStores::default();
    let (_, mut stepped) = stepped(&stores, &options());
    let ledger = Arc::clone(stepped.ledger());
    let held = ready(hold(&ledger, 1, 100));
    assert!(stepped.write());
    // Whoever applies it is busy with a report: the event is on disk, and who waited for that is let go.
    ready(held.durable()).unwrap();
    let settled = held.settle(settlement(START_MS, 70));
    assert!(stepped.write());
    ready(settled.durable()).unwrap();
    assert!(ledger.summary(&all()).is_empty());
    stepped.apply();
    assert_eq!(ledger.summary(&all())[0].cost, usd(70));
}

#[test]
fn a_failed_checkpoint_is_tried_again_and_health_says_so() {
    let stores = TestStores::default();
    let (clock, mut stepped) = stepped(&stores, &options());
    let ledger = Arc::clone(stepped.ledger());
    stores.state_fails.store(true, Ordering::SeqCst);
    for minute in 1..=5 {
        ready(exchange_now(&ledger, minute));
        clock.advance_ms(MINUTE_MS);
        assert!(stepped.tick() && stepped.write());
        stepped.apply();
    }
    let health = ledger.health();
    assert!(health.stopped.is_none() && health.checkpoint_failed.is_some());
    assert_eq!(health.checkpoint_age_ms, 5 * MINUTE_MS);
    stores.state_fails.store(false, Ordering::SeqCst);
    clock.advance_ms(MINUTE_MS);
    assert!(stepped.tick() && stepped.write());
    stepped.apply();
    let health = ledger.health();
    assert_eq!((health.checkpoint_failed, health.checkpoint_age_ms), (None, 0));
    // It bears what those before it would have borne.
    drop((ledger, stepped));
    let left = stores.inner.crashed(0);
    let again = Ledger::open_in(Arc::new(left), &options(), clock as _).unwrap();
    assert_eq!(again.summary(&all())[0].cost, usd(500));
}

async fn exchange_now(ledger: &Arc<Ledger>, number: u64) {
    hold(ledger, number, 100).await.settle(settlement(ledger.now_ms(), 100));
}

#[test]
fn a_checkpoint_bears_the_books_of_its_place_however_late_it_is_written() {
    let stores = TestStores::default();
    let (clock, mut stepped) = stepped(&stores, &options());
    let ledger = Arc::clone(stepped.ledger());
    ready(exchange_now(&ledger, 1));
    let open = ready(hold(&ledger, 2, 50));
    clock.advance_ms(MINUTE_MS);
    assert!(stepped.write() && stepped.tick());
    // It is marked; what comes now is behind it, and all of it is on disk before the checkpoint is.
    for number in 3..600 {
        ready(exchange_now(&ledger, number));
    }
    open.settle(settlement(ledger.now_ms(), 40));
    assert!(stepped.write() && stepped.write());
    stepped.apply();
    assert_eq!(ledger.health().checkpoint_failed, None);
    let spent = ledger.spent("global", Window::Total);
    assert_eq!(spent.usd, usd(598 * 100 + 40));
    drop((ledger, stepped));
    let left = stores.inner.crashed(0);
    // A start goes on from there: a settled hold that is open in the checkpoint, and none that it does not know.
    let again = Ledger::open_in(Arc::new(left), &options(), clock as _).unwrap();
    assert_eq!(again.spent("global", Window::Total), spent);
    assert_eq!((again.recovered_holds(), again.open_holds().len()), (0, 0));
    assert_eq!(again.summary(&all())[0].cost, spent.usd);
}

#[test]
fn no_checkpoint_is_begun_while_one_waits_to_be_written() {
    let stores = TestStores::default();
    let (clock, mut stepped) = stepped(&stores, &options());
    let ledger = Arc::clone(stepped.ledger());
    // The sequence that the checkpoint's row begins with, after its version.
    let covered = || {
        let state = stores.inner.state().unwrap();
        let row = state.at_or_before(b"checkpoint").unwrap();
        row.map(|(_, value)| value[1])
    };
    // An opening, and two events of each exchange.
    for minute in 1..=3 {
        ready(exchange_now(&ledger, minute));
        clock.advance_ms(MINUTE_MS);
        assert!(stepped.write() && stepped.tick() && stepped.write());
    }
    stepped.apply();
    assert_eq!(covered(), Some(3), "of three that were due, the first");
    assert!(stepped.tick() && stepped.write());
    stepped.apply();
    assert_eq!(covered(), Some(7), "the next one bears what came since");
}

#[test]
fn a_month_is_removed_only_behind_a_checkpoint_in_a_later_one() {
    let stores = TestStores::default();
    let kept = Options {
        retention_months: Some(0),
        ..options()
    };
    let (clock, mut stepped) = stepped(&stores, &kept);
    let ledger = Arc::clone(stepped.ledger());
    let step = |stepped: &mut Stepped| {
        assert!(stepped.write() && stepped.tick() && stepped.write());
        stepped.apply();
    };
    ready(exchange_now(&ledger, 1));
    clock.advance_ms(MINUTE_MS);
    step(&mut stepped);
    stores.state_fails.store(true, Ordering::SeqCst);
    clock.set_ms(Month::of_ms(START_MS).next().start_ms() + 5);
    ready(exchange_now(&ledger, 2));
    step(&mut stepped);
    assert_eq!(stores.months().unwrap().len(), 2, "the last checkpoint is in November");
    let left = stores.inner.crashed(0);
    Ledger::open_in(Arc::new(left), &kept, Arc::clone(&clock) as _).unwrap();
    stores.state_fails.store(false, Ordering::SeqCst);
    clock.advance_ms(MINUTE_MS);
    step(&mut stepped);
    assert_eq!(stores.months().unwrap().len(), 1);
    assert!(walk(&stores, None, u64::MAX).unwrap().is_sound());
    assert_eq!(
        ledger.summary(&all())[0].cost,
        usd(200),
        "sums outlive the journal of their month"
    );
}

#[tokio::test]
async fn a_checkpoint_of_a_month_that_is_gone_is_no_damage() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let open = |stores: &MemoryStores| Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(&clock) as _);
    let ledger = open(&stores).unwrap();
    exchange(&ledger, 1, 100).await.durable().await.unwrap();
    ledger.close();
    let old_state: Vec<_> = stores.state().unwrap().scan(&[]).map(Result::unwrap).collect();
    let ledger = open(&stores).unwrap();
    clock.set_ms(Month::of_ms(START_MS).next().start_ms() + 5);
    exchange(&ledger, 2, 100).await.durable().await.unwrap();
    ledger.close();
    // As an older gateway left it, which removed a month before its next checkpoint, and was killed.
    let state = stores.state().unwrap();
    let now: Vec<_> = state.scan(&[]).map(|pair| Change::Remove(pair.unwrap().0)).collect();
    state.apply(now).unwrap();
    let old: Vec<_> = old_state
        .into_iter()
        .map(|(key, value)| Change::Put(key, value))
        .collect();
    state.apply(old).unwrap();
    state.flush().unwrap();
    stores.remove_month(Month::of_ms(START_MS)).unwrap();
    let ledger = open(&stores).unwrap();
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(200));
    assert_eq!(ledger.summary(&all())[0].cost, usd(200));
}

#[tokio::test]
async fn a_correction_reads_two_places_and_no_journal_in_between() {
    let (stores, clock) = (TestStores::default(), Arc::new(ManualClock::new(START_MS)));
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(&clock) as _).unwrap();
    let bill = BillId::of(&["openai", "resp"]);
    let waiting = hold(&ledger, 1, 900).await.defer(bill).unwrap();
    // An hour of other traffic, in many records.
    for number in 0..3_000 {
        clock.advance_ms(1_000);
        let settled = hold(&ledger, number, 10).await.settle(settlement(ledger.now_ms(), 10));
        if number % 4 == 0 {
            settled.durable().await.unwrap();
        }
    }
    let mut recovered = settlement(ledger.now_ms(), 900);
    recovered.outcome = agentledger_ledger::Outcome::Recovered;
    waiting.settle_bills(recovered, None, vec![bill]).unwrap();
    for number in 0..600 {
        exchange(&ledger, number, 10).await.durable().await.unwrap();
    }
    ledger.flushed().await;
    let before = stores.pairs_read.load(Ordering::SeqCst);
    let used = Amounts::of_request(usd(250), 7);
    let corrected = ledger
        .correct(&bill, &used, &Name::from("fetched_late"))
        .unwrap()
        .unwrap();
    ledger.flushed().await;
    let read = stores.pairs_read.load(Ordering::SeqCst) - before;
    assert_eq!(corrected.usd, usd(-650));
    assert_eq!(ledger.summary(&all())[0].cost, usd(3_600 * 10 + 250));
    // A record's names reach back a thousand events at most.
    assert!(read <= 2 * 1_024, "{read} records were read");
}

#[test]
fn two_large_batches_at_one_time_leave_each_whole() {
    let folder = tempfile::tempdir().unwrap();
    let state = DiskStores::open(folder.path()).unwrap().state().unwrap();
    let batch =
        |of: u8| (0..6_000_u32).map(move |row| Change::Put([&[of][..], &row.to_be_bytes()].concat(), vec![of; 30]));
    std::thread::scope(|scope| {
        for of in 1..=4 {
            let state = &state;
            scope.spawn(move || state.apply(batch(of).collect()).unwrap());
        }
    });
    assert_eq!(state.scan(&[]).count(), 24_000);
    assert!(!folder.path().join("state/redo").exists());
}
