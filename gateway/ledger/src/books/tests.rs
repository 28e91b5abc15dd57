#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::amounts::Unit;
use crate::bound::Limit;
use crate::entry::Outcome;
use crate::event::Denial;
use crate::usage::{Kind, Usage};

mod names;

const DAY_MS: i64 = 86_400_000;
/// 2026-10-24T00:00:00Z, the day before Berlin's clock goes back.
const START_MS: i64 = 1_792_800_000_000;

fn facts(key: &str) -> Arc<Facts> {
    let none = || Name::from("");
    Arc::new(Facts {
        id: Ulid::from_parts(START_MS as u64, 1),
        at_ms: START_MS,
        provider: "openai".into(),
        operation: "chat.completions".into(),
        requested_model: "gpt-x".into(),
        stream: false,
        key: key.into(),
        tenant: "acme".into(),
        agent: none(),
        session: none(),
        user: none(),
        task: none(),
        tags: [("team".into(), "ml".into())].into(),
        path: "/v1/chat/completions".into(),
        inferred: Default::default(),
    })
}

fn usd(count: i64) -> Amounts {
    Amounts::of_request(Usd::from_nanos(count), 10)
}

fn bound(account: &str, window: Window, limit: i64) -> Bound {
    let limit = Limit::usd(Usd::from_nanos(limit)).unwrap();
    Bound::new(account.into(), window, Zone::utc(), limit, Mode::Hard).unwrap()
}

fn bill(cost: i64) -> Settlement {
    Settlement {
        at_ms: START_MS,
        outcome: Outcome::Completed,
        status: 200,
        model: "gpt-x".into(),
        usage: Usage::ZERO.with(Kind::Input, 7),
        parts: vec![],
        reasoning: 0,
        cost: Usd::from_nanos(cost),
        reported_cost: None,
        upper_bound: None,
        price: None,
        estimate_reason: None,
        verdict: vec![],
        duration_ms: 5,
        ttfb_ms: None,
        response_id: None,
        request_id: None,
    }
}

fn reserve(books: &mut Books, at_ms: i64, bounds: &[Bound], cost: i64) -> Result<HoldId, Box<Refusal>> {
    match books.reserve(at_ms, &facts("k"), bounds, usd(cost), &"max_tokens".into()) {
        Ok(reserved) => Ok(reserved.hold),
        Err(BooksError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

fn spent(books: &Books, account: &str, window: Window) -> i64 {
    books.spent(0, account, window).usd.nanos()
}

#[test]
fn a_refusal_says_whether_waiting_may_help() {
    let mut books = Books::new();
    let bounds = [bound("key:k", Window::Day, 100)];
    let hold = reserve(&mut books, START_MS, &bounds, 60).unwrap();
    let refusal = reserve(&mut books, START_MS, &bounds, 50).unwrap_err();
    assert_eq!(refusal.obstacle, Obstacle::Held);
    assert_eq!(
        (
            refusal.standing.posted,
            refusal.standing.held,
            refusal.standing.limit,
            refusal.requested
        ),
        (0, 60, 100, 50)
    );
    assert_eq!(refusal.standing.period.resets_at_ms(), Some(START_MS + DAY_MS));
    assert_eq!(
        reserve(&mut books, START_MS, &bounds, 101).unwrap_err().obstacle,
        Obstacle::Exceeded
    );
    books.settle(START_MS, hold, bill(60), None).unwrap();
    assert_eq!(
        reserve(&mut books, START_MS, &bounds, 50).unwrap_err().obstacle,
        Obstacle::Exceeded
    );
    assert_eq!(books.open_count(), 0);
    reserve(&mut books, START_MS, &bounds, 40).unwrap();
}

#[test]
fn several_bounds_hold_all_or_nothing_and_the_final_refusal_is_told_first() {
    let mut books = Books::new();
    let held = [bound("key:k", Window::Day, 100)];
    reserve(&mut books, START_MS, &held, 90).unwrap();
    let before = books.snapshot();
    let both = [
        bound("key:k", Window::Day, 100),
        bound("tenant:acme", Window::Month, 10),
    ];
    let refusal = reserve(&mut books, START_MS, &both, 20).unwrap_err();
    assert_eq!((refusal.obstacle, refusal.place), (Obstacle::Exceeded, 1));
    assert_eq!(&*refusal.bound.account, "tenant:acme");
    assert_eq!(books.snapshot(), before);
}

#[test]
fn a_watch_bound_counts_and_never_refuses() {
    let mut books = Books::new();
    let limit = Limit::usd(Usd::from_nanos(10)).unwrap();
    let watch = Bound::new("key:k".into(), Window::Day, Zone::utc(), limit, Mode::Watch).unwrap();
    let reserved = books
        .reserve(START_MS, &facts("k"), &[watch], usd(50), &"x".into())
        .unwrap();
    assert_eq!((reserved.standings[0].held, reserved.standings[0].left()), (50, -40));
}

#[test]
fn what_is_billed_beyond_the_hold_is_overage_and_refuses_the_next() {
    let mut books = Books::new();
    let bounds = [bound("key:k", Window::Day, 100)];
    let hold = reserve(&mut books, START_MS, &bounds, 50).unwrap();
    let settled = books.settle(START_MS, hold, bill(500), None).unwrap();
    let entry = settled.entry();
    assert_eq!((entry.held.nanos(), entry.overage.nanos()), (50, 450));
    assert_eq!(entry.overage_reason.as_deref(), Some(BILLED_ABOVE_HOLD));
    let standing = books.standing(START_MS, &bounds[0]);
    assert_eq!((standing.posted, standing.held, standing.overage), (500, 0, 450));
    assert_eq!(
        reserve(&mut books, START_MS, &bounds, 1).unwrap_err().obstacle,
        Obstacle::Exceeded
    );
    assert_eq!(
        books.settle(START_MS, hold, bill(1), None).unwrap_err(),
        BooksError::UnknownHold
    );
    assert_eq!(
        books.void(START_MS, hold, &"x".into()).unwrap_err(),
        BooksError::UnknownHold
    );
}

#[test]
fn an_extension_takes_what_is_left_and_is_refused_where_nothing_is() {
    let mut books = Books::new();
    let bounds = [bound("key:k", Window::Day, 100)];
    let hold = reserve(&mut books, START_MS, &bounds, 80).unwrap();
    let step = Amounts {
        usd: Usd::from_nanos(30),
        tokens: 5,
        requests: 0,
    };
    let extension = books.extend(START_MS, hold, step).unwrap();
    assert_eq!(
        extension.granted,
        Amounts {
            usd: Usd::from_nanos(20),
            tokens: 5,
            requests: 0
        }
    );
    let Err(BooksError::Refused(refusal)) = books.extend(START_MS, hold, step) else {
        panic!("granted")
    };
    assert_eq!(refusal.obstacle, Obstacle::Exceeded);
    let settled = books.settle(START_MS, hold, bill(90), None).unwrap();
    assert_eq!(
        (settled.settled.held.usd.nanos(), settled.settled.held.tokens),
        (100, 15)
    );
    let other = reserve(&mut books, START_MS, &bounds, 4).unwrap();
    let mine = reserve(&mut books, START_MS, &bounds, 6).unwrap();
    let Err(BooksError::Refused(refusal)) = books.extend(START_MS, mine, step) else {
        panic!("granted")
    };
    assert_eq!(refusal.obstacle, Obstacle::Held);
    books.void(START_MS, other, &"x".into()).unwrap();
    assert_eq!(books.extend(START_MS, mine, step).unwrap().granted.usd.nanos(), 4);
}

#[test]
fn a_hold_settles_in_the_window_it_was_placed_in() {
    let mut books = Books::new();
    let bounds = [bound("key:k", Window::Day, 100)];
    let hold = reserve(&mut books, START_MS + DAY_MS - 1, &bounds, 70).unwrap();
    let next = START_MS + DAY_MS;
    let fresh = reserve(&mut books, next, &bounds, 100).unwrap();
    let step = Amounts {
        usd: Usd::from_nanos(50),
        tokens: 0,
        requests: 0,
    };
    assert_eq!(books.extend(next, hold, step).unwrap().granted.usd.nanos(), 30);
    books.settle(next, hold, bill(95), None).unwrap();
    assert_eq!(books.spent(next, "key:k", Window::Day), Amounts::ZERO);
    assert_eq!(spent(&books, "key:k", Window::Total), 95);
    books.void(next, fresh, &"x".into()).unwrap();
    assert!(books.balances().all(|balance| balance.held.is_zero()));
}

#[test]
fn time_never_runs_backwards_inside() {
    let mut books = Books::new();
    let bounds = [bound("key:k", Window::Day, 100)];
    let hold = reserve(&mut books, START_MS + DAY_MS, &bounds, 70).unwrap();
    books.settle(START_MS, hold, bill(70), None).unwrap();
    assert_eq!(books.now_ms(), START_MS + DAY_MS);
    assert!(reserve(&mut books, 0, &bounds, 70).is_err());
    reserve(&mut books, i64::MAX, &bounds, 70).unwrap();
    assert!(reserve(&mut books, i64::MIN, &bounds, 70).is_err());
}

#[test]
fn a_limit_lowered_below_what_is_spent_refuses() {
    let mut books = Books::new();
    let hold = reserve(&mut books, START_MS, &[bound("key:k", Window::Total, 100)], 80).unwrap();
    books.settle(START_MS, hold, bill(80), None).unwrap();
    let refusal = reserve(&mut books, START_MS, &[bound("key:k", Window::Total, 50)], 0).unwrap_err();
    assert_eq!((refusal.obstacle, refusal.standing.left()), (Obstacle::Exceeded, -30));
    assert_eq!(refusal.standing.period.resets_at_ms(), None);
}

#[test]
fn a_budget_introduced_later_sees_what_was_spent() {
    let mut books = Books::new();
    let hold = reserve(&mut books, START_MS, &[], 80).unwrap();
    books.settle(START_MS, hold, bill(80), None).unwrap();
    for account in ["key:k", "tenant:acme", "model:gpt-x", "provider:openai", "global"] {
        for window in [Window::Day, Window::Month, Window::Total] {
            assert!(
                reserve(&mut books, START_MS, &[bound(account, window, 100)], 21).is_err(),
                "{account}"
            );
        }
    }
    assert_eq!(
        books.spent(START_MS, "key:k", Window::Day),
        Amounts {
            usd: Usd::from_nanos(80),
            tokens: 7,
            requests: 1
        }
    );
}

#[test]
fn tokens_and_requests_are_bounded_in_a_zone_with_a_25_hour_day() {
    let mut books = Books::new();
    let berlin = Zone::named("Europe/Berlin").unwrap();
    let bound = |limit| Bound::new("key:k".into(), Window::Day, berlin.clone(), limit, Mode::Hard).unwrap();
    let bounds = [bound(Limit::requests(1).unwrap()), bound(Limit::tokens(15).unwrap())];
    // 2026-10-25 in Berlin: from 22:00 UTC the day before to 23:00 UTC.
    let start_ms = START_MS + 22 * 3_600_000;
    reserve(&mut books, start_ms, &bounds, 1).unwrap();
    let refusal = reserve(&mut books, start_ms + 25 * 3_600_000 - 1, &bounds, 1).unwrap_err();
    assert_eq!((refusal.place, refusal.bound.unit), (0, Unit::Requests));
    assert_eq!(refusal.standing.period.resets_at_ms(), Some(start_ms + 25 * 3_600_000));
    reserve(&mut books, start_ms + 25 * 3_600_000, &bounds, 1).unwrap();
}

#[test]
fn a_recovered_hold_costs_what_is_expected_and_never_more_than_it_held() {
    for (expected, cost) in [(None, 80), (Some(5), 5), (Some(0), 0), (Some(-5), 0), (Some(300), 80)] {
        let mut books = Books::new();
        let bounds = [bound("key:k", Window::Day, 100)];
        let hold = reserve(&mut books, START_MS, &bounds, 80).unwrap();
        let expected_usd = expected.map(Usd::from_nanos);
        let entry = books.recover(START_MS, hold, |_| expected_usd).unwrap().entry();
        assert_eq!(entry.settlement.cost, Usd::from_nanos(cost), "{expected:?}");
        assert_eq!(entry.settlement.upper_bound, Some(Usd::from_nanos(80)));
        assert_eq!(books.spent(START_MS, "key:k", Window::Day), usd(cost));
    }
}

#[test]
fn an_adjustment_corrects_what_is_still_running() {
    let mut books = Books::new();
    let bounds = [bound("key:k", Window::Day, 100), bound("team:own", Window::Day, 1_000)];
    let hold = reserve(&mut books, START_MS, &bounds, 80).unwrap();
    let recovered = books.recover(START_MS, hold, |_| None).unwrap();
    assert_eq!(recovered.entry().settlement.outcome, Outcome::Recovered);
    assert_eq!(books.spent(START_MS, "key:k", Window::Day), usd(80));
    let amounts = Amounts {
        usd: Usd::from_nanos(-30),
        tokens: -3,
        requests: 0,
    };
    let held = recovered.held.clone();
    let adjustment = Adjustment {
        hold,
        held: &held,
        model: "gpt-x-1".into(),
        amounts,
        reason: "invoice".into(),
        bill: None,
    };
    books.adjust(START_MS, &adjustment).unwrap();
    assert_eq!(spent(&books, "key:k", Window::Day), 50);
    assert_eq!(spent(&books, "team:own", Window::Day), 50);
    books.adjust(START_MS + DAY_MS, &adjustment).unwrap();
    assert_eq!(spent(&books, "key:k", Window::Month), 20);
    assert_eq!(books.spent(START_MS + DAY_MS, "key:k", Window::Day), Amounts::ZERO);
}

fn denial(account: &str) -> Denial {
    Denial {
        account: account.into(),
        tenant: "acme".into(),
        reason: "budget_exceeded".into(),
        policy: "budget".into(),
    }
}

#[test]
fn refusals_of_a_minute_are_told_at_once_and_then_together() {
    let mut books = Books::new();
    let denial = denial("key:k");
    let mut deny = |at_ms| books.deny(at_ms, &denial);
    let counts = |recorded: Vec<Recorded>| -> Vec<u64> {
        recorded
            .iter()
            .map(|one| {
                if let Event::Denied(denied) = &one.event {
                    denied.count
                } else {
                    0
                }
            })
            .collect()
    };
    assert_eq!(counts(deny(START_MS)), [1]);
    assert_eq!(counts(deny(START_MS)), [0_u64; 0]);
    assert_eq!(counts(deny(START_MS + 1)), [0_u64; 0]);
    assert_eq!(counts(deny(START_MS + 60_000)), [2, 1]);
    assert_eq!(counts(books.flush_denials(START_MS + 120_000)), [0_u64; 0]);
}

#[test]
fn nonsense_is_refused_before_anything_is_touched() {
    let mut books = Books::new();
    let before = books.snapshot();
    let reason = Name::from("x");
    let below = Amounts {
        usd: Usd::from_nanos(-1),
        tokens: 0,
        requests: 0,
    };
    assert!(matches!(
        books.reserve(0, &facts("k"), &[], below, &reason),
        Err(BooksError::Invalid(_))
    ));
    let many = vec![bound("key:k", Window::Day, 1); BOUNDS_MAX + 1];
    assert!(matches!(
        books.reserve(0, &facts("k"), &many, usd(0), &reason),
        Err(BooksError::Full(_))
    ));
    assert!(matches!(
        books.extend(0, HoldId(9), Amounts::ZERO),
        Err(BooksError::Invalid(_))
    ));
    assert_eq!(books.snapshot(), before);
    // Enormous amounts meet enormous limits without overflow.
    let most = [bound("key:k", Window::Day, i64::MAX)];
    reserve(&mut books, 0, &most, i64::MAX).unwrap();
    assert_eq!(reserve(&mut books, 0, &most, 1).unwrap_err().obstacle, Obstacle::Held);
    let unbound = books.reserve(0, &facts("other"), &[], usd(1), &reason);
    assert_eq!(unbound.unwrap_err(), BooksError::Full("amounts held"));
}

#[test]
fn an_opening_carries_the_books_over_and_replay_refuses_gaps() {
    let mut books = Books::new();
    let hold = reserve(&mut books, START_MS, &[bound("key:k", Window::Day, 100)], 70).unwrap();
    let carried = books.snapshot();
    let opening = books.open_month(START_MS + 5, Some([7; 32]), vec![], carried);
    let mut next = Books::new();
    next.apply(opening.seq, &opening.event).unwrap();
    assert_eq!(next.snapshot(), books.snapshot());
    let settled = books.settle(START_MS + 9, hold, bill(70), None).unwrap().recorded;
    let gap = next.apply(settled.seq + 1, &settled.event);
    assert_eq!(gap, Err(ApplyError::Sequence { head: 2, found: 4 }));
    next.apply(settled.seq, &settled.event).unwrap();
    assert_eq!(next.snapshot(), books.snapshot());
    let twice = next.apply(settled.seq + 1, &settled.event);
    assert_eq!(twice, Err(ApplyError::UnknownHold { seq: 4, hold }));
}

proptest! {
    /// Whatever the live books do after it: holds that end and begin, accounts that are made and swept away, time that passes.
    #[test]
    fn frozen_books_are_those_of_their_moment(
        steps in prop::collection::vec((0u8..8, 0usize..40, 0i64..900), 1..400)
    ) {
        let (mut books, mut open, mut now_ms) = (Books::new(), Vec::new(), START_MS);
        let mut frozen = Vec::new();
        for (step, pick, cost) in steps {
            match step {
                0 => {
                    let at = (books.head(), books.snapshot(), books.balances().count());
                    frozen.push((books.frozen(), at));
                }
                1 => now_ms += 3_600_000 * cost / 100,
                2 => frozen.truncate(pick),
                3..=5 => {
                    let key = format!("key-{pick}");
                    let bounds = [bound(&format!("key:{key}"), Window::Hour, i64::MAX / 2)];
                    let bounds = &bounds[..usize::from(pick % 3 == 0)];
                    let hold = books.reserve(now_ms, &facts(&key), bounds, usd(cost), &"x".into()).unwrap().hold;
                    open.push(hold);
                }
                _ if open.is_empty() => {}
                _ => {
                    let hold = open.swap_remove(pick % open.len());
                    books.settle(now_ms, hold, bill(cost), None).unwrap();
                }
            }
        }
        for (frozen, (head, bytes, balances)) in frozen {
            prop_assert_eq!(frozen.head(), head);
            prop_assert_eq!(frozen.balances().count(), balances);
            let pieces: Vec<Vec<u8>> = frozen.pieces(97).collect();
            prop_assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() == 97));
            prop_assert!(pieces.concat() == bytes, "in pieces they differ");
            prop_assert!(frozen.snapshot() == bytes, "the books of event {} have changed", head);
        }
    }
}

#[test]
fn broken_snapshots_are_refused_without_a_panic() {
    let mut books = Books::new();
    reserve(&mut books, START_MS, &[bound("key:k", Window::Day, 100)], 70).unwrap();
    let bytes = books.snapshot();
    assert_eq!(Books::restore(&bytes).unwrap().snapshot(), bytes);
    for len in 0..bytes.len() {
        assert!(Books::restore(&bytes[..len]).is_err());
        for flip in [1, 0x80] {
            let mut broken = bytes.clone();
            broken[len] ^= flip;
            let _ = Books::restore(&broken);
        }
    }
}

#[test]
fn books_written_before_there_were_imports_and_documents_read_back() {
    let mut books = Books::new();
    let reserved = books.reserve(START_MS, &facts("a"), &[], usd(3), &"x".into());
    reserved.unwrap();
    let today = books.snapshot();
    // Nothing was imported, and nothing changed.
    let (body, since) = today.split_at(today.len() - 5);
    assert_eq!((today[0], since), (4, [0; 5].as_slice()));
    let before = [&[3], &body[1..]].concat();
    assert_eq!(Books::restore(&before).unwrap().snapshot(), today);
    assert!(Books::restore(&[&[4], &body[1..]].concat()).is_err());
}

#[test]
fn a_flood_of_refusals_is_counted_whole_and_recorded_in_part() {
    let mut books = Books::new();
    let refuse = |books: &mut Books, now_ms: i64, key: &str| {
        let denial = denial(key);
        books.deny(now_ms, &denial);
        let call = || {
            Some(crate::recorded::RefusalRecord {
                facts: facts(key),
                record: crate::recorded::Record::default(),
            })
        };
        books.refuse(&denial, call).is_some()
    };
    let of_one = (0..1_000).filter(|_| refuse(&mut books, START_MS, "key:a")).count();
    assert_eq!(of_one, 10);
    let of_many = (0..5_000)
        .filter(|key| refuse(&mut books, START_MS, &format!("key:{key}")))
        .count();
    assert_eq!(of_one + of_many, 600);
    // The next minute has room again.
    assert!(refuse(&mut books, START_MS + 60_000, "key:a"));
    let counted: u64 = books
        .deny(START_MS + 120_000, &denial("key:z"))
        .iter()
        .map(|recorded| match &recorded.event {
            Event::Denied(denied) => denied.count,
            _ => 0,
        })
        .sum();
    assert_eq!(counted, 1, "what was refused once is told at once");
}
