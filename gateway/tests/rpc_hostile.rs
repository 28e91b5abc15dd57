//! What nobody means well by: each is answered with the standard error object and its word, or the connection ends; the data
//! plane does not notice, and memory stays what it was.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use agentledger::testing::meter::websocket::Message;
use serde_json::{Value, json};

use crate::harness::client::{Reply, read_reply};
use crate::harness::{Client, Gateway, Installation, Peer, Script, Setup, Upstream, dead_port};

const ADMIN: &str = "admin-token-0123456789";
const CONTROL: &str = "control: {tokens: [{name: root, token: admin-token-0123456789, role: admin}, \
    {name: eye, token: reader-token-0123456789, role: read}, \
    {name: gone, token: expired-token-0123456789, role: admin, expires: 2020-01-01}, \
    {name: of-acme, token: acme-token-0123456789, role: admin, tenant: acme}]}";
const CHAT: &str = r#"{"model":"gpt-4o","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#;
const MIB: usize = 1 << 20;

fn upstream() -> Upstream {
    Upstream::always(Script::json(
        200,
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10}}"#,
    ))
}

fn gateway() -> (Upstream, Gateway) {
    let upstream = upstream();
    let gateway = Setup::new(&upstream).with(CONTROL).start();
    (upstream, gateway)
}

fn post(client: &Client, token: &str, more: &[(&str, &str)], body: &[u8]) -> Reply {
    let bearer = format!("Bearer {token}");
    let mut headers = more.to_vec();
    if !token.is_empty() {
        headers.push(("authorization", &bearer));
    }
    client.request("POST", "/rpc", &headers, body)
}

fn call(method: &str, params: &Value) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        .to_string()
        .into_bytes()
}

/// The error's word; the standard object and nothing of the inside.
fn word(reply: &Reply) -> String {
    // Of a batch, the first one's.
    let answer = match reply.json() {
        Value::Array(answers) => answers[0].clone(),
        answer => answer,
    };
    let error = &answer["error"];
    assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
    assert!(error["code"].is_i64() && error["message"].is_string(), "{answer}");
    let text = answer.to_string();
    for inside in [
        "src/",
        ".rs:",
        "panicked",
        "Mutex",
        "sled",
        "jsonrpsee",
        "RUST_BACKTRACE",
        "0x",
    ] {
        assert!(!text.contains(inside), "{text}");
    }
    error["data"]["code"]
        .as_str()
        .unwrap_or_else(|| panic!("no word: {answer}"))
        .to_owned()
}

#[test]
fn what_is_no_request_is_told_so() {
    let (_upstream, gateway) = gateway();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_params = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ledger.query","params":{{"model":{}1{}}}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let batch = format!(
        "[{}]",
        vec![r#"{"jsonrpc":"2.0","id":1,"method":"hold.list"}"#; 33].join(",")
    );
    let cases: [(&str, &[u8]); 22] = [
        ("parse_error", b"\"nonsense\""),
        ("parse_error", b"{"),
        (
            "parse_error",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold.list\"} trailing",
        ),
        ("parse_error", b"\xff\xfe{}"),
        ("parse_error", b"[{\"jsonrpc\":"),
        ("parse_error", b"<xml/>"),
        ("invalid_request", b"{}"),
        ("invalid_request", b"[]"),
        (
            "invalid_request",
            b"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"hold.list\"}",
        ),
        ("invalid_request", b"{\"jsonrpc\":\"2.0\",\"id\":1}"),
        (
            "invalid_request",
            b"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"hold.list\"}",
        ),
        ("invalid_request", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}"),
        ("unknown_method", &call("no.such", &json!({}))),
        ("unknown_method", &call("../../etc/passwd", &json!({}))),
        ("invalid_params", &call("ledger.query", &json!({"tenent": "acme"}))),
        ("invalid_params", &call("ledger.query", &json!({"limit": "ten"}))),
        ("invalid_params", &call("ledger.query", &json!({"limit": -1}))),
        ("invalid_params", &call("ledger.query", &json!({"tenant": ["acme"]}))),
        ("invalid_params", &call("ledger.query", &json!(["acme"]))),
        ("invalid_params", deep_params.as_bytes()),
        ("batch_too_large", batch.as_bytes()),
        ("invalid_request", deep.as_bytes()),
    ];
    for (expected, body) in cases {
        let reply = post(&gateway.client, ADMIN, &[], body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned();
        assert_eq!(word(&reply), expected, "{shown}: {}", reply.text());
        // A connection of its own hears the same.
        let Ok(text) = std::str::from_utf8(body) else { continue };
        let mut peer = Peer::open(
            gateway.address(),
            "/rpc",
            &[("authorization", &format!("Bearer {ADMIN}"))],
        );
        peer.send(&Message::Text(text.as_bytes().to_vec().into()));
        let heard = peer.json();
        let heard = heard.get(0).unwrap_or(&heard);
        assert_eq!(heard["error"]["data"]["code"], expected, "{shown}");
    }
    let notification = post(
        &gateway.client,
        ADMIN,
        &[],
        b"{\"jsonrpc\":\"2.0\",\"method\":\"hold.list\"}",
    );
    assert_eq!((notification.status, notification.body.len()), (204, 0));
    let answers = post(
        &gateway.client,
        ADMIN,
        &[],
        b"[1,{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"hold.list\"}]",
    )
    .json();
    assert_eq!(answers[0]["error"]["data"]["code"], "invalid_request");
    assert_eq!(answers[1]["id"], 7);
}

#[test]
fn what_is_too_large_is_refused_and_not_kept() {
    let (_upstream, gateway) = gateway();
    let batch = format!("[{}]", vec!["{}"; 100_000].join(","));
    assert_eq!(
        word(&post(&gateway.client, ADMIN, &[], batch.as_bytes())),
        "batch_too_large"
    );
    let long = call("ledger.query", &json!({"model": "x".repeat(10 * MIB)}));
    let reply = post(&gateway.client, ADMIN, &[], &long);
    assert_eq!((reply.status, word(&reply).as_str()), (413, "request_too_large"));
    // Nobody's is not even looked at.
    let reply = post(&gateway.client, "", &[], &long);
    assert_eq!((reply.status, word(&reply).as_str()), (401, "no_token"));
    let mut peer = Peer::open(
        gateway.address(),
        "/rpc",
        &[("authorization", &format!("Bearer {ADMIN}"))],
    );
    peer.send(&Message::Text(long.into()));
    assert_eq!(peer.json()["error"]["data"]["code"], "request_too_large");
    assert_eq!(peer.closed().map(|(code, _)| code), Some(1009));
    let mut peer = Peer::open(
        gateway.address(),
        "/rpc",
        &[("authorization", &format!("Bearer {ADMIN}"))],
    );
    peer.send(&Message::Binary(b"{}".to_vec().into()));
    assert_eq!(peer.closed().map(|(code, _)| code), Some(1003));
}

/// Status, word, token, further headers, body.
type Case<'a> = (u16, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8]);

#[test]
fn tokens_hosts_and_pages_that_may_not_are_refused_by_name() {
    let (_upstream, gateway) = gateway();
    let list = call("ledger.summary", &json!({}));
    let verify = call("ledger.verify", &json!({}));
    let of_bravo = call("ledger.summary", &json!({"tenant": "bravo"}));
    let end = call("session.end", &json!({"id": "s"}));
    let cases: [Case<'_>; 9] = [
        (401, "no_token", "", &[], &list),
        (401, "wrong_token", "guess", &[], &list),
        (401, "expired_token", "expired-token-0123456789", &[], &list),
        (200, "forbidden", "reader-token-0123456789", &[], &end),
        (200, "other_tenant", "acme-token-0123456789", &[], &verify),
        (200, "other_tenant", "acme-token-0123456789", &[], &of_bravo),
        (
            403,
            "foreign_origin",
            ADMIN,
            &[("origin", "https://evil.example")],
            &list,
        ),
        (403, "foreign_origin", ADMIN, &[("sec-fetch-site", "cross-site")], &list),
        (415, "not_json", ADMIN, &[("content-type", "text/plain")], &list),
    ];
    for (status, expected, token, headers, body) in cases {
        let reply = match headers.first() {
            // The client sends JSON's type by itself.
            Some(("content-type", kind)) => read_reply(&mut gateway.client.raw(
                &[
                    format!(
                        "POST /rpc HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
                         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    )
                    .into_bytes(),
                    body.to_vec(),
                ]
                .concat(),
            )),
            _ => post(&gateway.client, token, headers, body),
        };
        assert_eq!(
            (reply.status, word(&reply).as_str()),
            (status, expected),
            "{}",
            reply.text()
        );
    }
    let rebound = format!(
        "POST /rpc HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nAuthorization: Bearer {ADMIN}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
        list.len(),
        String::from_utf8_lossy(&list)
    );
    let reply = read_reply(&mut gateway.client.raw(rebound.as_bytes()));
    assert_eq!((reply.status, word(&reply).as_str()), (403, "foreign_host"));
    // The same on a WebSocket, whose handshake any page may send anywhere.
    let bearer = format!("Bearer {ADMIN}");
    let handshakes: [(&str, &[(&str, &str)]); 4] = [
        (
            "foreign_origin",
            &[("authorization", &bearer), ("origin", "https://evil.example")],
        ),
        ("no_token", &[]),
        ("wrong_token", &[("authorization", "Bearer guess")]),
        ("expired_token", &[("authorization", "Bearer expired-token-0123456789")]),
    ];
    for (expected, headers) in handshakes {
        match Peer::try_open(gateway.address(), "/rpc", headers) {
            Ok(_) => panic!("{expected}: it was let in"),
            Err(reply) => assert_eq!(word(&reply), expected, "{}", reply.text()),
        }
    }
    // Paths that mean to be another.
    for path in [
        "/rpc/",
        "/rpc/../metrics",
        "/rpc%2f",
        "//rpc",
        "/rpc;x",
        "/RPC",
        "/rpc/../../etc/passwd",
    ] {
        let reply = gateway
            .client
            .request("POST", path, &[("authorization", &bearer)], &list);
        // One spelling of a path is served; another is refused, or is the same after all and passes the same door.
        assert!(
            [400, 404, 405].contains(&reply.status) || reply.json()["result"].is_object(),
            "{path}: {} {}",
            reply.status,
            reply.text()
        );
    }
}

/// A hostile request of some kind; whatever comes back is read.
fn attack(number: usize, proxy: SocketAddr, own: SocketAddr) {
    let address = if number.is_multiple_of(3) { own } else { proxy };
    let Ok(mut stream) = TcpStream::connect(address) else {
        return;
    };
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let token = match number % 5 {
        0 => "",
        1 => "Authorization: Bearer guess\r\n",
        2 => "Authorization: Bearer expired-token-0123456789\r\n",
        _ => "Authorization: Bearer admin-token-0123456789\r\n",
    };
    let head = |more: &str, length: usize| {
        format!(
            "POST /rpc HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Type: application/json\r\n{token}{more}\
             Content-Length: {length}\r\n\r\n"
        )
    };
    let with = |body: Vec<u8>| [head("", body.len()).into_bytes(), body].concat();
    let bytes = match number % 13 {
        0 => with(b"{\"jsonrpc\"".to_vec()),
        1 => with(call("no.such", &json!({"x": number}))),
        2 => with(call("ledger.query", &json!({"model": "x".repeat(300_000)}))),
        3 => with(format!("[{}]", vec!["{}"; 100_000].join(",")).into_bytes()),
        4 => with("[".repeat(100_000).into_bytes()),
        5 => [head("Origin: https://evil.example\r\n", 2).as_bytes(), b"{}"].concat(),
        // Half open: more is announced than comes.
        6 => head("", 1_000_000).into_bytes(),
        7 => b"GET /rpc HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_vec(),
        8 => b"POST /rpc HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        9 => b"GET /../../etc/passwd HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n".to_vec(),
        // A WebSocket that sends what is no frame.
        10 => {
            let handshake = format!(
                "GET /rpc HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{token}\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            [handshake.as_bytes(), &[0xff; 64]].concat()
        }
        11 if number % 390 == 11 => with(call("ledger.query", &json!({"model": "x".repeat(10 * MIB)}))),
        11 => with(call(
            "ledger.query",
            &json!({"limit": "many", "cursor": "zzz", "from": "never"}),
        )),
        _ => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    };
    let _ = stream.write_all(&bytes);
    // Some leave without a word, others hear the end.
    if !number.is_multiple_of(7) {
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut sink = Vec::new();
        let _ = stream.take(1 << 20).read_to_end(&mut sink);
        if let Ok(text) = std::str::from_utf8(&sink) {
            assert!(!text.contains("panicked") && !text.contains("src/"), "{text}");
        }
    }
}

/// Resident memory of a process, KiB.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_hostile_requests_cost_the_proxy_nothing() {
    const REQUESTS: usize = 10_000;
    /// After these memory is warm: pools, arenas, threads.
    const WARM: usize = 2_000;
    const GROWTH_MAX_KIB: u64 = 48 << 10;
    let upstream = upstream();
    let own = SocketAddr::from(([127, 0, 0, 1], dead_port()));
    let home = Installation::new(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\n{}",
        upstream.base(),
        CONTROL.replace("control: {", &format!("control: {{listen: \"{own}\", "))
    ));
    let process = home.serve();
    let (over, proxied, failed) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let proxy = process.client.address();
    let wave = |from: usize, to: usize| {
        thread::scope(|scope| {
            for worker in 0..8 {
                scope.spawn(move || {
                    (from + worker..to)
                        .step_by(8)
                        .for_each(|number| attack(number, proxy, own))
                });
            }
        });
    };
    let grown = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let reply = process.client.post("/v1/chat/completions", CHAT);
                    proxied.fetch_add(1, Ordering::SeqCst);
                    if reply.status != 200 || !reply.whole {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        wave(0, WARM);
        let warm = resident(process.id());
        wave(WARM, REQUESTS);
        let after = resident(process.id());
        over.store(true, Ordering::SeqCst);
        after.saturating_sub(warm)
    });
    let proxied = proxied.load(Ordering::SeqCst);
    assert_eq!(failed.load(Ordering::SeqCst), 0, "of {proxied} proxied calls");
    assert!(proxied > 100, "{proxied}");
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB grown");
    let status = home.rpc("system.status", &json!({}));
    assert_eq!(status["ready"], true, "{status}");
    assert!(!process.log().contains("panicked"));
    println!("{REQUESTS} hostile requests, {proxied} proxied calls beside them, {grown} KiB grown");
}
