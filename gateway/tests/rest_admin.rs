//! The contract's admin endpoints: rules and blocked keys over REST, and who may. Each defect of the original's (§10) that is put right
//! has a test named after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use agentledger_ledger::ManualClock;
use serde_json::{Value, json};

use crate::harness::{Gateway, Setup};
use crate::rest::{CHAT, CLAIMED, START_MS, TENANTS, admin, asked, calls, setup, upstream, with_calls_of_tenants};

#[test]
fn budget_rules_are_made_read_and_taken_away_with_and_without_the_old_header() {
    let (gateway, _) = with_calls_of_tenants(&upstream());
    let path = "/api/admin/budgets/rules";
    assert_eq!(admin(&gateway, "GET", path, ""), (200, "null\n".to_owned()));
    let rule = r#"{"api_key_pattern":"sk-one-*","daily_limit_usd":0.001,"monthly_limit_usd":50,"soft_limit_pct":0.8,"action":"block"}"#;
    assert_eq!(admin(&gateway, "POST", path, rule), (201, format!("{rule}\n")));
    // What was spent before counts: the next call is refused, with nothing restarted.
    let ask = |key: &str| {
        let key = format!("Bearer {key}");
        let headers = [("authorization", key.as_str())];
        gateway
            .client
            .request("POST", CHAT, &headers, asked("gpt-4o").as_bytes())
            .status
    };
    assert_eq!((ask("sk-one-0123456789ab"), ask("sk-two-0123456789ab")), (429, 200));
    // The same pattern again is a change of the rule; the original's scripts send this header.
    let more = rule.replace("0.001", "100");
    let old = [
        ("authorization", "Bearer admin-token-0123"),
        ("x-requested-with", "XMLHttpRequest"),
    ];
    assert_eq!(gateway.client.request("POST", path, &old, more.as_bytes()).status, 201);
    assert_eq!(admin(&gateway, "GET", path, ""), (200, format!("[{more}]\n")));
    assert_eq!(ask("sk-one-0123456789ab"), 200);
    assert_eq!(
        admin(&gateway, "DELETE", &format!("{path}?pattern=sk-one-*"), "").0,
        204
    );
    assert_eq!(
        admin(&gateway, "DELETE", &format!("{path}?pattern=sk-one-*"), ""),
        (404, "{\"error\":\"rule not found\"}\n".to_owned())
    );
    assert_eq!(
        admin(&gateway, "DELETE", path, ""),
        (400, "{\"error\":\"pattern query parameter required\"}\n".to_owned())
    );
    let audit = crate::sessions::call(&gateway, "audit.list", &serde_json::json!({"subject": "rule:"}));
    let actions: Vec<&str> = audit["result"]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["rule.delete", "rule.put", "rule.put"]);
    assert_eq!(audit["result"]["changes"][0]["author"], "admin");
}

#[test]
fn a_first_runtime_rule_joins_the_files_rules_and_is_there_after_a_restart() {
    let upstream = upstream();
    let clock = Arc::new(ManualClock::new(START_MS));
    let yaml = "budgets: {rules: [{api_key_pattern: \"sk-file-*\", daily_limit_usd: 0.000001, action: block}]}";
    let gateway = setup(&upstream, &clock).with(yaml).start();
    let path = "/api/admin/budgets/rules";
    let rule = r#"{"api_key_pattern":"sk-run-*","daily_limit_usd":0.000001,"monthly_limit_usd":0,"soft_limit_pct":0,"action":"block"}"#;
    assert_eq!(admin(&gateway, "POST", path, rule).0, 201);
    let both_are_refused = |gateway: &Gateway| {
        for key in ["Bearer sk-file-0123456789", "Bearer sk-run-0123456789"] {
            let reply = gateway
                .client
                .request("POST", CHAT, &[("authorization", key)], asked("gpt-4o").as_bytes());
            assert_eq!(reply.status, 429, "{key}: {}", reply.text());
        }
    };
    both_are_refused(&gateway);
    let dir = gateway.stop();
    let again = setup(&upstream, &clock).with(yaml).in_dir(&dir).start();
    both_are_refused(&again);
    assert_eq!(admin(&again, "GET", path, ""), (200, format!("[{rule}]\n")));
}

/// The original read, changed and wrote all rules without a lock: of two writers one was lost.
#[test]
fn writers_of_one_rule_over_rest_and_rpc_make_one_rule_and_none_is_lost() {
    const EACH: usize = 8;
    let gateway = setup(&upstream(), &Arc::new(ManualClock::new(START_MS))).start();
    let path = "/api/admin/budgets/rules";
    let (over_rest, over_rpc) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for writer in 0..3 {
            let (gateway, over_rest) = (&gateway, &over_rest);
            scope.spawn(move || {
                for turn in 1..=EACH {
                    let limit = writer * 100 + turn;
                    let rule = format!(r#"{{"api_key_pattern":"sk-one-*","daily_limit_usd":{limit}}}"#);
                    assert_eq!(admin(gateway, "POST", path, &rule).0, 201);
                    over_rest.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        for _ in 0..2 {
            let (gateway, over_rpc) = (&gateway, &over_rpc);
            scope.spawn(move || {
                for turn in 1..=EACH {
                    let set = json!({"api_key_pattern": "sk-one-*", "window": "month", "limit": turn});
                    let answer = crate::sessions::call(gateway, "budget.set", &set);
                    assert!(answer["error"].is_null(), "{answer}");
                    over_rpc.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
    });
    let writes = over_rest.into_inner() + over_rpc.into_inner();
    let listed = crate::sessions::call(
        &gateway,
        "rule.list",
        &json!({"list": "budget.rules", "source": "runtime"}),
    );
    let rules = listed["result"]["rules"].as_array().unwrap();
    assert_eq!((rules.len(), &rules[0]["version"]), (1, &json!(writes)), "{listed}");
    let history = crate::sessions::call(&gateway, "rule.history", &json!({"id": rules[0]["id"], "limit": 1000}));
    let changes = history["result"]["changes"].as_array().unwrap();
    assert_eq!(changes.len(), writes);
    // Each began with what the one before had made.
    assert!(changes.windows(2).all(|pair| pair[0]["before"] == pair[1]["after"]));
    assert_eq!(
        admin(&gateway, "DELETE", &format!("{path}?pattern=sk-one-*"), "").0,
        204
    );
}

#[test]
fn a_provider_that_is_switched_off_at_runtime_is_shown_so() {
    let gateway = setup(&upstream(), &Arc::new(ManualClock::new(START_MS))).start();
    let shown = || {
        let (status, text) = admin(&gateway, "GET", "/api/admin/providers", "");
        assert_eq!(status, 200);
        serde_json::from_str::<Value>(&text).unwrap()["openai"].clone()
    };
    assert_eq!(shown(), true);
    crate::sessions::call(&gateway, "provider.disable", &json!({"provider": "openai"}));
    assert_eq!(shown(), false);
    crate::sessions::call(&gateway, "provider.enable", &json!({"provider": "openai"}));
    assert_eq!(shown(), true);
}

#[test]
fn a_rule_of_a_tenant_alone_can_be_taken_away() {
    let gateway = setup(&upstream(), &Arc::new(ManualClock::new(START_MS))).start();
    let path = "/api/admin/budgets/rules";
    let rule = r#"{"api_key_pattern":"","tenant_id":"acme","daily_limit_usd":5}"#;
    assert_eq!(admin(&gateway, "POST", path, rule).0, 201);
    assert_eq!(admin(&gateway, "DELETE", &format!("{path}?tenant_id=acme"), "").0, 204);
    assert_eq!(admin(&gateway, "GET", path, ""), (200, "null\n".to_owned()));
}

#[test]
fn a_rule_that_does_not_fit_is_refused_with_its_field() {
    let gateway = setup(&upstream(), &Arc::new(ManualClock::new(START_MS))).start();
    for (body, told) in [
        ("", "invalid rule: "),
        ("{}", "invalid rule: api_key_pattern or tenant_id is needed"),
        (r#"{"api_key_pattern":7}"#, "invalid rule: "),
        (r#"{"api_key_pattern":"sk-*","daily_limit_usd":-1}"#, "daily_limit_usd"),
        (r#"{"api_key_pattern":"sk-*","soft_limit_pct":80}"#, "soft_limit_pct"),
        (r#"{"api_key_pattern":"sk-[","daily_limit_usd":1}"#, "api_key_pattern"),
        (r#"{"api_key_pattern":"sk-*","daily_limit":1}"#, "daily_limit"),
    ] {
        let (status, text) = admin(&gateway, "POST", "/api/admin/budgets/rules", body);
        assert_eq!(status, 400, "{body}: {text}");
        assert!(
            text.starts_with("{\"error\":\"invalid rule: ") && text.contains(told),
            "{body}: {text}"
        );
    }
    assert_eq!(
        admin(&gateway, "GET", "/api/admin/budgets/rules", ""),
        (200, "null\n".to_owned())
    );
}

#[test]
fn two_writers_of_one_pattern_make_one_rule() {
    let gateway = setup(&upstream(), &Arc::new(ManualClock::new(START_MS))).start();
    std::thread::scope(|scope| {
        for limit in 1..=8 {
            let gateway = &gateway;
            scope.spawn(move || {
                let rule = format!(r#"{{"api_key_pattern":"sk-*","daily_limit_usd":{limit}}}"#);
                assert_eq!(admin(gateway, "POST", "/api/admin/budgets/rules", &rule).0, 201);
            });
        }
    });
    let rules: Value = serde_json::from_str(&admin(&gateway, "GET", "/api/admin/budgets/rules", "").1).unwrap();
    assert_eq!(rules.as_array().unwrap().len(), 1, "{rules}");
}

#[test]
fn keys_are_blocked_and_unblocked() {
    let gateway = setup(&upstream(), &Arc::new(ManualClock::new(START_MS))).start();
    let ask = || {
        let headers = [("authorization", "Bearer sk-bad-0123456789")];
        gateway
            .client
            .request("POST", CHAT, &headers, asked("gpt-4o").as_bytes())
            .status
    };
    let path = "/api/admin/api-keys/block";
    assert_eq!(
        admin(&gateway, "GET", "/api/admin/api-keys/blocked", ""),
        (200, "null\n".to_owned())
    );
    assert_eq!(ask(), 200);
    let pattern = r#"{"pattern":"sk-bad-*"}"#;
    assert_eq!(admin(&gateway, "POST", path, pattern), (201, format!("{pattern}\n")));
    assert_eq!(ask(), 403);
    assert_eq!(admin(&gateway, "POST", path, pattern).0, 201);
    assert_eq!(
        admin(&gateway, "GET", "/api/admin/api-keys/blocked", ""),
        (200, "[\"sk-bad-*\"]\n".to_owned())
    );
    assert_eq!(
        admin(&gateway, "DELETE", &format!("{path}?pattern=sk-bad-*"), "").0,
        204
    );
    assert_eq!(ask(), 200);
    assert_eq!(
        admin(&gateway, "DELETE", &format!("{path}?pattern=sk-bad-*"), ""),
        (404, "{\"error\":\"pattern not found\"}\n".to_owned())
    );
    for body in ["", "{}", "{\"pattern\":\"\"}", "[]"] {
        assert_eq!(admin(&gateway, "POST", path, body).0, 400, "{body}");
    }
}

#[test]
fn a_status_shows_what_the_keys_of_each_rule_spent_and_not_what_all_did() {
    let upstream = upstream();
    let clock = Arc::new(ManualClock::new(START_MS));
    let gateway = setup(&upstream, &clock)
        .with(
            "budgets:\n  default: {daily_limit_usd: 7, monthly_limit_usd: 70, action: warn}\n  rules:\n    \
             - {api_key_pattern: \"sk-one-*\", daily_limit_usd: 2, action: block}\n    - {tenant_id: globex, daily_limit_usd: 3}",
        )
        .start();
    calls(&gateway, &clock);
    let (status, text) = admin(&gateway, "GET", "/api/admin/budgets/status", "");
    assert_eq!(status, 200, "{text}");
    let rows: Value = serde_json::from_str(&text).unwrap();
    let row = |pattern: &str| {
        rows.as_array()
            .unwrap()
            .iter()
            .find(|row| row["pattern"] == pattern)
            .cloned()
            .unwrap()
    };
    let of = |pattern: &str| {
        let row = row(pattern);
        ["daily_spent", "daily_limit", "monthly_spent", "monthly_limit"].map(|field| row[field].to_string())
    };
    assert_eq!(of("sk-one-*"), ["0.007", "2.0", "0.007", "70.0"].map(trim));
    assert_eq!(of("globex"), ["0.00021", "3.0", "0.00021", "0.0"].map(trim));
    assert_eq!(of("(default)"), ["0.00021", "7.0", "0.00021", "70.0"].map(trim));
    assert_eq!(
        (row("sk-one-*")["action"].as_str(), row("(default)")["action"].as_str()),
        (Some("block"), Some("warn"))
    );
    assert_eq!(rows.as_array().unwrap().last().unwrap()["pattern"], "(default)");
}

fn trim(number: &str) -> String {
    number.strip_suffix(".0").unwrap_or(number).to_owned()
}

#[test]
fn what_changes_something_needs_the_right_token() {
    let gateway = setup(&upstream(), &Arc::new(ManualClock::new(START_MS))).start();
    let rule = r#"{"api_key_pattern":"sk-*","daily_limit_usd":1}"#;
    let post = |headers: &[(&str, &str)]| {
        let reply = gateway
            .client
            .request("POST", "/api/admin/budgets/rules", headers, rule.as_bytes());
        (reply.status, reply.text())
    };
    assert_eq!(post(&[]).0, 401);
    assert_eq!(
        post(&[("authorization", "Bearer wrong")]),
        (401, "{\"error\":\"invalid admin token\"}\n".to_owned())
    );
    assert_eq!(post(&[("authorization", "Bearer reader-token-0123")]).0, 403);
    // A page of another origin has no token, and is told by its origin where it has one.
    let foreign = [
        ("authorization", "Bearer admin-token-0123"),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(post(&foreign).0, 403);
    assert_eq!(
        post(&[
            ("authorization", "Bearer admin-token-0123"),
            ("origin", "http://gateway")
        ])
        .0,
        201
    );
    let read = gateway.client.request(
        "GET",
        "/api/admin/api-keys",
        &[("authorization", "Bearer reader-token-0123")],
        b"",
    );
    assert_eq!(read.status, 200);
    assert_eq!(
        gateway.client.get("/api/admin/api-keys").status,
        401,
        "public_read is for the dashboard's figures"
    );
}

#[test]
fn a_tenants_token_is_shown_its_tenants_only() {
    let upstream = upstream();
    let clock = Arc::new(ManualClock::new(START_MS));
    let tokens = "control: {tokens: [{name: acme, token: acme-token-012345, role: admin, tenant: acme}]}";
    let gateway = Setup::new(&upstream)
        .with(tokens)
        .with(TENANTS)
        .conf("tenant", CLAIMED)
        .clock(clock.clone())
        .start();
    calls(&gateway, &clock);
    let ask = |path: &str| {
        let reply = gateway
            .client
            .request("GET", path, &[("authorization", "Bearer acme-token-012345")], b"");
        (reply.status, reply.text())
    };
    assert_eq!(ask("/api/dashboard/summary?tenant=globex").0, 403);
    for path in [
        "/api/dashboard/costs?group_by=agent",
        "/api/dashboard/sessions",
        "/api/dashboard/sessions/history",
        "/api/dashboard/expensive",
        "/api/dashboard/export?format=csv&group_by=agent",
    ] {
        let (status, text) = ask(path);
        assert_eq!(status, 200, "{path}");
        assert!(text.contains("coder") && !text.contains("writer"), "{path}: {text}");
    }
    let summary: Value = serde_json::from_str(&ask("/api/dashboard/summary").1).unwrap();
    assert_eq!(
        (summary["today_requests"].as_u64(), summary["active_sessions"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(
        (ask("/api/admin/providers").0, ask("/api/admin/budgets/status").0),
        (403, 403)
    );
}
