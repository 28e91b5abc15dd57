//! The entry of an exchange, found by its id. An id holds the moment at which its request began: what stands in the journal about that
//! time is read, and not its months.

use std::ops::ControlFlow;
use std::sync::Arc;

use ulid::Ulid;

use crate::entry::Entry;
use crate::event::{Event, HELD_WITHIN_MS, Held, HoldId};
use crate::import_places::ImportPlace;
use crate::journal::reader::ReadError;
use crate::query::{open_before, read_since};
use crate::store::Stores;

/// What the journal knows of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Entry(Box<Entry>),
    /// It is held and has not ended.
    Running(Arc<Held>),
    Nothing,
}

/// `places` are those of imported entries at the id's time; `is_open` says whether a hold has not ended.
pub(crate) fn find(
    stores: &dyn Stores,
    id: Ulid,
    places: &[ImportPlace],
    until: u64,
    is_open: &dyn Fn(HoldId) -> bool,
) -> Result<Found, ReadError> {
    let from_ms = i64::try_from(id.timestamp_ms()).unwrap_or(i64::MAX);
    let (mut placed_at, mut found, mut is_first) = (None, Found::Nothing, true);
    read_since(stores, from_ms, until, |placed| {
        let before = std::mem::take(&mut is_first);
        match placed.event {
            // The month that it was held in may be gone.
            Event::Opening(opening) if before => {
                placed_at = open_before(&opening).find(|(_, held)| held.facts.id == id);
            }
            Event::Held(held) if held.facts.id == id => placed_at = Some((HoldId(placed.sequence), held)),
            Event::Settled(settled) => {
                if let Some((_, held)) = placed_at.as_ref().filter(|(hold, _)| *hold == settled.hold) {
                    found = Found::Entry(Box::new(settled.entry(&held.facts)));
                    return ControlFlow::Break(());
                }
            }
            Event::Voided(voided) if placed_at.as_ref().is_some_and(|(hold, _)| *hold == voided.hold) => {
                return ControlFlow::Break(());
            }
            _ => {}
        }
        match &placed_at {
            // Its end may be hours away, and is waited for only where there is one.
            Some((hold, held)) if is_open(*hold) => {
                found = Found::Running(Arc::clone(held));
                ControlFlow::Break(())
            }
            None if placed.at_ms > from_ms.saturating_add(2 * HELD_WITHIN_MS) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })?;
    if found != Found::Nothing || placed_at.is_some() {
        return Ok(found);
    }
    for place in places {
        read_since(stores, place.at_ms, until, |placed| {
            if placed.sequence > place.last_sequence {
                return ControlFlow::Break(());
            }
            if let Event::Imported(imported) = &placed.event
                && let Some(entry) = imported.entries.iter().find(|entry| entry.facts.id == id)
            {
                found = Found::Entry(Box::new(entry.entry(&imported.source)));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(found)
}
