//! Operations that fetch what an earlier request asked for: a response by its id, the results of a batch.
//!
//! Nothing is held for them: what they report is spent already. So no budget refuses them, though policies may; the first fetch that sees a result enters it, as overage with the reason `fetched_result`, and every
//! budget counts it. Where a request's hold still waits for the result, that hold ends with it instead; where that hold was
//! entered as spent by then, its entry is corrected. Each is billed once.

use std::sync::Arc;

use agentledger_ledger::{Amounts, BillId, Name, Settlement};
use pingora::protocols::http::ServerSession;

use crate::meter::{End, Metered};
use crate::plugin::Billing;
use crate::policy::Estimate;
use crate::proxy::awaited::Waiting;
use crate::proxy::decide::{Expected, decide};
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::{Changes, Failed, client_gone, forward, outgoing};
use crate::proxy::gateway::Gateway;
use crate::proxy::relay::{Relayed, relay};
use crate::proxy::reply::Refusal;
use crate::proxy::report;
use crate::proxy::reserve::Unbounded;
use crate::proxy::results::bill_of;
use crate::proxy::settle::{Ended, settlement};

/// Why an entry has no hold, as its overage tells.
const FETCHED_RESULT: &str = "fetched_result";
/// Why an entry was corrected.
const FETCHED_LATE: &str = "fetched_late";

/// Forwards a fetch, relays its answer and enters what it brings.
pub async fn fetch(
    gateway: &Arc<Gateway>,
    session: &mut ServerSession,
    exchange: Exchange,
    headers: &[(String, String)],
) -> Result<bool, Refusal> {
    let _turn = match exchange.billing {
        Billing::FetchedLines => tokio::select! {
            turn = gateway.awaited.turn(bill_of(&exchange)) => Some(turn),
            () = client_gone(session) => return Ok(false),
        },
        _ => None,
    };
    let outgoing = outgoing(&exchange, session.req_header(), &Changes::default())?;
    let at_once = std::future::ready(Ok::<(), Refusal>(()));
    let answer = match forward(gateway, &exchange, &outgoing, session, at_once).await {
        Ok(answer) => answer,
        Err(
            Failed::Unsent(refusal) | Failed::NotTaken(refusal) | Failed::Unanswered(refusal) | Failed::Cut(refusal),
        ) => return Err(refusal),
        Err(Failed::ClientGone) => return Ok(false),
    };
    let mut relayed = relay(gateway, &exchange, answer, false, headers, &mut Unbounded, session).await;
    report::plugin_failed(gateway, &exchange.way, relayed.metered.plugin_errors);
    if (200..300).contains(&relayed.status) {
        match exchange.billing {
            Billing::FetchedLines => enter_lines(gateway, exchange, &mut relayed).await,
            _ => enter_result(gateway, exchange, &relayed).await,
        }
    }
    Ok(relayed.finish(session).await)
}

async fn enter_lines(gateway: &Arc<Gateway>, exchange: Exchange, relayed: &mut Relayed) {
    let Some(results) = relayed.results.take() else { return };
    let metered = &relayed.metered;
    let broken = metered.lines_broken > 0 || metered.plugin_errors > 0;
    let entered = results.settlement(gateway, &exchange, relayed.end, relayed.complete, broken);
    if let Some((settlement, bills)) = entered {
        enter(gateway, exchange, settlement, bills).await;
    }
}

async fn enter_result(gateway: &Arc<Gateway>, exchange: Exchange, relayed: &Relayed) {
    let metered = &relayed.metered;
    let over = !metered.pending && (!metered.streamed || metered.final_seen);
    let Some(bill) = bill_of_answer(&exchange, metered).filter(|_| over) else {
        return;
    };
    let ended = |waiting: Waiting| {
        let ended = Ended {
            end: End::Completed,
            status: relayed.status,
            ttfb_ms: waiting.ttfb_ms,
            verdict: &waiting.verdict,
            input_tokens: waiting.input_tokens,
        };
        let settlement = settlement(gateway, &waiting.exchange, metered, &ended);
        let settled = waiting.hold.settle_bills(settlement, None, vec![bill]);
        settled.map(|settled| (settled.entry, waiting.exchange.identity.trace))
    };
    if let Some(settled) = gateway.awaited.end(&bill, ended) {
        if let Some((entry, trace)) = settled {
            report::settled(gateway, entry, &trace);
        }
        return;
    }
    let is_late = gateway.ledger.is_guessed(&bill);
    if metered.parts.is_empty() || (gateway.ledger.is_billed(&bill) && !is_late) {
        return;
    }
    let mut exchange = exchange;
    exchange.inspected.call.model = metered.model.clone().unwrap_or_default();
    let ended = Ended {
        end: relayed.end,
        status: relayed.status,
        ttfb_ms: relayed.ttfb_ms,
        verdict: &[],
        input_tokens: 0,
    };
    let settlement = settlement(gateway, &exchange, metered, &ended);
    if is_late {
        return correct(gateway, &exchange, &settlement, bill).await;
    }
    enter(gateway, exchange, settlement, vec![bill]).await;
}

/// Corrects the entry that took its hold for the cost of this result, as nobody had fetched it by then.
async fn correct(gateway: &Arc<Gateway>, exchange: &Exchange, settlement: &Settlement, bill: BillId) {
    let used = Amounts::of_request(settlement.cost, settlement.usage.tokens());
    // The entry may be as new as this fetch; it is read from the disk.
    gateway.ledger.flushed().await;
    let ledger = Arc::clone(&gateway.ledger);
    let corrected = tokio::task::spawn_blocking(move || ledger.correct(&bill, &used, &Name::from(FETCHED_LATE)));
    match corrected.await {
        Ok(Ok(Some(correction))) => report::corrected(gateway, &exchange.way, &correction),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::error!(%error, "a result fetched late could not correct its entry"),
        Err(error) => tracing::error!(%error, "a result fetched late could not correct its entry"),
    }
}

/// The id under which an answer is billed once: whose it is, and its own.
pub fn bill_of_answer(exchange: &Exchange, metered: &Metered) -> Option<BillId> {
    let id = metered.bill_id.as_deref()?;
    Some(BillId::of(&[&exchange.way.name, id]))
}

/// Enters what no hold covers. The policies are asked now, when the model is known, for the budgets that count it.
async fn enter(gateway: &Arc<Gateway>, mut exchange: Exchange, mut settlement: Settlement, bills: Vec<BillId>) {
    exchange.inspected.call.model = settlement.model.to_string();
    // A fetch is free, what it brings is not.
    exchange.billing = Billing::Metered;
    let nothing_more = Expected {
        estimate: Estimate::default(),
        priced: true,
    };
    let bounds = match decide(gateway, &exchange, nothing_more) {
        Ok(verdict) => {
            settlement.verdict = verdict.spoke;
            verdict.bounds.into_iter().map(|asked| asked.bound).collect()
        }
        // Told where it happened. The accounts of the exchange itself count it all the same.
        Err(_) => Vec::new(),
    };
    let permit = match gateway.ledger.admit().await {
        Ok(permit) => permit,
        Err(error) => {
            tracing::error!(%error, "the ledger takes no more: a fetched result is not entered");
            return;
        }
    };
    let reason = Name::from(FETCHED_RESULT);
    match gateway
        .ledger
        .enter(permit, exchange.facts(), &bounds, settlement, reason, bills)
    {
        Ok(Some(settled)) => report::settled(gateway, settled.entry, &exchange.identity.trace),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "a fetched result could not be entered"),
    }
}
