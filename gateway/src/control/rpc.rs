//! All JSON-RPC methods, room by room; `rpc.discover` is their document.
//!
//! Parameters are an object, by name; an unknown one is refused, so that a misspelt filter never lets everything pass.
//! Errors bear a code, a text, and in `data.code` a stable word, see [`super::error`].

use std::sync::Arc;

use jsonrpsee::server::RegisterMethodError;

use super::call::Caller;
use super::methods::{Module, Table};
use super::state::ControlState;
use super::{alerts, audit, books, clock, holds, prices, providers, rules, sessions, subscriptions};
use crate::readiness::not_ready as not_ready_of;

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
    Ok(table)
}

/// All methods, for the process that holds the ledger itself.
pub fn own_methods(state: Arc<ControlState>) -> Result<Module, RegisterMethodError> {
    let mut module = methods(state)?.into_module();
    module.extensions_mut().insert(Caller::owner());
    Ok(module)
}

/// Why no requests are taken at present.
pub(super) fn not_ready(state: &ControlState) -> Option<String> {
    let health = state.ledger.health()?;
    not_ready_of(&health).map(|not_ready| not_ready.reason)
}
