//! A policy's whole life under load, by the command line and by JSON-RPC: put, rehearsed, put in force, rolled back by itself, rolled
//! back by hand. No request fails but by the version that fails, and who did what can be read afterwards.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Installation;
use crate::policy_versions::{ask, audited, failing, house, mark, row, upstream, wait_for_mark};

#[test]
fn put_rehearsed_activated_and_rolled_back_twice_while_requests_run() {
    let upstream = upstream();
    let home = Installation::new(&format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base()));
    for (name, text) in [("one", house("1")), ("two", house("2"))] {
        std::fs::write(home.path(&format!("{name}.lua")), text).unwrap();
    }
    let put = |name: &str| -> String {
        let file = home.path(&format!("{name}.lua")).display().to_string();
        let put: Value = serde_json::from_str(&home.print(&["policy", "put", &file, "--json"])).unwrap();
        put["version"].as_str().unwrap().to_owned()
    };
    let history = || home.rpc("policy.history", &json!({"policy": "house"}));
    let gateway = home.serve();
    let client = gateway.client;
    let first = put("one");
    home.print(&["policy", "activate", &format!("house@{first}"), "--note", "begins"]);

    let (running, seen) = (AtomicBool::new(true), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while running.load(Ordering::Acquire) {
                    let reply = ask(client);
                    let mark = reply.header("x-house").map(str::to_owned);
                    *seen.lock().unwrap().entry((reply.status, mark)).or_insert(0_u32) += 1;
                }
            });
        }
        // Whatever fails in here, the threads end.
        let steps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let second = put("two");
            home.print(&["policy", "shadow", &format!("house@{second}")]);
            let rehearsed = (0..500).any(|_| {
                thread::sleep(Duration::from_millis(20));
                row(&history(), &second).1[0] > 20
            });
            assert!(rehearsed && mark(client).as_deref() == Some("1-1"), "{:#}", history());
            home.rpc(
                "policy.activate",
                &json!({"policy": "house", "version": second, "note": "looks well"}),
            );
            wait_for_mark(client, Some("2-2"));

            let third = home.rpc("policy.put", &json!({"text": failing("3")}))["version"]
                .as_str()
                .unwrap()
                .to_owned();
            home.rpc("policy.activate", &json!({"policy": "house", "version": third}));
            wait_for_mark(client, Some("2-2"));
            assert_eq!(row(&history(), &third).0, "rolled_back");
            home.print(&["policy", "rollback", "house", "--note", "by hand"]);
            wait_for_mark(client, Some("1-1"));
        }));
        running.store(false, Ordering::Release);
        steps.unwrap();
    });
    let seen = seen.into_inner().unwrap();
    let kinds: Vec<(u16, Option<&str>)> = seen.keys().map(|(status, mark)| (*status, mark.as_deref())).collect();
    assert_eq!(kinds, [(200, Some("1-1")), (200, Some("2-2")), (503, None)], "{seen:?}");

    let changes = home.rpc("audit.list", &json!({"subject": "policy"}));
    let done = audited(&changes);
    let row = |author: &str, action: &str, note: &str| (author.to_owned(), action.to_owned(), note.to_owned());
    assert!(done[7].2.ends_with("calls of request failed"), "{done:#?}");
    let expected = [
        row("owner", "policy.put", ""),
        row("owner", "policy.activate", "begins"),
        row("owner", "policy.put", ""),
        row("owner", "policy.shadow", ""),
        row("owner", "policy.activate", "looks well"),
        row("owner", "policy.put", ""),
        row("owner", "policy.activate", ""),
        row("agentledger", "policy.rollback", ""),
        row("owner", "policy.rollback", "by hand"),
    ];
    let names = |rows: &[(String, String, String)]| -> Vec<(String, String)> {
        rows.iter()
            .map(|(author, action, _)| (author.clone(), action.clone()))
            .collect()
    };
    assert_eq!(names(&done), names(&expected), "{done:#?}");
    gateway.stop();
}
