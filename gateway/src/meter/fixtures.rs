//! The plugins' own fixtures, `plugins/NAME/fixtures/CASE/`, through outline, framing and plugin as the gateway goes:
//!
//! - `request.json`: the body as a client sends it;
//! - `answer.json`, `answer.sse` or `answer.ndjson`: the answer's bytes as the upstream sends them;
//! - `expected.json`: `path` behind the prefix, `source` of the facts, the `call` as read, and of the answer `model`, `usage`
//!   by kind without zeros, `reasoning`, `service_tier`, `failed`, and the `reason` where the usage is no exact one.
//!
//! Answers are read whole, byte by byte, and cut in two at every place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::tests::{places, run};
use super::*;
use crate::config;
use crate::config::limits::Limits;
use crate::plugin::outline::outline;
use crate::plugin::{Plugin, Plugins, Request};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    path: String,
    /// Where the facts are from: each fixture says it.
    source: String,
    call: ExpectedCall,
    model: Option<String>,
    usage: BTreeMap<String, u64>,
    reasoning: Option<u64>,
    service_tier: Option<String>,
    #[serde(default)]
    failed: bool,
    reason: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedCall {
    model: String,
    stream: bool,
    max_output: Option<u64>,
    choices: u32,
    service_tier: Option<String>,
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

fn answer(case: &Path) -> (&'static str, Vec<u8>) {
    let kinds = [
        ("answer.json", "application/json; charset=UTF-8"),
        ("answer.sse", "text/event-stream"),
        ("answer.ndjson", "application/stream+json"),
    ];
    let mut found = kinds
        .into_iter()
        .filter_map(|(name, kind)| Some((kind, std::fs::read(case.join(name)).ok()?)));
    let answer = found.next().unwrap_or_else(|| panic!("{}: no answer", case.display()));
    assert!(found.next().is_none(), "{}: two answers", case.display());
    answer
}

/// What the request asks for, as the gateway learns it. Returns its operation too.
fn asked(plugin: &Plugin, path: &str, body: &[u8]) -> (ExpectedCall, String) {
    let matched = plugin.routes.find("POST", path).unwrap_or_else(|| panic!("{path}"));
    let request = Request {
        method: "POST".to_owned(),
        path: path.to_owned(),
        operation: matched.operation.to_owned(),
        path_model: matched.path_model,
        headers: vec![],
        outline: outline(body, &plugin.request_shape, 128).unwrap().doc,
    };
    let call = plugin.dialect.inspect(&request).unwrap();
    let asked = ExpectedCall {
        model: call.model,
        stream: call.stream,
        max_output: call.max_output,
        choices: call.choices,
        service_tier: call.service_tier,
    };
    (asked, request.operation)
}

fn check(plugin: &Arc<Plugin>, case: &Path) {
    let name = case.display().to_string();
    let text = std::fs::read_to_string(case.join("expected.json")).unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected: Expected = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(!expected.source.is_empty(), "{name}");
    let body = std::fs::read(case.join("request.json")).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (call, operation) = asked(plugin, &expected.path, &body);
    assert_eq!(call, expected.call, "{name}");

    let (content_type, bytes) = answer(case);
    let facts = || AnswerFacts {
        operation: Arc::from(operation.as_str()),
        stream: call.stream,
        hide_usage: false,
        status: 200,
        content_type: Some(content_type),
        content_encoding: None,
    };
    let reader = Arc::new(Reader::new(Arc::clone(&plugin.dialect), 128).unwrap());
    let all = Arc::new(Reader::new(Arc::clone(&plugin.dialect), 128).unwrap().reading_all());
    let limits = Limits::default();
    let (whole, out) = run(&reader, facts(), &limits, &bytes, &[]);
    assert!(out == bytes, "{name}: it passes as it came");
    let usage: BTreeMap<String, u64> = whole
        .usage
        .iter()
        .map(|(kind, units)| (kind.name().to_owned(), units))
        .collect();
    assert_eq!(usage, expected.usage, "{name}");
    assert_eq!(whole.model, expected.model, "{name}");
    assert_eq!(whole.reasoning, expected.reasoning.unwrap_or_default(), "{name}");
    assert_eq!(whole.service_tier, expected.service_tier, "{name}");
    assert_eq!(whole.failed, expected.failed, "{name}");
    assert_eq!(whole.reason.map(str::to_owned), expected.reason, "{name}");
    assert_eq!(whole.plugin_errors, 0, "{name}");

    let (full, _) = run(&all, facts(), &limits, &bytes, &[]);
    assert_eq!(
        (&full.parts, &full.model),
        (&whole.parts, &whole.model),
        "{name}: marked is full"
    );
    let single: Vec<usize> = (1..bytes.len()).collect();
    for cuts in std::iter::once(single).chain(places(bytes.len()).map(|place| vec![place])) {
        let (cut, out) = run(&reader, facts(), &limits, &bytes, &cuts);
        assert!(out == bytes, "{name} cut at {cuts:?}");
        assert_eq!(cut, whole, "{name} cut at {cuts:?}");
    }
}

#[test]
fn every_fixture_reads_as_it_says() {
    // A busy machine is no slow plugin.
    let patient = Limits {
        plugin_deadline_ms: 60_000,
        ..Limits::default()
    };
    let plugins = Plugins::load(&config::Plugins::default(), &patient).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let mut counts = BTreeMap::new();
    for (dialect, plugin) in plugins.iter() {
        let cases = folders(&root.join(dialect).join("fixtures"));
        cases.iter().for_each(|case| check(plugin, case));
        counts.insert(dialect, cases.len());
    }
    println!("fixtures read: {counts:?}");
    assert!(counts["gemini"] >= 29 && counts["cohere"] >= 14, "{counts:?}");
}
