//! What holds for any bytes, for bytes that a generator makes up: requests of parts that servers are known to disagree on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../fuzz/check.rs"]
mod check;

use check::{Outcome, check, read};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const LINES: [&str; 26] = [
    "GET / HTTP/1.1",
    "POST /v1 HTTP/1.1",
    "POST /v1 HTTP/1.0",
    "Host: a",
    "Host: b",
    "Content-Length: 5",
    "Content-Length: 0",
    "Content-Length: +5",
    "Content-Length: 5, 5",
    "Content-Length : 5",
    "content_length: 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding: identity",
    " folded",
    "X: y",
    "X:",
    "5",
    "hello",
    "0",
    "5;a=b",
    "5 ",
    "",
];
const ENDS: [&str; 8] = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\0\r\n"];

const BODIES: [&str; 7] = [
    "",
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "2;a\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n",
    "5\nhello\n0\n\n",
    "0\r\n\r\n",
    "05 \r\nhello\r\n0\r\n\r\n",
];

/// A head that would be sound with fields of its framing that may not be, and a body that fits one of them, or none.
fn framed() -> impl Strategy<Value = Vec<u8>> {
    let field = (select(&LINES[3..19]), select(&ENDS[..])).prop_map(|(line, end)| format!("{line}{end}"));
    let noise = prop_oneof![4 => Just(None), 1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(Some)];
    (vec(field, 0..4), select(&BODIES[..]), noise).prop_map(|(fields, body, noise)| {
        let head = format!("POST /v1 HTTP/1.1\r\nHost: a\r\n{}\r\n", fields.concat());
        changed(format!("{head}{body}GET / HTTP/1.1\r\n").into_bytes(), noise)
    })
}

fn changed(mut bytes: Vec<u8>, noise: Option<(prop::sample::Index, u8)>) -> Vec<u8> {
    if let Some((at, byte)) = noise.filter(|_| !bytes.is_empty()) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
    }
    bytes
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let line = (select(&LINES[..]), select(&ENDS[..])).prop_map(|(line, end)| format!("{line}{end}"));
    let noise = prop_oneof![8 => Just(None), 1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(Some)];
    let begun = select(vec![
        "",
        "POST /v1 HTTP/1.1\r\nHost: a\r\n",
        "POST /v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
    ]);
    (begun, vec(line, 0..9), noise)
        .prop_map(|(begun, lines, noise)| changed([begun.to_owned(), lines.concat()].concat().into_bytes(), noise))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_is_accepted_is_read_in_one_way_alone(bytes in prop_oneof![request(), framed()]) {
        check(&bytes);
    }

    #[test]
    fn any_bytes_at_all_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }
}

#[test]
fn the_generator_makes_requests_that_are_accepted() {
    for text in [
        "POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        check(text.as_bytes());
        assert!(matches!(read(text.as_bytes(), 3), Outcome::Read(_)), "{text:?}");
    }
}
