//! Calls for whoever looks through them: the latest, the dearest, the failed.

use std::collections::BTreeMap;

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::CostRow;

/// `ledger.calls`. A filter that is left out or empty lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallsParams {
    /// When the requests began, as in `ledger.summary`: without any of the three 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
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
    /// Only those with an `error` (status 400 or above, or a failed upstream), `estimated` ones, or those that cost more than was
    /// held for them (`overage`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub is: String,
    /// `at` (the default: when the request began), `cost`, `tokens` or `duration`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sort: String,
    /// `desc` (the default) or `asc`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub order: String,
    /// Entries in one answer; default 100, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The `next` of the answer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Result of `ledger.calls`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Calls {
    pub from: String,
    pub to: String,
    /// Each as it is in exports.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub calls: Vec<Box<RawValue>>,
    /// Where to go on; null at the end. Of rare names there may be few calls in an answer, even none, though there are more.
    pub next: Option<String>,
    /// Of all calls of the filter, not of these alone.
    pub total: CostRow,
    /// Only what began since then was looked through: before it there is more than one answer reads, 200,000 entries. Null where it
    /// is everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// `ledger.pace`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PaceParams {
    /// Empty: all tenants together.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
}

/// Result of `ledger.pace`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pace {
    /// What a minute cost, over the last `window_s` seconds.
    #[schemars(with = "String")]
    pub usd_per_minute: Usd,
    pub window_s: u64,
}
