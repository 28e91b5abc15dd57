//! WebSocket connections: opened like a request, relayed message by message, and every answer on them an Exchange of its
//! own that is decided, held, metered and settled like any other.
//!
//! ```text
//! upgrade → link (client ⇄ upstream) → answers: ask → inspect, decide, reserve, forward │ begin, part, end → meter, settle
//! ```
//!
//! `upgrade` makes the connection, `link` moves messages over it until it ends, `answers` keeps the answers that run on it,
//! `wire` reads and writes frames. What a message means is the dialect's to say (`meaning-of`).

mod answers;
mod link;
mod open_answers;
mod upgrade;
mod wire;

use std::sync::Arc;

use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::refused::{RefusalsInARow, send_refusal};

/// Serves a connection that requests an upgrade, to its end.
pub async fn serve(gateway: &Arc<Gateway>, mut session: ServerSession) {
    session.close_after_answer();
    match upgrade::ask_upstream(gateway, &mut session).await {
        Ok(Some(opening)) => {
            if let Some(opened) = upgrade::switch(opening, session).await {
                link::run(gateway, opened).await;
            }
        }
        // The upstream's own refusal was passed on.
        Ok(None) => {}
        Err(refused) => {
            send_refusal(gateway, &mut session, refused, &RefusalsInARow::default()).await;
        }
    }
}
