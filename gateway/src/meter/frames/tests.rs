#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

/// A frame with its bytes; parts of one that is too long are taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: FrameKind,
    pub(super) event: Option<String>,
    pub(super) data: Vec<u8>,
    pub(super) raw_len: usize,
}

fn keep(seen: &mut Vec<Seen>, frame: Frame<'_>) {
    if let Some(last) = seen.last_mut()
        && (last.kind == FrameKind::Part || (frame.kind, last.kind) == (FrameKind::Unread, FrameKind::Unread))
    {
        // What its parts said of a frame at fault is not to be believed.
        let is_whole = frame.kind != FrameKind::Unread;
        last.data.extend_from_slice(frame.data);
        last.data.truncate(if is_whole { usize::MAX } else { 0 });
        last.kind = frame.kind;
        last.event = frame.event.map(str::to_owned);
        last.raw_len += frame.raw_len;
        return;
    }
    seen.push(Seen {
        kind: frame.kind,
        event: frame.event.map(str::to_owned),
        data: frame.data.to_vec(),
        raw_len: frame.raw_len,
    });
}

/// Pushes `bytes` cut at `cuts`, checking after each push that every byte is accounted for.
pub(super) fn frames_cut(framing: Framing, max: usize, bytes: &[u8], cuts: &[usize]) -> Vec<Seen> {
    let mut framer = Framer::new(framing, max);
    let (mut seen, mut pushed, mut from) = (Vec::new(), 0, 0);
    for to in cuts.iter().copied().chain([bytes.len()]) {
        framer.push(&bytes[from..to], &mut |frame| keep(&mut seen, frame));
        pushed += to - from;
        from = to;
        let framed: usize = seen.iter().map(|frame| frame.raw_len).sum();
        assert_eq!(framed + framer.pending(), pushed);
        assert!(framer.pending() <= max, "{} bytes held back", framer.pending());
    }
    framer.finish(&mut |frame| keep(&mut seen, frame));
    for frame in seen.iter_mut().filter(|frame| frame.kind == FrameKind::LastPart) {
        // Blanks around the data of parts are handed on.
        frame.data = frame.data.trim_ascii().to_vec();
    }
    assert_eq!(framer.pending(), 0);
    assert_eq!(seen.iter().map(|frame| frame.raw_len).sum::<usize>(), bytes.len());
    seen
}

pub(super) fn whole(framing: Framing, bytes: &[u8]) -> Vec<Seen> {
    frames_cut(framing, 1 << 20, bytes, &[])
}

pub(super) fn data(framing: Framing, bytes: &[u8]) -> Vec<(Option<String>, String)> {
    whole(framing, bytes)
        .into_iter()
        .filter(|frame| frame.kind == FrameKind::Data)
        .map(|frame| (frame.event, String::from_utf8(frame.data).unwrap()))
        .collect()
}

fn sse(bytes: &[u8]) -> Vec<(Option<String>, String)> {
    data(Framing::Sse, bytes)
}

pub(super) fn event(name: &str, data: &str) -> (Option<String>, String) {
    ((!name.is_empty()).then(|| name.to_owned()), data.to_owned())
}

/// Every single cut, every byte alone, and every pair of cuts where that is affordable.
pub(super) fn every_split(framing: Framing, max: usize, bytes: &[u8]) {
    let expected = frames_cut(framing, max, bytes, &[]);
    let all: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(frames_cut(framing, max, bytes, &all), expected, "byte by byte");
    for first in 0..=bytes.len() {
        assert_eq!(frames_cut(framing, max, bytes, &[first]), expected, "cut at {first}");
        if bytes.len() <= 80 {
            for second in first..=bytes.len() {
                assert_eq!(
                    frames_cut(framing, max, bytes, &[first, second]),
                    expected,
                    "cut at {first}, {second}"
                );
            }
        }
    }
}

/// What the events of a stream are, read the slow and obvious way.
fn sse_model(bytes: &[u8]) -> Vec<(Option<String>, String)> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = String::from_utf8(bytes.to_vec())
        .unwrap()
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let (mut events, mut name, mut lines) = (Vec::new(), None, Vec::new());
    for line in text.split('\n').chain([""]) {
        if line.is_empty() {
            if !lines.is_empty() {
                events.push((name.take(), lines.join("\n")));
            }
            (name, lines) = (None, Vec::new());
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "data" => lines.push(value),
            "event" => name = Some(value),
            _ => {}
        }
    }
    events
}

#[test]
fn events_are_read_with_every_line_end() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = ["event: one", "data: {\"a\":1}", "", "data: two", ""].join(end) + end;
        assert_eq!(
            sse(stream.as_bytes()),
            [event("one", "{\"a\":1}"), event("", "two")],
            "{end:?}"
        );
        every_split(Framing::Sse, 1 << 20, stream.as_bytes());
    }
}

#[test]
fn fields_are_read_as_the_standard_says() {
    let stream = b"\xef\xbb\xbfdata:no space\n\ndata:  two spaces\n\ndata\n\n: comment\nid: 7\nretry: 10\n\ndatas: no\nevents: no\ndata: a\ndata: b\ndata\ndata: d\nevent: x\nevent: y\n\n";
    let expected = [
        event("", "no space"),
        event("", " two spaces"),
        event("", ""),
        event("y", "a\nb\n\nd"),
    ];
    assert_eq!(sse(stream), expected);
    every_split(Framing::Sse, 1 << 20, stream);
}

#[test]
fn comments_and_blank_lines_are_frames_without_data() {
    let seen = whole(Framing::Sse, b": keep-alive\n\n\ndata: x\n\n\n");
    let kinds: Vec<_> = seen.iter().map(|frame| (frame.kind, frame.raw_len)).collect();
    assert_eq!(
        kinds,
        [
            (FrameKind::Filler, 14),
            (FrameKind::Filler, 1),
            (FrameKind::Data, 9),
            (FrameKind::Filler, 1)
        ]
    );
}

#[test]
fn the_last_event_needs_no_blank_line() {
    for tail in ["", "\n", "\r", "\r\n", "\n\n"] {
        let stream = format!("data: a\n\nevent: e\ndata: last{tail}");
        assert_eq!(sse(stream.as_bytes()), [event("", "a"), event("e", "last")], "{tail:?}");
        every_split(Framing::Sse, 1 << 20, stream.as_bytes());
    }
}

#[test]
fn an_event_is_handed_out_with_its_last_byte() {
    for (stream, end) in [("data: x\n\n", 9), ("data: x\r\n\r\n", 11), ("data: x\r\r", 9)] {
        let mut framer = Framer::new(Framing::Sse, 1 << 20);
        let mut at = None;
        for (index, byte) in stream.bytes().enumerate() {
            framer.push(&[byte], &mut |_| at = Some(index + 1));
        }
        assert_eq!(at, Some(end), "{stream:?}");
        assert_eq!(framer.pending(), 0);
    }
}

#[test]
fn an_event_name_that_is_not_text_is_no_name() {
    let seen = whole(Framing::Sse, b"event: \xff\xfe\ndata: x\n\n");
    assert_eq!(
        (seen[0].event.as_deref(), seen[0].data.as_slice()),
        (None, b"x".as_slice())
    );
}

#[test]
fn a_frame_in_one_chunk_is_not_copied() {
    let stream = b"data: first\n\ndata: second\n\n";
    let range = stream.as_ptr_range();
    let mut framer = Framer::new(Framing::Sse, 1 << 20);
    framer.push(stream, &mut |frame| assert!(range.contains(&frame.data.as_ptr())));
    assert_eq!(framer.buffer.capacity(), 0);
}

#[test]
fn a_frame_that_is_too_long_passes_unread_and_the_next_is_read() {
    for end in ["\n", "\r\n", "\r"] {
        let long = "x".repeat(100);
        let stream = ["data: a", "", &format!("data: {long}"), "data: more", "", "data: b", ""].join(end) + end;
        let seen = frames_cut(Framing::Sse, 40, stream.as_bytes(), &[]);
        let read: Vec<_> = seen
            .iter()
            .filter(|frame| frame.kind == FrameKind::Data)
            .map(|frame| &frame.data)
            .collect();
        assert_eq!(read, [b"a", b"b"], "{end:?}");
        // The LF of a CRLF that ended a skipped frame is a blank line of its own, or not, as the chunks fall.
        for cut in 0..stream.len() {
            let other = frames_cut(Framing::Sse, 40, stream.as_bytes(), &[cut]);
            let read: Vec<_> = other
                .iter()
                .filter(|frame| frame.kind == FrameKind::Data)
                .map(|frame| &frame.data)
                .collect();
            assert_eq!(read, [b"a", b"b"], "{end:?} cut at {cut}");
        }
        let bytes: Vec<usize> = (1..stream.len()).collect();
        let mut framer = Framer::new(Framing::Sse, 40);
        for at in bytes {
            framer.push(&stream.as_bytes()[at - 1..at], &mut |_| {});
        }
        assert_eq!(framer.oversized(), 1);
    }
}

#[test]
fn an_endless_frame_takes_no_memory() {
    let mut framer = Framer::new(Framing::Sse, 1 << 10);
    let mut passed = 0;
    for _ in 0..1_000 {
        framer.push(&[b'x'; 1 << 10], &mut |frame| passed += frame.raw_len);
        assert!(framer.buffer.capacity() <= 4 << 10);
    }
    assert_eq!(passed + framer.pending(), 1_000 << 10);
    assert_eq!(framer.oversized(), 1);
}

#[test]
fn lines_of_json() {
    let stream = b"{\"a\":1}\n\n  {\"b\":2}  \r\n{\"c\":3}";
    assert_eq!(
        data(Framing::Ndjson, stream),
        [event("", "{\"a\":1}"), event("", "{\"b\":2}"), event("", "{\"c\":3}")]
    );
    every_split(Framing::Ndjson, 1 << 20, stream);
    every_split(Framing::Ndjson, 8, stream);
}

#[test]
fn elements_of_a_json_array() {
    let stream = b"[{\n \"a\": [1, {\"]\": \"}\\\"]\"}]\n}\n,\r\n{\"b\":2}, 17 ,\"s,\\\\\",[[]] ]\n";
    assert_eq!(
        data(Framing::JsonArray, stream),
        [
            event("", "{\n \"a\": [1, {\"]\": \"}\\\"]\"}]\n}"),
            event("", "{\"b\":2}"),
            event("", "17"),
            event("", "\"s,\\\\\""),
            event("", "[[]]"),
        ]
    );
    every_split(Framing::JsonArray, 1 << 20, stream);
    // An error comes as an object without an array; an array may be cut in half.
    assert_eq!(
        data(Framing::JsonArray, b"{\"error\":{}}\n"),
        [event("", "{\"error\":{}}")]
    );
    assert_eq!(
        data(Framing::JsonArray, b"[{\"a\":1},{\"b\":"),
        [event("", "{\"a\":1}"), event("", "{\"b\":")]
    );
    let long = format!("[{{\"a\":\"{}\"}},{{\"b\":2}}]", "]}".repeat(50));
    for cut in 0..long.len() {
        let seen = frames_cut(Framing::JsonArray, 30, long.as_bytes(), &[cut]);
        let read: Vec<_> = seen
            .iter()
            .filter(|frame| frame.kind == FrameKind::Data)
            .map(|frame| &frame.data)
            .collect();
        assert_eq!(read, [b"{\"b\":2}"], "cut at {cut}");
    }
}

fn sse_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just("\n".to_owned()),
        4 => Just("\r\n".to_owned()),
        3 => Just("\r".to_owned()),
        3 => Just("data: ".to_owned()),
        2 => Just("data".to_owned()),
        1 => Just("event: ".to_owned()),
        1 => Just(": ".to_owned()),
        1 => Just("\u{feff}".to_owned()),
        3 => "[ -~]{0,12}",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

fn cuts(len: usize, places: &[prop::sample::Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = places.iter().map(|place| place.index(len + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_stream_gives_the_same_frames_however_it_is_cut(
        bytes in sse_bytes(), places in proptest::collection::vec(any::<prop::sample::Index>(), 0..12)
    ) {
        let expected = frames_cut(Framing::Sse, 1 << 20, &bytes, &[]);
        prop_assert_eq!(&frames_cut(Framing::Sse, 1 << 20, &bytes, &cuts(bytes.len(), &places)), &expected);
        let all: Vec<usize> = (1..bytes.len()).collect();
        prop_assert_eq!(&frames_cut(Framing::Sse, 1 << 20, &bytes, &all), &expected);
        // And they are the events of the standard.
        prop_assert_eq!(sse(&bytes), sse_model(&bytes));
    }

    #[test]
    fn limits_keep_every_byte(
        bytes in sse_bytes(), places in proptest::collection::vec(any::<prop::sample::Index>(), 0..12), max in 1_usize..40
    ) {
        for framing in [Framing::Sse, Framing::JsonArray, Framing::Ndjson] {
            // `frames_cut` itself asserts that every byte is accounted for.
            frames_cut(framing, max, &bytes, &cuts(bytes.len(), &places));
        }
    }

    #[test]
    fn json_gives_the_same_frames_however_it_is_cut(
        text in "[\\[\\]{},\":1a \\\\\n]{0,60}", places in proptest::collection::vec(any::<prop::sample::Index>(), 0..12)
    ) {
        for framing in [Framing::JsonArray, Framing::Ndjson] {
            let expected = frames_cut(framing, 1 << 20, text.as_bytes(), &[]);
            prop_assert_eq!(frames_cut(framing, 1 << 20, text.as_bytes(), &cuts(text.len(), &places)), expected);
        }
    }
}
