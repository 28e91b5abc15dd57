//! What sums cannot tell: how long requests took, and which were the dearest. Kept by the hour in which a request began, for
//! all tenants together and for each one, so that no report of either scans the journal.
//!
//! Durations are counted to the millisecond below two seconds and to a thousandth above. Of each hour the places of so many of
//! the dearest entries are kept as any report may want: what they are is read from the journal then. An adjustment changes
//! neither: these are entries as they were settled.

use std::collections::BTreeMap;

use crate::billed::EntryPlace;
use crate::entry::{Entry, Name, Outcome};
use crate::event::HoldId;
use crate::journal::bytes::{Reader, put_i64, put_text, put_u64};
use crate::map::{Map, Set};
use crate::money::Usd;
use crate::rollup::{DAY_MS, HOUR_MS};

/// What its rows begin with in the state database.
pub(crate) const ROW_PREFIX: u8 = b'p';
/// Entries of one hour that the dearest are chosen of, and of one report at most.
pub const DEAREST_MAX: usize = 100;
/// Tenants of an hour that are told apart; what further ones spend is in the hour's own row alone.
const TENANTS_MAX: usize = 256;
/// Rows in memory, some kilobytes each; past it the oldest hours go.
const ROWS_MAX: usize = 20_000;
const KEPT_MS: i64 = 32 * DAY_MS;
/// Binary digits of a duration that are kept.
const DIGITS: u32 = 11;

/// How long requests took: how many by their milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations(BTreeMap<u64, u64>);

impl Durations {
    fn add(&mut self, ms: u64, count: u64) {
        let lost = (u64::BITS - ms.leading_zeros()).saturating_sub(DIGITS);
        *self.0.entry(ms >> lost << lost).or_default() += count;
    }

    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those from `from_ms` on, and below `to_ms`.
    pub fn count_between(&self, from_ms: u64, to_ms: u64) -> u64 {
        self.0.range(from_ms..to_ms.max(from_ms)).map(|(_, count)| count).sum()
    }

    /// What so many in a thousand took at most; 0 where there are none. By the nearest rank: it is one that was measured.
    pub fn percentile_ms(&self, per_mille: u64) -> u64 {
        let wanted = self.count().saturating_mul(per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        let at = self.0.iter().find(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        at.map_or(0, |(ms, _)| *ms)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dear {
    cost: Usd,
    /// When the request began.
    at_ms: i64,
    place: EntryPlace,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Hour {
    durations: Durations,
    /// Dearest first.
    dearest: Vec<Dear>,
}

impl Hour {
    fn note(&mut self, dear: Dear) {
        // Of two that cost the same, the earlier one first.
        let at = self.dearest.partition_point(|known| known.cost >= dear.cost);
        if at < DEAREST_MAX {
            self.dearest.insert(at, dear);
            self.dearest.truncate(DEAREST_MAX);
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.durations.0.len() as u64);
        for (ms, count) in &self.durations.0 {
            put_u64(out, *ms);
            put_u64(out, *count);
        }
        for dear in &self.dearest {
            put_i64(out, dear.cost.nanos());
            put_i64(out, dear.at_ms);
            put_u64(out, dear.place.held.0);
            put_i64(out, dear.place.held_ms);
            put_u64(out, dear.place.settled);
            put_i64(out, dear.place.settled_ms);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Option<Hour> {
        let mut hour = Hour::default();
        for _ in 0..reader.u64()? {
            let ms = reader.u64()?;
            hour.durations.0.insert(ms, reader.u64()?);
        }
        while !reader.is_empty() {
            hour.dearest.push(Dear {
                cost: Usd::from_nanos(reader.i64()?),
                at_ms: reader.i64()?,
                place: EntryPlace {
                    held: HoldId(reader.u64()?),
                    held_ms: reader.i64()?,
                    settled: reader.u64()?,
                    settled_ms: reader.i64()?,
                },
            });
        }
        Some(hour)
    }
}

/// All tenants together, or one.
type Whose = Option<Name>;

#[derive(Debug, Default)]
pub(crate) struct Peaks {
    hours: BTreeMap<i64, Map<Whose, Hour>>,
    rows: usize,
    /// Rows that changed since they were last written down, gone ones too.
    dirty: Set<(i64, Whose)>,
}

fn hour_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(HOUR_MS).saturating_mul(HOUR_MS)
}

impl Peaks {
    /// Counts an entry. One that nobody saw end took no time that anybody knows.
    pub fn add(&mut self, place: EntryPlace, entry: &Entry) {
        let (facts, end) = (&entry.facts, &entry.settlement);
        let duration_ms = (end.outcome == Outcome::Completed).then_some(end.duration_ms);
        let dear = Dear {
            cost: end.cost,
            at_ms: facts.at_ms,
            place,
        };
        let hour_ms = hour_of(facts.at_ms);
        let hour = self.hours.entry(hour_ms).or_default();
        let tenant = Some(&facts.tenant).filter(|tenant| !tenant.is_empty());
        let own = tenant.filter(|tenant| hour.len() <= TENANTS_MAX || hour.contains_key(&Some(Name::clone(tenant))));
        for whose in [None].into_iter().chain(own.map(|tenant| Some(Name::clone(tenant)))) {
            let is_new = !hour.contains_key(&whose);
            self.rows += usize::from(is_new);
            let row = hour.entry(whose.clone()).or_default();
            if let Some(ms) = duration_ms {
                row.durations.add(ms, 1);
            }
            if dear.cost.nanos() > 0 {
                row.note(dear);
            }
            self.dirty.insert((hour_ms, whose));
        }
    }

    /// Forgets what is too old or too much. To be called now and then.
    pub fn forget(&mut self, now_ms: i64) {
        let oldest_ms = hour_of(now_ms.saturating_sub(KEPT_MS));
        while let Some(hour) = self.hours.first_entry() {
            if *hour.key() >= oldest_ms && self.rows <= ROWS_MAX {
                return;
            }
            let (hour_ms, rows) = hour.remove_entry();
            self.rows -= rows.len();
            self.dirty.extend(rows.into_keys().map(|whose| (hour_ms, whose)));
        }
    }

    fn rows_in(&self, from_ms: i64, to_ms: i64, whose: Whose) -> impl Iterator<Item = &Hour> {
        let from_ms = hour_of(from_ms);
        let hours = (from_ms < to_ms).then(|| self.hours.range(from_ms..to_ms));
        hours
            .into_iter()
            .flatten()
            .filter_map(move |(_, rows)| rows.get(&whose))
    }

    /// How long the requests took that began between, whole hours.
    pub fn durations(&self, from_ms: i64, to_ms: i64, tenant: Option<&Name>) -> Durations {
        let mut all = Durations::default();
        for row in self.rows_in(from_ms, to_ms, tenant.cloned()) {
            row.durations.0.iter().for_each(|(ms, count)| all.add(*ms, *count));
        }
        all
    }

    /// Whether the lists of the dearest know of every entry of `from_ms..to_ms`, the first of which began at `first_ms`: none of its
    /// hours is forgotten, and none has more tenants than are told apart.
    pub fn are_whole(&self, (from_ms, to_ms): (i64, i64), first_ms: i64, tenant: Option<&Name>) -> bool {
        let oldest_ms = self.hours.keys().next().copied().unwrap_or(i64::MAX);
        let mut hours = self.hours.range(hour_of(from_ms)..to_ms.max(hour_of(from_ms)));
        oldest_ms <= hour_of(first_ms) && (tenant.is_none() || hours.all(|(_, rows)| rows.len() <= TENANTS_MAX))
    }

    /// The dearest entries whose requests began between, dearest first.
    pub fn dearest(&self, from_ms: i64, to_ms: i64, tenant: Option<&Name>, limit: usize) -> Vec<EntryPlace> {
        let mut all = Hour::default();
        for row in self.rows_in(from_ms, to_ms, tenant.cloned()) {
            let within = row.dearest.iter().filter(|dear| (from_ms..to_ms).contains(&dear.at_ms));
            within.for_each(|dear| all.note(*dear));
        }
        all.dearest.iter().take(limit).map(|dear| dear.place).collect()
    }

    /// The rows that changed since `saved`: key and value, or no value where the row is gone.
    pub fn changes(&self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
        self.dirty.iter().map(|(hour_ms, whose)| {
            let mut key = vec![ROW_PREFIX];
            key.extend_from_slice(&hour_ms.to_be_bytes());
            if let Some(tenant) = whose {
                put_text(&mut key, tenant);
            }
            let row = self.hours.get(hour_ms).and_then(|rows| rows.get(whose));
            let value = row.map(|row| {
                let mut value = Vec::new();
                row.put(&mut value);
                value
            });
            (key, value)
        })
    }

    /// They are on disk.
    pub fn saved(&mut self) {
        self.dirty = Set::default();
    }

    /// Takes back a row that `changes` gave; `None` for bytes that are none.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let mut reader = Reader::new(key.strip_prefix(&[ROW_PREFIX])?);
        let hour_ms = i64::from_be_bytes(reader.array()?);
        let whose = match reader.is_empty() {
            true => None,
            false => Some(Name::from(reader.text()?)),
        };
        let row = Hour::take(&mut Reader::new(value))?;
        if self.hours.entry(hour_ms).or_default().insert(whose, row).is_none() {
            self.rows += 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::entry::{Facts, Settlement};

    fn place(settled: u64) -> EntryPlace {
        EntryPlace {
            held: HoldId(settled - 1),
            held_ms: 1,
            settled,
            settled_ms: 2,
        }
    }

    fn entry(at_ms: i64, tenant: &str, nanos: i64, duration_ms: u64) -> Entry {
        let none = || Name::from("");
        let settlement = Settlement::unanswered(at_ms, Outcome::Completed, 200, none(), duration_ms);
        Entry {
            facts: Facts {
                id: ulid::Ulid::nil(),
                at_ms,
                provider: none(),
                operation: none(),
                requested_model: none(),
                stream: false,
                key: none(),
                tenant: tenant.into(),
                agent: none(),
                session: none(),
                user: none(),
                task: none(),
                tags: BTreeMap::new(),
                path: none(),
                inferred: Default::default(),
            },
            settlement: Settlement {
                cost: Usd::from_nanos(nanos),
                ..settlement
            },
            held: Usd::ZERO,
            overage: Usd::ZERO,
            overage_reason: None,
            source: None,
        }
    }

    fn settled(places: &[EntryPlace]) -> Vec<u64> {
        places.iter().map(|place| place.settled).collect()
    }

    #[test]
    fn percentiles_are_of_all_and_not_of_the_fastest() {
        let mut durations = Durations::default();
        assert_eq!((durations.percentile_ms(500), durations.count()), (0, 0));
        for ms in 1..=20_000 {
            durations.add(ms, 1);
        }
        assert_eq!(durations.percentile_ms(50), 1_000);
        assert_eq!(durations.percentile_ms(990), 19_792, "19,800, to a thousandth");
        assert_eq!(durations.count_between(0, 100), 99);
        assert_eq!(durations.count_between(3_000, 10_000), 7_000);
        assert_eq!(durations.count_between(10_000, u64::MAX), 10_001);
    }

    #[test]
    fn the_dearest_of_all_hours_come_first_by_tenant() {
        let mut peaks = Peaks::default();
        for (settled, at_ms, tenant, nanos) in [
            (2, 0, "a", 50),
            (4, HOUR_MS, "b", 90),
            (6, 2 * HOUR_MS, "a", 70),
            (8, 2 * HOUR_MS, "", 60),
            (10, 2 * HOUR_MS + 5, "a", 0),
        ] {
            peaks.add(place(settled), &entry(at_ms, tenant, nanos, 10));
        }
        let all = |limit| settled(&peaks.dearest(0, 3 * HOUR_MS, None, limit));
        assert_eq!((all(10), all(2)), (vec![4, 6, 8, 2], vec![4, 6]));
        assert_eq!(settled(&peaks.dearest(0, 3 * HOUR_MS, Some(&"a".into()), 10)), [6, 2]);
        assert_eq!(
            settled(&peaks.dearest(1, HOUR_MS, None, 10)),
            [0_u64; 0],
            "to the millisecond"
        );
        assert_eq!(peaks.durations(0, 3 * HOUR_MS, Some(&"a".into())).count(), 3);
        assert_eq!(peaks.durations(HOUR_MS, 2 * HOUR_MS, None).count(), 1);
    }

    #[test]
    fn rows_read_back_as_they_were() {
        let mut peaks = Peaks::default();
        for at in 1..300_u64 {
            let tenant = if at % 2 == 0 { "a" } else { "" };
            peaks.add(place(at), &entry(at as i64 * 60_000, tenant, at as i64, at * 37));
        }
        let mut loaded = Peaks::default();
        for (key, value) in peaks.changes() {
            loaded.load(&key, &value.unwrap()).unwrap();
        }
        assert_eq!((&loaded.hours, loaded.rows), (&peaks.hours, peaks.rows));
        assert!(loaded.load(b"p1", b"").is_none());
        peaks.saved();
        assert_eq!(peaks.changes().count(), 0);
        peaks.forget(i64::MAX / 2);
        assert!(peaks.changes().all(|(_, value)| value.is_none()) && peaks.rows == 0);
    }

    #[test]
    fn memory_is_bounded_whatever_tenants_there_are() {
        let mut peaks = Peaks::default();
        for at in 0..200_000_i64 {
            let tenant = format!("tenant-{}", at % 1_000);
            peaks.add(place(2), &entry(at * 1_800, &tenant, 1, 5));
            if at % 1_000 == 0 {
                peaks.forget(at * 1_800);
            }
        }
        peaks.forget(0);
        assert!(peaks.rows <= ROWS_MAX, "{}", peaks.rows);
        assert!(peaks.hours.values().all(|rows| rows.len() <= TENANTS_MAX + 1));
    }
}
