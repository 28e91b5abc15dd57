//! Queries: sums by a dimension, and the same over time. Each walks over the rows of one axis twice: first for what each name
//! costs, then for all sums of the names that are told apart. Rows are read as they are packed, and names found by their number,
//! so that a walk over some hundred thousand rows takes milliseconds.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::names::OTHER;
use super::rows::{Axis, Grain, RowKey};
use super::table::RowRef;
use super::types::{Filter, Stretch};
use super::{Dimension, MINUTE_MS, Point, Rollups, SeriesQuery, SummaryQuery, SummaryRow, Totals, floor};
use crate::entry::Name;
use crate::map::Map;
use crate::money::Usd;
use crate::slab::Place;

/// Names of one summary, beside `other`.
pub const SUMMARY_ROWS_MAX: usize = 10_000;
/// Names of sums over time, beside `other`: those that cost most in all.
pub const SERIES_NAMES_MAX: usize = 1_000;

/// Which rows answer a query, and what names they are told apart by.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// The rows of minutes and hours.
    axis: Axis,
    /// The rows of days: those that are made of the others, where fewer say the same.
    of_days: Axis,
    /// Only rows with this tenant, first and second name.
    only: [Option<Place>; 3],
    /// Whether the tenant, the first and the second name tell rows apart.
    by: [bool; 3],
}

impl Wanted {
    pub(super) const ALL: Wanted = Wanted {
        axis: Axis::Key,
        of_days: Axis::Tenant,
        only: [None; 3],
        by: [false; 3],
    };

    /// The names of a row that count; `none` for the others.
    fn group(&self, key: &RowKey, none: Place) -> RowKey {
        let pick = |place: usize, name: Place| match self.by.get(place) {
            Some(true) => name,
            _ => none,
        };
        RowKey {
            tenant: pick(0, key.tenant),
            first: pick(1, key.first),
            second: pick(2, key.second),
        }
    }

    fn picks(&self, key: &RowKey) -> bool {
        let names = [key.tenant, key.first, key.second];
        self.only
            .iter()
            .zip(names)
            .all(|(only, name)| only.is_none_or(|only| only == name))
    }
}

/// The names that were found, in the order in which they were.
struct Groups {
    keys: Vec<RowKey>,
    costs: Vec<Usd>,
    /// By the number of the name that tells most apart: the first group that bears it, plus one.
    by_name: Vec<u32>,
    /// Groups whose name another had first: a session of the same name in two tenants.
    others: Map<RowKey, u32>,
}

impl Wanted {
    /// The name of a row that tells most apart.
    pub(super) fn name_of(&self, key: &RowKey) -> Option<Place> {
        match self.by {
            [_, _, true] => Some(key.second),
            [_, true, _] => Some(key.first),
            [true, ..] => Some(key.tenant),
            _ => None,
        }
    }
}

impl Groups {
    fn new(names: usize) -> Groups {
        Groups {
            keys: Vec::new(),
            costs: Vec::new(),
            by_name: vec![0; names],
            others: Map::default(),
        }
    }

    fn place(&mut self, key: RowKey, by: [bool; 3]) -> u32 {
        let name = match by {
            [_, _, true] => key.second,
            [_, true, _] => key.first,
            _ => key.tenant,
        };
        let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        let Some(slot) = self.by_name.get_mut(name.number()) else {
            return next;
        };
        if *slot == 0 {
            *slot = next + 1;
        } else {
            let known = *slot - 1;
            if self.keys.get(known as usize) == Some(&key) {
                return known;
            }
            match self.others.get(&key) {
                Some(known) => return *known,
                None => self.others.insert(key, next),
            };
        }
        self.keys.push(key);
        self.costs.push(Usd::ZERO);
        next
    }
}

/// The groups that are told apart, each row's group by the order of the walk.
struct Ranked {
    /// By group: its place among those that are told apart; their number for all others.
    ranks: Vec<u32>,
    kept: Vec<RowKey>,
    has_others: bool,
    rows: Vec<u32>,
}

impl Ranked {
    /// The place of each row's group, by the order of the walk.
    fn by_row(&self) -> impl Iterator<Item = usize> {
        let rank = |group: &u32| self.ranks.get(*group as usize).copied();
        self.rows
            .iter()
            .map(move |group| rank(group).map_or(self.kept.len(), |rank| rank as usize))
    }
}

impl Rollups {
    /// What a query by a dimension is about, of one tenant or all; `None` where no row bears its tag.
    pub(super) fn wanted(&self, by: &Dimension, tenant: Option<&Name>) -> Option<Wanted> {
        let of = |axis, of_all, by| Wanted {
            axis,
            of_days: if tenant.is_none() { of_all } else { axis },
            only: [None; 3],
            by,
        };
        let of_each = |axis, of_days, by| Wanted {
            of_days,
            ..of(axis, axis, by)
        };
        Some(match by {
            Dimension::Model => of(Axis::Model, Axis::ModelOfAll, [false, true, true]),
            Dimension::Provider => of(Axis::Model, Axis::ModelOfAll, [false, true, false]),
            Dimension::Key => of_each(Axis::Key, Axis::Key, [false, true, false]),
            Dimension::Agent => of_each(Axis::Session, Axis::Agent, [false, true, false]),
            Dimension::Session => of_each(Axis::Session, Axis::Session, [false, true, true]),
            Dimension::User => of(Axis::User, Axis::UserOfAll, [false, true, false]),
            Dimension::Task => of(Axis::Task, Axis::TaskOfAll, [false, true, false]),
            Dimension::Tenant => of_each(Axis::Key, Axis::Tenant, [true, false, false]),
            Dimension::Tag(tag) => Wanted {
                only: [None, Some(self.names.find(tag)?), None],
                ..of(Axis::Tag, Axis::TagOfAll, [false, false, true])
            },
        })
    }

    /// What a query is about that is narrowed to some names: the rows that bear all of them and what they are told apart by. The
    /// outer `None`: there are no such rows, since they are kept by kind. The inner: nothing bears them.
    #[allow(clippy::option_option)]
    fn narrowed(&self, by: Option<&Dimension>, tenant: Option<&Name>, only: &[Filter]) -> Option<Option<Wanted>> {
        let kind = by.or(only.first().map(|(dimension, _)| dimension));
        let Some(kind) = kind else {
            return Some(Some(Wanted::ALL));
        };
        let Some(mut wanted) = self.wanted(kind, tenant) else {
            return Some(None);
        };
        if by.is_none() {
            wanted.by = [false; 3];
        }
        for (dimension, name) in only {
            let Some(other) = self.wanted(dimension, tenant) else {
                return Some(None);
            };
            // A tag's rows are of one tag each.
            if other.axis != wanted.axis || (other.only != [None; 3] && other.only[1] != wanted.only[1]) {
                return None;
            }
            // Rows of days that tell fewer names apart do not serve one that tells more.
            if other.of_days != wanted.of_days {
                wanted.of_days = wanted.axis;
            }
            let Some(name) = self.names.find(name) else {
                return Some(None);
            };
            let place = other.by.iter().rposition(|is_by| *is_by).unwrap_or_default();
            if let Some(slot) = wanted.only.get_mut(place) {
                *slot = Some(name);
            }
        }
        Some(Some(wanted))
    }

    /// The buckets in which there may be entries that bear all of some names, and how many at most, in the order of time: what is
    /// to be read of the journal where no sums tell. Names that were counted as `other` may be any.
    pub fn stretches(&self, (from_ms, to_ms): (i64, i64), tenant: Option<&Name>, only: &[Filter]) -> Vec<Stretch> {
        let mut found = self.requests_by_bucket(Wanted::ALL, (from_ms, to_ms), tenant, |_| true);
        let other = self.names.find(OTHER);
        for (dimension, name) in only {
            let Some(wanted) = self.wanted(dimension, tenant) else {
                return Vec::new();
            };
            let names = [self.names.find(name), other];
            let bears = |key: &RowKey| {
                let is = wanted.name_of(key);
                is.is_some() && names.contains(&is)
            };
            let these = self.requests_by_bucket(wanted, (from_ms, to_ms), tenant, bears);
            found.retain(|bucket, requests| {
                let of_name = these.get(bucket).copied().unwrap_or_default();
                *requests = of_name.min(*requests);
                of_name > 0
            });
        }
        let mut stretches: Vec<Stretch> = Vec::new();
        for ((from_ms, to_ms), requests) in found {
            match stretches.last_mut() {
                // A day of which some hours are still kept by themselves.
                Some(last) if from_ms < last.to_ms => {
                    last.to_ms = last.to_ms.max(to_ms);
                    last.requests += requests;
                }
                _ => stretches.push(Stretch {
                    from_ms,
                    to_ms,
                    requests,
                }),
            }
        }
        stretches
    }

    fn requests_by_bucket(
        &self,
        wanted: Wanted,
        range: (i64, i64),
        tenant: Option<&Name>,
        bears: impl Fn(&RowKey) -> bool,
    ) -> BTreeMap<(i64, i64), u64> {
        let mut found = BTreeMap::new();
        self.each_row(wanted, range, tenant, |grain, bucket_ms, row| {
            if bears(&row.key) {
                let bucket = (bucket_ms, bucket_ms.saturating_add(grain.ms()));
                *found.entry(bucket).or_default() += row.totals().requests;
            }
        });
        found
    }

    /// Walks over the rows that answer a query in a range of time, each with the grain at which it is kept and the start of its bucket.
    pub(super) fn each_row<'a>(
        &'a self,
        wanted: Wanted,
        (from_ms, to_ms): (i64, i64),
        tenant: Option<&Name>,
        mut visit: impl FnMut(Grain, i64, RowRef<'a>),
    ) {
        // None for all tenants, nothing within for one that no row bears.
        let tenant = tenant.map(|tenant| self.names.find(tenant));
        for grain in Grain::ALL {
            let axis = if grain == Grain::Day {
                wanted.of_days
            } else {
                wanted.axis
            };
            let from_ms = floor(from_ms, grain.ms());
            if from_ms >= to_ms {
                continue;
            }
            for (bucket_ms, bucket) in self.level(grain).buckets.range(from_ms..to_ms) {
                for row in bucket.of(axis) {
                    let is_of_tenant = tenant.is_none_or(|tenant| tenant == Some(row.key.tenant));
                    if is_of_tenant && wanted.picks(&row.key) {
                        visit(grain, *bucket_ms, row);
                    }
                }
            }
        }
    }

    /// Walks over the rows for what each name costs, and tells the dearest apart.
    fn rank(&self, wanted: Wanted, range: (i64, i64), tenant: Option<&Name>, names_max: usize) -> Option<Ranked> {
        let none = self.names.find("")?;
        let mut groups = Groups::new(self.names.given());
        let mut rows = Vec::new();
        self.each_row(wanted, range, tenant, |_, _, row| {
            let group = groups.place(wanted.group(&row.key, none), wanted.by);
            if let Some(cost) = groups.costs.get_mut(group as usize) {
                *cost = cost.saturating_add(row.cost);
            }
            rows.push(group);
        });
        let mut order: Vec<(Usd, u32)> = groups.costs.iter().copied().zip(0..).collect();
        let texts = |group: u32| {
            let key = groups.keys.get(group as usize);
            key.map(|key| [key.first, key.second, key.tenant].map(|place| self.names.text(place)))
        };
        let dearest_first = |(one_cost, one): &(Usd, u32), (cost, other): &(Usd, u32)| {
            let by_cost = cost.cmp(one_cost);
            by_cost.then_with(|| texts(*one).cmp(&texts(*other)))
        };
        let has_others = order.len() > names_max;
        if has_others {
            order.select_nth_unstable_by(names_max, dearest_first);
            order.truncate(names_max);
        }
        order.sort_unstable_by(dearest_first);
        let mut ranks = vec![u32::try_from(order.len()).unwrap_or(u32::MAX); groups.keys.len()];
        for (rank, (_, group)) in (0..).zip(&order) {
            if let Some(slot) = ranks.get_mut(*group as usize) {
                *slot = rank;
            }
        }
        let kept = order
            .iter()
            .filter_map(|(_, group)| groups.keys.get(*group as usize).copied());
        Some(Ranked {
            kept: kept.collect(),
            ranks,
            has_others,
            rows,
        })
    }

    /// The row of a name that is told apart, or of all others.
    fn row(&self, by: Option<&Dimension>, kept: Option<&RowKey>, totals: &Totals) -> SummaryRow {
        let named = |pick: fn(&RowKey) -> Place| match kept {
            Some(key) => self.names.name(pick(key)),
            None => Name::from(OTHER),
        };
        let (first, second) = (|| named(|key| key.first), || named(|key| key.second));
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
            None => {}
            Some(Dimension::Model) => (row.provider, row.model) = (first(), second()),
            Some(Dimension::Provider) => row.provider = first(),
            Some(Dimension::Key) => row.key = first(),
            Some(Dimension::Agent) => row.agent = first(),
            Some(Dimension::Session) => (row.agent, row.session) = (first(), second()),
            Some(Dimension::User) => row.user = first(),
            Some(Dimension::Task) => row.task = first(),
            Some(Dimension::Tenant) => row.tenant = named(|key| key.tenant),
            Some(Dimension::Tag(_)) => row.tag = second(),
        }
        row
    }

    /// Sums by one dimension, dearest first. Names beyond [`SUMMARY_ROWS_MAX`] are one row more, `other`.
    pub fn summary(&self, query: &SummaryQuery) -> Vec<SummaryRow> {
        self.summary_of(query, &[]).unwrap_or_default()
    }

    /// The same of those entries alone that bear all of some names; `None` where no rows tell: they are of one kind each.
    pub fn summary_of(&self, query: &SummaryQuery, only: &[Filter]) -> Option<Vec<SummaryRow>> {
        let wanted = self.narrowed(Some(&query.by), query.tenant.as_ref(), only)?;
        Some(wanted.map(|wanted| self.sums_by(query, wanted)).unwrap_or_default())
    }

    fn sums_by(&self, query: &SummaryQuery, wanted: Wanted) -> Vec<SummaryRow> {
        let (range, tenant) = ((query.from_ms, query.to_ms), query.tenant.as_ref());
        let Some(ranked) = self.rank(wanted, range, tenant, SUMMARY_ROWS_MAX) else {
            return Vec::new();
        };
        let mut sums = vec![Totals::default(); ranked.kept.len() + usize::from(ranked.has_others)];
        let mut ranks = ranked.by_row();
        self.each_row(wanted, range, tenant, |_, _, row| {
            if let Some(totals) = ranks.next().and_then(|rank| sums.get_mut(rank)) {
                row.add_to(totals);
            }
        });
        let rows = (0..)
            .zip(&sums)
            .map(|(rank, totals)| self.row(Some(&query.by), ranked.kept.get(rank), totals));
        let mut rows: Vec<SummaryRow> = rows.collect();
        if ranked.has_others {
            // All others together may cost more than many.
            rows.sort_by_key(|row| Reverse(row.cost));
        }
        rows
    }

    /// Sums by periods of the step and by value of the dimension, in the order of time, dearest first within a period; periods
    /// without entries are left out. Names beyond [`SERIES_NAMES_MAX`] are one more in each period, `other`. A step finer than
    /// what is still kept shows what is kept at its beginning.
    pub fn sums_over_time(&self, query: &SeriesQuery) -> Vec<(i64, SummaryRow)> {
        self.sums_over_time_of(query, &[]).unwrap_or_default()
    }

    /// The same of those entries alone that bear all of some names; `None` where no rows tell.
    pub fn sums_over_time_of(&self, query: &SeriesQuery, only: &[Filter]) -> Option<Vec<(i64, SummaryRow)>> {
        let wanted = self.narrowed(query.by.as_ref(), query.tenant.as_ref(), only)?;
        Some(
            wanted
                .map(|wanted| self.sums_by_period(query, wanted))
                .unwrap_or_default(),
        )
    }

    fn sums_by_period(&self, query: &SeriesQuery, wanted: Wanted) -> Vec<(i64, SummaryRow)> {
        let (range, tenant) = ((query.from_ms, query.to_ms), query.tenant.as_ref());
        let Some(ranked) = self.rank(wanted, range, tenant, SERIES_NAMES_MAX) else {
            return Vec::new();
        };
        let step_ms = query.step_ms.max(MINUTE_MS);
        let mut sums: Vec<(i64, usize, Totals)> = Vec::new();
        let mut places: Map<(i64, usize), usize> = Map::default();
        let mut ranks = ranked.by_row();
        self.each_row(wanted, range, tenant, |_, bucket_ms, row| {
            let Some(rank) = ranks.next() else { return };
            let period_ms = floor(bucket_ms, step_ms);
            let place = *places.entry((period_ms, rank)).or_insert_with(|| {
                sums.push((period_ms, rank, Totals::default()));
                sums.len() - 1
            });
            if let Some((.., totals)) = sums.get_mut(place) {
                row.add_to(totals);
            }
        });
        let mut order: Vec<&(i64, usize, Totals)> = sums.iter().collect();
        order.sort_unstable_by_key(|(at_ms, rank, totals)| (*at_ms, Reverse(totals.cost), *rank));
        let row = |(at_ms, rank, totals): &(i64, usize, Totals)| {
            (*at_ms, self.row(query.by.as_ref(), ranked.kept.get(*rank), totals))
        };
        order.into_iter().map(row).collect()
    }

    /// Sums of all entries by periods of `step_ms`, as in `sums_over_time`.
    pub fn series(&self, from_ms: i64, to_ms: i64, step_ms: i64, tenant: Option<&Name>) -> Vec<Point> {
        let step_ms = step_ms.max(MINUTE_MS);
        let mut points: BTreeMap<i64, Totals> = BTreeMap::new();
        self.each_row(Wanted::ALL, (from_ms, to_ms), tenant, |_, bucket_ms, row| {
            row.add_to(points.entry(floor(bucket_ms, step_ms)).or_default());
        });
        points
            .into_iter()
            .map(|(at_ms, totals)| Point { at_ms, totals })
            .collect()
    }
}
