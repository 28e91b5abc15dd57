//! Where a request enters: connections from pingora, each request through all the steps, each refusal to the one place
//! that words it.
//!
//! A connection keeps room for the largest future it may wait on, and each request moves it. The rare and the large ones
//! (sockets, the control plane, fetched results, a new connection upstream) are therefore boxed where they begin.

pub mod connection;
pub mod control_proxy;
pub mod options;
pub mod server;
pub mod upload;
mod workers;

use std::pin::pin;
use std::sync::Arc;

use agentledger_ledger::{Hold, Name};
use bytes::Bytes;
use pingora::http::RequestHeader;
use ulid::Ulid;

use crate::mcp::{self, Mcp};
use crate::plugin::Billing;
use crate::proxy::fetch::deferred::defer;
use crate::proxy::fetch::fetch;
use crate::proxy::forward::{forward, outgoing};
use crate::proxy::identify::arrival::{Unplaced, locate, recognise};
use crate::proxy::identify::{infer, legacy};
use crate::proxy::inspect::inspect;
use crate::proxy::relay::{RelayOptions, Relayed, relay};
use crate::proxy::reserve::place::WaitPolicy;
use crate::proxy::reserve::{self, Reservation};
use crate::proxy::sanitize::{check_length, read_body};
use crate::proxy::settle::unanswered::settle_unanswered;
use crate::proxy::settle::{AnswerEnd, bill_of_answer, settle};
use crate::proxy::shared::allowance::Unbounded;
use crate::proxy::shared::body::Body;
use crate::proxy::shared::client::client_gone;
use crate::proxy::shared::cors;
use crate::proxy::shared::deferred_holds::DeferredHold;
use crate::proxy::shared::drain::DrainPhase;
use crate::proxy::shared::exchange::{Changes, Exchange, SessionEnd};
use crate::proxy::shared::expected_use::ExpectedUse;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::ServerSession;
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::inspected::Inspected;
use crate::proxy::shared::known_head::KnownHead;
use crate::proxy::shared::refused::{RefusalsInARow, RefusedRequest, send_refusal};
use crate::proxy::shared::reply::{Refusal, answer_json};
use crate::proxy::shared::rules::Rules;
use crate::proxy::{decide, report, session};
use crate::rates::Grant;
use crate::readiness::{NotReady, not_ready, ready};
use crate::telemetry::trace::TraceParent;
use crate::timer::Timer;

/// Serves one request. `false`: the connection cannot be used again.
async fn serve(
    gateway: &Arc<Gateway>,
    mcp: &Mcp,
    (session, known): (&mut ServerSession, Option<Arc<KnownHead>>),
    refusals: &RefusalsInARow,
) -> bool {
    let rules = gateway.rules.load_full();
    if known.as_ref().is_some_and(|known| known.enter_again(&rules, session)) {
        let served = exchange(gateway, rules, (session, known)).await;
        return ended(gateway, session, served, refusals).await;
    }
    if !rules.config.cors_allow_origins.is_empty() {
        cors::note(&rules.config.cors_allow_origins, session.req_header_mut());
    }
    if session.req_header().method == http::Method::OPTIONS
        && let Some(reusable) = options::answer(gateway, session).await
    {
        return reusable;
    }
    let has_body = !session.is_body_empty();
    match session.req_header().uri.path() {
        "/health" | "/healthz" | "/readyz" if has_body => {
            session.close_after_answer();
            answer_json(session, 400, "{\"error\":\"no body is expected here\"}\n").await;
            return false;
        }
        "/health" | "/healthz" => {
            answer_json(session, 200, "{\"status\":\"ok\"}\n").await;
            return true;
        }
        "/readyz" => {
            readiness(gateway, session).await;
            return true;
        }
        // Claude Code asks whether anybody is there.
        "/api/hello" if !has_body && matches!(session.req_header().method.as_str(), "GET" | "HEAD") => {
            answer_json(session, 200, "{\"message\":\"hello\"}\n").await;
            return true;
        }
        _ if control_proxy::is_control(session.req_header()) => {
            return Box::pin(control_proxy::relay_to_control(gateway, session)).await;
        }
        _ => {}
    }
    let served = match mcp::serves(session.req_header().uri.path()) {
        true => Box::pin(mcp.serve(gateway, session)).await,
        false => exchange(gateway, rules, (session, known)).await,
    };
    ended(gateway, session, served, refusals).await
}

async fn ended(
    gateway: &Arc<Gateway>,
    session: &mut ServerSession,
    served: Result<bool, RefusedRequest>,
    refusals: &RefusalsInARow,
) -> bool {
    match served {
        Ok(reusable) => {
            refusals.ended();
            reusable
        }
        Err(refused) => send_refusal(gateway, session, refused, refusals).await,
    }
}

async fn readiness(gateway: &Gateway, session: &mut ServerSession) {
    if gateway.drain.phase() > DrainPhase::Running {
        answer_json(session, 503, "{\"status\":\"draining\"}\n").await;
    } else if let Some(NotReady { status, reason }) = not_ready(&gateway.ledger.health()) {
        let body = serde_json::json!({ "status": status, "reason": reason });
        answer_json(session, 503, format!("{body}\n")).await;
    } else {
        let refused = gateway.refused_policies.load();
        let body = ready(&refused);
        answer_json(session, 200, format!("{body}\n")).await;
    }
}

/// A call that was read: where it goes, who sends it, and what it says.
struct Arrived {
    target: Target,
    identity: Identity,
    inspected: Inspected,
    is_upload: bool,
}

/// The steps before anything is decided.
async fn arrive(
    gateway: &Gateway,
    rules: &Arc<Rules>,
    (session, known): (&mut ServerSession, Option<&KnownHead>),
    (at_ms, started): (i64, Timer),
) -> Result<Arrived, RefusedRequest> {
    let limits = &rules.config.limits;
    let again = known.and_then(|known| known.entrance(rules));
    let again = again.map(|entrance| (entrance.target.clone(), entrance.identity.clone()));
    let (target, known_identity) = match again {
        Some((target, identity)) => (target, Some(identity)),
        None => {
            let located = locate(rules, session);
            let unplaced = |(refusal, endpoint): Unplaced| RefusedRequest::new(refusal, endpoint.as_ref(), "");
            (located.map_err(unplaced)?, None)
        }
    };
    let traced = gateway.otlp.as_ref().filter(|_| target.billing == Billing::Metered);
    let parent = traced.and_then(|_| TraceParent::of(&session.req_header().headers));
    let refused = |refusal: Refusal| {
        if traced.is_some() {
            report::turned_away(gateway, &target, (at_ms, started, parent), &refusal);
        }
        RefusedRequest::new(refusal, Some(&target.endpoint), &target.operation)
    };
    let mut identity = match known_identity {
        Some(identity) => identity,
        None => {
            let identity = recognise(rules, session, &target).map_err(refused)?;
            if let Some(known) = known.filter(|_| target.billing == Billing::Metered) {
                known.enter(rules, session, &target, &identity);
            }
            identity
        }
    };
    legacy::link(gateway, &identity);
    let is_upload = upload::is_upload(&target, session.req_header());
    let bytes_max = match is_upload {
        true => limits.upload_bytes_max,
        false => limits.body_bytes_max,
    };
    check_length(session, bytes_max).map_err(refused)?;
    let body = match is_upload {
        true => Body::own(Bytes::new()),
        false => read_body(session, limits, &gateway.bodies).await.map_err(refused)?,
    };
    let body = match takes_body(&target, session.req_header()) {
        true => body,
        false => Body::own(Bytes::new()),
    };
    let inspected = inspect(gateway, session.req_header(), &target, body, limits).map_err(refused)?;
    infer::from_request(rules, &mut identity, &target, &inspected);
    Ok(Arrived {
        target,
        identity,
        inspected,
        is_upload,
    })
}

/// The steps of a request, in their order.
async fn exchange(
    gateway: &Arc<Gateway>,
    rules: Arc<Rules>,
    (session, known): (&mut ServerSession, Option<Arc<KnownHead>>),
) -> Result<bool, RefusedRequest> {
    let (started, at_ms) = (Timer::start(), gateway.clock.now_ms());
    let arrived = arrive(gateway, &rules, (session, known.as_deref()), (at_ms, started)).await?;
    let Arrived {
        target,
        identity,
        inspected,
        is_upload,
    } = arrived;
    let (endpoint, operation) = (Arc::clone(&target.endpoint), target.operation.clone());
    let id = Ulid::from_parts(u64::try_from(at_ms).unwrap_or_default(), rand::random());
    let refused = |refusal: Refusal| RefusedRequest::new(refusal.of_exchange(id), Some(&endpoint), &operation);
    let mut exchange = Box::new(Exchange::new(
        id,
        at_ms,
        started,
        Arc::clone(&rules),
        target,
        identity,
        session.req_header(),
        inspected,
    ));
    exchange.known_head = known;
    let _running = report::begun(gateway);
    let not_entered = |exchange: &Exchange, refusal: Refusal| {
        report::not_entered(gateway, exchange, &refusal);
        refused(refusal)
    };
    if let Err(refusal) = decide::bind(gateway, &mut exchange) {
        return Err(not_entered(&exchange, refusal));
    }
    session::admit(gateway, &exchange).map_err(|refusal| not_entered(&exchange, refusal))?;
    exchange.session_end = SessionEnd::of(&gateway.ledger, &exchange);

    if !exchange.is_metered() {
        let headers = decide::admit_free(gateway, &mut exchange).map_err(refused)?;
        let passed = match exchange.billing {
            Billing::Free if is_upload => Box::pin(upload::pass(gateway, session, &exchange, &headers)).await,
            Billing::Free | Billing::Metered | Billing::Refused => {
                Box::pin(pass_unmetered(gateway, session, &exchange, &headers)).await
            }
            Billing::Fetched | Billing::FetchedLines => Box::pin(fetch(gateway, session, *exchange, &headers)).await,
        };
        return passed.map_err(refused);
    }
    let reserved = {
        let mut gone = pin!(client_gone(session));
        let patience = WaitPolicy {
            longest: rules.config.hold.wait,
            delays: true,
            begins_small: true,
            gone: gone.as_mut(),
        };
        let reserved = reserve::hold(gateway, &mut exchange, patience).await;
        reserved.map_err(|refusal| not_entered(&exchange, refusal))?
    };
    if let Some(end) = &mut exchange.session_end {
        end.is_entered = true;
    }
    metered(gateway, session, exchange, reserved).await.map_err(refused)
}

/// Whether the body goes on. What only reads or removes something needs none, and one that came along could make another
/// request of it.
fn takes_body(target: &Target, header: &RequestHeader) -> bool {
    target.billing == Billing::Metered || !matches!(header.method.as_str(), "GET" | "HEAD" | "DELETE")
}

/// A free operation: forwarded, never held, never entered.
async fn pass_unmetered(
    gateway: &Gateway,
    session: &mut ServerSession,
    exchange: &Exchange,
    headers: &[(String, String)],
) -> Result<bool, Refusal> {
    let outgoing = outgoing(exchange, session.req_header(), &Changes::default())?;
    let at_once = std::future::ready(Ok::<(), Refusal>(()));
    match forward(gateway, exchange, &outgoing, session, at_once).await {
        Ok(answer) => {
            let options = RelayOptions {
                hide_usage: false,
                headers,
                allowance: &mut Unbounded,
                holds_head: false,
                lines: None,
            };
            let relayed = relay(gateway, exchange, answer, options, session).await;
            Ok(relayed.finish(session).await)
        }
        Err(failed) => failed.refusal().map_or(Ok(false), Err),
    }
}

/// A metered operation, held: forward, relay, settle, report. The hold ends here, whatever happens.
async fn metered(
    gateway: &Arc<Gateway>,
    session: &mut ServerSession,
    mut exchange: Box<Exchange>,
    reserved: Reservation,
) -> Result<bool, Refusal> {
    let Reservation {
        mut hold,
        rates,
        expected,
        changes,
        headers,
        verdict,
        mut allowance,
        shadow,
    } = reserved;
    let mut outgoing = match outgoing(&exchange, session.req_header(), &changes) {
        Ok(outgoing) => outgoing,
        Err(refusal) => {
            hold.void("not_forwarded");
            report::not_entered(gateway, &exchange, &refusal);
            return Err(refusal);
        }
    };
    let _stream = exchange.inspected.call.stream.then(|| gateway.metrics.stream_opened());
    let on_disk = async { hold.durable().await.map_err(|error| Refusal::ledger_stopped(&error)) };
    let forwarded = forward(gateway, &exchange, &outgoing, session, on_disk).await;
    let answer = match forwarded {
        Ok(answer) => answer,
        Err(failed) => return settle_unanswered(gateway, &exchange, hold, failed, &verdict, &expected),
    };
    // The request has been sent: a stream of minutes need not keep its megabytes.
    outgoing.body = Bytes::new();
    exchange.inspected.release_body();
    let mut relayed = {
        let options = RelayOptions {
            hide_usage: outgoing.usage_injected,
            headers: &headers,
            allowance: &mut allowance.bind(&mut hold),
            holds_head: true,
            lines: None,
        };
        relay(gateway, &exchange, answer, options, session).await
    };
    settle_or_defer(gateway, exchange, hold, rates, verdict, expected, &relayed);
    drop(shadow);
    match relayed.refusal.take() {
        Some(refusal) => Err(*refusal),
        None => Ok(relayed.finish(session).await),
    }
}

/// The end of a relayed answer: settled, or deferred where the provider goes on working. What it took of the rates is free
/// before the client sees the end: its next request must find its permit.
fn settle_or_defer(
    gateway: &Arc<Gateway>,
    mut exchange: Box<Exchange>,
    hold: Hold,
    mut rates: Grant,
    verdict: Vec<Name>,
    expected: ExpectedUse,
    relayed: &Relayed,
) {
    report::answer_read(gateway, &exchange.endpoint, &relayed.metered);
    let bill = bill_of_answer(&exchange, &relayed.metered);
    if let Some(bill) = bill.filter(|_| continues_in_background(&exchange, relayed)) {
        // Whoever fetches the result is another request; this one's ids are in this answer.
        exchange.ids = relayed.metered.ids();
        let waiting = DeferredHold {
            exchange,
            hold,
            verdict,
            expected,
            ttfb_ms: relayed.ttfb_ms,
        };
        return defer(gateway, bill, waiting);
    }
    let ended = AnswerEnd {
        end: relayed.end,
        status: relayed.status,
        ttfb_ms: relayed.ttfb_ms,
        verdict: &verdict,
        expected,
        held: hold.held(),
    };
    settle(gateway, &mut exchange, hold, Some(&mut rates), &relayed.metered, &ended);
}

/// A background request whose work goes on at the provider, whatever became of this answer.
fn continues_in_background(exchange: &Exchange, relayed: &Relayed) -> bool {
    let metered = &relayed.metered;
    let unfinished = metered.pending || (metered.streamed && !metered.final_seen);
    exchange.inspected.call.background && (200..300).contains(&relayed.status) && unfinished
}
