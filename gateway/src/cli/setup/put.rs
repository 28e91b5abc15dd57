//! Putting a change into a file of somebody else's: whole or not at all, with its rights, and a copy of it as it was.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::SetupError;
use super::clients::Change;
use crate::files;

/// What `--write` did.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    AsItWas,
    New,
    /// The copy of the file as it was.
    Changed(PathBuf),
}

/// Changes the file by `change`, or makes it. `lines` are for whoever has to do it by hand.
pub fn put(file: &Path, change: &Change, lines: &str) -> Result<Put, SetupError> {
    let failed = |error: io::Error| SetupError::Io {
        path: file.to_owned(),
        error,
    };
    // A link leads to where its owner keeps the file: there it is changed.
    let place = match fs::canonicalize(file) {
        Ok(place) => place,
        Err(error) if error.kind() == ErrorKind::NotFound => file.to_owned(),
        Err(error) => return Err(failed(error)),
    };
    let before = match files::read_text(&place, files::TEXT_BYTES_MAX) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let after = change(before.as_deref().unwrap_or_default()).map_err(|text| SetupError::Unreadable {
        path: file.to_owned(),
        text,
        lines: lines.to_owned(),
    })?;
    let Some(before) = before else {
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        files::replace(&place, after.as_bytes()).map_err(failed)?;
        return Ok(Put::New);
    };
    if after == before {
        return Ok(Put::AsItWas);
    }
    let rights = fs::metadata(&place).map_err(failed)?.permissions();
    let copy = copy(&place, before.as_bytes(), &rights).map_err(failed)?;
    files::replace(&place, after.as_bytes()).map_err(failed)?;
    fs::set_permissions(&place, rights).map_err(failed)?;
    Ok(Put::Changed(copy))
}

/// Copies stand beside the file, each under a name that nothing has yet.
fn copy(file: &Path, bytes: &[u8], rights: &Permissions) -> io::Result<PathBuf> {
    const COPIES_MAX: u32 = 1_000;
    for number in 0..COPIES_MAX {
        let mut name = file.as_os_str().to_owned();
        name.push(if number == 0 {
            ".before-agentledger".to_owned()
        } else {
            format!(".before-agentledger.{number}")
        });
        let path = PathBuf::from(name);
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(rights.mode() & 0o777)
            .open(&path);
        match opened {
            Ok(mut file) => {
                file.write_all(bytes)?;
                file.sync_all()?;
                return Ok(path);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("there are too many copies beside it"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn adds(word: &'static str) -> Change {
        Box::new(move |text| match text {
            "broken" => Err("is broken".to_owned()),
            _ if text.contains(word) => Ok(text.to_owned()),
            _ => Ok(format!("{text}{word}\n")),
        })
    }

    #[test]
    fn a_file_is_changed_once_with_a_copy_and_its_rights() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep/er/file");
        assert_eq!(put(&file, &adds("one"), "").unwrap(), Put::New);
        assert_eq!(put(&file, &adds("one"), "").unwrap(), Put::AsItWas);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let Put::Changed(first) = put(&file, &adds("two"), "").unwrap() else {
            panic!()
        };
        let Put::Changed(second) = put(&file, &adds("three"), "").unwrap() else {
            panic!()
        };
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!((read(&first), read(&second)), ("one\n".into(), "one\ntwo\n".into()));
        assert_eq!(read(&file), "one\ntwo\nthree\n");
        for path in [&file, &first] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640);
        }
    }

    #[test]
    fn a_link_stays_one_and_what_cannot_be_read_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "broken").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let error = put(&link, &adds("x"), "the lines").unwrap_err().to_string();
        assert!(error.contains("is broken") && error.ends_with("the lines"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "broken");
        fs::write(&file, "").unwrap();
        assert!(matches!(put(&link, &adds("x"), "").unwrap(), Put::Changed(_)));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "x\n");
    }
}
