//! Uploads of files: free, unread, and longer than what is held in memory. They pass as they come.
//!
//! What has passed cannot be sent again, so an upload has a connection of its own, never a pooled one that may just have been
//! closed. An upstream that answers before it has read all (413) is heard at once; a client that breaks off leaves the upstream
//! with a body that is visibly not whole.

use std::time::Duration;

use pingora::http::RequestHeader;
use tokio::time::timeout;

use crate::plugin::Billing;
use crate::proxy::forward::pool::Connection;
use crate::proxy::forward::{Answer, admitted, own_header};
use crate::proxy::relay::{RelayOptions, relay};
use crate::proxy::report::{self, UpstreamError};
use crate::proxy::sanitize::expects_continue;
use crate::proxy::session::stopped;
use crate::proxy::shared::allowance::Unbounded;
use crate::proxy::shared::client::client_gone;
use crate::proxy::shared::codes::RefusalCode;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::http_session::{OutgoingHead, ServerSession, UpstreamSession};
use crate::proxy::shared::identity::Target;
use crate::proxy::shared::refused::linger;
use crate::proxy::shared::reply::Refusal;

/// Operations whose bodies are files, as the plugins name them, or as long as files: Anthropic takes the 256 MB of a batch's
/// requests in one body (<https://platform.claude.com/docs/en/build-with-claude/batch-processing>).
const OF_FILES: [&str; 4] = ["files", "files.upload", "uploads", "messages.batches"];
/// How long an upstream that has not taken all may take to say why.
const EARLY_ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How long a client may go on sending once its answer is there: many read it only then.
const LINGER: Duration = Duration::from_secs(10);

/// Whether the body is a file, which nobody here reads. One that the gateway signs is read for its signature.
pub fn is_upload(target: &Target, header: &RequestHeader) -> bool {
    target.billing == Billing::Free
        && header.method == http::Method::POST
        && OF_FILES.contains(&&*target.operation)
        && target.endpoint.provider.aws.is_none()
}

/// Passes an upload on and relays its answer. `Ok(false)`: the connection cannot be used again.
///
/// # Errors
/// The refusal for the client, where no answer began.
pub async fn pass(
    gateway: &Gateway,
    session: &mut ServerSession,
    exchange: &Exchange,
    headers: &[(String, String)],
) -> Result<bool, Refusal> {
    let endpoint = &exchange.endpoint;
    let attempt = admitted(gateway, exchange)?;
    let sent = send(gateway, session, exchange).await;
    let is_good = match &sent {
        Ok(answer) => Some(answer.header.status.as_u16() < 500),
        Err(NotAnswered::OfUpstream(..)) => Some(false),
        // It says nothing of the upstream.
        Err(NotAnswered::OfClient(_)) => None,
    };
    match is_good {
        Some(good) => report::attempted(gateway, exchange, attempt, good),
        None => drop(attempt),
    }
    let answer = sent.map_err(|failed| match failed {
        NotAnswered::OfClient(refusal) => refusal,
        NotAnswered::OfUpstream(how, refusal) => {
            report::upstream_failed(gateway, endpoint, how);
            refusal
        }
    })?;
    let options = RelayOptions {
        hide_usage: false,
        headers,
        allowance: &mut Unbounded,
        holds_head: false,
        lines: None,
    };
    let unread = !session.is_body_done();
    if unread {
        session.close_after_answer();
    }
    let reusable = relay(gateway, exchange, answer, options, session)
        .await
        .finish(session)
        .await;
    if unread {
        linger(session, LINGER, exchange.rules.config.limits.upload_bytes_max).await;
    }
    Ok(reusable && !unread)
}

/// Whose doing it is that there is no answer.
enum NotAnswered {
    OfClient(Refusal),
    OfUpstream(UpstreamError, Refusal),
}

/// How the body came to its end.
enum Passed {
    Whole,
    /// The upstream takes no more of it.
    NotTaken,
}

async fn send(gateway: &Gateway, session: &mut ServerSession, exchange: &Exchange) -> Result<Answer, NotAnswered> {
    let mut connection = connect(gateway, exchange).await?;
    connection.tainted = true;
    let sent = async {
        let head = head(session, exchange, &connection.session)?;
        let upstream = &mut connection.session;
        upstream.set_write_timeout(Some(exchange.endpoint.provider.timeouts.idle));
        if expects_continue(session.req_header()) {
            let unwilling = session.write_continue_response().await;
            unwilling.map_err(|_| NotAnswered::OfClient(Refusal::client_left()))?;
        }
        let stopped = stopped(gateway, exchange);
        tokio::pin!(stopped);
        tokio::select! {
            biased;
            passed = pass_body(session, exchange, upstream, head) => passed,
            stop = &mut stopped => Err(NotAnswered::OfClient(stop.refusal().closing())),
        }
    };
    // Where this fails the connection is closed without an end of the body: nobody shall take it for whole.
    let passed = sent.await?;
    let patience = match passed {
        Passed::Whole => exchange.endpoint.provider.timeouts.first_byte,
        Passed::NotTaken => EARLY_ANSWER_WAIT,
    };
    let answered = async { timeout(patience, connection.session.read_response_header()).await };
    let header = match passed {
        Passed::Whole => tokio::select! {
            biased;
            answered = answered => answered,
            () = client_gone(session) => return Err(NotAnswered::OfClient(Refusal::client_left())),
            stop = stopped(gateway, exchange) => return Err(NotAnswered::OfClient(stop.refusal())),
        },
        Passed::NotTaken => answered.await,
    };
    match header {
        // Nobody requested another protocol.
        Ok(Ok(header)) if header.status != 101 => Ok(Answer { connection, header }),
        Ok(_) => Err(broken()),
        Err(_) if matches!(passed, Passed::NotTaken) => Err(broken()),
        Err(_) => {
            let message = "the upstream did not answer in time";
            let refusal = Refusal::new(RefusalCode::UpstreamTimeout, message);
            Err(NotAnswered::OfUpstream(UpstreamError::Timeout, refusal))
        }
    }
}

fn broken() -> NotAnswered {
    let refusal = Refusal::new(RefusalCode::UpstreamFailed, "upstream request failed");
    NotAnswered::OfUpstream(UpstreamError::Broken, refusal)
}

async fn connect(gateway: &Gateway, exchange: &Exchange) -> Result<Connection, NotAnswered> {
    let retries = exchange.endpoint.provider.retries.connect as usize;
    let mut attempt = 0;
    loop {
        match exchange.endpoint.upstream.connect_alone(attempt, &*gateway.clock).await {
            Ok(connection) => return Ok(connection),
            Err(error) if attempt >= retries => {
                tracing::warn!(provider = %exchange.endpoint.name, %error, "upstream unreachable");
                let refusal = Refusal::new(RefusalCode::UpstreamFailed, "upstream request failed");
                return Err(NotAnswered::OfUpstream(UpstreamError::Connect, refusal));
            }
            Err(_) => {
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(50 << attempt.min(4))).await;
            }
        }
    }
}

/// The head for the upstream, framed as the client framed its body.
fn head(
    session: &mut ServerSession,
    exchange: &Exchange,
    upstream: &UpstreamSession,
) -> Result<Box<RequestHeader>, NotAnswered> {
    let is_empty = session.is_body_empty();
    let client = session.req_header();
    let mut head = own_header(exchange, client, &[], false).map_err(NotAnswered::OfClient)?;
    head.remove_header("content-length");
    let framed = match session.body_length().or(is_empty.then_some(0)) {
        Some(length) => head.insert_header("Content-Length", length.to_string()),
        // HTTP/2 has frames of its own.
        None if matches!(upstream, UpstreamSession::Http2(_)) => Ok(()),
        None => head.insert_header("Transfer-Encoding", "chunked"),
    };
    let internal = |_| Refusal::new(RefusalCode::Internal, "the request could not be forwarded");
    framed.map_err(internal).map_err(NotAnswered::OfClient)?;
    Ok(head)
}

async fn pass_body(
    session: &mut ServerSession,
    exchange: &Exchange,
    upstream: &mut UpstreamSession,
    head: Box<RequestHeader>,
) -> Result<Passed, NotAnswered> {
    let limits = &exchange.rules.config.limits;
    let silence = Duration::from_millis(limits.body_read_timeout_ms);
    let refused = |code, message: &str| Err(NotAnswered::OfClient(Refusal::new(code, message).closing()));
    if upstream.write_request_header(&OutgoingHead::Own(head)).is_err() {
        return Ok(Passed::NotTaken);
    }
    let mut length: u64 = 0;
    loop {
        let chunk = match timeout(silence, session.read_request_body()).await {
            Err(_) => return refused(RefusalCode::BodyTimeout, "the request body did not arrive in time"),
            Ok(Err(_)) => return refused(RefusalCode::UnreadableBody, "failed to read request body"),
            Ok(Ok(None)) => break,
            Ok(Ok(Some(chunk))) => chunk,
        };
        length += chunk.len() as u64;
        if length > limits.upload_bytes_max {
            return Err(NotAnswered::OfClient(Refusal::body_too_large().closing()));
        }
        if !chunk.is_empty() && upstream.write_request_body(chunk).await.is_err() {
            return Ok(Passed::NotTaken);
        }
    }
    match upstream.finish_request_body().await {
        Ok(()) => Ok(Passed::Whole),
        Err(_) => Ok(Passed::NotTaken),
    }
}
