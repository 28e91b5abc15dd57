//! Recorded streams through the plugins that the gateway brings: the usage entered is the provider's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentledger_ledger::Kind;
use serde::Deserialize;
use serde_json::Value;

use super::tests::{corpus, places, run, sse_facts, streams};
use super::*;
use crate::config;
use crate::limits::Limits;
use crate::plugin::{Dialect, Plugins};

/// A recorded exchange of the Envoy project.
#[derive(Deserialize)]
struct Cassette {
    interactions: Vec<Interaction>,
}

#[derive(Deserialize)]
struct Interaction {
    response: Recorded,
}

#[derive(Deserialize)]
struct Recorded {
    #[serde(default)]
    body: String,
}

/// What a stream itself says, read from its raw JSON the slow way: (all input, output, cached, written, reasoning).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    input: u64,
    output: u64,
    cached: u64,
    written: u64,
    reasoning: u64,
}

fn documents(stream: &str) -> impl Iterator<Item = Value> + '_ {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data:"));
    lines.filter_map(|data| serde_json::from_str(data.trim()).ok())
}

/// The last value at `path` in any usage of the stream.
fn last(stream: &str, paths: &[&str]) -> Option<u64> {
    let places = ["", "/message", "/response"];
    let found = documents(stream).flat_map(|document| {
        let values = places
            .iter()
            .flat_map(|place| paths.iter().map(move |path| format!("{place}/usage/{path}")));
        values
            .filter_map(|pointer| document.pointer(&pointer).and_then(Value::as_u64))
            .collect::<Vec<_>>()
    });
    found.last()
}

fn said(dialect: &str, stream: &str) -> Said {
    let at = |paths: &[&str]| last(stream, paths).unwrap_or_default();
    let cached = at(&[
        "cache_read_input_tokens",
        "prompt_tokens_details/cached_tokens",
        "input_tokens_details/cached_tokens",
    ]);
    let written = at(&["cache_creation_input_tokens"]);
    let outside = if dialect == "anthropic" { cached + written } else { 0 };
    Said {
        input: at(&["prompt_tokens", "input_tokens"]) + outside,
        output: at(&["completion_tokens", "output_tokens"]),
        cached,
        written,
        reasoning: at(&[
            "output_tokens_details/thinking_tokens",
            "output_tokens_details/reasoning_tokens",
            "completion_tokens_details/reasoning_tokens",
        ]),
    }
}

fn metered_says(metered: &Metered) -> Said {
    let usage = &metered.usage;
    Said {
        input: usage.input_tokens(),
        output: usage.output_tokens(),
        cached: usage.get(Kind::CacheRead),
        written: usage.get(Kind::CacheWrite5m) + usage.get(Kind::CacheWrite1h),
        reasoning: metered.reasoning,
    }
}

/// Dialect and path of the request that a stream answers.
fn recognise(stream: &str) -> Option<(&'static str, &'static str)> {
    [
        ("message_start", ("anthropic", "/v1/messages")),
        ("chat.completion.chunk", ("openai", "/v1/chat/completions")),
        ("\"response.created\"", ("openai", "/v1/responses")),
        ("\"text_completion\"", ("openai", "/v1/completions")),
    ]
    .into_iter()
    .find_map(|(sign, found)| stream.contains(sign).then_some(found))
}

fn recorded(folder: &Path) -> Vec<(String, String)> {
    let plain = streams(folder).into_iter();
    let mut all: Vec<(String, String)> = plain
        .filter_map(|(path, bytes)| Some((path.display().to_string(), String::from_utf8(bytes).ok()?)))
        .collect();
    for entry in std::fs::read_dir(folder.join("envoy-ai-gateway")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let cassette: Cassette = serde_saphyr::from_str(&text).unwrap();
        let bodies = cassette
            .interactions
            .into_iter()
            .map(|interaction| interaction.response.body);
        all.extend(
            bodies
                .filter(|body| body.starts_with("data:"))
                .map(|body| (path.display().to_string(), body)),
        );
    }
    all
}

#[test]
fn recorded_streams_give_the_providers_own_usage_at_every_split() {
    let Some(folder) = corpus() else { return };
    // A busy machine is no slow plugin.
    let patient = Limits {
        plugin_deadline_ms: 60_000,
        ..Limits::default()
    };
    let plugins = Plugins::load(&config::Plugins::default(), &patient).unwrap();
    let recorded = recorded(&folder);
    let next = AtomicUsize::new(0);
    let (read, with_usage) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some((name, stream)) = recorded.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some((dialect, path)) = recognise(stream) else {
                continue;
            };
            let plugin = Arc::clone(&plugins.get(dialect).unwrap().dialect);
            let expected = said(dialect, stream);
            replay(name, stream, path, &plugin, expected);
            read.fetch_add(1, Ordering::Relaxed);
            with_usage.fetch_add(usize::from(expected != Said::default()), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for worker in [scope.spawn(work), scope.spawn(work)] {
            worker.join().unwrap();
        }
    });
    let (read, with_usage) = (read.into_inner(), with_usage.into_inner());
    println!("{read} recorded streams read, {with_usage} of them with usage");
    assert!(
        read >= 25 && with_usage >= 20,
        "{read} streams read, {with_usage} with usage"
    );
}

fn replay(name: &str, stream: &str, path: &str, dialect: &Arc<dyn Dialect>, expected: Said) {
    let routes = &dialect.info().routes;
    let route = routes
        .iter()
        .find(|route| route.path == path && route.method == "POST")
        .unwrap();
    let operation: Arc<str> = Arc::from(route.operation.as_str());
    let facts = |hide_usage| AnswerFacts {
        operation: Arc::clone(&operation),
        hide_usage,
        ..sse_facts()
    };
    let reader = Arc::new(AnswerReader::new(Arc::clone(dialect), 128).unwrap());
    let full = Arc::new(AnswerReader::new(Arc::clone(dialect), 128).unwrap().reading_all());
    let (limits, bytes) = (Limits::default(), stream.as_bytes());

    let (whole, out) = run(&reader, facts(false), &limits, bytes, &[]);
    assert!(out == bytes, "{name}");
    assert_eq!(metered_says(&whole), expected, "{name}");
    assert!(whole.model.is_some() && whole.plugin_errors == 0, "{name}: {whole:?}");
    if expected != Said::default() {
        assert_eq!(whole.reason, None, "{name}");
    }
    let (all, _) = run(&full, facts(false), &limits, bytes, &[]);
    assert_eq!(
        (&all.parts, &all.model),
        (&whole.parts, &whole.model),
        "marked is full: {name}"
    );

    let single: Vec<usize> = (1..bytes.len()).collect();
    let (cut, out) = run(&reader, facts(false), &limits, bytes, &single);
    assert_eq!(cut, whole, "{name} byte by byte");
    assert!(out == bytes, "{name} byte by byte");
    // Hiding takes away whole frames that say nothing but usage, and nothing else.
    let frames = stream.split_inclusive("\n\n");
    let kept = frames.filter(|frame| !says_only_usage(frame)).collect::<String>();
    for place in places(bytes.len()) {
        let (cut, out) = run(&reader, facts(true), &limits, bytes, &[place]);
        assert_eq!(cut, whole, "{name} cut at {place}");
        assert!(out == kept.as_bytes(), "{name} cut at {place}");
    }
}

fn says_only_usage(frame: &str) -> bool {
    documents(frame).any(|document| {
        document.get("usage").is_some_and(Value::is_object)
            && document
                .get("choices")
                .and_then(Value::as_array)
                .is_some_and(Vec::is_empty)
    })
}
