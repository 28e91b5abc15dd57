//! The journal as its keeper looks at it: its months, and its latest events. Point reads; no month is walked.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Event, Held, HoldId};
use crate::head::{Hash, Head};
use crate::journal::reader::{MonthReader, ReadError};
use crate::query::held_numbered;
use crate::store::{Month, Stores};

/// A month of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalMonth {
    pub month: Month,
    /// What it carries on from.
    pub before: Head,
    /// Its end; of the month that is written to, as far as the disk reaches.
    pub head: Head,
    /// When the month after it was opened, milliseconds since the epoch; `None` for the one that is written to.
    pub closed_ms: Option<i64>,
}

impl JournalMonth {
    pub fn events(&self) -> u64 {
        self.head.sequence.saturating_sub(self.before.sequence)
    }
}

/// Oldest first. `head` is how far the disk reaches.
pub(crate) fn months(stores: &dyn Stores, head: Head) -> Result<Vec<JournalMonth>, ReadError> {
    let mut found: Vec<JournalMonth> = Vec::new();
    for month in stores.months()? {
        let Some(store) = stores.month(month)? else { continue };
        // Nothing was written to it yet.
        let Some((opening, before)) = (MonthReader { month, store: &*store }).opening()? else {
            continue;
        };
        if let Some(last) = found.last_mut() {
            (last.head, last.closed_ms) = (before, Some(opening.at_ms));
        }
        found.push(JournalMonth {
            month,
            before,
            head,
            closed_ms: None,
        });
    }
    Ok(found)
}

/// An event where it stands.
#[derive(Clone, Debug)]
pub struct JournalRow {
    pub sequence: u64,
    /// The chain's hash at the end of the group of events that was written with it.
    pub hash: Hash,
    pub event: Event,
    /// The hold that it ended or grew.
    pub held: Option<Arc<Held>>,
}

/// The last `limit` events before the one with the sequence `before`, latest first.
pub(crate) fn latest(stores: &dyn Stores, before: u64, limit: usize) -> Result<Vec<JournalRow>, ReadError> {
    let mut rows: Vec<JournalRow> = Vec::new();
    let mut before = before;
    for month in stores.months()?.into_iter().rev() {
        let Some(store) = stores.month(month)? else { continue };
        let found = MonthReader { month, store: &*store }.latest(before, limit.saturating_sub(rows.len()))?;
        before = found.first().map_or(before, |(placed, _)| placed.sequence);
        rows.extend(found.into_iter().rev().map(|(placed, hash)| JournalRow {
            sequence: placed.sequence,
            hash,
            event: placed.event,
            held: None,
        }));
        if rows.len() >= limit {
            break;
        }
    }
    let here: HashMap<u64, Arc<Held>> = rows
        .iter()
        .filter_map(|row| match &row.event {
            Event::Held(held) => Some((row.sequence, Arc::clone(held))),
            _ => None,
        })
        .collect();
    for row in &mut rows {
        let hold = match &row.event {
            Event::Settled(settled) => settled.hold,
            Event::Extended(extended) => extended.hold,
            Event::Voided(voided) => voided.hold,
            Event::Deferred(deferred) => deferred.hold,
            _ => continue,
        };
        row.held = match here.get(&hold.0) {
            Some(held) => Some(Arc::clone(held)),
            None => held_numbered(stores, HoldId(hold.0))?,
        };
    }
    Ok(rows)
}
