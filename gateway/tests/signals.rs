//! Signals that come before the gateway serves.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::harness::process::{Installation, binary};

/// Whether a process catches a signal by now.
fn catches(process: u32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[test]
fn a_reload_that_is_asked_for_too_early_is_done_once_it_can_be() {
    let home = Installation::new("providers: {openai: {upstream: 'http://127.0.0.1:9'}}");
    let mut child = binary()
        .env("AGENTLEDGER_RUNTIME_DIR", home.path("."))
        .args(["serve", "-c"])
        .arg(home.path("agentledger.yaml"))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The first signal that it listens to: everything that takes long comes later.
    while !catches(child.id(), libc::SIGXFSZ) {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        thread::sleep(Duration::from_millis(1));
    }
    let id = i32::try_from(child.id()).unwrap();
    let sent = std::process::Command::new("kill")
        .args(["-s", "HUP", &id.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let mut seen = Vec::new();
    let is_reloaded = lines.any(|line| {
        seen.push(line.clone());
        line.contains("new rules are in force")
    });
    assert!(is_reloaded, "{seen:#?}");
    assert!(seen.iter().any(|line| line.contains("serving")), "{seen:#?}");
    let sent = std::process::Command::new("kill")
        .args(["-s", "TERM", &id.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    drop(lines);
    child.wait().unwrap();
}
