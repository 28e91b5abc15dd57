//! What a request has to do with its session: refused where it was killed, known by what it did before, ended where its
//! client says so.

pub mod progress;
pub mod steps;
pub mod watch;

use agentledger_ledger::{Inferred, Name, PARENT_TAG};

use crate::plugin::Ending;
use crate::policy::History;
use crate::proxy::report;
use crate::proxy::session::progress::SessionStep;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::json_rpc::MCP;
use crate::proxy::shared::refusal_text;
use crate::proxy::shared::reply::Refusal;

/// So many sessions above a call's own are looked at: subagents of subagents, and theirs.
const ANCESTORS_MAX: usize = 8;

/// Refuses what belongs to a killed session, and enters the refusal. To be called once the tenant is known.
///
/// # Errors
/// The session was killed, or one that it was started by.
pub fn admit(gateway: &Gateway, exchange: &Exchange) -> Result<(), Refusal> {
    let sessions = gateway.ledger.sessions();
    let lineage = lineage(gateway, exchange);
    let Some(ended) = lineage
        .iter()
        .find(|session| sessions.is_killed(&exchange.tenant, session))
    else {
        return Ok(());
    };
    let refusal = killed(ended);
    report::denied_on(
        gateway,
        exchange,
        &format!("session:{ended}"),
        refusal.code.as_str(),
        None,
    );
    Err(refusal)
}

fn killed(session: &str) -> Refusal {
    Refusal::new(RefusalCode::SessionKilled, refusal_text::killed(session)).final_answer()
}

/// The request's session, those that started it, and the run that its client says it is part of: with a run ends what it started,
/// however deep.
fn lineage(gateway: &Gateway, exchange: &Exchange) -> Vec<Name> {
    let identity = &exchange.identity;
    let mut lineage: Vec<Name> = Vec::new();
    let mut add = |session: &Name| {
        if !session.is_empty() && !lineage.contains(session) {
            lineage.push(Name::clone(session));
        }
    };
    add(&identity.session);
    if let Some(parent) = identity.tags.get(PARENT_TAG) {
        add(parent);
        let sessions = gateway.ledger.sessions();
        sessions
            .ancestors(&exchange.tenant, parent, ANCESTORS_MAX)
            .iter()
            .for_each(&mut add);
    }
    // Those between may never have called.
    if identity.inferred.contains(Inferred::SESSION) {
        add(&identity.run);
    }
    lineage
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    GoingDown,
    /// This session: the call's own, or one that started it.
    Killed(Name),
}

/// Returns when the call is to end.
pub async fn stopped(gateway: &Gateway, exchange: &Exchange) -> StopReason {
    let lineage = lineage(gateway, exchange);
    let killed = async {
        if lineage.is_empty() {
            std::future::pending::<()>().await;
        }
        gateway.ledger.sessions().killed(&exchange.tenant, &lineage).await
    };
    tokio::select! {
        biased;
        () = gateway.drain.cutting() => StopReason::GoingDown,
        killed = killed => StopReason::Killed(killed),
    }
}

impl StopReason {
    /// Said where no answer has begun.
    pub fn refusal(self) -> Refusal {
        match self {
            StopReason::GoingDown => Refusal::going_down(),
            StopReason::Killed(session) => killed(&session),
        }
    }

    /// Said within a stream.
    pub const fn ending(&self) -> Ending {
        match self {
            StopReason::GoingDown => Ending::ShuttingDown,
            StopReason::Killed(_) => Ending::Denied,
        }
    }

    /// The words of that ending.
    pub fn message(&self) -> String {
        let session = match self {
            StopReason::GoingDown => "",
            StopReason::Killed(session) => session,
        };
        refusal_text::ended(self.ending(), session)
    }
}
