//! Refused requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `denial.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DenialsParams {
    /// A stretch of time up to now (`24h`, `1w`), of which whole hours are counted. Without it, and without `from` and `to`: 24
    /// hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Exclusive; now where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Codes that begin so: `budget_`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Accounts that begin so: `key:`, `agent:crawler`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// Empty: all tenants together.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Rows in the answer; default 1,000, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Result of `denial.list`: the latest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Denials {
    pub from: String,
    pub to: String,
    /// Requests, of all rows together, also of those beyond `limit`.
    pub refused: u64,
    pub denials: Vec<DenialRow>,
}

/// Requests that rules refused: of one account, for one reason, by one policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DenialRow {
    /// The refusal's code: the gateway's own, or the one that a policy denies with.
    pub code: String,
    /// Whose limit it was, or whose key sent the requests.
    pub account: String,
    /// The policy that denied them, or that put the limit there. Absent where none did, and where a ledger of an earlier version
    /// did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    pub requests: u64,
    /// By the minute.
    pub first: String,
    pub last: String,
}
