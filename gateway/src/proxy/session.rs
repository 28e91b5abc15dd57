//! What a request has to do with its session: refused where it was killed, known by what it did before, ended where its
//! client says so.

use std::sync::Arc;

use agentledger_ledger::{Ledger, Mark, Name};

use crate::plugin::Ending;
use crate::policy::History;
use crate::proxy::exchange::Exchange;
use crate::proxy::gateway::Gateway;
use crate::proxy::progress::Step;
use crate::proxy::reply::Refusal;

/// Refuses what belongs to a killed session. To be asked once the tenant is known.
pub fn admit(gateway: &Gateway, exchange: &Exchange) -> Result<(), Refusal> {
    let session = &exchange.identity.session;
    if !session.is_empty() && gateway.ledger.sessions().is_killed(&exchange.tenant, session) {
        return Err(killed());
    }
    Ok(())
}

fn killed() -> Refusal {
    let message = "this session was killed by an operator: its calls are refused";
    Refusal::new(403, "session_killed", message).final_answer()
}

/// Notes a call as a step of its session, and tells what the session did before. Nothing without a session.
pub fn begin(gateway: &Gateway, exchange: &Exchange) -> Option<(History, Step)> {
    let session = &exchange.identity.session;
    if session.is_empty() {
        return None;
    }
    let inspected = &exchange.inspected;
    let doing = gateway
        .progress
        .doing(&exchange.called_path, inspected.json(), inspected.outline.as_ref());
    let (mut history, step) = gateway.progress.begin(
        exchange.rules.progress,
        gateway.clock.monotonic_ms(),
        (&exchange.tenant, session),
        doing,
        exchange.identity.is_retry,
    );
    if let Some(known) = gateway.ledger.sessions().running(&exchange.tenant, session) {
        history.age_ms = exchange.at_ms.saturating_sub(known.started_ms).max(0);
        history.calls = known.calls;
        history.cost = known.cost;
        history.tokens = known.tokens;
        history.running = known.running;
    }
    Some((history, step))
}

/// A policy refused the call: a step that came to nothing, unless it was refused for being one too many of its like.
pub fn denied(exchange: &mut Exchange, code: &str) {
    if let Some(step) = exchange.step.take() {
        step.denied(code);
    }
}

/// Why a running call is ended from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    GoingDown,
    Killed,
}

/// Returns when the call is to end.
pub async fn stopped(gateway: &Gateway, exchange: &Exchange) -> Stop {
    let session = &exchange.identity.session;
    if session.is_empty() {
        gateway.drain.cutting().await;
        return Stop::GoingDown;
    }
    tokio::select! {
        biased;
        () = gateway.drain.cutting() => Stop::GoingDown,
        () = gateway.ledger.sessions().killed(&exchange.tenant, session) => Stop::Killed,
    }
}

impl Stop {
    /// Said where no answer has begun.
    pub fn refusal(self) -> Refusal {
        match self {
            Stop::GoingDown => Refusal::going_down(),
            Stop::Killed => killed(),
        }
    }

    /// Said within a stream.
    pub const fn ending(self) -> (Ending, &'static str) {
        match self {
            Stop::GoingDown => (Ending::ShuttingDown, "the gateway is going down; try again"),
            Stop::Killed => (Ending::Denied, "this session was killed by an operator"),
        }
    }
}

/// The client said that its session ends with this call: it ends when this is dropped, however the call went.
pub struct SessionEnd {
    ledger: Arc<Ledger>,
    tenant: Name,
    session: Name,
    /// The call is in the books, and so is its session.
    pub is_entered: bool,
}

impl SessionEnd {
    /// `None` where the client did not say so.
    pub fn of(gateway: &Gateway, exchange: &Exchange) -> Option<SessionEnd> {
        let identity = &exchange.identity;
        (identity.session_end && !identity.session.is_empty()).then(|| SessionEnd {
            ledger: Arc::clone(&gateway.ledger),
            tenant: Name::clone(&exchange.tenant),
            session: Name::clone(&identity.session),
            is_entered: false,
        })
    }
}

impl Drop for SessionEnd {
    fn drop(&mut self) {
        let known = || self.ledger.sessions().running(&self.tenant, &self.session);
        // What nobody knows, or is over already, is not worth an event.
        if self.is_entered || known().is_some_and(|session| session.ended.is_none()) {
            self.ledger.mark_session(&self.tenant, &self.session, Mark::Completed);
        }
    }
}
