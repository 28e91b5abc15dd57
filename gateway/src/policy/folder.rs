//! Where policies come from: those that are built in, and the files of `policies.dir`, watched by their content.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use super::set::{Options, PolicyError, PolicySet, Source};
use crate::files;

/// The shipped policies, by file stem.
const BUILTIN: [(&str, &str); 9] = [
    ("alert", include_str!("../../../policies/alert.lua")),
    ("block", include_str!("../../../policies/block.lua")),
    ("budget", include_str!("../../../policies/budget.lua")),
    ("ghost", include_str!("../../../policies/ghost.lua")),
    ("loop", include_str!("../../../policies/loop.lua")),
    ("rate_limit", include_str!("../../../policies/rate_limit.lua")),
    ("tenant", include_str!("../../../policies/tenant.lua")),
    ("threshold", include_str!("../../../policies/threshold.lua")),
    ("tools", include_str!("../../../policies/tools.lua")),
];

/// Files that a folder may have: more is a wrong folder.
const FILES_MAX: usize = 256;
/// Longest file read, in bytes; the set refuses it by its own, smaller limit.
pub(super) const FILE_BYTES_MAX: u64 = 4 << 20;

pub fn builtin_sources() -> Vec<Source> {
    let source = |(name, text): &(&str, &str)| Source {
        name: (*name).to_owned(),
        text: (*text).to_owned(),
        origin: format!("built-in/{name}.lua"),
    };
    BUILTIN.iter().map(source).collect()
}

/// The built-in policies and the `*.lua` files of `dir`; a file of the same name replaces the built-in one. A folder
/// that is not there is empty.
///
/// # Errors
/// Files that cannot be read, each by name.
pub fn sources(dir: Option<&Path>) -> Result<Vec<Source>, Vec<PolicyError>> {
    let mut by_name: BTreeMap<String, Source> = builtin_sources()
        .into_iter()
        .map(|source| (source.name.clone(), source))
        .collect();
    let Some(dir) = dir else {
        return Ok(by_name.into_values().collect());
    };
    let wrong = |file: &Path, error: &dyn std::fmt::Display| PolicyError {
        file: file.display().to_string(),
        line: None,
        message: error.to_string(),
    };
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(by_name.into_values().collect()),
        Err(error) => return Err(vec![wrong(dir, &error)]),
    };
    let (mut paths, mut errors) = (Vec::new(), Vec::new());
    for item in listing {
        match item.map(|item| item.path()) {
            Ok(path) if path.extension().is_some_and(|extension| extension == "lua") => paths.push(path),
            Ok(_) => {}
            Err(error) => errors.push(wrong(dir, &error)),
        }
    }
    if paths.len() > FILES_MAX {
        return Err(vec![wrong(dir, &format!("more than {FILES_MAX} policy files"))]);
    }
    paths.sort();
    for path in paths {
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else {
            errors.push(wrong(&path, &"the file's name is not valid UTF-8"));
            continue;
        };
        // An editor's half-written copy: `.#budget.lua`.
        if name.starts_with('.') {
            continue;
        }
        match files::read_text(&path, FILE_BYTES_MAX) {
            Ok(text) => {
                let source = Source {
                    name: name.to_owned(),
                    text,
                    origin: path.display().to_string(),
                };
                by_name.insert(name.to_owned(), source);
            }
            Err(error) => errors.push(wrong(&path, &error)),
        }
    }
    if errors.is_empty() {
        Ok(by_name.into_values().collect())
    } else {
        Err(errors)
    }
}

/// Loads the built-in policies and those of the folder with their confs.
///
/// # Errors
/// Everything that is wrong; the caller keeps the set it has.
pub fn load_dir(
    dir: Option<&Path>,
    conf: &BTreeMap<String, Value>,
    options: Options,
) -> Result<PolicySet, Vec<PolicyError>> {
    PolicySet::load(sources(dir)?, conf, options)
}

/// Notices that the policy files changed, by their content: a touched file is no change, and no clock is trusted.
#[derive(Debug, Default)]
pub struct Watch {
    seen: Option<[u8; 32]>,
}

impl Watch {
    /// Whether the files differ from those of the last look; the first look says no. A folder that cannot be read differs
    /// from any that can, so that the reload which follows tells what is wrong.
    pub fn changed(&mut self, dir: Option<&Path>) -> bool {
        let mut hasher = blake3::Hasher::new();
        match sources(dir) {
            Ok(sources) => {
                for source in sources {
                    for part in [&source.name, &source.text] {
                        hasher.update(&part.len().to_le_bytes());
                        hasher.update(part.as_bytes());
                    }
                }
            }
            Err(errors) => {
                hasher.update(b"unreadable");
                for error in errors {
                    hasher.update(error.to_string().as_bytes());
                }
            }
        }
        let now = *hasher.finalize().as_bytes();
        let before = self.seen.replace(now);
        before.is_some_and(|before| before != now)
    }
}
