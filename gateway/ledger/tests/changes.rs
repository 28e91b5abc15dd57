//! What operators change: in force at once, on disk whole or not at all, known after any start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use agentledger_ledger::store::{Faults, MemoryStores, Month, Stores};
use agentledger_ledger::testing;
use agentledger_ledger::{
    Answered, Change, ChangeError, ChangeQuery, Ledger, LedgerError, ManualClock, Mark, OfflineLedger, Options, Window,
};
use common::*;
use ulid::Ulid;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_MS))
}

fn open(stores: &MemoryStores, clock: &Arc<ManualClock>) -> Arc<Ledger> {
    Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(clock) as _).unwrap()
}

fn change(number: u64, subject: &str, after: Option<&str>) -> Change {
    Change {
        id: Ulid::from_parts(START_MS as u64, u128::from(number)),
        at_ms: i64::MAX,
        author: "ops".into(),
        peer: "127.0.0.1".into(),
        action: "rule.put".into(),
        subject: subject.into(),
        tenant: "".into(),
        note: "because".into(),
        before: None,
        after: after.map(Arc::from),
        kept: true,
        min_version: 0,
        request: Some(Answered {
            id: format!("request-{number}").into(),
            digest: [number as u8; 32],
            answer: format!("{{\"answer\":{number}}}").into(),
        }),
    }
}

/// What a ledger knows of its changes.
fn known(ledger: &Ledger) -> (Vec<String>, Vec<String>, usize) {
    let documents = ledger.documents("").into_iter();
    let documents = documents.map(|document| format!("{}={} v{}", document.subject, document.value, document.version));
    let changes = ledger.changes(&ChangeQuery::default()).unwrap().changes;
    let changes = changes
        .iter()
        .map(|(sequence, change)| format!("{sequence} {} {}", change.id, change.subject));
    let answers = (0..100).filter(|number| ledger.answered("ops", &format!("request-{number}")).is_some());
    (documents.collect(), changes.collect(), answers.count())
}

#[tokio::test]
async fn a_change_is_in_force_with_its_call_and_after_every_start() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock);
    ledger.change(change(1, "rule:a", Some("1"))).unwrap();
    assert_eq!(&*ledger.document("rule:a").unwrap().value, "1");
    assert_eq!(
        ledger.document("rule:a").unwrap().at_ms,
        START_MS,
        "no later than it was decided"
    );
    ledger.change(change(2, "rule:b", Some("2"))).unwrap();
    ledger.change(change(3, "rule:a", Some("3"))).unwrap();
    ledger.change(change(4, "rule:b", None)).unwrap();
    let last = ledger.change(change(5, "provider:x", Some("{}"))).unwrap();
    ledger.applied(last).await.unwrap();
    let (digest, answer) = ledger.answered("ops", "request-3").unwrap();
    assert_eq!((digest, &*answer), ([3; 32], "{\"answer\":3}"));
    assert!(ledger.answered("another", "request-3").is_none());
    let before = known(&ledger);
    assert_eq!(before.0, ["provider:x={} v1", "rule:a=3 v2"]);
    assert_eq!((before.1.len(), before.2), (5, 5));
    let report = ledger.verify(None).unwrap();
    assert_eq!((report.changes, report.is_sound()), (5, true));
    // Killed: from the journal. Closed: from the checkpoint. Without its state: from the journal again.
    let killed = stores.crashed(0);
    assert_eq!(known(&open(&killed, &clock)), before);
    ledger.close();
    drop(ledger);
    assert_eq!(known(&open(&stores.crashed(0), &clock)), before);
    let offline = OfflineLedger::open_in(Arc::new(stores.crashed(0)), Default::default()).unwrap();
    assert_eq!(offline.documents("rule:").len(), 1);
    assert_eq!(offline.changes(&ChangeQuery::default()).unwrap().changes.len(), 5);
    stores.drop_state();
    assert_eq!(known(&open(&stores, &clock)), before);
}

#[tokio::test]
async fn a_month_opens_with_the_documents_and_the_changes_of_removed_ones_are_gone() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let options = Options {
        retention_months: Some(1),
        ..options()
    };
    let open = || Ledger::open_in(Arc::new(stores.clone()), &options, Arc::clone(&clock) as _).unwrap();
    let ledger = open();
    for month in 0..4 {
        for number in 0..3 {
            let number = month * 10 + number;
            let last = ledger
                .change(change(number, &format!("rule:{number}"), Some("1")))
                .unwrap();
            ledger.durable(last).await.unwrap();
        }
        exchange(&ledger, month, 100).await;
        clock.set_ms(Month::of_ms(ledger.now_ms()).next().start_ms() + 10);
    }
    exchange(&ledger, 5, 100).await;
    ledger.flushed().await;
    until(|| stores.months().unwrap().len() == 2).await;
    let report = ledger.verify(None).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let documents: Vec<_> = ledger
        .documents("rule:")
        .iter()
        .map(|document| document.subject.clone())
        .collect();
    assert_eq!(documents.len(), 12);
    until(|| known(&ledger).1.len() == 3).await;
    ledger.close();
    drop(ledger);
    for drops_state in [false, true] {
        if drops_state {
            stores.drop_state();
        }
        let again = open();
        let (rules, changes, answers) = known(&again);
        assert_eq!((rules.len(), answers), (12, 12));
        assert_eq!(changes.len(), 3, "{changes:?}");
        assert!(changes.iter().all(|change| change.contains("rule:3")), "{changes:?}");
        again.close();
    }
}

#[tokio::test]
async fn what_an_act_did_and_the_change_that_tells_it_are_on_disk_both_or_neither() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock);
    let entry = exchange(&ledger, 1, 100).await;
    entry.durable().await.unwrap();
    let stuck = hold(&ledger, 2, 7).await;
    stuck.durable().await.unwrap();
    // One more batch is applied, but its sync fails: it may be on disk in any part.
    stores.set_faults(Faults {
        flushes_left: Some(0),
        ..Faults::default()
    });
    let large = "x".repeat(9_000);
    let mut told = Vec::new();
    let mut tell = |sequence: u64| {
        told.push(sequence);
        change(sequence, "entry:x", Some(&large))
    };
    let adjusted = ledger
        .adjust_audited(entry.entry.facts.id, usd(-40), "credit", &mut tell)
        .unwrap();
    let voided = ledger.void_audited(stuck.id(), "stuck", &mut tell);
    let voided = voided.and_then(|voided| {
        Ok((
            voided,
            ledger.mark_session_audited(&"acme".into(), &"s".into(), Mark::Killed, &mut tell)?,
        ))
    });
    assert!(ledger.durable(adjusted).await.is_err());
    assert_eq!(told[0] + 1, adjusted);
    let torn_bytes = stores.unflushed_bytes(Month::of_ms(START_MS));
    assert!(torn_bytes > 9_000);
    let mut seen = std::collections::BTreeSet::new();
    for kept in (0..=torn_bytes).step_by(torn_bytes / 400 + 1).chain([torn_bytes]) {
        let torn = stores.crashed(kept);
        assert!(testing::walk(&torn, None, u64::MAX).unwrap().is_sound(), "{kept}");
        let again = open(&torn, &clock);
        let changes = again.changes(&ChangeQuery::default()).unwrap().changes;
        let is_told = |sequence: u64| {
            changes
                .iter()
                .any(|(at, change)| *at == sequence + 1 && change.id.random() == u128::from(sequence))
        };
        let is_adjusted = again.spent("global", Window::Total).usd < usd(100);
        assert_eq!(is_adjusted, is_told(told[0]), "{kept}");
        assert_eq!(
            again.answered("ops", &format!("request-{}", told[0])).is_some(),
            is_adjusted
        );
        if voided.is_ok() {
            // A hold that was not voided is recovered at what it held.
            let is_voided = again.recovered_holds() == 0;
            assert_eq!(is_voided, is_told(told[1]), "{kept}");
            seen.insert((is_adjusted, is_voided));
        } else {
            seen.insert((is_adjusted, is_adjusted));
        }
    }
    assert!(
        seen.contains(&(false, false)) && seen.iter().any(|(adjusted, _)| *adjusted),
        "{seen:?}"
    );
}

#[tokio::test]
async fn while_nothing_can_be_written_nothing_is_changed() {
    for is_full in [false, true] {
        let (stores, clock) = (TestStores::default(), clock());
        let ledger = Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(&clock) as _).unwrap();
        let entry = exchange(&ledger, 1, 100).await;
        entry.durable().await.unwrap();
        let open = hold(&ledger, 2, 7).await;
        open.durable().await.unwrap();
        let kept = ledger.change(change(1, "rule:a", Some("1"))).unwrap();
        ledger.applied(kept).await.unwrap();
        match is_full {
            true => stores.journal_is_full.store(true, Ordering::SeqCst),
            false => stores.inner.set_faults(Faults {
                applies_left: Some(0),
                ..Faults::default()
            }),
        }
        let failing = hold(&ledger, 3, 5).await;
        assert!(failing.durable().await.is_err());
        let failed =
            |result: Result<u64, LedgerError>| assert!(matches!(result, Err(LedgerError::Stopped(_))), "{result:?}");
        failed(ledger.change(change(2, "rule:a", Some("2"))));
        failed(ledger.void(open.id(), "stuck"));
        failed(ledger.void_audited(open.id(), "stuck", |_| change(3, "hold:1", None)));
        failed(
            ledger.mark_session_audited(&"acme".into(), &"s".into(), Mark::Killed, |_| {
                change(4, "session:s", None)
            }),
        );
        failed(ledger.adjust(entry.entry.facts.id, usd(1), "x"));
        assert_eq!(&*ledger.document("rule:a").unwrap().value, "1");
        assert!(ledger.answered("ops", "request-2").is_none());
        assert!(ledger.open_hold(open.id()).is_some());
        assert_eq!(ledger.spent("global", Window::Total).usd, usd(100));
        if is_full {
            stores.journal_is_full.store(false, Ordering::SeqCst);
            until(|| ledger.change(change(5, "rule:a", Some("5"))).is_ok()).await;
            assert_eq!(&*ledger.document("rule:a").unwrap().value, "5");
        }
    }
}

#[tokio::test]
async fn changes_have_their_own_places_and_take_none_of_exchanges() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let options = Options {
        queue_events_max: 1,
        ..options()
    };
    let ledger = Ledger::open_in(Arc::new(stores), &options, Arc::clone(&clock) as _).unwrap();
    // Slow answers take all places there are: whoever is to stop them can.
    let mut holds = Vec::new();
    while ledger.health().permits_left >= 2 {
        holds.push(hold(&ledger, holds.len() as u64, 1).await);
    }
    ledger.flushed().await;
    let left = ledger.health().permits_left;
    for number in 0..64 {
        let changed = ledger.change(change(number, "rule:a", Some("1"))).unwrap();
        ledger.durable(changed).await.unwrap();
    }
    assert_eq!(ledger.health().permits_left, left);
    let voided = ledger.void(holds[0].id(), "stuck").unwrap();
    ledger.applied(voided).await.unwrap();
    assert_eq!(ledger.health().open_holds, holds.len() - 1);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock);
    let entry = exchange(&ledger, 1, 100).await;
    entry.durable().await.unwrap();
    let head = ledger.health().waiting_events + ledger.head().sequence;
    let long = "x".repeat((1 << 20) + 1);
    let refused = ledger.change(change(1, "rule:a", Some(&long)));
    assert!(refused.is_err_and(|error| error.to_string().contains("`after`")));
    let adjusted = ledger.adjust_audited(entry.entry.facts.id, usd(1), "x", |_| change(2, &long, None));
    let is_named = |error: &LedgerError| {
        matches!(
            error,
            LedgerError::Books(agentledger_ledger::BooksError::Change(ChangeError::Text("subject")))
        )
    };
    assert!(adjusted.as_ref().is_err_and(is_named), "{adjusted:?}");
    let nothing = ledger.adjust_audited(entry.entry.facts.id, usd(0), "x", |_| change(3, "entry:x", Some("1")));
    assert!(nothing.is_err());
    let unknown = ledger.void_audited(agentledger_ledger::HoldId(77), "x", |_| change(4, "hold:77", None));
    assert!(matches!(unknown, Err(LedgerError::NoSuchHold(_))));
    assert_eq!(
        ledger.health().waiting_events + ledger.head().sequence,
        head,
        "no event was made"
    );
    assert!(ledger.documents("").is_empty() && ledger.answered("ops", "request-3").is_none());
    assert_eq!(ledger.spent("global", Window::Total).usd, usd(100));
}

#[tokio::test]
async fn a_page_of_changes_reads_those_and_no_journal() {
    let (stores, clock) = (TestStores::default(), clock());
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options(), Arc::clone(&clock) as _).unwrap();
    for number in 0..3_000 {
        clock.advance_ms(50);
        exchange(&ledger, number, 100).await;
        if number % 100 == 0 {
            ledger
                .change(change(number, &format!("rule:{}", number % 300), Some("1")))
                .unwrap();
        }
    }
    ledger.flushed().await;
    let read = |query: ChangeQuery| {
        let before = stores.pairs_read.load(Ordering::SeqCst);
        let page = ledger.changes(&query).unwrap();
        (page, stores.pairs_read.load(Ordering::SeqCst) - before)
    };
    let (page, pairs) = read(ChangeQuery {
        limit: 10,
        ..ChangeQuery::default()
    });
    let numbers: Vec<u128> = page.changes.iter().map(|(_, change)| change.id.random()).collect();
    assert_eq!(
        numbers,
        (20..30).rev().map(|hundred| hundred * 100).collect::<Vec<u128>>()
    );
    assert!(pairs <= 40, "{pairs} records read for ten changes");
    let (rest, _) = read(ChangeQuery {
        limit: 100,
        before_sequence: page.next,
        ..ChangeQuery::default()
    });
    assert_eq!((rest.changes.len(), rest.next), (20, None));
    let (of_rule, pairs) = read(ChangeQuery {
        subject: "rule:100".into(),
        ..ChangeQuery::default()
    });
    assert_eq!(of_rule.changes.len(), 10);
    assert!(pairs <= 40, "{pairs}");
    let (none, pairs) = read(ChangeQuery {
        action: "price".into(),
        ..ChangeQuery::default()
    });
    assert_eq!((none.changes.len(), none.next, pairs), (0, None, 0));
}

#[tokio::test]
async fn changes_are_found_where_a_clock_was_set_back() {
    let (stores, clock) = (MemoryStores::new(), clock());
    let ledger = open(&stores, &clock);
    exchange(&ledger, 1, 100).await;
    ledger.change(change(1, "rule:a", Some("1"))).unwrap();
    // Years ahead, believed, and back.
    clock.jump_ms(700 * 86_400_000);
    ledger.accept_clock();
    ledger.change(change(2, "rule:a", Some("2"))).unwrap();
    clock.jump_ms(-700 * 86_400_000);
    ledger.accept_clock().unwrap();
    let last = ledger.change(change(3, "rule:a", Some("3"))).unwrap();
    ledger.applied(last).await.unwrap();
    let changes = ledger.changes(&ChangeQuery::default()).unwrap().changes;
    let numbers: Vec<u128> = changes.iter().map(|(_, change)| change.id.random()).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(changes[0].1.at_ms, START_MS);
    let page = ledger.changes(&ChangeQuery {
        to_ms: START_MS + 1,
        ..ChangeQuery::default()
    });
    assert_eq!(page.unwrap().changes.len(), 2);
}
