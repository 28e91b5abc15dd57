//! The HTTP client of the exporters: pingora's connections, as everywhere, with its TLS and the system's roots.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;

/// Longest answer of a collector that is read: it says what it did not take.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const KEPT_IDLE: Duration = Duration::from_secs(90);

pub(super) struct Client {
    connector: Connector,
    timeout: Duration,
}

impl Client {
    pub fn new(timeout: Duration) -> Client {
        Client {
            connector: Connector::new(None),
            timeout,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        tokio::time::timeout(self.timeout, self.send(request)).await?
    }
}

impl Client {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let peer = self.peer(&request).await?;
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut head = RequestHeader::build(parts.method.as_str(), path.as_bytes(), None)?;
        for (name, value) in &parts.headers {
            head.append_header(name.clone(), value.clone())?;
        }
        let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
        head.insert_header("Host", authority.unwrap_or_default())?;
        head.insert_header("Content-Length", body.len().to_string())?;
        session.write_request_header(Box::new(head)).await?;
        if let HttpSession::H1(session) = &mut session {
            session.write_body(&body).await?;
        }
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let head = session.response_header().ok_or("no head")?.clone();
        let mut answer = BytesMut::new();
        while let Some(chunk) = session.read_response_body().await? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err("the answer is too long".into());
            }
            answer.extend_from_slice(&chunk);
        }
        let mut response = Response::builder().status(head.status);
        if let Some(wait) = head.headers.get("retry-after") {
            response = response.header("retry-after", wait);
        }
        self.connector
            .release_http_session(session, &peer, Some(KEPT_IDLE))
            .await;
        Ok(response.body(answer.freeze())?)
    }

    /// Resolved anew each time: a collector moves.
    async fn peer(&self, request: &Request<Bytes>) -> Result<HttpPeer, HttpError> {
        let uri = request.uri();
        let host = uri.host().ok_or("no host")?.trim_matches(['[', ']']);
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let address = tokio::net::lookup_host((host, port)).await?.next();
        let address = address.ok_or_else(|| format!("{host} cannot be resolved"))?;
        let mut peer = HttpPeer::new(address, tls, host.to_owned());
        peer.options.connection_timeout = Some(self.timeout);
        peer.options.total_connection_timeout = Some(self.timeout);
        peer.options.read_timeout = Some(self.timeout);
        peer.options.write_timeout = Some(self.timeout);
        Ok(peer)
    }
}
