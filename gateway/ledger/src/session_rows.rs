//! What the journal has of some sessions: their entries and the refusals that it recorded, in one walk over their time.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::entry::{Entry, Facts, Name};
use crate::event::{Event, Held, HoldId};
use crate::import_places::ImportPlace;
use crate::journal::reader::{Placed, ReadError};
use crate::query::{open_before, read_since};
use crate::recorded::Refused;
use crate::store::Stores;

/// Whose, of when, and how much is read for it at most.
#[derive(Clone, Debug)]
pub struct SessionRowsQuery {
    pub tenant: Name,
    pub sessions: HashSet<Name>,
    /// Milliseconds since the epoch: the start of their first request, and the last moment that is read.
    pub from_ms: i64,
    pub to_ms: i64,
    pub entries_max: usize,
    /// Events of the journal, others' among them.
    pub events_max: usize,
}

/// What was found, in the order of the journal; what was imported comes last.
#[derive(Clone, Debug, Default)]
pub struct SessionRows {
    pub entries: Vec<Entry>,
    /// The first few of each account, reason and minute: more are counted, and not recorded.
    pub refused: Vec<Arc<Refused>>,
    /// A bound of the query ended the walk: there may be more.
    pub is_cut: bool,
}

struct Walk<'a> {
    query: &'a SessionRowsQuery,
    open: HashMap<HoldId, Arc<Held>>,
    rows: SessionRows,
    events: usize,
    is_first: bool,
}

impl Walk<'_> {
    fn wants(&self, facts: &Facts) -> bool {
        !facts.session.is_empty() && facts.tenant == self.query.tenant && self.query.sessions.contains(&facts.session)
    }

    /// One event more; breaks where that is too many.
    fn count(&mut self) -> ControlFlow<()> {
        self.events += 1;
        self.rows.is_cut = self.events > self.query.events_max || self.rows.entries.len() >= self.query.entries_max;
        match self.rows.is_cut {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn visit(&mut self, placed: Placed) -> ControlFlow<()> {
        let is_first = std::mem::take(&mut self.is_first);
        if placed.event.at_ms() > self.query.to_ms && !is_first {
            return ControlFlow::Break(());
        }
        self.count()?;
        match placed.event {
            Event::Opening(opening) if is_first => {
                for (hold, held) in open_before(&opening) {
                    if self.wants(&held.facts) {
                        self.open.insert(hold, held);
                    }
                }
            }
            Event::Held(held) if self.wants(&held.facts) => {
                self.open.insert(HoldId(placed.sequence), held);
            }
            Event::Settled(settled) => {
                if let Some(held) = self.open.remove(&settled.hold) {
                    self.rows.entries.push(settled.entry(&held.facts));
                }
            }
            Event::Voided(voided) => {
                self.open.remove(&voided.hold);
            }
            Event::Refused(refused) if self.wants(&refused.facts) => self.rows.refused.push(refused),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn import(&mut self, placed: &Placed) -> ControlFlow<()> {
        self.count()?;
        if let Event::Imported(imported) = &placed.event {
            for entry in &imported.entries {
                if self.wants(&entry.facts) {
                    self.rows.entries.push(entry.entry(&imported.source));
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// `places` are those of entries that were imported from the query's time.
pub(crate) fn read(
    stores: &dyn Stores,
    query: &SessionRowsQuery,
    places: &[ImportPlace],
    until: u64,
) -> Result<SessionRows, ReadError> {
    let mut walk = Walk {
        query,
        open: HashMap::new(),
        rows: SessionRows::default(),
        events: 0,
        is_first: true,
    };
    read_since(stores, query.from_ms, until, |placed| walk.visit(placed))?;
    for place in places {
        if walk.rows.is_cut {
            break;
        }
        read_since(stores, place.at_ms, until, |placed| {
            match placed.sequence > place.last_sequence {
                true => ControlFlow::Break(()),
                false if placed.sequence < place.first_sequence => ControlFlow::Continue(()),
                false => walk.import(&placed),
            }
        })?;
    }
    Ok(walk.rows)
}
