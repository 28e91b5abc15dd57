//! How rates stand: `rate.status`.

use agentledger_ledger::Unit;
use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::methods::limits::own_account;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::rates::RateNow;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method::new(
            "rate.status",
            Role::Read,
            Scope::Tenant,
            "Who is near a rate: what is taken of each on which anything is counted, the fullest first.",
            r#"{"limit": 20}"#,
        ),
        status,
    )
}

fn status(state: &ControlState, call: &Call, asked: wire::RateStatusParams) -> Result<wire::RateStatus, RpcError> {
    let limit = params::limit(asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let own = own_account(&call.caller);
    let rates = state.data_plane.rates(own.as_deref(), limit);
    Ok(wire::RateStatus {
        rates: rates.into_iter().map(row).collect(),
    })
}

fn row(now: RateNow) -> wire::RateRow {
    let rate = now.rate.map(|(per, unit)| {
        let unit = match unit {
            Unit::Tokens => Unit::Tokens,
            Unit::Requests | Unit::Usd => Unit::Requests,
        };
        format!("{}_per_{}", unit.name(), per.name())
    });
    wire::RateRow {
        account: now.account.to_string(),
        reset_ms: rate.is_some().then_some(now.reset_ms),
        rate: rate.unwrap_or_else(|| "parallel".to_owned()),
        used: now.used,
        limit: now.limit,
    }
}
