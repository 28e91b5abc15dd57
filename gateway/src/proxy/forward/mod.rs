//! Sixth step: the request goes to the upstream, once. Only a connection that could not be made is tried again unasked:
//! a POST that the upstream has received may be billed, and a second one would be billed twice.

pub mod breaker;
pub mod pool;
pub mod sign;

use std::time::Duration;

use agentledger_http1::ResponseHead;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST};
use pingora::http::RequestHeader;
use tokio::time::timeout;

use crate::config::OutputLimit;
use crate::plugin::outline::{Edit, splice};
use crate::plugin::{Billing, EditPoint};
use crate::proxy::forward::breaker::Attempt;
use crate::proxy::forward::pool::{ConnectError, Connection};
use crate::proxy::report::{self, UpstreamError};
use crate::proxy::sanitize::headers::is_ours;
use crate::proxy::sanitize::named_by_connection;
use crate::proxy::session::{StopReason, stopped};
use crate::proxy::shared::client::unattended;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::{Changes, Exchange};
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::{OutgoingHead, ServerSession};
use crate::proxy::shared::reply::Refusal;
use crate::telemetry::trace::TRACEPARENT;

/// What goes upstream.
pub struct Outgoing {
    pub head: OutgoingHead,
    pub body: Bytes,
    /// The stream will report its usage because the gateway requested it: the client did not.
    pub usage_injected: bool,
}

/// The upstream's answer has begun.
pub struct Answer {
    pub connection: Connection,
    pub header: ResponseHead,
}

/// How a request failed before an answer began.
#[derive(Debug)]
pub enum Failed {
    /// No request byte left us.
    Unsent(Refusal),
    /// The upstream did not take it: nothing can be billed.
    NotTaken(Refusal),
    /// The upstream has it, gave no answer, and may bill it.
    Unanswered(Refusal),
    /// The upstream has it, and we ended the wait.
    Cut(Refusal),
    /// The client left while we waited for the upstream.
    ClientGone,
}

impl Failed {
    /// The client's answer, where nothing is to be settled first; `None`: it has left.
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Unsent(refusal) | Self::NotTaken(refusal) | Self::Unanswered(refusal) | Self::Cut(refusal) => {
                Some(refusal)
            }
            Self::ClientGone => None,
        }
    }
}

/// Makes the upstream's request: ours taken off, the host set, the body edited where the rules ask for it.
///
/// # Errors
/// The body cannot be edited as the rules ask, or a header cannot be written.
pub fn outgoing(exchange: &Exchange, client: &RequestHeader, changes: &Changes) -> Result<Outgoing, Refusal> {
    let (body, usage_injected, reencoded) = edited_body(exchange, changes)?;
    // A span is of one request, and a signature of one body.
    let is_plain = !reencoded && !exchange.has_own_span() && sign::credentials(&exchange.endpoint, client).is_none();
    let head = match exchange.entrance().filter(|_| is_plain) {
        Some(entrance) => {
            let passed = entrance.passed(|| passed_header(exchange, client, false))?;
            OutgoingHead::Again(passed, body.len() as u64)
        }
        None => OutgoingHead::Own(own_header(exchange, client, &body, reencoded)?),
    };
    Ok(Outgoing {
        head,
        body,
        usage_injected,
    })
}

/// The whole head for this body. `reencoded`: the body was encoded, and is no more.
///
/// # Errors
/// A header cannot be written.
pub fn own_header(
    exchange: &Exchange,
    client: &RequestHeader,
    body: &[u8],
    reencoded: bool,
) -> Result<Box<RequestHeader>, Refusal> {
    let internal = |_| Refusal::new(RefusalCode::Internal, "the request could not be forwarded");
    let mut header = passed_header(exchange, client, reencoded)?;
    if let Some(traceparent) = exchange.traceparent() {
        header.insert_header(TRACEPARENT, traceparent).map_err(internal)?;
    }
    if !body.is_empty() || matches!(exchange.method.as_str(), "POST" | "PUT" | "PATCH") {
        header.insert_header(CONTENT_LENGTH, body.len()).map_err(internal)?;
    }
    if let Some(credentials) = sign::credentials(&exchange.endpoint, client) {
        sign::sign(&mut header, body, credentials, exchange.at_ms)
            .map_err(|_| Refusal::new(RefusalCode::Internal, "the request could not be signed"))?;
    }
    Ok(Box::new(header))
}

/// What goes on of the client's head, whatever the body.
fn passed_header(exchange: &Exchange, client: &RequestHeader, reencoded: bool) -> Result<RequestHeader, Refusal> {
    let internal = |_| Refusal::new(RefusalCode::Internal, "the request could not be forwarded");
    let path = exchange.forward_path.as_bytes();
    let mut header = RequestHeader::build_no_case(exchange.method.as_str(), path, Some(client.headers.len() + 4))
        .map_err(internal)?;
    // What is read, or changed, must not come encoded.
    let as_it_is = exchange.is_read() || exchange.has_links();
    let of_one_hop = named_by_connection(client);
    let signing = sign::credentials(&exchange.endpoint, client);
    let has_own_span = exchange.has_own_span();
    for (name, value) in &client.headers {
        let lower = name.as_str();
        let decoded_now = reencoded && lower == "content-encoding";
        let replaced = as_it_is && lower == "accept-encoding";
        // Lines are billed from the first on: a part of them would be billed by guess.
        let of_a_part = exchange.billing == Billing::FetchedLines && matches!(lower, "range" | "if-range");
        let signed_away = signing.is_some() && sign::is_replaced(lower);
        let renamed = lower == TRACEPARENT && has_own_span;
        let left_out = is_ours(lower) || decoded_now || replaced || of_a_part || signed_away || renamed;
        if left_out || of_one_hop.iter().any(|hop| hop == lower) {
            continue;
        }
        header.append_header(name.clone(), value.clone()).map_err(internal)?;
    }
    let address = exchange.endpoint.upstream.address();
    let default_port = if address.tls { 443 } else { 80 };
    let host = if address.port == default_port {
        address.host.clone()
    } else {
        format!("{}:{}", address.host, address.port)
    };
    header.insert_header(HOST, host).map_err(internal)?;
    if as_it_is {
        header.insert_header(ACCEPT_ENCODING, "identity").map_err(internal)?;
    }
    Ok(header)
}

/// The body as it came, or spliced. Returns whether usage was requested on the client's behalf, and whether an encoded
/// body now goes out decoded.
///
/// # Errors
/// The body has no place for what the rules change.
pub fn edited_body(exchange: &Exchange, changes: &Changes) -> Result<(Bytes, bool, bool), Refusal> {
    let inspected = &exchange.inspected;
    let as_it_came = inspected.body.bytes.clone();
    let Some(outline) = &inspected.outline else {
        return Ok((as_it_came, false, false));
    };
    let mut edits = Vec::new();
    for point in &inspected.call.edits {
        let edit = match point {
            EditPoint::Model(path) => changes
                .model
                .as_ref()
                .map(|model| (path.as_str(), serde_json::json!(model).to_string())),
            EditPoint::MaxOutput(path) => changes
                .max_output
                .map(|max| (limit_field(exchange, path), max.to_string())),
            // An encoded body is not opened for this alone: its usage is estimated should the stream not report it.
            EditPoint::StreamUsage(path) => (exchange.endpoint.provider.inject_usage && !inspected.is_encoded())
                .then(|| (path.as_str(), "true".to_owned())),
        };
        if let Some((path, value)) = edit {
            edits.push(Edit {
                path: path.to_owned(),
                value,
            });
        }
    }
    if edits.is_empty() {
        return Ok((as_it_came, false, false));
    }
    let injected = inspected
        .call
        .edits
        .iter()
        .any(|point| matches!(point, EditPoint::StreamUsage(_)))
        && exchange.endpoint.provider.inject_usage
        && !inspected.is_encoded();
    let spliced = splice(
        inspected.json(),
        &exchange.endpoint.plugin.request_shape,
        outline,
        &edits,
    )
    .map_err(|error| {
        Refusal::new(
            RefusalCode::CannotEdit,
            format!("the request cannot be changed as the rules ask: {error}"),
        )
        .final_answer()
    })?;
    Ok((Bytes::from(spliced), injected, inspected.is_encoded()))
}

/// Where the host of this exchange takes the limit that the dialect has at `path`.
fn limit_field<'p>(exchange: &Exchange, path: &'p str) -> &'p str {
    match exchange.endpoint.provider.output_limit {
        OutputLimit::MaxTokens if path == "max_completion_tokens" => "max_tokens",
        _ => path,
    }
}

/// Sends the request and waits for the head of the answer. `durable` ends when the hold is on disk; the connection is
/// made meanwhile, and no request byte leaves before.
///
/// # Errors
/// How far the request got: what may be billed depends on it.
pub async fn forward(
    gateway: &Gateway,
    exchange: &Exchange,
    outgoing: &Outgoing,
    session: &mut ServerSession,
    durable: impl Future<Output = Result<(), Refusal>>,
) -> Result<Answer, Failed> {
    let endpoint = &exchange.endpoint;
    let attempt = admitted(gateway, exchange).map_err(Failed::Unsent)?;
    let verdict = |attempt: Attempt<'_>, good: bool| report::attempted(gateway, exchange, attempt, good);
    let (connected, on_disk) = tokio::select! {
        biased;
        both = async { tokio::join!(connect(gateway, exchange, outgoing), durable) } => both,
        () = unattended(session, exchange.outlast(false)) => return Err(Failed::Unsent(Refusal::client_left())),
        stop = stopped(gateway, exchange) => return Err(Failed::Unsent(stop.refusal())),
    };
    on_disk.map_err(Failed::Unsent)?;
    let mut connection = match connected {
        Ok(connection) => connection,
        Err(error) => {
            verdict(attempt, false);
            report::upstream_failed(gateway, endpoint, UpstreamError::Connect);
            tracing::warn!(provider = %endpoint.name, %error, "upstream unreachable");
            return Err(Failed::Unsent(unreachable()));
        }
    };
    match send(gateway, exchange, outgoing, &mut connection, session).await {
        Ok(header) => {
            verdict(attempt, header.status.as_u16() < 500);
            Ok(Answer { connection, header })
        }
        Err(Trouble::Stopped(stop)) => Err(Failed::Cut(stop.refusal())),
        Err(Trouble::ClientGone) => Err(Failed::ClientGone),
        Err(Trouble::TimedOut) => {
            verdict(attempt, false);
            report::upstream_failed(gateway, endpoint, UpstreamError::Timeout);
            let message = "the upstream did not answer in time";
            Err(Failed::Unanswered(Refusal::new(RefusalCode::UpstreamTimeout, message)))
        }
        Err(trouble @ (Trouble::NotTaken | Trouble::NoAnswer)) => {
            // A pooled connection that was closed as we wrote says nothing of the upstream's health.
            if connection.reused {
                drop(attempt);
            } else {
                verdict(attempt, false);
            }
            report::upstream_failed(gateway, endpoint, UpstreamError::Broken);
            let taken = matches!(trouble, Trouble::NoAnswer);
            tracing::warn!(provider = %endpoint.name, taken, reused = connection.reused, "upstream failed before its answer");
            Err(if taken {
                Failed::Unanswered(unreachable())
            } else {
                Failed::NotTaken(unreachable())
            })
        }
    }
}

/// Sends until an answer counts: again on a fresh connection where a pooled one did not take the request, and after
/// answers that the config names.
async fn send(
    gateway: &Gateway,
    exchange: &Exchange,
    outgoing: &Outgoing,
    connection: &mut Connection,
    session: &mut ServerSession,
) -> Result<ResponseHead, Trouble> {
    let retries = &exchange.endpoint.provider.retries;
    let mut replays = 0;
    loop {
        let ended = send_and_wait(gateway, exchange, outgoing, connection, session).await;
        let again = match &ended {
            Ok(header) => retries.statuses.contains(&header.status.as_u16()),
            Err(Trouble::NotTaken) => connection.reused,
            Err(_) => false,
        };
        if !again || replays >= retries.connect.max(1) {
            return ended;
        }
        match connect(gateway, exchange, outgoing).await {
            Ok(fresh) => *connection = fresh,
            Err(_) => return ended,
        }
        replays += 1;
        tracing::debug!(provider = %exchange.endpoint.name, replays, "sending again");
    }
}

/// A call that the provider's breaker lets through.
///
/// # Errors
/// The breaker is open.
pub fn admitted<'e>(gateway: &Gateway, exchange: &'e Exchange) -> Result<Attempt<'e>, Refusal> {
    let (endpoint, breaker) = (&exchange.endpoint, &exchange.rules.config.breaker);
    let attempt = endpoint.breaker.attempt(breaker, gateway.clock.monotonic_ms());
    attempt.map_err(|wait_s| {
        report::upstream_failed(gateway, endpoint, UpstreamError::BreakerOpen);
        let name = &endpoint.provider.name;
        let message = format!("{name} has failed repeatedly and is not called for now");
        Refusal::new(RefusalCode::BreakerOpen, message).retry_after(wait_s.max(1))
    })
}

fn unreachable() -> Refusal {
    Refusal::new(RefusalCode::UpstreamFailed, "upstream request failed")
}

async fn connect(gateway: &Gateway, exchange: &Exchange, outgoing: &Outgoing) -> Result<Connection, ConnectError> {
    let retries = exchange.endpoint.provider.retries.connect as usize;
    let h1 = outgoing.head.is_upgrade();
    let mut attempt = 0;
    loop {
        match exchange.endpoint.upstream.connect(attempt, &*gateway.clock, h1).await {
            Ok(connection) => return Ok(connection),
            Err(error) if attempt >= retries => return Err(error),
            Err(error) => {
                tracing::debug!(provider = %exchange.endpoint.name, %error, attempt, "connecting again");
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(50 << attempt.min(4))).await;
            }
        }
    }
}

enum Trouble {
    ClientGone,
    Stopped(StopReason),
    TimedOut,
    /// The upstream did not take all of the request.
    NotTaken,
    /// The upstream took the request and gave no answer.
    NoAnswer,
}

async fn send_and_wait(
    gateway: &Gateway,
    exchange: &Exchange,
    outgoing: &Outgoing,
    connection: &mut Connection,
    session: &mut ServerSession,
) -> Result<ResponseHead, Trouble> {
    let timeouts = &exchange.endpoint.provider.timeouts;
    let Connection {
        session: upstream,
        tainted,
        ..
    } = connection;
    upstream.set_write_timeout(Some(timeouts.idle));
    let answered = async {
        let sent = async {
            upstream.write_request_header(&outgoing.head)?;
            if !outgoing.body.is_empty() {
                upstream.write_request_body(outgoing.body.clone()).await?;
            }
            upstream.finish_request_body().await
        }
        .await;
        *tainted = sent.is_err();
        // An upstream may answer (413, 429) and close without reading all: the answer counts, not the failed write.
        let (patience, silent) = match sent {
            Ok(()) => (timeouts.first_byte, Trouble::TimedOut),
            Err(_) => (Duration::from_secs(1), Trouble::NotTaken),
        };
        let broken = || {
            if sent.is_ok() {
                Trouble::NoAnswer
            } else {
                Trouble::NotTaken
            }
        };
        match timeout(patience, upstream.read_response_header()).await {
            Err(_) => Err(silent),
            Ok(Err(_)) => Err(broken()),
            // Nobody requested another protocol: what follows would be no answer.
            Ok(Ok(header)) if header.status == 101 && !outgoing.head.is_upgrade() => {
                *tainted = true;
                Err(broken())
            }
            Ok(Ok(header)) => Ok(header),
        }
    };
    tokio::select! {
        biased;
        answered = answered => answered,
        // A whole answer is made, and billed, whether or not its client stays: its end may be near.
        () = unattended(session, exchange.outlast(!exchange.inspected.call.stream)) => Err(Trouble::ClientGone),
        stop = stopped(gateway, exchange) => Err(Trouble::Stopped(stop)),
    }
}
