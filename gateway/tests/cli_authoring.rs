//! A new user's half hour with policies, as far as no gateway is needed: a policy from the template, a spec that fails and says why,
//! the fix, what the checker finds, what the specs reach, and one call asked about.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::{failed, printed, stdout};
use crate::harness::process::binary;

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Desk {
        Desk(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn policy(&self, args: &[&str]) -> Command {
        let mut command = binary();
        command.arg("policy").args(args).current_dir(self.0.path());
        command
    }

    /// Puts one text for another in a file.
    fn edit(&self, file: &str, old: &str, new: &str) {
        let text = read(&self.path(file));
        assert!(text.contains(old), "{file} has no {old:?}");
        std::fs::write(self.path(file), text.replacen(old, new, 1)).unwrap();
    }

    /// What a command printed that found something, and its exit code.
    fn found(&self, args: &[&str]) -> String {
        let output = self.policy(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        stdout(&output)
    }
}

/// What a command said that failed.
fn refused(command: &mut Command) -> String {
    let (code, said) = failed(command);
    assert_eq!(code, 1, "{said}");
    said
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_new_users_half_hour() {
    let desk = Desk::new();
    let made = printed(&mut desk.policy(&["new", "house"]));
    assert!(
        made.starts_with("policies/house.lua\npolicies/spec/house.lua\n"),
        "{made}"
    );
    assert!(made.contains("agentledger policy check policies/house.lua"), "{made}");
    let checked = printed(&mut desk.policy(&["check"]));
    assert_eq!(checked, "1 file, nothing found\n");
    let tested = printed(&mut desk.policy(&["test", "--min-coverage", "100"]));
    assert!(
        tested.contains("  ok    each agent has a budget for the day\n"),
        "{tested}"
    );
    assert!(tested.contains(" 100 %  policies/house.lua"), "{tested}");
    // What is wanted is said first: interns have a dollar.
    desk.edit(
        "policies/spec/house.lua",
        "\tspecs = {\n",
        "\tspecs = {\n\t\t{ name = \"interns have a dollar\", call = { agent = \"intern\" }, expect = { \"budget agent:intern day 1 usd block\" } },\n",
    );
    let wrong = desk.found(&["test"]);
    let expected = "  WRONG interns have a dollar\n        expected\n          budget agent:intern day 1 usd block\n        got\n          budget agent:intern day 5 usd block\n";
    assert!(
        wrong.contains(expected) && wrong.ends_with("5 specs, 1 wrong\n"),
        "{wrong}"
    );
    // The fix has a slip.
    desk.edit(
        "policies/house.lua",
        "limit = conf.limit })",
        "limit = if call.agnet == \"intern\" then 1 else conf.limit })",
    );
    let slip = desk.found(&["check", "policies/house.lua"]);
    assert!(
        slip.contains("policies/house.lua:22:")
            && slip.contains("call has no field \"agnet\"; did you mean agent? [fact_unknown]\n"),
        "{slip}"
    );
    assert!(slip.ends_with("1 file, 1 finding\n"), "{slip}");
    let findings: Value = serde_json::from_str(&desk.found(&["check", "policies/house.lua", "--json"])).unwrap();
    assert_eq!(findings["findings"][0]["code"], "fact_unknown");
    assert_eq!(findings["findings"][0]["line"], 22);
    desk.edit("policies/house.lua", "call.agnet", "call.agent");
    printed(&mut desk.policy(&["check", "policies/house.lua"]));
    let tested = printed(&mut desk.policy(&["test", "policies", "--coverage"]));
    assert!(tested.contains("5 specs, 0 wrong\n 100 %"), "{tested}");
    // One call, without a gateway.
    let said = printed(&mut desk.policy(&[
        "eval",
        "policies/house.lua",
        "--call",
        r#"{"agent": "coder"}"#,
        "--spent",
        "agent:day=4.50",
    ]));
    assert!(said.starts_with("budget agent:coder day 5 usd block\nroute always gpt-4o-mini\nread     spent of agent:coder in the day: 4.5 usd\nassumed  any_model false, at "), "{said}");
}

#[test]
fn the_template_overwrites_nothing_and_takes_names_alone() {
    let desk = Desk::new();
    for name in ["", "a b", "../up", ".hidden", "a/b"] {
        let said = refused(&mut desk.policy(&["new", name]));
        assert!(said.contains("is no name for a policy"), "{name}: {said}");
    }
    printed(&mut desk.policy(&["new", "house", "--dir", "rules"]));
    std::fs::write(desk.path("rules/house.lua"), "mine").unwrap();
    assert!(
        refused(&mut desk.policy(&["new", "house", "--dir", "rules"])).contains("rules/house.lua is there already")
    );
    std::fs::remove_file(desk.path("rules/house.lua")).unwrap();
    assert!(
        refused(&mut desk.policy(&["new", "house", "--dir", "rules"]))
            .contains("rules/spec/house.lua is there already")
    );
    assert!(!desk.path("rules/house.lua").exists(), "half of it is nothing");
}

#[test]
fn a_conf_is_checked_and_a_question_is_asked_with_it() {
    let desk = Desk::new();
    printed(&mut desk.policy(&["new", "house"]));
    std::fs::write(desk.path("good.yaml"), "limit: 7.50\n").unwrap();
    std::fs::write(desk.path("bad.yaml"), "limti: 7.50\nfrom: 2\n").unwrap();
    printed(&mut desk.policy(&["check", "policies/house.lua", "--conf", "good.yaml"]));
    let wrong = desk.found(&["check", "policies/house.lua", "--conf", "bad.yaml"]);
    assert!(
        wrong.contains("conf.limti is not in the policy's schema [conf]")
            && wrong.contains("conf.from is 2, above 1 [conf]"),
        "{wrong}"
    );
    printed(&mut desk.policy(&["new", "other"]));
    let (code, said) = failed(&mut desk.policy(&["check", "policies", "--conf", "good.yaml"]));
    assert!(code == 2 && said.contains("name one file"), "{said}");
    std::fs::write(
        desk.path("call.json"),
        json!({"agent": "coder", "tags": {"team": "ml"}}).to_string(),
    )
    .unwrap();
    let asked = [
        "eval",
        "policies/house.lua",
        "--call",
        "@call.json",
        "--conf",
        "good.yaml",
        "--json",
    ];
    let said: Value = serde_json::from_str(&printed(&mut desk.policy(&asked))).unwrap();
    assert_eq!(said["words"], json!(["budget agent:coder day 7.5 usd block"]));
    assert_eq!(said["verdict"]["bounds"][0]["limit"], "7.5");
    assert_eq!(said["verdict"]["reads"][0]["account"], "agent:coder");
    assert_eq!(said["assumed"]["model"], "gpt-4o");
    let said = refused(&mut desk.policy(&["eval", "policies/house.lua", "--call", r#"{"agnet": "x"}"#]));
    assert!(
        said.contains("a call has no fact \"agnet\"; did you mean agent?"),
        "{said}"
    );
    let denied = printed(&mut desk.policy(&["eval", "policies/house.lua"]));
    assert!(denied.starts_with("deny 400 agent_missing: "), "{denied}");
}
