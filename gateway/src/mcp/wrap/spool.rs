//! Calls that passed while no gateway ran: one file for each wrapper, which the gateway takes in once its writer has let go of
//! it, each call once by its id. There are no arguments, results or keys in it, but their lengths, and the key's fingerprint.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::control::wire::{BeginParams, CallEnding, EndParams, ToolCaller};
use crate::proxy::shared::rules::Fingerprints;
use crate::secret::Secret;

/// What files that are whole end in.
pub const ENDING: &str = "jsonl";
const UNFINISHED: &str = "new";
/// After a longer file another one is begun.
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
    file_bytes_max: u64,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    /// That calls are written to.
    newest: Option<Open>,
    /// Those that wait for the ends of theirs.
    older: Vec<Open>,
}

/// A file that is locked as long as it is written to.
struct Open {
    file: File,
    bytes: u64,
    /// Calls in it that have not ended.
    open: HashSet<String>,
}

impl Spool {
    /// Nothing is made before there is a call.
    pub fn new(dir: PathBuf, fingerprints: Option<Fingerprints>) -> Spool {
        Spool {
            dir,
            fingerprints,
            file_bytes_max: FILE_BYTES_MAX,
            files: Mutex::default(),
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
        let id = call.id.clone();
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
        let mut files = self.files.lock();
        let mut newest = match files.newest.take() {
            Some(open) if open.bytes < self.file_bytes_max => open,
            full => {
                files.retire(full);
                Open::create(&self.dir)?
            }
        };
        let call = Box::new(call);
        match newest.begin(id, &Record::Begun { call, fingerprint }) {
            Ok(()) => {
                files.newest = Some(newest);
                Ok(())
            }
            // What a file bears whose disk fails is not known: none follows in it.
            Err(error) => {
                files.retire(Some(newest));
                Err(error)
            }
        }
    }

    /// Writes down how one of its calls ended.
    ///
    /// # Errors
    /// It cannot be written: the call will be entered as not answered.
    pub fn ended(&self, ended: &EndParams) -> io::Result<()> {
        let mut files = self.files.lock();
        let Files { newest, older } = &mut *files;
        let bears = |open: &&mut Open| open.open.contains(&ended.id);
        let Some(open) = older.iter_mut().chain(newest.as_mut()).find(bears) else {
            return Ok(());
        };
        open.open.remove(&ended.id);
        let written = open.write(&Record::Ended(ended.clone()));
        for over in older.extract_if(.., |open| open.open.is_empty()) {
            over.let_go();
        }
        written
    }

    /// There is something in it, and all of that has ended.
    pub fn could_be_given_up(&self) -> bool {
        self.files
            .lock()
            .newest
            .as_ref()
            .is_some_and(|newest| newest.open.is_empty())
    }

    /// Lets go of what has ended: it is the gateway's.
    pub fn give_up(&self) {
        let mut files = self.files.lock();
        let newest = files.newest.take();
        match newest {
            Some(newest) if !newest.open.is_empty() => files.newest = Some(newest),
            ended => files.retire(ended),
        }
    }
}

impl Files {
    /// No call follows in this one; the ends of its calls do.
    fn retire(&mut self, open: Option<Open>) {
        match open {
            Some(open) if open.open.is_empty() => open.let_go(),
            Some(open) => self.older.push(open),
            None => {}
        }
    }
}

impl Open {
    /// Locked before anybody takes it for one that is whole.
    fn create(dir: &Path) -> io::Result<Open> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        check_folder(dir)?;
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
        Ok(Open::of(file))
    }

    fn of(file: File) -> Open {
        Open {
            file,
            bytes: 0,
            open: HashSet::new(),
        }
    }

    /// Writes down that a call passes; it is on disk then. One that does not is not in the file, or was not sent as it says.
    fn begin(&mut self, id: String, begun: &Record) -> io::Result<()> {
        let before = self.bytes;
        let begun = self.write(begun).and_then(|()| self.file.sync_data());
        if let Err(error) = begun {
            if self.file.set_len(before).is_err() {
                let unsent = EndParams {
                    id,
                    ending: CallEnding::Unsent,
                    ..EndParams::default()
                };
                // Where that cannot be written either, a call that was refused is entered: never one less than there were.
                let _ = self.write(&Record::Ended(unsent));
            }
            return Err(error);
        }
        self.open.insert(id);
        Ok(())
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.bytes += line.len() as u64;
        self.file.write_all(&line)
    }

    fn let_go(self) {
        // What is lost of it are ends of calls, which are entered as not answered then.
        let _ = self.file.sync_data();
    }
}

/// Whether a folder is one for spools: its owner alone writes there, and that is who asks.
///
/// # Errors
/// It is not there, or whose it is, or who else may write there.
pub fn check_folder(dir: &Path) -> io::Result<()> {
    let found = fs::metadata(dir)?;
    if !found.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    check_owner(&found).map_err(|error| io::Error::other(format!("the folder {}: {error}", dir.display())))
}

/// Opens a spool to be read. Whatever else may lie there is not waited for.
///
/// # Errors
/// It is no file of whoever asks, or others may write to it.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    check_owner(&found)?;
    Ok(file)
}

fn check_owner(found: &fs::Metadata) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user {
        let text = format!("it belongs to user {}, and not to this one ({user})", found.uid());
        return Err(io::Error::other(text));
    }
    if found.mode() & 0o022 != 0 {
        let text = format!("others may write to it (mode {:o}): chmod go-w", found.mode() & 0o777);
        return Err(io::Error::other(text));
    }
    Ok(())
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

    fn end(call: &BeginParams) -> EndParams {
        EndParams {
            id: call.id.clone(),
            ending: CallEnding::Result,
            ..EndParams::default()
        }
    }

    fn records(text: &str) -> Vec<Record> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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
        let begun = call("sk-secret-0123456789");
        spool.begun(&begun).unwrap();
        assert!(!spool.could_be_given_up());
        spool.ended(&end(&begun)).unwrap();
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
    #[test]
    fn a_long_spool_goes_on_in_another_file_while_its_calls_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool {
            file_bytes_max: 1,
            ..Spool::new(dir.path().join("spool"), None)
        };
        let calls = [call(""), call(""), call("")];
        for one in &calls {
            spool.begun(one).unwrap();
        }
        // Names of one millisecond have no order.
        let file_of = |call: &BeginParams| {
            let mut files = files(&dir.path().join("spool")).into_iter();
            let bears = |file: &PathBuf| fs::read_to_string(file).unwrap().contains(&call.id);
            files.find(bears).unwrap()
        };
        assert_eq!(files(&dir.path().join("spool")).len(), 3);
        let is_let_go = |call: &BeginParams| File::open(file_of(call)).unwrap().try_lock().is_ok();
        for (ended, one) in calls.iter().enumerate() {
            assert!(!is_let_go(one), "its call is open");
            spool.ended(&end(one)).unwrap();
            let text = fs::read_to_string(file_of(one)).unwrap();
            assert_eq!(records(&text).len(), 2, "an end stands beside its beginning");
            assert_eq!(is_let_go(one), ended < 2, "the newest waits for the next call");
        }
        spool.give_up();
        assert!(is_let_go(&calls[2]));
    }

    #[test]
    fn a_call_whose_line_does_not_reach_the_disk_is_said_to_be_unsent() {
        // A pipe takes what is written, but cannot sync it, nor take it back.
        let (mut reads, writes) = io::pipe().unwrap();
        let mut open = Open::of(File::from(std::os::fd::OwnedFd::from(writes)));
        let call = Box::new(call(""));
        let id = call.id.clone();
        let fingerprint = String::new();
        assert!(open.begin(id, &Record::Begun { call, fingerprint }).is_err());
        assert!(open.open.is_empty());
        drop(open);
        let mut text = String::new();
        io::Read::read_to_string(&mut reads, &mut text).unwrap();
        let Ok([Record::Begun { call, .. }, Record::Ended(end)]) = <[Record; 2]>::try_from(records(&text)) else {
            panic!("{text}")
        };
        assert_eq!((end.ending, &end.id), (CallEnding::Unsent, &call.id));
    }

    #[test]
    fn a_folder_that_others_may_write_to_takes_no_call_and_says_why() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Spool::new(dir.path().to_owned(), None).begun(&call("")).unwrap_err();
        assert!(error.to_string().contains("mode 777"), "{error}");
        assert!(files(dir.path()).is_empty());
    }

    #[test]
    fn what_is_no_spool_is_not_waited_for_nor_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, link, file) = (
            dir.path().join("fifo"),
            dir.path().join("link"),
            dir.path().join("file"),
        );
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(open(&fifo).is_err() && open(&link).is_err() && open(dir.path()).is_err());
        assert!(open(&file).is_ok());
    }
}
