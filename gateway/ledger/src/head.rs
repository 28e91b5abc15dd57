//! How far a journal reaches, and the hash that vouches for it. What stores, journal and reports all name.

use std::fmt;

use thiserror::Error;

/// A blake3 hash.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// From 64 hex digits.
    pub fn parse(text: &str) -> Option<Hash> {
        blake3::Hash::from_hex(text).ok().map(|hash| Hash(*hash.as_bytes()))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How far the journal reaches: its last event's sequence (the first event is 1) and the chain's hash there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub sequence: u64,
    pub hash: Hash,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

impl std::str::FromStr for Head {
    type Err = HeadError;

    /// `SEQUENCE:HASH`, as heads are shown.
    fn from_str(text: &str) -> Result<Head, HeadError> {
        let (sequence, hash) = text.trim().split_once(':').ok_or(HeadError)?;
        let sequence = sequence.parse().map_err(|_| HeadError)?;
        Ok(Head {
            sequence,
            hash: Hash::parse(hash).ok_or(HeadError)?,
        })
    }
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a head is SEQUENCE:HASH, a number and 64 hex digits")]
pub struct HeadError;
