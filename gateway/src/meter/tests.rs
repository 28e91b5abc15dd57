#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentledger_ledger::Kind;
use serde_json::Value;

use super::estimate::load_for;
use super::*;
use crate::estimate_reason;
use crate::limits::Limits;
use crate::plugin::{
    AnswerFrame, Call, CountedKind, Dialect, DialectError, DialectRefusal, Ending, Info, Reading, ReadingPart, Request,
    Want,
};

/// Reads usage as chat completions, messages and responses write it. Says where it is asked to fail.
struct Fake {
    info: Info,
    reads: AtomicUsize,
}

impl Fake {
    fn new() -> Fake {
        let want = |path: &str| Want {
            path: path.to_owned(),
            max_bytes: 4096,
            max_items: 64,
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let info = Info {
            name: "fake".to_owned(),
            version: "1".to_owned(),
            answer_paths: [
                "usage",
                "model",
                "id",
                "type",
                "error",
                "trap",
                "choices.*.index",
                "message.usage",
                "message.model",
            ]
            .into_iter()
            .chain(["response.usage", "response.model"])
            .map(want)
            .collect(),
            text_paths: names(&[
                "choices.*.delta.content",
                "choices.*.message.content",
                "delta.text",
                "content.*.text",
            ]),
            markers: names(&["\"usage\":{", "\"usage\": {"]),
            events: names(&["message_stop", "response.completed"]),
            response_id_paths: names(&["response.id", "message.id", "id"]),
            request_id_headers: names(&["own-request-id", "x-request-id"]),
            ..Info::default()
        };
        Fake {
            info,
            reads: AtomicUsize::new(0),
        }
    }
}

impl Dialect for Fake {
    fn info(&self) -> &Info {
        &self.info
    }

    fn inspect(&self, _: &Request) -> Result<Call, DialectError> {
        unreachable!()
    }

    fn read(&self, frame: &AnswerFrame<'_>) -> Result<Option<Reading>, DialectError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let body: Value = serde_json::from_str(frame.outline).unwrap();
        if body.get("trap").is_some() {
            return Err(DialectError::Failed {
                plugin: "fake".to_owned(),
                reason: "trap".to_owned(),
            });
        }
        let place = ["message", "response"]
            .into_iter()
            .find_map(|name| body.get(name))
            .unwrap_or(&body);
        let usage = place
            .get("usage")
            .or_else(|| body.get("usage"))
            .filter(|usage| usage.is_object());
        let counts = [
            ("prompt_tokens", CountedKind::Kind(Kind::Input)),
            ("input_tokens", CountedKind::Kind(Kind::Input)),
            ("completion_tokens", CountedKind::Kind(Kind::Output)),
            ("output_tokens", CountedKind::Kind(Kind::Output)),
            ("cache_read_input_tokens", CountedKind::Kind(Kind::CacheRead)),
            ("cache_creation_input_tokens", CountedKind::CacheWrite),
        ];
        let counts = counts
            .into_iter()
            .filter_map(|(name, kind)| Some((kind, usage?.get(name)?.as_u64()?)))
            .collect();
        let name = |name: &str| place.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Some(Reading {
            model: name("model"),
            parts: usage
                .map(|_| ReadingPart {
                    usage: counts,
                    ..ReadingPart::default()
                })
                .into_iter()
                .collect(),
            usage_only: usage.is_some() && body.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty),
            is_final: matches!(frame.event, Some("message_stop" | "response.completed")),
            failed: body.get("error").is_some(),
            ..Reading::default()
        }))
    }

    fn terminal(&self, _: &str, _: Ending, _: &str, _: Option<&str>) -> Result<Vec<u8>, DialectError> {
        Ok(Vec::new())
    }

    fn error_body(&self, _: &str, _: &DialectRefusal) -> Result<Vec<u8>, DialectError> {
        Ok(Vec::new())
    }
}

pub fn facts<'a>(content_type: &'a str) -> AnswerFacts<'a> {
    AnswerFacts {
        lines: false,
        operation: Arc::from("chat"),
        stream: true,
        hide_usage: false,
        status: 200,
        content_type: Some(content_type),
        content_encoding: None,
    }
}

pub fn sse_facts() -> AnswerFacts<'static> {
    facts("text/event-stream; charset=utf-8")
}

/// One run of a meter: what it said, and the bytes it let through.
pub fn run(
    reader: &Arc<AnswerReader>,
    facts: AnswerFacts<'_>,
    limits: &Limits,
    bytes: &[u8],
    cuts: &[usize],
) -> (Metered, Vec<u8>) {
    let mut meter = Meter::new(Arc::clone(reader), facts, limits);
    let (mut out, mut at, mut from) = (Vec::new(), 0, 0);
    let take = |passed: Passed, out: &mut Vec<u8>, at: &mut usize| {
        if !passed.hide {
            out.extend_from_slice(&bytes[*at..*at + passed.raw_len]);
        }
        *at += passed.raw_len;
    };
    for to in cuts.iter().copied().chain([bytes.len()]) {
        meter.push(&bytes[from..to], &mut |passed| take(passed, &mut out, &mut at));
        from = to;
        assert_eq!(at + meter.pending(), to, "every byte is accounted for");
    }
    let metered = meter.finish(&mut |passed| take(passed, &mut out, &mut at));
    assert_eq!(at, bytes.len());
    (metered, out)
}

pub fn fake_reader() -> Arc<AnswerReader> {
    Arc::new(AnswerReader::new(Arc::new(Fake::new()), 128).unwrap())
}

pub fn metered(facts: AnswerFacts<'_>, bytes: &[u8]) -> Metered {
    run(&fake_reader(), facts, &Limits::default(), bytes, &[]).0
}

pub fn units(metered: &Metered) -> (u64, u64) {
    (metered.usage.get(Kind::Input), metered.usage.get(Kind::Output))
}

pub const DELTA: &str = "data: {\"id\":\"c1\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\\nlo\"}}],\"usage\":null}\n\n";
pub const USAGE: &str = "data: {\"id\":\"c1\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}\n\n";
pub const DONE: &str = "data: [DONE]\n\n";

#[test]
fn a_usage_only_frame_is_read_and_hidden_at_every_split() {
    let stream = format!("{DELTA}{USAGE}{DONE}");
    let reader = fake_reader();
    for cut in 0..=stream.len() {
        for hide_usage in [true, false] {
            let facts = AnswerFacts {
                hide_usage,
                ..sse_facts()
            };
            let (metered, out) = run(&reader, facts, &Limits::default(), stream.as_bytes(), &[cut]);
            let expected = if hide_usage {
                format!("{DELTA}{DONE}")
            } else {
                stream.clone()
            };
            assert_eq!(String::from_utf8(out).unwrap(), expected, "cut at {cut}");
            assert_eq!((units(&metered), metered.reason), ((7, 9), None));
            assert_eq!(
                (metered.model.as_deref(), metered.response_id.as_deref()),
                (Some("gpt-4o"), Some("c1"))
            );
            assert_eq!(
                (metered.text.sample(), metered.text.bytes(), metered.frames),
                ("Hel\nlo", 7, 3)
            );
        }
    }
}

#[test]
fn frames_without_marks_do_not_reach_the_plugin() {
    let fake = Arc::new(Fake::new());
    let reader = Arc::new(AnswerReader::new(Arc::clone(&fake) as Arc<dyn Dialect>, 128).unwrap());
    let stream = format!("{}{USAGE}{DONE}", DELTA.repeat(100));
    run(&reader, sse_facts(), &Limits::default(), stream.as_bytes(), &[]);
    assert_eq!(fake.reads.swap(0, Ordering::Relaxed), 2, "the first and the marked one");
    run(
        &reader,
        sse_facts(),
        &Limits::default(),
        DELTA.repeat(100).as_bytes(),
        &[],
    );
    assert_eq!(
        fake.reads.load(Ordering::Relaxed),
        5,
        "the first, and the last four again"
    );
}

#[test]
fn usage_without_a_marker_is_found_among_the_last_frames() {
    let odd = USAGE.replace("\"usage\":{", "\"usage\" : {");
    assert_eq!(
        units(&metered(
            sse_facts(),
            format!("{}{odd}{DELTA}{DONE}", DELTA.repeat(9)).as_bytes()
        )),
        (7, 9)
    );
}

#[test]
fn a_last_event_without_its_blank_line_is_exact() {
    let stream = "event: message_start\ndata: {\"message\":{\"model\":\"claude\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\nevent: delta\ndata: {\"delta\":{\"text\":\"hi\"}}\n\nevent: message_delta\ndata: {\"usage\":{\"output_tokens\":12}}";
    let metered = metered(sse_facts(), stream.as_bytes());
    assert_eq!((units(&metered), metered.reason), ((5, 12), None));
    assert_eq!(
        metered
            .settle(End::Completed, "claude", || panic!("exact"), &Estimator::new(1))
            .estimate_reason,
        None
    );
}

#[test]
fn a_stream_that_ends_after_text_is_not_exact() {
    let stream = "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\nevent: delta\ndata: {\"delta\":{\"text\":\"a text of some length, forty bytes or so\"}}\n\n";
    let metered = metered(sse_facts(), stream.as_bytes());
    assert_eq!(metered.reason, Some(estimate_reason::INCOMPLETE));
    let settled = metered.settle(
        End::ClientGone,
        "claude",
        || panic!("the input is known"),
        &Estimator::new(1),
    );
    assert_eq!(settled.estimate_reason, Some(estimate_reason::CLIENT_GONE));
    assert_eq!(settled.usage.get(Kind::Input), 5);
    assert_eq!(settled.usage.get(Kind::Output), 12, "from the text");
}

#[test]
fn an_answer_is_exact_once_it_is_final_however_it_ended() {
    let stream = "event: message_delta\ndata: {\"usage\":{\"input_tokens\":5,\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let metered = metered(sse_facts(), stream.as_bytes());
    for end in [End::Completed, End::ClientGone, End::Cut, End::UpstreamFailed] {
        let settled = metered.settle(end, "m", || panic!("exact"), &Estimator::new(1));
        assert_eq!((settled.estimate_reason, settled.usage.get(Kind::Output)), (None, 3));
    }
}

#[test]
fn a_stream_without_usage_is_estimated_in_both_directions() {
    assert!(load_for("gpt-4o"));
    let metered = metered(sse_facts(), format!("{}{DONE}", DELTA.repeat(10)).as_bytes());
    assert_eq!(
        (metered.reason, metered.usage.is_zero()),
        (Some(estimate_reason::NO_USAGE), true)
    );
    let settled = metered.settle(End::Completed, "gpt-4o", || 21, &Estimator::new(1 << 10));
    assert_eq!(settled.estimate_reason, Some(estimate_reason::NO_USAGE));
    assert_eq!(settled.usage.get(Kind::Input), 21);
    assert!((20..=40).contains(&settled.usage.get(Kind::Output)), "{settled:?}");
}

#[test]
fn whole_answers_are_read_at_their_end() {
    let body = b" {\"model\":\"gpt-4o\",\"choices\":[{\"message\":{\"content\":\"hi\"}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n";
    let reader = fake_reader();
    for cut in 0..body.len() {
        let facts = AnswerFacts {
            stream: false,
            ..facts("application/json")
        };
        let (metered, out) = run(&reader, facts, &Limits::default(), body, &[cut]);
        assert_eq!(
            (units(&metered), metered.reason, out.as_slice()),
            ((3, 2), None, body.as_slice())
        );
        assert_eq!(metered.text.sample(), "hi");
    }
    let small = Limits {
        answer_bytes_max: 20,
        frame_bytes_max: 20,
        ..Limits::default()
    };
    for cut in 0..body.len() {
        let (metered, out) = run(&reader, facts("application/json"), &small, body, &[cut]);
        assert_eq!(
            (units(&metered), metered.reason, out.as_slice()),
            ((3, 2), None, body.as_slice()),
            "a body longer than what is held is read as it passes"
        );
    }
}

#[test]
fn what_cannot_be_read_passes_and_says_so() {
    for (content_type, body) in [
        ("application/json", "<html>busy</html>"),
        ("application/json", "{\"usage\":{\"prompt_tokens\":1}"),
        ("application/json", "{\"model\":\"a\",\"model\":\"b\"}"),
        ("application/json", ""),
        ("text/event-stream", "<html>busy</html>"),
        ("text/event-stream", "data: {\"broken\n\n"),
        ("audio/mpeg", "ID3 and sound"),
    ] {
        let metered = metered(facts(content_type), body.as_bytes());
        assert_eq!(
            metered.reason,
            Some(estimate_reason::UNREADABLE),
            "{content_type} {body}"
        );
    }
    let deep = format!("{}{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    for (content_type, body) in [("application/json", deep.as_str()), ("audio/mpeg", "{}")] {
        let metered = metered(facts(content_type), body.as_bytes());
        assert_eq!(metered.reason, Some(estimate_reason::NO_USAGE), "{content_type}");
    }
}

#[test]
fn a_stream_under_another_name_is_still_a_stream() {
    for content_type in ["", "text/plain", "application/json"] {
        assert_eq!(
            units(&metered(facts(content_type), format!("{DELTA}{USAGE}").as_bytes())),
            (7, 9),
            "{content_type}"
        );
    }
    let array = "[{\"usage\":{\"prompt_tokens\":1}},\n{\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}]";
    assert_eq!(units(&metered(facts("application/json"), array.as_bytes())), (2, 3));
}

#[test]
fn errors_cost_nothing() {
    let facts = AnswerFacts {
        status: 529,
        ..facts("application/json")
    };
    let metered = metered(facts, b"{\"error\":{},\"usage\":{\"prompt_tokens\":3}}");
    for end in [End::Completed, End::ClientGone] {
        let settled = metered.settle(end, "gpt-4o", || panic!("not asked for"), &Estimator::new(1));
        assert_eq!((settled.usage.is_zero(), settled.estimate_reason), (true, None));
    }
    let failed = super::tests::metered(sse_facts(), b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n");
    assert!(failed.failed);
    assert!(
        failed
            .settle(End::Completed, "gpt-4o", || panic!("not asked for"), &Estimator::new(1))
            .usage
            .is_zero()
    );
}

#[test]
fn a_failing_plugin_costs_one_reading() {
    let trap = "data: {\"trap\":1,\"usage\":{\"prompt_tokens\":1}}\n\n";
    let after = metered(sse_facts(), format!("{DELTA}{trap}{USAGE}").as_bytes());
    assert_eq!(
        (units(&after), after.plugin_errors, after.reason),
        ((7, 9), 1, None),
        "a later reading has it all"
    );
    let last = metered(sse_facts(), format!("{DELTA}{USAGE}{trap}").as_bytes());
    assert_eq!(
        (units(&last), last.reason),
        ((7, 9), Some(estimate_reason::PLUGIN_FAILED))
    );
    let absurd = USAGE.replace(":9}", ":99999999999}");
    assert_eq!(
        metered(sse_facts(), absurd.as_bytes()).reason,
        Some(estimate_reason::CONTRADICTORY_USAGE)
    );
}

#[test]
fn encoded_answers_are_read_from_a_copy() {
    use std::io::Write;
    let stream = format!("{DELTA}{USAGE}{DONE}");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(stream.as_bytes()).unwrap();
    let encoded = encoder.finish().unwrap();
    let reader = fake_reader();
    for step in [1, 10, encoded.len()] {
        let cuts: Vec<usize> = (1..encoded.len()).filter(|at| at % step == 0).collect();
        let facts = AnswerFacts {
            content_encoding: Some("gzip"),
            hide_usage: true,
            ..sse_facts()
        };
        let (metered, out) = run(&reader, facts, &Limits::default(), &encoded, &cuts);
        assert_eq!((units(&metered), metered.reason), ((7, 9), None));
        assert!(out == encoded, "bytes out are bytes in");
    }
    for (encoding, bytes) in [("gzip", b"no gzip at all".as_slice()), ("compress", &encoded)] {
        let facts = AnswerFacts {
            content_encoding: Some(encoding),
            ..sse_facts()
        };
        let (metered, out) = run(&reader, facts, &Limits::default(), bytes, &[]);
        assert_eq!(
            (metered.reason, out.as_slice()),
            (Some(estimate_reason::ENCODED), bytes)
        );
    }
}

#[test]
fn a_frame_beyond_the_limit_passes_and_the_others_are_read() {
    let limits = Limits {
        frame_bytes_max: 400,
        ..Limits::default()
    };
    let long = DELTA.replace("Hel", &"x".repeat(1_000));
    let stream = format!("{long}{USAGE}");
    let (metered, out) = run(&fake_reader(), sse_facts(), &limits, stream.as_bytes(), &[100, 600]);
    assert_eq!(
        (units(&metered), metered.frames_oversized, out.len()),
        ((7, 9), 1, stream.len())
    );
}

#[test]
fn long_texts_wait_in_bounded_memory() {
    let stream = DELTA.repeat(10_000);
    let metered = metered(sse_facts(), stream.as_bytes());
    assert_eq!(metered.text.bytes(), 70_000);
    assert_eq!(metered.text.sample().len(), text::SAMPLE_BYTES_MAX);
    let half = metered.text.sampled_bytes() as f64 / metered.text.sample().len() as f64;
    assert!(
        (half - 7.0 / 6.0).abs() < 0.01,
        "the sample stands for its bytes as JSON wrote them: {half}"
    );
}

/// The folder of recorded traffic, if it is there.
pub fn corpus() -> Option<PathBuf> {
    let folder = std::env::var_os("AGENTLEDGER_CORPUS")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"));
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED: no recorded traffic at {} (AGENTLEDGER_CORPUS)",
        folder.display()
    );
    None
}

/// Every event stream of the corpus.
pub fn streams(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let bytes = std::fs::read(&entry).unwrap();
            if bytes.starts_with(b"event:") || bytes.starts_with(b"data:") {
                found.push((entry, bytes));
            }
        }
    }
    found.sort();
    found
}

/// Cuts to try: each place alone, or 1,000 spread over a long stream.
pub fn places(len: usize) -> impl Iterator<Item = usize> {
    let step = len.div_ceil(1_000).max(1);
    (0..len).step_by(step)
}

#[test]
fn recorded_streams_are_read_the_same_at_every_split() {
    let Some(folder) = corpus() else { return };
    let streams = streams(&folder);
    assert!(streams.len() >= 20, "{} streams found", streams.len());
    let (marked, full) = (
        fake_reader(),
        Arc::new(AnswerReader::new(Arc::new(Fake::new()), 128).unwrap().reading_all()),
    );
    for (path, bytes) in streams {
        let (whole, out) = run(&marked, sse_facts(), &Limits::default(), &bytes, &[]);
        assert!(out == bytes, "{}", path.display());
        let (all, _) = run(&full, sse_facts(), &Limits::default(), &bytes, &[]);
        assert_eq!(
            all.parts,
            whole.parts,
            "marked reading is full reading: {}",
            path.display()
        );
        let single: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(
            run(&marked, sse_facts(), &Limits::default(), &bytes, &single).0,
            whole,
            "{}",
            path.display()
        );
        for place in places(bytes.len()) {
            let (cut, out) = run(&marked, sse_facts(), &Limits::default(), &bytes, &[place]);
            assert!(cut == whole && out == bytes, "{} cut at {place}", path.display());
        }
    }
}

#[test]
fn an_answer_in_messages_is_estimated_by_its_text_and_its_sound() {
    let reader = fake_reader();
    let mut meter = Meter::of_messages(Arc::clone(&reader), "o".into(), &Limits::default());
    let mut take = |json: &str, kind, read| {
        let outline = reader.outline(json.as_bytes()).unwrap();
        meter.message(json.as_bytes(), outline, kind, read)
    };
    take(r#"{"type":"begin","model":"m"}"#, SoundOrText::Text, true);
    let said = take(r#"{"delta":{"text":"Hello there."}}"#, SoundOrText::Text, false);
    assert_eq!((said.text_bytes, said.sound_bytes), (12, 0));
    let sound = format!("{{\"delta\":{{\"text\":\"{}\"}}}}", "A".repeat(5_330));
    let heard = take(&sound, SoundOrText::Sound, false);
    assert_eq!((heard.text_bytes, heard.sound_bytes), (12, 5_330));
    let metered = meter.finish(&mut |_| {});
    let cut = metered.settle(End::Cut, "m", || 7, &Estimator::new(1 << 10));
    assert_eq!((cut.usage.get(Kind::Input), cut.usage.get(Kind::AudioOutput)), (7, 10));
    assert!(
        (1..10).contains(&cut.usage.get(Kind::Output)),
        "sound is no text: {cut:?}"
    );
    assert_eq!(cut.estimate_reason, Some(estimate_reason::CUT));
    assert_eq!(metered.model.as_deref(), Some("m"));
}
