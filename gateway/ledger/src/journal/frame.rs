//! One record of the journal: a chunk of consecutive events that were committed together, and its link of the chain.
//!
//! Sled spends some 170 bytes on every record, so events that wait for the same fsync share one. The key is the time
//! of commit and the first sequence, both big-endian: keys ascend with the sequence, and a time finds its place.

use thiserror::Error;

use super::bytes::{Reader, put_blob};
use crate::head::{Hash, Head};

/// Why a record cannot be believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Damage {
    #[error("the record's key is not one of the journal's")]
    Key,
    #[error("the record is of format {0}, which this program does not know")]
    Version(u8),
    #[error("the record ends early or holds what no record holds")]
    Shape,
    #[error("the record does not carry on the chain: it or one before it was changed")]
    Chain,
    #[error("events {expected} to {found} are missing", found = found.saturating_sub(1))]
    Gap { expected: u64, found: u64 },
    #[error("an event cannot be read: {0}")]
    Event(String),
    #[error("the books do not follow from the events: {0}")]
    Books(String),
    #[error("the month does not begin with an opening")]
    NoOpening,
    #[error("{named} was on disk, but the journal there is at {found}: events that were on disk are gone")]
    Behind { named: Head, found: Head },
    #[error("{0} lines of the file `heads` cannot be read: it cannot be told whether events are gone")]
    Heads(usize),
    #[error("its write-ahead log: {0}")]
    Ahead(String),
    #[error("the opening does not carry on the month before: it names {named}, found was {found}")]
    Opening { named: Head, found: Head },
}

const VERSION: u8 = 1;

/// Set in the version's byte of a record whose events use no name that an earlier one defined. Readers begin there.
const FRESH: u8 = 0x80;

pub const KEY_BYTES: usize = 16;

/// The key of a record.
pub fn key(at_ms: i64, first_sequence: u64) -> [u8; KEY_BYTES] {
    let at_ms = u64::try_from(at_ms).unwrap_or(0);
    ((u128::from(at_ms) << 64) | u128::from(first_sequence)).to_be_bytes()
}

/// Time of commit and first sequence.
fn parse_key(key: &[u8]) -> Option<(i64, u64)> {
    let key = u128::from_be_bytes(key.try_into().ok()?);
    Some((i64::try_from(key >> 64).ok()?, (key & u128::from(u64::MAX)) as u64))
}

/// Consecutive events with their place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Milliseconds since the epoch; never less than in the record before.
    pub at_ms: i64,
    pub first_sequence: u64,
    /// The chain's hash after this chunk.
    pub hash: Hash,
    pub events: Vec<&'a [u8]>,
    /// The table of names begins anew with this record.
    pub fresh: bool,
    kind: u8,
    body: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Takes a record apart, without its place in the chain.
    pub fn parse(key: &[u8], value: &'a [u8]) -> Result<Chunk<'a>, Damage> {
        let (at_ms, first_sequence) = parse_key(key).ok_or(Damage::Key)?;
        let (kind, rest) = value.split_first().ok_or(Damage::Shape)?;
        if kind & !FRESH != VERSION {
            return Err(Damage::Version(kind & !FRESH));
        }
        let (hash, body) = rest.split_first_chunk::<32>().ok_or(Damage::Shape)?;
        let mut events = Vec::new();
        let mut reader = Reader::new(body);
        while !reader.is_empty() {
            events.push(reader.blob().ok_or(Damage::Shape)?);
        }
        if events.is_empty() {
            return Err(Damage::Shape);
        }
        Ok(Chunk {
            at_ms,
            first_sequence,
            hash: Hash(*hash),
            events,
            fresh: kind & FRESH != 0,
            kind: *kind,
            body,
        })
    }

    pub fn last_sequence(&self) -> u64 {
        self.first_sequence
            .saturating_add(self.events.len() as u64)
            .saturating_sub(1)
    }

    /// The head after this chunk, if it carries on `before`.
    pub fn follows(&self, before: &Head) -> Result<Head, Damage> {
        let expected = before.sequence.saturating_add(1);
        if self.first_sequence != expected {
            return Err(Damage::Gap {
                expected,
                found: self.first_sequence,
            });
        }
        if link(
            &before.hash,
            &key(self.at_ms, self.first_sequence),
            self.kind,
            self.body,
        ) != self.hash
        {
            return Err(Damage::Chain);
        }
        Ok(Head {
            sequence: self.last_sequence(),
            hash: self.hash,
        })
    }
}

fn link(before: &Hash, key: &[u8; KEY_BYTES], kind: u8, body: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0).update(key).update(&[kind]).update(body);
    Hash(*hasher.finalize().as_bytes())
}

/// Builds records: events go in, and `seal` links them to the chain.
#[derive(Debug)]
pub struct ChunkBuilder {
    head: Head,
    at_ms: i64,
    count: u64,
    fresh: bool,
    /// The record as it will be stored, its hash filled in by `seal`.
    value: Vec<u8>,
}

const BODY_AT: usize = 1 + 32;

impl ChunkBuilder {
    /// A builder that carries on from `head`.
    pub fn new(head: Head) -> ChunkBuilder {
        ChunkBuilder {
            head,
            at_ms: 0,
            count: 0,
            fresh: true,
            value: Vec::new(),
        }
    }

    /// The head after the last sealed chunk.
    pub fn head(&self) -> Head {
        self.head
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Marks the next chunk as one that needs no earlier names. The one before must be sealed.
    pub fn begin_self_contained(&mut self) {
        self.fresh = true;
    }

    pub fn len_bytes(&self) -> usize {
        self.value.len()
    }

    /// The sequence that the next event will have.
    pub fn next_sequence(&self) -> u64 {
        self.head.sequence + self.count + 1
    }

    /// Adds an event that was committed at `at_ms`; the chunk bears the time of its first.
    pub fn push(&mut self, at_ms: i64, event: &[u8]) {
        if self.count == 0 {
            self.at_ms = at_ms;
            self.value.clear();
            self.value.push(if self.fresh { VERSION | FRESH } else { VERSION });
            self.value.extend_from_slice(&[0; 32]);
            self.fresh = false;
        }
        put_blob(&mut self.value, event);
        self.count += 1;
    }

    /// Ends the chunk: its key and value. `None` without events.
    pub fn seal(&mut self) -> Option<([u8; KEY_BYTES], Vec<u8>)> {
        let body = self.value.get(BODY_AT..).filter(|_| self.count > 0)?;
        let key = key(self.at_ms, self.head.sequence + 1);
        let kind = self.value.first().copied().unwrap_or(VERSION);
        let hash = link(&self.head.hash, &key, kind, body);
        let mut value = std::mem::take(&mut self.value);
        if let Some(place) = value.get_mut(1..BODY_AT) {
            place.copy_from_slice(&hash.0);
        }
        self.head = Head {
            sequence: self.head.sequence + self.count,
            hash,
        };
        self.count = 0;
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn two_chunks() -> Vec<([u8; KEY_BYTES], Vec<u8>)> {
        let mut builder = ChunkBuilder::new(Head::default());
        builder.push(1_000, b"one");
        builder.push(1_001, b"two");
        let first = builder.seal().unwrap();
        builder.push(1_002, &[7; 300]);
        vec![first, builder.seal().unwrap()]
    }

    #[test]
    fn chunks_carry_on_the_chain() {
        let mut head = Head::default();
        let mut seen = Vec::new();
        for (key, value) in &two_chunks() {
            let chunk = Chunk::parse(key, value).unwrap();
            head = chunk.follows(&head).unwrap();
            seen.extend(chunk.events.iter().map(|event| event.len()));
        }
        assert_eq!(seen, [3, 3, 300]);
        assert_eq!(head.sequence, 3);
        assert_eq!(head.to_string().parse::<Head>().unwrap(), head);
    }

    #[test]
    fn a_change_of_any_bit_is_seen() {
        let chunks = two_chunks();
        for (place, (key, value)) in chunks.iter().enumerate() {
            let before = if place == 0 {
                Head::default()
            } else {
                Chunk::parse(&chunks[0].0, &chunks[0].1)
                    .unwrap()
                    .follows(&Head::default())
                    .unwrap()
            };
            for byte in 0..key.len() + value.len() {
                for bit in 0..8 {
                    let (mut key, mut value) = (*key, value.clone());
                    match key.get_mut(byte) {
                        Some(byte) => *byte ^= 1 << bit,
                        None => value[byte - KEY_BYTES] ^= 1 << bit,
                    }
                    let read = Chunk::parse(&key, &value).and_then(|chunk| chunk.follows(&before));
                    assert!(read.is_err(), "chunk {place} byte {byte} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_record_cut_anywhere_is_seen() {
        let (key, value) = &two_chunks()[0];
        for len in 0..value.len() {
            let read = Chunk::parse(key, &value[..len]).and_then(|chunk| chunk.follows(&Head::default()));
            assert!(read.is_err(), "cut to {len}");
        }
    }

    #[test]
    fn a_missing_chunk_is_named() {
        let (key, value) = &two_chunks()[1];
        let chunk = Chunk::parse(key, value).unwrap();
        assert_eq!(
            chunk.follows(&Head::default()),
            Err(Damage::Gap { expected: 1, found: 3 })
        );
    }
}
