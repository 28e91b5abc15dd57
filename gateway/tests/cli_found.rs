//! The real binary without `-c`: the running gateway is found, keys have names, refusals are listed, and `serve` says what holds.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::cli::{failed, installation, json_of, printed, spend, stdout, upstream};
use crate::harness::process::binary;
use crate::harness::{Installation, Script, Upstream};

const KEY: &str = "sk-test-0123456789abcdef";

/// In a folder and a home where nothing is configured.
fn lost(home: &Installation, args: &[&str]) -> Command {
    let elsewhere = home.path("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let mut command = binary();
    command
        .args(args)
        .current_dir(&elsewhere)
        .env("HOME", &elsewhere)
        .env("AGENTLEDGER_RUNTIME_DIR", home.path(""));
    command
}

#[test]
fn a_running_gateway_is_found_wherever_a_command_is_called() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    spend(&gateway, "crawler");
    let costs = ["costs", "--by", "agent"];
    assert!(printed(&mut lost(&home, &costs)).contains("crawler"));
    assert_eq!(printed(&mut lost(&home, &costs)), home.print(&costs));

    // Two of them have to be told apart.
    let other = installation(&upstream);
    let second = other.serve_with_env(&[("AGENTLEDGER_RUNTIME_DIR", home.path("").to_str().unwrap())]);
    let (code, said) = failed(&mut lost(&home, &costs));
    assert!(code == 1 && said.contains("several gateways run here"), "{said}");
    assert!(said.contains(&second.client.address().to_string()), "{said}");
    let mut named = lost(&home, &costs);
    named.env("AGENTLEDGER_CONFIG", home.path("agentledger.yaml"));
    assert!(printed(&mut named).contains("crawler"));
    second.stop();
    assert!(printed(&mut lost(&home, &costs)).contains("crawler"));

    // Another user could have put it there.
    let notes = home.path("agentledger");
    std::fs::set_permissions(&notes, std::fs::Permissions::from_mode(0o770)).unwrap();
    let (code, said) = failed(&mut lost(&home, &costs));
    assert!(code == 1 && said.contains("no ledger at "), "{said}");
    std::fs::set_permissions(&notes, std::fs::Permissions::from_mode(0o700)).unwrap();
    gateway.kill();
    let (code, said) = failed(&mut lost(&home, &costs));
    assert!(
        code == 1 && said.contains("no ledger at "),
        "a note of a killed gateway: {said}"
    );
}

#[test]
fn agentledger_config_names_the_file_for_serve_and_for_commands() {
    let home = Installation::new("log: {level: debug}");
    let mut check = lost(&home, &["check"]);
    check.env("AGENTLEDGER_CONFIG", home.path("agentledger.yaml"));
    assert!(printed(&mut check).contains(home.path("agentledger.yaml").to_str().unwrap()));
    check.arg("-c").arg(home.path("nowhere.yaml"));
    let (code, said) = failed(&mut check);
    assert!(
        code == 1 && said.contains("nowhere.yaml"),
        "an argument counts before it: {said}"
    );
}

fn fingerprint(home: &Installation, key: &str) -> String {
    let mut child = binary()
        .args(["keys", "fingerprint", "-c"])
        .arg(home.path("agentledger.yaml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{key}\n").as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    stdout(&output)
}

#[test]
fn a_key_has_a_fingerprint_and_by_it_a_name_in_every_table() {
    let upstream = upstream();
    let home = installation(&upstream);
    let before = home.run(&["keys", "fingerprint"]);
    assert_eq!(before.status.code(), Some(1), "there is no secret yet");
    let gateway = home.serve();
    spend(&gateway, "crawler");
    let found = fingerprint(&home, KEY);
    let found = found.trim_end();
    assert!(home.print(&["costs", "--by", "key"]).contains(found));
    gateway.stop();
    let yaml = std::fs::read_to_string(home.path("agentledger.yaml")).unwrap();
    let named = format!("{yaml}keys: {{aliases: {{\"{found}\": ci-runner}}}}\n");
    std::fs::write(home.path("agentledger.yaml"), named).unwrap();
    let gateway = home.serve();
    assert_eq!(fingerprint(&home, KEY), format!("{found}   ci-runner\n"));
    for args in [&["costs", "--by", "key"][..], &["budgets", "--all"], &["keys", "list"]] {
        assert!(home.print(args).contains("ci-runner"), "{args:?}: {}", home.print(args));
    }
    let costs = home.print(&["costs", "--by", "key"]);
    assert!(!costs.contains(found), "{costs}");
    // Programs read what is stored.
    let json = json_of(&home.print(&["costs", "--by", "key", "--json"]));
    assert_eq!(json["rows"][0]["key"], found);
    let csv = home.print(&["keys", "list", "-f", "csv"]);
    assert!(
        csv.lines().nth(1).unwrap().starts_with(&format!("ci-runner,{found},")),
        "{csv}"
    );
    let mut elsewhere = binary();
    let url = format!("http://{}", gateway.client.address());
    elsewhere
        .args(["costs", "--by", "key", "--url", &url])
        .env("AGENTLEDGER_TOKEN", crate::cli::READER);
    assert!(printed(&mut elsewhere).contains("ci-runner"));
}

#[test]
fn refusals_are_listed_and_outlive_a_restart() {
    let upstream = upstream();
    let home = Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\nbudgets: {{default: {{daily_limit_usd: 0.000001, action: block}}}}",
        upstream.base()
    ));
    let gateway = home.serve();
    let ask = br#"{"model":"gpt-4o","messages":[],"max_tokens":50}"#;
    let headers = [("authorization", "Bearer sk-test-0123456789abcdef")];
    let reply = gateway.client.request("POST", "/v1/chat/completions", &headers, ask);
    assert!((400..500).contains(&reply.status), "{}", reply.text());
    let listed = home.print(&["denials"]);
    assert!(
        listed.contains("budget_exceeded") && listed.contains("key:") && listed.contains("   budget@2   "),
        "with the policy that put the limit there: {listed}"
    );
    let whole = home.print(&["costs", "-f", "table"]);
    assert!(whole.contains("1 request was refused (agentledger denials)"), "{whole}");
    gateway.stop();
    assert_eq!(home.print(&["denials"]), listed, "without a gateway");
    let _gateway = home.serve();
    assert_eq!(home.print(&["denials"]), listed, "after a restart");
    let other = home.print(&["denials", "--code", "rate_"]);
    assert_eq!(other, "No request was refused by a rule in the given time window.\n");
}

#[test]
fn serve_says_what_is_served_and_what_is_budgeted() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    let url = format!("openai is served at http://{}/v1", gateway.client.address());
    gateway.wait_for_log(&url, 1);
    gateway.wait_for_log("budgeted: each key $1000 a day", 1);
    let log = gateway.stop();
    assert!(!log.contains("can be reached from other machines"), "{log}");
    let open = Installation::new("");
    let gateway = open.serve();
    gateway.wait_for_log("budgeted: nothing", 1);
}

#[test]
fn an_error_of_the_upstreams_is_no_completed_request() {
    let upstream = Upstream::always(Script::json(404, r#"{"error":{"message":"no such model"}}"#));
    let home = installation(&upstream);
    let gateway = home.serve();
    let ask = br#"{"model":"gpt-4o","messages":[],"max_tokens":50}"#;
    let reply = gateway
        .client
        .request("POST", "/v1/chat/completions", &[("authorization", "Bearer sk-x")], ask);
    assert_eq!(reply.status, 404);
    let entries = home.export();
    assert_eq!(
        (&entries[0]["outcome"], &entries[0]["status"]),
        (&json!("upstream_error"), &json!(404))
    );
}

#[test]
fn results_come_as_csv_and_as_json_lines() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    for agent in ["crawler", "coder"] {
        spend(&gateway, agent);
    }
    let csv = home.print(&["costs", "--by", "day,agent", "-f", "csv"]);
    assert!(
        csv.starts_with("day,agent,requests,errors,estimated,input_tokens,"),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let lines = home.print(&["costs", "--by", "agent", "-f", "jsonl"]);
    assert_eq!(lines.lines().map(json_of).filter(|row| row["requests"] == 1).count(), 2);
    for args in [
        &["sessions"][..],
        &["budgets"],
        &["providers", "list"],
        &["status"],
        &["prices", "list", "--provider", "openai"],
        &["config", "show", "budgets"],
        &["rules", "list"],
        &["holds"],
    ] {
        let csv = home.print(&[args, &["-f", "csv"]].concat());
        let header = csv.lines().next().unwrap();
        assert!(header.contains(',') && !header.contains(' '), "{args:?}: {csv}");
        let lines = home.print(&[args, &["-f", "jsonl"]].concat());
        assert!(lines.lines().all(|line| json_of(line).is_object()), "{args:?}: {lines}");
    }
    let unknown = home.run(&["prices", "list", "--provider", "opnai"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(crate::cli::stderr(&unknown).contains("did you mean openai?"));
}

#[test]
fn the_version_is_an_option_too() {
    let version = printed(binary().arg("version"));
    // `agentledger v1.2.0-3-gabc (0123abc, 2026-11-30)`; without git the package's version alone.
    let (_, said) = version.trim().split_once(' ').unwrap();
    let is_stamp = said.split_once(" (").is_some_and(|(tag, rest)| {
        let (commit, day) = rest.trim_end_matches(')').split_once(", ").unwrap_or_default();
        let is_hex = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        tag.starts_with('v') && is_hex && day.split('-').map(str::len).eq([4, 2, 2])
    });
    assert!(is_stamp || said == env!("CARGO_PKG_VERSION"), "{version}");
    for option in ["--version", "-V"] {
        assert_eq!(printed(binary().arg(option)), version);
    }
}
