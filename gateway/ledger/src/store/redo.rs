//! Batches of any size, all or nothing. Sled keeps what each change of a batch replaces, a whole page, until the batch is
//! through: the rows of a busy hour would take gigabytes. So a large batch is written to a file first, and then applied in
//! small ones; a start that finds the file whole applies it again, and one that finds a part of it knows that nothing of
//! the batch was applied.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::{Change, disk::sync_dir};

/// Changes of a batch that needs none of this: the journal's are all smaller.
pub const CHANGES_MAX: usize = 2_048;
/// Changes of one part of a larger one.
pub const PART_CHANGES: usize = 256;

/// The end of a whole file: the digest of everything before it.
const DIGEST_BYTES: u64 = 32;
const PUT: u8 = 1;
const REMOVE: u8 = 2;

fn path(dir: &Path) -> PathBuf {
    dir.join("redo")
}

/// Writes a batch down beside its database, change by change: it may be too large for the memory.
pub struct Writer {
    dir: PathBuf,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: Vec<u8>,
}

impl Writer {
    pub fn create(dir: &Path) -> io::Result<Writer> {
        Ok(Writer {
            dir: dir.to_owned(),
            file: BufWriter::new(File::create(path(dir))?),
            hasher: blake3::Hasher::new(),
            bytes: Vec::new(),
        })
    }

    pub fn add(&mut self, change: &Change) -> io::Result<()> {
        let bytes = &mut self.bytes;
        bytes.clear();
        match change {
            Change::Put(key, value) => {
                bytes.push(PUT);
                put(bytes, key)?;
                put(bytes, value)?;
            }
            Change::Remove(key) => {
                bytes.push(REMOVE);
                put(bytes, key)?;
            }
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    /// On disk when it returns.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.write_all(self.hasher.finalize().as_bytes())?;
        self.file.into_inner()?.sync_all()?;
        sync_dir(&self.dir)
    }
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) -> io::Result<()> {
    let length = u32::try_from(part.len()).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(part);
    Ok(())
}

/// The changes of a batch that was written down and may be applied in part.
pub struct Changes {
    file: BufReader<File>,
    /// Bytes of changes that are left.
    left: u64,
}

/// `None`: there is none, or it was never begun.
pub fn read(dir: &Path) -> io::Result<Option<Changes>> {
    let file = match File::open(path(dir)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(left) = file.metadata()?.len().checked_sub(DIGEST_BYTES) else {
        return Ok(None);
    };
    let mut file = BufReader::new(file);
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader((&mut file).take(left))?;
    let mut digest = [0; DIGEST_BYTES as usize];
    file.read_exact(&mut digest)?;
    if hasher.finalize().as_bytes() != &digest {
        return Ok(None);
    }
    file.rewind()?;
    Ok(Some(Changes { file, left }))
}

impl Changes {
    fn next_change(&mut self) -> io::Result<Change> {
        let mut kind = [0];
        self.file.read_exact(&mut kind)?;
        self.left = self.left.saturating_sub(1);
        let key = self.take()?;
        match kind {
            [PUT] => Ok(Change::Put(key, self.take()?)),
            [REMOVE] => Ok(Change::Remove(key)),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    fn take(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length)?;
        let length = u64::from(u32::from_le_bytes(length));
        let mut part = Vec::new();
        (&mut self.file).take(length).read_to_end(&mut part)?;
        self.left = self.left.saturating_sub(4 + length);
        Ok(part)
    }
}

impl Iterator for Changes {
    type Item = io::Result<Change>;

    fn next(&mut self) -> Option<io::Result<Change>> {
        (self.left > 0).then(|| self.next_change())
    }
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

    fn write_down(dir: &Path, batch: &[Change]) {
        let mut writer = Writer::create(dir).unwrap();
        batch.iter().for_each(|change| writer.add(change).unwrap());
        writer.finish().unwrap();
    }

    fn read_back(dir: &Path) -> Option<Vec<Change>> {
        read(dir).unwrap().map(|changes| changes.map(Result::unwrap).collect())
    }

    /// The values of all rows, each by its first byte.
    fn rows(dir: &Path) -> Vec<u8> {
        let state = DiskStores::open(dir).unwrap().state().unwrap();
        state.scan(&[]).map(|pair| pair.unwrap().1[0]).collect()
    }

    #[test]
    fn a_batch_comes_back_as_it_was_and_a_broken_one_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_back(folder.path()), None);
        write_down(folder.path(), &batch(1));
        let whole = fs::read(path(folder.path())).unwrap();
        assert_eq!(read_back(folder.path()), Some(batch(1)));
        for end in [0, 1, 31, 32, 5_000, whole.len() - 1] {
            fs::write(path(folder.path()), &whole[..end]).unwrap();
            assert_eq!(read_back(folder.path()).unwrap_or_default(), [], "{end}");
        }
        let mut flipped = whole.clone();
        flipped[77] ^= 1;
        fs::write(path(folder.path()), flipped).unwrap();
        assert_eq!(read_back(folder.path()), None);
        remove(folder.path()).unwrap();
        remove(folder.path()).unwrap();
        assert_eq!(read_back(folder.path()), None);
    }

    #[test]
    fn a_large_batch_that_was_stopped_in_the_middle_is_there_after_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let state = DiskStores::open(folder.path()).unwrap().state().unwrap();
        state.apply(batch(1)).unwrap();
        state.flush().unwrap();
        drop(state);
        assert_eq!(rows(folder.path()), vec![1; 4_500]);
        assert_eq!(read_back(&folder.path().join("state")), None, "nothing is left to do");

        write_down(&folder.path().join("state"), &batch(2));
        assert_eq!(rows(folder.path()), vec![2; 4_500]);
        assert_eq!(rows(folder.path()), vec![2; 4_500]);

        let redo = folder.path().join("state/redo");
        write_down(&folder.path().join("state"), &batch(3));
        let torn = fs::read(&redo).unwrap();
        fs::write(&redo, &torn[..torn.len() / 2]).unwrap();
        assert_eq!(rows(folder.path()), vec![2; 4_500], "it was never begun");
        assert!(!redo.exists());
    }
}
