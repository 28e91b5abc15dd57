//! The two files of a write-ahead log, in the folder of their month.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::store::StoreError;
use crate::store::disk::{same_file, sync_dir};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Side {
    Even,
    Odd,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Even, Side::Odd];

    pub fn other(self) -> Side {
        match self {
            Side::Even => Side::Odd,
            Side::Odd => Side::Even,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Side::Even => "ahead.0",
            Side::Odd => "ahead.1",
        }
    }
}

/// Where the frames are: on disk, or in a simulated one.
pub(in crate::store) trait AheadFiles: Send + Sync {
    /// All bytes of a file; `None` where there is none.
    fn read(&self, side: Side) -> Result<Option<Vec<u8>>, StoreError>;

    /// Makes a file anew, with this first sector. It, and its name, are on disk when this returns.
    fn make(&self, side: Side, sector: &[u8]) -> Result<(), StoreError>;

    /// Writes to a file that was made. On disk only after the next `sync`.
    fn write(&self, side: Side, at: usize, bytes: &[u8]) -> Result<(), StoreError>;

    /// What was written to the file is on disk when this returns.
    fn sync(&self, side: Side) -> Result<(), StoreError>;

    /// Removes both, for good when this returns.
    fn remove(&self) -> Result<(), StoreError>;

    /// Whether the files that are written to are still those in the folder.
    fn check(&self) -> io::Result<bool>;
}

pub(in crate::store) struct DiskFiles {
    dir: PathBuf,
    /// Those made by this process.
    made: Mutex<[Option<File>; 2]>,
}

impl DiskFiles {
    pub fn new(dir: &Path) -> DiskFiles {
        DiskFiles {
            dir: dir.to_owned(),
            made: Mutex::default(),
        }
    }

    fn path(&self, side: Side) -> PathBuf {
        self.dir.join(side.name())
    }

    fn failed_write(&self, side: Side, error: &io::Error) -> StoreError {
        StoreError::of_write(&self.path(side).display().to_string(), error)
    }

    /// Does something with a file that was made.
    fn with<T>(&self, side: Side, act: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        let made = self.made.lock();
        let [even, odd] = &*made;
        let file = match side {
            Side::Even => even,
            Side::Odd => odd,
        };
        act(file.as_ref().ok_or(io::ErrorKind::NotFound)?)
    }
}

impl AheadFiles for DiskFiles {
    fn read(&self, side: Side) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(self.path(side)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::Open {
                dir: self.dir.clone(),
                reason: format!("{}: {error}", side.name()),
            }),
        }
    }

    fn make(&self, side: Side, sector: &[u8]) -> Result<(), StoreError> {
        let make = || -> io::Result<File> {
            let mut options = File::options();
            options.create(true).truncate(true).write(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(self.path(side))?;
            write_at(&file, 0, sector)?;
            file.sync_all()?;
            sync_dir(&self.dir)?;
            Ok(file)
        };
        let file = make().map_err(|error| self.failed_write(side, &error))?;
        let mut made = self.made.lock();
        let [even, odd] = &mut *made;
        match side {
            Side::Even => *even = Some(file),
            Side::Odd => *odd = Some(file),
        }
        Ok(())
    }

    fn write(&self, side: Side, at: usize, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.with(side, |file| write_at(file, at as u64, bytes));
        written.map_err(|error| self.failed_write(side, &error))
    }

    fn sync(&self, side: Side) -> Result<(), StoreError> {
        let synced = self.with(side, File::sync_data);
        synced.map_err(|error| StoreError::Io(format!("syncing {}: {error}", self.path(side).display())))
    }

    fn remove(&self) -> Result<(), StoreError> {
        *self.made.lock() = Default::default();
        let mut removed = false;
        for side in Side::BOTH {
            match fs::remove_file(self.path(side)) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed_write(side, &error)),
            }
        }
        if removed {
            sync_dir(&self.dir).map_err(|error| StoreError::of_write(&self.dir.display().to_string(), &error))?;
        }
        Ok(())
    }

    fn check(&self) -> io::Result<bool> {
        let made = self.made.lock();
        for (file, side) in made.iter().zip(Side::BOTH) {
            if let Some(file) = file
                && !same_file(file, &self.path(side))?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(unix)]
fn write_at(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}
