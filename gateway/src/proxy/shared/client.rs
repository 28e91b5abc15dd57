//! The client's end of a connection.

use std::time::Duration;

use agentledger_http1::Departure;

use super::http_session::ServerSession;

/// How long an exchange goes on without anybody there to read its answer.
#[derive(Clone, Copy, Debug)]
pub struct Outlast {
    /// Where the client closed its side: it may still be reading, though few do. What SDKs close at their timeout is closed both
    /// ways, which nothing shows until something is written.
    pub closed: Duration,
    /// Where its connection is broken.
    pub reset: Duration,
}

/// Ends when the client has closed or lost its connection; never for one that sends its next request early.
pub async fn client_gone(session: &mut ServerSession) {
    session.departure().await;
}

/// Ends when the client has been gone for so long.
pub async fn unattended(session: &mut ServerSession, outlast: Outlast) {
    let wait = match session.departure().await {
        Departure::Closed => outlast.closed,
        Departure::Reset => outlast.reset,
    };
    tokio::time::sleep(wait).await;
}
