//! Moving in and out: rows of elsewhere, and archives of the ledger.

use agentledger_ledger::{Usage, Usd};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `ledger.import`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImportParams {
    /// What the rows are taken from: always the same name for the same source, and no other's. 1 to 128 bytes.
    pub source: String,
    /// The rows, one JSON object a line, as [`ImportRow`], in the order of their source; at most 1 MiB. Without any, the call waits
    /// until all that was taken before is on disk and counted, and says how far the source is taken.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rows: String,
    /// Their keys are named by the original AgentLedger's fingerprints.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub legacy_keys: bool,
    /// What the journal is to say of the whole import, once it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One line of `ledger.import`: a call that passed no hold here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRow {
    /// Where it stands in its source; greater than that of the row before. A row that was taken before is passed over.
    pub place: u64,
    /// A ULID.
    pub id: String,
    /// Start of the request, RFC 3339; never of the future.
    pub at: String,
    pub provider: String,
    pub operation: String,
    pub model: String,
    /// Fingerprint.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Units by kind, as in entries.
    #[schemars(with = "std::collections::BTreeMap<String, u64>")]
    pub usage: Usage,
    #[schemars(with = "String")]
    pub cost_usd: Usd,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// HTTP status of the answer; 0 where there was none.
    #[serde(default)]
    pub status: u16,
    #[serde(default)]
    pub duration_ms: u64,
}

/// Result of `ledger.import`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImportedRows {
    /// Rows of this call that were taken; the others were before.
    pub taken: u64,
    /// How far the source is taken; 0 where nothing is.
    pub place: u64,
    /// The last entry that was taken; null where none was.
    pub last: Option<String>,
}

/// `system.backup`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackupParams {
    /// Where the gateway writes the archive: an absolute path on its machine. The file must not be there.
    pub path: String,
}

/// Result of `system.backup`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackedUp {
    pub path: String,
    pub bytes: u64,
    pub events: u64,
    /// How far the journal in it reaches, `SEQUENCE:HASH`.
    pub head: String,
    /// Whether it holds the secret that keys are named by.
    pub has_secret: bool,
}
