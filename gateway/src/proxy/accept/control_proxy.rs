//! Requests for the control plane that come in on the proxy's port are handed over to its socket, with the peer's
//! address, by which it knows that they are not its owner's.

use std::time::Duration;

use bytes::Bytes;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::timeout;

use crate::control::PEER_HEADER;
use crate::proxy::identify::ownership::refuse_foreign_host;
use crate::proxy::sanitize::headers::is_ours;
use crate::proxy::sanitize::{check_head, check_length, read_body};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::cors;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::reply::{Refusal, refuse};

/// Longest wait for the control plane: it has no slow upstream behind it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an idle connection to the control plane is kept.
const KEPT_IDLE: Duration = Duration::from_secs(10);

pub fn is_control(path: &str) -> bool {
    matches!(path, "/" | "/rpc" | "/metrics" | "/api") || path.starts_with("/api/") || path.starts_with("/assets/")
}

/// Hands the request over and relays the answer. `false`: the connection cannot be used again.
pub async fn relay_to_control(gateway: &Gateway, session: &mut ServerSession) -> bool {
    match relay(gateway, session).await {
        Ok(reusable) => reusable,
        Err(refusal) => {
            refuse(session, &refusal, None).await;
            !refusal.close
        }
    }
}

async fn relay(gateway: &Gateway, session: &mut ServerSession) -> Result<bool, Refusal> {
    let rules = gateway.rules.load_full();
    let limits = &rules.config.limits;
    check_head(session, limits)?;
    check_length(session.req_header(), limits.body_bytes_max)?;
    let body = read_body(session, limits, &gateway.bodies).await?;
    // The page at the root says nothing that a stranger may not know.
    if session.req_header().uri.path() != "/" {
        refuse_foreign_host(&rules.config, session.req_header())?;
    }
    let header = request_for_control(session, body.bytes.len())?;
    let away = |_| Refusal::new(RefusalCode::ControlUnavailable, "the control plane does not answer").retry_after(1);
    let peer = HttpPeer::new_uds(&gateway.control.to_string_lossy(), false, String::new()).map_err(away)?;
    let late = || Refusal::new(RefusalCode::ControlTimeout, "the control plane did not answer in time");
    let connected = timeout(PATIENCE, rules.pool.get_http_session(&peer))
        .await
        .map_err(|_| late())?;
    let (mut upstream, _) = connected.map_err(away)?;
    upstream.set_write_timeout(Some(PATIENCE));
    session.set_write_timeout(Some(PATIENCE));
    upstream.write_request_header(Box::new(header)).await.map_err(away)?;
    if !body.bytes.is_empty() {
        upstream
            .write_request_body(body.bytes.clone(), true)
            .await
            .map_err(away)?;
    }
    upstream.finish_request_body().await.map_err(away)?;
    match timeout(PATIENCE, upstream.read_response_header()).await {
        Ok(Ok(())) => {}
        _ => {
            return Err(Refusal::new(
                RefusalCode::ControlTimeout,
                "the control plane did not answer in time",
            ));
        }
    }
    let Some(answer) = upstream.response_header() else {
        return Err(Refusal::new(
            RefusalCode::ControlFailed,
            "the control plane gave no answer",
        ));
    };
    let mut head = answer.clone();
    head.remove_header("connection");
    cors::put(session, &mut head);
    if session.write_response_header(Box::new(head)).await.is_err() {
        return Ok(false);
    }
    while let Ok(Ok(Some(chunk))) = timeout(PATIENCE, upstream.read_response_body()).await {
        if session.write_response_body(chunk, false).await.is_err() {
            return Ok(false);
        }
    }
    let whole = upstream.response_done();
    if whole {
        rules.pool.release_http_session(upstream, &peer, Some(KEPT_IDLE)).await;
    }
    Ok(session.write_response_body(Bytes::new(), true).await.is_ok() && whole)
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
    header.insert_header("Host", "control").map_err(internal)?;
    header
        .insert_header("Content-Length", body_bytes.to_string())
        .map_err(internal)?;
    let peer = session
        .client_addr()
        .map_or_else(|| "unknown".to_owned(), ToString::to_string);
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
            assert!(is_control(path), "{path}");
        }
        for path in ["/v1/chat/completions", "/groq/v1/models", "/rpcx", "/apis"] {
            assert!(!is_control(path), "{path}");
        }
    }
}
