//! Operations that fetch what an earlier request started: a response by its id, the results of a batch.
//!
//! Nothing is held for them: what they report is spent already. So no budget refuses them, though policies may; the first fetch that sees a result enters it, as overage with the reason `fetched_result`, and every
//! budget counts it. Where a request's hold still waits for the result, that hold ends with it instead; where that hold was
//! entered as spent by then, its entry is corrected. Each is billed once.

pub mod deferred;
pub mod results;

use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{Amounts, BillId, Name, Settlement, Usd};
use tokio::time::timeout;

use crate::meter::{End, Line};
use crate::plugin::Billing;
use crate::policy::CostEstimate;
use crate::proxy::decide::{ExpectedCost, decide};
use crate::proxy::fetch::results::{BatchBill, bill_of};
use crate::proxy::forward::{forward, outgoing};
use crate::proxy::relay::{RelayOptions, Relayed, relay};
use crate::proxy::report;
use crate::proxy::settle::{AnswerEnd, bill_of_answer, settlement};
use crate::proxy::shared::allowance::{LineSink, Unbounded};
use crate::proxy::shared::client::client_gone;
use crate::proxy::shared::deferred_holds::DeferredHold;
use crate::proxy::shared::exchange::{Changes, Exchange};
use crate::proxy::shared::expected_use::ExpectedUse;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::reply::Refusal;

/// Why an entry has no hold: the reason of its overage.
const FETCHED_RESULT: &str = "fetched_result";
/// How long a result that is billed already waits for a permit of the journal's queue.
const ENTER_WAIT: Duration = Duration::from_secs(30);
/// The status of a fetch that comes before its result, without a body at some hosts:
/// <https://docs.x.ai/developers/advanced-api-usage/deferred-chat-completions>.
const ACCEPTED: u16 = 202;
/// Why an entry was corrected.
const FETCHED_LATE: &str = "fetched_late";

/// Forwards a fetch, relays its answer and enters what it brings.
///
/// # Errors
/// The refusal for the client, where no answer began.
pub async fn fetch(
    gateway: &Arc<Gateway>,
    session: &mut ServerSession,
    exchange: Exchange,
    headers: &[(String, String)],
) -> Result<bool, Refusal> {
    let _fetch_lock = match exchange.billing {
        Billing::FetchedLines => tokio::select! {
            lock = gateway.deferred.lock_fetch(bill_of(&exchange)) => Some(lock),
            () = client_gone(session) => return Ok(false),
        },
        _ => None,
    };
    let outgoing = outgoing(&exchange, session.req_header(), &Changes::default())?;
    let at_once = std::future::ready(Ok::<(), Refusal>(()));
    let answer = match forward(gateway, &exchange, &outgoing, session, at_once).await {
        Ok(answer) => answer,
        Err(failed) => return failed.refusal().map_or(Ok(false), Err),
    };
    let mut lines = (exchange.billing == Billing::FetchedLines).then(|| PricedLines {
        gateway,
        exchange: &exchange,
        bill: BatchBill::of(gateway, &exchange),
    });
    let options = RelayOptions {
        hide_usage: false,
        headers,
        allowance: &mut Unbounded,
        holds_head: false,
        lines: lines.as_mut().map(|lines| lines as &mut dyn LineSink),
    };
    let relayed = relay(gateway, &exchange, answer, options, session).await;
    let bill = lines.map(|lines| lines.bill);
    report::plugin_failed(gateway, &exchange.endpoint, relayed.metered.plugin_errors);
    if (200..300).contains(&relayed.status) {
        match bill {
            Some(bill) => enter_lines(gateway, exchange, bill, &relayed).await,
            None => enter_result(gateway, exchange, &relayed).await,
        }
    }
    Ok(relayed.finish(session).await)
}

/// Prices the lines of a batch's results as they pass.
struct PricedLines<'a> {
    gateway: &'a Gateway,
    exchange: &'a Exchange,
    bill: BatchBill,
}

impl LineSink for PricedLines<'_> {
    fn line(&mut self, line: Line) {
        self.bill.add(self.gateway, self.exchange, line);
    }
}

async fn enter_lines(gateway: &Arc<Gateway>, mut exchange: Exchange, bill: BatchBill, relayed: &Relayed) {
    let metered = &relayed.metered;
    // The path names the batch; the head of the answer, this fetch of it.
    exchange.ids = exchange.ids.or(metered.ids());
    let broken = metered.lines_broken > 0 || metered.plugin_errors > 0;
    let entered = bill.settlement(gateway, &exchange, relayed.end, relayed.complete, broken);
    if let Some((settlement, bills)) = entered {
        enter(gateway, exchange, settlement, bills, FETCHED_RESULT).await;
    }
}

async fn enter_result(gateway: &Arc<Gateway>, exchange: Exchange, relayed: &Relayed) {
    let metered = &relayed.metered;
    let over = !metered.pending && (!metered.streamed || metered.final_seen) && relayed.status != ACCEPTED;
    // A result that does not tell the id it was put off under has it in its path.
    let of_path = || {
        exchange
            .ids
            .response
            .as_deref()
            .map(|id| BillId::of(&[&exchange.endpoint.name, id]))
    };
    let Some(bill) = bill_of_answer(&exchange, metered).or_else(of_path).filter(|_| over) else {
        return;
    };
    let ended = |waiting: DeferredHold| {
        let ended = AnswerEnd {
            end: End::Completed,
            status: relayed.status,
            ttfb_ms: waiting.ttfb_ms,
            verdict: &waiting.verdict,
            expected: waiting.expected,
            held: waiting.hold.held(),
        };
        let settlement = settlement(gateway, &waiting.exchange, metered, &ended);
        let settled = waiting.hold.settle_bills(settlement, None, vec![bill]);
        settled.map(|settled| (settled.entry, waiting.exchange.traced))
    };
    if let Some(settled) = gateway.deferred.end(&bill, ended) {
        if let Some((entry, traced)) = settled {
            report::settled(gateway, entry, &traced);
        }
        return;
    }
    let is_late = gateway.ledger.is_guessed(&bill);
    if metered.parts.is_empty() || (gateway.ledger.is_billed(&bill) && !is_late) {
        return;
    }
    let mut exchange = exchange;
    exchange.inspected.call.model = metered.model.clone().unwrap_or_default();
    let ended = AnswerEnd {
        end: relayed.end,
        status: relayed.status,
        ttfb_ms: relayed.ttfb_ms,
        verdict: &[],
        expected: ExpectedUse::default(),
        held: Usd::ZERO,
    };
    let settlement = settlement(gateway, &exchange, metered, &ended);
    if is_late {
        return correct(gateway, &exchange, &settlement, bill).await;
    }
    enter(gateway, exchange, settlement, vec![bill], FETCHED_RESULT).await;
}

/// Corrects the entry that took its hold for the cost of this result, as nobody had fetched it by then.
async fn correct(gateway: &Arc<Gateway>, exchange: &Exchange, settlement: &Settlement, bill: BillId) {
    let used = Amounts::of_request(settlement.cost, settlement.usage.tokens());
    // The entry may be as new as this fetch; it is read from the disk.
    gateway.ledger.flushed().await;
    let ledger = Arc::clone(&gateway.ledger);
    let corrected = tokio::task::spawn_blocking(move || ledger.correct(&bill, &used, &Name::from(FETCHED_LATE)));
    match corrected.await {
        Ok(Ok(Some(correction))) => report::corrected(gateway, &exchange.endpoint, &correction),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::error!(%error, "a result fetched late could not correct its entry"),
        Err(error) => tracing::error!(%error, "a result fetched late could not correct its entry"),
    }
}

/// Enters what no hold covers, for this reason; what was billed before is not entered again. The policies run now, when the model
/// is known, for the budgets that count it. `false`: the ledger does not take it now.
pub async fn enter(
    gateway: &Arc<Gateway>,
    mut exchange: Exchange,
    mut settlement: Settlement,
    bills: Vec<BillId>,
    reason: &'static str,
) -> bool {
    exchange.inspected.call.model = settlement.model.to_string();
    // A fetch is free, what it brings is not.
    exchange.billing = Billing::Metered;
    let nothing_more = ExpectedCost {
        estimate: CostEstimate::default(),
        priced: true,
    };
    let bounds = match decide(gateway, &mut exchange, nothing_more) {
        Ok(verdict) => {
            settlement.verdict = verdict.policies_applied;
            verdict.bounds.into_iter().map(|requested| requested.bound).collect()
        }
        // Told where it happened. The accounts of the exchange itself count it all the same.
        Err(_) => Vec::new(),
    };
    // Not entered it is not known as billed, so that the next fetch enters it.
    let permit = match timeout(ENTER_WAIT, gateway.ledger.admit()).await {
        Ok(Ok(permit)) => permit,
        Ok(Err(error)) => {
            tracing::error!(%error, reason, "the ledger takes no more: a result is not entered");
            return false;
        }
        Err(_) => {
            tracing::error!(reason, "the ledger does not keep up: a result is not entered");
            return false;
        }
    };
    let deferred = bills.clone();
    match gateway
        .ledger
        .enter(permit, exchange.facts(), &bounds, settlement, Name::from(reason), bills)
    {
        Ok(Some(settled)) => {
            report::settled(gateway, settled.entry, &exchange.traced);
            // A hold that came to wait for it meanwhile has nothing to wait for any more.
            for bill in deferred {
                gateway
                    .deferred
                    .end(&bill, |waiting| waiting.hold.void("billed_when_fetched"));
            }
            true
        }
        Ok(None) => true,
        Err(error) => {
            tracing::error!(%error, reason, "a result could not be entered");
            false
        }
    }
}
