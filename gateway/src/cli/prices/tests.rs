#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use super::*;
use crate::config::{self, Env, Known};

const DAY: i64 = 1_795_305_600_000; // 2026-11-22

fn configured(yaml: &str) -> Config {
    let none: [(&str, &str); 0] = [];
    config::load_text(None, yaml, &Env::of(none), &Known::undecided()).unwrap()
}

fn at_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.yaml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn list_and_show_tell_prices_with_source_and_day() {
    let (_dir, path) = at_file(
        "provider: openai\nmodels:\n- {id: gpt-4o, source: our contract, checked: 2026-11-20, max_output: 9, prices: {always: {standard: {input: 2, output: 8}, batch: {input: 1}}}}\n",
    );
    let config = configured(&format!("prices: {{files: [\"{}\"]}}", path.display()));
    let book = book(&config).unwrap();
    let listed = list(&rows(&book, "openai", DAY));
    let line = listed.lines().find(|line| line.contains(" gpt-4o ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["openai", "gpt-4o", "2", "8", "batch", "2026-11-20"]);
    assert!(!listed.contains("claude") && list(&rows(&book, "", DAY)).contains("claude-opus-5"));

    let shown = show(&found(&config, &book, "GPT-4o-2024-11-20", "openai", DAY).unwrap());
    let expected = format!(
        "openai gpt-4o\n  max output       9\n  since            always\n  standard         input 2, output 8\n  \
         fees             file_search 0.0025, container 0.03\n  batch            input 1\n  source           our contract\n  checked          2026-11-20\n  written in       {}:3\n",
        path.display()
    );
    assert_eq!(shown, expected);
    // Without a provider every book is asked.
    let everywhere = show(&found(&config, &book, "gpt-4o", "", DAY).unwrap());
    assert!(
        everywhere.contains("azure gpt-4o\n") && everywhere.contains("openai gpt-4o\n"),
        "{everywhere}"
    );
    let old = show(&found(&config, &book, "o3", "openai", day_ms("2025-06-09").unwrap()).unwrap());
    assert!(
        old.contains("since            2025-04-16 (other prices from: 2025-06-10)\n"),
        "{old}"
    );
    let unknown = found(&config, &book, "gpt-99", "openai", DAY).unwrap_err().to_string();
    assert!(
        unknown.starts_with("no book has a price of gpt-99: openai: the dearest row, "),
        "{unknown}"
    );
}

#[test]
fn check_fails_with_file_and_row() {
    let (_dir, path) = at_file(
        "provider: openai\nmodels:\n- {id: mine, checked: 2026-11-01, prices: {always: {standard: {input: 1, cache_read: 2}}}}\n",
    );
    let config = configured(&format!("prices: {{files: [\"{}\"]}}", path.display()));
    let (text, ok) = checked(&book(&config).unwrap(), DAY, None);
    assert!(
        !ok && text.starts_with(&format!("{}:3: openai mine: ", path.display())),
        "{text}"
    );
    assert!(text.ends_with("providers: 1 fault\n"), "{text}");
    let (text, ok) = checked(&PriceBook::builtin().unwrap(), DAY, Some(30));
    assert!(ok && text.ends_with(" rows of 17 providers: OK\n"), "{text}");
}

#[test]
fn a_broken_file_is_refused_with_its_line() {
    let (_dir, path) = at_file("provider: openai\nmodels:\n- {id: mine, prices: {always: {standard: {input: -1}}}}\n");
    let config = configured(&format!("prices: {{files: [\"{}\"]}}", path.display()));
    let error = book(&config).unwrap_err().to_string();
    assert_eq!(error, format!("{}:3: price `-1` is negative", path.display()));
    let missing = configured("prices: {files: [/nowhere/p.yaml]}");
    assert!(
        book(&missing)
            .unwrap_err()
            .to_string()
            .starts_with("/nowhere/p.yaml: cannot be read")
    );
}

#[test]
fn diff_shows_what_a_file_would_change() {
    let (_dir, path) = at_file(
        "provider: openai\nmodels:\n- {id: gpt-3.5-turbo-instruct, max_output: 4096, prices: {always: {standard: {input: 1.5, output: 3}}}}\n",
    );
    let before = PriceBook::builtin().unwrap();
    let after = before.with_files(&[Path::new(&path).to_owned()]).unwrap();
    let told = diff(&differences(&before, &after));
    assert!(
        told.contains("openai gpt-3.5-turbo-instruct: 1970-01-01 standard output: 2 -> 3\n"),
        "{told}"
    );
    assert_eq!(diff(&differences(&before, &before)), "No difference.\n");
}

/// Case by case as `--apply` does it, from a file of our own form.
#[test]
fn an_update_is_shown_then_written_and_the_second_time_nothing_is() {
    let (dir, source) =
        at_file("provider: openai\nmodels:\n- {id: gpt-4o-mini, prices: {always: {standard: {input: 0.2}}}}\n");
    let folder = dir.path().join("updates");
    let config = configured(&format!("prices: {{update: {{dir: \"{}\"}}}}", folder.display()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sources = [source.display().to_string()];
    let offers = runtime.block_on(crate::price::update::load_all(&sources)).unwrap();
    let told = |to: Option<PathBuf>| {
        update::update_book(&book(&config).unwrap(), &offers, to, &config, FormArgs::default()).unwrap()
    };
    let change = "openai gpt-4o-mini: standard input: 0.15 -> 0.2\n\
         1 prices change, 0 are held back, 0 differ as the book knows; 1 models compared.\n";
    assert_eq!(told(None), change);
    assert!(!folder.exists(), "shown, and nothing written");
    let file = folder.join(crate::price::update::file_name(now_ms()));
    assert_eq!(
        told(Some(file.clone())),
        format!("{change}Written to {}.\n", file.display())
    );
    let again = told(Some(file.clone()));
    assert!(
        again.starts_with("0 prices change, 0 are held back") && again.ends_with("Nothing to write.\n"),
        "{again}"
    );
    let (text, ok) = checked(&book(&config).unwrap(), now_ms(), None);
    assert!(ok, "{text}");
    let rows = found(
        &config,
        &book(&config).unwrap(),
        "gpt-4o-mini-2024-07-18",
        "openai",
        now_ms(),
    );
    let shown = show(&rows.unwrap());
    assert!(shown.contains("standard         input 0.2, "), "{shown}");
    let elsewhere = dir.path().join("other.yaml");
    let before = PriceBook::builtin().unwrap();
    let hint = update::update_book(&before, &offers, Some(elsewhere), &config, FormArgs::default()).unwrap();
    assert!(hint.ends_with("It is read once `prices.files` names it.\n"), "{hint}");
    let missing = runtime
        .block_on(crate::price::update::load("/nowhere.json"))
        .unwrap_err()
        .to_string();
    assert!(missing.starts_with("/nowhere.json: cannot be read: "), "{missing}");
}
