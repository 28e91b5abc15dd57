//! Versions of policies in the store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `policy.put`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyPutParams {
    /// Luau; the policy's name stands in it.
    pub text: String,
    /// The specs by which its activation is judged, as in a spec file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub specs: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// `policy.activate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyActivateParams {
    pub policy: String,
    /// The beginning of its hash; empty is the version that was put last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// `enforce` (default), or `shadow`: it enforces nothing, whatever its conf says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// First in shadow beside what is in force, for so long (`1h`), then in force by itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shadow_for: String,
    /// Though its specs fail.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Only where what stands of the policy was changed so often; 0: never yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
}

/// `policy.rollback` and `policy.deactivate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyRollbackParams {
    pub policy: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Only where what stands of the policy was changed so often; 0: never yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
}

/// `policy.shadow`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyShadowParams {
    pub policy: String,
    /// The beginning of its hash; empty is the version that was put last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What runs in shadow shall run no more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Only where what stands of the policy was changed so often; 0: never yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
}

/// `policy.history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyHistoryParams {
    pub policy: String,
}

/// What is in force of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyStand {
    /// `store`, `file`, `built-in`, or `none`; `files` where no gateway runs that has read them.
    pub source: String,
    /// The file, or `store/NAME@HASH`.
    pub origin: String,
    /// Of its text.
    pub hash: Option<String>,
    pub since: Option<String>,
    /// `shadow`: it enforces nothing, whatever its conf says.
    pub mode: Option<String>,
    /// The file that would be in force without the store.
    pub overridden: Option<String>,
}

/// What runs beside it, in shadow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRehearsal {
    pub hash: String,
    pub since: String,
    /// When it comes into force by itself.
    pub activate_at: Option<String>,
}

/// How specs came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpecsOutcome {
    pub run: u64,
    /// The failed ones: each by its name, with what is wrong.
    pub failed: Vec<String>,
}

/// What became of a policy: of all methods that change its versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyChanged {
    pub policy: String,
    /// The hash of the version that the change is about.
    pub version: Option<String>,
    pub in_force: PolicyStand,
    pub shadow: Option<PolicyRehearsal>,
    /// How often what stands of the policy was changed: for `if_version`.
    pub changes: u64,
    /// Of the specs that were put with the version, where they were run.
    pub specs: Option<SpecsOutcome>,
    /// Versions that went for want of room.
    pub dropped: Vec<String>,
    /// The activation that waited, and does not any more.
    pub cancelled: Option<String>,
    pub change: Option<String>,
}

/// Result of `policy.history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyHistory {
    pub policy: String,
    pub in_force: PolicyStand,
    pub shadow: Option<PolicyRehearsal>,
    /// How often what stands of the policy was changed: for `if_version`.
    pub changes: u64,
    /// The version that was put last first.
    pub versions: Vec<PolicyVersionRow>,
    /// Stays that are over, the latest first.
    pub past: Vec<PolicyStay>,
}

/// A version that is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyVersionRow {
    pub hash: String,
    /// What the text calls itself.
    pub version: String,
    /// `in_force`, `in_shadow`, `rolled_back`, `earlier` (it was in force, or in shadow), `kept` (it never was), or `refused`:
    /// it should be in force or in shadow, and cannot be.
    pub state: String,
    pub author: String,
    pub at: String,
    pub note: String,
    /// Why it was rolled back, or is refused.
    pub why: String,
    /// Specs were put with it.
    pub has_specs: bool,
    /// How often it was asked where it stands, or stood last; this gateway's count.
    pub calls: u64,
    /// How often it denied, or would have.
    pub denials: u64,
    pub failures: u64,
    /// When it comes into force by itself.
    pub activate_at: Option<String>,
}

/// A stay of a version that is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyStay {
    pub hash: String,
    /// `force` or `shadow`.
    pub r#in: String,
    pub from: String,
    pub to: String,
    /// `replaced`, `activated` (out of shadow), `rolled_back`, `deactivated` or `ended`.
    pub end: String,
    pub by: String,
    pub why: String,
    pub calls: u64,
    pub denials: u64,
    pub failures: u64,
}
