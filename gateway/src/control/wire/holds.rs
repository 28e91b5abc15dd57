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
    /// `streams` once text of its answer has passed, `waits` before; absent where no gateway runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Of one that streams: about what it has cost so far, no more than is held. Its input as the provider said it or as it was
    /// estimated, and the text that has passed, by the length that such texts have; what a model thinks without showing it is in it
    /// only once the call is entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub spent_usd: Option<Usd>,
    /// Tokens of that text, reckoned so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
}

/// `hold.recovered`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecoveredParams {
    /// As in `ledger.summary`: when they were entered. Without any of the three, the last 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Rows, 1,000 where nothing is said, 10,000 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Result of `hold.recovered`: latest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveredHolds {
    pub holds: Vec<RecoveredHold>,
    /// Older ones beyond the limit.
    pub omitted: u64,
}

/// A hold whose end nobody saw, and its entry: what it cost is an estimate until it is corrected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveredHold {
    /// Sequence of the event that placed the hold.
    pub id: u64,
    /// Its entry's id, which is its exchange's.
    pub entry: String,
    pub began: String,
    pub entered: String,
    pub provider: String,
    pub model: String,
    /// Fingerprint.
    pub key: String,
    pub tenant: String,
    pub agent: String,
    pub session: String,
    /// Extensions included: no more of its answer had passed.
    #[schemars(with = "String")]
    pub held_usd: Usd,
    /// What it was entered at.
    #[schemars(with = "String")]
    pub entered_usd: Usd,
    /// As it stands now, corrections included.
    #[schemars(with = "String")]
    pub cost_usd: Usd,
    pub corrected: bool,
    /// `recovered` after a crash, `not_fetched` for a result that nobody fetched, `dropped` after a fault.
    pub reason: String,
}

/// `hold.correct`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorrectParams {
    /// As `hold.recovered` names it, or its entry's id.
    pub id: String,
    /// Decimal text: what it cost in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<String>,
    /// In its place: what such calls cost on average, as learned, and no more than it held.
    pub expected: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Result of `hold.correct`: the hold as it stands now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CorrectedHold {
    pub hold: RecoveredHold,
    /// What was added to its cost.
    #[schemars(with = "String")]
    pub adjusted_usd: Usd,
    /// Of the adjustment's event in the journal; null where it cost just that already.
    pub sequence: Option<u64>,
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
