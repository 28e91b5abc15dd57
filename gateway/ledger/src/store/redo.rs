//! Batches of any size, all or nothing. Sled keeps what each change of a batch replaces, a whole page, until the batch is
//! through: the rows of a busy hour would take gigabytes. So a large batch is written to a file first, and then applied in
//! small ones; a start that finds the file whole applies it again, and one that finds a part of it knows that nothing of
//! the batch was applied.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Change, disk::sync_dir};

/// Changes of a batch that needs none of this: the journal's are all smaller.
pub const CHANGES_MAX: usize = 2_048;
/// Changes of one part of a larger one.
pub const PART_CHANGES: usize = 256;

/// The end of a whole file: the digest of everything before it.
const DIGEST_BYTES: usize = 32;
const PUT: u8 = 1;
const REMOVE: u8 = 2;

fn path(dir: &Path) -> PathBuf {
    dir.join("redo")
}

/// Writes the batch down beside its database. On disk when it returns.
pub fn write(dir: &Path, batch: &[Change]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path(dir))?);
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::new();
    for change in batch {
        bytes.clear();
        match change {
            Change::Put(key, value) => {
                bytes.push(PUT);
                put(&mut bytes, key)?;
                put(&mut bytes, value)?;
            }
            Change::Remove(key) => {
                bytes.push(REMOVE);
                put(&mut bytes, key)?;
            }
        }
        hasher.update(&bytes);
        file.write_all(&bytes)?;
    }
    file.write_all(hasher.finalize().as_bytes())?;
    file.into_inner()?.sync_all()?;
    sync_dir(dir)
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) -> io::Result<()> {
    let length = u32::try_from(part.len()).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(part);
    Ok(())
}

/// The batch that was written down and may be applied in part. `None`: there is none, or it was never begun.
pub fn read(dir: &Path) -> io::Result<Option<Vec<Change>>> {
    match fs::read(path(dir)) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<Change>> {
    let (mut rest, digest) = bytes.split_last_chunk::<DIGEST_BYTES>()?;
    if blake3::hash(rest).as_bytes() != digest {
        return None;
    }
    let mut batch = Vec::new();
    while let Some((&kind, after)) = rest.split_first() {
        rest = after;
        let key = take(&mut rest)?;
        batch.push(match kind {
            PUT => Change::Put(key, take(&mut rest)?),
            REMOVE => Change::Remove(key),
            _ => return None,
        });
    }
    Some(batch)
}

fn take(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(part.to_vec())
}

/// The batch is in the database and on disk. The file must not come back with a power cut, or it would undo what follows.
pub fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_file(path(dir)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Err(_) => Ok(()),
        Ok(()) => sync_dir(dir),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::store::{DiskStores, Stores};

    fn batch(of: u8) -> Vec<Change> {
        let row = |number: u32| match number % 10 {
            9 => Change::Remove(number.to_be_bytes().to_vec()),
            _ => Change::Put(number.to_be_bytes().to_vec(), vec![of; 40]),
        };
        (0..5_000).map(row).collect()
    }

    /// The values of all rows, each told by its first byte.
    fn rows(dir: &Path) -> Vec<u8> {
        let state = DiskStores::open(dir).unwrap().state().unwrap();
        state.scan(&[]).map(|pair| pair.unwrap().1[0]).collect()
    }

    #[test]
    fn a_batch_comes_back_as_it_was_and_a_broken_one_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        write(folder.path(), &batch(1)).unwrap();
        let whole = fs::read(path(folder.path())).unwrap();
        assert_eq!(parse(&whole), Some(batch(1)));
        for end in [0, 1, 31, 32, 5_000, whole.len() - 1] {
            assert_eq!(parse(&whole[..end]), None, "{end}");
        }
        let mut flipped = whole.clone();
        flipped[77] ^= 1;
        assert_eq!(parse(&flipped), None);
        remove(folder.path()).unwrap();
        remove(folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
    }

    #[test]
    fn a_large_batch_that_was_stopped_in_the_middle_is_there_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let state = DiskStores::open(folder.path()).unwrap().state().unwrap();
        state.apply(batch(1)).unwrap();
        state.flush().unwrap();
        drop(state);
        assert_eq!(rows(folder.path()), vec![1; 4_500]);
        assert_eq!(
            read(&folder.path().join("state")).unwrap(),
            None,
            "nothing is left to do"
        );

        write(&folder.path().join("state"), &batch(2)).unwrap();
        assert_eq!(rows(folder.path()), vec![2; 4_500]);
        assert_eq!(rows(folder.path()), vec![2; 4_500]);

        let redo = folder.path().join("state/redo");
        write(&folder.path().join("state"), &batch(3)).unwrap();
        let torn = fs::read(&redo).unwrap();
        fs::write(&redo, &torn[..torn.len() / 2]).unwrap();
        assert_eq!(rows(folder.path()), vec![2; 4_500], "it was never begun");
        assert!(!redo.exists());
    }
}
