//! One client's connection: the requests that come on it, whatever its protocol, and how it ends.
//!
//! pingora speaks HTTP/1 and h2, and ends both in order once the watch that it is handed says so: HTTP/1 with `Connection: close`,
//! h2 with a GOAWAY after which what runs is answered still. Each connection has such a watch of its own, so that one whose client
//! ignores every refusal can be ended alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::mcp::Mcp;
use crate::proxy::accept::{control_proxy, serve};
use crate::proxy::sanitize::is_websocket;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::drain::DrainPhase;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::refused::{LINGER, RefusalsInARow};
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
            is_kept: AtomicBool::new(false),
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
        tokio::select! {
            stream = connection.process_new(stream, &closing) => stream,
            () = goes_down => None,
            // Dropped here, it is closed, whatever its client still wants.
            () = connection.overstayed() => None,
        }
    }
}

/// What the requests of one connection share.
struct Connection {
    gateway: Arc<Gateway>,
    mcp: Arc<Mcp>,
    refusals: RefusalsInARow,
    /// It has served a request.
    is_kept: AtomicBool,
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

#[async_trait]
impl HttpServerApp for Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if self.refusals.are_enough() {
            // Sent although the connection is being closed.
            return None;
        }
        let gateway = &self.gateway;
        let limits = gateway.rules.load().config.limits.clone();
        // A kept connection may be silent between requests; a new one must bring its request in time.
        let patience = if self.is_kept.load(Ordering::Relaxed) {
            KEPT_IDLE
        } else {
            Duration::from_millis(limits.header_read_timeout_ms)
        };
        session.set_total_drain_timeout(Some(LINGER));
        match timeout(patience, session.read_request()).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return None,
            Ok(Err(error)) => {
                // pingora's error quotes the request, keys and all: it is not logged.
                let context = error.context.as_ref().map(|text| text.as_str());
                let refusal = if context.is_some_and(|text| text.starts_with("Request header larger")) {
                    Refusal::new(RefusalCode::HeadersTooLarge, "request headers are too large")
                } else {
                    Refusal::new(RefusalCode::BadRequest, "the request head cannot be read")
                };
                refuse_unread(&mut session, &refusal.closing()).await;
                return None;
            }
        }
        let _running = RunningRequest::of(self);
        if *shutdown.borrow() || gateway.drain.phase() > DrainPhase::Running {
            session.set_keepalive(None);
        }
        if control_proxy::is_control_socket(session.req_header()) {
            Box::pin(control_proxy::serve_socket(gateway, session)).await;
            return None;
        }
        let in_flight = gateway.drain.enter();
        let upgrade = is_websocket(session.req_header()) && !control_proxy::is_control(session.req_header().uri.path());
        if upgrade {
            Box::pin(socket::serve(gateway, session)).await;
            return None;
        }
        let reusable = serve(gateway, &self.mcp, &mut session, &self.refusals).await;
        drop(in_flight);
        if self.refusals.are_enough() {
            self.close.send_replace(true);
        }
        if !reusable {
            return None;
        }
        self.is_kept.store(true, Ordering::Relaxed);
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}
