//! The parts of a request's way: who sends it, what its session did, outline and inspect, plugin reading, metering, prices. Policies: `policy.rs`.
//!
//! `cargo bench -p agentledger-benches --bench gateway`
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;

use agentledger::testing::Secret;
use agentledger::testing::config::{self, Limits};
use agentledger::testing::identify::{Identity, from_head, known_client};
use agentledger::testing::meter::{AnswerFacts, AnswerReader, Meter};
use agentledger::testing::plugin::outline;
use agentledger::testing::plugin::{AnswerFrame, Plugins, Request};
use agentledger::testing::price::PriceBook;
use agentledger::testing::progress::{Bounds, SessionProgress};
use agentledger_benches::{dialects, sample};
use agentledger_ledger::{Inferred, Kind, Name, Usage, Usd};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};

const DEPTH_MAX: u32 = 128;

fn plugins() -> Plugins {
    Plugins::load(&config::Plugins::default(), &Limits::default()).unwrap()
}

/// A chat request of about so many bytes: turns of 800 bytes with some escapes, as agents send them.
fn chat_request(bytes: usize) -> String {
    let turn = "Read `src/main.rs` and tell me why \\\"cargo test\\\" fails.\\n".repeat(12);
    let mut body = String::from("{\"model\":\"gpt-4o\",\"max_tokens\":1024,\"stream\":true,\"messages\":[");
    let mut first = true;
    while first || body.len() + turn.len() < bytes {
        if !first {
            body.push(',');
        }
        first = false;
        body.push_str("{\"role\":\"user\",\"content\":\"");
        body.push_str(&turn);
        body.push_str("\"}");
    }
    body.push_str("]}");
    body
}

fn request_for(outline: String) -> Request {
    Request {
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        operation: "chat".to_owned(),
        path_model: None,
        headers: Vec::new(),
        outline,
        ..Request::default()
    }
}

/// The native pass alone, and with the plugin's inspection of what it found.
fn requests(c: &mut Criterion) {
    let plugins = plugins();
    let openai = plugins.get("openai").unwrap();
    for (name, bytes) in [("1KB", 1_000), ("100KB", 100_000), ("5MB", 5_000_000)] {
        let body = chat_request(bytes);
        let mut group = c.benchmark_group("request");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::new("outline", name), |b| {
            b.iter(|| outline(black_box(body.as_bytes()), &openai.request_shape, DEPTH_MAX).unwrap());
        });
        group.bench_function(BenchmarkId::new("outline_and_inspect", name), |b| {
            b.iter(|| {
                let found = outline(black_box(body.as_bytes()), &openai.request_shape, DEPTH_MAX).unwrap();
                openai.dialect.inspect(&request_for(found.doc)).unwrap()
            });
        });
        group.finish();
    }
}

const DELTA: &str = "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1795305600,\
     \"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\",\
     \"choices\":[{\"index\":0,\"delta\":{\"content\":\" because\"},\"logprobs\":null,\"finish_reason\":null}],\
     \"usage\":null}";

/// Each component's reading of a whole answer, and of the one event of a stream that bears usage: the component alone, and
/// with the native outline before it (the goal: 10 µs and 5 µs, outline included).
fn readings(c: &mut Criterion) {
    let plugins = plugins();
    let mut group = c.benchmark_group("read");
    for (name, plugin) in plugins.iter() {
        let Some(sample) = dialects::find(name) else {
            eprintln!("no sample of the dialect {name}: not measured");
            continue;
        };
        for (what, path, event, json) in [
            ("answer_1KB", sample.answer_path, None, &sample.answer),
            ("marked_event", sample.event_path, sample.event_name, &sample.event),
        ] {
            let operation = plugin.routes.find("", "POST", path).unwrap().operation;
            let frame = |outline: &str| {
                let frame = AnswerFrame {
                    operation,
                    event,
                    streamed: what == "marked_event",
                    status: 200,
                    outline,
                };
                black_box(plugin.dialect.read(&frame).unwrap().unwrap());
            };
            let doc = outline(json.as_bytes(), &plugin.answer_shape, DEPTH_MAX).unwrap().doc;
            group.bench_function(BenchmarkId::new(format!("{name}/plugin"), what), |b| {
                b.iter(|| frame(black_box(&doc)));
            });
            group.bench_function(BenchmarkId::new(format!("{name}/outline_and_plugin"), what), |b| {
                b.iter(|| {
                    let found = outline(black_box(json.as_bytes()), &plugin.answer_shape, DEPTH_MAX).unwrap();
                    frame(&found.doc);
                });
            });
        }
    }
    group.finish();
}

/// Compiling, or loading, and asking all built-in plugins: once a process, so this is one sample and no more. A start
/// as a user sees it: `--bin startup`.
fn loading(_: &mut Criterion) {
    let began = std::time::Instant::now();
    let count = plugins().iter().count();
    eprintln!(
        "start: {count} plugins ready after {:.1} ms",
        began.elapsed().as_secs_f64() * 1e3
    );
}

/// One event of text through the meter of a running stream: what most events cost.
fn events(c: &mut Criterion) {
    let plugins = plugins();
    let openai = plugins.get("openai").unwrap();
    let reader = Arc::new(AnswerReader::new(Arc::clone(&openai.dialect), DEPTH_MAX).unwrap());
    let facts = AnswerFacts {
        lines: false,
        operation: "chat".into(),
        stream: true,
        hide_usage: true,
        status: 200,
        content_type: Some("text/event-stream"),
        content_encoding: None,
    };
    let event = format!("data: {DELTA}\n\n");
    let usage = dialects::find("openai").unwrap().event;
    let marked = format!("data: {usage}\n\n");
    let mut group = c.benchmark_group("meter");
    // The text of an answer is kept for its estimate, up to a limit: a new meter now and then, as for a new answer.
    let meter = || Meter::new(Arc::clone(&reader), facts.clone(), &Limits::default());
    for (name, event) in [("unmarked_event", &event), ("marked_event", &marked)] {
        let mut running = meter();
        let mut pushed = 0_u32;
        group.bench_function(name, |b| {
            b.iter(|| {
                pushed += 1;
                if pushed.is_multiple_of(1_000) {
                    running = meter();
                }
                running.push(black_box(event.as_bytes()), &mut |passed| {
                    black_box(passed);
                });
            });
        });
    }
    group.bench_function("whole_stream_of_1000_events", |b| {
        let stream = [event.repeat(999), marked.clone(), "data: [DONE]\n\n".to_owned()].concat();
        b.iter(|| {
            let mut running = meter();
            for piece in black_box(stream.as_bytes()).chunks(4_096) {
                running.push(piece, &mut |passed| {
                    black_box(passed);
                });
            }
            running.finish(&mut |passed| {
                black_box(passed);
            })
        });
    });
    group.finish();
}

/// AWS's binary event stream through the meter: checksums, and the events of an invoked model out of their wrapping.
fn event_streams(c: &mut Criterion) {
    let plugins = plugins();
    let bedrock = plugins.get("bedrock").unwrap();
    let reader = Arc::new(AnswerReader::new(Arc::clone(&bedrock.dialect), DEPTH_MAX).unwrap());
    let text = "{\"contentBlockIndex\":0,\"delta\":{\"text\":\" because\"},\"p\":\"abcdefghijklmnop\"}";
    // {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" because"}}
    let wrapped = "{\"bytes\":\"eyJ0eXBlIjoiY29udGVudF9ibG9ja19kZWx0YSIsImluZGV4IjowLCJkZWx0YSI6eyJ0eXBlIjoidGV4dF9kZWx0YSIsInRleHQiOiIgYmVjYXVzZSJ9fQ==\",\"p\":\"abcdefgh\"}";
    let mut group = c.benchmark_group("event_stream");
    for (name, operation, event) in [
        ("converse", "converse-stream", aws_event("contentBlockDelta", text)),
        ("invoke", "invoke-with-response-stream", aws_event("chunk", wrapped)),
    ] {
        let facts = AnswerFacts {
            lines: false,
            operation: operation.into(),
            stream: true,
            hide_usage: false,
            status: 200,
            content_type: Some("application/vnd.amazon.eventstream"),
            content_encoding: None,
        };
        let stream = event.repeat(1_000);
        group.bench_function(BenchmarkId::new("whole_stream_of_1000_events", name), |b| {
            b.iter(|| {
                let mut running = Meter::new(Arc::clone(&reader), facts.clone(), &Limits::default());
                for piece in black_box(stream.as_slice()).chunks(4_096) {
                    running.push(piece, &mut |passed| {
                        black_box(passed);
                    });
                }
                running.finish(&mut |passed| {
                    black_box(passed);
                })
            });
        });
    }
    group.finish();
}

/// One message, its checksums right.
fn aws_event(name: &str, payload: &str) -> Vec<u8> {
    let headers = [
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    agentledger_guest::aws_event::message(&headers, payload.as_bytes())
}

/// Finding a model's price under its several names, and the cost of a usage.
fn prices(c: &mut Criterion) {
    let book = PriceBook::builtin().unwrap();
    let usage = Usage::default()
        .with(Kind::Input, 1_200)
        .with(Kind::CacheRead, 21_000)
        .with(Kind::Output, 900);
    let mut group = c.benchmark_group("price");
    let names = [
        ("exact", "openai", "gpt-4o"),
        ("dated", "anthropic", "claude-sonnet-4-5-20250929"),
        ("unpriced", "openai", "gpt-4o-mini-of-some-day"),
        ("regional", "bedrock", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("qualified", "fireworks", "accounts/fireworks/models/kimi-k3"),
        ("unknown", "openai", "no-such-model"),
    ];
    for (name, provider, model) in names {
        group.bench_function(BenchmarkId::new("find", name), |b| {
            b.iter(|| {
                book.find(black_box(provider), black_box(model), sample::START_MS)
                    .map(|quote| quote.max_output())
            });
        });
    }
    let quote = book.find("openai", "gpt-4o", sample::START_MS).unwrap();
    group.bench_function("cost", |b| b.iter(|| quote.cost(black_box(&usage), None)));
    group.finish();
}

/// What all SDKs of OpenAI and Anthropic send.
const SDK_HEADERS: [(&str, &str); 14] = [
    ("host", "127.0.0.1:8787"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("connection", "keep-alive"),
    ("content-type", "application/json"),
    ("content-length", "76283"),
    ("authorization", "Bearer sk-test-0123456789abcdef"),
    ("x-stainless-arch", "x64"),
    ("x-stainless-lang", "js"),
    ("x-stainless-os", "Linux"),
    ("x-stainless-package-version", "0.94.0"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-runtime", "node"),
    ("x-stainless-timeout", "600"),
];

fn unnamed() -> Identity {
    let none = || Name::from("");
    Identity {
        run: Name::from(""),
        client: None,
        key: Secret::new(String::new()),
        fingerprint: none(),
        agent: none(),
        session: none(),
        user: none(),
        task: none(),
        tags: Default::default(),
        inferred: Inferred::NONE,
        tenant_claim: None,
        session_end: false,
        trace: None,
        is_retry: false,
    }
}

/// Who sends a request, by its head: what inference adds to it, by client. Goal: nothing that shows beside a request's CPU.
fn inference(c: &mut Criterion) {
    let claude = [
        ("user-agent", "claude-cli/2.1.197 (external, cli)"),
        ("x-claude-code-session-id", "4c969c67-36fc-49b0-b19c-a541da334ebf"),
        ("x-claude-code-agent-id", "a1b2c3d4"),
    ];
    let codex = [
        ("user-agent", "codex_exec/0.171.0 (Debian 12.0.0; x86_64) xterm"),
        ("originator", "codex_exec"),
        ("session-id", "01a2299d-ef26-7e50-b7b9-91022de43ab8"),
        ("thread-id", "01a2299d-ef26-7e50-b7b9-91022de43ab8"),
    ];
    let sdk = [("user-agent", "OpenAI/Python 2.20.0")];
    let mut group = c.benchmark_group("infer");
    for (name, own) in [("claude_subagent", &claude[..]), ("codex", &codex), ("sdk", &sdk)] {
        let pairs = SDK_HEADERS.iter().chain(own);
        let headers: HeaderMap = pairs
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        group.bench_function(BenchmarkId::new("head", name), |b| {
            b.iter_batched_ref(
                unnamed,
                |identity| {
                    identity.client = known_client(black_box(&headers));
                    from_head(identity, &headers, &Limits::default());
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// What a session did before, beside so many steps that are kept of it: a call begins and is answered. All steps alike are a loop, with
/// one call after the other or sixteen side by side.
fn session_steps(c: &mut Criterion) {
    let progress = Arc::new(SessionProgress::default());
    let texts: Vec<String> = (0..40_000).map(|at| format!("{{\"query\":{at}}}")).collect();
    let asks = |text: &String| progress.doing("/v1/chat/completions", text.as_bytes(), None);
    let calls = |text: &String| progress.doing_tool("search", text.as_bytes());
    let kinds: [(&str, Vec<_>); 2] = [
        ("llm", texts.iter().map(asks).collect()),
        ("tool", texts.iter().map(calls).collect()),
    ];
    let mut group = c.benchmark_group("session_steps");
    for kept in [0, 60, 1_024, 16_384] {
        let bounds = Bounds {
            window_ms: 300_000,
            steps_max: kept + 1,
        };
        for (kind, doings) in &kinds {
            for (shape, distinct, side_by_side) in [("distinct", doings.len(), 1), ("alike", 1, 1), ("alike_16", 1, 16)]
            {
                let session = format!("{kind} {shape} {kept}");
                let mut doings = doings.iter().take(distinct).cycle();
                let mut running = VecDeque::new();
                let mut call = || {
                    let doing = *doings.next().unwrap();
                    let (history, step) = progress.begin(bounds, 0, ("", &session), doing, false);
                    running.push_back(step);
                    if running.len() >= side_by_side {
                        running.pop_front().unwrap().answered(Usd::from_nanos(5), None);
                    }
                    history
                };
                (0..kept).for_each(|_| {
                    black_box(call());
                });
                group.bench_function(BenchmarkId::new(format!("{kind}_{shape}"), kept), |b| b.iter(&mut call));
            }
        }
    }
    group.finish();
}

criterion_group!(
    benches,
    loading,
    inference,
    session_steps,
    requests,
    readings,
    events,
    event_streams,
    prices
);
criterion_main!(benches);
