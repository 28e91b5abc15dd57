//! Tool calls in the same books as tokens: passed byte for byte, held before, entered after.

use serde_json::{Value, json};

use crate::harness::mcp::{COST, before, call, echo, event, mirrored, modern, post, result, search, server};
use crate::harness::{Script, Setup, Upstream};

fn summary(gateway: &crate::harness::Gateway) -> Vec<(String, u16, String, String)> {
    let entries = gateway.entries();
    let row = |entry: &agentledger_ledger::Entry| {
        let (facts, end) = (&entry.facts, &entry.settlement);
        let how = end.estimate_reason.as_deref().unwrap_or_default();
        (
            facts.requested_model.to_string(),
            end.status,
            end.cost.to_string(),
            how.to_owned(),
        )
    };
    entries.iter().map(row).collect()
}

fn entered(model: &str, status: u16, cost: &str) -> (String, u16, String, String) {
    (model.to_owned(), status, cost.to_owned(), String::new())
}

#[test]
fn a_call_passes_byte_for_byte_and_is_entered_at_its_price() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    let asked = search(1);
    let headers = [
        ("mcp-session-id", "s-1"),
        ("mcp-protocol-version", "2025-11-25"),
        ("x-agent-id", "a1"),
        ("x-agent-session", "run-1"),
        ("x-custom", "kept"),
    ];
    let reply = post(&gateway.client, &asked, &headers);
    assert_eq!(
        (reply.status, reply.text()),
        (200, result(&json!(1), "found").to_string())
    );
    let seen = upstream.only_seen();
    assert_eq!((seen.path.as_str(), seen.body.as_slice()), ("/mcp", asked.as_bytes()));
    for (name, value) in [
        ("authorization", Some("Bearer sk-tools-0123456789")),
        ("mcp-session-id", Some("s-1")),
        ("mcp-protocol-version", Some("2025-11-25")),
        ("x-custom", Some("kept")),
        ("x-agent-id", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    let entry = gateway.entry();
    let (facts, end) = (&entry.facts, &entry.settlement);
    assert_eq!(
        (
            &*facts.provider,
            &*facts.operation,
            &*facts.requested_model,
            &*facts.path
        ),
        ("mcp", "tool", "hub:search", "tools/call")
    );
    assert_eq!(
        (&*facts.agent, &*facts.session, end.cost.to_string().as_str()),
        ("a1", "run-1", COST)
    );
    assert_eq!(
        (entry.held.to_string().as_str(), end.estimate_reason.as_deref()),
        (COST, None)
    );
    assert_eq!(gateway.requests_by_tag("server"), [("hub".to_owned(), 1)]);
    assert_eq!(gateway.requests_by_tag("tool"), [("search".to_owned(), 1)]);
}

#[test]
fn an_answer_as_a_stream_passes_event_by_event_and_is_settled_by_the_one_that_answers() {
    let progress = event(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}));
    let answer = event(&result(&json!("a"), "found"));
    let (pieces, sent) = ([progress.clone(), answer.clone()], [progress, answer].concat());
    let upstream = Upstream::always(Script::sse(&pieces));
    let gateway = before(&upstream, "").start();
    let asked = json!({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {"name": "search"}});
    let reply = post(&gateway.client, &asked.to_string(), &[]);
    assert_eq!((reply.status, reply.text()), (200, sent));
    assert_eq!(summary(&gateway), [entered("hub:search", 200, COST)]);
}

#[test]
fn what_is_no_call_costs_nothing_and_has_no_entry() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    for body in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
        json!({"jsonrpc": "2.0", "id": 3, "method": "resources/read", "params": {"uri": "file:///a"}}),
        json!({"jsonrpc": "2.0", "id": 4, "result": {"roots": []}}),
    ] {
        assert_eq!(post(&gateway.client, &body.to_string(), &[]).status, 200);
    }
    assert_eq!((gateway.entries().len(), upstream.seen_count()), (0, 4));
}

#[test]
fn a_call_is_priced_by_what_comes_back_and_failures_by_choice() {
    let upstream = server(|_, request| match request["params"]["name"].as_str() {
        Some("rows") => {
            let result = json!({"content": [], "structuredContent": {"rows": [{}, {}, {}]}});
            json!({"jsonrpc": "2.0", "id": request["id"], "result": result})
        }
        Some("fails") => json!({"jsonrpc": "2.0", "id": request["id"], "result": {"content": [], "isError": true}}),
        _ => json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32602, "message": "no such tool"}}),
    });
    let yaml = format!(
        "mcp:\n  servers: {{hub: {{upstream: \"{}/mcp\"}}}}\n  hold: 0.5\n  pricing:\n    - {{cost_per_call: 0.03, errors: all}}\n    \
         - {{server: 'h*', tool: fails, cost_per_call: 0.02, errors: tool}}\n    - {{server: hub, tool: rows, cost_per_call: 0.01, \
         cost_per_item: 0.001, items: structuredContent.rows}}\n",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).with(&yaml).start();
    for (id, tool) in [(1, "rows"), (2, "fails"), (3, "other")] {
        post(&gateway.client, &call(id, tool, json!({})), &[]);
    }
    let expected = [
        entered("hub:rows", 200, "0.013"),
        entered("hub:fails", 200, "0.02"),
        entered("hub:other", 500, "0.03"),
    ];
    assert_eq!(summary(&gateway), expected);
    let held: Vec<String> = gateway.entries().iter().map(|entry| entry.held.to_string()).collect();
    assert_eq!(
        held,
        ["0.51", "0.02", "0.03"],
        "what only the answer tells is held beside what is known"
    );
}

#[test]
fn an_error_of_the_tool_or_of_json_rpc_is_entered_and_free() {
    let upstream = server(|_, request| match request["params"]["name"].as_str() {
        Some("search") => json!({"jsonrpc": "2.0", "id": request["id"], "result": {"content": [], "isError": true}}),
        _ => json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32602, "message": "no such tool"}}),
    });
    let gateway = before(&upstream, "").start();
    post(&gateway.client, &search(1), &[]);
    post(&gateway.client, &call(2, "other", json!({})), &[]);
    assert_eq!(
        summary(&gateway),
        [entered("hub:search", 200, "0"), entered("hub:other", 500, "0")]
    );
}

#[test]
fn a_batch_of_calls_is_held_and_entered_call_by_call() {
    let upstream = server(|_, request| {
        let calls = request
            .as_array()
            .unwrap()
            .iter()
            .filter(|message| message["id"].is_number());
        Value::Array(calls.map(|call| result(&call["id"], "found")).collect())
    });
    let gateway = before(&upstream, "").start();
    let batch = format!(
        "[{},{},{}]",
        search(1),
        call(2, "other", json!({})),
        r#"{"method":"notifications/x"}"#
    );
    assert_eq!(post(&gateway.client, &batch, &[]).status, 200);
    let mut found = summary(&gateway);
    found.sort();
    assert_eq!(
        found,
        [entered("hub:other", 200, "0"), entered("hub:search", 200, COST)]
    );
}

#[test]
fn a_budget_that_tokens_and_tools_share_refuses_a_tool_in_words_that_its_model_reads() {
    let upstream = echo();
    let budget = "budgets: {default: {daily_limit_usd: 0.025, action: block}}";
    let gateway = before(&upstream, "").with(budget).start();
    let replies: Vec<Value> = (1..=3)
        .map(|id| serde_json::from_str(&post(&gateway.client, &search(id), &[]).text()).unwrap())
        .collect();
    assert_eq!(replies[1]["result"].get("isError"), None);
    let refused = &replies[2];
    assert_eq!(
        (&refused["id"], &refused["result"]["isError"]),
        (&json!(3), &json!(true))
    );
    let text = refused["result"]["content"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("remaining budget") && text.starts_with("AgentLedger:"),
        "{text}"
    );
    assert_eq!((summary(&gateway).len(), upstream.seen_count()), (2, 2));
}

#[test]
fn a_refusal_is_an_error_of_json_rpc_where_that_is_configured() {
    let upstream = echo();
    let budget = "budgets: {default: {daily_limit_usd: 0.001, action: block}}";
    let gateway = before(&upstream, ", refusals: error").with(budget).start();
    let reply = post(&gateway.client, &search(7), &[]);
    let said: Value = serde_json::from_str(&reply.text()).unwrap();
    assert_eq!(
        (reply.status, &said["id"], &said["error"]["code"]),
        (200, &json!(7), &json!(429))
    );
    assert_eq!(said["error"]["data"]["code"], "budget_exceeded");
    assert_eq!(upstream.seen_count(), 0);
}

#[test]
fn the_key_that_counts_is_the_one_that_the_gateway_is_told_of() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    post(&gateway.client, &search(1), &[]);
    post(
        &gateway.client,
        &search(2),
        &[("x-agentledger-key", "sk-tools-0123456789"), ("x-login", "1")],
    );
    let entries = gateway.entries();
    assert_eq!(entries[0].facts.key, entries[1].facts.key);
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.header("x-agentledger-key").is_none())
    );
    assert_eq!(upstream.seen()[1].header("x-login"), Some("1"));
}

#[test]
fn a_credential_of_the_gateways_own_goes_upstream_in_place_of_the_clients() {
    let upstream = echo();
    let yaml = format!(
        "mcp: {{servers: {{hub: {{upstream: \"{}\", bearer: own-token, headers: {{X-Team: t1}}, client_keys: [sk-tools-0123456789]}}}}}}",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).with(&yaml).start();
    assert_eq!(
        post(&gateway.client, &search(1), &[("x-api-key", "sk-other")]).status,
        200
    );
    let seen = upstream.only_seen();
    assert_eq!(
        (
            seen.path.as_str(),
            seen.header("authorization"),
            seen.header("x-team"),
            seen.header("x-api-key")
        ),
        ("/", Some("Bearer own-token"), Some("t1"), None)
    );
    let unknown = gateway.client.request(
        "POST",
        "/mcp/hub",
        &[("authorization", "Bearer sk-x")],
        search(1).as_bytes(),
    );
    assert_eq!((unknown.status, upstream.seen_count()), (401, 1));
}

#[test]
fn the_contracts_single_upstream_keeps_its_paths() {
    let upstream = echo();
    let yaml = format!(
        "mcp: {{enabled: true, upstream: \"{}/base\", pricing: [{{cost_per_call: 0.5}}]}}",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).with(&yaml).start();
    let reply = gateway.client.post("/mcp/any/where?x=1", &search(1));
    assert_eq!(
        (reply.status, upstream.only_seen().path.as_str()),
        (200, "/base/mcp/any/where?x=1")
    );
    assert_eq!(summary(&gateway), [entered("default:search", 200, "0.5")]);
}

#[test]
fn a_server_that_nobody_configured_is_no_server() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    for (method, path, status) in [
        ("POST", "/mcp/other", 404),
        ("POST", "/mcp", 404),
        ("PUT", "/mcp/hub", 405),
        ("OPTIONS", "/mcp/hub", 204),
    ] {
        let reply = gateway.client.request(method, path, &[], search(1).as_bytes());
        assert_eq!(reply.status, status, "{method} {path}");
    }
    assert_eq!(upstream.seen_count(), 0);
}

#[test]
fn a_call_of_2026_07_28_passes_with_its_headers() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    let asked = modern(1, "tools/call", json!({"name": "search", "arguments": {}}));
    let reply = post(&gateway.client, &asked, &mirrored("tools/call", "search"));
    assert_eq!((reply.status, upstream.only_seen().body), (200, asked.into_bytes()));
    assert_eq!(upstream.only_seen().header("mcp-name"), Some("search"));
    assert_eq!(summary(&gateway), [entered("hub:search", 200, COST)]);
}

#[test]
fn metrics_count_tool_calls_and_their_cost() {
    let upstream = echo();
    let gateway = before(&upstream, "").start();
    post(&gateway.client, &search(1), &[]);
    gateway.wait_idle();
    let metrics = gateway.client.get("/metrics").text();
    for line in [
        "agentledger_mcp_calls_total{tool=\"hub:search\"} 1",
        "agentledger_request_total{provider=\"mcp\",model=\"hub:search\",status_code=\"200\",streaming=\"false\"} 1",
    ] {
        let known: Vec<&str> = metrics.lines().filter(|known| known.contains("hub:search")).collect();
        assert!(metrics.contains(line), "{line}\n{known:#?}");
    }
}
