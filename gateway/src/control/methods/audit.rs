//! The method `audit.list`: what was changed, as the journal has it.

use agentledger_ledger::{ChangeQuery, Name};
use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::ledger_view::now_ms;
use crate::control::rows::change_row;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::{self, Span};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

/// Changes in one answer.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method {
            name: "audit.list",
            needs: Role::Read,
            scope: Scope::Tenant,
            summary: "Changes with who made each, when, from where, and what was there before and after, latest first.",
            example: r#"{"last": "30d", "limit": 10}"#,
        },
        list,
    )
}

pub(in crate::control) fn list(
    state: &ControlState,
    call: &Call,
    asked: wire::AuditParams,
) -> Result<wire::Changes, RpcError> {
    let span = Span::new(&asked.last, &asked.from, &asked.to);
    let (from_ms, to_ms) = span.ms(now_ms(), None)?;
    let query = ChangeQuery {
        from_ms,
        to_ms,
        subject: asked.subject,
        action: asked.action,
        author: (!asked.author.is_empty()).then(|| Name::from(asked.author.as_str())),
        tenant: call.caller.tenant.clone(),
        limit: params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?,
        before_sequence: asked.before,
    };
    state.ledger.flush()?;
    page(state, &query)
}

/// A page of changes as it goes over the wire.
pub(in crate::control) fn page(state: &ControlState, query: &ChangeQuery) -> Result<wire::Changes, RpcError> {
    let page = state.ledger.changes(query).map_err(RpcError::ledger)?;
    Ok(wire::Changes {
        changes: page
            .changes
            .iter()
            .map(|(sequence, change)| change_row(*sequence, change))
            .collect(),
        next: page.next,
    })
}
