//! Sums of entries by tenant and one dimension, in minutes, hours and days, so that no cost query scans the journal.
//!
//! Every entry is counted in exactly one bucket an axis: in its minute while minutes are kept, then, as the minutes are
//! merged, in its hour, then in its day. A query adds up the buckets of its range and so never counts twice. Entries
//! belong to the moment their request began.
//!
//! Clients make names up. Of each kind so many distinct ones are told apart a day (`names_per_kind_max`); what further ones
//! bring is counted on the name `other` of that kind, so sums stay exact and a day's rows are bounded. Where all days together
//! have more rows than `day_rows_max`, the oldest days keep their dearest names alone.

mod bucket;
mod names;
mod packed;
mod past;
mod queries;
#[cfg(test)]
mod recount;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod thin;
mod totals;
mod types;

use std::collections::BTreeMap;

use self::bucket::Bucket;
use self::names::{KnownDays, Names, RowNames, admit};
pub use self::past::Spent;
#[cfg(test)]
use self::queries::SUMMARY_ROWS_MAX;
use self::rows::{Address, Axis, Grain, RowKey, model_of, parse_key, stored_key};
pub use self::totals::Totals;
pub use self::types::{Dimension, Filter, Point, Retention, SeriesQuery, Stretch, SummaryQuery, SummaryRow};
use crate::entry::{Entry, Facts, Name};
use crate::journal::bytes::Reader;
use crate::money::Usd;

pub const MINUTE_MS: i64 = 60_000;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
pub const DAY_MS: i64 = 24 * HOUR_MS;

fn floor(at_ms: i64, grain_ms: i64) -> i64 {
    at_ms.div_euclid(grain_ms).saturating_mul(grain_ms)
}

/// The kinds whose names are counted together past the limit, in the order of [`Rollups::folded`].
pub const FOLDED_KINDS: [&str; 6] = ["model", "key", "session", "user", "tag", "task"];

#[derive(Debug)]
struct Level {
    grain: Grain,
    buckets: BTreeMap<i64, Bucket>,
    /// Rows of all buckets, without those that are made of others.
    rows: usize,
}

impl Level {
    fn new(grain: Grain) -> Level {
        Level {
            grain,
            buckets: BTreeMap::new(),
            rows: 0,
        }
    }

    fn add(&mut self, bucket_ms: i64, axis: Axis, key: RowKey, totals: &Totals, is_saved: bool) {
        let bucket = self.buckets.entry(bucket_ms);
        let bucket = bucket.or_insert_with(|| Bucket::new(self.grain));
        self.rows += usize::from(bucket.add(axis, key, totals, is_saved));
    }

    /// Takes the oldest bucket out where it begins before a moment.
    fn take_before(&mut self, before_ms: i64) -> Option<(i64, Bucket)> {
        let oldest = self.buckets.first_entry()?;
        if *oldest.key() >= before_ms {
            return None;
        }
        let (bucket_ms, bucket) = oldest.remove_entry();
        self.rows -= bucket.stored_count();
        Some((bucket_ms, bucket))
    }
}

/// All sums.
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
    /// Rows that went since they were last written down. Which ones have changed their tables know.
    gone: Vec<Address>,
    names: Names,
    known: KnownDays,
    folded: [u64; FOLDED_KINDS.len()],
    /// Days before have lost all names they can.
    thinned_to_ms: i64,
}

impl Rollups {
    pub fn new(retention: Retention) -> Rollups {
        Rollups {
            retention,
            minutes: Level::new(Grain::Minute),
            hours: Level::new(Grain::Hour),
            days: Level::new(Grain::Day),
            minutes_from_ms: 0,
            hours_from_ms: 0,
            gone: Vec::new(),
            names: Names::default(),
            known: KnownDays::default(),
            folded: Default::default(),
            thinned_to_ms: i64::MIN,
        }
    }

    /// How many entries' names were counted on `other`, by [`FOLDED_KINDS`].
    pub fn folded(&self) -> [u64; FOLDED_KINDS.len()] {
        self.folded
    }

    /// Counts an entry.
    pub fn add(&mut self, entry: &Entry) {
        let totals = Totals::of(entry);
        self.add_by_model(entry, &totals);
        self.add_by_the_rest(&entry.facts, &totals);
    }

    /// Adds what an entry was corrected by to the sums it is in.
    pub fn adjust(&mut self, facts: &Facts, model: &Name, delta: Usd) {
        let totals = Totals {
            cost: delta,
            ..Totals::default()
        };
        self.put(facts, Axis::Model, &facts.provider, model, &totals);
        self.add_by_the_rest(facts, &totals);
    }

    fn add_by_model(&mut self, entry: &Entry, totals: &Totals) {
        let facts = &entry.facts;
        if entry.settlement.parts.is_empty() {
            return self.put(facts, Axis::Model, &facts.provider, model_of(entry), totals);
        }
        for (model, totals) in Totals::by_model(entry) {
            self.put(facts, Axis::Model, &facts.provider, &model, &totals);
        }
    }

    fn add_by_the_rest(&mut self, facts: &Facts, totals: &Totals) {
        let none = Name::default();
        self.put(facts, Axis::Key, &facts.key, &none, totals);
        self.put(facts, Axis::Session, &facts.agent, &facts.session, totals);
        self.put(facts, Axis::User, &facts.user, &none, totals);
        self.put(facts, Axis::Task, &facts.task, &none, totals);
        for (tag, value) in &facts.tags {
            self.put(facts, Axis::Tag, tag, value, totals);
        }
    }

    fn put(&mut self, facts: &Facts, axis: Axis, first: &Name, second: &Name, totals: &Totals) {
        let at_ms = facts.at_ms;
        let day_ms = floor(at_ms, DAY_MS);
        let levels = [&self.minutes, &self.hours, &self.days];
        let day = self.known.day(day_ms, |day| {
            let buckets = levels
                .into_iter()
                .flat_map(|level| level.buckets.range(day_ms..day_ms.saturating_add(DAY_MS)));
            buckets
                .flat_map(|(_, bucket)| bucket.stored())
                .for_each(|(axis, row)| day.take_in(axis, &row.key));
        });
        let row = RowNames {
            tenant: &facts.tenant,
            axis,
            first,
            second,
        };
        let (key, is_folded) = admit(&mut self.names, day, row, self.retention.names_per_kind_max);
        if is_folded {
            self.note_folded(axis);
        }
        let grain = if at_ms >= self.minutes_from_ms {
            Grain::Minute
        } else if at_ms >= self.hours_from_ms {
            Grain::Hour
        } else {
            Grain::Day
        };
        self.put_at(grain, floor(at_ms, grain.ms()), axis, key, totals);
    }

    fn note_folded(&mut self, axis: Axis) {
        let kind = axis as usize;
        let Some(count) = self.folded.get_mut(kind) else { return };
        *count += 1;
        if *count == 1 {
            let kind = FOLDED_KINDS.get(kind).copied().unwrap_or_default();
            tracing::warn!(
                kind,
                limit = self.retention.names_per_kind_max,
                "more distinct names in a day than limits.names_per_kind_max: the cost sums count further ones on `other`"
            );
        }
    }

    fn put_at(&mut self, grain: Grain, bucket_ms: i64, axis: Axis, key: RowKey, totals: &Totals) {
        self.level_mut(grain).add(bucket_ms, axis, key, totals, false);
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
            day_rows_max,
            days_kept_ms,
            ..
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
            // Hour by hour: where one day alone has more rows than are kept, its last hours still show.
            hours_from_ms = hours_from_ms.max(self.oldest_ms(Grain::Hour)).saturating_add(HOUR_MS);
            hours_from_ms = floor(hours_from_ms, HOUR_MS);
            self.merge_before(Grain::Hour, hours_from_ms);
        }
        self.hours_from_ms = hours_from_ms;
        // An entry is counted by hour at least wherever it is counted by minute.
        self.minutes_from_ms = self.minutes_from_ms.max(self.hours_from_ms);
        self.merge_before(Grain::Minute, self.minutes_from_ms);
        if let Some(kept_ms) = days_kept_ms {
            self.forget_days_before(floor(now_ms.saturating_sub(kept_ms), DAY_MS));
        }
        self.thin(now_ms, day_rows_max);
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
        while let Some((bucket_ms, bucket)) = self.level_mut(grain).take_before(before_ms) {
            let coarser_ms = floor(bucket_ms, coarser.ms());
            for (axis, row) in bucket.stored() {
                self.gone.push((grain, bucket_ms, axis, row.key));
                self.put_at(coarser, coarser_ms, axis, row.key, &row.totals());
            }
        }
    }

    fn forget_days_before(&mut self, before_ms: i64) {
        while let Some((bucket_ms, bucket)) = self.days.take_before(before_ms) {
            let rows = bucket.stored();
            self.gone
                .extend(rows.map(|(axis, row)| (Grain::Day, bucket_ms, axis, row.key)));
            self.forget_names();
        }
    }

    /// The rows that have changed since `saved`: key and value, or no value where the row is gone. One that came back may be
    /// given twice, the same.
    pub fn changes(&self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
        let gone = self.gone.iter().map(|address| {
            let (grain, bucket_ms, axis, key) = *address;
            let bucket = self.level(grain).buckets.get(&bucket_ms);
            (*address, bucket.and_then(|bucket| bucket.get(axis, &key)))
        });
        let changed = Grain::ALL.into_iter().flat_map(|grain| {
            let buckets = self.level(grain).buckets.iter();
            buckets.flat_map(move |(bucket_ms, bucket)| {
                let rows = bucket.changed();
                rows.map(move |(axis, row)| ((grain, *bucket_ms, axis, row.key), Some(row)))
            })
        });
        gone.chain(changed).map(|(address, row)| {
            let value = row.map(|row| {
                let mut value = Vec::with_capacity(48);
                row.totals().put(&mut value);
                value
            });
            (stored_key(&self.names, address), value)
        })
    }

    /// They are on disk.
    pub fn saved(&mut self) {
        self.gone = Vec::new();
        for level in [&mut self.minutes, &mut self.hours, &mut self.days] {
            level.buckets.values_mut().for_each(Bucket::saved);
        }
    }

    /// The state beside the rows that a checkpoint needs: from when on minutes and hours are kept.
    pub fn floors_ms(&self) -> (i64, i64) {
        (self.minutes_from_ms, self.hours_from_ms)
    }

    pub fn set_floors_ms(&mut self, (minutes_from_ms, hours_from_ms): (i64, i64)) {
        (self.minutes_from_ms, self.hours_from_ms) = (minutes_from_ms, hours_from_ms);
    }

    /// Takes back a row that `changes` gave; `None` for bytes that are none.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (grain, bucket_ms, axis, key) = parse_key(key, &mut self.names)?;
        let totals = Totals::take(&mut Reader::new(value))?;
        self.level_mut(grain).add(bucket_ms, axis, key, &totals, true);
        Some(())
    }
}
