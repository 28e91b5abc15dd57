//! On disk means on disk: what was acknowledged survives a power cut, on a drive with a volatile cache, and each
//! acknowledgement comes after a sync of the journal's file.
//!
//! Both tests start this program again as the process that writes. `AGENTLEDGER_POWER_CUTS` sets the number of power cuts.
//! They need what not every machine has (root, `/dev/fuse`, loop devices, `mkfs.ext4`; `strace`); where it is missing they
//! say so on standard error, as skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(target_os = "linux")]

mod child;
#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod disk;
mod traced;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Not a test of its own: what the process does that the others start.
#[test]
fn child_process() {
    if let Some(dir) = std::env::var_os(child::DIR) {
        child::main(Path::new(&dir));
    }
}

/// The arguments with which this program is that process alone.
const AS_CHILD: [&str; 4] = ["--exact", "child_process", "--nocapture", "--test-threads=1"];

fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().display().to_string();
    let failed = |why: &str| format!("`{program}` failed: {why}");
    match command.stdout(Stdio::piped()).stderr(Stdio::piped()).output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(failed(&error.to_string())),
    }
}

/// Past the test harness, which shows nothing of a test that passes.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
