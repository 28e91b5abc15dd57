//! The system calls of a ledger: what was synced before each acknowledgement.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::{AS_CHILD, child, run, say};

/// Acknowledgements to wait for, at least.
const LINES: usize = 240;
/// And so many once there are two months, however quickly the disk answers.
const LINES_AFTER: usize = 40;

/// One finished call, in the order in which the calls ended.
#[derive(Debug)]
enum Call {
    Acknowledged,
    Written(String),
    Synced(String),
    /// A file or folder that was not there before.
    Made(String),
}

#[test]
fn each_acknowledgement_comes_after_a_sync_of_the_journal() {
    if let Err(why) = run(Command::new("strace").args(["-f", "-o", "/dev/null", "true"])) {
        return say(&format!("SKIPPED the trace of the ledger's system calls: {why}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().canonicalize().unwrap();
    let dir = base.join("ledger");
    let trace = folder.path().join("trace");
    let mut traced = Command::new("strace")
        .args(["-f", "-y", "-s", "16", "-e", "signal=none", "-o"])
        .arg(&trace)
        .args([
            "-e",
            "trace=write,writev,pwrite64,pwritev,fsync,fdatasync,openat,mkdir,mkdirat,rename,renameat,renameat2",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(AS_CHILD)
        .env(child::DIR, &dir)
        .env(child::ROUND, "0")
        .env(child::WORKERS, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(traced.stdout.take().unwrap());
    let mut acknowledged = 0;
    let mut line = String::new();
    let mut after = 0;
    while acknowledged < LINES || after < LINES_AFTER {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "the ledger ended early");
        if is_acknowledgement(&line) {
            acknowledged += 1;
            after += usize::from(std::fs::read_dir(dir.join("journal")).unwrap().count() > 1);
        }
    }
    // The traced process ends with its next line, for nobody reads it.
    drop(out);
    traced.wait().unwrap();
    let calls = parse(&std::fs::read_to_string(&trace).unwrap(), base.to_str().unwrap());
    let (checked, months) = check(&calls, dir.to_str().unwrap());
    assert!(
        checked >= LINES && months >= 2,
        "{checked} acknowledgements, {months} months"
    );
    say(&format!(
        "{checked} acknowledgements over {months} months, each after a sync of what it is in"
    ));
}

fn is_acknowledgement(line: &str) -> bool {
    ["held ", "settled ", "marked "]
        .iter()
        .any(|what| line.starts_with(what))
}

/// Between two acknowledgements the journal's log is synced after it was written, and every file or folder that is new
/// has its own folder synced. What the database behind the log takes meanwhile is no part of the promise, but for its name. How
/// many acknowledgements and months there were.
fn check(calls: &[Call], dir: &str) -> (usize, usize) {
    let journal = format!("{dir}/journal/");
    let is_above = |path: &str| journal.starts_with(&format!("{path}/"));
    let is_log = |path: &str| path.starts_with(&journal) && path.contains("/ahead.");
    let (mut acknowledged, mut months) = (0, BTreeSet::new());
    // Logs of months with bytes that no sync has followed, and what came since the last acknowledgement.
    let mut unsynced: BTreeSet<&str> = BTreeSet::new();
    let mut unnamed: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut synced_journal, mut known) = (false, BTreeSet::new());
    for call in calls {
        match call {
            // Opened again, no file is new.
            Call::Made(path) if !known.insert(path) => {}
            Call::Made(path) => {
                let parent = path.rsplit_once('/').unwrap().0;
                unnamed.insert(path, parent);
                if path.starts_with(&journal) && path.ends_with("/db") {
                    months.insert(parent);
                }
            }
            Call::Written(path) if is_log(path) => {
                unsynced.insert(path);
            }
            Call::Written(_) => {}
            Call::Synced(path) => {
                synced_journal |= is_log(path);
                unsynced.remove(path.as_str());
                unnamed.retain(|_, parent| parent != path);
            }
            Call::Acknowledged => {
                acknowledged += 1;
                assert!(synced_journal, "acknowledgement {acknowledged} came after no sync");
                assert!(
                    unsynced.is_empty(),
                    "acknowledgement {acknowledged}: written and not synced: {unsynced:?}"
                );
                // Sled's own copy of what its log says already is no part of the promise, nor is derived state.
                let is_copy = |path: &str| path.contains("/snap") || path.ends_with("/blobs");
                let needed = |path: &str| is_above(path) || (path.starts_with(&journal) && !is_copy(path));
                let lost: Vec<_> = unnamed.keys().filter(|path| needed(path)).collect();
                assert!(
                    lost.is_empty(),
                    "acknowledgement {acknowledged}: no sync of the folder of {lost:?}"
                );
                synced_journal = false;
            }
        }
    }
    (acknowledged, months.len())
}

/// Reads strace's lines, those on files under `dir` and those on standard output. A call that another thread's interrupted is taken
/// where it ends.
fn parse(trace: &str, dir: &str) -> Vec<Call> {
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, start.to_owned());
            // What is said is said when the call begins.
            calls.extend(call(&format!("{start}) = 1"), dir).filter(|call| matches!(call, Call::Acknowledged)));
            continue;
        }
        if let Some(end) = rest.strip_prefix("<... ") {
            let Some((_, end)) = end.split_once(" resumed>") else {
                continue;
            };
            let whole = begun.remove(pid).unwrap_or_default() + end;
            calls.extend(call(&whole, dir).filter(|call| !matches!(call, Call::Acknowledged)));
            continue;
        }
        calls.extend(call(rest, dir));
    }
    calls
}

/// One whole call that has succeeded, such as `fdatasync(7</tmp/x/db>) = 0`.
fn call(line: &str, dir: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    if result.starts_with('-') {
        return None;
    }
    let on_descriptor = || {
        arguments
            .split_once('<')?
            .1
            .split_once('>')
            .map(|(path, _)| path.to_owned())
    };
    let named = || {
        let mut quoted = arguments.split('"').skip(1).step_by(2);
        if name.starts_with("rename") {
            quoted.nth(1)
        } else {
            quoted.next()
        }
        .map(str::to_owned)
    };
    let found = match name {
        "write" if arguments.starts_with("1<") => {
            let text = arguments.split('"').nth(1)?;
            return is_acknowledgement(text).then_some(Call::Acknowledged);
        }
        "write" | "writev" | "pwrite64" | "pwritev" => Call::Written(on_descriptor()?),
        "fsync" | "fdatasync" => Call::Synced(on_descriptor()?),
        "openat" if arguments.contains("O_CREAT") => Call::Made(named()?),
        "mkdir" | "mkdirat" | "rename" | "renameat" | "renameat2" => Call::Made(named()?),
        _ => return None,
    };
    let path = match &found {
        Call::Acknowledged => return Some(found),
        Call::Written(path) | Call::Synced(path) | Call::Made(path) => path,
    };
    path.starts_with(dir).then_some(found)
}
