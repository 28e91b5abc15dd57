//! A ledger in one file: a tar of its journal's records and the secret that keys are named by, compressed. Made of what is on
//! disk at one moment, while more is written; everything else in a ledger's folder follows from the journal.
//!
//! ```text
//! agentledger/archive.json       what this is: read first
//! agentledger/fingerprint.key    where the ledger has one of its own
//! agentledger/journal/YYYY-MM/N  records of a month: length, key, length, value
//! agentledger/manifest.json      what was written: read last, and held against what was read
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentledger_ledger::store::{Month, SCHEMA};
use agentledger_ledger::{Exported, Head, Ledger, LedgerError, export_journal, rfc3339_ms};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::files;

/// The form of the archive itself.
pub const FORMAT: u32 = 1;
pub const ABOUT: &str = "agentledger/archive.json";
pub const MANIFEST: &str = "agentledger/manifest.json";
pub const SECRET: &str = "agentledger/fingerprint.key";
pub const JOURNAL: &str = "agentledger/journal/";
/// A part is closed when it has grown to this.
const PART_BYTES: usize = 4 << 20;
/// A part that is longer was written by nobody: it ends with the first record beyond `PART_BYTES`, and the largest, a month's
/// opening, bears the books of two million accounts.
pub const PART_BYTES_MAX: u64 = 2 << 30;
const SECRET_BYTES: u64 = 32;
const LEVEL: i32 = 3;

/// What an archive says of itself before all else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub format: u32,
    /// The version of what the ledger's folder holds.
    pub schema: u32,
    /// Of the program that wrote it.
    pub version: String,
    /// RFC 3339.
    pub at: String,
}

/// What an archive says of itself at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The end of the journal, `SEQUENCE:HASH`.
    #[serde(with = "as_text")]
    pub head: Head,
    pub events: u64,
    pub months: Vec<String>,
    pub has_secret: bool,
    /// Of the names and bytes of all parts before it, in their order: blake3, hex.
    pub digest: String,
}

mod as_text {
    use agentledger_ledger::Head;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(head: &Head, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(head)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Head, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("no head"))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("{}: {error}", .path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("writing the archive: {0}")]
    Stream(#[from] io::Error),
    #[error("no ledger at {}", .0.display())]
    NoLedger(PathBuf),
    #[error("{} is there already: an archive replaces nothing", .0.display())]
    Exists(PathBuf),
}

/// A finished archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub manifest: Manifest,
    pub bytes: u64,
}

/// Which ledger an archive is made of.
pub enum Source<'a> {
    /// One that this process has open, and its folder.
    Running(&'a Ledger, &'a Path),
    /// One that no process has open, by its folder.
    Stopped(&'a Path),
}

impl Source<'_> {
    fn dir(&self) -> &Path {
        match self {
            Source::Running(_, dir) | Source::Stopped(dir) => dir,
        }
    }
}

/// Writes an archive into a file that is not there yet, for its owner alone: whole, or not at all under its name.
///
/// # Errors
/// The ledger cannot be read, the file cannot be written, or is there already.
pub fn into_file(source: &Source<'_>, path: &Path, version: &str, now_ms: i64) -> Result<Written, ArchiveError> {
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(ArchiveError::Exists(path.to_owned()));
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.partial", std::process::id()));
    let draft = Path::new(&draft);
    let failed = |error| ArchiveError::Write {
        path: path.to_owned(),
        error,
    };
    let write = || -> Result<Written, ArchiveError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft);
        let file = file.map_err(failed)?;
        let (written, file) = into_writer(source, file, version, now_ms)?;
        file.sync_all().map_err(failed)?;
        // A link, not a renaming, which would replace what came there meanwhile.
        std::fs::hard_link(draft, path).map_err(failed)?;
        Ok(written)
    };
    let written = write();
    // Also the draft of one that is finished: its file has its own name now.
    let _ = std::fs::remove_file(draft);
    let written = written?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or_else(|| Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(written)
}

/// Writes an archive into whatever takes bytes. Of a running ledger on a thread that may block, within a runtime.
///
/// # Errors
/// The ledger cannot be read, or the bytes cannot be written.
pub fn into_writer<W: Write>(
    source: &Source<'_>,
    out: W,
    version: &str,
    now_ms: i64,
) -> Result<(Written, W), ArchiveError> {
    let mut compressed = zstd::stream::write::Encoder::new(Counted { out, bytes: 0 }, LEVEL)?;
    // Damage is met where it lies, not at the end.
    compressed.include_checksum(true)?;
    let mut parts = Parts {
        tar: tar::Builder::new(compressed),
        digest: blake3::Hasher::new(),
        now_ms,
        open: None,
        months: Vec::new(),
    };
    let about = About {
        format: FORMAT,
        schema: SCHEMA,
        version: version.to_owned(),
        at: rfc3339_ms(now_ms),
    };
    parts.add(ABOUT, &serde_json::to_vec(&about).map_err(io::Error::other)?)?;
    let has_secret = match files::read(&source.dir().join(crate::moving::SECRET_FILE), SECRET_BYTES) {
        Ok(secret) => parts.add(SECRET, &secret).map(|()| true)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error.into()),
    };
    let exported = match source {
        Source::Running(ledger, _) => {
            // What was answered before the archive was asked for is in it, however far behind the writer is.
            Handle::current().block_on(ledger.flushed());
            ledger.export_journal(|month, pair| parts.record(month, &pair.0, &pair.1))
        }
        Source::Stopped(dir) if !dir.join("journal").is_dir() => return Err(ArchiveError::NoLedger(dir.to_path_buf())),
        Source::Stopped(dir) => export_journal(dir, |month, pair| parts.record(month, &pair.0, &pair.1)),
    };
    let Exported { head, events } = exported?;
    parts.close()?;
    let manifest = Manifest {
        head,
        events,
        months: std::mem::take(&mut parts.months),
        has_secret,
        digest: parts.digest.finalize().to_hex().to_string(),
    };
    parts.add(MANIFEST, &serde_json::to_vec(&manifest).map_err(io::Error::other)?)?;
    let mut counted = parts.tar.into_inner()?.finish()?;
    counted.flush()?;
    let bytes = counted.bytes;
    Ok((Written { manifest, bytes }, counted.out))
}

/// The parts of an archive as they are written.
struct Parts<W: Write> {
    tar: tar::Builder<W>,
    digest: blake3::Hasher,
    now_ms: i64,
    /// The part of the journal that is being filled: its month, its number, its records.
    open: Option<(Month, u32, Vec<u8>)>,
    months: Vec<String>,
}

impl<W: Write> Parts<W> {
    fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.now_ms / 1_000).unwrap_or_default());
        self.tar.append_data(&mut header, name, bytes)?;
        digest_part(&mut self.digest, name, bytes);
        Ok(())
    }

    fn record(&mut self, month: Month, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        let is_full = |open: &(Month, u32, Vec<u8>)| open.0 != month || open.2.len() >= PART_BYTES;
        if self.open.as_ref().is_none_or(is_full) {
            let number = match &self.open {
                Some((known, number, _)) if *known == month => number + 1,
                _ => 1,
            };
            self.close()?;
            if number == 1 {
                self.months.push(month.to_string());
            }
            self.open = Some((month, number, Vec::with_capacity(PART_BYTES)));
        }
        if let Some((_, _, records)) = &mut self.open {
            for bytes in [key, value] {
                let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
                records.extend_from_slice(&length.to_be_bytes());
                records.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some((month, number, records)) => self.add(&part_name(month, number), &records),
            None => Ok(()),
        }
    }
}

pub fn part_name(month: Month, number: u32) -> String {
    format!("{JOURNAL}{month}/{number:08}")
}

/// Takes a part into the digest of all: its name and its length stand apart from its bytes.
pub fn digest_part(digest: &mut blake3::Hasher, name: &str, bytes: &[u8]) {
    digest.update(&(name.len() as u64).to_be_bytes());
    digest.update(name.as_bytes());
    digest.update(&(bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

/// Counts what goes through.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
