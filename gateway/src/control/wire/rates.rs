//! Rates as they stand.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `rate.status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateStatusParams {
    /// Rows in the answer; default 100, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Result of `rate.status`: the fullest first. Rates of which nothing is used now are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RateStatus {
    pub rates: Vec<RateRow>,
}

/// A rate that something is counted on now. A call that does not fit is refused; none waits for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RateRow {
    pub account: String,
    /// As `rate.set` has it: `requests_per_minute`, `tokens_per_day`, `parallel`.
    pub rate: String,
    /// Taken within the window that ends now; of `parallel`, calls that run.
    pub used: u64,
    /// As a call asked for it last.
    pub limit: u64,
    /// Milliseconds until all of it is free again if nothing more is taken; null of `parallel`.
    pub reset_ms: Option<i64>,
}
