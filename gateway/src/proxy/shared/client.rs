//! The client's end of a connection.

use pingora::protocols::http::ServerSession;

/// Ends when the client is surely gone; never for one that only closed its sending side or sends its next request early.
pub async fn client_gone(session: &mut ServerSession) {
    if let Err(error) = session.read_body_or_idle(true).await {
        // An early byte of a next request is no leaving; that connection is not used again.
        if *error.etype() == pingora::ErrorType::ConnectError {
            session.set_keepalive(None);
            std::future::pending::<()>().await;
        }
        return;
    }
    std::future::pending().await
}
