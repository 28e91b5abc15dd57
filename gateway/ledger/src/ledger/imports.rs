//! Calls that are taken over from elsewhere.

use ulid::Ulid;

use super::Ledger;
use crate::books::{BooksError, Taken};
use crate::core::Decided;
use crate::entry::Name;
use crate::error::LedgerError;
use crate::event::ImportedEntry;
use crate::query;

/// Entries that one event takes over: the engine copes best with values of some kilobytes.
const IMPORTED_TOGETHER: usize = 128;

/// A call that is taken over from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRow {
    /// Where it stands in its source: greater than that of the row before.
    pub place: u64,
    pub entry: ImportedEntry,
}

impl Ledger {
    pub(super) fn find_imported(&self, entry_id: Ulid) -> Result<Option<query::Found>, LedgerError> {
        let places = self.derived.read().import_places.within(i64::MIN, i64::MAX);
        let until = self.head().sequence;
        Ok(query::find_imported(&*self.stores, &places, entry_id, until)?)
    }

    /// Takes over calls that passed no hold here, each at its own time in the past: it is posted in the windows of that time
    /// that still run, and counted in sums, sessions and entries. `rows` stand in the order of their source; those that were
    /// taken before are passed over, so that whoever was interrupted may begin again anywhere. How many were taken.
    ///
    /// What was taken is on disk once a later call returns, or [`Ledger::flushed`]: one call's rows are written while the next
    /// ones are read.
    ///
    /// # Errors
    /// A row is of the future or costs less than nothing, or the writer has stopped or cannot write for now. Rows before it
    /// may have been taken.
    pub async fn import(
        &self,
        source: &Name,
        has_legacy_keys: bool,
        rows: Vec<ImportRow>,
    ) -> Result<usize, LedgerError> {
        // One at a time, and no more than two calls' rows on their way.
        let mut last = self.imported.lock().await;
        self.durable(*last).await?;
        let taken = self.taken(source).map_or(0, |taken| taken.place);
        let mut rows = rows.into_iter().filter(|row| row.place > taken).peekable();
        let mut count = 0;
        while rows.peek().is_some() {
            let mut place = 0;
            let mut entries = Vec::with_capacity(IMPORTED_TOGETHER);
            for row in rows.by_ref().take(IMPORTED_TOGETHER) {
                if row.place <= place {
                    return Err(BooksError::Invalid("imported rows that do not ascend").into());
                }
                place = row.place;
                entries.push(row.entry);
            }
            let permit = self.core.queue.permits(1).await?;
            count += entries.len();
            *last = self.core.import(source, place, has_legacy_keys, entries, permit)?;
        }
        Ok(count)
    }

    /// How far a source was taken over; `None` for one that never was.
    pub fn taken(&self, source: &str) -> Option<Taken> {
        self.core.read(|decided| decided.books.taken(source))
    }

    /// Whether there are fingerprints of imported entries whose keys have not been seen. Costs nothing to ask.
    pub fn has_unseen_keys(&self) -> bool {
        self.core.has_unseen_keys()
    }

    /// The key `key` bore the fingerprint `legacy` elsewhere: what imported entries posted under that is its own from now on.
    /// Whether there was anything to link.
    pub fn link_key(&self, legacy: &Name, key: &Name) -> bool {
        self.core.link_key(legacy, key)
    }

    /// The fingerprints of imported entries whose keys were seen here since, each with the key's own.
    pub fn links(&self) -> Vec<(Name, Name)> {
        let links = |decided: &Decided| {
            let links = decided.books.links();
            links.map(|(legacy, key)| (legacy.clone(), key.clone())).collect()
        };
        self.core.read(links)
    }
}
