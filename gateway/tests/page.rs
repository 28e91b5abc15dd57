//! The dashboard's files at the gateway's address, and its socket, whose first message is its token.

use serde_json::{Value, json};

use crate::harness::client::read_reply;
use crate::harness::socket::Peer;
use crate::harness::{Gateway, Script, Setup, Upstream};
use crate::replay::CONTROL;

const TOKEN: &str = "ops-token-0123456789";
const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");

fn served() -> Gateway {
    let upstream = Upstream::always(Script::json(200, "{}"));
    Setup::new(&upstream).with(CONTROL).start()
}

#[test]
fn a_browser_gets_the_page_at_each_of_its_addresses_and_a_program_what_it_asked_for() {
    let gateway = served();
    for path in [
        "/",
        "/spend",
        "/budgets?account=tenant%3Aacme",
        "/mcp",
        "/guide/budgets",
    ] {
        let page = gateway.client.request("GET", path, &[BROWSER], b"");
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, Some("text/html; charset=utf-8")),
            "{path}"
        );
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    }
    assert!(
        gateway.client.get("/").text().starts_with("AgentLedger "),
        "a terminal reads words"
    );
    assert_eq!(gateway.client.get("/spend").status, 404, "no provider serves it");
    // A name that somebody else made lead here: its page would be of this origin.
    let mut foreign = gateway
        .client
        .raw(b"GET /spend HTTP/1.1\r\nhost: evil.example\r\naccept: text/html\r\n\r\n");
    assert_eq!(read_reply(&mut foreign).status, 403);
}

#[test]
fn the_pages_files_are_there_packed_once_and_kept_by_their_tag() {
    let gateway = served();
    let index = gateway.client.request("GET", "/", &[BROWSER], b"").text();
    for name in ["app.js", "app.css", "icon.svg"] {
        assert!(index.contains(&format!("/assets/{name}")), "{index}");
        let file = gateway
            .client
            .request("GET", &format!("/assets/{name}"), &[("accept-encoding", "gzip")], b"");
        assert_eq!((file.status, file.header("content-encoding")), (200, Some("gzip")));
        let tag = file.header("etag").unwrap().to_owned();
        let again = gateway
            .client
            .request("GET", &format!("/assets/{name}"), &[("if-none-match", &tag)], b"");
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
    let guide = gateway.client.get("/assets/guide/budgets.md");
    assert!(guide.text().starts_with("# "), "{}", guide.text());
    let section = gateway.client.get("/assets/guide/claude-code.md").text();
    assert!(section.starts_with("## Claude Code"), "{section}");
    for none in [
        "/assets/budgets",
        "/assets/guide/app.js",
        "/assets/guide/nothing.md",
        "/assets/..%2fapp.js",
    ] {
        assert_ne!(gateway.client.get(none).status, 200, "{none}");
    }
}

/// The harness calls the gateway by this name.
fn socket(gateway: &Gateway) -> Peer {
    Peer::open(gateway.address(), "/rpc", &[("origin", "http://gateway")])
}

fn first(peer: &mut Peer, method: &str, token: &str) -> Value {
    peer.say(json!({"jsonrpc": "2.0", "id": "a", "method": method, "params": {"token": token}}));
    peer.json()
}

#[test]
fn a_pages_socket_opens_by_the_token_that_it_says_first() {
    let gateway = served();
    let mut peer = socket(&gateway);
    assert_eq!(
        first(&mut peer, "system.authenticate", TOKEN),
        json!({"jsonrpc": "2.0", "id": "a", "result": {}})
    );
    peer.say(json!({"jsonrpc": "2.0", "id": 2, "method": "system.status", "params": {}}));
    assert_eq!(peer.json()["result"]["holds_open"], json!(0));
}

#[test]
fn a_pages_socket_without_its_token_is_told_why_and_closed() {
    let gateway = served();
    for (method, token, code) in [
        ("system.authenticate", "wrong-token-0123456789", "wrong_token"),
        ("system.status", TOKEN, "no_token"),
    ] {
        let mut peer = socket(&gateway);
        assert_eq!(first(&mut peer, method, token)["error"]["data"]["code"], json!(code));
        assert!(peer.closed().is_some());
    }
    // A page of another origin, and a program that has no token, come no further than before.
    assert!(Peer::try_open(gateway.address(), "/rpc", &[("origin", "https://evil.example")]).is_err());
    assert!(Peer::try_open(gateway.address(), "/rpc", &[]).is_err());
}

#[test]
fn a_token_that_is_given_out_opens_what_it_may_for_a_while_and_ends_with_what_it_was_got_by() {
    let clock = std::sync::Arc::new(agentledger_ledger::ManualClock::new(1_795_341_600_000));
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = Setup::new(&upstream)
        .with(CONTROL)
        .clock(std::sync::Arc::clone(&clock) as std::sync::Arc<dyn agentledger_ledger::Clock>)
        .start();
    let given = crate::rpc::rpc(&gateway, TOKEN, "system.token", &json!({"role": "read", "lasts": "1h"}));
    let token = given["result"]["token"].as_str().unwrap().to_owned();
    let who = crate::rpc::rpc(&gateway, &token, "system.whoami", &json!({}))["result"].clone();
    assert_eq!((&who["name"], &who["role"]), (&json!("ops"), &json!("read")), "{who}");
    let further = crate::rpc::rpc(&gateway, &token, "system.token", &json!({}));
    assert_eq!(
        further["error"]["data"]["code"],
        json!("forbidden"),
        "a reader gives none out"
    );
    for (params, why) in [
        (json!({"role": "owner"}), "role"),
        (json!({"lasts": "8d"}), "7d"),
        (json!({"lasts": "0s"}), "7d"),
    ] {
        let refused = crate::rpc::rpc(&gateway, TOKEN, "system.token", &params);
        assert!(refused["error"]["message"].as_str().unwrap().contains(why), "{refused}");
    }
    clock.advance_ms(3_600_000);
    let late = crate::rpc::rpc(&gateway, &token, "system.whoami", &json!({}));
    assert_eq!(late["error"]["data"]["code"], json!("expired_token"));
}
