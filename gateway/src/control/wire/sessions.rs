//! Sessions.

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `session.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsParams {
    /// Only sessions with a call since; without it all that are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// `active`, `completed` or `killed`; empty is all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// What comes first: `last` (the latest call, the default), `cost`, `calls` (the most) or `started` (the latest); of equal ones
    /// the latest call.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sort: String,
    /// Sessions in the answer; default 100, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// `session.get`, `session.end`, `session.kill`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionParams {
    pub id: String,
    /// One tenant's session only, `""` for the one without a tenant; left out: every tenant's session of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Why it is ended, for the audit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Sessions, the one with the latest call first; of one name, by tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sessions {
    pub sessions: Vec<SessionRow>,
}

/// A session. Its sums are those of its settled calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionRow {
    pub id: String,
    pub tenant: String,
    pub agent: String,
    pub user: String,
    /// What the latest call said.
    pub task: String,
    /// The session that started this one.
    pub parent: String,
    pub started: String,
    pub last_seen: String,
    /// Null while it is active.
    pub ended: Option<String>,
    /// `active`, `completed`, `killed`.
    pub status: String,
    pub calls: u64,
    /// Calls that are not answered yet.
    pub running: u32,
    pub errors: u64,
    pub tokens: u64,
    #[schemars(with = "String")]
    pub cost_usd: Usd,
}
