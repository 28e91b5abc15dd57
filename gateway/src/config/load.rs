//! Finding and reading the configuration.

use std::path::{Path, PathBuf};

use super::cursor::{self, Cursor, Problems};
use super::env::{self, Env};
use super::error::ConfigErrors;
use super::node::{self, Node};
use super::resolve::{self, Known};
use super::values::{self, Given};
use super::{Config, providers, schema};
use crate::files;

/// Names the file where no command's argument does.
const FILE_VARIABLE: &str = "AGENTLEDGER_CONFIG";

/// Reads the file at `path`, or the one that the environment names, or where neither does the first of the places where one
/// may lie; lays `env` over it and resolves it. Returns the file that was read, if any.
///
/// Relative paths within the file are relative to the working directory, as they always were; only the default of
/// `policies.dir` stands beside the file.
///
/// # Errors
/// All faults at once. A file that was found but is broken is an error however it was found.
pub fn load(path: Option<&Path>, env: &Env, known: &Known) -> Result<(Config, Option<PathBuf>), ConfigErrors> {
    let named = env.get(FILE_VARIABLE).filter(|named| !named.is_empty()).map(Path::new);
    match path.or(named) {
        Some(path) => {
            let text = read(path).map_err(|reason| ConfigErrors::unreadable(path, &reason))?;
            let config = load_text(Some(path), &text, env, known)?;
            Ok((config, Some(path.to_owned())))
        }
        None => load_first(&search_places(env), env, known),
    }
}

/// Reads configuration text as if it were the file at `path`.
pub fn load_text(path: Option<&Path>, text: &str, env: &Env, known: &Known) -> Result<Config, ConfigErrors> {
    let name = path.map(|path| path.display().to_string()).unwrap_or_default();
    let problems = Problems::of_file(&name);
    let mut root = match node::parse(text) {
        Ok(document) => {
            for fault in document.faults {
                problems.refuse(&fault.place, "", fault.message);
            }
            document.root
        }
        Err(malformed) => {
            problems.refuse(&malformed.place, "", malformed.message);
            Node::empty_map()
        }
    };
    providers::gather_extra(&mut root);
    env::overlay(&mut root, env, &problems);
    providers::gather_extra(&mut root);
    cursor::check_shape(&root, schema::ROOT, "", &problems);
    let mut config = resolve::resolve(&Cursor::root(&root, &problems), path, known);
    config.given = Given {
        file: path.map(Path::to_owned),
        values: values::collect(&root, problems.take_defaults(), &name),
    };
    config.warnings = problems.finish()?;
    Ok(config)
}

/// Where a configuration may lie, first found wins.
fn search_places(env: &Env) -> Vec<PathBuf> {
    let home = env.get("HOME").filter(|home| !home.is_empty());
    let home = home.map(|home| Path::new(home).join(".config/agentledger/agentledger.yaml"));
    let here = ["./agentledger.yaml", "./configs/agentledger.yaml"].map(PathBuf::from);
    here.into_iter()
        .chain(home)
        .chain([PathBuf::from("/etc/agentledger/agentledger.yaml")])
        .collect()
}

pub(super) fn load_first(
    places: &[PathBuf],
    env: &Env,
    known: &Known,
) -> Result<(Config, Option<PathBuf>), ConfigErrors> {
    // A place that may not even be looked at (another user's home) counts as empty; a file that is there must be readable.
    match places.iter().find(|place| std::fs::metadata(place).is_ok()) {
        Some(place) => load(Some(place), env, known),
        None => Ok((load_text(None, "", env, known)?, None)),
    }
}

fn read(path: &Path) -> Result<String, String> {
    files::read_text(path, files::TEXT_BYTES_MAX).map_err(|error| error.to_string())
}
