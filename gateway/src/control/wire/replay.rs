//! Replays of the past's decisions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::replay::explain::ExplainedRequest;
pub use crate::replay::report::Replayed;

/// `policy.replay`: begins a replay, or, with `job`, says how one stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayParams {
    /// `exact`, `simulated` (default) or `diff`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// What shall be tried in place of what is in force.
    pub candidate: ReplayCandidate,
    /// `diff`: what it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<ReplayCandidate>,
    /// A stretch of time up to now: `24h`, `7d` (default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Exclusive; now where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The replay whose state is wanted; all else is left out then.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// It shall end, with what it has: the one that runs where no job is named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// Policies, confs and prices in place of those in force. Empty: as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayCandidate {
    /// What it is called.
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<ReplayPolicy>,
    /// Confs of policies, by the policies' names, in place of what the file says; runtime rules lie over them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub confs: BTreeMap<String, Value>,
    /// The confs are all that there are: a policy without one has its defaults.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub confs_are_all: bool,
    /// Price files, YAML: all calls are priced anew.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<String>,
}

/// A policy by its name: a text, a version of the store, or, where both are left out, what is in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayPolicy {
    /// The policy's name; of a text what it is called in errors, since it names itself.
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The hash of a version that was put, or its beginning.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// How a replay stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayState {
    pub job: String,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// Events of the journal that were read, and decisions among them.
    pub events: u64,
    pub decisions: u64,
    /// About how many events there are to read; 0 where that is not known yet.
    pub events_in_all: u64,
    /// Why it failed; empty where it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Replayed>,
}

/// `policy.explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainParams {
    /// The exchange's id: of an entry, or of a refusal that was recorded.
    pub id: String,
}
