//! Tenants, and which keys act for them.

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RuleRow;

/// `tenant.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TenantsParams {
    /// Requests and costs since (`24h`, `30d`); default 30d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// `tenant.get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TenantParams {
    pub tenant: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// Result of `tenant.list`: tenants that made requests or have keys, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tenants {
    pub tenants: Vec<TenantRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TenantRow {
    pub tenant: String,
    pub requests: u64,
    #[schemars(with = "String")]
    pub cost_usd: Usd,
    /// In the day and in the month that run, in UTC.
    #[schemars(with = "String")]
    pub spent_day_usd: Usd,
    #[schemars(with = "String")]
    pub spent_month_usd: Usd,
    /// Rules of `tenant.key_mappings`; nothing for a tenant's own token.
    pub mappings: Vec<RuleRow>,
}

/// `tenant.map` and `tenant.unmap`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TenantMapParams {
    pub api_key_pattern: String,
    pub tenant: String,
    /// `tenant.map`: switches tenants on, where they are off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// `tenant.map`: as in `rule.put`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expires: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// `tenant.bind`: what keys that match go by, whatever their clients say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TenantBindParams {
    pub api_key_pattern: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expires: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
