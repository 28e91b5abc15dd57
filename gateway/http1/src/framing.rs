//! How a message's body is framed (RFC 9112 §6), and the heads that two servers could read as different requests.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora::http::RequestHeader;

use crate::response::ResponseHead;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes; of a message without a body, none.
    Exact(u64),
    Chunked,
    /// An answer's alone.
    UntilClose,
}

impl BodyLength {
    pub const NONE: BodyLength = BodyLength::Exact(0);
}

/// What another server could read differently than this one. The head itself can be read, so that its sender is told in words;
/// its body is never read, and nothing of it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    #[error("a line of the request head ends without a carriage return")]
    BareLineFeed,
    #[error("a request has either Content-Length or Transfer-Encoding, not both")]
    BothFramings,
    #[error("more than one Content-Length")]
    ManyLengths,
    #[error("Content-Length is no number")]
    BadLength,
    #[error("the one Transfer-Encoding that is read here is chunked, in HTTP/1.1")]
    UnknownTransferEncoding,
    #[error("a request of HTTP/1.1 has a Host")]
    NoHost,
}

/// An answer whose end cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer's length is told in a way that cannot be read")]
pub struct UnframedAnswer;

/// The framing of a request's body: a server reads requests in one way or not at all.
///
/// # Errors
/// What could be read otherwise.
pub fn of_request(header: &RequestHeader) -> Result<BodyLength, HeadFault> {
    let mut codings = header.headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = header.headers.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(BodyLength::NONE),
        (Some(_), Some(_)) => Err(HeadFault::BothFramings),
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(HeadFault::ManyLengths);
            }
            digits(length.as_bytes())
                .map(BodyLength::Exact)
                .ok_or(HeadFault::BadLength)
        }
        (Some(coding), None) => {
            let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
            if is_chunked && header.version == Version::HTTP_11 {
                Ok(BodyLength::Chunked)
            } else {
                Err(HeadFault::UnknownTransferEncoding)
            }
        }
    }
}

/// The framing of the answer to a request with this method. Upstreams are read more leniently than clients: nobody else
/// reads their answers after us.
///
/// # Errors
/// Its lengths contradict each other, or are no numbers.
pub fn of_answer(header: &ResponseHead, method: &Method) -> Result<BodyLength, UnframedAnswer> {
    if has_no_body(header.status, method) {
        return Ok(BodyLength::NONE);
    }
    if header.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(BodyLength::UntilClose);
    }
    if let Some(coding) = header.values("transfer-encoding").next_back() {
        let last = coding.rsplit(|byte| *byte == b',').next().unwrap_or_default();
        return Ok(match last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            true => BodyLength::Chunked,
            false => BodyLength::UntilClose,
        });
    }
    let mut length = None;
    for value in header.values("content-length") {
        for one in value.split(|byte| *byte == b',') {
            let one = digits(one.trim_ascii()).ok_or(UnframedAnswer)?;
            if length.replace(one).is_some_and(|before| before != one) {
                return Err(UnframedAnswer);
            }
        }
    }
    Ok(length.map_or(BodyLength::UntilClose, BodyLength::Exact))
}

/// Answers that never have a body, whatever their head says of its length.
pub fn has_no_body(status: StatusCode, method: &Method) -> bool {
    let is_interim = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
    is_interim || *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Digits and nothing else: no sign, no space, no list.
pub fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// HTTP/1.1 names its host.
pub(crate) fn lacks_host(header: &RequestHeader) -> bool {
    header.version == Version::HTTP_11 && !header.headers.contains_key(HOST)
}

/// Whether the sender of a head of this version keeps its connection for another message, by the values of `Connection`.
pub(crate) fn keeps_alive<'h>(connection: impl Iterator<Item = &'h [u8]>, version: Version) -> bool {
    let mut keeps = version == Version::HTTP_11;
    for value in connection {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keeps |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keeps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    type Fields = &'static [(&'static str, &'static str)];

    fn request(version: Version, fields: Fields) -> RequestHeader {
        let mut header = RequestHeader::build_no_case("POST", b"/", None).unwrap();
        header.set_version(version);
        for (name, value) in fields {
            header.append_header(*name, *value).unwrap();
        }
        header
    }

    #[test]
    fn a_request_is_framed_in_one_way_or_refused() {
        const CL: &str = "content-length";
        const TE: &str = "transfer-encoding";
        let cases: [(Fields, Result<BodyLength, HeadFault>); 16] = [
            (&[], Ok(BodyLength::NONE)),
            (&[(CL, "0")], Ok(BodyLength::NONE)),
            (&[(CL, "12")], Ok(BodyLength::Exact(12))),
            (&[(CL, "007")], Ok(BodyLength::Exact(7))),
            (&[(TE, "chunked")], Ok(BodyLength::Chunked)),
            (&[(TE, "Chunked")], Ok(BodyLength::Chunked)),
            (&[(CL, "1"), (TE, "chunked")], Err(HeadFault::BothFramings)),
            (&[(CL, "1"), (CL, "1")], Err(HeadFault::ManyLengths)),
            (&[(CL, "1,1")], Err(HeadFault::BadLength)),
            (&[(CL, "+1")], Err(HeadFault::BadLength)),
            (&[(CL, "-1")], Err(HeadFault::BadLength)),
            (&[(CL, "0x1")], Err(HeadFault::BadLength)),
            (&[(CL, "18446744073709551616")], Err(HeadFault::BadLength)),
            (&[(TE, "gzip, chunked")], Err(HeadFault::UnknownTransferEncoding)),
            (&[(TE, "identity")], Err(HeadFault::UnknownTransferEncoding)),
            (
                &[(TE, "chunked"), (TE, "chunked")],
                Err(HeadFault::UnknownTransferEncoding),
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(of_request(&request(Version::HTTP_11, fields)), expected, "{fields:?}");
        }
        assert_eq!(
            of_request(&request(Version::HTTP_10, &[(TE, "chunked")])),
            Err(HeadFault::UnknownTransferEncoding)
        );
    }

    #[test]
    fn an_answer_is_framed_by_its_status_its_request_and_its_head() {
        let of = |status: u16, method: Method, fields: Fields| {
            let mut header = ResponseHead::new(StatusCode::from_u16(status).unwrap());
            for (name, value) in fields {
                header.append(name, value).unwrap();
            }
            of_answer(&header, &method)
        };
        assert_eq!(of(200, Method::GET, &[]), Ok(BodyLength::UntilClose));
        assert_eq!(
            of(200, Method::GET, &[("content-length", "5")]),
            Ok(BodyLength::Exact(5))
        );
        assert_eq!(of(200, Method::HEAD, &[("content-length", "5")]), Ok(BodyLength::NONE));
        assert_eq!(
            of(304, Method::GET, &[("transfer-encoding", "chunked")]),
            Ok(BodyLength::NONE)
        );
        assert_eq!(of(101, Method::GET, &[]), Ok(BodyLength::UntilClose));
        let both: Fields = &[("content-length", "5"), ("transfer-encoding", "chunked")];
        assert_eq!(of(200, Method::GET, both), Ok(BodyLength::Chunked));
        assert_eq!(
            of(200, Method::GET, &[("transfer-encoding", "gzip")]),
            Ok(BodyLength::UntilClose)
        );
        assert_eq!(
            of(200, Method::GET, &[("content-length", "5, 5")]),
            Ok(BodyLength::Exact(5))
        );
        let two: Fields = &[("content-length", "5"), ("content-length", "6")];
        assert_eq!(of(200, Method::GET, two), Err(UnframedAnswer));
    }

    #[test]
    fn a_connection_is_kept_as_its_version_and_its_tokens_say() {
        let of = |version, fields: Fields| keeps_alive(fields.iter().map(|(_, value)| value.as_bytes()), version);
        assert!(of(Version::HTTP_11, &[]));
        assert!(!of(Version::HTTP_10, &[]));
        assert!(of(Version::HTTP_10, &[("connection", "Keep-Alive")]));
        assert!(!of(Version::HTTP_11, &[("connection", "x, Close")]));
        assert!(!of(
            Version::HTTP_11,
            &[("connection", "keep-alive"), ("connection", "close")]
        ));
    }
}
