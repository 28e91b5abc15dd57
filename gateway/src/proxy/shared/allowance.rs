//! What a relayed answer is checked against and handed to: how far it may go on, and who takes its lines.

use agentledger_ledger::{Name, Usd};

use crate::meter::Line;

/// Why an answer may not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uncovered {
    /// It is cut here, with this message.
    Cut(String),
    /// Only what others hold on this account is in the way: when that has ended it may go on.
    Held(Name),
}

impl Uncovered {
    /// For its client, where it is cut.
    pub fn message(&self) -> &str {
        match self {
            Uncovered::Cut(message) => message,
            Uncovered::Held(_) => {
                "what is left of the budget is held by requests that are running, so this answer was cut short. Try again."
            }
        }
    }
}

/// Decides, as a stream grows, whether it may go on. The reserve step makes it of the hold.
pub trait Allowance: Send {
    /// `text_bytes`: text of the answer so far. An error changes nothing, and may be followed by the same question.
    fn covers(&mut self, text_bytes: u64) -> Result<(), Uncovered>;

    /// The answer has told its input, which costs so much: what was held for it beyond that may cover output.
    fn input_costs(&mut self, cost: Usd);
}

/// For operations that are not held.
pub struct Unbounded;

impl Allowance for Unbounded {
    fn covers(&mut self, _text_bytes: u64) -> Result<(), Uncovered> {
        Ok(())
    }

    fn input_costs(&mut self, _cost: Usd) {}
}

/// Takes the lines of a batch's results, as they pass.
pub trait LineSink: Send + Sync {
    fn line(&mut self, line: Line);
}
