//! Heads of messages: where one ends, and what it says. Values are slices of the bytes that were read; nothing is copied.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use httparse::{EMPTY_HEADER, Header, Request, Response, Status};
use memchr::{memchr_iter, memmem};
use pingora::http::RequestHeader;
use pingora::protocols::http::authority::validate_request_authority;

use crate::framing::{self, BodyLength, HeadFault, UnframedAnswer};
use crate::response::ResponseHead;

/// Fields that a head may have.
pub const FIELDS_MAX: usize = 256;

/// A head that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("the head is too long")]
    TooLong,
    #[error("the head has too many fields")]
    TooManyFields,
    #[error("the head is malformed")]
    Malformed,
    /// The connection ended within it.
    #[error("the head broke off")]
    BrokenOff,
    #[error(transparent)]
    Unframed(#[from] UnframedAnswer),
}

/// A request's head.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Without its Content-Length, which is said in `body`: all else stays from one request of an agent to its next.
    pub header: Arc<RequestHeader>,
    pub body: BodyLength,
    /// Another request may come on this connection.
    pub keep_alive: bool,
    /// It is to be refused.
    pub fault: Option<HeadFault>,
}

/// An answer's head.
#[derive(Debug)]
pub struct AnswerHead {
    pub header: ResponseHead,
    pub body: BodyLength,
    pub keep_alive: bool,
}

/// The length of the head that these bytes begin with: with its empty line, whose line feeds may be bare. `seen`: so many of the
/// bytes were looked through before.
pub fn head_end(bytes: &[u8], seen: usize) -> Option<usize> {
    // The empty line may have begun before.
    let from = seen.saturating_sub(2);
    let rest = bytes.get(from..)?;
    memchr_iter(b'\n', rest).find_map(|at| match (rest.get(at + 1), rest.get(at + 2)) {
        (Some(b'\n'), _) => Some(from + at + 2),
        (Some(b'\r'), Some(b'\n')) => Some(from + at + 3),
        _ => None,
    })
}

/// Reads a whole head of a request, see [`head_end`].
///
/// # Errors
/// It is none.
pub fn request_head(head: &Bytes) -> Result<RequestHead, HeadError> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = Request::new(&mut fields);
    check(parsed.parse(head), head)?;
    let (Some(method), Some(path)) = (parsed.method, parsed.path) else {
        return Err(HeadError::Malformed);
    };
    let mut header = RequestHeader::build_no_case(method, path.as_bytes(), Some(parsed.headers.len()))
        .map_err(|_| HeadError::Malformed)?;
    header.set_version(version(parsed.version)?);
    for (name, value) in fields_of(head, parsed.headers) {
        header.append_header(name?, value?).map_err(|_| HeadError::Malformed)?;
    }
    // Two hosts, or another one than the target's.
    validate_request_authority(&header).map_err(|_| HeadError::Malformed)?;
    if !has_target(&header) {
        return Err(HeadError::Malformed);
    }
    let connection = header.headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
    let keep_alive = framing::keeps_alive(connection, header.version);
    let (body, fault) = match framing::of_request(&header) {
        Ok(body) => (body, None),
        Err(fault) => (BodyLength::NONE, Some(fault)),
    };
    let fault = fault
        .or_else(|| has_bare_line_feed(head).then_some(HeadFault::BareLineFeed))
        .or_else(|| framing::lacks_host(&header).then_some(HeadFault::NoHost));
    header.remove_header(&CONTENT_LENGTH);
    Ok(RequestHead {
        header: Arc::new(header),
        body,
        keep_alive,
        fault,
    })
}

/// Reads a whole head of an answer to a request with this method.
///
/// # Errors
/// It is none, or its body would have no end.
pub fn answer_head(head: &Bytes, method: &Method) -> Result<AnswerHead, HeadError> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = Response::new(&mut fields);
    check(parsed.parse(head), head)?;
    let status = parsed.code.ok_or(HeadError::Malformed)?;
    let status = StatusCode::from_u16(status).map_err(|_| HeadError::Malformed)?;
    let mut header = ResponseHead::read(status, head.clone(), parsed.headers.len());
    let version = version(parsed.version)?;
    for field in parsed.headers.iter() {
        if !header.found(field.name.as_bytes(), field.value) {
            return Err(HeadError::Malformed);
        }
    }
    let body = framing::of_answer(&header, method)?;
    let is_in_transfer = header.contains("transfer-encoding");
    let keep_alive = framing::keeps_alive(header.values("connection"), version)
        && body != BodyLength::UntilClose
        // RFC 9112 §6.1: such an upstream, or something before it, frames wrongly.
        && !(is_in_transfer && (version != Version::HTTP_11 || header.contains("content-length")));
    if is_in_transfer {
        header.remove("content-length");
    }
    Ok(AnswerHead {
        header,
        body,
        keep_alive,
    })
}

/// RFC 9112 §3.2: a path, a whole address of HTTP's, `*` of OPTIONS, or the authority that CONNECT names. Other servers make
/// different things of anything else.
fn has_target(header: &RequestHeader) -> bool {
    match header.raw_path() {
        [b'/', ..] => true,
        b"*" => header.method == Method::OPTIONS,
        target => {
            let scheme = memmem::find(target, b"://").and_then(|end| target.get(..end));
            let is = |name: &[u8]| scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(name));
            let is_address = is(b"http") || is(b"https");
            is_address || (header.method == Method::CONNECT && Authority::try_from(target).is_ok())
        }
    }
}

fn check(parsed: httparse::Result<usize>, head: &Bytes) -> Result<(), HeadError> {
    match parsed {
        // What looked like the end of the head was none to the parser, or it saw one before.
        Ok(Status::Complete(length)) if length == head.len() => Ok(()),
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooManyFields),
        _ => Err(HeadError::Malformed),
    }
}

fn version(minor: Option<u8>) -> Result<Version, HeadError> {
    match minor {
        Some(1) => Ok(Version::HTTP_11),
        Some(0) => Ok(Version::HTTP_10),
        _ => Err(HeadError::Malformed),
    }
}

type Field = (Result<HeaderName, HeadError>, Result<HeaderValue, HeadError>);

fn fields_of<'h>(head: &'h Bytes, fields: &'h [Header<'_>]) -> impl Iterator<Item = Field> + 'h {
    fields.iter().map(|field| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::Malformed);
        // An empty value is none of the head's own bytes.
        let value = match field.value.is_empty() {
            true => Ok(HeaderValue::from_static("")),
            false => HeaderValue::from_maybe_shared(head.slice_ref(field.value)).map_err(|_| HeadError::Malformed),
        };
        (name, value)
    })
}

/// RFC 9112 §2.2 lets a server take a bare line feed for an end of line, and not all do.
fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr_iter(b'\n', head).any(|at| at.checked_sub(1).and_then(|before| head.get(before)) != Some(&b'\r'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn request(text: &str) -> Result<RequestHead, HeadError> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        assert_eq!(head_end(&bytes, 0), Some(bytes.len()), "{text:?}");
        request_head(&bytes)
    }

    #[test]
    fn a_head_is_read_without_copies() {
        let head = request("POST /v1/a?b=%20c HTTP/1.1\r\nHost: a\r\nX-Key:  one \r\nEmpty:\r\n\r\n").unwrap();
        assert_eq!((head.header.method.as_str(), head.fault), ("POST", None));
        assert_eq!(head.header.raw_path(), b"/v1/a?b=%20c");
        assert_eq!(head.header.headers["x-key"], "one");
        assert_eq!(head.header.headers["empty"], "");
        assert!(head.keep_alive);
    }

    #[test]
    fn the_end_of_a_head_is_found_at_any_split() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nrest",
            "GET / HTTP/1.1\nHost: a\n\nrest",
        ] {
            let whole = head_end(text.as_bytes(), 0).unwrap();
            assert_eq!(&text[whole..], "rest");
            for cut in 0..text.len() {
                let first = head_end(&text.as_bytes()[..cut], 0);
                assert_eq!(first.is_some(), cut >= whole, "{cut}");
                if first.is_none() {
                    assert_eq!(head_end(text.as_bytes(), cut), Some(whole), "{cut}");
                }
            }
        }
    }

    #[test]
    fn what_two_servers_read_differently_is_a_fault() {
        for (text, fault) in [
            ("GET / HTTP/1.1\r\n\r\n", HeadFault::NoHost),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", HeadFault::BareLineFeed),
            ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", HeadFault::BareLineFeed),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", HeadFault::BareLineFeed),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadFault::BothFramings,
            ),
        ] {
            assert_eq!(request(text).unwrap().fault, Some(fault), "{text:?}");
        }
        assert_eq!(request("GET / HTTP/1.0\r\n\r\n").unwrap().fault, None);
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for text in [
            "PRI * HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHo\0st: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET b HTTP/1.0\r\n\r\n",
            "GET user@b HTTP/1.0\r\n\r\n",
            "GET http://user@b/ HTTP/1.0\r\n\r\n",
            "GET * HTTP/1.0\r\n\r\n",
            "GET ftp://b/ HTTP/1.0\r\n\r\n",
            "CONNECT b:443?c HTTP/1.0\r\n\r\n",
        ] {
            assert_eq!(request(text).unwrap_err(), HeadError::Malformed, "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(FIELDS_MAX));
        assert_eq!(request(&many).unwrap_err(), HeadError::TooManyFields);
    }

    #[test]
    fn an_answer_that_frames_twice_is_read_and_its_connection_not_kept() {
        let of = |text: &str| answer_head(&Bytes::copy_from_slice(text.as_bytes()), &Method::POST).unwrap();
        let both = of("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!((both.body, both.keep_alive), (BodyLength::Chunked, false));
        assert!(!both.header.contains("content-length"));
        let plain = of("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        assert_eq!((plain.body, plain.keep_alive), (BodyLength::Exact(5), true));
        assert!(!of("HTTP/1.1 200\r\n\r\n").keep_alive, "it ends with the connection");
        assert!(!of("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n").keep_alive);
    }
}
