//! What was changed, by whom, and from where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `audit.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditParams {
    /// A stretch of time up to now (`24h`, `30d`); without it, and without `from` and `to`: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Exclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only subjects that begin so: `rule:`, `session:acme/`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Only actions that begin so: `rule.`, `session.kill`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// A token's name, `owner` (the control socket's) or `agentledger` (the gateway itself).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Changes in the answer; default 100, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Goes on before this event: `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// Result of `audit.list`: changes, latest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    pub changes: Vec<ChangeRow>,
    /// Where the next page begins; null after the last one.
    #[serde(default)]
    pub next: Option<u64>,
}

/// One change. It is an event of the journal, and as hard to remove.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeRow {
    /// ULID.
    pub id: String,
    /// Of its event in the journal.
    pub sequence: u64,
    pub at: String,
    /// The token's name, `owner` or `agentledger`.
    pub author: String,
    /// Where it came from: an address, or `socket`.
    pub peer: String,
    /// The method.
    pub action: String,
    /// `rule:ID`, `price:PROVIDER/MODEL`, `provider:NAME`, `session:TENANT/ID`, `hold:SEQUENCE`, `entry:ULID`, `breaker:NAME`,
    /// `mcp-tool:SERVER/TOOL`, `clock`.
    pub subject: String,
    /// Whose matter it is; empty: everybody's.
    pub tenant: String,
    /// Why, in the author's words.
    pub note: String,
    /// Null: there was nothing.
    pub before: Option<Value>,
    /// Null: nothing is left.
    pub after: Option<Value>,
}
