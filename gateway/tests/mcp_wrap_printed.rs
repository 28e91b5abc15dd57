//! `mcp-wrap --print-config`: the lines that it prints, started as a client starts them.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::harness::mcp::{COST, call};
use crate::harness::process::{binary, rpc};
use crate::mcp_wrap::{KEY, SERVER, Wrapper, wait_for};

/// A folder whose configuration names its ledger by a relative path, and a gateway that runs there.
struct Relative {
    dir: tempfile::TempDir,
    gateway: Child,
}

fn started(dir: &Path) -> Child {
    binary()
        .args(["serve", "-c", "agentledger.yaml"])
        .current_dir(dir.join("a"))
        .env("AGENTLEDGER_RUNTIME_DIR", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Relative {
    fn serve() -> Relative {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a")).unwrap();
        std::fs::create_dir_all(dir.path().join("b")).unwrap();
        let yaml = format!(
            "listen: \"127.0.0.1:0\"\nstorage: {{driver: sled, dsn: data/agentledger}}\nmcp: {{pricing: [{{cost_per_call: {COST}}}]}}\n\
             policies: {{conf: {{tools: {{deny: [\"files:secret\"]}}}}}}\n"
        );
        std::fs::write(dir.path().join("a/agentledger.yaml"), yaml).unwrap();
        let gateway = started(dir.path());
        let home = Relative { dir, gateway };
        home.wait();
        home
    }

    /// Until it answers: before that a command would open its ledger.
    fn wait(&self) {
        wait_for("it answers", || rpc(&self.socket(), "hold.list", &json!({})).is_some());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("a/data/agentledger/control.sock")
    }

    fn export(&self) -> Vec<Value> {
        let printed = binary()
            .args(["export", "--by", "entry", "-f", "jsonl", "-c", "agentledger.yaml"])
            .current_dir(self.path("a"))
            .output()
            .unwrap();
        let text = String::from_utf8(printed.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines for a client, printed in one of the folders.
    fn lines(&self, client: &str, folder: &str, options: &[&str]) -> Value {
        let printed = binary()
            .args(["mcp-wrap", "--server", "files", "--print-config", client])
            .args(options)
            .args(["--", "sh", "-c", SERVER])
            .current_dir(self.path(folder))
            .env("AGENTLEDGER_RUNTIME_DIR", self.dir.path())
            .env("AGENTLEDGER_AGENT_ID", "a1")
            .output()
            .unwrap();
        let text = String::from_utf8(printed.stdout).unwrap();
        let (place, lines) = text.split_once("\n\n").unwrap();
        assert!(place.starts_with("For ") && place.contains(".json"), "{place}");
        assert!(
            place.contains("AGENTLEDGER_KEY is a secret and is not in the lines"),
            "{place}"
        );
        let lines: Value = serde_json::from_str(lines).unwrap();
        lines.as_object().unwrap().values().next().unwrap()["files"].clone()
    }
}

impl Drop for Relative {
    fn drop(&mut self) {
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
    }
}

fn args(lines: &Value) -> Vec<&str> {
    let args = lines["args"].as_array().unwrap();
    args.iter().map(|arg| arg.as_str().unwrap()).collect()
}

/// As a client starts it: in a folder of its own, with the variables of the lines and the key.
fn start(lines: &Value, folder: &Path) -> Wrapper {
    let mut command = binary();
    for (name, value) in lines["env"].as_object().unwrap() {
        command.env(name, value.as_str().unwrap());
    }
    command
        .args(args(lines))
        .current_dir(folder)
        .env("AGENTLEDGER_KEY", KEY);
    Wrapper::start(&mut command)
}

#[test]
fn the_lines_for_each_client_start_the_server_wrapped() {
    let home = Relative::serve();
    let file = home.path("a/agentledger.yaml");
    let named = ["-c", file.to_str().unwrap()];
    let printed_in = [
        ("a", &[][..]),
        ("b", &named[..]),
        ("b", &[]),
        ("a", &["-c", "agentledger.yaml"]),
    ];
    let clients = ["claude-code", "cursor", "claude-desktop", "vscode"];
    for (client, (folder, options)) in clients.into_iter().zip(printed_in) {
        let lines = home.lines(client, folder, options);
        assert!(args(&lines).starts_with(&["mcp-wrap", "--server", "files"]), "{lines}");
        let mut wrapper = start(&lines, &home.path("b"));
        assert!(!wrapper.is_refused(1), "{client}");
        wrapper.says(&call(2, "secret", json!({})));
        assert_eq!(
            wrapper.answer()["result"]["isError"],
            true,
            "{client}: a policy denies it"
        );
        wrapper.ends();
    }
    let entries = home.export();
    assert_eq!(entries.len(), clients.len());
    for entry in &entries {
        assert_eq!(
            (&entry["agent"], &entry["overage_usd"]),
            (&json!("a1"), &json!("0")),
            "it was held"
        );
        assert_ne!(entry["key"], "");
    }
    assert!(!home.path("a/data/agentledger-spool").exists() && !home.path("b/data").exists());
}

#[test]
fn lines_printed_while_no_gateway_runs_lead_to_the_one_that_is_started_then() {
    let mut home = Relative::serve();
    home.gateway.kill().unwrap();
    home.gateway.wait().unwrap();
    let lines = home.lines("cursor", "a", &[]);
    let mut wrapper = start(&lines, &home.path("b"));
    assert!(!wrapper.is_refused(1));
    wrapper.ends();
    home.gateway = started(home.dir.path());
    home.wait();
    wait_for("entered", || home.export().len() == 1);
    assert_ne!(home.export()[0]["key"], "", "its budgets count it");
}

#[test]
fn lines_for_a_gateway_elsewhere_lead_there() {
    let home = Relative::serve();
    std::fs::write(home.path("b/token"), "x").unwrap();
    std::fs::write(home.path("b/agentledger.yaml"), "mcp: {stdio: {offline: refuse}}").unwrap();
    let lines = home.lines(
        "claude-code",
        "b",
        &["--url", "https://gateway.example.com", "--token-file", "token"],
    );
    let token = home.path("b/token");
    let expected = [
        "--url",
        "https://gateway.example.com",
        "--token-file",
        token.to_str().unwrap(),
    ];
    assert!(args(&lines).windows(4).any(|options| options == expected), "{lines}");
    assert!(!args(&lines).contains(&"--config"), "{lines}");
    assert!(
        args(&lines).windows(2).any(|option| option == ["--offline", "refuse"]),
        "{lines}"
    );
}
