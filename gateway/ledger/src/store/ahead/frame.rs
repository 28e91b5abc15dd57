//! What a write-ahead file holds: a first sector that names its salt, then frames, one a group commit.
//!
//! ```text
//! sector 0: magic, salt, checksum
//! then:     marker of the salt, length, checksum, [key before the first pair, pair, pair, …]
//! ```
//!
//! The salt is random, so nothing that a client has the ledger write can pass for a frame. The checksum needs only tell a
//! torn frame from a whole one: the records in it bear the journal's own chain.

use crate::store::{Bytes, Pair};

/// The smallest piece that a disk writes whole or not at all.
pub(in crate::store) const SECTOR: usize = 512;
/// Where frames begin: no write of one touches the first sector.
pub(super) const FIRST: usize = SECTOR;
const MAGIC: &[u8; 8] = b"ahead\x00\x00\x01";
const SALT_BYTES: usize = 16;
/// Marker, length and checksum of a frame.
const HEAD_BYTES: usize = 12;

/// What the frames of one file are told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Salt([u8; SALT_BYTES]);

impl Salt {
    pub fn new() -> Salt {
        Salt(ulid::Ulid::new().0.to_le_bytes())
    }

    /// The first sector of a file with this salt.
    pub fn sector(&self) -> Vec<u8> {
        let mut sector = [MAGIC.as_slice(), &self.0].concat();
        let sum = crc32fast::hash(&sector).to_le_bytes();
        sector.extend_from_slice(&sum);
        sector.resize(SECTOR, 0);
        sector
    }

    fn of_sector(bytes: &[u8]) -> Option<Salt> {
        let (told, rest) = bytes.split_at_checked(MAGIC.len() + SALT_BYTES)?;
        let sum = rest.first_chunk()?;
        let salt = told.strip_prefix(MAGIC)?.try_into().ok()?;
        (u32::from_le_bytes(*sum) == crc32fast::hash(told)).then_some(Salt(salt))
    }

    /// Time is in its upper bytes, chance in the lower ones.
    fn marker(&self) -> &[u8] {
        self.0.first_chunk::<4>().map_or(&[], |marker| marker)
    }

    fn checksum(&self, body: &[u8]) -> [u8; 4] {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&(body.len() as u64).to_le_bytes());
        hasher.update(body);
        hasher.finalize().to_le_bytes()
    }
}

/// A frame that is being filled.
#[derive(Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds a pair; `before` is the key before it, here or in the database.
    pub fn push(&mut self, before: Option<&[u8]>, (key, value): &Pair) {
        if self.bytes.is_empty() {
            self.bytes.resize(HEAD_BYTES, 0);
            put(&mut self.bytes, before.unwrap_or_default());
        }
        put(&mut self.bytes, key);
        put(&mut self.bytes, value);
    }

    /// The frame as it is written into a file with this salt.
    pub fn sealed(&mut self, salt: &Salt) -> &mut Vec<u8> {
        if let Some((head, body)) = self.bytes.split_at_mut_checked(HEAD_BYTES) {
            let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
            let parts = [salt.marker(), &length.to_le_bytes(), &salt.checksum(body)];
            head.copy_from_slice(&parts.concat());
        }
        &mut self.bytes
    }
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(part);
}

/// A whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The key before its first pair; `None` where that is the first of all.
    pub before: Option<Bytes>,
    pub pairs: Vec<Pair>,
}

/// All whole frames of a file, wherever they stand: behind a torn one, too, for it is on them that damage is told from a
/// tail that was never acknowledged. `None`: it cannot be told what the file holds.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Frame>> {
    // Frames come only after the first sector is on disk.
    if bytes.len() <= SECTOR {
        return Some(Vec::new());
    }
    let salt = Salt::of_sector(bytes)?;
    let mut frames = Vec::new();
    let mut rest = bytes.get(FIRST..)?;
    while rest.len() >= HEAD_BYTES {
        match take(rest, &salt) {
            Some((frame, after)) => {
                frames.push(frame);
                rest = after;
            }
            None => rest = next_marker(rest, &salt),
        }
    }
    Some(frames)
}

/// From the next place on where a frame may begin.
fn next_marker<'a>(bytes: &'a [u8], salt: &Salt) -> &'a [u8] {
    let marker = salt.marker();
    let found = (1..bytes.len()).find(|at| bytes.get(*at..).is_some_and(|rest| rest.starts_with(marker)));
    found.and_then(|at| bytes.get(at..)).unwrap_or_default()
}

fn take<'a>(bytes: &'a [u8], salt: &Salt) -> Option<(Frame, &'a [u8])> {
    let rest = bytes.strip_prefix(salt.marker())?;
    let (length, rest) = rest.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    if salt.checksum(body) != *sum {
        return None;
    }
    let (before, mut body) = part(body)?;
    let mut pairs = Vec::new();
    while !body.is_empty() {
        let (key, after) = part(body)?;
        let (value, after) = part(after)?;
        pairs.push((key.to_vec(), value.to_vec()));
        body = after;
    }
    let before = (!before.is_empty()).then(|| before.to_vec());
    (!pairs.is_empty()).then_some((Frame { before, pairs }, rest))
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn pair(number: u8) -> Pair {
        (vec![number], vec![number; 100])
    }

    /// A file of frames with one pair each.
    fn file(salt: &Salt, numbers: std::ops::Range<u8>) -> Vec<u8> {
        let mut bytes = salt.sector();
        for number in numbers {
            let mut builder = Builder::default();
            let before = number.checked_sub(1).map(|before| vec![before]);
            builder.push(before.as_deref(), &pair(number));
            bytes.extend_from_slice(builder.sealed(salt));
        }
        bytes
    }

    fn numbers(bytes: &[u8]) -> Vec<u8> {
        let frames = read(bytes).unwrap();
        frames.iter().map(|frame| frame.pairs[0].0[0]).collect()
    }

    #[test]
    fn frames_read_back_and_a_change_of_any_byte_loses_its_frame_alone() {
        let salt = Salt::new();
        let bytes = file(&salt, 1..5);
        let frames = read(&bytes).unwrap();
        for (number, frame) in (1..5).zip(&frames) {
            assert_eq!(
                (frame.before.as_deref(), &frame.pairs),
                (Some(&[number - 1][..]), &vec![pair(number)])
            );
        }
        let length = (bytes.len() - FIRST) / 4;
        for at in FIRST..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[at] ^= 0x04;
            let lost = 1 + ((at - FIRST) / length) as u8;
            let left: Vec<u8> = (1..5).filter(|number| *number != lost).collect();
            assert_eq!(numbers(&rotten), left, "byte {at}");
            assert_eq!(numbers(&bytes[..at]), (1..lost).collect::<Vec<_>>(), "cut at {at}");
        }
        assert_eq!(read(&file(&salt, 0..1)).unwrap()[0].before, None);
    }

    #[test]
    fn a_first_sector_that_rots_is_no_empty_file() {
        let bytes = file(&Salt::new(), 0..1);
        for at in 0..MAGIC.len() + SALT_BYTES + 4 {
            let mut rotten = bytes.clone();
            rotten[at] ^= 1;
            assert_eq!(read(&rotten), None, "byte {at}");
        }
        assert_eq!(read(&bytes[..SECTOR]), Some(Vec::new()));
        assert_eq!(read(&[]), Some(Vec::new()));
    }

    #[test]
    fn what_a_client_makes_up_is_no_frame() {
        let (salt, other) = (Salt::new(), Salt::new());
        let mut bytes = file(&salt, 0..1);
        bytes.extend_from_slice(&file(&other, 1..2)[FIRST..]);
        assert_eq!(numbers(&bytes), [0]);
    }
}
