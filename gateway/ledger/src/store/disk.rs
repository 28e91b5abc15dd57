//! The stores on disk: sled databases in one folder, kept from other processes by a lock file.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::heads::{self, Heads, HeadsFile};
use super::redo;
use super::{Change, Month, Pair, Store, StoreError, Stores};
use crate::journal::frame::Head;

/// Sled's page cache for one database. The journal is appended to and rarely read, so little is enough.
const CACHE_BYTES: u64 = 8 << 20;

/// A database just dropped frees its lock a little later, when sled's last thread lets go of it.
const REOPEN_ATTEMPTS: u32 = 200;
const REOPEN_PAUSE: Duration = Duration::from_millis(10);

/// `DIR/lock`, `DIR/state`, `DIR/heads`, `DIR/journal/YYYY-MM`.
pub struct DiskStores {
    dir: PathBuf,
    /// Open databases by folder: sled admits one handle a folder, also within a process.
    open: Mutex<HashMap<PathBuf, Weak<Disk>>>,
    /// Opened by the first note.
    heads: Mutex<Option<HeadsFile>>,
    /// Locked while this lives; the system frees it when the process dies.
    _lock: File,
}

impl DiskStores {
    /// Makes the folder where there is none.
    pub fn open(dir: &Path) -> Result<DiskStores, StoreError> {
        fs::create_dir_all(dir.join("journal")).map_err(|error| cannot_open(dir, &error))?;
        restrict(dir);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))
            .map_err(|error| cannot_open(dir, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(DiskStores {
                dir: dir.to_owned(),
                open: Mutex::default(),
                heads: Mutex::default(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => Err(cannot_open(dir, &error)),
        }
    }

    fn month_dir(&self, month: Month) -> PathBuf {
        self.dir.join("journal").join(month.to_string())
    }

    fn heads_path(&self) -> PathBuf {
        self.dir.join("heads")
    }

    fn heads_failed(&self, error: &std::io::Error) -> StoreError {
        StoreError::Io(format!("{}: {error}", self.heads_path().display()))
    }

    fn database(&self, dir: PathBuf) -> Result<Arc<dyn Store>, StoreError> {
        let mut open = self.open.lock();
        if let Some(disk) = open.get(&dir).and_then(Weak::upgrade) {
            return Ok(disk);
        }
        let disk = Arc::new(Disk {
            database: open_patiently(&dir)?,
            dir: dir.clone(),
        });
        disk.redo().map_err(|error| cannot_open(&dir, &error))?;
        // The folder's own name must survive a power cut, too.
        sync_dir(dir.parent().unwrap_or(&self.dir));
        open.retain(|_, known| known.strong_count() > 0);
        open.insert(dir, Arc::downgrade(&disk));
        Ok(disk)
    }
}

impl Stores for DiskStores {
    fn months(&self) -> Result<Vec<Month>, StoreError> {
        let dir = self.dir.join("journal");
        let mut months = Vec::new();
        for folder in fs::read_dir(&dir).map_err(|error| cannot_open(&dir, &error))? {
            let folder = folder.map_err(|error| cannot_open(&dir, &error))?;
            months.extend(folder.file_name().to_str().and_then(Month::parse));
        }
        months.sort_unstable();
        Ok(months)
    }

    fn month(&self, month: Month) -> Result<Arc<dyn Store>, StoreError> {
        self.database(self.month_dir(month))
    }

    fn remove_month(&self, month: Month) -> Result<(), StoreError> {
        let dir = self.month_dir(month);
        fs::remove_dir_all(&dir).map_err(|error| StoreError::Io(format!("removing {}: {error}", dir.display())))?;
        sync_dir(&self.dir.join("journal"));
        Ok(())
    }

    fn state(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.database(self.dir.join("state"))
    }

    fn heads(&self) -> Result<Heads, StoreError> {
        heads::read(&self.heads_path()).map_err(|error| self.heads_failed(&error))
    }

    fn note_head(&self, head: Head) -> Result<(), StoreError> {
        let mut heads = self.heads.lock();
        let file = match &mut *heads {
            Some(file) => file,
            None => {
                let file = HeadsFile::open(&self.heads_path()).map_err(|error| self.heads_failed(&error))?;
                sync_dir(&self.dir);
                heads.insert(file)
            }
        };
        file.note(head).map_err(|error| self.heads_failed(&error))
    }
}

/// One sled database, its default tree alone.
struct Disk {
    database: sled::Db,
    dir: PathBuf,
}

impl Disk {
    fn apply_at_once(&self, batch: impl IntoIterator<Item = Change>) -> Result<(), StoreError> {
        let mut changes = sled::Batch::default();
        for change in batch {
            match change {
                Change::Put(key, value) => changes.insert(key, value),
                Change::Remove(key) => changes.remove(key),
            }
        }
        self.database.apply_batch(changes).map_err(|error| failed(&error))
    }

    /// Applies what is written down already, so that a crash in between is made good by the next start.
    fn apply_by_parts(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        let mut changes = batch.into_iter().peekable();
        while changes.peek().is_some() {
            self.apply_at_once(changes.by_ref().take(redo::PART_CHANGES))?;
        }
        self.flush()?;
        redo::remove(&self.dir).map_err(|error| self.redo_failed(&error))
    }

    /// Ends what a crash has left half done.
    fn redo(&self) -> Result<(), StoreError> {
        let left = redo::read(&self.dir).map_err(|error| self.redo_failed(&error))?;
        self.apply_by_parts(left.unwrap_or_default())
    }

    fn redo_failed(&self, error: &std::io::Error) -> StoreError {
        StoreError::Io(format!("{}: {error}", self.dir.display()))
    }
}

impl Store for Disk {
    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        if batch.len() <= redo::CHANGES_MAX {
            return self.apply_at_once(batch);
        }
        // What went before must not be lost where this is kept.
        self.flush()?;
        redo::write(&self.dir, &batch).map_err(|error| self.redo_failed(&error))?;
        self.apply_by_parts(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        // Never flush_async: it can deadlock.
        self.database.flush().map(drop).map_err(|error| failed(&error))
    }

    fn scan<'a>(&'a self, from: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send + 'a> {
        let pairs = self.database.range::<Vec<u8>, _>(from.to_vec()..);
        Box::new(pairs.map(|pair| pair.map(owned).map_err(|error| failed(&error))))
    }

    fn at_or_before(&self, at: &[u8]) -> Result<Option<Pair>, StoreError> {
        let pair = self.database.range::<Vec<u8>, _>(..=at.to_vec()).next_back();
        pair.transpose()
            .map(|pair| pair.map(owned))
            .map_err(|error| failed(&error))
    }

    fn last(&self) -> Result<Option<Pair>, StoreError> {
        self.database
            .last()
            .map(|pair| pair.map(owned))
            .map_err(|error| failed(&error))
    }
}

fn owned((key, value): (sled::IVec, sled::IVec)) -> Pair {
    (key.to_vec(), value.to_vec())
}

fn failed(error: &sled::Error) -> StoreError {
    StoreError::Io(error.to_string())
}

fn cannot_open(dir: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Open {
        dir: dir.to_owned(),
        reason: error.to_string(),
    }
}

/// Opens a database, waiting out a handle of this process that is just being closed. Others are kept out by the lock file.
fn open_patiently(dir: &Path) -> Result<sled::Db, StoreError> {
    let mut attempt = 0;
    loop {
        match open_supervised(dir) {
            Err(StoreError::Open { reason, .. })
                if reason.contains("could not acquire lock") && attempt < REOPEN_ATTEMPTS =>
            {
                attempt += 1;
                std::thread::sleep(REOPEN_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// Sled has panicked on databases left by an abrupt stop. In a thread of its own that is an error that says what to do.
fn open_supervised(dir: &Path) -> Result<sled::Db, StoreError> {
    let path = dir.to_owned();
    let opening = std::thread::Builder::new().name("ledger-open".into()).spawn(move || {
        sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()
    });
    match opening.map_err(|error| cannot_open(dir, &error))?.join() {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) => Err(cannot_open(dir, &error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason given");
            Err(cannot_open(dir, &format!("the storage engine gave up on it ({text})")))
        }
    }
}

/// The books are for their owner alone. A file system without modes is no reason to fail.
#[cfg(unix)]
fn restrict(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if let Err(error) = fs::set_permissions(dir, fs::Permissions::from_mode(0o700)) {
        tracing::warn!(dir = %dir.display(), %error, "cannot restrict the ledger's folder to its owner");
    }
}

#[cfg(not(unix))]
fn restrict(_dir: &Path) {}

pub(super) fn sync_dir(dir: &Path) {
    if let Err(error) = File::open(dir).and_then(|dir| dir.sync_all()) {
        tracing::warn!(dir = %dir.display(), %error, "cannot sync the folder");
    }
}
