//! Recorded traffic of Bedrock, where it is at hand: event streams, broken ones included, and whole answers. What is read
//! is what the provider itself says, found here without our readers, or is refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentledger_ledger::Kind;
use serde_json::Value;

use super::tests::{corpus, places, run};
use super::*;
use crate::limits::Limits;
use crate::plugin::Plugins;
use crate::{config, estimate_reason};

/// Input, output, read from a cache, written to it.
type Said = [u64; 4];

fn reader() -> Arc<AnswerReader> {
    let patient = Limits {
        plugin_deadline_ms: 60_000,
        ..Limits::default()
    };
    let plugins = Plugins::load(&config::Plugins::default(), &patient).unwrap();
    Arc::new(AnswerReader::new(Arc::clone(&plugins.get("bedrock").unwrap().dialect), 128).unwrap())
}

fn facts(operation: &str, stream: bool) -> AnswerFacts<'_> {
    AnswerFacts {
        lines: false,
        operation: Arc::from(operation),
        stream,
        hide_usage: false,
        status: 200,
        content_type: Some(if stream {
            "application/vnd.amazon.eventstream"
        } else {
            "application/json"
        }),
        content_encoding: None,
    }
}

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry, suffix));
        } else if entry.to_string_lossy().ends_with(suffix) {
            found.push(entry);
        }
    }
    found.sort();
    found
}

/// The payloads of a stream, by its lengths alone; a last message that is not whole is left out.
fn payloads(mut bytes: &[u8]) -> Vec<Value> {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
    let mut found = Vec::new();
    while bytes.len() >= 16 && number(&bytes[..4]) <= bytes.len() {
        let (total, headers) = (number(&bytes[..4]), number(&bytes[4..8]));
        found.extend(serde_json::from_slice(&bytes[12 + headers..total - 4]));
        bytes = &bytes[total..];
    }
    found
}

fn said(answer: &Value) -> Option<Said> {
    let usage = answer
        .get("amazon-bedrock-invocationMetrics")
        .or_else(|| answer.get("usage"))?;
    let at = |names: &[&str]| names.iter().find_map(|name| usage.get(*name)?.as_u64()).unwrap_or(0);
    Some([
        at(&["inputTokens", "inputTokenCount", "prompt_tokens"]),
        at(&["outputTokens", "outputTokenCount", "completion_tokens"]),
        at(&["cacheReadInputTokens", "cacheReadInputTokenCount"]),
        at(&["cacheWriteInputTokens", "cacheWriteInputTokenCount"]),
    ])
}

fn read(metered: &Metered) -> Said {
    let usage = &metered.usage;
    [
        usage.get(Kind::Input),
        usage.get(Kind::Output),
        usage.get(Kind::CacheRead),
        usage.get(Kind::CacheWrite5m) + usage.get(Kind::CacheWrite1h),
    ]
}

#[test]
fn recorded_event_streams_read_exact_or_are_refused_by_name_at_every_split() {
    let Some(folder) = corpus() else { return };
    let (reader, limits) = (reader(), Limits::default());
    let mut streams = files(&folder.join("agentgateway"), ".bin");
    streams.push(folder.join("kong/streaming-chunk-formats/aws/input.bin"));
    let (mut exact, mut refused) = (0, 0);
    for path in &streams {
        let (name, bytes) = (path.display(), std::fs::read(path).unwrap());
        let wrapped = memchr::memmem::find(&bytes, b"\"bytes\"").is_some();
        let operation = if wrapped {
            "invoke-with-response-stream"
        } else {
            "converse-stream"
        };
        let (whole, out) = run(&reader, facts(operation, true), &limits, &bytes, &[]);
        assert!(out == bytes, "{name}");
        match whole.reason {
            None => exact += 1,
            Some(fault) => {
                assert!(
                    name.to_string().contains("broken") && fault.starts_with("event_stream_"),
                    "{name}: {fault}"
                );
                refused += 1;
            }
        }
        let payloads = payloads(&bytes);
        let mut told = payloads
            .iter()
            .filter_map(|payload| match payload.get("bytes").and_then(Value::as_str) {
                Some(text) => {
                    let decoded = crate::base64::decode(text.as_bytes()).unwrap();
                    said(&serde_json::from_slice(&decoded).unwrap())
                }
                None => said(payload),
            });
        assert_eq!(read(&whole), told.next_back().unwrap_or_default(), "{name}");
        let single: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(
            run(&reader, facts(operation, true), &limits, &bytes, &single).0,
            whole,
            "{name} byte by byte"
        );
        for place in places(bytes.len()) {
            let (cut, out) = run(&reader, facts(operation, true), &limits, &bytes, &[place]);
            assert_eq!(cut, whole, "{name} cut at {place}");
            assert!(out == bytes, "{name} cut at {place}");
        }
    }
    println!("{exact} recorded event streams exact, {refused} refused");
    assert!(exact >= 6 && refused >= 1, "{exact} exact, {refused} refused");
}

#[test]
fn recorded_answers_of_bedrock_read_as_it_counts() {
    let Some(folder) = corpus() else { return };
    let (reader, limits) = (reader(), Limits::default());
    let places = [
        "agentgateway/bedrock",
        "agentgateway/bedrock-titan",
        "agentgateway/bedrock-nova",
        "agentgateway/bedrock-cohere",
        "kong/real-responses/bedrock",
    ];
    let answers: Vec<PathBuf> = places
        .iter()
        .flat_map(|place| files(&folder.join(place), ".json"))
        .collect();
    let mut exact = 0;
    for path in &answers {
        let (name, bytes) = (path.display(), std::fs::read(path).unwrap());
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        let operation = if body.get("output").is_some() {
            "converse"
        } else {
            "invoke"
        };
        let (metered, out) = run(&reader, facts(operation, false), &limits, &bytes, &[]);
        assert!(out == bytes, "{name}");
        let titan = body.get("inputTextTokenCount").and_then(Value::as_u64);
        match said(&body).or(titan.map(|input| [input, 0, 0, 0])) {
            Some(said) => {
                assert_eq!((read(&metered), metered.reason), (said, None), "{name}");
                exact += 1;
            }
            // An order is billed by the request; what else says no counts is estimated.
            None if body.get("results").is_some() => assert_eq!(metered.usage.get(Kind::Request), 1, "{name}"),
            None => assert_eq!(metered.reason, Some(estimate_reason::NO_USAGE), "{name}"),
        }
    }
    println!("{exact} of {} recorded answers say their counts", answers.len());
    assert!(exact >= 7, "{exact} of {}", answers.len());
}
