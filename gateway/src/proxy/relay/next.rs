//! What comes next of an answer: its bytes, its end, or what ends it from here.

use std::pin::Pin;

use bytes::Bytes;
use tokio::time::timeout;

use crate::proxy::forward::Answer;
use crate::proxy::report::UpstreamError;
use crate::proxy::session::StopReason;
use crate::proxy::shared::client::unattended;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::http_session::ServerSession;

/// What the next moment brought.
pub enum Next {
    Chunk(Bytes),
    Ended,
    /// Broken off, or silent for too long.
    Broken(UpstreamError),
    ClientGone,
    Stopped(StopReason),
}

/// Waits for it. The upstream's bytes come first: a client's next request must not look like its leaving.
pub async fn next(
    exchange: &Exchange,
    stopped: Pin<&mut impl Future<Output = StopReason>>,
    answer: &mut Answer,
    session: &mut ServerSession,
) -> Next {
    let upstream = &mut answer.connection.session;
    if upstream.response_done() {
        return Next::Ended;
    }
    tokio::select! {
        biased;
        read = timeout(exchange.endpoint.provider.timeouts.idle, upstream.read_response_body()) => match read {
            Ok(Ok(Some(chunk))) => Next::Chunk(chunk),
            Ok(Ok(None)) => Next::Ended,
            Ok(Err(_)) => Next::Broken(UpstreamError::Broken),
            Err(_) => Next::Broken(UpstreamError::Timeout),
        },
        () = unattended(session, exchange.outlast(false)) => Next::ClientGone,
        stop = stopped => Next::Stopped(stop),
    }
}
