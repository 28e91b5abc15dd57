//! First step: what is not a clean request goes no further.
//!
//! Framing that two parsers could read differently is refused, sizes are bounded before a byte of the body is read,
//! and headers that are ours or of one hop only are separated from those that pass.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use crate::limits::Limits;
use crate::plugin::is_arn;
use crate::proxy::shared::body::{Body, BodyBudget, BodyShare};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::reply::Refusal;

/// Headers of one hop, and what proxies say of themselves: never passed on (RFC 9110 §7.6.1).
const NOT_FORWARDED: [&str; 19] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
    "via",
    "content-length",
];

/// Whether a header, named in lower case, belongs to the hop or to the gateway and not to the upstream.
pub fn is_ours(name: &str) -> bool {
    NOT_FORWARDED.contains(&name)
        || name == "host"
        || name.starts_with("x-agentledger-")
        || name.starts_with("x-agent-")
}

/// Further headers that the client's own `Connection` header declares to be of one hop.
pub fn named_by_connection(header: &RequestHeader) -> Vec<String> {
    header
        .headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "close" && name != "keep-alive")
        .collect()
}

/// Checks the head of a request.
///
/// # Errors
/// A head that is too large, or that two parsers could read differently.
pub fn check_head(session: &ServerSession, limits: &Limits) -> Result<(), Refusal> {
    let header = session.req_header();
    let bytes: usize = header
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if bytes > limits.header_bytes_max {
        return Err(Refusal::new(RefusalCode::HeadersTooLarge, "request headers are too large").closing());
    }
    if has_both_framings(session) {
        return Err(Refusal::new(
            RefusalCode::BadFraming,
            "a request has either Content-Length or Transfer-Encoding, not both",
        )
        .closing());
    }
    if header.headers.get_all("content-length").iter().count() > 1 {
        return Err(Refusal::new(RefusalCode::BadFraming, "more than one Content-Length").closing());
    }
    if has_unsafe_path(header.uri.path()) {
        return Err(Refusal::new(
            RefusalCode::BadPath,
            "the path has empty or dotted segments or control characters",
        ));
    }
    if content_length(header).is_some_and(|length| length > limits.body_bytes_max) {
        return Err(Refusal::body_too_large().closing());
    }
    Ok(())
}

/// pingora drops Content-Length where Transfer-Encoding stands beside it and goes on, so look at the raw head.
fn has_both_framings(session: &ServerSession) -> bool {
    let header = session.req_header();
    if !header.headers.contains_key("transfer-encoding") {
        return false;
    }
    if header.headers.contains_key("content-length") {
        return true;
    }
    let Some(h1) = session.as_http1() else { return false };
    let raw = h1.get_headers_raw_bytes();
    raw.split(|byte| *byte == b'\n').skip(1).any(|line| {
        line.split(|byte| *byte == b':')
            .next()
            .is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"content-length"))
    })
}

/// Paths that an upstream could read as another route than we did.
fn has_unsafe_path(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    lower.contains('\\')
        || lower.contains("%5c")
        || lower
            .split('/')
            .any(|segment| segment.contains("%2f") && !is_arn(segment))
        || lower.contains("%00")
        || lower.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
        || lower
            .split('/')
            .skip(1)
            .map(|segment| segment.replace("%2e", "."))
            .any(|segment| segment == "." || segment == "..")
        || lower.trim_end_matches('/').split('/').skip(1).any(str::is_empty)
}

fn content_length(header: &RequestHeader) -> Option<u64> {
    header.headers.get("content-length")?.to_str().ok()?.trim().parse().ok()
}

/// Reads the whole body, bounded in size and in the client's silence.
///
/// # Errors
/// A body that is too long, too slow or broken off, or for which there is no memory.
pub async fn read_body(
    session: &mut ServerSession,
    limits: &Limits,
    budget: &Arc<BodyBudget>,
) -> Result<Body, Refusal> {
    if session.is_body_empty() {
        return Ok(Body::own(Bytes::new()));
    }
    if expects_continue(session.req_header()) {
        let unwilling = session.write_continue_response().await;
        unwilling.map_err(|_| Refusal::client_left())?;
    }
    let mut share = BodyShare::none_of(budget);
    let silence = Duration::from_millis(limits.body_read_timeout_ms);
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut length: u64 = 0;
    loop {
        let read = tokio::time::timeout(silence, session.read_request_body()).await;
        let chunk = match read {
            Err(_) => {
                return Err(
                    Refusal::new(RefusalCode::BodyTimeout, "the request body did not arrive in time").closing(),
                );
            }
            Ok(Err(_)) => {
                return Err(Refusal::new(RefusalCode::UnreadableBody, "failed to read request body").closing());
            }
            Ok(Ok(None)) => break,
            Ok(Ok(Some(chunk))) => chunk,
        };
        length += chunk.len() as u64;
        if length > limits.body_bytes_max {
            return Err(Refusal::body_too_large().closing());
        }
        if !share.grow(chunk.len() as u64) {
            return Err(Refusal::overloaded());
        }
        match (&first, rest.is_empty()) {
            (None, true) => first = Some(chunk),
            (Some(head), true) => {
                rest.reserve(head.len() + chunk.len());
                rest.extend_from_slice(head);
                rest.extend_from_slice(&chunk);
            }
            _ => rest.extend_from_slice(&chunk),
        }
    }
    let bytes = if rest.is_empty() {
        first.unwrap_or_default()
    } else {
        rest.freeze()
    };
    Ok(Body::read(bytes, share))
}

fn expects_continue(header: &RequestHeader) -> bool {
    header
        .headers
        .get("expect")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
}

/// A WebSocket handshake.
pub fn is_websocket(header: &RequestHeader) -> bool {
    header
        .headers
        .get("upgrade")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case("websocket")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn paths_that_two_parsers_read_differently_are_unsafe() {
        for path in [
            "/v1/../v1/chat",
            "/v1/%2e%2e/x",
            "/v1//chat",
            "/v1/chat%2Fcompletions",
            "/a\\b",
            "/v1/%2E/x",
        ] {
            assert!(has_unsafe_path(path), "{path}");
        }
        for path in [
            "/",
            "/v1/chat/completions",
            "/v1/models/gpt-4.1",
            "/v1/chat/",
            "/x/...y",
        ] {
            assert!(!has_unsafe_path(path), "{path}");
        }
    }

    #[test]
    fn our_headers_are_told_from_theirs() {
        for name in ["x-agent-id", "x-agentledger-tenant", "transfer-encoding", "host", "via"] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "authorization",
            "x-api-key",
            "anthropic-beta",
            "openai-organization",
            "x-agentic",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
