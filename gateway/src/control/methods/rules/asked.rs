//! What the policies in force ask for an account beside its limit: from which shares on they warn, and what top-ups add to it for a
//! while. Asked of the policies themselves, at several moments, so that it is true whatever they are.

use agentledger_ledger::{Mode, Unit, Window};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::effect::{OTHER_KEY, keys_of};
use crate::policy::{AskedBounds, PolicySet, RequestedBound};
use crate::runtime::InForce;

const BUDGET: &str = "budget";
const TOP_UPS: &str = "top_ups";
const WEEK_MS: i64 = 7 * 86_400_000;
/// Patterns over keys that are tried for one key, whose own text nobody knows.
const KEYS_MAX: usize = 20;
/// Ends of top-ups that are looked at.
const ENDS_MAX: usize = 16;

/// The policies, asked about one account after another.
pub(in crate::control) struct Asked {
    bounds: AskedBounds,
    keys: Vec<String>,
    now_ms: i64,
    /// When top-ups end, the next first.
    ends_ms: Vec<i64>,
}

/// Which limit is meant.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Which<'a> {
    pub account: &'a str,
    pub window: Window,
    pub unit: Unit,
}

/// A limit as the policies ask for it.
pub(in crate::control) struct AskedLimit {
    pub bound: RequestedBound,
    /// What top-ups add to it now, in its unit; 0 is nothing.
    pub topped_up: i64,
    /// When it is lower again.
    pub until_ms: Option<i64>,
}

impl Asked {
    /// `policies`: those to ask, in force or to come; `in_force`: what they are made of. `None`: they cannot be asked.
    pub fn of(policies: &PolicySet, in_force: &InForce, more_ends_ms: Option<i64>, now_ms: i64) -> Option<Asked> {
        let of_file = in_force.file.get(BUDGET).and_then(|conf| conf.get(TOP_UPS));
        let of_file = of_file.and_then(Value::as_array).into_iter().flatten();
        let of_runtime = in_force
            .parts
            .rules
            .of(BUDGET)
            .filter(|rule| rule.field() == Some(TOP_UPS));
        let top_ups = of_file.chain(of_runtime.map(|rule| &rule.value));
        let ends = top_ups.filter_map(|top_up| moment(top_up.get("until")?));
        let mut ends_ms: Vec<i64> = ends.chain(more_ends_ms).filter(|at_ms| *at_ms > now_ms).collect();
        ends_ms.sort_unstable();
        ends_ms.dedup();
        Some(Asked {
            bounds: policies.asked_bounds().ok()?,
            keys: keys_of(in_force),
            now_ms,
            ends_ms,
        })
    }

    /// The limit of this account that is `limit`, as it was asked for last; `None`: no policy asks for it now, or nobody knows whose
    /// key it is.
    pub fn find(&self, which: Which<'_>, mode: Mode, limit: i64) -> Option<AskedLimit> {
        let is_it = |bound: &RequestedBound| bound.bound.mode() == mode && bound.bound.limit().count() == limit;
        self.keys_for(which.account).find_map(|key| {
            let bound = self.on(which, key, self.now_ms).into_iter().find(is_it)?;
            Some(self.with_top_ups(which, key, bound))
        })
    }

    /// The limit that binds first: the lowest that refuses, else the lowest that only warns. `before`: what was asked for last, by
    /// which the account's key is known again.
    pub fn binding(&self, which: Which<'_>, known: impl Fn(&str) -> bool) -> Option<AskedLimit> {
        let key = self.keys_for(which.account).find(|key| known(key)).unwrap_or(OTHER_KEY);
        let bounds = self.on(which, key, self.now_ms);
        let lowest = |mode: Mode| {
            let of_mode = bounds.iter().filter(|bound| bound.bound.mode() == mode);
            of_mode.min_by_key(|bound| bound.bound.limit().count())
        };
        let bound = lowest(Mode::Hard).or_else(|| lowest(Mode::Watch))?.clone();
        Some(self.with_top_ups(which, key, bound))
    }

    /// Whether a call with this key is given a limit of these counts.
    pub fn gives(&self, which: Which<'_>, key: &str, limits: &[i64]) -> bool {
        let bounds = self.on(which, key, self.now_ms);
        !limits.is_empty() && bounds.iter().all(|bound| limits.contains(&bound.bound.limit().count()))
    }

    fn keys_for(&self, account: &str) -> impl Iterator<Item = &str> {
        let most = if account.starts_with("key:") { KEYS_MAX } else { 1 };
        self.keys.iter().take(most).map(String::as_str)
    }

    fn on(&self, which: Which<'_>, key: &str, at_ms: i64) -> Vec<RequestedBound> {
        let mut bounds = self.bounds.on(which.account, key, at_ms).unwrap_or_default();
        bounds.retain(|bound| bound.bound.window() == which.window && bound.bound.unit() == which.unit);
        bounds
    }

    fn with_top_ups(&self, which: Which<'_>, key: &str, bound: RequestedBound) -> AskedLimit {
        let limit = bound.bound.limit().count();
        let at = |at_ms: i64| {
            let same = |other: &RequestedBound| {
                other.bound.mode() == bound.bound.mode() && other.bound.zone().name() == bound.bound.zone().name()
            };
            let found = self.on(which, key, at_ms).into_iter().find(same);
            found.map(|found| found.bound.limit().count())
        };
        // The same hour of the same weekday as now: policies may go by those.
        let weeks = |last_ms: &i64| (last_ms - self.now_ms) / WEEK_MS + 1;
        let later_ms = self
            .ends_ms
            .last()
            .map(weeks)
            .map(|weeks| weeks.saturating_mul(WEEK_MS));
        let base = later_ms.and_then(|later_ms| at(self.now_ms.saturating_add(later_ms)));
        let topped_up = base.map_or(0, |base| limit.saturating_sub(base).max(0));
        let mut ends = self.ends_ms.iter().take(ENDS_MAX).copied();
        let until_ms = ends.find(|at_ms| topped_up > 0 && at(*at_ms).is_some_and(|then| then < limit));
        AskedLimit {
            topped_up,
            until_ms,
            bound,
        }
    }
}

/// As rules say moments: RFC 3339 or a date, or seconds since the epoch.
fn moment(value: &Value) -> Option<i64> {
    if let Some(seconds) = value.as_i64() {
        return seconds.checked_mul(1_000);
    }
    let text = value.as_str()?;
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    let date = text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(date.timestamp().as_millisecond())
}
