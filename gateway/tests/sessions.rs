//! Sessions: identity, totals through restarts, ends and kills. Each defect of the contract's §8 has a test named after it.

use std::sync::Arc;
use std::thread;

use agentledger_ledger::ManualClock;
use serde_json::{Value, json};

use crate::harness::client::{Reply, read_reply};
use crate::harness::process::over_socket;
use crate::harness::upstream::Step;
use crate::harness::{Gate, Gateway, Installation, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
const SMALL: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110}}"#;
const ASKED: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":100}"#;
/// 2026-11-22T00:00:00Z.
const START_MS: i64 = 1_795_305_600_000;

fn upstream() -> Upstream {
    Upstream::always(Script::json(200, SMALL))
}

fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Reply {
    let key = [("authorization", "Bearer sk-test-0123456789abcdef")];
    gateway
        .client
        .request("POST", CHAT, &[&key[..], headers].concat(), ASKED.as_bytes())
}

pub fn call(gateway: &Gateway, method: &str, params: &Value) -> Value {
    let socket = gateway.dir.path().join("ledger/control.sock");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    over_socket(&socket, "POST", "/rpc", &body).unwrap().json()
}

/// The sessions of this name.
fn get(gateway: &Gateway, id: &str) -> Vec<Value> {
    let answer = call(gateway, "session.get", &json!({ "id": id }));
    answer["result"]["sessions"].as_array().cloned().unwrap_or_default()
}

fn only(gateway: &Gateway, id: &str) -> Value {
    let mut found = get(gateway, id);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_session_knows_who_called_how_often_and_for_how_much() {
    let gateway = Gateway::to(&upstream());
    let who = [
        ("X-Agent-Id", "coder"),
        ("X-Agent-Session", "s1"),
        ("X-Agent-User", "ann"),
        ("X-Agent-Task", "build"),
        ("X-Agent-Parent", "run-0"),
    ];
    for _ in 0..3 {
        assert_eq!(ask(&gateway, &who).status, 200);
    }
    let session = only(&gateway, "s1");
    for (field, value) in [
        ("agent", "coder"),
        ("user", "ann"),
        ("task", "build"),
        ("parent", "run-0"),
        ("status", "active"),
    ] {
        assert_eq!(session[field], value, "{session}");
    }
    // 100 × 2.5 + 10 × 10 USD per million, three times.
    assert_eq!(
        (&session["calls"], &session["cost_usd"]),
        (&json!(3), &json!("0.00105"))
    );
    assert_eq!(
        (&session["tokens"], &session["running"], &session["ended"]),
        (&json!(330), &json!(0), &Value::Null)
    );
    let metrics = gateway.client.get("/metrics").text();
    for name in ["agentledger_active_sessions 1", "agentledger_sessions_active 1"] {
        assert!(metrics.contains(name), "{metrics}");
    }
    let rows = call(&gateway, "ledger.summary", &json!({"by": "task"}))["result"]["rows"].clone();
    assert_eq!(
        (&rows[0]["task"], &rows[0]["cost_usd"]),
        (&json!("build"), &json!("0.00105"))
    );
}

#[test]
fn defect_sessions_are_not_reloaded_after_a_restart_and_lose_their_totals() {
    let upstream = upstream();
    let gateway = Gateway::to(&upstream);
    for _ in 0..5 {
        ask(&gateway, &[("X-Agent-Session", "s1")]);
    }
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).in_dir(&dir).start();
    assert_eq!(only(&gateway, "s1")["calls"], 5);
    ask(&gateway, &[("X-Agent-Session", "s1")]);
    let session = only(&gateway, "s1");
    assert_eq!((&session["calls"], &session["cost_usd"]), (&json!(6), &json!("0.0021")));
    let rows = call(&gateway, "ledger.summary", &json!({"by": "session"}))["result"]["rows"].clone();
    assert_eq!(
        rows[0]["cost_usd"], session["cost_usd"],
        "a session's sum is that of its entries"
    );
}

#[test]
fn totals_survive_a_kill_9_and_commands_read_them_without_a_gateway() {
    let upstream = upstream();
    let home = Installation::new(&format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base()));
    let gateway = home.serve();
    for _ in 0..4 {
        let headers = [("X-Agent-Session", "s1"), ("X-Agent-Tags", "team=ml,feature=chat")];
        gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes());
    }
    let told = home.rpc("session.get", &json!({"id": "s1"}));
    gateway.kill();
    let table = home.print(&["sessions"]);
    assert!(table.contains("s1") && table.contains("$0.0014"), "{table}");
    assert!(
        home.print(&["sessions", "--status", "killed"])
            .starts_with("No session")
    );
    assert!(
        !home.run(&["sessions", "kill", "s1"]).status.success(),
        "nobody runs who could refuse it"
    );
    assert!(home.print(&["costs", "--by", "team"]).contains("ml      4"));
    let gateway = home.serve();
    assert_eq!(home.rpc("session.get", &json!({"id": "s1"})), told);
    assert!(home.print(&["sessions", "kill", "s1"]).contains("killed"));
    let refused = gateway
        .client
        .request("POST", CHAT, &[("X-Agent-Session", "s1")], ASKED.as_bytes());
    assert_eq!(refused.status, 400, "{}", refused.text());
    gateway.kill();
    let gateway = home.serve();
    let refused = gateway
        .client
        .request("POST", CHAT, &[("X-Agent-Session", "s1")], ASKED.as_bytes());
    assert_eq!(refused.json()["error"]["code"], "session_killed", "also after a crash");
    gateway.stop();
}

#[test]
fn defect_sessions_bear_no_tenant() {
    let gateway = Setup::new(&upstream())
        .with("tenants: {enabled: true, key_mappings: [{api_key_pattern: \"sk-a-*\", tenant_id: acme}]}")
        .start();
    let ask = |key: &str, tenant: &str| {
        let headers = [
            ("authorization", key),
            ("X-AgentLedger-Tenant", tenant),
            ("X-Agent-Session", "s1"),
        ];
        gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes()).status
    };
    assert_eq!((ask("Bearer sk-a-1", "acme"), ask("Bearer sk-b-1", "")), (200, 200));
    let tenants: Vec<Value> = get(&gateway, "s1").iter().map(|one| one["tenant"].clone()).collect();
    assert_eq!(tenants, ["", "acme"], "two tenants' sessions of one name are two");
    // Whom one kills is not the other's loss.
    call(&gateway, "session.kill", &json!({"id": "s1", "tenant": "acme"}));
    assert_eq!((ask("Bearer sk-a-1", "acme"), ask("Bearer sk-b-1", "")), (400, 200));
}

#[test]
fn defect_the_task_is_taken_from_the_first_call_only() {
    let gateway = Gateway::to(&upstream());
    for task in ["plan", "build"] {
        ask(&gateway, &[("X-Agent-Session", "s1"), ("X-Agent-Task", task)]);
    }
    assert_eq!(only(&gateway, "s1")["task"], "build");
    let tasks: Vec<String> = gateway
        .entries()
        .iter()
        .map(|entry| entry.facts.task.to_string())
        .collect();
    assert_eq!(tasks, ["plan", "build"], "each entry bears its own");
    let by_task = call(&gateway, "ledger.summary", &json!({"by": "task"}))["result"]["rows"].clone();
    assert_eq!(by_task.as_array().unwrap().len(), 2);
}

#[test]
fn defect_the_cost_of_the_call_that_ends_a_session_is_lost() {
    let gateway = Gateway::to(&upstream());
    ask(&gateway, &[("X-Agent-Session", "s1")]);
    ask(&gateway, &[("X-Agent-Session", "s1"), ("X-Agent-Session-End", "true")]);
    let session = only(&gateway, "s1");
    assert_eq!((&session["calls"], &session["cost_usd"]), (&json!(2), &json!("0.0007")));
    assert_eq!(session["status"], "completed");
    assert!(session["ended"].is_string());
    // A late call takes it up again, and counts.
    ask(&gateway, &[("X-Agent-Session", "s1")]);
    let session = only(&gateway, "s1");
    assert_eq!((&session["calls"], &session["status"]), (&json!(3), &json!("active")));
    let ended = call(&gateway, "session.end", &json!({"id": "s1"}));
    assert_eq!(ended["result"]["sessions"][0]["status"], "completed");
}

#[test]
fn defect_the_oldest_of_many_sessions_is_evicted_unsaved() {
    let upstream = upstream();
    let setup = |setup: Setup| setup.with("limits: {sessions_in_memory_max: 100}");
    let clock = Arc::new(ManualClock::new(START_MS));
    let gateway = setup(Setup::new(&upstream).clock(clock.clone())).start();
    let all = 150;
    for number in 0..all {
        ask(&gateway, &[("X-Agent-Session", &format!("s{number}"))]);
    }
    let dir = gateway.stop();
    let gateway = setup(Setup::new(&upstream).clock(clock).in_dir(&dir)).start();
    let list = call(&gateway, "session.list", &json!({"limit": 10_000}));
    assert_eq!(list["result"]["sessions"].as_array().unwrap().len(), all);
    assert_eq!(only(&gateway, "s0")["calls"], 1);
    ask(&gateway, &[("X-Agent-Session", "s0")]);
    assert_eq!(only(&gateway, "s0")["calls"], 2, "it came back whole");
}

#[test]
fn silence_completes_a_session_by_the_gateways_clock() {
    let clock = Arc::new(ManualClock::new(START_MS));
    let gateway = Setup::new(&upstream())
        .with("agent: {session_timeout_mins: 10}")
        .clock(clock.clone())
        .start();
    ask(&gateway, &[("X-Agent-Session", "s1")]);
    clock.advance_ms(10 * 60_000 - 1);
    assert_eq!(only(&gateway, "s1")["status"], "active");
    clock.advance_ms(1);
    let session = only(&gateway, "s1");
    assert_eq!(
        (&session["status"], &session["ended"]),
        (&json!("completed"), &json!("2026-11-22T00:10:00.000Z"))
    );
    let listed =
        |status: &str| call(&gateway, "session.list", &json!({ "status": status }))["result"]["sessions"].clone();
    assert_eq!(
        (
            listed("active").as_array().unwrap().len(),
            listed("completed")[0]["id"].as_str()
        ),
        (0, Some("s1"))
    );
    let wrong = call(&gateway, "session.list", &json!({"status": "asleep"}));
    assert_eq!(wrong["error"]["data"]["code"], "invalid_params");
    assert_eq!(
        call(&gateway, "session.kill", &json!({"id": "nobody"}))["error"]["data"]["code"],
        "not_found"
    );
}

#[test]
fn a_killed_session_is_refused_and_others_are_not() {
    let upstream = upstream();
    let gateway = Gateway::to(&upstream);
    ask(&gateway, &[("X-Agent-Session", "s1")]);
    let killed = call(&gateway, "session.kill", &json!({"id": "s1"}));
    assert_eq!(killed["result"]["sessions"][0]["status"], "killed");
    let reply = ask(&gateway, &[("X-Agent-Session", "s1")]);
    assert_eq!((reply.status, reply.header("x-should-retry")), (400, Some("false")));
    assert_eq!(reply.json()["error"]["code"], "session_killed");
    let free = gateway
        .client
        .request("GET", "/v1/models", &[("X-Agent-Session", "s1")], b"");
    assert_eq!(free.status, 400);
    assert_eq!(ask(&gateway, &[("X-Agent-Session", "s2")]).status, 200);
    assert_eq!(upstream.seen_count(), 2);
    // An end does not bring it back.
    call(&gateway, "session.end", &json!({"id": "s1"}));
    assert_eq!(only(&gateway, "s1")["status"], "killed");
    assert_eq!(only(&gateway, "s1")["calls"], 1);
}

/// A stream that would never end, and what its client has once the session is killed.
fn killed_stream(path: &str, question: &str, frame: &str) -> String {
    let began = Gate::default();
    let endless = Script::stream_head("text/event-stream")
        .chunk(frame.as_bytes())
        .step(Step::AwaitClose);
    let upstream = Upstream::playing({
        let began = began.clone();
        move |_| {
            began.open();
            endless.clone()
        }
    });
    let gateway = Gateway::to(&upstream);
    let headers = [
        ("x-api-key", "sk-ant-api03-0123456789abcdef"),
        ("anthropic-version", "2023-06-01"),
        ("X-Agent-Session", "s1"),
    ];
    let mut stream = gateway.client.send("POST", path, &headers, question.as_bytes());
    let reading = thread::spawn(move || read_reply(&mut stream));
    began.wait();
    let killed = call(&gateway, "session.kill", &json!({"id": "s1"}));
    assert_eq!(killed["result"]["sessions"][0]["status"], "killed", "{killed}");
    let reply = reading.join().unwrap();
    upstream.wait_closed(1);
    gateway.wait_idle();
    assert_eq!(gateway.entry().settlement.outcome.name(), "cut");
    assert_eq!(only(&gateway, "s1")["calls"], 1);
    if reply.status == 400 {
        // The kill was quicker than the answer's head.
        return reply.text();
    }
    assert!(reply.whole, "{}", reply.text());
    reply.text()
}

#[test]
fn running_streams_of_a_killed_session_are_cut_with_the_dialects_error() {
    let frame = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n";
    let question = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let text = killed_stream(CHAT, question, frame);
    assert!(
        text.contains("\"error\"") && text.contains("killed by an operator") && !text.contains("[DONE]"),
        "{text}"
    );

    let frame = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n";
    let question =
        r#"{"model":"claude-sonnet-4-5","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let text = killed_stream("/v1/messages", question, frame);
    assert!(
        text.contains("\"type\":\"error\"") && text.contains("killed by an operator"),
        "{text}"
    );
}

#[test]
fn identity_comes_by_header_or_query_and_goes_no_further() {
    let upstream = upstream();
    let gateway = Gateway::to(&upstream);
    let query = "_agent_id=q&_agent_session=s1&_agent_user=ann&_agent_task=t&_agent_parent=p&_agent_tags=team=ml&x=1";
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [
        ("authorization", "Bearer sk-1"),
        ("X-Agent-Id", "h"),
        ("X-Agent-Tags", "feature=chat"),
        ("traceparent", trace),
    ];
    gateway
        .client
        .request("POST", &format!("{CHAT}?{query}"), &headers, ASKED.as_bytes());
    let facts = gateway.entry().facts;
    assert_eq!(
        (&*facts.agent, &*facts.session, &*facts.user, &*facts.task),
        ("h", "s1", "ann", "t"),
        "the header wins"
    );
    let tags: Vec<String> = facts
        .tags
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(tags, ["feature=chat", "parent=p"]);
    let seen = upstream.only_seen();
    assert_eq!(seen.path, format!("{CHAT}?x=1"));
    assert!(
        !seen
            .headers
            .iter()
            .any(|(name, _)| name.to_ascii_lowercase().starts_with("x-agent"))
    );
    assert_eq!(seen.header("traceparent"), Some(trace), "a trace goes on");
    // A tag is a dimension of the sums.
    assert_eq!(gateway.requests_by_tag("feature"), [("chat".to_owned(), 1)]);
    assert_eq!(
        gateway.requests_by_tag("parent"),
        [("p".to_owned(), 1)],
        "what a run's children spend"
    );
}

#[test]
fn identity_values_are_bounded_and_thousands_of_them_are_counted_as_other() {
    let gateway = Setup::new(&upstream())
        .with("limits: {metric_label_values_max: 20}")
        .start();
    for (headers, status) in [
        (vec![("X-Agent-Session", "x".repeat(1 << 20))], 431),
        (vec![("X-Agent-Session", "x".repeat(300))], 400),
        (vec![("X-Agent-Tags", format!("team={}", "x".repeat(300)))], 400),
        (
            vec![("X-Agent-Tags", (0..17).map(|tag| format!("t{tag}=1,")).collect())],
            400,
        ),
        (vec![("X-Agent-Tags", "team".to_owned())], 400),
        (vec![("X-Agent-Session", "a\u{1}b".to_owned())], 400),
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(ask(&gateway, &headers).status, status, "{:.60}", format!("{headers:?}"));
    }
    let path = format!("{CHAT}?_agent_session=a%0ab");
    assert_eq!(gateway.client.post(&path, ASKED).status, 400);
    for number in 0..60 {
        let headers = [
            ("authorization", format!("Bearer sk-{number}")),
            ("X-Agent-Session", format!("s{number}")),
        ];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes());
    }
    let metrics = gateway.client.get("/metrics").text();
    assert!(metrics.contains("api_key_hash=\"other\""), "{metrics}");
    let keys = metrics
        .lines()
        .filter(|line| line.starts_with("agentledger_cost_usd_total{"))
        .count();
    assert!(keys <= 21, "{keys}");
}

/// The contract's keys for ghosts; fifty calls here would only take long.
const GHOSTS: &str = "agent: {ghost_max_age_mins: 60, ghost_min_calls: 3, ghost_min_cost_usd: 0.001}";

/// Waits, boundedly, until metrics say so.
fn wait_for_metric(gateway: &Gateway, line: &str) {
    for _ in 0..1500 {
        if gateway.client.get("/metrics").text().lines().any(|known| known == line) {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("metrics never say {line}:\n{}", gateway.client.get("/metrics").text());
}

#[test]
fn a_session_grown_old_busy_and_dear_is_told_of_once_though_no_call_comes() {
    let upstream = upstream();
    let clock = Arc::new(ManualClock::new(START_MS));
    let gateway = Setup::new(&upstream).with(GHOSTS).clock(clock.clone()).start();
    for session in ["busy", "busy", "busy", "idle"] {
        ask(&gateway, &[("X-Agent-Id", "coder"), ("X-Agent-Session", session)]);
    }
    clock.advance_ms(60 * 60_000);
    ask(&gateway, &[("X-Agent-Session", "idle")]);
    clock.advance_ms(5 * 60_000);
    ask(&gateway, &[("X-Agent-Session", "busy")]);
    wait_for_metric(&gateway, "agentledger_ghost_detected_total 1");
    let alert = gateway.alerts().remove(0);
    assert_eq!(
        (alert.kind.as_str(), alert.severity.name()),
        ("ghost_detected", "critical")
    );
    assert!(
        alert.message.starts_with("session active 1h5m0s, "),
        "{}",
        alert.message
    );
    let details: Vec<(&str, &str)> = alert
        .details
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(details, [("agent_id", "coder"), ("session_id", "busy")]);
    // Once per session: also after a restart, and long after any cooldown.
    let dir = gateway.stop();
    clock.advance_ms(20 * 60_000);
    let gateway = Setup::new(&upstream)
        .with(GHOSTS)
        .clock(clock.clone())
        .in_dir(&dir)
        .start();
    ask(&gateway, &[("X-Agent-Session", "busy")]);
    ask(&gateway, &[("X-Agent-Session", "idle")]);
    wait_for_metric(&gateway, "agentledger_ghost_detected_total 1");
    assert_eq!(
        gateway.alerts()[0].about,
        "idle",
        "the other one has cost enough by now"
    );
}

/// The contract's keys as its documents show them.
const CONTRACT: &str = r#"
agent:
  session_timeout_mins: 30
  loop_threshold: 20
  loop_window_mins: 5
  loop_action: "warn"
  ghost_max_age_mins: 60
  ghost_min_calls: 50
  ghost_min_cost_usd: 1.0
"#;

#[test]
fn the_contracts_example_drives_sessions_loops_and_ghosts_unchanged() {
    // 2,500 tokens of output at 10 USD per million.
    let dear = SMALL.replace("\"completion_tokens\":10", "\"completion_tokens\":2500");
    let clock = Arc::new(ManualClock::new(START_MS));
    let gateway = Setup::new(&Upstream::always(Script::json(200, &dear)))
        .with(CONTRACT)
        .clock(clock.clone())
        .start();
    let who = [("X-Agent-Id", "coder"), ("X-Agent-Session", "s1")];
    let warned: Vec<bool> = (0..50)
        .map(|_| ask(&gateway, &who).header("x-agentledger-loop-warning").is_some())
        .collect();
    assert_eq!(
        warned.iter().position(|warned| *warned),
        Some(19),
        "the twentieth is the first"
    );
    let told = gateway.alerts();
    assert_eq!(
        (told.len(), told[0].kind.as_str(), told[0].about.as_str()),
        (1, "loop_detected", "s1")
    );
    for _ in 0..3 {
        clock.advance_ms(20 * 60_000);
        ask(&gateway, &who);
    }
    wait_for_metric(&gateway, "agentledger_ghost_detected_total 1");
    let message = gateway.alerts().remove(1).message;
    // The last call may not be settled yet when it is looked at.
    let said = ["52 calls, $1.31", "53 calls, $1.34"].map(|so_far| format!("session active 1h0m0s, {so_far} spent"));
    assert!(said.contains(&message), "{message}");
    assert_eq!(only(&gateway, "s1")["status"], "active");
}
