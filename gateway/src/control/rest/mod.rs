//! The contract's REST: what the original's dashboard and scripts read and change, by its field names, over the functions of
//! the JSON-RPC methods. What is wrong in the original is right here; its shapes stay.
//!
//! Reads need no token where `control.public_read` says so, as in the contract; one that is sent all the same counts, so a
//! token that is bound to a tenant is shown its tenant's only. What changes something needs a token, and no
//! `X-Requested-With`: that header was a guard against pages of other origins, which cannot send a bearer token that they do not
//! have, and are told by their `Origin` besides. Scripts that send it are served as well.

mod admin;
mod answer;
mod dashboard;
mod params;
mod peaks;
mod rows;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{MethodRouter, get};

use self::answer::Answer;
use self::params::Params;
use crate::control::access::Denied;
use crate::control::error::RpcError;
use crate::control::rpc::call::{Caller, Role};
use crate::control::state::ControlState;
use crate::control::transport::{self, Shared};

type Read = fn(&ControlState, &Caller, &Params) -> Result<Answer, RpcError>;

/// The paths below `/api`.
pub(super) fn routes() -> Router<Shared> {
    let read = |read: Read| get(move |State(shared): State<Shared>, request: Request| look(shared, request, read));
    let dashboard: [(&str, Read); 10] = [
        ("summary", dashboard::summary),
        ("timeseries", dashboard::timeseries),
        ("timeseries/tokens", dashboard::timeseries_tokens),
        ("costs", dashboard::costs),
        ("export", dashboard::export),
        ("stats", dashboard::stats),
        ("sessions", dashboard::sessions),
        ("sessions/history", dashboard::sessions_history),
        ("expensive", peaks::expensive),
        ("latency", peaks::latency),
    ];
    let routes = dashboard.into_iter().fold(Router::new(), |routes, (path, function)| {
        let handler: MethodRouter<Shared> = read(function);
        routes.route(&format!("/api/dashboard/{path}"), handler)
    });
    routes.merge(admin::routes())
}

/// Answers a read of the dashboard's.
async fn look(shared: Shared, request: Request, read: Read) -> Response {
    let (parts, _) = request.into_parts();
    if !shared.state.config.load().dashboard_enabled {
        return transport::error(StatusCode::NOT_FOUND, "not found");
    }
    let caller = match reader(&shared, &parts.headers) {
        Ok(caller) => caller,
        Err(denied) => return transport::refuse(denied),
    };
    run(shared.state, parts.uri, move |state, params| {
        read(state, &caller, params)
    })
    .await
}

/// Who reads: whoever the token names, or anybody where reading is public.
fn reader(shared: &Shared, headers: &axum::http::HeaderMap) -> Result<Caller, Denied> {
    let is_public = shared.state.config.load().control.public_read;
    match shared.caller(headers) {
        Err(Denied::NoToken | Denied::NoneConfigured) if is_public => Ok(Caller {
            name: "public".into(),
            role: Role::Read,
            tenant: None,
            peer: "network".into(),
        }),
        caller => caller,
    }
}

/// Runs what may wait for the ledger on a thread for that.
async fn run(
    state: Arc<ControlState>,
    uri: Uri,
    answer: impl FnOnce(&ControlState, &Params) -> Result<Answer, RpcError> + Send + 'static,
) -> Response {
    let answered = tokio::task::spawn_blocking(move || answer(&state, &Params::of(&uri))).await;
    match answered {
        Ok(Ok(answer)) => answer.into_response(),
        Ok(Err(error)) => refused(&error),
        Err(_) => transport::error(StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
    }
}

/// The contract's errors: what a caller did wrong is told, what went wrong here is in the log.
fn refused(error: &RpcError) -> Response {
    let status = match error {
        RpcError::InvalidParams(_) | RpcError::Unfit { .. } => StatusCode::BAD_REQUEST,
        RpcError::NotFound(_) => StatusCode::NOT_FOUND,
        RpcError::Forbidden | RpcError::OtherTenant => StatusCode::FORBIDDEN,
        RpcError::Conflict(_) => StatusCode::CONFLICT,
        RpcError::OutcomeUnknown(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => {
            tracing::error!(%error, "a REST answer failed");
            return transport::error(StatusCode::INTERNAL_SERVER_ERROR, "internal server error");
        }
    };
    transport::error(status, &error.to_string())
}
