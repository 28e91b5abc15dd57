//! Amazon Bedrock through the running gateway: metered to the nano-dollar, cut with an exception that AWS's SDKs raise,
//! signed with the gateway's own credentials.

use agentledger_ledger::{Entry, Kind, Outcome, Usd};
use serde_json::{Value, json};

use crate::harness::aws::{self, EVENT_STREAM, chunk, event, exception, messages, verified};
use crate::harness::client::Reply;
use crate::harness::upstream::Step;
use crate::harness::{Gateway, Script, Setup, Upstream};

/// Priced by the file below, and by no book.
const MODEL: &str = "us.anthropic.claude-test-v1:0";
const PRICES: &str = "provider: bedrock
models:
- id: us.anthropic.claude-test-v1:0
  source: made up
  max_output: 8192
  prices:
    always:
      standard: {input: 3, cache_read: 0.3, cache_write_5m: 3.75, cache_write_1h: 6, output: 15}
      flex: {input: 1.5, cache_read: 0.15, cache_write_5m: 1.875, cache_write_1h: 3, output: 7.5}
- id: mistral.test-v0:2
  source: made up
  prices: {always: {standard: {input: 0.15, output: 0.2}}}
";
const BEARER: (&str, &str) = ("authorization", "Bearer ABSKQmVkcm9ja0FQSUtleS0x");
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIACLIENT/20261122/us-east-1/bedrock/aws4_request, \
                      SignedHeaders=host;x-amz-date, Signature=0123456789abcdef";
const ASKED: &str = r#"{"messages":[{"role":"user","content":[{"text":"Hi."}]}],"inferenceConfig":{"maxTokens":400}}"#;

/// A gateway to Bedrock alone. `fields` are further ones of its section, `more` is top level YAML.
fn gateway(upstream: &Upstream, fields: &str, more: &str) -> Gateway {
    let yaml = format!(
        "providers: {{bedrock: {{enabled: true, upstream: \"{}\", default_price: {{input: 1, output: 2}}{fields}}}}}",
        upstream.base()
    );
    Setup::new(upstream).only(&yaml).prices(PRICES).with(more).start()
}

fn path(model: &str, operation: &str) -> String {
    let model = model.replace(':', "%3A").replace('/', "%2F");
    format!("/bedrock/model/{model}/{operation}")
}

fn post(gateway: &Gateway, operation: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    gateway
        .client
        .request("POST", &path(MODEL, operation), headers, body.as_bytes())
}

fn usage(entry: &Entry) -> Vec<(Kind, u64)> {
    entry.settlement.usage.iter().collect()
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn reason(entry: &Entry) -> Option<&str> {
    entry.settlement.estimate_reason.as_deref()
}

fn delta(text: &str) -> Vec<u8> {
    event(
        "contentBlockDelta",
        &json!({"contentBlockIndex": 0, "delta": {"text": text}}).to_string(),
    )
}

fn start() -> Vec<u8> {
    event("messageStart", r#"{"role":"assistant"}"#)
}

fn metadata(input: u64, output: u64) -> Vec<u8> {
    let usage = json!({"inputTokens": input, "outputTokens": output, "totalTokens": input + output});
    event(
        "metadata",
        &json!({"usage": usage, "metrics": {"latencyMs": 5}}).to_string(),
    )
}

#[test]
fn converse_is_entered_with_its_cache_writes_by_how_long_they_last() {
    let answer = json!({"output": {"message": {"role": "assistant", "content": [{"text": "Hi."}]}}, "stopReason": "end_turn",
        "usage": {"inputTokens": 16, "outputTokens": 9, "totalTokens": 3609, "cacheReadInputTokens": 1024,
            "cacheWriteInputTokens": 2560, "cacheDetails": [{"inputTokens": 2048, "ttl": "1h"}, {"inputTokens": 512, "ttl": "5m"}]}});
    let upstream = Upstream::always(Script::json(200, &answer.to_string()));
    let gateway = gateway(&upstream, "", "");
    let reply = post(&gateway, "converse", &[BEARER], ASKED);
    assert_eq!((reply.status, reply.json()), (200, answer));

    let seen = upstream.only_seen();
    assert_eq!(seen.path, "/model/us.anthropic.claude-test-v1%3A0/converse");
    assert_eq!(seen.header("authorization"), Some(BEARER.1), "a bearer key passes");
    assert_eq!(seen.body, ASKED.as_bytes());
    let entry = gateway.entry();
    let facts = &entry.facts;
    assert_eq!(
        (
            &*facts.provider,
            &*facts.operation,
            &*facts.requested_model,
            &*entry.settlement.model
        ),
        ("bedrock", "converse", MODEL, MODEL)
    );
    // 16 × 3 + 1,024 × 0.3 + 512 × 3.75 + 2,048 × 6 + 9 × 15 millionths.
    assert_eq!((entry.settlement.cost, reason(&entry)), (usd("0.0146982"), None));
}

#[test]
fn a_tier_that_served_the_answer_prices_it() {
    let answer =
        r#"{"output":{},"usage":{"inputTokens":10,"outputTokens":10,"totalTokens":20},"serviceTier":{"type":"flex"}}"#;
    let upstream = Upstream::always(Script::json(200, answer));
    let gateway = gateway(&upstream, "", "");
    post(&gateway, "converse", &[BEARER], ASKED);
    assert_eq!(gateway.entry().settlement.cost, usd("0.00009"));
}

#[test]
fn a_stream_passes_byte_for_byte_and_is_exact() {
    let pieces = [
        start(),
        delta("One, two, "),
        delta("three."),
        event("messageStop", "{}"),
        metadata(15, 11),
    ];
    let all = pieces.concat();
    // Cut where the upstream's packets would never cut it.
    let upstream = Upstream::always(Script::chunked(EVENT_STREAM, &all.chunks(7).collect::<Vec<_>>()));
    let gateway = gateway(&upstream, "", "");
    let reply = post(&gateway, "converse-stream", &[BEARER], ASKED);
    assert_eq!((reply.status, reply.whole), (200, true));
    assert_eq!(reply.header("content-type"), Some(EVENT_STREAM));
    assert!(reply.body == all, "not a byte is changed");
    let entry = gateway.entry();
    assert_eq!(usage(&entry), [(Kind::Input, 15), (Kind::Output, 11)]);
    assert_eq!(
        (entry.settlement.cost, reason(&entry), entry.facts.stream),
        (usd("0.00021"), None, true)
    );
}

#[test]
fn an_invoked_stream_is_read_out_of_its_wrapping() {
    let pieces = [
        chunk(
            r#"{"type":"message_start","message":{"id":"msg_1","usage":{"input_tokens":9,"cache_creation_input_tokens":23,"cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":20},"output_tokens":1}}}"#,
        ),
        chunk(r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi."}}"#),
        chunk(
            r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":9,"outputTokenCount":5,"cacheReadInputTokenCount":14,"cacheWriteInputTokenCount":23}}"#,
        ),
    ];
    let upstream = Upstream::always(Script::chunked(EVENT_STREAM, &pieces));
    let gateway = gateway(&upstream, "", "");
    let body =
        r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":50,"messages":[{"role":"user","content":"Hi."}]}"#;
    let reply = post(&gateway, "invoke-with-response-stream", &[BEARER], body);
    assert!(reply.body == pieces.concat());
    let entry = gateway.entry();
    // 9 × 3 + 14 × 0.3 + 3 × 3.75 + 20 × 6 + 5 × 15 millionths.
    assert_eq!((entry.settlement.cost, reason(&entry)), (usd("0.00023745"), None));
    assert_eq!(&*entry.settlement.model, MODEL);
}

#[test]
fn counts_that_stand_in_headers_alone_are_read() {
    let headers = [
        ("x-amzn-bedrock-input-token-count", "10"),
        ("x-amzn-bedrock-output-token-count", "5"),
    ];
    let body = br#"{"outputs":[{"text":" Hello there.","stop_reason":"stop"}]}"#;
    let upstream = Upstream::always(Script::body(200, "application/json", body, &headers));
    let gateway = gateway(&upstream, "", "");
    let asked = br#"{"prompt":"<s>[INST] Hi. [/INST]","max_tokens":25}"#;
    let reply = gateway
        .client
        .request("POST", &path("mistral.test-v0:2", "invoke"), &[BEARER], asked);
    assert_eq!((reply.status, reply.header(headers[0].0)), (200, Some("10")));
    let entry = gateway.entry();
    assert_eq!((entry.settlement.cost, reason(&entry)), (usd("0.0000025"), None));
}

#[test]
fn counting_tokens_is_free() {
    let upstream = Upstream::always(Script::json(200, r#"{"inputTokens":7}"#));
    let gateway = gateway(&upstream, "", "");
    assert_eq!(post(&gateway, "count-tokens", &[BEARER], r#"{"input":{}}"#).status, 200);
    assert!(gateway.entries().is_empty());
}

#[test]
fn a_profile_of_the_operators_own_is_priced_by_its_model() {
    let upstream = Upstream::always(Script::json(200, r#"{"usage":{"inputTokens":10,"outputTokens":10}}"#));
    let gateway = gateway(&upstream, &format!(", deployments: {{a1b2c3: \"{MODEL}\"}}"), "");
    let ask = |arn: &str| {
        gateway
            .client
            .request("POST", &path(arn, "converse"), &[BEARER], ASKED.as_bytes())
            .status
    };
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/";
    assert_eq!((ask(&format!("{arn}a1b2c3")), ask(&format!("{arn}d4e5f6"))), (200, 200));
    let entries = gateway.entries();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (&*entry.settlement.model, entry.settlement.cost))
        .collect();
    assert_eq!(told, [(MODEL, usd("0.00018")), ("d4e5f6", usd("0.00003"))]);
    assert!(
        upstream.seen()[0]
            .path
            .contains("application-inference-profile%2Fa1b2c3/converse")
    );
    assert_eq!(
        ask("arn:aws:bedrock:us-east-1:1:x/../y"),
        400,
        "nothing climbs behind an ARN"
    );
}

#[test]
fn a_cut_stream_ends_with_an_exception_at_a_messages_end() {
    let words = "one two three four five six seven eight nine ten red green blue black white grey ";
    let endless = (0..300).fold(Script::stream_head(EVENT_STREAM).chunk(&start()), |script, _| {
        script.chunk(&delta(words))
    });
    let upstream = Upstream::always(endless.step(Step::AwaitClose));
    let budget = "hold: {size: expected}\nbudgets: {default: {daily_limit_usd: 0.03, action: block}}";
    let gateway = gateway(&upstream, "", budget);
    let asked = ASKED.replace("400", "8000");
    let reply = post(&gateway, "converse-stream", &[BEARER], &asked);
    assert_eq!((reply.status, reply.whole), (200, true));
    upstream.wait_closed(1);

    let mut all = messages(&reply.body);
    let (headers, payload) = all.pop().unwrap();
    let header = |name: &str| {
        headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(
        (header(":message-type"), header(":exception-type")),
        (Some("exception"), Some("validationException"))
    );
    let payload: Value = serde_json::from_str(&payload).unwrap();
    assert!(payload["message"].as_str().unwrap().contains("budget"), "{payload}");
    assert!(all.len() > 20, "it passed for a while: {}", all.len());
    assert_eq!(all[0].1, r#"{"role":"assistant"}"#);
    let entry = gateway.entry();
    assert_eq!((entry.settlement.outcome, reason(&entry)), (Outcome::Cut, Some("cut")));
    assert!(entry.settlement.cost >= entry.held);

    let next = post(&gateway, "converse", &[BEARER], ASKED);
    assert_eq!((next.status, next.header("x-should-retry")), (429, Some("false")));
    let body = next.json();
    assert_eq!(body["error"]["type"], "budget_exceeded");
    assert_eq!(
        (&body["__type"], &body["code"]),
        (&json!("AccessDeniedException"), &json!("AccessDeniedException"))
    );
    assert_eq!(body["message"], body["error"]["message"]);
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_exception() {
    let script = Script::stream_head(EVENT_STREAM)
        .chunk(&start())
        .chunk(&delta("The begin"));
    let upstream = Upstream::always(script.step(Step::Close));
    let gateway = gateway(&upstream, "", "");
    let reply = post(&gateway, "converse-stream", &[BEARER], ASKED);
    let (headers, _) = messages(&reply.body).pop().unwrap();
    assert!(
        headers.contains(&(":exception-type".to_owned(), "modelStreamErrorException".to_owned())),
        "{headers:?}"
    );
    let entry = gateway.entry();
    assert_eq!(
        (entry.settlement.outcome, reason(&entry)),
        (Outcome::UpstreamFailed, Some("upstream_failed"))
    );
}

#[test]
fn an_exception_of_the_upstreams_passes_and_what_came_before_is_estimated() {
    let pieces = [
        start(),
        delta("The begin"),
        exception("throttlingException", r#"{"message":"Too many tokens."}"#),
    ];
    let upstream = Upstream::always(Script::chunked(EVENT_STREAM, &pieces));
    let gateway = gateway(&upstream, "", "");
    assert!(post(&gateway, "converse-stream", &[BEARER], ASKED).body == pieces.concat());
    let entry = gateway.entry();
    assert_eq!(reason(&entry), Some("no_usage"));
    assert!(entry.settlement.cost > Usd::ZERO);
}

#[test]
fn damaged_streams_pass_whole_and_are_estimated_under_the_faults_name() {
    let good = [start(), delta("Some text that passed."), metadata(15, 11)];
    let mut prelude = good.clone();
    prelude[2][9] ^= 1;
    let mut crc = good.clone();
    let last = crc[2].len() - 1;
    crc[2][last] ^= 1;
    let mut truncated = good.clone();
    truncated[2].truncate(40);
    let mut absurd = good.clone();
    absurd[2] = [0xff_u8, 0xff, 0xff, 0xff, 0, 0, 0, 0].to_vec();
    let checksum = crc32fast::hash(&absurd[2]).to_be_bytes();
    absurd[2].extend_from_slice(&checksum);
    for (pieces, fault) in [
        (prelude, "event_stream_prelude_crc"),
        (crc, "event_stream_message_crc"),
        (truncated, "event_stream_truncated"),
        (absurd, "event_stream_length"),
    ] {
        let upstream = Upstream::always(Script::chunked(EVENT_STREAM, &pieces));
        let gateway = gateway(&upstream, "", "");
        let reply = post(&gateway, "converse-stream", &[BEARER], ASKED);
        assert!(reply.whole && reply.body == pieces.concat(), "{fault}");
        let entry = gateway.entry();
        assert_eq!(
            (entry.settlement.outcome, reason(&entry)),
            (Outcome::Completed, Some(fault))
        );
        assert!(
            entry.settlement.cost > Usd::ZERO && entry.settlement.usage.get(Kind::Output) > 0,
            "{fault}"
        );
    }
}

#[test]
fn a_signature_for_the_gateways_host_is_refused_with_a_hint() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = gateway(&upstream, "", "");
    let reply = post(
        &gateway,
        "converse",
        &[("authorization", SIGNED), ("x-amz-date", "20261122T000000Z")],
        ASKED,
    );
    let body = reply.json();
    assert_eq!((reply.status, reply.header("x-should-retry")), (403, Some("false")));
    assert_eq!(
        (&body["error"]["code"], &body["code"]),
        (&json!("signature_for_gateway"), &json!("AccessDeniedException"))
    );
    for hint in ["AWS_BEARER_TOKEN_BEDROCK", "providers.extra.bedrock.access_key_id"] {
        assert!(body["message"].as_str().unwrap().contains(hint), "{body}");
    }
    let presigned = format!(
        "{}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00",
        path(MODEL, "converse")
    );
    assert_eq!(
        gateway.client.request("POST", &presigned, &[], ASKED.as_bytes()).status,
        403
    );
    assert!(upstream.seen().is_empty() && gateway.entries().is_empty());
}

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SIGNS: &str = ", region: eu-central-1, access_key_id: AKIAGATEWAY, session_token: the-session, \
                     secret_access_key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// An upstream that serves what is signed as AWS wants it, and nothing else.
fn strict() -> Upstream {
    Upstream::playing(|seen| match verified(seen, SECRET, "eu-central-1") {
        Ok(key_id) if key_id == "AKIAGATEWAY" && seen.header("x-amz-security-token") == Some("the-session") => {
            Script::json(200, r#"{"usage":{"inputTokens":10,"outputTokens":10},"inputTokens":7}"#)
        }
        Ok(other) => Script::json(403, &json!({"message": format!("signed by {other}")}).to_string()),
        Err(fault) => Script::json(403, &json!({ "message": fault }).to_string()),
    })
}

#[test]
fn the_gateway_signs_with_its_own_credentials() {
    let upstream = strict();
    let gateway = gateway(&upstream, SIGNS, "");
    let arn = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/us.anthropic.claude-test-v1:0";
    for (path, headers) in [
        (
            path(MODEL, "converse"),
            vec![("authorization", SIGNED), ("x-amz-date", "20200101T000000Z")],
        ),
        (
            path(arn, "converse"),
            vec![("authorization", SIGNED), ("x-amz-security-token", "the-clients")],
        ),
        (path(MODEL, "converse"), vec![("x-api-key", "sk-of-the-gateway")]),
        (path(MODEL, "count-tokens"), vec![]),
        (format!("{}?b=2&_agent_id=me&a=1", path(MODEL, "count-tokens")), vec![]),
    ] {
        let reply = gateway.client.request("POST", &path, &headers, ASKED.as_bytes());
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
    for seen in upstream.seen() {
        assert!(
            !seen
                .headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("x-api-key"))
        );
        assert!(
            seen.headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
                .count()
                == 1
        );
        assert_ne!(seen.header("x-amz-date"), Some("20200101T000000Z"));
    }
    assert_eq!(gateway.entries().len(), 3, "counting is free");
}

#[test]
fn an_access_key_id_names_its_caller_however_the_request_is_signed() {
    let upstream = strict();
    let gateway = gateway(&upstream, SIGNS, "");
    for (key_id, signature) in [("AKIAONE", "00"), ("AKIAONE", "11"), ("AKIATWO", "00")] {
        let signed = SIGNED
            .replace("AKIACLIENT", key_id)
            .replace("0123456789abcdef", signature);
        assert_eq!(
            post(&gateway, "converse", &[("authorization", &signed)], ASKED).status,
            200
        );
    }
    let keys: Vec<String> = gateway
        .entries()
        .iter()
        .map(|entry| entry.facts.key.to_string())
        .collect();
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[0], keys[2]);
}

#[test]
fn a_bearer_key_pays_for_itself_where_the_gateway_could_sign() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = gateway(&upstream, SIGNS, "");
    post(&gateway, "converse", &[BEARER], ASKED);
    let seen = upstream.only_seen();
    assert_eq!(
        (seen.header("authorization"), seen.header("x-amz-date")),
        (Some(BEARER.1), None)
    );
}

#[test]
fn what_the_dialect_does_not_know_is_refused() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = gateway(&upstream, "", "");
    for (operation, status, kind) in [
        ("nothing", 404, "ResourceNotFoundException"),
        // Known, and refused with its reason: it would run unread.
        ("invoke-with-bidirectional-stream", 403, "AccessDeniedException"),
    ] {
        let reply = post(&gateway, operation, &[BEARER], ASKED);
        assert_eq!((reply.status, reply.json()["__type"].as_str()), (status, Some(kind)));
    }
    assert_eq!(post(&gateway, "converse", &[BEARER], "{\"a\":1,}").status, 400);
    assert!(upstream.seen().is_empty());
    assert!(aws::messages(&[]).is_empty());
}
