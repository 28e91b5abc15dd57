//! What policies ask for, checked and merged into one Verdict, which the rest of the gateway makes hold.

use std::sync::Arc;
use std::time::Duration;

use agentledger_alerts::Severity;
use agentledger_ledger::{Bound, Mode, Name, Standing, Unit, Window, Zone};

use crate::price::Unpriced;
use crate::rates::{Parallel, Rate};

/// The merged outcome of all policies on one request.
///
/// Policies run by priority, lowest first, equal ones by name. The first `deny` ends the run: what later ones would have asked for
/// could not change the refusal. Everything else adds up: every bound and every rate must hold, the smallest clamp and the
/// longest delay count, what names one thing (a binding, a price for unpriced models) is named by the first, and of two
/// headers or tags of one name the later policy's stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    pub deny: Option<Deny>,
    /// At most one for each (account, window, zone, unit, mode): of several the strictest limit stays.
    pub bounds: Vec<RequestedBound>,
    /// At most one for each (account, stretch, unit).
    pub rates: Vec<Requested<Rate>>,
    pub parallel: Vec<Requested<Parallel>>,
    /// Most output tokens that the request may name; the host splices it in where the call named more or none.
    pub clamp: Option<u64>,
    /// In the order in which they were asked for.
    pub routes: Vec<Requested<Route>>,
    /// How long the request waits before it goes on.
    pub delay: Duration,
    /// Beside those that the client sent; of one name the later policy's stays, over the client's too.
    pub tags: Vec<(Name, Name)>,
    /// Response headers, names in lower case.
    pub headers: Vec<(String, String)>,
    pub alerts: Vec<RequestedAlert>,
    /// What a model without a price costs.
    pub unpriced: Option<Requested<Unpriced>>,
    /// Of the phase `tenant` only.
    pub binding: Binding,
    /// `name@version` of every policy that asked for anything, in the order in which they ran.
    pub policies_applied: Vec<Name>,
    /// What each policy in shadow asked for. Recorded, never enforced.
    pub shadow: Vec<Shadow>,
    /// What the policies read beside the facts, for the record: a replay gives them the same.
    pub reads: EvaluationReads,
}

/// Something asked for, and `name@version` of the policy that did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested<T> {
    pub requested: T,
    pub policy: Name,
}

/// A policy in shadow, and what it asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    pub policy: Name,
    /// A version beside the policy: no replay puts it together again, and nothing hangs on what it says.
    pub is_candidate: bool,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deny {
    /// `name@version` of the policy that denied.
    pub policy: Name,
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// Stable word for programs: `model_not_allowed`.
    pub code: String,
    /// For people; goes to the client.
    pub message: String,
    /// Seconds; `None` says nothing about retrying.
    pub retry_after: Option<u32>,
}

/// A bound that a policy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedBound {
    /// Account, window, zone, limit and mode: hard (`action = "block"`) refuses, watch (`"warn"`) counts and warns.
    pub bound: Bound,
    /// Shares of the limit from which to warn.
    pub soft: Thresholds,
    /// Where the request does not fit, its output is clamped to what is left (`action = "clamp"`).
    pub clamps: bool,
    /// `name@version` of the policy that asked.
    pub policy: Name,
}

impl RequestedBound {
    /// The share of the limit that has been reached, in parts per million, where a warning is due: the highest threshold,
    /// or all of a limit that only warns.
    pub fn due_share(&self, standing: &Standing) -> Option<u32> {
        if self.bound.mode() == Mode::Watch && standing.posted >= standing.limit {
            return Some(1_000_000);
        }
        self.soft.reached(standing.posted, standing.limit)
    }
}

/// Shares of a limit, in parts per million, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thresholds(Option<Arc<[u32]>>);

impl Thresholds {
    /// 0 is no threshold.
    pub fn new(mut ppm: Vec<u32>) -> Thresholds {
        ppm.retain(|share| *share > 0);
        ppm.sort_unstable();
        ppm.dedup();
        Thresholds((!ppm.is_empty()).then(|| ppm.into()))
    }

    pub fn as_slice(&self) -> &[u32] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The highest threshold that `spent` has reached.
    pub fn reached(&self, spent: i64, limit: i64) -> Option<u32> {
        let reached = |share: &&u32| i128::from(spent) * 1_000_000 >= i128::from(limit) * i128::from(**share);
        self.as_slice().iter().rev().find(reached).copied()
    }
}

/// Models to go to in place of the one that was asked for, at the same provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The first that has a price, that no policy denies and whose hold fits is taken.
    pub alternatives: Vec<Name>,
    pub when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// Only where the request as asked does not fit its budgets.
    OverBudget,
}

/// Who is asking after all, as the phase `tenant` found. `None`: as the client says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    pub tenant: Option<Name>,
    pub zone: Option<Zone>,
    pub agent: Option<Name>,
    pub session: Option<Name>,
    pub user: Option<Name>,
    pub task: Option<Name>,
}

impl Binding {
    /// What is named by the first stays.
    pub fn or(&mut self, later: Binding) {
        fn keep<T>(first: &mut Option<T>, later: Option<T>) {
            if first.is_none() {
                *first = later;
            }
        }
        keep(&mut self.tenant, later.tenant);
        keep(&mut self.zone, later.zone);
        keep(&mut self.agent, later.agent);
        keep(&mut self.session, later.session);
        keep(&mut self.user, later.user);
        keep(&mut self.task, later.task);
    }
}

/// Something that people should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedAlert {
    /// A stable word: `budget_exceeded`.
    pub kind: String,
    pub severity: Severity,
    pub message: String,
    pub details: Vec<(String, String)>,
    /// What it is about: within the cooldown one alert of a kind about one thing is enough. Empty: as a whole.
    pub about: String,
    /// At least so long between two of them; `None`: as long as the configuration says.
    pub cooldown: Option<Duration>,
    pub policy: Name,
}

/// What policies read beside the facts of a call, in the order in which they did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvaluationReads {
    pub balances: Vec<Read>,
    /// Answers to what was asked about the raw key: the place of the pattern that matched, from 1; 0 where none did.
    pub keys: Vec<u32>,
}

impl EvaluationReads {
    /// Puts what was read before in front.
    pub fn follow(&mut self, before: EvaluationReads) {
        self.balances.splice(0..0, before.balances);
        self.keys.splice(0..0, before.keys);
    }
}

/// One value that a policy read with `spent` or `held`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub account: Name,
    /// `None` for `held`, which knows no window.
    pub window: Option<Window>,
    pub unit: Unit,
    /// In nano-dollars, tokens or requests.
    pub value: i64,
}

/// Appends what is not there yet.
fn join_by<T>(all: &mut Vec<T>, more: Vec<T>, same: impl Fn(&T, &T) -> bool) {
    for one in more {
        if !all.iter().any(|known| same(known, &one)) {
            all.push(one);
        }
    }
}

impl Verdict {
    /// Adds a bound; one on the same window instance and of the same mode leaves the stricter of the two.
    pub(super) fn add_bound(&mut self, bound: RequestedBound) {
        let same = |known: &&mut RequestedBound| {
            let (known, requested) = (&known.bound, &bound.bound);
            known.window() == requested.window()
                && known.unit() == requested.unit()
                && known.mode() == requested.mode()
                && known.account() == requested.account()
                && known.zone() == requested.zone()
        };
        match self.bounds.iter_mut().find(same) {
            Some(known) if known.bound.limit().count() <= bound.bound.limit().count() => {}
            Some(known) => *known = bound,
            None => self.bounds.push(bound),
        }
    }

    pub(super) fn add_rate(&mut self, rate: Requested<Rate>) {
        let same = |known: &&mut Requested<Rate>| {
            let (known, requested) = (&known.requested, &rate.requested);
            (known.per, known.unit) == (requested.per, requested.unit) && known.account == requested.account
        };
        match self.rates.iter_mut().find(same) {
            Some(known) if known.requested.limit <= rate.requested.limit => {}
            Some(known) => *known = rate,
            None => self.rates.push(rate),
        }
    }

    pub(super) fn add_parallel(&mut self, parallel: Requested<Parallel>) {
        let same = |known: &&mut Requested<Parallel>| known.requested.account == parallel.requested.account;
        match self.parallel.iter_mut().find(same) {
            Some(known) if known.requested.limit <= parallel.requested.limit => {}
            Some(known) => *known = parallel,
            None => self.parallel.push(parallel),
        }
    }

    pub(super) fn add_clamp(&mut self, max_output: u64) {
        self.clamp = Some(self.clamp.map_or(max_output, |known| known.min(max_output)));
    }

    pub(super) fn add_header(&mut self, name: String, value: String) {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
    }

    pub(super) fn add_tag(&mut self, name: Name, value: Name) {
        self.tags.retain(|(known, _)| *known != name);
        self.tags.push((name, value));
    }

    /// Adds what the policies requested of a further model of the same call: each must be allowed, and all limits hold. What names
    /// one thing is named for the first model, whose routes alone count.
    pub fn join(&mut self, other: Verdict) {
        self.deny = self.deny.take().or(other.deny);
        other.bounds.into_iter().for_each(|bound| self.add_bound(bound));
        other.rates.into_iter().for_each(|rate| self.add_rate(rate));
        other
            .parallel
            .into_iter()
            .for_each(|parallel| self.add_parallel(parallel));
        other.clamp.into_iter().for_each(|clamp| self.add_clamp(clamp));
        self.delay = self.delay.max(other.delay);
        join_by(&mut self.tags, other.tags, |(known, _), (name, _)| known == name);
        join_by(&mut self.headers, other.headers, |(known, _), (name, _)| known == name);
        join_by(&mut self.alerts, other.alerts, |known, alert| known == alert);
        self.unpriced = self.unpriced.take().or(other.unpriced);
        join_by(&mut self.policies_applied, other.policies_applied, |known, name| {
            known == name
        });
        join_by(&mut self.shadow, other.shadow, |known, shadow| {
            known.policy == shadow.policy && (known.verdict.deny.is_some() || shadow.verdict.deny.is_none())
        });
        self.reads.balances.extend(other.reads.balances);
        self.reads.keys.extend(other.reads.keys);
    }

    /// Whether any policy asked for anything.
    pub fn is_empty(&self) -> bool {
        self.policies_applied.is_empty() && self.shadow.is_empty()
    }
}
