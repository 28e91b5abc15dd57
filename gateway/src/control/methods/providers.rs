//! The methods about providers.

use jsonrpsee::server::RegisterMethodError;
use serde_json::json;
use ulid::Ulid;

use crate::control::error::RpcError;
use crate::control::rpc::call::{Call, Changed, Role};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::{BreakerState, ControlState};
use crate::control::wire;
use crate::plugin::Route;
use crate::telemetry::latency::Percentiles;

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    table.add(
        Method {
            name: "provider.list",
            needs: Role::Read,
            scope: Scope::Tenant,
            summary: "Providers with their breakers and, where requested, their routes.",
            example: r#"{"routes": false}"#,
        },
        list,
    )?;
    table.add(
        Method {
            name: "provider.reset_breaker",
            needs: Role::Operate,
            scope: Scope::Whole,
            summary: "Closes a provider's circuit breaker: requests go to it again at once.",
            example: r#"{"provider": "openai", "note": "it is up again"}"#,
        },
        reset_breaker,
    )
}

pub(in crate::control) fn list(
    state: &ControlState,
    call: &Call,
    asked: wire::ProvidersParams,
) -> Result<wire::Providers, RpcError> {
    let config = state.config.load();
    let now_ms = state.ledger.now_ms();
    let disabled = state.data_plane.in_force().map(|in_force| in_force.parts.disabled);
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
            enabled: disabled
                .as_ref()
                .is_none_or(|disabled| !disabled.contains(&provider.name)),
            healthy: !matches!(breaker.state, BreakerState::Open | BreakerState::HalfOpen),
            breaker: breaker.state.name().to_owned(),
            failures: breaker.failures,
            // They are those of all tenants.
            traffic: call
                .caller
                .tenant
                .is_none()
                .then(|| traffic(state, &provider.name, now_ms)),
            routes: routes.into_iter().map(route_row).collect(),
        }
    });
    Ok(wire::Providers {
        providers: providers.collect(),
    })
}

fn traffic(state: &ControlState, provider: &str, now_ms: i64) -> wire::Traffic {
    let figures = state.metrics.provider_figures(provider, now_ms);
    let latency = |found: Percentiles| wire::Latency {
        p50_ms: found.p50,
        p90_ms: found.p90,
        p99_ms: found.p99,
    };
    wire::Traffic {
        requests: figures.requests,
        errors: figures.errors,
        duration: latency(figures.duration),
        ttfb: latency(figures.ttfb),
    }
}

pub(in crate::control) fn reset_breaker(
    state: &ControlState,
    call: &Call,
    asked: wire::ProviderParams,
) -> Result<wire::Providers, RpcError> {
    let one = |state: &ControlState| {
        let asked = wire::ProvidersParams {
            provider: asked.provider.clone(),
            routes: false,
        };
        list(state, call, asked)
    };
    let before = one(state)?;
    let Some(row) = before.providers.first().filter(|_| !asked.provider.is_empty()) else {
        return Err(RpcError::NotFound(format!("there is no provider {:?}", asked.provider)));
    };
    let seen = |row: &wire::ProviderRow| json!({ "breaker": row.breaker, "failures": row.failures });
    let before = seen(row);
    state.ledger.live()?;
    state.data_plane.reset_breaker(&asked.provider);
    let result = one(state)?;
    let changed = Changed {
        subject: format!("breaker:{}", asked.provider),
        note: asked.note.clone(),
        before: Some(before),
        after: result.providers.first().map(seen),
        ..Changed::default()
    };
    call.commit(&state.ledger, Ulid::new(), changed, &result)?;
    Ok(result)
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
