//! What passes passes untouched: bodies, headers, statuses; what is ours is taken off.

use crate::harness::{Gateway, Script, Setup, Upstream};

const ASKED: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str =
    r#"{"id":"1","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}"#;

#[test]
fn keys_and_provider_headers_pass_and_ours_do_not() {
    let upstream = Upstream::always(Script::body(
        200,
        "application/json",
        ANSWER.as_bytes(),
        &[("x-request-id", "r1")],
    ));
    let gateway = Gateway::to(&upstream);
    let headers = [
        ("authorization", "Bearer sk-1234567890abcdef"),
        ("openai-organization", "org"),
        ("x-agent-id", "a1"),
        ("x-agentledger-tenant", "acme"),
        ("x-custom", "kept"),
        ("te", "trailers"),
        ("x-forwarded-for", "1.2.3.4"),
    ];
    let reply = gateway.client.request(
        "POST",
        "/v1/chat/completions?b=2&_agent_task=t&a=1",
        &headers,
        ASKED.as_bytes(),
    );
    assert_eq!((reply.status, reply.header("x-request-id")), (200, Some("r1")));
    let seen = upstream.only_seen();
    assert_eq!(seen.path, "/v1/chat/completions?b=2&a=1");
    assert_eq!(seen.header("authorization"), Some("Bearer sk-1234567890abcdef"));
    assert_eq!(
        (seen.header("openai-organization"), seen.header("x-custom")),
        (Some("org"), Some("kept"))
    );
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!(seen.header("host"), Some(upstream.address().to_string().as_str()));
    for gone in ["x-agent-id", "x-agentledger-tenant", "te", "x-forwarded-for"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    let facts = gateway.entry().facts;
    assert_eq!((&*facts.agent, &*facts.task, &*facts.tenant), ("a1", "t", ""));
}

#[test]
fn an_upstreams_error_passes_and_costs_nothing() {
    let upstream = Upstream::always(Script::json(429, r#"{"error":{"message":"slow down"}}"#));
    let gateway = Gateway::to(&upstream);
    let reply = gateway.client.post("/v1/chat/completions", ASKED);
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (429, r#"{"error":{"message":"slow down"}}"#)
    );
    let entry = gateway.entry();
    assert_eq!(
        (entry.settlement.status, entry.settlement.cost.to_string().as_str()),
        (429, "0")
    );
}

#[test]
fn free_calls_have_no_entry() {
    let upstream = Upstream::always(Script::json(200, r#"{"input_tokens":5}"#));
    let gateway = Gateway::to(&upstream);
    assert_eq!(
        gateway
            .client
            .post_anthropic("/v1/messages/count_tokens", r#"{"model":"claude-sonnet-4-5"}"#)
            .status,
        200
    );
    assert_eq!(gateway.client.get("/v1/models").status, 200);
    assert!(gateway.entries().is_empty());
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn models_of_anthropic_clients_go_to_anthropic() {
    let (openai, anthropic) = (
        Upstream::always(Script::json(200, "{}")),
        Upstream::always(Script::json(200, "{}")),
    );
    let yaml = format!(
        "providers:\n  openai: {{upstream: \"{}\"}}\n  anthropic: {{upstream: \"{}\"}}",
        openai.base(),
        anthropic.base()
    );
    let gateway = Setup::new(&openai).only(&yaml).start();
    let headers = [("x-api-key", "sk-ant-1"), ("anthropic-version", "2023-06-01")];
    gateway.client.request("GET", "/v1/models", &headers, b"");
    assert_eq!((openai.seen().len(), anthropic.seen().len()), (0, 1));
    gateway.client.get("/v1/models");
    assert_eq!((openai.seen().len(), anthropic.seen().len()), (1, 1));
}

#[test]
fn an_upstream_with_a_base_path_of_its_own_is_called_below_it() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let yaml = format!(
        "providers:\n  extra:\n    groq: {{type: openai, upstream: \"{}/openai\", path_prefix: /groq, enabled: true, default_price: {{input: 1, output: 2}}}}",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).only(&yaml).start();
    assert_eq!(gateway.client.post("/groq/v1/chat/completions", ASKED).status, 200);
    assert_eq!(upstream.only_seen().path, "/openai/v1/chat/completions");
    let entry = gateway.entry();
    assert_eq!(
        (&*entry.facts.provider, entry.settlement.cost.to_string().as_str()),
        ("groq", "0.000012")
    );
}

#[test]
fn bodies_that_codex_compresses_are_read_and_forwarded_as_they_came() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let gateway = Gateway::to(&upstream);
    let packed = zstd::encode_all(r#"{"model":"gpt-4o","input":"hi"}"#.as_bytes(), 3).unwrap();
    let reply = gateway
        .client
        .request("POST", "/v1/responses", &[("content-encoding", "zstd")], &packed);
    assert_eq!(reply.status, 200);
    let seen = upstream.only_seen();
    assert_eq!(
        (seen.body, gateway.entry().facts.requested_model.to_string()),
        (packed, "gpt-4o".to_owned())
    );
}

#[test]
fn one_connection_serves_request_after_request() {
    let upstream = Upstream::always(Script::json(200, ANSWER));
    let gateway = Gateway::to(&upstream);
    let one = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{ASKED}",
        ASKED.len()
    );
    let mut stream = gateway.client.raw(one.as_bytes());
    for _ in 0..3 {
        assert_eq!(crate::harness::client::read_reply(&mut stream).text(), ANSWER);
        std::io::Write::write_all(&mut stream, one.as_bytes()).unwrap();
    }
}
