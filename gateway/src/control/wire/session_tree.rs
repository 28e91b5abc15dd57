//! A session with the sessions that it started, step by step.

use agentledger_ledger::{Usage, Usd};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SessionRow;

/// `session.tree`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionTreeParams {
    /// A session's name, or the beginning of one.
    pub id: String,
    /// Whose it is, `""` for the one without a tenant; needed only where several tenants have a session of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// Result of `session.tree`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionTree {
    pub session: SessionRow,
    /// With those of all sessions below it.
    pub sums: TreeSums,
    /// Sessions below it.
    pub subagents: u64,
    /// In the order of time.
    pub steps: Vec<TreeStep>,
    /// Settled calls that the steps tell of: fewer than `sums.calls` where it is cut, or where months of the journal were removed.
    pub shown: u64,
    /// There is more than one answer tells: it has at most 5,000 calls, 200 sessions and 16 levels of them, and a million events of
    /// the journal, others' among them, are read for it.
    pub cut: bool,
}

/// Sums of a session and of those below it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TreeSums {
    /// Settled calls.
    pub calls: u64,
    /// Corrections included.
    #[schemars(with = "String")]
    pub cost_usd: Usd,
    /// Of the calls that are shown.
    #[schemars(with = "std::collections::BTreeMap<String, u64>")]
    pub usage: Usage,
    /// Refused requests that the journal recorded: the first few of each account, code and minute.
    pub refused: u64,
    /// What input from the cache cost less than fresh input would have, cache writes counted in: negative where they were dearer.
    /// Of the calls that are shown; absent where the prices of one with cached input are not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub saved_usd: Option<Usd>,
}

/// A step: calls, refused requests, or a session below with steps of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TreeStep {
    /// `call`, `tool`, `refused` or `session`.
    pub kind: String,
    /// The tool's name, else the task, else the operation; a session's name.
    pub label: String,
    /// As the answer names it; of a refused request as it was requested; empty for a session.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// More than one: neighbours of the same label and model, past three of them.
    pub calls: u64,
    /// Of its calls that failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// Of its calls whose cost is an estimate.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub estimated: u64,
    /// Of its entries, the first hundred, in their order; of refused requests those of `policy.explain`. Absent for a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// When the first began and the last ended.
    pub first: String,
    pub last: String,
    /// Absent for refused requests and for sessions, which have `sums`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<std::collections::BTreeMap<String, u64>>")]
    pub usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cost_usd: Option<Usd>,
    /// The same call again and again (model, label and every count of tokens): how often, on each of the steps that tell of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same: Option<u64>,
    /// What it was refused with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Of a session below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<SessionRow>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums: Option<Box<TreeSums>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<TreeStep>>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
