//! JSON-RPC on a WebSocket: calls, and subscriptions.
//!
//! Bounds: [`CALLS_MAX`] calls of a connection run at a time, then it is read no further until one is answered and the answer is
//! written; [`NOTIFICATIONS_MAX`] notifications wait for a connection to take them; who takes nothing for [`WRITE_WAIT`], or is
//! silent for [`SILENCE_MAX`] though it is pinged, is gone.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use jsonrpsee::core::server::Methods;
use jsonrpsee::types::Id;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::base64;
use crate::control::access::Denied;
use crate::control::error::ProtocolError;
use crate::control::rpc::call::Caller;
use crate::control::transport::dispatch::{self, Connection};
use crate::meter::frames::websocket::{Message, SocketFramer, Violation, code, encode};
use crate::plugin::Sender;
use crate::tasks::spawn_named;

/// Longest message of a client.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const CALLS_MAX: usize = 8;
const NOTIFICATIONS_MAX: usize = 32;
const WRITE_WAIT: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(30);
const SILENCE_MAX: Duration = Duration::from_secs(75);
/// How long what a client still sends is taken in after the close.
const LINGER: Duration = Duration::from_secs(2);
/// The first message of a connection whose handshake bears no token, and how long it may take.
const FIRST: &str = "system.authenticate";
const FIRST_WAIT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 4 << 10;
/// Bytes that are written at once.
const WRITE_BYTES: usize = 64 << 10;
/// RFC 6455 §1.3.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request asks for a WebSocket.
pub(in crate::control) fn is_upgrade(headers: &HeaderMap) -> bool {
    has_word(headers, header::UPGRADE.as_str(), "websocket")
        && has_word(headers, header::CONNECTION.as_str(), "upgrade")
}

fn has_word(headers: &HeaderMap, name: &str, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(word))
}

/// Who a token stands for now, it may have expired, or be another's, since. `None`: the handshake's.
pub(in crate::control) type CallerOf = Box<dyn Fn(Option<&str>) -> Result<Caller, Denied> + Send + Sync>;

/// What a connection needs of the control plane.
pub(in crate::control) struct Served {
    pub methods: Methods,
    /// `None`: its first message is to say who calls, see [`FIRST`].
    pub caller: Option<Caller>,
    pub caller_of: CallerOf,
    /// Its place among the connections there may be, or among those that have not said who calls.
    pub place: OwnedSemaphorePermit,
    /// Where it gets a place once it has.
    pub places: Arc<Semaphore>,
    pub stopped: watch::Receiver<bool>,
}

/// Switches the request's connection. `Err`: the handshake is none, and why.
pub(in crate::control) fn accept(served: Served, mut request: Request) -> Result<Response, &'static str> {
    let said = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if said("sec-websocket-version") != Some("13") {
        return Err("only version 13 of the WebSocket protocol is spoken");
    }
    let key = said("sec-websocket-key").filter(|key| key.len() == 24);
    let key = key.ok_or("the handshake has no valid Sec-WebSocket-Key")?;
    let accepted = base64::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_GUID}").as_bytes()).as_ref());
    let switching = hyper::upgrade::on(&mut request);
    spawn_named("control-websocket", async move {
        // The client left before the answer to its handshake was out.
        let Ok(switched) = switching.await else { return };
        let (read, write) = tokio::io::split(TokioIo::new(switched));
        serve(served, read, write).await;
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header("sec-websocket-accept", accepted);
    response
        .body(Body::empty())
        .map_err(|_| "the handshake cannot be answered")
}

/// A message to write, and what it keeps busy until it is written.
struct Outgoing {
    message: Message,
    _call: Option<OwnedSemaphorePermit>,
}

impl From<Message> for Outgoing {
    fn from(message: Message) -> Outgoing {
        Outgoing { message, _call: None }
    }
}

async fn serve<R, W>(served: Served, mut read: R, write: W)
where
    R: AsyncReadExt + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let Served {
        methods,
        caller,
        caller_of,
        place,
        places,
        mut stopped,
    } = served;
    let mut framer = SocketFramer::new(Sender::Client, MESSAGE_BYTES_MAX);
    let mut write = write;
    let (caller, token, place) = match caller {
        Some(caller) => (caller, None, place),
        None => match opened((&mut read, &mut write, &mut framer), &caller_of, &places).await {
            Some(opened) => opened,
            None => return,
        },
    };
    let (sink, notifications) = mpsc::channel(NOTIFICATIONS_MAX);
    // A place for each call that runs, and for the answers to pings and the close.
    let (answers, to_write) = mpsc::channel(CALLS_MAX + 2);
    let writer = spawn_named("control-websocket-writer", write_all(write, to_write, notifications));
    let mut reader = Reader {
        methods,
        caller,
        caller_now: Box::new(move || caller_of(token.as_deref())),
        connection: Arc::new(Connection::new(sink)),
        answers: answers.clone(),
        room: Arc::new(Semaphore::new(CALLS_MAX)),
        calls: JoinSet::new(),
    };
    let why = tokio::select! {
        why = reader.run(&mut read, framer) => why,
        _ = stopped.changed() => Some((code::GOING_AWAY, "the gateway stops".to_owned())),
        () = answers.closed() => None,
    };
    // Calls that run on write nothing any more.
    drop(reader);
    if let Some(why) = why {
        let _ = timeout(WRITE_WAIT, answers.send(Message::Close(Some(why)).into())).await;
    }
    drop(answers);
    let _ = timeout(WRITE_WAIT, writer).await;
    let _ = timeout(LINGER, discard(read)).await;
    drop(place);
}

/// What a connection says first whose handshake bears no token: a call of [`FIRST`] with `{"token": "…"}`.
#[derive(Deserialize)]
struct FirstCall<'m> {
    #[serde(borrow)]
    id: Id<'m>,
    method: Cow<'m, str>,
    params: FirstParams<'m>,
}

#[derive(Deserialize)]
struct FirstParams<'m> {
    #[serde(borrow)]
    token: Cow<'m, str>,
}

/// Reads the first message, and answers it: who calls, by which token, and its place. `None`: it does not open.
async fn opened<R, W>(
    (read, write, framer): (&mut R, &mut W, &mut SocketFramer),
    caller_of: &CallerOf,
    places: &Arc<Semaphore>,
) -> Option<(Caller, Option<String>, OwnedSemaphorePermit)>
where
    R: AsyncReadExt + Unpin,
    W: AsyncWrite + Unpin,
{
    let text = timeout(FIRST_WAIT, first_text(read, framer)).await.ok()??;
    let first: Option<FirstCall<'_>> = serde_json::from_slice(&text)
        .ok()
        .filter(|call: &FirstCall<'_>| call.method == FIRST);
    let (id, found) = match &first {
        Some(call) => (call.id.clone(), caller_of(Some(&call.params.token))),
        None => (Id::Null, Err(Denied::NoToken)),
    };
    let place = Arc::clone(places).try_acquire_owned();
    let (answer, opened) = match (found, place) {
        (Ok(caller), Ok(place)) => {
            let token = first.as_ref().map(|call| call.params.token.clone().into_owned());
            (dispatch::nothing(id), Some((caller, token, place)))
        }
        (Ok(_), Err(_)) => (dispatch::refusal(id, ProtocolError::TooManyConnections), None),
        (Err(denied), _) => (dispatch::denied(id, denied), None),
    };
    let mut bytes = encode(&Message::Text(answer.into()), None).to_vec();
    if opened.is_none() {
        let why = (code::POLICY, "the first message opens nothing".to_owned());
        bytes.extend_from_slice(&encode(&Message::Close(Some(why)), None));
    }
    let written = timeout(WRITE_WAIT, async {
        write.write_all(&bytes).await?;
        write.flush().await
    });
    let is_written = matches!(written.await, Ok(Ok(())));
    opened.filter(|_| is_written)
}

/// The first text; `None`: none comes.
async fn first_text(read: &mut (impl AsyncReadExt + Unpin), framer: &mut SocketFramer) -> Option<Bytes> {
    let mut buffer = vec![0; READ_BYTES].into_boxed_slice();
    loop {
        match framer.message().ok()? {
            Some(Message::Text(text)) => return Some(text),
            // Nothing else may stand before it.
            Some(_) => return None,
            None => {}
        }
        let bytes = read.read(&mut buffer).await.ok().filter(|bytes| *bytes > 0)?;
        framer.push(buffer.get(..bytes).unwrap_or_default());
    }
}

/// Takes in what still comes: a close over unread bytes resets the connection, and the client would not read why.
async fn discard(mut read: impl AsyncReadExt + Unpin) {
    let mut buffer = vec![0; READ_BYTES].into_boxed_slice();
    while read.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
}

struct Reader {
    methods: Methods,
    caller: Caller,
    caller_now: Box<dyn Fn() -> Result<Caller, Denied> + Send + Sync>,
    connection: Arc<Connection>,
    answers: mpsc::Sender<Outgoing>,
    room: Arc<Semaphore>,
    /// Ended with the connection.
    calls: JoinSet<()>,
}

impl Reader {
    /// Reads to the connection's end; what to close it with, where it is ours to close.
    async fn run(&mut self, read: &mut (impl AsyncReadExt + Unpin), mut framer: SocketFramer) -> Option<(u16, String)> {
        let mut buffer = vec![0; READ_BYTES].into_boxed_slice();
        let mut silent = Duration::ZERO;
        loop {
            match framer.message() {
                Ok(Some(message)) => {
                    if let Some(end) = self.take(message).await {
                        return end;
                    }
                    continue;
                }
                Ok(None) => {}
                Err(violation) => {
                    if violation == Violation::TooBig {
                        let refusal = dispatch::refusal(Id::Null, ProtocolError::RequestTooLarge);
                        let _ = self.answers.send(Message::Text(refusal.into()).into()).await;
                    }
                    return Some((violation.code(), violation.to_string()));
                }
            }
            match timeout(PING_EVERY, read.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return None,
                Ok(Ok(bytes)) => {
                    silent = Duration::ZERO;
                    framer.push(buffer.get(..bytes).unwrap_or_default());
                }
                Err(_) => {
                    if let Some(end) = self.turned_away() {
                        return Some(end);
                    }
                    silent += PING_EVERY;
                    if silent >= SILENCE_MAX {
                        return None;
                    }
                    self.answers.send(Message::Ping(Bytes::new()).into()).await.ok()?;
                }
            }
        }
    }

    /// What to close with, where the caller may not go on as it began.
    fn turned_away(&self) -> Option<(u16, String)> {
        match (self.caller_now)() {
            Ok(now) if now == self.caller => None,
            Ok(_) => Some((
                code::POLICY,
                "the token's rights have changed: connect again".to_owned(),
            )),
            Err(denied) => Some((code::POLICY, denied.to_string())),
        }
    }

    /// `Some`: the connection ends with it.
    async fn take(&mut self, message: Message) -> Option<Option<(u16, String)>> {
        match message {
            Message::Text(text) => {
                if let Some(end) = self.turned_away() {
                    return Some(Some(end));
                }
                while self.calls.try_join_next().is_some() {}
                let Ok(place) = Arc::clone(&self.room).acquire_owned().await else {
                    return Some(None);
                };
                let (methods, caller) = (self.methods.clone(), self.caller.clone());
                let (connection, answers) = (Arc::clone(&self.connection), self.answers.clone());
                self.calls.spawn(async move {
                    if let Some(answer) = dispatch::answer(&methods, &caller, &text, Some(&connection)).await {
                        let outgoing = Outgoing {
                            message: Message::Text(answer.into()),
                            _call: Some(place),
                        };
                        // Nobody is there to read it any more.
                        let _ = answers.send(outgoing).await;
                    }
                });
                None
            }
            Message::Ping(payload) => {
                let _ = self.answers.send(Message::Pong(payload).into()).await;
                None
            }
            Message::Pong(_) => None,
            Message::Binary(_) => Some(Some((code::UNSUPPORTED, "calls are text".to_owned()))),
            Message::Close(why) => Some(Some(why.unwrap_or((code::NORMAL, String::new())))),
        }
    }
}

/// Writes what is there in one go: of a thousand connections that follow the ledger each is written to once for many entries.
async fn write_all<W: AsyncWrite + Unpin>(
    mut write: W,
    mut answers: mpsc::Receiver<Outgoing>,
    mut notifications: mpsc::Receiver<Box<RawValue>>,
) {
    let mut bytes = Vec::new();
    loop {
        let mut calls = Vec::new();
        let mut closes = false;
        let mut put = |outgoing: Outgoing, bytes: &mut Vec<u8>| {
            closes |= matches!(outgoing.message, Message::Close(_));
            bytes.extend_from_slice(&encode(&outgoing.message, None));
            calls.push(outgoing);
        };
        let notified = |text: Box<RawValue>| Outgoing::from(Message::Text(String::from(Box::<str>::from(text)).into()));
        tokio::select! {
            outgoing = answers.recv() => match outgoing {
                Some(outgoing) => put(outgoing, &mut bytes),
                None => break,
            },
            Some(text) = notifications.recv() => put(notified(text), &mut bytes),
        }
        while bytes.len() < WRITE_BYTES {
            if let Ok(outgoing) = answers.try_recv() {
                put(outgoing, &mut bytes);
            } else if let Ok(text) = notifications.try_recv() {
                put(notified(text), &mut bytes);
            } else {
                break;
            }
        }
        let written = timeout(WRITE_WAIT, async {
            write.write_all(&bytes).await?;
            write.flush().await
        });
        if !matches!(written.await, Ok(Ok(()))) || closes {
            break;
        }
        bytes.clear();
        bytes.shrink_to(WRITE_BYTES);
    }
    let _ = timeout(WRITE_WAIT, write.shutdown()).await;
}
