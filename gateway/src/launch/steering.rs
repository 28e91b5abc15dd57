//! The data plane as the control plane sees and steers it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agentledger_ledger::{HoldId, Usd, rfc3339_ms};
use futures_util::future::BoxFuture;

use super::Reloads;
use crate::alerting::Dispatch;
use crate::backups;
use crate::control::wire::{
    BackupRow, BeginParams, BeginResult, EndParams, EndResult, ListParams, ListResult, PriceDifferenceRow,
    PriceDriftRow,
};
use crate::control::{
    BreakerState, BreakerStatus, Commit, DataPlane, LiveAnswer, Plan, PluginInfo, Record, RpcError, ToolDecision,
    ToolServerNow,
};
use crate::mcp::{Mcp, WrappedCalls};
use crate::plugin::Route;
use crate::price::PriceBook;
use crate::proxy::books_watch;
use crate::proxy::forward::breaker::CircuitState;
use crate::proxy::shared::upkeep::PriceDifference;
use crate::rates::RateNow;
use crate::runtime::InForce;
use crate::secret::Secret;
use crate::telemetry::alerts::Outbox;

/// The running gateway.
pub(super) struct Steering {
    pub reloads: Arc<Reloads>,
    pub wrapped: Arc<WrappedCalls>,
    pub mcp: Arc<Mcp>,
}

impl DataPlane for Steering {
    fn breaker(&self, provider: &str) -> BreakerStatus {
        let rules = self.reloads.gateway().rules.load();
        let Some(endpoint) = rules.endpoints_of(provider).next() else {
            return BreakerStatus::default();
        };
        if rules.config.breaker.max_failures == 0 {
            return BreakerStatus::default();
        }
        let (state, failures) = endpoint.breaker.status(self.reloads.gateway().clock.monotonic_ms());
        let state = match state {
            CircuitState::Closed => BreakerState::Closed,
            CircuitState::Open => BreakerState::Open,
            CircuitState::HalfOpen => BreakerState::HalfOpen,
        };
        BreakerStatus { state, failures }
    }

    fn routes(&self, provider: &str) -> Vec<(String, Route)> {
        let rules = self.reloads.gateway().rules.load();
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
        Arc::clone(&self.reloads.gateway().alerts)
    }

    fn dispatch(&self) -> Option<Arc<Dispatch>> {
        Some(Arc::clone(&self.reloads.gateway().alert_dispatch))
    }

    fn damaged(&self, what: &str) {
        books_watch::fault(self.reloads.gateway(), "damaged", what);
    }

    fn plugins(&self) -> Vec<PluginInfo> {
        let rules = self.reloads.gateway().rules.load();
        let mut found: BTreeMap<&str, PluginInfo> = BTreeMap::new();
        for endpoint in &rules.endpoints {
            let info = endpoint.plugin.dialect.info();
            let plugin = found.entry(&info.name).or_insert_with(|| PluginInfo {
                name: info.name.clone(),
                version: info.version.clone(),
                source: endpoint.plugin.source.clone(),
                providers: Vec::new(),
                failures: self.reloads.gateway().metrics.plugin_failures(&info.name),
            });
            plugin.providers.push(endpoint.provider.name.clone());
        }
        found.into_values().collect()
    }

    fn reset_breaker(&self, provider: &str) -> bool {
        let rules = self.reloads.gateway().rules.load();
        let endpoints = rules.endpoints_of(provider);
        endpoints.map(|endpoint| endpoint.breaker.reset()).count() > 0
    }

    fn expected_cost(&self, model: &str, agent: &str) -> Option<Usd> {
        self.reloads.gateway().estimator.mean_cost_of_calls(model, agent)
    }

    fn live_answers(&self) -> Option<HashMap<HoldId, LiveAnswer>> {
        let so_far = self.reloads.gateway().live.so_far();
        let shown = so_far.into_iter().map(|(hold, so_far)| {
            let answer = LiveAnswer {
                output_tokens: so_far.output_tokens,
                spent: so_far.spent,
            };
            (hold, answer)
        });
        Some(shown.collect())
    }

    fn rates(&self, own: Option<&str>, most: usize) -> Vec<RateNow> {
        let gateway = self.reloads.gateway();
        let wanted = |account: &str| own.is_none_or(|own| own == account);
        gateway.rates.standings(gateway.clock.monotonic_ms(), wanted, most)
    }

    fn price_drift(&self) -> Option<PriceDriftRow> {
        let drift = self.reloads.gateway().upkeep.drift()?;
        let row = |one: &PriceDifference| PriceDifferenceRow {
            provider: one.provider.clone(),
            model: one.model.clone(),
            what: one.what.clone(),
            before: one.before.clone(),
            after: one.after.clone(),
            held_back: one.held_back.clone(),
        };
        Some(PriceDriftRow {
            at: Some(rfc3339_ms(drift.at_ms)),
            compared: drift.compared as u64,
            differences: drift.differences.iter().map(row).collect(),
            error: drift.error,
        })
    }

    fn backups(&self) -> Vec<BackupRow> {
        let gateway = self.reloads.gateway();
        let failed = gateway.upkeep.backup_failure().map(|failure| BackupRow {
            at: rfc3339_ms(failure.at_ms),
            state: "failed".to_owned(),
            why: failure.why,
            ..BackupRow::default()
        });
        let kept = backups::kept(&gateway.rules.load().config.backup.dir);
        let written = kept.into_iter().map(|kept| BackupRow {
            at: kept.at,
            file: Some(kept.file),
            bytes: Some(kept.bytes),
            state: "written".to_owned(),
            why: String::new(),
        });
        let mut rows: Vec<BackupRow> = written.chain(failed).collect();
        rows.sort_by(|one, other| other.at.cmp(&one.at));
        rows
    }

    fn tool_servers(&self) -> Vec<ToolServerNow> {
        self.mcp.servers(&self.reloads.gateway().rules.load())
    }

    fn decide_tool(&self, decision: &ToolDecision<'_>, commit: &mut Commit<'_>) -> Result<(), RpcError> {
        self.mcp.decide(decision, self.reloads.gateway().clock.now_ms(), commit)
    }

    fn prices(&self) -> Option<PriceBook> {
        Some(self.reloads.gateway().rules.load().prices.clone())
    }

    fn in_force(&self) -> Option<InForce> {
        Some(self.reloads.in_force())
    }

    fn change(&self, plan: &mut Plan<'_>, record: &mut Record<'_>) -> Result<Option<u64>, RpcError> {
        self.reloads.change(plan, record)
    }

    fn refused_policies(&self) -> Arc<Vec<String>> {
        self.reloads.gateway().refused_policies.load_full()
    }

    fn begin_call(&self, call: BeginParams) -> BoxFuture<'_, Result<BeginResult, RpcError>> {
        Box::pin(async move { self.wrapped.begin(&call).await })
    }

    fn list_tools(&self, list: &ListParams) -> Result<ListResult, RpcError> {
        Ok(self.wrapped.list(list))
    }

    fn keep_calls(&self, ids: &[String]) -> Result<u64, RpcError> {
        self.wrapped.keep_on(ids)
    }

    fn end_call(&self, ended: &EndParams) -> Result<EndResult, RpcError> {
        self.wrapped.end(ended)
    }

    fn fingerprint(&self, key: &Secret<String>) -> Option<String> {
        Some(self.reloads.gateway().rules.load().fingerprints.of(key))
    }
}
