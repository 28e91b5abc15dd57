//! Files whose paths others may write to. What lies there may be anything: a FIFO that blocks whoever opens it, a device
//! that never ends, a file larger than memory. Each is refused by what it is, and nothing here waits for one.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Longest configuration, price file or file of certificates: a longer one was written by nobody.
pub const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Opens a regular file of at most `bytes_max` bytes.
///
/// # Errors
/// As the system says, or `not a regular file`, or `longer than N bytes`. The caller names the file.
pub fn open(path: &Path, bytes_max: u64) -> io::Result<File> {
    // Without O_NONBLOCK a FIFO is not opened before somebody writes to it. Regular files know no difference.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = opened.map_err(|error| match std::fs::metadata(path) {
        // A socket cannot be opened at all, and the system's words for it help nobody.
        Ok(found) if !found.is_file() => not_regular(),
        _ => error,
    })?;
    // Of the handle, not of the path: what lies there may have been exchanged.
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(not_regular());
    }
    if found.len() > bytes_max {
        return Err(too_long(bytes_max));
    }
    Ok(file)
}

/// The content of a regular file of at most `bytes_max` bytes, also where it grows meanwhile.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open(path, bytes_max)?;
    let expected = file.metadata()?.len().min(bytes_max);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(too_long(bytes_max));
    }
    Ok(bytes)
}

/// The same, as text.
///
/// # Errors
/// As [`open`], and where it is not UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?).map_err(|_| io::Error::new(ErrorKind::InvalidData, "not UTF-8 text"))
}

/// Puts a file in place whole or not at all, for its owner alone. Whatever lies where the draft is written is taken away
/// and never written through.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    match std::fs::remove_file(draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(draft, path)?;
    // A bare name lies in the folder at hand.
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn not_regular() -> io::Error {
    io::Error::other("not a regular file")
}

fn too_long(bytes_max: u64) -> io::Error {
    io::Error::other(format!("longer than {bytes_max} bytes"))
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;

    /// One of each kind of thing that is no file to be read, and what is said of it.
    pub fn special(dir: &Path, ending: &str) -> Vec<(PathBuf, &'static str)> {
        let at = |name: &str| dir.join(format!("{name}.{ending}"));
        let fifo = std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap();
        assert!(fifo.success());
        drop(UnixListener::bind(at("socket")).unwrap());
        std::fs::create_dir(at("folder")).unwrap();
        symlink("/dev/zero", at("zeros")).unwrap();
        File::create(at("huge")).unwrap().set_len(1 << 40).unwrap();
        let not_regular = ["fifo", "socket", "folder", "zeros"].map(|name| (at(name), "not a regular file"));
        not_regular.into_iter().chain([(at("huge"), "longer than ")]).collect()
    }

    #[test]
    fn what_is_no_file_is_refused_by_what_it_is_and_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        for (path, said) in special(dir.path(), "txt") {
            let error = read(&path, 1_000).unwrap_err().to_string();
            assert!(error.starts_with(said), "{}: {error}", path.display());
        }
        let missing = read(&dir.path().join("none"), 1).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_file_is_read_to_its_bound_and_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "four").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(read_text(&link, 4).unwrap(), "four");
        assert_eq!(read(&file, 3).unwrap_err().to_string(), "longer than 3 bytes");
        std::fs::write(&file, [0xff]).unwrap();
        assert_eq!(read_text(&file, 4).unwrap_err().to_string(), "not UTF-8 text");
        // The kernel's own files have a length of 0 and a content.
        assert_eq!(
            read(Path::new("/proc/self/status"), 10).unwrap_err().to_string(),
            "longer than 10 bytes"
        );
    }

    #[test]
    fn a_draft_is_written_through_nothing_that_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let (file, foreign) = (dir.path().join("file"), dir.path().join("foreign"));
        std::fs::write(&foreign, "theirs").unwrap();
        symlink(&foreign, dir.path().join("file.new")).unwrap();
        replace(&file, b"ours").unwrap();
        assert_eq!(std::fs::read(&foreign).unwrap(), b"theirs");
        let made = std::process::Command::new("mkfifo")
            .arg(dir.path().join("file.new"))
            .status();
        assert!(made.unwrap().success());
        replace(&file, b"again").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"again");
    }
}
