//! What goes to an MCP server, and the head of what comes back.

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION};
use pingora::http::{RequestHeader, ResponseHeader};

use super::arrive::{below, prefix_of};
use super::endpoints::is_at;
use crate::proxy::forward::{Outgoing, outgoing};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::{Changes, Exchange};
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::ToolServer;

/// Headers that keys come in. Where the gateway logs in itself, none of a client's goes on.
const KEYS: [&str; 5] = ["api-key", "authorization", "cookie", "x-api-key", "x-goog-api-key"];

/// The request as it goes upstream: as it came, with the gateway's own credential where it has one.
///
/// # Errors
/// A header cannot be written.
pub fn request(
    server: &ToolServer,
    exchange: &Exchange,
    client: &RequestHeader,
    body: Bytes,
) -> Result<Outgoing, Refusal> {
    let internal = |_| Refusal::new(RefusalCode::Internal, "the request could not be forwarded");
    let mut out = outgoing(exchange, client, &Changes::default())?;
    let own = &server.config.headers;
    if !own.is_empty() {
        for name in KEYS {
            out.header.remove_header(name);
        }
    }
    for (name, value) in own {
        out.header
            .insert_header(name.clone(), value.expose().as_str())
            .map_err(internal)?;
    }
    // What is read must not come encoded.
    out.header
        .insert_header("Accept-Encoding", "identity")
        .map_err(internal)?;
    if exchange.method == "POST" {
        out.header
            .insert_header("Content-Length", body.len().to_string())
            .map_err(internal)?;
    }
    out.body = body;
    Ok(out)
}

/// The head of an answer, with addresses of the server's that lead here, and `extra`.
pub fn head_of(server: &ToolServer, from: &ResponseHeader, extra: &[(String, String)]) -> ResponseHeader {
    let mut head = from.clone();
    let location = head.headers.get(LOCATION).and_then(|location| location.to_str().ok());
    if let Some(here) = location.and_then(|location| led_here(server, location)) {
        let _ = head.insert_header(LOCATION, here);
    }
    for (name, value) in extra {
        // Ours alone. A value that is no header value is left out.
        let _ = head.insert_header(name.clone(), value.as_str());
    }
    debug_assert!(!head.headers.contains_key(AUTHORIZATION));
    head
}

/// A redirect within the server, as a path of the gateway's; `None`: it leads elsewhere, and stays.
fn led_here(server: &ToolServer, location: &str) -> Option<String> {
    let upstream = &server.config.upstream;
    let uri: http::Uri = location.parse().ok()?;
    if !is_at(upstream, &uri) {
        return None;
    }
    let rest = below(uri.path(), &upstream.base_path)?;
    let prefix = if server.config.keeps_path {
        String::new()
    } else {
        prefix_of(server)
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{prefix}{rest}{query}"))
}
