//! Names that clients make up are bounded, and nothing that is over decides anything, swept away or not.

use super::*;

fn bounded(per_kind: usize, bound: usize) -> Books {
    Books::new().with_names_max(NamesMax { per_kind, bound })
}

/// One exchange of a key, with these bounds, at this cost.
fn exchange(books: &mut Books, at_ms: i64, key: &str, bounds: &[Bound], cost: i64) -> Result<(), BooksError> {
    let reserved = books.reserve(at_ms, &facts(key), bounds, usd(cost), &"x".into())?;
    books.settle(at_ms, reserved.hold, settlement(at_ms, cost), None)?;
    Ok(())
}

/// One that an upstream refused costs nothing and used nothing.
fn settlement(at_ms: i64, cost: i64) -> Settlement {
    let usage = if cost == 0 { Usage::ZERO } else { bill(cost).usage };
    Settlement {
        at_ms,
        usage,
        ..bill(cost)
    }
}

fn same_as_read_back(books: &Books) {
    let names_max = books.state.names_max;
    let read = Books::restore(&books.snapshot()).unwrap().with_names_max(names_max);
    assert_eq!(read.snapshot(), books.snapshot());
    assert_eq!(read.account_count(), books.account_count());
}

#[test]
fn a_million_distinct_tags_never_refuse_a_new_key() {
    let mut books = bounded(10, 100);
    for number in 0..1_000 {
        let mut facts = Facts::clone(&facts("k"));
        let names = ["agent", "session", "user", "task"].map(|kind| Name::from(format!("{kind}-{number}")));
        [facts.agent, facts.session, facts.user, facts.task] = names;
        facts.tags = [("request_id".into(), format!("{number}").into())].into();
        let reserved = books
            .reserve(START_MS, &Arc::new(facts), &[], usd(1), &"x".into())
            .unwrap();
        books
            .settle(START_MS, reserved.hold, settlement(START_MS, 1), None)
            .unwrap();
    }
    assert_eq!(books.account_count(), 5, "key, tenant, model, provider, global");
    exchange(&mut books, START_MS, "new", &[bound("key:new", Window::Day, 100)], 7).unwrap();
    assert_eq!(spent(&books, "key:new", Window::Day), 7);
    assert_eq!(
        spent(&books, "tag:request_id=7", Window::Day),
        0,
        "counted from its first bound on"
    );
}

#[test]
fn a_million_distinct_keys_never_refuse_a_new_key_under_its_budget() {
    let mut books = bounded(10, 20);
    // The keys are made up: the upstream answers 401, and nothing is posted that the bound counts.
    for number in 0..500 {
        let key = format!("made-up-{number}");
        let bounds = [bound(&format!("key:{key}"), Window::Month, 1_000)];
        exchange(&mut books, START_MS + number, &key, &bounds, 0).unwrap();
    }
    assert!(books.account_count() <= 24, "{}", books.account_count());
    exchange(&mut books, START_MS, "new", &[bound("key:new", Window::Day, 100)], 7).unwrap();
    assert_eq!(spent(&books, "key:new", Window::Day), 7);
    same_as_read_back(&books);
}

#[test]
fn spent_of_a_new_key_is_never_silent() {
    let mut books = bounded(10, 20);
    for number in 0..200 {
        exchange(&mut books, START_MS, &format!("free-{number}"), &[], 0).unwrap();
    }
    exchange(&mut books, START_MS, "new", &[], 7).unwrap();
    assert_eq!(
        spent(&books, "key:new", Window::Day),
        7,
        "those that cost nothing made way"
    );
    assert_eq!(books.folded(), [0, 0, 0]);
    for number in 0..200 {
        exchange(&mut books, START_MS, &format!("dear-{number}"), &[], 2).unwrap();
    }
    assert_eq!(spent(&books, "key:new", Window::Day), 7);
    assert_eq!(books.folded(), [191, 0, 0]);
    // Nine had an account of their own; what the others have spent together is what each may have spent.
    for window in [Window::Day, Window::Month, Window::Total] {
        assert_eq!(spent(&books, "key:dear-199", window), 382);
        assert_eq!(spent(&books, "key:other", window), 382);
    }
    assert_eq!(spent(&books, "global", Window::Day), 7 + 400);
    same_as_read_back(&books);
}

#[test]
fn a_bound_account_is_never_folded() {
    let mut books = bounded(2, 3);
    for key in ["a", "b", "c"] {
        exchange(
            &mut books,
            START_MS,
            key,
            &[bound(&format!("key:{key}"), Window::Total, 100)],
            5,
        )
        .unwrap();
    }
    for key in ["a", "b", "c"] {
        assert_eq!(spent(&books, &format!("key:{key}"), Window::Total), 5);
    }
    let before = books.snapshot();
    let refused = exchange(&mut books, START_MS, "d", &[bound("key:d", Window::Day, 100)], 1).unwrap_err();
    assert_eq!(refused, BooksError::Full(BOUND_ACCOUNTS));
    assert!(refused.to_string().contains("limits.bound_accounts_max"), "{refused}");
    assert_eq!(books.snapshot(), before, "nothing was reserved");
    // Those that are known go on, and so do calls without a bound.
    exchange(&mut books, START_MS, "a", &[bound("key:a", Window::Total, 100)], 5).unwrap();
    exchange(&mut books, START_MS, "d", &[], 1).unwrap();
    assert_eq!(spent(&books, "key:d", Window::Day), 1);
}

#[test]
fn an_unbound_name_is_forgotten_when_its_day_is_over() {
    let mut books = bounded(10, 10);
    exchange(&mut books, START_MS, "free", &[], 0).unwrap();
    exchange(&mut books, START_MS, "dear", &[], 5).unwrap();
    let tags = [
        bound("tag:team=ml", Window::Hour, 100),
        bound("session:s", Window::Total, 100),
    ];
    exchange(&mut books, START_MS, "dear", &tags, 5).unwrap();
    assert_eq!(books.account_count(), 8);
    let tomorrow = START_MS + DAY_MS;
    books.flush_denials(tomorrow);
    assert_eq!(spent(&books, "key:dear", Window::Month), 10, "finance wants the month");
    assert_eq!(spent(&books, "session:s", Window::Total), 5, "its budget runs on");
    assert_eq!(
        books.account_count(),
        6,
        "without key:free and the tag, whose hour is over"
    );
    same_as_read_back(&books);
    // 2026-11-01 is eight days on.
    books.flush_denials(START_MS + 8 * DAY_MS);
    assert_eq!(spent(&books, "key:dear", Window::Total), 0);
    assert_eq!(spent(&books, "session:s", Window::Total), 5);
    assert_eq!(spent(&books, "global", Window::Total), 10);
    exchange(&mut books, START_MS + 8 * DAY_MS, "dear", &[], 3).unwrap();
    assert_eq!(spent(&books, "key:dear", Window::Total), 3, "it begins anew");
    same_as_read_back(&books);
}

#[test]
fn an_account_with_an_open_hold_is_kept_however_long_it_takes() {
    let mut books = bounded(1, 1);
    let hold = reserve(&mut books, START_MS, &[], 10).unwrap();
    let later = START_MS + 200 * DAY_MS;
    books.flush_denials(later);
    assert_eq!(books.held("key:k"), usd(10));
    same_as_read_back(&books);
    exchange(&mut books, later, "other", &[], 1).unwrap();
    assert_eq!(books.folded(), [1, 0, 0], "the held one does not make way");
    books.settle(later, hold, bill(10), None).unwrap();
    assert_eq!(spent(&books, "key:k", Window::Total), 10);
    assert_eq!(
        spent(&books, "key:k", Window::Day),
        0,
        "settled in the day it was placed in"
    );
    same_as_read_back(&books);
}

#[test]
fn a_bound_by_requests_keeps_its_account_and_one_by_money_does_not() {
    let mut books = bounded(10, 2);
    let by_requests = |key: &str| {
        let limit = Limit::requests(9).unwrap();
        Bound::new(format!("key:{key}").into(), Window::Day, Zone::utc(), limit, Mode::Hard).unwrap()
    };
    exchange(&mut books, START_MS, "counted", &[by_requests("counted")], 0).unwrap();
    exchange(&mut books, START_MS, "free", &[bound("key:free", Window::Day, 9)], 0).unwrap();
    exchange(&mut books, START_MS, "next", &[by_requests("next")], 0).unwrap();
    assert_eq!(books.standing(START_MS, &by_requests("counted")).posted, 1);
    let full = exchange(&mut books, START_MS, "last", &[by_requests("last")], 0);
    assert_eq!(full, Err(BooksError::Full(BOUND_ACCOUNTS)));
    // What was there before its bound counts for it too.
    books.flush_denials(START_MS + DAY_MS);
    exchange(&mut books, START_MS + DAY_MS, "late", &[], 0).unwrap();
    exchange(&mut books, START_MS + DAY_MS, "late", &[by_requests("late")], 0).unwrap();
    assert_eq!(books.standing(START_MS + DAY_MS, &by_requests("late")).posted, 2);
    same_as_read_back(&books);
}

#[test]
fn a_snapshot_in_the_middle_of_a_sweep_equals_one_after_it() {
    let mut books = bounded(1_000, 1_000);
    for number in 0..400 {
        let key = format!("k{number}");
        let bounds = [bound(&format!("key:{key}"), Window::Hour, 1_000)];
        let bounds = if number % 3 == 0 { &bounds[..] } else { &[] };
        exchange(&mut books, START_MS, &key, bounds, number % 2).unwrap();
    }
    let open = reserve(&mut books, START_MS, &[bound("key:k", Window::Hour, 1_000)], 1).unwrap();
    let tomorrow = START_MS + DAY_MS;
    let extension = books.extend(tomorrow, open, usd(1)).unwrap();
    let read = Books::restore(&books.snapshot()).unwrap();
    assert!(
        books.state.accounts.len() > read.state.accounts.len(),
        "the sweep has begun and is not done"
    );
    same_as_read_back(&books);
    let (before, count) = (books.snapshot(), books.account_count());
    // The rest of the sweep changes nothing that counts.
    for _ in 0..100 {
        books.state.sweep_on();
    }
    assert_eq!(books.state.accounts.len(), count);
    assert_eq!((books.snapshot(), books.account_count()), (before, count));
    assert_eq!(extension.granted.usd.nanos(), 1);
    // Both go on alike, although one was swept and the other was not.
    let mut ahead = read;
    for (number, key) in ["k1", "k3", "k301", "new"].into_iter().enumerate() {
        let at_ms = tomorrow + number as i64;
        let held = books.reserve(at_ms, &facts(key), &[], usd(1), &"x".into()).unwrap();
        ahead.apply(held.recorded.seq, &held.recorded.event).unwrap();
        assert_eq!(ahead.snapshot(), books.snapshot(), "{key}");
    }
}

#[test]
fn a_sweep_looks_at_some_accounts_with_each_event() {
    let mut books = bounded(10_000, 10_000);
    for number in 0..2_000 {
        exchange(&mut books, START_MS, &format!("k{number}"), &[], 0).unwrap();
    }
    let tomorrow = START_MS + DAY_MS;
    books.flush_denials(tomorrow);
    let mut known = books.state.accounts.len();
    for number in 0..100 {
        exchange(&mut books, tomorrow, "k", &[], number).unwrap();
        let left = books.state.accounts.len();
        assert!(known - left <= 64, "{known} then {left}");
        known = left;
    }
    assert_eq!(known, 5);
}

#[test]
fn pages_of_balances_follow_each_other_over_all_accounts() {
    let mut books = bounded(1_000, 1_000);
    for number in 0..105 {
        exchange(&mut books, START_MS, &format!("k{number:03}"), &[], 1).unwrap();
    }
    exchange(&mut books, START_MS, "nothing", &[], 0).unwrap();
    exchange(
        &mut books,
        START_MS,
        "nothing",
        &[bound("tag:bound", Window::Day, 0)],
        0,
    )
    .unwrap();
    let (mut after, mut names, mut pages) = (None::<Name>, Vec::new(), 0);
    loop {
        let (views, has_more) = books.balances_after("", after.as_deref(), 10);
        names.extend(views.iter().map(|view| Name::clone(view.account)));
        after = names.last().cloned();
        pages += 1;
        if !has_more {
            break;
        }
    }
    assert_eq!(pages, 12);
    assert!(names.is_sorted());
    names.dedup();
    // global, a tag, the tenant, the provider, the model, and the keys, of which one has posted a request.
    assert_eq!(names.len(), 111);
}

#[test]
fn books_written_before_names_were_bounded_are_read() {
    // Two accounts as version 2 wrote them: a session that no bound named, and a key with a bound on its total.
    let mut w = crate::wire::Writer::with_capacity(256);
    w.byte(2);
    w.unsigned(9);
    w.signed(START_MS);
    w.unsigned(2);
    for (name, bound_ms) in [("key:k", START_MS), ("session:s", i64::MIN)] {
        w.text(name);
        w.signed(START_MS);
        w.unsigned(3);
        for (window, period) in
            [Window::Day, Window::Month, Window::Total].map(|window| (window, window.period(&Zone::utc(), START_MS)))
        {
            w.byte(window as u8);
            w.text("UTC");
            w.signed(if window == Window::Total { bound_ms } else { i64::MIN });
            w.byte(1);
            w.signed(period.start_s);
            w.signed(period.end_s);
            w.unsigned(3);
            for amounts in [usd(30), Amounts::ZERO, usd(2)] {
                crate::codec::write_amounts(&mut w, &amounts);
            }
        }
        w.unsigned(0);
    }
    w.unsigned(0);
    let mut books = Books::restore(&w.finish()).unwrap();
    assert_eq!((books.head(), books.account_count()), (9, 1));
    assert_eq!(spent(&books, "session:s", Window::Day), 0);
    assert_eq!(spent(&books, "key:k", Window::Day), 30);
    let standing = books.standing(START_MS, &bound("key:k", Window::Total, 100));
    assert_eq!((standing.posted, standing.overage), (30, 2));
    same_as_read_back(&books);
    books.flush_denials(START_MS + 300 * DAY_MS);
    assert_eq!(spent(&books, "key:k", Window::Total), 30, "its total is bound");
}

#[test]
fn a_clock_set_back_makes_the_same_books_swept_or_not() {
    let (mut books, mut replayed) = (bounded(100, 100), bounded(100, 100));
    let far = START_MS + 4_000 * DAY_MS;
    for number in 0..90 {
        let key = format!("k{number}");
        let at_ms = if number % 2 == 0 { START_MS } else { far };
        if number == 45 {
            books.flush_denials(far);
        }
        let bounds = [bound(&format!("key:{key}"), Window::Hour, 1_000)];
        let bounds = if number % 3 == 0 { &bounds[..] } else { &[] };
        let at_ms = if number < 45 { START_MS } else { at_ms };
        exchange(&mut books, at_ms, &key, bounds, 1).unwrap();
    }
    // One was read back in between and never swept, the other was swept by its events.
    replayed = Books::restore(&books.snapshot())
        .unwrap()
        .with_names_max(replayed.state.names_max);
    let set = books.set_clock(START_MS + 1);
    replayed.apply(set.seq, &set.event).unwrap();
    assert_eq!(replayed.snapshot(), books.snapshot());
    assert_eq!(spent(&books, "key:k45", Window::Day), 1, "it was spent just now");
    assert_eq!(spent(&books, "key:k1", Window::Day), 0, "forgotten by the wrong clock");
    same_as_read_back(&books);
    books.flush_denials(START_MS + 40 * DAY_MS);
    assert_eq!(
        spent(&books, "key:k45", Window::Total),
        0,
        "it does not live until the wrong date"
    );
    same_as_read_back(&books);
}

/// Where the clock is set back over a month's end that one zone has had and another has not, the window that ended last is not
/// the one that ends last now.
#[test]
fn an_account_lives_as_long_as_any_of_its_windows_after_the_clock_is_set_back() {
    let first_of_november_ms = 1_793_491_200_000;
    let mut books = bounded(100, 100);
    let zone = Zone::named("America/St_Johns").unwrap();
    let limit = Limit::usd(Usd::from_nanos(1_000)).unwrap();
    let there = Bound::new("key:k".into(), Window::Month, zone, limit, Mode::Hard).unwrap();
    exchange(&mut books, first_of_november_ms + 20 * DAY_MS, "k", &[there], 7).unwrap();
    books.set_clock(first_of_november_ms + 7_000);
    assert_eq!(spent(&books, "key:k", Window::Month), 7);
    books.flush_denials(first_of_november_ms + 20 * 3_600_000);
    assert_eq!(spent(&books, "key:k", Window::Month), 7, "November goes on in UTC");
    same_as_read_back(&books);
}
