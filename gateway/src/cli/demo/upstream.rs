//! A provider that costs nothing: it answers as OpenAI and Anthropic do, from a script, over plain HTTP on this machine.
//! It sees what a real one would see, and what it bills is fixed, so that the demo's sums are always the same.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::tasks::spawn_named;

/// What a model takes to answer, and between two pieces of a stream: long enough that parallel calls overlap.
const THINKING: Duration = Duration::from_millis(60);
const BETWEEN_PIECES: Duration = Duration::from_millis(15);
/// Tokens of the coder's prompt that Anthropic would cache.
pub const CACHED_TOKENS: u64 = 12_000;

const WORDS: [&str; 6] = ["Here ", "is ", "what ", "I ", "found ", "out."];

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Listens on a free port and serves until the runtime ends.
pub async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    spawn_named("demo-provider", async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn_named("demo-provider-connection", async move {
                let connection = hyper::server::conn::http1::Builder::new();
                // A client that goes away is none of a provider's worries.
                let _ = connection
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            });
        }
    });
    Ok(address)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let Ok(body) = request.into_body().collect().await else {
        return Ok(whole(
            StatusCode::BAD_REQUEST,
            &json!({"error": {"message": "no body"}}),
        ));
    };
    let asked: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    tokio::time::sleep(THINKING).await;
    Ok(match path.as_str() {
        "/v1/chat/completions" => chat(&asked),
        "/v1/messages" => messages(&asked),
        _ => whole(
            StatusCode::NOT_FOUND,
            &json!({"error": {"message": "not in the script"}}),
        ),
    })
}

fn text(asked: &Value, field: &str) -> String {
    asked.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn streams(asked: &Value) -> bool {
    asked.get("stream").and_then(Value::as_bool).unwrap_or_default()
}

/// OpenAI: a model that is told a maximum uses it up, one that is not says little. Cached tokens lie inside the prompt's.
fn chat(asked: &Value) -> Response<Body> {
    let model = text(asked, "model");
    let usage = match asked.get("max_completion_tokens").and_then(Value::as_u64) {
        Some(most) => json!({"prompt_tokens": 16, "completion_tokens": most, "total_tokens": 16 + most}),
        None => json!({
            "prompt_tokens": 1_850, "completion_tokens": 320, "total_tokens": 2_170,
            "prompt_tokens_details": {"cached_tokens": 1_024},
            "completion_tokens_details": {"reasoning_tokens": 128},
        }),
    };
    if !streams(asked) {
        let message = json!({"role": "assistant", "content": WORDS.concat()});
        return whole(
            StatusCode::OK,
            &json!({"id": "chatcmpl-demo", "object": "chat.completion", "created": 1, "model": model, "usage": usage,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}),
        );
    }
    let chunk = |choices: Value, usage: &Value| {
        let chunk = json!({"id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": 1, "model": model,
            "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let mut pieces: Vec<String> = WORDS
        .iter()
        .map(|word| {
            chunk(
                json!([{"index": 0, "delta": {"content": word}, "finish_reason": null}]),
                &Value::Null,
            )
        })
        .collect();
    pieces.push(chunk(
        json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        &Value::Null,
    ));
    // As OpenAI does: usage comes only to those who ask for it. The gateway asks.
    let asks = asked.pointer("/stream_options/include_usage").and_then(Value::as_bool);
    if asks == Some(true) {
        pieces.push(chunk(json!([]), &usage));
    }
    pieces.push("data: [DONE]\n\n".to_owned());
    events(pieces)
}

/// Anthropic: the first turn writes the prompt cache, later ones read it. Both lie outside the input tokens.
fn messages(asked: &Value) -> Response<Body> {
    let turns = asked.get("messages").and_then(Value::as_array).map_or(0, Vec::len);
    let (written, read) = if turns <= 1 {
        (CACHED_TOKENS, 0)
    } else {
        (0, CACHED_TOKENS)
    };
    let usage = |output: u64| {
        json!({"input_tokens": 240, "cache_creation_input_tokens": written, "cache_read_input_tokens": read,
            "output_tokens": output})
    };
    let message = |content: Value, stop: Value, output: u64| {
        json!({"id": "msg_demo", "type": "message", "role": "assistant", "model": text(asked, "model"),
            "content": content, "stop_reason": stop, "stop_sequence": null, "usage": usage(output)})
    };
    if !streams(asked) {
        let content = json!([{"type": "text", "text": WORDS.concat()}]);
        return whole(StatusCode::OK, &message(content, json!("end_turn"), 410));
    }
    let event = |data: Value| format!("event: {}\ndata: {data}\n\n", text(&data, "type"));
    let mut pieces = vec![
        event(json!({"type": "message_start", "message": message(json!([]), Value::Null, 1)})),
        event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
    ];
    for word in WORDS {
        let delta = json!({"type": "text_delta", "text": word});
        pieces.push(event(
            json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        ));
    }
    pieces.push(event(json!({"type": "content_block_stop", "index": 0})));
    pieces.push(event(
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": {"output_tokens": 410}}),
    ));
    pieces.push(event(json!({"type": "message_stop"})));
    events(pieces)
}

fn whole(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    with_head(status, "application/json", body)
}

fn events(pieces: Vec<String>) -> Response<Body> {
    let frames = stream::unfold(pieces.into_iter(), |mut pieces| async move {
        let piece = pieces.next()?;
        tokio::time::sleep(BETWEEN_PIECES).await;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(piece))), pieces))
    });
    with_head(
        StatusCode::OK,
        "text/event-stream",
        StreamBody::new(frames).boxed_unsync(),
    )
}

fn with_head(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let value = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}
