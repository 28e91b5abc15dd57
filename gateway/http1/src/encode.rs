//! Heads and chunks as they are written. Names go out in lower case, as HTTP/2 has them.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Version};
use pingora::http::RequestHeader;
use pingora::protocols::http::date::get_cached_date;

use crate::framing::{BodyLength, has_no_body};
use crate::response::ResponseHead;

/// What an ordinary head takes.
const HEAD_BYTES: usize = 1 << 10;
/// The longest line that says a length, and the empty line behind it.
const LENGTH_LINE_BYTES: usize = 42;
/// The last chunk, and no trailer.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
pub const CRLF: &[u8] = b"\r\n";
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A request's head as it is written, but for what it says of its body's length: that alone changes where a head goes out again.
#[derive(Clone, Debug)]
pub struct RequestLines {
    pub method: Method,
    lines: Bytes,
    length: Option<BodyLength>,
}

impl RequestLines {
    /// The lines of this head. It says itself how its body is framed, or has none.
    pub fn of(header: &RequestHeader) -> RequestLines {
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        head.put_slice(header.method.as_str().as_bytes());
        head.put_u8(b' ');
        head.put_slice(header.raw_path());
        head.put_slice(b" HTTP/1.1\r\n");
        for (name, value) in &header.headers {
            if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                put(&mut head, name.as_str().as_bytes(), value.as_bytes());
            }
        }
        RequestLines {
            method: header.method.clone(),
            lines: head.freeze(),
            length: said(&header.headers),
        }
    }

    /// The same head, before a body of so many bytes.
    #[must_use]
    pub fn with_length(&self, length: u64) -> RequestLines {
        RequestLines {
            length: Some(BodyLength::Exact(length)),
            ..self.clone()
        }
    }

    /// How the body behind it is framed.
    pub fn body(&self) -> BodyLength {
        self.length.unwrap_or(BodyLength::NONE)
    }

    /// The whole head.
    pub fn bytes(&self) -> Bytes {
        let mut head = BytesMut::with_capacity(self.lines.len() + LENGTH_LINE_BYTES);
        head.put_slice(&self.lines);
        match self.length {
            Some(BodyLength::Exact(length)) => put(&mut head, b"content-length", length.to_string().as_bytes()),
            Some(BodyLength::Chunked) => put(&mut head, b"transfer-encoding", b"chunked"),
            Some(BodyLength::UntilClose) | None => {}
        }
        head.put_slice(CRLF);
        head.freeze()
    }
}

/// An answer's head, whose body is framed in this way. What it says of the connection is the connection's to say.
pub fn answer_head(header: &ResponseHead, length: BodyLength, keep_alive: bool) -> Bytes {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(header.status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(header.status.canonical_reason().unwrap_or_default().as_bytes());
    head.put_slice(CRLF);
    let is_switch = header.status.is_informational();
    for (name, value) in header.fields() {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let is_unframed = length != BodyLength::Chunked && is("transfer-encoding");
        if is_switch || !(is("connection") || is("date") || is_unframed) {
            put(&mut head, name, value);
        }
    }
    if !is_switch {
        put(&mut head, b"date", get_cached_date().as_bytes());
        put(
            &mut head,
            b"connection",
            if keep_alive { b"keep-alive" } else { b"close" },
        );
    }
    head.put_slice(CRLF);
    head.freeze()
}

/// The line before a chunk of so many bytes.
pub fn chunk_start(length: usize) -> Bytes {
    Bytes::from(format!("{length:x}\r\n"))
}

/// How the body behind this head of an answer is to be framed, by what the head itself says. HTTP/1.0 knows no chunks.
pub fn answer_length(header: &ResponseHead, request: &RequestHeader) -> BodyLength {
    if has_no_body(header.status, &request.method) {
        return BodyLength::NONE;
    }
    let length = || header.get("content-length")?.trim().parse().ok().map(BodyLength::Exact);
    let said = match header.contains("transfer-encoding") {
        true => Some(BodyLength::Chunked),
        false => length(),
    };
    match said {
        Some(BodyLength::Chunked) if request.version != Version::HTTP_11 => BodyLength::UntilClose,
        Some(length) => length,
        None => BodyLength::UntilClose,
    }
}

fn said(headers: &HeaderMap) -> Option<BodyLength> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Some(BodyLength::Chunked);
    }
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()?;
    Some(BodyLength::Exact(length))
}

/// Names that were read may be in any case.
fn put(head: &mut BytesMut, name: &[u8], value: &[u8]) {
    head.reserve(name.len() + value.len() + 4);
    let start = head.len();
    head.put_slice(name);
    head.get_mut(start..).unwrap_or_default().make_ascii_lowercase();
    head.put_slice(b": ");
    head.put_slice(value);
    head.put_slice(CRLF);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::head;

    #[test]
    fn what_is_written_is_read_again() {
        let mut header = RequestHeader::build("POST", b"/v1/a?b=c", None).unwrap();
        header.insert_header("Host", "a").unwrap();
        header.insert_header("Content-Length", "12").unwrap();
        let bytes = RequestLines::of(&header).bytes();
        assert_eq!(
            bytes,
            "POST /v1/a?b=c HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\n"
        );
        let read = head::request_head(&bytes).unwrap();
        assert_eq!((read.body, read.fault), (BodyLength::Exact(12), None));
    }

    #[test]
    fn an_answer_says_whether_its_connection_stays() {
        let mut header = ResponseHead::new(http::StatusCode::OK);
        header.insert("Connection", "keep-alive, x-secret").unwrap();
        header.insert("Content-Length", "2").unwrap();
        for (keep_alive, says) in [(true, "keep-alive"), (false, "close")] {
            let bytes = answer_head(&header, BodyLength::Exact(2), keep_alive);
            let read = head::answer_head(&bytes, &Method::GET).unwrap();
            let connections: Vec<_> = read.header.values("connection").collect();
            assert_eq!(connections, [says.as_bytes()]);
            assert_eq!(read.keep_alive, keep_alive);
            assert!(read.header.contains("date"));
        }
    }
}
