//! The version of what lies in a ledger's folder, in a file of its own: an older program that does not know it reads nothing
//! and writes nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::StoreError;
use super::disk::sync_dir;

/// What this program writes. Version 1 has changes and imported entries in the journal, version 2 the versions of documents that
/// were put again, version 3 what decisions read and what was in force,
/// version 4 the policy that refused, version 5 a write-ahead log beside each month, without which the last seconds of one whose
/// process was killed would be missing; all that was written before it had versions is read as it is.
pub const SCHEMA: u32 = 5;
const FILE: &str = "schema";
/// The file holds one number.
const BYTES_MAX: u64 = 32;

/// The version in a folder; `None` where there is no mark.
///
/// # Errors
/// It cannot be read, or is newer than this program.
pub fn check(dir: &Path) -> Result<Option<u32>, StoreError> {
    let path = dir.join(FILE);
    let unreadable = |reason: String| StoreError::Open {
        dir: dir.to_owned(),
        reason: format!("{}: {reason}", path.display()),
    };
    let text = match fs::metadata(&path) {
        Ok(found) if found.len() > BYTES_MAX => return Err(unreadable("not a version".to_owned())),
        Ok(_) => fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let found: u32 = text
        .trim()
        .parse()
        .map_err(|_| unreadable("not a version".to_owned()))?;
    if found > SCHEMA {
        return Err(StoreError::Newer {
            dir: dir.to_owned(),
            found,
        });
    }
    Ok(Some(found))
}

/// Marks a folder with this program's version, from which on what is written there may be new. Whether it was older.
///
/// # Errors
/// It cannot be written.
pub fn mark(dir: &Path) -> Result<bool, StoreError> {
    if check(dir)? == Some(SCHEMA) {
        return Ok(false);
    }
    let (path, draft) = (dir.join(FILE), dir.join(format!("{FILE}.new")));
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        writeln!(file, "{SCHEMA}")?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        sync_dir(dir)
    };
    write().map_err(|error| StoreError::of_write(&path.display().to_string(), &error))?;
    Ok(true)
}
