//! Subscriptions: what picks their items, and the items.

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `ledger.tail` and `hold.changes`. A filter that is left out or empty lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FollowParams {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// Of an entry as the answer names it, of a hold as it was requested.
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
    /// At most one item in so many ms, `{"happened": n}`: so many there were since the last. 0: each item as it happens.
    #[serde(skip_serializing_if = "is_zero")]
    pub every_ms: u32,
}

/// `session.changes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FollowSessionsParams {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// At most one item in so many ms, `{"happened": n}`: so many there were since the last. 0: each item as it happens.
    #[serde(skip_serializing_if = "is_zero")]
    pub every_ms: u32,
}

/// `alert.feed`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FollowAlertsParams {
    /// `budget_warning`, `loop_detected`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    /// At most one item in so many ms, `{"happened": n}`: so many there were since the last. 0: each item as it happens.
    #[serde(skip_serializing_if = "is_zero")]
    pub every_ms: u32,
}

/// `rule.changes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FollowRulesParams {
    /// Only subjects that begin so: `rule:`, `price:openai/`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// At most one item in so many ms, `{"happened": n}`: so many there were since the last. 0: each item as it happens.
    #[serde(skip_serializing_if = "is_zero")]
    pub every_ms: u32,
}

fn is_zero(ms: &u32) -> bool {
    *ms == 0
}

/// An item of a subscription with `every_ms`: so many items there were since the one before it, those of other filters that were
/// missed among them. For whoever reads figures anew when something happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Notified {
    pub happened: u64,
}

/// The last item of a subscription whose reader was too slow: so many events were missed. Subscribe anew, and read what is
/// missing by the last `sequence` seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lagged {
    pub lagged: u64,
}

/// An item of `ledger.tail`: an entry, or the correction of one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TailItem {
    /// Of its event in the journal.
    pub sequence: u64,
    pub at: String,
    /// As it is in exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub entry: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjusted: Option<Adjusted>,
}

/// The correction of an entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Adjusted {
    /// The entry's id.
    pub entry: String,
    /// What was added to its cost; below zero: given back.
    #[schemars(with = "String")]
    pub usd: Usd,
    pub reason: String,
}

/// An item of `hold.changes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HoldItem {
    pub sequence: u64,
    pub at: String,
    /// `placed`, `extended`, `deferred` (it waits for a result that is fetched later), `settled`, `voided`.
    pub change: String,
    pub id: u64,
    /// Id of its exchange, and of the entry that it will become.
    pub exchange: String,
    pub provider: String,
    pub model: String,
    /// Fingerprint.
    pub key: String,
    pub tenant: String,
    pub agent: String,
    pub session: String,
    /// Held with this change, or the cost that it settled at.
    #[schemars(with = "String")]
    pub usd: Usd,
    /// Why it has its size, was voided, or cost more than was held.
    pub reason: String,
}

/// An item of `session.changes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionItem {
    pub sequence: u64,
    pub at: String,
    /// `call_started`, `call_ended`, `completed`, `killed`, `alerted`.
    pub change: String,
    pub id: String,
    pub tenant: String,
    /// Empty where the change is not a call's.
    pub agent: String,
    pub user: String,
    /// What the call cost, where one ended.
    #[schemars(with = "String")]
    pub usd: Usd,
}
