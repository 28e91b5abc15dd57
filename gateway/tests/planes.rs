//! The control plane through the proxy's port: open where it says nothing secret, closed without a token elsewhere.

use serde_json::{Value, json};

use crate::harness::client::Reply;
use crate::harness::process::over_socket;
use crate::harness::{Gateway, Script, Setup, Upstream};

const READER: &str = "reader-token-0123456789";
const ADMIN: &str = "admin-token-0123456789";
const ASK: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ledger.summary","params":{}}"#;

fn upstream() -> Upstream {
    Upstream::always(Script::json(
        200,
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10}}"#,
    ))
}

fn call(gateway: &Gateway, headers: &[(&str, &str)]) -> Reply {
    gateway.client.request("POST", "/rpc", headers, ASK.as_bytes())
}

fn rows(reply: &Reply) -> usize {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["result"]["rows"].as_array().unwrap().len()
}

#[test]
fn health_is_answered_and_metrics_are_open() {
    let gateway = Gateway::to(&upstream());
    gateway
        .client
        .post("/v1/chat/completions", r#"{"model":"gpt-4o","messages":[]}"#);
    for (path, status) in [("/health", "ok"), ("/healthz", "ok"), ("/readyz", "ready")] {
        let reply = gateway.client.get(path);
        assert_eq!(
            (reply.status, reply.json()["status"].as_str()),
            (200, Some(status)),
            "{path}"
        );
    }
    let metrics = gateway.client.get("/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    for name in [
        "agentledger_request_total",
        "agentledger_tokens_total",
        "agentledger_cost_usd_total",
        "agentledger_request_duration_ms_bucket",
    ] {
        assert!(metrics.text().contains(name), "{name}");
    }
    assert_eq!(gateway.client.get("/").status, 200);
}

#[test]
fn methods_need_a_token_from_the_network_and_none_from_the_owner() {
    let gateway = Gateway::to(&upstream());
    gateway
        .client
        .post("/v1/chat/completions", r#"{"model":"gpt-4o","messages":[]}"#);
    assert_eq!(
        call(&gateway, &[]).status,
        403,
        "no token is configured: nobody outside may"
    );
    assert_eq!(call(&gateway, &[("Authorization", "Bearer guess")]).status, 403);
    let socket = gateway.dir.path().join("ledger/control.sock");
    assert_eq!(rows(&over_socket(&socket, "POST", "/rpc", ASK).unwrap()), 1);

    let yaml = format!(
        "control: {{tokens: [{{name: r, token: {READER}, role: read}}, {{name: a, token: {ADMIN}, role: admin}}]}}"
    );
    let gateway = Setup::new(&upstream()).with(&yaml).start();
    assert_eq!(call(&gateway, &[]).status, 401);
    assert_eq!(call(&gateway, &[("Authorization", "Bearer guess")]).status, 401);
    // Nor may a client say that it is the owner, nor that it comes from elsewhere.
    for claim in [
        [("X-AgentLedger-Peer", ""), ("X-A", "")],
        [("X-AgentLedger-Peer", "unix"), ("Connection", "x-agentledger-peer")],
    ] {
        let reply = call(&gateway, &claim);
        assert_eq!(reply.status, 401, "{claim:?}: {}", reply.text());
    }
    for token in [READER, ADMIN] {
        assert_eq!(
            rows(&call(&gateway, &[("Authorization", &format!("Bearer {token}"))])),
            0
        );
    }
    assert_eq!(gateway.client.get("/rpc").status, 405);
}

#[test]
fn answers_of_the_control_plane_are_whole_json_and_unknown_paths_are_404() {
    let gateway = Setup::new(&upstream())
        .with(&format!("admin: {{enabled: true, token: {ADMIN}}}"))
        .start();
    let bearer = format!("Bearer {ADMIN}");
    let ask = |body: &Value| {
        gateway.client.request(
            "POST",
            "/rpc",
            &[("Authorization", &bearer)],
            body.to_string().as_bytes(),
        )
    };
    for (method, error) in [("ledger.summary", None), ("nothing.known", Some(-32601))] {
        let reply = ask(&json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": {}}));
        assert_eq!((reply.status, reply.json()["id"].as_i64()), (200, Some(7)));
        assert_eq!(reply.json()["error"]["code"].as_i64(), error);
    }
    let batch = json!([{"jsonrpc": "2.0", "id": 1, "method": "hold.list"}, {"jsonrpc": "2.0", "id": 2, "method": "budget.status"}]);
    assert_eq!(ask(&batch).json().as_array().unwrap().len(), 2);
    let nonsense = ask(&json!("nonsense"));
    assert!(
        nonsense.json()["error"].is_object(),
        "{} {}",
        nonsense.status,
        nonsense.text()
    );
    // Never HTML with a 200, as the original's.
    for path in ["/groq/v1/chat/completions", "/nothing", "/v1/nothing", "/rpcx"] {
        let reply = gateway.client.post(path, r#"{"model":"gpt-4o","messages":[]}"#);
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
        assert!(reply.json()["error"]["message"].is_string());
    }
}

#[test]
fn provider_list_shows_what_is_metered_free_and_refused_and_why() {
    let upstream = upstream();
    let mistral = format!(
        "extra: {{mistral: {{enabled: true, upstream: \"{}\"}}}}",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).only(&format!("providers: {{{mistral}}}")).start();
    let socket = gateway.dir.path().join("ledger/control.sock");
    let list = |params: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "provider.list", "params": params}).to_string();
        let reply = over_socket(&socket, "POST", "/rpc", &body).unwrap();
        reply.json()["result"]["providers"].as_array().expect("a list").clone()
    };
    let plain = list(json!({}));
    assert!(
        plain.iter().all(|row| row["routes"].is_null()),
        "the table is long: on request"
    );
    let shown = list(json!({"provider": "mistral", "routes": true}));
    assert_eq!(shown[0]["vendor"], "mistral");
    let routes = shown[0]["routes"].as_array().unwrap();
    let of = |method: &str, path: &str| {
        let mut rows = routes.iter();
        rows.find(|row| row["method"] == method && row["path"] == path)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(of("POST", "/v1/chat/completions")["billing"], "metered");
    assert_eq!(
        of("POST", "/v1/conversations")["billing"],
        "metered",
        "free at OpenAI, not here"
    );
    let refused = routes
        .iter()
        .find(|row| row["billing"] == "refused")
        .expect("some route is refused");
    assert!(!refused["reason"].as_str().unwrap().is_empty());
}
