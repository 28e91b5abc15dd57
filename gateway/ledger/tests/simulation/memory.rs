//! The stores' contract over byte logs in memory, which tests can tear, rot and make fail.
//!
//! A database is a log of checksummed batches, as a real one is: a crash keeps every flushed byte and any part of the
//! rest, and opening it again stops at the first batch that is not whole. Folders are files' names: one that was made or
//! renamed is that for good only once its own folder was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::memory_device::{Area, Device, Operation};
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
    months: BTreeMap<Month, Arc<Memory>>,
    /// Months whose folder a power cut may undo.
    unsynced: BTreeSet<Month>,
    /// Removed months that a power cut may bring back, whole.
    returning: BTreeMap<Month, Arc<Memory>>,
    state: Option<Arc<Memory>>,
    heads: Heads,
    device: Arc<Device>,
}

impl MemoryStores {
    pub fn new() -> MemoryStores {
        MemoryStores::default()
    }

    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().device.set_faults(faults);
    }

    /// Seeds what chance decides.
    pub fn set_seed(&self, seed: u64) {
        self.shared.lock().device.set_seed(seed);
    }

    /// Whether the power has gone, by [`Faults::operations_left`]: nothing is written any more.
    pub fn is_dead(&self) -> bool {
        self.shared.lock().device.is_dead()
    }

    /// Bytes that a month's log has beyond the last flush: what a crash may tear.
    pub fn unflushed_bytes(&self, month: Month) -> usize {
        let memory = self.shared.lock().months.get(&month).map(Arc::clone);
        memory.map_or(0, |memory| memory.log.lock().unflushed_bytes())
    }

    /// What a crash leaves: all flushed bytes, and of the rest of the newest month the first `kept` bytes. Faults end.
    pub fn crashed(&self, kept: usize) -> MemoryStores {
        let shared = self.shared.lock();
        let device = Arc::new(Device::default());
        let newest = shared.months.keys().next_back().copied();
        let months = shared.months.iter().map(|(month, memory)| {
            let kept = if Some(*month) == newest { kept } else { 0 };
            (*month, memory.with_log(memory.log.lock().torn_at(kept), &device))
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
    /// folders that were not synced with their old name or the new one. Faults end.
    pub fn power_cut(&self, seed: u64) -> MemoryStores {
        let shared = self.shared.lock();
        let device = Arc::new(Device::default());
        device.set_seed(seed);
        let after = |memory: &Arc<Memory>| memory.with_log(memory.log.lock().torn_by(&device), &device);
        let mut months = BTreeMap::new();
        for (month, memory) in &shared.months {
            if !shared.unsynced.contains(month) || device.coin() {
                months.insert(*month, after(memory));
            }
        }
        for (month, memory) in &shared.returning {
            if device.coin() {
                months.insert(*month, after(memory));
            }
        }
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
        if let Some(memory) = self.shared.lock().months.get(&month) {
            edit(memory.log.lock().pairs_mut());
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
        let Some(memory) = shared.months.get(&month) else {
            return Ok(None);
        };
        shared.device.begin(Area::Journal, Operation::Open).result?;
        Ok(Some(Arc::clone(memory) as Arc<dyn Store>))
    }

    fn create_month(&self, month: Month) -> Result<Arc<dyn Store>, StoreError> {
        let mut shared = self.shared.lock();
        let device = Arc::clone(&shared.device);
        if !shared.months.contains_key(&month) {
            let made = device.begin(Area::Journal, Operation::Make);
            if made.is_done {
                shared.months.insert(month, Arc::new(Memory::new(&device, Area::Journal)));
                shared.unsynced.insert(month);
            }
            made.result?;
        }
        device.begin(Area::Journal, Operation::Open).result?;
        if shared.unsynced.contains(&month) {
            let synced = device.begin(Area::Journal, Operation::SyncFolder);
            if synced.is_done {
                shared.unsynced.remove(&month);
            }
            synced.result?;
        }
        let Some(memory) = shared.months.get(&month) else {
            return Err(StoreError::Io(format!("{month} was removed")));
        };
        Ok(Arc::clone(memory) as Arc<dyn Store>)
    }

    fn remove_month(&self, month: Month) -> Result<(), StoreError> {
        let mut shared = self.shared.lock();
        let device = Arc::clone(&shared.device);
        let renamed = device.begin(Area::Journal, Operation::Rename);
        if renamed.is_done
            && let Some(memory) = shared.months.remove(&month)
        {
            shared.returning.insert(month, memory);
        }
        renamed.result?;
        let synced = device.begin(Area::Journal, Operation::SyncFolder);
        if synced.is_done {
            shared.returning.remove(&month);
        }
        synced.result?;
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
