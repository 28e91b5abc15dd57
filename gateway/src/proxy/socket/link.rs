//! Moves messages between a client and its upstream until the connection ends, and ends it in order: every answer is in
//! the books before the client can know that it is over.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};
use ulid::Ulid;

use super::answers::{AdmittedMessage, ConnectionAnswers, Passing, UnfinishedAnswer, Waited};
use super::open_answers::AnswerStop;
use super::upgrade::Opened;
use super::wire::{self, MessageSink, MessageSource, ReadEnd};
use crate::clients::Client;
use crate::meter::End;
use crate::meter::frames::websocket::{Message, closing, code};
use crate::meter::frames::{Framer, Framing};
use crate::plugin::outline::{Outline, outline};
use crate::plugin::{Ending, Meaning, Sender, SocketMessage, Step};
use crate::proxy::report::{self, UpstreamError};
use crate::proxy::session;
use crate::proxy::shared::allowance::Uncovered;
use crate::proxy::shared::body::BodyShare;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::refusal_text;
use crate::proxy::shared::refused::RefusalsInARow;
use crate::proxy::shared::reply::Refusal;
use crate::proxy::shared::rules::ProviderEndpoint;
use crate::proxy::shared::shapes::{Recipient, ending_for, shaped};
use crate::timer::Timer;

/// How long an end waits for the other end's close.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long a client is listened to whose frames cannot be read any more.
const FAULT_LINGER: Duration = Duration::from_millis(500);
/// How often silence is looked at, at least.
const SILENCE_STEP: Duration = Duration::from_secs(5);

/// Why a connection is over.
#[derive(Debug)]
enum ConnectionEnd {
    /// By a close frame, which was passed on.
    ClientClosed,
    ServerClosed,
    ClientGone,
    ServerGone,
    /// Frames that cannot be read, or may not be sent: the code and what is wrong.
    ClientFault(u16, String),
    ServerFault(u16, String),
    /// Nothing came for too long; while an answer was running, or not.
    Silent {
        running: bool,
    },
    /// An answer had to be stopped that nothing else stops; the client knows.
    Cut,
    Drained,
    /// From here, by the gateway's end or the session's.
    Stopped(session::StopReason),
}

struct Link {
    gateway: Arc<Gateway>,
    answers: Arc<ConnectionAnswers>,
    client: MessageSink,
    upstream: MessageSink,
    started: Timer,
    /// Milliseconds after the start at which the last message came from anywhere.
    last_ms: AtomicU64,
    /// The same, of the last message from the server or the last that requested an answer of it.
    progress_ms: AtomicU64,
    /// The client's messages go nowhere any more.
    closing: AtomicBool,
    refusals: RefusalsInARow,
}

/// Relays until the connection ends, and settles what ran on it.
pub async fn run(gateway: &Arc<Gateway>, opened: Opened) {
    let rules = gateway.rules.load_full();
    let limits = &rules.config.limits;
    let patience = opened.who.endpoint().provider.timeouts.idle;
    let body_max = usize::try_from(limits.body_bytes_max).unwrap_or(usize::MAX);
    let share = BodyShare::none_of(&gateway.bodies);
    let (mut from_client, client) = wire::parts(opened.client, Sender::Client, body_max, Some(share), patience);
    let answer_max = limits.answer_bytes_max;
    let (mut from_server, upstream) = wire::parts(opened.upstream, Sender::Server, answer_max, None, patience);
    let link = Link {
        gateway: Arc::clone(gateway),
        answers: Arc::new(ConnectionAnswers::new(gateway, opened.who)),
        client,
        upstream,
        started: Timer::start(),
        last_ms: AtomicU64::new(0),
        progress_ms: AtomicU64::new(0),
        closing: AtomicBool::new(false),
        refusals: RefusalsInARow::default(),
    };
    let over = {
        let mut up = pin!(link.client_to_server(&mut from_client));
        let mut down = pin!(link.server_to_client(&mut from_server));
        let over = tokio::select! {
            biased;
            over = &mut down => over,
            over = &mut up => over,
            over = link.silence() => over,
            () = link.drained() => ConnectionEnd::Drained,
            stop = session::stopped(gateway, &link.answers.who().handshake) => ConnectionEnd::Stopped(stop),
        };
        // A close is answered by a close; until then the other end may still have something to say.
        match over {
            ConnectionEnd::ClientClosed => drop(timeout(CLOSE_WAIT, down).await),
            ConnectionEnd::ServerClosed => {
                link.closing.store(true, Ordering::Release);
                drop(timeout(CLOSE_WAIT, up).await);
            }
            _ => {}
        }
        over
    };
    tracing::debug!(?over, "a WebSocket connection is over");
    link.end(over, &mut from_client).await;
}

impl Link {
    fn endpoint(&self) -> &Arc<ProviderEndpoint> {
        self.answers.who().endpoint()
    }

    /// Which program the client is, where it is a known one.
    fn client_program(&self) -> Option<Client> {
        self.answers.who().identity.client
    }

    fn operation(&self) -> &str {
        &self.answers.who().target.operation
    }

    fn touch(&self, mark: &AtomicU64) {
        let now = self.started.elapsed_ms();
        mark.store(now, Ordering::Release);
    }

    /// Ends when nothing came for too long: from the server while an answer runs, from anyone else.
    async fn silence(&self) -> ConnectionEnd {
        loop {
            let running = self.answers.is_running();
            let (mark, limit) = if running {
                (&self.progress_ms, self.endpoint().provider.timeouts.idle)
            } else {
                let idle = self.gateway.rules.load().config.limits.socket_idle_ms;
                (&self.last_ms, Duration::from_millis(idle))
            };
            let last = Duration::from_millis(mark.load(Ordering::Acquire));
            let silent = self.started.elapsed().saturating_sub(last);
            match limit.checked_sub(silent).filter(|left| !left.is_zero()) {
                Some(left) => sleep(left.min(SILENCE_STEP)).await,
                None => return ConnectionEnd::Silent { running },
            }
        }
    }

    /// Ends when the gateway is going down and no answer runs here.
    async fn drained(&self) {
        self.gateway.drain.draining().await;
        self.answers.quiet().await;
    }

    async fn client_to_server(&self, source: &mut MessageSource) -> ConnectionEnd {
        loop {
            let message = match source.next().await {
                Ok(message) => message,
                Err(ReadEnd::Gone) => return ConnectionEnd::ClientGone,
                Err(ReadEnd::Violation(violation)) => {
                    return ConnectionEnd::ClientFault(violation.code(), violation.to_string());
                }
                Err(ended @ ReadEnd::Overloaded) => {
                    return ConnectionEnd::ClientFault(code::TRY_AGAIN, ended.to_string());
                }
            };
            self.touch(&self.last_ms);
            let closing = self.closing.load(Ordering::Acquire);
            let written = match message {
                Message::Close(_) => {
                    self.closing.store(true, Ordering::Release);
                    let _ = self.upstream.send(&message).await;
                    return ConnectionEnd::ClientClosed;
                }
                _ if closing => Ok(()),
                // What is not read is not metered, and these protocols have no use for it.
                Message::Binary(_) => {
                    return ConnectionEnd::ClientFault(code::UNSUPPORTED, "messages are text".to_owned());
                }
                Message::Ping(_) | Message::Pong(_) => self
                    .upstream
                    .send(&message)
                    .await
                    .map_err(|_| ConnectionEnd::ServerGone),
                Message::Text(payload) => self.said(payload).await,
            };
            if let Err(over) = written {
                return over;
            }
        }
    }

    /// A message of the client's: one that requests an answer goes on once that is held.
    async fn said(&self, payload: Bytes) -> Result<(), ConnectionEnd> {
        let read = self.read(&payload, Sender::Client);
        let (found, meaning) = match read {
            Ok(read) => read,
            Err(refusal) => return self.send_refusal(refusal, None).await,
        };
        let Some(meaning) = meaning.filter(|meaning| meaning.step == Step::Ask) else {
            self.answers.heard(&found);
            return self.up(payload).await;
        };
        self.touch(&self.progress_ms);
        match self.answers.request(payload, &meaning).await {
            Ok(AdmittedMessage { id, message }) => {
                self.touch(&self.progress_ms);
                self.refusals.ended();
                self.up(message).await?;
                self.answers.sent(id);
                Ok(())
            }
            Err(refusal) => self.send_refusal(refusal, meaning.echo.as_deref()).await,
        }
    }

    fn read(&self, payload: &[u8], sender: Sender) -> Result<(Outline, Option<Meaning>), Refusal> {
        let endpoint = self.endpoint();
        let rules = self.gateway.rules.load();
        let outlined = match sender {
            Sender::Client => outline(payload, &endpoint.plugin.request_shape, &rules.config.limits),
            Sender::Server => endpoint.reader.outline(payload),
        };
        let found = outlined.map_err(|error| Refusal::new(RefusalCode::InvalidJson, error.to_string()))?;
        let message = SocketMessage {
            operation: self.operation(),
            sender,
            outline: &found.doc,
        };
        match endpoint.plugin.dialect.meaning_of(&message) {
            Ok(meaning) => Ok((found, meaning)),
            Err(error) => {
                report::plugin_failed(&self.gateway, endpoint, 1);
                tracing::warn!(%error, "a plugin failed to read a message");
                Err(Refusal::new(
                    RefusalCode::PluginFailed,
                    "this message could not be read",
                ))
            }
        }
    }

    async fn server_to_client(&self, source: &mut MessageSource) -> ConnectionEnd {
        let mut waits = FuturesUnordered::new();
        loop {
            let message = tokio::select! {
                biased;
                Some(waited) = waits.next() => match self.waited(waited).await {
                    Ok(()) => continue,
                    Err(over) => return over,
                },
                message = source.next() => message,
            };
            let message = match message {
                Ok(message) => message,
                Err(ReadEnd::Violation(violation)) => {
                    return ConnectionEnd::ServerFault(violation.code(), violation.to_string());
                }
                Err(_) => return ConnectionEnd::ServerGone,
            };
            self.touch(&self.last_ms);
            self.touch(&self.progress_ms);
            let written = match message {
                Message::Close(_) => {
                    if self.closing.load(Ordering::Acquire) {
                        drop(self.answers.end_all(End::ClientGone));
                    } else {
                        self.leave(End::UpstreamFailed, Ending::UpstreamFailed).await;
                    }
                    let _ = self.client.send(&message).await;
                    return ConnectionEnd::ServerClosed;
                }
                Message::Ping(_) | Message::Pong(_) => {
                    self.client.send(&message).await.map_err(|_| ConnectionEnd::ClientGone)
                }
                Message::Text(ref payload) | Message::Binary(ref payload) => {
                    let payload = payload.clone();
                    self.answered(&payload, message).await.map(|wait| {
                        waits.extend(wait.map(|(id, uncovered)| self.answers.covered(id, uncovered)));
                    })
                }
            };
            if let Err(over) = written {
                return over;
            }
        }
    }

    /// A message of the server's. One that cannot be read passes: it is the client's to make sense of. `Some`: its answer waits.
    async fn answered(&self, payload: &Bytes, message: Message) -> Result<Option<(Ulid, Uncovered)>, ConnectionEnd> {
        let Ok((found, Some(meaning))) = self.read(payload, Sender::Server) else {
            return self.down(message).await.map(|()| None);
        };
        let mut stop = None;
        match meaning.step {
            Step::Ask => {}
            Step::Begin => stop = self.answers.begin(&meaning, payload, found).await,
            Step::Part | Step::Sound => match self.answers.part(&meaning, &message, payload, found) {
                Passing::Pass => {}
                Passing::Drop | Passing::Held => return Ok(None),
                Passing::Last(cut) => stop = Some(cut),
                Passing::Wait(id, uncovered) => return Ok(Some((id, uncovered))),
            },
            Step::End => {
                for held_back in self.answers.end(&meaning, payload, found) {
                    self.down(held_back).await?;
                }
            }
            Step::Refuse => self.answers.refuse(&meaning, payload, found),
            Step::Aside => self.answers.aside(payload, found).await,
            Step::Setting => self.answers.set(&meaning),
        }
        self.down(message).await?;
        match stop {
            Some(stop) => self.stop(stop).await.map(|()| None),
            None => Ok(None),
        }
    }

    /// The wait of an answer is over.
    async fn waited(&self, waited: Option<Waited>) -> Result<(), ConnectionEnd> {
        match waited {
            Some(Waited::GoesOn(held_back)) => {
                for message in held_back {
                    self.down(message).await?;
                }
                Ok(())
            }
            Some(Waited::Ends(stop)) => self.stop(stop).await,
            None => Ok(()),
        }
    }

    /// Stops an answer: by the dialect's message, which leaves the connection open, or by the end of the connection.
    async fn stop(&self, stop: AnswerStop) -> Result<(), ConnectionEnd> {
        let left = UnfinishedAnswer {
            answer: stop.answer,
            echo: stop.echo,
        };
        for message in self.terminal(Ending::BudgetExceeded, &stop.message, &left) {
            self.down(message).await?;
        }
        match stop.cancel {
            Some(cancel) => self.up(Bytes::from(cancel)).await,
            None => Err(ConnectionEnd::Cut),
        }
    }

    async fn up(&self, payload: Bytes) -> Result<(), ConnectionEnd> {
        let sent = self.upstream.send(&Message::Text(payload)).await;
        sent.map_err(|_| ConnectionEnd::ServerGone)
    }

    async fn down(&self, message: Message) -> Result<(), ConnectionEnd> {
        self.client.send(&message).await.map_err(|_| ConnectionEnd::ClientGone)
    }

    /// Tells the client a refusal, as the protocol's error. The connection stays, unless its client goes on all the same.
    async fn send_refusal(&self, refusal: Refusal, echo: Option<&str>) -> Result<(), ConnectionEnd> {
        let endpoint = self.endpoint();
        let provider = &endpoint.provider;
        let rules = self.gateway.rules.load_full();
        let config = &rules.config.refusals;
        let to = Recipient {
            client: self.client_program(),
            dialect: &provider.dialect,
            now_ms: self.gateway.clock.now_ms(),
        };
        let refusal = shaped(refusal, to, config, || false);
        report::refused(&self.gateway, &provider.name, &refusal);
        let body = refusal.body(Some((&endpoint.plugin.dialect, self.operation())));
        let mut message = object(&body);
        message.entry("type").or_insert(json!("error"));
        message.entry("status").or_insert(json!(refusal.status));
        let mut headers: Map<String, Value> = Map::new();
        for (name, value) in &refusal.headers {
            headers.insert(name.clone(), json!(value));
        }
        if let Some(seconds) = refusal.retry_after_s {
            headers.insert("retry-after".to_owned(), json!(seconds.to_string()));
        }
        if !headers.is_empty() {
            message.insert("headers".to_owned(), Value::Object(headers));
        }
        self.down(with_echo(message, echo)).await?;
        if self.refusals.add(config) {
            report::refusals_ignored(&self.gateway, &provider.name);
            let why = "too many requests in a row that were refused".to_owned();
            return Err(ConnectionEnd::ClientFault(code::POLICY, why));
        }
        Ok(())
    }

    /// The dialect's ending of an answer. None, where the plugin has none: the close must do.
    fn terminal(&self, ending: Ending, message: &str, left: &UnfinishedAnswer) -> Vec<Message> {
        let dialect = &self.endpoint().plugin.dialect;
        let message = refusal_text::signed(message);
        let ending = ending_for(self.client_program(), ending);
        let terminal = dialect.terminal(self.operation(), ending, &message, left.answer.as_deref());
        let bytes = terminal.unwrap_or_else(|error| {
            report::plugin_failed(&self.gateway, self.endpoint(), 1);
            tracing::warn!(%error, "a plugin gave no ending for an answer");
            Vec::new()
        });
        let mut framer = Framer::new(Framing::Sse, bytes.len().saturating_add(1));
        let mut messages = Vec::new();
        let mut keep = |frame: crate::meter::frames::Frame<'_>| {
            if !frame.data.is_empty() {
                messages.push(with_echo(object(frame.data), left.echo.as_deref()));
            }
        };
        framer.push(&bytes, &mut keep);
        framer.finish(&mut keep);
        messages
    }

    /// Settles what runs, and notifies the client.
    async fn leave(&self, end: End, ending: Ending) {
        self.leave_saying(end, ending, refusal_text::ended(ending, "")).await;
    }

    async fn leave_saying(&self, end: End, ending: Ending, message: String) {
        for left in self.answers.end_all(end) {
            for message in self.terminal(ending, &message, &left) {
                if self.client.send(&message).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn end(&self, over: ConnectionEnd, from_client: &mut MessageSource) {
        let broken = |how| report::upstream_failed(&self.gateway, self.endpoint(), how);
        let mut linger = CLOSE_WAIT;
        let (to_client, to_upstream) = match over {
            ConnectionEnd::ClientClosed => {
                drop(self.answers.end_all(End::ClientGone));
                (None, None)
            }
            ConnectionEnd::ServerClosed => (None, None),
            ConnectionEnd::ClientGone => {
                drop(self.answers.end_all(End::ClientGone));
                (None, Some((code::GOING_AWAY, String::new())))
            }
            ConnectionEnd::ClientFault(code, what) => {
                tracing::info!(code, what, "a client's WebSocket is out of protocol");
                drop(self.answers.end_all(End::ClientGone));
                linger = FAULT_LINGER;
                (Some((code, what)), Some((code::GOING_AWAY, String::new())))
            }
            ConnectionEnd::ServerGone => {
                broken(UpstreamError::Broken);
                self.leave(End::UpstreamFailed, Ending::UpstreamFailed).await;
                (Some((code::BAD_GATEWAY, "the upstream is gone".to_owned())), None)
            }
            ConnectionEnd::ServerFault(code, what) => {
                tracing::warn!(provider = %self.endpoint().name, code, what, "an upstream's WebSocket is out of protocol");
                broken(UpstreamError::Broken);
                self.leave(End::UpstreamFailed, Ending::UpstreamFailed).await;
                let told = "the upstream is out of protocol".to_owned();
                (Some((code::BAD_GATEWAY, told)), Some((code, what)))
            }
            ConnectionEnd::Silent { running: true } => {
                broken(UpstreamError::Timeout);
                self.leave(End::UpstreamFailed, Ending::UpstreamFailed).await;
                let told = "the upstream is silent".to_owned();
                (Some((code::BAD_GATEWAY, told)), Some((code::GOING_AWAY, String::new())))
            }
            ConnectionEnd::Silent { running: false } => both(code::GOING_AWAY, "the connection is idle"),
            ConnectionEnd::Cut => {
                self.leave(End::Cut, Ending::BudgetExceeded).await;
                both(code::POLICY, "the budget is used up")
            }
            ConnectionEnd::Drained => both(code::GOING_AWAY, "the gateway is going down"),
            ConnectionEnd::Stopped(stop) => {
                self.leave_saying(End::Cut, stop.ending(), stop.message()).await;
                match stop {
                    session::StopReason::GoingDown => both(code::RESTART, "the gateway is going down"),
                    session::StopReason::Killed(_) => both(code::POLICY, "this session was killed by an operator"),
                }
            }
        };
        if let Some((code, why)) = to_upstream {
            // Why is between the client and us, but for what the upstream itself did.
            let code = if code == code::POLICY || code == code::RESTART {
                code::GOING_AWAY
            } else {
                code
            };
            let _ = self.upstream.send(&closing(code, &why)).await;
        }
        self.upstream.shut().await;
        if let Some((code, why)) = to_client
            && self.client.send(&closing(code, &why)).await.is_ok()
        {
            from_client.linger(linger).await;
        }
        self.client.shut().await;
    }
}

type Close = Option<(u16, String)>;

fn both(code: u16, why: &str) -> (Close, Close) {
    (Some((code, why.to_owned())), Some((code, String::new())))
}

fn object(json: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(json).unwrap_or_default()
}

/// A message with the members that it is to repeat.
fn with_echo(mut message: Map<String, Value>, echo: Option<&str>) -> Message {
    for (name, value) in object(echo.unwrap_or_default().as_bytes()) {
        match (message.get_mut(&name), value) {
            (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
            (_, value) => {
                message.insert(name, value);
            }
        }
    }
    Message::Text(Bytes::from(Value::Object(message).to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_echo_is_merged_member_by_member() {
        let message = object(br#"{"type":"error","error":{"code":"c"}}"#);
        let echoed = with_echo(message, Some(r#"{"stream_id":"a","error":{"event_id":"e"}}"#));
        let Message::Text(text) = echoed else { panic!("no text") };
        let value: Value = serde_json::from_slice(&text).unwrap();
        let expected = json!({"type": "error", "stream_id": "a", "error": {"code": "c", "event_id": "e"}});
        assert_eq!(value, expected);
    }
}
