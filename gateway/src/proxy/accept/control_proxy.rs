//! Requests for the control plane that come in on the proxy's port are handed over to its socket, with the peer's
//! address, by which it knows that they are not its owner's. A WebSocket at `/rpc` is handed over too: once the control plane
//! has switched, bytes go both ways as they come.

use std::time::Duration;

use agentledger_http1::{ClientSession, RequestLines, ResponseHead};
use bytes::Bytes;
use http::header::ACCEPT;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as Connected;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::control::{PEER_HEADER, page};
use crate::proxy::identify::ownership::refuse_foreign_host;
use crate::proxy::sanitize::headers::is_ours;
use crate::proxy::sanitize::{check_head, check_length, is_websocket, read_body};
use crate::proxy::shared::body::Body;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::cors;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::reply::{Refusal, refuse};

/// Longest wait for the control plane: it has no slow upstream behind it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest silence on a WebSocket: the control plane pings each.
const SILENCE_MAX: Duration = Duration::from_secs(120);
const PASSED_BYTES: usize = 16 << 10;

/// Whether the control plane serves a request. What the dashboard's views are called is a page's for browsers alone.
pub fn is_control(header: &RequestHeader) -> bool {
    let path = header.uri.path();
    let accept = header.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let is_read = matches!(header.method.as_str(), "GET" | "HEAD");
    is_control_path(path) || (is_read && page::is_view(path) && page::wants_page(accept))
}

pub fn is_control_path(path: &str) -> bool {
    matches!(path, "/" | "/rpc" | "/metrics" | "/api") || path.starts_with("/api/") || path.starts_with("/assets/")
}

/// Whether it asks for a connection of its own to the control plane.
pub fn is_control_socket(header: &RequestHeader) -> bool {
    header.uri.path() == "/rpc" && header.method == http::Method::GET && is_websocket(header)
}

/// Serves a WebSocket to its end. What goes over it is no exchange: it never holds up the gateway's end.
pub async fn serve_socket(gateway: &Gateway, mut session: ServerSession) {
    session.close_after_answer();
    let switched = match relay(gateway, &mut session).await {
        Ok(Relayed::Switched(switched)) => switched,
        // The control plane's refusal was passed on.
        Ok(Relayed::Answered { .. }) => return,
        Err(refusal) => return refuse(&mut session, &refusal, None).await,
    };
    let Switched { head, upstream, early } = switched;
    if session.write_response_header(&head).await.is_err() {
        return;
    }
    let Some((client, sent)) = session.into_http1() else {
        return;
    };
    let (from_client, to_client) = tokio::io::split(client);
    let (from_control, to_control) = tokio::io::split(upstream);
    tokio::select! {
        () = pass(from_client, to_control, sent) => {}
        () = pass(from_control, to_client, early) => {}
        () = gateway.drain.cutting() => {}
    }
}

/// Passes bytes on until one end is gone, takes nothing for [`PATIENCE`], or is silent for longer than the control plane's
/// pings allow.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, early: Bytes) {
    let mut buffer = vec![0; PASSED_BYTES].into_boxed_slice();
    let mut bytes: &[u8] = &early;
    loop {
        let written = timeout(PATIENCE, async {
            to.write_all(bytes).await?;
            to.flush().await
        });
        if !matches!(written.await, Ok(Ok(()))) {
            return;
        }
        let Ok(Ok(read @ 1..)) = timeout(SILENCE_MAX, from.read(&mut buffer)).await else {
            // The other way has time to say why.
            let _ = timeout(PATIENCE, to.shutdown()).await;
            return;
        };
        bytes = buffer.get(..read).unwrap_or_default();
    }
}

/// What became of a request.
enum Relayed {
    Answered { reusable: bool },
    Switched(Switched),
}

/// A connection that the control plane has switched to another protocol.
struct Switched {
    head: ResponseHead,
    upstream: Stream,
    early: Bytes,
}

/// Hands the request over and relays the answer. `false`: the connection cannot be used again.
pub async fn relay_to_control(gateway: &Gateway, session: &mut ServerSession) -> bool {
    match relay(gateway, session).await {
        Ok(Relayed::Answered { reusable }) => reusable,
        Ok(Relayed::Switched(_)) => false,
        Err(refusal) => {
            refuse(session, &refusal, None).await;
            !refusal.close
        }
    }
}

async fn relay(gateway: &Gateway, session: &mut ServerSession) -> Result<Relayed, Refusal> {
    let rules = gateway.rules.load_full();
    let limits = &rules.config.limits;
    check_head(session.req_header(), limits)?;
    check_length(session, limits.body_bytes_max)?;
    let is_socket = is_control_socket(session.req_header());
    let body = match is_socket {
        // What comes after the handshake is no body.
        true => Body::own(Bytes::new()),
        false => read_body(session, limits, &gateway.bodies).await?,
    };
    // The page at the root says nothing that a stranger may not know, and methods are refused in JSON-RPC's own shape.
    let path = session.req_header().uri.path();
    if !matches!(path, "/" | "/rpc") && !page::is_view(path) {
        refuse_foreign_host(&rules.config, session.req_header())?;
    }
    let header = request_for_control(session, body.bytes.len())?;
    let away = || Refusal::new(RefusalCode::ControlUnavailable, "the control plane does not answer").retry_after(1);
    let late = || Refusal::new(RefusalCode::ControlTimeout, "the control plane did not answer in time");
    let connected = timeout(PATIENCE, UnixStream::connect(&*gateway.control)).await;
    let connected = connected.map_err(|_| late())?.map_err(|_| away())?;
    // One for each request: it costs little on the same machine, and nobody waits for the control plane.
    let mut upstream = ClientSession::new(Box::new(Connected::from(connected)));
    upstream.set_write_timeout(Some(PATIENCE));
    session.set_write_timeout(Some(PATIENCE));
    upstream.write_head(&RequestLines::of(&header));
    upstream.write_body(body.bytes.clone()).await.map_err(|_| away())?;
    upstream.finish().await.map_err(|_| away())?;
    let answered = timeout(PATIENCE, upstream.read_head()).await.map_err(|_| late())?;
    let none = |_| Refusal::new(RefusalCode::ControlFailed, "the control plane gave no answer");
    let mut head = answered.map_err(none)?;
    if head.status == 101 {
        let (upstream, early) = upstream.into_parts();
        return Ok(Relayed::Switched(Switched { head, upstream, early }));
    }
    head.remove("connection");
    cors::put(session, &mut head);
    let broken = Relayed::Answered { reusable: false };
    if session.write_response_header(&head).await.is_err() {
        return Ok(broken);
    }
    while let Ok(Ok(Some(chunk))) = timeout(PATIENCE, upstream.read_body()).await {
        if session.write_response_body(chunk, false).await.is_err() {
            return Ok(broken);
        }
    }
    let whole = upstream.is_answered();
    let reusable = session.write_response_body(Bytes::new(), true).await.is_ok() && whole;
    Ok(Relayed::Answered { reusable })
}

fn request_for_control(session: &ServerSession, body_bytes: usize) -> Result<RequestHeader, Refusal> {
    let internal = |_| Refusal::new(RefusalCode::Internal, "the request could not be handed over");
    let client = session.req_header();
    let path = client.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut header = RequestHeader::build(client.method.as_str(), path.as_bytes(), None).map_err(internal)?;
    for (name, value) in &client.headers {
        if !is_ours(name.as_str()) {
            header.append_header(name.clone(), value.clone()).map_err(internal)?;
        }
    }
    // As the client calls us: the control plane knows which names are its own.
    let host = client.headers.get("host").cloned();
    let authority = client.uri.authority().map_or("", |authority| authority.as_str());
    match host {
        Some(host) => header.insert_header("Host", host),
        None => header.insert_header("Host", authority),
    }
    .map_err(internal)?;
    if is_control_socket(client) {
        header.insert_header("Connection", "Upgrade").map_err(internal)?;
        header.insert_header("Upgrade", "websocket").map_err(internal)?;
    } else {
        header
            .insert_header("Content-Length", body_bytes.to_string())
            .map_err(internal)?;
    }
    let peer = session.client_addr().unwrap_or_else(|| "unknown".to_owned());
    header.insert_header(PEER_HEADER, peer).map_err(internal)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn control_paths_are_told_from_providers() {
        for path in ["/", "/rpc", "/metrics", "/api/dashboard/summary"] {
            assert!(is_control_path(path), "{path}");
        }
        for path in ["/v1/chat/completions", "/groq/v1/models", "/rpcx", "/apis"] {
            assert!(!is_control_path(path), "{path}");
        }
    }
}
