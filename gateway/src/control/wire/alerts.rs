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
    /// Alerts in the answer; default 100, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Result of `alert.list`: latest first, of the last thousand since the gateway started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRows {
    pub alerts: Vec<AlertRow>,
}

/// An alert, in `alert.list` and as an item of `alert.feed`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRow {
    /// Counts from 1 at each start.
    pub sequence: u64,
    pub at: String,
    /// `budget_warning`, `budget_exceeded`, `loop_detected`, `ghost_detected`, `unpriced_model`, or a policy's own.
    pub r#type: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    pub message: String,
    pub details: BTreeMap<String, String>,
    /// The session, account or key that it is about; empty for the gateway as a whole.
    pub about: String,
    /// `name@version` of the policy that raised it; empty for the gateway itself.
    pub policy: String,
}
