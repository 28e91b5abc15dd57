//! MCP servers, and decisions about tools whose definitions changed.

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `mcp.servers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ToolServersParams {
    /// As in `ledger.summary`, for the sums; without any of the three: 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Result of `mcp.servers`: those that are served, those that clients start themselves, and those of which a call is entered in this
/// stretch; the dearest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolServers {
    pub from: String,
    pub to: String,
    pub servers: Vec<ToolServerRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolServerRow {
    pub name: String,
    /// `http`, or `stdio` for one that its client starts; empty where the gateway knows it by its entries alone.
    pub transport: String,
    /// Under which it is served here; null for one that is not.
    pub path: Option<String>,
    /// What becomes of a tool whose definition changes: `refuse`, `alert`; null where definitions are not pinned.
    pub pin: Option<String>,
    /// Since when the oldest of its tools is pinned; null where none is, or that is not known.
    pub pinned_since: Option<String>,
    /// Entries of the stretch, and those of them that failed.
    pub calls: u64,
    pub failed: u64,
    #[schemars(with = "String")]
    pub spent_usd: Usd,
    /// Of calls that run now.
    #[schemars(with = "String")]
    pub held_usd: Usd,
    pub held_calls: u64,
    /// Those that were called in this stretch or are pinned; the dearest first.
    pub tools: Vec<ToolRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolRow {
    pub name: String,
    /// In words, by the first rule of the configuration that is for it; null where none is, or another pricer says it.
    pub price: Option<String>,
    pub calls: u64,
    pub failed: u64,
    #[schemars(with = "String")]
    pub held_usd: Usd,
    #[schemars(with = "String")]
    pub spent_usd: Usd,
    /// Names the definition that people came to trust: 64 hexadecimal digits; null where it is not pinned.
    pub pinned: Option<String>,
    /// Its definition is another one now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<ToolChange>,
}

/// What a tool is said to do since its server changed it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolChange {
    /// Names its definition now, for `mcp.decide`; empty where no list was seen since an older version noted the change.
    pub now: String,
    pub since: Option<String>,
    /// Calls that were refused since then, or since the last start.
    pub refused: u64,
    /// Somebody decided that it stays refused.
    pub is_refused: bool,
    pub pinned: String,
    pub pinned_at: Option<String>,
    /// Who accepted the pinned definition; empty where it was pinned as it was first seen.
    pub pinned_by: String,
    /// Lines of the definition, first what a model is told: each a sign, ` ` as before, `-` gone, `+` new, and the line. Empty where
    /// only hashes of it came.
    pub lines: Vec<(String, String)>,
}

/// `mcp.decide`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DecideParams {
    pub server: String,
    pub tool: String,
    /// `now` of its change, as it was looked at. Another definition that came since is not decided on.
    pub definition: String,
    /// It is trusted as it is now; else it stays out of lists and its calls are refused, whatever the configuration says.
    pub accept: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Result of `mcp.decide`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    pub server: String,
    pub tool: String,
    /// Names the definition that is pinned now.
    pub pinned: String,
    pub accepted: bool,
    /// In the audit trail.
    pub change: String,
}
