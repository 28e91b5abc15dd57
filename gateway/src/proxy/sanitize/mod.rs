//! First step: what is not a clean request goes no further.
//!
//! Framing that two parsers could read differently is refused (`agentledger_http1` finds it), sizes are bounded before a byte of the body is read, a path
//! gets its one spelling, and what is ours, of one hop only, or would change what is billed or seen of an answer is
//! separated from what passes.

pub mod headers;
pub mod path;
pub mod query;

use std::sync::Arc;
use std::time::Duration;

use agentledger_http1::HeadFault;
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT, UPGRADE};
use pingora::http::RequestHeader;

use crate::limits::Limits;
use crate::proxy::sanitize::path::normal_form;
use crate::proxy::shared::body::{Body, BodyBudget, BodyShare};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::reply::Refusal;

/// Headers that one request's `Connection` may name.
const OF_ONE_HOP_MAX: usize = 64;

/// Further headers that the client's own `Connection` header declares to be of one hop.
pub fn named_by_connection(header: &RequestHeader) -> Vec<String> {
    header
        .headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "close" && name != "keep-alive")
        .take(OF_ONE_HOP_MAX + 1)
        .collect()
}

/// Checks the head of a request.
///
/// # Errors
/// A head that is too large, or that two parsers could read differently.
pub fn check_head(header: &RequestHeader, limits: &Limits) -> Result<(), Refusal> {
    let fields = header.headers.iter();
    let fields: usize = fields.map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if fields + header.raw_path().len() > limits.header_bytes_max {
        return Err(Refusal::new(RefusalCode::HeadersTooLarge, "request headers are too large").closing());
    }
    let ambiguous = |message: &str| Err(Refusal::new(RefusalCode::AmbiguousHead, message).closing());
    if header.headers.get_all(CONTENT_TYPE).iter().count() > 1 {
        return ambiguous("more than one Content-Type");
    }
    if named_by_connection(header).len() > OF_ONE_HOP_MAX {
        return ambiguous("Connection names too many headers");
    }
    Ok(())
}

/// The refusal of a head that two servers could read differently.
pub fn ambiguous(fault: HeadFault) -> Refusal {
    let code = match fault {
        HeadFault::NoHost => RefusalCode::AmbiguousHead,
        _ => RefusalCode::BadFraming,
    };
    Refusal::new(code, fault.to_string()).closing()
}

/// Gives the path its one spelling, by which it is known from here on, here and upstream.
///
/// # Errors
/// A path that an upstream could read as another one.
pub fn normalise_path(header: &mut RequestHeader) -> Result<(), Refusal> {
    let bad = |message: String| Refusal::new(RefusalCode::BadPath, message).final_answer();
    let path = header.uri.path();
    if !header.raw_path_is_utf8() {
        return Err(bad("the path has characters that are not encoded".to_owned()));
    }
    let normal = normal_form(path).map_err(|fault| bad(fault.to_string()))?;
    let authority = header.uri.authority().map(|authority| authority.as_str().to_owned());
    if normal == path && authority.is_none() {
        return Ok(());
    }
    let internal = |_| Refusal::new(RefusalCode::Internal, "the path could not be rewritten");
    if let Some(authority) = authority.filter(|_| !header.headers.contains_key("host")) {
        // HTTP/2 names its host here.
        header.insert_header("Host", authority).map_err(internal)?;
    }
    let target = match header.uri.query() {
        Some(query) => format!("{normal}?{query}"),
        None => normal,
    };
    header.set_raw_path(target.as_bytes()).map_err(internal)
}

/// Checks the length that a body is said to have.
///
/// # Errors
/// It is more than so many bytes.
pub fn check_length(session: &ServerSession, bytes_max: u64) -> Result<(), Refusal> {
    if session.body_length().is_some_and(|length| length > bytes_max) {
        return Err(Refusal::body_too_large().closing());
    }
    Ok(())
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

pub fn expects_continue(header: &RequestHeader) -> bool {
    header
        .headers
        .get(EXPECT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
}

/// A WebSocket handshake.
pub fn is_websocket(header: &RequestHeader) -> bool {
    header
        .headers
        .get(UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case("websocket")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_path_keeps_its_query_and_its_host_when_it_gets_its_spelling() {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        // As HTTP/2 has it.
        header.set_uri("https://gateway.example//v1/%6dodels/?a=%20b".parse().unwrap());
        normalise_path(&mut header).unwrap();
        assert_eq!(header.raw_path(), b"/v1/models?a=%20b");
        assert_eq!(header.headers.get("host").unwrap(), "gateway.example");
        let mut bad = RequestHeader::build("GET", b"/v1/%2e%2e/x", None).unwrap();
        assert_eq!(normalise_path(&mut bad).unwrap_err().code.as_str(), "bad_path");
        let mut bytes = RequestHeader::build("GET", b"/v1/files/f/\xffontent", None).unwrap();
        assert_eq!(normalise_path(&mut bytes).unwrap_err().code.as_str(), "bad_path");
    }
}
