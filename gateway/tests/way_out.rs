//! The way out that refusals name: the command does what it says, keys are known by every name that people see of them, and a change
//! that would do nothing is refused.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::client::Reply;
use crate::harness::process::Process;
use crate::harness::{Installation, Script, Upstream, root};

const CHAT: &str = "/v1/chat/completions";
const ASKED: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":100}"#;
/// 1,200,000 output tokens at $10 a million.
const TWELVE_DOLLARS: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":1200000,"total_tokens":1200000}}"#;
const KEY: &str = "sk-test-0123456789abcdef";

/// The configuration that `./task start` takes, led to the upstream. `more` goes on where it ends: within `budgets`.
fn shipped(upstream: &Upstream, more: &str) -> Installation {
    let minimal = std::fs::read_to_string(root().join("configs/agentledger.minimal.yaml")).unwrap();
    let kept: Vec<&str> = minimal.lines().filter(|line| !line.starts_with("listen:")).collect();
    let base = upstream.base();
    Installation::new(&format!(
        "{}\n{more}\nproviders: {{openai: {{upstream: \"{base}\"}}}}",
        kept.join("\n")
    ))
}

fn upstream() -> Upstream {
    Upstream::always(Script::json(200, TWELVE_DOLLARS))
}

fn ask(gateway: &Process) -> Reply {
    let headers = [("authorization", &*format!("Bearer {KEY}"))];
    gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes())
}

/// The command between backticks, as a shell splits it; the program left out.
fn command_of(refusal: &Value) -> Vec<String> {
    let message = refusal["error"]["message"].as_str().unwrap();
    let command = message.split('`').nth(1).unwrap_or_else(|| panic!("{message}"));
    let mut words = command.split(' ').map(str::to_owned);
    assert_eq!(words.next().as_deref(), Some("agentledger"), "{message}");
    words.collect()
}

fn typed(home: &Installation, words: &[String]) -> String {
    home.print(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn fingerprint(home: &Installation) -> String {
    let keys: Value = serde_json::from_str(&home.print(&["keys", "list", "--json"])).unwrap();
    keys["keys"][0]["fingerprint"].as_str().unwrap().to_owned()
}

fn failed(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_command_that_a_refusal_names_lets_the_next_run_through() {
    let upstream = upstream();
    let home = shipped(&upstream, "");
    let gateway = home.serve();
    assert_eq!(ask(&gateway).status, 200);
    let refused = ask(&gateway);
    assert_eq!(refused.status, 429, "{}", refused.text());
    typed(&home, &command_of(&refused.json()));
    let passed = ask(&gateway);
    assert_eq!(passed.status, 200, "{}", passed.text());
}

#[test]
fn a_key_is_known_by_its_alias_and_by_the_digits_that_refusals_show() {
    let upstream = upstream();
    let home = shipped(&upstream, "");
    let gateway = home.serve();
    assert_eq!(ask(&gateway).status, 200);
    let key = fingerprint(&home);
    let top_up = |account: &str| home.print(&["budgets", "top-up", account, "10", "--until", "1d"]);
    assert!(top_up(&format!("key:{}", &key[..8])).contains(&key));
    assert_eq!(ask(&gateway).status, 200);
    gateway.stop();
    let home_config = std::fs::read_to_string(home.path("agentledger.yaml")).unwrap();
    std::fs::write(
        home.path("agentledger.yaml"),
        format!("{home_config}\nkeys: {{aliases: {{'{key}': ci}}}}\n"),
    )
    .unwrap();
    let gateway = home.serve();
    let refused = ask(&gateway).json();
    assert_eq!(refused["error"]["account"], format!("key:{key}"), "{refused}");
    assert!(home.print(&["denials", "--account", "key:ci"]).contains("key:ci"));
    assert!(home.print(&["budgets", "--account", "key:ci"]).contains("key:ci"));
    top_up("key:ci");
    assert_eq!(ask(&gateway).status, 200);
    home.print(&["keys", "block", "ci"]);
    let blocked = ask(&gateway);
    assert_eq!(blocked.json()["error"]["code"], "key_blocked", "{}", blocked.text());
    home.print(&["keys", "unblock", "--fingerprint", "ci"]);
    let unknown = home.run(&["budgets", "top-up", "key:nobody", "5", "--until", "1d"]);
    assert!(failed(&unknown).contains("names no key that is known"));
}

#[test]
fn a_top_up_that_raises_nothing_is_refused() {
    let upstream = upstream();
    let rules = "  rules: [{api_key_pattern: 'sk-dev-*', daily_limit_usd: 5, action: block}]\n\
        policies: {conf: {budget: {limits: [{account: 'agent:ci-*', window: hour, limit: 100, unit: tokens}]}}}";
    let home = shipped(&upstream, rules);
    let _gateway = home.serve();
    let top_up = |words: &[&str]| {
        let words = [&["budgets", "top-up"], words, &["--until", "1d", "--dry-run"]].concat();
        home.run(&words)
    };
    for fits in [
        &["key", "5"][..],
        &["key:0123456789abcdef01234567", "5"],
        &["key:0123456789abcdef01234567", "5", "--window", "day"],
        &["--api-key-pattern", "sk-dev-*", "5"],
        &["agent:ci-7", "5", "--unit", "tokens"],
        &["agent:ci-*", "5", "--unit", "tokens"],
    ] {
        let output = top_up(fits);
        assert!(
            output.status.success(),
            "{fits:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for fits_nothing in [
        &["key", "5", "--window", "month"][..],
        &["key", "5", "--unit", "tokens"],
        &["--api-key-pattern", "sk-other-*", "5"],
        &["agent:ci-7", "5"],
        &["agent:coder", "5", "--unit", "tokens"],
        &["tenant:acme", "5"],
        &["global", "5"],
    ] {
        let said = failed(&top_up(fits_nothing));
        assert!(said.contains("fits no limit in force"), "{fits_nothing:?}: {said}");
    }
}

#[test]
fn a_limit_beside_a_stricter_one_is_put_with_a_warning() {
    let upstream = upstream();
    let home = shipped(&upstream, "");
    let _gateway = home.serve();
    let set = |limit: &str| home.print(&["budgets", "set", "key", limit, "--window", "day"]);
    let told = set("20");
    assert!(
        told.contains("warning: a stricter limit goes on to hold for key: $10 a day"),
        "{told}"
    );
    assert!(!set("4").contains("warning"));
    let other = home.rpc(
        "budget.set",
        &json!({"account": "key", "window": "week", "limit": 20, "dry_run": true}),
    );
    assert_eq!(other["warning"], Value::Null, "{other}");
}
