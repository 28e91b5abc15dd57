//! The handshake (RFC 6455 §4): the upstream comes first, and the client's protocol is switched only once the
//! upstream's is. Extensions are never agreed on: compressed frames could not be metered.

use std::sync::Arc;
use std::time::Duration;

use agentledger_http1::ResponseHead;
use bytes::Bytes;
use pingora::http::RequestHeader;
use tokio::time::timeout;
use ulid::Ulid;

use super::wire::Wire;
use crate::meter::Ids;
use crate::plugin::Billing;
use crate::proxy::forward::{Answer, Outgoing, forward, own_header};
use crate::proxy::identify::arrival::{locate, recognise};
use crate::proxy::identify::{in_terms_of_dialect, infer, legacy};
use crate::proxy::relay::{RelayOptions, relay};
use crate::proxy::reserve::place::warning;
use crate::proxy::reserve::rates;
use crate::proxy::sanitize::query::values_of;
use crate::proxy::shared::allowance::Unbounded;
use crate::proxy::shared::body::Body;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::drain::DrainPhase;
use crate::proxy::shared::exchange::{Exchange, SessionEnd};
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::{OutgoingHead, ServerSession};
use crate::proxy::shared::identity::{Identity, Target};
use crate::proxy::shared::inspected::Inspected;
use crate::proxy::shared::refused::RefusedRequest;
use crate::proxy::shared::reply::{Code, Refusal};
use crate::proxy::shared::rules::ProviderEndpoint;
use crate::proxy::{decide, session};
use crate::timer::Timer;

/// Longest wait for the upstream to switch.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(30);
const VERSION: &str = "13";
/// Headers of the upstream's answer that are said anew, or not at all.
const NOT_PASSED_ON: [&str; 6] = [
    "connection",
    "upgrade",
    "keep-alive",
    "content-length",
    "transfer-encoding",
    "sec-websocket-extensions",
];

/// A connection whose upstream has switched.
pub struct Opening {
    head: ResponseHead,
    upstream: Wire,
    who: ConnectionIdentity,
}

/// A connection both of whose ends have switched.
pub struct Opened {
    pub client: Wire,
    pub upstream: Wire,
    pub who: ConnectionIdentity,
}

/// What all answers on a connection share.
pub struct ConnectionIdentity {
    pub target: Target,
    /// As the handshake said it. What the policies make of it they say of each answer anew.
    pub identity: Identity,
    /// The handshake itself: with it the connection ends where its session is killed, and the session where it is to end
    /// with the connection.
    pub handshake: Exchange,
    /// The handshake's, which stands for the head of every request on the connection.
    pub header: RequestHeader,
    /// The model that the connection's query names.
    pub model: Option<String>,
}

impl ConnectionIdentity {
    pub fn endpoint(&self) -> &Arc<ProviderEndpoint> {
        &self.target.endpoint
    }
}

/// Checks the handshake and repeats it to the upstream. `None`: the upstream refused for a reason that the client is to
/// know, and that was passed on.
pub async fn ask_upstream(
    gateway: &Arc<Gateway>,
    session: &mut ServerSession,
) -> Result<Option<Opening>, RefusedRequest> {
    let rules = gateway.rules.load_full();
    let target = match locate(&rules, session) {
        Ok(target) => target,
        // What is there, but not over a WebSocket, is worth another try; what is nowhere is not.
        Err((refusal, Some(endpoint))) if is_no_route(&refusal) && knows(&endpoint, session.req_header()) => {
            return Err(RefusedRequest::new(not_served(), Some(&endpoint), ""));
        }
        Err((refusal, endpoint)) => return Err(RefusedRequest::new(refusal, endpoint.as_ref(), "")),
    };
    let (endpoint, operation) = (Arc::clone(&target.endpoint), target.operation.clone());
    let refused = |refusal: Refusal| RefusedRequest::new(refusal, Some(&endpoint), &operation);
    if !endpoint.provider.websocket || target.billing != Billing::Metered {
        return Err(refused(not_served()));
    }
    check_handshake(session).map_err(refused)?;
    if gateway.drain.phase() > DrainPhase::Running {
        return Err(refused(Refusal::going_down()));
    }
    let mut identity = recognise(&rules, session, &target).map_err(refused)?;
    let header = session.req_header().clone();
    let model = model_of(header.uri.query().unwrap_or_default()).map_err(refused)?;
    let inspected = Inspected::plain(Body::own(Bytes::new()), model.clone());
    infer::from_request(&rules, &mut identity, &target, &inspected);
    legacy::link(gateway, &identity);
    let free = Target {
        billing: Billing::Free,
        ..target.clone()
    };
    let mut handshake = Exchange::new(
        Ulid::new(),
        gateway.clock.now_ms(),
        Timer::start(),
        Arc::clone(&rules),
        free,
        identity.clone(),
        &header,
        inspected,
    );
    let id = handshake.id;
    let refused = |refusal: Refusal| refused(refusal.of_exchange(id));
    decide::bind(gateway, &mut handshake).map_err(refused)?;
    session::admit(gateway, &handshake).map_err(refused)?;
    let extra_headers = extra_headers(gateway, &mut handshake).map_err(refused)?;
    handshake.session_end = SessionEnd::of(&gateway.ledger, &handshake);
    let answer = send(gateway, &handshake, session).await.map_err(refused)?;
    let Some(answer) = answer else { return Ok(None) };
    let who = ConnectionIdentity {
        target,
        identity,
        handshake,
        header,
        model,
    };
    opening(gateway, answer, who, &extra_headers, session)
        .await
        .map_err(refused)
}

/// What the policies say in the head of the handshake's answer, the only one that a connection has: theirs as of a call that
/// costs nothing, and how the rates and budgets stand that each answer on it will be put on.
fn extra_headers(gateway: &Gateway, handshake: &mut Exchange) -> Result<Vec<(String, String)>, Refusal> {
    let mut extra_headers = decide::admit_free(gateway, handshake)?;
    let verdict = decide::outlook(gateway, handshake)?;
    let now_ms = gateway.clock.monotonic_ms();
    let rates = verdict.rates.iter();
    let rates: Vec<_> = rates
        .map(|rate| gateway.rates.standing(now_ms, &rate.requested))
        .collect();
    extra_headers.extend(rates::headers(&rates));
    let bounds = verdict.bounds.iter();
    let standings: Vec<_> = bounds
        .map(|requested| gateway.ledger.standing(&requested.bound))
        .collect();
    extra_headers.extend(warning(&verdict.bounds, &standings));
    Ok(extra_headers)
}

/// The model that the query names, however it is spelled there. Of two an upstream could take the other one.
fn model_of(query: &str) -> Result<Option<String>, Refusal> {
    let mut models = values_of(query, "model").filter(|model| !model.is_empty());
    let first = models.next();
    if models.any(|other| first.as_ref() != Some(&other)) {
        let message = "the query names more than one model";
        return Err(Refusal::new(RefusalCode::AmbiguousHead, message).final_answer());
    }
    Ok(first)
}

fn is_no_route(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        Code::Own(RefusalCode::NoRoute | RefusalCode::MethodNotAllowed)
    )
}

fn knows(endpoint: &ProviderEndpoint, header: &RequestHeader) -> bool {
    let path = header.uri.path().strip_prefix(endpoint.provider.prefix.as_str());
    path.and_then(|path| in_terms_of_dialect(endpoint, path))
        .is_some_and(|(path, _)| endpoint.plugin.routes.knows(&endpoint.provider.vendor, &path))
}

fn not_served() -> Refusal {
    Refusal::new(
        RefusalCode::WebsocketNotServed,
        "WebSocket is not served here: use plain HTTP requests",
    )
    .header("upgrade", "HTTP/1.1")
    .final_answer()
}

fn check_handshake(session: &mut ServerSession) -> Result<(), Refusal> {
    let bad = |message: &str| Refusal::new(RefusalCode::BadHandshake, message).final_answer();
    if session.is_http2() || session.req_header().version != http::Version::HTTP_11 {
        return Err(bad("a WebSocket is opened over HTTP/1.1"));
    }
    if session.req_header().method != http::Method::GET || !session.is_body_empty() {
        return Err(bad("a WebSocket is opened by a GET without a body"));
    }
    let value = |name: &str| {
        let mut values = session.req_header().headers.get_all(name).iter();
        let first = values.next().and_then(|value| value.to_str().ok());
        first.filter(|_| values.next().is_none()).map(str::trim)
    };
    if value("sec-websocket-version") != Some(VERSION) {
        let refusal = Refusal::new(
            RefusalCode::WebsocketVersion,
            "the version of WebSocket served here is 13",
        );
        return Err(refusal.header("sec-websocket-version", VERSION).final_answer());
    }
    // Sixteen bytes in base64.
    if value("sec-websocket-key").is_none_or(|key| key.len() != 24) {
        return Err(bad("the handshake has no valid Sec-WebSocket-Key"));
    }
    Ok(())
}

/// Sends the handshake on; `None`: nobody waits for it any more.
async fn send(gateway: &Gateway, handshake: &Exchange, session: &mut ServerSession) -> Result<Option<Answer>, Refusal> {
    let mut header = own_header(handshake, session.req_header(), &[], false)?;
    let internal = |_| Refusal::new(RefusalCode::Internal, "the handshake could not be forwarded");
    header.remove_header("sec-websocket-extensions");
    header.insert_header("Connection", "Upgrade").map_err(internal)?;
    header.insert_header("Upgrade", "websocket").map_err(internal)?;
    let outgoing = Outgoing {
        head: OutgoingHead::Own(header),
        body: Bytes::new(),
        usage_injected: false,
    };
    let at_once = std::future::ready(Ok::<(), Refusal>(()));
    match timeout(HANDSHAKE_WAIT, forward(gateway, handshake, &outgoing, session, at_once)).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(failed)) => failed.refusal().map_or(Ok(None), Err),
        Err(_) => Err(Refusal::new(
            RefusalCode::UpstreamTimeout,
            "the upstream did not answer in time",
        )),
    }
}

/// Takes the upstream's answer. One that says who may not, not now, or that something is broken is the client's to read;
/// any other refusal means that the upstream has no WebSocket here, and clients get to know it so that they fall back.
async fn opening(
    gateway: &Gateway,
    mut answer: Answer,
    mut who: ConnectionIdentity,
    extra_headers: &[(String, String)],
    session: &mut ServerSession,
) -> Result<Option<Opening>, Refusal> {
    let says = |name: &str| answer.header.get(name);
    match answer.header.status.as_u16() {
        101 => {}
        401 | 403 | 429 | 500.. => {
            let options = RelayOptions {
                hide_usage: false,
                headers: extra_headers,
                allowance: &mut Unbounded,
                holds_head: false,
                lines: None,
            };
            let relayed = relay(gateway, &who.handshake, answer, options, session).await;
            relayed.finish(session).await;
            return Ok(None);
        }
        _ => {
            answer.connection.session.shutdown().await;
            return Err(not_served());
        }
    }
    let switched = says("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"))
        && says("sec-websocket-accept").is_some()
        && says("sec-websocket-extensions").is_none();
    let bad = || {
        Refusal::new(
            RefusalCode::UpstreamHandshake,
            "the upstream's handshake is not one of a WebSocket",
        )
    };
    if !switched {
        answer.connection.session.shutdown().await;
        return Err(bad());
    }
    who.handshake.ids = Ids::new(None, who.endpoint().reader.request_id(says));
    let (stream, early) = answer.connection.session.into_http1().ok_or_else(bad)?;
    let mut head = answer.header;
    for name in NOT_PASSED_ON {
        head.remove(name);
    }
    head.insert("Connection", "Upgrade").map_err(|_| bad())?;
    head.insert("Upgrade", "websocket").map_err(|_| bad())?;
    for (name, value) in extra_headers {
        head.insert(name, value).map_err(|_| bad())?;
    }
    Ok(Some(Opening {
        head,
        upstream: Wire { stream, early },
        who,
    }))
}

/// Switches the client's protocol. `None`: the client has left.
pub async fn switch(opening: Opening, mut session: ServerSession) -> Option<Opened> {
    session.write_response_header(&opening.head).await.ok()?;
    let (stream, early) = session.into_http1()?;
    Some(Opened {
        client: Wire { stream, early },
        upstream: opening.upstream,
        who: opening.who,
    })
}
