#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::bound::{Mode, Window};
use crate::change::{Answered, Change};
use crate::event::{Adjusted, Adjustee, Denial, Denied, Held, HeldBound, Imported, ImportedEntry};
use crate::names::Names;
use crate::recorded::{Base, InForce, Record, Refused};

fn name() -> impl Strategy<Value = Name> {
    prop_oneof!["", "[a-c]", "[a-z]{1,12}", "\\PC{0,200}"].prop_map(Name::from)
}

fn id() -> impl Strategy<Value = Name> {
    "[!-~]{1,128}".prop_map(Name::from)
}

fn record() -> impl Strategy<Value = Record> {
    (vec(any::<i64>(), 0..8), vec(name(), 0..4)).prop_map(|(numbers, names)| Record { numbers, names })
}

fn amounts() -> impl Strategy<Value = Amounts> {
    (any::<i64>(), any::<i64>(), any::<i64>()).prop_map(|(usd, tokens, requests)| Amounts {
        usd: Usd::from_nanos(usd),
        tokens,
        requests,
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    vec((0..Kind::COUNT, any::<u64>()), 0..4).prop_map(|counts| {
        counts
            .into_iter()
            .map(|(kind, units)| (Kind::ALL[kind], units))
            .collect()
    })
}

fn facts() -> impl Strategy<Value = Facts> {
    (
        any::<u128>(),
        any::<i64>(),
        vec(name(), 10),
        (any::<bool>(), 0..16u8),
        btree_map(name(), name(), 0..3),
    )
        .prop_map(|(id, at_ms, n, (stream, inferred), tags)| Facts {
            id: Ulid(id),
            at_ms,
            provider: n[0].clone(),
            operation: n[1].clone(),
            requested_model: n[2].clone(),
            stream,
            key: n[3].clone(),
            tenant: n[4].clone(),
            agent: n[5].clone(),
            session: n[6].clone(),
            user: n[7].clone(),
            task: n[8].clone(),
            tags,
            path: n[9].clone(),
            inferred: Inferred::from_bits(inferred).unwrap(),
        })
}

fn bound() -> impl Strategy<Value = HeldBound> {
    (
        name(),
        0..6_usize,
        name(),
        0..3_usize,
        any::<bool>(),
        0..=i64::MAX,
        any::<i64>(),
        any::<i64>(),
    )
        .prop_map(|(account, window, zone, unit, hard, limit, start_s, end_s)| {
            let window = Window::ALL[window];
            let total = window == Window::Total;
            HeldBound {
                account,
                window,
                zone: if total { "UTC".into() } else { zone },
                unit: Unit::ALL[unit],
                mode: if hard { Mode::Hard } else { Mode::Watch },
                limit,
                start_s: if total { i64::MIN } else { start_s },
                end_s: if total { i64::MAX } else { end_s },
            }
        })
}

fn settlement() -> impl Strategy<Value = Settlement> {
    let part = (name(), usage(), any::<i64>()).prop_map(|(model, usage, cost)| Part {
        model,
        usage,
        cost: Usd::from_nanos(cost),
    });
    let price = (name(), name(), name(), option::of(name())).prop_map(|(provider, id, effective, tier)| PriceRef {
        provider,
        id,
        effective,
        tier,
    });
    let money = || option::of(any::<i64>().prop_map(Usd::from_nanos));
    (
        (
            any::<i64>(),
            0..Outcome::ALL.len(),
            any::<u16>(),
            name(),
            usage(),
            vec(part, 0..3),
            any::<u64>(),
            any::<i64>(),
        ),
        (
            money(),
            money(),
            option::of(price),
            option::of(name()),
            vec(name(), 0..3),
            any::<u64>(),
        ),
        option::of(any::<u64>()),
        [option::of(id()), option::of(id())],
    )
        .prop_map(|(first, second, ttfb_ms, [response_id, request_id])| {
            let (at_ms, outcome, status, model, usage, parts, reasoning, cost) = first;
            let (reported_cost, upper_bound, price, estimate_reason, verdict, duration_ms) = second;
            Settlement {
                at_ms,
                outcome: Outcome::ALL[outcome],
                status,
                model,
                usage,
                parts,
                reasoning,
                cost: Usd::from_nanos(cost),
                reported_cost,
                upper_bound,
                price,
                estimate_reason,
                verdict,
                duration_ms,
                ttfb_ms,
                response_id,
                request_id,
            }
        })
}

fn change() -> impl Strategy<Value = Change> {
    let answered = (name(), any::<[u8; 32]>(), name()).prop_map(|(id, digest, answer)| Answered { id, digest, answer });
    (
        (any::<u128>(), any::<i64>(), vec(name(), 6), any::<bool>(), any::<u64>()),
        option::of(name()),
        option::of(name()),
        option::of(answered),
    )
        .prop_map(
            |((id, at_ms, names, kept, min_version), before, after, request)| Change {
                id: Ulid(id),
                at_ms,
                author: names[0].clone(),
                peer: names[1].clone(),
                action: names[2].clone(),
                subject: names[3].clone(),
                tenant: names[4].clone(),
                note: names[5].clone(),
                before,
                after,
                kept,
                min_version,
                request,
            },
        )
}

fn event() -> impl Strategy<Value = Event> {
    let at = any::<i64>;
    let hold = || any::<u64>().prop_map(HoldId);
    let bills = || vec(any::<[u8; 16]>().prop_map(BillId), 0..3);
    prop_oneof![
        (
            at(),
            option::of(any::<[u8; 32]>()),
            vec(any::<u8>(), 0..50),
            vec((name(), any::<[u8; 32]>()), 0..3)
        )
            .prop_map(|(at_ms, previous, books, digests)| {
                Event::Opening(Arc::new(Opening {
                    at_ms,
                    previous,
                    books,
                    digests,
                }))
            }),
        (
            at(),
            facts(),
            amounts(),
            name(),
            vec(bound(), 0..4),
            option::of(record())
        )
            .prop_map(|(at_ms, facts, amounts, basis, bounds, record)| {
                Event::Held(Arc::new(Held {
                    at_ms,
                    facts: Arc::new(facts),
                    amounts,
                    basis,
                    bounds,
                    record,
                }))
            }),
        (at(), hold(), amounts()).prop_map(|(at_ms, hold, amounts)| Event::Extended(Extended { at_ms, hold, amounts })),
        (at(), hold(), amounts(), option::of(name()), settlement(), bills()).prop_map(
            |(at_ms, hold, held, overage_reason, settlement, bills)| {
                Event::Settled(Arc::new(Settled {
                    at_ms,
                    hold,
                    held,
                    overage_reason,
                    settlement,
                    bills,
                }))
            }
        ),
        (at(), hold(), any::<[u8; 16]>()).prop_map(|(at_ms, hold, bill)| Event::Deferred(Deferred {
            at_ms,
            hold,
            bill: BillId(bill)
        })),
        (at(), hold(), name()).prop_map(|(at_ms, hold, reason)| Event::Voided(Voided { at_ms, hold, reason })),
        (at(), name(), name(), name(), name(), any::<u64>()).prop_map(
            |(at_ms, account, tenant, reason, policy, count)| {
                Event::Denied(Denied {
                    at_ms,
                    of: Denial {
                        account,
                        tenant,
                        reason,
                        policy,
                    },
                    count,
                })
            }
        ),
        (
            at(),
            hold(),
            any::<u128>(),
            at(),
            vec(name(), 0..4),
            amounts(),
            name(),
            bills(),
            proptest::option::of((facts(), name()))
        )
            .prop_map(
                |(at_ms, hold, id, held_at_ms, accounts, amounts, reason, mut bills, of)| {
                    let (id, bill) = (Ulid(id), bills.pop());
                    let of = of.map(|(facts, model)| Adjustee {
                        facts: Arc::new(facts),
                        model,
                    });
                    Event::Adjusted(Arc::new(Adjusted {
                        at_ms,
                        hold,
                        id,
                        held_at_ms,
                        accounts,
                        amounts,
                        reason,
                        bill,
                        of,
                    }))
                }
            ),
        (at(), at()).prop_map(|(at_ms, to_ms)| Event::ClockSet(ClockSet { at_ms, to_ms })),
        (at(), any::<[u8; 16]>()).prop_map(|(at_ms, check)| Event::SecretChecked(SecretChecked { at_ms, check })),
        (
            at(),
            name(),
            any::<u64>(),
            any::<bool>(),
            vec((facts(), settlement()), 0..4)
        )
            .prop_map(|(at_ms, source, place, has_legacy_keys, entries)| {
                let entries = entries.into_iter().map(|(facts, settlement)| ImportedEntry {
                    facts: Arc::new(facts),
                    settlement,
                });
                Event::Imported(Arc::new(Imported {
                    at_ms,
                    source,
                    place,
                    has_legacy_keys,
                    entries: entries.collect(),
                }))
            }),
        (at(), name(), name()).prop_map(|(at_ms, legacy, key)| Event::Linked(Linked { at_ms, legacy, key })),
        change().prop_map(|change| Event::Changed(Arc::new(change))),
        (at(), facts(), name(), name(), record()).prop_map(|(at_ms, facts, account, reason, record)| {
            Event::Refused(Arc::new(Refused {
                at_ms,
                facts: Arc::new(facts),
                account,
                reason,
                record,
            }))
        }),
        (
            at(),
            any::<u64>(),
            any::<[u8; 32]>(),
            vec(any::<u8>(), 0..50),
            option::of(any::<u64>())
        )
            .prop_map(|(at_ms, id, digest, whole, of)| Event::InForce(Arc::new(InForce {
                at_ms,
                id,
                digest,
                base: of.map_or_else(|| Base::Whole(whole.into()), Base::Of),
            }))),
        (at(), name(), name(), 0..3_usize).prop_map(|(at_ms, tenant, session, mark)| {
            Event::Marked(Arc::new(Marked {
                at_ms,
                tenant,
                session,
                mark: Mark::ALL[mark],
            }))
        }),
    ]
}

proptest! {
    #[test]
    fn events_survive_their_bytes_and_rebuild_the_names(events in vec(event(), 1..6)) {
        let (mut writing, mut reading) = (Names::new(), Names::new());
        for event in &events {
            let bytes = encode(event, &mut writing);
            let read = decode(&bytes, &mut reading);
            prop_assert_eq!(read.as_ref(), Ok(event));
            // Once all names are known, writing again is shorter or equal, and stable.
            let again = encode(event, &mut writing);
            prop_assert!(again.len() <= bytes.len());
            prop_assert_eq!(&again, &encode(event, &mut reading.clone()));
        }
        prop_assert_eq!(writing.len(), reading.len());
        for number in 0..u32::try_from(writing.len()).unwrap() {
            prop_assert_eq!(writing.name_of(number), reading.name_of(number));
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_refused_or_another_event(event in event(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let bytes = encode(&event, &mut Names::new());
        let cut = at.index(bytes.len());
        let mut names = Names::new();
        prop_assert!(decode(&bytes[..cut], &mut names).is_err());
        prop_assert_eq!(names.len(), 0);
        let mut changed = bytes.clone();
        changed[cut] ^= flip;
        prop_assert_ne!(decode(&changed, &mut names), Ok(event));
    }

    #[test]
    fn arbitrary_bytes_never_panic(kind in 0x10_u8..0x20, bytes in vec(any::<u8>(), 0..200)) {
        let mut event = vec![kind];
        event.extend(bytes);
        let _ = decode(&event, &mut Names::new());
    }
}

/// An ordinary exchange, the `round`th of its kind: what holds it and what settles it.
fn ordinary(round: u64) -> (Held, Settled) {
    let at_ms = 1_795_330_000_123;
    let facts = Facts {
        id: Ulid::from_parts(at_ms as u64, 77),
        at_ms,
        provider: "anthropic".into(),
        operation: "messages".into(),
        requested_model: "claude-opus-4-5".into(),
        stream: true,
        key: "3f9a0c11d2e4".into(),
        tenant: "acme".into(),
        agent: "coder".into(),
        session: "0f0e7f7a-0000-4000-8000-1234567890ab".into(),
        user: "ann".into(),
        task: "".into(),
        tags: [("team".into(), "ml".into())].into(),
        path: "/v1/messages".into(),
        inferred: Default::default(),
    };
    let bound = |account: &str, window| HeldBound {
        account: account.into(),
        window,
        zone: "UTC".into(),
        unit: Unit::Usd,
        mode: Mode::Hard,
        limit: 50_000_000_000,
        start_s: at_ms / 1_000 - 40_000,
        end_s: at_ms / 1_000 + 46_400,
    };
    let amounts = Amounts::of_request(Usd::from_nanos(230_450_000), 12_000);
    let bounds = [Window::Day, Window::Month].map(|window| bound("key:3f9a0c11d2e4", window));
    let held = Held {
        at_ms: at_ms + 3,
        facts: Arc::new(facts),
        amounts,
        basis: "max_tokens".into(),
        bounds: bounds.into(),
        record: None,
    };
    let settlement = Settlement {
        usage: Usage::ZERO
            .with(Kind::Input, 812)
            .with(Kind::CacheRead, 10_230)
            .with(Kind::Output, 2_214),
        cost: Usd::from_nanos(64_525_000),
        price: Some(PriceRef {
            provider: "anthropic".into(),
            id: "claude-opus-4-5".into(),
            effective: "2025-11-24".into(),
            tier: None,
        }),
        verdict: vec!["budget@1".into()],
        ttfb_ms: Some(840),
        ..Settlement::unanswered(
            at_ms + 21_500,
            Outcome::Completed,
            200,
            "claude-opus-4-5-20251101".into(),
            21_500,
        )
    };
    let settled = Settled {
        at_ms: at_ms + 21_500,
        hold: HoldId(1_000_000 + round),
        held: amounts,
        overage_reason: None,
        settlement,
        bills: vec![],
    };
    (held, settled)
}

/// With ids as long as Anthropic's.
fn named(mut settled: Settled, round: u64) -> Settled {
    settled.settlement.response_id = Some(format!("msg_01XFDUDYJgAACzvnptvVo{round:03}").into());
    settled.settlement.request_id = Some(format!("req_011CSHoEeqs5C35K2UU5J{round:03}").into());
    settled
}

#[test]
fn an_ordinary_exchange_is_small() {
    let mut names = Names::new();
    let mut sizes = Vec::new();
    for round in 0..2 {
        let (held, settled) = ordinary(round);
        let bare = settled.clone();
        let mut size = |event: Event| encode(&event, &mut names).len();
        let held = size(Event::Held(Arc::new(held)));
        let with_ids = size(Event::Settled(Arc::new(named(settled, round))));
        sizes.push((held, with_ids, size(Event::Settled(Arc::new(bare)))));
    }
    let (held, with_ids, without) = sizes[1];
    println!(
        "held {held} B, settled {with_ids} B, without ids {without} B; with new names {:?}",
        sizes[0]
    );
    assert!(held + without < 160, "{sizes:?}");
    assert_eq!(with_ids - without, 2 * (28 + 1), "an id costs its text and its length");
}

/// What a decision of the shipped policies records, of a call in a session.
#[test]
fn the_record_of_an_ordinary_decision_is_small() {
    let mut names = Names::new();
    let mut sizes = Vec::new();
    for round in 0..2 {
        let (mut held, _) = ordinary(round);
        let without = Event::Held(Arc::new(held.clone()));
        // What it names is in the table of names for both.
        encode(&without, &mut names);
        let bare = encode(&without, &mut names).len();
        let history = [61_234, 12, 512_000_000, 48_000, 1, 300_000, 0, 0, 0, 3, 4, 0, 0, 0];
        let head = [1, 1 << 2 | 1 << 3 | 1 << 4, 41_234, 271_234_567_890_123, 4_096];
        let asked = [2, 2, 0b1011, 812, 2_214, 64_525_000, 55_350_000, 3, 0, 1, 0];
        held.record = Some(Record {
            numbers: [&head[..], &history, &asked].concat(),
            names: vec!["anthropic".into()],
        });
        sizes.push(encode(&Event::Held(Arc::new(held)), &mut names).len() - bare);
    }
    println!("a record takes {} B", sizes[1]);
    assert!(sizes[1] <= 80, "{sizes:?}");
}

#[test]
fn ids_leave_the_table_of_names_as_it_is() {
    let (mut writing, mut reading) = (Names::new(), Names::new());
    for round in 0..3 {
        let (_, settled) = ordinary(round);
        let known = writing.len();
        let event = Event::Settled(Arc::new(named(settled, round)));
        let bytes = encode(&event, &mut writing);
        assert!(round == 0 || writing.len() == known, "round {round}");
        assert_eq!(decode(&bytes, &mut reading), Ok(event));
    }
}

/// Bytes as they were written before entries bore ids.
#[test]
fn an_event_from_before_the_ids_still_decodes() {
    const BEFORE: &str = "13eee390a0c068c0843dd00200c8010218636c617564652d6f7075732d342d352d32303235313130\
        3113ac06f64fa61190cbc43da08de3db01c0bb0102fca7010209616e7468726f706963020f636c61\
        7564652d6f7075732d342d35020a323032352d31312d3234c8060102086275646765744031";
    let bytes: Vec<u8> = (0..BEFORE.len() / 2)
        .map(|at| u8::from_str_radix(&BEFORE[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let (_, settled) = ordinary(0);
    let event = Event::Settled(Arc::new(settled));
    assert_eq!(decode(&bytes, &mut Names::new()), Ok(event.clone()));
    assert_eq!(encode(&event, &mut Names::new()), bytes, "and is still written so");
}

#[test]
fn what_is_inferred_stands_where_older_journals_say_only_whether_it_is_a_stream() {
    let (mut held, _) = ordinary(0);
    let event = Event::Held(Arc::new(held.clone()));
    let before = encode(&event, &mut Names::new());
    assert_eq!(decode(&before, &mut Names::new()), Ok(event));

    held.facts = Arc::new(Facts {
        inferred: Inferred::AGENT | Inferred::SESSION | Inferred::USER | Inferred::PARENT,
        ..Facts::clone(&held.facts)
    });
    let event = Event::Held(Arc::new(held));
    let mut bytes = encode(&event, &mut Names::new());
    assert_eq!(decode(&bytes, &mut Names::new()), Ok(event));
    let changed: Vec<usize> = (0..before.len()).filter(|at| bytes[*at] != before[*at]).collect();
    assert_eq!((bytes.len(), changed.len()), (before.len(), 1), "it takes no byte");
    assert_eq!((before[changed[0]], bytes[changed[0]]), (1, 0b1_1111));

    bytes[changed[0]] |= 1 << 5;
    let refused = Err(DecodeError::Malformed("inferred names that are none"));
    assert_eq!(decode(&bytes, &mut Names::new()), refused);
}

#[test]
fn an_id_that_says_nothing_is_refused() {
    let (_, mut settled) = ordinary(0);
    settled.settlement.request_id = Some("".into());
    let bytes = encode(&Event::Settled(Arc::new(settled)), &mut Names::new());
    let refused = Err(DecodeError::Malformed("a field that says nothing"));
    assert_eq!(decode(&bytes, &mut Names::new()), refused);
}
