//! The stores on disk: sled databases in one folder, kept from other processes by a lock file.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::ahead::{AheadStore, DiskFiles};
use super::heads::{self, Heads, HeadsFile};
use super::sled_store::SledStore;
use super::{Month, Store, StoreError, Stores, schema};
use crate::head::Head;

/// A month that is being removed has this before its name: a start removes what a crash has left of it.
const REMOVING: &str = ".removing-";

/// `DIR/lock`, `DIR/schema`, `DIR/state`, `DIR/heads`, `DIR/journal/YYYY-MM`, there also `ahead.0` and `ahead.1`.
pub struct DiskStores {
    dir: PathBuf,
    /// Open databases by folder: sled admits one handle a folder, also within a process.
    open: Mutex<HashMap<PathBuf, Weak<SledStore>>>,
    /// The months among them, each with its write-ahead log.
    months: Mutex<HashMap<PathBuf, Weak<AheadStore>>>,
    /// Opened by the first note.
    heads: Mutex<Option<HeadsFile>>,
    /// Locked while this lives; the system frees it when the process dies.
    lock: File,
}

impl DiskStores {
    /// Makes the folder where there is none.
    ///
    /// # Errors
    /// Another process has it, the folder cannot be used, or a newer program wrote it.
    pub fn open(dir: &Path) -> Result<DiskStores, StoreError> {
        schema::check(dir)?;
        make_dir(&dir.join("journal")).map_err(|error| cannot_open(dir, &error))?;
        restrict(dir);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))
            .map_err(|error| cannot_open(dir, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(cannot_open(dir, &error)),
        }
        let stores = DiskStores {
            dir: dir.to_owned(),
            open: Mutex::default(),
            months: Mutex::default(),
            heads: Mutex::default(),
            lock,
        };
        stores.remove_remains();
        Ok(stores)
    }

    /// Marks the folder with this program's version: before anything is written that an older one does not know.
    ///
    /// # Errors
    /// The disk takes no more.
    pub fn mark(&self) -> Result<(), StoreError> {
        if schema::mark(&self.dir)? {
            tracing::info!(dir = %self.dir.display(), version = schema::SCHEMA, "the ledger's folder has this version from now on");
        }
        Ok(())
    }

    fn journal_dir(&self) -> PathBuf {
        self.dir.join("journal")
    }

    fn month_dir(&self, month: Month) -> PathBuf {
        self.journal_dir().join(month.to_string())
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn heads_path(&self) -> PathBuf {
        self.dir.join("heads")
    }

    fn heads_failed(&self, error: &std::io::Error) -> StoreError {
        StoreError::Io(format!("{}: {error}", self.heads_path().display()))
    }

    fn journal(&self, dir: PathBuf) -> Result<Arc<dyn Store>, StoreError> {
        let mut months = self.months.lock();
        if let Some(store) = months.get(&dir).and_then(Weak::upgrade) {
            return Ok(store);
        }
        let database = self.database(dir.clone())?;
        let store = Arc::new(AheadStore::open(database, Box::new(DiskFiles::new(&dir)))?);
        months.retain(|_, known| known.strong_count() > 0);
        months.insert(dir, Arc::downgrade(&store));
        Ok(store)
    }

    fn database(&self, dir: PathBuf) -> Result<Arc<SledStore>, StoreError> {
        let mut open = self.open.lock();
        if let Some(store) = open.get(&dir).and_then(Weak::upgrade) {
            return Ok(store);
        }
        let store = Arc::new(SledStore::open(&dir)?);
        // The folder's own name must survive a power cut, too.
        sync_dir(dir.parent().unwrap_or(&self.dir)).map_err(|error| cannot_open(&dir, &error))?;
        open.retain(|_, known| known.strong_count() > 0);
        open.insert(dir, Arc::downgrade(&store));
        Ok(store)
    }

    /// Ends the removal of months that a crash interrupted.
    fn remove_remains(&self) {
        let Ok(folders) = fs::read_dir(self.journal_dir()) else {
            return;
        };
        for folder in folders.flatten() {
            if folder.file_name().to_string_lossy().starts_with(REMOVING)
                && let Err(error) = fs::remove_dir_all(folder.path())
            {
                tracing::warn!(%error, "cannot remove what is left of a removed month");
            }
        }
    }
}

impl Stores for DiskStores {
    fn months(&self) -> Result<Vec<Month>, StoreError> {
        let dir = self.journal_dir();
        let mut months = Vec::new();
        for folder in fs::read_dir(&dir).map_err(|error| cannot_open(&dir, &error))? {
            let folder = folder.map_err(|error| cannot_open(&dir, &error))?;
            months.extend(folder.file_name().to_str().and_then(Month::parse));
        }
        months.sort_unstable();
        Ok(months)
    }

    fn month(&self, month: Month) -> Result<Option<Arc<dyn Store>>, StoreError> {
        let dir = self.month_dir(month);
        dir.is_dir().then(|| self.journal(dir)).transpose()
    }

    fn create_month(&self, month: Month) -> Result<Arc<dyn Store>, StoreError> {
        self.journal(self.month_dir(month))
    }

    fn remove_month(&self, month: Month) -> Result<(), StoreError> {
        let dir = self.month_dir(month);
        let removing = self.journal_dir().join(format!("{REMOVING}{month}"));
        let failed = |error: std::io::Error| StoreError::Io(format!("removing {}: {error}", dir.display()));
        if removing.exists() {
            fs::remove_dir_all(&removing).map_err(failed)?;
        }
        // Readers may have it open yet.
        self.months.lock().remove(&dir);
        self.open.lock().remove(&dir);
        // Gone at once, and for good: what is deleted file by file could come back half.
        fs::rename(&dir, &removing).map_err(failed)?;
        sync_dir(&self.journal_dir()).map_err(failed)?;
        fs::remove_dir_all(&removing).map_err(failed)
    }

    fn state(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(self.database(self.state_dir())?)
    }

    fn discard_state(&self) -> Result<(), StoreError> {
        let (dir, aside) = (self.state_dir(), self.dir.join("state.damaged"));
        let failed = |error: std::io::Error| StoreError::Io(format!("{}: {error}", dir.display()));
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(failed)?;
        }
        fs::rename(&dir, &aside).map_err(failed)?;
        sync_dir(&self.dir).map_err(failed)
    }

    fn check(&self) -> Result<(), StoreError> {
        let gone = |what: &Path| {
            let what = what.display();
            StoreError::Io(format!(
                "{what} was removed or replaced under the gateway: nothing written is kept"
            ))
        };
        let unknown = |error: std::io::Error| StoreError::Io(format!("{}: {error}", self.dir.display()));
        let lock = self.dir.join("lock");
        if !same_file(&self.lock, &lock).map_err(unknown)? {
            return Err(gone(&self.dir));
        }
        for (dir, store) in alive(&self.open.lock()) {
            if !store.check().map_err(unknown)? {
                return Err(gone(&dir));
            }
        }
        for (dir, store) in alive(&self.months.lock()) {
            if !store.check().map_err(unknown)? {
                return Err(gone(&dir));
            }
        }
        Ok(())
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
                sync_dir(&self.dir).map_err(|error| self.heads_failed(&error))?;
                heads.insert(file)
            }
        };
        file.note(head).map_err(|error| self.heads_failed(&error))
    }
}

fn alive<T>(known: &HashMap<PathBuf, Weak<T>>) -> Vec<(PathBuf, Arc<T>)> {
    let alive = known
        .iter()
        .filter_map(|(dir, store)| Some((dir.clone(), store.upgrade()?)));
    alive.collect()
}

fn cannot_open(dir: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Open {
        dir: dir.to_owned(),
        reason: error.to_string(),
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

/// Makes a folder and those it lies in. Their names survive a power cut when this returns.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.is_dir()).collect();
    fs::create_dir_all(dir)?;
    for made in missing {
        match made.parent() {
            Some(parent) if parent != Path::new("") => sync_dir(parent)?,
            _ => sync_dir(Path::new("."))?,
        }
    }
    Ok(())
}

/// What was made, renamed or removed in a folder is so after a power cut, too.
#[cfg(unix)]
pub(super) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Folders cannot be synced here.
#[cfg(not(unix))]
pub(super) fn sync_dir(_dir: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Whether the file at `path` is the one that is open.
pub(super) fn same_file(open: &File, path: &Path) -> std::io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let there = match fs::metadata(path) {
            Ok(there) => there,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let open = open.metadata()?;
        Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = open;
        path.try_exists()
    }
}
