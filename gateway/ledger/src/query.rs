//! Entries read back from the journal: exports, and the one entry that an adjustment names.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

use ulid::Ulid;

use crate::amounts::Amounts;
use crate::bill_id::BillId;
use crate::billed::EntryPlace;
use crate::books::Books;
use crate::entry::{Entry, Name};
use crate::event::{Event, HELD_WITHIN_MS, Held, HoldId, IMPORTED, Imported, ImportedEntry, Opening, Settled};
use crate::import_places::ImportPlace;
use crate::journal::reader::{MonthReader, Placed, ReadError};
use crate::store::{Month, Stores};

/// So much of the page before is read again at most, for the holds that were open at its end.
const READ_AGAIN_MS: i64 = 60_000;

/// Entries whose request began in `from_ms..to_ms`, in the order in which they were settled, or taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryQuery {
    pub from_ms: i64,
    pub to_ms: i64,
    /// Entries of one page at most.
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

/// Some entries, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryPage {
    pub entries: Vec<Entry>,
    /// `None`: there are no more.
    pub next: Option<Cursor>,
}

/// A place between two entries. As text `MS:SEQUENCE`, or `MS:SEQUENCE:COUNT` within an event that bears several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Where the next page begins to read: holds that were placed before are looked up one by one.
    since_ms: i64,
    /// Sequence of the event that settled the last entry.
    sequence: u64,
    /// How many entries of that event were given, where it bears several.
    skip: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.since_ms, self.sequence)?;
        match self.skip {
            0 => Ok(()),
            skip => write!(f, ":{skip}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Cursor, CursorError> {
        let (since_ms, sequence) = text.split_once(':').ok_or(CursorError)?;
        let (sequence, skip) = sequence.split_once(':').unwrap_or((sequence, "0"));
        Ok(Cursor {
            since_ms: since_ms.parse().map_err(|_| CursorError)?,
            sequence: sequence.parse().map_err(|_| CursorError)?,
            skip: skip.parse().map_err(|_| CursorError)?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the journal")]
pub struct CursorError;

/// A settled hold with its event.
pub(crate) struct Found {
    pub hold: HoldId,
    pub held: Arc<Held>,
    pub settled: Arc<Settled>,
}

impl Found {
    /// The model that the entry names.
    pub fn model(&self) -> &Name {
        let named = &self.settled.settlement.model;
        if named.is_empty() {
            &self.held.facts.requested_model
        } else {
            named
        }
    }
}

/// Reads all months from `from_ms` on, up to the event `until`, which is on disk.
pub(crate) fn read_since(
    stores: &dyn Stores,
    from_ms: i64,
    until: u64,
    mut visit: impl FnMut(Placed) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let mut ended = false;
    let first = Month::of_ms(from_ms.max(0));
    let months = stores.months()?;
    // A month without events of its own time may still hold a request that began before and was held after its turn.
    for month in months.into_iter().filter(|month| *month >= first) {
        // One that was removed since it was listed is read no more.
        let Some(store) = stores.month(month)? else { continue };
        MonthReader { month, store: &*store }.since(from_ms, |placed| {
            ended = placed.sequence > until || visit(placed).is_break();
            Ok(if ended {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        if ended {
            break;
        }
    }
    Ok(())
}

/// Of what was open before the first month that is read, only its opening knows.
pub(crate) fn open_before(opening: &Opening) -> impl Iterator<Item = (HoldId, Arc<Held>)> {
    let books = Books::restore(&opening.books);
    let holds = books.map(|books| books.open_holds()).unwrap_or_default();
    holds.into_iter().map(|hold| (hold.id, hold.held))
}

/// One page of entries among the events up to `until`. Some stand long after the time they belong to: `places` says where.
pub(crate) fn entries(
    stores: &dyn Stores,
    query: &EntryQuery,
    places: &[ImportPlace],
    until: u64,
) -> Result<EntryPage, ReadError> {
    let mut paging = Paging {
        stores,
        query,
        after: query.after.map_or(0, |cursor| cursor.sequence),
        skip: query.after.map_or(0, |cursor| cursor.skip),
        open: HashMap::new(),
        page: EntryPage::default(),
        first: None,
        last: 0,
        failed: None,
    };
    let since_ms = query
        .after
        .map_or(query.from_ms, |cursor| cursor.since_ms.max(query.from_ms));
    read_since(stores, since_ms, until, |placed| paging.visit(placed))?;
    for place in places {
        if paging.is_done() || place.last_sequence <= paging.last.max(paging.after.saturating_sub(1)) {
            continue;
        }
        read_since(stores, place.at_ms.max(since_ms), until, |placed| {
            if placed.sequence > place.last_sequence {
                return ControlFlow::Break(());
            }
            match placed.event {
                Event::Imported(imported) if placed.sequence > paging.last => {
                    paging.import(placed.sequence, placed.at_ms, &imported)
                }
                Event::Held(held)
                    if placed.sequence > paging.last && held.is_late() && paging.wants(held.facts.at_ms) =>
                {
                    paging.open.insert(HoldId(placed.sequence), held);
                    ControlFlow::Continue(())
                }
                Event::Settled(settled) if placed.sequence > paging.last => {
                    paging.settle(placed.sequence, placed.at_ms, &settled)
                }
                _ => ControlFlow::Continue(()),
            }
        })?;
    }
    match paging.failed {
        Some(error) => Err(error),
        None => Ok(paging.page),
    }
}

/// A page that is being gathered.
struct Paging<'a> {
    stores: &'a dyn Stores,
    query: &'a EntryQuery,
    /// The event whose entry was the last of the page before, and how many of its entries were given.
    after: u64,
    skip: u32,
    open: HashMap<HoldId, Arc<Held>>,
    page: EntryPage,
    /// The first and the last event that were read in their order.
    first: Option<u64>,
    last: u64,
    failed: Option<ReadError>,
}

impl Paging<'_> {
    fn is_done(&self) -> bool {
        self.page.next.is_some() || self.failed.is_some()
    }

    fn wants(&self, at_ms: i64) -> bool {
        (self.query.from_ms..self.query.to_ms).contains(&at_ms)
    }

    fn visit(&mut self, placed: Placed) -> ControlFlow<()> {
        let Placed {
            sequence, at_ms, event, ..
        } = placed;
        let is_first = self.first.is_none();
        self.first.get_or_insert(sequence);
        self.last = sequence;
        match event {
            Event::Opening(opening) if is_first => self.open.extend(open_before(&opening)),
            Event::Held(held) if self.wants(held.facts.at_ms) => {
                self.open.insert(HoldId(sequence), held);
            }
            Event::Settled(settled) => self.settle(sequence, at_ms, &settled)?,
            Event::Imported(imported) => self.import(sequence, at_ms, &imported)?,
            Event::Voided(voided) => {
                self.open.remove(&voided.hold);
            }
            _ => {}
        }
        // Well past the end of the range only holds that are still open can bring entries of it.
        if at_ms >= self.query.to_ms.saturating_add(HELD_WITHIN_MS) && self.open.is_empty() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn settle(&mut self, sequence: u64, at_ms: i64, settled: &Settled) -> ControlFlow<()> {
        let mut held = self.open.remove(&settled.hold);
        let is_before = self.first.is_some_and(|first| settled.hold.0 < first);
        // Placed before this page begins to read: a hold that waited long makes no page read all of that time again.
        if held.is_none() && self.query.after.is_some() && sequence > self.after && is_before {
            match held_numbered(self.stores, settled.hold) {
                Ok(found) => held = found,
                Err(error) => {
                    self.failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        let held = held.filter(|held| self.wants(held.facts.at_ms) && sequence > self.after);
        match held {
            Some(held) => self.push(settled.entry(&held.facts), sequence, at_ms, 0),
            None => ControlFlow::Continue(()),
        }
    }

    fn import(&mut self, sequence: u64, at_ms: i64, imported: &Imported) -> ControlFlow<()> {
        if sequence < self.after {
            return ControlFlow::Continue(());
        }
        let given = if sequence == self.after { self.skip } else { 0 };
        for (number, entry) in (1..).zip(&imported.entries) {
            if number > given && self.wants(entry.facts.at_ms) {
                self.push(entry.entry(&imported.source), sequence, at_ms, number)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Adds an entry, the `number`th of its event where that bears several. Breaks when the page is full.
    fn push(&mut self, entry: Entry, sequence: u64, at_ms: i64, number: u32) -> ControlFlow<()> {
        self.page.entries.push(entry);
        if self.page.entries.len() < self.query.limit.max(1) {
            return ControlFlow::Continue(());
        }
        let oldest = self.open.values().map(|held| held.at_ms).min();
        let since_ms = oldest.map_or(at_ms, |oldest| oldest.min(at_ms));
        self.page.next = Some(Cursor {
            since_ms: since_ms.max(at_ms.saturating_sub(READ_AGAIN_MS)),
            sequence,
            skip: number,
        });
        ControlFlow::Break(())
    }
}

/// The imported entry with this id, as if what it is had been held and settled by the event that bears it.
pub(crate) fn find_imported(
    stores: &dyn Stores,
    places: &[ImportPlace],
    id: Ulid,
    until: u64,
) -> Result<Option<Found>, ReadError> {
    let mut found = None;
    for place in places {
        read_since(stores, place.at_ms, until, |placed| {
            if placed.sequence > place.last_sequence {
                return ControlFlow::Break(());
            }
            if let Event::Imported(imported) = &placed.event
                && let Some(entry) = imported.entries.iter().find(|entry| entry.facts.id == id)
            {
                found = Some(as_settled(placed.sequence, entry));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

fn as_settled(sequence: u64, entry: &ImportedEntry) -> Found {
    let reason = Name::from(IMPORTED);
    Found {
        hold: HoldId(sequence),
        held: Arc::new(Held {
            at_ms: entry.facts.at_ms,
            facts: Arc::clone(&entry.facts),
            amounts: Amounts::ZERO,
            basis: Name::clone(&reason),
            bounds: Vec::new(),
            record: None,
        }),
        settled: Arc::new(Settled {
            at_ms: entry.settlement.at_ms,
            hold: HoldId(sequence),
            held: Amounts::ZERO,
            overage_reason: Some(reason),
            settlement: entry.settlement.clone(),
            bills: Vec::new(),
        }),
    }
}

/// The hold with this number, in whichever month.
pub(crate) fn held_numbered(stores: &dyn Stores, hold: HoldId) -> Result<Option<Arc<Held>>, ReadError> {
    for month in stores.months()?.into_iter().rev() {
        let Some(store) = stores.month(month)? else { continue };
        let event = MonthReader { month, store: &*store }.event_numbered(hold.0)?;
        if let Some(Event::Held(held)) = event {
            return Ok(Some(held));
        }
    }
    Ok(None)
}

/// The settled hold with this id, placed at `held_at_ms`.
pub(crate) fn find_settled(stores: &dyn Stores, hold: HoldId, held_at_ms: i64) -> Result<Option<Found>, ReadError> {
    find(stores, held_at_ms, u64::MAX, |_, settled| settled.hold == hold)
}

/// The entry with this bill, by where it stands; where that is not known, or a clock that was set back makes it another
/// place, by looking through the months that know of bills.
pub(crate) fn find_billed(
    stores: &dyn Stores,
    bill: &BillId,
    place: Option<EntryPlace>,
    until: u64,
) -> Result<Option<Found>, ReadError> {
    if let Some(place) = place
        && let Some(found) = at_place(stores, place)?
        && found.settled.bills.contains(bill)
    {
        return Ok(Some(found));
    }
    find(stores, 0, until, |_, settled| settled.bills.contains(bill))
}

/// The entry that stands there; `None` where its month was removed.
pub(crate) fn entry_at(stores: &dyn Stores, place: EntryPlace) -> Result<Option<Entry>, ReadError> {
    let found = at_place(stores, place)?;
    Ok(found.map(|found| found.settled.entry(&found.held.facts)))
}

fn at_place(stores: &dyn Stores, place: EntryPlace) -> Result<Option<Found>, ReadError> {
    let held = event_at(stores, place.held_ms, place.held.0)?;
    let settled = event_at(stores, place.settled_ms, place.settled)?;
    Ok(match (held, settled) {
        (Some(Event::Held(held)), Some(Event::Settled(settled))) if settled.hold == place.held => Some(Found {
            hold: place.held,
            held,
            settled,
        }),
        _ => None,
    })
}

/// The event with this sequence, decided at `at_ms`. `None` where it does not stand where events of that time stand.
fn event_at(stores: &dyn Stores, at_ms: i64, sequence: u64) -> Result<Option<Event>, ReadError> {
    let month = Month::of_ms(at_ms);
    match stores.month(month)? {
        Some(store) => MonthReader { month, store: &*store }.event(at_ms, sequence),
        None => Ok(None),
    }
}

/// The first hold settled since `from_ms` that `wanted` picks.
pub(crate) fn find(
    stores: &dyn Stores,
    from_ms: i64,
    until: u64,
    wanted: impl Fn(&Held, &Settled) -> bool,
) -> Result<Option<Found>, ReadError> {
    let mut open: HashMap<HoldId, Arc<Held>> = HashMap::new();
    let mut found = None;
    let mut first = true;
    read_since(stores, from_ms, until, |placed| {
        match placed.event {
            Event::Opening(opening) if std::mem::take(&mut first) => open.extend(open_before(&opening)),
            Event::Held(held) => {
                open.insert(HoldId(placed.sequence), held);
            }
            Event::Voided(voided) => {
                open.remove(&voided.hold);
            }
            Event::Settled(settled) => {
                if let Some(held) = open.remove(&settled.hold).filter(|held| wanted(held, &settled)) {
                    found = Some(Found {
                        hold: settled.hold,
                        held,
                        settled,
                    });
                    return ControlFlow::Break(());
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
