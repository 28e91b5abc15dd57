//! What the store keeps of policies, over restarts: rehearsals that end, versions that cannot be read back, files under them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use agentledger_ledger::{Change, ManualClock};
use serde_json::{Value, json};
use ulid::Ulid;

use crate::harness::{Gateway, Installation, Setup};
use crate::policy_versions::{
    activate, ask, failing, history, house, house_with, mark, put, row, upstream, wait_for_mark,
};
use crate::rules_kept::{CONTROL, rpc};

const NOON_MS: i64 = 1_772_366_400_000;
const HOUR_MS: i64 = 3_600_000;

/// Waits, boundedly, until the history says so.
fn wait_for(gateway: &Gateway, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..3_000 {
        let history = history(gateway);
        if is_so(&history) {
            return history;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it never becomes so: {}", history(gateway));
}

fn activate_in_an_hour(gateway: &Gateway, hash: &str) -> Value {
    let params = json!({"policy": "house", "version": hash, "shadow_for": "1h"});
    rpc(gateway, "policy.activate", &params)
}

/// Refuses every call but a made-up one.
fn denying(version: &str) -> String {
    house_with(
        version,
        r#"if call.agent ~= "probe" then return deny{ code = "closed" } end"#,
    )
}

#[test]
fn after_its_time_in_shadow_a_version_comes_into_force_and_what_it_did_is_told() {
    let upstream = upstream();
    let clock = Arc::new(ManualClock::new(NOON_MS));
    let gateway = Setup::new(&upstream).with(CONTROL).clock(clock.clone()).start();
    let (first, second) = (put(&gateway, &house("1")), put(&gateway, &denying("2")));
    activate(&gateway, &first);
    let changed = activate_in_an_hour(&gateway, &second);
    assert_eq!(
        changed["shadow"]["activate_at"], "2026-03-01T13:00:00.000Z",
        "{changed}"
    );
    for _ in 0..3 {
        assert_eq!(ask(gateway.client).status, 200);
    }
    let now = history(&gateway);
    assert_eq!(row(&now, &second), ("in_shadow".to_owned(), [6, 3, 0]));
    clock.advance_ms(HOUR_MS - 1);
    assert_eq!(ask(gateway.client).status, 200);
    clock.advance_ms(1);
    let now = wait_for(&gateway, |history| history["in_force"]["hash"] == json!(second));
    assert_eq!(ask(gateway.client).status, 403);
    let past = now["past"].as_array().unwrap();
    let rehearsal = past.iter().find(|past| past["in"] == "shadow").unwrap();
    assert_eq!(
        (
            &rehearsal["end"],
            &rehearsal["calls"],
            &rehearsal["denials"],
            &rehearsal["by"]
        ),
        (&json!("activated"), &json!(8), &json!(4), &json!("agentledger"))
    );
    let back = rpc(&gateway, "policy.rollback", &json!({"policy": "house"}));
    assert_eq!(back["in_force"]["hash"], json!(first));
    assert_eq!(mark(gateway.client).as_deref(), Some("1-1"));
}

#[test]
fn a_rehearsal_goes_on_over_a_restart_and_is_cancelled_by_what_comes_after() {
    let upstream = upstream();
    let start = |at_ms: i64, dir: Option<&Arc<tempfile::TempDir>>| {
        let clock = Arc::new(ManualClock::new(at_ms));
        let setup = Setup::new(&upstream).with(CONTROL).clock(clock.clone());
        let setup = match dir {
            Some(dir) => setup.in_dir(dir),
            None => setup,
        };
        (setup.start(), clock)
    };
    let (gateway, _) = start(NOON_MS, None);
    let hash = put(&gateway, &house("1"));
    activate_in_an_hour(&gateway, &hash);
    assert_eq!(mark(gateway.client), None);
    let dir = gateway.stop();
    // Half the time is over: it runs in shadow, and waits.
    let (gateway, clock) = start(NOON_MS + HOUR_MS / 2, Some(&dir));
    assert_eq!(mark(gateway.client), None);
    assert_eq!(row(&history(&gateway), &hash).0, "in_shadow");
    clock.advance_ms(HOUR_MS / 2);
    wait_for_mark(gateway.client, Some("1-1"));

    let cancelled = |gateway: &Gateway| history(gateway)["shadow"]["activate_at"].is_null();
    let second = put(&gateway, &house("2"));
    activate_in_an_hour(&gateway, &second);
    assert!(!cancelled(&gateway));
    let put_again = rpc(&gateway, "policy.put", &json!({"text": house("3")}));
    assert!(
        put_again["cancelled"].as_str().unwrap().starts_with(&second[..12]),
        "{put_again}"
    );
    assert!(cancelled(&gateway));
    activate_in_an_hour(&gateway, &second);
    rpc(
        &gateway,
        "policy.shadow",
        &json!({"policy": "house", "version": second}),
    );
    assert!(cancelled(&gateway), "it runs in shadow, and waits for nothing");
    activate_in_an_hour(&gateway, &second);
    let back = rpc(&gateway, "policy.rollback", &json!({"policy": "house"}));
    assert_eq!(
        (&back["shadow"], &back["in_force"]["source"]),
        (&Value::Null, &json!("none")),
        "{back}"
    );
    let dir = gateway.stop();
    let (gateway, _) = start(NOON_MS + 3 * HOUR_MS, Some(&dir));
    assert_eq!(mark(gateway.client), None, "nothing waits any more");
}

#[test]
fn long_after_its_activation_a_version_that_fails_stays() {
    let upstream = upstream();
    let clock = Arc::new(ManualClock::new(NOON_MS));
    let gateway = Setup::new(&upstream).with(CONTROL).clock(clock.clone()).start();
    let hash = put(&gateway, &failing("1"));
    activate(&gateway, &hash);
    clock.advance_ms(601_000);
    for _ in 0..40 {
        assert_eq!(ask(gateway.client).status, 503);
    }
    // The thread that would roll it back looks four times a second; so does whoever waits for what is due then.
    let other = rpc(&gateway, "policy.put", &json!({"text": house("2")}));
    activate_in_an_hour(&gateway, other["version"].as_str().unwrap());
    assert_eq!(ask(gateway.client).status, 503);
    assert_eq!(history(&gateway)["in_force"]["hash"], json!(hash));
    clock.advance_ms(HOUR_MS);
    wait_for_mark(gateway.client, Some("2-2"));
    let changes = rpc(
        &gateway,
        "audit.list",
        &json!({"subject": "policy:house", "action": "policy.rollback"}),
    );
    assert_eq!(changes["changes"], json!([]));
}

/// Puts a document into the journal that no method would.
fn inject(gateway: &Gateway, subject: &str, value: &Value) {
    let ledger = &gateway.launched().gateway().ledger;
    let change = Change {
        id: Ulid::new(),
        at_ms: ledger.decision_ms(),
        author: "nobody".into(),
        peer: "test".into(),
        action: "damage".into(),
        subject: subject.into(),
        tenant: "".into(),
        note: "".into(),
        before: None,
        after: Some(value.to_string().into()),
        kept: true,
        min_version: 0,
        request: None,
    };
    ledger.change(change).unwrap();
}

#[test]
fn by_hand_too_a_rollback_goes_past_versions_that_do_not_load_any_more() {
    let config = |conf: &str| {
        let upstream = "providers: {openai: {upstream: 'http://127.0.0.1:9'}}";
        format!("{upstream}\npolicies: {{conf: {{{conf}}}}}")
    };
    let home = Installation::new(&config(""));
    let takes =
        |version: &str| house(version).replace("priority", "schema = { most = { type = 'integer' } }, priority");
    let texts = [takes("1"), house("2"), takes("3")];
    let hashes = texts.map(|text| {
        std::fs::write(home.path("house.lua"), &text).unwrap();
        home.print(&["policy", "put", &home.path("house.lua").display().to_string()]);
        home.print(&["policy", "activate", "house"]);
        blake3::hash(text.as_bytes()).to_hex().to_string()
    });
    // A conf that the second does not know.
    home.configure(&config("house: {most: 3}"));
    let told = home.print(&["policy", "rollback", "house"]);
    let expected = format!("house: version {} of the store is in force\n", &hashes[0][..12]);
    assert!(told.contains(&expected), "{told}");
    let history: Value = serde_json::from_str(&home.print(&["policy", "history", "house", "--json"])).unwrap();
    let states = hashes.each_ref().map(|hash| row(&history, hash).0);
    assert_eq!(
        states.each_ref().map(String::as_str),
        ["in_force", "rolled_back", "rolled_back"]
    );
}

#[test]
fn a_version_that_cannot_be_read_back_is_refused_by_name_and_the_last_good_one_is_in_force() {
    let upstream = upstream();
    let setup = || Setup::new(&upstream).with(CONTROL).policy("house", &house("file"));
    let gateway = setup().start();
    let [first, second, third] = ["1", "2", "3"].map(|version| put(&gateway, &house(version)));
    for hash in [&first, &second, &third] {
        activate(&gateway, hash);
    }
    // Another text under its hash; and one that is whole and does not load with this gateway.
    let subject = |hash: &str| format!("policy-version:house@{hash}");
    inject(&gateway, &subject(&third), &json!({"version": "3", "text": house("1")}));
    let unknown = "return { name = \"house\", version = \"9\", sometime = function() end }";
    let unloadable = blake3::hash(unknown.as_bytes()).to_hex().to_string();
    inject(
        &gateway,
        &subject(&unloadable),
        &json!({"version": "9", "text": unknown}),
    );
    let record = json!({
        "in_force": {"hash": third, "since": "2026-03-01T12:00:00.000Z"},
        "earlier": [
            {"hash": second, "since": "2026-03-01T11:00:00.000Z"},
            {"hash": unloadable, "since": "2026-03-01T11:30:00.000Z"},
        ],
    });
    inject(&gateway, "policy:house", &record);
    let dir = gateway.stop();

    let gateway = setup().in_dir(&dir).start();
    assert_eq!(mark(gateway.client).as_deref(), Some("2-2"));
    let ready = gateway.client.get("/readyz");
    assert_eq!(ready.status, 200);
    let refused = ready.json()["refused_policies"].as_array().unwrap().clone();
    assert_eq!(refused.len(), 2, "{refused:?}");
    let said = refused[0].as_str().unwrap();
    let expected = format!(
        "version {} of the policy house is refused, version {} is in force",
        &third[..12],
        &second[..12]
    );
    assert!(
        said.starts_with(&expected) && said.contains("cannot read it back"),
        "{said}"
    );
    assert!(refused[1].as_str().unwrap().contains("sometime"), "{refused:?}");
    let alerts = rpc(&gateway, "alert.list", &json!({"type": "policy_version_refused"}));
    assert_eq!(alerts["alerts"].as_array().unwrap().len(), 2);
    let now = history(&gateway);
    assert_eq!(now["in_force"]["hash"], json!(second));
    assert_eq!(row(&now, &third).0, "refused");

    // Put again it is whole, and in force.
    assert_eq!(put(&gateway, &house("3")), third);
    assert_eq!(mark(gateway.client).as_deref(), Some("3-3"));
    assert_eq!(gateway.client.get("/readyz").text(), "{\"status\":\"ready\"}\n");
    inject(&gateway, "policy:house", &json!({"in_force": 5}));
    let dir = gateway.stop();
    // Without what stands of it the file is in force.
    let gateway = setup().in_dir(&dir).start();
    assert_eq!(mark(gateway.client).as_deref(), Some("file-file"));
    let said = gateway.client.get("/readyz").text();
    assert!(
        said.contains("what the store says of the policy house cannot be read"),
        "{said}"
    );
    activate(&gateway, &third);
    assert_eq!(mark(gateway.client).as_deref(), Some("3-3"));
    assert_eq!(gateway.client.get("/readyz").text(), "{\"status\":\"ready\"}\n");
}

#[test]
fn the_store_goes_over_a_file_which_says_so_when_it_changes() {
    let upstream = upstream();
    let home = Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\npolicies: {{conf: {{house: {{}}}}}}",
        upstream.base()
    ));
    home.policy("house", &house("file"));
    let gateway = home.serve();
    assert_eq!(mark(gateway.client).as_deref(), Some("file-file"));
    home.rpc("policy.put", &json!({"text": house("1")}));
    home.rpc("policy.activate", &json!({"policy": "house"}));
    assert_eq!(mark(gateway.client).as_deref(), Some("1-1"));
    home.policy("house", &house("newer"));
    gateway.wait_for_log("the file is overridden", 1);
    assert_eq!(mark(gateway.client).as_deref(), Some("1-1"));
    let list = home.rpc("policy.list", &json!({}));
    let listed = list["policies"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "house")
        .unwrap();
    let file = listed["overridden"].as_str().unwrap();
    assert!(
        listed["source"] == "store" && file.ends_with("policies/house.lua"),
        "{listed}"
    );
    gateway.stop();

    let gateway = home.serve();
    gateway.wait_for_log("of the store is in force, over", 1);
    assert_eq!(mark(gateway.client).as_deref(), Some("1-1"));
    let told = home.print(&["policy", "deactivate", "house"]);
    assert!(
        told.contains("policies/house.lua is in force, and no version of the store"),
        "{told}"
    );
    assert_eq!(mark(gateway.client).as_deref(), Some("newer-newer"));
    gateway.stop();
}
