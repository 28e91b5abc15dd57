//! Whatever happens to the sums, every query gives what a plain recount gives: of the entries, and of the rows that are stored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{NOW_MS, called, entry};
use super::*;

/// By the start of the period and what the row is called.
type Sums = BTreeMap<(i64, String), Totals>;

/// An entry or a correction, and the grain at which it is counted at present.
struct Counted {
    facts: Facts,
    totals: Totals,
    grain: Grain,
}

#[derive(Clone, Debug)]
enum Step {
    Add { ago_ms: i64, seed: usize },
    Adjust { place: usize, nanos: i64 },
    Merge,
    StoreAndLoad,
}

fn step() -> impl Strategy<Value = Step> {
    // Most entries are of the last days.
    let ago_ms = prop_oneof![0..3 * HOUR_MS, 0..3 * DAY_MS, 0..60 * DAY_MS];
    prop_oneof![
        20 => (ago_ms, any::<usize>()).prop_map(|(ago_ms, seed)| Step::Add { ago_ms, seed }),
        3 => (any::<usize>(), -500i64..500).prop_map(|(place, nanos)| Step::Adjust { place, nanos }),
        2 => Just(Step::Merge),
        1 => Just(Step::StoreAndLoad),
    ]
}

/// A moment, mostly not on a border of anything.
fn moment() -> impl Strategy<Value = i64> {
    let ago_ms = prop_oneof![Just(0), -2 * HOUR_MS..3 * DAY_MS, 0..70 * DAY_MS];
    (
        ago_ms,
        prop_oneof![Just(1), Just(MINUTE_MS), Just(HOUR_MS), Just(DAY_MS)],
    )
        .prop_map(|(ago_ms, grain_ms)| floor(NOW_MS - ago_ms, grain_ms))
}

fn range() -> impl Strategy<Value = (i64, i64)> {
    prop_oneof![1 => Just((0, i64::MAX)), 6 => (moment(), moment())]
}

fn retention() -> impl Strategy<Value = Retention> {
    let few = (
        1usize..200,
        1usize..300,
        prop_oneof![Just(0usize), 1usize..600],
        2usize..12,
    );
    let kept = prop_oneof![Just(None), (10i64..50).prop_map(|days| Some(days * DAY_MS))];
    let few = (few, kept).prop_map(|((minutes, hours, days, names), kept)| Retention {
        minute_rows_max: minutes,
        hour_rows_max: hours,
        day_rows_max: days,
        names_per_kind_max: names,
        days_kept_ms: kept,
        ..Retention::default()
    });
    let all = Retention {
        minutes_kept_ms: 5 * HOUR_MS,
        hours_kept_ms: 5 * DAY_MS,
        ..Retention::default()
    };
    prop_oneof![few, Just(all), Just(Retention::default())]
}

/// An entry whose names are picked by the digits of a number.
fn picked(at_ms: i64, seed: usize) -> Entry {
    let name =
        |kind: &str, place: u32, count: usize| Name::from(format!("{kind}{}", seed / 10usize.pow(place) % 10 % count));
    let mut entry = entry(at_ms, &name("a", 0, 4), &name("s", 1, 7), 1 + (seed % 997) as i64, 200);
    entry.facts.tenant = name("t", 2, 3);
    entry.facts.user = name("u", 3, 5);
    entry.facts.task = name("", 4, 9);
    entry.facts.key = name("k", 5, 6);
    entry.facts.provider = name("p", 6, 2);
    entry.settlement.model = name("m", 7, 4);
    entry.facts.tags = BTreeMap::from([("team".into(), name("v", 8, 5)), ("app".into(), name("w", 9, 2))]);
    // What a correction is counted by.
    entry.facts.requested_model = entry.settlement.model.clone();
    entry
}

fn dimensions() -> Vec<Option<Dimension>> {
    let all = [
        Dimension::Model,
        Dimension::Provider,
        Dimension::Key,
        Dimension::Agent,
        Dimension::Session,
        Dimension::User,
        Dimension::Task,
        Dimension::Tenant,
        Dimension::Tag("team".into()),
        Dimension::Tag("app".into()),
    ];
    std::iter::once(None).chain(all.map(Some)).collect()
}

fn named(by: Option<&Dimension>, facts: &Facts) -> String {
    let mut row = SummaryRow::default();
    match by.cloned() {
        None => {}
        Some(Dimension::Model) => {
            (row.provider, row.model) = (facts.provider.clone(), facts.requested_model.clone());
        }
        Some(Dimension::Provider) => row.provider = facts.provider.clone(),
        Some(Dimension::Key) => row.key = facts.key.clone(),
        Some(Dimension::Agent) => row.agent = facts.agent.clone(),
        Some(Dimension::Session) => (row.agent, row.session) = (facts.agent.clone(), facts.session.clone()),
        Some(Dimension::User) => row.user = facts.user.clone(),
        Some(Dimension::Task) => row.task = facts.task.clone(),
        Some(Dimension::Tenant) => row.tenant = facts.tenant.clone(),
        Some(Dimension::Tag(tag)) => row.tag = facts.tags[&tag].clone(),
    }
    called(&row)
}

fn sums_of(rows: impl IntoIterator<Item = (i64, SummaryRow)>) -> Sums {
    let totals = |row: &SummaryRow| Totals {
        requests: row.requests,
        errors: row.errors,
        status_429: row.status_429,
        status_5xx: row.status_5xx,
        estimated: row.estimated,
        duration_ms: row.duration_ms,
        usage: row.usage,
        cost: row.cost,
        held: row.held,
        overage: row.overage,
        first_ms: row.first_ms,
        last_ms: row.last_ms,
    };
    let mut sums = Sums::new();
    for (at_ms, row) in rows {
        let known = sums.insert((at_ms, called(&row)), totals(&row));
        assert_eq!(known, None, "each name once a period");
    }
    sums
}

fn is_in(query: &SeriesQuery, grain: Grain, at_ms: i64) -> bool {
    (floor(query.from_ms, grain.ms())..query.to_ms).contains(&floor(at_ms, grain.ms()))
}

/// The sums of a query by every entry.
fn of_entries(counted: &[Counted], query: &SeriesQuery) -> Sums {
    let mut sums = Sums::new();
    for Counted { facts, totals, grain } in counted {
        if is_in(query, *grain, facts.at_ms) && query.tenant.as_ref().is_none_or(|tenant| facts.tenant == *tenant) {
            let period = floor(floor(facts.at_ms, grain.ms()), query.step_ms);
            sums.entry((period, named(query.by.as_ref(), facts)))
                .or_default()
                .add(totals);
        }
    }
    sums
}

/// The sums of a query by every row that is stored.
fn of_stored(rollups: &Rollups, query: &SeriesQuery) -> Sums {
    let (axis, tag) = match &query.by {
        None | Some(Dimension::Key | Dimension::Tenant) => (Axis::Key, None),
        Some(Dimension::Model | Dimension::Provider) => (Axis::Model, None),
        Some(Dimension::Agent | Dimension::Session) => (Axis::Session, None),
        Some(Dimension::User) => (Axis::User, None),
        Some(Dimension::Task) => (Axis::Task, None),
        Some(Dimension::Tag(tag)) => (Axis::Tag, Some(tag)),
    };
    let mut sums = Sums::new();
    for grain in Grain::ALL {
        for (bucket_ms, bucket) in &rollups.level(grain).buckets {
            for (_, row) in bucket.stored().filter(|(known, _)| *known == axis) {
                let [tenant, first, second] =
                    [row.key.tenant, row.key.first, row.key.second].map(|place| rollups.names.name(place));
                let is_wanted = is_in(query, grain, *bucket_ms)
                    && query.tenant.as_ref().is_none_or(|wanted| tenant == *wanted)
                    && tag.is_none_or(|tag| first == *tag);
                if is_wanted {
                    let facts = Facts {
                        tenant,
                        provider: first.clone(),
                        requested_model: second.clone(),
                        key: first.clone(),
                        agent: first.clone(),
                        session: second.clone(),
                        user: first.clone(),
                        task: first.clone(),
                        tags: BTreeMap::from([(first, second)]),
                        ..entry(*bucket_ms, "", "", 0, 200).facts
                    };
                    let name = named(query.by.as_ref(), &facts);
                    let period = floor(*bucket_ms, query.step_ms);
                    sums.entry((period, name)).or_default().add(&row.totals());
                }
            }
        }
    }
    sums
}

fn in_one_period(sums: &Sums) -> Sums {
    let mut all = Sums::new();
    for ((_, name), totals) in sums {
        all.entry((0, name.clone())).or_default().add(totals);
    }
    all
}

/// The sums, and beside them everything that was ever counted.
struct Both {
    rollups: Rollups,
    counted: Vec<Counted>,
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Both {
    fn note(&mut self, facts: Facts, totals: Totals) {
        let (minutes_ms, hours_ms) = self.rollups.floors_ms();
        let grain = match facts.at_ms {
            at_ms if at_ms >= minutes_ms => Grain::Minute,
            at_ms if at_ms >= hours_ms => Grain::Hour,
            _ => Grain::Day,
        };
        self.counted.push(Counted { facts, totals, grain });
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Add { ago_ms, seed } => {
                let entry = picked(NOW_MS - ago_ms, seed);
                self.note(entry.facts.clone(), Totals::of(&entry));
                self.rollups.add(&entry);
            }
            Step::Adjust { place, nanos } => {
                if self.counted.is_empty() {
                    return;
                }
                let facts = self.counted[place % self.counted.len()].facts.clone();
                let cost = Usd::from_nanos(nanos);
                self.rollups.adjust(&facts, &facts.requested_model, cost);
                self.note(
                    facts,
                    Totals {
                        cost,
                        ..Totals::default()
                    },
                );
            }
            Step::Merge => self.merge(),
            Step::StoreAndLoad => self.store_and_load(),
        }
    }

    fn merge(&mut self) {
        self.rollups.merge(NOW_MS);
        let (minutes_ms, hours_ms) = self.rollups.floors_ms();
        for one in &mut self.counted {
            if one.grain == Grain::Minute && one.facts.at_ms < minutes_ms {
                one.grain = Grain::Hour;
            }
            if one.grain == Grain::Hour && one.facts.at_ms < hours_ms {
                one.grain = Grain::Day;
            }
        }
        if let Some(kept_ms) = self.rollups.retention.days_kept_ms {
            let from_ms = floor(NOW_MS - kept_ms, DAY_MS);
            self.counted
                .retain(|one| one.grain != Grain::Day || one.facts.at_ms >= from_ms);
        }
    }

    fn store_and_load(&mut self) {
        for (key, value) in self.rollups.changes() {
            match value {
                Some(value) => self.stored.insert(key, value),
                None => self.stored.remove(&key),
            };
        }
        let mut again = Rollups::new(self.rollups.retention);
        for (key, value) in &self.stored {
            again.load(key, value).unwrap();
        }
        again.set_floors_ms(self.rollups.floors_ms());
        for (level, before) in [
            (&again.minutes, &self.rollups.minutes),
            (&again.hours, &self.rollups.hours),
            (&again.days, &self.rollups.days),
        ] {
            assert_eq!(level.rows, before.rows);
            assert_eq!(
                level.rows,
                level.buckets.values().map(Bucket::stored_count).sum::<usize>()
            );
        }
        self.rollups = again;
    }

    fn check(&self, query: &SeriesQuery, are_names_whole: bool) {
        let found = sums_of(self.rollups.sums_over_time(query));
        assert_eq!(found, of_stored(&self.rollups, query), "{query:?}");
        let entries = of_entries(&self.counted, query);
        if are_names_whole {
            assert_eq!(found, entries, "{query:?}");
        } else if query.tenant.is_none() {
            // Names may be `other` by now: their sum is exact all the same.
            let nameless = |sums: &Sums| {
                let mut all = BTreeMap::<i64, Totals>::new();
                for ((at_ms, _), totals) in sums {
                    all.entry(*at_ms).or_default().add(totals);
                }
                all
            };
            // A tag may be none that is told apart.
            if !matches!(query.by, Some(Dimension::Tag(_))) {
                assert_eq!(nameless(&found), nameless(&entries), "{query:?}");
            }
        }
        if let Some(by) = query.by.clone() {
            let query = SummaryQuery {
                from_ms: query.from_ms,
                to_ms: query.to_ms,
                by,
                tenant: query.tenant.clone(),
            };
            let rows = self.rollups.summary(&query);
            assert!(rows.is_sorted_by_key(|row| std::cmp::Reverse(row.cost)));
            assert_eq!(
                sums_of(rows.into_iter().map(|row| (0, row))),
                in_one_period(&found),
                "{query:?}"
            );
        } else {
            let points = self
                .rollups
                .series(query.from_ms, query.to_ms, query.step_ms, query.tenant.as_ref());
            let points: Vec<(i64, Totals)> = points.iter().map(|point| (point.at_ms, point.totals)).collect();
            let found: Vec<(i64, Totals)> = found.iter().map(|((at_ms, _), totals)| (*at_ms, *totals)).collect();
            assert_eq!(points, found);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_query_gives_what_a_plain_recount_gives(
        retention in retention(),
        rounds in prop::collection::vec((prop::collection::vec(step(), 1..80), range(), 0usize..4), 1..5),
    ) {
        // Days are not thinned and names not folded where the limits are the shipped ones.
        let are_names_whole = retention.day_rows_max == Retention::default().day_rows_max;
        let mut both = Both { rollups: Rollups::new(retention), counted: Vec::new(), stored: BTreeMap::new() };
        for (steps, (from_ms, to_ms), tenant) in rounds {
            steps.into_iter().for_each(|step| both.take(step));
            let tenant = (tenant < 3).then(|| Name::from(format!("t{tenant}")));
            for by in dimensions() {
                for step_ms in [HOUR_MS, 7 * DAY_MS] {
                    let tenant = tenant.clone();
                    both.check(&SeriesQuery { from_ms, to_ms, step_ms, by: by.clone(), tenant }, are_names_whole);
                }
            }
        }
    }
}
