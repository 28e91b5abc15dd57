#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use agentledger_ledger::{Ledger, Options, SystemClock};
use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::{Config, ControlRole, ControlToken};
use crate::secret::Secret;
use crate::telemetry::Metrics;

const TOKEN: &str = "canary-admin-token";
const READ_TOKEN: &str = "canary-read-token";

struct Plane {
    state: Arc<ControlState>,
    handle: Option<ControlHandle>,
    /// Removed after the ledger is closed.
    dir: TempDir,
}

impl Plane {
    fn start() -> Plane {
        Plane::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Plane {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::for_tests(dir.path());
        change(&mut config);
        let state = state(&config);
        let handle = start(state.clone(), &dir.path().join("s"), Some("127.0.0.1:0")).unwrap();
        Plane {
            dir,
            state,
            handle: Some(handle),
        }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("s")
    }

    /// Status and body of one request on the Unix socket.
    fn ask(&self, head: &str, body: &str) -> (u16, String) {
        exchange(UnixStream::connect(self.socket()).unwrap(), head, body)
    }

    fn ask_tcp(&self, head: &str, body: &str) -> (u16, String) {
        let address = self.handle.as_ref().unwrap().tcp.unwrap();
        exchange(std::net::TcpStream::connect(address).unwrap(), head, body)
    }

    fn call(&self, method: &str, params: Value) -> Value {
        let (status, body) = self.ask("POST /rpc", &request(method, params));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

fn request(method: &str, params: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}

/// `head` is the request line without its version, and further headers.
fn exchange(mut stream: impl Read + Write, head: &str, body: &str) -> (u16, String) {
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let mut text =
        format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n");
    text += &format!("content-length: {}\r\n", body.len());
    for header in headers.lines() {
        text += &format!("{header}\r\n");
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn with_tokens(config: &mut Config) {
    config.control.admin_token = Some(Secret::new(TOKEN.to_owned()));
    let read = ControlToken {
        name: "grafana".into(),
        token: Secret::new(READ_TOKEN.to_owned()),
        role: ControlRole::Read,
        tenant: None,
        expires_ms: None,
    };
    config.control.tokens = vec![read];
}

#[test]
fn the_socket_is_its_owners_alone() {
    let plane = Plane::start();
    let mode = std::fs::metadata(plane.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn health_readiness_and_metrics_are_open_everywhere() {
    let plane = Plane::with(with_tokens);
    for path in ["/health", "/healthz"] {
        assert_eq!(
            plane.ask(&format!("GET {path}"), ""),
            (200, "{\"status\":\"ok\"}\n".to_owned())
        );
        assert_eq!(plane.ask_tcp(&format!("GET {path}"), "").0, 200);
    }
    assert_eq!(
        plane.ask("GET /readyz", ""),
        (200, "{\"status\":\"ready\"}\n".to_owned())
    );
    let (status, text) = plane.ask(&format!("GET /metrics\n{PEER_HEADER}: 192.0.2.1:5"), "");
    assert_eq!(status, 200);
    assert!(
        text.contains("agentledger_breaker_state{provider=\"openai\"} 0"),
        "{text}"
    );
    assert!(plane.ask("GET /", "").1.starts_with("AgentLedger "));
}

#[test]
fn unknown_paths_are_404_in_json() {
    let plane = Plane::start();
    for path in ["/api/dashboard/nothing", "/nothing", "/rpc/more"] {
        assert_eq!(
            plane.ask(&format!("GET {path}"), ""),
            (404, "{\"error\":\"not found\"}\n".to_owned())
        );
    }
    assert_eq!(
        plane.ask("GET /rpc", ""),
        (405, "{\"error\":\"method not allowed\"}\n".to_owned())
    );
}

#[test]
fn a_relayed_call_needs_a_token_even_on_the_socket() {
    let plane = Plane::with(with_tokens);
    let call = request("provider.list", json!({}));
    let relayed = format!("POST /rpc\n{PEER_HEADER}: 127.0.0.1:5");
    assert_eq!(plane.ask("POST /rpc", &call).0, 200);
    assert_eq!(plane.ask(&relayed, &call).0, 401);
    assert_eq!(
        plane.ask(&format!("{relayed}\nauthorization: Bearer wrong"), &call).0,
        401
    );
    assert_eq!(plane.ask(&format!("{relayed}\nauthorization: Bearer "), &call).0, 401);
    assert_eq!(
        plane.ask(&format!("{relayed}\nauthorization: Basic {TOKEN}"), &call).0,
        401
    );
    assert_eq!(
        plane.ask(&format!("{relayed}\nauthorization: Bearer {TOKEN}"), &call).0,
        200
    );
    assert_eq!(
        plane
            .ask(&format!("{relayed}\nauthorization: bearer {READ_TOKEN}"), &call)
            .0,
        200
    );
    assert_eq!(plane.ask_tcp("POST /rpc", &call).0, 401);
    assert_eq!(
        plane
            .ask_tcp(&format!("POST /rpc\nauthorization: Bearer {TOKEN}"), &call)
            .0,
        200
    );
}

#[test]
fn without_a_configured_token_nobody_outside_may_call() {
    let plane = Plane::start();
    let call = request("provider.list", json!({}));
    let (status, body) = plane.ask_tcp("POST /rpc", &call);
    assert_eq!(status, 403);
    assert!(body.contains("control.tokens"), "{body}");
    assert_eq!(
        plane
            .ask(
                &format!("POST /rpc\n{PEER_HEADER}: 127.0.0.1:5\nauthorization: Bearer "),
                &call
            )
            .0,
        403
    );
    assert_eq!(plane.ask("POST /rpc", &call).0, 200);
}

#[test]
fn a_refused_request_is_read_to_its_end() {
    let plane = Plane::with(with_tokens);
    let long = " ".repeat(900 << 10);
    for head in ["POST /rpc", "POST /api/admin/budgets/rules", "POST /metrics"] {
        let (status, body) = plane.ask_tcp(head, &long);
        assert!(
            [401, 404, 405, 413].contains(&status) && body.ends_with("}\n"),
            "{head}: {status} {body}"
        );
    }
}

#[test]
fn an_empty_token_opens_nothing() {
    let plane = Plane::with(|config| config.control.admin_token = Some(Secret::new(String::new())));
    let call = request("provider.list", json!({}));
    assert_eq!(plane.ask_tcp("POST /rpc\nauthorization: Bearer ", &call).0, 403);
}

#[test]
fn public_read_does_not_open_the_methods() {
    let plane = Plane::with(|config| {
        with_tokens(config);
        config.control.public_read = true;
    });
    assert_eq!(plane.ask_tcp("POST /rpc", &request("ledger.query", json!({}))).0, 401);
}

fn caller_of(plane: &Plane, token: &str) -> Result<rpc::call::Caller, access::Denied> {
    let value = format!("Bearer {token}").parse().unwrap();
    let headers = axum::http::HeaderMap::from_iter([(axum::http::header::AUTHORIZATION, value)]);
    let origin = access::Origin::Tcp("192.0.2.1:7".to_owned());
    let config = plane.state.config.load();
    access::Door::default().caller((&config, &plane.state.issued_tokens), &origin, &headers, 1_000)
}

#[test]
fn a_token_gives_its_role_its_tenant_and_its_name() {
    let plane = Plane::with(with_tokens);
    let reader = caller_of(&plane, READ_TOKEN).unwrap();
    assert_eq!((reader.role, reader.tenant), (rpc::call::Role::Read, None));
    assert_eq!((&*reader.name, &*reader.peer), ("grafana", "192.0.2.1:7"));
    assert_eq!(
        caller_of(&plane, TOKEN).map(|caller| caller.role),
        Ok(rpc::call::Role::Admin)
    );
    assert_eq!(caller_of(&plane, "canary"), Err(access::Denied::WrongToken));
    let bound = Plane::with(|config| {
        with_tokens(config);
        config.control.tokens[0].tenant = Some("acme".to_owned());
        config.control.tokens[0].expires_ms = Some(1_001);
    });
    assert_eq!(caller_of(&bound, READ_TOKEN).unwrap().tenant.as_deref(), Some("acme"));
}

#[test]
fn a_token_that_has_expired_says_so() {
    let plane = Plane::with(|config| {
        with_tokens(config);
        config.control.tokens[0].expires_ms = Some(1_000);
    });
    assert_eq!(caller_of(&plane, READ_TOKEN), Err(access::Denied::ExpiredToken));
    let head = format!("POST /rpc\nauthorization: Bearer {READ_TOKEN}");
    let (status, body) = plane.ask_tcp(&head, &request("provider.list", json!({})));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["error"]["data"]["code"]), (401, &json!("expired_token")));
}

#[test]
fn foreign_names_and_foreign_pages_are_refused_before_the_token_is_looked_at() {
    let plane = Plane::with(|config| {
        with_tokens(config);
        config.cors_allow_origins = vec!["https://app.example".to_owned(), "*".to_owned()];
    });
    let call = request("provider.list", json!({}));
    let ask = |headers: &str| {
        let head = format!("POST /rpc\nauthorization: Bearer {TOKEN}\n{headers}");
        let (status, body) = plane.ask_tcp(&head, &call);
        let body: Value = serde_json::from_str(&body).unwrap();
        (status, body["error"]["data"]["code"].as_str().map(str::to_owned))
    };
    let refused = |word: &str| (403, Some(word.to_owned()));
    assert_eq!(ask("origin: https://evil.example"), refused("foreign_origin"));
    assert_eq!(ask("origin: null"), refused("foreign_origin"));
    assert_eq!(
        ask("origin: http://localhost\norigin: https://evil.example"),
        refused("foreign_origin")
    );
    assert_eq!(ask("sec-fetch-site: cross-site"), refused("foreign_origin"));
    assert_eq!(ask("origin: http://localhost"), (200, None), "its own page");
    assert_eq!(ask("origin: https://app.example"), (200, None), "named");
    assert_eq!(ask("sec-fetch-site: same-origin"), (200, None));
    let wrong = plane.ask_tcp(
        "POST /rpc\nauthorization: Bearer guess\norigin: https://evil.example",
        &call,
    );
    assert!(wrong.1.contains("foreign_origin"), "{wrong:?}");
}

#[test]
fn wrong_tokens_are_slowed_down_by_peer_and_the_owner_never_is() {
    let plane = Plane::with(with_tokens);
    let call = request("provider.list", json!({}));
    let relayed = |peer: &str, token: &str| {
        let head = format!("POST /rpc\n{PEER_HEADER}: {peer}\nauthorization: Bearer {token}");
        plane.ask(&head, &call).0
    };
    assert_eq!(relayed("192.0.2.7:1", READ_TOKEN), 200);
    // More at once than any machine is slow enough to forgive one a second of.
    let statuses: Vec<u16> = (0..400).map(|_| relayed("192.0.2.7:2", "guess")).collect();
    assert_eq!(statuses[0], 401);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(
        relayed("192.0.2.7:3", READ_TOKEN),
        200,
        "it was right from there before"
    );
    assert_eq!(relayed("192.0.2.8:2", "guess"), 401, "another peer");
    assert_eq!(plane.ask("POST /rpc", &call).0, 200, "the owner");
}

#[test]
fn tokens_never_come_back() {
    let plane = Plane::with(with_tokens);
    plane.ask_tcp(
        "POST /rpc\nauthorization: Bearer canary-guess",
        &request("provider.list", json!({})),
    );
    let said = [
        plane.ask_tcp("POST /rpc\nauthorization: Bearer canary-guess", "{}").1,
        plane.ask_tcp("GET /metrics", "").1,
        plane.ask_tcp("GET /", "").1,
        plane.call("provider.list", json!({})).to_string(),
    ];
    assert!(!said.concat().contains("canary"), "{said:?}");
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    // Dropped without unlinking: what a killed gateway leaves behind.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let state = state(&Config::for_tests(dir.path()));
    let first = start(state.clone(), &path, None).unwrap();
    assert!(matches!(start(state.clone(), &path, None), Err(ControlError::InUse(_))));
    assert_eq!(exchange(UnixStream::connect(&path).unwrap(), "GET /health", "").0, 200);
    first.stop();
    assert!(!path.exists());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    std::fs::write(&path, "mine").unwrap();
    let state = state(&Config::for_tests(dir.path()));
    assert!(matches!(start(state, &path, None), Err(ControlError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_path_too_long_for_a_socket_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(&Config::for_tests(dir.path()));
    let Err(error) = start(state, &dir.path().join("x".repeat(200)), None) else {
        panic!("bound")
    };
    assert!(error.to_string().contains("control.socket"), "{error}");
}

#[test]
fn a_taken_tcp_address_is_told_and_leaves_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let state = state(&Config::for_tests(dir.path()));
    let result = start(
        state,
        &dir.path().join("s"),
        Some(&taken.local_addr().unwrap().to_string()),
    );
    assert!(matches!(result, Err(ControlError::Listen { .. })));
    assert!(!dir.path().join("s").exists());
}

#[test]
fn stopping_leaves_a_successors_socket() {
    let plane = Plane::start();
    std::fs::remove_file(plane.socket()).unwrap();
    let _successor = UnixListener::bind(plane.socket()).unwrap();
    drop(plane.handle);
    assert!(plane.dir.path().join("s").exists());
}

#[tokio::test]
async fn it_can_be_stopped_inside_a_runtime() {
    let plane = Plane::start();
    plane.handle.unwrap().stop();
}

#[test]
fn providers_are_listed_with_their_breakers() {
    let plane = Plane::start();
    let listed = plane.call("provider.list", json!({}));
    let rows = listed["result"]["providers"].as_array().unwrap();
    let openai = rows.iter().find(|row| row["name"] == "openai").unwrap();
    assert_eq!(openai["upstream"], "api.openai.com:443");
    assert_eq!((&openai["enabled"], &openai["breaker"]), (&json!(true), &json!("off")));
}

#[test]
fn misspelt_parameters_are_refused_with_a_stable_word() {
    let plane = Plane::start();
    let cases = [
        json!({ "tenent": "acme" }),
        json!({ "last": "soon" }),
        json!({ "limit": 0 }),
        json!({ "limit": 1_000_000 }),
        json!({ "cursor": "zzz" }),
        json!(["acme"]),
    ];
    for params in cases {
        let error = plane.call("ledger.query", params.clone())["error"].clone();
        assert_eq!(
            (&error["code"], &error["data"]["code"]),
            (&json!(-32602), &json!("invalid_params")),
            "{params}"
        );
    }
    assert_eq!(plane.call("no.such", json!({}))["error"]["code"], -32601);
}

/// A control plane's state over a fresh ledger.
pub(crate) fn state(config: &Config) -> Arc<ControlState> {
    let ledger = Ledger::open(Options::new(&config.storage.dir), Arc::new(SystemClock::default())).unwrap();
    Arc::new(ControlState {
        ledger: ledger.into(),
        config: Arc::new(ArcSwap::from_pointee(config.clone())),
        metrics: Arc::new(Metrics::new(&config.limits)),
        data_plane: Arc::new(NoDataPlane),
        version: "0.0.0",
        started_at_ms: 1_700_000_000_000,
        requests: Default::default(),
        corrections: Default::default(),
        replays: Default::default(),
        verifications: Default::default(),
        issued_tokens: Default::default(),
    })
}
