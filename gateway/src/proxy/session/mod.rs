//! What a request has to do with its session: refused where it was killed, known by what it did before, ended where its
//! client says so.

pub mod progress;
pub mod watch;

use agentledger_ledger::{Name, PARENT_TAG};

use crate::plugin::Ending;
use crate::policy::History;
use crate::proxy::session::progress::SessionStep;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::json_rpc::MCP;
use crate::proxy::shared::refusal_text;
use crate::proxy::shared::reply::Refusal;

/// Refuses what belongs to a killed session. To be called once the tenant is known.
///
/// # Errors
/// The session was killed.
pub fn admit(gateway: &Gateway, exchange: &Exchange) -> Result<(), Refusal> {
    let sessions = gateway.ledger.sessions();
    let ended = lineage(exchange).find(|session| sessions.is_killed(&exchange.tenant, session));
    if let Some(session) = ended {
        return Err(killed(session));
    }
    Ok(())
}

fn killed(session: &str) -> Refusal {
    Refusal::new(RefusalCode::SessionKilled, refusal_text::killed(session)).final_answer()
}

/// The request's session and the one that started it: with a run ends what it started.
fn lineage(exchange: &Exchange) -> impl Iterator<Item = &Name> {
    let identity = &exchange.identity;
    let own = Some(&identity.session).filter(|session| !session.is_empty());
    own.into_iter().chain(identity.tags.get(PARENT_TAG))
}

/// Records a call as a step of its session, and returns what the session did before. Nothing without a session.
pub fn begin(gateway: &Gateway, exchange: &Exchange) -> Option<(History, SessionStep)> {
    let session = &exchange.identity.session;
    if session.is_empty() {
        return None;
    }
    let (inspected, progress) = (&exchange.inspected, &gateway.progress);
    let (doing, track) = match exchange.tool {
        // A session's tool calls are looked at by themselves: between them the model is asked, which is no progress of theirs.
        Some(_) => (
            progress.doing_tool(&inspected.call.model, inspected.json()),
            format!("{MCP} {session}"),
        ),
        None => (
            progress.doing(&exchange.called_path, inspected.json(), inspected.outline.as_ref()),
            session.to_string(),
        ),
    };
    let (mut history, step) = gateway.progress.begin(
        exchange.rules.progress,
        gateway.clock.monotonic_ms(),
        (&exchange.tenant, &track),
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
pub enum StopReason {
    GoingDown,
    Killed,
}

/// Returns when the call is to end.
pub async fn stopped(gateway: &Gateway, exchange: &Exchange) -> StopReason {
    let mut lineage = lineage(exchange);
    let (own, parent) = (lineage.next(), lineage.next());
    tokio::select! {
        biased;
        () = gateway.drain.cutting() => StopReason::GoingDown,
        () = until_killed(gateway, exchange, own) => StopReason::Killed,
        () = until_killed(gateway, exchange, parent) => StopReason::Killed,
    }
}

async fn until_killed(gateway: &Gateway, exchange: &Exchange, session: Option<&Name>) {
    match session {
        Some(session) => gateway.ledger.sessions().killed(&exchange.tenant, session).await,
        None => std::future::pending().await,
    }
}

impl StopReason {
    /// Said where no answer has begun.
    pub fn refusal(self, exchange: &Exchange) -> Refusal {
        match self {
            StopReason::GoingDown => Refusal::going_down(),
            StopReason::Killed => killed(&exchange.identity.session),
        }
    }

    /// Said within a stream.
    pub const fn ending(self) -> Ending {
        match self {
            StopReason::GoingDown => Ending::ShuttingDown,
            StopReason::Killed => Ending::Denied,
        }
    }
}
