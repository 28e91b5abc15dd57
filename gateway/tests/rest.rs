//! The contract's REST, read as its dashboard and its scripts read it. Each defect of the original's (§10) that is put right has a
//! test named after it. A recorded set of answers is golden: `AGENTLEDGER_GOLDEN=1 cargo test` writes it anew.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use agentledger_ledger::{Clock, ManualClock};
use serde_json::Value;

use crate::harness::{Gateway, Script, Setup, Upstream, root};

pub const CHAT: &str = "/v1/chat/completions";
/// 2026-11-22T10:30:00Z.
pub const START_MS: i64 = 1_795_343_400_000;
const TOKENS: &str = "admin: {enabled: true, token: admin-token-0123}\ncontrol: {tokens: [{name: reader, token: reader-token-0123, role: read}]}";

pub fn asked(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"max_tokens":100}}"#)
}

pub fn upstream() -> Upstream {
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

pub const TENANTS: &str = "tenants: {enabled: true}";
pub const CLAIMED: &str = "{claims: any}";

fn get(gateway: &Gateway, path: &str) -> Value {
    let reply = gateway.client.get(path);
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.text().ends_with('\n'));
    reply.json()
}

pub fn admin(gateway: &Gateway, method: &str, path: &str, body: &str) -> (u16, String) {
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
pub fn with_calls_of_tenants(upstream: &Upstream) -> (Gateway, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START_MS));
    let gateway = setup(upstream, &clock).start();
    calls(&gateway, &clock);
    (gateway, clock)
}

pub fn setup(upstream: &Upstream, clock: &Arc<ManualClock>) -> Setup {
    let secret = format!("fingerprint: {{secret: {}}}", "f".repeat(32));
    let clock: Arc<dyn Clock> = clock.clone();
    Setup::new(upstream)
        .with(TOKENS)
        .with(TENANTS)
        .conf("tenant", CLAIMED)
        .with(&secret)
        .clock(clock)
}

pub fn calls(gateway: &Gateway, clock: &ManualClock) {
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
pub fn golden(name: &str, text: &str) {
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
