//! Open holds.

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `hold.explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HoldParams {
    /// As `hold.list` names it, or the exchange's id.
    pub id: String,
}

/// `hold.void`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VoidParams {
    /// As `hold.list` names it, or the exchange's id.
    pub id: String,
    pub reason: String,
}

/// Result of `hold.void`: the hold as it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VoidedHold {
    pub hold: HoldRow,
    /// Of the event in the journal that ended it.
    pub sequence: u64,
}

/// Result of `hold.list`: open holds, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Holds {
    pub holds: Vec<HoldRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HoldRow {
    /// Sequence of the event that placed it.
    pub id: u64,
    /// Id of its exchange, and of the entry that it will become.
    pub exchange: String,
    pub since: String,
    pub age_ms: u64,
    pub provider: String,
    pub model: String,
    /// Fingerprint.
    pub key: String,
    pub tenant: String,
    pub agent: String,
    pub session: String,
    /// Extensions included.
    #[schemars(with = "String")]
    pub held_usd: Usd,
    pub held_tokens: i64,
    /// As it was placed.
    #[schemars(with = "String")]
    pub first_usd: Usd,
    /// Why it has this size.
    pub basis: String,
}

/// Result of `hold.explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    pub hold: HoldRow,
    pub bounds: Vec<BoundRow>,
}

/// A bound that a hold touches. Numbers are decimal dollars, or counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BoundRow {
    pub account: String,
    pub window: String,
    pub zone: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub unit: String,
    pub mode: String,
    pub limit: String,
    /// This hold's share; the next four are the account's now, null where no gateway runs.
    pub held_here: String,
    pub spent: Option<String>,
    pub held: Option<String>,
    pub overage: Option<String>,
    pub left: Option<String>,
}
