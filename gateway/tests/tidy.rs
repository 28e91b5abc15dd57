//! Style as a test: what a reader may rely on anywhere in the repository, checked over every file that git tracks.

use std::path::{Path, PathBuf};
use std::process::Command;

use agentledger::testing::config::{self, Env, Known};

use crate::harness::root;

/// Longest file of Rust, in lines.
const LINES_MAX: usize = 650;

/// A crate, and the only place that may name it.
const HOMES: [(&str, &str); 5] = [
    ("sled", "gateway/ledger/src/store/"),
    ("wasmtime", "gateway/src/plugin/"),
    ("mlua", "gateway/src/policy/"),
    ("jsonrpsee", "gateway/src/control/"),
    ("prometheus", "gateway/src/telemetry/"),
];

/// The files of the repository: tracked ones, and new ones that git does not ignore.
fn files() -> Vec<String> {
    let answer = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .expect("git lists the files of the checkout");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let text = String::from_utf8(answer.stdout).unwrap();
    let mut files: Vec<String> = text
        .split('\0')
        .filter(|file| !file.is_empty())
        .map(str::to_owned)
        .collect();
    // Removed but not committed yet.
    files.retain(|file| root().join(file).is_file());
    assert!(files.len() > 100, "only {} files: is this the repository?", files.len());
    files
}

fn with_ending(ending: &str) -> Vec<(String, String)> {
    let matching = files().into_iter().filter(|file| file.ends_with(ending));
    matching
        .map(|file| (read(&file), file))
        .map(|(text, file)| (file, text))
        .collect()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = with_ending(".rs").into_iter().filter_map(|(file, text)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{file}: {lines} lines, {LINES_MAX} are allowed"))
    });
    none(&long.collect::<Vec<_>>());
}

#[test]
fn each_engine_is_named_in_its_home_only() {
    let mut faults = Vec::new();
    for (file, text) in with_ending(".rs") {
        for (engine, home) in HOMES {
            // This file names them all, in texts.
            let at_home = file.starts_with(home) || !file.starts_with("gateway/") || file == "gateway/tests/tidy.rs";
            if !at_home && names(&text, engine) {
                faults.push(format!("{file} names {engine}, which only {home} may"));
            }
        }
    }
    none(&faults);
}

/// Whether code of the text names the crate: `sled::…`, `use sled`. Comments and texts may.
fn names(text: &str, engine: &str) -> bool {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut code = code.map(|line| line.split("//").next().unwrap_or_default());
    code.any(|line| {
        line.match_indices(engine).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let word_before = before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '"' | '.' | '/'));
            let after = &line[at + engine.len()..];
            let used = line.trim_start().starts_with("use ") && line[..at].trim_end().ends_with("use");
            !word_before && (after.starts_with("::") || (used && after.starts_with([';', ' ', '{'])))
        })
    })
}

#[test]
fn names_are_found_in_code_and_not_in_comments() {
    assert!(names("use sled;\n", "sled"));
    assert!(names("    let db = sled::open(path)?;", "sled"));
    assert!(names("use wasmtime::Engine;", "wasmtime"));
    assert!(!names("// as sled::open does\n/// `sled::Db`", "sled"));
    assert!(!names("let driver = \"sled\";", "sled"));
    assert!(!names("mod tussled { use super::untussled::x; }", "sled"));
}

/// Fenced blocks tagged `sh`, in order.
fn shell_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if let Some(tag) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if tag == "sh" {
                blocks.push(body.join("\n"));
            }
        }
    }
    blocks
}

#[test]
fn the_readme_starts_with_the_two_commands() {
    let blocks = shell_blocks(&read("README.md"));
    assert_eq!(blocks[..2], ["./task start".to_owned(), "./task test".to_owned()]);
    for file in ["task", ".ci/run", "examples/quickstart/run", "examples/plugin/run"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(root().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{file} is not executable");
    }
}

#[test]
fn the_readme_points_at_files_that_are_there() {
    let text = read("README.md");
    let mut faults = Vec::new();
    for (_, link) in text
        .match_indices("](")
        .map(|(at, _)| text[at + 2..].split_once(')').unwrap())
        .map(|(l, _)| ((), l))
    {
        let file = link.split('#').next().unwrap_or_default();
        if !file.is_empty() && !file.contains("://") && !root().join(file).exists() {
            faults.push(format!("README.md links to {file}, which is not there"));
        }
    }
    none(&faults);
}

/// Policies and price lists of `configs/` are read by tests of their own.
fn is_configuration(file: &str) -> bool {
    let yaml = file.ends_with(".yaml") || file.ends_with(".yml");
    yaml && (file.starts_with("examples/") || (file.starts_with("configs/") && !file.starts_with("configs/prices/")))
}

#[test]
fn every_configuration_loads() {
    let configurations: Vec<PathBuf> = files()
        .into_iter()
        .filter(|file| is_configuration(file))
        .map(|file| root().join(file))
        .collect();
    assert!(configurations.len() >= 2, "{configurations:?}");
    for path in configurations {
        config::load(Some(&path), &Env::default(), &Known::built_in()).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn the_readmes_configuration_and_policy_load() {
    let readme = read("README.md");
    let blocks = |tag: &str| -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = readme.lines();
        while let Some(line) = lines.next() {
            if line == format!("```{tag}") {
                found.push(
                    lines
                        .by_ref()
                        .take_while(|line| *line != "```")
                        .collect::<Vec<_>>()
                        .join("\n"),
                );
            } else if line.starts_with("```") {
                lines.by_ref().take_while(|line| *line != "```").for_each(drop);
            }
        }
        found
    };
    for yaml in blocks("yaml") {
        config::load_text(None, &yaml, &Env::default(), &Known::built_in()).unwrap_or_else(|errors| panic!("{errors}"));
    }
    let policies = blocks("lua");
    assert!(!policies.is_empty());
    for lua in policies {
        load_policy(&lua);
    }
}

/// As a gateway would that finds it in its folder.
fn load_policy(lua: &str) {
    use agentledger::testing::policy;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("readme.lua"), lua).unwrap();
    let loaded = policy::load_dir(
        Some(Path::new(dir.path())),
        &Default::default(),
        policy::Options::default(),
    );
    if let Err(errors) = loaded {
        panic!(
            "{}",
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        );
    }
}
