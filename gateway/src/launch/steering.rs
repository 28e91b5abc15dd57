//! The data plane as the control plane sees and steers it.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::Usd;
use futures_util::future::BoxFuture;

use super::Reloads;
use crate::alerting::Dispatch;
use crate::control::wire::{BeginParams, BeginResult, EndParams, EndResult, ListParams, ListResult};
use crate::control::{BreakerState, BreakerStatus, DataPlane, Plan, PluginInfo, Record, RpcError};
use crate::mcp::WrappedCalls;
use crate::plugin::Route;
use crate::price::PriceBook;
use crate::proxy::books_watch;
use crate::proxy::forward::breaker::CircuitState;
use crate::runtime::InForce;
use crate::secret::Secret;
use crate::telemetry::alerts::Outbox;

/// The running gateway.
pub(super) struct Steering(pub Arc<Reloads>, pub Arc<WrappedCalls>);

impl DataPlane for Steering {
    fn breaker(&self, provider: &str) -> BreakerStatus {
        let rules = self.0.gateway().rules.load();
        let Some(endpoint) = rules.endpoints_of(provider).next() else {
            return BreakerStatus::default();
        };
        if rules.config.breaker.max_failures == 0 {
            return BreakerStatus::default();
        }
        let (state, failures) = endpoint.breaker.status(self.0.gateway().clock.monotonic_ms());
        let state = match state {
            CircuitState::Closed => BreakerState::Closed,
            CircuitState::Open => BreakerState::Open,
            CircuitState::HalfOpen => BreakerState::HalfOpen,
        };
        BreakerStatus { state, failures }
    }

    fn routes(&self, provider: &str) -> Vec<(String, Route)> {
        let rules = self.0.gateway().rules.load();
        let mut endpoints: Vec<_> = rules.endpoints_of(provider).collect();
        endpoints.dedup_by_key(|endpoint| &endpoint.provider.dialect);
        let rows = endpoints.into_iter().flat_map(|endpoint| {
            let (dialect, vendor) = (&endpoint.provider.dialect, &endpoint.provider.vendor);
            let routes = endpoint.plugin.dialect.info().routes.iter();
            routes
                .filter(|route| route.vendors.is_empty() || route.vendors.contains(vendor))
                .map(|route| (dialect.clone(), route.clone()))
        });
        rows.collect()
    }

    fn alerts(&self) -> Arc<Outbox> {
        Arc::clone(&self.0.gateway().alerts)
    }

    fn dispatch(&self) -> Option<Arc<Dispatch>> {
        Some(Arc::clone(&self.0.gateway().alert_dispatch))
    }

    fn damaged(&self, what: &str) {
        books_watch::fault(self.0.gateway(), "damaged", what);
    }

    fn plugins(&self) -> Vec<PluginInfo> {
        let rules = self.0.gateway().rules.load();
        let mut found: BTreeMap<&str, PluginInfo> = BTreeMap::new();
        for endpoint in &rules.endpoints {
            let info = endpoint.plugin.dialect.info();
            let plugin = found.entry(&info.name).or_insert_with(|| PluginInfo {
                name: info.name.clone(),
                version: info.version.clone(),
                source: endpoint.plugin.source.clone(),
                providers: Vec::new(),
            });
            plugin.providers.push(endpoint.provider.name.clone());
        }
        found.into_values().collect()
    }

    fn reset_breaker(&self, provider: &str) -> bool {
        let rules = self.0.gateway().rules.load();
        let endpoints = rules.endpoints_of(provider);
        endpoints.map(|endpoint| endpoint.breaker.reset()).count() > 0
    }

    fn expected_cost(&self, model: &str, agent: &str) -> Option<Usd> {
        self.0.gateway().estimator.mean_cost_of_calls(model, agent)
    }

    fn prices(&self) -> Option<PriceBook> {
        Some(self.0.gateway().rules.load().prices.clone())
    }

    fn in_force(&self) -> Option<InForce> {
        Some(self.0.in_force())
    }

    fn change(&self, plan: &mut Plan<'_>, record: &mut Record<'_>) -> Result<Option<u64>, RpcError> {
        self.0.change(plan, record)
    }

    fn refused_policies(&self) -> Arc<Vec<String>> {
        self.0.gateway().refused_policies.load_full()
    }

    fn begin_call(&self, call: BeginParams) -> BoxFuture<'_, Result<BeginResult, RpcError>> {
        Box::pin(async move { self.1.begin(&call).await })
    }

    fn list_tools(&self, list: &ListParams) -> Result<ListResult, RpcError> {
        Ok(self.1.list(list))
    }

    fn keep_calls(&self, ids: &[String]) -> Result<u64, RpcError> {
        self.1.keep_on(ids)
    }

    fn end_call(&self, ended: &EndParams) -> Result<EndResult, RpcError> {
        self.1.end(ended)
    }

    fn fingerprint(&self, key: &Secret<String>) -> Option<String> {
        Some(self.0.gateway().rules.load().fingerprints.of(key))
    }
}
