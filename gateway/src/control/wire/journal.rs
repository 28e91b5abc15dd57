//! The journal as its keeper looks at it: months, latest events, and a walk over it that goes on beside the gateway's work.

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verified;

/// Result of `ledger.months`: the latest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Months {
    pub months: Vec<MonthRow>,
}

/// A month of the journal, UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MonthRow {
    /// `2026-11`.
    pub month: String,
    /// `open`: it is written to; `closed`.
    pub state: String,
    pub events: u64,
    /// Entries whose requests began in it, imported ones included, and what they cost. Their events may stand in another month.
    pub entries: u64,
    #[schemars(with = "String")]
    pub spent_usd: Usd,
    /// Its last event on disk, `SEQUENCE:HASH`.
    pub head: String,
    /// When the next one was opened; null for the open one.
    pub closed: Option<String>,
    /// When a walk over the whole journal last found it sound, by `ledger.verify` or `ledger.verify_start`, as far as it was written
    /// by then; null where none did. Walks without a gateway (`agentledger verify`) are not noted.
    pub verified: Option<String>,
}

/// `ledger.journal`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JournalParams {
    /// Events before the one with this sequence: the `next` of the answer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Events in the answer; default 40, at most 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Result of `ledger.journal`: the latest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JournalEvents {
    pub events: Vec<JournalEvent>,
    /// Where to go on; null at the beginning.
    pub next: Option<u64>,
}

/// An event of the journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JournalEvent {
    pub sequence: u64,
    pub at: String,
    /// `opening`, `held`, `extended`, `settled`, `voided`, `denied` (a count of refusals), `refused` (one of them), `adjusted`,
    /// `deferred`, `completed`, `killed`, `alerted` (of sessions), `changed`, `imported`, `linked`, `in_force`, `clock_set`,
    /// `secret_checked`.
    pub kind: String,
    /// Whose call it was; empty where it is none.
    pub agent: String,
    pub session: String,
    /// Who else it is of: the account that was refused, the author of a change, the source of an import. Empty of calls.
    pub who: String,
    /// What it was about: a model, a reason, a code, a changed subject.
    pub what: String,
    /// What was held, entered, given back or added. Absent where no money moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub usd: Option<Usd>,
    pub estimated: bool,
    /// The chain's hash at the end of the group of events that was written with it, 64 hex digits.
    pub hash: String,
}

/// `ledger.verify_status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyStatusParams {
    /// The one that is meant; without it the latest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub job: String,
}

/// How a walk over the journal stands. The latest one is known until the gateway ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyState {
    /// Empty where none was begun.
    pub job: String,
    /// `none`, `running`, `done` or `failed`.
    pub state: String,
    pub began: Option<String>,
    pub ended: Option<String>,
    /// Events walked so far, of so many.
    pub events: u64,
    pub events_in_all: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Null until it is done.
    pub result: Option<Verified>,
}
