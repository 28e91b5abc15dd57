//! The stores' contract over byte logs in memory, which tests can tear, rot and make fail.
//!
//! A database is a log of checksummed batches, as a real one is: a crash keeps every flushed byte and any part of the
//! rest, and opening it again stops at the first batch that is not whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Bytes, Change, Heads, Month, Pair, Store, StoreError, Stores};
use crate::head::Head;

/// What shall go wrong, counted over all databases of one [`MemoryStores`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// So many more `apply` succeed, then all fail. `None`: none fails.
    pub applies_left: Option<u64>,
    /// The same for `flush`.
    pub flushes_left: Option<u64>,
    /// Opening panics, as the real engine has done.
    pub open_fails: bool,
}

/// Databases in memory. Clones share them, so that a test can "restart" a ledger over what a crash left.
#[derive(Clone, Default)]
pub struct MemoryStores {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    months: BTreeMap<Month, Arc<Memory>>,
    state: Option<Arc<Memory>>,
    heads: Heads,
    faults: Arc<Mutex<Faults>>,
}

impl MemoryStores {
    pub fn new() -> MemoryStores {
        MemoryStores::default()
    }

    pub fn set_faults(&self, faults: Faults) {
        *self.shared.lock().faults.lock() = faults;
    }

    /// Bytes that a month's log has beyond the last flush: what a crash may tear.
    pub fn unflushed_bytes(&self, month: Month) -> usize {
        self.shared.lock().months.get(&month).map_or(0, |memory| {
            let log = memory.log.lock();
            log.bytes.len() - log.flushed_len
        })
    }

    /// What a crash leaves: all flushed bytes, and of the rest of the newest month the first `kept` bytes. Faults end.
    pub fn crashed(&self, kept: usize) -> MemoryStores {
        let shared = self.shared.lock();
        let faults = Arc::new(Mutex::new(Faults::default()));
        let newest = shared.months.keys().next_back().copied();
        let months = shared.months.iter().map(|(month, memory)| {
            let kept = if Some(*month) == newest { kept } else { 0 };
            (*month, Arc::new(memory.crashed(kept, &faults)))
        });
        let months = months.collect();
        let state = shared.state.as_ref().map(|memory| Arc::new(memory.crashed(0, &faults)));
        MemoryStores {
            shared: Arc::new(Mutex::new(Shared {
                months,
                state,
                heads: shared.heads.clone(),
                faults,
            })),
        }
    }

    /// Changes the values of a month in place, unseen by the engine: rot, or a clumsy hand.
    pub fn edit(&self, month: Month, edit: impl FnOnce(&mut BTreeMap<Bytes, Bytes>)) {
        if let Some(memory) = self.shared.lock().months.get(&month) {
            edit(&mut memory.log.lock().pairs);
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
        let is_there = self.shared.lock().months.contains_key(&month);
        is_there.then(|| self.create_month(month)).transpose()
    }

    fn create_month(&self, month: Month) -> Result<Arc<dyn Store>, StoreError> {
        let mut shared = self.shared.lock();
        let faults = Arc::clone(&shared.faults);
        if faults.lock().open_fails {
            return Err(StoreError::Open {
                dir: month.to_string().into(),
                reason: "injected".into(),
            });
        }
        let memory = shared
            .months
            .entry(month)
            .or_insert_with(|| Arc::new(Memory::new(faults)));
        Ok(Arc::clone(memory) as Arc<dyn Store>)
    }

    fn remove_month(&self, month: Month) -> Result<(), StoreError> {
        self.shared.lock().months.remove(&month);
        Ok(())
    }

    fn state(&self) -> Result<Arc<dyn Store>, StoreError> {
        let mut shared = self.shared.lock();
        let faults = Arc::clone(&shared.faults);
        let memory = shared.state.get_or_insert_with(|| Arc::new(Memory::new(faults)));
        Ok(Arc::clone(memory) as Arc<dyn Store>)
    }

    fn discard_state(&self) -> Result<(), StoreError> {
        self.drop_state();
        Ok(())
    }

    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn heads(&self) -> Result<Heads, StoreError> {
        Ok(self.shared.lock().heads.clone())
    }

    fn note_head(&self, head: Head) -> Result<(), StoreError> {
        self.shared.lock().heads.noted.push(head);
        Ok(())
    }
}

struct Memory {
    log: Mutex<Log>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    flushed_len: usize,
    pairs: BTreeMap<Bytes, Bytes>,
}

impl Memory {
    fn new(faults: Arc<Mutex<Faults>>) -> Memory {
        Memory {
            log: Mutex::default(),
            faults,
        }
    }

    fn crashed(&self, kept: usize, faults: &Arc<Mutex<Faults>>) -> Memory {
        let log = self.log.lock();
        let len = log.flushed_len.saturating_add(kept).min(log.bytes.len());
        let bytes = log.bytes.get(..len).unwrap_or_default();
        Memory {
            log: Mutex::new(Log::recovered(bytes)),
            faults: Arc::clone(faults),
        }
    }

    /// Takes one from a countdown; an error once it has run out.
    fn spend(&self, pick: impl FnOnce(&mut Faults) -> &mut Option<u64>, what: &str) -> Result<(), StoreError> {
        match pick(&mut self.faults.lock()) {
            Some(0) => Err(StoreError::Io(format!("injected: {what} failed"))),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Log {
    /// Reads whole batches until the first that is torn.
    fn recovered(bytes: &[u8]) -> Log {
        let mut log = Log::default();
        let mut rest = bytes;
        while let Some((changes, after)) = take_batch(rest) {
            for change in changes {
                log.put(change);
            }
            rest = after;
        }
        log.bytes = bytes.get(..bytes.len() - rest.len()).unwrap_or_default().to_vec();
        log.flushed_len = log.bytes.len();
        log
    }

    fn put(&mut self, change: Change) {
        match change {
            Change::Put(key, value) => self.pairs.insert(key, value),
            Change::Remove(key) => self.pairs.remove(&key),
        };
    }
}

impl Store for Memory {
    fn apply(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        self.spend(|faults| &mut faults.applies_left, "write")?;
        let mut body = Vec::new();
        for change in &batch {
            let (key, value) = match change {
                Change::Put(key, value) => (key, Some(value)),
                Change::Remove(key) => (key, None),
            };
            put_bytes(&mut body, key);
            body.push(u8::from(value.is_some()));
            put_bytes(&mut body, value.map_or(&[], |value| value));
        }
        let mut log = self.log.lock();
        put_bytes(&mut log.bytes, &body);
        log.bytes.extend_from_slice(blake3::hash(&body).as_bytes());
        for change in batch {
            log.put(change);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.spend(|faults| &mut faults.flushes_left, "fsync")?;
        let mut log = self.log.lock();
        log.flushed_len = log.bytes.len();
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn scan<'a>(&'a self, from: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, StoreError>> + Send + 'a> {
        let pairs = self
            .log
            .lock()
            .pairs
            .range(from.to_vec()..)
            .map(|(k, v)| Ok((k.clone(), v.clone())))
            .collect::<Vec<_>>();
        Box::new(pairs.into_iter())
    }

    fn at_or_before(&self, at: &[u8]) -> Result<Option<Pair>, StoreError> {
        let log = self.log.lock();
        Ok(log
            .pairs
            .range(..=at.to_vec())
            .next_back()
            .map(|(key, value)| (key.clone(), value.clone())))
    }

    fn last(&self) -> Result<Option<Pair>, StoreError> {
        Ok(self
            .log
            .lock()
            .pairs
            .last_key_value()
            .map(|(key, value)| (key.clone(), value.clone())))
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_be_bytes(*len)).ok()?)
}

fn take_batch(bytes: &[u8]) -> Option<(Vec<Change>, &[u8])> {
    let (mut body, rest) = take_bytes(bytes)?;
    let (sum, rest) = rest.split_first_chunk::<32>()?;
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let mut changes = Vec::new();
    while !body.is_empty() {
        let (key, after) = take_bytes(body)?;
        let (is_put, after) = after.split_first()?;
        let (value, after) = take_bytes(after)?;
        changes.push(if *is_put == 1 {
            Change::Put(key.to_vec(), value.to_vec())
        } else {
            Change::Remove(key.to_vec())
        });
        body = after;
    }
    Some((changes, rest))
}
