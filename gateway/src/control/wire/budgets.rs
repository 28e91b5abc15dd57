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
    /// The part of what is spent that was billed beyond holds.
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
}
