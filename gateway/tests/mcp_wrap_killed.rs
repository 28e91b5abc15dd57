//! `kill -9` of the gateway and of wrappers: no tool call is lost, and none is entered twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::harness::Installation;
use crate::harness::mcp::{COST, call};
use crate::harness::process::Process;
use crate::mcp_wrap::{SERVER, how, installed, spool, wait_for, wait_for_seen, wrap};

#[test]
fn a_gateway_that_is_killed_within_a_call_loses_none_and_enters_none_twice() {
    let home = installed("");
    let gateway = home.serve();
    let mut wrapper = wrap(&home, &[], SERVER);
    wrapper.says(&call(1, "slow", json!({})));
    wait_for_seen(&home, "slow");
    gateway.kill();
    let gateway = home.serve();
    std::fs::write(home.path("go"), "").unwrap();
    assert_eq!(wrapper.answer()["id"], 1);
    assert!(!wrapper.is_refused(2), "the gateway that runs now holds it");
    wrapper.ends();
    let entries = home.export();
    let said: Vec<_> = entries.iter().map(how).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().all(|(cost, ..)| *cost == COST), "{said:?}");
    assert_eq!(said.iter().filter(|(_, outcome, _)| *outcome == "recovered").count(), 1);
    assert_eq!(home.rpc("hold.list", &json!({}))["holds"], json!([]));
    gateway.stop();
}

#[test]
fn a_wrapper_that_is_killed_within_a_call_has_it_entered_at_what_it_held() {
    let home = installed("");
    home.configure(&format!(
        "mcp: {{answer_wait: 1s, pricing: [{{server: files, cost_per_call: {COST}}}]}}"
    ));
    let gateway = home.serve();
    let mut wrapper = wrap(&home, &[], SERVER);
    wrapper.says(&call(1, "slow", json!({})));
    wait_for_seen(&home, "slow");
    wrapper.kill();
    std::fs::write(home.path("go"), "").unwrap();
    wait_for("entered", || home.export().len() == 1);
    assert_eq!(how(&home.export()[0]), (COST, "recovered", Some("not_answered")));
    assert_eq!(home.rpc("hold.list", &json!({}))["holds"], json!([]));
    gateway.stop();
}

#[test]
fn a_wrapper_that_is_killed_without_a_gateway_leaves_its_call_in_the_spool() {
    let home = installed("");
    let mut wrapper = wrap(&home, &[], SERVER);
    wrapper.says(&call(1, "slow", json!({})));
    wait_for_seen(&home, "slow");
    let gateway = home.serve();
    assert!(home.export().is_empty(), "its writer has it");
    wrapper.kill();
    std::fs::write(home.path("go"), "").unwrap();
    wait_for("taken in", || spool(&home).is_empty());
    assert_eq!(how(&home.export()[0]), (COST, "recovered", Some("not_answered")));
    gateway.stop();
}

/// Answers each call by its id, as fast as a shell can.
const ANSWERS: &str = r#"while IFS= read -r line; do id=${line#*\"id\":}
printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\n' "${id%%,*}"; done"#;
/// Wrappers beside each other, and calls that each has open at one time.
const WRAPPERS: u32 = 4;
const WINDOW: u32 = 8;
/// How often the gateway is killed at least.
const KILLS: u32 = 8;

/// What the wrappers are to do.
#[derive(Default)]
struct Load {
    pauses: AtomicBool,
    stops: AtomicBool,
}

/// Calls until it is to stop; how many passed.
fn calls(home: &Installation, load: &Load) -> usize {
    let mut wrapper = wrap(home, &["--offline", "spool"], ANSWERS);
    let (mut id, mut passed) = (0, 0);
    while !load.stops.load(Ordering::Relaxed) {
        while load.pauses.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        for _ in 0..WINDOW {
            id += 1;
            wrapper.says(&call(id, "read", json!({"n": id})));
        }
        passed += (0..WINDOW)
            .map(|_| wrapper.answer())
            .filter(|answer| answer["result"]["isError"] != true)
            .count();
    }
    wrapper.ends();
    passed
}

#[test]
fn kills_at_any_moment_under_load_enter_each_call_once() {
    let home = installed("");
    let load = Load::default();
    let passed: usize = thread::scope(|scope| {
        let running = home.serve();
        let wrappers: Vec<_> = (0..WRAPPERS).map(|_| scope.spawn(|| calls(&home, &load))).collect();
        let mut gateway: Process = running;
        for _ in 0..KILLS {
            thread::sleep(Duration::from_millis(rand::random_range(20..400)));
            gateway.kill();
            // Some calls find nobody; starting takes long enough for thousands.
            thread::sleep(Duration::from_millis(20));
            load.pauses.store(true, Ordering::Relaxed);
            gateway = home.serve();
            load.pauses.store(false, Ordering::Relaxed);
        }
        gateway.kill();
        load.stops.store(true, Ordering::Relaxed);
        wrappers.into_iter().map(|wrapper| wrapper.join().unwrap()).sum()
    });
    let gateway = home.serve();
    wait_for("taken in", || spool(&home).is_empty());
    let entries = home.export();
    let ids: BTreeSet<&str> = entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!(
        (ids.len(), entries.len()),
        (passed, passed),
        "ids, entries; calls that passed"
    );
    assert!(entries.iter().all(|entry| entry["cost_usd"] == COST));
    assert_eq!(home.rpc("hold.list", &json!({}))["holds"], json!([]));
    gateway.stop();
}
