//! The client's end of a connection.

use std::time::Duration;

use pingora::protocols::http::ServerSession;

/// How a client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Departure {
    /// It closed its sending side. It may still read, though few do: what SDKs close at their timeout is closed both ways, which
    /// nothing shows until something is written.
    Closed,
    /// Its connection is broken.
    Reset,
}

/// How long an exchange goes on without anybody there to read its answer.
#[derive(Clone, Copy, Debug)]
pub struct Outlast {
    /// Where the client closed its side: it may still be reading.
    pub closed: Duration,
    /// Where its connection is broken.
    pub reset: Duration,
}

async fn departure(session: &mut ServerSession) -> Departure {
    match session.read_body_or_idle(true).await {
        Ok(_) => std::future::pending().await,
        Err(error) => match error.etype() {
            // An early byte of a next request is no leaving; that connection is not used again.
            pingora::ErrorType::ConnectError => {
                session.set_keepalive(None);
                std::future::pending().await
            }
            pingora::ErrorType::ConnectionClosed => Departure::Closed,
            _ => Departure::Reset,
        },
    }
}

/// Ends when the client has closed or lost its connection; never for one that sends its next request early.
pub async fn client_gone(session: &mut ServerSession) {
    departure(session).await;
}

/// Ends when the client has been gone for so long.
pub async fn unattended(session: &mut ServerSession, outlast: Outlast) {
    let wait = match departure(session).await {
        Departure::Closed => outlast.closed,
        Departure::Reset => outlast.reset,
    };
    tokio::time::sleep(wait).await;
}
