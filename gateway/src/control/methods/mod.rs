//! All JSON-RPC methods, by what they are about; `rpc.discover` is their document.
//!
//! Parameters are an object, by name; an unknown one is refused, so that a misspelt filter never lets everything pass.
//! Errors bear a code, a text, and in `data.code` a stable word, see [`crate::control::error`].

mod alerts;
mod audit;
pub mod books;
mod budgets;
mod calls;
mod clock;
mod denials;
mod discover;
mod filtered;
mod holds;
mod journal;
mod keys;
mod limits;
mod moving;
mod policies;
mod policy_history;
mod policy_versions;
pub mod prices;
mod providers;
mod rates;
mod recovered;
pub mod replay;
pub(in crate::control) mod rules;
pub(in crate::control) mod series;
mod session_tree;
mod sessions;
mod subscriptions;
mod switches;
pub(in crate::control) mod system;
mod tenants;
mod tool_calls;
mod tool_servers;

use std::sync::Arc;

use jsonrpsee::server::RegisterMethodError;

use crate::control::rpc::call::Caller;
use crate::control::rpc::table::{Module, Table};
use crate::control::state::ControlState;

/// All methods, for callers whose rights come with each request.
pub(in crate::control) fn table(state: Arc<ControlState>) -> Result<Table, RegisterMethodError> {
    let mut table = Table::new(state);
    books::add(&mut table)?;
    calls::add(&mut table)?;
    holds::add(&mut table)?;
    limits::add(&mut table)?;
    recovered::add(&mut table)?;
    journal::add(&mut table)?;
    sessions::add(&mut table)?;
    session_tree::add(&mut table)?;
    clock::add(&mut table)?;
    providers::add(&mut table)?;
    prices::add(&mut table)?;
    audit::add(&mut table)?;
    denials::add(&mut table)?;
    alerts::add(&mut table)?;
    subscriptions::add(&mut table)?;
    rules::add(&mut table)?;
    rules::history::add(&mut table)?;
    budgets::add(&mut table)?;
    rates::add(&mut table)?;
    keys::add(&mut table)?;
    tenants::add(&mut table)?;
    policies::add(&mut table)?;
    policy_versions::add(&mut table)?;
    policy_history::add(&mut table)?;
    replay::add(&mut table)?;
    switches::add(&mut table)?;
    series::add(&mut table)?;
    system::add(&mut table)?;
    moving::add(&mut table)?;
    tool_calls::add(&mut table)?;
    tool_servers::add(&mut table)?;
    discover::add(&mut table)?;
    Ok(table)
}

/// All methods, for the process that holds the ledger itself: no socket is between it and its files.
pub fn own_methods(state: Arc<ControlState>) -> Result<Module, RegisterMethodError> {
    let mut module = table(state)?.into_module();
    let caller = Caller {
        peer: "files".into(),
        ..Caller::owner()
    };
    module.extensions_mut().insert(caller);
    Ok(module)
}
