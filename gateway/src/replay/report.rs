//! What a replay says: plain data, as the method answers it and the command line shows it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A replay's result. Of `exact`, `simulated` and `diff` it has the one that was requested.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// RFC 3339; `to` is excluded.
    pub from: String,
    pub to: String,
    /// Events of the journal that were read.
    pub events: u64,
    /// Decisions in the time.
    pub decisions: u64,
    /// Refusals that were counted and not recorded one by one: of an account and reason the first of each minute are.
    pub refusals_not_recorded: u64,
    /// Decisions that could not be decided again, by why.
    pub undecidable: Vec<Undecidable>,
    /// Where the journal ended too early; null where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<Exact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<Simulated>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<Diff>,
}

impl Replayed {
    /// All was read, and nothing was decided otherwise than it is recorded.
    pub fn is_well(&self) -> bool {
        self.stopped.is_none() && self.exact.as_ref().is_none_or(|exact| exact.different == 0)
    }
}

/// Why decisions could not be decided again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Undecidable {
    pub why: String,
    pub count: u64,
    /// One of them.
    pub example: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stopped {
    /// The month whose journal is damaged; empty where it is not known.
    pub month: String,
    /// The last event that could be read.
    pub after_sequence: u64,
    pub reason: String,
}

/// Decisions decided again with all that they read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exact {
    pub equal: u64,
    pub different: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// A decision that came out otherwise than it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// The exchange.
    pub id: String,
    pub sequence: u64,
    pub at: String,
    /// What is different: `verdict`, `bounds`, `reads`.
    pub what: String,
    pub recorded: String,
    pub replayed: String,
}

/// What would have been, on a ledger of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Simulated {
    pub totals: Sums,
    /// By `key`, `tenant`, `agent`, `session`, `model` and `user`, where anything is different, most saved first.
    pub by: BTreeMap<String, Vec<Row>>,
    /// Users, or keys where no user is named, of whom a call would have been denied or cut.
    pub people_hit: u64,
    /// The calls that make the most difference, dearest first.
    pub examples: Vec<Example>,
    /// What is taken for granted.
    pub assumed: Vec<String>,
}

/// Counts and money. Money is decimal USD, exact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sums {
    /// Calls that were let through then.
    pub calls: u64,
    /// Of these, those that would have been denied, clamped, routed elsewhere, held back, or cut.
    pub denied: u64,
    pub clamped: u64,
    pub routed: u64,
    pub delayed: u64,
    pub cut: u64,
    /// Calls that were refused then and would have been let through.
    pub newly_allowed: u64,
    /// Calls of which anything would have been different: denied, clamped, routed, held back, cut, let through, or of another cost.
    /// Each counts once.
    #[serde(default)]
    pub different: u64,
    /// What they cost, and what they would have.
    pub cost_usd: String,
    pub simulated_usd: String,
    /// The first less the second.
    pub saved_usd: String,
    /// How long calls would have been held back.
    pub delay_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    pub name: String,
    #[serde(flatten)]
    pub sums: Sums,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    pub id: String,
    pub at: String,
    pub key: String,
    pub tenant: String,
    pub agent: String,
    pub user: String,
    pub model: String,
    /// What would have become of it: `denied: budget_exceeded (budget@3)`.
    pub outcome: String,
    /// What came of it then.
    pub was: String,
    pub cost_usd: String,
    pub simulated_usd: String,
    pub saved_usd: String,
}

/// Where two candidates decide differently.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    pub a: String,
    pub b: String,
    pub a_totals: Sums,
    pub b_totals: Sums,
    pub same: u64,
    pub different: u64,
    /// How often each pair of outcomes came, most often first.
    pub kinds: Vec<DiffKind>,
    /// The dearest of them.
    pub examples: Vec<DiffExample>,
    pub assumed: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiffKind {
    pub a: String,
    pub b: String,
    pub count: u64,
    /// What the second saves beside the first.
    pub saved_usd: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiffExample {
    pub id: String,
    pub at: String,
    pub key: String,
    pub agent: String,
    pub model: String,
    pub a: String,
    pub b: String,
    pub a_usd: String,
    pub b_usd: String,
}

/// Counts why decisions could not be decided again; past so many reasons the rest are one.
#[derive(Default)]
pub(super) struct Reasons(BTreeMap<String, (u64, String)>);

impl Reasons {
    const MAX: usize = 100;

    pub fn add(&mut self, why: &str, example: impl FnOnce() -> String) {
        if let Some((count, _)) = self.0.get_mut(why) {
            *count += 1;
            return;
        }
        let why = if self.0.len() < Reasons::MAX {
            why
        } else {
            "other reasons"
        };
        let (count, _) = self.0.entry(why.to_owned()).or_insert_with(|| (0, example()));
        *count += 1;
    }

    /// Takes others in, with `of` before each.
    pub fn join(&mut self, others: Reasons, of: &str) {
        for (why, (count, example)) in others.0 {
            let (known, _) = self.0.entry(format!("{of}{why}")).or_insert((0, example));
            *known += count;
        }
    }

    /// Most often first.
    pub fn rows(self) -> Vec<Undecidable> {
        let rows = self
            .0
            .into_iter()
            .map(|(why, (count, example))| Undecidable { why, count, example });
        let mut rows: Vec<Undecidable> = rows.collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows
    }
}
