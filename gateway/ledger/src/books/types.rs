//! What the books are requested, and what they answer.

use std::sync::Arc;

use crate::amounts::Amounts;
use crate::bill_id::BillId;
use crate::change::ChangeError;
use crate::entry::{Entry, Name};
use crate::event::{Event, Held, HeldBound, HoldId, Settled};
use crate::window::Period;

/// How a bound's account stands in its window, in the bound's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub posted: i64,
    /// By all open holds.
    pub held: i64,
    pub overage: i64,
    pub limit: i64,
    pub period: Period,
}

impl Standing {
    /// What is neither posted nor held; below zero where a limit was lowered or overage came.
    pub fn left(&self) -> i128 {
        i128::from(self.limit) - i128::from(self.posted) - i128::from(self.held)
    }
}

/// Whether waiting may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Over the limit with no other hold in the way: `budget_exceeded`.
    Exceeded,
    /// Only other holds are in the way: `budget_held`.
    Held,
}

/// Why a bound refused. Nothing was reserved on any bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub obstacle: Obstacle,
    /// Its place among the bounds requested.
    pub place: usize,
    pub bound: HeldBound,
    pub standing: Standing,
    /// In the bound's unit.
    pub requested: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    #[error("a bound refused")]
    Refused(Box<Refusal>),
    /// Nothing was reserved; the gateway is out of room, not the caller out of budget.
    #[error("too many {0}")]
    Full(&'static str),
    /// The machine's clock is so many milliseconds ahead of what can have passed: whose window it is nobody knows.
    #[error("the machine's clock is {} s ahead of what can have passed", .0 / 1_000)]
    ClockAhead(i64),
    #[error("no such hold is open")]
    UnknownHold,
    #[error("invalid: {0}")]
    Invalid(&'static str),
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// An event and the sequence it was given: for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub seq: u64,
    pub event: Event,
}

#[derive(Clone, Debug)]
pub struct Reserved {
    pub hold: HoldId,
    /// One for each bound requested, in its order, this hold included.
    pub standings: Vec<Standing>,
    pub recorded: Recorded,
}

#[derive(Clone, Debug)]
pub struct Extension {
    /// What was added: the step requested, or what was left of it.
    pub granted: Amounts,
    pub recorded: Recorded,
}

#[derive(Clone, Debug)]
pub struct SettledHold {
    pub held: Arc<Held>,
    pub settled: Arc<Settled>,
    pub recorded: Recorded,
}

impl SettledHold {
    /// Copies names: call it outside the lock.
    pub fn entry(&self) -> Entry {
        self.settled.entry(&self.held.facts)
    }
}

/// An open hold, for `hold.list`, `hold.explain` and restart.
#[derive(Clone, Debug)]
pub struct OpenHold {
    pub id: HoldId,
    pub held: Arc<Held>,
    /// Extensions included.
    pub amounts: Amounts,
}

/// A correction requested.
#[derive(Clone, Debug)]
pub struct Adjustment<'a> {
    /// The settled hold and its event.
    pub hold: HoldId,
    pub held: &'a Held,
    /// The model that the entry names.
    pub model: Name,
    /// Added to what is posted; negative to give back.
    pub amounts: Amounts,
    pub reason: Name,
    /// The result that tells it.
    pub bill: Option<BillId>,
}
