//! Rules: those of the file, and those that operators keep.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::LimitRow;

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
    /// What its author may not expect: that a stricter limit holds beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Of a `dry_run` of `budget.set` or `budget.top_up` on one account: the limit that would bind, as it would stand. Absent for
    /// patterns and kinds, and where no policy would ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<LimitRow>,
}

/// `rule.history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleHistoryParams {
    /// Only of this rule.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Only of rules of this list.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub list: String,
    /// Changes in the answer; default 100, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Goes on before this event: `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// `rule.revert`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleRevertParams {
    /// The change to undo, a ULID.
    pub change: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Only says what would change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// `budget.set`: exactly one of `account`, `api_key_pattern` and `tenant`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetSetParams {
    /// A kind alone (`agent`: each by itself), one account (`agent:coder`, `global`), or a pattern (`agent:ci-*`). A key by its
    /// fingerprint, the first digits of it, or its alias (`key:ci`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// Keys that match it, each by itself; by `day` and `month` in USD.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_key_pattern: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// `minute`, `hour`, `day`, `week`, `month` or `total`.
    pub window: String,
    /// In the unit: decimal text, or a number.
    pub limit: Value,
    /// `usd` (default), `tokens` or `requests`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// `block` (default), `warn`, `clamp` or `downgrade`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// Shares of the limit from which to warn: 0.8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub soft: Vec<f64>,
    /// Time zone of the window: `Europe/Berlin`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// As in `rule.put`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// `budget.top_up`: exactly one of `account` and `api_key_pattern`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetTopUpParams {
    /// As a limit names it (`agent`, `agent:ci-*`), or one account; a key as in `budget.set`. Some limit in force must fit it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// As a rule names it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_key_pattern: String,
    /// In the unit, on top of each limit that it fits: decimal text, or a number.
    pub amount: Value,
    /// When it ends: a time, a date, or how long it holds (`7d`).
    pub until: String,
    /// When it begins: a time or a date; empty: now.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Only limits of this window; empty: all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub window: String,
    /// `usd` (default), `tokens` or `requests`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// `rate.set`: exactly one of `account` and `api_key_pattern`, and at least one rate; 0 takes a rate away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateSetParams {
    /// As in `budget.set`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_key_pattern: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_hour: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_hour: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Requests that run at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
