//! Facts that people may want to know of, as the policies' phase `alert` sees them. Each thing is shown once a cooldown: a flood
//! of one costs a look-up.

use agentledger_ledger::Entry;

use crate::config::Breaker;
use crate::estimate_reason;
use crate::policy::Event;
use crate::proxy::alerts::{Origin, due, event};
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::rules::ProviderEndpoint;
use crate::telemetry::alerts::Occurrence;

/// Below this share a cost that the provider reports differs by rounding alone; policies may want more.
const DRIFT_SHARE_MIN: f64 = 0.001;

/// What a settled entry says of the price book.
pub fn settled(gateway: &Gateway, entry: &Entry) {
    unpriced(gateway, entry);
    drift(gateway, entry);
}

/// A model that the price book does not have.
fn unpriced(gateway: &Gateway, entry: &Entry) {
    let (provider, end) = (&entry.facts.provider, &entry.settlement);
    let reason = end.estimate_reason.as_deref().unwrap_or_default();
    if ![estimate_reason::FAMILY_PRICE, estimate_reason::UNPRICED_MODEL].contains(&reason) {
        return;
    }
    let Some(folded) = due(gateway, "unpriced", &[provider, &end.model], Occurrence::New) else {
        return;
    };
    let row = end.price.as_ref().map(|price| price.id.to_string()).unwrap_or_default();
    let told = Event::new("unpriced", gateway.clock.now_ms())
        .text("provider", &**provider)
        .text("model", &*end.model)
        .text("row", row)
        .text("reason", reason);
    event(gateway, of(entry, folded), told);
}

/// A cost that the provider reported and that is not ours.
fn drift(gateway: &Gateway, entry: &Entry) {
    let (provider, end) = (&entry.facts.provider, &entry.settlement);
    let Some(reported) = end.reported_cost.filter(|_| end.estimate_reason.is_none()) else {
        return;
    };
    let Some(share) = drift_share(end.cost.nanos(), reported.nanos()) else {
        return;
    };
    let Some(folded) = due(gateway, "drift", &[provider, &end.model], Occurrence::New) else {
        return;
    };
    let told = Event::new("drift", gateway.clock.now_ms())
        .text("provider", &**provider)
        .text("model", &*end.model)
        .text("entry", entry.facts.id.to_string())
        .usd("cost_usd", end.cost)
        .usd("reported_usd", reported)
        .number("share", share);
    event(gateway, of(entry, folded), told);
}

/// By which share of what was reported the cost differs; `None` where by nothing worth a word.
#[allow(clippy::cast_precision_loss)]
fn drift_share(cost: i64, reported: i64) -> Option<f64> {
    let apart = cost.abs_diff(reported);
    let base = reported.unsigned_abs().max(1);
    let share = apart as f64 / base as f64;
    // A micro-dollar is what some providers round to.
    (apart > 1_000 && share >= DRIFT_SHARE_MIN).then_some(share)
}

fn of(entry: &Entry, folded: u64) -> Origin<'_> {
    Origin::new(&entry.facts.tenant).folding(folded)
}

/// A plugin that failed a call.
pub fn plugin_failed(gateway: &Gateway, endpoint: &ProviderEndpoint, count: u32) {
    let plugin = &endpoint.plugin.dialect.info().name;
    let Some(folded) = due(gateway, "plugin", &[plugin, &endpoint.name], Occurrence::New) else {
        return;
    };
    let told = Event::new("plugin", gateway.clock.now_ms())
        .text("plugin", plugin.as_str())
        .text("provider", &*endpoint.name)
        .number("count", f64::from(count));
    event(gateway, Origin::new("").folding(folded), told);
}

/// A provider's circuit breaker that opened.
pub fn circuit_opened(gateway: &Gateway, endpoint: &ProviderEndpoint, breaker: &Breaker) {
    let name = &endpoint.provider.name;
    let Some(folded) = due(gateway, "breaker", &[name], Occurrence::New) else {
        return;
    };
    let told = Event::new("breaker", gateway.clock.now_ms())
        .text("provider", name.as_str())
        .text("state", "open")
        .number("failures", f64::from(breaker.max_failures))
        .number("timeout_s", breaker.timeout.as_secs_f64());
    event(gateway, Origin::new("").folding(folded), told);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_cost_that_differs_by_rounding_is_no_drift() {
        assert_eq!(drift_share(1_000_000, 1_000_000), None);
        assert_eq!(drift_share(1_000_400, 1_000_000), None, "less than a micro-dollar");
        assert_eq!(
            drift_share(1_000_000_000, 1_000_400_000),
            None,
            "less than a thousandth"
        );
        assert_eq!(drift_share(1_100_000, 1_000_000), Some(0.1));
        assert_eq!(drift_share(900_000, 1_000_000), Some(0.1));
        assert!(drift_share(5_000_000, 0).unwrap() > 1.0);
    }
}
