//! Heads and chunks as they are written. Names go out in lower case, as HTTP/2 has them.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::date::get_cached_date;

use crate::framing::{BodyLength, has_no_body};

/// What an ordinary head takes.
const HEAD_BYTES: usize = 1 << 10;
/// The last chunk, and no trailer.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
pub const CRLF: &[u8] = b"\r\n";
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A request's head, as it says its body is framed.
pub fn request_head(header: &RequestHeader) -> Bytes {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_slice(header.method.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(header.raw_path());
    head.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in &header.headers {
        put(&mut head, name.as_str(), value.as_bytes());
    }
    head.put_slice(CRLF);
    head.freeze()
}

/// An answer's head, whose body is framed in this way. What it says of the connection is the connection's to say.
pub fn answer_head(header: &ResponseHeader, length: BodyLength, keep_alive: bool) -> Bytes {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(header.status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(header.get_reason_phrase().unwrap_or_default().as_bytes());
    head.put_slice(CRLF);
    let is_switch = header.status.is_informational();
    for (name, value) in &header.headers {
        let is_ours = name == CONNECTION || name == DATE;
        let is_unframed = name == TRANSFER_ENCODING && length != BodyLength::Chunked;
        if is_switch || !(is_ours || is_unframed) {
            put(&mut head, name.as_str(), value.as_bytes());
        }
    }
    if !is_switch {
        put(&mut head, "date", get_cached_date().as_bytes());
        put(
            &mut head,
            "connection",
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

/// How the body behind this head is to be framed, by what the head itself says. Heads of the gateway's own making: one
/// that says nothing of a length has none.
pub fn request_length(header: &RequestHeader) -> BodyLength {
    said(&header.headers).unwrap_or(BodyLength::NONE)
}

/// The same of an answer to this request. HTTP/1.0 knows no chunks.
pub fn answer_length(header: &ResponseHeader, request: &RequestHeader) -> BodyLength {
    if has_no_body(header.status, &request.method) {
        return BodyLength::NONE;
    }
    match said(&header.headers) {
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

fn put(head: &mut BytesMut, name: &str, value: &[u8]) {
    head.reserve(name.len() + value.len() + 4);
    head.put_slice(name.as_bytes());
    head.put_slice(b": ");
    head.put_slice(value);
    head.put_slice(CRLF);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use http::Method;

    use super::*;
    use crate::head;

    #[test]
    fn what_is_written_is_read_again() {
        let mut header = RequestHeader::build("POST", b"/v1/a?b=c", None).unwrap();
        header.insert_header("Host", "a").unwrap();
        header.insert_header("Content-Length", "12").unwrap();
        let bytes = request_head(&header);
        assert_eq!(
            bytes,
            "POST /v1/a?b=c HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\n"
        );
        let read = head::request_head(&bytes).unwrap();
        assert_eq!((read.body, read.fault), (BodyLength::Exact(12), None));
    }

    #[test]
    fn an_answer_says_whether_its_connection_stays() {
        let mut header = ResponseHeader::build(200, None).unwrap();
        header.insert_header("Connection", "keep-alive, x-secret").unwrap();
        header.insert_header("Content-Length", "2").unwrap();
        for (keep_alive, says) in [(true, "keep-alive"), (false, "close")] {
            let bytes = answer_head(&header, BodyLength::Exact(2), keep_alive);
            let read = head::answer_head(&bytes, &Method::GET).unwrap();
            let connections: Vec<_> = read.header.headers.get_all("connection").iter().collect();
            assert_eq!(connections, [says]);
            assert_eq!(read.keep_alive, keep_alive);
            assert!(read.header.headers.contains_key("date"));
        }
    }
}
