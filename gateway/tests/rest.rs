//! The contract's REST, read as its dashboard and its scripts read it. Each defect of the original's (§10) that is put right has a
//! test named after it. A recorded set of answers is golden: `AGENTLEDGER_GOLDEN=1 cargo test` writes it anew.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use agentledger_ledger::{Clock, ManualClock};
use serde_json::Value;

use crate::harness::{Gateway, Script, Setup, Upstream, root};

const CHAT: &str = "/v1/chat/completions";
/// 2026-11-22T10:30:00Z.
const START_MS: i64 = 1_795_343_400_000;
const TOKENS: &str = "admin: {enabled: true, token: admin-token-0123}\ncontrol: {tokens: [{name: reader, token: reader-token-0123, role: read}]}";

fn asked(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"max_tokens":100}}"#)
}

fn upstream() -> Upstream {
    Upstream::playing(|seen| {
        let body = seen.json();
        let model = body["model"].as_str().unwrap();
        match model {
            "gpt-4.1" => Script::json(500, r#"{"error":{"message":"no"}}"#),
            "gpt-4.1-mini" => Script::json(429, r#"{"error":{"message":"slow down"}}"#),
            _ => Script::json(
                200,
                &format!(
                    r#"{{"id":"c","model":"{model}","choices":[],"usage":{{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}}}"#
                ),
            ),
        }
    })
}

const TENANTS: &str = "tenants: {enabled: true}";
const CLAIMED: &str = "{claims: any}";

fn get(gateway: &Gateway, path: &str) -> Value {
    let reply = gateway.client.get(path);
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.text().ends_with('\n'));
    reply.json()
}

fn admin(gateway: &Gateway, method: &str, path: &str, body: &str) -> (u16, String) {
    let reply = gateway.client.request(
        method,
        path,
        &[("authorization", "Bearer admin-token-0123")],
        body.as_bytes(),
    );
    (reply.status, reply.text())
}

/// The paths whose answers are recorded.
const RECORDED: [&str; 22] = [
    "dashboard/summary",
    "dashboard/summary?tenant=acme",
    "dashboard/timeseries",
    "dashboard/timeseries?interval=minute&hours=0.5",
    "dashboard/timeseries?interval=day&hours=48&tenant=globex",
    "dashboard/timeseries?interval=fortnight&hours=x",
    "dashboard/timeseries/tokens?interval=minute",
    "dashboard/costs",
    "dashboard/costs?group_by=provider",
    "dashboard/costs?group_by=key",
    "dashboard/costs?group_by=agent",
    "dashboard/costs?group_by=session&tenant=acme",
    "dashboard/costs?group_by=colour&hours=1",
    "dashboard/sessions",
    "dashboard/sessions/history",
    "dashboard/sessions/history?status=killed",
    "dashboard/export",
    "dashboard/export?format=csv&group_by=agent",
    "dashboard/expensive",
    "dashboard/expensive?limit=1&hours=2",
    "dashboard/stats",
    "dashboard/latency",
];

#[test]
fn a_recorded_set_of_answers_is_as_it_was_agreed() {
    let upstream = upstream();
    let (gateway, _) = with_calls_of_tenants(&upstream);
    let mut text = String::new();
    for path in RECORDED {
        let reply = gateway.client.get(&format!("/api/{path}"));
        let kind = reply.header("content-type").unwrap_or_default().to_owned();
        let body = reply.text();
        let body = timeless(&body).replace("},{", "},\n {");
        text.push_str(&format!("GET /api/{path}\n{} {kind}\n{body}\n", reply.status));
    }
    for path in ["admin/api-keys", "admin/providers"] {
        let (status, body) = admin(&gateway, "GET", &format!("/api/{path}"), "");
        text.push_str(&format!("GET /api/{path}\n{status}\n{body}\n"));
    }
    golden("rest_answers.txt", &text);
}

/// A gateway by a clock that stands, with some calls of two keys in its books.
fn with_calls_of_tenants(upstream: &Upstream) -> (Gateway, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START_MS));
    let gateway = setup(upstream, &clock).start();
    calls(&gateway, &clock);
    (gateway, clock)
}

fn setup(upstream: &Upstream, clock: &Arc<ManualClock>) -> Setup {
    let secret = format!("fingerprint: {{secret: {}}}", "f".repeat(32));
    let clock: Arc<dyn Clock> = clock.clone();
    Setup::new(upstream)
        .with(TOKENS)
        .with(TENANTS)
        .conf("tenant", CLAIMED)
        .with(&secret)
        .clock(clock)
}

fn calls(gateway: &Gateway, clock: &ManualClock) {
    let calls = [
        ("gpt-4o", "sk-one-0123456789ab", "coder", "s1", "acme"),
        ("gpt-4o", "sk-one-0123456789ab", "coder", "s1", "acme"),
        ("gpt-4o-mini", "sk-two-0123456789ab", "writer", "s2", "globex"),
        ("gpt-4.1", "sk-two-0123456789ab", "", "", ""),
        ("gpt-4.1-mini", "sk-two-0123456789ab", "", "", ""),
    ];
    for (model, key, agent, session, tenant) in calls {
        let key = format!("Bearer {key}");
        let all = [
            ("authorization", key.as_str()),
            ("x-agent-id", agent),
            ("x-agent-session", session),
            ("x-agent-user", "ann"),
            ("x-agent-task", "build, then test"),
            ("x-agentledger-tenant", tenant),
        ];
        let headers: Vec<(&str, &str)> = all.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        gateway.client.request("POST", CHAT, &headers, asked(model).as_bytes());
        gateway.wait_idle();
        clock.advance_ms(60_000);
    }
}

/// With 0 for what the machine's speed decides.
fn timeless(body: &str) -> String {
    let mut body = body.to_owned();
    for name in ["duration_ms", "avg_duration_ms", "p50_ms", "p90_ms", "p99_ms", "count"] {
        let key = format!("\"{name}\":");
        let parts: Vec<&str> = body.split(&key).collect();
        let rest = parts[1..].iter().map(|part| {
            let end = part.find([',', '}']).unwrap();
            format!("{key}0{}", &part[end..])
        });
        body = std::iter::once(parts[0].to_owned()).chain(rest).collect();
    }
    body
}

/// Compares with a file of `tests/golden`, or writes it where `AGENTLEDGER_GOLDEN` is set.
fn golden(name: &str, text: &str) {
    let path = root().join("gateway/tests/golden").join(name);
    if std::env::var_os("AGENTLEDGER_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{} differs: AGENTLEDGER_GOLDEN=1 writes it anew",
        path.display()
    );
}

#[test]
fn stats_of_an_empty_window_are_zeros_and_not_an_error() {
    let gateway = Setup::new(&upstream()).with(TOKENS).start();
    let stats = get(&gateway, "/api/dashboard/stats");
    assert_eq!(stats["total_requests"], 0);
    assert_eq!(
        (stats["error_rate"].as_f64(), stats["avg_cost_per_request"].as_f64()),
        (Some(0.0), Some(0.0))
    );
    for list in [
        "timeseries",
        "timeseries/tokens",
        "costs",
        "sessions",
        "export",
        "expensive",
    ] {
        assert_eq!(get(&gateway, &format!("/api/dashboard/{list}")), Value::Null, "{list}");
    }
    assert_eq!(get(&gateway, "/api/dashboard/sessions/history"), serde_json::json!([]));
    assert_eq!(
        admin(&gateway, "GET", "/api/admin/api-keys", ""),
        (200, "null\n".to_owned())
    );
    let latency = get(&gateway, "/api/dashboard/latency");
    assert_eq!(
        (latency["p99_ms"].as_u64(), latency["buckets"].as_array().unwrap().len()),
        (Some(0), 6)
    );
}

#[test]
fn costs_by_key_name_the_key_and_no_arbitrary_model() {
    let (gateway, _) = with_calls_of_tenants(&upstream());
    let rows = get(&gateway, "/api/dashboard/costs?group_by=key");
    for row in rows.as_array().unwrap() {
        assert_eq!(row["APIKeyHash"].as_str().unwrap().len(), 24);
        assert_eq!((row["Provider"].as_str(), row["Model"].as_str()), (Some(""), Some("")));
    }
    let providers = get(&gateway, "/api/dashboard/costs?group_by=provider");
    assert_eq!(
        (providers[0]["Provider"].as_str(), providers[0]["Model"].as_str()),
        (Some("openai"), Some(""))
    );
}

#[test]
fn upstream_errors_are_in_the_stats() {
    let (gateway, _) = with_calls_of_tenants(&upstream());
    let stats = get(&gateway, "/api/dashboard/stats");
    assert_eq!(
        (stats["total_requests"].as_u64(), stats["error_requests"].as_u64()),
        (Some(5), Some(2))
    );
    assert_eq!(
        (stats["count_429"].as_u64(), stats["count_5xx"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(stats["error_rate"].as_f64(), Some(0.4));
}

#[test]
fn latency_counts_all_calls_and_not_the_fastest() {
    let upstream = Upstream::playing(|seen| {
        let script = Script::default();
        let slow = seen.json()["max_tokens"] == 7;
        let body = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}"#;
        let answer = Script::json(200, body);
        let mut script = if slow { script.pause_ms(150) } else { script };
        script.steps.extend(answer.steps);
        script
    });
    let gateway = Setup::new(&upstream).with(TOKENS).start();
    for at in 0..12 {
        let body = asked("gpt-4o").replace("100", if at % 2 == 0 { "7" } else { "8" });
        assert_eq!(gateway.client.post(CHAT, &body).status, 200);
    }
    gateway.wait_idle();
    let latency = get(&gateway, "/api/dashboard/latency");
    let counts: Vec<u64> = latency["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts.iter().sum::<u64>(), 12);
    assert!(counts[1..].iter().sum::<u64>() >= 6, "{latency}");
    assert!(latency["p90_ms"].as_u64().unwrap() >= 150, "{latency}");
    assert_eq!(latency["buckets"][0]["label"], "<100ms");
}

#[test]
fn the_dearest_calls_outlive_a_restart() {
    let upstream = upstream();
    let (gateway, clock) = with_calls_of_tenants(&upstream);
    let before = get(&gateway, "/api/dashboard/expensive");
    let latency = get(&gateway, "/api/dashboard/latency");
    assert_eq!(before.as_array().unwrap().len(), 3);
    assert_eq!(before[0]["model"], "gpt-4o");
    let dir = gateway.stop();
    let again = setup(&upstream, &clock).in_dir(&dir).start();
    assert_eq!(get(&again, "/api/dashboard/expensive"), before);
    assert_eq!(get(&again, "/api/dashboard/latency"), latency);
}

#[test]
fn sessions_are_known_after_a_restart() {
    let upstream = upstream();
    let (gateway, clock) = with_calls_of_tenants(&upstream);
    let before = get(&gateway, "/api/dashboard/sessions");
    assert_eq!(
        (before[0]["ID"].as_str(), before[0]["EndedAt"].as_str()),
        (Some("s2"), None)
    );
    let dir = gateway.stop();
    let again = setup(&upstream, &clock).in_dir(&dir).start();
    assert_eq!(get(&again, "/api/dashboard/sessions"), before);
}

#[test]
fn reading_needs_a_token_where_the_config_says_so() {
    let upstream = upstream();
    let closed = TOKENS.replace("{tokens:", "{public_read: false, tokens:");
    let gateway = Setup::new(&upstream).with(&closed).start();
    let path = "/api/dashboard/summary";
    let with = |token: &str| {
        let value = format!("Bearer {token}");
        gateway
            .client
            .request("GET", path, &[("authorization", &value)], b"")
            .status
    };
    assert_eq!(gateway.client.get(path).status, 401);
    assert_eq!(
        (with("reader-token-0123"), with("admin-token-0123"), with("wrong")),
        (200, 200, 401)
    );
    let open = Setup::new(&upstream).with(TOKENS).start();
    assert_eq!(open.client.get(path).status, 200);
    // A token that is sent is looked at.
    let wrong = open
        .client
        .request("GET", path, &[("authorization", "Bearer wrong")], b"");
    assert_eq!(
        (wrong.status, wrong.text()),
        (401, "{\"error\":\"invalid admin token\"}\n".to_owned())
    );
}

#[test]
fn a_dashboard_that_is_off_is_not_there() {
    let gateway = Setup::new(&upstream())
        .with(TOKENS)
        .with("dashboard: {enabled: false}")
        .start();
    let reply = gateway.client.get("/api/dashboard/summary");
    assert_eq!(
        (reply.status, reply.text()),
        (404, "{\"error\":\"not found\"}\n".to_owned())
    );
}

#[test]
fn what_is_no_number_falls_to_the_default_and_a_path_that_is_none_is_404() {
    let (gateway, _) = with_calls_of_tenants(&upstream());
    let plain = get(&gateway, "/api/dashboard/costs");
    for query in [
        "hours=x",
        "hours=-1",
        "hours=99999999999999999999",
        "hours=NaN",
        "hours=",
        "%zz=1",
        "hours=24&hours=24",
    ] {
        assert_eq!(
            get(&gateway, &format!("/api/dashboard/costs?{query}")),
            plain,
            "{query}"
        );
    }
    for path in [
        "/api",
        "/api/",
        "/api/dashboard",
        "/api/dashboard/nothing",
        "/api/admin",
        "/api/dashboard/../admin/api-keys",
    ] {
        let reply = gateway.client.get(path);
        assert!(reply.status == 404 || reply.status == 400, "{path}: {}", reply.status);
    }
    let posted = gateway.client.request("POST", "/api/dashboard/summary", &[], b"{}");
    assert_eq!(posted.status, 405);
}

/// The lines that begin with `curl` in the REST page of the guide.
fn curl_lines() -> Vec<String> {
    let page = std::fs::read_to_string(root().join("gateway/assets/guide/rest.md")).unwrap();
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        let more = match open.take() {
            Some(before) => format!("{before} {}", line.trim()),
            None if line.starts_with("curl ") => line.to_owned(),
            None => continue,
        };
        match more.strip_suffix('\\') {
            Some(begun) => open = Some(begun.to_owned()),
            None => lines.push(more),
        }
    }
    lines
}

#[test]
fn the_curl_lines_of_the_guide_answer_as_documented() {
    assert!(
        Path::new("/usr/bin/curl").exists() || Command::new("curl").arg("--version").output().is_ok(),
        "no curl"
    );
    let (gateway, _) = with_calls_of_tenants(&upstream());
    let lines = curl_lines();
    assert!(lines.len() >= 8, "{lines:#?}");
    for line in lines {
        // As documented, with the gateway's own address and token; a status in a comment is what is promised.
        let (command, promised) = line.split_once(" # ").unwrap_or((&line, "200"));
        let command = command
            .replace("http://localhost:8787", &format!("http://{}", gateway.address()))
            .replace("$TOKEN", "admin-token-0123");
        let script = format!("{command} -sS -o /dev/null -w '%{{http_code}}'");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            status,
            promised.trim(),
            "{line}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

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
