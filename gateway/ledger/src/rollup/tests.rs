#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use ulid::Ulid;

use super::names::OTHER;
use super::*;
use crate::entry::{Facts, Outcome, Part, Settlement};
use crate::usage::{Kind, Usage};

pub(super) const NOW_MS: i64 = 1_795_305_600_000;

pub(super) fn entry(at_ms: i64, agent: &str, session: &str, cost: i64, status: u16) -> Entry {
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
        inferred: Default::default(),
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
        response_id: None,
        request_id: None,
    };
    Entry {
        facts,
        settlement,
        held: Usd::from_nanos(cost),
        overage: Usd::ZERO,
        overage_reason: None,
        source: None,
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
    let mut again = small();
    for (key, value) in stored {
        again.load(key, value).unwrap();
    }
    again.set_floors_ms(rollups.floors_ms());
    again
}

fn narrow() -> Rollups {
    Rollups::new(Retention {
        names_per_kind_max: 10,
        minute_rows_max: 40,
        hour_rows_max: 60,
        ..Retention::default()
    })
}

/// Rows by what they are called, and what they cost in all.
fn told(rollups: &Rollups, dimension: Dimension) -> (BTreeMap<String, i64>, i64) {
    let name = |row: &SummaryRow| format!("{}{}{}{}{}", row.key, row.agent, row.session, row.task, row.tag);
    let rows = rollups.summary(&by(dimension));
    let sum = rows.iter().map(|row| row.cost.nanos()).sum();
    (rows.iter().map(|row| (name(row), row.cost.nanos())).collect(), sum)
}

#[test]
fn day_rows_are_bounded_and_their_sum_is_exact() {
    let mut rollups = narrow();
    for number in 0..500 {
        let mut entry = entry(
            NOW_MS + number % 3 * HOUR_MS,
            &format!("a{}", number % 20),
            &format!("s{number}"),
            2,
            200,
        );
        entry.facts.key = format!("k{number}").into();
        entry.facts.task = format!("t{number}").into();
        entry.facts.tags = BTreeMap::from([("team".into(), format!("v{number}").into())]);
        rollups.add(&entry);
        if number % 50 == 49 {
            rollups.merge(NOW_MS + 2 * HOUR_MS);
        }
    }
    rollups.merge(NOW_MS + 100 * DAY_MS);
    assert_eq!((rollups.minutes.rows, rollups.hours.rows), (0, 0));
    assert!(rollups.days.rows <= 6 * 21, "{}", rollups.days.rows);
    for dimension in [
        Dimension::Key,
        Dimension::Session,
        Dimension::Agent,
        Dimension::Task,
        Dimension::Tag("team".into()),
    ] {
        let (rows, sum) = told(&rollups, dimension.clone());
        assert_eq!(sum, 1_000, "{dimension:?}");
        assert!(rows.len() <= 21, "{dimension:?} {rows:?}");
    }
    let (keys, _) = told(&rollups, Dimension::Key);
    assert_eq!((keys["k0"], keys["other"]), (2, 980));
    let (sessions, _) = told(&rollups, Dimension::Session);
    assert_eq!(
        (sessions["a0s0"], sessions["a0other"], sessions["otherother"]),
        (2, 48, 500)
    );
    assert_eq!(rollups.folded(), [0, 490, 490, 0, 495, 490]);
    // The next day has room again.
    rollups.add(&entry(NOW_MS + DAY_MS, "new", "new", 2, 200));
    assert_eq!(told(&rollups, Dimension::Session).0["newnew"], 2);
}

#[test]
fn a_tag_made_up_for_each_request_does_not_drown_the_others() {
    let mut rollups = narrow();
    for number in 0..100 {
        let mut entry = entry(NOW_MS, "a", "s", 2, 200);
        entry.facts.tags = BTreeMap::from([("request_id".into(), format!("{number}").into())]);
        rollups.add(&entry);
        entry.facts.tags = BTreeMap::from([("team".into(), format!("{}", number % 4).into())]);
        rollups.add(&entry);
    }
    let (teams, sum) = told(&rollups, Dimension::Tag("team".into()));
    assert_eq!((teams.len(), teams["3"], sum), (4, 50, 200));
    let (ids, sum) = told(&rollups, Dimension::Tag("request_id".into()));
    assert_eq!((ids.len(), ids["other"], sum), (6, 190, 200));
}

#[test]
fn which_names_a_day_knows_is_found_again_after_a_start() {
    let (mut rollups, mut stored) = (narrow(), BTreeMap::new());
    for number in 0..10 {
        rollups.add(&entry(NOW_MS, "a", &format!("s{number}"), 2, 200));
    }
    let mut again = reloaded(&mut rollups, &mut stored);
    again.retention.names_per_kind_max = 10;
    for number in 5..15 {
        again.add(&entry(NOW_MS + HOUR_MS, "a", &format!("s{number}"), 2, 200));
    }
    let (sessions, sum) = told(&again, Dimension::Session);
    assert_eq!(
        (sessions["as9"], sessions["aother"], sessions.len(), sum),
        (4, 10, 11, 40)
    );
}

#[test]
fn changes_are_given_again_until_they_are_saved() {
    let mut rollups = small();
    rollups.add(&entry(NOW_MS, "a", "s", 2, 200));
    let changes: Vec<_> = rollups.changes().collect();
    assert!(!changes.is_empty());
    let sorted = |mut changes: Vec<_>| {
        changes.sort();
        changes
    };
    assert_eq!(
        sorted(rollups.changes().collect()),
        sorted(changes),
        "a checkpoint that failed writes them with the next"
    );
    rollups.saved();
    assert_eq!(rollups.changes().count(), 0);
}

#[test]
fn past_their_limit_the_oldest_days_keep_their_dearest_names_alone() {
    let mut rollups = Rollups::new(Retention {
        day_rows_max: 4_000,
        ..Retention::default()
    });
    for day in 0..3 {
        for number in 0..1_500 {
            rollups.add(&entry(
                NOW_MS + day * DAY_MS,
                "a",
                &format!("d{day}s{number}"),
                2 * number,
                200,
            ));
        }
    }
    rollups.merge(NOW_MS + 100 * DAY_MS);
    assert!(rollups.days.rows <= 4_000, "{}", rollups.days.rows);
    let (sessions, sum) = told(&rollups, Dimension::Session);
    assert_eq!(sum, 3 * 1_499 * 1_500);
    assert_eq!(sessions.get("ad0s499"), None);
    assert_eq!((sessions["ad0s500"], sessions["ad2s1"]), (1_000, 2));
    assert!(
        rollups.names.find("d0s499").is_some(),
        "until what was removed is on disk"
    );
    rollups.saved();
    rollups.forget_names();
    assert!(rollups.names.find("d0s499").is_none());
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
                _ if count + 1 < steps.len() => continue,
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
        let _ = rollups.load(&key, &value);
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

#[test]
fn a_summary_of_very_many_names_sums_the_cheapest_as_other() {
    let mut rollups = Rollups::new(Retention::default());
    let many = i64::try_from(SUMMARY_ROWS_MAX).unwrap() + 500;
    for number in 1..=many {
        rollups.add(&entry(NOW_MS, "a", &format!("s{number}"), 2 * number, 200));
    }
    let (sessions, sum) = told(&rollups, Dimension::Session);
    assert_eq!(sum, many * (many + 1));
    assert_eq!(sessions.len(), SUMMARY_ROWS_MAX + 1);
    assert_eq!(sessions["otherother"], 500 * 501);
    assert_eq!(told(&rollups, Dimension::Agent).0.len(), 1);
}

/// Entries of some weeks, of many names, with the naive sums that the queries must give.
fn weeks() -> (Rollups, Vec<Entry>) {
    let mut rollups = small();
    let mut entries = Vec::new();
    for number in 0..4_000_i64 {
        let at_ms = NOW_MS - 20 * DAY_MS + number * 7 * MINUTE_MS;
        let mut entry = entry(
            at_ms,
            &format!("a{}", number % 9),
            &format!("s{}", number % 70),
            number % 13,
            200,
        );
        entry.facts.key = format!("k{}", number % 5).into();
        entry.facts.provider = format!("p{}", number % 3).into();
        rollups.add(&entry);
        entries.push(entry);
        if number % 256 == 0 {
            rollups.merge(at_ms);
        }
    }
    (rollups, entries)
}

/// What a row is called that only one name is of.
pub(super) fn called(row: &SummaryRow) -> String {
    [
        &row.provider,
        &row.model,
        &row.key,
        &row.agent,
        &row.session,
        &row.user,
        &row.task,
        &row.tenant,
        &row.tag,
    ]
    .map(|name| name.to_string())
    .join("|")
}

fn expected_name(by: &Dimension, entry: &Entry) -> String {
    let mut row = SummaryRow::default();
    let facts = &entry.facts;
    match by {
        Dimension::Model => (row.provider, row.model) = (facts.provider.clone(), entry.settlement.model.clone()),
        Dimension::Provider => row.provider = facts.provider.clone(),
        Dimension::Key => row.key = facts.key.clone(),
        Dimension::Agent => row.agent = facts.agent.clone(),
        Dimension::Session => (row.agent, row.session) = (facts.agent.clone(), facts.session.clone()),
        Dimension::Tenant => row.tenant = facts.tenant.clone(),
        Dimension::Tag(tag) => row.tag = facts.tags.get(tag).cloned().unwrap_or_default(),
        Dimension::User | Dimension::Task => {}
    }
    called(&row)
}

#[test]
fn sums_over_time_are_those_of_the_entries_by_any_dimension() {
    let (mut rollups, entries) = weeks();
    let dimensions = [
        None,
        Some(Dimension::Model),
        Some(Dimension::Provider),
        Some(Dimension::Key),
        Some(Dimension::Agent),
        Some(Dimension::Session),
        Some(Dimension::Tenant),
        Some(Dimension::Tag("team".into())),
    ];
    let mut stored = BTreeMap::new();
    let again = reloaded(&mut rollups, &mut stored);
    for rollups in [&rollups, &again] {
        for by in &dimensions {
            for tenant in [None, Some(Name::from("even"))] {
                // The whole days before the last: whatever is merged, it is known to the day.
                let to_ms = floor(NOW_MS, DAY_MS) - DAY_MS;
                let mut expected: BTreeMap<(i64, String), (i64, u64)> = BTreeMap::new();
                for entry in &entries {
                    let is_wanted =
                        entry.facts.at_ms < to_ms && tenant.as_ref().is_none_or(|tenant| entry.facts.tenant == *tenant);
                    if is_wanted {
                        let name = by
                            .as_ref()
                            .map_or_else(|| called(&SummaryRow::default()), |by| expected_name(by, entry));
                        let sum = expected.entry((floor(entry.facts.at_ms, DAY_MS), name)).or_default();
                        *sum = (sum.0 + entry.settlement.cost.nanos(), sum.1 + 1);
                    }
                }
                let query = SeriesQuery {
                    from_ms: 0,
                    to_ms,
                    step_ms: DAY_MS,
                    by: by.clone(),
                    tenant: tenant.clone(),
                };
                let found = rollups.sums_over_time(&query);
                let sums: BTreeMap<(i64, String), (i64, u64)> = found
                    .iter()
                    .map(|(at_ms, row)| ((*at_ms, called(row)), (row.cost.nanos(), row.requests)))
                    .collect();
                assert_eq!(sums.len(), found.len(), "each name once a period");
                assert_eq!(sums, expected, "{by:?} {tenant:?}");
                assert!(found.is_sorted_by_key(|(at_ms, row)| (*at_ms, -row.cost.nanos())));
                // And what a summary says of the same time.
                if let Some(by) = by {
                    let summary = rollups.summary(&SummaryQuery {
                        from_ms: 0,
                        to_ms,
                        by: by.clone(),
                        tenant: tenant.clone(),
                    });
                    let total = |name: &str| {
                        expected
                            .iter()
                            .filter(|((_, known), _)| known == name)
                            .map(|(_, sum)| sum.0)
                            .sum::<i64>()
                    };
                    assert!(
                        summary.iter().all(|row| row.cost.nanos() == total(&called(row))),
                        "{by:?}"
                    );
                    assert!(summary.is_sorted_by_key(|row| -row.cost.nanos()));
                }
            }
        }
    }
}

#[test]
fn a_step_of_minutes_shows_minutes_while_they_are_kept() {
    let mut rollups = Rollups::new(Retention::default());
    for number in 0..120 {
        rollups.add(&entry(NOW_MS + number * MINUTE_MS / 2, "a", "s", 2, 200));
    }
    let of = |rollups: &Rollups, step_ms| {
        let query = SeriesQuery {
            from_ms: NOW_MS + 10 * MINUTE_MS,
            to_ms: NOW_MS + HOUR_MS,
            step_ms,
            by: Some(Dimension::Agent),
            tenant: None,
        };
        rollups.sums_over_time(&query)
    };
    let minutes = of(&rollups, MINUTE_MS);
    assert_eq!(
        (minutes.len(), minutes[0].0, minutes[0].1.requests),
        (50, NOW_MS + 10 * MINUTE_MS, 2)
    );
    assert_eq!(of(&rollups, 5 * MINUTE_MS).len(), 10);
    assert_eq!(rollups.series(NOW_MS, NOW_MS + HOUR_MS, MINUTE_MS, None).len(), 60);
    rollups.merge(NOW_MS + 60 * DAY_MS);
    assert_eq!(of(&rollups, MINUTE_MS).len(), 1);
}

#[test]
fn past_their_limit_the_names_over_time_that_cost_least_are_other() {
    let mut rollups = Rollups::new(Retention::default());
    let names = queries::SERIES_NAMES_MAX as i64 + 50;
    for number in 0..names {
        let mut one = entry(NOW_MS, "a", "s", 2 * number, 200);
        one.facts.key = format!("k{number}").into();
        rollups.add(&one);
        one.facts.at_ms += HOUR_MS;
        rollups.add(&one);
    }
    let query = SeriesQuery {
        from_ms: 0,
        to_ms: i64::MAX,
        step_ms: HOUR_MS,
        by: Some(Dimension::Key),
        tenant: None,
    };
    let rows = rollups.sums_over_time(&query);
    assert_eq!(rows.len(), 2 * (queries::SERIES_NAMES_MAX + 1));
    let others: Vec<_> = rows.iter().filter(|(_, row)| *row.key == *OTHER).collect();
    assert_eq!(
        (others.len(), others[0].1.requests, others[0].1.cost.nanos()),
        (2, 50, 49 * 50)
    );
}

#[test]
fn thinned_days_and_forgotten_names_leave_sums_by_agent_provider_and_tenant_as_they_were() {
    let mut rollups = Rollups::new(Retention {
        day_rows_max: 100,
        hours_kept_ms: DAY_MS,
        minutes_kept_ms: HOUR_MS,
        ..Retention::default()
    });
    for number in 0..10_000_i64 {
        let at_ms = NOW_MS - 10 * DAY_MS + number / 1_250 * DAY_MS;
        rollups.add(&entry(
            at_ms,
            &format!("a{}", number % 4),
            &format!("s{number}"),
            2,
            200,
        ));
    }
    let sums = |rollups: &Rollups| {
        [Dimension::Agent, Dimension::Provider, Dimension::Tenant].map(|by| {
            let rows = rollups.summary(&SummaryQuery {
                from_ms: 0,
                to_ms: i64::MAX,
                by,
                tenant: None,
            });
            rows.iter()
                .map(|row| (called(row), row.cost, row.requests))
                .collect::<Vec<_>>()
        })
    };
    let before = sums(&rollups);
    assert_eq!(before[0].len(), 4);
    rollups.merge(NOW_MS);
    assert!(rollups.thinned_to_ms > NOW_MS - 10 * DAY_MS, "some day was thinned");
    assert_eq!(sums(&rollups), before);
    let mut stored = BTreeMap::new();
    assert_eq!(sums(&reloaded(&mut rollups, &mut stored)), before);
}
