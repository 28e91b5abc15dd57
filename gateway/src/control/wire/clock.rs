//! The clock that decisions go by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the machine's clock stands to the time of the ledger's last decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClockStatus {
    /// RFC 3339.
    pub machine: String,
    /// RFC 3339.
    pub ledger: String,
    /// `sound`, `ahead` (no request is admitted) or `behind` (windows stand still).
    pub state: String,
    /// Milliseconds that the machine's clock is ahead; below zero, behind; 0 while it is sound.
    pub offset_ms: i64,
}
