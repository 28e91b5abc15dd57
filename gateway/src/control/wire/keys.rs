//! API keys, by their fingerprints.

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RuleRow;

/// `key.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeysParams {
    /// Keys seen since (`24h`, `30d`); default 30d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// Result of `key.list`: keys that made requests, dearest first, and what is blocked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Keys {
    pub keys: Vec<KeyRow>,
    /// Rules of `block.keys` and `block.fingerprints`; nothing for a tenant's token.
    pub blocked: Vec<RuleRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRow {
    /// By which the configuration (`keys.aliases`) knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub fingerprint: String,
    pub requests: u64,
    #[schemars(with = "String")]
    pub cost_usd: Usd,
    /// The start of its last settled request.
    pub last_seen: String,
    /// The tenant of its requests, where it is one.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Its fingerprint is blocked. Patterns over whole keys are not decided here: keys are not kept.
    pub blocked: bool,
}

/// `key.block` and `key.unblock`: exactly one of `pattern` and `fingerprint`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyBlockParams {
    /// Over whole keys: `sk-leaked-*`. A whole key is kept as its fingerprint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pattern: String,
    /// As `key.list` names it, its first digits, or its alias.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// `key.block`: as in `rule.put`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expires: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
