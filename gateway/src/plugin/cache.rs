//! Machine code of plugins, kept between starts: compiling one takes half a second, reading it back a few milliseconds.
//!
//! The folder is `agentledger/plugins` in the user's cache folder (`$XDG_CACHE_HOME`, else `~/.cache`). What lies there is
//! run as it is, so it is used only where nobody else can write; without such a folder plugins are compiled at each start.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use wasmtime::{Cache, CacheConfig};

/// Bytes above which the least used files go.
const BYTES_MAX: u64 = 256 << 20;
/// Who may write besides the owner.
const OTHERS_WRITE: u32 = 0o022;

/// The cache, or why there is none.
pub(super) fn open() -> Result<Cache, String> {
    let folder = folder(
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from),
        std::env::var_os("HOME").map(PathBuf::from),
    )
    .ok_or("neither XDG_CACHE_HOME nor HOME names a folder")?;
    private(&folder)?;
    let mut config = CacheConfig::new();
    config
        .with_directory(folder)
        .with_files_total_size_soft_limit(BYTES_MAX)
        // Packing files anew in the background would take CPU from requests, to save kilobytes.
        .with_baseline_compression_level(1)
        .with_optimized_compression_usage_counter_threshold(u64::MAX);
    Cache::new(config).map_err(|error| format!("{error:#}"))
}

/// Relative paths are no answer: the XDG specification says to ignore them.
/// <https://specifications.freedesktop.org/basedir-spec/latest/>
fn folder(cache_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let base = cache_home
        .filter(absolute)
        .or_else(|| home.filter(absolute).map(|home| home.join(".cache")))?;
    Some(base.join("agentledger").join("plugins"))
}

/// Makes the folder for its owner alone, or refuses one in which others could have put machine code.
fn private(folder: &Path) -> Result<(), String> {
    let unusable = |error: std::io::Error| format!("{}: {error}", folder.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(unusable)?;
    let made = fs::metadata(folder).map_err(unusable)?;
    // A process owns its folder in /proc; where there is none, the mode alone has to do.
    let ours = fs::metadata("/proc/self").map_or(made.uid(), |own| own.uid());
    if made.uid() != ours || made.mode() & OTHERS_WRITE != 0 {
        return Err(format!("{}: others than its owner may write there", folder.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_is_the_users_cache_folder() {
        let path = |path: &str| Some(PathBuf::from(path));
        let plugins = |base: &str| Some(PathBuf::from(base).join("agentledger/plugins"));
        assert_eq!(folder(path("/c"), path("/h")), plugins("/c"));
        assert_eq!(folder(None, path("/h")), plugins("/h/.cache"));
        assert_eq!(
            folder(path("c"), path("/h")),
            plugins("/h/.cache"),
            "a relative path is ignored"
        );
        assert_eq!(folder(path(""), None), None);
    }

    #[test]
    fn a_folder_where_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        private(&folder).expect("it is made");
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        private(&folder).expect("it may be there already");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
        let refused = private(&folder).unwrap_err();
        assert!(refused.ends_with("others than its owner may write there"), "{refused}");
    }
}
