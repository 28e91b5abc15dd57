//! Sums over time, exports and corrections.

use std::collections::BTreeMap;

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CostRow;

/// `ledger.series`. Filters as in `ledger.summary`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SeriesParams {
    /// A stretch of time up to now (`24h`, `30d`, `1h30m`). Without it, and without `from` and `to`: 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Exclusive; now where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// `minute`, `hour` or `day`.
    pub step: String,
    /// As in `ledger.summary`; empty: all together.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Empty: all tenants together.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// As the answer names it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Fingerprint, its first digits, or an alias.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task: String,
    /// Of tool calls: the tag of this name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tool: String,
    /// Each of them with this value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Points in the answer; default 1,000, at most 100,000. Whole periods only, the first at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Result of `ledger.series`: points in the order of time. Periods in which nothing happened are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    pub from: String,
    pub to: String,
    pub step: String,
    /// Empty: all together.
    pub by: String,
    pub points: Vec<SeriesPoint>,
    /// `from` of the next page; null after the last one.
    #[serde(default)]
    pub next: Option<String>,
    /// As in `ledger.summary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// Sums of one period, for one value of what was requested by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeriesPoint {
    /// Where the period begins.
    pub at: String,
    #[serde(flatten)]
    pub row: CostRow,
}

/// `ledger.adjust`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdjustParams {
    /// The entry's id.
    pub entry: String,
    /// Decimal text: what is added to its cost; below zero it is given back.
    pub usd: String,
    pub reason: String,
}

/// Result of `ledger.adjust`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AdjustResult {
    pub entry: String,
    /// Of the adjustment's event in the journal.
    pub sequence: u64,
    #[schemars(with = "String")]
    pub usd: Usd,
}

/// `ledger.export`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExportParams {
    /// As in `ledger.summary`; without any of the three: 30 days of sums, or all entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// As in `ledger.summary`, or `entry` for single entries.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Of sums `csv` (the default) or `json`, in the contract's forms; of entries `jsonl`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// The `next` of the answer before: of single entries there are many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Result of `ledger.export`: texts of consecutive answers, put together, are the whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Export {
    pub content_type: String,
    pub text: String,
    /// Where to go on; null at the end.
    #[serde(default)]
    pub next: Option<String>,
}
