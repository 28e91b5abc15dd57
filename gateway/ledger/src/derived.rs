//! What follows from the journal and is kept beside it: rollups, and the checkpoints from which a start goes on.

use crate::map::Map;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::billed::{self, BillRows, Billed};
use crate::checkpoints::{Checkpoints, Due};
use crate::codec;
use crate::entry::Facts;
use crate::event::{Event, HoldId};
use crate::journal::bytes::{Reader, put_blob, put_i64, put_u64};
use crate::journal::frame::{Hash, Head};
use crate::ledger::Ledger;
use crate::names::Names;
use crate::query;
use crate::rollup::{Retention, Rollups};
use crate::sessions::{self, Sessions};
use crate::store::{Change, Month, Store, StoreError, Stores};
use crate::writer::Scribe;

const CHECKPOINT_KEY: &[u8] = b"checkpoint";
/// What rows of the rollups begin with in the state database.
const ROW_PREFIX: u8 = b'r';
const CHECKPOINT_VERSION: u8 = 1;

/// Rollups and what it takes to carry them on event by event, live as in replay.
#[derive(Debug)]
pub(crate) struct Derived {
    pub rollups: Rollups,
    /// With locks of its own: requests ask there.
    pub sessions: Arc<Sessions>,
    /// Facts of the open holds, which settled events do not repeat.
    open: Map<HoldId, Arc<Facts>>,
    pub bills: BillRows,
}

impl Derived {
    pub fn new(rollups: Rollups, sessions: Arc<Sessions>) -> Derived {
        Derived {
            rollups,
            sessions,
            open: Map::default(),
            bills: BillRows::default(),
        }
    }

    pub fn set_open(&mut self, open: impl IntoIterator<Item = (HoldId, Arc<Facts>)>) {
        self.open = open.into_iter().collect();
    }

    /// `stores` are read only for an adjustment, which names its entry and does not repeat it.
    pub fn apply(&mut self, sequence: u64, event: &Event, stores: &dyn Stores) {
        self.bills.committed(event);
        match event {
            Event::Held(held) => {
                self.sessions.held(sequence, held.at_ms, &held.facts);
                self.open.insert(HoldId(sequence), Arc::clone(&held.facts));
            }
            Event::Settled(settled) => {
                if let Some(facts) = self.open.remove(&settled.hold) {
                    let entry = settled.entry(&facts);
                    self.sessions.settled(sequence, settled.at_ms, &entry);
                    self.rollups.add(&entry);
                }
            }
            Event::Voided(voided) => {
                if let Some(facts) = self.open.remove(&voided.hold) {
                    self.sessions.voided(sequence, voided.at_ms, &facts);
                }
            }
            Event::Adjusted(adjusted) => match query::find_settled(stores, adjusted.hold, adjusted.held_at_ms) {
                Ok(Some(found)) => {
                    let entry = found.entry();
                    self.sessions.adjusted(sequence, &entry.facts, adjusted.amounts.usd);
                    self.rollups.adjust(&entry, adjusted.amounts.usd);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "cannot find the entry of an adjustment for the cost sums"),
            },
            Event::Marked(marked) => self.sessions.marked(sequence, marked),
            Event::Opening(_) | Event::Extended(_) | Event::Denied(_) | Event::Deferred(_) => {}
        }
    }
}

/// A place of the journal at which a checkpoint is due.
pub(crate) struct Snapshot {
    /// The time of decisions there.
    pub at_ms: i64,
    pub month: Month,
}

/// A row of the rollups with its new value; `None` where it is removed.
pub(crate) type Row = (Vec<u8>, Option<Vec<u8>>);

/// A checkpoint as it was read back.
pub(crate) struct Checkpoint {
    pub head: Head,
    pub at_ms: i64,
    pub month: Month,
    pub books: Vec<u8>,
    pub floors_ms: (i64, i64),
}

impl Checkpoint {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![CHECKPOINT_VERSION];
        put_u64(&mut out, self.head.sequence);
        out.extend_from_slice(&self.head.hash.0);
        put_i64(&mut out, self.at_ms);
        put_i64(&mut out, self.month.start_ms());
        put_i64(&mut out, self.floors_ms.0);
        put_i64(&mut out, self.floors_ms.1);
        put_blob(&mut out, &self.books);
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        let (body, digest) = bytes.split_last_chunk::<32>()?;
        if blake3::hash(body).as_bytes() != digest {
            return None;
        }
        let mut reader = Reader::new(body);
        if reader.array()? != [CHECKPOINT_VERSION] {
            return None;
        }
        Some(Checkpoint {
            head: Head {
                sequence: reader.u64()?,
                hash: Hash(reader.array()?),
            },
            at_ms: reader.i64()?,
            month: Month::of_ms(reader.i64()?),
            floors_ms: (reader.i64()?, reader.i64()?),
            books: reader.blob()?.to_vec(),
        })
    }
}

/// What a checkpoint left behind.
pub(crate) struct Loaded {
    pub checkpoint: Checkpoint,
    pub rollups: Rollups,
    pub billed: Billed,
    pub bills: BillRows,
}

/// The checkpoint and what belongs to it. Nothing where there is none or it cannot be read: the journal knows it all.
pub(crate) fn load(state: &dyn Store, retention: Retention) -> Result<Option<Loaded>, StoreError> {
    let mut checkpoint = None;
    let (mut billed, mut bills) = (Billed::default(), BillRows::default());
    let mut rollups = Rollups::new(retention);
    for pair in state.scan(&[]) {
        let (key, value) = pair?;
        match key.split_first() {
            _ if key == CHECKPOINT_KEY => checkpoint = Checkpoint::decode(&value),
            Some((&ROW_PREFIX, row)) if rollups.load(row, &value).is_none() => return Ok(None),
            Some((&billed::ROW_PREFIX, row)) if bills.load(row, &value, &mut billed).is_none() => return Ok(None),
            _ => {}
        }
    }
    Ok(checkpoint.map(|checkpoint| {
        rollups.set_floors_ms(checkpoint.floors_ms);
        Loaded {
            checkpoint,
            rollups,
            billed,
            bills,
        }
    }))
}

/// How far the journal was on disk when the checkpoint was written.
pub(crate) fn checkpoint_head(state: &dyn Store) -> Result<Option<Head>, StoreError> {
    let pair = state.at_or_before(CHECKPOINT_KEY)?;
    Ok(pair
        .filter(|(key, _)| key == CHECKPOINT_KEY)
        .and_then(|(_, value)| Checkpoint::decode(&value))
        .map(|checkpoint| checkpoint.head))
}

/// Removes the checkpoint and all rows, so that those made anew do not mix with old ones.
pub(crate) fn clear(state: &dyn Store) -> Result<(), StoreError> {
    let mut batch = Vec::new();
    for pair in state.scan(&[]) {
        let (key, _) = pair?;
        let is_row = matches!(
            key.first(),
            Some(&(ROW_PREFIX | billed::ROW_PREFIX | sessions::ROW_PREFIX))
        );
        if key == CHECKPOINT_KEY || is_row {
            batch.push(Change::Remove(key));
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    state.apply(batch)?;
    state.flush()
}

/// Writes a checkpoint and the rows that have changed since the last, all or nothing.
pub(crate) fn save(state: &dyn Store, books: Vec<u8>, due: Due) -> Result<(), StoreError> {
    let Due {
        snapshot: Snapshot { at_ms, month },
        head,
        floors_ms,
        rows,
        bills,
        session_rows,
    } = due;
    let checkpoint = Checkpoint {
        head,
        at_ms,
        month,
        books,
        floors_ms,
    };
    let mut batch = vec![Change::Put(CHECKPOINT_KEY.to_vec(), checkpoint.encode())];
    batch.extend(bills);
    batch.extend(session_rows);
    for (key, value) in rows {
        let mut row = Vec::with_capacity(key.len() + 1);
        row.push(ROW_PREFIX);
        row.extend_from_slice(&key);
        batch.push(match value {
            Some(value) => Change::Put(row, value),
            None => Change::Remove(row),
        });
    }
    state.apply(batch)?;
    state.flush()
}

/// The scribe of the ledger: knows how events look and what follows from them.
pub(crate) struct Bookkeeper {
    pub names: Names,
    pub derived: Arc<RwLock<Derived>>,
    pub stores: Arc<dyn Stores>,
    pub checkpoints: Checkpoints,
    pub retention_months: Option<u32>,
    /// Weak: the ledger owns its writer.
    pub ledger: Weak<Ledger>,
}

impl Scribe for Bookkeeper {
    type Event = Event;
    type Snapshot = Snapshot;

    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        *out = codec::encode(event, &mut self.names);
    }

    fn begin_anew(&mut self) {
        self.names = Names::new();
    }

    fn committed(&mut self, sequence: u64, event: Event) {
        self.derived.write().apply(sequence, &event, &*self.stores);
        self.checkpoints.committed(sequence, event);
    }

    fn opens_after(&mut self, opening: &mut Event, previous: Head) {
        if let Event::Opening(opening) = opening {
            Arc::make_mut(opening).previous = (previous.sequence > 0).then_some(previous.hash.0);
        }
    }

    fn checkpoint(&mut self, snapshot: Snapshot, head: Head) {
        if !self.checkpoints.is_running() {
            return;
        }
        let due = {
            let derived = &mut *self.derived.write();
            derived.rollups.merge(snapshot.at_ms);
            Due {
                floors_ms: derived.rollups.floors_ms(),
                rows: derived.rollups.take_changes(),
                bills: derived.bills.take_changes(head.sequence, snapshot.at_ms),
                session_rows: derived.sessions.changes(),
                snapshot,
                head,
            }
        };
        self.checkpoints.checkpoint(due);
    }

    fn tick(&mut self) {
        if let Some(ledger) = self.ledger.upgrade() {
            ledger.tick();
        }
    }

    fn opened(&mut self, month: Month) {
        let Some(kept) = self.retention_months else { return };
        match remove_before(&*self.stores, month.back(kept)) {
            Ok(removed) => removed
                .iter()
                .for_each(|month| tracing::info!(%month, "removed a month of the journal")),
            Err(error) => tracing::warn!(%error, "cannot remove old months of the journal"),
        }
        if let Err(error) = self.derived.read().sessions.forget_now(month.back(kept).start_ms()) {
            tracing::warn!(%error, "cannot remove old sessions");
        }
    }
}

/// Removes the months before `first`.
pub(crate) fn remove_before(stores: &dyn Stores, first: Month) -> Result<Vec<Month>, StoreError> {
    let months: Vec<Month> = stores.months()?.into_iter().filter(|month| *month < first).collect();
    for month in &months {
        stores.remove_month(*month)?;
    }
    Ok(months)
}
