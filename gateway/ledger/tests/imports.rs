//! Entries that are taken over from elsewhere, each at its own time in the past.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use agentledger_ledger::store::{MemoryStores, Stores};
use agentledger_ledger::{
    BillId, Bound, Dimension, Entry, EntryQuery, ImportRow, ImportedEntry, Ledger, Limit, ManualClock, Mode, Name,
    OfflineLedger, Retention, SummaryQuery, Usd, Window, Zone,
};
use common::{START_MS, all_entries, exchange, facts, options, settlement, sum, usd};
use ulid::Ulid;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const SOURCE: &str = "sqlite:01J";
/// 2026-11-22T12:00:00Z.
const NOW_MS: i64 = START_MS + DAY_MS / 2;

fn source() -> Name {
    SOURCE.into()
}

/// A call `ago_ms` before now, by one key.
fn row(place: u64, ago_ms: i64, cost: i64) -> ImportRow {
    let mut facts = facts(NOW_MS - ago_ms, place);
    (facts.key, facts.session) = ("legacy".into(), "old-run".into());
    ImportRow {
        place,
        entry: ImportedEntry {
            settlement: settlement(facts.at_ms + 40, cost),
            facts: Arc::new(facts),
        },
    }
}

/// Three of today, two of earlier this month, two of the month before, one of last year.
fn rows() -> Vec<ImportRow> {
    let ago_ms = [
        2 * MINUTE_MS,
        3 * MINUTE_MS,
        11 * 60 * MINUTE_MS,
        DAY_MS,
        20 * DAY_MS,
        23 * DAY_MS,
        30 * DAY_MS,
        400 * DAY_MS,
    ];
    (1..)
        .zip(ago_ms)
        .map(|(place, ago_ms)| row(place, ago_ms, 1 << place))
        .collect()
}

fn open(stores: &MemoryStores) -> (Arc<Ledger>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &options(), clock.clone()).unwrap();
    (ledger, clock)
}

fn posted(ledger: &Ledger, account: &str) -> [i64; 3] {
    [Window::Day, Window::Month, Window::Total].map(|window| ledger.spent(account, window).usd.nanos())
}

fn between(from_ms: i64, to_ms: i64, limit: usize, ledger: &Ledger) -> Vec<Entry> {
    let mut query = EntryQuery {
        from_ms,
        to_ms,
        limit,
        after: None,
    };
    let mut entries = Vec::new();
    loop {
        let page = ledger.entries(&query).unwrap();
        entries.extend(page.entries);
        match page.next {
            // As a client sends it back.
            Some(next) => query.after = Some(next.to_string().parse().unwrap()),
            None => return entries,
        }
    }
}

fn by_key(ledger: &Ledger) -> Vec<(String, u64, Usd)> {
    let query = SummaryQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        by: Dimension::Key,
        tenant: None,
    };
    let rows = ledger.summary(&query).into_iter();
    rows.map(|row| (row.key.to_string(), row.requests, row.cost)).collect()
}

#[tokio::test]
async fn they_are_posted_in_the_windows_of_their_own_time_and_counted_everywhere() {
    let stores = MemoryStores::new();
    let (ledger, _) = open(&stores);
    let taken = ledger.import(&source(), true, rows()).await.unwrap();
    ledger.flushed().await;
    assert_eq!(taken, 8);
    let (day, month, all) = (2 + 4 + 8, 2 + 4 + 8 + 16 + 32, (1 << 9) - 2);
    for account in ["key:legacy", "tenant:acme", "provider:anthropic", "global"] {
        assert_eq!(posted(&ledger, account), [day, month, all], "{account}");
    }
    assert_eq!(ledger.spent("key:legacy", Window::Day).requests, 3);
    assert_eq!(by_key(&ledger), [("legacy".to_owned(), 8, usd(all))]);
    let session = ledger.sessions().find(None, "old-run").unwrap().pop().unwrap();
    assert_eq!((session.calls, session.cost, session.running), (8, usd(all), 0));
    assert_eq!(
        (session.started_ms, session.last_ms),
        (NOW_MS - 400 * DAY_MS, NOW_MS - 2 * MINUTE_MS + 40)
    );

    let entries = all_entries(&ledger, 3);
    assert_eq!((entries.len(), sum(&entries)), (8, all));
    assert!(entries.iter().all(|entry| entry.source.as_deref() == Some(SOURCE)
        && entry.overage == entry.settlement.cost
        && entry.overage_reason.as_deref() == Some("imported")));
    let verified = ledger.verify(None).unwrap();
    assert!(verified.is_sound() && verified.entries == 8, "{verified:?}");
}

#[tokio::test]
async fn what_was_taken_is_not_taken_again_however_the_rows_are_offered() {
    let stores = MemoryStores::new();
    let (ledger, _) = open(&stores);
    let all = rows();
    assert_eq!(ledger.import(&source(), true, all[..3].to_vec()).await.unwrap(), 3);
    assert_eq!(ledger.import(&source(), true, all[1..6].to_vec()).await.unwrap(), 3);
    ledger.close();
    drop(ledger);
    let (ledger, _) = open(&stores);
    let known = ledger.taken(SOURCE).unwrap();
    assert_eq!((known.place, known.last), (6, all[5].entry.facts.id));
    assert_eq!(ledger.import(&source(), true, all.clone()).await.unwrap(), 2);
    assert_eq!(ledger.import(&source(), true, all.clone()).await.unwrap(), 0);
    ledger.flushed().await;
    assert_eq!(
        (all_entries(&ledger, 100).len(), posted(&ledger, "global")[2]),
        (8, (1 << 9) - 2)
    );
    // Another source's rows are others.
    assert_eq!(
        ledger
            .import(&"sqlite:02K".into(), true, all[..1].to_vec())
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn a_query_finds_them_by_their_own_time_beside_what_was_served_then() {
    let stores = MemoryStores::new();
    let (ledger, clock) = open(&stores);
    for number in 0..5 {
        exchange(&ledger, number, 1_000).await;
    }
    clock.advance_ms(5 * DAY_MS);
    // More than one event's worth, of the day on which the others were served.
    let late: Vec<ImportRow> = (1..=300).map(|place| row(place, MINUTE_MS * place as i64, 1)).collect();
    ledger.import(&source(), true, late).await.unwrap();
    exchange(&ledger, 9, 1_000).await;
    ledger.flushed().await;
    let (from_ms, to_ms) = (NOW_MS - 100 * MINUTE_MS, NOW_MS + 1);
    for limit in [1, 7, 100, 1_000] {
        let found = between(from_ms, to_ms, limit, &ledger);
        let ids: BTreeSet<Ulid> = found.iter().map(|entry| entry.facts.id).collect();
        assert_eq!((found.len(), ids.len()), (105, 105), "each once, in pages of {limit}");
        let served = found.iter().filter(|entry| entry.source.is_none()).count();
        assert_eq!(served, 5);
        assert_eq!(all_entries(&ledger, limit).len(), 306);
    }
    assert_eq!(
        between(NOW_MS - 1_000 * DAY_MS, NOW_MS - 290 * MINUTE_MS + 1, 4, &ledger).len(),
        11
    );
    assert!(between(NOW_MS + DAY_MS, NOW_MS + 2 * DAY_MS, 4, &ledger).is_empty());
}

#[tokio::test]
async fn a_restart_knows_all_of_it_from_a_checkpoint_and_from_the_journal_alone() {
    let stores = MemoryStores::new();
    let (ledger, _) = open(&stores);
    ledger.import(&source(), true, rows()).await.unwrap();
    ledger.flushed().await;
    let before = (by_key(&ledger), posted(&ledger, "key:legacy"), ledger.taken(SOURCE));
    let today = between(START_MS, NOW_MS, 100, &ledger);
    ledger.close();
    drop(ledger);
    for is_state_lost in [false, true] {
        if is_state_lost {
            stores.discard_state().unwrap();
        }
        let (ledger, _) = open(&stores);
        assert_eq!(
            (by_key(&ledger), posted(&ledger, "key:legacy"), ledger.taken(SOURCE)),
            before
        );
        assert_eq!(between(START_MS, NOW_MS, 100, &ledger), today);
        assert!(ledger.has_unseen_keys());
        ledger.close();
    }
    let offline = OfflineLedger::open_in(Arc::new(stores.clone()), Retention::default()).unwrap();
    assert_eq!(offline.taken(SOURCE), before.2);
}

#[tokio::test]
async fn a_key_that_is_seen_goes_on_with_what_its_imported_entries_posted() {
    let stores = MemoryStores::new();
    let (ledger, _) = open(&stores);
    let (legacy, own) = (Name::from("legacy"), Name::from("own"));
    assert!(!ledger.link_key(&legacy, &own), "nothing was imported");
    ledger.import(&source(), true, rows()[1..].to_vec()).await.unwrap();
    let before = posted(&ledger, "key:legacy");
    let global = posted(&ledger, "global");
    assert!(ledger.has_unseen_keys() && ledger.link_key(&legacy, &own));
    assert_eq!(
        (posted(&ledger, "key:own"), posted(&ledger, "key:legacy")),
        (before, [0; 3])
    );
    assert_eq!(posted(&ledger, "global"), global);
    assert!(
        !ledger.has_unseen_keys() && !ledger.link_key(&legacy, &"another".into()),
        "once"
    );
    // What is taken later counts on it at once.
    ledger
        .import(&"again".into(), true, vec![row(1, MINUTE_MS, 100)])
        .await
        .unwrap();
    assert_eq!(posted(&ledger, "key:own"), before.map(|nanos| nanos + 100));
    assert_eq!(posted(&ledger, "key:legacy"), [0; 3]);
    // A name that is not of elsewhere is nobody's alias.
    ledger
        .import(&"own".into(), false, vec![row(1, MINUTE_MS, 7)])
        .await
        .unwrap();
    assert_eq!(posted(&ledger, "key:legacy"), [7; 3]);
    ledger.flushed().await;
    ledger.close();
    drop(ledger);
    for _ in 0..2 {
        let (ledger, _) = open(&stores);
        assert_eq!(posted(&ledger, "key:own"), before.map(|nanos| nanos + 100));
        assert_eq!(ledger.links(), [(legacy.clone(), own.clone())]);
        assert!(ledger.verify(None).unwrap().is_sound());
        ledger.close();
        stores.discard_state().unwrap();
    }
}

#[tokio::test]
async fn the_next_months_know_how_far_it_was_taken_when_the_import_itself_is_gone() {
    let stores = MemoryStores::new();
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let mut kept = options();
    kept.retention_months = Some(0);
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &kept, clock.clone()).unwrap();
    ledger.import(&source(), true, rows()).await.unwrap();
    let total = posted(&ledger, "global")[2];
    for _ in 0..2 {
        clock.advance_ms(31 * DAY_MS);
        exchange(&ledger, 1, 10).await;
    }
    ledger.flushed().await;
    ledger.close();
    drop(ledger);
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &kept, clock.clone()).unwrap();
    ledger.close();
    drop(ledger);
    stores.discard_state().unwrap();
    let ledger = Ledger::open_in(Arc::new(stores.clone()), &kept, clock).unwrap();
    assert_eq!(stores.months().unwrap().len(), 1, "the month of the import was removed");
    assert_eq!(ledger.taken(SOURCE).map(|taken| taken.place), Some(8));
    assert_eq!(ledger.import(&source(), true, rows()).await.unwrap(), 0);
    assert_eq!(posted(&ledger, "global")[2], total + 20);
    assert!(all_entries(&ledger, 10).iter().all(|entry| entry.source.is_none()));
}

#[tokio::test]
async fn an_imported_entry_is_corrected_as_any_other() {
    let stores = MemoryStores::new();
    let (ledger, _) = open(&stores);
    let rows = rows();
    let (first, last) = (rows[0].entry.facts.id, rows[7].entry.facts.id);
    ledger.import(&source(), true, rows).await.unwrap();
    ledger.flushed().await;
    ledger.adjust(first, usd(-2), "never served").unwrap();
    ledger.adjust(last, usd(5), "more").unwrap();
    ledger.flushed().await;
    let (day, month, all) = (14 - 2, 62 - 2, 510 - 2 + 5);
    assert_eq!(posted(&ledger, "key:legacy"), [day, month, all]);
    assert_eq!(by_key(&ledger)[0].2, usd(all));
    assert!(ledger.adjust(Ulid::nil(), usd(1), "x").is_err());
}

#[tokio::test]
async fn rows_of_the_future_or_below_zero_or_out_of_order_are_refused_and_post_nothing() {
    let stores = MemoryStores::new();
    let (ledger, _) = open(&stores);
    for bad in [vec![row(1, -MINUTE_MS, 1)], vec![row(2, 1, 1), row(2, 1, 1)]] {
        let refused = ledger.import(&source(), true, bad).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    let mut negative = row(1, MINUTE_MS, 1);
    negative.entry.settlement.cost = usd(-1);
    assert!(ledger.import(&source(), true, vec![negative]).await.is_err());
    assert_eq!((ledger.taken(SOURCE), posted(&ledger, "global")), (None, [0; 3]));
}

#[tokio::test]
async fn a_year_of_entries_is_not_kept_by_the_minute() {
    let stores = MemoryStores::new();
    let (ledger, _) = open(&stores);
    let rows: Vec<ImportRow> = (1..=20_000)
        .map(|place| row(place, 400 * DAY_MS - place as i64 * 25 * MINUTE_MS, 1))
        .collect();
    ledger.import(&source(), true, rows).await.unwrap();
    ledger.flushed().await;
    let points = ledger.series(0, NOW_MS - 60 * DAY_MS, MINUTE_MS, None);
    assert!(
        points.iter().all(|point| point.at_ms % DAY_MS == 0),
        "what is old is summed by day"
    );
    let hours = ledger.series(NOW_MS - 25 * DAY_MS, NOW_MS - 3 * DAY_MS, MINUTE_MS, None);
    assert!(!points.is_empty() && hours.iter().all(|point| point.at_ms % (60 * MINUTE_MS) == 0));
    assert_eq!(by_key(&ledger), [("legacy".to_owned(), 20_000, usd(20_000))]);
}

/// The entries of the day before, page by page.
fn of_yesterday(ledger: &Ledger) -> Vec<Ulid> {
    let mut query = EntryQuery {
        from_ms: START_MS - DAY_MS,
        to_ms: START_MS,
        limit: 1,
        after: None,
    };
    let mut ids = Vec::new();
    loop {
        let page = ledger.entries(&query).unwrap();
        ids.extend(page.entries.iter().map(|entry| entry.facts.id));
        match page.next {
            Some(next) => query.after = Some(next),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn what_is_entered_a_night_late_is_of_its_own_day_in_budgets_and_reports() {
    let stores = MemoryStores::new();
    let (ledger, _) = open(&stores);
    let limit = Limit::usd(Usd::from_nanos(10)).unwrap();
    let bounds = [Window::Hour, Window::Week]
        .map(|window| Bound::new("project:x".into(), window, Zone::utc(), limit, Mode::Watch).unwrap());
    let mut entered = Vec::new();
    for number in 1..=3 {
        let facts = facts(NOW_MS - 20 * 60 * MINUTE_MS, number);
        entered.push(facts.id);
        let settlement = settlement(NOW_MS, 100);
        let permit = ledger.admit().await.unwrap();
        let bills = vec![BillId::of(&[&number.to_string()])];
        let late = ledger.enter(permit, facts, &bounds, settlement, "spooled_call".into(), bills);
        late.unwrap().unwrap().durable().await.unwrap();
    }
    exchange(&ledger, 4, 7).await.durable().await.unwrap();
    ledger.flushed().await;
    for (ledger, restarted) in [(ledger, false), (open(&stores.crashed(0)).0, true)] {
        for (account, window, expected) in [
            ("global", Window::Day, 7),
            ("global", Window::Month, 307),
            ("global", Window::Total, 307),
            ("project:x", Window::Hour, 0),
            ("project:x", Window::Week, 300),
        ] {
            assert_eq!(
                ledger.spent(account, window).usd,
                usd(expected),
                "{account} {window:?} {restarted}"
            );
        }
        assert_eq!(of_yesterday(&ledger), entered, "{restarted}");
        assert!(ledger.open_holds().is_empty());
    }
}
