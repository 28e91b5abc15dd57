//! The parts of a request's way: outline and inspect, plugin reading, metering, prices. Policies: `policy.rs`.
//!
//! `cargo bench -p agentledger-benches --bench gateway`
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;

use agentledger::config::{self, Limits};
use agentledger::meter::price::PriceBook;
use agentledger::meter::{AnswerFacts, Meter, Reader};
use agentledger::plugin::outline::outline;
use agentledger::plugin::{AnswerFrame, Plugin, Plugins, Request};
use agentledger_benches::sample;
use agentledger_ledger::{Kind, Usage};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

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

/// A whole answer of about 1 KB.
fn chat_answer() -> String {
    let content = "The test fails because the fixture is missing. ".repeat(14);
    format!(
        "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1795305600,\"model\":\"gpt-4o-2024-08-06\",\
         \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{content}\",\"refusal\":null}},\
         \"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":1200,\"completion_tokens\":140,\
         \"total_tokens\":1340,\"prompt_tokens_details\":{{\"cached_tokens\":1024,\"audio_tokens\":0}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":0,\"audio_tokens\":0}}}},\"system_fingerprint\":\"fp_1\"}}"
    )
}

const DELTA: &str = "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1795305600,\
     \"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\",\
     \"choices\":[{\"index\":0,\"delta\":{\"content\":\" because\"},\"logprobs\":null,\"finish_reason\":null}],\
     \"usage\":null}";

const USAGE: &str = "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1795305600,\
     \"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\",\"choices\":[],\
     \"usage\":{\"prompt_tokens\":1200,\"completion_tokens\":140,\"total_tokens\":1340,\
     \"prompt_tokens_details\":{\"cached_tokens\":1024,\"audio_tokens\":0},\
     \"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}}}";

fn read(plugin: &Plugin, streamed: bool, doc: &str) {
    let frame = AnswerFrame {
        operation: "chat",
        event: None,
        streamed,
        status: 200,
        outline: doc,
    };
    black_box(plugin.dialect.read(&frame).unwrap().unwrap());
}

/// The plugin's reading of a whole answer, and of the one event of a stream that bears usage.
fn readings(c: &mut Criterion) {
    let plugins = plugins();
    let openai = plugins.get("openai").unwrap();
    let mut group = c.benchmark_group("read");
    for (name, streamed, json) in [
        ("answer_1KB", false, chat_answer()),
        ("marked_event", true, USAGE.to_owned()),
    ] {
        let doc = outline(json.as_bytes(), &openai.answer_shape, DEPTH_MAX).unwrap().doc;
        group.bench_function(BenchmarkId::new("plugin", name), |b| {
            b.iter(|| read(openai, streamed, black_box(&doc)))
        });
        group.bench_function(BenchmarkId::new("outline_and_plugin", name), |b| {
            b.iter(|| {
                let found = outline(black_box(json.as_bytes()), &openai.answer_shape, DEPTH_MAX).unwrap();
                read(openai, streamed, &found.doc);
            });
        });
    }
    group.finish();
}

/// One event of text through the meter of a running stream: what most events cost.
fn events(c: &mut Criterion) {
    let plugins = plugins();
    let openai = plugins.get("openai").unwrap();
    let reader = Arc::new(Reader::new(Arc::clone(&openai.dialect), DEPTH_MAX).unwrap());
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
    let marked = format!("data: {USAGE}\n\n");
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
        ("longest_prefix", "openai", "gpt-4o-mini-of-some-day"),
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

criterion_group!(benches, requests, readings, events, prices);
criterion_main!(benches);
