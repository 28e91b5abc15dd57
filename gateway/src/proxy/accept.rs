//! Where a request enters: connections from pingora, each request through all the steps, each refusal to the one place
//! that words it.
//!
//! A connection keeps room for the largest future it may wait on, and each request moves it. The rare and the large ones
//! (sockets, the control plane, fetched results, a new connection upstream) are therefore boxed where they begin.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentledger_ledger::Outcome;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::time::timeout;
use ulid::Ulid;

use crate::meter::reason;
use crate::plugin::{Billing, Dialect};
use crate::proxy::apply::{self, Reserved};
use crate::proxy::awaited::{Waiting, wait_for};
use crate::proxy::drain::Phase;
use crate::proxy::exchange::Exchange;
use crate::proxy::fetch::{bill_of_answer, fetch};
use crate::proxy::forward::{Changes, Failed, client_gone, forward, outgoing};
use crate::proxy::gateway::{Gateway, Way};
use crate::proxy::guard::{check_head, is_websocket, read_body};
use crate::proxy::identify::{find_target, identify};
use crate::proxy::inspect::inspect;
use crate::proxy::place::Patience;
use crate::proxy::relay::{Relayed, relay};
use crate::proxy::reply::{Refusal, answer_json, refuse};
use crate::proxy::reserve::{self, Unbounded};
use crate::proxy::session::SessionEnd;
use crate::proxy::settle::{Ended, settle, unanswered};
use crate::proxy::sigv4::refuse_foreign;
use crate::proxy::{decide, handover, report, session, socket};
use crate::readiness::{NotReady, not_ready};

/// How long, and how much, a refused client may go on sending before its connection is closed.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 8 << 20;
/// How long a connection may be silent between two requests.
const KEPT_IDLE: Duration = Duration::from_secs(60);

/// pingora's application: one for all connections.
pub struct Accept {
    pub gateway: Arc<Gateway>,
}

#[async_trait]
impl HttpServerApp for Accept {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let gateway = &self.gateway;
        let limits = gateway.rules.load().config.limits.clone();
        // A kept connection may be silent between requests; a new one must bring its request in time.
        let kept = session.take_connection_user_context().is_some();
        let patience = if kept {
            KEPT_IDLE
        } else {
            Duration::from_millis(limits.header_read_timeout_ms)
        };
        session.set_total_drain_timeout(Some(LINGER));
        match timeout(patience, session.read_request()).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return None,
            Ok(Err(error)) => {
                // pingora's error quotes the request, keys and all: it is not logged.
                let context = error.context.as_ref().map(|text| text.as_str());
                let refusal = if context.is_some_and(|text| text.starts_with("Request header larger")) {
                    Refusal::new(431, "headers_too_large", "request headers are too large")
                } else {
                    Refusal::bad_request("bad_request", "the request head cannot be read")
                };
                refuse(&mut session, &refusal.closing(), None).await;
                return None;
            }
        }
        if *shutdown.borrow() || gateway.drain.phase() > Phase::Running {
            session.set_keepalive(None);
        }
        let in_flight = gateway.drain.enter();
        let upgrade = is_websocket(session.req_header()) && !handover::is_control(session.req_header().uri.path());
        if upgrade {
            Box::pin(socket::serve(gateway, session)).await;
            return None;
        }
        let reusable = serve(gateway, &mut session).await;
        drop(in_flight);
        if !reusable {
            return None;
        }
        let mut settings = HttpPersistentSettings::for_session(&session);
        settings.set_user_context(Box::new(()));
        let stream = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

/// A refusal, and in whose dialect it is said.
pub struct Refused {
    refusal: Refusal,
    way: Option<Arc<Way>>,
    operation: String,
}

impl Refused {
    pub fn new(refusal: Refusal, way: Option<&Arc<Way>>, operation: &str) -> Refused {
        Refused {
            refusal,
            way: way.cloned(),
            operation: operation.to_owned(),
        }
    }
}

/// Serves one request. `false`: the connection cannot be used again.
async fn serve(gateway: &Arc<Gateway>, session: &mut ServerSession) -> bool {
    let has_body = !session.is_body_empty();
    match session.req_header().uri.path() {
        "/health" | "/healthz" | "/readyz" if has_body => {
            session.set_keepalive(None);
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
        path if handover::is_control(path) => return Box::pin(handover::hand_over(gateway, session)).await,
        _ => {}
    }
    match exchange(gateway, session).await {
        Ok(reusable) => reusable,
        Err(refused) => tell(gateway, session, &refused).await,
    }
}

/// Tells a refusal. `false`: the connection cannot be used again.
pub async fn tell(gateway: &Gateway, session: &mut ServerSession, refused: &Refused) -> bool {
    let name = refused.way.as_ref().map_or("", |way| way.provider.name.as_str());
    report::refused(gateway, name, &refused.refusal);
    let dialect: Option<(&Arc<dyn Dialect>, &str)> = refused
        .way
        .as_ref()
        .map(|way| (&way.plugin.dialect, refused.operation.as_str()));
    let unread = !session.is_body_done();
    if unread {
        session.set_keepalive(None);
    }
    refuse(session, &refused.refusal, dialect).await;
    if unread {
        linger(session).await;
    }
    !refused.refusal.close && !unread
}

/// Takes in what a refused client still sends, for a while: a close over unread bytes would reset the connection, and the
/// client would never read why.
async fn linger(session: &mut ServerSession) {
    let taken = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = session.read_request_body().await {
            bytes += chunk.len();
            if bytes > LINGER_BYTES_MAX {
                break;
            }
        }
    };
    let _ = timeout(LINGER, taken).await;
}

async fn readiness(gateway: &Gateway, session: &mut ServerSession) {
    if gateway.drain.phase() > Phase::Running {
        answer_json(session, 503, "{\"status\":\"draining\"}\n").await;
    } else if let Some(NotReady { status, reason }) = not_ready(&gateway.ledger.health()) {
        let body = serde_json::json!({ "status": status, "reason": reason });
        answer_json(session, 503, format!("{body}\n")).await;
    } else {
        answer_json(session, 200, "{\"status\":\"ready\"}\n").await;
    }
}

/// The steps of a request, in their order.
async fn exchange(gateway: &Arc<Gateway>, session: &mut ServerSession) -> Result<bool, Refused> {
    let (started, at_ms) = (Instant::now(), gateway.clock.now_ms());
    let rules = gateway.rules.load_full();
    let limits = &rules.config.limits;

    check_head(session, limits).map_err(|refusal| Refused::new(refusal, None, ""))?;
    let target =
        find_target(&rules, session.req_header()).map_err(|(refusal, way)| Refused::new(refusal, way.as_ref(), ""))?;
    let (way, operation) = (Arc::clone(&target.way), target.operation.clone());
    let refused = |refusal: Refusal| Refused::new(refusal, Some(&way), &operation);
    refuse_foreign(&way, session.req_header()).map_err(refused)?;
    let identity = identify(&rules, &way, session.req_header(), limits).map_err(refused)?;
    let body = read_body(session, limits, &gateway.bodies).await.map_err(refused)?;
    let inspected = inspect(gateway, session.req_header(), &target, body, limits).map_err(refused)?;
    let id = Ulid::from_parts(u64::try_from(at_ms).unwrap_or_default(), rand::random());
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
    let _running = report::begun(gateway);
    decide::bind(gateway, &mut exchange).map_err(refused)?;
    session::admit(gateway, &exchange).map_err(refused)?;
    exchange.session_end = SessionEnd::of(gateway, &exchange);

    if !exchange.is_metered() {
        let headers = decide::admit_free(gateway, &exchange).map_err(refused)?;
        let passed = match exchange.billing {
            Billing::Free | Billing::Metered => Box::pin(pass_unmetered(gateway, session, &exchange, &headers)).await,
            Billing::Fetched | Billing::FetchedLines => Box::pin(fetch(gateway, session, *exchange, &headers)).await,
        };
        return passed.map_err(refused);
    }
    let reserved = {
        let mut gone = pin!(client_gone(session));
        let patience = Patience {
            longest: rules.config.hold.wait,
            delays: true,
            gone: gone.as_mut(),
        };
        apply::hold(gateway, &mut exchange, patience).await.map_err(refused)?
    };
    if let Some(end) = &mut exchange.session_end {
        end.is_entered = true;
    }
    metered(gateway, session, exchange, reserved).await.map_err(refused)
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
            let relayed = relay(gateway, exchange, answer, false, headers, &mut Unbounded, session).await;
            Ok(relayed.finish(session).await)
        }
        Err(
            Failed::Unsent(refusal) | Failed::NotTaken(refusal) | Failed::Unanswered(refusal) | Failed::Cut(refusal),
        ) => Err(refusal),
        Err(Failed::ClientGone) => Ok(false),
    }
}

/// A metered operation, held: forward, relay, settle, report. The hold ends here, whatever happens.
async fn metered(
    gateway: &Arc<Gateway>,
    session: &mut ServerSession,
    mut exchange: Box<Exchange>,
    reserved: Reserved,
) -> Result<bool, Refusal> {
    let Reserved {
        mut hold,
        mut rates,
        input_tokens,
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
            return Err(refusal);
        }
    };
    let _stream = exchange.inspected.call.stream.then(|| gateway.metrics.stream_opened());
    let on_disk = async { hold.durable().await.map_err(|error| reserve::ledger_stopped(&error)) };
    let forwarded = forward(gateway, &exchange, &outgoing, session, on_disk).await;
    let answer = match forwarded {
        Ok(answer) => answer,
        Err(failed) => return unanswered_end(gateway, &exchange, hold, failed, &verdict),
    };
    // The request has been sent: a stream of minutes need not keep its megabytes.
    outgoing.body = Bytes::new();
    exchange.inspected.release_body();
    let relayed = {
        let mut bounded = allowance.bind(&mut hold);
        relay(
            gateway,
            &exchange,
            answer,
            outgoing.usage_injected,
            &headers,
            &mut bounded,
            session,
        )
        .await
    };
    report::plugin_failed(gateway, &exchange.way, relayed.metered.plugin_errors);
    let bill = bill_of_answer(&exchange, &relayed.metered);
    if let Some(bill) = bill.filter(|_| goes_on(&exchange, &relayed)) {
        let waiting = Waiting {
            exchange,
            hold,
            verdict,
            input_tokens,
            ttfb_ms: relayed.ttfb_ms,
        };
        wait_for(gateway, bill, waiting);
        drop((rates, shadow));
        return Ok(relayed.finish(session).await);
    }
    let ended = Ended {
        end: relayed.end,
        status: relayed.status,
        ttfb_ms: relayed.ttfb_ms,
        verdict: &verdict,
        input_tokens,
    };
    settle(gateway, &mut exchange, hold, Some(&mut rates), &relayed.metered, &ended);
    // Before the client sees the end: its next request must find its place free.
    drop((rates, shadow));
    Ok(relayed.finish(session).await)
}

/// A background request whose work goes on at the provider, whatever became of this answer.
fn goes_on(exchange: &Exchange, relayed: &Relayed) -> bool {
    let metered = &relayed.metered;
    let unfinished = metered.pending || (metered.streamed && !metered.final_seen);
    exchange.inspected.call.background && (200..300).contains(&relayed.status) && unfinished
}

/// The end of an exchange that got no answer. What the upstream never received is voided; what it did not take is entered at
/// nothing; what it has received, and may bill, is entered as an estimate.
fn unanswered_end(
    gateway: &Gateway,
    exchange: &Exchange,
    hold: agentledger_ledger::Hold,
    failed: Failed,
    verdict: &[agentledger_ledger::Name],
) -> Result<bool, Refusal> {
    match failed {
        Failed::Unsent(refusal) => {
            hold.void(&refusal.code);
            Err(refusal)
        }
        Failed::NotTaken(refusal) => {
            let settlement = unanswered(gateway, exchange, Outcome::UpstreamFailed, refusal.status, verdict);
            report::settled(gateway, hold.settle(settlement).entry, &exchange.identity.trace);
            Err(refusal)
        }
        Failed::Unanswered(refusal) => {
            let mut settlement = reserve::abandoned(gateway, exchange, &hold, verdict);
            settlement.outcome = Outcome::UpstreamFailed;
            settlement.status = refusal.status;
            settlement.estimate_reason = Some(reason::UPSTREAM_FAILED.into());
            report::settled(gateway, hold.settle(settlement).entry, &exchange.identity.trace);
            Err(refusal)
        }
        Failed::Cut(refusal) => {
            let mut settlement = reserve::abandoned(gateway, exchange, &hold, verdict);
            settlement.outcome = Outcome::Cut;
            settlement.status = refusal.status;
            settlement.cost = settlement.cost.max(hold.held());
            settlement.estimate_reason = Some(reason::CUT.into());
            report::settled(gateway, hold.settle(settlement).entry, &exchange.identity.trace);
            Err(refusal)
        }
        Failed::ClientGone => {
            let settlement = reserve::abandoned(gateway, exchange, &hold, verdict);
            report::settled(gateway, hold.settle(settlement).entry, &exchange.identity.trace);
            Ok(false)
        }
    }
}
