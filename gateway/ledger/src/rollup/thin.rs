//! What all days together may take: past that the oldest lose the names that cost least.

use super::names::OTHER;
use super::rows::{Axis, Grain, RowKey};
use super::{DAY_MS, Rollups, floor};
use crate::entry::Name;
use crate::map::{Map, Set};
use crate::money::Usd;
use crate::slab::Place;

/// Names of each kind that such a day keeps.
const DEAREST_KEPT: usize = 1_000;

impl Rollups {
    /// Thins out the oldest days, the present one never, until there are no more rows than `rows_max`.
    pub(super) fn thin(&mut self, now_ms: i64, rows_max: usize) {
        let today_ms = floor(now_ms, DAY_MS);
        if self.days.rows <= rows_max || self.thinned_to_ms >= today_ms {
            return;
        }
        while self.days.rows > rows_max && self.thin_oldest_day(today_ms) {}
        self.forget_names();
    }

    /// Of the oldest day that has more, the dearest names alone are told apart from now on. False where there is none.
    fn thin_oldest_day(&mut self, before_ms: i64) -> bool {
        let mut later = self.days.buckets.range(self.thinned_to_ms..before_ms);
        let Some((day_ms, bucket)) = later.next() else {
            return false;
        };
        let day_ms = *day_ms;
        let mut by_axis: Map<Axis, Vec<(Usd, RowKey)>> = Map::default();
        for (key, sums) in bucket.stored() {
            by_axis.entry(key.axis).or_default().push((sums.totals().cost, *key));
        }
        let other = self.names.number(&Name::from(OTHER));
        for (axis, mut rows) in by_axis {
            // By name where they cost the same, so that each run keeps the same ones.
            rows.sort_by(|(one_cost, one), (cost, key)| {
                let texts = |key: &RowKey| [key.tenant, key.first, key.second].map(|place| self.names.text(place));
                cost.cmp(one_cost).then_with(|| texts(one).cmp(&texts(key)))
            });
            let kept = rows.len().min(DEAREST_KEPT);
            let firsts: Set<Place> = rows.iter().take(kept).map(|(_, key)| key.first).collect();
            for (_, key) in rows.into_iter().skip(kept) {
                let is_first_kept = axis.has_two_names() && firsts.contains(&key.first);
                let folded = RowKey {
                    first: if is_first_kept { key.first } else { other },
                    second: if axis.has_two_names() { other } else { key.second },
                    ..key
                };
                if folded != key {
                    self.move_row(day_ms, key, folded);
                }
            }
        }
        if let Some(bucket) = self.days.buckets.get_mut(&day_ms) {
            bucket.make();
        }
        self.thinned_to_ms = day_ms.saturating_add(1);
        true
    }

    fn move_row(&mut self, day_ms: i64, key: RowKey, to: RowKey) {
        let sums = self
            .days
            .buckets
            .get_mut(&day_ms)
            .and_then(|bucket| bucket.remove(&key));
        if let Some(sums) = sums {
            self.days.rows -= 1;
            self.dirty.insert((Grain::Day, day_ms, key));
            self.put_at(Grain::Day, day_ms, to, &sums.totals());
        }
    }

    /// Names that no row bears any more leave the memory.
    pub(super) fn forget_names(&mut self) {
        let levels = [&self.minutes, &self.hours, &self.days];
        let rows = levels
            .into_iter()
            .flat_map(|level| level.buckets.values())
            .flat_map(|bucket| bucket.stored().map(|(key, _)| key));
        let dirty = self.dirty.iter().map(|(.., key)| key);
        let used: Set<Place> = rows
            .chain(dirty)
            .flat_map(|key| [key.tenant, key.first, key.second])
            .collect();
        if used.len() < self.names.len() {
            self.names.retain(&used);
            // Their numbers are given anew.
            self.known.forget();
        }
    }
}
