//! Bad input is refused in the caller's dialect, and nothing of it reaches the upstream.

use crate::harness::client::read_reply;
use crate::harness::{Gateway, Script, Setup, Upstream};

fn quiet() -> Upstream {
    Upstream::always(Script::json(200, "{}"))
}

#[test]
fn malformed_deep_and_doubled_json_is_refused() {
    let upstream = quiet();
    let gateway = Gateway::to(&upstream);
    let deep = format!(
        "{{\"model\":\"gpt-4o\",\"messages\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let doubled = r#"{"model":"gpt-4o-mini","messages":[],"model":"o1-pro"}"#;
    let escaped = r#"{"model":"gpt-4o-mini","messages":[],"mod\u0065l":"o1-pro"}"#;
    for body in [
        "{",
        "[1,2",
        "nonsense",
        "{\"model\":\"m\"} trailing",
        &deep,
        doubled,
        escaped,
    ] {
        let reply = gateway.client.post("/v1/chat/completions", body);
        assert_eq!(reply.status, 400, "{}", &body[..body.len().min(60)]);
        assert_eq!(reply.json()["error"]["type"], "proxy_error");
        assert_eq!(reply.header("x-should-retry"), Some("false"));
    }
    assert!(upstream.seen().is_empty());
    assert!(gateway.entries().is_empty());
}

#[test]
fn absurd_limits_are_refused() {
    let gateway = Gateway::to(&quiet());
    for max in ["-1", "1e400", "99999999999999999999", "\"many\"", "1.5"] {
        let body = format!("{{\"model\":\"gpt-4o\",\"messages\":[],\"max_tokens\":{max}}}");
        let reply = gateway.client.post("/v1/chat/completions", &body);
        assert_eq!(reply.status, 400, "{max}: {}", reply.text());
    }
}

#[test]
fn an_anthropic_client_is_refused_in_its_dialect() {
    let gateway = Gateway::to(&quiet());
    let reply = gateway.client.post_anthropic("/v1/messages", "{");
    assert_eq!((reply.status, reply.json()["type"].as_str()), (400, Some("error")));
    assert_eq!(reply.json()["error"]["type"], "proxy_error");
}

#[test]
fn both_framings_at_once_are_refused_and_the_connection_is_closed() {
    let upstream = quiet();
    let gateway = Gateway::to(&upstream);
    let smuggled = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut stream = gateway.client.raw(smuggled.as_bytes());
    let reply = read_reply(&mut stream);
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["error"]["code"], "bad_framing");
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(upstream.seen().is_empty());
}

#[test]
fn an_oversized_body_is_refused_before_it_is_read() {
    let upstream = quiet();
    let gateway = Setup::new(&upstream).with("limits: {body_bytes_max: 1024}").start();
    let long = format!(
        "{{\"model\":\"gpt-4o\",\"messages\":[],\"user\":\"{}\"}}",
        "x".repeat(2_000)
    );
    assert_eq!(gateway.client.post("/v1/chat/completions", &long).status, 413);
    let chunked = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n";
    let mut stream = gateway
        .client
        .raw(&[chunked.as_bytes(), &[b'x'; 2_000], b"\r\n0\r\n\r\n"].concat());
    assert_eq!(read_reply(&mut stream).status, 413);
    assert!(upstream.seen().is_empty());
}

#[test]
fn headers_beyond_measure_are_refused() {
    let gateway = Setup::new(&quiet()).with("limits: {header_bytes_max: 4096}").start();
    let long = "x".repeat(8_000);
    let reply = gateway.client.request("GET", "/v1/models", &[("x-long", &long)], b"");
    assert_eq!(reply.status, 431);
}

#[test]
fn a_disabled_or_unknown_prefix_is_a_404_in_json() {
    let gateway = Gateway::to(&quiet());
    for path in [
        "/groq/v1/chat/completions",
        "/nowhere",
        "/v1/nothing",
        "/v1/chat/../messages",
        "/v1//chat/completions",
    ] {
        let reply = gateway.client.post(path, "{}");
        assert!(matches!(reply.status, 400 | 404), "{path}: {}", reply.status);
        assert_eq!(reply.json()["error"]["type"], "proxy_error", "{path}");
    }
}

#[test]
fn a_websocket_is_told_to_fall_back_at_once() {
    let gateway = Gateway::to(&quiet());
    let headers = [
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let reply = gateway.client.request("GET", "/v1/responses", &headers, b"");
    assert_eq!(reply.status, 426);
}

#[test]
fn expect_100_continue_is_answered_here() {
    let upstream = quiet();
    let gateway = Gateway::to(&upstream);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 30\r\n\r\n";
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let mut stream = gateway
        .client
        .raw(head.replace("30", &body.len().to_string()).as_bytes());
    let mut first = [0; 25];
    std::io::Read::read_exact(&mut stream, &mut first).unwrap();
    assert!(
        first.starts_with(b"HTTP/1.1 100"),
        "{:?}",
        String::from_utf8_lossy(&first)
    );
    std::io::Write::write_all(&mut stream, body.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream).status, 200);
    assert_eq!(upstream.only_seen().header("expect"), None);
}

#[test]
fn long_or_strange_names_are_refused_by_name() {
    let gateway = Gateway::to(&quiet());
    let long = "x".repeat(5_000);
    let reply = gateway.client.request(
        "POST",
        "/v1/chat/completions",
        &[("x-agent-id", &long)],
        b"{\"model\":\"gpt-4o\",\"messages\":[]}",
    );
    assert_eq!(
        (reply.status, reply.json()["error"]["code"].as_str()),
        (400, Some("identity_too_long"))
    );
}
