//! `backup.*`: when archives of the ledger are written.

use std::path::Path;
use std::time::Duration;

use super::Backup;
use super::cursor::Cursor;

const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Archives that are kept where nothing is said.
const KEPT: u64 = 7;
const KEPT_MAX: u64 = 1_000_000;

/// Off unless `every` is given.
pub fn resolve(at: &Cursor<'_>, ledger: &Path) -> Backup {
    let every = at.at("every").millis(Duration::ZERO, 0, LONGEST);
    let dir = at.at("dir").path();
    if let Some(dir) = dir.as_ref().filter(|dir| dir.starts_with(ledger)) {
        at.at("dir").warn(format_args!(
            "{} lies in the ledger's own folder, and is lost with it",
            dir.display()
        ));
    }
    if !every.is_zero() && dir.is_none() {
        at.at("dir")
            .refuse("name the folder that archives are written into, best on another disk");
    }
    Backup {
        every: (!every.is_zero()).then_some(every),
        dir: dir.unwrap_or_default(),
        keep: usize::try_from(at.at("keep").count(KEPT, 1, KEPT_MAX)).unwrap_or(usize::MAX),
    }
}
