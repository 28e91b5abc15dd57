//! What one entry is made of.

use agentledger_ledger::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `ledger.explain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MadeOfParams {
    /// The entry's id, which is its exchange's.
    pub id: String,
}

/// Result of `ledger.explain`. Unknown ids are `not_found`, and so are those of other tenants and of calls that still run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MadeOf {
    /// As it is in exports: as it was settled, without later corrections.
    #[schemars(with = "serde_json::Value")]
    pub entry: Box<RawValue>,
    /// Their `usd` sum to the entry's `cost_usd`, exactly.
    pub lines: Vec<CostLine>,
}

/// A part of a cost: units of one kind at their price, or, last, what no price explains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CostLine {
    /// A kind of usage, as in entries; `reasoning` where it is priced apart from other output. The last line may be `estimated`
    /// (`why` has the entry's reason), `imported`, `plugin` (the price of a tool call is a plugin's), `other_prices` (those that
    /// it was settled with are not in force any more) or `rounding` (of the lines before: the cost is rounded once).
    pub kind: String,
    /// Of an answer that billed several models: which one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Units that are billed; null where the line is of none.
    pub count: Option<u64>,
    /// `$2.5/M`, USD a million tokens, or `$0.01 each`; null where it is not known.
    pub price: Option<String>,
    /// Decimal text; null where the price is not known.
    #[schemars(with = "Option<String>")]
    pub usd: Option<Usd>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}
