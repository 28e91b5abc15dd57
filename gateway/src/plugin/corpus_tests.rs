//! Recorded traffic of the two dialects, where it is at hand: what is read equals what the provider itself says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentledger_ledger::Kind;
use serde_json::Value;

use super::outline::outline;
use super::tests::built_in;
use super::{AnswerFrame, CountedKind, Plugin};

fn corpus() -> Option<PathBuf> {
    let dir = std::env::var_os("AGENTLEDGER_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"),
        PathBuf::from,
    );
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!(
        "SKIPPED: no recorded traffic at {}; set AGENTLEDGER_CORPUS",
        dir.display()
    );
    None
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found.sort();
    found
}

/// Event names and data of a stream, split plainly; the framer has tests of its own.
fn events(body: &str) -> Vec<(Option<String>, String)> {
    let body = body.replace("\r\n", "\n");
    let field = |block: &str, name: &str| -> Vec<String> {
        let values = block
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values
            .map(|value| value.strip_prefix(' ').unwrap_or(value).to_owned())
            .collect()
    };
    let blocks = body
        .split("\n\n")
        .map(|block| (field(block, "event").pop(), field(block, "data").join("\n")));
    blocks.filter(|(_, data)| data.trim_start().starts_with('{')).collect()
}

fn frames(body: &str) -> (bool, Vec<(Option<String>, String)>) {
    match body.trim_start().starts_with('{') {
        true => (false, vec![(None, body.to_owned())]),
        false => (true, events(body)),
    }
}

type Counts = BTreeMap<&'static str, u64>;

/// Every frame through outline and plugin; later counts replace earlier ones.
fn read(plugin: &Plugin, operation: &str, body: &str) -> Counts {
    let (streamed, frames) = frames(body);
    let mut counts = Counts::new();
    for (event, data) in &frames {
        // A body cut off in the middle is refused, and the rest of a stream is read all the same.
        let Ok(outlined) = outline(data.as_bytes(), &plugin.answer_shape, 128) else {
            continue;
        };
        let frame = AnswerFrame {
            operation,
            event: event.as_deref(),
            streamed,
            status: 200,
            outline: &outlined.doc,
        };
        let Some(reading) = plugin.dialect.read(&frame).unwrap() else {
            continue;
        };
        for (kind, units) in reading.parts.iter().flat_map(|part| &part.usage) {
            let name = match kind {
                CountedKind::Kind(kind) => kind.name(),
                CountedKind::CacheWrite => "cache_write",
            };
            counts.insert(name, *units);
        }
        let marked = plugin
            .dialect
            .info()
            .markers
            .iter()
            .any(|marker| data.contains(marker.as_str()));
        let named = event
            .as_ref()
            .is_some_and(|name| plugin.dialect.info().events.contains(name));
        let spaced = !streamed || data.contains("\"usage\" :") || data.contains('\n');
        if reading.parts.iter().any(|part| !part.usage.is_empty()) {
            assert!(
                marked || named || spaced,
                "a frame with usage that no marker finds: {data}"
            );
        }
    }
    counts
}

/// The usage as the provider states it, found without our readers: the fields of every report, later ones winning.
fn stated(body: &str) -> serde_json::Map<String, Value> {
    let mut all = serde_json::Map::new();
    for (_, data) in frames(body).1 {
        let Ok(value) = serde_json::from_str::<Value>(&data) else {
            continue;
        };
        for pointer in ["/message/usage", "/response/usage", "/usage"] {
            if let Some(Value::Object(usage)) = value.pointer(pointer) {
                all.extend(usage.clone().into_iter().filter(|(_, value)| !value.is_null()));
            }
        }
    }
    all
}

fn sum(counts: &Counts, of: fn(Kind) -> bool) -> u64 {
    Kind::ALL
        .into_iter()
        .filter(|kind| of(*kind))
        .filter_map(|kind| counts.get(kind.name()))
        .sum()
}

fn check_openai(plugin: &Plugin, name: &str, body: &str) -> bool {
    let counts = read(plugin, "chat", body);
    let stated = stated(body);
    let number = |keys: &[&str]| {
        keys.iter()
            .find_map(|key| stated.get(*key))
            .map_or(0, |value| value.as_u64().unwrap_or_else(|| panic!("{name}: {value}")))
    };
    let detail = |keys: &[&str], inner: &str| {
        keys.iter()
            .find_map(|key| stated.get(*key)?.get(inner)?.as_u64())
            .unwrap_or(0)
    };
    let input = number(&["prompt_tokens", "input_tokens"]);
    let output = number(&["completion_tokens", "output_tokens"]).max(number(&["total_tokens"]).saturating_sub(input));
    assert_eq!(sum(&counts, Kind::is_input), input, "{name}: input, {counts:?}");
    assert_eq!(sum(&counts, Kind::is_output), output, "{name}: output, {counts:?}");
    let ins = ["prompt_tokens_details", "input_tokens_details"];
    let outs = ["completion_tokens_details", "output_tokens_details"];
    let count = |kind: Kind| counts.get(kind.name()).copied().unwrap_or(0);
    assert_eq!(count(Kind::CacheRead), detail(&ins, "cached_tokens"), "{name}");
    assert_eq!(count(Kind::CacheWrite5m), detail(&ins, "cache_write_tokens"), "{name}");
    assert_eq!(count(Kind::AudioInput), detail(&ins, "audio_tokens"), "{name}");
    assert_eq!(count(Kind::AudioOutput), detail(&outs, "audio_tokens"), "{name}");
    !stated.is_empty()
}

fn check_anthropic(plugin: &Plugin, name: &str, body: &str) -> bool {
    let counts = read(plugin, "messages", body);
    let stated = stated(body);
    let number = |key: &str| stated.get(key).and_then(Value::as_u64).unwrap_or(0);
    let count = |names: &[&str]| names.iter().filter_map(|name| counts.get(name)).sum::<u64>();
    assert_eq!(count(&["input"]), number("input_tokens"), "{name}: {counts:?}");
    assert_eq!(count(&["output"]), number("output_tokens"), "{name}: {counts:?}");
    assert_eq!(
        count(&["cache_read"]),
        number("cache_read_input_tokens"),
        "{name}: {counts:?}"
    );
    let written = count(&["cache_write", "cache_write_5m", "cache_write_1h"]);
    assert_eq!(written, number("cache_creation_input_tokens"), "{name}: {counts:?}");
    !stated.is_empty()
}

fn each(dirs: &[&str], check: impl Fn(&str, &str) -> bool) -> Option<(usize, usize)> {
    let corpus = corpus()?;
    let (mut read, mut with_usage) = (0, 0);
    for path in dirs.iter().flat_map(|dir| files(&corpus.join(dir))) {
        let name = path.strip_prefix(&corpus).unwrap().display().to_string();
        read += 1;
        with_usage += usize::from(check(&name, &std::fs::read_to_string(&path).unwrap()));
    }
    eprintln!("{read} recordings, {with_usage} with usage");
    Some((read, with_usage))
}

#[test]
fn openai_recordings_read_as_the_provider_counts() {
    let plugins = built_in();
    let plugin = plugins.get("openai").unwrap();
    let dirs = [
        "agentgateway/completions",
        "agentgateway/responses",
        "agentgateway/openai",
        "kong/real-stream-frames/openai",
        "kong/real-responses/openai",
        "kong/real-responses/azure",
        "kong/real-responses/mistral/openai",
    ];
    if let Some((_, with_usage)) = each(&dirs, |name, body| check_openai(plugin, name, body)) {
        assert!(with_usage >= 20, "only {with_usage}");
    }
}

#[test]
fn anthropic_recordings_read_as_the_provider_counts() {
    let plugins = built_in();
    let plugin = plugins.get("anthropic").unwrap();
    let dirs = ["agentgateway/anthropic", "anthropic-sdk"];
    let check = |name: &str, body: &str| name.contains("count_tokens") || check_anthropic(plugin, name, body);
    if let Some((_, with_usage)) = each(&dirs, check) {
        assert!(with_usage >= 15, "only {with_usage}");
    }
}

#[test]
fn cassettes_read_as_the_provider_counts_and_their_requests_are_understood() {
    #[derive(serde::Deserialize)]
    struct Cassette {
        interactions: Vec<Interaction>,
    }
    #[derive(serde::Deserialize)]
    struct Interaction {
        request: Sent,
        response: Answered,
    }
    #[derive(serde::Deserialize)]
    struct Sent {
        url: String,
        #[serde(default)]
        body: String,
    }
    #[derive(serde::Deserialize)]
    struct Answered {
        body: String,
    }
    let plugins = built_in();
    let plugin = plugins.get("openai").unwrap();
    let check = |name: &str, text: &str| {
        let cassette: Cassette = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut any = false;
        for Interaction { request, response } in cassette.interactions {
            let path = request
                .url
                .split_once("/v1/")
                .map(|(_, path)| format!("/v1/{path}"))
                .unwrap_or_default();
            if plugin.routes.find("", "POST", &path).is_none() {
                continue;
            }
            // The recordings leave the bodies of forms out.
            if !request.body.starts_with('{') {
                continue;
            }
            let sent: Value =
                serde_json::from_str(&request.body).unwrap_or_else(|error| panic!("{name} {path}: {error}"));
            match super::tests::inspect(plugin, &path, &request.body) {
                Ok(call) => {
                    assert_eq!(Some(call.model.as_str()), sent["model"].as_str(), "{name}");
                    assert_eq!(call.stream, sent["stream"].as_bool().unwrap_or(false), "{name}");
                }
                // What we refuse, the provider refused too.
                Err(error) => assert!(response.body.contains("\"error\""), "{name}: {error}"),
            }
            any |= check_openai(plugin, name, &response.body);
        }
        any
    };
    if let Some((_, with_usage)) = each(&["envoy-ai-gateway"], check) {
        assert!(with_usage >= 20, "only {with_usage}");
    }
}
