//! Budgets as they stand.

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `budget.status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetParams {
    /// Only accounts that begin so: `key:`, `tenant:acme`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// `minute`, `hour`, `day`, `week`, `month` or `total`; empty is all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub window: String,
    /// Accounts in the answer; default 1,000, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `name` (the default), or `urgency`: of the first 10,000 accounts those that have limits, what is used up first, then what runs
    /// out, the soonest first, then what may run out within its band, then the fullest. `next` is null then.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub order: String,
    /// Goes on after this account: `next` of the page before.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub after: String,
}

/// Result of `budget.status`: what accounts have spent and hold in the windows that run, by name. Accounts without a limit
/// are shown where something is posted or held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetStatus {
    pub budgets: Vec<BudgetRow>,
    /// Where the next page begins; null after the last one.
    #[serde(default)]
    pub next: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetRow {
    /// `global`, `key:FINGERPRINT`, `tenant:NAME`, …
    pub account: String,
    pub window: String,
    pub zone: String,
    /// Start and end of the running window; null for `total`.
    pub from: Option<String>,
    pub to: Option<String>,
    #[schemars(with = "String")]
    pub spent_usd: Usd,
    #[schemars(with = "String")]
    pub held_usd: Usd,
    /// The part of what is spent that was billed beyond holds. What was imported is none of it.
    #[schemars(with = "String")]
    pub overage_usd: Usd,
    pub spent_tokens: i64,
    pub held_tokens: i64,
    pub spent_requests: i64,
    pub held_requests: i64,
    /// The limits that policies asked for last: they say them anew for each request. None where no gateway runs.
    pub limits: Vec<LimitRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LimitRow {
    /// `usd`, `tokens`, `requests`.
    pub unit: String,
    /// Decimal dollars, or a count.
    pub limit: String,
    /// `hard` or `watch`.
    pub mode: String,
    /// What of it is neither spent nor held, in its unit, as all figures below; 0 where more is. Absent only within `hold.explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// How much more than the limit is spent; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// Shares of the limit (0.8 is 80 %) from which policies warn, ascending. Absent where they are not known: of keys that patterns
    /// are for, and of accounts beyond the first 1,000 of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<Vec<f64>>,
    /// What will be spent by the window's end; see the guide's page on budgets for the method. Absent, with the next three, where too
    /// little is known, and of windows of a minute or without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<String>,
    /// Four of five futures end between these two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast_low: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast_high: Option<String>,
    /// When the forecast reaches the limit; absent where it does not before the window's end, or is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_out_at: Option<String>,
    /// Since when at least the limit is spent, to the hour; absent where it is not, or that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_up_since: Option<String>,
    /// What top-ups add to the limit now, and when it is lower again; absent where none do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topped_up: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topped_up_until: Option<String>,
}

/// `ledger.forecast`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForecastParams {
    /// One account: `global`, `tenant:acme`, `tag:team=ml`.
    pub account: String,
    /// `hour`, `day`, `week` or `month`, which is the default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub window: String,
}

/// Result of `ledger.forecast`: what an account will have spent in its window that runs. `not_found` where nothing counts for it in
/// such a window, or too little is known of the time before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    pub account: String,
    pub window: String,
    pub zone: String,
    /// Start and end of the window.
    pub from: String,
    pub to: String,
    /// From now to the window's end, each day (each hour of a window of at most two days), the end the last.
    pub ahead: Vec<ForecastPoint>,
    /// At the window's end.
    pub end: ForecastPoint,
}

/// What is spent in all by a moment; four of five futures lie within the band.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForecastPoint {
    pub at: String,
    #[schemars(with = "String")]
    pub usd: Usd,
    #[schemars(with = "String")]
    pub low_usd: Usd,
    #[schemars(with = "String")]
    pub high_usd: Usd,
}
