//! The gateway's methods over connections that are kept: a call of a tool waits for its answer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::super::client::Address;
use crate::mcp::wrap::{Away, Rpc};
use crate::tasks::spawn_named;

/// How long a method may take that waits for nothing; a call that is to be held may wait for other holds besides.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a connection may break off before its answer. A gateway that is being killed still has connections, and may have held what it
/// was asked to: whoever asks on finds nobody there, or the next one, which knows. One that breaks off each time does not take it.
const ATTEMPTS: u32 = 6;
/// Waited after the first of them; more after each.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections kept idle.
const IDLE_MAX: usize = 8;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

type Sender = SendRequest<Full<Bytes>>;

/// See the module.
pub struct GatewayRpc {
    address: Address,
    /// How long a call may wait for the holds of others.
    hold_wait: Duration,
    idle: Mutex<Vec<Sender>>,
}

#[derive(Serialize)]
struct Asked<'a, P> {
    jsonrpc: &'static str,
    id: u8,
    method: &'static str,
    params: &'a P,
}

#[derive(Deserialize)]
struct Answered<A> {
    result: Option<A>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
}

impl GatewayRpc {
    pub fn new(address: Address, hold_wait: Duration) -> GatewayRpc {
        GatewayRpc {
            address,
            hold_wait,
            idle: Mutex::default(),
        }
    }

    async fn connect(&self) -> Result<Sender, Away> {
        let stream = self.address.connect().await.map_err(|error| match error.is_nobody {
            true => Away::Nobody(error.why),
            false => Away::Refuses(error.why),
        })?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Away::Refuses(error.to_string()))?;
        spawn_named("wrapper-connection", connection);
        Ok(sender)
    }

    /// Status and body of one answer.
    async fn post(&self, sender: &mut Sender, body: Bytes) -> Result<(http::StatusCode, Bytes), String> {
        sender.ready().await.map_err(|error| error.to_string())?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.address.path())
            .header("host", self.address.authority())
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        request.headers_mut().extend(self.address.headers());
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    }

    async fn sent(&self, body: Bytes) -> Result<(http::StatusCode, Bytes), Away> {
        let kept = self.idle.lock().pop();
        if let Some(mut sender) = kept
            && let Ok(answer) = self.post(&mut sender, body.clone()).await
        {
            self.keep(sender);
            return Ok(answer);
        }
        // A connection that was kept may be of a gateway that is gone. What is asked twice is done once.
        self.idle.lock().clear();
        let mut broken = String::new();
        for attempt in 1..=ATTEMPTS {
            let mut sender = self.connect().await?;
            match self.post(&mut sender, body.clone()).await {
                Ok(answer) => {
                    self.keep(sender);
                    return Ok(answer);
                }
                Err(text) => broken = text,
            }
            sleep(PAUSE * attempt).await;
        }
        Err(Away::Refuses(broken))
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(sender);
        }
    }
}

impl Rpc for GatewayRpc {
    async fn call<P, A>(&self, method: &'static str, params: &P) -> Result<A, Away>
    where
        P: Serialize + Sync,
        A: DeserializeOwned,
    {
        let asked = Asked {
            jsonrpc: "2.0",
            id: 1,
            method,
            params,
        };
        let body = serde_json::to_vec(&asked).map_err(|error| Away::Refuses(error.to_string()))?;
        let patience = match method {
            "mcp.begin" => self.hold_wait + PATIENCE,
            _ => PATIENCE,
        };
        let sent = timeout(patience, self.sent(body.into())).await;
        let (status, body) = sent.map_err(|_| Away::Silent(patience))??;
        let answer: Answered<A> =
            serde_json::from_slice(&body).map_err(|_| Away::Refuses(format!("it answers {status}")))?;
        match (answer.result, answer.error) {
            (Some(result), _) => Ok(result),
            (None, Some(failure)) => Err(Away::Refuses(failure.message)),
            (None, None) => Err(Away::Refuses(format!("it answers {status}"))),
        }
    }
}
