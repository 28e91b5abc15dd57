//! From what is on disk to the state in memory: the last checkpoint, then the journal forward from there.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::billed::{self, Billed};
use crate::books::Books;
use crate::derived::{self, Checkpoint, Derived};
use crate::journal::frame::{Chunk, Damage, Head, key};
use crate::journal::reader::{Damaged, MonthReader, ReadError};
use crate::noted::Noted;
use crate::rollup::{Retention, Rollups};
use crate::sessions::{Kept, Sessions};
use crate::store::{Month, Store, Stores};

/// So often a replay merges what has grown old, so that a long one needs no more memory than a running ledger.
const MERGE_EVENTS: u64 = 65_536;

/// A month that has events.
type Written = (Month, Arc<dyn Store>);

/// All state at the end of the journal.
pub(crate) struct Recovered {
    pub books: Books,
    pub derived: Derived,
    pub billed: Billed,
    pub head: Head,
    /// The newest month; `None` for a journal in which nothing was written yet.
    pub newest: Option<Written>,
    /// From where events had to be replayed: 0 for all of them.
    pub replayed_from: u64,
}

/// Reads all state, checking the chain of what is replayed. Damage there is an error, never passed over.
pub(crate) fn recover(
    stores: &dyn Stores,
    state: &Arc<dyn Store>,
    (retention, kept): (Retention, Kept),
    may_change: bool,
) -> Result<Recovered, ReadError> {
    let months = written_months(stores)?;
    let heads = stores.heads()?;
    if heads.broken > 0 {
        tracing::warn!(lines = heads.broken, "the file `heads` has lines that cannot be read");
    }
    let mut noted = Noted::new(heads.noted, u64::MAX);
    let loaded = derived::load(&**state, retention)?;
    let loaded = match loaded {
        Some(loaded) => Books::restore(&loaded.checkpoint.books)
            .ok()
            .map(|books| (loaded, books)),
        None => None,
    };
    let mut recovered = match loaded {
        Some((loaded, books)) => {
            let checkpoint = loaded.checkpoint;
            let month = months.iter().find(|(month, _)| *month == checkpoint.month);
            require(month.map(|(_, store)| &**store), &checkpoint)?;
            let sessions = Sessions::new(Some(Arc::clone(state)), kept);
            sessions.load(checkpoint.at_ms)?;
            let mut derived = Derived::new(loaded.rollups, Arc::new(sessions));
            derived.bills = loaded.bills;
            derived.set_open(
                books
                    .open_holds()
                    .into_iter()
                    .map(|open| (open.id, Arc::clone(&open.held.facts))),
            );
            let head = checkpoint.head;
            noted.begin_after(head.sequence);
            let mut recovered = Recovered {
                books,
                derived,
                billed: loaded.billed,
                head,
                newest: None,
                replayed_from: head.sequence,
            };
            let later = months.iter().filter(|(month, _)| *month >= checkpoint.month);
            for (month, store) in later {
                let from = (*month == checkpoint.month).then_some(checkpoint.at_ms);
                replay(stores, *month, &**store, from, &mut recovered, &mut noted)?;
            }
            recovered
        }
        None => {
            if may_change {
                derived::clear(&**state)?;
            }
            // What rests without a checkpoint would be counted twice.
            let rest = may_change.then(|| Arc::clone(state));
            let sessions = Arc::new(Sessions::new(rest, kept));
            let (books, derived) = (Books::new(), Derived::new(Rollups::new(retention), sessions));
            let mut recovered = Recovered {
                books,
                derived,
                billed: Billed::default(),
                head: Head::default(),
                newest: None,
                replayed_from: 0,
            };
            for (month, store) in &months {
                replay(stores, *month, &**store, None, &mut recovered, &mut noted)?;
            }
            recovered
        }
    };
    noted.end(months.last().map(|(month, _)| *month), recovered.head)?;
    recovered.newest = months.into_iter().next_back();
    Ok(recovered)
}

/// Months with at least their opening. One without is what a crash left between making it and opening it. If it has
/// lost its events instead, the month after does not carry on the chain, or the checkpoint names what is gone.
fn written_months(stores: &dyn Stores) -> Result<Vec<Written>, ReadError> {
    let mut written = Vec::new();
    for month in stores.months()? {
        let store = stores.month(month)?;
        if store.last()?.is_some() {
            written.push((month, store));
        }
    }
    Ok(written)
}

/// A checkpoint was written after the events it sums up were synced. A journal without them has lost something.
fn require(store: Option<&dyn Store>, checkpoint: &Checkpoint) -> Result<(), ReadError> {
    let damaged = |found| {
        let damage = Damage::Behind {
            named: checkpoint.head,
            found,
        };
        ReadError::Damaged(Damaged {
            month: checkpoint.month,
            after_sequence: 0,
            damage,
        })
    };
    let Some(store) = store else {
        return Err(damaged(Head::default()));
    };
    let pair = store.at_or_before(&key(checkpoint.at_ms, checkpoint.head.sequence))?;
    let found = pair.as_ref().and_then(|(key, value)| Chunk::parse(key, value).ok());
    let found = found.map_or(Head::default(), |chunk| Head {
        sequence: chunk.last_sequence(),
        hash: chunk.hash,
    });
    if found == checkpoint.head {
        Ok(())
    } else {
        Err(damaged(found))
    }
}

/// Carries the state on by one month, from its opening or from a checkpoint at `from_ms`.
fn replay(
    stores: &dyn Stores,
    month: Month,
    store: &dyn Store,
    from_ms: Option<i64>,
    recovered: &mut Recovered,
    noted: &mut Noted,
) -> Result<(), ReadError> {
    let reader = MonthReader { month, store };
    if from_ms.is_none() {
        let Some((opening, before)) = reader.opening()? else {
            return Ok(());
        };
        if recovered.head == Head::default() {
            recovered.head = before;
            noted.begin_after(before.sequence);
            let books = Books::restore(&opening.books);
            let open = books.map(|books| books.open_holds()).unwrap_or_default();
            recovered
                .derived
                .set_open(open.into_iter().map(|open| (open.id, Arc::clone(&open.held.facts))));
        } else if before != recovered.head {
            let damage = Damage::Opening {
                named: before,
                found: recovered.head,
            };
            return Err(Damaged {
                month,
                after_sequence: recovered.head.sequence,
                damage,
            }
            .into());
        }
    }
    let Recovered {
        books,
        derived,
        billed,
        head,
        ..
    } = recovered;
    *head = reader.follow(*head, from_ms.unwrap_or(0), |placed| {
        books
            .apply(placed.sequence, &placed.event)
            .map_err(|error| Damage::Books(error.to_string()))?;
        if let Some(head) = placed.head {
            noted.pass(head)?;
        }
        derived.apply(placed.sequence, &placed.event, stores);
        billed.add(placed.event.at_ms(), &billed::known_by(&placed.event));
        if placed.sequence % MERGE_EVENTS == 0 {
            derived.rollups.merge(placed.at_ms);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(())
}
