//! The ledger: sums, entries, the walk over the journal.

use std::collections::BTreeMap;

use agentledger_ledger::{Usage, Usd};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `ledger.summary`. A filter that is left out or empty lets everything pass. Sums of filters of several kinds, or of one kind by
/// another, are read from the entries themselves: of the latest 200,000 at most, see `since`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SummaryParams {
    /// A stretch of time up to now (`24h`, `30d`, `1h30m`). Without it, and without `from` and `to`: 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Exclusive; now where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// `model` (the default, and what an unknown word means), `provider`, `key`, `agent`, `session`, `user`, `task`,
    /// `tenant`, `tag:NAME`; the usual tags go by their names alone: `feature`, `team`, `project`, `cost_centre`, `page`,
    /// `server`, `tool` (of tool calls).
    pub by: String,
    /// Empty: all tenants together.
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
    /// Rows in the answer, the dearest; without it all, at most 10,000 and one for the others. `total` is always of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Sums for one value of what was asked by. Names that this does not bear are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CostRow {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Fingerprint, its first digits, or an alias.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Of an imported key that was seen here since: the fingerprint that it has now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key_now: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    pub requests: u64,
    pub errors: u64,
    pub estimated: u64,
    /// All that was read, cached or not.
    pub input_tokens: u64,
    pub output_tokens: u64,
    #[schemars(with = "std::collections::BTreeMap<String, u64>")]
    pub usage: Usage,
    #[schemars(with = "String")]
    pub cost_usd: Usd,
    /// Held for the settled exchanges, extensions included.
    #[schemars(with = "String")]
    pub held_usd: Usd,
    /// Billed beyond what was held.
    #[schemars(with = "String")]
    pub overage_usd: Usd,
}

/// Result of `ledger.summary`: rows by cost, dearest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    pub from: String,
    pub to: String,
    pub by: String,
    pub rows: Vec<CostRow>,
    /// Of all rows together. Where an entry may bear several values, or none, as with tags, it is the sum of those that bear one.
    pub total: CostRow,
    /// Only what began since then is summed: before it there is more than one answer reads. Null where it is everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// `ledger.query`. A filter that is left out or empty lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueryParams {
    /// As in `ledger.summary`; without any of the three: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// As the answer names it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Fingerprint, its first digits, or an alias.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Entries in one answer; default 100, at most 1,000. With a filter there may be fewer, even none, though `next` says
    /// that there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The `next` of the answer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Result of `ledger.query`: entries in the order in which they were settled.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Entries {
    /// Each as it is in exports.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub entries: Vec<Box<RawValue>>,
    /// Where to go on; null at the end.
    pub next: Option<String>,
}

/// `ledger.adjustments`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdjustmentsParams {
    /// When the corrected requests began, as in `ledger.summary`; without any of the three: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Corrections in one answer; default 100, at most 1,000. Of one tenant's there may be fewer though `next` says that there
    /// are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The `next` of the answer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// Result of `ledger.adjustments`, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Adjustments {
    pub adjustments: Vec<Adjustment>,
    /// Where to go on; null at the end.
    pub next: Option<u64>,
}

/// A correction of an entry. Sums have it at the entry's time, under the entry's names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Adjustment {
    pub sequence: u64,
    /// When it was made.
    pub at: String,
    /// The entry's id.
    pub entry: String,
    /// When the entry's request began.
    pub entry_at: String,
    /// Added to what the entry cost; negative to give back. Decimal text.
    #[schemars(with = "String")]
    pub usd: Usd,
    pub reason: String,
    pub provider: String,
    pub model: String,
    pub key: String,
    pub tenant: String,
    pub agent: String,
    pub session: String,
    pub user: String,
    pub task: String,
    pub tags: BTreeMap<String, String>,
}

/// `ledger.verify`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyParams {
    /// A head that was kept elsewhere, `SEQUENCE:HASH` or the hash alone: the chain must contain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

/// Result of `ledger.verify`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// No damage, and the expected head, if one was given, is in the chain.
    pub ok: bool,
    /// The last event that could be believed, `SEQUENCE:HASH`.
    pub head: String,
    pub months: Vec<String>,
    pub events: u64,
    pub entries: u64,
    pub open_holds: u64,
    /// What is wrong, one sentence each.
    pub damage: Vec<String>,
    /// Of the secret that the ledger's keys are named by, in hex: to know it again by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint_check: Option<String>,
}
