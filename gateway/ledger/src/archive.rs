//! The journal as it leaves a ledger and becomes one again: its records as they are, month by month, each checked against the
//! one before. All else follows from it.

use std::path::Path;
use std::sync::Arc;

use crate::error::LedgerError;
use crate::head::Head;
use crate::journal::frame::Chunk;
use crate::journal::reader::{Damaged, MonthReader, ReadError};
use crate::store::{Change, DiskStores, Month, Pair, Store, Stores};

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The end of the journal that was exported.
    pub head: Head,
    pub events: u64,
}

/// Visits the records of a journal that no process has open, in their order.
///
/// # Errors
/// Another process has it, there is none, it is damaged, or `visit` fails.
pub fn export_journal<E: From<LedgerError>>(
    dir: &Path,
    visit: impl FnMut(Month, &Pair) -> Result<(), E>,
) -> Result<Exported, E> {
    let stores = DiskStores::open(dir).map_err(LedgerError::from)?;
    export(&stores, None, visit)
}

/// The same of any stores, up to a head.
pub(crate) fn export<E: From<LedgerError>>(
    stores: &dyn Stores,
    until: Option<Head>,
    mut visit: impl FnMut(Month, &Pair) -> Result<(), E>,
) -> Result<Exported, E> {
    let failed = |error: ReadError| LedgerError::from(error);
    let mut exported = Exported {
        head: Head::default(),
        events: 0,
    };
    let mut is_first = true;
    for month in stores.months().map_err(LedgerError::from)? {
        let Some(store) = stores.month(month).map_err(LedgerError::from)? else {
            continue;
        };
        let reader = MonthReader { month, store: &*store };
        let Some((_, before)) = reader.opening().map_err(failed)? else {
            continue;
        };
        if until.is_some_and(|until| before.sequence >= until.sequence) {
            break;
        }
        if std::mem::take(&mut is_first) {
            exported.head = before;
        }
        for pair in store.scan(&[]) {
            let pair = pair.map_err(LedgerError::from)?;
            let damaged = |damage| {
                LedgerError::Damaged(Damaged {
                    month,
                    after_sequence: exported.head.sequence,
                    damage,
                })
            };
            let chunk = Chunk::parse(&pair.0, &pair.1).map_err(damaged)?;
            if until.is_some_and(|until| chunk.first_sequence > until.sequence) {
                break;
            }
            exported.head = chunk.follows(&exported.head).map_err(damaged)?;
            exported.events += chunk.events.len() as u64;
            visit(month, &pair)?;
        }
    }
    Ok(exported)
}

/// A journal that is being written again, into a folder in which there is none.
pub struct RestoredJournal {
    stores: DiskStores,
    month: Option<(Month, Arc<dyn Store>)>,
}

impl RestoredJournal {
    /// # Errors
    /// The folder cannot be used, or there is a ledger in it.
    pub fn create(dir: &Path) -> Result<RestoredJournal, LedgerError> {
        let stores = DiskStores::open(dir)?;
        stores.mark()?;
        if !stores.months()?.is_empty() {
            return Err(LedgerError::InUse(dir.to_owned()));
        }
        Ok(RestoredJournal { stores, month: None })
    }

    /// Writes records of a month.
    ///
    /// # Errors
    /// The disk fails.
    pub fn put(&mut self, month: Month, records: Vec<Pair>) -> Result<(), LedgerError> {
        let store = match &self.month {
            Some((known, store)) if *known == month => Arc::clone(store),
            _ => {
                self.flush()?;
                let store = self.stores.create_month(month)?;
                self.month = Some((month, Arc::clone(&store)));
                store
            }
        };
        let mut changes = records.into_iter().map(|(key, value)| Change::Put(key, value));
        Ok(store.apply_each(&mut changes)?)
    }

    /// All is on disk, and the journal ends with `head`.
    ///
    /// # Errors
    /// The disk fails.
    pub fn finish(self, head: Head) -> Result<(), LedgerError> {
        self.flush()?;
        Ok(self.stores.note_head(head)?)
    }

    fn flush(&self) -> Result<(), LedgerError> {
        match &self.month {
            Some((_, store)) => Ok(store.flush()?),
            None => Ok(()),
        }
    }
}
