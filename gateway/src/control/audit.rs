//! The method `audit.list`: what was changed, as the journal has it.

use agentledger_ledger::{ChangeQuery, Name};
use jsonrpsee::server::RegisterMethodError;

use super::call::{Call, Role};
use super::error::RpcError;
use super::ledger_view::now_ms;
use super::methods::{Method, Scope, Table};
use super::params::{self, Span};
use super::rows::change_row;
use super::state::ControlState;
use super::wire;

/// Changes in one answer.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(super) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
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

pub(super) fn list(state: &ControlState, call: &Call, asked: wire::AuditParams) -> Result<wire::Changes, RpcError> {
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
pub(super) fn page(state: &ControlState, query: &ChangeQuery) -> Result<wire::Changes, RpcError> {
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
