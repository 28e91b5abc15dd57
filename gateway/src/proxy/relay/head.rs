//! The head of the answer, as the client gets it.

use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use pingora::http::ResponseHeader;

use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::http_session::ServerSession;

/// Headers of an answer that belong to the hop.
const NOT_PASSED_ON: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How the client learns where a body without a length ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    H2,
    Chunked,
    /// HTTP/1.0, or no body at all.
    UntilClose,
}

impl Framing {
    /// For an answer with this status.
    pub fn of(exchange: &Exchange, status: u16, session: &ServerSession) -> Framing {
        let has_body = exchange.method != "HEAD" && !matches!(status, 204 | 304);
        if session.is_http2() {
            Framing::H2
        } else if has_body && session.req_header().version == http::Version::HTTP_11 {
            Framing::Chunked
        } else {
            Framing::UntilClose
        }
    }
}

/// The head as the upstream sent it, without what belongs to the hop.
pub fn head_for_client(
    from: &ResponseHeader,
    framing: Framing,
    length_may_change: bool,
    extra: &[(String, String)],
) -> ResponseHeader {
    let mut head = from.clone();
    let goes =
        |name: &HeaderName| NOT_PASSED_ON.contains(&name.as_str()) || (length_may_change && *name == CONTENT_LENGTH);
    // Few are there to take off, often none: to look each one up would cost more than to look at all once.
    let going: Vec<_> = head.headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in &going {
        head.remove_header(name);
    }
    head.set_version(if framing == Framing::H2 {
        http::Version::HTTP_2
    } else {
        http::Version::HTTP_11
    });
    for (name, value) in extra {
        // Ours alone: an upstream that says the same is overruled. A value that is no header value is left out.
        let _ = head.insert_header(name.clone(), value.as_str());
    }
    if framing == Framing::Chunked && !head.headers.contains_key(CONTENT_LENGTH) {
        let _ = head.insert_header(TRANSFER_ENCODING, "chunked");
    }
    head
}
