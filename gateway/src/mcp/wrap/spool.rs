//! Calls that passed while no gateway ran: one file for each wrapper, which the gateway takes in once its writer has let go of
//! it, each call once by its id. There are no arguments, results or keys in it, but their lengths, and the key's fingerprint.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::control::wire::{BeginParams, EndParams, ToolCaller};
use crate::proxy::shared::rules::Fingerprints;
use crate::secret::Secret;

/// What files that are whole end in.
pub const ENDING: &str = "jsonl";
const UNFINISHED: &str = "new";
/// A longer file is let go of, and another one begun.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A line of a spool.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Begun {
        call: Box<BeginParams>,
        /// Of the key; empty for none.
        fingerprint: String,
    },
    Ended(EndParams),
}

/// Where calls are written down.
pub struct Spool {
    dir: PathBuf,
    /// `None`: keys cannot be named here.
    fingerprints: Option<Fingerprints>,
    file: Mutex<Option<Open>>,
}

/// A file that is locked as long as it is written to.
struct Open {
    file: File,
    bytes: u64,
    /// Calls in it that have not ended.
    open: usize,
}

impl Spool {
    /// Nothing is made before there is a call.
    pub fn new(dir: PathBuf, fingerprints: Option<Fingerprints>) -> Spool {
        Spool {
            dir,
            fingerprints,
            file: Mutex::new(None),
        }
    }

    /// Writes down that a call passes; it is on disk then.
    ///
    /// # Errors
    /// It cannot be written: the call must not pass.
    pub fn begun(&self, call: &BeginParams) -> io::Result<()> {
        let fingerprint = match &self.fingerprints {
            Some(fingerprints) => fingerprints.of(&Secret::new(call.caller.key.clone())),
            None => String::new(),
        };
        let call = BeginParams {
            arguments: String::new(),
            argument_hash: String::new(),
            request: String::new(),
            caller: ToolCaller {
                key: String::new(),
                ..call.caller.clone()
            },
            ..call.clone()
        };
        let mut place = self.file.lock();
        let mut open = match place.take() {
            Some(open) if open.bytes < FILE_BYTES_MAX || open.open > 0 => open,
            _ => Open::create(&self.dir)?,
        };
        let call = Box::new(call);
        // After a line that was written half none can follow: the file is let go of with the error.
        open.write(&Record::Begun { call, fingerprint })?;
        open.file.sync_data()?;
        open.open += 1;
        *place = Some(open);
        Ok(())
    }

    /// Writes down how one of its calls ended.
    ///
    /// # Errors
    /// It cannot be written: the call will be entered as not answered.
    pub fn ended(&self, ended: &EndParams) -> io::Result<()> {
        let mut file = self.file.lock();
        let Some(open) = &mut *file else { return Ok(()) };
        open.open = open.open.saturating_sub(1);
        open.write(&Record::Ended(ended.clone()))
    }

    /// There is something in it, and all of that has ended.
    pub fn could_be_given_up(&self) -> bool {
        self.file.lock().as_ref().is_some_and(|open| open.open == 0)
    }

    /// Lets go of the file: it is the gateway's.
    pub fn give_up(&self) {
        if let Some(open) = self.file.lock().take() {
            // What is lost of it are ends of calls, which are entered as not answered then.
            let _ = open.file.sync_data();
        }
    }
}

impl Open {
    /// Locked before anybody takes it for one that is whole.
    fn create(dir: &Path) -> io::Result<Open> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join(format!("{}.{ENDING}", Ulid::new()));
        let unfinished = path.with_extension(UNFINISHED);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.try_lock()?;
        fs::rename(&unfinished, &path)?;
        File::open(dir)?.sync_all()?;
        Ok(Open {
            file,
            bytes: 0,
            open: 0,
        })
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.bytes += line.len() as u64;
        self.file.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn call(key: &str) -> BeginParams {
        BeginParams {
            id: Ulid::new().to_string(),
            tool: "t".to_owned(),
            arguments: "{\"secret\":1}".to_owned(),
            argument_bytes: 12,
            caller: ToolCaller {
                key: key.to_owned(),
                agent: "a".to_owned(),
                ..ToolCaller::default()
            },
            ..BeginParams::default()
        }
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_call_is_written_down_without_its_words_and_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("spool");
        let fingerprints = Fingerprints::new([7; 32]);
        let expected = fingerprints.of(&Secret::new("sk-secret-0123456789".to_owned()));
        let spool = Spool::new(dir.clone(), Some(fingerprints));
        assert!(files(&dir).is_empty() && !spool.could_be_given_up());
        spool.begun(&call("sk-secret-0123456789")).unwrap();
        assert!(!spool.could_be_given_up());
        spool.ended(&EndParams::default()).unwrap();
        assert!(spool.could_be_given_up());
        let file = &files(&dir)[0];
        let text = fs::read_to_string(file).unwrap();
        assert!(!text.contains("secret") && text.contains(&expected), "{text}");
        assert_eq!(text.lines().count(), 2);
        let other = File::open(file).unwrap();
        assert!(other.try_lock().is_err(), "its writer has it");
        spool.give_up();
        assert!(other.try_lock().is_ok());
        spool.begun(&call("")).unwrap();
        assert_eq!(files(&dir).len(), 2, "another one is begun");
    }
}
