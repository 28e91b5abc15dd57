//! What decisions record of themselves, so that a replay can decide the same again: numbers and names in the layout of whoever
//! decides. The journal keeps them and knows nothing of their meaning.

use std::sync::Arc;

use crate::bill_id::BillId;
use crate::entry::{Facts, Name};

/// What one decision read, beside the facts that the journal has. Numbers that are small, and names that repeat, take a byte or
/// two each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub numbers: Vec<i64>,
    pub names: Vec<Name>,
}

/// What the journal is to know of a hold beside its amounts.
#[derive(Clone, Debug, Default)]
pub struct HoldNotes {
    pub record: Option<Record>,
    /// Under which it is billed, whoever settles it: known before it is placed, where somebody else may tell of the same work.
    pub bill: Option<BillId>,
}

/// A refused request, with what the decision read. Of one account and reason the first few of a minute are recorded; the
/// `Denied` events count them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub at_ms: i64,
    pub facts: Arc<Facts>,
    /// The account whose limit refused, or that requested.
    pub account: Name,
    /// The refusal's code: `budget_exceeded`, `model_not_allowed`.
    pub reason: Name,
    pub record: Record,
}

/// What is in force for the decisions that name it, from here on. The documents of this moment belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    pub at_ms: i64,
    /// By which decisions name it: the sequence of the first event that said so. 0: this event's own.
    pub id: u64,
    /// Of all that decides, to check what a replay makes of it.
    pub digest: [u8; 32],
    pub base: Base,
}

impl InForce {
    /// By which decisions name it, of the event with this sequence.
    pub fn id(&self, sequence: u64) -> u64 {
        if self.id == 0 { sequence } else { self.id }
    }
}

/// What the documents lie over: policies and their confs as the files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// In the layout of whoever decides.
    Whole(Arc<[u8]>),
    /// The same as of the one with this id.
    Of(u64),
}

/// A refusal to record, beside its count.
#[derive(Clone, Debug)]
pub struct RefusalRecord {
    pub facts: Arc<Facts>,
    pub record: Record,
}
