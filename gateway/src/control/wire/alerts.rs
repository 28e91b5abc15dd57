//! Alerts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `alert.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertsParams {
    /// Only those of this stretch of time up to now; without it all that are remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Only this type: `budget_warning`, `loop_detected`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    /// Only those with a delivery in this state: `pending`, `failed`, `delivered`, `dead`, `silenced`, `folded`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Alerts in the answer; default 100, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Result of `alert.list`: latest first, of the last thousand since the gateway started, and of those that waited or were dead
/// letters when it did. Where no gateway runs: what waits for the next start, and dead letters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRows {
    pub alerts: Vec<AlertRow>,
    /// In force, oldest first.
    pub silences: Vec<SilenceRow>,
}

/// An alert, in `alert.list` and as an item of `alert.feed`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRow {
    /// Counts from 1 at each start.
    pub sequence: u64,
    /// The same wherever it is delivered, and at each attempt.
    pub id: String,
    pub at: String,
    /// `budget_warning`, `budget_exceeded`, `loop_detected`, `ghost_detected`, `unpriced_model`, or a policy's own.
    pub r#type: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    pub message: String,
    pub details: BTreeMap<String, String>,
    /// The session, account or key that it is about; empty for the gateway as a whole.
    pub about: String,
    /// Whose matter it is; empty for nobody's in particular.
    pub tenant: String,
    /// `name@version` of the policy that raised it; empty for the gateway itself.
    pub policy: String,
    /// Alerts that were not sent by themselves, and that this one stands for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub folded: u64,
    /// By receiver, in `alert.list`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<AlertDelivery>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// An alert's way to one receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertDelivery {
    /// Empty where a silence covers the alert.
    pub receiver: String,
    /// `pending`, `failed` (tried again), `delivered`, `dead` (given up), `silenced`, or `folded` (goes with another).
    pub state: String,
    pub attempts: u32,
    /// Why the last attempt failed, or the id of the silence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
}

/// Alerts that are noted and not delivered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SilenceRow {
    pub id: String,
    /// Patterns; an empty one fits everything.
    pub r#type: String,
    pub about: String,
    pub tenant: String,
    pub until: String,
}

/// `alert.test`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertTestParams {
    /// By its name in the configuration; the contract's are `slack`, `webhook1`, `webhook2`, …
    pub receiver: String,
}

/// Result of `alert.test`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertTested {
    pub receiver: String,
    /// The test alert's.
    pub id: String,
    pub delivered: bool,
    /// What the receiver said, or why it does not have it.
    pub answer: String,
}

/// `alert.retry`: all dead letters, or some.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertRetryParams {
    /// Only this alert's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Only those to this receiver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub receiver: String,
}

/// Result of `alert.retry`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertsRetried {
    /// Dead letters that are tried again.
    pub retried: usize,
}

/// `alert.silence`: at least one pattern. `*` is any text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SilenceParams {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// A time, or how long from now: `2h`, `7d`.
    pub until: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Result of `alert.silence` and `alert.unsilence`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Silenced {
    pub silence: SilenceRow,
    /// The change's id, as `audit.list` has it.
    pub change: String,
}

/// `alert.unsilence`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnsilenceParams {
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}
