//! Rules: those of the file, and those that operators keep.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `rule.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RulesParams {
    /// Only this policy's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// Only this list: `budget.limits`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub list: String,
    /// `file` or `runtime`; empty is both.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Rows in the answer; default 1,000, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub after: String,
}

/// Result of `rule.list`: by list, in the order in which they count: runtime first, the newest before all others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rules {
    pub rules: Vec<RuleRow>,
    /// Where the next page begins; null after the last one.
    #[serde(default)]
    pub next: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleRow {
    /// A ULID; `file:LIST:N`, N from 1, for a rule of the file.
    pub id: String,
    /// `POLICY.FIELD`, or `POLICY` for fields of its conf that are no lists and no tables.
    pub list: String,
    pub policy: String,
    /// As it was given.
    pub value: Value,
    /// `file` or `runtime`.
    pub source: String,
    /// Requests go by it: a gateway runs, and the policy is not off.
    pub in_force: bool,
    /// Of a runtime rule: 1 when it was made, one more with each change.
    #[serde(default)]
    pub version: Option<u64>,
    /// The name of the token that made it what it is; `owner` for the control socket's.
    #[serde(default)]
    pub author: Option<String>,
    /// When that was.
    #[serde(default)]
    pub at: Option<String>,
    #[serde(default)]
    pub note: Option<String>,
    /// When it ends.
    #[serde(default)]
    pub expires: Option<String>,
    /// The tenant that it is about, where it touches nobody else.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The change that made it what it is, for `rule.revert`.
    #[serde(default)]
    pub change: Option<String>,
}

/// `rule.get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleParams {
    pub id: String,
}

/// `rule.put`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RulePutParams {
    /// `POLICY.FIELD` or `POLICY`: `budget.limits`, `budget.default`, `loop`, `loop.mode`.
    pub list: String,
    /// An item where the field is a list; else what lies over the file's, name by name.
    pub value: Value,
    /// Of the rule to change, or to make; empty: a new one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Why, in the author's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// When it ends: an RFC 3339 time, or how long it holds (`90m`, `7d`); empty: never.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expires: String,
    /// Only if the rule is of this version; 0: only if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
    /// Only says what would change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// `rule.delete`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleDeleteParams {
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Only if the rule is of this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
    /// Only says what would change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Result of whatever changes a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleChanged {
    /// As it is now; of one that was taken away, as it was.
    pub rule: RuleRow,
    /// The change, for `rule.revert`; null where nothing changed.
    pub change: Option<String>,
    /// The value before; null where there was none.
    pub before: Option<Value>,
    pub dry_run: bool,
}
