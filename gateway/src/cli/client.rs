//! How commands reach the books: through the running gateway's control socket, else by opening the store themselves. The
//! methods, and so the answers, are the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{Clock, LedgerError, OfflineLedger, Retention, SystemClock};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::config::Config;
use crate::control::Module;
use crate::control::{self, ControlState, LedgerView, NoDataPlane};
use crate::tasks::spawn_named;
use crate::telemetry::Metrics;
use crate::timer::Timer;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 128 << 20;
/// A gateway that starts or stops holds its store a moment longer than its socket: so long we try again.
const CHANGE_WAIT: Duration = Duration::from_secs(3);
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot run: {0}")]
    Runtime(std::io::Error),
    #[error("control socket {socket}: {error}", socket = socket.display())]
    Socket { socket: PathBuf, error: std::io::Error },
    #[error("control socket {socket}: {text}", socket = socket.display())]
    Transport { socket: PathBuf, text: String },
    #[error(
        "the ledger {dir} is in use by another process, but no gateway answers on its control socket {socket}: \
         is control.socket another one there, or does that process hang?",
        dir = dir.display(), socket = socket.display()
    )]
    InUse { dir: PathBuf, socket: PathBuf },
    #[error("{0}")]
    Ledger(String),
    /// A method's refusal.
    #[error("{message}")]
    Refused { code: i32, message: String },
    #[error("unexpected answer of {method}: {error}")]
    Answer { method: String, error: serde_json::Error },
}

/// A way to call the methods.
pub struct Client {
    runtime: Runtime,
    via: Via,
}

enum Via {
    Socket(PathBuf),
    /// This process holds the ledger.
    Own(Box<Module>),
}

impl Client {
    /// Reaches the gateway, or opens the store. `None` where there is no store yet: nothing was ever recorded.
    pub fn open(config: &Config) -> Result<Option<Client>, ClientError> {
        let dir = &config.storage.dir;
        let started = Timer::start();
        loop {
            if let Some(client) = Client::gateway(config)? {
                return Ok(Some(client));
            }
            let kept = Retention {
                names_per_kind_max: config.limits.names_per_kind_max,
                ..Retention::default()
            };
            match OfflineLedger::open(dir, kept) {
                Ok(None) => return Ok(None),
                Ok(Some(ledger)) => {
                    let via = Via::Own(Box::new(own_methods(config, ledger)?));
                    return Ok(Some(Client {
                        runtime: runtime()?,
                        via,
                    }));
                }
                Err(LedgerError::InUse(_)) => wait_for_change(config, started)?,
                Err(error) => return Err(ClientError::Ledger(error.to_string())),
            }
        }
    }

    /// Reaches a running gateway; `None` where there is none.
    pub fn gateway(config: &Config) -> Result<Option<Client>, ClientError> {
        let socket = &config.control.socket;
        if !answers(socket)? {
            return Ok(None);
        }
        Ok(Some(Client {
            runtime: runtime()?,
            via: Via::Socket(socket.clone()),
        }))
    }

    /// Whether a running gateway answers.
    pub fn is_gateway(&self) -> bool {
        matches!(self.via, Via::Socket(_))
    }

    /// Calls a method with its parameter object.
    pub fn call<P: Serialize, R: DeserializeOwned>(&self, method: &str, params: &P) -> Result<R, ClientError> {
        let failed = |error| ClientError::Answer {
            method: method.to_owned(),
            error,
        };
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let answer = match &self.via {
            Via::Socket(socket) => {
                self.runtime
                    .block_on(post(socket, request))
                    .map_err(|text| ClientError::Transport {
                        socket: socket.clone(),
                        text,
                    })?
            }
            Via::Own(module) => {
                let (answer, _) = self
                    .runtime
                    .block_on(module.raw_json_request(&request, 1))
                    .map_err(failed)?;
                Bytes::from(answer.get().to_owned())
            }
        };
        let reply: Reply<'_> = serde_json::from_slice(&answer).map_err(failed)?;
        match (reply.error, reply.result) {
            (Some(error), _) => Err(ClientError::Refused {
                code: error.code,
                message: error.message,
            }),
            (None, result) => serde_json::from_str(result.map_or("null", RawValue::get)).map_err(failed),
        }
    }
}

fn runtime() -> Result<Runtime, ClientError> {
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    built.map_err(ClientError::Runtime)
}

/// Waits a little while the store is another's, and gives up after a while.
pub(super) fn wait_for_change(config: &Config, started: Timer) -> Result<(), ClientError> {
    if started.elapsed() > CHANGE_WAIT {
        let (dir, socket) = (config.storage.dir.clone(), config.control.socket.clone());
        return Err(ClientError::InUse { dir, socket });
    }
    std::thread::sleep(RETRY_AFTER);
    Ok(())
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    code: i32,
    message: String,
}

/// Whether somebody listens on the socket. A file that nobody listens on is left over from a killed gateway.
fn answers(socket: &Path) -> Result<bool, ClientError> {
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            // A path that is too long was never bound either.
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::InvalidInput
            | std::io::ErrorKind::NotADirectory => Ok(false),
            _ => Err(ClientError::Socket {
                socket: socket.to_owned(),
                error,
            }),
        },
    }
}

fn own_methods(config: &Config, ledger: OfflineLedger) -> Result<Module, ClientError> {
    let state = ControlState {
        ledger: LedgerView::Offline(Box::new(ledger)),
        metrics: Arc::new(Metrics::new(&config.limits)),
        config: Arc::new(ArcSwap::from_pointee(config.clone())),
        data_plane: Arc::new(NoDataPlane),
        version: env!("CARGO_PKG_VERSION"),
        started_at_ms: SystemClock::default().now_ms(),
        requests: Default::default(),
    };
    control::rpc::own_methods(Arc::new(state)).map_err(|error| ClientError::Ledger(error.to_string()))
}

/// One request, one connection: commands are few.
async fn post(socket: &Path, body: String) -> Result<Bytes, String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|error| error.to_string())?;
    spawn_named("client-connection", connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri("/rpc")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body).trim()));
    }
    Ok(body)
}
