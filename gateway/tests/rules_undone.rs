//! Undoing changes, and versions, by which writers of one rule know each other.

use std::thread;

use serde_json::{Value, json};

use crate::harness::Setup;
use crate::rules_kept::{CONTROL, answer, ask, outcome, refused, rpc, upstream};

#[test]
fn one_change_is_undone_unless_another_followed() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let put = |params: Value| rpc(&gateway, "rule.put", &params);
    let made = put(json!({"list": "loop", "value": {"threshold": 5}}));
    let id = made["rule"]["id"].clone();
    let changed = put(json!({"list": "loop", "id": id, "value": {"threshold": 6}, "note": "more"}));
    let (word, _) = refused(&gateway, "rule.revert", &json!({"change": made["change"]}));
    assert_eq!(word, "conflict");
    let reverted = rpc(&gateway, "rule.revert", &json!({"change": changed["change"]}));
    assert_eq!(
        (&reverted["rule"]["value"], &reverted["rule"]["version"]),
        (&json!({"threshold": 5}), &json!(3))
    );
    assert_eq!(
        refused(&gateway, "rule.revert", &json!({"change": changed["change"]})).0,
        "conflict",
        "it is undone"
    );
    let deleted = rpc(&gateway, "rule.delete", &json!({"id": id}));
    let back = rpc(
        &gateway,
        "rule.revert",
        &json!({"change": deleted["change"], "note": "needed after all"}),
    );
    assert_eq!(
        (&back["rule"]["id"], &back["rule"]["value"]),
        (&id, &json!({"threshold": 5}))
    );
    assert_ne!(
        rpc(&gateway, "rule.get", &json!({"id": id}))["version"],
        1,
        "that was another one"
    );
    let history = rpc(&gateway, "rule.history", &json!({"id": id}));
    let actions: Vec<&str> = history["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        ["rule.revert", "rule.delete", "rule.revert", "rule.put", "rule.put"]
    );
    let first = &history["changes"][0];
    assert_eq!(
        (&first["author"], &first["note"]),
        (&json!("ops"), &json!("needed after all"))
    );
    let last = &history["changes"][4];
    assert_eq!(
        (&last["before"], &last["after"]["value"]),
        (&Value::Null, &json!({"threshold": 5}))
    );
    let page = rpc(&gateway, "rule.history", &json!({"id": id, "limit": 2}));
    assert_eq!(page["changes"].as_array().unwrap().len(), 2);
    assert_eq!(
        refused(
            &gateway,
            "rule.revert",
            &json!({"change": "01J00000000000000000000000"})
        )
        .0,
        "not_found"
    );
}

#[test]
fn a_version_never_comes_twice_so_that_no_update_is_lost_unseen() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let version = |answer: &Value| answer["rule"]["version"].as_u64().unwrap();
    let made = rpc(&gateway, "rule.put", &json!({"list": "block.agents", "value": "one"}));
    let id = made["rule"]["id"].clone();
    let put = |value: &str| {
        rpc(
            &gateway,
            "rule.put",
            &json!({"list": "block.agents", "id": id, "value": value}),
        )
    };
    let mut seen = vec![version(&made), version(&put("two"))];
    for round in 0..3 {
        let gone = rpc(&gateway, "rule.delete", &json!({"id": id}));
        // Put again by its id, or by undoing.
        let back = match round % 2 {
            0 => put("again"),
            _ => rpc(&gateway, "rule.revert", &json!({"change": gone["change"]})),
        };
        seen.extend([version(&back), version(&put("more"))]);
    }
    assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
    // Whoever still knows an earlier one is refused.
    for old in &seen[..seen.len() - 1] {
        let late = json!({"list": "block.agents", "id": id, "value": "late", "if_version": old});
        assert_eq!(refused(&gateway, "rule.put", &late).0, "conflict", "{old} of {seen:?}");
    }
    let last = seen[seen.len() - 1];
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).with(CONTROL).in_dir(&dir).start();
    assert_eq!(rpc(&gateway, "rule.get", &json!({"id": id}))["version"], last);
    let next = json!({"list": "block.agents", "id": id, "value": "next", "if_version": last});
    assert_eq!(version(&rpc(&gateway, "rule.put", &next)), last + 1);
}

#[test]
fn what_one_call_changes_is_one_change_and_undone_at_once() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let map = json!({"api_key_pattern": "sk-test-*", "tenant": "acme", "enable": true});
    let mapped = rpc(&gateway, "tenant.map", &map);
    let told = rpc(&gateway, "audit.list", &json!({"action": "tenant.map"}));
    let told = told["changes"].as_array().unwrap();
    let lists: Vec<&Value> = told.iter().map(|change| &change["after"]["list"]).collect();
    assert_eq!(lists, ["tenant.key_mappings", "tenant.enabled"]);
    assert!(told.iter().all(|change| change["id"] == mapped["change"]), "{told:?}");
    let rules = || rpc(&gateway, "rule.list", &json!({"policy": "tenant", "source": "runtime"}))["rules"].clone();
    assert_eq!(rules().as_array().unwrap().len(), 2);
    // One of its rules was changed since: nothing of it is undone.
    let enabled = rules()
        .as_array()
        .unwrap()
        .iter()
        .find(|rule| rule["list"] == "tenant.enabled")
        .unwrap()["id"]
        .clone();
    let off = rpc(
        &gateway,
        "rule.put",
        &json!({"list": "tenant.enabled", "id": enabled, "value": false}),
    );
    let undo = json!({"change": mapped["change"]});
    assert_eq!(refused(&gateway, "rule.revert", &undo).0, "conflict");
    assert_eq!(rules().as_array().unwrap().len(), 2);
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).with(CONTROL).in_dir(&dir).start();
    let rules = || rpc(&gateway, "rule.list", &json!({"policy": "tenant", "source": "runtime"}))["rules"].clone();
    rpc(&gateway, "rule.delete", &json!({"id": enabled}));
    assert_eq!(refused(&gateway, "rule.revert", &undo).0, "conflict");
    assert_eq!(
        refused(&gateway, "rule.revert", &json!({"change": off["change"]})).0,
        "conflict"
    );
    let mapped = rpc(&gateway, "tenant.map", &map);
    let undone = rpc(&gateway, "rule.revert", &json!({"change": mapped["change"]}));
    assert_eq!(undone["rule"]["list"], "tenant.key_mappings");
    let left = rules();
    // The mapping is as it was before it was mapped a second time, and nothing switches tenants on.
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    assert_eq!(left[0]["list"], "tenant.key_mappings");
    // Undoing the undoing brings both back.
    let again = rpc(&gateway, "rule.revert", &json!({"change": undone["change"]}));
    assert_eq!(again["rule"]["in_force"], true);
    assert_eq!(rules().as_array().unwrap().len(), 2);
}

#[test]
fn of_writers_who_know_the_same_version_one_is_heard() {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    let made = rpc(&gateway, "rule.put", &json!({"list": "block.agents", "value": "coder"}));
    let id = made["rule"]["id"].clone();
    assert_eq!(outcome(&ask(&gateway)), "403 agent_blocked");
    let (gateway, id) = (&gateway, &id);
    for round in 1..=10 {
        let answers: Vec<Value> = thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let put = json!({"list": "block.agents", "id": id, "value": format!("{round}-{writer}"), "if_version": round});
                    scope.spawn(move || answer(gateway, "ops-token-0123456789", "rule.put", &put))
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let heard: Vec<&Value> = answers.iter().filter(|answer| answer["error"].is_null()).collect();
        assert_eq!(heard.len(), 1, "{answers:?}");
        let others = answers.iter().filter(|answer| !answer["error"].is_null());
        assert!(
            others
                .clone()
                .all(|answer| answer["error"]["data"]["code"] == "conflict"),
            "{answers:?}"
        );
        let now = rpc(gateway, "rule.get", &json!({"id": id}));
        assert_eq!(now["value"], heard[0]["result"]["rule"]["value"]);
    }
}
