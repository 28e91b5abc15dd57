//! `OPTIONS`: what browsers ask before a page's request, and what may be done at a path.

use std::sync::Arc;

use agentledger_http1::ResponseHead;
use bytes::Bytes;
use http::StatusCode;

use super::control_proxy::is_control_path;
use crate::mcp;
use crate::proxy::identify::allowed_at;
use crate::proxy::sanitize::normalise_path;
use crate::proxy::shared::cors;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;

/// What may be sent where no path is named (RFC 9110 §9.3.7).
const ANYWHERE: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Answers here; `None`: it is to be handled as any other request, and refused. `Some(false)`: the connection cannot be used
/// again.
pub async fn answer(gateway: &Arc<Gateway>, session: &mut ServerSession) -> Option<bool> {
    let rules = gateway.rules.load_full();
    let mut fields = cors::leave(session.req_header());
    let is_preflight = cors::is_preflight(session.req_header());
    if !is_preflight || rules.config.cors_allow_origins.is_empty() {
        let allow = match session.req_header().uri.path() {
            "*" => ANYWHERE.to_owned(),
            path if is_control_path(path) => return None,
            _ => {
                normalise_path(session.req_header_mut()).ok()?;
                if mcp::serves(session.req_header().uri.path()) {
                    mcp::METHODS.to_owned()
                } else {
                    allowed_at(&rules, session.req_header())?
                }
            }
        };
        fields.push(("Allow", allow));
    }
    let unread = !session.is_body_empty();
    if unread {
        session.close_after_answer();
    }
    let mut head = ResponseHead::new(StatusCode::NO_CONTENT);
    cors::put(session, &mut head);
    for (name, value) in fields {
        head.insert(name, &value).ok()?;
    }
    let written = session.write_response_header(&head).await.is_ok();
    Some(written && session.write_response_body(Bytes::new(), true).await.is_ok() && !unread)
}
