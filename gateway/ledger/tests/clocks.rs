//! Machines whose clock is wrong: no history is lost, no window turns early, and an operator has a way back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use agentledger_ledger::store::{MemoryStores, Month, Stores};
use agentledger_ledger::testing::{Stepped, walk};
use agentledger_ledger::{
    Amounts, BooksError, Bound, ClockState, Ledger, Limit, ManualClock, Mode, Name, Options, Window, Zone,
};
use common::*;

const DAY_MS: i64 = 86_400_000;
const YEAR_MS: i64 = 365 * DAY_MS;

fn open(stores: &MemoryStores, clock: &Arc<ManualClock>, options: &Options) -> Arc<Ledger> {
    Ledger::open_in(Arc::new(stores.clone()), options, Arc::clone(clock) as _).unwrap()
}

fn kept(months: u32) -> Options {
    Options {
        retention_months: Some(months),
        ..options()
    }
}

/// A dollar a day for the key; whether a request of half a dollar is let in.
async fn is_admitted(ledger: &Arc<Ledger>, number: u64) -> Result<(), BooksError> {
    let facts = facts(ledger.now_ms(), 0);
    let account = Name::from(format!("key:{}", facts.key));
    let limit = Limit::usd(usd(1_000_000_000)).unwrap();
    let bound = Bound::new(account, Window::Day, Zone::utc(), limit, Mode::Hard).unwrap();
    let permit = ledger.admit().await.unwrap();
    let amounts = Amounts::of_request(usd(500_000_000), 10);
    let hold = ledger.reserve(permit, facts, &[bound], amounts, &Name::from("named_max"))?;
    hold.settle(settlement(ledger.now_ms() + number as i64, 500_000_000));
    Ok(())
}

fn months(stores: &MemoryStores) -> Vec<String> {
    stores.months().unwrap().iter().map(Month::to_string).collect()
}

#[tokio::test]
async fn a_jump_to_2030_and_back_removes_no_month_turns_no_window_and_refuses_meanwhile() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock, &kept(0));
    is_admitted(&ledger, 1).await.unwrap();
    clock.jump_ms(4 * YEAR_MS);
    let refused = is_admitted(&ledger, 2).await.unwrap_err();
    assert!(
        matches!(refused, BooksError::ClockAhead(ms) if ms == 4 * YEAR_MS),
        "{refused}"
    );
    assert!(matches!(ledger.health().clock, ClockState::Ahead { .. }));
    ledger.flushed().await;
    assert_eq!(months(&stores), ["2026-11"]);
    clock.jump_ms(-4 * YEAR_MS);
    clock.advance_ms(1_000);
    is_admitted(&ledger, 3).await.unwrap();
    let exceeded = is_admitted(&ledger, 4).await.unwrap_err();
    assert!(
        matches!(exceeded, BooksError::Refused(_)),
        "the day is the same: {exceeded}"
    );
    assert_eq!(ledger.health().clock, ClockState::Sound);
    ledger.close();
    drop(ledger);
    let again = open(&stores, &clock, &kept(0));
    assert_eq!(all_entries(&again, 10).len(), 2, "nothing was lost");
    assert!(walk(&stores, None, u64::MAX).unwrap().is_sound());
}

#[tokio::test]
async fn a_start_with_a_clock_of_2037_waits_for_an_operator_and_loses_nothing() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock, &kept(0));
    is_admitted(&ledger, 1).await.unwrap();
    ledger.close();
    drop(ledger);
    clock.jump_ms(10 * YEAR_MS);
    let ledger = open(&stores, &clock, &kept(0));
    assert!(matches!(is_admitted(&ledger, 2).await, Err(BooksError::ClockAhead(_))));
    assert_eq!(months(&stores), ["2026-11"]);
    assert_eq!(ledger.accept_clock(), None);
    is_admitted(&ledger, 3).await.unwrap();
    ledger.flushed().await;
    assert_eq!(months(&stores).last().unwrap(), "2036-11");
}

#[tokio::test]
async fn a_ledger_that_once_saw_2037_is_set_back_by_its_operator() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS + 10 * YEAR_MS)));
    let ledger = open(&stores, &clock, &options());
    is_admitted(&ledger, 1).await.unwrap();
    ledger.close();
    drop(ledger);
    clock.jump_ms(-10 * YEAR_MS);
    let ledger = open(&stores, &clock, &options());
    assert_eq!(ledger.health().clock, ClockState::Behind { ms: 10 * YEAR_MS });
    clock.advance_ms(DAY_MS);
    is_admitted(&ledger, 2).await.unwrap();
    assert!(is_admitted(&ledger, 3).await.is_err(), "the day of 2036 does not end");
    let sequence = ledger.accept_clock().unwrap();
    ledger.applied(sequence).await.unwrap();
    assert_eq!(ledger.health().clock, ClockState::Sound);
    assert!(
        is_admitted(&ledger, 4).await.is_err(),
        "what was spent in the wrong day was spent today"
    );
    clock.advance_ms(DAY_MS);
    is_admitted(&ledger, 5).await.unwrap();
    clock.advance_ms(31 * DAY_MS);
    is_admitted(&ledger, 6).await.unwrap();
    ledger.flushed().await;
    // Folders keep the order of the journal, whatever the calendar says.
    assert_eq!(months(&stores), ["2036-11", "2036-12"]);
    assert!(ledger.verify(None).unwrap().is_sound());
    let entries = all_entries(&ledger, 2);
    assert_eq!((entries.len(), sum(&entries)), (4, 2_000_000_000));
    ledger.close();
    drop(ledger);
    for drops_state in [false, true] {
        if drops_state {
            stores.drop_state();
        }
        let again = open(&stores, &clock, &options());
        assert_eq!(again.health().clock, ClockState::Sound);
        assert_eq!(again.spent("global", Window::Day).usd, usd(500_000_000));
        assert_eq!(again.spent("global", Window::Total).usd, usd(2_000_000_000));
        again.close();
    }
}

#[tokio::test]
async fn retention_counts_the_months_that_there_are_and_no_distance() {
    let (stores, clock) = (MemoryStores::new(), Arc::new(ManualClock::new(START_MS)));
    let ledger = open(&stores, &clock, &kept(2));
    for _ in 0..4 {
        is_admitted(&ledger, 1).await.unwrap();
        // Silent for half a year each.
        clock.advance_ms(183 * DAY_MS);
    }
    is_admitted(&ledger, 2).await.unwrap();
    ledger.flushed().await;
    until(|| stores.months().unwrap().len() == 3).await;
    assert_eq!(months(&stores), ["2027-11", "2028-05", "2028-11"]);
    assert!(ledger.verify(None).unwrap().is_sound());
}

#[tokio::test]
async fn a_month_that_turns_with_counted_denials_still_opens_alone() {
    let stores = MemoryStores::new();
    let december_ms = Month { year: 2026, month: 12 }.start_ms();
    let clock = Arc::new(ManualClock::new(december_ms - 30_000));
    let mut stepped = Stepped::open(Arc::new(stores.clone()), &options(), Arc::clone(&clock) as _).unwrap();
    let denial = agentledger_ledger::Denial {
        account: "key:a".into(),
        tenant: "".into(),
        reason: "budget_exceeded".into(),
        policy: "budget".into(),
    };
    for _ in 0..3 {
        stepped.ledger().deny(&denial);
    }
    assert!(stepped.write());
    clock.advance_ms(30_500);
    assert!(stepped.tick() && stepped.write());
    stepped.apply();
    stepped.close();
    assert_eq!(months(&stores), ["2026-11", "2026-12"]);
    stores.remove_month(Month { year: 2026, month: 11 }).unwrap();
    let report = walk(&stores, None, u64::MAX).unwrap();
    assert!(report.is_sound(), "{report:?}");
    stores.drop_state();
    open(&stores, &clock, &options());
}
