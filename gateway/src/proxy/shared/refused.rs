//! A refusal on its way to the client: counted, worded in the caller's dialect, and heard.

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::http::ServerSession;
use tokio::time::timeout;

use crate::plugin::Dialect;
use crate::proxy::report;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::reply::{Refusal, refuse};
use crate::proxy::shared::rules::ProviderEndpoint;

/// How long, and how much, a refused client may go on sending before its connection is closed.
pub const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: u64 = 64 << 20;

/// A refusal, and in whose dialect it is said.
pub struct RefusedRequest {
    refusal: Refusal,
    endpoint: Option<Arc<ProviderEndpoint>>,
    operation: String,
}

impl RefusedRequest {
    pub fn new(refusal: Refusal, endpoint: Option<&Arc<ProviderEndpoint>>, operation: &str) -> RefusedRequest {
        RefusedRequest {
            refusal,
            endpoint: endpoint.cloned(),
            operation: operation.to_owned(),
        }
    }
}

/// Writes a refusal to the client. `false`: the connection cannot be used again.
pub async fn send_refusal(gateway: &Gateway, session: &mut ServerSession, refused: &RefusedRequest) -> bool {
    let name = refused
        .endpoint
        .as_ref()
        .map_or("", |endpoint| endpoint.provider.name.as_str());
    report::refused(gateway, name, &refused.refusal);
    let dialect: Option<(&Arc<dyn Dialect>, &str)> = refused
        .endpoint
        .as_ref()
        .map(|endpoint| (&endpoint.plugin.dialect, refused.operation.as_str()));
    let unread = !session.is_body_done();
    if unread {
        session.set_keepalive(None);
    }
    refuse(session, &refused.refusal, dialect).await;
    if unread {
        linger(session, LINGER, LINGER_BYTES_MAX).await;
    }
    !refused.refusal.close && !unread
}

/// Reads what a refused client still sends, for a while: a close over unread bytes would reset the connection, and the
/// client would never read why.
pub async fn linger(session: &mut ServerSession, patience: Duration, bytes_max: u64) {
    let taken = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = session.read_request_body().await {
            bytes += chunk.len() as u64;
            if bytes > bytes_max {
                break;
            }
        }
    };
    let _ = timeout(patience, taken).await;
}
