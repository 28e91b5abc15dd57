//! The plugins' own fixtures, `plugins/NAME/fixtures/CASE/`, through outline, framing and plugin as the gateway goes:
//!
//! - `request.json`, or `request.form` whose boundary is `fixture`: the body as a client sends it; none for a GET;
//! - `answer.json`, `answer.sse`, `answer.ndjson`, `answer.jsonl` or `answer.bin`: the answer's bytes as the upstream sends them;
//!   `answer.events`: the messages of an AWS event stream, one JSON a line: `event`, `exception` or `error` is its name, `data`
//!   its payload, that of a `chunk` to be wrapped; `answer.messages`: what the server says over a WebSocket, one message a line;
//! - `expected.json`: `path` behind the prefix, `source` of the facts, the `call` as read, and of the answer `model`, `usage`
//!   by kind without zeros, `reasoning`, `service_tier`, `failed`, and the `reason` where the usage is no exact one. Where the
//!   dialect looks at them: `vendor` is whose API the host has, `unread_fee` says that a fee is not counted; `headers` of the request, `answer_headers`, and `final`: the last event was seen. Of ids `response_id`,
//!   and `request_id` by the headers, each where there is one.
//!   Where the answer comes encoded, its `encoding`. Where it is billed once, `bill_id`, and `pending` until it is done; of results, `lines` by `bill_id`, and how many are
//!   `broken`.
//!
//! Answers are read whole, byte by byte, and cut in two at every place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use agentledger_ledger::Usage;

use super::frames::aws_tests::{aws_event, message};
use super::tests::places;
use super::*;
use crate::limits::Limits;
use crate::plugin::outline::form::form;
use crate::plugin::outline::outline;
use crate::plugin::{Billing, CountedKind, Plugin, Plugins, ReadingPart, Request, Sender, SocketMessage, Step};
use crate::{base64, config};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[serde(default = "post")]
    method: String,
    path: String,
    /// Whose API the host has, where routes and requests depend on it.
    #[serde(default)]
    vendor: String,
    /// The model that stands in the client's path and not in the dialect's, as Azure's deployments do.
    deployment: Option<String>,
    /// Where the facts are from: each fixture says it.
    source: String,
    /// None where only a result is fetched.
    call: Option<ExpectedCall>,
    model: Option<String>,
    #[serde(default)]
    usage: Counts,
    bill_id: Option<String>,
    #[serde(default)]
    pending: bool,
    lines: Option<BTreeMap<String, ExpectedLine>>,
    #[serde(default)]
    broken: u64,
    reasoning: Option<u64>,
    service_tier: Option<String>,
    #[serde(default)]
    failed: bool,
    /// A fee beside what is counted cannot be read.
    #[serde(default)]
    unread_fee: bool,
    reason: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    answer_headers: BTreeMap<String, String>,
    /// The answer is sent in it.
    encoding: Option<String>,
    response_id: Option<String>,
    request_id: Option<String>,
    #[serde(default, rename = "final")]
    is_final: Option<bool>,
}

/// One line of `answer.events`.
#[derive(Deserialize)]
struct Message {
    event: Option<String>,
    exception: Option<String>,
    error: Option<String>,
    data: serde_json::Value,
}

type Counts = BTreeMap<String, u64>;

fn post() -> String {
    "POST".to_owned()
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedLine {
    model: Option<String>,
    usage: Counts,
    service_tier: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedCall {
    model: String,
    stream: bool,
    max_output: Option<u64>,
    choices: u32,
    service_tier: Option<String>,
    variant: Option<String>,
    /// Units that the request itself tells.
    #[serde(default)]
    units: Counts,
    /// Other models that may serve or be billed.
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    any_model: bool,
    /// What hosted tools may bill: units by kind, by model; the call's own is "".
    #[serde(default)]
    beside: BTreeMap<String, Counts>,
    #[serde(default)]
    background: bool,
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

fn bytes_of(sent: &Message) -> Vec<u8> {
    let data = sent.data.to_string();
    match (&sent.event, &sent.exception, &sent.error) {
        (Some(name), _, _) if name == "chunk" => aws_event(
            name,
            &format!("{{\"bytes\":\"{}\",\"p\":\"abc\"}}", base64::encode(data.as_bytes())),
        ),
        (Some(name), _, _) => aws_event(name, &data),
        (_, Some(name), _) => {
            let headers = [(":exception-type", name.as_str()), (":message-type", "exception")];
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

fn answer(case: &Path) -> (&'static str, Vec<u8>) {
    if let Ok(lines) = std::fs::read_to_string(case.join("answer.events")) {
        let bytes = lines
            .lines()
            .flat_map(|line| bytes_of(&serde_json::from_str(line).unwrap()));
        return ("application/vnd.amazon.eventstream", bytes.collect());
    }
    let kinds = [
        ("answer.json", "application/json; charset=UTF-8"),
        ("answer.sse", "text/event-stream"),
        ("answer.ndjson", "application/stream+json"),
        ("answer.jsonl", "application/octet-stream"),
        ("answer.bin", "audio/mpeg"),
    ];
    let mut found = kinds
        .into_iter()
        .filter_map(|(name, kind)| Some((kind, std::fs::read(case.join(name)).ok()?)));
    let answer = found.next().unwrap_or_else(|| panic!("{}: no answer", case.display()));
    assert!(found.next().is_none(), "{}: two answers", case.display());
    answer
}

/// What the request asks for, as the gateway learns it.
fn asked(
    plugin: &Plugin,
    case: &Path,
    expected: &Expected,
    operation: &str,
    path_model: Option<String>,
) -> ExpectedCall {
    let path = &expected.path;
    let (outlined, characters, body) = match std::fs::read(case.join("request.form")) {
        Ok(body) => {
            let form = form(&body, "fixture", plugin.dialect.info()).unwrap_or_else(|error| panic!("{error}"));
            (form.outline, form.characters, body)
        }
        Err(_) => {
            let body = std::fs::read(case.join("request.json")).unwrap_or_else(|error| panic!("{path}: {error}"));
            let outlined = outline(&body, &plugin.request_shape, 128).unwrap();
            let characters = plugin.characters_in(&body, &outlined);
            (outlined, characters, body)
        }
    };
    let request = Request {
        method: expected.method.clone(),
        vendor: expected.vendor.clone(),
        path: path.clone(),
        operation: operation.to_owned(),
        path_model: expected.deployment.clone().or(path_model),
        headers: expected.headers.clone().into_iter().collect(),
        outline: outlined.doc,
        markers: plugin.markers_in(&body),
        characters,
    };
    let call = plugin.dialect.inspect(&request).unwrap();
    ExpectedCall {
        model: call.model,
        stream: call.stream,
        max_output: call.max_output,
        choices: call.choices,
        service_tier: call.service_tier,
        variant: call.variant,
        units: call
            .units
            .iter()
            .map(|(kind, units)| (kind.name().to_owned(), *units))
            .collect(),
        models: call.models,
        any_model: call.any_model,
        beside: call.beside.iter().map(beside).collect(),
        background: call.background,
    }
}

fn beside(part: &ReadingPart) -> (String, Counts) {
    let named = |kind: &CountedKind| match kind {
        CountedKind::Kind(kind) => kind.name().to_owned(),
        CountedKind::CacheWrite => "cache_write".to_owned(),
    };
    let counts = part.usage.iter().map(|(kind, units)| (named(kind), *units));
    (part.model.clone().unwrap_or_default(), counts.collect())
}

fn counts(usage: &Usage) -> Counts {
    usage
        .iter()
        .map(|(kind, units)| (kind.name().to_owned(), units))
        .collect()
}

/// One run of a meter that is shown headers of the answer: what it said, and the bytes it let through.
fn run_with<'h>(
    reader: &Arc<AnswerReader>,
    facts: AnswerFacts<'_>,
    header: &impl Fn(&str) -> Option<&'h str>,
    bytes: &[u8],
    cuts: &[usize],
) -> (Metered, Vec<u8>) {
    let mut meter = Meter::new(Arc::clone(reader), facts, &Limits::default()).with_headers(header);
    let (mut passed, mut from) = (0, 0);
    for to in cuts.iter().copied().chain([bytes.len()]) {
        meter.push(&bytes[from..to], &mut |piece| passed += piece.raw_len);
        from = to;
    }
    let metered = meter.finish(&mut |piece| passed += piece.raw_len);
    (metered, bytes[..passed].to_vec())
}

/// A fixture, ready to be read.
struct Case<'p> {
    plugin: &'p Plugin,
    name: String,
    expected: Expected,
    operation: String,
    call: Option<ExpectedCall>,
    lines: bool,
}

impl Case<'_> {
    fn of<'p>(plugin: &'p Plugin, path: &Path) -> Case<'p> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path.join("expected.json")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected: Expected = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!expected.source.is_empty(), "{name}");
        let matched = plugin
            .routes
            .find(&expected.vendor, &expected.method, &expected.path)
            .unwrap_or_else(|| panic!("{name}: no route"));
        let (operation, lines) = (matched.operation.to_owned(), matched.billing == Billing::FetchedLines);
        let asked = |_: &ExpectedCall| asked(plugin, path, &expected, &operation, matched.path_model.clone());
        let call = expected.call.as_ref().map(asked);
        Case {
            plugin,
            name,
            expected,
            operation,
            call,
            lines,
        }
    }

    fn facts<'f>(&'f self, content_type: &'f str) -> AnswerFacts<'f> {
        AnswerFacts {
            operation: Arc::from(self.operation.as_str()),
            stream: self.call.as_ref().is_some_and(|call| call.stream),
            lines: self.lines,
            hide_usage: false,
            status: 200,
            content_type: Some(content_type),
            content_encoding: self.expected.encoding.as_deref(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.expected.answer_headers.get(name).map(String::as_str)
    }

    fn reader(&self) -> AnswerReader {
        AnswerReader::new(Arc::clone(&self.plugin.dialect), 128).unwrap()
    }
}

/// One reading of each fixture of a dialect, every frame of it where `all`.
pub(super) fn read_once(dialect: &str, plugin: &Plugin, all: bool) -> Vec<Metered> {
    let read = |path: &PathBuf| {
        let case = Case::of(plugin, path);
        let reader = Arc::new(if all {
            case.reader().reading_all()
        } else {
            case.reader()
        });
        if let Ok(messages) = std::fs::read_to_string(path.join("answer.messages")) {
            return said(plugin, &reader, &case.operation, &messages);
        }
        let (content_type, bytes) = answer(path);
        let facts = AnswerFacts {
            content_encoding: None,
            ..case.facts(content_type)
        };
        run_with(&reader, facts, &|name| case.header(name), &bytes, &[]).0
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    folders(&root.join(dialect).join("fixtures")).iter().map(read).collect()
}

fn check(plugin: &Plugin, path: &Path) {
    let case = Case::of(plugin, path);
    let (name, expected) = (&case.name, &case.expected);
    assert_eq!(case.call, expected.call, "{name}");

    let reader = Arc::new(case.reader());
    if let Ok(messages) = std::fs::read_to_string(path.join("answer.messages")) {
        return compare(name, &said(plugin, &reader, &case.operation, &messages), expected);
    }
    let (content_type, plain) = answer(path);
    let bytes = match expected.encoding.as_deref() {
        Some("zstd") => zstd::encode_all(plain.as_slice(), 3).unwrap(),
        Some(other) => panic!("{name}: {other} is not written here"),
        None => plain,
    };
    let facts = || case.facts(content_type);
    let all = Arc::new(case.reader().reading_all());
    if let Some(lines) = &expected.lines {
        return check_lines(name, &reader, facts(), &bytes, lines, expected.broken);
    }
    let header = |name: &str| case.header(name);
    let (whole, out) = run_with(&reader, facts(), &header, &bytes, &[]);
    assert!(out == bytes, "{name}: it passes as it came");
    compare(name, &whole, expected);

    let (full, _) = run_with(&all, facts(), &header, &bytes, &[]);
    assert_eq!(
        (&full.parts, &full.model),
        (&whole.parts, &whole.model),
        "{name}: marked is full"
    );
    let by_itself = Arc::new(case.reader().each_whole());
    let (each, _) = run_with(&by_itself, facts(), &header, &bytes, &[]);
    assert_eq!(each, whole, "{name}: an event read by the last one");
    let single: Vec<usize> = (1..bytes.len()).collect();
    for cuts in std::iter::once(single).chain(places(bytes.len()).map(|place| vec![place])) {
        let (cut, out) = run_with(&reader, facts(), &header, &bytes, &cuts);
        assert!(out == bytes, "{name} cut at {cuts:?}");
        assert_eq!(cut, whole, "{name} cut at {cuts:?}");
    }
}

/// What a meter reads of the messages that belong to one answer.
fn said(plugin: &Plugin, reader: &Arc<AnswerReader>, operation: &str, messages: &str) -> Metered {
    let mut meter = Meter::of_messages(Arc::clone(reader), Arc::from(operation), &Limits::default());
    for message in messages.lines() {
        let outline = reader.outline(message.as_bytes()).unwrap();
        let told = SocketMessage {
            operation,
            sender: Sender::Server,
            outline: &outline.doc,
        };
        let Some(meaning) = plugin.dialect.meaning_of(&told).unwrap() else {
            continue;
        };
        let (kind, read) = match meaning.step {
            Step::Begin | Step::End | Step::Refuse => (SoundOrText::Text, true),
            Step::Part => (SoundOrText::Text, false),
            Step::Sound => (SoundOrText::Sound, false),
            other => panic!("{other:?} is no part of an answer: {message}"),
        };
        meter.message(message.as_bytes(), outline, kind, read);
    }
    meter.finish(&mut |_| {})
}

fn compare(name: &str, whole: &Metered, expected: &Expected) {
    assert_eq!(counts(&whole.usage), expected.usage, "{name}");
    assert_eq!(whole.model, expected.model, "{name}");
    assert_eq!(whole.reasoning, expected.reasoning.unwrap_or_default(), "{name}");
    assert_eq!(whole.service_tier, expected.service_tier, "{name}");
    assert_eq!(whole.failed, expected.failed, "{name}");
    assert_eq!(whole.unread_fee, expected.unread_fee, "{name}");
    assert_eq!(whole.reason.map(str::to_owned), expected.reason, "{name}");
    assert_eq!(
        (&whole.bill_id, whole.pending),
        (&expected.bill_id, expected.pending),
        "{name}"
    );
    assert_eq!(whole.plugin_errors, 0, "{name}");
    if let Some(is_final) = expected.is_final {
        assert_eq!(whole.final_seen, is_final, "{name}");
    }
    assert_eq!(
        (&whole.response_id, &whole.request_id),
        (&expected.response_id, &expected.request_id),
        "{name}"
    );
}

/// Results: each line is an answer, at whatever bytes the chunks end.
fn check_lines(
    name: &str,
    reader: &Arc<AnswerReader>,
    facts: AnswerFacts<'_>,
    bytes: &[u8],
    expected: &BTreeMap<String, ExpectedLine>,
    broken: u64,
) {
    for cut in [1, 7, bytes.len()] {
        let mut meter = Meter::new(Arc::clone(reader), facts.clone(), &Limits::default());
        bytes.chunks(cut).for_each(|chunk| meter.push(chunk, &mut |_| {}));
        let mut lines = meter.take_lines();
        let metered = meter.finish(&mut |_| {});
        lines.extend(meter.take_lines());
        let read: BTreeMap<String, ExpectedLine> = lines
            .into_iter()
            .map(|line| {
                let usage = line.parts.first().map(|part| counts(&part.usage)).unwrap_or_default();
                let read = ExpectedLine {
                    model: line.model,
                    usage,
                    service_tier: line.service_tier,
                };
                (line.bill_id, read)
            })
            .collect();
        assert_eq!(&read, expected, "{name}");
        assert_eq!(metered.lines_broken, broken, "{name}");
    }
}

/// A busy machine is no slow plugin.
pub(super) fn patient_plugins() -> Plugins {
    let patient = Limits {
        plugin_deadline_ms: 60_000,
        ..Limits::default()
    };
    Plugins::load(&config::Plugins::default(), &patient).unwrap()
}

/// Each frame that a reading plan answers is read by the plugin, too, and both agree: see `reader.rs`.
#[test]
fn every_fixture_reads_as_it_says() {
    let plugins = patient_plugins();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let mut counts = BTreeMap::new();
    for (dialect, plugin) in plugins.iter() {
        let cases = folders(&root.join(dialect).join("fixtures"));
        cases.iter().for_each(|case| check(plugin, case));
        counts.insert(dialect, cases.len());
    }
    println!("fixtures read: {counts:?}");
    for (dialect, least) in [
        ("openai", 76),
        ("anthropic", 30),
        ("gemini", 49),
        ("cohere", 16),
        ("bedrock", 38),
    ] {
        assert!(counts.get(dialect).is_none_or(|count| *count >= least), "{counts:?}");
    }
}
