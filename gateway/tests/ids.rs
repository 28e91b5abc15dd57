//! Entries bear the ids by which the provider knows answer and request: in all dialects, and however the answer ends.

use agentledger_ledger::{Entry, Outcome};
use serde_json::{Value, json};

use crate::harness::aws::{EVENT_STREAM, chunk, event};
use crate::harness::socket::REQUEST_ID;
use crate::harness::upstream::Step;
use crate::harness::{Gateway, Script, Setup, Upstream};
use crate::socket::{answering, ask, budget, opened, start};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
/// Sixteen words: about as many tokens.
const WORDS: &str = "one two three four five six seven eight nine ten red green blue black white grey ";

/// The ids of an entry: the response's, and the request's.
fn ids(entry: &Entry) -> (Option<&str>, Option<&str>) {
    let end = &entry.settlement;
    (end.response_id.as_deref(), end.request_id.as_deref())
}

fn json(status: u16, body: &Value, headers: &[(&str, &str)]) -> Script {
    Script::body(status, "application/json", body.to_string().as_bytes(), headers)
}

/// The head of a stream that names its request; chunks are to follow.
fn stream_head(content_type: &str, header: &str, id: &str) -> Script {
    Script::raw(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n{header}: {id}\r\n\r\n"
    ))
}

fn stream<P: AsRef<[u8]>>(content_type: &str, header: &str, id: &str, pieces: &[P]) -> Script {
    let head = stream_head(content_type, header, id);
    pieces
        .iter()
        .fold(head, |script, piece| script.chunk(piece.as_ref()))
        .end()
}

/// A gateway to one provider alone.
fn gateway_to(upstream: &Upstream, name: &str) -> Gateway {
    let base = upstream.base();
    let provider = format!("{name}: {{enabled: true, upstream: \"{base}\", default_price: {{input: 1, output: 2}}}}");
    let yaml = match name {
        "bedrock" => format!("providers: {{{provider}}}"),
        _ => format!("providers: {{extra: {{{provider}}}}}"),
    };
    Setup::new(upstream).only(&yaml).start()
}

/// Sends `body` and gives the ids of the one entry that comes of it.
fn of_call(gateway: &Gateway, path: &str, body: &Value) -> (Option<String>, Option<String>) {
    let headers = [("authorization", "Bearer sk-test-0123456789abcdef")];
    let reply = gateway
        .client
        .request("POST", path, &headers, body.to_string().as_bytes());
    assert!(reply.whole, "{}", reply.text());
    let entries = gateway.entries();
    let (response, request) = ids(entries.last().unwrap());
    (response.map(str::to_owned), request.map(str::to_owned))
}

fn both(response: &str, request: &str) -> (Option<String>, Option<String>) {
    (Some(response.to_owned()), Some(request.to_owned()))
}

fn asked(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]})
}

fn chat_chunk(id: &str, text: &str) -> String {
    let data = json!({"id": id, "object": "chat.completion.chunk", "model": "gpt-4o",
        "choices": [{"index": 0, "delta": {"content": text}}]});
    format!("data: {data}\n\n")
}

fn message_start(id: &str) -> String {
    let data = json!({"type": "message_start", "message": {"id": id, "type": "message", "role": "assistant", "content": [],
        "model": "claude-sonnet-4-5", "usage": {"input_tokens": 9, "output_tokens": 1}}});
    format!("event: message_start\ndata: {data}\n\n")
}

fn message_delta(text: &str) -> String {
    let data = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    format!("event: content_block_delta\ndata: {data}\n\n")
}

fn response_created(id: &str) -> String {
    let data = json!({"type": "response.created", "response": {"id": id, "model": "gpt-4o", "status": "in_progress"}});
    format!("event: response.created\ndata: {data}\n\n")
}

fn response_delta(text: &str) -> String {
    let data = json!({"type": "response.output_text.delta", "item_id": "msg_1", "delta": text});
    format!("event: response.output_text.delta\ndata: {data}\n\n")
}

#[test]
fn an_entry_of_a_chat_bears_the_providers_response_id_and_request_id() {
    let whole = json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}});
    let upstream = Upstream::playing(move |seen| match seen.json()["stream"].as_bool() {
        // Another host's way of naming its chunks: the first one's name is the answer's.
        Some(true) => stream(
            "text/event-stream",
            "X-Request-ID",
            "req_2",
            &[
                chat_chunk("", ""),
                chat_chunk("chatcmpl-2", "hi"),
                chat_chunk("chatcmpl-3", "ho"),
            ],
        ),
        _ => json(200, &whole, &[("x-request-id", "req_1"), ("cf-ray", "9a0-FRA")]),
    });
    let gateway = Gateway::to(&upstream);
    assert_eq!(
        of_call(&gateway, CHAT, &asked("gpt-4o", false)),
        both("chatcmpl-1", "req_1")
    );
    assert_eq!(
        of_call(&gateway, CHAT, &asked("gpt-4o", true)),
        both("chatcmpl-2", "req_2")
    );
    let shown = serde_json::to_value(&gateway.entries()[0]).unwrap();
    assert_eq!(
        (&shown["response_id"], &shown["request_id"]),
        (&json!("chatcmpl-1"), &json!("req_1"))
    );
}

#[test]
fn an_entry_of_a_response_bears_the_providers_response_id_and_request_id() {
    let pieces = [response_created("resp_1"), response_delta("hi")];
    let upstream = Upstream::always(stream("text/event-stream", "x-request-id", "req_1", &pieces));
    let gateway = Gateway::to(&upstream);
    let asked = json!({"model": "gpt-4o", "stream": true, "max_output_tokens": 100, "input": "hi"});
    assert_eq!(of_call(&gateway, RESPONSES, &asked), both("resp_1", "req_1"));
}

#[test]
fn an_entry_of_a_message_bears_the_providers_response_id_and_request_id() {
    let whole = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 7, "output_tokens": 9}});
    let upstream = Upstream::playing(move |seen| match seen.json()["stream"].as_bool() {
        Some(true) => stream(
            "text/event-stream",
            "request-id",
            "req_2",
            &[message_start("msg_2"), message_delta("hi")],
        ),
        _ => json(200, &whole, &[("request-id", "req_1")]),
    });
    let gateway = Gateway::to(&upstream);
    let model = "claude-sonnet-4-5";
    assert_eq!(
        of_call(&gateway, MESSAGES, &asked(model, false)),
        both("msg_1", "req_1")
    );
    assert_eq!(of_call(&gateway, MESSAGES, &asked(model, true)), both("msg_2", "req_2"));
}

#[test]
fn an_entry_of_geminis_bears_the_response_id_and_no_request_id_as_there_is_none() {
    let element = json!({"responseId": "VnQ1abc", "modelVersion": "m",
        "candidates": [{"content": {"parts": [{"text": "hi"}], "role": "model"}, "index": 0}],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 9, "totalTokenCount": 16}});
    let event = format!("data: {element}\r\n\r\n");
    let upstream = Upstream::playing(move |seen| match seen.path.contains("alt=sse") {
        true => stream(
            "text/event-stream",
            "server-timing",
            "gfet4t7;dur=512",
            &[&event, &event],
        ),
        false => json(200, &element, &[("server-timing", "gfet4t7;dur=512")]),
    });
    let gateway = gateway_to(&upstream, "gemini");
    let contents = json!({"contents": [{"parts": [{"text": "hi"}]}]});
    for verb in ["generateContent", "streamGenerateContent?alt=sse"] {
        let path = format!("/gemini/v1beta/models/m:{verb}");
        let expected = (Some("VnQ1abc".to_owned()), None);
        assert_eq!(of_call(&gateway, &path, &contents), expected, "{verb}");
    }
}

#[test]
fn an_entry_of_coheres_bears_the_providers_response_id_and_request_id() {
    let whole = json!({"id": "c14c80c3", "finish_reason": "COMPLETE", "message": {"role": "assistant", "content": []},
        "usage": {"billed_units": {"input_tokens": 7, "output_tokens": 9}}});
    let start = "event: message-start\ndata: {\"type\":\"message-start\",\"id\":\"29f14a5a\"}\n\n";
    let end = "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"input_tokens\":7,\"output_tokens\":9}}}}\n\n";
    let upstream = Upstream::playing(move |seen| match seen.json()["stream"].as_bool() {
        Some(true) => stream("text/event-stream", "x-debug-trace-id", "trace-2", &[start, end]),
        _ => json(200, &whole, &[("x-debug-trace-id", "trace-1")]),
    });
    let gateway = gateway_to(&upstream, "cohere");
    let path = "/cohere/v2/chat";
    assert_eq!(of_call(&gateway, path, &asked("m", false)), both("c14c80c3", "trace-1"));
    assert_eq!(of_call(&gateway, path, &asked("m", true)), both("29f14a5a", "trace-2"));
}

#[test]
fn an_entry_of_bedrocks_bears_the_request_id_and_the_response_id_where_the_model_tells_one() {
    let usage = json!({"inputTokens": 7, "outputTokens": 9, "totalTokens": 16});
    let invoked = json!({"id": "msg_bdrk_1", "type": "message", "usage": {"input_tokens": 7, "output_tokens": 9}});
    let started = json!({"type": "message_start", "message": {"id": "msg_bdrk_2", "usage": {"input_tokens": 7, "output_tokens": 1}}});
    let upstream = Upstream::playing(move |seen| {
        let operation = seen.path.rsplit('/').next().unwrap_or_default();
        match operation {
            "converse" => json(200, &json!({"usage": usage}), &[("x-amzn-requestid", "converse")]),
            "invoke" => json(200, &invoked, &[("x-amzn-requestid", "invoke")]),
            "converse-stream" => stream(
                EVENT_STREAM,
                "x-amzn-RequestId",
                operation,
                &[event("metadata", &json!({"usage": usage}).to_string())],
            ),
            _ => stream(
                EVENT_STREAM,
                "x-amzn-RequestId",
                operation,
                &[chunk(&started.to_string())],
            ),
        }
    });
    let gateway = gateway_to(&upstream, "bedrock");
    let asked = json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}], "max_tokens": 100});
    for (operation, response) in [
        ("converse", None),
        ("converse-stream", None),
        ("invoke", Some("msg_bdrk_1")),
        ("invoke-with-response-stream", Some("msg_bdrk_2")),
    ] {
        let found = of_call(&gateway, &format!("/bedrock/model/m/{operation}"), &asked);
        assert_eq!(found, (response.map(str::to_owned), Some(operation.to_owned())));
    }
}

#[test]
fn an_error_answer_bears_the_request_id_that_support_asks_for() {
    let error =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"});
    for status in [400, 429, 529] {
        let headers = [("request-id", "req_1"), ("x-request-id", "req_1")];
        let upstream = Upstream::always(json(status, &error, &headers));
        let gateway = Gateway::to(&upstream);
        for (path, model) in [(CHAT, "gpt-4o"), (MESSAGES, "claude-sonnet-4-5")] {
            let found = of_call(&gateway, path, &asked(model, true));
            assert_eq!(found, (None, Some("req_1".to_owned())), "{status} {path}");
            assert_eq!(gateway.entries().last().unwrap().settlement.status, status);
        }
    }
}

#[test]
fn an_id_that_is_none_or_too_long_is_left_out() {
    let long = "x".repeat(129);
    let body = json!({"id": long, "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}});
    let upstream = Upstream::always(json(200, &body, &[("x-request-id", "no id at all")]));
    let gateway = Gateway::to(&upstream);
    assert_eq!(of_call(&gateway, CHAT, &asked("gpt-4o", false)), (None, None));
    let shown = serde_json::to_value(gateway.entry()).unwrap();
    assert!(
        shown["response_id"].is_null() && shown["request_id"].is_null(),
        "{shown}"
    );
}

#[test]
fn a_client_that_left_early_leaves_the_ids_seen_so_far() {
    let head = stream_head("text/event-stream", "request-id", "req_1").chunk(message_start("msg_1").as_bytes());
    let script = (0..200).fold(head, |script, _| {
        script.chunk(message_delta(WORDS).as_bytes()).pause_ms(10)
    });
    let upstream = Upstream::always(script);
    let gateway = Gateway::to(&upstream);
    let body = asked("claude-sonnet-4-5", true).to_string();
    let mut connection = gateway.client.send("POST", MESSAGES, &[], body.as_bytes());
    std::io::Read::read_exact(&mut connection, &mut [0; 200]).unwrap();
    drop(connection);
    let entry = gateway.entries_of(1).remove(0);
    assert_eq!(entry.settlement.outcome, Outcome::ClientGone);
    assert_eq!(ids(&entry), (Some("msg_1"), Some("req_1")));
}

#[test]
fn a_cut_stream_and_a_broken_one_bear_their_ids() {
    let head =
        || stream_head("text/event-stream", "x-request-id", "req_1").chunk(response_created("resp_1").as_bytes());
    let endless = (0..300).fold(head(), |script, _| script.chunk(response_delta(WORDS).as_bytes()));
    let yaml = format!("hold: {{size: expected}}\n{}", budget("0.02"));
    let asked = json!({"model": "gpt-4o", "stream": true, "max_output_tokens": 16_000, "input": "hi"});
    for (script, outcome) in [
        (endless.step(Step::AwaitClose), Outcome::Cut),
        (head().step(Step::Close), Outcome::UpstreamFailed),
    ] {
        let upstream = Upstream::always(script);
        let gateway = Setup::new(&upstream).with(&yaml).start();
        let reply = gateway.client.post(RESPONSES, &asked.to_string());
        let entry = gateway.entry();
        assert_eq!(entry.settlement.outcome, outcome);
        assert_eq!(ids(&entry), (Some("resp_1"), Some("req_1")));
        let last = reply
            .text()
            .lines()
            .rev()
            .find_map(|line| Some(line.strip_prefix("data: ")?.to_owned()));
        let last: Value = serde_json::from_str(&last.unwrap()).unwrap();
        assert_eq!(
            last["response"]["id"], "resp_1",
            "the client's ending bears it, too: {last}"
        );
    }
}

#[test]
fn each_answer_over_a_websocket_bears_its_own_id_and_the_handshakes() {
    let upstream = answering();
    let gateway = start(&upstream, "");
    let mut client = opened(&gateway, RESPONSES);
    for turn in 1..=2 {
        client.say(ask(200));
        client.until("response.completed");
        let entries = gateway.entries();
        let expected = format!("resp_{turn}");
        assert_eq!(ids(&entries[turn - 1]), (Some(expected.as_str()), Some(REQUEST_ID)));
    }
}

const ASK: &str = r#"{"model":"gpt-5.1","input":"think long","background":true,"max_output_tokens":1000}"#;

/// What a background response is when it was asked for, and when it is done.
fn background(status: &str) -> Value {
    let usage = match status {
        "completed" => json!({"input_tokens": 31, "output_tokens": 409, "total_tokens": 440}),
        _ => Value::Null,
    };
    json!({"id": "resp_bg", "object": "response", "status": status, "background": true, "model": "gpt-5.1", "usage": usage})
}

fn working() -> Upstream {
    Upstream::playing(|seen| match seen.method.as_str() {
        "POST" => json(200, &background("queued"), &[("x-request-id", "req_post")]),
        _ => json(200, &background("completed"), &[("x-request-id", "req_get")]),
    })
}

fn fetch(gateway: &Gateway, path: &str) {
    let key = [("authorization", "Bearer sk-test-0123456789abcdef")];
    assert_eq!(gateway.client.request("GET", path, &key, b"").status, 200);
}

#[test]
fn a_background_response_bears_the_ids_of_the_request_that_asked_for_it() {
    let upstream = working();
    let gateway = Gateway::to(&upstream);
    assert_eq!(gateway.client.post(RESPONSES, ASK).status, 200);
    fetch(&gateway, "/v1/responses/resp_bg");
    assert_eq!(ids(&gateway.entry()), (Some("resp_bg"), Some("req_post")));
}

#[test]
fn a_background_response_that_nobody_fetches_bears_its_ids() {
    let upstream = working();
    let gateway = Setup::new(&upstream).with("limits: {background_wait_ms: 1}").start();
    assert_eq!(gateway.client.post(RESPONSES, ASK).status, 200);
    let entry = gateway.entries_of(1).remove(0);
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("not_fetched"));
    assert_eq!(ids(&entry), (Some("resp_bg"), Some("req_post")));
}

#[test]
fn a_response_made_elsewhere_bears_its_id_and_the_fetchs() {
    let upstream = working();
    let gateway = Gateway::to(&upstream);
    fetch(&gateway, "/v1/responses/resp_bg");
    assert_eq!(ids(&gateway.entry()), (Some("resp_bg"), Some("req_get")));
}

#[test]
fn an_entry_of_a_batch_bears_the_batchs_id_where_the_path_names_it() {
    let message = json!({"custom_id": "one", "result": {"type": "succeeded", "message": {"id": "msg_1",
        "model": "claude-sonnet-4-5", "content": [], "usage": {"input_tokens": 7, "output_tokens": 9}}}});
    let chat = json!({"id": "batch_req_1", "custom_id": "one", "response": {"status_code": 200, "body": {"id": "chatcmpl-1",
        "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}}});
    let upstream = Upstream::playing(move |seen| {
        let line = if seen.path.contains("batches") { &message } else { &chat };
        let headers = [("request-id", "req_1"), ("x-request-id", "req_2")];
        Script::body(200, "application/x-jsonl", format!("{line}\n").as_bytes(), &headers)
    });
    let gateway = Gateway::to(&upstream);
    let key = [
        ("x-api-key", "sk-ant-api03-0123456789abcdef"),
        ("anthropic-version", "2023-06-01"),
    ];
    let path = "/v1/messages/batches/msgbatch_1/results";
    assert_eq!(gateway.client.request("GET", path, &key, b"").status, 200);
    assert_eq!(
        ids(gateway.entries().last().unwrap()),
        (Some("msgbatch_1"), Some("req_1"))
    );
    fetch(&gateway, "/v1/files/file-out/content");
    assert_eq!(ids(gateway.entries().last().unwrap()), (None, Some("req_2")));
}
