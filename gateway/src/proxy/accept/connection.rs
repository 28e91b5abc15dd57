//! One client's connection: the requests that come on it, whatever its protocol, and how it ends.
//!
//! pingora speaks h2, and ends it in order once the watch that it is handed says so: with a GOAWAY after which what runs is
//! answered still. HTTP/1.1 is served here, request after request, and ends with `Connection: close`. Each connection has such
//! a watch of its own, so that one whose client ignores every refusal can be ended alone.

use std::sync::Arc;
use std::time::Duration;

use agentledger_http1::{HeadError, ServerSession as Http1Session};
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession as PingoraSession;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::mcp::Mcp;
use crate::proxy::accept::{control_proxy, serve};
use crate::proxy::identify::speaker_at;
use crate::proxy::sanitize::{ambiguous, is_websocket};
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::cors;
use crate::proxy::shared::drain::DrainPhase;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::known_head::{self, KnownHead};
use crate::proxy::shared::refused::{LINGER, RefusalsInARow, RefusedRequest, send_refusal};
use crate::proxy::shared::reply::{Refusal, refuse_unread};
use crate::proxy::socket;

/// How long a connection may be silent between two requests.
const KEPT_IDLE: Duration = Duration::from_secs(60);

/// pingora's application: one for all connections.
pub struct Accept {
    pub gateway: Arc<Gateway>,
    pub mcp: Arc<Mcp>,
}

#[async_trait]
impl ServerApp for Accept {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let (close, closing) = watch::channel(*shutdown.borrow());
        let connection = Arc::new(Connection {
            gateway: Arc::clone(&self.gateway),
            mcp: Arc::clone(&self.mcp),
            refusals: RefusalsInARow::default(),
            running: watch::Sender::new(0),
            close,
        });
        let mut shutdown = shutdown.clone();
        let goes_down = async {
            // An error is the end of the server, too.
            let _ = shutdown.wait_for(|is_down| *is_down).await;
            connection.close.send_replace(true);
            std::future::pending::<()>().await;
        };
        let is_http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let served = async {
            match is_http2 {
                true => drop(Box::pin(connection.process_new(stream, &closing)).await),
                false => connection.serve_http1(stream, &closing).await,
            }
        };
        tokio::select! {
            () = served => {}
            () = goes_down => {}
            // Dropped here, it is closed, whatever its client still wants.
            () = connection.overstayed() => {}
        }
        None
    }
}

/// What the requests of one connection share.
struct Connection {
    gateway: Arc<Gateway>,
    mcp: Arc<Mcp>,
    refusals: RefusalsInARow,
    /// Requests that run on it: with h2 many.
    running: watch::Sender<usize>,
    close: watch::Sender<bool>,
}

impl Connection {
    /// Ends when its client, which ignored every refusal, ignores the close, too: after a while, and when nothing runs on it.
    async fn overstayed(&self) {
        let mut closing = self.close.subscribe();
        loop {
            if self.refusals.are_enough() {
                tokio::time::sleep(LINGER).await;
                let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
                return;
            }
            if closing.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Counts a request as running until it is dropped.
struct RunningRequest<'c>(&'c watch::Sender<usize>);

impl RunningRequest<'_> {
    fn of(connection: &Connection) -> RunningRequest<'_> {
        connection.running.send_modify(|running| *running += 1);
        RunningRequest(&connection.running)
    }
}

impl Drop for RunningRequest<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running = running.saturating_sub(1));
    }
}

/// How a request ended, for its connection.
enum Served {
    /// It is over.
    Session(ServerSession),
    /// Its connection cannot be used again.
    Nothing,
}

impl Connection {
    /// Requests of HTTP/1.1, one after the other.
    async fn serve_http1(&self, stream: Stream, closing: &ShutdownWatch) {
        let mut session = Box::new(Http1Session::new(stream));
        let mut is_kept = false;
        while !self.refusals.are_enough() {
            let wait = {
                let limits = &self.gateway.rules.load().config.limits;
                Duration::from_millis(limits.header_read_timeout_ms)
            };
            // A kept connection may be silent between requests; a new one must bring its request in time.
            let patience = if is_kept { KEPT_IDLE } else { wait };
            if !matches!(timeout(patience, session.wait_for_request()).await, Ok(true)) {
                break;
            }
            let known = match timeout(wait, self.read_head(&mut session)).await {
                Ok(Ok(Some(known))) => known,
                Ok(Ok(None)) | Err(_) => break,
                Ok(Err(error)) => return refuse_head(ServerSession::Http1(session), error).await,
            };
            if *closing.borrow() || self.gateway.drain.phase() > DrainPhase::Running {
                session.close_after();
            }
            match self.serve_request(ServerSession::Http1(session), known).await {
                Served::Session(ServerSession::Http1(served)) => session = served,
                _ => return,
            }
            if !session.is_reusable() {
                break;
            }
            is_kept = true;
        }
        session.close(LINGER).await;
    }

    /// Reads the head of the next request, with what is known of such a head. `None`: the client closed the connection instead.
    async fn read_head(&self, session: &mut Http1Session) -> Result<Option<Option<Arc<KnownHead>>>, HeadError> {
        let rules = self.gateway.rules.load_full();
        // One that is somewhat too long is read to its end, so that its client is told in its own dialect.
        let bytes_max = rules.config.limits.header_bytes_max.saturating_mul(2);
        let Some(bytes) = session.read_head(bytes_max).await? else {
            return Ok(None);
        };
        let (head, known, recall) = known_head::read_head(&bytes, &rules)?;
        self.gateway.metrics.head_read(recall);
        session.take_up(head);
        Ok(Some(known))
    }

    async fn serve_request(&self, mut session: ServerSession, known: Option<Arc<KnownHead>>) -> Served {
        let gateway = &self.gateway;
        let _running = RunningRequest::of(self);
        if let Some(fault) = session.fault() {
            let rules = gateway.rules.load_full();
            cors::note(&rules.config.cors_allow_origins, session.req_header_mut());
            let speaker = speaker_at(&rules, session.req_header());
            let refused = RefusedRequest::new(ambiguous(fault), speaker.as_ref(), "");
            send_refusal(gateway, &mut session, refused, &self.refusals).await;
            return Served::Session(session);
        }
        if control_proxy::is_control_socket(session.req_header()) {
            Box::pin(control_proxy::serve_socket(gateway, session)).await;
            return Served::Nothing;
        }
        let in_flight = gateway.drain.enter();
        let upgrade =
            is_websocket(session.req_header()) && !control_proxy::is_control_path(session.req_header().uri.path());
        if upgrade {
            Box::pin(socket::serve(gateway, session)).await;
            return Served::Nothing;
        }
        let reusable = serve(gateway, &self.mcp, (&mut session, known), &self.refusals).await;
        drop(in_flight);
        if self.refusals.are_enough() {
            self.close.send_replace(true);
        }
        if !reusable && session.is_http2() {
            // Not ended in order: its answer may not be whole.
            return Served::Nothing;
        }
        if !reusable {
            session.close_after_answer();
        }
        Served::Session(session)
    }
}

/// A head that cannot be read: it is said so, and the connection ends.
async fn refuse_head(mut session: ServerSession, error: HeadError) {
    let refusal = match error {
        HeadError::TooLong | HeadError::TooManyFields => {
            Refusal::new(RefusalCode::HeadersTooLarge, "request headers are too large")
        }
        _ => Refusal::new(RefusalCode::BadRequest, "the request head cannot be read"),
    };
    refuse_unread(&mut session, &refusal.closing()).await;
    if let ServerSession::Http1(mut session) = session {
        session.close(LINGER).await;
    }
}

#[async_trait]
impl HttpServerApp for Connection {
    /// Requests of h2, side by side.
    async fn process_new_http(
        self: &Arc<Self>,
        session: PingoraSession,
        _: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let PingoraSession::H2(session) = session else {
            return None;
        };
        if self.refusals.are_enough() {
            // Sent although the connection is being closed.
            return None;
        }
        let session = ServerSession::Http2(Box::new(session));
        if let Served::Session(ServerSession::Http2(mut session)) = self.serve_request(session, None).await {
            let _ = session.finish();
        }
        None
    }
}
