//! The door: no spelling of a request, and nothing beside its body, changes what is billed or seen of its answer. Named after
//! attacks and cases.

use agentledger_ledger::{Entry, Kind, Usd};
use serde_json::{Value, json};

use crate::harness::client::{Reply, read_reply};
use crate::harness::{Gateway, Peer, Script, Setup, SocketUpstream, Upstream};

const KEY: (&str, &str) = ("authorization", "Bearer sk-test-0123456789abcdef");
const CHAT: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":50}"#;

fn chat_answer() -> Script {
    Script::json(
        200,
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":100}}"#,
    )
}

fn google_answer() -> Script {
    Script::json(
        200,
        r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]}}],"modelVersion":"scripted-pro","usageMetadata":{"promptTokenCount":1000,"candidatesTokenCount":8000}}"#,
    )
}

/// Gemini's dialect at `/gemini`, and OpenAI's at a mount of it, at $1 and $10 a million.
fn google(upstream: &Upstream) -> Gateway {
    let yaml = format!(
        "providers: {{extra: {{gemini: {{enabled: true, upstream: \"{}\", default_price: {{input: 1, output: 10}}}}}}}}",
        upstream.base()
    );
    Setup::new(upstream).only(&yaml).start()
}

const GENERATE: &str = "/gemini/v1beta/models/scripted-pro:generateContent";

fn contents() -> Vec<u8> {
    json!({"contents": [{"parts": [{"text": "hi"}]}]})
        .to_string()
        .into_bytes()
}

fn code(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json()["error"]["code"].clone())
}

fn raw(gateway: &Gateway, request: &str) -> Reply {
    read_reply(&mut gateway.client.raw(request.as_bytes()))
}

/// Full price, and no guess.
fn is_exact(entry: &Entry, cost: &str) -> bool {
    entry.settlement.cost == cost.parse::<Usd>().unwrap() && entry.settlement.estimate_reason.is_none()
}

#[test]
fn google_fieldmask() {
    for (query, headers) in [
        ("?fields=candidates", vec![]),
        ("?$fields=candidates", vec![]),
        ("?%24fields=candidates", vec![]),
        ("?%66ields=candidates&alt=json", vec![]),
        ("?Fields=candidates", vec![]),
        ("?fields=a&fields=b;$fields=c", vec![]),
        ("?$alt=json;enum-encoding=int", vec![]),
        ("?$ct=application/x-protobuf", vec![]),
        ("?$httpHeaders=X-Goog-FieldMask%3Acandidates", vec![]),
        ("", vec![("X-Goog-FieldMask", "candidates")]),
        ("", vec![("x_goog_fieldmask", "candidates")]),
        ("", vec![("Accept", "application/x-protobuf, application/json")]),
        ("?$callback=", vec![("If-None-Match", "*"), ("Prefer", "respond-async")]),
    ] {
        let upstream = Upstream::always(google_answer());
        let gateway = google(&upstream);
        let mut all = vec![("x-goog-api-key", "AIza-0123456789")];
        all.extend(headers.iter().copied());
        let reply = gateway
            .client
            .request("POST", &format!("{GENERATE}{query}"), &all, &contents());
        if query == "?$callback=" {
            assert_eq!(code(&reply).0, 406, "nobody is sent what it cannot read");
            assert!(upstream.seen().is_empty());
            continue;
        }
        assert_eq!(reply.status, 200, "{query} {headers:?}: {}", reply.text());
        let seen = upstream.only_seen();
        let path = GENERATE.trim_start_matches("/gemini");
        let passed = seen.path.strip_prefix(path).unwrap_or_else(|| panic!("{}", seen.path));
        assert!(matches!(passed, "" | "?alt=json"), "{query}: {passed}");
        for (name, _) in &headers {
            assert_eq!(seen.header(name), None, "{name}");
        }
        assert!(is_exact(&gateway.entry(), "0.081"), "{query}");
    }
}

#[test]
fn google_formats_that_cannot_be_metered_are_refused() {
    let upstream = Upstream::always(google_answer());
    let gateway = google(&upstream);
    for (query, accept) in [
        ("?alt=proto", "*/*"),
        ("?%24alt=proto", "*/*"),
        ("?$alt=PROTO", "*/*"),
        ("?alt=media", "*/*"),
        ("?callback=f", "*/*"),
        ("", "application/x-protobuf"),
    ] {
        let headers = [("x-goog-api-key", "AIza-0123456789"), ("Accept", accept)];
        let reply = gateway
            .client
            .request("POST", &format!("{GENERATE}{query}"), &headers, &contents());
        assert_eq!(reply.status, 406, "{query}: {}", reply.text());
        // In Google's own words.
        assert_eq!(reply.json()["error"]["status"], "INVALID_ARGUMENT");
    }
    assert!(upstream.seen().is_empty() && gateway.entries().is_empty());
}

/// A line of a batch's results: $0.00015 and $0.0006 at half price.
fn line() -> String {
    json!({"id": "batch_req_1", "custom_id": "c", "error": null, "response": {"status_code": 200, "body": {
        "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-mini-2024-07-18", "choices": [],
        "usage": {"prompt_tokens": 2_000, "completion_tokens": 2_000, "total_tokens": 4_000}}}})
    .to_string()
        + "\n"
}

fn anthropic_line() -> String {
    json!({"custom_id": "c", "result": {"type": "succeeded", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5-20250929", "content": [], "stop_reason": "end_turn",
        "usage": {"input_tokens": 1_000, "output_tokens": 1_000}}}})
    .to_string()
        + "\n"
}

#[test]
fn batch_results_spelled() {
    let claude = [("x-api-key", "sk-ant-1"), ("anthropic-version", "2023-06-01")];
    for (given, goes_up, body) in [
        ("/v1/files/f-1/content", "/v1/files/f-1/content", line()),
        ("/v1/files/f-1/%63ontent", "/v1/files/f-1/content", line()),
        ("/v1/files/f%2D1/conten%74/", "/v1/files/f-1/content", line()),
        ("//v1//files/f-1/content?x=1", "/v1/files/f-1/content?x=1", line()),
        (
            "/v1/messages/batches/b/result%73",
            "/v1/messages/batches/b/results",
            anthropic_line(),
        ),
        (
            "/v1/messages/batches/b/results/",
            "/v1/messages/batches/b/results",
            anthropic_line(),
        ),
    ] {
        let lines = body.clone();
        let upstream = Upstream::playing(move |_| Script::body(200, "application/octet-stream", lines.as_bytes(), &[]));
        let gateway = Gateway::to(&upstream);
        let headers: &[_] = if given.contains("messages") { &claude } else { &[KEY] };
        let reply = gateway.client.request("GET", given, headers, b"");
        assert_eq!((reply.status, reply.text()), (200, body), "{given}");
        assert_eq!(upstream.only_seen().path, goes_up);
        let entry = gateway.entry();
        assert!(entry.settlement.cost > Usd::ZERO, "{given}");
        assert_eq!(entry.facts.path.split('?').next(), goes_up.split('?').next());
    }
}

#[test]
fn results_are_billed_by_the_host_that_they_lead_to_whatever_dialect_is_named() {
    let body = line();
    let upstream = Upstream::playing(move |_| Script::body(200, "application/octet-stream", body.as_bytes(), &[]));
    let yaml = format!(
        "providers: {{openai: {{upstream: \"{0}\"}}, anthropic: {{upstream: \"{0}\"}}, openrouter: {{enabled: true, \
         upstream: \"{0}\", default_price: {{input: 1, output: 1}}}}}}",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).only(&yaml).start();
    let claude = [("x-api-key", "sk-ant-1"), ("anthropic-version", "2023-06-01")];
    // Anthropic's own files are free.
    let status = |path: &str| gateway.client.request("GET", path, &claude, b"").status;
    assert_eq!(status("/v1/files/file_1/content"), 200);
    assert!(gateway.entries().is_empty());
    // One host, two dialects: to name the one in which they are free does not make them so.
    assert_eq!(status("/openrouter/v1/files/file_1/content"), 200);
    assert_eq!(gateway.entry().facts.operation.to_string(), "files.content");
    assert_eq!(status("/openrouter/v1/files/file_1/Content"), 400);
}

#[test]
fn what_resembles_a_billed_path_is_not_passed_as_a_free_one() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = Gateway::to(&upstream);
    for path in [
        "/v1/files/f-1/CONTENT",
        "/V1/files/f-1/content",
        "/v1/files/f-1/content.",
        "/v1/files/f-1/%2563ontent",
        "/v1/files/f-1/content;x=1",
        "/v1/files/f-1/content%3Bx",
        "/v1/files/f-1/content%3Fx",
        "/v1/files/f-1/content%20",
        "/v1/files/f-1%2Fcontent",
        "/v1/files//content",
        "/v1/Responses/resp_1",
        "/v1/x/../files/f-1/content",
    ] {
        let reply = gateway.client.request("GET", path, &[KEY], b"");
        assert!(matches!(reply.status, 400 | 404), "{path}: {}", reply.status);
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn unknown_routes_that_pass_let_no_misspelled_metered_path_through() {
    let upstream = Upstream::playing(|_| chat_answer());
    let yaml = format!(
        "providers: {{openai: {{upstream: \"{0}\", unknown_routes: pass}}, extra: {{my-host: {{enabled: true, \
         upstream: \"{0}/base\", unknown_routes: pass, default_price: {{input: 1, output: 1}}}}}}}}",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).only(&yaml).start();
    let ask = |method: &str, path: &str| gateway.client.request(method, path, &[KEY], CHAT.as_bytes());
    for (method, path) in [
        ("POST", "/v1/Chat/completions"),
        ("POST", "/v1/chat/COMPLETIONS/"),
        ("POST", "/v1/chat/completions."),
        ("PUT", "/v1/chat/completions"),
        ("PATCH", "//v1//chat/completions"),
        ("POST", "/my-host/v1/Chat/completions"),
        ("POST", "/my-host/base/v1/chat/Completions"),
        ("PUT", "/my-host/base/v1/chat/completions"),
    ] {
        assert_eq!(code(&ask(method, path)), (400, json!("bad_path")), "{method} {path}");
    }
    assert_eq!(
        code(&ask("post", "/v1/chat/completions")),
        (405, json!("method_not_allowed"))
    );
    assert!(upstream.seen().is_empty());
    for path in [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/ch%61t/completions",
        "/my-host//v1/chat/completions",
        "/my-host/base/v1/chat/completions",
    ] {
        assert_eq!(ask("POST", path).status, 200, "{path}");
    }
    assert_eq!(gateway.entries().len(), 6, "each is metered");
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.path.ends_with("/v1/chat/completions"))
    );
    assert_eq!(
        ask("POST", "/v1/unheard_of").status,
        200,
        "what is unknown still passes"
    );
    assert_eq!(upstream.seen().last().unwrap().path, "/v1/unheard_of");
    assert_eq!(gateway.entries().len(), 6);
}

#[test]
fn method_override() {
    let upstream = Upstream::playing(|_| Script::json(200, "{\"object\":\"list\",\"data\":[]}"));
    let gateway = Gateway::to(&upstream);
    let overriding = [
        KEY,
        ("X-HTTP-Method-Override", "POST"),
        ("X-HTTP-Method", "POST"),
        ("X-Method-Override", "POST"),
        ("X_HTTP_METHOD_OVERRIDE", "POST"),
        ("X-Original-URL", "/v1/chat/completions"),
        ("X-Rewrite-URL", "/v1/chat/completions"),
        ("X-Forwarded-Prefix", "/v1"),
    ];
    for method in ["GET", "DELETE"] {
        let path = "/v1/chat/completions?_method=POST&%5fmethod=POST&limit=2";
        let reply = gateway.client.request(method, path, &overriding, CHAT.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    for seen in upstream.seen() {
        assert_eq!(seen.path, "/v1/chat/completions?limit=2");
        assert_eq!(seen.body, b"", "a read has no body");
        for (name, _) in &overriding[1..] {
            assert_eq!(seen.header(name), None, "{name}");
        }
    }
    assert_eq!(upstream.seen_count(), 2);
    // Google's own way.
    let upstream = Upstream::always(Script::json(200, "{\"models\":[]}"));
    let gateway = google(&upstream);
    let path = "/gemini/v1beta/models/scripted-pro:generateContent?$httpMethod=POST&pageSize=1";
    let reply = gateway.client.request("GET", path, &overriding, &contents());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = upstream.only_seen();
    assert_eq!((seen.method.as_str(), &seen.body[..]), ("GET", &b""[..]));
    assert!(!seen.path.contains("httpMethod"), "{}", seen.path);
}

#[test]
fn two_content_encodings_and_two_content_types_are_refused() {
    let upstream = Upstream::playing(|_| chat_answer());
    let gateway = Gateway::to(&upstream);
    let with = |headers: &[(&str, &str)]| {
        let all: Vec<_> = [KEY].into_iter().chain(headers.iter().copied()).collect();
        code(
            &gateway
                .client
                .request("POST", "/v1/chat/completions", &all, CHAT.as_bytes()),
        )
    };
    let encodings = [("content-encoding", "identity"), ("content-encoding", "gzip")];
    assert_eq!(with(&encodings), (415, json!("unknown_encoding")));
    assert_eq!(
        with(&[("content-encoding", "gzip, gzip")]),
        (415, json!("unknown_encoding"))
    );
    // The client of these tests sends one of its own.
    let types = [("content-type", "multipart/form-data; boundary=x")];
    assert_eq!(with(&types), (400, json!("ambiguous_head")));
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_head_that_two_servers_read_differently_is_refused() {
    let upstream = Upstream::playing(|_| Script::json(200, "{}"));
    let gateway = Gateway::to(&upstream);
    for (request, expected) in [
        ("GET /v1/models HTTP/1.1\r\n\r\n", "ambiguous_head"),
        ("GET /v1/models HTTP/1.1\nHost: a\r\n\r\n", "bad_framing"),
        ("GET /v1/models HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "bad_framing"),
        ("GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "bad_request"),
    ] {
        let reply = raw(&gateway, request);
        assert_eq!(code(&reply), (400, json!(expected)), "{request:?}");
        assert_eq!(reply.header("connection"), Some("close"));
    }
    let hops = format!(
        "GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n",
        "x,".repeat(100)
    );
    assert_eq!(code(&raw(&gateway, &hops)), (400, json!("ambiguous_head")));
    assert!(upstream.seen().is_empty());
    let old = raw(&gateway, "GET /v1/models HTTP/1.0\r\n\r\n");
    assert_eq!(old.status, 200, "HTTP/1.0 knows no Host");
}

#[test]
fn an_unasked_101_from_the_upstream_does_not_pass() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nraw bytes";
    let upstream = Upstream::always(Script::raw(switching));
    let gateway = Gateway::to(&upstream);
    for reply in [
        gateway.client.post("/v1/chat/completions", CHAT),
        gateway
            .client
            .request("GET", "/v1/models", &[KEY, ("upgrade", "other")], b""),
    ] {
        assert_eq!(reply.status, 502, "{}", reply.text());
        assert!(!reply.text().contains("raw bytes"));
    }
}

#[test]
fn paths_and_queries_without_measure_are_bounded() {
    let upstream = Upstream::playing(|_| Script::json(200, "{}"));
    let gateway = Gateway::to(&upstream);
    let long = format!("/v1/models/{}", "x".repeat(20_000));
    assert_eq!(
        code(&gateway.client.request("GET", &long, &[KEY], b"")),
        (400, json!("bad_path"))
    );
    let many = format!("/v1/models?{}", "a&".repeat(200_000));
    let reply = gateway.client.request("GET", &many, &[KEY], b"");
    assert!(matches!(reply.status, 400 | 431), "{}", reply.text());
    let fitting = format!("/v1/models?{}z=1", "a&".repeat(15_000));
    assert_eq!(gateway.client.request("GET", &fitting, &[KEY], b"").status, 200);
    assert_eq!(upstream.seen_count(), 1);
}

#[test]
fn claude_desktop_two_keys() {
    let answer = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":"end_turn","usage":{"input_tokens":10,"output_tokens":10}}"#;
    let upstream = Upstream::playing(move |_| Script::json(200, answer));
    let gateway = Gateway::to(&upstream);
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":50,"messages":[]}"#;
    let version = ("anthropic-version", "2023-06-01");
    let ask = |headers: &[(&str, &str)]| {
        let all: Vec<_> = [version].into_iter().chain(headers.iter().copied()).collect();
        let reply = gateway.client.request("POST", "/v1/messages", &all, body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = upstream.seen().pop().unwrap();
        (
            seen.header("x-api-key").map(str::to_owned),
            seen.header("authorization").map(str::to_owned),
        )
    };
    let (first, second) = (("x-api-key", "sk-ant-first"), ("authorization", "Bearer second"));
    assert_eq!(ask(&[first, second]), (Some("sk-ant-first".to_owned()), None));
    // Another made-up key each time evades nothing: the one that the upstream gets is the one that is accounted for.
    for made_up in ["a", "b", "c"] {
        let made_up = ("authorization", &*format!("Bearer {made_up}"));
        assert_eq!(ask(&[made_up, first]).1, None);
    }
    assert_eq!(ask(&[first]).0, Some("sk-ant-first".to_owned()));
    assert_eq!(ask(&[second]), (None, Some("Bearer second".to_owned())));
    let keys: Vec<String> = gateway
        .entries()
        .iter()
        .map(|entry| entry.facts.key.to_string())
        .collect();
    assert!(keys[..5].iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_ne!(keys[5], keys[0]);
}

#[test]
fn of_two_keys_only_the_accounted_one_reaches_the_upstream() {
    let upstream = Upstream::playing(|_| chat_answer());
    let gateway = Gateway::to(&upstream);
    let carriers = ["x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key"];
    for other in carriers {
        let headers = [(other, "sk-the-real-one"), KEY];
        let reply = gateway
            .client
            .request("POST", "/v1/chat/completions", &headers, CHAT.as_bytes());
        assert_eq!(reply.status, 200, "{other}");
        let seen = upstream.seen().pop().unwrap();
        assert_eq!((seen.header(other), seen.header("authorization")), (None, Some(KEY.1)));
    }
    let entries = gateway.entries();
    assert!(entries.iter().all(|entry| entry.facts.key == entries[0].facts.key));
    // Google's: its header before the query, the query before what no client of its sends.
    let upstream = Upstream::playing(|_| google_answer());
    let gateway = google(&upstream);
    let both = [
        ("x-goog-api-key", "AIza-header"),
        ("authorization", "Bearer ya29-other"),
    ];
    gateway.client.request(
        "POST",
        &format!("{GENERATE}?k%65y=AIza-query&alt=sse"),
        &both,
        &contents(),
    );
    let seen = upstream.only_seen();
    assert!(seen.path.ends_with(":generateContent?alt=sse"), "{}", seen.path);
    assert_eq!(
        (seen.header("x-goog-api-key"), seen.header("authorization")),
        (Some("AIza-header"), None)
    );
    // In OpenAI's dialect at Google's, the key is where OpenAI's clients send it.
    let path = "/gemini/v1beta/openai/chat/completions?key=AIza-query";
    gateway.client.request("POST", path, &both, CHAT.as_bytes());
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(seen.path, "/v1beta/openai/chat/completions");
    assert_eq!(
        (seen.header("x-goog-api-key"), seen.header("authorization")),
        (None, Some("Bearer ya29-other"))
    );
}

#[test]
fn a_sockets_model_is_named_once() {
    let upstream = SocketUpstream::playing(|_| {});
    let gateway = Setup::to(&upstream.base()).start();
    let opened = |query: &str| {
        Peer::try_open(gateway.address(), &format!("/v1/realtime?{query}"), &[KEY])
            .map(|_| ())
            .map_err(|reply| code(&reply))
    };
    for query in [
        "model=gpt-realtime-mini&model=gpt-realtime",
        "model=gpt-realtime-mini&mod%65l=gpt-realtime",
    ] {
        assert_eq!(opened(query).unwrap_err(), (400, json!("ambiguous_head")), "{query}");
    }
    opened("mod%65l=gpt-realtime&model=gpt-realtime").unwrap();
}

#[test]
fn what_clients_do_beside_the_main_calls() {
    let upstream = Upstream::playing(|seen| match seen.method.as_str() {
        "HEAD" => Script::raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n"),
        _ => Script::json(
            200,
            r#"{"object":"list","id":"msg_1","model":"claude-sonnet-4-5","usage":{"input_tokens":1,"output_tokens":1}}"#,
        ),
    });
    let gateway = Gateway::to(&upstream);
    let hello = gateway.client.get("/api/hello");
    assert_eq!((hello.status, hello.json()), (200, json!({"message": "hello"})));
    let head = |path: &str| {
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
        let mut stream = gateway.client.raw(request.as_bytes());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{path}");
        head.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(upstream.seen_count(), 0);
    for (path, status) in [
        ("/", 200),
        ("/health", 200),
        ("/api/hello", 200),
        ("/v1/models", 200),
        ("/v1/models/gpt-4o/", 200),
        ("/v1/responses/resp_1", 405),
        ("/v1/chat/completions", 200),
        ("/nowhere", 404),
    ] {
        assert_eq!(head(path), status, "{path}");
    }
    assert!(upstream.seen().iter().all(|seen| seen.method == "HEAD"));
    let options = gateway.client.request("OPTIONS", "/v1/messages/", &[], b"");
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("POST, GET, DELETE, HEAD, OPTIONS"))
    );
    assert_eq!(gateway.client.request("OPTIONS", "/nowhere", &[], b"").status, 404);
    let claude = r#"{"model":"claude-sonnet-4-5","max_tokens":50,"messages":[]}"#;
    for path in ["//v1/messages", "/v1/messages/", "/v1//messages?beta=true"] {
        assert_eq!(gateway.client.post_anthropic(path, claude).status, 200, "{path}");
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.path.split('?').next(), Some("/v1/messages"));
    }
    assert_eq!(gateway.entries().len(), 3);
    let upstream = Upstream::always(google_answer());
    let gateway = google(&upstream);
    let encoded = GENERATE.replace(':', "%3A");
    let reply = gateway
        .client
        .request("POST", &encoded, &[("x-goog-api-key", "AIza-1")], &contents());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(upstream.only_seen().path, "/v1beta/models/scripted-pro:generateContent");
    assert_eq!(gateway.entry().settlement.usage.get(Kind::Input), 1_000);
}

#[test]
fn errors_before_a_route_are_in_the_dialect_of_the_path() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let yaml = format!(
        "providers: {{openai: {{upstream: \"{0}\"}}, anthropic: {{upstream: \"{0}\"}}, extra: {{\
         gemini: {{enabled: true, upstream: \"{0}\", default_price: {{input: 1, output: 1}}}}, \
         bedrock: {{enabled: true, upstream: \"{0}\", default_price: {{input: 1, output: 1}}}}}}}}",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).only(&yaml).start();
    let ask = |method: &str, path: &str| gateway.client.request(method, path, &[], b"{}");
    for (path, status) in [
        ("/v1/messages/nothing", 404),
        ("/v1/messages/%2e%2e/x", 400),
        ("/v1/messages/batches%2Fx", 400),
    ] {
        let reply = ask("POST", path);
        assert_eq!(
            (reply.status, &reply.json()["type"]),
            (status, &json!("error")),
            "{path}"
        );
    }
    for path in ["/v1beta/nothing", "/gemini/v1beta/nothing"] {
        assert_eq!(ask("POST", path).json()["error"]["status"], "NOT_FOUND", "{path}");
    }
    for path in ["/model/m/nothing", "/bedrock/model/m/nothing"] {
        assert_eq!(
            ask("POST", path).json()["__type"],
            "ResourceNotFoundException",
            "{path}"
        );
    }
    let openais = ask("POST", "/v1/nothing").json();
    assert_eq!(
        (&openais["error"]["code"], &openais["type"]),
        (&json!("no_route"), &Value::Null)
    );
    assert_eq!(
        ask("POST", "/gemini/v1beta/openai/nothing").json()["error"]["code"],
        "no_route"
    );
    for (path, advice) in [
        ("/v1/v1/messages", "leave it out of its base URL"),
        ("/messages", "needs /v1 at its end"),
        ("/chat/completions", "needs /v1 at its end"),
        (
            "/v1/chat/completions/chat/completions",
            "let its base URL end before it",
        ),
        (
            "/v1/messages/v1/messages",
            "adds /v1/messages itself, let its base URL end before it",
        ),
        ("/anthropic/v1/messages", "leave /anthropic out of the base URL"),
    ] {
        let said = ask("POST", path).json()["error"]["message"].to_string();
        assert!(said.contains(advice), "{path}: {said}");
    }
    let wrong = ask("PUT", "/v1/messages");
    assert_eq!(
        (wrong.status, wrong.header("allow"), &wrong.json()["error"]["code"]),
        (405, Some("POST, OPTIONS"), &json!("method_not_allowed"))
    );
    assert_eq!(wrong.json()["type"], "error");
    assert!(upstream.seen().is_empty());
}
