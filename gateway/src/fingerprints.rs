//! The secret by which keys get their fingerprints, and whether it is still the one that the ledger's names were made with.
//! Another secret gives every key a new name, and every budget starts anew: that is never begun without a word.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::files;
use crate::proxy::shared::rules::Fingerprints;
use crate::secret::Secret;

/// The file beside the ledger; only its owner may read it.
pub const FILE: &str = crate::moving::SECRET_FILE;

/// What the ledger keeps of the secret: enough to know it again, nothing to guess it from.
pub type Check = [u8; 16];

/// Why a start with these fingerprints is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("fingerprint secret {path}: {error}", path = .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(
        "{path} is missing, and the ledger has entries whose keys are named by it: {REMEDY}",
        path = .0.display()
    )]
    Lost(PathBuf),
    #[error("{0} is not the secret by which the ledger's keys are named: {REMEDY}")]
    Changed(Source),
}

const REMEDY: &str = "restore the old one (fingerprint.key from a backup, or fingerprint.secret as it was), or start once with \
                      `agentledger serve --new-fingerprints`: then every key has a new name, and its budgets start anew";

/// Where a secret came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration or the environment.
    Config,
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Config => f.write_str("fingerprint.secret (or AGENTLEDGER_FINGERPRINT_SECRET)"),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A secret, and where it came from.
pub struct Found {
    secret: [u8; 32],
    source: Source,
}

impl Found {
    pub fn check(&self) -> Check {
        let derived = blake3::derive_key("agentledger fingerprint check v1", &self.secret);
        let mut check = Check::default();
        for (to, from) in check.iter_mut().zip(derived) {
            *to = from;
        }
        check
    }

    pub fn fingerprints(&self) -> Fingerprints {
        Fingerprints::new(self.secret)
    }
}

/// The secret that the configuration gives, else that of the file beside the ledger; `None` where there is no file.
pub fn find(configured: Option<&Secret<String>>, dir: &Path) -> Result<Option<Found>, Refused> {
    if let Some(secret) = configured {
        return Ok(Some(Found {
            secret: blake3::derive_key("agentledger fingerprint secret v1", secret.expose().as_bytes()),
            source: Source::Config,
        }));
    }
    let path = dir.join(FILE);
    let unreadable = |error| Refused::Unreadable {
        path: path.clone(),
        error,
    };
    let bytes = match files::read(&path, 32) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    match <[u8; 32]>::try_from(bytes) {
        Ok(secret) => Ok(Some(Found {
            secret,
            source: Source::File(path),
        })),
        Err(_) => Err(unreadable(io::Error::other("must be 32 bytes"))),
    }
}

/// Whether the secret at hand is the one that a ledger's keys are named by.
///
/// # Errors
/// What is wrong with it.
pub fn fits(configured: Option<&Secret<String>>, dir: &Path, check: Check) -> Result<(), Refused> {
    match find(configured, dir)? {
        Some(found) if found.check() == check => Ok(()),
        Some(found) => Err(Refused::Changed(found.source)),
        None => Err(Refused::Lost(dir.join(FILE))),
    }
}

/// Makes a secret and keeps it in the file beside the ledger.
fn make(dir: &Path) -> Result<Found, Refused> {
    let (secret, path): ([u8; 32], _) = (rand::random(), dir.join(FILE));
    match files::replace(&path, &secret) {
        Ok(()) => Ok(Found {
            secret,
            source: Source::File(path),
        }),
        Err(error) => Err(Refused::Unreadable { path, error }),
    }
}

/// What is known of the ledger.
#[derive(Clone, Copy)]
pub struct Known {
    /// Of the secret that its keys are named by; none before there was a check.
    pub check: Option<Check>,
    /// Nothing has been entered: no key has a name yet.
    pub is_empty: bool,
}

/// The secret to start with, and what the ledger is to keep of it where that is new.
pub fn settle(
    configured: Option<&Secret<String>>,
    dir: &Path,
    known: Known,
    renew: bool,
) -> Result<(Found, Option<Check>), Refused> {
    let found = match find(configured, dir) {
        // A file that is no secret is as good as none, where the operator wants a new one.
        Err(Refused::Unreadable { .. }) if renew => None,
        other => other?,
    };
    let found = match found {
        Some(found) => found,
        None if renew || (known.is_empty && known.check.is_none()) => make(dir)?,
        None => return Err(Refused::Lost(dir.join(FILE))),
    };
    let check = found.check();
    match known.check {
        Some(known) if known == check => {
            if renew {
                tracing::info!("the fingerprints fit the ledger: --new-fingerprints changes nothing");
            }
            return Ok((found, None));
        }
        Some(_) if renew => {
            tracing::warn!(source = %found.source, "every key has a new fingerprint from now on, and its budgets start anew");
        }
        Some(_) => return Err(Refused::Changed(found.source)),
        None if known.is_empty => {}
        None => tracing::info!("the ledger notes from now on which secret its fingerprints are made with"),
    }
    Ok((found, Some(check)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const NEW: Known = Known {
        check: None,
        is_empty: true,
    };

    fn with(check: Check) -> Known {
        Known {
            check: Some(check),
            is_empty: false,
        }
    }

    fn refusal(dir: &Path, known: Known) -> String {
        settle(None, dir, known, false).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_new_ledger_gets_a_secret_and_knows_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let (first, check) = settle(None, dir.path(), NEW, false).unwrap();
        let check = check.unwrap();
        assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap().len(), 32);
        assert!(fits(None, dir.path(), check).is_ok() && fits(None, dir.path(), [0; 16]).is_err());
        let (again, kept) = settle(None, dir.path(), with(check), false).unwrap();
        assert_eq!((again.secret, kept), (first.secret, None));
        assert!(
            !first.secret.windows(16).any(|part| part == check),
            "the check is no part of the secret"
        );
    }

    #[test]
    fn a_secret_that_was_lost_is_not_made_anew_without_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let check = settle(None, dir.path(), NEW, false).unwrap().1.unwrap();
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        let said = refusal(dir.path(), with(check));
        assert!(
            said.contains("fingerprint.key is missing") && said.contains("--new-fingerprints"),
            "{said}"
        );
        let before_checks = Known {
            check: None,
            is_empty: false,
        };
        assert!(refusal(dir.path(), before_checks).contains("is missing"));
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn one_bit_of_the_secret_flipped_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let check = settle(None, dir.path(), NEW, false).unwrap().1.unwrap();
        let mut bytes = std::fs::read(dir.path().join(FILE)).unwrap();
        bytes[17] ^= 4;
        std::fs::write(dir.path().join(FILE), &bytes).unwrap();
        let said = refusal(dir.path(), with(check));
        assert!(said.contains("fingerprint.key is not the secret"), "{said}");
        bytes.pop();
        std::fs::write(dir.path().join(FILE), &bytes).unwrap();
        assert!(refusal(dir.path(), with(check)).contains("must be 32 bytes"));
    }

    #[test]
    fn a_secret_of_the_environment_that_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let given = |text: &str| Secret::new(text.repeat(8));
        let check = settle(Some(&given("right")), dir.path(), NEW, false)
            .unwrap()
            .1
            .unwrap();
        assert!(settle(Some(&given("right")), dir.path(), with(check), false).is_ok());
        let said = settle(Some(&given("wrong")), dir.path(), with(check), false).map(|_| ());
        let said = said.unwrap_err().to_string();
        assert!(said.contains("AGENTLEDGER_FINGERPRINT_SECRET"), "{said}");
        // Nor may it just be left out.
        assert!(refusal(dir.path(), with(check)).contains("is missing"));
    }

    #[test]
    fn new_fingerprints_are_begun_where_the_operator_says_so_and_the_ledger_notes_them() {
        let dir = tempfile::tempdir().unwrap();
        let check = settle(None, dir.path(), NEW, false).unwrap().1.unwrap();
        assert_eq!(
            settle(None, dir.path(), with(check), true).unwrap().1,
            None,
            "nothing to renew"
        );
        for broken in [None, Some("too short")] {
            match broken {
                None => std::fs::remove_file(dir.path().join(FILE)).unwrap(),
                Some(text) => std::fs::write(dir.path().join(FILE), text).unwrap(),
            }
            let (found, noted) = settle(None, dir.path(), with(check), true).unwrap();
            assert!(noted == Some(found.check()) && noted != Some(check));
            assert_eq!(settle(None, dir.path(), with(found.check()), false).unwrap().1, None);
        }
    }

    #[test]
    fn a_ledger_from_before_notes_the_secret_at_its_first_start() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), [7; 32]).unwrap();
        let before_checks = Known {
            check: None,
            is_empty: false,
        };
        let (found, noted) = settle(None, dir.path(), before_checks, false).unwrap();
        assert_eq!((found.secret, noted), ([7; 32], Some(found.check())));
    }
}
