//! A refusal on its way to the client: counted, worded in the caller's dialect, and heard.

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::http::ServerSession;
use tokio::time::timeout;

use crate::config::Refusals;
use crate::plugin::Dialect;
use crate::proxy::identify::clients::known_client;
use crate::proxy::report;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::reply::{Refusal, refuse};
use crate::proxy::shared::rules::ProviderEndpoint;
use crate::proxy::shared::shapes::{Recipient, shaped};

/// How long, and how much, a refused client may go on sending before its connection is closed.
pub const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: u64 = 64 << 20;

/// A refusal, in whose dialect it is said, and to whom.
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

/// Writes a refusal to the client: the `in_a_row`th of its connection. `false`: the connection cannot be used again.
pub async fn send_refusal(
    gateway: &Gateway,
    session: &mut ServerSession,
    refused: RefusedRequest,
    in_a_row: u32,
) -> bool {
    let provider = refused.endpoint.as_ref().map(|endpoint| &endpoint.provider);
    let (name, dialect) = provider.map_or(("", ""), |provider| (provider.name.as_str(), provider.dialect.as_str()));
    let rules = gateway.rules.load_full();
    let config = &rules.config.refusals;
    let client = known_client(&session.req_header().headers);
    let now_ms = gateway.clock.monotonic_ms();
    let backs_off = || gateway.backing_off.is_backing_off(session.req_header(), now_ms);
    let to = Recipient {
        client,
        dialect,
        now_ms: gateway.clock.now_ms(),
    };
    let mut refusal = shaped(refused.refusal, to, config, backs_off);
    report::refused(gateway, name, &refusal);
    if is_enough(config, in_a_row) {
        report::refusals_ignored(gateway, name);
        refusal = refusal.closing();
    }
    let dialect: Option<(&Arc<dyn Dialect>, &str)> = refused
        .endpoint
        .as_ref()
        .map(|endpoint| (&endpoint.plugin.dialect, refused.operation.as_str()));
    let unread = !session.is_body_done();
    if unread {
        session.set_keepalive(None);
    }
    refuse(session, &refusal, dialect).await;
    if unread {
        linger(session, LINGER, LINGER_BYTES_MAX).await;
    }
    !refusal.close && !unread
}

/// The client goes on whatever it is refused: its connection ends.
pub fn is_enough(config: &Refusals, in_a_row: u32) -> bool {
    config.close_after > 0 && in_a_row >= config.close_after
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
