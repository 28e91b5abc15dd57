//! An archive becomes a ledger again: in a folder of its own, which gets its name once all of it is there and its chain holds.
//! Nothing is written by a name that the archive gives.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use agentledger_ledger::store::{Month, SCHEMA};
use agentledger_ledger::{LedgerError, Report, RestoredJournal, VerifyError, verify};

use super::archive::{
    ABOUT, About, FORMAT, JOURNAL, MANIFEST, Manifest, PART_BYTES_MAX, SECRET, digest_part, part_name,
};
use crate::files;

/// Longest text of an archive about itself.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Zeros at the end of a tar.
const PADDING_BYTES_MAX: usize = 1 << 20;
/// Records that are written together.
const RECORDS: usize = 256;
/// A record's value: books of an opening may be large.
const RECORD_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} is no archive of agentledger: {reason}", .path.display())]
    Foreign { path: PathBuf, reason: String },
    #[error("{} is damaged: {reason}; nothing was restored", .path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{} was written by agentledger {version} (format {format}, schema {schema}; this one knows {FORMAT} and {SCHEMA}): restore it with that version",
        .path.display()
    )]
    Newer {
        path: PathBuf,
        version: String,
        format: u32,
        schema: u32,
    },
    #[error("{} is not empty: an archive is restored into a folder of its own", .0.display())]
    NotEmpty(PathBuf),
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("{0}")]
    Verify(#[from] VerifyError),
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    pub about: About,
    pub manifest: Manifest,
    /// Of the walk over what was restored.
    pub report: Report,
}

/// Makes a ledger of an archive, in `dir`, which must be empty or not there.
///
/// # Errors
/// Why there is no ledger in `dir` now.
pub fn restore(archive: &Path, dir: &Path) -> Result<Restored, RestoreError> {
    if fs::read_dir(dir).is_ok_and(|mut found| found.next().is_some()) || (dir.exists() && !dir.is_dir()) {
        return Err(RestoreError::NotEmpty(dir.to_owned()));
    }
    let file = open(archive)?;
    let mut draft = dir.as_os_str().to_owned();
    draft.push(".restoring");
    let draft = PathBuf::from(draft);
    let io = |error| RestoreError::Io {
        path: draft.clone(),
        error,
    };
    // What a restore left that was killed.
    match fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let restored = into_draft(archive, file, &draft).and_then(|restored| {
        // An empty folder gives way to one of its name.
        match fs::remove_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        fs::rename(&draft, dir).map_err(io)?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
        Ok(restored)
    });
    if restored.is_err() {
        let _ = fs::remove_dir_all(&draft);
    }
    restored
}

fn open(archive: &Path) -> Result<File, RestoreError> {
    files::open(archive, u64::MAX).map_err(|error| RestoreError::Io {
        path: archive.to_owned(),
        error,
    })
}

fn into_draft(archive: &Path, file: File, draft: &Path) -> Result<Restored, RestoreError> {
    let mut reading = Reading::new(archive);
    let bytes = zstd::stream::read::Decoder::new(file).map_err(|error| reading.foreign(&error))?;
    let mut tar = tar::Archive::new(bytes);
    let mut journal = None;
    for entry in tar.entries().map_err(|error| reading.foreign(&error))? {
        let mut entry = entry.map_err(|error| reading.broken(&error))?;
        let (name, length) = (entry.path_bytes().into_owned(), entry.size());
        let name = String::from_utf8_lossy(&name).into_owned();
        if !entry.header().entry_type().is_file() {
            return Err(reading.refuse(format!("{name:?} is not a file")));
        }
        let max = if name.starts_with(JOURNAL) {
            PART_BYTES_MAX
        } else {
            TEXT_BYTES_MAX
        };
        if length > max {
            return Err(reading.refuse(format!("{name:?} is longer than {max} bytes")));
        }
        let mut part = Vec::new();
        // As much as is there, whatever the header says.
        entry.read_to_end(&mut part).map_err(|error| reading.broken(&error))?;
        reading.part(&name, part, draft, &mut journal)?;
    }
    // What the tar's end leaves unread: the last of the compressed bytes has the check of all of them.
    let mut rest = tar.into_inner();
    reading.end_of(&mut rest)?;
    let (Some(about), Some(manifest)) = (reading.about.take(), reading.manifest.take()) else {
        return Err(reading.refuse("it ends too early".to_owned()));
    };
    let Some(journal) = journal else {
        return Err(reading.refuse("there is no journal in it".to_owned()));
    };
    journal.finish(manifest.head)?;
    let report = verify(draft, Some(manifest.head.hash))?;
    if !report.is_sound() || report.head != manifest.head || report.events != manifest.events {
        let reason = match &report.damage {
            Some(damage) => damage.to_string(),
            None => format!("its journal ends with {}, not with {}", report.head, manifest.head),
        };
        return Err(reading.refuse(reason));
    }
    Ok(Restored {
        about,
        manifest,
        report,
    })
}

/// An archive that is being read.
struct Reading<'a> {
    archive: &'a Path,
    about: Option<About>,
    manifest: Option<Manifest>,
    digest: blake3::Hasher,
    has_secret: bool,
    /// The part of the journal that came last.
    last: Option<(Month, u32)>,
}

impl Reading<'_> {
    fn new(archive: &Path) -> Reading<'_> {
        Reading {
            archive,
            about: None,
            manifest: None,
            digest: blake3::Hasher::new(),
            has_secret: false,
            last: None,
        }
    }

    fn foreign(&self, reason: &dyn std::fmt::Display) -> RestoreError {
        RestoreError::Foreign {
            path: self.archive.to_owned(),
            reason: reason.to_string(),
        }
    }

    fn refuse(&self, reason: String) -> RestoreError {
        RestoreError::Damaged {
            path: self.archive.to_owned(),
            reason,
        }
    }

    /// After the last part there is nothing but padding.
    fn end_of(&self, rest: &mut impl Read) -> Result<(), RestoreError> {
        let mut bytes = [0; 8 << 10];
        let mut left = PADDING_BYTES_MAX;
        loop {
            let count = rest.read(&mut bytes).map_err(|error| self.broken(&error))?;
            let is_padding = bytes.iter().take(count).all(|byte| *byte == 0);
            left = left.saturating_sub(count);
            match count {
                0 => return Ok(()),
                _ if is_padding && left > 0 => {}
                _ => return Err(self.refuse("something comes after its end".to_owned())),
            }
        }
    }

    /// Of what stands before the first part nobody can say whose it is.
    fn broken(&self, error: &io::Error) -> RestoreError {
        match self.about {
            None => self.foreign(error),
            Some(_) => self.refuse(error.to_string()),
        }
    }

    fn part(
        &mut self,
        name: &str,
        part: Vec<u8>,
        draft: &Path,
        journal: &mut Option<RestoredJournal>,
    ) -> Result<(), RestoreError> {
        if self.about.is_none() {
            return self.begin(name, &part);
        }
        if self.manifest.is_some() {
            return Err(self.refuse(format!("{name:?} comes after its end")));
        }
        if name == MANIFEST {
            return self.end(&part);
        }
        digest_part(&mut self.digest, name, &part);
        let journal = match journal {
            Some(journal) => journal,
            None => journal.insert(RestoredJournal::create(draft)?),
        };
        if name == SECRET && self.last.is_none() && !self.has_secret {
            self.has_secret = true;
            let path = draft.join(super::SECRET_FILE);
            return files::replace(&path, &part).map_err(|error| RestoreError::Io { path, error });
        }
        let Some(month) = self.month_of(name) else {
            return Err(self.refuse(format!("{name:?} is no part of an archive, or not the next one")));
        };
        let mut records = Vec::with_capacity(RECORDS);
        let mut rest = part.as_slice();
        while !rest.is_empty() {
            let (Some(key), Some(value)) = (take(&mut rest), take(&mut rest)) else {
                return Err(self.refuse(format!("{name} ends within a record")));
            };
            records.push((key, value));
            if records.len() >= RECORDS {
                journal.put(month, std::mem::take(&mut records))?;
            }
        }
        Ok(journal.put(month, records)?)
    }

    fn begin(&mut self, name: &str, part: &[u8]) -> Result<(), RestoreError> {
        let about: Option<About> = serde_json::from_slice(part).ok().filter(|_| name == ABOUT);
        let Some(about) = about else {
            return Err(self.foreign(&format!("it begins with {name:?}, not with {ABOUT}")));
        };
        if about.format > FORMAT || about.schema > SCHEMA {
            return Err(RestoreError::Newer {
                path: self.archive.to_owned(),
                version: about.version,
                format: about.format,
                schema: about.schema,
            });
        }
        digest_part(&mut self.digest, name, part);
        self.about = Some(about);
        Ok(())
    }

    fn end(&mut self, part: &[u8]) -> Result<(), RestoreError> {
        let manifest: Manifest =
            serde_json::from_slice(part).map_err(|error| self.refuse(format!("{MANIFEST}: {error}")))?;
        if self.digest.finalize().to_hex().as_str() != manifest.digest || self.has_secret != manifest.has_secret {
            return Err(self.refuse("its parts are not those that its manifest names".to_owned()));
        }
        self.manifest = Some(manifest);
        Ok(())
    }

    /// The month of the next part of the journal; `None` for any other name.
    fn month_of(&mut self, name: &str) -> Option<Month> {
        let (month, number) = name.strip_prefix(JOURNAL)?.split_once('/')?;
        let (month, number) = (Month::parse(month)?, number.parse::<u32>().ok()?);
        let is_next = match self.last {
            None => number == 1,
            Some((known, last)) if known == month => last.checked_add(1) == Some(number),
            Some((known, _)) => month > known && number == 1,
        };
        self.last = Some((month, number));
        (is_next && part_name(month, number) == name).then_some(month)
    }
}

/// A length and as many bytes.
fn take(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (bytes, after) = after.split_at_checked(length).filter(|_| length <= RECORD_BYTES_MAX)?;
    *rest = after;
    Some(bytes.to_vec())
}
