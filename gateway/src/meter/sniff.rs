//! What an answer is: what its content type says, unless its first bytes say something else. Hosts send streams as plain
//! text, errors and whole answers as streams, and JSON as anything.

use super::frames::Framing;

/// What the content type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    Framed(Framing),
    /// Sound, pictures, films.
    Media,
    Other,
}

/// What the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Framed(Framing),
    /// JSON.
    Whole,
    /// Cannot be read.
    Opaque,
}

pub(super) fn declared(content_type: Option<&str>) -> Declared {
    let essence = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "text/event-stream" => Declared::Framed(Framing::Sse),
        "application/vnd.amazon.eventstream" => Declared::Framed(Framing::AwsEventStream),
        // The last is Cohere's.
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/jsonlines"
        | "application/stream+json" => Declared::Framed(Framing::Ndjson),
        essence if essence.starts_with("audio/") || essence.starts_with("image/") || essence.starts_with("video/") => {
            Declared::Media
        }
        _ => Declared::Other,
    }
}

/// What an answer is that begins so. `None`: more bytes are needed, a few.
pub(super) fn found(declared: Declared, stream: bool, head: &[u8]) -> Option<Found> {
    let ndjson = Declared::Framed(Framing::Ndjson);
    match head.first()? {
        b'{' if declared == ndjson => return Some(Found::Framed(Framing::Ndjson)),
        b'{' => return Some(Found::Whole),
        b'[' => return Some(Found::Framed(Framing::JsonArray)),
        _ if declared == Declared::Framed(Framing::Sse) => return Some(Found::Framed(Framing::Sse)),
        _ if declared == Declared::Media => return Some(Found::Opaque),
        // A comment, as keep-alives are.
        b':' if stream => return Some(Found::Framed(Framing::Sse)),
        _ => {}
    }
    let otherwise = match declared {
        Declared::Framed(framing) => Found::Framed(framing),
        Declared::Media | Declared::Other => Found::Opaque,
    };
    Some(match begins_field(head)? {
        true => Found::Framed(Framing::Sse),
        false => otherwise,
    })
}

/// A field of a server-sent event comes first. `None`: it may yet.
fn begins_field(head: &[u8]) -> Option<bool> {
    for name in [&b"data"[..], b"event", b"id", b"retry"] {
        match head.strip_prefix(name) {
            Some([]) => return None,
            Some([b':' | b'\n' | b'\r', ..]) => return Some(true),
            None if name.starts_with(head) => return None,
            Some(_) | None => {}
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_answer_is_what_its_first_bytes_say() {
        let (sse, array) = (
            Some(Found::Framed(Framing::Sse)),
            Some(Found::Framed(Framing::JsonArray)),
        );
        let (lines, aws) = (
            Some(Found::Framed(Framing::Ndjson)),
            Some(Found::Framed(Framing::AwsEventStream)),
        );
        let (whole, opaque) = (Some(Found::Whole), Some(Found::Opaque));
        for (content_type, head, expected) in [
            ("text/event-stream; charset=utf-8", "d", sse),
            ("text/event-stream", "x", sse),
            ("text/event-stream", "{", whole),
            ("text/event-stream", "[", array),
            ("application/json", "{", whole),
            ("application/json", "[", array),
            ("application/json", "data: ", sse),
            ("text/plain", "data:", sse),
            ("text/plain", "data\r", sse),
            ("text/plain", "event", None),
            ("text/plain", "even", None),
            ("text/plain", "i", None),
            ("text/plain", "database", opaque),
            ("text/plain", "<html>", opaque),
            ("", "retry:1", sse),
            ("application/x-ndjson", "{", lines),
            ("application/x-ndjson", "data: {", sse),
            ("application/x-ndjson", "x", lines),
            ("application/vnd.amazon.eventstream", "\0", aws),
            ("application/vnd.amazon.eventstream", "{", whole),
            ("audio/mpeg", "{", whole),
            ("audio/mpeg", "ID3", opaque),
            ("image/png", "data:", opaque),
        ] {
            for stream in [true, false] {
                let found = found(declared(Some(content_type)), stream, head.as_bytes());
                assert_eq!(found, expected, "{content_type} {head}");
            }
        }
        assert_eq!(found(Declared::Other, true, b": keep-alive"), sse);
        assert_eq!(found(Declared::Other, false, b": a text"), opaque);
    }
}
