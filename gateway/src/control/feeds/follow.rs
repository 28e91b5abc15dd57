//! The other end of a subscription, for whoever has a connection to a gateway: the CLI.

use std::time::Duration;

use http::{HeaderMap, Uri};
use jsonrpsee::core::client::{Error as CallError, Subscription, SubscriptionClientT as _};
use jsonrpsee::core::params::ObjectParams;
use jsonrpsee::ws_client::{PingConfig, WsClient, WsClientBuilder};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};

/// Longest item that is read.
const ITEM_BYTES_MAX: u32 = 16 << 20;
/// Items that may wait for their reader, before it is dropped as a slow one.
const WAITING_MAX: usize = 8_192;
/// How often a gateway is tried that says nothing.
const PING_EVERY: Duration = Duration::from_secs(10);
/// So long without an answer, it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Appended to a subscription's name: the method that ends it.
const END: &str = ".end";

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// No WebSocket came of the connection.
    #[error("{0}")]
    Handshake(String),
    /// The method's refusal.
    #[error("{text}")]
    Refused { code: i32, word: String, text: String },
    #[error("{0}")]
    Broken(String),
}

/// A running subscription.
pub struct Feed {
    items: Subscription<Value>,
    /// The connection lives as long as it.
    _client: WsClient,
}

/// Subscribes over a connection, whose `Host` and path the address names.
///
/// # Errors
/// As [`FollowError`] says.
pub async fn follow<T>(
    connection: T,
    address: &Uri,
    headers: HeaderMap,
    method: &str,
    params: Map<String, Value>,
) -> Result<Feed, FollowError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let client: WsClient = WsClientBuilder::new()
        .max_response_size(ITEM_BYTES_MAX)
        .max_buffer_capacity_per_subscription(WAITING_MAX)
        .enable_ws_ping(PingConfig::new().ping_interval(PING_EVERY).inactive_limit(SILENCE_MAX))
        .set_headers(headers)
        .build_with_stream(address.to_string(), connection)
        .await
        .map_err(|error| FollowError::Handshake(error.to_string()))?;
    let mut given = ObjectParams::new();
    for (name, value) in params {
        given
            .insert(&name, value)
            .map_err(|error| FollowError::Broken(error.to_string()))?;
    }
    let items = client.subscribe(method, given, &format!("{method}{END}")).await;
    let items = items.map_err(|error| match error {
        CallError::Call(refused) => {
            let data: Value = refused
                .data()
                .and_then(|data| serde_json::from_str(data.get()).ok())
                .unwrap_or_default();
            FollowError::Refused {
                code: refused.code(),
                word: data.get("code").and_then(Value::as_str).unwrap_or_default().to_owned(),
                text: refused.message().to_owned(),
            }
        }
        other => FollowError::Broken(other.to_string()),
    })?;
    Ok(Feed { items, _client: client })
}

impl Feed {
    /// The next item; `None` where there will be no more.
    pub async fn next(&mut self) -> Option<Value> {
        match self.items.next().await {
            Some(Ok(item)) => Some(item),
            Some(Err(_)) | None => None,
        }
    }
}
