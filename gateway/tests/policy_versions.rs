//! Versions of policies in the store: kept, rehearsed, put in force and rolled back while requests run.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::Reply;
use crate::harness::{Client, Gateway, Installation, Script, Setup, Upstream};
use crate::rules_kept::{CONTROL, answer, refused, rpc};

const CHAT: &str = "/v1/chat/completions";
const ASKED: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":100}"#;
const SMALL: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;

/// A policy both of whose phases say its version: an answer bears what both said.
pub fn house(version: &str) -> String {
    house_with(version, "")
}

/// The same, with a line at the beginning of `request`.
pub fn house_with(version: &str, line: &str) -> String {
    format!(
        r#"return {{ name = "house", version = "{version}", priority = 10,
            tenant = function() return tag{{ name = "seen", value = "{version}" }} end,
            request = function(conf, call)
                {line}
                return header{{ name = "X-House", value = "{version}-" .. tostring(call.tags.seen) }}
            end }}"#
    )
}

/// Fails at every call but a made-up one.
pub fn failing(version: &str) -> String {
    house_with(version, r#"if call.agent ~= "probe" then error("boom") end"#)
}

pub fn upstream() -> Upstream {
    Upstream::always(Script::json(200, SMALL))
}

pub fn put(gateway: &Gateway, text: &str) -> String {
    let put = rpc(gateway, "policy.put", &json!({"text": text}));
    put["version"].as_str().unwrap().to_owned()
}

pub fn activate(gateway: &Gateway, hash: &str) -> Value {
    rpc(gateway, "policy.activate", &json!({"policy": "house", "version": hash}))
}

pub fn history(gateway: &Gateway) -> Value {
    rpc(gateway, "policy.history", &json!({"policy": "house"}))
}

/// State of a version, and its calls, denials and failures.
pub fn row(history: &Value, hash: &str) -> (String, [u64; 3]) {
    let rows = history["versions"].as_array().unwrap();
    let row = rows.iter().find(|row| row["hash"] == *hash).unwrap();
    let counts = ["calls", "denials", "failures"].map(|name| row[name].as_u64().unwrap());
    (row["state"].as_str().unwrap().to_owned(), counts)
}

pub fn ask(client: Client) -> Reply {
    client.post(CHAT, ASKED)
}

/// What the policy says of itself on the next answer.
pub fn mark(client: Client) -> Option<String> {
    ask(client).header("x-house").map(str::to_owned)
}

/// Waits, boundedly, until answers bear this mark.
pub fn wait_for_mark(client: Client, expected: Option<&str>) {
    let mut last = None;
    for _ in 0..3_000 {
        last = mark(client);
        if last.as_deref() == expected {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("answers never bear {expected:?}, the last bore {last:?}");
}

/// The changes of the policy, oldest first: who, what, and why.
pub fn audited(changes: &Value) -> Vec<(String, String, String)> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let mut rows: Vec<_> = changes["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (text(row, "author"), text(row, "action"), text(row, "note")))
        .collect();
    rows.reverse();
    rows
}

#[test]
fn by_hand_a_version_is_put_rehearsed_activated_and_rolled_back() {
    let upstream = upstream();
    let home = Installation::new(&format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base()));
    for (name, text) in [("one", house("1")), ("two", house("2"))] {
        std::fs::write(home.path(&format!("{name}.lua")), text).unwrap();
    }
    let file = |name: &str| home.path(name).display().to_string();
    let json = |args: &[&str]| -> Value { serde_json::from_str(&home.print(&[args, &["--json"]].concat())).unwrap() };

    // Where no gateway runs, the store itself takes it.
    let first = json(&["policy", "put", &file("one.lua"), "--note", "the first"]);
    let first = first["version"].as_str().unwrap().to_owned();
    let told = home.print(&["policy", "history", "house"]);
    assert!(told.starts_with("house: no version of the store is in force"), "{told}");
    let told = home.print(&["policy", "activate", "house", "--note", "offline"]);
    assert!(
        told.contains(&format!("house: version {} of the store is in force\n", &first[..12])),
        "{told}"
    );
    assert_eq!(json(&["policy", "get", "house"])["text"], house("1"));

    let gateway = home.serve();
    assert_eq!(mark(gateway.client).as_deref(), Some("1-1"));
    let second = home.rpc("policy.put", &json!({"text": house("2"), "note": "the second"}));
    let second = second["version"].as_str().unwrap().to_owned();
    assert_eq!(
        mark(gateway.client).as_deref(),
        Some("1-1"),
        "a put puts nothing in force"
    );

    let told = home.print(&["policy", "shadow", &format!("house@{}", &second[..8])]);
    assert!(
        told.contains(&format!("version {} runs in shadow beside it", &second[..12])),
        "{told}"
    );
    assert_eq!(mark(gateway.client).as_deref(), Some("1-1"));
    let history = json(&["policy", "history", "house"]);
    let (state, [calls, denials, failures]) = row(&history, &second);
    assert_eq!((state.as_str(), denials, failures), ("in_shadow", 0, 0));
    assert!(calls > 0, "{history}");

    home.print(&["policy", "activate", &format!("house@{second}"), "--note", "looks well"]);
    assert_eq!(mark(gateway.client).as_deref(), Some("2-2"));
    let list = home.rpc("policy.list", &json!({}));
    let listed = list["policies"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "house")
        .unwrap();
    assert_eq!(
        (&listed["source"], &listed["digest"]),
        (&json!("store"), &json!(second))
    );
    let told = home.print(&["policy", "rollback", "house", "--note", "it denies too much"]);
    assert!(
        told.contains(&format!("house: version {} of the store is in force\n", &first[..12])),
        "{told}"
    );
    assert_eq!(mark(gateway.client).as_deref(), Some("1-1"));
    assert_eq!(row(&json(&["policy", "history", "house"]), &second).0, "rolled_back");
    home.rpc("policy.rollback", &json!({"policy": "house"}));
    assert_eq!(mark(gateway.client), None, "before the first there was none");
    let again = home.run(&["policy", "rollback", "house"]);
    assert!(!again.status.success());
    let shown = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        shown.contains("no version of \"house\" from the store is in force"),
        "{shown}"
    );

    let changes = home.rpc("audit.list", &json!({"subject": "policy"}));
    let owner = |action: &str, note: &str| ("owner".to_owned(), action.to_owned(), note.to_owned());
    assert_eq!(
        audited(&changes),
        [
            owner("policy.put", "the first"),
            owner("policy.activate", "offline"),
            owner("policy.put", "the second"),
            owner("policy.shadow", ""),
            owner("policy.activate", "looks well"),
            owner("policy.rollback", "it denies too much"),
            owner("policy.rollback", ""),
        ]
    );
    gateway.stop();
}

#[test]
fn under_load_no_request_fails_and_each_answer_is_of_one_version() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let hashes = [put(&gateway, &house("1")), put(&gateway, &house("2"))];
    activate(&gateway, &hashes[0]);
    let (running, marks) = (AtomicBool::new(true), Mutex::new(BTreeSet::new()));
    let client = gateway.client;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while running.load(Ordering::Acquire) {
                    let reply = ask(client);
                    let mark = reply.header("x-house").map(str::to_owned);
                    marks.lock().unwrap().insert((reply.status, mark));
                }
            });
        }
        for round in 1..=20 {
            let hash = &hashes[round % 2];
            // What was before is the other one, too.
            match round % 5 {
                0 => drop(rpc(&gateway, "policy.rollback", &json!({"policy": "house"}))),
                _ => drop(activate(&gateway, hash)),
            }
            // What was answered after the command goes by it.
            let expected = if round % 2 == 0 { "1-1" } else { "2-2" };
            let reply = ask(client);
            if reply.header("x-house") != Some(expected) {
                running.store(false, Ordering::Release);
            }
            assert_eq!(reply.header("x-house"), Some(expected), "round {round}");
        }
        running.store(false, Ordering::Release);
    });
    let expected = ["1-1", "2-2"].map(|mark| (200, Some(mark.to_owned())));
    assert_eq!(marks.into_inner().unwrap(), BTreeSet::from(expected));
    gateway.wait_idle();
}

#[test]
fn a_version_that_fails_is_rolled_back_by_itself_and_people_are_notified() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let (good, bad) = (put(&gateway, &house("1")), put(&gateway, &failing("2")));
    activate(&gateway, &good);
    activate(&gateway, &bad);
    let mut failed = 0;
    while mark(gateway.client).as_deref() != Some("1-1") {
        failed += 1;
        assert!(failed < 3_000, "it is never rolled back");
    }
    assert!(failed >= 10, "a few failures say nothing: {failed}");
    let history = history(&gateway);
    assert_eq!(
        (&history["in_force"]["hash"], &history["in_force"]["source"]),
        (&json!(good), &json!("store"))
    );
    let (state, [calls, _, failures]) = row(&history, &bad);
    assert_eq!(state, "rolled_back");
    // It is asked in two phases: it answers in the first, and fails in the second, which counts by itself.
    assert!(calls >= 20 && failures * 2 == calls, "{history}");
    let past = &history["past"][0];
    assert_eq!(
        (&past["by"], &past["end"]),
        (&json!("agentledger"), &json!("rolled_back"))
    );

    let changes = rpc(
        &gateway,
        "audit.list",
        &json!({"subject": "policy:house", "author": "agentledger"}),
    );
    let changes = changes["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0]["action"], "policy.rollback");
    let note = changes[0]["note"].as_str().unwrap();
    assert_eq!(note, "20 of 20 calls of request failed");
    let alerts = rpc(&gateway, "alert.list", &json!({"type": "policy_rolled_back"}));
    let alerts = alerts["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0]["severity"], "critical");
    let message = alerts[0]["message"].as_str().unwrap();
    assert!(
        message.contains(&bad[..12]) && message.contains(&good[..12]),
        "{message}"
    );
}

#[test]
fn without_anything_before_it_a_version_that_fails_gives_way_to_what_was_there() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream)
        .with(CONTROL)
        .policy("house", &house("file"))
        .start();
    let bad = put(&gateway, &failing("2"));
    activate(&gateway, &bad);
    wait_for_mark(gateway.client, Some("file-file"));
    let history = history(&gateway);
    assert_eq!(history["in_force"]["source"], "file", "{history}");
    // In shadow it costs nobody a request, and runs no more once it failed too often.
    rpc(&gateway, "policy.shadow", &json!({"policy": "house", "version": bad}));
    for _ in 0..3_000 {
        assert_eq!(mark(gateway.client).as_deref(), Some("file-file"));
        if self::history(&gateway)["shadow"].is_null() {
            return;
        }
    }
    panic!("it runs in shadow still");
}

#[test]
fn specs_that_fail_refuse_an_activation_and_force_overrides() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let specs = r#"return { policy = "house", specs = {
        { name = "it marks", call = {}, expect = { "tag seen=1", "header x-house: 1-1" } },
        { name = "hopeful", call = {}, expect = { "allow" } },
    } }"#;
    let put = |text: &str, specs: &str| rpc(&gateway, "policy.put", &json!({"text": text, "specs": specs}));
    put(&house("1"), specs);
    let activate = |force: bool| json!({"policy": "house", "force": force});
    let answer_of = |params: &Value| answer(&gateway, "ops-token-0123456789", "policy.activate", params);
    let refusal = answer_of(&activate(false));
    assert_eq!(refusal["error"]["data"]["path"], "version", "{refusal}");
    let message = refusal["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("of its 2 specs") && message.contains("hopeful: expected"),
        "{message}"
    );
    assert_eq!(mark(gateway.client), None);
    let forced = answer_of(&activate(true));
    assert_eq!(forced["result"]["specs"]["run"], 2, "{forced}");
    assert_eq!(mark(gateway.client).as_deref(), Some("1-1"));

    // One that never ends fails by name.
    let loops = r#"return { policy = "house", specs = { { name = "it ends", call = { agent = "x" }, expect = {} } } }"#;
    put(
        &house_with("3", r#"if call.agent == "x" then while true do end end"#),
        loops,
    );
    let refusal = answer_of(&activate(false));
    let message = refusal["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("it ends: ") && message.contains("deadline"),
        "{message}"
    );

    let text = |params: Value| refused(&gateway, "policy.put", &params);
    let unfit = |path: &str| ("does_not_fit".to_owned(), path.to_owned());
    assert_eq!(text(json!({"text": "return {"})), unfit("text"));
    assert_eq!(text(json!({"text": house("1"), "specs": "return 5"})), unfit("specs"));
    assert_eq!(
        text(json!({"text": house("1"), "specs": r#"return { policy = "other", specs = {} }"#})),
        unfit("specs")
    );
}

#[test]
fn a_version_that_does_not_fit_is_refused_and_what_is_in_force_stays() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let good = put(&gateway, &house("1"));
    let changed = activate(&gateway, &good);
    let refuse = |params: Value| refused(&gateway, "policy.activate", &params);
    // It fails on a made-up call.
    let bad = put(&gateway, &house_with("2", "error('at once')"));
    let unfit = ("does_not_fit".to_owned(), "version".to_owned());
    assert_eq!(refuse(json!({"policy": "house", "version": bad})), unfit);
    assert_eq!(mark(gateway.client).as_deref(), Some("1-1"));
    // It is not what its author believes, is there already, or is not there at all.
    let word = |params: Value| refuse(params).0;
    assert_eq!(
        word(json!({"policy": "house", "version": good, "if_version": 7})),
        "conflict"
    );
    assert_eq!(word(json!({"policy": "house", "version": good})), "conflict");
    assert_eq!(word(json!({"policy": "house", "version": "0000000000"})), "not_found");
    assert_eq!(word(json!({"policy": "nobody"})), "not_found");
    assert_eq!(word(json!({"policy": "house", "mode": "sometimes"})), "does_not_fit");
    assert_eq!(word(json!({"policy": "house", "shadow_for": "soon"})), "does_not_fit");

    // The same request twice is one change.
    let third = put(&gateway, &house("3"));
    let request = json!({"policy": "house", "version": third, "request_id": "r-1", "if_version": changed["changes"]});
    let once = rpc(&gateway, "policy.activate", &request);
    assert_eq!(rpc(&gateway, "policy.activate", &request), once);
    assert_eq!(once["changes"], json!(changed["changes"].as_u64().unwrap() + 1));

    // Of a mode that enforces nothing it is asked, and nobody is bound by it.
    let shadow = json!({"policy": "house", "version": third, "mode": "shadow"});
    assert_eq!(rpc(&gateway, "policy.activate", &shadow)["in_force"]["mode"], "shadow");
    assert_eq!(mark(gateway.client), None);
}
