//! The stores' contract over byte logs in memory, which tests can tear, rot and make fail.
//!
//! A database is a log of checksummed batches, as a real one is: a crash keeps every flushed byte and any part of the
//! rest, and opening it again stops at the first batch that is not whole. Folders are files' names: one that was made or
//! renamed is that for good only once its own folder was synced.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use super::ahead::AheadStore;
use super::memory_device::{Area, Device, Operation};
use super::memory_files::MemoryFiles;
use super::memory_log::Log;
use super::{Bytes, Change, Heads, Month, Pair, Store, StoreError, Stores};
use crate::head::Head;

pub use super::memory_device::{Chance, Faults};

/// Heads that are kept, as in the file.
const HEADS_MAX: usize = 64;

/// Databases in memory. Clones share them, so that a test can "restart" a ledger over what a crash left.
#[derive(Clone, Default)]
pub struct MemoryStores {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    months: BTreeMap<Month, Journal>,
    /// What was done to the journal's folder since it was synced, in order.
    unsynced: Vec<FolderChange>,
    state: Option<Arc<Memory>>,
    heads: Heads,
    device: Arc<Device>,
}

impl Shared {
    fn sync_folder(&mut self) -> Result<(), StoreError> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        let synced = self.device.begin(Area::Journal, Operation::SyncFolder);
        if synced.is_done {
            self.unsynced.clear();
        }
        synced.result
    }
}

/// A power cut may undo it, and then all that came after it.
enum FolderChange {
    Made(Month),
    /// It comes back whole.
    Removed(Month, Journal),
}

/// A month: its database, and the log before it.
#[derive(Clone)]
struct Journal {
    database: Arc<Memory>,
    files: MemoryFiles,
    store: Arc<AheadStore>,
}

impl Journal {
    fn open(database: Arc<Memory>, files: MemoryFiles) -> Result<Journal, StoreError> {
        let store = AheadStore::open(Arc::clone(&database) as _, Box::new(files.clone()))?;
        Ok(Journal {
            database,
            files,
            store: Arc::new(store),
        })
    }

    fn new(device: &Arc<Device>) -> Result<Journal, StoreError> {
        let database = Arc::new(Memory::new(device, Area::Journal));
        Journal::open(database, MemoryFiles::new(device))
    }

    /// What is left where the first `kept` bytes are that the log has beyond its last sync.
    fn torn_at(&self, kept: usize, device: &Arc<Device>) -> Result<Journal, StoreError> {
        // The files first: what leaves them meanwhile is in the database by then.
        let files = self.files.torn_at(kept, device);
        let log = self.database.log.lock().torn_at(0);
        Journal::open(self.database.with_log(log, device), files)
    }

    fn torn_by(&self, device: &Arc<Device>) -> Result<Journal, StoreError> {
        let files = self.files.torn_by(device);
        let log = self.database.log.lock().torn_by(device);
        Journal::open(self.database.with_log(log, device), files)
    }
}

impl MemoryStores {
    pub fn new() -> MemoryStores {
        MemoryStores::default()
    }

    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().device.set_faults(faults);
    }

    pub fn faults(&self) -> Faults {
        self.shared.lock().device.faults()
    }

    /// A month's database, past the device and its faults.
    pub fn peek(&self, month: Month) -> Option<Arc<dyn Store>> {
        let store = self
            .shared
            .lock()
            .months
            .get(&month)
            .map(|journal| Arc::clone(&journal.store));
        store.map(|store| store as Arc<dyn Store>)
    }

    /// Seeds what chance decides.
    pub fn set_seed(&self, seed: u64) {
        self.shared.lock().device.set_seed(seed);
    }

    /// Whether the power has gone, by [`Faults::operations_left`]: nothing is written any more.
    pub fn is_dead(&self) -> bool {
        self.shared.lock().device.is_dead()
    }

    /// Bytes that a month's log has beyond the last sync: what a crash may tear.
    pub fn unflushed_bytes(&self, month: Month) -> usize {
        let shared = self.shared.lock();
        shared
            .months
            .get(&month)
            .map_or(0, |journal| journal.files.unsynced_bytes())
    }

    /// Bytes of all months that are in their logs alone.
    pub fn ahead_bytes(&self) -> usize {
        let shared = self.shared.lock();
        shared.months.values().map(|journal| journal.store.ahead_bytes()).sum()
    }

    /// What a crash leaves: all flushed bytes, and of the rest of the newest month the first `kept` bytes. Faults end.
    pub fn crashed(&self, kept: usize) -> MemoryStores {
        let shared = self.shared.lock();
        let device = Arc::new(Device::default());
        let newest = shared.months.keys().next_back().copied();
        let months = shared.months.iter().filter_map(|(month, journal)| {
            let kept = if Some(*month) == newest { kept } else { 0 };
            Some((*month, journal.torn_at(kept, &device).ok()?))
        });
        let months = months.collect();
        let state = shared.state.as_ref();
        let state = state.map(|memory| memory.with_log(memory.log.lock().torn_at(0), &device));
        MemoryStores::of(Shared {
            months,
            state,
            heads: shared.heads.clone(),
            device,
            ..Shared::default()
        })
    }

    /// What a power cut leaves, as chance has it: of what was not flushed any part, perhaps with a byte that is wrong;
    /// of the changes to the folder that were not synced the first few. Faults end.
    pub fn power_cut(&self, seed: u64) -> MemoryStores {
        let shared = self.shared.lock();
        let device = Arc::new(Device::default());
        device.set_seed(seed);
        let after = |memory: &Arc<Memory>| memory.with_log(memory.log.lock().torn_by(&device), &device);
        let mut months = shared.months.clone();
        let kept = device.below(shared.unsynced.len() + 1);
        for change in shared.unsynced.iter().skip(kept).rev() {
            match change {
                FolderChange::Made(month) => months.remove(month),
                FolderChange::Removed(month, journal) => months.insert(*month, journal.clone()),
            };
        }
        let months = months.iter();
        let months = months.filter_map(|(month, journal)| Some((*month, journal.torn_by(&device).ok()?)));
        let months = months.collect();
        MemoryStores::of(Shared {
            months,
            state: shared.state.as_ref().map(after),
            heads: shared.heads.clone(),
            device: Arc::clone(&device),
            ..Shared::default()
        })
    }

    /// The same, without the months before this one and without derived state: what must be enough to go on.
    pub fn from_month(&self, first: Month) -> MemoryStores {
        let stores = self.crashed(usize::MAX);
        let mut shared = stores.shared.lock();
        shared.months = shared.months.split_off(&first);
        shared.state = None;
        drop(shared);
        stores
    }

    fn of(shared: Shared) -> MemoryStores {
        MemoryStores {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Changes the values of a month in place, unseen by the engine: rot, or a clumsy hand.
    pub fn edit(&self, month: Month, edit: impl FnOnce(&mut BTreeMap<Bytes, Bytes>)) {
        if let Some(journal) = self.shared.lock().months.get(&month) {
            // Where it is closed already, or cannot be written, nothing is ahead of the database.
            let _ = journal.store.drain();
            edit(journal.database.log.lock().pairs_mut());
        }
    }

    /// Forgets all noted heads, as if their file had been removed.
    pub fn drop_heads(&self) {
        self.shared.lock().heads = Heads::default();
    }

    /// Forgets all derived state, as if its folder had been removed.
    pub fn drop_state(&self) {
        self.shared.lock().state = None;
    }
}

impl Stores for MemoryStores {
    fn months(&self) -> Result<Vec<Month>, StoreError> {
        Ok(self.shared.lock().months.keys().copied().collect())
    }

    fn month(&self, month: Month) -> Result<Option<Arc<dyn Store>>, StoreError> {
        let shared = self.shared.lock();
        let Some(journal) = shared.months.get(&month) else {
            return Ok(None);
        };
        shared.device.begin(Area::Journal, Operation::Open).result?;
        Ok(Some(Arc::clone(&journal.store) as Arc<dyn Store>))
    }

    fn create_month(&self, month: Month) -> Result<Arc<dyn Store>, StoreError> {
        let shared = &mut *self.shared.lock();
        let device = Arc::clone(&shared.device);
        if let Entry::Vacant(entry) = shared.months.entry(month) {
            let made = device.begin(Area::Journal, Operation::Make);
            if made.is_done {
                entry.insert(Journal::new(&device)?);
                shared.unsynced.push(FolderChange::Made(month));
            }
            made.result?;
        }
        device.begin(Area::Journal, Operation::Open).result?;
        shared.sync_folder()?;
        let Some(journal) = shared.months.get(&month) else {
            return Err(StoreError::Io(format!("{month} was removed")));
        };
        Ok(Arc::clone(&journal.store) as Arc<dyn Store>)
    }

    fn remove_month(&self, month: Month) -> Result<(), StoreError> {
        let mut shared = self.shared.lock();
        let device = Arc::clone(&shared.device);
        let renamed = device.begin(Area::Journal, Operation::Rename);
        if renamed.is_done
            && let Some(journal) = shared.months.remove(&month)
        {
            shared.unsynced.push(FolderChange::Removed(month, journal));
        }
        renamed.result?;
        shared.sync_folder()?;
        // What is left under the other name is nobody's: a crash here leaves nothing of the month.
        device.begin(Area::Journal, Operation::Delete).result
    }

    fn state(&self) -> Result<Arc<dyn Store>, StoreError> {
        let mut shared = self.shared.lock();
        let device = Arc::clone(&shared.device);
        device.begin(Area::State, Operation::Open).result?;
        let memory = shared
            .state
            .get_or_insert_with(|| Arc::new(Memory::new(&device, Area::State)));
        Ok(Arc::clone(memory) as Arc<dyn Store>)
    }

    fn discard_state(&self) -> Result<(), StoreError> {
        let mut shared = self.shared.lock();
        let renamed = shared.device.begin(Area::State, Operation::Rename);
        if renamed.is_done {
            shared.state = None;
        }
        renamed.result
    }

    fn check(&self) -> Result<(), StoreError> {
        self.shared.lock().device.begin(Area::Journal, Operation::Check).result
    }

    fn heads(&self) -> Result<Heads, StoreError> {
        Ok(self.shared.lock().heads.clone())
    }

    fn note_head(&self, head: Head) -> Result<(), StoreError> {
        let mut shared = self.shared.lock();
        let device = Arc::clone(&shared.device);
        let noted = device.begin(Area::Journal, Operation::Note);
        let heads = &mut shared.heads;
        if noted.is_done {
            // The line of a note that failed is the next that is overwritten.
            heads.broken = 0;
            heads.noted.push(head);
        } else if noted.result.is_err() && device.coin() {
            heads.broken = 1;
        }
        if heads.noted.len() + heads.broken > HEADS_MAX {
            heads.noted.remove(0);
        }
        noted.result
    }
}

struct Memory {
    log: Mutex<Log>,
    area: Area,
    device: Arc<Device>,
}

impl Memory {
    fn new(device: &Arc<Device>, area: Area) -> Memory {
        Memory {
            log: Mutex::default(),
            area,
            device: Arc::clone(device),
        }
    }

    fn with_log(&self, log: Log, device: &Arc<Device>) -> Arc<Memory> {
        Arc::new(Memory {
            log: Mutex::new(log),
            area: self.area,
            device: Arc::clone(device),
        })
    }
}

impl Store for Memory {
    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        let mut log = self.log.lock();
        log.is_usable()?;
        let applied = self.device.begin(self.area, Operation::Apply);
        if applied.is_done {
            log.apply(batch);
        }
        log.fails(&applied.result);
        applied.result
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut log = self.log.lock();
        log.is_usable()?;
        let flushed = self.device.begin(self.area, Operation::Flush);
        if flushed.is_done {
            log.flush();
        }
        log.fails(&flushed.result);
        flushed.result
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.device.begin(self.area, Operation::Open).result?;
        self.log.lock().reopen(&self.device);
        Ok(())
    }

    fn scan<'a>(&'a self, from: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send + 'a> {
        let pairs = self.log.lock().pairs_from(from);
        Box::new(pairs.into_iter().map(Ok))
    }

    fn at_or_before(&self, at: &[u8]) -> Result<Option<Pair>, StoreError> {
        Ok(self.log.lock().at_or_before(at))
    }

    fn last(&self) -> Result<Option<Pair>, StoreError> {
        Ok(self.log.lock().last())
    }
}
