//! Recorded answers of Gemini, Vertex AI and Cohere: read exactly, or refused by name, however their bytes arrive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;

use agentledger_ledger::Kind;
use serde_json::Value;

use super::tests::{corpus, places, run};
use super::*;
use crate::limits::Limits;
use crate::plugin::Plugins;
use crate::{config, estimate_reason};

/// Recordings that are one answer when their files are put one after the other.
struct Recording {
    files: &'static [&'static str],
    dialect: &'static str,
    operation: &'static str,
    content_type: &'static str,
    /// Why it is no exact answer; `None`: it is one.
    reason: Option<&'static str>,
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

const fn gemini(files: &'static [&'static str], operation: &'static str, content_type: &'static str) -> Recording {
    Recording {
        files,
        dialect: "gemini",
        operation,
        content_type,
        reason: None,
    }
}

const fn cohere(files: &'static [&'static str], operation: &'static str, content_type: &'static str) -> Recording {
    Recording {
        files,
        dialect: "cohere",
        operation,
        content_type,
        reason: None,
    }
}

const GENERATE: &str = "generateContent";
const STREAM: &str = "streamGenerateContent";
const LINES: &str = "application/stream+json";
const CHUNKS: &str = "kong/streaming-chunk-formats";

fn recordings() -> Vec<Recording> {
    vec![
        gemini(&["agentgateway/vertex-gemini/basic.json"], GENERATE, JSON),
        gemini(&["agentgateway/vertex-gemini/blocked.json"], GENERATE, JSON),
        gemini(&["agentgateway/vertex-gemini/reasoning.json"], GENERATE, JSON),
        gemini(&["agentgateway/vertex-gemini/tool.json"], GENERATE, JSON),
        gemini(&["agentgateway/vertex-gemini/stream_tool.json"], STREAM, EVENTS),
        gemini(&["kong/real-responses/gemini/llm-v1-chat.json"], GENERATE, JSON),
        gemini(&["agentgateway/vertex/embeddings.json"], "predict", JSON),
        // Two halves of one array.
        gemini(
            &["partial-json-beginning/input.bin", "partial-json-end/input.bin"],
            STREAM,
            JSON,
        ),
        // The first half alone: the array has no end.
        Recording {
            reason: Some(estimate_reason::INCOMPLETE),
            ..gemini(&["partial-json-beginning/input.bin"], STREAM, JSON)
        },
        Recording {
            reason: Some(estimate_reason::INCOMPLETE),
            ..gemini(
                &["partial-json-split/input-1.bin", "partial-json-split/input-2.bin"],
                STREAM,
                JSON,
            )
        },
        Recording {
            reason: Some(estimate_reason::INCOMPLETE),
            ..gemini(
                &[
                    "partial-json-split-three-parts/input-1.bin",
                    "partial-json-split-three-parts/input-2.bin",
                    "partial-json-split-three-parts/input-3.bin",
                ],
                STREAM,
                JSON,
            )
        },
        // The second half alone is no JSON.
        Recording {
            reason: Some(estimate_reason::UNREADABLE),
            ..gemini(&["partial-json-end/input.bin"], STREAM, JSON)
        },
        cohere(&["agentgateway/cohere/rerank.json"], "rerank", JSON),
        cohere(&["kong/real-responses/cohere/llm-v1-chat.json"], "chat.v1", JSON),
        cohere(
            &["kong/real-responses/cohere/llm-v1-completions.json"],
            "generate",
            JSON,
        ),
        // Single frames of a stream: what they hold, they say; usage they have none.
        Recording {
            reason: Some(estimate_reason::NO_USAGE),
            ..cohere(&["kong/real-stream-frames/cohere/llm-v1-chat.txt"], "chat.v1", LINES)
        },
        Recording {
            reason: Some(estimate_reason::NO_USAGE),
            ..cohere(
                &["kong/real-stream-frames/cohere/llm-v1-completions.txt"],
                "generate",
                LINES,
            )
        },
        Recording {
            reason: Some(estimate_reason::NO_USAGE),
            ..cohere(&["complete-json/input.bin"], "chat.v1", LINES)
        },
    ]
}

/// Input, output and other units as the answer itself says, read from its raw JSON the slow way; the last report wins.
fn said(text: &str) -> (u64, u64, u64) {
    let mut said = (0, 0, 0);
    for document in documents(text) {
        let number = |pointer: &str| document.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0) as u64;
        if document.get("usageMetadata").is_some() {
            let output = number("/usageMetadata/candidatesTokenCount") + number("/usageMetadata/thoughtsTokenCount");
            said = (number("/usageMetadata/promptTokenCount"), output, 0);
        }
        if let Some(predictions) = document.get("predictions").and_then(Value::as_array) {
            let tokens = |one: &Value| {
                one.pointer("/embeddings/statistics/token_count")
                    .and_then(Value::as_u64)
            };
            said.0 = predictions.iter().filter_map(tokens).sum();
        }
        if document.pointer("/meta/billed_units").is_some() {
            let billed = |name: &str| number(&format!("/meta/billed_units/{name}"));
            said = (billed("input_tokens"), billed("output_tokens"), billed("search_units"));
        }
    }
    said
}

/// Every JSON document in the text: events' data, elements of an array, lines, or the whole.
fn documents(text: &str) -> Vec<Value> {
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok())
        .collect();
    if !events.is_empty() {
        return events;
    }
    let (mut found, mut rest) = (Vec::new(), text.trim_start().trim_start_matches(['[', ',']));
    loop {
        let mut documents = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let Some(Ok(document)) = documents.next() else {
            return found;
        };
        let at = documents.byte_offset();
        found.push(document);
        rest = rest[at..].trim_start().trim_start_matches(',');
    }
}

fn bytes_of(folder: &Path, files: &[&str]) -> Vec<u8> {
    let read = |name: &&str| {
        let plain = folder.join(name);
        let path = if plain.is_file() {
            plain
        } else {
            folder.join(CHUNKS).join(name)
        };
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.iter().flat_map(read).collect()
}

#[test]
fn recorded_answers_of_google_and_cohere_read_exactly_or_are_refused_by_name() {
    let Some(folder) = corpus() else { return };
    let patient = Limits {
        plugin_deadline_ms: 60_000,
        ..Limits::default()
    };
    let plugins = Plugins::load(&config::Plugins::default(), &patient).unwrap();
    for recording in recordings() {
        let name = recording.files.join(" + ");
        let bytes = bytes_of(&folder, recording.files);
        let reader =
            Arc::new(AnswerReader::new(Arc::clone(&plugins.get(recording.dialect).unwrap().dialect), 128).unwrap());
        let facts = || AnswerFacts {
            lines: false,
            operation: Arc::from(recording.operation),
            stream: recording.operation == STREAM || recording.content_type != JSON,
            hide_usage: false,
            status: 200,
            content_type: Some(recording.content_type),
            content_encoding: None,
        };
        let limits = Limits::default();
        let (whole, out) = run(&reader, facts(), &limits, &bytes, &[]);
        assert!(out == bytes, "{name}");
        assert_eq!(whole.reason, recording.reason, "{name}");
        if recording.reason != Some(estimate_reason::UNREADABLE) {
            let said = said(&String::from_utf8(bytes.clone()).unwrap());
            let usage = &whole.usage;
            let read = (usage.input_tokens(), usage.output_tokens(), usage.get(Kind::Request));
            assert_eq!(read, said, "{name}");
            assert!(
                recording.reason == Some(estimate_reason::NO_USAGE) || said != (0, 0, 0),
                "{name}"
            );
        }
        let single: Vec<usize> = (1..bytes.len()).collect();
        for cuts in std::iter::once(single).chain(places(bytes.len()).map(|place| vec![place])) {
            let (cut, out) = run(&reader, facts(), &limits, &bytes, &cuts);
            assert!(out == bytes && cut == whole, "{name} cut at {cuts:?}");
        }
    }
}
