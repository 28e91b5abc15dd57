//! Calls for whoever looks through them: the latest, the dearest, the failed; and how fast money goes.

use std::collections::BinaryHeap;
use std::str::FromStr;

use agentledger_ledger::{DEAREST_MAX, Entry, Facts, Name, Scanned, Totals, Usd, rfc3339_ms};
use jsonrpsee::server::RegisterMethodError;
use serde_json::value::to_raw_value;
use ulid::Ulid;

use crate::control::error::RpcError;
use crate::control::ledger_view::now_ms;
use crate::control::methods::filtered::{self, Filters, Places, filters};
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::{self, HOUR_MS, LAST_DEFAULT, MINUTE_MS, Span};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Entries that count and are looked for at first where only the latest are wanted; then twice as many each time.
const FIRST_MATCHES: u64 = 2_000;
const PACE_MINUTES: i64 = 60;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "ledger.calls",
            Role::Read,
            Scope::Tenant,
            "Entries for whoever looks through them: the latest, the dearest, the failed, page by page.",
            r#"{"last": "24h", "sort": "cost", "limit": 10}"#,
        ),
        calls,
    )?;
    table.add(
        Method::new(
            "ledger.pace",
            Role::Read,
            Scope::Tenant,
            "What a minute of the last hour cost.",
            r#"{}"#,
        ),
        pace,
    )
}

fn pace(state: &ControlState, call: &Call, asked: wire::PaceParams) -> Result<wire::Pace, RpcError> {
    let filters = Filters {
        tenant: call.caller.tenant_of(&asked.tenant)?,
        ..Filters::default()
    };
    state.ledger.flush()?;
    // Whole minutes: the one that runs would be counted as one that is over.
    let to_ms = state.ledger.now_ms().div_euclid(MINUTE_MS).saturating_mul(MINUTE_MS);
    let hour = filtered::total(state, (to_ms - HOUR_MS, to_ms), &filters);
    let cost = hour.map_or(Usd::ZERO, |hour| hour.cost_usd);
    Ok(wire::Pace {
        usd_per_minute: Usd::from_nanos(cost.nanos() / PACE_MINUTES),
        window_s: u64::try_from(HOUR_MS / 1_000).unwrap_or_default(),
    })
}

/// What is looked for, and in which order.
struct Search {
    range: (i64, i64),
    filters: Filters,
    is: Is,
    sort: Sort,
    is_ascending: bool,
    limit: usize,
    after: Option<Rank>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Any,
    Error,
    Estimated,
    Overage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    At,
    Cost,
    Tokens,
    Duration,
}

/// An entry's place in an order: what it is sorted by, and its id where that is the same. Less comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    value: i64,
    id: Ulid,
}

impl FromStr for Rank {
    type Err = RpcError;

    fn from_str(text: &str) -> Result<Rank, RpcError> {
        let parsed = text.split_once(':').and_then(|(value, id)| {
            Some(Rank {
                value: value.parse().ok()?,
                id: id.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| RpcError::InvalidParams("cursor: not one that an answer gave".to_owned()))
    }
}

impl Search {
    fn new(state: &ControlState, call: &Call, asked: &wire::CallsParams) -> Result<Search, RpcError> {
        let invalid = |text: &str| Err(RpcError::InvalidParams(text.to_owned()));
        let is = match asked.is.as_str() {
            "" => Is::Any,
            "error" => Is::Error,
            "estimated" => Is::Estimated,
            "overage" => Is::Overage,
            _ => return invalid("is: error, estimated or overage"),
        };
        let sort = match asked.sort.as_str() {
            "" | "at" => Sort::At,
            "cost" => Sort::Cost,
            "tokens" => Sort::Tokens,
            "duration" => Sort::Duration,
            _ => return invalid("sort: at, cost, tokens or duration"),
        };
        let is_ascending = match asked.order.as_str() {
            "" | "desc" => false,
            "asc" => true,
            _ => return invalid("order: desc or asc"),
        };
        let span = Span::new(&asked.last, &asked.from, &asked.to);
        Ok(Search {
            range: span.ms(now_ms(), Some(LAST_DEFAULT))?,
            filters: filters!(state, call, asked)?,
            is,
            sort,
            is_ascending,
            limit: params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?,
            after: asked.cursor.as_deref().map(str::parse).transpose()?,
        })
    }

    fn picks(&self, entry: &Entry) -> bool {
        let settlement = &entry.settlement;
        let is = match self.is {
            Is::Any => true,
            Is::Error => settlement.has_failed(),
            Is::Estimated => settlement.estimate_reason.is_some(),
            Is::Overage => !Totals::of(entry).overage.is_zero(),
        };
        is && (self.range.0..self.range.1).contains(&entry.facts.at_ms) && self.filters.passes(entry)
    }

    fn is_of(&self, facts: &Facts, model: &Name) -> bool {
        (self.range.0..self.range.1).contains(&facts.at_ms) && self.filters.pass(facts, model)
    }

    fn rank(&self, entry: &Entry) -> Rank {
        let value = match self.sort {
            Sort::At => entry.facts.at_ms,
            Sort::Cost => entry.settlement.cost.nanos(),
            Sort::Tokens => i64::try_from(entry.settlement.usage.tokens()).unwrap_or(i64::MAX),
            Sort::Duration => i64::try_from(entry.settlement.duration_ms).unwrap_or(i64::MAX),
        };
        Rank {
            value: if self.is_ascending {
                value
            } else {
                value.saturating_neg()
            },
            // The later one of two ids first, too.
            id: if self.is_ascending {
                entry.facts.id
            } else {
                Ulid(!entry.facts.id.0)
            },
        }
    }

    /// Whether the latest are wanted, whatever they are else.
    fn is_of_latest(&self) -> bool {
        self.sort == Sort::At && !self.is_ascending
    }
}

/// The first of all that were offered, so many and one more.
struct First {
    most: usize,
    after: Option<Rank>,
    heap: BinaryHeap<Ranked>,
}

struct Ranked(Rank, Entry);

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.0 == other.0
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl First {
    fn new(search: &Search) -> First {
        First {
            most: search.limit + 1,
            after: search.after,
            heap: BinaryHeap::new(),
        }
    }

    fn offer(&mut self, rank: Rank, entry: &Entry) {
        let is_before = self.after.is_some_and(|after| rank <= after);
        let is_last = self.heap.len() >= self.most && self.heap.peek().is_some_and(|last| last.0 <= rank);
        if is_before || is_last {
            return;
        }
        self.heap.push(Ranked(rank, entry.clone()));
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }

    fn is_full(&self) -> bool {
        self.heap.len() >= self.most
    }

    /// In their order, and where the next page begins.
    fn page(self) -> (Vec<Entry>, Option<Rank>) {
        let most = self.most;
        let mut all = self.heap.into_sorted_vec();
        let has_more = all.len() >= most;
        all.truncate(most - 1);
        let next = all.last().filter(|_| has_more).map(|last| last.0);
        (all.into_iter().map(|ranked| ranked.1).collect(), next)
    }
}

fn calls(state: &ControlState, call: &Call, asked: wire::CallsParams) -> Result<wire::Calls, RpcError> {
    let search = Search::new(state, call, &asked)?;
    state.ledger.flush()?;
    let total = match search.is {
        Is::Any => filtered::total(state, search.range, &search.filters),
        _ => None,
    };
    let (found, total) = match total {
        Some(total) => {
            let found = match dearest(state, &search, &total) {
                Some(found) => found?,
                None if search.is_of_latest() => latest(state, &search)?,
                None => all(state, &search)?.0,
            };
            (found, total)
        }
        None => all(state, &search)?,
    };
    let Found {
        entries,
        next,
        since_ms,
    } = found;
    let calls = entries.iter().map(to_raw_value).collect::<Result<_, _>>();
    Ok(wire::Calls {
        from: rfc3339_ms(search.range.0),
        to: rfc3339_ms(search.range.1),
        calls: calls.map_err(RpcError::ledger)?,
        next: next.map(|Rank { value, id }| format!("{value}:{id}")),
        total,
        since: since_ms.map(rfc3339_ms),
    })
}

/// A page, and where the next one begins.
struct Found {
    entries: Vec<Entry>,
    next: Option<Rank>,
    /// What began before was not looked through.
    since_ms: Option<i64>,
}

/// The dearest of all, of which the ledger keeps lists; `None` where they do not tell.
fn dearest(state: &ControlState, search: &Search, total: &wire::CostRow) -> Option<Result<Found, RpcError>> {
    let is_of_dearest = search.sort == Sort::Cost && !search.is_ascending && search.after.is_none();
    if !is_of_dearest || !search.filters.only.is_empty() || search.limit > DEAREST_MAX {
        return None;
    }
    let tenant = search.filters.tenant.as_ref();
    let found = state.ledger.dearest(search.range, tenant, search.limit)?;
    let page = found.map_err(RpcError::ledger).map(|mut entries| {
        entries.retain(|entry| search.picks(entry));
        entries.sort_by_key(|entry| search.rank(entry));
        let next = entries.last().filter(|_| total.requests > search.limit as u64);
        Found {
            next: next.map(|last| search.rank(last)),
            entries,
            since_ms: None,
        }
    });
    match page {
        // Those that cost nothing are on no list.
        Ok(page) if page.entries.len() < search.limit => None,
        page => Some(page),
    }
}

/// The latest: read from now back, ever more, until there are enough.
fn latest(state: &ControlState, search: &Search) -> Result<Found, RpcError> {
    let (from_ms, mut to_ms) = search.range;
    if let Some(after) = search.after {
        to_ms = to_ms.min(after.value.saturating_neg().saturating_add(1));
    }
    let filters = &search.filters;
    let mut places = Places::new(state, (from_ms, to_ms), filters);
    let (mut first, mut matches, mut reached_ms) = (First::new(search), FIRST_MATCHES, None);
    while places.are_left() && !places.is_spent() && !first.is_full() {
        let windows = places.take(matches);
        let scanned = state.ledger.scan(&windows, filters.tenant.as_ref(), |met| {
            if let Scanned::Entry(entry) = met
                && search.picks(entry)
            {
                first.offer(search.rank(entry), entry);
            }
        });
        scanned.map_err(RpcError::ledger)?;
        reached_ms = windows.first().map(|(from_ms, _)| *from_ms).or(reached_ms);
        matches = matches.saturating_mul(2);
    }
    let since_ms = reached_ms.filter(|_| places.are_left() && !first.is_full());
    let (entries, next) = first.page();
    // A rare name is looked for further by the next page.
    let before = since_ms.map(|since_ms| Rank {
        value: since_ms.saturating_neg(),
        id: Ulid(u128::MAX),
    });
    Ok(Found {
        entries,
        next: next.or(before),
        since_ms,
    })
}

/// All that may be, the latest so many: their first, and the sum of what was found.
fn all(state: &ControlState, search: &Search) -> Result<(Found, wire::CostRow), RpcError> {
    let (stretches, since_ms) = filtered::places(state, search.range, &search.filters);
    let (mut first, mut sum) = (First::new(search), Totals::default());
    let scanned = state
        .ledger
        .scan(&stretches, search.filters.tenant.as_ref(), |met| match met {
            Scanned::Entry(entry) if search.picks(entry) => {
                sum.add(&Totals::of(entry));
                first.offer(search.rank(entry), entry);
            }
            // Of what the failed or the estimated were corrected by, the sum of those is not told.
            Scanned::Correction(row) if search.is == Is::Any && search.is_of(&row.facts, &row.model) => {
                sum.cost = sum.cost.saturating_add(row.amounts.usd);
            }
            _ => {}
        });
    scanned.map_err(RpcError::ledger)?;
    let (entries, next) = first.page();
    let found = Found {
        entries,
        next,
        since_ms,
    };
    Ok((found, filtered::row(None, &[Name::default(), Name::default()], &sum)))
}
