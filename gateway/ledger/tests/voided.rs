//! Holds that an operator voids: what they held is free, and what is billed for them all the same is entered. And those who
//! follow what happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use agentledger_ledger::store::MemoryStores;
use agentledger_ledger::{
    Amounts, BillId, BooksError, Bound, Dimension, Event, Happened, Ledger, LedgerError, Limit, ManualClock, Mode,
    SummaryQuery, Usd, Window, Zone,
};
use common::*;
use tokio::sync::broadcast::error::RecvError;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_MS))
}

fn open(stores: &MemoryStores, clock: &Arc<ManualClock>) -> Arc<Ledger> {
    Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(clock) as _).unwrap()
}

fn bound(limit: i64) -> Bound {
    let limit = Limit::usd(Usd::from_nanos(limit)).unwrap();
    Bound::new("team:own".into(), Window::Day, Zone::utc(), limit, Mode::Hard).unwrap()
}

async fn bounded_hold(ledger: &Arc<Ledger>, number: u64, amount: i64) -> Result<agentledger_ledger::Hold, BooksError> {
    let permit = ledger.admit().await.unwrap();
    let amounts = Amounts::of_request(usd(amount), 1_000);
    let facts = facts(ledger.now_ms(), number);
    ledger.reserve(permit, facts, &[bound(100)], amounts, &"named_max".into())
}

#[tokio::test]
async fn a_voided_hold_frees_what_it_held_and_its_answer_is_entered_beyond_it() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock);
    let mut stuck = bounded_hold(&ledger, 1, 100).await.unwrap();
    assert!(bounded_hold(&ledger, 2, 60).await.is_err());
    let freed = ledger.freed(&"team:own".into());
    let mut waiting = Box::pin(freed.notified());
    assert!(!waiting.as_mut().enable());
    let voided = ledger.void(stuck.id(), "stuck").unwrap();
    waiting.await;
    assert!(ledger.open_hold(stuck.id()).is_none());
    assert!(matches!(
        ledger.void(stuck.id(), "again"),
        Err(LedgerError::NoSuchHold(_))
    ));
    ledger.applied(voided).await.unwrap();
    let other = bounded_hold(&ledger, 2, 60).await.unwrap();
    // It can grow no more, and ends with what was billed.
    assert_eq!(
        stuck.extend(Amounts::of_request(usd(1), 0)),
        Err(BooksError::UnknownHold)
    );
    let settled = stuck.settle(settlement(ledger.now_ms(), 90));
    assert_eq!((settled.entry.held, settled.entry.overage), (usd(0), usd(90)));
    assert_eq!(settled.entry.overage_reason.as_deref(), Some("billed_after_void"));
    settled.durable().await.unwrap();
    let standing = ledger.standing(&bound(100));
    assert_eq!((standing.posted, standing.held, standing.overage), (90, 60, 90));
    other.settle(settlement(ledger.now_ms(), 60));
    ledger.flushed().await;
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(150));
    let entries = all_entries(&ledger, 10);
    assert_eq!((entries.len(), sum(&entries)), (2, 150));
    let report = ledger.verify(None).unwrap();
    assert_eq!((report.entries, report.open_holds, report.is_sound()), (2, 0, true));
    let again = open(&stores.crashed(0), &clock);
    assert_eq!(again.spent("global", Window::Total).usd, usd(150));
    assert_eq!(
        (again.recovered_holds(), again.spent("team:own", Window::Day).usd),
        (0, usd(150))
    );
}

#[tokio::test]
async fn of_a_voided_hold_nothing_is_entered_where_nothing_is_known() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock);
    // Dropped, as by a panic, and voided by its owner, too.
    let dropped = hold(&ledger, 1, 10).await;
    ledger.void(dropped.id(), "stuck").unwrap();
    drop(dropped);
    let unsent = hold(&ledger, 2, 10).await;
    ledger.void(unsent.id(), "stuck").unwrap();
    unsent.void("connect_failed");
    // Killed before its exchange ends: the void stands, and nothing is recovered.
    let running = hold(&ledger, 3, 10).await;
    let voided = ledger.void(running.id(), "stuck").unwrap();
    ledger.applied(voided).await.unwrap();
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(0));
    let again = open(&stores.crashed(0), &clock);
    again.flushed().await;
    assert_eq!(
        (again.recovered_holds(), again.spent("global", Window::Total)),
        (0, Amounts::ZERO)
    );
    assert!(all_entries(&again, 10).is_empty());
}

#[tokio::test]
async fn the_result_of_a_voided_hold_that_waits_for_it_is_billed_once() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock);
    for is_deferred_first in [true, false] {
        let bill = BillId::of(&["acme", if is_deferred_first { "resp_1" } else { "resp_2" }]);
        let open = hold(&ledger, 1, 50).await;
        let id = open.id();
        let waiting = match is_deferred_first {
            true => {
                let waiting = open.defer(bill).unwrap();
                ledger.void(id, "nobody fetches it").unwrap();
                waiting
            }
            false => {
                ledger.void(id, "stuck").unwrap();
                open.defer(bill).unwrap()
            }
        };
        let settled = waiting
            .settle_bills(settlement(ledger.now_ms(), 30), None, Vec::new())
            .unwrap();
        assert_eq!(settled.entry.overage, usd(30));
        assert!(ledger.is_billed(&bill));
        let permit = ledger.admit().await.unwrap();
        let again = ledger.enter(
            permit,
            facts(START_MS, 9),
            &[],
            settlement(START_MS, 30),
            "fetched".into(),
            vec![bill],
        );
        assert!(again.unwrap().is_none());
    }
    ledger.flushed().await;
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(60));
}

#[tokio::test]
async fn an_answer_that_ends_days_after_its_hold_was_voided_is_in_the_export() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock);
    let long = hold(&ledger, 1, 50).await;
    exchange(&ledger, 2, 10).await;
    ledger.void(long.id(), "stuck").unwrap();
    for day in 0..3 {
        clock.advance_ms(86_400_000);
        exchange(&ledger, 3 + day, 10).await;
    }
    long.settle(settlement(ledger.now_ms(), 20)).durable().await.unwrap();
    ledger.flushed().await;
    let entries = all_entries(&ledger, 2);
    assert_eq!((entries.len(), sum(&entries)), (5, 60));
    let query = agentledger_ledger::EntryQuery {
        from_ms: START_MS + 86_400_001,
        to_ms: i64::MAX,
        limit: 100,
        after: None,
    };
    assert_eq!(ledger.entries(&query).unwrap().entries.len(), 3);
    let rows = ledger.summary(&SummaryQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        by: Dimension::Model,
        tenant: None,
    });
    assert_eq!((rows[0].cost, rows[0].requests), (usd(60), 5));
}

#[tokio::test]
async fn whoever_follows_hears_of_each_event_with_its_entry_and_facts() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock);
    exchange(&ledger, 0, 1).await;
    ledger.flushed().await;
    let mut following = ledger.follow();
    let from = ledger.head().sequence;
    let mut grown = hold(&ledger, 1, 100).await;
    grown.extend(Amounts::of_request(usd(5), 0)).unwrap();
    grown.settle(settlement(ledger.now_ms(), 90));
    hold(&ledger, 2, 10).await.void("unsent");
    ledger.mark_session(&"acme".into(), &"session-0".into(), agentledger_ledger::Mark::Killed);
    ledger.flushed().await;
    let mut heard: Vec<Arc<Happened>> = Vec::new();
    while let Ok(happened) = following.try_recv() {
        heard.push(happened);
    }
    let sequences: Vec<u64> = heard.iter().map(|happened| happened.sequence).collect();
    assert_eq!(sequences, (from + 1..=ledger.head().sequence).collect::<Vec<_>>());
    for happened in &heard {
        let is_of_hold = !matches!(happened.event, Event::Marked(_));
        assert_eq!(happened.facts.is_some(), is_of_hold, "{happened:?}");
        assert_eq!(happened.entry.is_some(), matches!(happened.event, Event::Settled(_)));
    }
    let entry = heard.iter().find_map(|happened| happened.entry.clone()).unwrap();
    assert_eq!((entry.settlement.cost, &*entry.facts.session), (usd(90), "session-0"));
    // One who does not read is notified how many events were missed, and holds nobody up.
    for number in 0..1_000 {
        exchange(&ledger, number, 1).await;
    }
    ledger.flushed().await;
    let missed = following.recv().await;
    assert!(
        matches!(missed, Err(RecvError::Lagged(count)) if count > 900),
        "{missed:?}"
    );
    assert!(following.recv().await.is_ok());
}
