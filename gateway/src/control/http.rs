//! The control plane's paths.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, Limited};
use jsonrpsee::server::{BatchRequestConfig, ServerConfig, StopHandle, TowerService, stop_channel};
use serde_json::json;
use tower::Service;
use tower::layer::util::Identity;

use super::access::{self, Denied, Origin};
use super::error::ControlError;
use super::methods::Table;
use super::rpc;
use super::state::ControlState;

/// Longest request of a method; none takes more than a few hundred bytes.
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Longest answer of a method.
const ANSWER_BYTES_MAX: u32 = 64 << 20;
const BATCH_MAX: u32 = 32;
/// How long the rest of a refused request is waited for.
const DRAIN_WAIT: Duration = Duration::from_secs(5);

type RpcService = TowerService<Identity, Identity>;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    state: Arc<ControlState>,
    origin: Origin,
    rpc: RpcService,
}

pub(super) fn router(state: Arc<ControlState>, origin: Origin) -> Result<Router, ControlError> {
    let methods = rpc::methods(state.clone())
        .map(Table::into_module)
        .map_err(|error| ControlError::Methods(error.to_string()))?;
    let config = ServerConfig::builder()
        .http_only()
        .max_request_body_size(REQUEST_BYTES_MAX)
        .max_response_body_size(ANSWER_BYTES_MAX)
        .set_batch_request_config(BatchRequestConfig::Limit(BATCH_MAX))
        .build();
    // Its listeners are ours, and so is its stop: this handle is never used.
    let (stop, _server): (StopHandle, _) = stop_channel();
    let rpc = jsonrpsee::server::Server::builder()
        .set_config(config)
        .to_service_builder()
        .build(methods, stop);
    Ok(Router::new()
        .route("/", get(about))
        .route("/health", get(health))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/rpc", post(call))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Shared { state, origin, rpc }))
}

async fn about(State(shared): State<Shared>) -> Response {
    let page = format!(
        "AgentLedger {}\n\
         A gateway between AI agents and LLM providers: it meters every token and holds every dollar before it is spent.\n\n\
         Point your SDK's base URL at this address.\n\n\
         /health   is it alive\n\
         /readyz   is it taking requests, and why not\n\
         /metrics  Prometheus text\n\
         /rpc      JSON-RPC 2.0 over POST; with a token, or on the control socket\n\n\
         On the machine itself: agentledger costs, agentledger export, agentledger verify.\n",
        shared.state.version
    );
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], page).into_response()
}

async fn health() -> Response {
    reply(StatusCode::OK, &json!({ "status": "ok" }))
}

async fn ready(State(shared): State<Shared>) -> Response {
    match rpc::not_ready(&shared.state) {
        None => reply(StatusCode::OK, &json!({ "status": "ready" })),
        Some(reason) => reply(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "status": "not_ready", "reason": reason }),
        ),
    }
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if let Err(denied) = access::check_host(&shared.state.config.load(), shared.origin, &headers) {
        return refuse(denied);
    }
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

async fn call(State(mut shared): State<Shared>, mut request: Request) -> Response {
    let config = shared.state.config.load_full();
    let access = access::check_host(&config, shared.origin, request.headers())
        .and_then(|()| access::access_of(&config, shared.origin, request.headers()));
    let caller = match access {
        Ok(caller) => caller,
        Err(denied) => {
            drain(request).await;
            return refuse(denied);
        }
    };
    request.extensions_mut().insert(caller);
    // It is always ready.
    match shared.rpc.call(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
    }
}

fn refuse(denied: Denied) -> Response {
    if matches!(denied, Denied::NoneConfigured | Denied::ForeignHost) {
        return error(StatusCode::FORBIDDEN, &denied.to_string());
    }
    let mut response = error(StatusCode::UNAUTHORIZED, &denied.to_string());
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Reads a refused request to its end: closing a connection with bytes unread resets it, and the answer may be lost.
async fn drain(request: Request) {
    let limit = usize::try_from(REQUEST_BYTES_MAX).unwrap_or(usize::MAX);
    // What is longer, or late, or broken, is its sender's loss.
    let body = Limited::new(request.into_body(), limit).collect();
    let _ = tokio::time::timeout(DRAIN_WAIT, body).await;
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
fn error(status: StatusCode, text: &str) -> Response {
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
