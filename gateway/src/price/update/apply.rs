//! The price file that an update writes: dated, in a folder whose files are all read, or where the operator says.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::judge::Proposal;
use super::write::{self, Draft};
use crate::files;
use crate::price::PriceBook;
use crate::price::diff::day;

/// What an update of this day is called.
pub fn file_name(now_ms: i64) -> String {
    format!("prices-{}.yaml", day(now_ms))
}

/// The dated price files of a folder, oldest first. One that is not there has none.
pub fn files_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let is_dated = |name: &str| {
        let date = name.strip_prefix("prices-").and_then(|rest| rest.strip_suffix(".yaml"));
        date.is_some_and(|date| crate::price::day_ms(date).is_some())
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_dated))
        .map(|entry| entry.path())
        .collect();
    found.sort_unstable();
    found
}

/// Writes what changes; rows that an earlier update wrote into the same file stay there. The file is in place whole or not
/// at all.
///
/// # Errors
/// The text that was made cannot be read again, or the file cannot be written: then nothing is changed.
pub fn write_file(book: &PriceBook, proposal: &Proposal, path: &Path, now_ms: i64) -> io::Result<()> {
    let text = text(book, proposal, &path.display().to_string(), now_ms);
    if let Err(errors) = PriceBook::empty().with_texts(&[("update", &text)]) {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(io::Error::new(io::ErrorKind::InvalidData, lines.join("; ")));
    }
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    files::replace(path, text.as_bytes())
}

fn text(book: &PriceBook, proposal: &Proposal, file: &str, now_ms: i64) -> String {
    let today = day(now_ms);
    let mut rows = BTreeMap::<(String, String), Draft>::new();
    for provider in book.providers() {
        for row in book.rows(provider).filter(|row| row.origin().0 == file) {
            rows.insert((provider.to_owned(), row.id().to_owned()), Draft::as_it_is(row));
        }
    }
    for draft in &proposal.drafts {
        rows.insert((draft.provider.clone(), draft.id.clone()), draft.clone());
    }
    let mut text = format!(
        "# Written by `agentledger prices update` on {today}: rows that replace those of the book. Your own price files win over these;\n\
         # to take a row back, delete it here.\n"
    );
    let mut by_provider = BTreeMap::<String, Vec<Draft>>::new();
    for ((provider, _), draft) in rows {
        by_provider.entry(provider).or_default().push(draft);
    }
    for (provider, rows) in by_provider {
        text.push_str("---\n");
        text.push_str(&write::document(&provider, &rows, &today));
    }
    text
}
