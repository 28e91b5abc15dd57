//! What all days together may take: past that the oldest lose the names that cost least.

use super::bucket::Bucket;
use super::names::OTHER;
use super::rows::{Axis, Grain, RowKey};
use super::table::RowRef;
use super::{DAY_MS, Rollups, floor};
use crate::entry::Name;
use crate::map::Set;
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
        let (day_ms, other) = (*day_ms, self.names.number(&Name::from(OTHER)));
        let mut thinned = Bucket::new(Grain::Day);
        let changed: Set<(Axis, RowKey)> = bucket.changed().map(|(axis, row)| (axis, row.key)).collect();
        for axis in Axis::STORED {
            let mut rows: Vec<RowRef<'_>> = bucket.of(axis).collect();
            // By name where they cost the same, so that each run keeps the same ones.
            rows.sort_by(|one, row| {
                let texts = |row: &RowRef<'_>| {
                    let key = row.key;
                    [key.tenant, key.first, key.second].map(|place| self.names.text(place))
                };
                row.cost.cmp(&one.cost).then_with(|| texts(one).cmp(&texts(row)))
            });
            let (kept, rest) = rows.split_at(rows.len().min(DEAREST_KEPT));
            let firsts: Set<Place> = kept.iter().map(|row| row.key.first).collect();
            for row in kept {
                let is_saved = !changed.contains(&(axis, row.key));
                thinned.add(axis, row.key, &row.totals(), is_saved);
            }
            for row in rest {
                let key = row.key;
                let is_first_kept = axis.has_two_names() && firsts.contains(&key.first);
                let folded = RowKey {
                    first: if is_first_kept { key.first } else { other },
                    second: if axis.has_two_names() { other } else { key.second },
                    ..key
                };
                let is_saved = folded == key && !changed.contains(&(axis, key));
                thinned.add(axis, folded, &row.totals(), is_saved);
                if folded != key {
                    self.gone.push((Grain::Day, day_ms, axis, key));
                }
            }
        }
        self.days.rows = self.days.rows - bucket.stored_count() + thinned.stored_count();
        self.days.buckets.insert(day_ms, thinned);
        self.thinned_to_ms = day_ms.saturating_add(1);
        true
    }

    /// Names that no row bears any more leave the memory.
    pub(super) fn forget_names(&mut self) {
        let levels = [&self.minutes, &self.hours, &self.days];
        let rows = levels
            .into_iter()
            .flat_map(|level| level.buckets.values())
            .flat_map(|bucket| bucket.stored().map(|(_, row)| row.key));
        let gone = self.gone.iter().map(|(.., key)| *key);
        let used: Set<Place> = rows
            .chain(gone)
            .flat_map(|key| [key.tenant, key.first, key.second])
            .collect();
        if used.len() < self.names.len() {
            self.names.retain(&used);
            // Their numbers are given anew.
            self.known.forget();
        }
    }
}
