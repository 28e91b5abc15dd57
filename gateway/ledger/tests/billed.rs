//! What is billed once, however often it is fetched: live, after a restart, over months.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use agentledger_ledger::store::{Faults, MemoryStores, Month};
use agentledger_ledger::testing::{Stepped, walk};
use agentledger_ledger::{
    Amounts, BillId, Bound, Dimension, HoldNotes, Ledger, Limit, ManualClock, Mode, Name, Options, Outcome,
    SummaryQuery, Usd, Window, Zone,
};
use common::*;

const DAY_MS: i64 = 86_400_000;

fn open(stores: &MemoryStores, clock: &Arc<ManualClock>) -> Arc<Ledger> {
    Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(clock) as _).unwrap()
}

fn id(name: &str) -> BillId {
    BillId::of(&["openai", name])
}

/// Enters a fetched result; whether it was new.
async fn enter(ledger: &Arc<Ledger>, number: u64, cost: i64, bills: &[&str], bounds: &[Bound]) -> bool {
    let permit = ledger.admit().await.unwrap();
    let facts = facts(ledger.now_ms(), number);
    let settlement = settlement(ledger.now_ms(), cost);
    let bills = bills.iter().map(|name| id(name)).collect();
    let entered = ledger.enter(permit, facts, bounds, settlement, Name::from("fetched_result"), bills);
    match entered.unwrap() {
        Some(settled) => {
            settled.durable().await.unwrap();
            true
        }
        None => false,
    }
}

#[tokio::test]
async fn a_result_is_entered_once_and_counted_by_every_budget() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock);
    let limit = Limit::usd(Usd::from_nanos(10)).unwrap();
    let bound = Bound::new(Name::from("project:x"), Window::Hour, Zone::utc(), limit, Mode::Hard).unwrap();
    let bounds = [bound];
    assert!(enter(&ledger, 1, 700, &["a"], &bounds).await);
    assert!(!enter(&ledger, 2, 700, &["a"], &bounds).await);
    assert!(
        !enter(&ledger, 3, 700, &["b", "a"], &bounds).await,
        "one of them is enough"
    );
    assert!(enter(&ledger, 4, 50, &["b", "c"], &bounds).await);
    let entries = all_entries(&ledger, 10);
    assert_eq!((entries.len(), sum(&entries)), (2, 750));
    assert_eq!((entries[0].held, entries[0].overage), (usd(0), usd(700)));
    assert_eq!(entries[0].overage_reason.as_deref(), Some("fetched_result"));
    // Beyond the limit, and counted all the same: it is spent.
    assert_eq!(ledger.spent("project:x", Window::Hour).usd, usd(750));
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(750));
    assert_eq!(ledger.standing(&bounds[0]).overage, 750);
    assert!(ledger.open_holds().is_empty());
}

#[tokio::test]
async fn what_was_billed_is_known_after_restarts_and_forgotten_after_a_year() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock);
    assert!(enter(&ledger, 1, 1, &["november"], &[]).await);
    let settled = hold(&ledger, 2, 10)
        .await
        .settle_bills(settlement(START_MS, 5), None, vec![id("posted")])
        .unwrap();
    settled.durable().await.unwrap();
    ledger.close();
    clock.advance_ms(20 * DAY_MS);
    let ledger = open(&stores, &clock);
    assert!(ledger.is_billed(&id("november")) && ledger.is_billed(&id("posted")) && !ledger.is_billed(&id("new")));
    assert!(enter(&ledger, 3, 1, &["december"], &[]).await);
    ledger.close();
    let ledger = open(&stores, &clock);
    assert!(ledger.is_billed(&id("november")) && ledger.is_billed(&id("december")));
    for month in 0..12 {
        clock.advance_ms(31 * DAY_MS);
        assert!(!enter(&ledger, 4, 1, &["december"], &[]).await, "month {month}");
        assert!(enter(&ledger, 5 + month, 1, &[&format!("month {month}")], &[]).await);
    }
    assert!(!ledger.is_billed(&id("november")) && ledger.is_billed(&id("december")));
    ledger.close();
    let ledger = open(&stores, &clock);
    assert!(!ledger.is_billed(&id("november")) && ledger.is_billed(&id("december")));
    assert!(walk(&stores, None, u64::MAX).unwrap().is_sound());
}

#[tokio::test]
async fn a_deferred_hold_is_recovered_under_its_id() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock);
    let _waiting = hold(&ledger, 1, 900).await.defer(id("resp")).unwrap();
    // One that waits long keeps nobody else out. Its places are free when its events are let go of, a little after they
    // are counted.
    until(|| ledger.health().permits_left == options().queue_events_max).await;
    assert!(!ledger.is_billed(&id("resp")), "it is only waited for");
    let done = hold(&ledger, 2, 900).await.defer(id("done")).unwrap();
    done.settle_bills(settlement(START_MS, 3), None, vec![])
        .unwrap()
        .durable()
        .await
        .unwrap();
    assert!(ledger.is_billed(&id("done")), "its own id need not be named");
    ledger.close();
    let ledger = open(&stores, &clock);
    ledger.flushed().await;
    let entries = all_entries(&ledger, 10);
    let recovered = entries
        .iter()
        .find(|entry| entry.settlement.outcome == Outcome::Recovered)
        .unwrap();
    assert_eq!((entries.len(), recovered.settlement.cost), (2, usd(900)));
    assert!(ledger.is_billed(&id("resp")));
    assert!(!enter(&ledger, 3, 700, &["resp"], &[]).await);
}

#[tokio::test]
async fn a_result_that_comes_late_corrects_its_entry_once_also_after_restarts() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock);
    let _waiting = hold(&ledger, 1, 900).await.defer(id("resp")).unwrap();
    ledger.flushed().await;
    ledger.close();
    let reason = Name::from("fetched_late");
    let used = |nanos, tokens| Amounts::of_request(usd(nanos), tokens);
    let correct = |ledger: &Arc<Ledger>, nanos, tokens| {
        let corrected = ledger.correct(&id("resp"), &used(nanos, tokens), &reason).unwrap();
        corrected.map(|correction| correction.usd)
    };
    // Recovered at what it held, in the month before; the next start knows it by its rows.
    let ledger = open(&stores, &clock);
    ledger.flushed().await;
    ledger.close();
    clock.advance_ms(12 * DAY_MS);
    let ledger = open(&stores, &clock);
    assert!(ledger.is_billed(&id("resp")) && ledger.is_guessed(&id("resp")));
    assert_eq!(ledger.correct(&id("other"), &used(1, 1), &reason).unwrap(), None);
    let before = ledger.spent("global", Window::Total);
    assert_eq!(correct(&ledger, 250, 7), Some(usd(-650)));
    assert_eq!(correct(&ledger, 250, 7), None, "once");
    ledger.flushed().await;
    let after = ledger.spent("global", Window::Total);
    assert_eq!((before.usd, after.usd, after.tokens), (usd(900), usd(250), 7));
    assert_eq!(after.requests, before.requests);
    let entries = all_entries(&ledger, 10);
    assert_eq!((entries.len(), sum(&entries)), (1, 900), "an entry never changes");
    let sums = ledger.summary(&SummaryQuery {
        by: Dimension::Provider,
        from_ms: 0,
        to_ms: i64::MAX,
        tenant: None,
    });
    assert_eq!(sums.iter().map(|row| row.cost.nanos()).sum::<i64>(), 250);
    ledger.close();
    let ledger = open(&stores, &clock);
    assert!(!ledger.is_guessed(&id("resp")) && ledger.is_billed(&id("resp")));
    assert_eq!(correct(&ledger, 100, 1), None, "also after a restart");
    assert!(walk(&stores, None, u64::MAX).unwrap().is_sound());
}

#[tokio::test]
async fn what_was_entered_exactly_is_never_corrected() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock);
    assert!(enter(&ledger, 1, 700, &["a"], &[]).await);
    assert!(!ledger.is_guessed(&id("a")));
    let late = ledger.correct(&id("a"), &Amounts::of_request(usd(1), 1), &Name::from("late"));
    assert_eq!(late.unwrap(), None);
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(700));
}

/// One response that runs in the background: its result is entered by a fetch while the hold of its own stream is open.
async fn fetched_while_its_stream_runs(end: impl AsyncFnOnce(&Arc<Ledger>, agentledger_ledger::Hold)) {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock);
    let streaming = hold(&ledger, 1, 900).await;
    assert!(enter(&ledger, 2, 700, &["resp"], &[]).await);
    end(&ledger, streaming).await;
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(700), "billed once");
    assert!(!enter(&ledger, 3, 700, &["resp"], &[]).await);
    let late = ledger.correct(&id("resp"), &Amounts::of_request(usd(650), 1), &Name::from("late"));
    assert_eq!(late.unwrap(), None, "it was never a guess");
    ledger.close();
    drop(ledger);
    let ledger = open(&stores, &clock);
    ledger.flushed().await;
    assert_eq!(
        ledger.spent("global", Window::Total).usd,
        usd(700),
        "after a restart, too"
    );
    assert_eq!(sum(&all_entries(&ledger, 10)), 700);
    assert!(ledger.open_holds().is_empty() && walk(&stores, None, u64::MAX).unwrap().is_sound());
}

#[tokio::test]
async fn a_response_fetched_while_its_stream_runs_is_billed_once_where_the_stream_ends() {
    fetched_while_its_stream_runs(async |_, hold| {
        let settled = hold.settle_bills(settlement(START_MS, 700), None, vec![id("resp")]);
        assert!(settled.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_response_fetched_while_its_stream_runs_is_billed_once_where_the_client_leaves() {
    fetched_while_its_stream_runs(async |_, hold| assert!(hold.defer(id("resp")).is_none())).await;
}

#[tokio::test]
async fn a_response_fetched_between_its_deferral_and_giving_up_is_billed_once() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock);
    let waiting = hold(&ledger, 1, 900).await.defer(id("resp")).unwrap();
    assert!(enter(&ledger, 2, 700, &["resp"], &[]).await);
    assert!(waiting.settle_bills(settlement(START_MS, 900), None, vec![]).is_none());
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(700));
}

#[tokio::test]
async fn a_response_fetched_while_its_hold_waits_is_billed_once_through_a_crash() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock);
    let waiting = hold(&ledger, 1, 900).await.defer(id("resp")).unwrap();
    assert!(enter(&ledger, 2, 700, &["resp"], &[]).await);
    ledger.flushed().await;
    let left = stores.crashed(0);
    drop((waiting, ledger));
    let ledger = open(&left, &clock);
    ledger.flushed().await;
    assert_eq!(
        ledger.spent("global", Window::Total).usd,
        usd(700),
        "the open hold is void, not recovered"
    );
}

#[tokio::test]
async fn wherever_a_crash_tears_the_journal_no_hold_is_without_its_bill_and_nothing_is_entered_without() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let options = Options {
        queue_events_max: 1_000,
        ..options()
    };
    let mut stepped = Stepped::open(Arc::new(stores.clone()), &options, Arc::clone(&clock) as _).unwrap();
    assert!(stepped.write());
    let ledger = Arc::clone(stepped.ledger());
    // More than one chunk of the journal has room for.
    let mut open_holds = Vec::new();
    for number in 0..150 {
        let permit = ledger.admit_now().unwrap();
        let notes = HoldNotes {
            bill: Some(id(&number.to_string())),
            ..HoldNotes::default()
        };
        let (facts, amounts) = (facts(START_MS, number), Amounts::of_request(usd(9), 1));
        open_holds.push(
            ledger
                .reserve_noted(permit, facts, &[], amounts, &Name::from("x"), notes)
                .unwrap(),
        );
    }
    for number in 150..300 {
        let (permit, facts) = (ledger.admit_now().unwrap(), common::facts(START_MS, number));
        let bills = vec![id(&number.to_string())];
        let entered = ledger.enter(
            permit,
            facts,
            &[],
            settlement(START_MS, 9),
            Name::from("spooled"),
            bills,
        );
        assert!(entered.unwrap().is_some());
    }
    // All of it is written as one group, whose sync fails: it may be on disk in any part.
    stores.set_faults(Faults {
        flushes_left: Some(0),
        ..Faults::default()
    });
    stepped.write();
    let torn_bytes = stores.unflushed_bytes(Month::of_ms(START_MS));
    let mut seen = 0;
    for kept in (0..=torn_bytes).step_by(torn_bytes / 40 + 1).chain([torn_bytes]) {
        let again = open(&stores.crashed(kept), &clock);
        again.flushed().await;
        let entries = all_entries(&again, 100);
        for entry in &entries {
            let number = entry.facts.id.random() & 0xffff;
            assert!(again.is_billed(&id(&number.to_string())), "{kept}: {number}");
        }
        seen = seen.max(entries.len());
    }
    assert!(seen > 150, "{seen}");
}
