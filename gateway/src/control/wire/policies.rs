//! Policies in force.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Result of `policy.list`, in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Policies {
    pub policies: Vec<PolicyRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRow {
    pub name: String,
    pub version: String,
    /// Lower ones run first.
    pub priority: i64,
    /// `enforce`, `shadow` (evaluated and recorded) or `off`.
    pub mode: String,
    /// `store`, `file` or `built-in`: the store's goes over a file, and that over what is built in.
    pub source: String,
    /// The file.
    pub origin: String,
    pub description: String,
    /// When it is asked: `tenant`, `request`, `settled`, `alert`.
    pub phases: Vec<String>,
    /// BLAKE3 of its file's text.
    pub digest: String,
    /// Of the compiled file with its conf and mode: what decides.
    pub conf_digest: String,
    /// The file that would be in force without the store.
    pub overridden: Option<String>,
    /// The hash of the version that runs beside it, in shadow.
    pub in_shadow: Option<String>,
}

/// `policy.get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyParams {
    pub policy: String,
    /// A version of the store by the beginning of its hash; empty is what is in force.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// Result of `policy.get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyText {
    pub policy: PolicyRow,
    /// Luau.
    pub text: String,
    /// What the file and runtime rules make of its conf, with the schema's defaults; null for a version that is not in force.
    pub conf: Value,
    /// The specs that were put with it.
    pub specs: Option<String>,
}

/// `policy.enable` and `policy.disable`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyModeParams {
    pub policy: String,
    /// `policy.enable`: `enforce` (default) or `shadow`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}
