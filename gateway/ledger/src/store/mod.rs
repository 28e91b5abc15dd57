//! Where bytes rest: small ordered key-value databases, one a month for the journal and one for derived state.
//!
//! Only `sled_store.rs` names sled. A month's database has a write-ahead log before it (`ahead/`): that is what a commit
//! waits for. `memory.rs` is the same contract over a byte log that tests can break at will, `memory_files.rs` the log's files.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::head::Head;

mod ahead;
mod disk;
mod heads;
mod memory;
mod memory_device;
mod memory_files;
mod memory_log;
mod redo;
mod schema;
mod sled_store;

pub use disk::DiskStores;
pub use heads::{Heads, read as read_heads};
pub use memory::{Chance, Faults, MemoryStores};
pub use schema::SCHEMA;

/// Bytes of a key or of a value.
pub type Bytes = Vec<u8>;

/// A key and its value, in key order.
pub type Pair = (Bytes, Bytes);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    #[error("the store in {} is in use by another process", dir.display())]
    InUse { dir: PathBuf },
    #[error("cannot open {}: {reason}; copy the folder away, then run `agentledger verify`, or restore an export", dir.display())]
    Open { dir: PathBuf, reason: String },
    #[error(
        "the ledger in {} was written by a newer agentledger (schema {found}; this one knows {}): nothing was read or changed; run that version, or restore a backup of before",
        dir.display(), schema::SCHEMA
    )]
    Newer { dir: PathBuf, found: u32 },
    /// The disk takes no more for now: full, over a quota or a size limit, or read-only. Nothing of the write is there.
    #[error("the disk takes no more: {0}")]
    Full(String),
    #[error("the store failed: {0}")]
    Io(String),
    /// What was on disk cannot be read, or is gone.
    #[error("the write-ahead log is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Whether the same may succeed later, with nothing lost meanwhile. A failed sync is not of that kind: what the system
    /// had for the disk it may have dropped.
    pub fn may_pass(&self) -> bool {
        matches!(self, StoreError::Full(_))
    }

    /// Of a write. Never of a sync.
    pub(crate) fn of_write(what: &str, error: &io::Error) -> StoreError {
        use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let said = format!("{what}: {error}");
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem | PermissionDenied => {
                StoreError::Full(said)
            }
            _ => StoreError::Io(said),
        }
    }
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Bytes, Bytes),
    Remove(Bytes),
}

/// One ordered database. Readers and the one writer share it.
pub trait Store: Send + Sync {
    /// All of the batch or, after a crash, nothing of it. Durable only after the next `flush`.
    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError>;

    /// As `apply`, for a batch that may be too large to be in memory at once.
    fn apply_each(&self, changes: &mut dyn Iterator<Item = Change>) -> Result<(), StoreError> {
        self.apply(changes.collect())
    }

    /// Blocks until everything applied before is on disk, power cuts included.
    fn flush(&self) -> Result<(), StoreError>;

    /// Bytes that are on disk before the database has them: what `drain` is for.
    fn ahead_bytes(&self) -> usize {
        0
    }

    /// Puts into the database what is on disk ahead of it. Nothing that is read changes.
    fn drain(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// As `drain`, where no more is to be written for now: nothing is left beside the database.
    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Opens the database anew after a failed write, as it is on disk then.
    fn reopen(&self) -> Result<(), StoreError>;

    /// The pairs with `from <= key`, ascending.
    fn scan<'a>(&'a self, from: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send + 'a>;

    /// The pair with the greatest key that is not above `at`.
    fn at_or_before(&self, at: &[u8]) -> Result<Option<Pair>, StoreError>;

    /// The pair with the greatest key.
    fn last(&self) -> Result<Option<Pair>, StoreError>;
}

/// A UTC calendar month, the name of a journal database: `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    pub year: i16,
    pub month: i8,
}

impl Month {
    /// The month of a moment in milliseconds since the epoch; moments that no calendar has fall into 1970-01.
    pub fn of_ms(at_ms: i64) -> Month {
        jiff::Timestamp::from_millisecond(at_ms)
            .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date())
            .map_or(Month { year: 1970, month: 1 }, |date| Month {
                year: date.year(),
                month: date.month(),
            })
    }

    /// Its first millisecond.
    pub fn start_ms(self) -> i64 {
        jiff::civil::Date::new(self.year, self.month, 1)
            .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
            .map_or(0, |at| at.timestamp().as_millisecond())
    }

    /// The month after.
    pub fn next(self) -> Month {
        self.moved(1)
    }

    /// The month `count` months earlier.
    pub fn back(self, count: u32) -> Month {
        self.moved(-i64::from(count))
    }

    fn moved(self, by: i64) -> Month {
        let months = i64::from(self.year) * 12 + i64::from(self.month) - 1 + by;
        let year = i16::try_from(months.div_euclid(12)).unwrap_or(i16::MIN);
        let month = i8::try_from(months.rem_euclid(12) + 1).unwrap_or(1);
        Month { year, month }
    }

    pub fn parse(text: &str) -> Option<Month> {
        let (year, month) = text.split_once('-')?;
        if year.len() != 4 || month.len() != 2 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            return None;
        }
        let month = Month {
            year: year.parse().ok()?,
            month: month.parse().ok()?,
        };
        (1..=12).contains(&month.month).then_some(month)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// The databases of one ledger. Holding it keeps other processes out.
pub trait Stores: Send + Sync {
    /// Months that have a database, ascending.
    fn months(&self) -> Result<Vec<Month>, StoreError>;

    /// The database of a month; `None` where there is none.
    fn month(&self, month: Month) -> Result<Option<Arc<dyn Store>>, StoreError>;

    /// The database of a month, made where there is none.
    fn create_month(&self, month: Month) -> Result<Arc<dyn Store>, StoreError>;

    /// Removes a month's database for good, whole or not at all.
    fn remove_month(&self, month: Month) -> Result<(), StoreError>;

    /// The database of derived state, made where there is none.
    fn state(&self) -> Result<Arc<dyn Store>, StoreError>;

    /// Puts a database of derived state aside that cannot be opened: it can be made anew.
    fn discard_state(&self) -> Result<(), StoreError>;

    /// Whether what is open is still what lies in the ledger's folder.
    fn check(&self) -> Result<(), StoreError>;

    /// What `note_head` noted lately.
    fn heads(&self) -> Result<Heads, StoreError>;

    /// Notes beside the databases how far the journal reaches on disk. On disk itself when it returns.
    fn note_head(&self, head: Head) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn months_are_named_in_order_and_round_trip() {
        let november = Month::of_ms(1_795_000_000_000);
        assert_eq!(november.to_string(), "2026-11");
        assert_eq!(Month::parse("2026-11"), Some(november));
        assert_eq!(Month::of_ms(november.start_ms()), november);
        assert_eq!(Month::of_ms(november.start_ms() - 1).to_string(), "2026-10");
        assert_eq!(november.back(11).to_string(), "2025-12");
        assert_eq!(november.back(10).to_string(), "2026-01");
    }

    #[test]
    fn other_folder_names_are_no_months() {
        for name in [
            "2026-13",
            "2026-00",
            "2026-1",
            "x",
            "2026-11-01",
            "-026-11",
            "+026-11",
            ".tmp",
        ] {
            assert_eq!(Month::parse(name), None, "{name}");
        }
    }
}
