//! Corrections read back from the journal, each with what its entry is told apart by: sums of entries alone lack them.

use std::ops::ControlFlow;
use std::sync::Arc;

use ulid::Ulid;

use crate::amounts::Amounts;
use crate::entry::{Facts, Name};
use crate::event::{Adjusted, Event};
use crate::journal::reader::ReadError;
use crate::query::{find_settled, read_since};
use crate::store::Stores;

/// Corrections of entries whose request began in `from_ms..to_ms`, whenever they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdjustmentQuery {
    pub from_ms: i64,
    pub to_ms: i64,
    /// At most so many.
    pub limit: usize,
    /// Only those after this event.
    pub after: u64,
}

/// One correction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjustmentRow {
    pub sequence: u64,
    /// When it was made, milliseconds since the epoch.
    pub at_ms: i64,
    /// The entry.
    pub id: Ulid,
    /// Added to what is posted; negative to give back.
    pub amounts: Amounts,
    pub reason: Name,
    /// The entry's facts, and the model that it names.
    pub facts: Arc<Facts>,
    pub model: Name,
}

/// In the order of the journal.
pub(crate) fn read(stores: &dyn Stores, query: &AdjustmentQuery, until: u64) -> Result<Vec<AdjustmentRow>, ReadError> {
    let (mut found, mut failed) = (Vec::new(), None);
    // A correction comes after what it corrects.
    read_since(stores, query.from_ms, until, |placed| {
        let Event::Adjusted(adjusted) = &placed.event else {
            return ControlFlow::Continue(());
        };
        if placed.sequence <= query.after {
            return ControlFlow::Continue(());
        }
        match of_entry(stores, placed.sequence, adjusted) {
            Ok(Some(row)) if (query.from_ms..query.to_ms).contains(&row.facts.at_ms) => found.push(row),
            Ok(_) => {}
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        if found.len() < query.limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(found), Err)
}

/// `None`: its entry's month was removed, and it does not say itself what it is of.
fn of_entry(stores: &dyn Stores, sequence: u64, adjusted: &Adjusted) -> Result<Option<AdjustmentRow>, ReadError> {
    let (facts, model) = match &adjusted.of {
        Some(of) => (Arc::clone(&of.facts), Name::clone(&of.model)),
        None => match find_settled(stores, adjusted.hold, adjusted.held_at_ms)? {
            Some(found) => (Arc::clone(&found.held.facts), Name::clone(found.model())),
            None => return Ok(None),
        },
    };
    Ok(Some(AdjustmentRow {
        sequence,
        at_ms: adjusted.at_ms,
        id: adjusted.id,
        amounts: adjusted.amounts,
        reason: Name::clone(&adjusted.reason),
        facts,
        model,
    }))
}
