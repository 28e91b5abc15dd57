//! Answers that are longer, deeper or stranger than most: what they cost is read all the same, or flagged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;

use agentledger_ledger::Kind;

use super::frames::aws_tests::aws_event;
use super::tests::{DELTA, DONE, USAGE, facts, fake_reader, metered, run, sse_facts, units};
use super::*;
use crate::base64;
use crate::estimate_reason as reason;
use crate::limits::Limits;

/// What a test wants of a meter: units, reason, and that its text is no less.
fn read(content_type: &str, stream: bool, body: &[u8]) -> ((u64, u64), Option<&'static str>) {
    let facts = AnswerFacts {
        stream,
        ..facts(content_type)
    };
    let whole = metered(facts.clone(), body);
    // However it is cut, and however little is held.
    let small = Limits {
        frame_bytes_max: 40,
        ..Limits::default()
    };
    for (limits, step) in [
        (&Limits::default(), 1),
        (&Limits::default(), 7),
        (&small, 7),
        (&small, body.len().max(1)),
    ] {
        let cuts: Vec<usize> = (1..body.len()).filter(|at| at % step == 0).collect();
        let (cut, out) = run(&fake_reader(), facts.clone(), limits, body, &cuts);
        assert!(out == body);
        assert_eq!(
            (units(&cut), cut.reason, cut.text.bytes()),
            (units(&whole), whole.reason, whole.text.bytes()),
            "{content_type} in steps of {step}, {} held: {}",
            limits.frame_bytes_max,
            String::from_utf8_lossy(body)
        );
    }
    (units(&whole), whole.reason)
}

/// Pushes in chunks as a relay does; the most that was held back.
fn passed(facts: AnswerFacts<'_>, body: &[u8]) -> (Metered, usize) {
    let mut meter = Meter::new(fake_reader(), facts, &Limits::default());
    let (mut most, mut sum) = (0, 0);
    for chunk in body.chunks(64 << 10) {
        meter.push(chunk, &mut |piece| sum += piece.raw_len);
        most = most.max(meter.pending());
    }
    let metered = meter.finish(&mut |piece| sum += piece.raw_len);
    assert_eq!(sum, body.len());
    (metered, most)
}

/// A document of so many MiB, most of them a picture, with usage behind it.
fn with_picture(mib: usize) -> String {
    let picture = "iVBORw0KGgoAAAAN".repeat(mib << 16);
    format!(
        "{{\"model\":\"m\",\"choices\":[{{\"index\":0,\"image\":\"{picture}\",\"message\":{{\"content\":\"done\"}}}}],\
         \"usage\":{{\"prompt_tokens\":20,\"completion_tokens\":2000}}}}"
    )
}

#[test]
fn sse_frame_beyond_8_mib() {
    let picture = with_picture(12);
    let first = "data: {\"usage\":{\"prompt_tokens\":20}}\n\n";
    for stream in [
        format!("{first}data: {picture}\n\n"),
        format!("data: {picture}\r\n\r\n{DONE}"),
        format!("event: response.completed\ndata: {picture}"),
        format!("{DELTA}data: {picture}\nevent: response.completed\n\n"),
    ] {
        let (metered, held) = passed(sse_facts(), stream.as_bytes());
        assert_eq!((units(&metered), metered.reason), ((20, 2_000), None));
        assert_eq!(
            metered.final_seen,
            stream.contains("response.completed"),
            "its event is known at its end"
        );
        assert!(held <= 128 << 10, "{held} bytes held back");
        assert_eq!(metered.frames_oversized, 1);
    }
    // Cut off within the picture, and a frame whose usage is not reached.
    let cut = format!("{first}data: {}", &picture[..picture.len() / 2]);
    let (metered, _) = passed(sse_facts(), cut.as_bytes());
    assert_eq!((units(&metered), metered.reason), ((20, 0), Some(reason::INCOMPLETE)));
}

#[test]
fn frame_over_8_mib_in_every_framing() {
    let picture = with_picture(9);
    let wrapped = format!(
        "{{\"bytes\":\"{}\",\"p\":\"abcd\"}}",
        base64::encode(picture.as_bytes())
    );
    let small = "{\"model\":\"m\"}";
    for (content_type, body) in [
        (
            "application/json",
            format!("[{small}\n,\n{picture}\n,{small}]").into_bytes(),
        ),
        ("application/x-ndjson", format!("{small}\n{picture}\n").into_bytes()),
        ("application/x-ndjson", format!("{small}\n{picture}").into_bytes()),
        (
            "application/vnd.amazon.eventstream",
            [aws_event("metadata", small), aws_event("metadata", &picture)].concat(),
        ),
        (
            "application/vnd.amazon.eventstream",
            [aws_event("metadata", small), aws_event("chunk", &wrapped)].concat(),
        ),
    ] {
        let (metered, held) = passed(facts(content_type), &body);
        assert_eq!((units(&metered), metered.reason), ((20, 2_000), None), "{content_type}");
        assert!(held <= 128 << 10, "{held} bytes held back");
    }
    // What a message says whose checksum is wrong is not believed.
    let mut damaged = aws_event("metadata", &picture);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let (metered, _) = passed(facts("application/vnd.amazon.eventstream"), &damaged);
    assert_eq!(
        (units(&metered), metered.reason),
        ((0, 0), Some(reason::FRAME_MESSAGE_CRC))
    );
}

#[test]
fn body_over_64_mib() {
    let facts = AnswerFacts {
        stream: false,
        ..facts("application/json")
    };
    let (metered, held) = passed(facts.clone(), with_picture(70).as_bytes());
    assert_eq!((units(&metered), metered.reason, held), ((20, 2_000), None, 0));
    assert_eq!(metered.text.sample(), "done");
    let body = with_picture(9);
    let (cut, _) = passed(facts, &body.as_bytes()[..body.len() - 1]);
    assert_eq!((units(&cut), cut.reason), ((20, 2_000), Some(reason::UNREADABLE)));
}

#[test]
fn deep_answer() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        let deep = format!("{}1{}", open.repeat(1_000), close.repeat(1_000));
        let answer = format!(
            "{{\"model\":\"m\",\"content\":[{{\"input\":{deep}}}],\"usage\":{{\"input_tokens\":9,\"output_tokens\":1000}}}}"
        );
        assert_eq!(read("application/json", false, answer.as_bytes()), ((9, 1_000), None));
        assert_eq!(
            read("text/event-stream", true, format!("data: {answer}\n\n").as_bytes()),
            ((9, 1_000), None)
        );
        assert_eq!(
            read("application/json", true, format!("[{answer}]").as_bytes()),
            ((9, 1_000), None)
        );
        assert_eq!(
            read("application/vnd.amazon.eventstream", true, &aws_event("m", &answer)),
            ((9, 1_000), None)
        );
    }
}

#[test]
fn usage_beside_what_is_no_json_is_exact() {
    let usage = "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}";
    for body in [
        format!("\u{feff}{{{usage}}}"),
        format!(" \r\n\t{{{usage}}}\n\n"),
        format!("{{{usage}}}\0"),
        format!("{{{usage}}} trailing garbage"),
        format!("{{\"a\":\"\u{1}\n\",{usage}}}"),
        format!("{{\"a\":NaN,\"b\":-Infinity,{usage}}}"),
        format!("{{\"a\":1,\"a\":2,{usage}}}"),
        format!("{{{usage},{usage}}}"),
    ] {
        assert_eq!(
            read("application/json", false, body.as_bytes()),
            ((3, 2), None),
            "{body}"
        );
        if !body.contains('\r') && !body.contains("\u{1}\n") {
            let event = format!("data: {body}\n\n{DONE}");
            assert_eq!(
                read("text/event-stream", true, event.as_bytes()),
                ((3, 2), None),
                "{event}"
            );
        }
    }
    let bad = [b"{\"a\":\"\xff\xfe\",", usage.as_bytes(), b"}"].concat();
    assert_eq!(read("application/json", false, &bad), ((3, 2), None));
}

#[test]
fn what_contradicts_or_is_cut_is_flagged() {
    let usage = |output: u32| format!("\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":{output}}}");
    let (two, nine) = (usage(2), usage(9));
    for (body, expected) in [
        (format!("{{{two},{nine}}}"), Some(reason::CONTRADICTORY_USAGE)),
        (format!("{{{two}}}{{{nine}}}"), Some(reason::CONTRADICTORY_USAGE)),
        (format!("{{{two}}}{{{two}}}"), None),
        ("{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"completion_tokens\":9}}".to_owned(), Some(reason::CONTRADICTORY_USAGE)),
        (format!("{{{two},\"choices\":[{{\"message\":{{\"content\":\"some te"), Some(reason::UNREADABLE)),
        (format!("{{{two}"), Some(reason::UNREADABLE)),
        ("{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":NaN}}".to_owned(), Some(reason::UNREADABLE)),
        (format!("{{{}}}", usage(2_000_000_000)), Some(reason::CONTRADICTORY_USAGE)),
        (
            "{\"usage\":{\"prompt_tokens\":5},\"choices\":[{\"message\":{\"content\":\"text\"}}]}".to_owned(),
            Some(reason::NO_USAGE),
        ),
        (
            "{\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":0},\"choices\":[{\"message\":{\"content\":\"text\"}}]}".to_owned(),
            None,
        ),
        ("{\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0},\"choices\":[{\"message\":{\"content\":\"text\"}}]}".to_owned(), Some(reason::NO_USAGE)),
    ] {
        assert_eq!(read("application/json", false, body.as_bytes()).1, expected, "{body}");
    }
    let event = format!("data: {{{two}}}{{{nine}}}\n\n{DONE}");
    assert_eq!(
        read("text/event-stream", true, event.as_bytes()).1,
        Some(reason::CONTRADICTORY_USAGE)
    );
    // An event that cannot be read stands behind the last usage, and the stream's end behind that.
    let start = "data: {\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n";
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let broken = "event: message_delta\ndata: {\"usage\":{\"output_tokens\":120\n\n";
    assert_eq!(
        read("text/event-stream", true, format!("{start}{broken}{stop}").as_bytes()),
        ((5, 1), Some(reason::INCOMPLETE))
    );
    let whole = "event: message_delta\ndata: {\"usage\":{\"output_tokens\":120}}\n\n";
    assert_eq!(
        read(
            "text/event-stream",
            true,
            format!("{start}{broken}{whole}{stop}").as_bytes()
        ),
        ((5, 120), None),
        "a later usage counts all"
    );
}

#[test]
fn an_error_in_mid_stream_counts_what_was_made_before_it() {
    let start = "data: {\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n";
    let text = "data: {\"delta\":{\"text\":\"a text of some length, forty bytes or so\"}}\n\n";
    // The fake dialect takes this event for the last one.
    let error = "event: response.completed\ndata: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    let metered = metered(sse_facts(), format!("{start}{text}{error}").as_bytes());
    assert!(metered.failed && metered.final_seen);
    assert_eq!(metered.reason, Some(reason::INCOMPLETE));
    let settled = metered.settle(
        End::Completed,
        "claude",
        || panic!("the input is known"),
        &Estimator::new(1),
    );
    assert_eq!(settled.estimate_reason, Some(reason::INCOMPLETE));
    assert_eq!(
        (settled.usage.get(Kind::Input), settled.usage.get(Kind::Output)),
        (5, 12)
    );
    let covered = format!("{start}{text}data: {{\"usage\":{{\"output_tokens\":9}}}}\n\n{error}");
    assert_eq!(
        read("text/event-stream", true, covered.as_bytes()),
        ((5, 9), None),
        "what was reported covers it"
    );
}

#[test]
fn usage_at_the_start_covers_nothing_that_follows() {
    let start = "data: {\"usage\":{\"prompt_tokens\":20}}\n\n";
    let unseen = format!("data: {{\"image\":\"{}\"}}\n\n", "A".repeat(4_000));
    let usage = "data: {\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":7}}\n\n";
    for (stream, expected) in [
        (start.to_owned(), Some(reason::INCOMPLETE)),
        (format!("{start}{unseen}"), Some(reason::INCOMPLETE)),
        (format!("{usage}{usage}{unseen}"), Some(reason::INCOMPLETE)),
        (format!("{start}{unseen}{usage}"), None),
        (usage.to_owned(), None),
        (format!("{usage}{usage}{DONE}"), None),
    ] {
        assert_eq!(
            read("text/event-stream", true, stream.as_bytes()).1,
            expected,
            "{stream}"
        );
    }
}

#[test]
fn content_types_that_lie() {
    let answer = "{\"model\":\"m\",\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}";
    let events = format!("{DELTA}{USAGE}{DONE}");
    let array = format!("[{{\"model\":\"m\"}},\n{answer}]");
    let lines = format!("{{\"model\":\"m\"}}\n{answer}\n");
    let types = [
        "",
        "text/plain",
        "text/html",
        "application/json",
        "application/octet-stream",
        "text/event-stream",
        "application/x-ndjson",
        "application/vnd.amazon.eventstream",
        "application/x-protobuf",
    ];
    for content_type in types {
        for stream in [true, false] {
            for body in [
                &events,
                &array,
                &lines,
                &answer.to_owned(),
                &format!("\u{feff}\n {answer}"),
                &format!("\n\n{events}"),
            ] {
                assert_eq!(
                    read(content_type, stream, body.as_bytes()),
                    ((7, 9), None),
                    "{content_type:?} {stream} {body}"
                );
            }
        }
    }
    for content_type in ["audio/mpeg", "image/png", "video/mp4"] {
        assert_eq!(read(content_type, false, answer.as_bytes()), ((7, 9), None));
        assert_eq!(read(content_type, false, b"data of sound").1, Some(reason::UNREADABLE));
    }
    assert_eq!(read("text/plain", false, b"data").1, Some(reason::UNREADABLE));
    assert_eq!(
        read("text/plain", false, b"database of a text").1,
        Some(reason::UNREADABLE)
    );
    for stream in [true, false] {
        let facts = AnswerFacts {
            stream,
            ..facts("application/json")
        };
        let mut meter = Meter::new(fake_reader(), facts, &Limits::default());
        let mut ends = 0;
        meter.push(array.as_bytes(), &mut |piece| ends += usize::from(piece.frame_end));
        assert_eq!(
            (meter.is_framed(), ends > 0),
            (stream, stream),
            "only a stream is worth cutting"
        );
    }
    let open = &array[..array.len() - 1];
    assert_eq!(
        read("application/json", false, open.as_bytes()).1,
        Some(reason::INCOMPLETE),
        "an array that is cut"
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn encoded_answers_are_read_or_flagged() {
    let answer = b"{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9},\"choices\":[]}".as_slice();
    let whole = gzip(answer);
    let long = gzip(with_picture(9).as_bytes());
    let bomb = gzip(&vec![b' '; 4 << 20]);
    let small = Limits {
        answer_bytes_max: 1 << 20,
        ..Limits::default()
    };
    for (coding, body, limits, expected) in [
        ("gzip", whole.clone(), &Limits::default(), ((7, 9), None)),
        ("GZIP , identity", whole.clone(), &Limits::default(), ((7, 9), None)),
        ("gzip, gzip", gzip(&whole), &Limits::default(), ((7, 9), None)),
        ("gzip", long, &Limits::default(), ((20, 2_000), None)),
        ("gzip", answer.to_vec(), &Limits::default(), ((7, 9), None)),
        (
            "gzip",
            whole[..whole.len() - 12].to_vec(),
            &Limits::default(),
            ((0, 0), Some(reason::ENCODED)),
        ),
        ("gzip", bomb, &small, ((0, 0), Some(reason::ENCODED))),
        (
            "compress",
            whole.clone(),
            &Limits::default(),
            ((0, 0), Some(reason::ENCODED)),
        ),
        (
            "gzip, rot13",
            whole.clone(),
            &Limits::default(),
            ((0, 0), Some(reason::ENCODED)),
        ),
        ("br", whole, &Limits::default(), ((0, 0), Some(reason::ENCODED))),
    ] {
        let facts = AnswerFacts {
            stream: false,
            content_encoding: Some(coding),
            ..facts("application/json")
        };
        let (metered, out) = run(&fake_reader(), facts, limits, &body, &[body.len() / 2]);
        assert!(out == body);
        let (found, why) = ((units(&metered)), metered.reason);
        if expected.1.is_some() {
            assert!(why.is_some(), "{coding} of {} bytes", body.len());
        } else {
            assert_eq!((found, why), expected, "{coding} of {} bytes", body.len());
        }
    }
}

#[test]
fn hostile_answers_are_bounded_and_flagged() {
    let million = "{\"index\":1},".repeat(1_000_000);
    let keys: String = (0..300_000).map(|at| format!("\"k{at}\":{at},")).collect();
    let usage = "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}";
    for body in [
        format!("{{\"choices\":[{million}{{}}],{usage}}}"),
        format!("{{\"x\":[{million}{{}}],{usage}}}"),
        format!("{{{keys}{usage}}}"),
        format!("{{\"x\":{{{keys}\"y\":1}},{usage}}}"),
    ] {
        let (metered, _) = passed(facts("application/json"), body.as_bytes());
        assert_eq!((units(&metered), metered.reason), ((3, 2), None));
    }
    let (metered, _) = passed(
        facts("application/json"),
        format!("{{\"usage\":{{{keys}\"prompt_tokens\":3}}}}").as_bytes(),
    );
    assert_eq!(metered.reason, Some(reason::NO_USAGE), "too long to be a usage");
    for units in [
        "9223372036854775808",
        "-1",
        "\"NaN\"",
        "0.5",
        "[1]",
        "18446744073709551616",
    ] {
        let body = format!("{{\"usage\":{{\"prompt_tokens\":{units},\"completion_tokens\":{units}}}}}");
        let (found, why) = read("application/json", false, body.as_bytes());
        assert!(why.is_some() && found == (0, 0), "{units}: {found:?} {why:?}");
    }
}
