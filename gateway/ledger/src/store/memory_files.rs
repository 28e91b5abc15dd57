//! The files of a write-ahead log in memory: what was not synced a power cut loses in sectors, in no order.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::StoreError;
use super::ahead::{AheadFiles, SECTOR, Side};
use super::memory_device::{Area, Device, Operation};

/// Clones are the same files.
#[derive(Clone)]
pub(super) struct MemoryFiles {
    device: Arc<Device>,
    both: Arc<Mutex<Both>>,
}

#[derive(Clone, Default)]
struct Both {
    even: Option<File>,
    odd: Option<File>,
    /// What was done to their folder since it was synced, in order: what a file was before it.
    unsynced: Vec<(Side, Option<File>)>,
}

#[derive(Clone, Default)]
struct File {
    synced: Vec<u8>,
    /// Since then, in order.
    writes: Vec<(usize, Vec<u8>)>,
}

impl MemoryFiles {
    pub fn new(device: &Arc<Device>) -> MemoryFiles {
        MemoryFiles::of(Both::default(), device)
    }

    fn of(both: Both, device: &Arc<Device>) -> MemoryFiles {
        MemoryFiles {
            device: Arc::clone(device),
            both: Arc::new(Mutex::new(both)),
        }
    }

    /// Bytes of writes that no sync has followed.
    pub fn unsynced_bytes(&self) -> usize {
        let both = self.both.lock();
        both.there()
            .flat_map(|file| &file.writes)
            .map(|(_, bytes)| bytes.len())
            .sum()
    }

    /// What a crash leaves that keeps the first `kept` bytes of what was not synced.
    pub fn torn_at(&self, mut kept: usize, device: &Arc<Device>) -> MemoryFiles {
        let mut both = self.both.lock().clone();
        for file in both.there_mut() {
            for (at, mut bytes) in std::mem::take(&mut file.writes) {
                bytes.truncate(kept);
                kept -= bytes.len();
                put(&mut file.synced, at, &bytes);
            }
        }
        MemoryFiles::of(both, device)
    }

    /// What a power cut leaves: of the folder's changes the first few; of what was not synced some sectors, perhaps one of
    /// them with a byte that is wrong.
    pub fn torn_by(&self, device: &Arc<Device>) -> MemoryFiles {
        let mut both = self.both.lock().clone();
        let kept = device.below(both.unsynced.len() + 1);
        for (side, before) in both.unsynced.split_off(kept).into_iter().rev() {
            *both.at(side) = before;
        }
        both.unsynced.clear();
        for file in both.there_mut() {
            file.tear(device);
        }
        MemoryFiles::of(both, device)
    }

    fn sync_folder(&self, both: &mut Both) -> Result<(), StoreError> {
        if both.unsynced.is_empty() {
            return Ok(());
        }
        let synced = self.device.begin(Area::Journal, Operation::SyncFolder);
        if synced.is_done {
            both.unsynced.clear();
        }
        synced.result
    }
}

impl Both {
    fn at(&mut self, side: Side) -> &mut Option<File> {
        match side {
            Side::Even => &mut self.even,
            Side::Odd => &mut self.odd,
        }
    }

    fn there(&self) -> impl Iterator<Item = &File> {
        self.even.iter().chain(&self.odd)
    }

    fn there_mut(&mut self) -> impl Iterator<Item = &mut File> {
        self.even.iter_mut().chain(&mut self.odd)
    }

    fn set(&mut self, side: Side, file: Option<File>) {
        let before = std::mem::replace(self.at(side), file);
        self.unsynced.push((side, before));
    }
}

impl File {
    fn len(&self) -> usize {
        let ends = self.writes.iter().map(|(at, bytes)| at + bytes.len());
        ends.max().unwrap_or(0).max(self.synced.len())
    }

    fn sync(&mut self) {
        for (at, bytes) in std::mem::take(&mut self.writes) {
            put(&mut self.synced, at, &bytes);
        }
    }

    fn tear(&mut self, device: &Device) {
        // All of it, nothing, or each sector by itself.
        let manner = device.below(3);
        for (at, bytes) in std::mem::take(&mut self.writes) {
            let mut at = at;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                if manner == 0 || (manner == 2 && device.coin()) {
                    let mut sector = sector.to_vec();
                    let flips = manner == 2 && device.below(16) == 0;
                    let place = device.below(sector.len());
                    if let Some(byte) = sector.get_mut(place).filter(|_| flips) {
                        *byte ^= 1 << device.below(8);
                    }
                    put(&mut self.synced, at, &sector);
                }
                at += sector.len();
                rest = after;
            }
        }
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(place) = file.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
}

impl AheadFiles for MemoryFiles {
    fn read(&self, side: Side) -> Result<Option<Vec<u8>>, StoreError> {
        let mut file = self.both.lock().at(side).clone();
        if let Some(file) = &mut file {
            file.sync();
        }
        Ok(file.map(|file| file.synced))
    }

    fn make(&self, side: Side, sector: &[u8]) -> Result<(), StoreError> {
        let both = &mut *self.both.lock();
        let made = self.device.begin(Area::Journal, Operation::Make);
        if made.is_done {
            let writes = vec![(0, sector.to_vec())];
            let file = File {
                synced: Vec::new(),
                writes,
            };
            both.set(side, Some(file));
        }
        made.result?;
        let synced = self.device.begin(Area::Journal, Operation::Sync);
        if let Some(file) = both.at(side).as_mut().filter(|_| synced.is_done) {
            file.sync();
        }
        synced.result?;
        self.sync_folder(both)
    }

    fn write(&self, side: Side, at: usize, bytes: &[u8]) -> Result<(), StoreError> {
        let mut both = self.both.lock();
        let Some(file) = both.at(side) else {
            return Err(StoreError::Io("the file is not there".into()));
        };
        let operation = match at + bytes.len() > file.len() {
            true => Operation::Extend,
            false => Operation::Overwrite,
        };
        let written = self.device.begin(Area::Journal, operation);
        let done = match &written.result {
            _ if written.is_done => bytes.len(),
            // As much as there was room for.
            Err(StoreError::Full(_)) => self.device.below(bytes.len() + 1),
            _ => 0,
        };
        file.writes.push((at, bytes.get(..done).unwrap_or_default().to_vec()));
        written.result
    }

    fn sync(&self, side: Side) -> Result<(), StoreError> {
        let synced = self.device.begin(Area::Journal, Operation::Sync);
        if let Some(file) = self.both.lock().at(side).as_mut().filter(|_| synced.is_done) {
            file.sync();
        }
        synced.result
    }

    fn remove(&self) -> Result<(), StoreError> {
        let both = &mut *self.both.lock();
        for side in Side::BOTH {
            if both.at(side).is_some() {
                let removed = self.device.begin(Area::Journal, Operation::Delete);
                if removed.is_done {
                    both.set(side, None);
                }
                removed.result?;
            }
        }
        self.sync_folder(both)
    }

    fn check(&self) -> io::Result<bool> {
        Ok(true)
    }
}
