//! Sums of those entries alone that bear some names. Rollups are kept by kind of name: what they tell is taken from them, and what
//! they do not, one kind by another, is summed from the entries themselves, where the rollups say that there may be some.

use std::collections::BTreeMap;

use agentledger_ledger::{
    Dimension, Entry, Facts, Filter, Name, Scanned, SeriesQuery, Stretch, SummaryQuery, SummaryRow, Totals,
};

use crate::control::error::RpcError;
use crate::control::rows::cost_row;
use crate::control::rpc::params::{DAY_MS, HOUR_MS};
use crate::control::state::ControlState;
use crate::control::wire;

/// Entries that one answer is summed from.
const ENTRIES_MAX: u64 = 200_000;
/// So long reading goes on behind a stretch of time, for what was held long: stretches no farther apart are read as one.
const GAP_MS: i64 = HOUR_MS;
const TOOL: &str = "tool";

/// Which entries count.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters {
    pub tenant: Option<Name>,
    /// Of different kinds, tags of different names.
    pub only: Vec<Filter>,
}

impl Filters {
    pub fn new<'a>(
        tenant: Option<Name>,
        names: impl IntoIterator<Item = (Dimension, &'a str)>,
        tool: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<Filters, RpcError> {
        let names = names.into_iter().filter(|(_, name)| !name.is_empty());
        let mut only: Vec<Filter> = names.map(|(dimension, name)| (dimension, Name::from(name))).collect();
        if !tool.is_empty() && tags.contains_key(TOOL) {
            return Err(RpcError::InvalidParams(
                "tool: it is given among the tags, too".to_owned(),
            ));
        }
        let tool = (!tool.is_empty()).then_some((TOOL, tool));
        let tags = tags.iter().map(|(tag, value)| (tag.as_str(), value.as_str()));
        only.extend(
            tags.chain(tool)
                .map(|(tag, value)| (Dimension::Tag(tag.into()), Name::from(value))),
        );
        Ok(Filters { tenant, only })
    }

    fn is_by_model(&self) -> bool {
        self.only.iter().any(|(dimension, _)| *dimension == Dimension::Model)
    }

    /// Whether an entry with these facts, used by this model, counts.
    pub fn pass(&self, facts: &Facts, model: &Name) -> bool {
        let is = |(dimension, name): &Filter| value_of(facts, model, dimension) == Some(name);
        self.tenant.as_ref().is_none_or(|tenant| facts.tenant == *tenant) && self.only.iter().all(is)
    }

    /// Whether an entry counts, with one of its models at least.
    pub fn passes(&self, entry: &Entry) -> bool {
        if !self.is_by_model() {
            return self.pass(&entry.facts, &entry.settlement.model);
        }
        let mut models = Totals::by_model(entry).into_iter();
        models.any(|(model, _)| self.pass(&entry.facts, &model))
    }
}

/// The filters of a parameter object.
macro_rules! filters {
    ($state:expr, $call:expr, $asked:expr) => {{
        use agentledger_ledger::Dimension;
        let key = $crate::control::key_names::key_of($state, &$call.caller, &$asked.key);
        let names = [
            (Dimension::Provider, $asked.provider.as_str()),
            (Dimension::Model, &$asked.model),
            (Dimension::Key, &key),
            (Dimension::Agent, &$asked.agent),
            (Dimension::Session, &$asked.session),
            (Dimension::User, &$asked.user),
            (Dimension::Task, &$asked.task),
        ];
        let tenant = $call.caller.tenant_of(&$asked.tenant)?;
        $crate::control::methods::filtered::Filters::new(tenant, names, &$asked.tool, &$asked.tags)
    }};
}
pub(super) use filters;

fn value_of<'a>(facts: &'a Facts, model: &'a Name, by: &Dimension) -> Option<&'a Name> {
    Some(match by {
        Dimension::Model => model,
        Dimension::Provider => &facts.provider,
        Dimension::Key => &facts.key,
        Dimension::Agent => &facts.agent,
        Dimension::Session => &facts.session,
        Dimension::User => &facts.user,
        Dimension::Task => &facts.task,
        Dimension::Tenant => &facts.tenant,
        Dimension::Tag(tag) => facts.tags.get(tag)?,
    })
}

/// What an answer says beside its rows.
#[derive(Default)]
pub(super) struct Whole {
    pub total: wire::CostRow,
    /// What began before was not read.
    pub since_ms: Option<i64>,
}

/// Sums by one dimension.
pub(super) fn summary(
    state: &ControlState,
    range: (i64, i64),
    by: &Dimension,
    filters: &Filters,
) -> Result<(Vec<wire::CostRow>, Whole), RpcError> {
    let (from_ms, to_ms) = range;
    let query = SummaryQuery {
        from_ms,
        to_ms,
        by: by.clone(),
        tenant: filters.tenant.clone(),
    };
    if let Some(rows) = state.ledger.summary_of(&query, &filters.only)
        && let Some(total) = total(state, range, filters)
    {
        let whole = Whole { total, since_ms: None };
        return Ok((rows.into_iter().map(cost_row).collect(), whole));
    }
    let mut groups: BTreeMap<[Name; 2], Totals> = BTreeMap::new();
    let whole = scan(state, range, Some(by), filters, |_, names, totals| {
        groups.entry(names).or_default().add(totals);
    })?;
    let rows = groups.iter().map(|(names, totals)| row(Some(by), names, totals));
    Ok((rows.collect(), whole))
}

/// A period's sums by value, in the order of time, dearest first within a period.
pub(super) type Points = Vec<(i64, wire::CostRow)>;

/// Sums over time.
pub(super) fn series(
    state: &ControlState,
    query: &SeriesQuery,
    filters: &Filters,
) -> Result<(Points, Option<i64>), RpcError> {
    if let Some(sums) = state.ledger.sums_over_time_of(query, &filters.only) {
        let points = sums.into_iter().map(|(at_ms, sum)| (at_ms, cost_row(sum)));
        return Ok((points.collect(), None));
    }
    let mut groups: BTreeMap<(i64, [Name; 2]), Totals> = BTreeMap::new();
    let by = query.by.as_ref();
    let whole = scan(
        state,
        (query.from_ms, query.to_ms),
        by,
        filters,
        |at_ms, names, totals| {
            let period_ms = at_ms.div_euclid(query.step_ms).saturating_mul(query.step_ms);
            groups.entry((period_ms, names)).or_default().add(totals);
        },
    )?;
    let points = groups
        .iter()
        .map(|((at_ms, names), totals)| (*at_ms, row(by, names, totals)));
    let mut points: Points = points.collect();
    points.sort_by(|(one_ms, one), (at_ms, row)| one_ms.cmp(at_ms).then_with(|| row.cost_usd.cmp(&one.cost_usd)));
    Ok((points, whole.since_ms))
}

/// The sum of all that counts; `None` where no rollups tell.
pub(super) fn total(state: &ControlState, (from_ms, to_ms): (i64, i64), filters: &Filters) -> Option<wire::CostRow> {
    let query = SeriesQuery {
        from_ms,
        to_ms,
        step_ms: DAY_MS,
        by: None,
        tenant: filters.tenant.clone(),
    };
    let days = state.ledger.sums_over_time_of(&query, &filters.only)?;
    let mut total = wire::CostRow::default();
    days.iter().for_each(|(_, day)| add(&mut total, day));
    Some(total)
}

fn add(total: &mut wire::CostRow, row: &SummaryRow) {
    total.requests += row.requests;
    total.errors += row.errors;
    total.estimated += row.estimated;
    total.input_tokens += row.input_tokens;
    total.output_tokens += row.output_tokens;
    total.usage = total.usage.sum(&row.usage);
    total.cost_usd = total.cost_usd.saturating_add(row.cost);
    total.held_usd = total.held_usd.saturating_add(row.held);
    total.overage_usd = total.overage_usd.saturating_add(row.overage);
}

/// Sums as a row, under the names that they are by.
pub(super) fn row(by: Option<&Dimension>, [first, second]: &[Name; 2], totals: &Totals) -> wire::CostRow {
    let mut row = wire::CostRow {
        requests: totals.requests,
        errors: totals.errors,
        estimated: totals.estimated,
        input_tokens: totals.usage.input_tokens(),
        output_tokens: totals.usage.output_tokens(),
        usage: totals.usage,
        cost_usd: totals.cost,
        held_usd: totals.held,
        overage_usd: totals.overage,
        ..wire::CostRow::default()
    };
    let (first, second) = (first.to_string(), second.to_string());
    match by {
        None => {}
        Some(Dimension::Model) => (row.provider, row.model) = (first, second),
        Some(Dimension::Provider) => row.provider = first,
        Some(Dimension::Key) => row.key = first,
        Some(Dimension::Agent) => row.agent = first,
        Some(Dimension::Session) => (row.agent, row.session) = (first, second),
        Some(Dimension::User) => row.user = first,
        Some(Dimension::Task) => row.task = first,
        Some(Dimension::Tenant) => row.tenant = first,
        Some(Dimension::Tag(_)) => row.tag = first,
    }
    row
}

/// What tells entries apart by a dimension; `None` for one that does not bear it.
fn names_of(facts: &Facts, model: &Name, by: Option<&Dimension>) -> Option<[Name; 2]> {
    let none = Name::default;
    Some(match by {
        None => [none(), none()],
        Some(Dimension::Model) => [facts.provider.clone(), model.clone()],
        Some(Dimension::Session) => [facts.agent.clone(), facts.session.clone()],
        Some(by) => [value_of(facts, model, by)?.clone(), none()],
    })
}

/// Visits what counts, by its time and its names, and sums up all of it.
fn scan(
    state: &ControlState,
    range: (i64, i64),
    by: Option<&Dimension>,
    filters: &Filters,
    mut visit: impl FnMut(i64, [Name; 2], &Totals),
) -> Result<Whole, RpcError> {
    let is_by_model = by == Some(&Dimension::Model) || filters.is_by_model();
    let (stretches, since_ms) = places(state, range, filters);
    let mut sum = Totals::default();
    let mut count = |facts: &Facts, model: &Name, totals: &Totals| {
        if filters.pass(facts, model) {
            sum.add(totals);
            if let Some(names) = names_of(facts, model, by) {
                visit(facts.at_ms, names, totals);
            }
        }
    };
    let scanned = state.ledger.scan(&stretches, filters.tenant.as_ref(), |met| match met {
        Scanned::Entry(entry) if is_by_model => {
            for (model, totals) in Totals::by_model(entry) {
                count(&entry.facts, &model, &totals);
            }
        }
        Scanned::Entry(entry) => count(&entry.facts, &entry.settlement.model, &Totals::of(entry)),
        Scanned::Correction(row) => {
            let totals = Totals {
                cost: row.amounts.usd,
                ..Totals::default()
            };
            count(&row.facts, &row.model, &totals);
        }
    });
    scanned.map_err(RpcError::ledger)?;
    let total = row(None, &[Name::default(), Name::default()], &sum);
    Ok(Whole { total, since_ms })
}

/// Where entries that count may be, the latest where there are too many; since when, then.
pub(super) fn places(state: &ControlState, range: (i64, i64), filters: &Filters) -> (Vec<(i64, i64)>, Option<i64>) {
    let mut places = Places::new(state, range, filters);
    let windows = places.take(u64::MAX);
    let since_ms = windows
        .first()
        .filter(|_| places.are_left())
        .map(|(from_ms, _)| *from_ms);
    (windows, since_ms)
}

/// Where in time entries that count may be, taken from the latest on, of so many entries as one answer reads.
pub(super) struct Places {
    /// Those that are left, in the order of time.
    wanted: Vec<Stretch>,
    /// All entries, whoever's: reading goes over each.
    all: Vec<Stretch>,
    entries_left: u64,
}

impl Places {
    pub fn new(state: &ControlState, range: (i64, i64), filters: &Filters) -> Places {
        let (ledger, tenant) = (&state.ledger, filters.tenant.as_ref());
        Places {
            wanted: ledger.stretches(range, tenant, &filters.only),
            all: ledger.stretches((range.0, range.1.saturating_add(GAP_MS)), None, &[]),
            entries_left: ENTRIES_MAX,
        }
    }

    pub fn are_left(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// All may have been read that one answer reads.
    pub fn is_spent(&self) -> bool {
        self.entries_left == 0
    }

    /// Takes the latest away in which there are so many that count, one stretch at least: windows to read, in the order of time.
    pub fn take(&mut self, matches: u64) -> Vec<(i64, i64)> {
        let mut found = 0;
        let mut windows: Vec<(i64, i64)> = Vec::new();
        while found < matches
            && let Some(stretch) = self.wanted.last().copied()
        {
            // Reading goes on behind a window for what was held long: as far as the next one, if that is near.
            let next_ms = windows.last().map_or(i64::MAX, |(from_ms, _)| *from_ms);
            let end_ms = stretch.to_ms.saturating_add(GAP_MS).min(next_ms);
            let entries = self.entries_in(stretch.from_ms, end_ms);
            if entries > self.entries_left && !(windows.is_empty() && self.entries_left == ENTRIES_MAX) {
                self.entries_left = 0;
                break;
            }
            self.entries_left = self.entries_left.saturating_sub(entries);
            self.wanted.pop();
            found += stretch.requests;
            match windows.last_mut() {
                Some((from_ms, _)) if end_ms == *from_ms => *from_ms = stretch.from_ms,
                _ => windows.push((stretch.from_ms, stretch.to_ms)),
            }
        }
        windows.reverse();
        windows
    }

    fn entries_in(&self, from_ms: i64, to_ms: i64) -> u64 {
        let begin = self.all.partition_point(|stretch| stretch.to_ms <= from_ms);
        let within = self
            .all
            .iter()
            .skip(begin)
            .take_while(|stretch| stretch.from_ms < to_ms);
        within.map(|stretch| stretch.requests).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn hours(of: &[(i64, u64)]) -> Vec<Stretch> {
        let stretch = |&(hour, requests): &(i64, u64)| Stretch {
            from_ms: hour * HOUR_MS,
            to_ms: (hour + 1) * HOUR_MS,
            requests,
        };
        of.iter().map(stretch).collect()
    }

    fn places(wanted: &[(i64, u64)], all: &[(i64, u64)]) -> Places {
        Places {
            wanted: hours(wanted),
            all: hours(all),
            entries_left: ENTRIES_MAX,
        }
    }

    fn span(from: i64, to: i64) -> (i64, i64) {
        (from * HOUR_MS, to * HOUR_MS)
    }

    #[test]
    fn the_latest_places_are_taken_first_and_near_ones_read_as_one() {
        let all = [(0, 5), (3, 5), (5, 5), (6, 5)];
        let mut whole = places(&all, &all);
        assert_eq!(whole.take(u64::MAX), [span(0, 1), span(3, 7)]);
        assert!(!whole.are_left());
        let mut some = places(&all, &all);
        assert_eq!(some.take(6), [span(5, 7)]);
        assert_eq!(some.take(1), [span(3, 4)]);
        assert!(some.are_left() && !some.is_spent());
    }

    /// One call an hour of an agent among a hundred thousand others: what is bounded is what is read, not what is found.
    #[test]
    fn a_rare_name_reads_no_more_than_a_frequent_one() {
        let busy: Vec<(i64, u64)> = (0..100).map(|hour| (hour, 60_000)).collect();
        let rare: Vec<(i64, u64)> = (0..100).map(|hour| (hour, 1)).collect();
        let mut places = places(&rare, &busy);
        assert_eq!(places.take(u64::MAX), [span(97, 100)]);
        assert!(places.are_left() && places.is_spent());
        assert_eq!(places.take(1), []);
    }

    #[test]
    fn one_hour_is_read_however_busy_it_is() {
        let mut places = places(&[(0, 1), (7, 1)], &[(0, 9), (7, 10 * ENTRIES_MAX)]);
        assert_eq!(places.take(u64::MAX), [span(7, 8)]);
        assert!(places.are_left() && places.is_spent());
    }
}
