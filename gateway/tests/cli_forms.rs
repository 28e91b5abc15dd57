//! Each form of a command's result is what its name says: of the commands that work without a gateway, and of exports.

use serde_json::Value;

use crate::cli::{installation, printed, spend, upstream};
use crate::harness::process::binary;
use crate::harness::{Installation, root};

const SPEC: &str = "return { policy = 'house', specs = { { name = 'nothing', call = {}, expect = {} } } }";
const POLICY: &str = "return { name = 'house', version = '1', request = function(_, call) return nil end }";

/// The command in each form. A table is no JSON, JSON is one value, of JSON lines each is one, and CSV has a line of names.
#[track_caller]
fn is_in_each_form(home: &Installation, args: &[&str]) {
    let in_form = |form: &[&str]| home.print(&[args, form].concat());
    let table = in_form(&["-f", "table"]);
    assert!(
        !table.is_empty() && serde_json::from_str::<Value>(&table).is_err(),
        "{args:?}: {table}"
    );
    for form in [&["--json"][..], &["-f", "json"]] {
        let json = in_form(form);
        assert!(serde_json::from_str::<Value>(&json).is_ok(), "{args:?}: {json}");
    }
    for line in in_form(&["-f", "jsonl"]).lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{args:?}: {error}: {line}"));
        assert!(value.is_object(), "{args:?}: {line}");
    }
    let csv = in_form(&["-f", "csv"]);
    let names = csv.lines().next().unwrap_or_else(|| panic!("{args:?}: nothing"));
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|sign| sign.is_ascii_lowercase() || "_.".contains(sign))
    };
    assert!(names.split(',').all(is_name), "{args:?}: {csv}");
    assert_ne!(csv, table, "{args:?}");
}

#[test]
fn commands_without_a_gateway_print_each_form() {
    let upstream = upstream();
    let home = installation(&upstream);
    let drafts = home.path("drafts");
    std::fs::create_dir_all(drafts.join("spec")).unwrap();
    std::fs::write(drafts.join("house.lua"), POLICY).unwrap();
    std::fs::write(drafts.join("spec/house.lua"), SPEC).unwrap();
    let drafts = drafts.display().to_string();
    let prices = root().join("configs/prices/openai.yaml").display().to_string();
    let file = format!("{drafts}/house.lua");
    for args in [
        &["check"][..],
        &["policy", "check", &file],
        &["policy", "test", &drafts],
        &["policy", "eval", &file],
        &["prices", "check"],
        &["prices", "list"],
        &["prices", "diff", &prices],
        &["prices", "reprice"],
        &["config", "show"],
    ] {
        is_in_each_form(&home, args);
    }
    let version: Value = serde_json::from_str(&printed(binary().args(["version", "--json"]))).unwrap();
    assert_eq!(
        printed(binary().arg("version")),
        format!("agentledger {}\n", version["version"].as_str().unwrap())
    );
    let new: Value =
        serde_json::from_str(&home.print(&["policy", "new", "fresh", "--dir", &drafts, "--json"])).unwrap();
    assert_eq!(new["policy"], format!("{drafts}/fresh.lua"));
}

#[test]
fn exports_of_sums_and_of_entries_have_each_form() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    spend(&gateway, "crawler");
    spend(&gateway, "coder");
    for args in [
        &["export"][..],
        &["export", "--by", "agent"],
        &["export", "--by", "entry"],
        &["setup", "claude"],
    ] {
        is_in_each_form(&home, args);
    }
    gateway.stop();
    let entries: Value = serde_json::from_str(&home.print(&["export", "--by", "entry", "-f", "json"])).unwrap();
    assert_eq!(entries.as_array().unwrap().len(), 2);
    assert!(
        home.print(&["export", "--by", "entry", "-f", "table"])
            .contains("gpt-4o")
    );
    let archive = home.path("archive").display().to_string();
    let written: Value = serde_json::from_str(&home.print(&["backup", &archive, "--json"])).unwrap();
    assert_eq!(written["path"], archive);
    let restored = home.path("restored").display().to_string();
    let restored = printed(binary().args(["restore", &archive, &restored, "-f", "csv"]));
    assert!(restored.contains("\nentries,2\n"), "{restored}");
}
