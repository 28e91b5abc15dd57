//! The real binary as a client: of a gateway on this machine, of one elsewhere, of none.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::process::{Process, binary};
use crate::harness::{Installation, Script, Upstream, dead_port};

const CHAT: &str = "/v1/chat/completions";
const ASK: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":50}"#;
pub const READER: &str = "reader-token-0123456789";
pub const ADMIN: &str = "admin-token-0123456789";
pub const FOR_TENANT: &str = "tenant-token-0123456789";

pub fn upstream() -> Upstream {
    Upstream::always(Script::json(
        200,
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":200,"total_tokens":1200}}"#,
    ))
}

pub fn installation(upstream: &Upstream) -> Installation {
    Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\n\
         budgets: {{default: {{daily_limit_usd: 1000, action: block}}}}\n\
         control: {{tokens: [{{name: r, token: {READER}, role: read}}, {{name: a, token: {ADMIN}, role: admin}}, \
         {{name: t, token: {FOR_TENANT}, role: admin, tenant: acme}}]}}",
        upstream.base()
    ))
}

pub fn spend(gateway: &Process, agent: &str) {
    let headers = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("x-agent-id", agent),
        ("x-agent-session", "s1"),
    ];
    let reply = gateway.client.request("POST", CHAT, &headers, ASK.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a command printed that must do well.
pub fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{command:?}: {}{}",
        stdout(&output),
        stderr(&output)
    );
    stdout(&output)
}

/// The exit code, and what was said on standard error.
pub fn failed(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    assert_eq!(stdout(&output), "", "{command:?}");
    (output.status.code().unwrap(), stderr(&output))
}

pub fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Without what differs between two calls.
fn settled(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        for changing in [
            "from", "to", "machine", "ledger", "uptime_s", "clock", "journal", "storage",
        ] {
            fields.remove(changing);
        }
    }
    value
}

#[test]
fn json_is_what_the_method_answers() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    for agent in ["crawler", "coder", "crawler"] {
        spend(&gateway, agent);
    }
    // Everything is entered once an export has shown it.
    assert_eq!(home.export().len(), 3);
    home.print(&[
        "rules",
        "put",
        "budget.limits",
        "account=agent:crawler",
        "window=day",
        "limit=7",
    ]);
    for (command, method, params) in [
        (
            "costs --by agent",
            "ledger.summary",
            json!({"by": "agent", "last": "24h"}),
        ),
        (
            "series --step day",
            "ledger.series",
            json!({"step": "day", "last": "24h"}),
        ),
        ("budgets", "budget.status", json!({})),
        ("rules list", "rule.list", json!({})),
        ("rules history", "rule.history", json!({"limit": 100})),
        ("keys list", "key.list", json!({})),
        ("tenants list", "tenant.list", json!({})),
        ("holds", "hold.list", json!({})),
        ("sessions", "session.list", json!({"last": "24h", "limit": 100})),
        ("denials", "denial.list", json!({"last": "24h"})),
        ("providers list", "provider.list", json!({})),
        ("policies list", "policy.list", json!({})),
        ("policies get budget", "policy.get", json!({"policy": "budget"})),
        ("plugins", "plugin.list", json!({})),
        ("alerts", "alert.list", json!({"limit": 100})),
        ("audit", "audit.list", json!({"limit": 100})),
        ("status", "system.status", json!({})),
        ("clock", "clock.status", json!({})),
        ("verify", "ledger.verify", json!({})),
        ("config show budgets", "config.get", json!({"path": "budgets"})),
    ] {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--json");
        let shown = json_of(&home.print(&args));
        assert_eq!(settled(shown), settled(home.rpc(method, &params)), "{command}");
        args.pop();
        let table = home.print(&args);
        assert!(!table.is_empty() && !table.contains('\u{1b}'), "{command}: {table}");
    }
    let explained = home.print(&["rpc", "ledger.summary", r#"{"by": "agent"}"#]);
    assert_eq!(json_of(&explained)["rows"][0]["agent"], "crawler");
}

/// Two pages' worth of rules are one list, whole and in order, as far as the limit says.
#[test]
fn pages_are_put_together() {
    let upstream = upstream();
    let home = installation(&upstream);
    let _gateway = home.serve();
    for number in 0..5 {
        let account = format!("account=agent:a{number}");
        home.print(&["rules", "put", "budget.limits", &account, "window=day", "limit=1"]);
    }
    let pages = |args: &[&str]| json_of(&home.print(args))["rules"].as_array().unwrap().len();
    assert_eq!(pages(&["rules", "list", "--source", "runtime", "--json"]), 5);
    assert_eq!(
        pages(&["rules", "list", "--source", "runtime", "--limit", "3", "--json"]),
        3
    );
}

#[test]
fn a_rule_is_put_seen_changed_and_undone() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    let put = [
        "rules",
        "put",
        "budget.limits",
        "account=agent:crawler",
        "window=day",
        "limit=0.0001",
        "action=block",
    ];
    let dry = home.print(&[&put[..], &["--dry-run"]].concat());
    assert!(dry.contains("dry run: nothing is changed"), "{dry}");
    spend(&gateway, "crawler");
    let text = home.print(&[&put[..], &["--note", "too dear", "--json"]].concat());
    let changed = json_of(&text);
    let (id, change) = (
        changed["rule"]["id"].as_str().unwrap(),
        changed["change"].as_str().unwrap(),
    );
    // The next request obeys.
    let headers = [
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("x-agent-id", "crawler"),
    ];
    let refused = || gateway.client.request("POST", CHAT, &headers, ASK.as_bytes()).status;
    assert_eq!(refused(), 429);
    let listed = home.print(&["rules", "list", "--source", "runtime"]);
    assert!(listed.contains(id) && listed.contains("too dear"), "{listed}");
    assert!(home.print(&["rules", "get", id]).contains("budget.limits"));
    let late = home.run(&["rules", "delete", id, "--if-version", "7"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(stderr(&late).contains("(conflict)"), "{}", stderr(&late));
    let wrong = home.run(&[
        "rules",
        "put",
        "budget.limits",
        "account=agent:x",
        "window=fortnight",
        "limit=1",
    ]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        stderr(&wrong).contains("value.window") && stderr(&wrong).contains("(does_not_fit)"),
        "{}",
        stderr(&wrong)
    );
    let undone = home.print(&["rules", "revert", change, "--note", "it is fine"]);
    assert!(undone.contains(id), "{undone}");
    assert_eq!(refused(), 200);
    let history = home.print(&["rules", "history", id]);
    assert!(
        history.contains("too dear") && history.contains("it is fine"),
        "{history}"
    );
    let audit = home.print(&["audit", "--action", "rule."]);
    assert!(audit.contains("owner") && audit.contains("too dear"), "{audit}");
}

pub fn at(gateway: &Process, token: &str, args: &[&str]) -> Command {
    let mut command = binary();
    command
        .args(["--url", &format!("http://{}", gateway.client.address())])
        .args(args);
    if !token.is_empty() {
        command.env("AGENTLEDGER_TOKEN", token);
    }
    command
}

#[test]
fn a_gateway_elsewhere_is_asked_with_a_token() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    spend(&gateway, "crawler");
    assert_eq!(home.export().len(), 1);
    let costs = ["costs", "--by", "agent"];
    assert_eq!(printed(&mut at(&gateway, READER, &costs)), home.print(&costs));
    let file = home.path("token");
    std::fs::write(&file, format!("{READER}\n")).unwrap();
    let by_file = ["costs", "--by", "agent", "--token-file", file.to_str().unwrap()];
    assert_eq!(printed(&mut at(&gateway, "", &by_file)), home.print(&costs));
    let entries = printed(&mut at(&gateway, READER, &["export", "--by", "entry"]));
    assert_eq!(json_of(&entries)["agent"], "crawler");

    let (code, said) = failed(&mut at(&gateway, "guess", &costs));
    assert!(
        code == 1 && said.contains("401") && said.contains("AGENTLEDGER_TOKEN"),
        "{said}"
    );
    assert!(!said.contains("guess"), "the token is shown: {said}");
    let (code, said) = failed(&mut at(&gateway, "", &costs));
    assert!(code == 1 && said.contains("a token is needed"), "{said}");
    let put = [
        "rules",
        "put",
        "budget.limits",
        "account=agent",
        "window=day",
        "limit=1",
    ];
    let (code, said) = failed(&mut at(&gateway, READER, &put));
    assert!(code == 1 && said.contains("(forbidden)"), "{said}");
    let (code, said) = failed(&mut at(&gateway, FOR_TENANT, &["costs", "--tenant", "other"]));
    assert!(code == 1 && said.contains("(other_tenant)"), "{said}");
    let text = printed(&mut at(&gateway, ADMIN, &[&put[..], &["--json"]].concat()));
    assert_eq!(json_of(&text)["rule"]["author"], "a");

    let mut nobody = binary();
    nobody.args(["costs", "--url", &format!("http://127.0.0.1:{}", dead_port())]);
    let (code, said) = failed(&mut nobody);
    assert!(
        code == 1 && said.contains("no gateway answers at http://127.0.0.1:"),
        "{said}"
    );
}

#[test]
fn the_certificate_of_a_gateway_elsewhere_is_checked() {
    let upstream = upstream();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let home = Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\nadmin: {{enabled: true, token: {ADMIN}}}\n\
         tls: {{cert_file: {}, key_file: {}}}",
        upstream.base(),
        cert.display(),
        key.display()
    ));
    let gateway = home.serve();
    let at = |host: &str| {
        let mut command = binary();
        let url = format!("https://{host}:{}", gateway.client.address().port());
        command.args(["holds", "--url", &url]).env("AGENTLEDGER_TOKEN", ADMIN);
        command
    };
    let trusting = printed(at("localhost").env("SSL_CERT_FILE", &cert));
    assert_eq!(trusting, "No hold is open.\n");
    let (code, said) = failed(&mut at("localhost"));
    assert!(
        code == 1 && said.contains("no gateway answers at https://localhost:"),
        "{said}"
    );
    // A certificate of another name is none.
    let (code, said) = failed(at("127.0.0.1").env("SSL_CERT_FILE", &cert));
    assert!(
        code == 1 && said.contains("no gateway answers at https://127.0.0.1:"),
        "{said}"
    );
}

#[test]
fn a_command_that_is_called_wrongly_ends_with_2_and_one_that_fails_with_1() {
    let upstream = upstream();
    let home = installation(&upstream);
    for wrong in [
        vec!["nonsense"],
        vec!["rules", "put", "budget.limits"],
        vec!["rules", "put", "budget.limits", "{not json"],
        vec!["costs", "--last", "soon"],
        vec!["export", "-f", "xml"],
        vec!["costs", "--url", "ftp://x"],
        vec!["costs", "--url", "https://x", "-c", "y.yaml"],
        vec!["serve", "--url", "https://x"],
        vec!["costs", "--token-file", "/dev/null"],
        vec!["rpc", "ledger.summary", "[1]"],
        vec!["prices", "show", "gpt-4o", "--at", "yesterday"],
        vec!["costs", "--by", "modle"],
        vec!["costs", "--by", "day,month"],
        vec!["setup", "emacs"],
    ] {
        let (code, said) = failed(binary().args(&wrong));
        assert!(code == 2 && !said.is_empty(), "{wrong:?}: {code} {said}");
    }
    let refused = home.run(&[
        "rules",
        "put",
        "budget.limits",
        "account=agent",
        "window=day",
        "limit=1",
    ]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("no gateway runs here"),
        "{}",
        stderr(&refused)
    );
    let refused = home.run(&["tail"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        home.run(&["prices", "show", "no-such-model", "--provider", "openai"])
            .status
            .code(),
        Some(1)
    );
    // There is nothing to read where nothing was ever recorded.
    for command in ["costs", "holds", "budgets", "sessions", "denials"] {
        let nothing = home.run(&[command]);
        assert_eq!(nothing.status.code(), Some(1), "{command}");
        assert!(stderr(&nothing).contains("no ledger at "), "{}", stderr(&nothing));
    }
}

#[test]
fn a_rule_is_deleted_where_no_gateway_runs() {
    let upstream = upstream();
    let home = installation(&upstream);
    let gateway = home.serve();
    let put = [
        "rules",
        "put",
        "budget.limits",
        "account=agent:crawler",
        "window=day",
        "limit=0.0001",
        "action=block",
        "--json",
    ];
    let changed = json_of(&home.print(&put));
    let id = changed["rule"]["id"].as_str().unwrap();
    gateway.stop();
    let unknown = home.run(&["rules", "delete", "01JD0000000000000000000000"]);
    assert_eq!(unknown.status.code(), Some(1));
    let told = home.print(&["rules", "delete", id, "--note", "it kept us from starting"]);
    assert!(told.contains("taken away") && told.contains("agent:crawler"), "{told}");
    assert_eq!(home.run(&["rules", "delete", id]).status.code(), Some(1), "it is gone");
    assert!(home.print(&["verify"]).ends_with("OK\n"));
    let gateway = home.serve();
    assert_eq!(home.print(&["rules", "list", "--source", "runtime"]), "No rule.\n");
    spend(&gateway, "crawler");
    assert!(
        home.print(&["audit", "--subject", "rule:"])
            .contains("it kept us from starting")
    );
}
