//! Prices in force.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `price.list` and `price.show`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PricesParams {
    /// One provider only; empty is all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// `price.show`: a model's name, as a request may have it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// A day, `YYYY-MM-DD`: the prices that hold then. Without it: now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// Result of `price.list` and `price.show`: rows of the providers that are served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prices {
    pub rows: Vec<PriceRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PriceRow {
    pub provider: String,
    pub id: String,
    pub aliases: Vec<String>,
    /// The day since which these prices hold, and all days on which prices of this row begin.
    pub from: String,
    pub days: Vec<String>,
    /// Tokens; null where it is not known.
    pub max_output: Option<u64>,
    /// The first day without it.
    pub retired: Option<String>,
    pub source: String,
    /// When it was compared with its source.
    pub checked: Option<String>,
    pub note: Option<String>,
    pub file: String,
    pub line: u64,
    /// Tier (`standard`, `standard >200000`, `batch`, …) → kind → decimal USD, per million tokens or per unit.
    pub prices: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
}

/// `price.put`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PricePutParams {
    pub provider: String,
    /// As an item of `models` in a price file: `{"id": …, "prices": {"always": {"standard": {"input": 2.5, "output": 10}}}}`.
    pub row: serde_json::Value,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// `price.delete`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PriceDeleteParams {
    pub provider: String,
    /// The row's id.
    pub model: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Result of `price.put` and `price.delete`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PriceChanged {
    pub provider: String,
    pub model: String,
    /// The change; null where nothing changed.
    pub change: Option<String>,
    /// The row that was put before; null where there was none.
    pub before: Option<serde_json::Value>,
    /// The row that is put now; null where there is none, and the files' counts.
    pub after: Option<serde_json::Value>,
    pub dry_run: bool,
}

/// Result of `price.drift`: the last comparison of the book with its sources, which `prices.update.every` schedules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PriceDriftRow {
    /// Null: nothing was compared since the gateway started, and all below is empty.
    pub at: Option<String>,
    /// Models of both the book and a source.
    pub compared: u64,
    pub differences: Vec<PriceDifferenceRow>,
    /// Why nothing could be compared; empty where it could.
    pub error: String,
}

/// Where the book differs from a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PriceDifferenceRow {
    pub provider: String,
    pub model: String,
    /// `2026-03-05 standard input`, `max_output`, `retired`; empty where it is the whole row.
    pub what: String,
    /// As price files write it; null where there is nothing, or the source is not believed.
    pub before: Option<String>,
    pub after: Option<String>,
    /// Why the source is not believed; empty where it is.
    pub held_back: String,
}
