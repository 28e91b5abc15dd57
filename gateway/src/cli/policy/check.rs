//! `agentledger policy check`: what is wrong with policy files, found without traffic.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::author::AuthoringError;
use crate::cli::client::ClientError;
use crate::cli::form::FormArgs;
use crate::cli::view::{Column, Is};
use crate::cli::{CliError, Done};
use crate::config::read_conf;
use crate::files;
use crate::policy::check::{Finding, check};
use crate::policy::{Source, folder};

/// A finding for programs.
const COLUMNS: [Column; 5] = [
    Column("FILE", "file", Is::Text),
    Column("LINE", "line", Is::Count),
    Column("COLUMN", "column", Is::Count),
    Column("CODE", "code", Is::Text),
    Column("MESSAGE", "message", Is::Text),
];

/// The findings of each file and of each `*.lua` in each folder; not well where there are any.
pub fn run(paths: Vec<PathBuf>, conf: Option<&Path>, format: FormArgs) -> Result<Done, CliError> {
    let paths = if paths.is_empty() {
        vec![PathBuf::from("policies")]
    } else {
        paths
    };
    let mut sources = Vec::new();
    for path in &paths {
        sources.extend(sources_at(path)?);
    }
    let conf = match (conf, sources.as_slice()) {
        (None, _) => None,
        (Some(file), [_]) => Some(conf_of(file)?),
        (Some(_), _) => return Err(ClientError::Usage("--conf is one policy's: name one file".to_owned()).into()),
    };
    let findings: Vec<Finding> = sources.iter().flat_map(|source| check(source, conf.as_ref())).collect();
    let well = findings.is_empty();
    let result = json!({ "files": sources.len(), "findings": findings });
    let text = format.list(&result, "findings", &COLUMNS, || report(sources.len(), &findings));
    Ok(Done { text, well })
}

fn report(files: usize, findings: &[Finding]) -> String {
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    let files = if files == 1 {
        "1 file".to_owned()
    } else {
        format!("{files} files")
    };
    let _ = match findings.len() {
        0 => writeln!(text, "{files}, nothing found"),
        1 => writeln!(text, "{files}, 1 finding"),
        many => writeln!(text, "{files}, {many} findings"),
    };
    text
}

/// A policy file.
pub(super) fn source_at(path: &Path) -> Result<Source, AuthoringError> {
    let wrong = |why: &dyn std::fmt::Display| AuthoringError(format!("{}: {why}", path.display()));
    let name = path.file_stem().and_then(|stem| stem.to_str());
    let name = name.ok_or_else(|| wrong(&"the file's name is not valid UTF-8"))?;
    Ok(Source {
        name: name.to_owned(),
        text: files::read_text(path, files::TEXT_BYTES_MAX).map_err(|error| wrong(&error))?,
        origin: path.display().to_string(),
    })
}

fn sources_at(path: &Path) -> Result<Vec<Source>, AuthoringError> {
    if !path.is_dir() {
        return Ok(vec![source_at(path)?]);
    }
    let mut sources = folder::sources(Some(path)).map_err(|errors| AuthoringError::of(&errors))?;
    sources.retain(|source| Path::new(&source.origin).starts_with(path));
    if sources.is_empty() {
        return Err(AuthoringError(format!("{}: no *.lua file is in it", path.display())));
    }
    Ok(sources)
}

/// A policy's conf, YAML or JSON.
pub(super) fn conf_of(file: &Path) -> Result<serde_json::Value, AuthoringError> {
    let wrong = |why: &dyn std::fmt::Display| AuthoringError(format!("{}: {why}", file.display()));
    let text = files::read_text(file, files::TEXT_BYTES_MAX).map_err(|error| wrong(&error))?;
    read_conf(&text).map_err(|error| wrong(&error))
}
