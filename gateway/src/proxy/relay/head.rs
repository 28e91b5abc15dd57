//! The head of the answer, as the client gets it.

use agentledger_http1::ResponseHead;

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
    mut head: ResponseHead,
    framing: Framing,
    length_may_change: bool,
    extra: &[(String, String)],
) -> ResponseHead {
    head.keep(|name| {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        !(NOT_PASSED_ON.into_iter().any(is) || (length_may_change && is("content-length")))
    });
    for (name, value) in extra {
        // Ours alone: an upstream that says the same is overruled. A value that is no header value is left out.
        let _ = head.insert(name, value);
    }
    if framing == Framing::Chunked && !head.contains("content-length") {
        let _ = head.insert("transfer-encoding", "chunked");
    }
    head
}
