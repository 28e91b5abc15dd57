//! The methods about sessions.

use agentledger_ledger::{Mark, Name, Session, SessionOrder, SessionQuery, Status, rfc3339_ms};

use jsonrpsee::server::RegisterMethodError;
use serde_json::json;

use crate::control::error::RpcError;
use crate::control::rpc::call::{Call, Caller, Changed, Role};
use crate::control::rpc::params::{self, Span};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "session.list",
            Role::Read,
            Scope::Tenant,
            "Sessions, the one with the latest call first, or by cost, calls or start.",
            r#"{"last": "24h"}"#,
        ),
        list,
    )?;
    table.add(
        Method::new(
            "session.get",
            Role::Read,
            Scope::Tenant,
            "The sessions of one name.",
            r#"{"id": "run-1"}"#,
        ),
        get,
    )?;
    table.add(
        Method::new(
            "session.end",
            Role::Operate,
            Scope::Tenant,
            "Completes a session.",
            r#"{"id": "run-1"}"#,
        ),
        end,
    )?;
    table.add(
        Method::new(
            "session.kill",
            Role::Operate,
            Scope::Tenant,
            "Stops a session: its calls are cut and it is served no more.",
            r#"{"id": "run-1"}"#,
        ),
        kill,
    )
}

/// Sessions in one answer.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// Fewer characters are no beginning of a name.
const BEGINNING_MIN: usize = 4;
/// Of those that may be meant.
const NAMES_SHOWN: usize = 5;

/// Now, and the silence that completes a session; milliseconds.
pub(super) fn times(state: &ControlState) -> (i64, i64) {
    (state.ledger.now_ms(), state.config.load().agent.session_timeout_ms())
}

pub(in crate::control) fn list(
    state: &ControlState,
    call: &Call,
    asked: wire::SessionsParams,
) -> Result<wire::Sessions, RpcError> {
    let status = match asked.status.as_str() {
        "" => None,
        word => Some(
            Status::from_name(word)
                .ok_or_else(|| RpcError::InvalidParams("status must be active, completed or killed".to_owned()))?,
        ),
    };
    let order = match asked.sort.as_str() {
        "" => SessionOrder::default(),
        word => SessionOrder::from_name(word)
            .ok_or_else(|| RpcError::InvalidParams("sort must be last, cost, calls or started".to_owned()))?,
    };
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let (now_ms, timeout_ms) = times(state);
    let last = Span::new(&asked.last, &None, &None);
    let (from_ms, _) = last.ms(now_ms, None)?;
    state.ledger.flush()?;
    let query = SessionQuery {
        from_ms,
        tenant: call.caller.tenant_of(&asked.tenant)?,
        status,
        now_ms,
        timeout_ms,
        order,
        limit,
    };
    let found = state.ledger.sessions().list(&query).map_err(RpcError::ledger)?;
    Ok(wire::Sessions {
        sessions: found.iter().map(|session| row(session, now_ms, timeout_ms)).collect(),
    })
}

pub(in crate::control) fn get(
    state: &ControlState,
    call: &Call,
    asked: wire::SessionParams,
) -> Result<wire::Sessions, RpcError> {
    let asked = own(&call.caller, asked)?;
    state.ledger.flush()?;
    found(state, &whole(state, asked)?)
}

pub(in crate::control) fn end(
    state: &ControlState,
    call: &Call,
    asked: wire::SessionParams,
) -> Result<wire::Sessions, RpcError> {
    mark(state, call, own(&call.caller, asked)?, Mark::Completed)
}

/// From the answer on no call of the session is served, and those that run are cut.
pub(in crate::control) fn kill(
    state: &ControlState,
    call: &Call,
    asked: wire::SessionParams,
) -> Result<wire::Sessions, RpcError> {
    mark(state, call, own(&call.caller, asked)?, Mark::Killed)
}

/// Narrowed to the caller's own tenant.
pub(super) fn own(caller: &Caller, mut asked: wire::SessionParams) -> Result<wire::SessionParams, RpcError> {
    if caller.tenant.is_some() {
        let tenant = match &asked.tenant {
            // The sessions without a tenant are somebody else's.
            Some(tenant) if tenant.is_empty() => return Err(RpcError::OtherTenant),
            tenant => caller.tenant_of(tenant.as_deref().unwrap_or_default())?,
        };
        asked.tenant = tenant.map(|tenant| tenant.to_string());
    }
    Ok(asked)
}

fn mark(state: &ControlState, call: &Call, asked: wire::SessionParams, mark: Mark) -> Result<wire::Sessions, RpcError> {
    let ledger = state.ledger.live()?;
    state.ledger.flush()?;
    let asked = whole(state, asked)?;
    let known = match sessions(state, &asked) {
        // Past limits.names_per_kind_max new ones a day sessions are not listed; their calls must stop all the same.
        Err(RpcError::NotFound(_)) if mark == Mark::Killed && ledger.sessions().folded() > 0 => {
            let tenant = asked.tenant.as_deref().unwrap_or_default();
            vec![(Name::from(tenant), Name::from(asked.id.as_str()), None)]
        }
        known => {
            let (now_ms, timeout_ms) = times(state);
            let status = |session: &Session| Some(session.status(now_ms, timeout_ms).name());
            let row = |session: Session| {
                let status = status(&session);
                (Name::clone(&session.who.tenant), session.id, status)
            };
            known?.into_iter().map(row).collect()
        }
    };
    let word = match mark {
        Mark::Killed => Status::Killed.name(),
        _ => Status::Completed.name(),
    };
    // Marking twice marks once: a repeated request needs no memory of the first.
    let without_request = Call {
        request: None,
        ..call.clone()
    };
    for (tenant, id, status) in known {
        let changed = Changed {
            subject: format!("session:{tenant}/{id}"),
            tenant: tenant.clone(),
            note: asked.note.clone(),
            before: status.map(|status| json!({ "status": status })),
            after: Some(json!({ "status": word })),
            ..Changed::default()
        };
        without_request.act(
            ledger,
            &changed,
            |_| (),
            |change| ledger.mark_session_audited(&tenant, &id, mark, change),
        )?;
    }
    found(state, &asked)
}

/// The session by its whole name, where the beginning of one was given: nobody types a run's, and tables may show no more. What a run
/// started (`RUN/AGENT`) is not meant by the run's name.
///
/// # Errors
/// Several begin so.
pub(super) fn whole(state: &ControlState, mut asked: wire::SessionParams) -> Result<wire::SessionParams, RpcError> {
    let beginning = asked.id.trim_end_matches('…').to_owned();
    let tenant = asked.tenant.as_deref().map(Name::from);
    let sessions = state.ledger.sessions();
    let is_known = !sessions
        .find(tenant.as_ref(), &asked.id)
        .map_err(RpcError::ledger)?
        .is_empty();
    if is_known || beginning.len() < BEGINNING_MIN {
        return Ok(asked);
    }
    let mut found = sessions
        .names_from(tenant.as_ref(), &beginning)
        .map_err(RpcError::ledger)?;
    let all = found.clone();
    let is_started_by = |name: &Name, run: &Name| name.strip_prefix(&**run).is_some_and(|rest| rest.starts_with('/'));
    found.retain(|name| !all.iter().any(|run| is_started_by(name, run)));
    let mut names = found.iter();
    match (names.next(), names.next()) {
        (Some(one), None) => asked.id = one.to_string(),
        (Some(_), Some(_)) => {
            let shown: Vec<&str> = found.iter().take(NAMES_SHOWN).map(|name| &**name).collect();
            let text = format!(
                "{} sessions begin with {beginning:?}: {}",
                found.len(),
                shown.join(", ")
            );
            return Err(RpcError::InvalidParams(text));
        }
        (None, _) => {}
    }
    Ok(asked)
}

fn found(state: &ControlState, asked: &wire::SessionParams) -> Result<wire::Sessions, RpcError> {
    let (now_ms, timeout_ms) = times(state);
    Ok(wire::Sessions {
        sessions: sessions(state, asked)?
            .iter()
            .map(|session| row(session, now_ms, timeout_ms))
            .collect(),
    })
}

/// The sessions of this name: one of each tenant that has one.
pub(super) fn sessions(state: &ControlState, asked: &wire::SessionParams) -> Result<Vec<Session>, RpcError> {
    if asked.id.is_empty() {
        return Err(RpcError::InvalidParams("id is missing".to_owned()));
    }
    let tenant = asked.tenant.as_deref().map(Name::from);
    let found = state
        .ledger
        .sessions()
        .find(tenant.as_ref(), &asked.id)
        .map_err(RpcError::ledger)?;
    if found.is_empty() {
        return Err(RpcError::NotFound(format!("there is no session {:?}", asked.id)));
    }
    Ok(found)
}

pub(super) fn row(session: &Session, now_ms: i64, timeout_ms: i64) -> wire::SessionRow {
    wire::SessionRow {
        id: session.id.to_string(),
        tenant: session.who.tenant.to_string(),
        agent: session.who.agent.to_string(),
        user: session.who.user.to_string(),
        task: session.who.task.to_string(),
        parent: session.who.parent.to_string(),
        started: rfc3339_ms(session.started_ms),
        last_seen: rfc3339_ms(session.last_ms),
        ended: session.ended_ms(now_ms, timeout_ms).map(rfc3339_ms),
        status: session.status(now_ms, timeout_ms).name().to_owned(),
        calls: session.calls,
        running: session.running,
        errors: session.errors,
        tokens: session.tokens,
        cost_usd: session.cost,
    }
}
