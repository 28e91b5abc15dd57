//! How commands reach the books: through a gateway, which answers on its control socket or at an address, else by opening the
//! store themselves. The methods, and so the answers, are the same.

mod address;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{Clock, Ledger, LedgerError, OfflineLedger, Retention, SystemClock};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::config::Config;
use crate::control::Module;
use crate::control::{self, ControlState, LedgerView, NoDataPlane};
use crate::tasks::spawn_named;
use crate::telemetry::Metrics;
use crate::timer::Timer;

pub use address::{Address, Remote};

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
    #[error("no gateway answers at {address}: {text}\nIs it running, and is this its address?")]
    Unreachable { address: String, text: String },
    #[error("{address}: {text}")]
    Transport { address: String, text: String },
    /// A status that is no success, before any method was called.
    #[error("{address} refuses: {text}{}", denied_hint(*.status))]
    Denied { address: String, status: u16, text: String },
    #[error("no gateway runs here: start it (agentledger serve), or name one with --url")]
    NoGateway,
    #[error(
        "no ledger at {dir}, and no gateway runs here: nothing was ever recorded in this place. Another configuration is named \
         with -c FILE or AGENTLEDGER_CONFIG, a gateway elsewhere with --url",
        dir = .0.display()
    )]
    NoLedger(PathBuf),
    #[error("several gateways run here: name one with -c FILE or --url\n{}", .0.join("\n"))]
    Several(Vec<String>),
    #[error("{0}")]
    Usage(String),
    /// Something of this machine stands in the way.
    #[error("{0}")]
    Local(String),
    #[error(
        "the ledger {dir} is in use by another process, but no gateway answers on its control socket {socket}: \
         is control.socket another one there, or does that process hang?",
        dir = dir.display(), socket = socket.display()
    )]
    InUse { dir: PathBuf, socket: PathBuf },
    #[error("{0}")]
    Ledger(String),
    /// A method's refusal, with its stable word.
    #[error("{message}{}", word_of(.word))]
    Refused { code: i32, word: String, message: String },
    #[error("unexpected answer of {method}: {error}")]
    Answer { method: String, error: serde_json::Error },
}

impl ClientError {
    /// The command was called wrongly: nobody was asked.
    pub const fn is_usage(&self) -> bool {
        matches!(self, ClientError::Usage(_))
    }
}

/// A way to call the methods.
pub struct Client {
    runtime: Runtime,
    via: Via,
}

enum Via {
    Gateway(Address),
    /// This process holds the ledger.
    Own(Box<Module>),
}

fn denied_hint(status: u16) -> &'static str {
    match status {
        401 => "\nThe token is read from AGENTLEDGER_TOKEN, or from the file that --token-file names.",
        _ => "",
    }
}

fn word_of(word: &str) -> String {
    if word.is_empty() {
        String::new()
    } else {
        format!(" ({word})")
    }
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
                    let via = Via::Own(Box::new(own_methods(config, LedgerView::Offline(Box::new(ledger)))?));
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

    /// Reaches this machine's running gateway; `None` where there is none.
    pub fn gateway(config: &Config) -> Result<Option<Client>, ClientError> {
        let socket = &config.control.socket;
        if !answers(socket)? {
            return Ok(None);
        }
        Client::at(Address::socket(socket)).map(Some)
    }

    /// Reaches the gateway at an address. Whether one is there shows with the first call.
    pub fn at(address: Address) -> Result<Client, ClientError> {
        Ok(Client {
            runtime: runtime()?,
            via: Via::Gateway(address),
        })
    }

    /// Calls the methods in this process, which has the ledger open for writing.
    pub fn of_ledger(config: &Config, ledger: Arc<Ledger>) -> Result<Client, ClientError> {
        let via = Via::Own(Box::new(own_methods(config, LedgerView::Live(ledger))?));
        Ok(Client {
            runtime: runtime()?,
            via,
        })
    }

    /// Calls the methods in this process, which answer from this.
    pub fn of_state(state: Arc<ControlState>) -> Result<Client, ClientError> {
        let module = control::methods::own_methods(state).map_err(|error| ClientError::Ledger(error.to_string()))?;
        Ok(Client {
            runtime: runtime()?,
            via: Via::Own(Box::new(module)),
        })
    }

    /// Whether a running gateway answers.
    pub fn is_gateway(&self) -> bool {
        matches!(self.via, Via::Gateway(_))
    }

    /// Calls a method with its parameter object.
    pub fn call<P: Serialize, R: DeserializeOwned>(&self, method: &str, params: &P) -> Result<R, ClientError> {
        let result = self.call_raw(method, params)?;
        serde_json::from_str(result.get()).map_err(|error| unexpected(method, error))
    }

    /// The same; the result as it came.
    pub fn call_raw<P: Serialize>(&self, method: &str, params: &P) -> Result<Box<RawValue>, ClientError> {
        let failed = |error| unexpected(method, error);
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let answer = match &self.via {
            Via::Gateway(address) => self.runtime.block_on(post(address, request))?,
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
            (Some(error), _) => Err(error.into()),
            (None, Some(result)) => Ok(result.to_owned()),
            (None, None) => to_raw_value(&Value::Null).map_err(failed),
        }
    }
}

fn unexpected(method: &str, error: serde_json::Error) -> ClientError {
    ClientError::Answer {
        method: method.to_owned(),
        error,
    }
}

pub(super) fn runtime() -> Result<Runtime, ClientError> {
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
    #[serde(default)]
    data: Value,
}

impl From<Failure> for ClientError {
    fn from(failure: Failure) -> ClientError {
        let said = |name: &str| failure.data.get(name).and_then(Value::as_str).unwrap_or_default();
        let path = said("path");
        // Most messages begin with it already.
        let message = if failure.message.contains(path) {
            failure.message.clone()
        } else {
            format!("{path}: {}", failure.message)
        };
        ClientError::Refused {
            code: failure.code,
            word: said("code").to_owned(),
            message,
        }
    }
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

fn own_methods(config: &Config, ledger: LedgerView) -> Result<Module, ClientError> {
    let state = ControlState {
        ledger,
        metrics: Arc::new(Metrics::new(&config.limits)),
        config: Arc::new(ArcSwap::from_pointee(config.clone())),
        data_plane: Arc::new(NoDataPlane),
        version: env!("CARGO_PKG_VERSION"),
        started_at_ms: SystemClock::default().now_ms(),
        requests: Default::default(),
        corrections: Default::default(),
        replays: Default::default(),
        verifications: Default::default(),
        issued_tokens: Default::default(),
    };
    control::methods::own_methods(Arc::new(state)).map_err(|error| ClientError::Ledger(error.to_string()))
}

/// One request, one connection: commands are few.
pub(super) async fn post(address: &Address, body: String) -> Result<Bytes, ClientError> {
    let stream = address.connect().await.map_err(|error| ClientError::Unreachable {
        address: address.to_string(),
        text: error.why,
    })?;
    let broken = |text: String| ClientError::Transport {
        address: address.to_string(),
        text,
    };
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|error| broken(error.to_string()))?;
    spawn_named("client-connection", connection);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(address.path())
        .header("host", address.authority())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(error.to_string()))?;
    request.headers_mut().extend(address.headers());
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| broken(error.to_string()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| broken(error.to_string()))?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    Err(ClientError::Denied {
        address: address.to_string(),
        status: status.as_u16(),
        text: format!("{status}: {}", reason(&body)),
    })
}

/// What a refusing answer says: of our own shapes the text alone, of others their beginning.
fn reason(body: &[u8]) -> String {
    const SHOWN_CHARS_MAX: usize = 300;
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = value.get("error").unwrap_or(&Value::Null);
    let text = error.as_str().or_else(|| error.get("message")?.as_str());
    let text = text.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let text: String = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
    super::style::printable(&text)
}
