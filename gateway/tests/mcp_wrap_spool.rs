//! Calls that pass through a wrapper while no gateway runs: what stands in its spool, and how the gateway takes it in.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::Installation;
use crate::harness::mcp::COST;
use crate::harness::process::binary;
use crate::mcp_wrap::{KEY, SERVER, how, installed, spool, wait_for, wrap};

#[test]
fn what_passed_without_a_gateway_is_entered_once_when_it_runs() {
    let home = installed("");
    let mut wrapper = wrap(&home, &[], SERVER);
    assert!(!wrapper.is_refused(1) && !wrapper.is_refused(2));
    let (rest, code, log) = wrapper.ends();
    assert_eq!((rest.as_str(), code), ("", 0));
    assert!(log.contains("no gateway runs"), "{log}");
    let files = spool(&home);
    assert_eq!(files.len(), 1);
    let text = std::fs::read_to_string(&files[0]).unwrap();
    assert!(!text.contains(KEY) && !text.contains("path"), "{text}");
    for round in 0..2 {
        let gateway = home.serve();
        wait_for("taken in", || spool(&home).is_empty());
        let entries = home.export();
        let said: Vec<_> = entries.iter().map(how).collect();
        assert_eq!(said, [(COST, "completed", None); 2], "round {round}");
        assert_eq!(entries[0]["agent"], "a1");
        assert_eq!(entries[0]["overage_usd"], COST, "nothing was held for it");
        gateway.kill();
        // As if it had been killed before it removed the file.
        std::fs::write(&files[0], &text).unwrap();
    }
}

#[test]
fn a_wrapper_hands_its_spool_over_once_the_gateway_runs() {
    let home = installed("");
    let mut wrapper = wrap(&home, &[], SERVER);
    assert!(!wrapper.is_refused(1));
    let gateway = home.serve();
    wait_for("taken in", || spool(&home).is_empty());
    assert!(!wrapper.is_refused(2));
    wrapper.ends();
    let entries = home.export();
    let overages: Vec<_> = entries
        .iter()
        .map(|entry| entry["overage_usd"].as_str().unwrap())
        .collect();
    assert_eq!(overages, [COST, "0"], "the second was held");
    gateway.stop();
}

/// Two lines of a spool: a call of `files:read`, of so long ago, and its end.
fn made(ago: Duration, ending: &str, caller: Value) -> String {
    let at = SystemTime::now() - ago;
    let id = ulid::Ulid::from_datetime(at).to_string();
    let call = json!({"id": id, "server": "files", "tool": "read", "argument_bytes": 2, "caller": caller});
    let begun = json!({"begun": {"call": call, "fingerprint": "0123456789abcdef01234567"}});
    let ended = json!({"ended": {"id": id, "ending": ending, "result_bytes": 2, "milliseconds": 5}});
    format!("{begun}\n{ended}\n")
}

/// Puts a file into the spool as a wrapper leaves it; where it lies.
fn put(home: &Installation, text: &str) -> PathBuf {
    let dir = home.path("ledger-spool");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .unwrap();
    let path = dir.join(format!("{}.jsonl", ulid::Ulid::new()));
    let unfinished = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::rename(&unfinished, &path).unwrap();
    path
}

const NOW: Duration = Duration::ZERO;

#[test]
fn a_spooled_call_whose_caller_cannot_be_read_is_entered_without_what_is_unreadable() {
    let home = installed("");
    let caller = json!({"agent": "a1", "session": "s".repeat(3_000), "tags": "nonsense", "user": "änne"});
    put(&home, &made(NOW, "result", caller));
    let nameless = put(&home, &made(NOW, "result", json!({})).replace("\"read\"", "\"\""));
    let gateway = home.serve();
    wait_for("taken in", || {
        spool(&home).iter().all(|path| path.extension().unwrap() != "jsonl")
    });
    let entries = home.export();
    assert_eq!(entries.iter().map(how).collect::<Vec<_>>(), [(COST, "completed", None)]);
    assert_eq!(
        (&entries[0]["agent"], &entries[0]["user"]),
        (&json!("a1"), &json!("änne"))
    );
    assert_ne!(entries[0]["session"].as_str().unwrap().len(), 3_000);
    assert!(nameless.with_extension("unread").exists(), "what names no tool is kept");
    gateway.stop();
}

#[test]
fn a_wrapper_whose_caller_cannot_be_read_says_which_variable_and_starts_nothing() {
    let home = installed("");
    for (variable, value) in [("TAGS", "nonsense".to_owned()), ("SESSION_ID", "s".repeat(3_000))] {
        let variable = format!("AGENTLEDGER_{variable}");
        let output = binary()
            .args(["mcp-wrap", "--server", "files", "--", "touch"])
            .arg(home.path("started"))
            .env(&variable, value)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
        assert!(said.contains(&variable), "{said}");
    }
    assert!(!home.path("started").exists());
}

#[test]
fn a_call_of_the_day_before_is_of_that_day_and_leaves_todays_budget_alone() {
    let home = installed("budgets: {global: {daily_limit_usd: 0.015, action: block}}");
    let gateway = home.serve();
    let is_admitted = || {
        let id = ulid::Ulid::new().to_string();
        let call = json!({"id": id, "server": "files", "tool": "read"});
        let admitted = home.rpc("mcp.begin", &call)["admitted"] == true;
        home.rpc("mcp.settle", &json!({"id": id, "ending": "unsent"}));
        admitted
    };
    let ago = Duration::from_secs(30 * 60 * 60);
    put(&home, &made(ago, "result", json!({"agent": "a1"})));
    wait_for("taken in", || spool(&home).is_empty());
    let day = |at: SystemTime| {
        let at_ms = at.duration_since(UNIX_EPOCH).unwrap().as_millis();
        agentledger_ledger::rfc3339_ms(i64::try_from(at_ms).unwrap())[..10].to_owned()
    };
    let costs = home.print(&["costs", "--by", "day", "--last", "1w", "--json"]);
    assert!(costs.contains(&day(SystemTime::now() - ago)), "{costs}");
    assert!(is_admitted(), "nothing was spent today");
    put(&home, &made(NOW, "result", json!({"agent": "a1"})));
    wait_for("taken in", || spool(&home).is_empty());
    assert!(!is_admitted());
    gateway.stop();
}

#[test]
fn each_ending_is_entered_as_what_it_is_whoever_tells_of_it() {
    let home = installed("");
    let endings = [
        ("server_gone", "upstream_failed", "upstream_failed"),
        ("client_gone", "client_gone", "client_gone"),
        ("not_answered", "recovered", "not_answered"),
    ];
    for (ending, ..) in endings {
        put(&home, &made(NOW, ending, json!({"agent": "spooled"})));
    }
    let gateway = home.serve();
    wait_for("taken in", || spool(&home).is_empty());
    for (ending, ..) in endings {
        let id = ulid::Ulid::new().to_string();
        let call = json!({"id": id, "server": "files", "tool": "read", "caller": {"agent": "held"}});
        assert_eq!(home.rpc("mcp.begin", &call)["admitted"], true);
        assert_eq!(
            home.rpc("mcp.settle", &json!({"id": id, "ending": ending}))["ended"],
            true
        );
    }
    let entries = home.export();
    for agent in ["spooled", "held"] {
        for (_, outcome, reason) in endings {
            let said = |entry: &&Value| entry["agent"] == agent && how(entry) == (COST, outcome, Some(reason));
            let found: Vec<_> = entries.iter().filter(said).collect();
            assert_eq!(found.len(), 1, "{agent} {outcome}: {entries:?}");
            assert_eq!(found[0]["status"], 0, "a pipe has no status");
        }
    }
    gateway.stop();
}

#[test]
fn a_call_costs_the_seconds_that_it_took_not_those_until_the_gateway_heard_of_it() {
    let home = Installation::new("mcp: {pricing: [{server: files, cost_per_second: 1}]}");
    let gateway = home.serve();
    for milliseconds in [10_u64, 3_600_000] {
        let id = ulid::Ulid::new().to_string();
        let call = json!({"id": id, "server": "files", "tool": "read"});
        assert_eq!(home.rpc("mcp.begin", &call)["admitted"], true);
        std::thread::sleep(Duration::from_millis(20));
        home.rpc(
            "mcp.settle",
            &json!({"id": id, "ending": "result", "milliseconds": milliseconds}),
        );
    }
    let entries = home.export();
    assert_eq!(
        (&entries[0]["cost_usd"], &entries[0]["estimated"]),
        (&json!("0.01"), &json!(false))
    );
    // Not what it was said to be: no more than passed here.
    let cost: f64 = entries[1]["cost_usd"].as_str().unwrap().parse().unwrap();
    assert!(cost < 3_000.0, "{cost}");
    gateway.stop();
}

#[test]
fn a_stop_waits_for_no_spool_and_the_next_start_takes_in_the_rest() {
    const CALLS: usize = 20_000;
    let home = installed("");
    let text: String = (0..CALLS)
        .map(|_| made(NOW, "result", json!({"agent": "a1"})))
        .collect();
    put(&home, &text);
    let gateway = home.serve();
    let count = |home: &Installation| home.export().len();
    wait_for("some are entered", || count(&home) > 0);
    gateway.stop();
    assert_eq!(spool(&home).len(), 1, "it was in the middle of it");
    let gateway = home.serve();
    wait_for("taken in", || spool(&home).is_empty());
    let entries = home.export();
    let ids: BTreeSet<&str> = entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!((entries.len(), ids.len()), (CALLS, CALLS));
    gateway.stop();
}

#[test]
fn what_is_no_spool_is_neither_waited_for_nor_taken_in() {
    let home = installed("");
    let own = put(&home, &made(NOW, "result", json!({"agent": "a1"})));
    let dir = own.parent().unwrap();
    let fifo = dir.join("0-fifo.jsonl");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    std::fs::write(home.path("elsewhere"), made(NOW, "result", json!({"agent": "a2"}))).unwrap();
    std::os::unix::fs::symlink(home.path("elsewhere"), dir.join("0-link.jsonl")).unwrap();
    let gateway = home.serve();
    wait_for("taken in", || !own.exists());
    gateway.wait_for_log("cannot be entered", 2);
    gateway.stop();
    // Others could put what they like into this one.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let foreign = put(&home, &made(NOW, "result", json!({"agent": "a3"})));
    let gateway = home.serve();
    gateway.wait_for_log("mode 777", 1);
    assert!(foreign.exists());
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    wait_for("taken in once it is mended", || !foreign.exists());
    let entries = home.export();
    let agents: Vec<&str> = entries.iter().map(|entry| entry["agent"].as_str().unwrap()).collect();
    assert_eq!(agents, ["a1", "a3"]);
    gateway.stop();
}
