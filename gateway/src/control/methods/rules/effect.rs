//! What a change of budgets comes to for those that it is about: whether a top-up raises any limit, and whether a stricter limit
//! holds beside one that is set. Asked of the policies themselves, by a call as the account's own would be.

use agentledger_ledger::{Limit, Mode, Unit, Usd};
use serde_json::Value;

use crate::control::error::RpcError;
use crate::policy::{AskedBounds, PolicySet, RequestedBound, sample_key};
use crate::runtime::{InForce, Refused};

/// The key of a made-up call that no pattern is for.
pub(super) const OTHER_KEY: &str = "agentledger-probe";
/// Patterns over keys that are tried: which of them a fingerprint's key fits is not known. Where there are more, any may be.
const PATTERNS_MAX: usize = 1_000;

/// A top-up as its author named it.
pub(in crate::control) struct TopUp<'a> {
    /// `account` or `api_key_pattern`, and what it says.
    pub path: &'static str,
    pub named: &'a str,
    /// When it begins to count.
    pub at_ms: i64,
}

impl TopUp<'_> {
    /// # Errors
    /// It raises no limit that is in force.
    pub fn raises_something(&self, before: &InForce, after: &PolicySet) -> Result<(), RpcError> {
        let is_pattern = self.path == "api_key_pattern";
        let account = if is_pattern { "key" } else { self.named };
        let keys = match (is_pattern, account.split(':').next()) {
            (true, _) => sample_key(self.named).into_iter().collect(),
            (false, Some("key")) => keys_of(before),
            (false, _) => vec![OTHER_KEY.to_owned()],
        };
        // Nobody can say what a call would be given that fails, or is refused anyway.
        let (Ok(was), Ok(is)) = (before.policies.asked_bounds(), after.asked_bounds()) else {
            return Ok(());
        };
        let raises = |key: &String| {
            let on = |asked: &AskedBounds| asked.on(account, key, self.at_ms);
            match (on(&was), on(&is)) {
                (Some(was), Some(is)) => was != is,
                _ => true,
            }
        };
        if keys.len() > PATTERNS_MAX || keys.iter().any(raises) {
            return Ok(());
        }
        let text = format!(
            "{:?} fits no limit in force of that window and unit, so nothing would be raised: budget.status shows the limits, \
             budget.set makes one",
            self.named
        );
        Err(Refused::unfit(self.path, text).into())
    }
}

/// A key that fits each pattern, and one that fits none.
pub(super) fn keys_of(before: &InForce) -> Vec<String> {
    let file = before.file.get("budget").and_then(|conf| conf.get("rules"));
    let of_file = file.and_then(Value::as_array).into_iter().flatten();
    let of_runtime = before.parts.rules.of("budget").map(|rule| &rule.value);
    let patterns = of_file
        .chain(of_runtime)
        .filter_map(|rule| rule.get("api_key_pattern")?.as_str());
    let fitting = patterns.filter_map(sample_key).take(PATTERNS_MAX);
    std::iter::once(OTHER_KEY.to_owned()).chain(fitting).collect()
}

/// A limit as its author named it.
pub(in crate::control) struct SetLimit<'a> {
    pub account: &'a str,
    pub window: &'a str,
    pub unit: &'a str,
    pub limit: &'a Value,
    pub at_ms: i64,
}

impl SetLimit<'_> {
    /// Says that a stricter limit of the same account and window goes on to hold; `None` where none does.
    pub fn stricter(&self, after: &PolicySet) -> Option<String> {
        let wanted = self.count()?;
        let bounds = after.asked_bounds().ok()?.on(self.account, OTHER_KEY, self.at_ms)?;
        let same = |bound: &&RequestedBound| {
            let bound = &bound.bound;
            bound.mode() == Mode::Hard && bound.window().name() == self.window && bound.unit().name() == self.unit
        };
        let strictest = bounds
            .iter()
            .filter(same)
            .min_by_key(|bound| bound.bound.limit().count())?;
        if strictest.bound.limit().count() >= wanted {
            return None;
        }
        let limit = amount(strictest.bound.limit());
        Some(format!(
            "a stricter limit goes on to hold for {}: {limit} a {}, by policy {}. Where it is of budgets.default, budgets.rules or \
             budgets.global, raise it there (agentledger rules put) or for a while (agentledger budgets top-up)",
            self.account, self.window, strictest.policy
        ))
    }

    fn count(&self) -> Option<i64> {
        let text = match self.limit {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match Unit::from_name(self.unit)? {
            Unit::Usd => text.parse::<Usd>().ok().map(Usd::nanos),
            Unit::Tokens | Unit::Requests => text.parse().ok(),
        }
    }
}

fn amount(limit: Limit) -> String {
    match limit.unit() {
        Unit::Usd => format!("${}", Usd::from_nanos(limit.count())),
        unit => format!("{} {}", limit.count(), unit.name()),
    }
}
