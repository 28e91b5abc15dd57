//! From a text to its answer: one call or a batch, over HTTP or on a connection of its own. Methods, parameters and
//! subscriptions are the library's; what a text may be, and what is answered to one that is none, is said here, so that every
//! error bears its word in `data.code`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use jsonrpsee::core::server::{
    BoundedSubscriptions, MethodCallback, MethodResponse, MethodSink, Methods, SubscriptionState,
};
use jsonrpsee::server::RandomStringIdProvider;
use jsonrpsee::types::{ErrorObject, Id, InvalidRequest, Notification, Params, Request};
use jsonrpsee::{ConnectionId, Extensions};
use serde::de::IgnoredAny;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::control::access::Denied;
use crate::control::error::ProtocolError;
use crate::control::rpc::call::Caller;

/// Longest answer, of one call or of a batch.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Calls in one batch.
pub(in crate::control) const BATCH_MAX: usize = 32;
/// Subscriptions on one connection.
pub(in crate::control) const SUBSCRIPTIONS_MAX: u32 = 32;
/// Letters of a subscription's id.
const SUBSCRIPTION_ID_LETTERS: usize = 16;

/// What a connection has beyond one call: subscriptions, which say what happens through its sink.
pub(in crate::control) struct Connection {
    id: ConnectionId,
    sink: MethodSink,
    subscriptions: BoundedSubscriptions,
}

impl Connection {
    /// Notifications, and the answers of calls that subscribe, go to `sink`.
    pub(in crate::control) fn new(sink: mpsc::Sender<Box<RawValue>>) -> Connection {
        // 0 is what calls without a connection have.
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        Connection {
            id: ConnectionId(NEXT.fetch_add(1, Ordering::Relaxed)),
            sink: MethodSink::new(sink),
            subscriptions: BoundedSubscriptions::new(SUBSCRIPTIONS_MAX),
        }
    }
}

/// The answer to a text; `None` where none is due: to notifications, which change nothing, and to what the connection's sink
/// answers.
pub(in crate::control) async fn answer(
    methods: &Methods,
    caller: &Caller,
    text: &[u8],
    connection: Option<&Connection>,
) -> Option<String> {
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => one(methods, caller, text, connection).await,
        Some(b'[') => batch(methods, caller, text, connection).await,
        _ => Some(refusal(Id::Null, ProtocolError::Unreadable)),
    }
}

/// An error as a whole answer.
pub(in crate::control) fn refusal(id: Id<'_>, error: ProtocolError) -> String {
    MethodResponse::error(id, ErrorObject::from(error))
        .into_json()
        .get()
        .to_owned()
}

/// The answer to a call that says nothing but that it was done.
pub(in crate::control) fn nothing(id: Id<'_>) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": {} }).to_string()
}

/// The answer to a call whose caller may not.
pub(in crate::control) fn denied(id: Id<'_>, denied: Denied) -> String {
    let error = ErrorObject::owned(
        Denied::NUMBER,
        denied.to_string(),
        Some(json!({ "code": denied.code() })),
    );
    MethodResponse::error(id, error).into_json().get().to_owned()
}

async fn batch(methods: &Methods, caller: &Caller, text: &[u8], connection: Option<&Connection>) -> Option<String> {
    let calls: Vec<&RawValue> = match serde_json::from_slice(text) {
        Ok(calls) => calls,
        Err(_) => return Some(refusal(Id::Null, ProtocolError::Unreadable)),
    };
    if calls.is_empty() {
        return Some(refusal(Id::Null, ProtocolError::NotARequest));
    }
    if calls.len() > BATCH_MAX {
        return Some(refusal(Id::Null, ProtocolError::BatchTooLarge));
    }
    let mut answers = String::new();
    for call in calls {
        let Some(answer) = one(methods, caller, call.get().as_bytes(), connection).await else {
            continue;
        };
        if answers.len().saturating_add(answer.len()) > ANSWER_BYTES_MAX {
            return Some(refusal(Id::Null, ProtocolError::AnswerTooLarge));
        }
        answers.push(if answers.is_empty() { '[' } else { ',' });
        answers.push_str(&answer);
    }
    (!answers.is_empty()).then(|| answers + "]")
}

async fn one(methods: &Methods, caller: &Caller, text: &[u8], connection: Option<&Connection>) -> Option<String> {
    // An array with the fields in their order would be read as a request too.
    let is_object = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if is_object && let Ok(request) = serde_json::from_slice::<Request<'_>>(text) {
        return call(methods, caller, request, connection).await;
    }
    let id = serde_json::from_slice::<InvalidRequest<'_>>(text);
    let is_notification = is_object
        && serde_json::from_slice::<Notification<'_, Option<&RawValue>>>(text).is_ok()
        && serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(text).is_ok_and(|fields| !fields.contains_key("id"));
    match id {
        Ok(InvalidRequest { id }) if is_object => Some(refusal(id, ProtocolError::NotARequest)),
        _ if is_notification => None,
        _ if serde_json::from_slice::<IgnoredAny>(text).is_ok() => Some(refusal(Id::Null, ProtocolError::NotARequest)),
        _ => Some(refusal(Id::Null, ProtocolError::Unreadable)),
    }
}

async fn call(
    methods: &Methods,
    caller: &Caller,
    request: Request<'_>,
    connection: Option<&Connection>,
) -> Option<String> {
    let Request { id, method, params, .. } = request;
    let refused = |error| Some(refusal(id.clone(), error));
    let Some(callback) = methods.method(&method) else {
        return refused(ProtocolError::UnknownMethod);
    };
    let params = Params::new(params.as_ref().map(|params| params.get()));
    let mut extensions = Extensions::new();
    extensions.insert(caller.clone());
    let connection_id = connection.map_or(ConnectionId(0), |connection| connection.id);
    let response = match (callback, connection) {
        (MethodCallback::Sync(run), _) => run(id.clone(), params, ANSWER_BYTES_MAX, extensions),
        (MethodCallback::Async(run), _) => {
            let (id, params) = (id.clone().into_owned(), params.into_owned());
            run(id, params, connection_id, ANSWER_BYTES_MAX, extensions).await
        }
        (MethodCallback::Subscription(_) | MethodCallback::Unsubscription(_), None) => {
            return refused(ProtocolError::NeedsWebSocket);
        }
        (MethodCallback::Subscription(run), Some(connection)) => {
            let Some(subscription_permit) = connection.subscriptions.acquire() else {
                return refused(ProtocolError::TooManySubscriptions);
            };
            let ids = RandomStringIdProvider::new(SUBSCRIPTION_ID_LETTERS);
            let state = SubscriptionState {
                conn_id: connection.id,
                id_provider: &ids,
                subscription_permit,
            };
            run(id.clone(), params, connection.sink.clone(), state, extensions).await
        }
        (MethodCallback::Unsubscription(run), Some(_)) => {
            run(id.clone(), params, connection_id, ANSWER_BYTES_MAX, extensions)
        }
    };
    // Its answer went to the sink, before the first notification.
    if response.is_subscription() {
        return None;
    }
    // The library's own errors have no word.
    match response.as_error_code().and_then(ProtocolError::of_library) {
        Some(error) => refused(error),
        None => Some(response.into_json().get().to_owned()),
    }
}
