//! A database in memory: checksummed batches one after another, and the pairs that they make.

use std::collections::BTreeMap;

use super::memory_device::Device;
use super::{Bytes, Change, Pair, StoreError};

#[derive(Default)]
pub(super) struct Log {
    bytes: Vec<u8>,
    flushed_len: usize,
    pairs: BTreeMap<Bytes, Bytes>,
    /// A write or a flush failed: the engine takes nothing more until it is opened anew.
    failed: Option<String>,
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

    pub fn unflushed_bytes(&self) -> usize {
        self.bytes.len() - self.flushed_len
    }

    /// What a crash leaves that keeps the first `kept` bytes beyond the last flush.
    pub fn torn_at(&self, kept: usize) -> Log {
        let len = self.flushed_len.saturating_add(kept).min(self.bytes.len());
        Log::recovered(self.bytes.get(..len).unwrap_or_default())
    }

    /// What a power cut leaves: any part of what was not flushed, and perhaps a byte of it that is wrong.
    pub fn torn_by(&self, device: &Device) -> Log {
        let kept = device.below(self.unflushed_bytes() + 1);
        let mut bytes = self.bytes.get(..self.flushed_len + kept).unwrap_or_default().to_vec();
        if kept > 0 && device.below(4) == 0 {
            let at = self.flushed_len + device.below(kept);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << device.below(8);
            }
        }
        Log::recovered(&bytes)
    }

    /// What the file has: of what failed to be written all or nothing, as chance has it. Nothing more is on disk for that.
    pub fn reopen(&mut self, device: &Device) {
        let kept = if self.failed.is_some() && device.coin() {
            0
        } else {
            self.unflushed_bytes()
        };
        let flushed_len = self.flushed_len;
        *self = self.torn_at(kept);
        self.flushed_len = flushed_len;
    }

    pub fn is_usable(&self) -> Result<(), StoreError> {
        match &self.failed {
            Some(failed) => Err(StoreError::Io(format!("not opened anew after: {failed}"))),
            None => Ok(()),
        }
    }

    pub fn fails<T>(&mut self, result: &Result<T, StoreError>) {
        if let Err(error) = result {
            self.failed = Some(error.to_string());
        }
    }

    pub fn apply(&mut self, batch: Vec<Change>) {
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
        put_bytes(&mut self.bytes, &body);
        self.bytes.extend_from_slice(blake3::hash(&body).as_bytes());
        for change in batch {
            self.put(change);
        }
    }

    pub fn flush(&mut self) {
        self.flushed_len = self.bytes.len();
    }

    fn put(&mut self, change: Change) {
        match change {
            Change::Put(key, value) => self.pairs.insert(key, value),
            Change::Remove(key) => self.pairs.remove(&key),
        };
    }

    pub fn pairs_mut(&mut self) -> &mut BTreeMap<Bytes, Bytes> {
        &mut self.pairs
    }

    pub fn pairs_from(&self, from: &[u8]) -> Vec<Pair> {
        self.pairs.range(from.to_vec()..).map(owned).collect()
    }

    pub fn at_or_before(&self, at: &[u8]) -> Option<Pair> {
        self.pairs.range(..=at.to_vec()).next_back().map(owned)
    }

    pub fn last(&self) -> Option<Pair> {
        self.pairs.last_key_value().map(owned)
    }
}

fn owned((key, value): (&Bytes, &Bytes)) -> Pair {
    (key.clone(), value.clone())
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
