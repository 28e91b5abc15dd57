//! Things that are no files where files are expected: refused by name at the start, told of while the gateway runs, and
//! nothing ever waits for them.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Installation, Script, Upstream};

const CHAT: &str = "/v1/chat/completions";
const ASKED: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":100}"#;
const SMALL: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
const MARKING: &str = r#"return { name = "house", version = "1", request = function()
    return header{ name = "X-House", value = "mine" } end }"#;

const PRICES: &str = "provider: openai\nmodels:\n- {id: gpt-4o, source: ours, checked: 2026-11-20, prices: {always: {standard: {input: 2, output: 8}}}}\n";

/// Puts a thing of this kind there; what is to be said of it.
fn put(kind: &str, path: &Path) -> &'static str {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).unwrap();
    }
    match kind {
        "fifo" => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        "socket" => drop(UnixListener::bind(path).unwrap()),
        "folder" => std::fs::create_dir(path).unwrap(),
        "zeros" => symlink("/dev/zero", path).unwrap(),
        "huge" => {
            std::fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
            return "longer than";
        }
        other => panic!("{other}"),
    }
    "not a regular file"
}

const KINDS: [&str; 5] = ["fifo", "socket", "folder", "zeros", "huge"];

/// `agentledger check` reads all that `serve` reads.
fn refused(home: &Installation, name: &str, why: &str) {
    let output = home.run(&["check"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{name} is taken");
    assert!(said.contains(name) && said.contains(why), "{name}, {why}: {said}");
}

#[test]
fn what_is_no_file_is_refused_by_name_wherever_a_file_is_read() {
    let upstream = "providers: {openai: {upstream: \"http://127.0.0.1:9\"}}";
    for kind in KINDS {
        let home = Installation::new(&format!("{upstream}\nplugins: {{dir: \"DIR\"}}"));
        let dir = home.path("plugins");
        let plugins = format!("plugins: {{dir: \"{}\"}}", dir.display());
        let prices = format!("prices: {{files: [\"{}\"]}}", home.path("prices.yaml").display());
        let tls = format!(
            "tls: {{cert_file: \"{0}\", key_file: \"{0}\"}}",
            home.path("cert.pem").display()
        );
        for (yaml, name) in [
            ("", "policies/odd.lua"),
            (plugins.as_str(), "plugins/odd.wasm"),
            (prices.as_str(), "prices.yaml"),
            (tls.as_str(), "cert.pem"),
        ] {
            home.configure(&format!("{upstream}\n{yaml}"));
            let path = home.path(name);
            let why = put(kind, &path);
            refused(&home, name, why);
            std::fs::rename(&path, home.path("aside")).unwrap();
            let _ = std::fs::remove_file(home.path("aside")).or_else(|_| std::fs::remove_dir(home.path("aside")));
        }
        std::fs::remove_file(home.path("agentledger.yaml")).unwrap();
        let why = put(kind, &home.path("agentledger.yaml"));
        refused(&home, "agentledger.yaml", why);
    }
}

#[test]
fn a_fifo_in_the_policies_folder_blocks_neither_reloads_nor_the_end() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let prices = |home: &Installation| format!("prices: {{files: [\"{}\"]}}", home.path("prices.yaml").display());
    let home = Installation::new("");
    std::fs::write(home.path("prices.yaml"), PRICES).unwrap();
    home.configure(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\n{}",
        upstream.base(),
        prices(&home)
    ));
    home.policy("house", MARKING);
    let gateway = home.serve();
    let mark = || gateway.client.post(CHAT, ASKED).header("x-house").map(str::to_owned);
    assert_eq!(mark().as_deref(), Some("mine"));

    put("fifo", &home.path("policies/odd.lua"));
    gateway.wait_for_log("odd.lua: not a regular file", 1);
    assert_eq!(mark().as_deref(), Some("mine"), "the old rules stay");
    // It is looked at on: what takes its place is read.
    std::fs::remove_file(home.path("policies/odd.lua")).unwrap();
    home.policy("house", &MARKING.replace("mine", "newer"));
    gateway.wait_for_log("new rules are in force", 1);
    assert_eq!(mark().as_deref(), Some("newer"));

    std::fs::remove_file(home.path("prices.yaml")).unwrap();
    put("zeros", &home.path("prices.yaml"));
    gateway.wait_for_log("prices.yaml: cannot be read: not a regular file", 1);
    put("fifo", &home.path("policies/odd.lua"));
    let asked = Instant::now();
    let log = gateway.stop();
    assert!(asked.elapsed() < Duration::from_secs(15), "SIGTERM ends it:\n{log}");
    assert!(log.contains("everything is settled"));
}

#[test]
fn a_fifo_where_the_learned_sizes_are_kept_costs_only_them() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let home = Installation::new(&format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base()));
    put("fifo", &home.path("ledger/learned.json"));
    put("fifo", &home.path("ledger/learned.json.new"));
    let gateway = home.serve();
    gateway.wait_for_log("not a regular file", 1);
    assert_eq!(gateway.client.post(CHAT, ASKED).status, 200);
    gateway.stop();
    assert!(home.path("ledger/learned.json").is_file());
}

#[test]
fn a_fingerprint_key_that_is_no_file_refuses_the_start() {
    let home = Installation::new("providers: {openai: {upstream: \"http://127.0.0.1:9\"}}");
    put("fifo", &home.path("ledger/fingerprint.key"));
    let output = home.run(&["serve"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("fingerprint.key: not a regular file"), "{said}");
}
