//! Which gateways run on this machine: each notes for its own user's commands where it is to be found, so that they need no
//! configuration file to reach it.
//!
//! A note lies in a folder that only its owner may enter: the first that can be of `$XDG_RUNTIME_DIR/agentledger`,
//! `/run/user/UID/agentledger` and `/tmp/agentledger-UID`. A service and a shell of one user may have different ones, so all are
//! searched; where `AGENTLEDGER_RUNTIME_DIR` is set, the folder within that alone. A folder or a note of anybody else's is believed
//! nothing.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;

const NOTE_BYTES_MAX: u64 = 64 << 10;

/// A gateway that runs, as it notes itself. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The file that it was configured by; none: by defaults and its environment.
    pub config: Option<PathBuf>,
    pub socket: PathBuf,
    pub ledger: PathBuf,
    /// Where clients reach it, without a slash at its end.
    pub url: String,
}

impl Running {
    /// In one line, for whoever has to choose.
    pub fn named(&self) -> String {
        let config = self.config.as_ref().map(|file| file.display().to_string());
        format!(
            "  {} ({})",
            self.url,
            config.unwrap_or_else(|| "no configuration file".to_owned())
        )
    }
}

/// The note of a gateway, which goes with it.
pub struct Noted(PathBuf);

impl Drop for Noted {
    fn drop(&mut self) {
        // One that stays behind names a socket that nobody answers on, and counts for nothing.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Notes a gateway of this process, and takes away the notes of those that are gone.
///
/// # Errors
/// There is no folder for it that is this user's alone, or it cannot be written.
pub fn note(running: &Running) -> io::Result<Noted> {
    let folder = own_folder(&places())?;
    for (path, other) in notes(&folder) {
        if other.is_none_or(|other| !answers(&other.socket)) {
            let _ = std::fs::remove_file(path);
        }
    }
    let path = folder.join(format!("{}.json", std::process::id()));
    files::replace(&path, &serde_json::to_vec(running)?)?;
    Ok(Noted(path))
}

/// The gateways of this user that answer.
pub fn find() -> Vec<Running> {
    let folders = places().into_iter().filter(|folder| is_own(folder));
    let noted = folders.flat_map(|folder| notes(&folder));
    let mut running: Vec<Running> = noted.filter_map(|(_, running)| running).collect();
    running.retain(|running| answers(&running.socket));
    running
}

/// The folders where notes may lie; the first that can be is where they are put.
fn places() -> Vec<PathBuf> {
    let given = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let user = rustix::process::geteuid().as_raw();
    places_of(given("AGENTLEDGER_RUNTIME_DIR"), given("XDG_RUNTIME_DIR"), user)
}

/// `only` is where somebody wants them and no others, `session` where the session of this process has such things.
fn places_of(only: Option<PathBuf>, session: Option<PathBuf>, user: u32) -> Vec<PathBuf> {
    let absolute = |given: Option<PathBuf>| given.filter(|given| given.is_absolute());
    if let Some(only) = absolute(only) {
        return vec![only.join("agentledger")];
    }
    let session = absolute(session).map(|given| given.join("agentledger"));
    let own = Path::new("/run/user").join(user.to_string()).join("agentledger");
    let mut places: Vec<PathBuf> = session.into_iter().collect();
    for place in [own, PathBuf::from(format!("/tmp/agentledger-{user}"))] {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn own_folder(places: &[PathBuf]) -> io::Result<PathBuf> {
    let mut failed = io::Error::from(ErrorKind::NotFound);
    for place in places {
        match std::fs::DirBuilder::new().mode(0o700).create(place) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => failed = error,
            _ if is_own(place) => return Ok(place.clone()),
            _ => failed = io::Error::other(format!("{} is not this user's alone", place.display())),
        }
    }
    Err(failed)
}

/// A folder, not a link to one, that only this user may enter. Nobody else can put anything there, nor exchange it.
fn is_own(folder: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0)
}

/// The files of a folder, with what those say that can be read.
fn notes(folder: &Path) -> Vec<(PathBuf, Option<Running>)> {
    let Ok(found) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = found.filter_map(|file| Some(file.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let running = files::read(&path, NOTE_BYTES_MAX).ok();
        let running = running.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        (path, running)
    };
    paths.into_iter().map(read).collect()
}

fn answers(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_folder_of_this_users_alone_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        assert_eq!(own_folder(std::slice::from_ref(&own)).unwrap(), own);
        assert!(is_own(&own));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert!(!is_own(&link));
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(!is_own(&own), "its group may enter");
        let error = own_folder(&[own.clone(), link, dir.path().join("no/such")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            own_folder(&[own, dir.path().join("second")]).unwrap(),
            dir.path().join("second")
        );
    }

    #[test]
    fn a_shell_searches_wherever_a_service_of_its_user_may_have_put_its_note() {
        let of =
            |only: Option<&str>, session: Option<&str>| places_of(only.map(Into::into), session.map(Into::into), 7);
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let (own, temporary) = ("/run/user/7/agentledger", "/tmp/agentledger-7");
        assert_eq!(of(None, None), paths(&[own, temporary]));
        assert_eq!(of(None, Some("/run/user/7")), paths(&[own, temporary]));
        assert_eq!(of(None, Some("/x")), paths(&["/x/agentledger", own, temporary]));
        assert_eq!(of(None, Some("not/absolute")), paths(&[own, temporary]));
        assert_eq!(of(Some("/only"), Some("/x")), paths(&["/only/agentledger"]));
    }

    #[test]
    fn notes_that_cannot_be_read_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let running = Running {
            config: None,
            socket: dir.path().join("s"),
            ledger: dir.path().join("l"),
            url: "http://127.0.0.1:1".into(),
        };
        std::fs::write(dir.path().join("1.json"), serde_json::to_vec(&running).unwrap()).unwrap();
        std::fs::write(dir.path().join("2.json"), "{").unwrap();
        std::fs::write(dir.path().join("3.txt"), "{}").unwrap();
        let found: Vec<Option<Running>> = notes(dir.path()).into_iter().map(|(_, running)| running).collect();
        assert_eq!(found, [Some(running), None]);
        assert!(!answers(&dir.path().join("s")));
    }
}
