//! What becomes of a call.

use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{Facts, Name, Usd};

/// What becomes of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The code, and the policy whose word or limit it is.
    pub denied: Option<(String, Name)>,
    /// The most output that it was let have.
    pub clamped: Option<u64>,
    /// The model it went to.
    pub routed: Option<Name>,
    pub delay: Duration,
    /// Its stream came to the end of its budget.
    pub cut: bool,
}

impl Outcome {
    pub fn denied(code: &str, policy: &Name) -> Outcome {
        Outcome {
            denied: Some((code.to_owned(), Name::clone(policy))),
            ..Outcome::default()
        }
    }

    /// `denied: budget_exceeded (budget@3)`.
    pub fn words(&self) -> String {
        if let Some((code, policy)) = &self.denied {
            return format!("denied: {code} ({policy})");
        }
        let mut said = Vec::new();
        said.extend(self.routed.as_ref().map(|model| format!("routed to {model}")));
        said.extend(self.clamped.map(|most| format!("clamped to {most} tokens")));
        if !self.delay.is_zero() {
            said.push(format!("delayed by {} ms", self.delay.as_millis()));
        }
        if self.cut {
            said.push("cut".to_owned());
        }
        if said.is_empty() {
            "allowed".to_owned()
        } else {
            said.join(", ")
        }
    }
}

/// A call whose end is known.
#[derive(Clone, Debug)]
pub struct Ended {
    pub facts: Arc<Facts>,
    /// What came of it then; `None`: it was let through.
    pub refused: Option<Name>,
    pub was: Outcome,
    pub outcome: Outcome,
    pub cost: Usd,
    pub simulated: Usd,
    /// It could not be decided, and went on as it did.
    pub is_undecided: bool,
}
