//! The shortcuts that put the rules people type.

use crate::cli::{installation, json_of, upstream};

#[test]
fn shortcuts_put_the_rules_that_people_type() {
    let upstream = upstream();
    let home = installation(&upstream);
    let _gateway = home.serve();
    home.print(&[
        "budgets",
        "set",
        "agent:crawler",
        "5",
        "--window",
        "day",
        "--action",
        "block",
        "--soft",
        "0.8,0.9",
    ]);
    home.print(&[
        "budgets",
        "set",
        "--api-key-pattern",
        "sk-dev-*",
        "3",
        "--window",
        "day",
    ]);
    home.print(&[
        "budgets",
        "top-up",
        "agent:crawler",
        "2",
        "--until",
        "2h",
        "--reason",
        "release",
    ]);
    home.print(&["rates", "set", "agent:crawler", "--requests-per-minute", "100"]);
    home.print(&["keys", "block", "sk-leaked-*", "--note", "leaked"]);
    home.print(&["tenants", "map", "sk-acme-*", "acme", "--enable"]);
    home.print(&["tenants", "bind", "sk-alice-*", "--user", "alice"]);
    let rules = json_of(&home.print(&["rules", "list", "--source", "runtime", "--json"]));
    let lists: Vec<&str> = rules["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["list"].as_str().unwrap())
        .collect();
    for list in [
        "budget.limits",
        "budget.top_ups",
        "rate_limit.limits",
        "block.keys",
        "tenant.key_mappings",
        "tenant.bindings",
    ] {
        assert!(lists.contains(&list), "{list} in {lists:?}");
    }
    assert!(home.print(&["keys", "list"]).contains("sk-leaked-*"));
    home.print(&["keys", "unblock", "sk-leaked-*"]);
    assert!(home.print(&["keys", "list"]).contains("No key is blocked."));
    home.print(&["tenants", "unmap", "sk-acme-*", "acme"]);
    home.print(&["providers", "disable", "openai", "--note", "maintenance"]);
    let providers = json_of(&home.print(&["providers", "list", "--json"]));
    assert_eq!(providers["providers"][0]["enabled"], false, "{providers}");
    home.print(&["providers", "enable", "openai"]);
    home.print(&["policies", "disable", "loop"]);
    let policies = home.print(&["policies", "list"]);
    let line = policies.lines().find(|line| line.starts_with("loop ")).unwrap();
    assert!(line.contains(" off "), "{policies}");
}
