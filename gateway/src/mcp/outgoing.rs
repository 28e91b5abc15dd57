//! What goes to an MCP server, and the head of what comes back.

use agentledger_http1::ResponseHead;
use bytes::Bytes;
use pingora::http::RequestHeader;

use super::arrive::{below, prefix_of};
use super::endpoints::is_at;
use crate::proxy::forward::{Outgoing, own_header};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::http_session::OutgoingHead;
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
    let mut header = own_header(exchange, client, &body, false)?;
    let own = &server.config.headers;
    if !own.is_empty() {
        for name in KEYS {
            header.remove_header(name);
        }
    }
    for (name, value) in own {
        header
            .insert_header(name.clone(), value.expose().as_str())
            .map_err(internal)?;
    }
    // What is read must not come encoded.
    header.insert_header("Accept-Encoding", "identity").map_err(internal)?;
    Ok(Outgoing {
        head: OutgoingHead::Own(header),
        body,
        usage_injected: false,
    })
}

/// The head of an answer, with addresses of the server's that lead here, and `extra`.
pub fn head_of(server: &ToolServer, from: &ResponseHead, extra: &[(String, String)]) -> ResponseHead {
    let mut head = from.clone();
    let here = head.get("location").and_then(|location| led_here(server, location));
    if let Some(here) = here {
        let _ = head.insert("location", &here);
    }
    for (name, value) in extra {
        // Ours alone. A value that is no header value is left out.
        let _ = head.insert(name, value);
    }
    debug_assert!(!head.contains("authorization"));
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
