//! The methods about providers.

use jsonrpsee::server::RegisterMethodError;

use super::call::{Call, Role};
use super::error::RpcError;
use super::methods::{Method, Scope, Table};
use super::state::ControlState;
use super::wire;
use crate::plugin::Route;

pub(super) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method {
            name: "provider.list",
            needs: Role::Read,
            scope: Scope::Tenant,
            summary: "Providers with their breakers and, where requested, their routes.",
            example: r#"{"routes": false}"#,
        },
        list,
    )
}

pub(super) fn list(state: &ControlState, _: &Call, asked: wire::ProvidersParams) -> Result<wire::Providers, RpcError> {
    let config = state.config.load();
    let wanted = config
        .providers
        .iter()
        .filter(|provider| asked.provider.is_empty() || provider.name == asked.provider);
    let providers = wanted.map(|provider| {
        let routes = if asked.routes {
            state.data_plane.routes(&provider.name)
        } else {
            Vec::new()
        };
        let breaker = state.data_plane.breaker(&provider.name);
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
