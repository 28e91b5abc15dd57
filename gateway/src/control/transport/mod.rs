//! The control plane's paths.

mod dispatch;
pub mod page;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http_body_util::BodyExt;
use jsonrpsee::core::server::Methods;
use jsonrpsee::types::Id;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use self::websocket::{CallerOf, Served};
use crate::control::access::{self, Denied, Door, Origin};
use crate::control::error::{ControlError, ProtocolError};
use crate::control::methods;
use crate::control::rpc::call::Caller;
use crate::control::rpc::table::Table;
use crate::control::state::ControlState;
use crate::readiness;

/// Longest request of a method; none takes more than a few hundred bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// How long a request's body may take.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// How long, and how much of, the rest of a refused request is taken in.
const DRAIN_WAIT: Duration = Duration::from_secs(5);
const DRAIN_BYTES_MAX: usize = 64 << 20;
/// WebSocket connections, on all listeners together.
const SOCKETS_MAX: usize = 2_048;
/// And those among them that have not said their token yet.
const NAMELESS_MAX: usize = 128;

/// What every listener serves.
#[derive(Clone)]
pub(in crate::control) struct Plane {
    state: Arc<ControlState>,
    methods: Methods,
    door: Arc<Door>,
    sockets: Arc<Semaphore>,
    /// Of those that have not said their token yet.
    nameless: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

/// What the handlers share.
#[derive(Clone)]
pub(in crate::control) struct Shared {
    pub state: Arc<ControlState>,
    plane: Plane,
    origin: Origin,
}

impl Plane {
    pub(in crate::control) fn new(
        state: Arc<ControlState>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Plane, ControlError> {
        let methods = methods::table(state.clone())
            .map(Table::into_module)
            .map_err(|error| ControlError::Methods(error.to_string()))?;
        Ok(Plane {
            state,
            methods: methods.into(),
            door: Arc::default(),
            sockets: Arc::new(Semaphore::new(SOCKETS_MAX)),
            nameless: Arc::new(Semaphore::new(NAMELESS_MAX)),
            stopped,
        })
    }

    /// The paths, for connections that come in at `origin`; `more` are those below `/api`.
    pub(in crate::control) fn router(&self, origin: Origin, more: Router<Shared>) -> Router {
        let shared = Shared {
            state: Arc::clone(&self.state),
            plane: self.clone(),
            origin,
        };
        Router::new()
            .route("/metrics", get(metrics))
            .route("/rpc", any(call))
            .merge(more)
            .merge(page::router())
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(shared.clone(), check_page))
            .route("/", get(about))
            .route("/health", get(health))
            .route("/healthz", get(health))
            .route("/readyz", get(ready))
            .with_state(shared)
    }
}

impl Shared {
    /// Who makes a request, and what it may do.
    pub(in crate::control) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let config = self.state.config.load();
        let now_ms = self.state.ledger.now_ms();
        let known = (&**config, &self.state.issued_tokens);
        self.plane.door.caller(known, &self.origin, headers, now_ms)
    }
}

/// Before everything that is anybody's business: a name of the gateway's own, a page of its own.
async fn check_page(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let checked = access::check_page(&shared.state.config.load(), &shared.origin, request.headers());
    match checked {
        // Prometheus and whoever reads figures sends no page's origin; a page may look.
        Err(Denied::ForeignOrigin) if request.method() == Method::GET && !websocket::is_upgrade(request.headers()) => {
            next.run(request).await
        }
        Err(denied) => {
            let is_rpc = request.uri().path() == "/rpc";
            drain(request).await;
            if is_rpc { refuse_call(denied) } else { refuse(denied) }
        }
        Ok(()) => next.run(request).await,
    }
}

/// The dashboard for a browser, else what there is, in words.
async fn about(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if page::wants_page(accept) {
        return page::index(headers).await;
    }
    let page = format!(
        "AgentLedger {}\n\
         A gateway between AI agents and LLM providers: it meters every token and holds every dollar before it is spent.\n\n\
         Point your SDK's base URL at this address.\n\n\
         /         the dashboard, in a browser\n\
         /health   is it alive\n\
         /readyz   is it taking requests, and why not\n\
         /metrics  Prometheus text\n\
         /rpc      JSON-RPC 2.0 over POST and WebSocket; with a token, or on the control socket\n\n\
         On the machine itself: agentledger costs, agentledger export, agentledger verify.\n",
        shared.state.version
    );
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], page).into_response()
}

async fn health() -> Response {
    reply(StatusCode::OK, &json!({ "status": "ok" }))
}

async fn ready(State(shared): State<Shared>) -> Response {
    match shared.state.ledger.not_ready() {
        None => reply(
            StatusCode::OK,
            &readiness::ready(&shared.state.data_plane.refused_policies()),
        ),
        Some(reason) => reply(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "status": "not_ready", "reason": reason }),
        ),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    // Asking the ledger takes its lock: not on the runtime's one thread.
    let text = tokio::task::spawn_blocking(move || shared.state.metrics.render()).await;
    match text {
        Ok(Ok(text)) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        )
            .into_response(),
        Ok(Err(_)) | Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
    }
}

async fn call(State(shared): State<Shared>, request: Request) -> Response {
    let is_upgrade = request.method() == Method::GET && websocket::is_upgrade(request.headers());
    if !is_upgrade && request.method() != Method::POST {
        return wrong_method(request).await;
    }
    match shared.caller(request.headers()) {
        Ok(caller) if is_upgrade => connect(&shared, Some(caller), request),
        // A page cannot give its socket a header: it says its token on it, first.
        Err(Denied::NoToken) if is_upgrade && request.headers().contains_key(header::ORIGIN) => {
            connect(&shared, None, request)
        }
        Ok(caller) => post(&shared, &caller, request).await,
        Err(denied) => {
            drain(request).await;
            refuse_call(denied)
        }
    }
}

/// `caller`: who its token says; `None`: it is to be said first.
fn connect(shared: &Shared, caller: Option<Caller>, request: Request) -> Response {
    let places = if caller.is_some() {
        &shared.plane.sockets
    } else {
        &shared.plane.nameless
    };
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        return refuse_with(StatusCode::SERVICE_UNAVAILABLE, ProtocolError::TooManyConnections);
    };
    let (again, headers) = (shared.clone(), request.headers().clone());
    let caller_of: CallerOf = Box::new(move |token| {
        let mut headers = headers.clone();
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
            headers.insert(header::AUTHORIZATION, bearer.map_err(|_| Denied::WrongToken)?);
        }
        again.caller(&headers)
    });
    let served = Served {
        methods: shared.plane.methods.clone(),
        caller,
        caller_of,
        place,
        places: Arc::clone(&shared.plane.sockets),
        stopped: shared.plane.stopped.clone(),
    };
    match websocket::accept(served, request) {
        Ok(switching) => switching,
        Err(reason) => error(StatusCode::BAD_REQUEST, reason),
    }
}

async fn post(shared: &Shared, caller: &Caller, request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !["application/json", "application/json-rpc", "application/jsonrequest"]
        .iter()
        .any(|json| kind.eq_ignore_ascii_case(json))
    {
        drain(request).await;
        return refuse_with(StatusCode::UNSUPPORTED_MEDIA_TYPE, ProtocolError::NotJson);
    }
    let mut body = request.into_body();
    let text = match timeout(BODY_WAIT, read(&mut body)).await {
        Ok(Ok(text)) => text,
        Ok(Err(ProtocolError::RequestTooLarge)) => {
            discard(body).await;
            return refuse_with(StatusCode::PAYLOAD_TOO_LARGE, ProtocolError::RequestTooLarge);
        }
        Ok(Err(why)) => return refuse_with(StatusCode::BAD_REQUEST, why),
        Err(_) => return refuse_with(StatusCode::REQUEST_TIMEOUT, ProtocolError::Late),
    };
    match dispatch::answer(&shared.plane.methods, caller, &text, None).await {
        Some(answer) => json_text(StatusCode::OK, answer),
        // Notifications alone: none has an answer.
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn read(body: &mut Body) -> Result<Vec<u8>, ProtocolError> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ProtocolError::Unreadable)?;
        let data = frame.data_ref().map(AsRef::as_ref).unwrap_or_default();
        if text.len().saturating_add(data.len()) > REQUEST_BYTES_MAX {
            return Err(ProtocolError::RequestTooLarge);
        }
        text.extend_from_slice(data);
    }
    Ok(text)
}

fn refuse_with(status: StatusCode, why: ProtocolError) -> Response {
    json_text(status, dispatch::refusal(Id::Null, why))
}

fn json_text(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response()
}

/// In the contract's shape.
pub(in crate::control) fn refuse(denied: Denied) -> Response {
    with_hints(denied, error(denied.status(), &denied.to_string()))
}

/// As callers of methods read it.
fn refuse_call(denied: Denied) -> Response {
    with_hints(denied, json_text(denied.status(), dispatch::denied(Id::Null, denied)))
}

fn with_hints(denied: Denied, mut response: Response) -> Response {
    let headers = response.headers_mut();
    if denied.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = denied.retry_after_s() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Reads a refused request to its end: closing a connection with bytes unread resets it, and the answer may be lost.
pub(in crate::control) async fn drain(request: Request) {
    discard(request.into_body()).await;
}

/// What is longer, or late, or broken, is its sender's loss.
async fn discard(mut body: Body) {
    let mut left = DRAIN_BYTES_MAX;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, bytes::Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(DRAIN_WAIT, reading).await;
}

async fn not_found(request: Request) -> Response {
    drain(request).await;
    error(StatusCode::NOT_FOUND, "not found")
}

async fn wrong_method(request: Request) -> Response {
    drain(request).await;
    error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

/// The contract's shape for everything but the proxy: `{"error":"text"}`.
pub(in crate::control) fn error(status: StatusCode, text: &str) -> Response {
    reply(status, &json!({ "error": text }))
}

fn reply(status: StatusCode, body: &serde_json::Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        format!("{body}\n"),
    )
        .into_response()
}
