//! All JSON-RPC methods, room by room; `rpc.discover` is their document.
//!
//! Parameters are an object, by name; an unknown one is refused, so that a misspelt filter never lets everything pass.
//! Errors bear a code, a text, and in `data.code` a stable word, see [`super::error`].

use std::sync::Arc;

use jsonrpsee::server::RegisterMethodError;

use super::call::Caller;
use super::methods::{Module, Table};
use super::state::ControlState;
use super::{
    alerts, audit, books, budgets, clock, discover, holds, keys, moving, policies, prices, providers, rule_history,
    rules, series, sessions, subscriptions, switches, system, tenants,
};

/// All methods, for callers whose rights come with each request.
pub(super) fn methods(state: Arc<ControlState>) -> Result<Table, RegisterMethodError> {
    let mut table = Table::new(state);
    books::add(&mut table)?;
    holds::add(&mut table)?;
    sessions::add(&mut table)?;
    clock::add(&mut table)?;
    providers::add(&mut table)?;
    prices::add(&mut table)?;
    audit::add(&mut table)?;
    alerts::add(&mut table)?;
    subscriptions::add(&mut table)?;
    rules::add(&mut table)?;
    rule_history::add(&mut table)?;
    budgets::add(&mut table)?;
    keys::add(&mut table)?;
    tenants::add(&mut table)?;
    policies::add(&mut table)?;
    switches::add(&mut table)?;
    series::add(&mut table)?;
    system::add(&mut table)?;
    moving::add(&mut table)?;
    discover::add(&mut table)?;
    Ok(table)
}

/// All methods, for the process that holds the ledger itself.
pub fn own_methods(state: Arc<ControlState>) -> Result<Module, RegisterMethodError> {
    let mut module = methods(state)?.into_module();
    module.extensions_mut().insert(Caller::owner());
    Ok(module)
}
