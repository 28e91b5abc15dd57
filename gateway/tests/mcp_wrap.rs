//! MCP servers that a client starts itself: the real binary between the two, beside a gateway and without one.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::mcp::{COST, call};
use crate::harness::process::binary;
use crate::harness::{Installation, Script, Upstream};

pub const KEY: &str = "sk-wrapped-0123456789abcdef";

/// A server that keeps what it is sent in `seen`, its environment in `env`, and answers each call; one of `slow` when there is a
/// file `go`.
pub const SERVER: &str = r#"env >env; n=1; while IFS= read -r line; do printf '%s\n' "$line" >>seen
case $line in *slow*) while [ ! -e go ]; do sleep 0.02; done;; esac
case $line in *tools/call*) printf '{"jsonrpc":"2.0","id":%d,"result":{"content":[]}}\n' $n; n=$((n+1));; esac
done"#;

pub fn installed(further: &str) -> Installation {
    Installation::new(&format!(
        "mcp: {{pricing: [{{server: files, cost_per_call: {COST}}}]}}\n{further}"
    ))
}

/// A wrapper that runs.
pub struct Wrapper {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

pub fn wrap(home: &Installation, args: &[&str], script: &str) -> Wrapper {
    let session = [("AGENTLEDGER_SESSION_ID", "run-1")];
    wrap_with(home, args, script, &session)
}

pub fn wrap_with(home: &Installation, args: &[&str], script: &str, variables: &[(&str, &str)]) -> Wrapper {
    let mut command = binary();
    command
        .arg("mcp-wrap")
        .arg("-c")
        .arg(home.path("agentledger.yaml"))
        .args(["--server", "files"])
        .args(args)
        .args(["--", "sh", "-c", script])
        .current_dir(home.path(""))
        .env("AGENTLEDGER_RUNTIME_DIR", home.path(""))
        .env("AGENTLEDGER_KEY", KEY)
        .env("AGENTLEDGER_AGENT_ID", "a1")
        .envs(variables.iter().copied())
        .env("AGENTLEDGER_USER_ID", "ann")
        .env("AGENTLEDGER_TASK", "sort");
    Wrapper::start(&mut command)
}

impl Wrapper {
    pub fn start(command: &mut Command) -> Wrapper {
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        Wrapper {
            stdin: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub fn says(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Calls a tool; whether it was refused.
    pub fn is_refused(&mut self, id: u32) -> bool {
        self.says(&call(id, "read", json!({"path": "a"})));
        self.answer()["result"]["isError"] == true
    }

    /// The client goes; what else it was told, the exit code, and the log.
    pub fn ends(mut self) -> (String, i32, String) {
        self.stdin = None;
        let (mut rest, mut log) = (String::new(), String::new());
        self.answers.read_to_string(&mut rest).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (rest, self.child.wait().unwrap().code().unwrap(), log)
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1500 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: it never is so");
}

/// Waits until the server has this.
pub fn wait_for_seen(home: &Installation, text: &str) {
    let seen = || std::fs::read_to_string(home.path("seen")).unwrap_or_default();
    wait_for(text, || seen().contains(text));
}

pub fn spool(home: &Installation) -> Vec<PathBuf> {
    let files = std::fs::read_dir(home.path("ledger-spool")).into_iter().flatten();
    files.map(|file| file.unwrap().path()).collect()
}

/// Cost, outcome, and why it is an estimate.
pub fn how(entry: &Value) -> (&str, &str, Option<&str>) {
    (
        entry["cost_usd"].as_str().unwrap(),
        entry["outcome"].as_str().unwrap(),
        entry["estimate_reason"].as_str(),
    )
}

#[test]
fn a_wrapped_call_is_in_the_books_and_the_log_is_not_in_the_protocol() {
    let home = installed("log: {level: debug}");
    let gateway = home.serve();
    let mut wrapper = wrap(&home, &[], SERVER);
    assert!(!wrapper.is_refused(1));
    let (rest, code, _) = wrapper.ends();
    assert_eq!((rest.as_str(), code), ("", 0));
    let entry = &home.export()[0];
    for (name, value) in [
        ("provider", json!("mcp")),
        ("operation", json!("tool")),
        ("requested_model", json!("files:read")),
        ("path", json!("tools/call")),
        ("agent", json!("a1")),
        ("session", json!("run-1")),
        ("user", json!("ann")),
        ("task", json!("sort")),
        ("cost_usd", json!(COST)),
        ("held_usd", json!(COST)),
        ("estimated", json!(false)),
        ("status", json!(200)),
    ] {
        assert_eq!(entry[name], value, "{name}: {entry}");
    }
    assert_eq!(
        (&entry["tags"]["server"], &entry["tags"]["tool"]),
        (&json!("files"), &json!("read"))
    );
    // The server learns who it works for, and no secret.
    let env = std::fs::read_to_string(home.path("env")).unwrap();
    assert!(env.contains("AGENTLEDGER_AGENT_ID=a1") && !env.contains(KEY), "{env}");
    assert!(!gateway.stop().contains(KEY));
}

#[test]
fn what_claude_code_spends_on_tools_stands_in_its_session() {
    let home = installed("");
    let gateway = home.serve();
    for variables in [&[("CLAUDE_CODE_SESSION_ID", "c0ffee-1")][..], &[]] {
        let mut wrapper = wrap_with(&home, &[], SERVER, variables);
        assert!(!wrapper.is_refused(1));
        wrapper.ends();
    }
    let sessions: Vec<String> = home
        .export()
        .iter()
        .map(|entry| entry["session"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(sessions[0], "c0ffee-1");
    // Where none is known, the connection is one.
    assert!(sessions[1].starts_with("mcp-"), "{sessions:?}");
    gateway.stop();
}

#[test]
fn one_budget_is_used_up_by_a_model_and_by_wrapped_tools_together() {
    let upstream = Upstream::always(Script::json(
        200,
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#,
    ));
    let home = installed(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\nbudgets: {{default: {{daily_limit_usd: 0.02, action: block}}}}",
        upstream.base()
    ));
    let gateway = home.serve();
    let chat = |gateway: &crate::harness::process::Process| {
        let body = r#"{"model":"gpt-4o","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#;
        let key = format!("Bearer {KEY}");
        let headers = [("authorization", key.as_str())];
        gateway
            .client
            .request("POST", "/v1/chat/completions", &headers, body.as_bytes())
            .status
    };
    let mut wrapper = wrap(&home, &[], SERVER);
    assert!(!wrapper.is_refused(1));
    assert_eq!(chat(&gateway), 200);
    // A cent was spent, and a little more: the next cent is not there.
    wrapper.says(&call(2, "read", json!({"path": "b"})));
    let refused = wrapper.answer();
    let refusal = &refused["result"]["_meta"]["agentledger/refusal"];
    assert_eq!(
        (&refused["id"], &refusal["code"]),
        (&json!(2), &json!("budget_exceeded")),
        "{refused}"
    );
    wrapper.ends();
    assert_eq!(home.export().len(), 2);
    assert_eq!(
        std::fs::read_to_string(home.path("seen")).unwrap().lines().count(),
        1,
        "it was not passed on"
    );
    gateway.stop();
}

#[test]
fn calls_that_wait_for_others_holds_do_not_keep_those_from_ending() {
    let home = installed("budgets: {default: {daily_limit_usd: 0.015, action: block}}\nhold: {wait_ms: 60s}");
    let gateway = home.serve();
    // Each says that it failed, and costs nothing: the budget is for one at a time.
    let script = r#"while IFS= read -r line; do printf '%s\n' "$line" >>seen; while [ ! -e go ]; do sleep 0.02; done
id=${line#*\"id\":}; printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"isError":true}}\n' "${id%%,*}"; done"#;
    let mut wrapper = wrap(&home, &[], script);
    for id in 1..=8 {
        wrapper.says(&call(id, "read", json!({"n": id})));
    }
    wait_for_seen(&home, "\"id\":1");
    std::fs::write(home.path("go"), "").unwrap();
    let mut answered: Vec<u64> = (0..8)
        .map(|_| {
            let answer = wrapper.answer();
            assert_eq!(answer["result"]["content"], json!([]), "{answer}");
            answer["id"].as_u64().unwrap()
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5, 6, 7, 8]);
    wrapper.ends();
    assert_eq!(home.export().len(), 8);
    gateway.stop();
}

#[test]
fn a_refusal_is_an_error_where_that_is_wanted() {
    let home = installed("policies: {conf: {tools: {deny: [\"files:*\"]}}}");
    let gateway = home.serve();
    let mut wrapper = wrap(&home, &["--refuse", "error"], SERVER);
    wrapper.says(&call(1, "read", json!({})));
    let refused = wrapper.answer();
    assert_eq!(refused["id"], 1);
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("AgentLedger: "),
        "{refused}"
    );
    wrapper.ends();
    gateway.stop();
}

#[test]
fn the_same_call_again_and_again_is_a_loop() {
    let home = installed("agent: {loop_threshold: 3, loop_action: block}");
    let gateway = home.serve();
    let mut wrapper = wrap(&home, &[], SERVER);
    let refused: Vec<bool> = (1..=5).map(|id| wrapper.is_refused(id)).collect();
    assert_eq!((refused[0], refused[4]), (false, true), "{refused:?}");
    wrapper.ends();
    gateway.stop();
}

#[test]
fn a_call_that_takes_longer_than_its_hold_would_wait_is_kept() {
    let home = installed("");
    home.configure(&format!(
        "mcp: {{answer_wait: 2s, pricing: [{{server: files, cost_per_call: {COST}}}]}}"
    ));
    let gateway = home.serve();
    let mut wrapper = wrap(&home, &[], SERVER);
    wrapper.says(&call(1, "slow", json!({})));
    wait_for_seen(&home, "slow");
    // Twice as long as it would wait unkept.
    thread::sleep(Duration::from_secs(5));
    std::fs::write(home.path("go"), "").unwrap();
    assert_eq!(wrapper.answer()["id"], 1);
    wrapper.ends();
    assert_eq!(how(&home.export()[0]), (COST, "completed", None));
    gateway.stop();
}

#[test]
fn signals_and_exit_codes_are_passed_on() {
    let home = installed("");
    let script = "trap 'exit 42' TERM; echo '{\"ready\":1}'; while :; do sleep 0.02; done";
    let mut wrapper = wrap(&home, &[], script);
    assert_eq!(wrapper.answer()["ready"], 1);
    let id = wrapper.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(wrapper.ends().1, 42);
    assert_eq!(wrap(&home, &[], "kill -9 $$").ends().1, 137);
    let missing = binary()
        .args(["mcp-wrap", "--server", "x", "--", "/nonexistent/server"])
        .output()
        .unwrap();
    assert_eq!((missing.status.code(), missing.stdout.len()), (Some(1), 0));
    let nameless = binary().args(["mcp-wrap", "--", "true"]).output().unwrap();
    assert_eq!((nameless.status.code(), nameless.stdout.len()), (Some(2), 0));
}

#[test]
fn a_pipe_that_the_server_closes_is_closed_for_the_client() {
    let home = installed("");
    let mut wrapper = wrap(&home, &[], "exec 1>&-; while [ ! -e go ]; do sleep 0.02; done; exit 5");
    let mut rest = String::new();
    // It ends although the server runs.
    wrapper.answers.read_to_string(&mut rest).unwrap();
    assert!(rest.is_empty() && wrapper.child.try_wait().unwrap().is_none());
    std::fs::write(home.path("go"), "").unwrap();
    assert_eq!(wrapper.ends().1, 5);
}

#[test]
fn another_round_of_a_call_is_refused_where_its_session_was_killed() {
    let home = installed("");
    let gateway = home.serve();
    let script = r#"while IFS= read -r line; do printf '%s\n' "$line" >>seen; id=${line#*\"id\":}; id=${id%%,*}
case $line in *inputResponses*) printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\n' "$id";;
*) printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"input_required"}}\n' "$id";; esac; done"#;
    let mut wrapper = wrap(&home, &[], script);
    wrapper.says(&call(1, "read", json!({"path": "a"})));
    assert_eq!(wrapper.answer()["result"]["resultType"], "input_required");
    let round = |id: u32| {
        let mut next: Value = serde_json::from_str(&call(id, "read", json!({"path": "a"}))).unwrap();
        next["params"]["inputResponses"] = json!({});
        next.to_string()
    };
    home.rpc("session.kill", &json!({"id": "run-1"}));
    wrapper.says(&round(2));
    assert_eq!(
        wrapper.answer()["result"]["_meta"]["agentledger/refusal"]["code"],
        "session_killed"
    );
    wrapper.ends();
    // The server has its first round: what that cost nobody said.
    assert_eq!(
        home.export().iter().map(how).collect::<Vec<_>>(),
        [(COST, "upstream_failed", Some("upstream_failed"))]
    );
    gateway.stop();
}

#[test]
fn a_gateway_that_breaks_off_each_time_is_not_gone_round() {
    let home = installed("");
    std::fs::create_dir_all(home.path("ledger")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(home.path("ledger/control.sock")).unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let mut wrapper = wrap(&home, &[], SERVER);
    assert!(wrapper.is_refused(1));
    wrapper.ends();
    assert!(!home.path("seen").exists() && spool(&home).is_empty());
}
