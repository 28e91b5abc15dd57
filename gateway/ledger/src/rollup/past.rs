//! What some names spent lately, bucket by bucket: what forecasts go by. One walk over the rows of an axis, however many names are wanted.

use super::rows::Grain;
use super::totals::Totals;
use super::{Dimension, Rollups, floor};
use crate::amounts::Amounts;
use crate::map::Map;
use crate::money::Usd;
use crate::slab::Place;

/// What was spent in a stretch of time: a minute, an hour or a day, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub from_ms: i64,
    pub to_ms: i64,
    pub amounts: Amounts,
    /// The part of the money that was billed beyond holds.
    pub overage: Usd,
}

impl Rollups {
    /// By name, in their order, what each spent in `from_ms..to_ms`, to the grain `step_ms` where finer is kept. `by`: the dimension
    /// whose names they are; `None`: all together, whatever the one name is.
    pub fn past(
        &self,
        by: Option<&Dimension>,
        names: &[&str],
        (from_ms, to_ms): (i64, i64),
        step_ms: i64,
    ) -> Vec<Vec<Spent>> {
        let mut found: Vec<Vec<Spent>> = vec![Vec::new(); names.len()];
        let wanted = match by {
            None => Some(super::queries::Wanted::ALL),
            Some(by) => self.wanted(by, None),
        };
        let Some(wanted) = wanted else { return found };
        let places: Map<Place, usize> = names
            .iter()
            .enumerate()
            .filter_map(|(index, name)| Some((self.names.find(name)?, index)))
            .collect();
        let mut open: Map<(usize, i64, i64), usize> = Map::default();
        self.each_row(wanted, (from_ms, to_ms), None, |grain: Grain, bucket_ms, row| {
            let index = match wanted.name_of(&row.key) {
                Some(name) => places.get(&name).copied(),
                None => Some(0),
            };
            let Some(list) = index.and_then(|index| Some((index, found.get_mut(index)?))) else {
                return;
            };
            let (index, list) = list;
            let length_ms = grain.ms().max(step_ms);
            let from_ms = floor(bucket_ms, length_ms);
            let place = *open.entry((index, from_ms, length_ms)).or_insert_with(|| {
                list.push(Spent {
                    from_ms,
                    to_ms: from_ms + length_ms,
                    amounts: Amounts::ZERO,
                    overage: Usd::ZERO,
                });
                list.len() - 1
            });
            let mut totals = Totals::default();
            row.add_to(&mut totals);
            if let Some(spent) = list.get_mut(place) {
                spent.add(&totals);
            }
        });
        found
    }
}

impl Spent {
    fn add(&mut self, totals: &Totals) {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.amounts = Amounts {
            usd: self.amounts.usd.saturating_add(totals.cost),
            tokens: self.amounts.tokens.saturating_add(count(totals.usage.tokens())),
            requests: self.amounts.requests.saturating_add(count(totals.requests)),
        };
        self.overage = self.overage.saturating_add(totals.overage);
    }
}
