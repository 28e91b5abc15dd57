//! Work that goes on at a provider after its answer: the hold waits here until the result is fetched, or until it has waited
//! too long. Each ends exactly once.

use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{BillId, Entry, Name, Outcome, Settlement};

use crate::estimate_reason;
use crate::meter::Text;
use crate::proxy::report;
use crate::proxy::settle::blank::blank;
use crate::proxy::shared::deferred_holds::DeferredHold;
use crate::proxy::shared::gateway::Gateway;
use crate::tasks::spawn_named;
use crate::telemetry::trace::Traced;

/// Lets a hold wait for the result with this id. After `limits.background_wait_ms` it is entered as spent.
pub fn defer(gateway: &Arc<Gateway>, bill: BillId, mut waiting: DeferredHold) {
    let limits = &waiting.exchange.rules.config.limits;
    let patience = Duration::from_millis(limits.background_wait_ms);
    if gateway.deferred.len() >= limits.background_holds_max {
        tracing::warn!("too many background requests wait for their results: this one is entered at what it held");
        if let Some((entry, traced)) = settle_unfetched(gateway, waiting, vec![bill]) {
            report::settled(gateway, entry, &traced);
        }
        return;
    }
    // Else it was fetched, and entered, while its stream was still running here.
    let Some(hold) = waiting.hold.defer(bill) else { return };
    waiting.hold = hold;
    // Of the request only its facts are needed any more.
    waiting.exchange.inspected.text = Text::default();
    waiting.exchange.step = None;
    waiting.exchange.session_end = None;
    gateway.deferred.insert(bill, waiting);
    let gateway = Arc::downgrade(gateway);
    spawn_named("deferred-hold", async move {
        tokio::time::sleep(patience).await;
        let Some(gateway) = gateway.upgrade() else { return };
        let unfetched = |waiting| settle_unfetched(&gateway, waiting, vec![bill]);
        if let Some((entry, traced)) = gateway.deferred.end(&bill, unfetched).flatten() {
            report::settled(&gateway, entry, &traced);
        }
    });
}

/// The result was not fetched in time: what was held is taken as spent, until a later fetch corrects it. The entry, and the
/// trace of its request.
fn settle_unfetched(gateway: &Gateway, waiting: DeferredHold, bills: Vec<BillId>) -> Option<(Entry, Traced)> {
    let DeferredHold {
        exchange,
        hold,
        verdict,
        ttfb_ms,
        ..
    } = waiting;
    let settlement = Settlement {
        cost: hold.held(),
        upper_bound: Some(hold.held()),
        estimate_reason: Some(Name::from(estimate_reason::NOT_FETCHED)),
        verdict,
        ttfb_ms,
        ..blank(gateway, &exchange, Outcome::Recovered, 200)
    };
    let settled = hold.settle_bills(settlement, None, bills)?;
    Some((settled.entry, exchange.traced))
}
