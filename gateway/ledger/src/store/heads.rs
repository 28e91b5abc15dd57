//! The file `heads`: how far the journal was known to be on disk, kept apart from it.
//!
//! An engine that meets damage may take all that follows for a tail that was never whole. This file is what the journal
//! is measured against then. It is a ring of small lines, each with its own checksum: a note overwrites the oldest line
//! in place, so a torn write harms no other note, and the file never grows.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::head::Head;

/// Lines of the ring.
const LINES: usize = 64;
/// `SEQUENCE:HASH CHECK` and a line feed: 20 digits, 64 and 16 hex digits.
const LINE_BYTES: usize = 20 + 1 + 64 + 1 + 16 + 1;

/// What the file tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// In the order of their sequences. The journal must have had each of them.
    pub noted: Vec<Head>,
    /// Lines that cannot be read. A crash leaves one at most.
    pub broken: usize,
}

/// The file in the hands of who notes heads.
#[derive(Debug)]
pub struct HeadsFile {
    file: File,
    /// The line to be written next.
    next: usize,
}

impl HeadsFile {
    /// Opens the file to add notes, made where there is none. Only its owner may read it.
    pub fn open(path: &Path) -> io::Result<HeadsFile> {
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let newest = lines(&bytes)
            .enumerate()
            .filter_map(|(place, line)| Some((parse(line)?.sequence, place)))
            .max();
        let next = newest.map_or(0, |(_, place)| (place + 1) % LINES);
        Ok(HeadsFile { file, next })
    }

    /// Notes a head. It is on disk when this returns.
    pub fn note(&mut self, head: Head) -> io::Result<()> {
        self.file.seek(SeekFrom::Start((self.next * LINE_BYTES) as u64))?;
        self.file.write_all(line(head).as_bytes())?;
        self.file.sync_data()?;
        self.next = (self.next + 1) % LINES;
        Ok(())
    }
}

/// Reads the file; where there is none, nothing was noted.
pub fn read(path: &Path) -> io::Result<Heads> {
    match fs::read(path) {
        Ok(bytes) => Ok(parse_all(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Heads::default()),
        Err(error) => Err(error),
    }
}

fn parse_all(bytes: &[u8]) -> Heads {
    let mut heads = Heads::default();
    for line in lines(bytes) {
        match parse(line) {
            Some(head) => heads.noted.push(head),
            None => heads.broken += 1,
        }
    }
    heads.noted.sort_unstable_by_key(|head| head.sequence);
    heads
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(LINE_BYTES)
}

fn line(head: Head) -> String {
    let told = format!("{:020}:{}", head.sequence, head.hash);
    let check = check(&told);
    format!("{told} {check}\n")
}

fn check(told: &str) -> String {
    let mut digest = blake3::hash(told.as_bytes()).to_hex().to_string();
    digest.truncate(16);
    digest
}

fn parse(line: &[u8]) -> Option<Head> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (told, found) = line.split_once(' ')?;
    if line.len() + 1 != LINE_BYTES || check(told) != found {
        return None;
    }
    told.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::head::Hash;

    fn head(sequence: u64) -> Head {
        Head {
            sequence,
            hash: Hash(*blake3::hash(&sequence.to_be_bytes()).as_bytes()),
        }
    }

    #[test]
    fn the_ring_keeps_the_newest_notes_and_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("heads");
        assert_eq!(read(&path).unwrap(), Heads::default());
        for sequence in 1..=200 {
            if sequence % 37 == 1 {
                // As a new process does.
                HeadsFile::open(&path).unwrap();
            }
            let mut file = HeadsFile::open(&path).unwrap();
            file.note(head(sequence)).unwrap();
            let heads = read(&path).unwrap();
            assert_eq!((heads.noted.last(), heads.broken), (Some(&head(sequence)), 0));
            assert_eq!(heads.noted.len(), LINES.min(sequence as usize));
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), (LINES * LINE_BYTES) as u64);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_change_of_any_byte_is_seen_and_harms_one_note() {
        let bytes = [1, 2, 3].map(|sequence| line(head(sequence))).concat().into_bytes();
        for place in 0..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[place] ^= 0x10;
            let heads = parse_all(&rotten);
            assert_eq!((heads.noted.len(), heads.broken), (2, 1), "byte {place}");
            let cut = parse_all(&bytes[..place]);
            assert_eq!(cut.noted.len(), place / LINE_BYTES);
        }
    }
}
