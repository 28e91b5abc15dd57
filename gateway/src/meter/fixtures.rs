//! Bedrock's fixtures, made by hand from the published documentation, through the plugin as it is embedded and the meter
//! as it runs: each case a folder with the request, the answer or the events of a stream, and what they must be read as.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use agentledger_ledger::Kind;
use serde::Deserialize;
use serde_json::Value;

use super::frames::aws_tests::{aws_event, message};
use super::tests::places;
use super::*;
use crate::config;
use crate::config::limits::Limits;
use crate::plugin::outline::outline;
use crate::plugin::{Plugin, Plugins, Request};

#[derive(Deserialize)]
struct Asked {
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Value,
}

/// One line of a stream: an event, an exception of its model, or an error outside of it.
#[derive(Deserialize)]
struct Sent {
    event: Option<String>,
    exception: Option<String>,
    error: Option<String>,
    data: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Where the form of it is published.
    source: String,
    operation: String,
    model: String,
    #[serde(default)]
    stream: bool,
    max_output: Option<u64>,
    #[serde(default = "one")]
    choices: u32,
    service_tier: Option<String>,
    answered_tier: Option<String>,
    #[serde(default)]
    answer_headers: BTreeMap<String, String>,
    response_id: Option<String>,
    usage: BTreeMap<String, u64>,
    #[serde(default)]
    reasoning: u64,
    #[serde(default, rename = "final")]
    is_final: bool,
    #[serde(default)]
    failed: bool,
    reason: Option<String>,
}

fn one() -> u32 {
    1
}

struct Case {
    name: String,
    asked: Asked,
    expected: Expected,
    /// Content type and bytes.
    answer: (&'static str, Vec<u8>),
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/bedrock/fixtures");
    let mut cases: Vec<Case> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| case(&entry.unwrap().path()))
        .collect();
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    cases
}

fn case(folder: &Path) -> Case {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    let text = |file: &str| read(file).unwrap_or_else(|| panic!("{name} has no {file}"));
    let expected: Expected =
        serde_json::from_str(&text("expected.json")).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(!expected.source.is_empty(), "{name}");
    let answer = match read("answer.json") {
        Some(body) => ("application/json", body.into_bytes()),
        None => {
            let lines = text("events.jsonl");
            let bytes = lines
                .lines()
                .flat_map(|line| bytes_of(&serde_json::from_str(line).unwrap()));
            ("application/vnd.amazon.eventstream", bytes.collect())
        }
    };
    Case {
        asked: serde_json::from_str(&text("request.json")).unwrap(),
        expected,
        answer,
        name,
    }
}

fn bytes_of(sent: &Sent) -> Vec<u8> {
    let data = sent.data.to_string();
    match (&sent.event, &sent.exception, &sent.error) {
        (Some(name), _, _) if name == "chunk" => aws_event(
            name,
            &format!("{{\"bytes\":\"{}\",\"p\":\"abc\"}}", base64(data.as_bytes())),
        ),
        (Some(name), _, _) => aws_event(name, &data),
        (_, Some(name), _) => {
            let headers = [
                (":exception-type", name.as_str()),
                (":content-type", "application/json"),
                (":message-type", "exception"),
            ];
            message(&headers, data.as_bytes())
        }
        (_, _, Some(code)) => {
            let headers = [
                (":error-code", code.as_str()),
                (":error-message", "it broke"),
                (":message-type", "error"),
            ];
            message(&headers, b"")
        }
        _ => panic!("a line is neither event nor exception nor error"),
    }
}

pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = (0..3).fold(0_u32, |bits, at| {
            (bits << 8) | u32::from(three.get(at).copied().unwrap_or(0))
        });
        (0..4)
            .map(|at| {
                if at > three.len() {
                    '='
                } else {
                    LETTERS[(bits >> (18 - 6 * at)) as usize & 63] as char
                }
            })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// The whole answer, cut at these places.
fn metered(reader: &Arc<Reader>, case: &Case, cuts: &[usize]) -> (Metered, Vec<u8>) {
    let (content_type, bytes) = &case.answer;
    let facts = AnswerFacts {
        operation: Arc::from(case.expected.operation.as_str()),
        stream: case.expected.stream,
        hide_usage: false,
        status: 200,
        content_type: Some(content_type),
        content_encoding: None,
    };
    let headers = &case.expected.answer_headers;
    let mut meter = Meter::new(Arc::clone(reader), facts, &Limits::default())
        .with_headers(|name| headers.get(name).map(String::as_str));
    let (mut passed, mut from) = (0, 0);
    for to in cuts.iter().copied().chain([bytes.len()]) {
        meter.push(&bytes[from..to], &mut |piece| passed += piece.raw_len);
        from = to;
    }
    let metered = meter.finish(&mut |piece| passed += piece.raw_len);
    (metered, bytes[..passed].to_vec())
}

fn inspected(plugin: &Plugin, case: &Case) {
    let (expected, name) = (&case.expected, &case.name);
    let matched = plugin
        .routes
        .find("POST", &case.asked.path)
        .unwrap_or_else(|| panic!("{name}: no route"));
    assert_eq!(matched.operation, expected.operation, "{name}");
    let body = case.asked.body.to_string();
    let found = outline(body.as_bytes(), &plugin.request_shape, 128).unwrap();
    let call = plugin.dialect.inspect(&Request {
        method: "POST".to_owned(),
        path: case.asked.path.clone(),
        operation: expected.operation.clone(),
        path_model: matched.path_model,
        headers: case.asked.headers.clone().into_iter().collect(),
        outline: found.doc,
    });
    let call = call.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(
        (
            call.model.as_str(),
            call.stream,
            call.max_output,
            call.choices,
            call.service_tier.as_deref()
        ),
        (
            expected.model.as_str(),
            expected.stream,
            expected.max_output,
            expected.choices,
            expected.service_tier.as_deref()
        ),
        "{name}"
    );
}

fn says(case: &Case, metered: &Metered) {
    let (expected, name) = (&case.expected, &case.name);
    let usage: BTreeMap<String, u64> = Kind::ALL
        .into_iter()
        .map(|kind| (kind.name().to_owned(), metered.usage.get(kind)))
        .filter(|(_, units)| *units > 0)
        .collect();
    assert_eq!(usage, expected.usage, "{name}");
    assert_eq!(
        (metered.reasoning, metered.reason, metered.final_seen, metered.failed),
        (
            expected.reasoning,
            expected.reason.as_deref(),
            expected.is_final,
            expected.failed
        ),
        "{name}"
    );
    assert_eq!(
        (
            metered.response_id.as_deref(),
            metered.service_tier.as_deref(),
            metered.plugin_errors
        ),
        (expected.response_id.as_deref(), expected.answered_tier.as_deref(), 0),
        "{name}"
    );
}

#[test]
fn bedrocks_fixtures_are_read_as_published_at_every_split() {
    let patient = Limits {
        plugin_deadline_ms: 60_000,
        ..Limits::default()
    };
    let plugins = Plugins::load(&config::Plugins::default(), &patient).unwrap();
    let plugin = plugins.get("bedrock").unwrap();
    let reader = Arc::new(Reader::new(Arc::clone(&plugin.dialect), 128).unwrap());
    let full = Arc::new(Reader::new(Arc::clone(&plugin.dialect), 128).unwrap().reading_all());
    let cases = cases();
    assert!(cases.len() >= 30, "{} cases", cases.len());
    for case in &cases {
        inspected(plugin, case);
        let (whole, passed) = metered(&reader, case, &[]);
        assert!(passed == case.answer.1, "{}: every byte passes", case.name);
        says(case, &whole);
        let (all, _) = metered(&full, case, &[]);
        assert_eq!(
            (&all.parts, all.final_seen),
            (&whole.parts, whole.final_seen),
            "{}: marked is full",
            case.name
        );
        let bytes = case.answer.1.len();
        let single: Vec<usize> = (1..bytes).collect();
        assert_eq!(metered(&reader, case, &single).0, whole, "{} byte by byte", case.name);
        for place in places(bytes) {
            assert_eq!(
                metered(&reader, case, &[place]).0,
                whole,
                "{} cut at {place}",
                case.name
            );
        }
    }
}
