//! Alerts as HTTP requests: no redirect is followed, no connection is kept, the answer is bounded.

use std::time::Duration;

use agentledger_alerts::Alert;
use agentledger_alerts::render;
use http::{HeaderValue, Uri};
use pingora::connectors::http::Connector as Pingora;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::timeout;

use super::send::{SendError, vetted};
use crate::config::{Form, HttpReceiver};

const CONNECT: Duration = Duration::from_secs(5);
/// Of an answer so much is read, and shown, for so long: what it says is for people alone.
const ANSWER_BYTES_MAX: usize = 4 << 10;
const ANSWER_CHARS_SHOWN: usize = 200;
const ANSWER: Duration = Duration::from_millis(500);

/// Connects; holds the roots of TLS.
pub struct Connector(Pingora);

impl Connector {
    pub fn new() -> Connector {
        Connector(Pingora::new(None))
    }
}

/// A body and its content type.
fn body_of(form: &Form, alert: &Alert, host: &str) -> (HeaderValue, String) {
    let json = |value: serde_json::Value| (HeaderValue::from_static("application/json"), value.to_string());
    match form {
        Form::Slack => json(render::slack(alert)),
        Form::Webhook => json(render::webhook(alert)),
        Form::PagerDuty(key) => json(render::pagerduty(alert, key.expose(), host)),
        Form::Template { template, content_type } => (content_type.clone(), template.render(alert)),
    }
}

/// The request's head.
fn head_of(
    to: &HttpReceiver,
    uri: &Uri,
    alert: &Alert,
    (content_type, body): (&HeaderValue, &str),
    now_ms: i64,
) -> Result<RequestHeader, SendError> {
    let unsendable = |error: pingora::BError| SendError::Unsendable(error.etype().as_str().to_owned());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut head = RequestHeader::build("POST", path.as_bytes(), None).map_err(unsendable)?;
    for (name, value) in &to.headers {
        head.append_header(name.clone(), value.expose().clone())
            .map_err(unsendable)?;
    }
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let mut fields = vec![
        ("Host", authority.to_owned()),
        ("User-Agent", "agentledger".to_owned()),
        ("Content-Length", body.len().to_string()),
        ("Connection", "close".to_owned()),
    ];
    // Services with payloads of their own would not look at these.
    if matches!(to.form, Form::Webhook | Form::Template { .. }) {
        let (id, at_s) = (alert.id.to_string(), now_ms.div_euclid(1_000));
        if let Some(signer) = &to.signer {
            fields.push(("webhook-signature", signer.sign(&id, at_s, body.as_bytes())));
        }
        fields.push(("webhook-timestamp", at_s.to_string()));
        fields.push(("webhook-id", id));
    }
    for (name, value) in fields {
        head.insert_header(name, value).map_err(unsendable)?;
    }
    head.insert_header("Content-Type", content_type.clone())
        .map_err(unsendable)?;
    Ok(head)
}

/// Posts an alert. What the receiver said.
pub(super) async fn post(
    connector: &Connector,
    to: &HttpReceiver,
    allow_private: bool,
    alert: &Alert,
    now_ms: i64,
) -> Result<String, SendError> {
    let uri: Uri = to
        .url
        .expose()
        .parse()
        .map_err(|_| SendError::Unsendable("the URL".to_owned()))?;
    let host = uri.host().unwrap_or_default().to_owned();
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let address = vetted(&host, port, allow_private).await?;
    let (content_type, body) = body_of(&to.form, alert, "agentledger");
    let head = head_of(to, &uri, alert, (&content_type, &body), now_ms)?;

    let mut peer = HttpPeer::new(address, is_tls, host.trim_matches(['[', ']']).to_owned());
    peer.options.connection_timeout = Some(CONNECT);
    peer.options.total_connection_timeout = Some(CONNECT);
    let connected = connector.0.get_http_session(&peer).await;
    let (mut session, _) = connected.map_err(|error| SendError::Connect(error.etype().as_str().to_owned()))?;
    let broken = |error: pingora::BError| SendError::Broken(error.etype().as_str().to_owned());
    session.write_request_header(Box::new(head)).await.map_err(broken)?;
    session.write_request_body(body.into(), true).await.map_err(broken)?;
    session.finish_request_body().await.map_err(broken)?;
    session.read_response_header().await.map_err(broken)?;
    let (status, after_ms) = answered(&session, now_ms)?;
    let text = text_of(&mut session).await;
    match status {
        200..300 => Ok(format!("{status}{}{text}", if text.is_empty() { "" } else { " " })),
        300..400 => Err(SendError::Redirect(status)),
        status => Err(SendError::Status { status, text, after_ms }),
    }
}

/// The status, and what `Retry-After` asks for in milliseconds.
fn answered(session: &HttpSession, now_ms: i64) -> Result<(u16, Option<i64>), SendError> {
    let head = session
        .response_header()
        .ok_or_else(|| SendError::Broken("no head".to_owned()))?;
    let after = head.headers.get("retry-after").and_then(|value| value.to_str().ok());
    Ok((
        head.status.as_u16(),
        after.and_then(|text| retry_after_ms(text, now_ms)),
    ))
}

/// Seconds, or a date.
fn retry_after_ms(text: &str, now_ms: i64) -> Option<i64> {
    let text = text.trim();
    match text.parse::<u32>() {
        Ok(seconds) => Some(i64::from(seconds) * 1_000),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?;
            Some(at.timestamp().as_millisecond().saturating_sub(now_ms).max(0))
        }
    }
}

/// The beginning of an answer's text; a delivery does not depend on it.
async fn text_of(session: &mut HttpSession) -> String {
    let mut text = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = session.read_response_body().await {
            text.extend_from_slice(&chunk);
            if text.len() > ANSWER_BYTES_MAX {
                return;
            }
        }
    };
    let _ = timeout(ANSWER, reading).await;
    let text = String::from_utf8_lossy(&text);
    let one_line = text
        .trim()
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter });
    one_line.take(ANSWER_CHARS_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after_ms("120", 0), Some(120_000));
        assert_eq!(
            retry_after_ms("Sun, 01 Mar 2026 12:00:10 GMT", 1_772_366_400_000),
            Some(10_000)
        );
        assert_eq!(
            retry_after_ms("Sun, 01 Mar 2026 11:00:00 GMT", 1_772_366_400_000),
            Some(0)
        );
        assert_eq!(retry_after_ms("soon", 0), None);
        assert_eq!(retry_after_ms("-1", 0), None);
    }
}
