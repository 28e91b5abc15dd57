#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use ulid::Ulid;

use super::*;
use crate::entry::{Facts, Outcome, Part, Settlement};
use crate::usage::Kind;

const NOW_MS: i64 = 1_795_305_600_000;

fn entry(at_ms: i64, agent: &str, session: &str, cost: i64, status: u16) -> Entry {
    let facts = Facts {
        id: Ulid::from_parts(u64::try_from(at_ms).unwrap(), 1),
        at_ms,
        provider: "openai".into(),
        operation: "chat".into(),
        requested_model: "gpt-5".into(),
        stream: false,
        key: "k".into(),
        tenant: if cost % 2 == 0 { "even".into() } else { "".into() },
        agent: agent.into(),
        session: session.into(),
        user: "".into(),
        task: "".into(),
        tags: BTreeMap::from([("team".into(), agent.into())]),
        path: "/v1/chat/completions".into(),
    };
    let settlement = Settlement {
        at_ms,
        outcome: Outcome::Completed,
        status,
        model: "gpt-5-2025-08-07".into(),
        usage: Usage::default().with(Kind::Input, 10).with(Kind::Output, 5),
        parts: Vec::new(),
        reasoning: 0,
        cost: Usd::from_nanos(cost),
        reported_cost: None,
        upper_bound: None,
        price: None,
        estimate_reason: None,
        verdict: Vec::new(),
        duration_ms: 30,
        ttfb_ms: None,
    };
    Entry {
        facts,
        settlement,
        held: Usd::from_nanos(cost),
        overage: Usd::ZERO,
        overage_reason: None,
    }
}

fn by(dimension: Dimension) -> SummaryQuery {
    SummaryQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        by: dimension,
        tenant: None,
    }
}

fn small() -> Rollups {
    Rollups::new(Retention {
        minute_rows_max: 40,
        hour_rows_max: 60,
        ..Retention::default()
    })
}

/// What a checkpoint stores, read back.
fn reloaded(rollups: &mut Rollups, stored: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Rollups {
    for (key, value) in rollups.changes() {
        match value {
            Some(value) => stored.insert(key, value),
            None => stored.remove(&key),
        };
    }
    rollups.saved();
    let (mut again, mut names) = (small(), Names::default());
    for (key, value) in stored {
        again.load(key, value, &mut names).unwrap();
    }
    again.set_floors_ms(rollups.floors_ms());
    again
}

proptest! {
    /// However entries come and whenever sums are merged and stored, nothing is lost and nothing counted twice.
    #[test]
    fn sums_survive_merging_and_storing(
        steps in prop::collection::vec((0i64..90 * DAY_MS, 0u8..4, 0u8..9, 1i64..1_000, 0u8..12), 1..120)
    ) {
        let (mut rollups, mut stored) = (small(), BTreeMap::new());
        let (mut cost, mut even, mut latest_ms) = (0, 0, NOW_MS);
        for (count, (ahead_ms, agent, session, nanos, then)) in steps.iter().enumerate() {
            let at_ms = NOW_MS + ahead_ms;
            latest_ms = latest_ms.max(at_ms);
            rollups.add(&entry(at_ms, &agent.to_string(), &session.to_string(), *nanos, 200));
            cost += nanos;
            even += if nanos % 2 == 0 { *nanos } else { 0 };
            match then {
                0 => rollups.merge(latest_ms),
                1 => rollups = reloaded(&mut rollups, &mut stored),
                _ => {}
            }
            for dimension in [Dimension::Model, Dimension::Provider, Dimension::Key, Dimension::Agent, Dimension::Session,
                Dimension::User, Dimension::Task, Dimension::Tenant, Dimension::Tag("team".into())] {
                let rows = rollups.summary(&by(dimension));
                prop_assert_eq!(rows.iter().map(|row| row.cost.nanos()).sum::<i64>(), cost);
                prop_assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), count as u64 + 1);
            }
            let query = SummaryQuery { tenant: Some("even".into()), ..by(Dimension::Key) };
            prop_assert_eq!(rollups.summary(&query).iter().map(|row| row.cost.nanos()).sum::<i64>(), even);
            let tenants = rollups.summary(&by(Dimension::Tenant));
            let of_even = tenants.iter().find(|row| &*row.tenant == "even").map_or(0, |row| row.cost.nanos());
            prop_assert_eq!(of_even, even);
        }
        rollups.merge(latest_ms);
        prop_assert!(rollups.minutes.rows <= 40 && rollups.hours.rows <= 60);
        let again = reloaded(&mut rollups, &mut stored);
        prop_assert_eq!(again.summary(&by(Dimension::Session)), rollups.summary(&by(Dimension::Session)));
        prop_assert_eq!(again.minutes.rows, rollups.minutes.rows);
    }

    #[test]
    fn stored_bytes_that_are_no_row_are_refused(key: Vec<u8>, value: Vec<u8>) {
        let mut rollups = small();
        let _ = rollups.load(&key, &value, &mut Names::default());
    }
}

#[test]
fn a_range_counts_to_the_minute_while_minutes_are_kept() {
    let mut rollups = Rollups::new(Retention::default());
    for minute in 0..120 {
        rollups.add(&entry(
            NOW_MS + minute * MINUTE_MS + 1,
            "a",
            "s",
            1,
            if minute == 7 { 429 } else { 200 },
        ));
    }
    let query = SummaryQuery {
        from_ms: NOW_MS + 5 * MINUTE_MS,
        to_ms: NOW_MS + 15 * MINUTE_MS,
        ..by(Dimension::Agent)
    };
    let rows = rollups.summary(&query);
    assert_eq!(
        (rows.len(), rows[0].requests, rows[0].errors, rows[0].status_429),
        (1, 10, 1, 1)
    );
    assert_eq!((rows[0].input_tokens, rows[0].output_tokens), (100, 50));
    assert_eq!(
        (rows[0].first_ms, rows[0].last_ms),
        (NOW_MS + 5 * MINUTE_MS + 1, NOW_MS + 14 * MINUTE_MS + 1)
    );
    let hours = rollups.series(NOW_MS, NOW_MS + DAY_MS, HOUR_MS, None);
    assert_eq!(
        hours.iter().map(|point| point.totals.requests).collect::<Vec<_>>(),
        [60, 60]
    );
}

#[test]
fn several_models_of_one_answer_are_told_apart_and_are_one_request() {
    let mut rollups = small();
    let mut entry = entry(NOW_MS, "a", "s", 10, 200);
    let part = |model: &str, cost| {
        let usage = Usage::default().with(Kind::Output, 5);
        Part {
            model: model.into(),
            usage,
            cost: Usd::from_nanos(cost),
        }
    };
    entry.settlement.parts = vec![part("gpt-5-2025-08-07", 7), part("advisor", 3)];
    rollups.add(&entry);
    rollups.adjust(&entry.facts, &entry.settlement.model, Usd::from_nanos(-2));
    let rows = rollups.summary(&by(Dimension::Model));
    let told: Vec<_> = rows
        .iter()
        .map(|row| (&*row.model, row.cost.nanos(), row.requests))
        .collect();
    assert_eq!(told, [("gpt-5-2025-08-07", 5, 1), ("advisor", 3, 0)]);
    assert_eq!(rollups.summary(&by(Dimension::Provider))[0].cost.nanos(), 8);
}
