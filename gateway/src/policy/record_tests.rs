#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_ledger::{Mode, Usd, Window};

use super::*;
use crate::rates::Per;

fn facts() -> Facts {
    let none = || Name::from("");
    Facts {
        id: ulid::Ulid::from_parts(1, 2),
        at_ms: 5,
        provider: "openai".into(),
        operation: "chat".into(),
        requested_model: "gpt-4o-mini".into(),
        stream: true,
        key: "a1b2".into(),
        tenant: "acme".into(),
        agent: "coder".into(),
        session: "s".into(),
        user: none(),
        task: none(),
        tags: Default::default(),
        path: "/v1/chat/completions".into(),
        inferred: Default::default(),
    }
}

fn read_of(account: &str, window: Option<Window>, unit: Unit, value: i64) -> Read {
    Read {
        account: account.into(),
        window,
        unit,
        value,
    }
}

fn full() -> DecisionRecord {
    let mut record = DecisionRecord {
        rules: 41,
        dialect: "openai".into(),
        claim: "acme".into(),
        zone: "Europe/Berlin".into(),
        any_model: true,
        max_output: Some(1_000),
        history: Some(History {
            age_ms: 7,
            calls: 3,
            cost: Usd::from_nanos(99),
            last_cost: Usd::from_nanos(4),
            ..History::default()
        }),
        models: vec!["o3".into()],
        original: vec![
            (Original::Agent, "".into()),
            (Original::Model, "gpt-4o".into()),
            (Original::Tag("team".into()), "ml".into()),
        ],
        delay: Duration::from_millis(250),
        clamped: Some(64),
        ..DecisionRecord::default()
    };
    let estimate = CostEstimate {
        input_tokens: 10,
        output_tokens: 20,
        usd: Usd::from_nanos(30),
        output_usd: Usd::from_nanos(25),
    };
    for (phase, model) in [
        (Phase::Tenant, None),
        (Phase::Request, None),
        (Phase::Request, Some("gpt-4o-mini")),
    ] {
        let mut verdict = Verdict::default();
        verdict.reads.keys = vec![0, 3];
        verdict.reads.balances = vec![
            read_of("key:a1b2", Some(Window::Day), Unit::Usd, -5),
            read_of("global", None, Unit::Tokens, 7),
            read_of("tag:team=ml", Some(Window::Total), Unit::Requests, 1 << 40),
        ];
        record.asked(phase, model, estimate, phase == Phase::Tenant, &mut verdict);
    }
    record
}

/// What grows while it is made is not kept.
fn kept(record: &DecisionRecord) -> DecisionRecord {
    DecisionRecord {
        hash: VerdictHash::default(),
        ..record.clone()
    }
}

#[test]
fn a_record_reads_back_as_it_was_with_each_kind_of_refusal() {
    let facts = facts();
    let bound = HeldBound {
        account: "tenant:acme".into(),
        window: Window::Month,
        zone: "UTC".into(),
        unit: Unit::Usd,
        mode: Mode::Hard,
        limit: 500,
        start_s: -1,
        end_s: i64::MAX,
    };
    let kinds = [
        None,
        Some(RefusedBy::Policy("block@3".into())),
        Some(RefusedBy::Budget {
            policy: "budget@3".into(),
            bound,
            posted: 499,
            held: 1,
            requested: 2,
            is_held: true,
        }),
        Some(RefusedBy::Rate {
            policy: "rate_limit@2".into(),
            account: "key:a1b2".into(),
            per: Per::Hour,
            unit: Unit::Tokens,
            limit: 9,
            wait_ms: -1,
        }),
        Some(RefusedBy::Parallel {
            policy: "rate_limit@2".into(),
            account: "agent:coder".into(),
            limit: 2,
        }),
        Some(RefusedBy::Failed {
            policy: "house".into(),
            cause: Cause::Deadline,
        }),
    ];
    for refused in kinds {
        let record = DecisionRecord { refused, ..full() };
        let written = record.write(&facts, record.clamped, record.refused.as_ref());
        assert_eq!(DecisionRecord::read(&written, &facts), Ok(kept(&record)));
        // The call's own accounts are not written out.
        assert!(!written.names.iter().any(|name| name.starts_with("key:")));
        // Cut short anywhere it is broken, and no panic.
        for count in 0..written.numbers.len() {
            let cut = Record {
                numbers: written.numbers[..count].to_vec(),
                names: written.names.clone(),
            };
            assert!(DecisionRecord::read(&cut, &facts).is_err());
        }
    }
    let later = Record {
        numbers: vec![3],
        names: Vec::new(),
    };
    assert_eq!(DecisionRecord::read(&later, &facts), Err(BadRecord::Version));
}

#[test]
fn a_record_of_the_first_layout_is_still_read() {
    // Version, flags (history and a named output limit), rules, verdict, the limit; a history; and one evaluation with its
    // estimate and one balance that it read: of the call's own key, this day, in dollars.
    let history = [7, 3, 99, 12, 1, 300_000, 2, 4, 5, 6, 8, 9, 10, 11];
    let head = 1 | 1 << 1 | 1 << 3 | 1 << 4;
    let day = (Window::Day as i64 + 1) << 2 | Unit::Usd as i64;
    let asked = [1, head, 10, 20, 30, 25, 2 | day << 4, -5];
    let record = Record {
        numbers: [&[1, 1 << 3 | 1 << 4, 41, 77 << 16 | 5, 1_000][..], &history, &asked].concat(),
        names: vec!["openai".into()],
    };
    let read = DecisionRecord::read(&record, &facts()).unwrap();
    assert_eq!(read.verdict, 77, "of its hash the first bits");
    let past = read.history.unwrap();
    assert_eq!(
        (past.age_ms, past.calls, past.cost.nanos(), past.tokens),
        (7, 3, 99, 12)
    );
    assert_eq!(
        (past.running, past.window_ms, past.repeats, past.tool_repeats),
        (1, 300_000, 2, 4)
    );
    assert_eq!((past.stretch, past.distinct, past.path_calls), (5, 6, 8));
    assert_eq!(
        (
            past.repeats_cost.nanos(),
            past.first_cost.nanos(),
            past.last_cost.nanos()
        ),
        (9, 10, 11)
    );
    let asked = &read.asked[0];
    assert_eq!((asked.phase, asked.priced), (Phase::Request, true));
    let estimate = &asked.estimate;
    assert_eq!((estimate.input_tokens, estimate.output_tokens), (10, 20));
    assert_eq!((estimate.usd.nanos(), estimate.output_usd.nanos()), (30, 25));
    assert_eq!(asked.reads, [read_of("key:a1b2", Some(Window::Day), Unit::Usd, -5)]);
    // Written again it is of the present layout, and says the same.
    let again = read.write(&facts(), read.clamped, read.refused.as_ref());
    assert_eq!(again.numbers[0], 2);
    assert_eq!(DecisionRecord::read(&again, &facts()), Ok(read));
}

#[test]
fn a_verdict_that_differs_in_anything_has_another_hash() {
    let of = |change: fn(&mut Verdict)| {
        let (mut verdict, mut hash) = (Verdict::default(), VerdictHash::default());
        change(&mut verdict);
        hash.add(&verdict);
        hash.number()
    };
    let all = [
        of(|_| {}),
        of(|verdict| verdict.clamp = Some(1)),
        of(|verdict| verdict.clamp = Some(2)),
        of(|verdict| verdict.delay = Duration::from_millis(1)),
        of(|verdict| verdict.tags.push(("a".into(), "b".into()))),
        of(|verdict| verdict.headers.push(("a".into(), "b".into()))),
        of(|verdict| verdict.policies_applied.push("a@1".into())),
        of(|verdict| verdict.binding.tenant = Some("a".into())),
        of(|verdict| verdict.binding.agent = Some("a".into())),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!((0..1 << 32).contains(one));
        assert!(all.iter().skip(at + 1).all(|other| other != one), "{at}");
    }
    assert_eq!(all[1], of(|verdict| verdict.clamp = Some(1)));
}
