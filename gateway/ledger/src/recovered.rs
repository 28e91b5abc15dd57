//! Entries of holds whose end nobody saw, and what they were corrected by since.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use ulid::Ulid;

use crate::entry::{Entry, Outcome};
use crate::event::{Event, Held, HoldId, Settled};
use crate::journal::reader::ReadError;
use crate::money::Usd;
use crate::query::{held_numbered, open_before, read_since};
use crate::store::Stores;

/// The entry of a hold whose end nobody saw: what it cost is an estimate until it is corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredEntry {
    pub hold: HoldId,
    pub entry: Entry,
    /// All its corrections together.
    pub adjusted: Usd,
    pub is_corrected: bool,
}

impl RecoveredEntry {
    /// As it stands now.
    pub fn cost(&self) -> Usd {
        self.entry.settlement.cost.saturating_add(self.adjusted)
    }
}

/// Which one is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveredId {
    Hold(HoldId),
    /// Its entry's id, which is its exchange's.
    Entry(Ulid),
}

impl RecoveredId {
    fn is_of(self, hold: HoldId, held: &Held) -> bool {
        match self {
            RecoveredId::Hold(id) => id == hold,
            RecoveredId::Entry(id) => id == held.facts.id,
        }
    }
}

/// Those that were entered since `from_ms`, in the order of the journal.
pub(crate) fn since(stores: &dyn Stores, from_ms: i64, until: u64) -> Result<Vec<RecoveredEntry>, ReadError> {
    let mut found = walk(stores, from_ms, until, |_, _| true)?;
    // What is read begins where a chunk of the journal does.
    found.retain(|row| row.entry.settlement.at_ms >= from_ms);
    Ok(found)
}

/// The one with this id; `None` where its hold is open, or ended as its exchange did.
pub(crate) fn find(stores: &dyn Stores, id: RecoveredId, until: u64) -> Result<Option<RecoveredEntry>, ReadError> {
    let from_ms = match id {
        RecoveredId::Entry(id) => i64::try_from(id.timestamp_ms()).unwrap_or(i64::MAX),
        RecoveredId::Hold(hold) => match held_numbered(stores, hold)? {
            Some(held) => held.at_ms,
            None => return Ok(None),
        },
    };
    let found = walk(stores, from_ms, until, |hold, held| id.is_of(hold, held))?;
    Ok(found.into_iter().next())
}

fn walk(
    stores: &dyn Stores,
    from_ms: i64,
    until: u64,
    wanted: impl Fn(HoldId, &Held) -> bool,
) -> Result<Vec<RecoveredEntry>, ReadError> {
    let mut open: HashMap<HoldId, Arc<Held>> = HashMap::new();
    let mut found: Vec<RecoveredEntry> = Vec::new();
    let mut places: HashMap<HoldId, usize> = HashMap::new();
    let (mut is_first, mut failed) = (true, None);
    read_since(stores, from_ms, until, |placed| {
        match placed.event {
            Event::Opening(opening) if is_first => open.extend(open_before(&opening)),
            Event::Held(held) => {
                open.insert(HoldId(placed.sequence), held);
            }
            Event::Voided(voided) => {
                open.remove(&voided.hold);
            }
            Event::Settled(settled) => {
                let held = open.remove(&settled.hold);
                match recovered(stores, held, &settled) {
                    Ok(Some(held)) if wanted(settled.hold, &held) => {
                        places.insert(settled.hold, found.len());
                        found.push(RecoveredEntry {
                            hold: settled.hold,
                            entry: settled.entry(&held.facts),
                            adjusted: Usd::ZERO,
                            is_corrected: false,
                        });
                    }
                    Ok(_) => {}
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            Event::Adjusted(adjusted) => {
                let place = places.get(&adjusted.hold);
                if let Some(entry) = place.and_then(|place| found.get_mut(*place)) {
                    entry.adjusted = entry.adjusted.saturating_add(adjusted.amounts.usd);
                    entry.is_corrected = true;
                }
            }
            _ => {}
        }
        is_first = false;
        ControlFlow::Continue(())
    })?;
    failed.map_or(Ok(found), Err)
}

/// The hold of a recovered entry, placed before what is read perhaps; `None` for any other entry.
fn recovered(stores: &dyn Stores, held: Option<Arc<Held>>, settled: &Settled) -> Result<Option<Arc<Held>>, ReadError> {
    if settled.settlement.outcome != Outcome::Recovered {
        return Ok(None);
    }
    match held {
        Some(held) => Ok(Some(held)),
        None => held_numbered(stores, settled.hold),
    }
}
