#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::tests::{Seen, data, event, every_split, frames_cut, whole};
use super::*;

const AWS: Framing = Framing::AwsEventStream;

/// One message, its checksums right, its headers all of text.
pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap());
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    message_of(&head, payload)
}

fn message_of(head: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = u32::try_from(16 + head.len() + payload.len()).unwrap();
    let mut out = [total.to_be_bytes(), u32::try_from(head.len()).unwrap().to_be_bytes()].concat();
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(head);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

/// An event as Bedrock sends it.
pub fn aws_event(name: &str, payload: &str) -> Vec<u8> {
    let headers = [
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    message(&headers, payload.as_bytes())
}

fn fault_of(bytes: &[u8]) -> (Option<FrameFault>, bool) {
    let mut framer = Framer::new(AWS, 1 << 20);
    framer.push(bytes, &mut |_| {});
    framer.finish(&mut |_| {});
    (framer.fault(), framer.is_broken())
}

fn kinds(seen: &[Seen]) -> Vec<FrameKind> {
    seen.iter().map(|frame| frame.kind).collect()
}

#[test]
fn events_bear_their_names_and_payloads_at_every_split() {
    let stream = [
        aws_event("messageStart", "{\"role\":\"assistant\"}"),
        message(
            &[(":event-type", "contentBlockDelta")],
            b"{\"delta\":{\"text\":\"hi\"}}",
        ),
        message(&[], b"{}"),
        message(&[(":event-type", "ping")], b""),
    ]
    .concat();
    assert_eq!(
        data(AWS, &stream),
        [
            event("messageStart", "{\"role\":\"assistant\"}"),
            event("contentBlockDelta", "{\"delta\":{\"text\":\"hi\"}}"),
            event("", "{}"),
        ]
    );
    assert_eq!(
        whole(AWS, &stream).last().unwrap().kind,
        FrameKind::Filler,
        "no payload"
    );
    assert_eq!(fault_of(&stream), (None, false));
    every_split(AWS, 1 << 20, &stream);
}

#[test]
fn exceptions_and_errors_are_events_of_their_name() {
    let exception = message(
        &[
            (":exception-type", "throttlingException"),
            (":message-type", "exception"),
        ],
        b"{\"message\":\"slow\"}",
    );
    let error = message(
        &[
            (":error-code", "InternalError"),
            (":error-message", "oh"),
            (":message-type", "error"),
        ],
        b"",
    );
    assert_eq!(
        data(AWS, &[exception, error].concat()),
        [
            event("throttlingException", "{\"message\":\"slow\"}"),
            event("error", "{}")
        ]
    );
}

#[test]
fn a_chunk_is_taken_out_of_its_wrapping() {
    let wrapped = "{\"bytes\":\"eyJhIjoxfQ==\",\"p\":\"abc\"}";
    let stream = [
        aws_event("chunk", wrapped),
        aws_event("other", wrapped),
        aws_event("chunk", "{\"bytes\":\"not base64!\"}"),
        aws_event("chunk", "{}"),
        aws_event("chunk", wrapped),
    ]
    .concat();
    assert_eq!(
        data(AWS, &stream),
        [
            event("chunk", "{\"a\":1}"),
            event("other", wrapped),
            event("chunk", "{\"bytes\":\"not base64!\"}"),
            event("chunk", "{}"),
            event("chunk", "{\"a\":1}"),
        ]
    );
    every_split(AWS, 1 << 20, &stream);
}

#[test]
fn headers_of_every_type_are_passed_over() {
    let mut head = Vec::new();
    for (kind, len) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
        head.extend_from_slice(&[1, b'h', kind]);
        head.extend(std::iter::repeat_n(0xff, len));
    }
    head.extend_from_slice(b"\x01b\x06\x00\x03\x00\x01\x02");
    head.extend_from_slice(b"\x0b:event-type\x07\x00\x04last");
    assert_eq!(data(AWS, &message_of(&head, b"{}")), [event("last", "{}")]);
    for cut in [
        &head[..head.len() - 1],
        &b"\x01h\x0a"[..],
        b"\x05ab",
        b"\x01h\x07\xff\xff",
        b"\x01h",
    ] {
        let stream = [message_of(cut, b"{}"), aws_event("next", "{}")].concat();
        assert_eq!(fault_of(&stream), (Some(FrameFault::Headers), false));
        assert_eq!(data(AWS, &stream), [event("next", "{}")], "the next message is read");
    }
}

#[test]
fn a_damaged_message_passes_unread_and_the_next_is_read() {
    let (first, second) = (aws_event("one", "{\"a\":1}"), aws_event("two", "{\"b\":2}"));
    for at in 12..first.len() {
        let mut damaged = first.clone();
        damaged[at] ^= 0x10;
        let stream = [damaged, second.clone()].concat();
        assert_eq!(fault_of(&stream), (Some(FrameFault::MessageCrc), false), "byte {at}");
        let seen = whole(AWS, &stream);
        assert_eq!(kinds(&seen), [FrameKind::Unread, FrameKind::Data]);
    }
}

#[test]
fn after_a_damaged_prelude_all_passes_unread() {
    let (first, second) = (aws_event("one", "{\"a\":1}"), aws_event("two", "{\"b\":2}"));
    for at in 0..12 {
        let mut damaged = second.clone();
        damaged[at] ^= 0x01;
        let stream = [first.clone(), damaged, first.clone(), second.clone()].concat();
        assert_eq!(fault_of(&stream), (Some(FrameFault::PreludeCrc), true), "byte {at}");
        assert_eq!(kinds(&whole(AWS, &stream)), [FrameKind::Data, FrameKind::Unread]);
        every_split(AWS, 1 << 20, &stream);
    }
}

#[test]
fn absurd_lengths_are_no_lengths() {
    let prelude = |total: u32, headers: u32| {
        let mut bytes = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        [bytes, vec![0; 64]].concat()
    };
    for (total, headers) in [
        (0, 0),
        (15, 0),
        (16, 1),
        (u32::MAX, 0),
        (u32::MAX, u32::MAX),
        (30 << 20, 0),
        (200 << 10, 129 << 10),
    ] {
        assert_eq!(
            fault_of(&prelude(total, headers)),
            (Some(FrameFault::Length), true),
            "{total} {headers}"
        );
    }
    assert_eq!(
        fault_of(&message_of(&[], b"")),
        (None, false),
        "the shortest message there is"
    );
}

#[test]
fn a_stream_that_ends_within_a_message_is_truncated() {
    let (first, second) = (aws_event("one", "{\"a\":1}"), aws_event("two", "{\"b\":2}"));
    for left in 1..second.len() {
        let stream = [&first[..], &second[..left]].concat();
        assert_eq!(fault_of(&stream), (Some(FrameFault::Truncated), false), "{left} bytes");
        assert_eq!(kinds(&whole(AWS, &stream)), [FrameKind::Data, FrameKind::Unread]);
    }
}

#[test]
fn messages_above_the_limit_pass_unread_and_the_next_is_read() {
    let big = aws_event("big", &format!("{{\"t\":\"{}\"}}", "x".repeat(700)));
    let small = aws_event("small", "{\"a\":1}");
    let stream = [big.clone(), small.clone(), big, small].concat();
    let seen = frames_cut(AWS, 256, &stream, &[]);
    use FrameKind::{Data, LastPart};
    assert_eq!(kinds(&seen), [LastPart, Data, LastPart, Data]);
    every_split(AWS, 256, &stream);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_messages_come_out_at_any_split(
        messages in prop::collection::vec(("[a-zA-Z]{0,12}", "[a-z {}\"]{1,40}"), 0..6),
        cuts in prop::collection::vec(0_usize..400, 0..6),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|(name, text)| aws_event(name, text)).collect();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
        cuts.sort_unstable();
        let seen = frames_cut(AWS, 1 << 20, &stream, &cuts);
        let read: Vec<_> = seen.into_iter().map(|frame| (frame.event.unwrap_or_default(), frame.data)).collect();
        let sent: Vec<_> = messages.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn any_bytes_pass_whole(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
        frames_cut(AWS, 64, &bytes, &[cut.min(bytes.len())]);
    }
}
