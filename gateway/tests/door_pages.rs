//! Pages in browsers: which may call the gateway (`cors`), and that none spends credentials of the gateway's own.

use agentledger::testing::config::{self, Env, Known};
use agentledger::testing::launch;
use serde_json::json;

use crate::harness::client::{Reply, read_reply};
use crate::harness::{Gateway, Script, Setup, Upstream};

const CONVERSE: &str = "/bedrock/model/nova-test/converse";
const ASKED: &str = r#"{"messages":[{"role":"user","content":[{"text":"Hi."}]}],"inferenceConfig":{"maxTokens":40}}"#;
const SIGNS: &str =
    "region: eu-central-1, access_key_id: AKIAGATEWAY, secret_access_key: made-up-secret-of-the-gateway";
const CHAT: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":50}"#;

fn bedrock(base: &str, fields: &str) -> String {
    format!(
        "providers: {{bedrock: {{enabled: true, upstream: \"{base}\", default_price: {{input: 1, output: 2}}, {SIGNS}{fields}}}}}"
    )
}

fn answering() -> Upstream {
    Upstream::playing(|_| {
        Script::json(
            200,
            r#"{"output":{},"usage":{"inputTokens":10,"outputTokens":10,"totalTokens":20}}"#,
        )
    })
}

/// A request with exactly these headers, and a body's length.
fn send(gateway: &Gateway, line: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    read_reply(&mut gateway.client.raw(format!("{text}\r\n{body}").as_bytes()))
}

const OWN: (&str, &str) = ("Host", "127.0.0.1:8787");
const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn csrf_spends_aws() {
    let upstream = answering();
    let yaml = bedrock(&upstream.base(), "");
    let gateway = Setup::new(&upstream)
        .only(&yaml)
        .with("cors: {allow_origins: [\"https://app.example\", \"*\"]}")
        .start();
    let line = format!("POST {CONVERSE}");
    let code = |headers: &[(&str, &str)]| {
        let reply = send(&gateway, &line, headers, ASKED);
        (
            reply.status,
            reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for headers in [
        &[("Host", "evil.example:8787"), JSON][..],
        &[("Host", "127.0.0.1.evil.example"), JSON],
        &[("Host", "evil"), JSON],
        &[("Host", "evil.example"), JSON, ("Origin", "http://evil.example")],
    ] {
        assert_eq!(code(headers), (403, "foreign_host".to_owned()), "{headers:?}");
    }
    for headers in [
        // A simple request of any page, in a browser that says so and in one that does not.
        &[
            OWN,
            ("Content-Type", "text/plain"),
            ("Origin", "https://evil.example"),
            ("Sec-Fetch-Site", "cross-site"),
        ][..],
        &[OWN, ("Content-Type", "text/plain")],
        &[OWN, ("Content-Type", "application/x-www-form-urlencoded")],
        &[OWN, ("Content-Type", "multipart/form-data; boundary=x")],
        &[OWN, ("Origin", "https://evil.example")],
        &[OWN, JSON, ("Origin", "null")],
        &[OWN, JSON, ("Sec-Fetch-Site", "cross-site")],
        &[OWN, JSON, ("Sec-Fetch-Site", "same-site")],
        &[OWN, JSON, ("Origin", "http://127.0.0.1:3000")],
        // A page cannot know a key of the client's own, and an access key id is none.
        &[
            OWN,
            JSON,
            ("Origin", "https://evil.example"),
            ("Authorization", "AWS4-HMAC-SHA256 Credential=A/b/c/d/e, x"),
        ],
    ] {
        assert_eq!(code(headers), (403, "foreign_origin".to_owned()), "{headers:?}");
    }
    assert!(
        upstream.seen().is_empty() && gateway.entries().is_empty(),
        "before anything else"
    );
    for headers in [
        &[OWN, JSON][..],
        &[("Host", "localhost:8787"), JSON],
        &[("Host", "[::1]:8787")],
        &[("Host", "gateway"), JSON],
        &[
            OWN,
            JSON,
            ("Origin", "http://127.0.0.1:8787"),
            ("Sec-Fetch-Site", "same-origin"),
        ],
        &[
            OWN,
            JSON,
            ("Origin", "https://app.example"),
            ("Sec-Fetch-Site", "cross-site"),
        ],
        // Who brings a key pays with it, whatever the gateway is called.
        &[
            ("Host", "anything.example"),
            JSON,
            ("Authorization", "Bearer ABSK-of-the-client"),
        ],
    ] {
        assert_eq!(code(headers).0, 200, "{headers:?}");
    }
}

#[test]
fn an_open_address_with_credentials_and_without_keys_does_not_start() {
    let upstream = answering();
    let dir = tempfile::tempdir().unwrap();
    let load = |listen: &str, fields: &str| {
        let text = format!(
            "listen: \"{listen}\"\nstorage: {{driver: sled, dsn: \"{}\"}}\n{}",
            dir.path().join("ledger").display(),
            bedrock(&upstream.base(), fields)
        );
        let none: [(&str, &str); 0] = [];
        let config = config::load_text(None, &text, &Env::of(none), &Known::built_in());
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        launch::of_config(config).map(|_| ()).map_err(|error| error.to_string())
    };
    for open in [":8787", "0.0.0.0:8787", "[::]:8787", "gateway.example:8787"] {
        let said = load(open, "").unwrap_err();
        for hint in ["127.0.0.1", "providers.bedrock.client_keys"] {
            assert!(said.contains(hint), "{open}: {said}");
        }
        load(open, ", client_keys: [a-key-of-sixteen-or-more]").unwrap();
    }
    for loopback in ["127.0.0.1:8787", "localhost:8787", "[::1]:8787"] {
        load(loopback, "").unwrap();
    }
}

#[test]
fn a_reload_brings_no_credentials_to_an_address_that_is_open() {
    let upstream = answering();
    let dir = tempfile::tempdir().unwrap();
    let load = |listen: &str, providers: &str| {
        let text = format!(
            "listen: \"{listen}\"\nstorage: {{driver: sled, dsn: \"{}\"}}\n{providers}",
            dir.path().join("ledger").display(),
        );
        let none: [(&str, &str); 0] = [];
        let config = config::load_text(None, &text, &Env::of(none), &Known::built_in());
        launch::of_config(config.unwrap_or_else(|errors| panic!("{errors}"))).unwrap_or_else(|error| panic!("{error}"))
    };
    let clock = std::sync::Arc::new(agentledger_ledger::SystemClock::default());
    let running = launch::launch(load("0.0.0.0:0", ""), clock).unwrap_or_else(|error| panic!("{error}"));
    // The file says another address by now, which takes effect at the next start only.
    let reloaded = running
        .reloads()
        .reload(load("127.0.0.1:0", &bedrock(&upstream.base(), "")));
    assert!(reloaded.unwrap_err().to_string().contains("client_keys"));
    let keyed = bedrock(&upstream.base(), ", client_keys: [a-key-of-sixteen-or-more]");
    running.reloads().reload(load("127.0.0.1:0", &keyed)).unwrap();
    running.stop(std::future::ready(()));
}

#[test]
fn credentials_of_the_gateways_own_are_for_known_keys() {
    let upstream = answering();
    let yaml = bedrock(
        &upstream.base(),
        ", client_keys: [team-key-0123456789, AKIA-AS-A-TEAM-KEY]",
    );
    let gateway = Setup::new(&upstream).only(&yaml).start();
    let line = format!("POST {CONVERSE}");
    let status = |headers: &[(&str, &str)]| {
        let all: Vec<_> = [OWN, JSON].into_iter().chain(headers.iter().copied()).collect();
        send(&gateway, &line, &all, ASKED).status
    };
    let signed = "AWS4-HMAC-SHA256 Credential=AKIA-AS-A-TEAM-KEY/20261129/eu-central-1/bedrock/aws4_request, \
                  SignedHeaders=host, Signature=00";
    let stranger = signed.replace("AS-A-TEAM-KEY", "OF-A-STRANGER");
    assert_eq!(status(&[]), 401);
    assert_eq!(status(&[("x-api-key", "team-key-012345678")]), 401);
    assert_eq!(status(&[("authorization", &stranger)]), 401);
    // Of two the one counts that the dialect uses, so a stranger's signature is not helped by what stands beside it.
    assert_eq!(
        status(&[("authorization", &stranger), ("x-api-key", "team-key-0123456789")]),
        401
    );
    assert!(upstream.seen().is_empty());
    assert_eq!(status(&[("x-api-key", "team-key-0123456789")]), 200);
    assert_eq!(status(&[("authorization", signed)]), 200);
    assert_eq!(
        status(&[("authorization", "Bearer ABSK-of-the-client")]),
        200,
        "it pays itself"
    );
    assert!(upstream.seen().iter().all(|seen| seen.header("x-api-key").is_none()));
}

#[test]
fn a_rebound_host_gets_no_metrics_and_calls_no_methods() {
    let gateway = Setup::new(&answering())
        .with("control: {tokens: [{name: r, token: reader-token-0123456789, role: read}]}")
        .start();
    let ask = r#"{"jsonrpc":"2.0","id":1,"method":"hold.list","params":{}}"#;
    let token = ("Authorization", "Bearer reader-token-0123456789");
    for host in ["evil.example", "evil.example:8787", "localhost.evil.example", "evil"] {
        let reply = send(&gateway, "GET /metrics", &[("Host", host)], "");
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (403, &json!("foreign_host"))
        );
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains("`hosts`"));
        assert_eq!(
            send(&gateway, "POST /rpc", &[("Host", host), JSON, token], ask).status,
            403
        );
        assert_eq!(
            send(&gateway, "GET /api/dashboard/summary", &[("Host", host)], "").status,
            403
        );
        assert_eq!(send(&gateway, "GET /healthz", &[("Host", host)], "").status, 200);
    }
    for host in ["127.0.0.1:8787", "localhost", "10.1.2.3:80", "gateway"] {
        assert_eq!(
            send(&gateway, "GET /metrics", &[("Host", host)], "").status,
            200,
            "{host}"
        );
        assert_eq!(
            send(&gateway, "POST /rpc", &[("Host", host), JSON, token], ask).status,
            200,
            "{host}"
        );
    }
}

#[test]
fn cors_setting_without_effect() {
    let upstream = Upstream::playing(|_| {
        Script::body(
            200,
            "application/json",
            br#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10}}"#,
            &[
                ("access-control-allow-origin", "https://upstream.example"),
                ("vary", "Accept"),
            ],
        )
    });
    let gateway = Setup::new(&upstream)
        .with("cors: {allow_origins: [\"https://app.example\"]}")
        .start();
    let app = ("Origin", "https://app.example");
    let evil = ("Origin", "https://evil.example");
    let key = ("authorization", "Bearer sk-test-0123456789abcdef");
    let allowed = |reply: &Reply| reply.header("access-control-allow-origin").map(str::to_owned);
    let varies = |reply: &Reply| {
        reply
            .headers
            .iter()
            .any(|(name, value)| name.eq_ignore_ascii_case("vary") && value == "Origin")
    };

    let preflight = |origin| {
        let headers = [
            origin,
            ("Access-Control-Request-Method", "POST"),
            (
                "Access-Control-Request-Headers",
                "authorization,content-type,x-stainless-os,x-of-the-page",
            ),
        ];
        gateway.client.request("OPTIONS", "/v1/chat/completions", &headers, b"")
    };
    let reply = preflight(app);
    assert_eq!(
        (reply.status, allowed(&reply).as_deref(), reply.body.len()),
        (204, Some(app.1), 0)
    );
    let said = |name: &str| reply.header(name).unwrap().to_ascii_lowercase();
    assert!(
        said("access-control-allow-methods").contains("post")
            && said("access-control-allow-methods").contains("delete")
    );
    for name in [
        "authorization",
        "x-stainless-os",
        "x-of-the-page",
        "x-api-key",
        "anthropic-version",
        "x-agent-id",
    ] {
        assert!(
            said("access-control-allow-headers").split(", ").any(|one| one == name),
            "{name}"
        );
    }
    assert_eq!(said("access-control-max-age"), "86400");
    assert!(varies(&reply) && reply.header("access-control-allow-credentials").is_none());
    let foreign = preflight(evil);
    assert_eq!(
        (
            foreign.status,
            allowed(&foreign),
            foreign.header("access-control-allow-methods")
        ),
        (204, None, None)
    );

    let post = |origin, body: &str| {
        gateway
            .client
            .request("POST", "/v1/chat/completions", &[origin, key], body.as_bytes())
    };
    let reply = post(app, CHAT);
    assert_eq!(
        (reply.status, allowed(&reply).as_deref(), varies(&reply)),
        (200, Some(app.1), true)
    );
    let exposed = reply.header("access-control-expose-headers").unwrap();
    for name in [
        "X-AgentLedger-Exchange",
        "RateLimit-Remaining",
        "Retry-After",
        "X-Request-Id",
    ] {
        assert!(exposed.contains(name), "{name}");
    }
    let refused = post(app, "{");
    assert_eq!((refused.status, allowed(&refused).as_deref()), (400, Some(app.1)));
    let foreign = post(evil, CHAT);
    assert_eq!((foreign.status, allowed(&foreign), varies(&foreign)), (200, None, true));
    let plain = gateway.client.request("GET", "/nowhere", &[app], b"");
    assert_eq!((plain.status, allowed(&plain).as_deref()), (404, Some(app.1)));
    let metrics = gateway.client.request("GET", "/metrics", &[app], b"");
    assert_eq!((metrics.status, allowed(&metrics).as_deref()), (200, Some(app.1)));

    // Everybody, and nobody.
    let open = Setup::new(&upstream).with("cors: {allow_origins: [\"*\"]}").start();
    let reply = open
        .client
        .request("POST", "/v1/chat/completions", &[evil, key], CHAT.as_bytes());
    assert_eq!(
        (
            allowed(&reply).as_deref(),
            reply.header("access-control-allow-credentials")
        ),
        (Some("*"), None)
    );
    let closed = Gateway::to(&upstream);
    let reply = closed
        .client
        .request("POST", "/v1/chat/completions", &[app, key], CHAT.as_bytes());
    assert_eq!(
        (reply.status, allowed(&reply)),
        (200, None),
        "an upstream does not speak for the gateway"
    );
    let headers = [app, ("Access-Control-Request-Method", "POST")];
    let reply = closed.client.request("OPTIONS", "/v1/chat/completions", &headers, b"");
    assert_eq!((reply.status, allowed(&reply)), (204, None));
}
