//! What follows from the journal and is kept beside it: cost sums and sessions, carried on event by event, live as in
//! replay.

use std::sync::Arc;

use crate::bill_rows::BillRows;
use crate::billed::EntryPlace;
use crate::books::OpenHold;
use crate::change_rows::ChangeRows;
use crate::denial_rows::DenialRows;
use crate::entry::{Entry, Facts};
use crate::event::{Adjusted, Event, HoldId, Imported};
use crate::import_places::ImportPlaces;
use crate::map::Map;
use crate::peaks::Peaks;
use crate::query;
use crate::rollup::{DAY_MS, HOUR_MS, Rollups};
use crate::sessions::Sessions;
use crate::store::Stores;

#[derive(Debug)]
pub(crate) struct Derived {
    pub rollups: Rollups,
    pub peaks: Peaks,
    /// With locks of its own: requests ask there.
    pub sessions: Arc<Sessions>,
    /// Facts of the open holds and when they were placed, which settled events do not repeat.
    open: Map<HoldId, (i64, Arc<Facts>)>,
    pub bill_rows: BillRows,
    pub import_places: ImportPlaces,
    pub change_rows: ChangeRows,
    pub denial_rows: DenialRows,
    /// The last event that is in it; 0 where none came since it was read from disk.
    applied: u64,
}

impl Derived {
    pub fn new(rollups: Rollups, sessions: Arc<Sessions>) -> Derived {
        Derived {
            rollups,
            peaks: Peaks::default(),
            sessions,
            open: Map::default(),
            bill_rows: BillRows::default(),
            import_places: ImportPlaces::default(),
            change_rows: ChangeRows::default(),
            denial_rows: DenialRows::default(),
            applied: 0,
        }
    }

    pub fn set_open(&mut self, open: impl IntoIterator<Item = OpenHold>) {
        let open = open.into_iter();
        self.open = open
            .map(|open| (open.id, (open.held.at_ms, Arc::clone(&open.held.facts))))
            .collect();
    }

    /// What the hold is for that an event is about, while it is open.
    pub fn facts_of(&self, event: &Event) -> Option<Arc<Facts>> {
        let hold = match event {
            Event::Held(held) => return Some(Arc::clone(&held.facts)),
            Event::Extended(extended) => extended.hold,
            Event::Settled(settled) => settled.hold,
            Event::Voided(voided) => voided.hold,
            Event::Deferred(deferred) => deferred.hold,
            _ => return None,
        };
        self.open.get(&hold).map(|(_, facts)| Arc::clone(facts))
    }

    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The entry that a settled hold became. `stores` are read only for an adjustment of an older journal, which does not repeat
    /// the facts of its entry.
    pub fn apply(&mut self, sequence: u64, event: &Event, stores: &dyn Stores) -> Option<Entry> {
        self.applied = sequence;
        let held_ms = match event {
            Event::Settled(settled) => self.open.get(&settled.hold).map(|(held_ms, _)| *held_ms),
            _ => None,
        };
        self.bill_rows.committed(sequence, event, held_ms);
        self.import_places.committed(sequence, event);
        match event {
            Event::Held(held) => {
                self.sessions.held(sequence, held.at_ms, &held.facts);
                self.open
                    .insert(HoldId(sequence), (held.at_ms, Arc::clone(&held.facts)));
            }
            Event::Settled(settled) => {
                if let Some((held_ms, facts)) = self.open.remove(&settled.hold) {
                    let entry = settled.entry(&facts);
                    let place = EntryPlace {
                        held: settled.hold,
                        held_ms,
                        settled: sequence,
                        settled_ms: settled.at_ms,
                    };
                    self.peaks.add(place, &entry);
                    self.sessions.settled(sequence, settled.at_ms, &entry);
                    self.rollups.add(&entry);
                    return Some(entry);
                }
            }
            Event::Voided(voided) => {
                if let Some((_, facts)) = self.open.remove(&voided.hold) {
                    self.sessions.voided(sequence, voided.at_ms, &facts);
                }
            }
            Event::Adjusted(adjusted) => self.adjust(sequence, adjusted, stores),
            Event::Marked(marked) => self.sessions.marked(sequence, marked),
            Event::Changed(change) => self.change_rows.committed(sequence, change),
            Event::Denied(denied) => self.denial_rows.committed(denied),
            Event::ClockSet(set) => {
                // What comes now is as recent as anything: it is counted by minute again.
                let (minutes_ms, hours_ms) = self.rollups.floors_ms();
                let floor = |grain_ms: i64| set.to_ms.div_euclid(grain_ms).saturating_mul(grain_ms);
                self.rollups
                    .set_floors_ms((minutes_ms.min(floor(HOUR_MS)), hours_ms.min(floor(DAY_MS))));
            }
            Event::Imported(imported) => self.import(sequence, imported),
            Event::Opening(_)
            | Event::Extended(_)
            | Event::Deferred(_)
            | Event::SecretChecked(_)
            | Event::Linked(_)
            | Event::Refused(_)
            | Event::InForce(_) => {}
        }
        None
    }

    fn import(&mut self, sequence: u64, imported: &Imported) {
        // They belong to days long past: counted by minute, a year of them would fill the memory before the next checkpoint
        // merges them.
        self.rollups.merge(imported.at_ms);
        for imported_entry in &imported.entries {
            let entry = imported_entry.entry(&imported.source);
            self.sessions.imported(sequence, &entry);
            self.rollups.add(&entry);
        }
    }

    fn adjust(&mut self, sequence: u64, adjusted: &Adjusted, stores: &dyn Stores) {
        let usd = adjusted.amounts.usd;
        if let Some(of) = &adjusted.of {
            self.sessions.adjusted(sequence, &of.facts, usd);
            return self.rollups.adjust(&of.facts, &of.model, usd);
        }
        match query::find_settled(stores, adjusted.hold, adjusted.held_at_ms) {
            Ok(Some(found)) => {
                self.sessions.adjusted(sequence, &found.held.facts, usd);
                self.rollups.adjust(&found.held.facts, found.model(), usd);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot find the entry of an adjustment for the cost sums"),
        }
    }
}
