//! The refusals beside those of limits and rules: of requests that cannot be read or served, of upstreams and of the gateway
//! itself. Their texts are golden too, and every code of the table stands in a golden file, or here with the reason why not.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;

use agentledger::testing::RefusalCode;
use serde_json::json;

use crate::admission::full;
use crate::harness::client::{Reply, read_reply};
use crate::harness::upstream::Step;
use crate::harness::{Gateway, Script, Setup, Upstream};
use crate::refusals::{DIALECTS, Dialect, PRICED, gated, setup, setup_of, shown, sixty_cents};
use crate::rest::golden;
use crate::sessions::call;

/// The example of RFC 6455.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIACLIENT/20261122/us-east-1/bedrock/aws4_request, \
    SignedHeaders=host;x-amz-date, Signature=00";

/// Codes without a golden text, and why.
const WITHOUT_GOLDEN: [(&str, &str); 16] = [
    ("bad_request", "its message is the HTTP parser's"),
    ("unreadable_body", "its client has broken off: see door"),
    ("client_gone", "nobody reads it"),
    ("internal", "a fault of the gateway: no request is known that causes it"),
    ("cannot_edit", "no shipped dialect admits a body that it cannot edit"),
    ("plugin_failed", "no shipped plugin fails: see odd_answers"),
    ("too_many_answers", "on a WebSocket: see socket"),
    ("control_failed", "of the control plane: see planes"),
    ("control_unavailable", "of the control plane: see planes"),
    ("control_timeout", "of the control plane: see planes"),
    (
        "invalid_message",
        "of MCP, which has errors of its own: see mcp_hostile",
    ),
    ("header_mismatch", "of MCP: see mcp_hostile"),
    ("tool_changed", "of MCP: see mcp_view"),
    ("no_gateway", "of wrapped servers: see mcp_wrap"),
    ("ledger_full", "of a ledger with a million holds: see admission"),
    ("ledger_unavailable", "of a full disk: see storage"),
];

/// What one thing that goes wrong is answered with, in each dialect.
fn refused(out: &mut String, title: &str, code: &str, ask: impl Fn(&Dialect) -> Reply) {
    writeln!(out, "# {title}").unwrap();
    for dialect in &DIALECTS {
        let reply = ask(dialect);
        let text = shown(&reply);
        assert!(
            text.contains(&format!("\"{code}\"")),
            "{title}, {}: {text}",
            dialect.name
        );
        assert!(text.contains("AgentLedger: "), "{title}, {}: {text}", dialect.name);
        writeln!(out, "\n## {}: {}", dialect.name, text.trim_end()).unwrap();
    }
    out.push('\n');
}

/// The same of what only one dialect has.
fn refused_once(out: &mut String, title: &str, code: &str, reply: &Reply) {
    let text = shown(reply);
    assert!(
        text.contains(&format!("\"{code}\"")) && text.contains("AgentLedger: "),
        "{title}: {text}"
    );
    writeln!(out, "# {title}\n\n{text}").unwrap();
}

fn start(upstream: &Upstream, more: &str) -> Gateway {
    setup(upstream, more).0.start()
}

/// A handshake for a WebSocket.
fn upgrade(gateway: &Gateway, dialect: &Dialect, version: &str, key: &str) -> Reply {
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", version),
        ("sec-websocket-key", key),
    ];
    dialect.send(gateway, "GET", "/v1/responses", &upgrade, b"")
}

#[test]
fn the_refusals_of_requests_that_cannot_be_read_are_as_recorded() {
    let mut out = String::new();
    let upstream = sixty_cents();
    let limits = "limits: {body_bytes_max: 1024, header_bytes_max: 4096, body_read_timeout_ms: 300}";
    let gateway = start(&upstream, limits);
    let post = |dialect: &Dialect, headers: &[(&str, &str)], body: &[u8]| {
        dialect.send(&gateway, "POST", dialect.path, headers, body)
    };
    let with = |dialect: &Dialect, headers: &[(&str, &str)]| post(dialect, headers, dialect.body.as_bytes());
    let at = |dialect: &Dialect, method: &str, path: &str| {
        dialect.send(&gateway, method, path, &[], dialect.body.as_bytes())
    };
    let long = "x".repeat(1_500);
    refused(&mut out, "An empty body", "empty_body", |dialect| {
        post(dialect, &[], b"")
    });
    refused(&mut out, "A body that is no JSON", "invalid_json", |dialect| {
        post(dialect, &[], b"{\"model\":")
    });
    refused(&mut out, "A body that is too large", "body_too_large", |dialect| {
        post(dialect, &[], long.as_bytes())
    });
    refused(
        &mut out,
        "A body that is not in its encoding",
        "bad_encoding",
        |dialect| with(dialect, &[("content-encoding", "gzip")]),
    );
    refused(
        &mut out,
        "An encoding that is not read here",
        "unknown_encoding",
        |dialect| with(dialect, &[("content-encoding", "lzma")]),
    );
    refused(&mut out, "A name that is too long", "identity_too_long", |dialect| {
        with(dialect, &[("x-agent-task", &long)])
    });
    refused(&mut out, "Tags that cannot be read", "bad_identity", |dialect| {
        with(dialect, &[("x-agent-tags", "team")])
    });
    refused(&mut out, "Two types of content", "ambiguous_head", |dialect| {
        with(
            dialect,
            &[("content-type", "application/json"), ("content-type", "text/plain")],
        )
    });
    refused(&mut out, "Two keys in one place", "ambiguous_key", |dialect| {
        let header = if dialect.name == "gemini" {
            "x-goog-api-key"
        } else {
            "x-api-key"
        };
        with(dialect, &[(header, "sk-one-0123456789"), (header, "sk-two-0123456789")])
    });
    refused(&mut out, "A head that is too large", "headers_too_large", |dialect| {
        with(dialect, &[("x-other", &"y".repeat(5_000))])
    });
    refused(
        &mut out,
        "A path that could be read as another one",
        "bad_path",
        |dialect| at(dialect, "POST", &format!("{}/%2e%2e/x", dialect.path)),
    );
    refused(
        &mut out,
        "A method that is not served",
        "method_not_allowed",
        |dialect| at(dialect, "PATCH", dialect.path),
    );
    let [openai, _, gemini, bedrock] = &DIALECTS;
    let chat = with(openai, &[("x-ok", "1")]);
    assert_eq!(chat.status, 200, "{}", chat.text());
    let reply = at(openai, "POST", "/nobody/v1/chat");
    refused_once(&mut out, "A path that nobody serves", "no_route", &reply);
    let reply = at(openai, "POST", "/v1/fine_tuning/jobs");
    refused_once(&mut out, "An operation that cannot be held", "route_refused", &reply);
    let reply = at(gemini, "POST", &format!("{}?alt=proto", gemini.path));
    refused_once(
        &mut out,
        "An answer in a format that cannot be metered",
        "unmetered_format",
        &reply,
    );
    let signed = [("authorization", SIGNED), ("x-amz-date", "20261122T000000Z")];
    let reply = gateway
        .client
        .request("POST", bedrock.path, &signed, bedrock.body.as_bytes());
    refused_once(
        &mut out,
        "A signature for the gateway's host",
        "signature_for_gateway",
        &reply,
    );
    refused_once(
        &mut out,
        "Another version of WebSocket",
        "websocket_version",
        &upgrade(&gateway, openai, "12", WEBSOCKET_KEY),
    );
    refused_once(
        &mut out,
        "A handshake that is none",
        "bad_handshake",
        &upgrade(&gateway, openai, "13", "short"),
    );
    let raw = |head: &str| {
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n{head}",
            openai.path
        );
        read_reply(&mut gateway.client.raw(request.as_bytes()))
    };
    let reply = raw("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    refused_once(&mut out, "Two lengths", "bad_framing", &reply);
    let reply = raw("Content-Length: 50\r\n\r\n{");
    refused_once(&mut out, "A body that does not arrive", "body_timeout", &reply);
    let form = |kind: &str| {
        let path = "/v1/audio/transcriptions";
        let head = format!("POST {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer sk-golden-0123456789\r\n");
        let request = format!("{head}Content-Type: {kind}\r\nContent-Length: 2\r\n\r\nhi");
        read_reply(&mut gateway.client.raw(request.as_bytes()))
    };
    let reply = form("multipart/form-data");
    refused_once(&mut out, "A form without its boundary", "missing_boundary", &reply);
    let reply = form("multipart/form-data; boundary=b");
    refused_once(&mut out, "A form that cannot be read", "invalid_multipart", &reply);
    golden("refusals/requests.txt", &out);
}

#[test]
fn the_refusals_of_upstreams_and_of_the_gateway_are_as_recorded() {
    let mut out = String::new();
    let ask = |gateway: &Gateway, dialect: &Dialect| {
        dialect.send(gateway, "POST", dialect.path, &[], dialect.body.as_bytes())
    };
    let spending = sixty_cents();

    let refusing = setup_of(", unpriced: refuse", "", &spending, "").0.start();
    refused(&mut out, "A model without a price", "unpriced_model", |dialect| {
        let body = dialect
            .body
            .replace("gpt-4o", "made-up")
            .replace("claude-sonnet-4-5", "made-up");
        let path = dialect.path.replace("gemini-2.5-pro", "made-up");
        dialect.send(&refusing, "POST", &path, &[], body.as_bytes())
    });

    let gateway = setup_of(", websocket: false", PRICED, &spending, "").0.start();
    let reply = upgrade(&gateway, &DIALECTS[0], "13", WEBSOCKET_KEY);
    refused_once(
        &mut out,
        "A WebSocket where none is served",
        "websocket_not_served",
        &reply,
    );

    let away = Upstream::always(Script::raw("").step(Step::Close));
    let gateway = start(&away, "");
    refused(&mut out, "An upstream that breaks off", "upstream_failed", |dialect| {
        ask(&gateway, dialect)
    });
    let failing = Upstream::always(Script::json(500, "{}"));
    let gateway = start(&failing, "circuit_breaker: {max_failures: 1, timeout_secs: 3600}");
    DIALECTS.iter().for_each(|dialect| drop(ask(&gateway, dialect)));
    refused(
        &mut out,
        "An upstream that has failed repeatedly",
        "breaker_open",
        |dialect| ask(&gateway, dialect),
    );

    let gateway = start(&spending, "");
    for dialect in &DIALECTS {
        call(
            &gateway,
            "provider.disable",
            &json!({"provider": dialect.name, "note": "it is down"}),
        );
    }
    refused(
        &mut out,
        "A provider that is switched off",
        "provider_disabled",
        |dialect| ask(&gateway, dialect),
    );

    let broken = r#"return { name = "house", version = "1", priority = 10, request = function() error("oh") end }"#;
    let gateway = setup(&spending, "").0.policy("house", broken).start();
    refused(&mut out, "A policy that fails", "policy_failed", |dialect| {
        ask(&gateway, dialect)
    });

    let limits = r#"return { name = "house", version = "1", priority = 10, request = function() return clamp{ max_output = 5 } end }"#;
    let gateway = setup(&spending, "").0.policy("house", limits).start();
    let picture = br#"{"model":"gpt-image-1","prompt":"hi"}"#;
    let reply = DIALECTS[0].send(&gateway, "POST", "/v1/images/generations", &[], picture);
    refused_once(&mut out, "An output that has no limit to lower", "cannot_clamp", &reply);

    let silent = Upstream::always(Script::raw("").step(Step::AwaitClose));
    let gateway = setup_of(", timeouts: {first_byte_ms: 200}", PRICED, &silent, "")
        .0
        .start();
    refused(&mut out, "An upstream that is silent", "upstream_timeout", |dialect| {
        ask(&gateway, dialect)
    });

    let (waiting, gate) = gated();
    let gateway = start(
        &waiting,
        "limits: {body_bytes_max: 1024, bodies_in_flight_bytes_max: 1024}",
    );
    let long = |dialect: &Dialect| {
        let body = dialect.body.replace("hi", &"hi".repeat(350));
        dialect.send(&gateway, "POST", dialect.path, &[], body.as_bytes())
    };
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(long(&DIALECTS[0]).status, 200));
        while waiting.seen_count() == 0 {
            thread::yield_now();
        }
        refused(&mut out, "More bodies than there is memory for", "overloaded", long);
        gate.open();
    });

    let gateway = start(
        &spending,
        "limits: {journal_queue_events_max: 256, admission_wait_ms: 50}",
    );
    let taken = full(&gateway);
    refused(&mut out, "A ledger that is busy", "ledger_busy", |dialect| {
        ask(&gateway, dialect)
    });
    drop(taken);

    let (ahead, clock) = setup(&spending, "");
    let gateway = ahead.start();
    clock.jump_ms(400 * 86_400_000);
    refused(&mut out, "A clock that is ahead", "clock_ahead", |dialect| {
        ask(&gateway, dialect)
    });

    let wait = r#"return { name = "house", version = "1", priority = 10, request = function() return delay{ seconds = 60 } end }"#;
    let gateway = setup(&spending, "").0.policy("house", wait).start();
    let reply = thread::scope(|scope| {
        let (openai, client) = (&DIALECTS[0], gateway.client);
        let delayed = scope.spawn(move || client.post(openai.path, openai.body));
        while gateway.launched().gateway().drain.in_flight() == 0 {
            thread::yield_now();
        }
        drop(gateway);
        delayed.join().unwrap()
    });
    refused_once(&mut out, "A gateway that is going down", "shutting_down", &reply);

    let own = "region: eu-central-1, access_key_id: AKIAGATEWAY, secret_access_key: made-up-secret-of-the-gateway, \
        client_keys: [team-key-0123456789]";
    let yaml = format!(
        "providers: {{bedrock: {{enabled: true, upstream: \"{}\", default_price: {{input: 1, output: 2}}, {own}}}}}",
        spending.base()
    );
    let gateway = Setup::new(&spending).only(&yaml).start();
    let bedrock = &DIALECTS[3];
    let as_page = |headers: &[(&str, &str)]| {
        gateway
            .client
            .request("POST", bedrock.path, headers, bedrock.body.as_bytes())
    };
    let reply = as_page(&[("x-api-key", "team-key-of-a-stranger")]);
    refused_once(
        &mut out,
        "A key that the gateway's own credentials are not for",
        "unknown_key",
        &reply,
    );
    golden("refusals/others.txt", &out);
}

#[test]
fn the_refusals_of_web_pages_are_as_recorded() {
    let mut out = String::new();
    let spending = sixty_cents();
    let yaml = format!(
        "providers: {{bedrock: {{enabled: true, upstream: \"{}\", default_price: {{input: 1, output: 2}}, \
         region: eu-central-1, access_key_id: AKIAGATEWAY, secret_access_key: made-up-secret-of-the-gateway}}}}",
        spending.base()
    );
    let gateway = Setup::new(&spending).only(&yaml).start();
    let bedrock = &DIALECTS[3];
    let from = |host: &str, origin: &str| {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
            bedrock.path,
            bedrock.body.len(),
            bedrock.body
        );
        read_reply(&mut gateway.client.raw(head.as_bytes()))
    };
    let reply = from("evil.example:8787", "http://evil.example:8787");
    refused_once(&mut out, "A name that is not the gateway's", "foreign_host", &reply);
    let reply = from("127.0.0.1:8787", "https://evil.example");
    refused_once(&mut out, "A page of another origin", "foreign_origin", &reply);
    golden("refusals/pages.txt", &out);
}

#[test]
fn every_code_stands_in_a_golden_file_or_says_why_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/refusals");
    let texts: String = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    for code in RefusalCode::ALL.iter().map(|code| code.text()) {
        let is_golden = texts.contains(&format!("\"{code}\""));
        let reason = WITHOUT_GOLDEN.iter().find(|(known, _)| *known == code);
        assert_ne!(is_golden, reason.is_some(), "{code}: {reason:?}");
    }
}
