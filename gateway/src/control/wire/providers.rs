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
    /// What it serves, where that was requested: the first row that fits a request counts, and what none fits is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteRow>,
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
