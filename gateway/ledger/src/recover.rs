//! From what is on disk to the state in memory: the last checkpoint, then the journal forward from there.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::billed::{self, Billed};
use crate::books::Books;
use crate::checkpoint::{self, Checkpoint, Loaded};
use crate::derived::Derived;
use crate::event::Event;
use crate::head::Head;
use crate::journal::frame::{Chunk, Damage, key};
use crate::journal::reader::{Damaged, MonthReader, ReadError};
use crate::known_heads::KnownHeads;
use crate::options::Keep;
use crate::rollup::Rollups;
use crate::secret_check;
use crate::sessions::Sessions;
use crate::store::{Month, Store, StoreError, Stores};

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
    /// The time by which the journal is ordered, at its end.
    pub journal_ms: i64,
    pub secret_check: Option<[u8; 16]>,
    /// The newest month; `None` for a journal in which nothing was written yet.
    pub newest: Option<Written>,
    /// From where events had to be replayed: 0 for all of them.
    pub replayed_from: u64,
}

impl Recovered {
    fn new(books: Books, derived: Derived) -> Recovered {
        Recovered {
            books,
            derived,
            billed: Billed::default(),
            head: Head::default(),
            journal_ms: 0,
            secret_check: None,
            newest: None,
            replayed_from: 0,
        }
    }

    fn of_checkpoint(loaded: Loaded, books: Books, sessions: Sessions) -> Recovered {
        let checkpoint = loaded.checkpoint;
        let mut derived = Derived::new(loaded.rollups, Arc::new(sessions));
        derived.peaks = loaded.peaks;
        (derived.bill_rows, derived.import_places) = (loaded.bill_rows, loaded.import_places);
        (derived.change_rows, derived.denial_rows) = (loaded.change_rows, loaded.denial_rows);
        derived.set_open(books.open_holds());
        Recovered {
            billed: loaded.billed,
            head: checkpoint.head,
            journal_ms: checkpoint.at.journal_ms,
            secret_check: checkpoint.at.secret_check,
            replayed_from: checkpoint.head.sequence,
            ..Recovered::new(books, derived)
        }
    }
}

/// The database of derived state. One that cannot be opened is put aside and made anew from the journal.
pub(crate) fn state(stores: &dyn Stores) -> Result<Arc<dyn Store>, StoreError> {
    let error = match readable_state(stores) {
        Ok(state) => return Ok(state),
        Err(error) if error.may_pass() => return Err(error),
        Err(error) => error,
    };
    tracing::error!(%error, "the state database is damaged: it is put aside and made anew from the journal");
    stores.discard_state()?;
    stores.state()
}

/// As it is, if all of it can be read.
pub(crate) fn readable_state(stores: &dyn Stores) -> Result<Arc<dyn Store>, StoreError> {
    let state = stores.state()?;
    for pair in state.scan(&[]) {
        pair?;
    }
    Ok(state)
}

/// Reads all state, checking the chain of what is replayed. Damage there is an error, never passed over.
pub(crate) fn recover(
    stores: &dyn Stores,
    state: &Arc<dyn Store>,
    keep: Keep,
    may_change: bool,
) -> Result<Recovered, ReadError> {
    let months = written_months(stores)?;
    let heads = stores.heads()?;
    if heads.broken > 0 {
        tracing::warn!(lines = heads.broken, "the file `heads` has lines that cannot be read");
    }
    let mut noted = KnownHeads::new(heads.noted, u64::MAX);
    let loaded = checkpoint::load(&**state, keep.rollups)?;
    let loaded = loaded.and_then(|loaded| Some((Books::restore(&loaded.checkpoint.books).ok()?, loaded)));
    let (mut recovered, from) = match loaded {
        Some((books, loaded)) => from_checkpoint(&months, state, keep, books, loaded)?,
        None => {
            if may_change {
                checkpoint::clear(&**state)?;
            }
            // What rests without a checkpoint would be counted twice.
            let rest = may_change.then(|| Arc::clone(state));
            let sessions = Arc::new(Sessions::new(rest, keep.sessions));
            let derived = Derived::new(Rollups::new(keep.rollups), sessions);
            (Recovered::new(Books::new().with_names_max(keep.names), derived), None)
        }
    };
    if from.is_some() {
        noted.begin_after(recovered.head.sequence);
    }
    let first = from.map(|(month, _)| month);
    for (month, store) in months
        .iter()
        .filter(|(month, _)| first.is_none_or(|first| *month >= first))
    {
        let from_ms = from.filter(|(first, _)| first == month).map(|(_, from_ms)| from_ms);
        replay(stores, *month, &**store, from_ms, &mut recovered, &mut noted)?;
    }
    noted.end(months.last().map(|(month, _)| *month), recovered.head)?;
    recovered.newest = months.into_iter().next_back();
    Ok(recovered)
}

/// The state that a checkpoint bears, and from where the journal goes on after it; `None` for a checkpoint in a month that is
/// kept no more. Then the first month that is kept says how the books stood, and sums and sessions go on from what they were.
fn from_checkpoint(
    months: &[Written],
    state: &Arc<dyn Store>,
    keep: Keep,
    books: Books,
    mut loaded: Loaded,
) -> Result<(Recovered, Option<(Month, i64)>), ReadError> {
    let at = loaded.checkpoint.at;
    let sessions = Sessions::new(Some(Arc::clone(state)), keep.sessions);
    sessions.load(at.at_ms)?;
    // Months may have been removed since.
    let first = months.first().map(|(month, store)| {
        MonthReader {
            month: *month,
            store: &**store,
        }
        .opening()
    });
    if let Some((_, before)) = first.transpose()?.flatten() {
        loaded.change_rows.forget_before(before.sequence + 1);
    }
    if is_stale(months, &loaded.checkpoint)? {
        tracing::warn!(
            month = %at.month,
            "the last checkpoint is of a month that is gone: sums lack what came between it and the first month there is"
        );
        let mut derived = Derived::new(loaded.rollups, Arc::new(sessions));
        derived.peaks = loaded.peaks;
        (derived.bill_rows, derived.import_places) = (loaded.bill_rows, loaded.import_places);
        (derived.change_rows, derived.denial_rows) = (loaded.change_rows, loaded.denial_rows);
        let recovered = Recovered {
            billed: loaded.billed,
            secret_check: at.secret_check,
            ..Recovered::new(Books::new().with_names_max(keep.names), derived)
        };
        return Ok((recovered, None));
    }
    let month = months.iter().find(|(month, _)| *month == at.month);
    require(month.map(|(_, store)| &**store), &loaded.checkpoint)?;
    let recovered = Recovered::of_checkpoint(loaded, books.with_names_max(keep.names), sessions);
    Ok((recovered, Some((at.month, at.journal_ms))))
}

/// Whether all months that there are begin after the checkpoint: its own was removed with those before it.
fn is_stale(months: &[Written], checkpoint: &Checkpoint) -> Result<bool, ReadError> {
    let Some((first, store)) = months.first().filter(|(first, _)| *first > checkpoint.at.month) else {
        return Ok(false);
    };
    let reader = MonthReader {
        month: *first,
        store: &**store,
    };
    let opening = reader.opening()?;
    Ok(opening.is_some_and(|(_, before)| before.sequence >= checkpoint.head.sequence))
}

/// Months with at least their opening. One without is what a crash left between making it and opening it. If it has
/// lost its events instead, the month after does not carry on the chain, or the checkpoint names what is gone.
fn written_months(stores: &dyn Stores) -> Result<Vec<Written>, ReadError> {
    let mut written = Vec::new();
    for month in stores.months()? {
        if let Some(store) = stores.month(month)?
            && (MonthReader { month, store: &*store }).is_written()?
        {
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
            month: checkpoint.at.month,
            after_sequence: 0,
            damage,
        })
    };
    let Some(store) = store else {
        return Err(damaged(Head::default()));
    };
    let pair = store.at_or_before(&key(checkpoint.at.journal_ms, checkpoint.head.sequence))?;
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
    noted: &mut KnownHeads,
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
            recovered.derived.set_open(open);
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
        journal_ms,
        secret_check,
        ..
    } = recovered;
    *head = reader.follow(*head, from_ms.unwrap_or(0), |placed| {
        let held_ms = match &placed.event {
            Event::Settled(settled) => books.held_of(settled.hold).map(|held| held.at_ms),
            _ => None,
        };
        books
            .apply(placed.sequence, &placed.event)
            .map_err(|error| Damage::Books(error.to_string()))?;
        if let Some(head) = placed.head {
            noted.pass(head)?;
        }
        derived.apply(placed.sequence, &placed.event, stores);
        match &placed.event {
            Event::Settled(settled) => billed.settled(placed.sequence, settled, held_ms.unwrap_or(settled.at_ms)),
            Event::SecretChecked(checked) => *secret_check = Some(checked.check),
            Event::Opening(opening) => *secret_check = secret_check::of(&opening.digests).or(*secret_check),
            event => billed.add(event.at_ms(), &billed::known_by(event)),
        }
        *journal_ms = (*journal_ms).max(placed.at_ms).max(placed.event.at_ms());
        if placed.sequence % MERGE_EVENTS == 0 {
            derived.rollups.merge(placed.at_ms);
            derived.peaks.forget(placed.at_ms);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(())
}
