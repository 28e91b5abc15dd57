//! Providers and their routes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `provider.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProvidersParams {
    /// Only this one; empty: all.
    pub provider: String,
    /// With the table of their routes: what is metered, free or refused, and why.
    pub routes: bool,
}

/// Result of `provider.list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Providers {
    pub providers: Vec<ProviderRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderRow {
    pub name: String,
    pub dialect: String,
    /// Whose API the upstream has; empty where it is not known.
    #[serde(default)]
    pub vendor: String,
    /// Empty: served at the root.
    pub prefix: String,
    /// `host:port`.
    pub upstream: String,
    pub enabled: bool,
    /// `off`, `closed`, `open`, `half_open`.
    pub breaker: String,
    /// Consecutive failures the breaker has counted.
    pub failures: u32,
    /// Requests go to it: the breaker is closed, or there is none.
    #[serde(default)]
    pub healthy: bool,
    /// Null for tokens of a tenant.
    #[serde(default)]
    pub traffic: Option<Traffic>,
    /// What it serves, where that was requested: the first row that fits a request counts, and what none fits is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteRow>,
}

/// `provider.reset_breaker`, `provider.enable`, `provider.disable`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderParams {
    pub provider: String,
    /// Why, for the audit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What went to a provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Settled since the gateway started; `errors` of them with a status of 400 and above, or without an answer.
    pub requests: u64,
    pub errors: u64,
    /// From a request's beginning to its answer's end, and to its first byte.
    pub duration: Latency,
    pub ttfb: Latency,
}

/// Percentiles over the last ten to twenty minutes, at most an eighth too high; null where there was nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    pub p50_ms: Option<u64>,
    pub p90_ms: Option<u64>,
    pub p99_ms: Option<u64>,
}

/// One row of a provider's table of routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RouteRow {
    pub dialect: String,
    pub method: String,
    /// Behind the provider's prefix.
    pub path: String,
    pub operation: String,
    /// `metered`, `free`, `fetched`, `fetched_lines`, `refused`.
    pub billing: String,
    /// Why it is free or refused, or how else it is billed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Where its vendor says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// `provider.enable` and `provider.disable`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderSwitchParams {
    pub provider: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Result of `provider.enable` and `provider.disable`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderSwitched {
    pub provider: String,
    pub enabled: bool,
    /// The change; null where it was so already.
    pub change: Option<String>,
}
