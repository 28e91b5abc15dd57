//! Sums of entries by tenant and one dimension, in minutes, hours and days, so that no cost query scans the journal.
//!
//! Every entry is counted in exactly one bucket an axis: in its minute while minutes are kept, then, as the minutes are
//! merged, in its hour, then in its day. A query adds up the buckets of its range and so never counts twice. Entries
//! belong to the moment their request began.

mod rows;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::BTreeMap;

pub use self::rows::Names;
use self::rows::{Address, Axis, Grain, RowKey, model_of, parse_key, row, stored_key};
pub use self::totals::Totals;
use crate::entry::{Entry, Facts, Name};
use crate::journal::bytes::Reader;
use crate::map::{Map, Set};
use crate::money::Usd;
use crate::usage::Usage;

pub const MINUTE_MS: i64 = 60_000;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// What sums are asked by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// With its provider.
    Model,
    Provider,
    Key,
    Agent,
    /// With its agent.
    Session,
    User,
    Task,
    Tenant,
    /// The values of one tag.
    Tag(Name),
}

/// How long sums stay as fine as they were made, and how many of them at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub minutes_kept_ms: i64,
    pub hours_kept_ms: i64,
    /// More rows than this are merged before their time, the oldest first. Days are only bounded by `days_kept_ms`.
    pub minute_rows_max: usize,
    pub hour_rows_max: usize,
    /// `None`: for ever.
    pub days_kept_ms: Option<i64>,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            minutes_kept_ms: 26 * HOUR_MS,
            hours_kept_ms: 32 * DAY_MS,
            minute_rows_max: 65_536,
            hour_rows_max: 131_072,
            days_kept_ms: None,
        }
    }
}

/// Sums that are asked for. An entry counts whose request began in `from_ms..to_ms`, to the grain that is still kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryQuery {
    pub from_ms: i64,
    pub to_ms: i64,
    pub by: Dimension,
    /// `None`: all tenants together.
    pub tenant: Option<Name>,
}

/// Sums for one value of the dimension; names that the dimension does not bear are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SummaryRow {
    pub provider: Name,
    pub model: Name,
    pub key: Name,
    pub agent: Name,
    pub session: Name,
    pub user: Name,
    pub task: Name,
    pub tenant: Name,
    /// The tag's value.
    pub tag: Name,
    pub requests: u64,
    pub errors: u64,
    pub status_429: u64,
    pub status_5xx: u64,
    pub estimated: u64,
    pub duration_ms: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub usage: Usage,
    pub cost: Usd,
    pub held: Usd,
    pub overage: Usd,
    pub first_ms: i64,
    pub last_ms: i64,
}

/// Sums over one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub at_ms: i64,
    pub totals: Totals,
}

fn floor(at_ms: i64, grain_ms: i64) -> i64 {
    at_ms.div_euclid(grain_ms).saturating_mul(grain_ms)
}

#[derive(Debug, Default)]
struct Level {
    buckets: BTreeMap<i64, Map<RowKey, Totals>>,
    rows: usize,
}

/// All sums, and which of them have changed since they were last written down.
#[derive(Debug)]
pub struct Rollups {
    retention: Retention,
    minutes: Level,
    hours: Level,
    days: Level,
    /// Entries from here on are counted by minute; a multiple of an hour.
    minutes_from_ms: i64,
    /// Entries from here on are counted by hour at least; a multiple of a day.
    hours_from_ms: i64,
    dirty: Set<Address>,
}

impl Rollups {
    pub fn new(retention: Retention) -> Rollups {
        Rollups {
            retention,
            minutes: Level::default(),
            hours: Level::default(),
            days: Level::default(),
            minutes_from_ms: 0,
            hours_from_ms: 0,
            dirty: Set::default(),
        }
    }

    /// Counts an entry.
    pub fn add(&mut self, entry: &Entry) {
        let totals = Totals::of(entry);
        self.add_by_model(entry, totals);
        self.add_by_the_rest(&entry.facts, &totals);
    }

    /// Adds what an entry was corrected by to the sums it is in.
    pub fn adjust(&mut self, facts: &Facts, model: &Name, delta: Usd) {
        let totals = Totals {
            cost: delta,
            ..Totals::default()
        };
        self.put(facts.at_ms, row(facts, Axis::Model, &facts.provider, model), &totals);
        self.add_by_the_rest(facts, &totals);
    }

    /// An answer that billed several models counts as one request, of the model it names, and each part where it was used.
    fn add_by_model(&mut self, entry: &Entry, totals: Totals) {
        let facts = &entry.facts;
        let parts = &entry.settlement.parts;
        let own = if parts.is_empty() {
            totals
        } else {
            Totals {
                usage: Usage::default(),
                cost: Usd::ZERO,
                ..totals
            }
        };
        self.put(
            facts.at_ms,
            row(facts, Axis::Model, &facts.provider, model_of(entry)),
            &own,
        );
        for part in parts {
            let times = Totals {
                first_ms: facts.at_ms,
                last_ms: facts.at_ms,
                ..Totals::default()
            };
            let totals = Totals {
                usage: part.usage,
                cost: part.cost,
                ..times
            };
            self.put(
                facts.at_ms,
                row(facts, Axis::Model, &facts.provider, &part.model),
                &totals,
            );
        }
    }

    fn add_by_the_rest(&mut self, facts: &Facts, totals: &Totals) {
        let none: Name = Name::from("");
        self.put(facts.at_ms, row(facts, Axis::Key, &facts.key, &none), totals);
        self.put(
            facts.at_ms,
            row(facts, Axis::Session, &facts.agent, &facts.session),
            totals,
        );
        self.put(facts.at_ms, row(facts, Axis::User, &facts.user, &none), totals);
        self.put(facts.at_ms, row(facts, Axis::Task, &facts.task, &none), totals);
        for (tag, value) in &facts.tags {
            self.put(facts.at_ms, row(facts, Axis::Tag, tag, value), totals);
        }
    }

    fn put(&mut self, at_ms: i64, key: RowKey, totals: &Totals) {
        let grain = if at_ms >= self.minutes_from_ms {
            Grain::Minute
        } else if at_ms >= self.hours_from_ms {
            Grain::Hour
        } else {
            Grain::Day
        };
        self.put_at(grain, floor(at_ms, grain.ms()), key, totals);
    }

    fn put_at(&mut self, grain: Grain, bucket_ms: i64, key: RowKey, totals: &Totals) {
        let level = self.level_mut(grain);
        let bucket = level.buckets.entry(bucket_ms).or_default();
        match bucket.get_mut(&key) {
            Some(row) => row.add(totals),
            None => {
                bucket.insert(key.clone(), *totals);
                level.rows += 1;
            }
        }
        self.dirty.insert((grain, bucket_ms, key));
    }

    fn level(&self, grain: Grain) -> &Level {
        match grain {
            Grain::Minute => &self.minutes,
            Grain::Hour => &self.hours,
            Grain::Day => &self.days,
        }
    }

    fn level_mut(&mut self, grain: Grain) -> &mut Level {
        match grain {
            Grain::Minute => &mut self.minutes,
            Grain::Hour => &mut self.hours,
            Grain::Day => &mut self.days,
        }
    }

    /// Merges what has grown old or too much into coarser sums. To be called now and then.
    pub fn merge(&mut self, now_ms: i64) {
        let Retention {
            minutes_kept_ms,
            hours_kept_ms,
            minute_rows_max,
            hour_rows_max,
            days_kept_ms,
        } = self.retention;
        let mut minutes_from_ms = floor(now_ms.saturating_sub(minutes_kept_ms), HOUR_MS).max(self.minutes_from_ms);
        self.merge_before(Grain::Minute, minutes_from_ms);
        while self.minutes.rows > minute_rows_max {
            minutes_from_ms = minutes_from_ms
                .max(self.oldest_ms(Grain::Minute))
                .saturating_add(HOUR_MS);
            minutes_from_ms = floor(minutes_from_ms, HOUR_MS);
            self.merge_before(Grain::Minute, minutes_from_ms);
        }
        self.minutes_from_ms = minutes_from_ms;
        let mut hours_from_ms = floor(now_ms.saturating_sub(hours_kept_ms), DAY_MS).max(self.hours_from_ms);
        self.merge_before(Grain::Hour, hours_from_ms);
        while self.hours.rows > hour_rows_max {
            hours_from_ms = hours_from_ms.max(self.oldest_ms(Grain::Hour)).saturating_add(DAY_MS);
            hours_from_ms = floor(hours_from_ms, DAY_MS);
            self.merge_before(Grain::Hour, hours_from_ms);
        }
        self.hours_from_ms = hours_from_ms;
        // An entry is counted by hour at least wherever it is counted by minute.
        self.minutes_from_ms = self.minutes_from_ms.max(self.hours_from_ms);
        self.merge_before(Grain::Minute, self.minutes_from_ms);
        if let Some(kept_ms) = days_kept_ms {
            self.forget_days_before(floor(now_ms.saturating_sub(kept_ms), DAY_MS));
        }
    }

    fn oldest_ms(&self, grain: Grain) -> i64 {
        self.level(grain).buckets.keys().next().copied().unwrap_or(i64::MIN)
    }

    fn merge_before(&mut self, grain: Grain, before_ms: i64) {
        let coarser = if grain == Grain::Minute {
            Grain::Hour
        } else {
            Grain::Day
        };
        loop {
            let level = self.level_mut(grain);
            let Some(bucket) = level.buckets.first_entry().filter(|bucket| *bucket.key() < before_ms) else {
                return;
            };
            let (bucket_ms, rows) = bucket.remove_entry();
            level.rows -= rows.len();
            for (key, totals) in rows {
                self.dirty.insert((grain, bucket_ms, key.clone()));
                self.put_at(coarser, floor(bucket_ms, coarser.ms()), key, &totals);
            }
        }
    }

    fn forget_days_before(&mut self, before_ms: i64) {
        while let Some(bucket) = self
            .days
            .buckets
            .first_entry()
            .filter(|bucket| *bucket.key() < before_ms)
        {
            let (bucket_ms, rows) = bucket.remove_entry();
            self.days.rows -= rows.len();
            self.dirty
                .extend(rows.into_keys().map(|key| (Grain::Day, bucket_ms, key)));
        }
    }

    /// Sums by one dimension, dearest first.
    pub fn summary(&self, query: &SummaryQuery) -> Vec<SummaryRow> {
        let mut sums: Map<(&str, &str), (RowKey, Totals)> = Map::default();
        for (_, key, totals) in self.rows_in(query.from_ms, query.to_ms, query.tenant.as_ref()) {
            let name = match (&query.by, key.axis) {
                (Dimension::Model, Axis::Model) | (Dimension::Session, Axis::Session) => (&*key.first, &*key.second),
                (Dimension::Provider, Axis::Model)
                | (Dimension::Key, Axis::Key)
                | (Dimension::Agent, Axis::Session)
                | (Dimension::User, Axis::User)
                | (Dimension::Task, Axis::Task) => (&*key.first, ""),
                // Every row bears its tenant; one axis that counts each entry once is enough.
                (Dimension::Tenant, Axis::Key) => (&*key.tenant, ""),
                (Dimension::Tag(tag), Axis::Tag) if *tag == key.first => ("", &*key.second),
                _ => continue,
            };
            sums.entry(name)
                .or_insert_with(|| (key.clone(), Totals::default()))
                .1
                .add(totals);
        }
        let mut rows: Vec<SummaryRow> = sums
            .into_values()
            .map(|(key, totals)| summary_row(&query.by, key, &totals))
            .collect();
        rows.sort_by(|a, b| b.cost.cmp(&a.cost).then_with(|| names(a).cmp(&names(b))));
        rows
    }

    /// Sums by stretches of `step_ms`, of minutes, hours or days; stretches without entries are left out. A step finer than
    /// what is still kept shows what is kept at its beginning.
    pub fn series(&self, from_ms: i64, to_ms: i64, step_ms: i64, tenant: Option<&Name>) -> Vec<Point> {
        let step_ms = step_ms.max(MINUTE_MS);
        let mut points: BTreeMap<i64, Totals> = BTreeMap::new();
        for (bucket_ms, key, totals) in self.rows_in(from_ms, to_ms, tenant) {
            if key.axis == Axis::Key {
                points.entry(floor(bucket_ms, step_ms)).or_default().add(totals);
            }
        }
        points
            .into_iter()
            .map(|(at_ms, totals)| Point { at_ms, totals })
            .collect()
    }

    fn rows_in<'a>(
        &'a self,
        from_ms: i64,
        to_ms: i64,
        tenant: Option<&'a Name>,
    ) -> impl Iterator<Item = (i64, &'a RowKey, &'a Totals)> {
        Grain::ALL.into_iter().flat_map(move |grain| {
            let from_ms = floor(from_ms, grain.ms());
            let buckets = (from_ms < to_ms).then(|| self.level(grain).buckets.range(from_ms..to_ms));
            buckets.into_iter().flatten().flat_map(move |(bucket_ms, rows)| {
                let rows = rows
                    .iter()
                    .filter(move |(key, _)| tenant.is_none_or(|tenant| *tenant == key.tenant));
                rows.map(move |(key, totals)| (*bucket_ms, key, totals))
            })
        })
    }

    /// The rows that have changed since `saved`: key and value, or no value where the row is gone.
    pub fn changes(&self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
        self.dirty.iter().map(|(grain, bucket_ms, key)| {
            let rows = self.level(*grain).buckets.get(bucket_ms);
            let totals = rows.and_then(|rows| rows.get(key));
            let value = totals.map(|totals| {
                let mut value = Vec::with_capacity(48);
                totals.put(&mut value);
                value
            });
            (stored_key(*grain, *bucket_ms, key), value)
        })
    }

    /// They are on disk.
    pub fn saved(&mut self) {
        self.dirty = Set::default();
    }

    /// The state beside the rows that a checkpoint needs: from when on minutes and hours are kept.
    pub fn floors_ms(&self) -> (i64, i64) {
        (self.minutes_from_ms, self.hours_from_ms)
    }

    pub fn set_floors_ms(&mut self, (minutes_from_ms, hours_from_ms): (i64, i64)) {
        (self.minutes_from_ms, self.hours_from_ms) = (minutes_from_ms, hours_from_ms);
    }

    /// Takes back a row that `take_changes` gave; `None` for bytes that are none.
    pub fn load(&mut self, key: &[u8], value: &[u8], names: &mut Names) -> Option<()> {
        let (grain, bucket_ms, key) = parse_key(key, names)?;
        let totals = Totals::take(&mut Reader::new(value))?;
        let level = self.level_mut(grain);
        if level
            .buckets
            .entry(bucket_ms)
            .or_default()
            .insert(key, totals)
            .is_none()
        {
            level.rows += 1;
        }
        Some(())
    }
}

fn names(row: &SummaryRow) -> [&str; 9] {
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
}

fn summary_row(by: &Dimension, key: RowKey, totals: &Totals) -> SummaryRow {
    let RowKey {
        tenant, first, second, ..
    } = key;
    let mut row = SummaryRow {
        requests: totals.requests,
        errors: totals.errors,
        status_429: totals.status_429,
        status_5xx: totals.status_5xx,
        estimated: totals.estimated,
        duration_ms: totals.duration_ms,
        input_tokens: totals.usage.input_tokens(),
        output_tokens: totals.usage.output_tokens(),
        usage: totals.usage,
        cost: totals.cost,
        held: totals.held,
        overage: totals.overage,
        first_ms: totals.first_ms,
        last_ms: totals.last_ms,
        ..SummaryRow::default()
    };
    match by {
        Dimension::Model => (row.provider, row.model) = (first, second),
        Dimension::Provider => row.provider = first,
        Dimension::Key => row.key = first,
        Dimension::Agent => row.agent = first,
        Dimension::Session => (row.agent, row.session) = (first, second),
        Dimension::User => row.user = first,
        Dimension::Task => row.task = first,
        Dimension::Tenant => row.tenant = tenant,
        Dimension::Tag(_) => row.tag = second,
    }
    row
}
