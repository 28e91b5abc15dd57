//! The method about refused requests.

use agentledger_ledger::{DenialQuery, rfc3339_ms};
use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::key_names::prefix_of;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::{self, LAST_DEFAULT, Span};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "denial.list",
            Role::Read,
            Scope::Tenant,
            "Requests that rules refused: by code, account and policy, how many and when last.",
            r#"{"last": "24h", "code": "budget_"}"#,
        ),
        list,
    )
}

fn list(state: &ControlState, call: &Call, asked: wire::DenialsParams) -> Result<wire::Denials, RpcError> {
    let span = Span::new(&asked.last, &asked.from, &asked.to);
    let (from_ms, to_ms) = span.ms(state.ledger.now_ms(), Some(LAST_DEFAULT))?;
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let query = DenialQuery {
        from_ms,
        to_ms,
        tenant: call.caller.tenant_of(&asked.tenant)?,
    };
    state.ledger.flush()?;
    let mut found = state.ledger.denials(&query);
    let account = prefix_of(state, &call.caller, &asked.account);
    found.retain(|row| row.of.reason.starts_with(&asked.code) && row.of.account.starts_with(&account));
    let refused = found.iter().fold(0, |sum: u64, row| sum.saturating_add(row.count));
    found.truncate(limit);
    let row = |row: agentledger_ledger::DenialRow| wire::DenialRow {
        code: row.of.reason.to_string(),
        account: row.of.account.to_string(),
        policy: Some(row.of.policy.to_string()).filter(|policy| !policy.is_empty()),
        tenant: Some(row.of.tenant.to_string()).filter(|tenant| !tenant.is_empty()),
        requests: row.count,
        first: rfc3339_ms(row.first_ms),
        last: rfc3339_ms(row.last_ms),
    };
    Ok(wire::Denials {
        from: rfc3339_ms(from_ms),
        to: rfc3339_ms(to_ms),
        refused,
        denials: found.into_iter().map(row).collect(),
    })
}
