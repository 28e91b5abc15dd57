//! One sled database, its default tree alone, and what sled leaves undone: it syncs its log by `sync_file_range`, which
//! flushes neither the file's size nor the drive's cache, and writes large values to files of their own that it does not
//! sync at all. So each flush is followed by a real `fdatasync`. No commit waits for one: the journal's are on disk in their
//! write-ahead log by then.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};

use super::disk::{same_file, sync_dir};
use super::redo;
use super::{Change, Pair, Store, StoreError};

/// Sled's page cache for one database, by its own count: in memory its pages take some three times as much. The journal is
/// appended to and rarely read, and what a checkpoint writes lies everywhere: eight times as much made neither quicker.
const CACHE_BYTES: u64 = 1 << 20;

/// A database just dropped frees its lock a little later, when sled's last thread lets go of it.
const REOPEN_ATTEMPTS: u32 = 200;
/// What sled says where another handle has the database.
const LOCKED: &str = "could not acquire lock";
const REOPEN_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct SledStore {
    dir: PathBuf,
    /// `None` while it is being opened anew, or where that failed.
    database: RwLock<Option<sled::Db>>,
    files: Mutex<Files>,
    /// A batch that is written down first has one file: no two at a time.
    large: Mutex<()>,
    /// See [`SledStore::abandon_if_stuck`].
    stuck: AtomicBool,
}

/// A folder that changed so recently may change again without showing another time.
const CLOCK_GRAIN: Duration = Duration::from_millis(50);

/// The files that sled does not sync itself.
#[derive(Debug)]
struct Files {
    log: File,
    /// When the folder of large values changed last, and which of them are on disk.
    blobs_changed: Option<SystemTime>,
    blobs: HashSet<OsString>,
}

impl SledStore {
    /// Opens the database in `dir`, made where there is none.
    pub fn open(dir: &Path) -> Result<SledStore, StoreError> {
        let database = open_database(dir)?;
        let files = Files::open(dir).map_err(|error| cannot_open(dir, &error))?;
        let store = SledStore {
            dir: dir.to_owned(),
            database: RwLock::new(Some(database)),
            files: Mutex::new(files),
            large: Mutex::default(),
            stuck: AtomicBool::new(false),
        };
        store.redo()?;
        Ok(store)
    }

    /// Whether the database in the folder is the one that is open.
    pub fn check(&self) -> io::Result<bool> {
        same_file(&self.files.lock().log, &self.dir.join("db"))
    }

    fn database(&self) -> Result<sled::Db, StoreError> {
        let database = self.database.read().clone();
        database.ok_or_else(|| StoreError::Io(format!("{} is not open", self.dir.display())))
    }

    fn apply_at_once(&self, batch: impl IntoIterator<Item = Change>) -> Result<(), StoreError> {
        let mut changes = sled::Batch::default();
        for change in batch {
            match change {
                Change::Put(key, value) => changes.insert(key, value),
                Change::Remove(key) => changes.remove(key),
            }
        }
        self.check_not_stuck()?;
        let database = self.database()?;
        database.apply_batch(changes).map_err(|error| {
            self.abandon_if_stuck(database);
            failed(&error)
        })
    }

    /// Where a value's own file cannot be written, sled returns the error but keeps the value's place in the log, which is
    /// then never written: each later flush, also the one of its drop, would wait forever, under a lock that all databases
    /// of the process share. So such a database is not flushed, and not dropped, again: it is opened by the next start.
    /// After an error that sled remembers it refuses everything by itself, also a batch of nothing.
    fn abandon_if_stuck(&self, database: sled::Db) {
        if database.apply_batch(sled::Batch::default()).is_ok() {
            self.stuck.store(true, Ordering::Release);
            std::mem::forget(database);
        }
    }

    fn check_not_stuck(&self) -> Result<(), StoreError> {
        if self.stuck.load(Ordering::Acquire) {
            let dir = self.dir.display();
            return Err(StoreError::Io(format!(
                "{dir}: a write failed half way, and only a restart of the gateway opens the database again"
            )));
        }
        Ok(())
    }

    /// Applies what is written down already, so that a crash in between is made good by the next start.
    fn apply_by_parts(&self, changes: redo::Changes) -> Result<(), StoreError> {
        let mut changes = changes.peekable();
        while changes.peek().is_some() {
            let part: io::Result<Vec<Change>> = changes.by_ref().take(redo::PART_CHANGES).collect();
            self.apply_at_once(part.map_err(|error| self.redo_failed(&error))?)?;
        }
        self.flush()?;
        redo::remove(&self.dir).map_err(|error| self.redo_failed(&error))
    }

    /// Ends what a crash has left half done. What was never begun is removed.
    fn redo(&self) -> Result<(), StoreError> {
        match redo::read(&self.dir).map_err(|error| cannot_open(&self.dir, &error))? {
            Some(left) => self.apply_by_parts(left),
            None => redo::remove(&self.dir).map_err(|error| self.redo_failed(&error)),
        }
    }

    fn redo_failed(&self, error: &io::Error) -> StoreError {
        StoreError::of_write(&self.dir.display().to_string(), error)
    }
}

impl Store for SledStore {
    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        self.apply_each(&mut batch.into_iter())
    }

    fn apply_each(&self, changes: &mut dyn Iterator<Item = Change>) -> Result<(), StoreError> {
        let first: Vec<Change> = (&mut *changes).take(redo::CHANGES_MAX).collect();
        let Some(next) = changes.next() else {
            return self.apply_at_once(first);
        };
        let _alone = self.large.lock();
        // What went before must not be lost where this is kept.
        self.flush()?;
        let written = redo::Writer::create(&self.dir).and_then(|mut writer| {
            for change in first.iter().chain([&next]) {
                writer.add(change)?;
            }
            for change in changes {
                writer.add(&change)?;
            }
            writer.finish()
        });
        written.map_err(|error| self.redo_failed(&error))?;
        match redo::read(&self.dir).map_err(|error| self.redo_failed(&error))? {
            Some(changes) => self.apply_by_parts(changes),
            None => Err(StoreError::Io(format!(
                "{}: what was written down does not read back",
                self.dir.display()
            ))),
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.check_not_stuck()?;
        // Never flush_async: it can deadlock.
        self.database()?.flush().map_err(|error| failed(&error))?;
        let synced = self.files.lock().sync(&self.dir);
        synced.map_err(|error| StoreError::Io(format!("syncing {}: {error}", self.dir.display())))
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.check_not_stuck()?;
        let mut database = self.database.write();
        // Sled admits one handle a folder: this one first lets go. Readers may have it for a moment yet.
        *database = None;
        *database = Some(open_database(&self.dir)?);
        *self.files.lock() = Files::open(&self.dir).map_err(|error| cannot_open(&self.dir, &error))?;
        drop(database);
        self.redo()
    }

    fn scan<'a>(&'a self, from: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send + 'a> {
        match self.database() {
            Ok(database) => {
                let pairs = database.range::<Vec<u8>, _>(from.to_vec()..);
                Box::new(pairs.map(|pair| pair.map(owned).map_err(|error| failed(&error))))
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn at_or_before(&self, at: &[u8]) -> Result<Option<Pair>, StoreError> {
        let pair = self.database()?.range::<Vec<u8>, _>(..=at.to_vec()).next_back();
        pair.transpose()
            .map(|pair| pair.map(owned))
            .map_err(|error| failed(&error))
    }

    fn last(&self) -> Result<Option<Pair>, StoreError> {
        let last = self.database()?.last();
        last.map(|pair| pair.map(owned)).map_err(|error| failed(&error))
    }
}

impl Files {
    /// Their names are on disk when this returns.
    fn open(dir: &Path) -> io::Result<Files> {
        let log = File::open(dir.join("db"))?;
        log.sync_all()?;
        // Written when the database was made, and never synced by sled.
        File::open(dir.join("conf"))?.sync_all()?;
        let mut files = Files {
            log,
            blobs_changed: None,
            blobs: HashSet::new(),
        };
        files.sync(dir)?;
        sync_dir(dir)?;
        Ok(files)
    }

    /// What was written is on disk when this returns: the log, and the values that have files of their own.
    fn sync(&mut self, dir: &Path) -> io::Result<()> {
        self.sync_blobs(&dir.join("blobs"))?;
        self.log.sync_data()
    }

    fn sync_blobs(&mut self, dir: &Path) -> io::Result<()> {
        let changed = match fs::metadata(dir) {
            Ok(metadata) => metadata.modified()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.blobs_changed == Some(changed) {
            return Ok(());
        }
        let mut there = HashSet::new();
        for blob in fs::read_dir(dir)? {
            let blob = blob?;
            if !self.blobs.contains(&blob.file_name()) {
                match File::open(blob.path()) {
                    Ok(file) => file.sync_all()?,
                    // Sled removes what it has replaced.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
            }
            there.insert(blob.file_name());
        }
        sync_dir(dir)?;
        let is_settled = changed.elapsed().is_ok_and(|since| since > CLOCK_GRAIN);
        (self.blobs, self.blobs_changed) = (there, is_settled.then_some(changed));
        Ok(())
    }
}

fn owned((key, value): (sled::IVec, sled::IVec)) -> Pair {
    (key.to_vec(), value.to_vec())
}

fn failed(error: &sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => StoreError::of_write("the storage engine", error),
        error => StoreError::Io(error.to_string()),
    }
}

fn cannot_open(dir: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Open {
        dir: dir.to_owned(),
        reason: error.to_string(),
    }
}

/// Opens a database. What sled keeps beside its log to open it sooner may be half written where the disk was full: without
/// it the log says the same.
fn open_database(dir: &Path) -> Result<sled::Db, StoreError> {
    let opened = open_patiently(dir);
    match &opened {
        Err(StoreError::Open { reason, .. }) if !reason.contains(LOCKED) && remove_snapshots(dir) => {
            tracing::warn!(dir = %dir.display(), %reason, "opening the database from its log alone");
            open_patiently(dir)
        }
        _ => opened,
    }
}

/// Whether there were any.
fn remove_snapshots(dir: &Path) -> bool {
    let mut removed = false;
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with("snap.") {
            removed |= fs::remove_file(file.path()).is_ok();
        }
    }
    removed
}

/// Opens a database, waiting out a handle of this process that is just being closed. Others are kept out by the lock file.
fn open_patiently(dir: &Path) -> Result<sled::Db, StoreError> {
    let mut attempt = 0;
    loop {
        match open_supervised(dir) {
            Err(StoreError::Open { reason, .. }) if reason.contains(LOCKED) && attempt < REOPEN_ATTEMPTS => {
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
        Ok(Err(sled::Error::Io(error))) => match StoreError::of_write(&dir.display().to_string(), &error) {
            full @ StoreError::Full(_) => Err(full),
            _ => Err(cannot_open(dir, &error)),
        },
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_large_value_without_room_for_its_file_stops_no_flush_and_no_drop() {
        let dir = tempfile::tempdir().unwrap();
        let (from, copy) = (dir.path().join("store"), dir.path().join("copy"));
        let store = SledStore::open(&from).unwrap();
        store.apply(vec![Change::Put(vec![1], vec![1])]).unwrap();
        store.flush().unwrap();

        let blobs = from.join("blobs");
        fs::remove_dir(&blobs).unwrap();
        store.apply(vec![Change::Put(vec![2], vec![2; 1 << 20])]).unwrap_err();
        fs::create_dir(&blobs).unwrap();

        for outcome in [
            store.flush(),
            store.apply(vec![Change::Put(vec![3], vec![3])]),
            store.reopen(),
        ] {
            assert!(outcome.unwrap_err().to_string().contains("restart"));
        }
        drop(store);

        fs::create_dir_all(copy.join("blobs")).unwrap();
        for name in ["conf", "db"] {
            fs::copy(from.join(name), copy.join(name)).unwrap();
        }
        let pairs: Vec<Pair> = SledStore::open(&copy).unwrap().scan(&[]).map(Result::unwrap).collect();
        assert_eq!(
            pairs,
            [(vec![1], vec![1])],
            "what was flushed is there, the rest is not"
        );
    }
}
