//! A refusal on its way to the client: counted, worded in the caller's dialect, and heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::config::Refusals;
use crate::plugin::Dialect;
use crate::proxy::identify::clients::known_client;
use crate::proxy::report;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::json_rpc;
use crate::proxy::shared::reply::{Refusal, refuse, refuse_in_words};
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
    /// The id of the JSON-RPC request that is refused.
    asked_by: Option<Box<RawValue>>,
}

impl RefusedRequest {
    pub fn new(refusal: Refusal, endpoint: Option<&Arc<ProviderEndpoint>>, operation: &str) -> RefusedRequest {
        RefusedRequest {
            refusal,
            endpoint: endpoint.cloned(),
            operation: operation.to_owned(),
            asked_by: None,
        }
    }

    /// The same, as the answer to the JSON-RPC request with this id.
    pub fn asked_by(self, id: Option<&RawValue>) -> RefusedRequest {
        RefusedRequest {
            asked_by: id.map(ToOwned::to_owned),
            ..self
        }
    }
}

/// The refusals of a connection, one after the other, whatever its protocol. A client that goes on whatever it is refused loses it.
#[derive(Debug, Default)]
pub struct RefusalsInARow {
    count: AtomicU32,
    are_enough: AtomicBool,
}

impl RefusalsInARow {
    /// One more. True: with this one they are enough, and the connection is to end.
    pub fn add(&self, config: &Refusals) -> bool {
        let count = self.count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let are_enough = config.close_after > 0 && count >= config.close_after;
        are_enough && !self.are_enough.swap(true, Ordering::Relaxed)
    }

    /// A request was served.
    pub fn ended(&self) {
        self.count.store(0, Ordering::Relaxed);
    }

    /// Its connection is to end.
    pub fn are_enough(&self) -> bool {
        self.are_enough.load(Ordering::Relaxed)
    }
}

/// Writes a refusal to the client, one more of its connection. `false`: the connection cannot be used again.
pub async fn send_refusal(
    gateway: &Gateway,
    session: &mut ServerSession,
    refused: RefusedRequest,
    refusals: &RefusalsInARow,
) -> bool {
    let provider = refused.endpoint.as_ref().map(|endpoint| &endpoint.provider);
    let dialect = provider.map_or("", |provider| provider.dialect.as_str());
    let name = refused.endpoint.as_ref().map_or("", |endpoint| &*endpoint.name);
    let rules = gateway.rules.load_full();
    let config = &rules.config.refusals;
    let client = known_client(&session.req_header().headers);
    let now_ms = gateway.clock.monotonic_ms();
    let backs_off = || gateway.backing_off.refused(session.req_header(), client, now_ms);
    let to = Recipient {
        client,
        dialect,
        now_ms: gateway.clock.now_ms(),
    };
    let mut refusal = shaped(refused.refusal, to, config, backs_off);
    report::refused(gateway, name, &refusal);
    if refusals.add(config) {
        report::refusals_ignored(gateway, name);
        refusal = refusal.closing();
    }
    let dialect: Option<(&Arc<dyn Dialect>, &str)> = refused
        .endpoint
        .as_ref()
        .map(|endpoint| (&endpoint.plugin.dialect, refused.operation.as_str()));
    let unread = !session.is_body_done();
    if unread {
        session.close_after_answer();
    }
    match refused.asked_by {
        Some(id) => refuse_in_words(session, &refusal, json_rpc::body(&json_rpc::error(&refusal, Some(&id)))).await,
        None => refuse(session, &refusal, dialect).await,
    }
    if unread {
        linger(session, LINGER, LINGER_BYTES_MAX).await;
    }
    !refusal.close && !unread
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
