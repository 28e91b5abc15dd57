//! The JSON-RPC methods.
//!
//! | method | parameters | result | needs |
//! |---|---|---|---|
//! | `ledger.summary` | [`wire::SummaryParams`] | [`wire::Summary`] | read |
//! | `ledger.query` | [`wire::QueryParams`] | [`wire::Entries`] | read |
//! | `ledger.verify` | [`wire::VerifyParams`] | [`wire::Verified`] | read |
//! | `budget.status` | [`wire::BudgetParams`] | [`wire::BudgetStatus`] | read |
//! | `hold.list` | – | [`wire::Holds`] | read |
//! | `hold.explain` | [`wire::HoldParams`] | [`wire::Explained`] | read |
//! | `session.list` | [`wire::SessionsParams`] | [`wire::Sessions`] | read |
//! | `session.get` | [`wire::SessionParams`] | [`wire::Sessions`] | read |
//! | `session.end` | [`wire::SessionParams`] | [`wire::Sessions`] | admin |
//! | `session.kill` | [`wire::SessionParams`] | [`wire::Sessions`] | admin |
//! | `clock.status` | – | [`wire::ClockStatus`] | read |
//! | `clock.accept` | – | [`wire::ClockStatus`] | admin |
//! | `provider.list` | – | [`wire::Providers`] | read |
//! | `prices.list` | [`wire::PricesParams`] | [`wire::Prices`] | read |
//! | `prices.show` | [`wire::PricesParams`] | [`wire::Prices`] | read |
//!
//! Parameters are an object, by name; an unknown one is refused, so that a misspelt filter never lets everything pass.
//! Errors bear a code, a text, and in `data.code` a stable word: `invalid_params` (-32602), `ledger_failed` (-32001),
//! `not_found` (-32002), `forbidden` (-32003).

use std::sync::Arc;

use jsonrpsee::types::Params;
use jsonrpsee::{Extensions, RpcModule, server::RegisterMethodError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::Access;
use super::error::RpcError;
use super::state::ControlState;
use super::{books, clock, holds, prices, sessions, wire};
use crate::plugin::Route;
use crate::readiness::not_ready as not_ready_of;

/// The methods over their state; nobody else names the library they are written with.
pub type Module = RpcModule<ControlState>;

/// All methods, for callers whose rights come with each request.
pub(super) fn methods(state: Arc<ControlState>) -> Result<Module, RegisterMethodError> {
    let mut module = RpcModule::from_arc(state);
    register(&mut module, "ledger.summary", Access::Read, books::summary)?;
    register(&mut module, "ledger.query", Access::Read, books::query)?;
    register(&mut module, "ledger.verify", Access::Read, books::verify)?;
    register(&mut module, "budget.status", Access::Read, holds::budget_status)?;
    register(&mut module, "hold.list", Access::Read, holds::list)?;
    register(&mut module, "hold.explain", Access::Read, holds::explain)?;
    register(&mut module, "session.list", Access::Read, sessions::list)?;
    register(&mut module, "session.get", Access::Read, sessions::get)?;
    register(&mut module, "session.end", Access::Admin, sessions::end)?;
    register(&mut module, "session.kill", Access::Admin, sessions::kill)?;
    register(&mut module, "clock.status", Access::Read, clock::status)?;
    register(&mut module, "clock.accept", Access::Admin, clock::accept)?;
    register(&mut module, "provider.list", Access::Read, provider_list)?;
    register(&mut module, "prices.list", Access::Read, prices::list)?;
    register(&mut module, "prices.show", Access::Read, prices::show)?;
    Ok(module)
}

/// All methods, for the process that holds the ledger itself.
pub fn own_methods(state: Arc<ControlState>) -> Result<Module, RegisterMethodError> {
    let mut module = methods(state)?;
    module.extensions_mut().insert(Access::Admin);
    Ok(module)
}

fn register<P, R>(
    module: &mut Module,
    name: &'static str,
    needs: Access,
    method: fn(&ControlState, P) -> Result<R, RpcError>,
) -> Result<(), RegisterMethodError>
where
    P: DeserializeOwned + Default + 'static,
    R: Serialize + Clone + Send + 'static,
{
    let run = move |params: Params<'_>, state: Arc<ControlState>, extensions: Extensions| -> Result<R, RpcError> {
        if extensions.get::<Access>().is_none_or(|has| *has < needs) {
            return Err(RpcError::Forbidden);
        }
        method(&state, read(&params)?)
    };
    // The ledger may wait for the disk: never on the runtime's own thread.
    module.register_blocking_method(name, run)?;
    Ok(())
}

fn read<P: DeserializeOwned + Default>(params: &Params<'_>) -> Result<P, RpcError> {
    match params.as_str() {
        None | Some("null" | "[]") => Ok(P::default()),
        Some(text) if params.is_object() => {
            serde_json::from_str(text).map_err(|error| RpcError::InvalidParams(error.to_string()))
        }
        Some(_) => Err(RpcError::InvalidParams(
            "parameters go by name, in an object".to_owned(),
        )),
    }
}

fn provider_list(state: &ControlState, asked: wire::ProvidersParams) -> Result<wire::Providers, RpcError> {
    let config = state.config.load();
    let wanted = config
        .providers
        .iter()
        .filter(|provider| asked.provider.is_empty() || provider.name == asked.provider);
    let providers = wanted.map(|provider| {
        let routes = if asked.routes {
            state.providers.routes(&provider.name)
        } else {
            Vec::new()
        };
        let breaker = state.providers.breaker(&provider.name);
        wire::ProviderRow {
            name: provider.name.clone(),
            dialect: provider.dialect.clone(),
            vendor: provider.vendor.clone(),
            prefix: provider.prefix.clone(),
            upstream: format!("{}:{}", provider.upstream.host, provider.upstream.port),
            enabled: true,
            breaker: breaker.state.name().to_owned(),
            failures: breaker.failures,
            routes: routes.into_iter().map(route_row).collect(),
        }
    });
    Ok(wire::Providers {
        providers: providers.collect(),
    })
}

fn route_row((dialect, route): (String, Route)) -> wire::RouteRow {
    wire::RouteRow {
        dialect,
        method: route.method,
        path: route.path,
        operation: route.operation,
        billing: route.billing.name().to_owned(),
        reason: route.reason,
        source: route.source,
    }
}

/// Why no requests are taken at present.
pub(super) fn not_ready(state: &ControlState) -> Option<String> {
    let health = state.ledger.health()?;
    not_ready_of(&health).map(|not_ready| not_ready.reason)
}
