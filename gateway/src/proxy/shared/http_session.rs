//! A request's two ends, whatever their protocol: HTTP/1.1 in its own sessions (`agentledger_http1`), h2 in pingora's.

use std::sync::Arc;
use std::time::Duration;

use agentledger_http1::{
    ClientSession, Departure, HeadFault, RequestLines, ResponseHead, ServerSession as Http1Session,
};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, UPGRADE};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::protocols::http::v2::client::Http2Session as Http2Client;
use pingora::protocols::http::v2::server::HttpSession as Http2Server;

/// Why a session cannot go on. pingora's errors quote what was sent, keys and all: only their kind is kept.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Http1(#[from] agentledger_http1::Error),
    #[error("{0}")]
    Http2(String),
}

// The box is as it comes: this is what `map_err` calls.
#[allow(clippy::boxed_local)]
fn http2(error: pingora::BError) -> SessionError {
    SessionError::Http2(error.etype().as_str().to_owned())
}

type Result<T> = std::result::Result<T, SessionError>;

/// The client's request and the answer to it.
pub enum ServerSession {
    Http1(Box<Http1Session>),
    Http2(Box<Http2Server>),
}

impl ServerSession {
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    pub fn req_header(&self) -> &RequestHeader {
        match self {
            Self::Http1(session) => session.header(),
            Self::Http2(session) => session.req_header(),
        }
    }

    /// The head as it stands now, for whoever keeps it; `None`: h2 has its own.
    pub fn shared_header(&self) -> Option<Arc<RequestHeader>> {
        match self {
            Self::Http1(session) => Some(session.shared_header()),
            Self::Http2(_) => None,
        }
    }

    /// Puts in the place of its head what was made of an equal one.
    pub fn set_header(&mut self, header: Arc<RequestHeader>) {
        if let Self::Http1(session) = self {
            session.set_header(header);
        }
    }

    /// The length that its body is said to have; `None`: its end tells.
    pub fn body_length(&self) -> Option<u64> {
        match self {
            Self::Http1(session) => session.body_length(),
            Self::Http2(session) => {
                let length = session.req_header().headers.get(CONTENT_LENGTH)?;
                length.to_str().ok()?.trim().parse().ok()
            }
        }
    }

    pub fn req_header_mut(&mut self) -> &mut RequestHeader {
        match self {
            Self::Http1(session) => session.header_mut(),
            Self::Http2(session) => session.req_header_mut(),
        }
    }

    /// Why the request is to be refused whatever it asks for.
    pub fn fault(&self) -> Option<HeadFault> {
        match self {
            Self::Http1(session) => session.fault(),
            Self::Http2(_) => None,
        }
    }

    /// It was said to have no body.
    pub fn is_body_empty(&self) -> bool {
        match self {
            Self::Http1(session) => session.is_body_empty(),
            Self::Http2(session) => session.is_body_empty(),
        }
    }

    /// All of its body was read.
    pub fn is_body_done(&self) -> bool {
        match self {
            Self::Http1(session) => session.is_body_done(),
            Self::Http2(session) => session.is_body_done(),
        }
    }

    /// The next bytes of its body; `None` at its end.
    pub async fn read_request_body(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Http1(session) => Ok(session.read_body().await?),
            Self::Http2(session) => session.read_body_bytes().await.map_err(http2),
        }
    }

    /// Lets the client go on with its body. In h2 it need not be told.
    pub async fn write_continue_response(&mut self) -> Result<()> {
        match self {
            Self::Http1(session) => Ok(session.write_continue().await?),
            Self::Http2(_) => Ok(()),
        }
    }

    pub async fn write_response_header(&mut self, header: &ResponseHead) -> Result<()> {
        match self {
            Self::Http1(session) => Ok(session.write_head(header).await?),
            Self::Http2(session) => {
                let header =
                    ResponseHeader::try_from(header).map_err(|error| SessionError::Http2(error.to_string()))?;
                session.write_response_header(Box::new(header), false).map_err(http2)
            }
        }
    }

    /// `end`: the body ends with it.
    pub async fn write_response_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        if data.is_empty() && !end {
            return Ok(());
        }
        match self {
            Self::Http1(session) => Ok(session.write_body(data, end).await?),
            Self::Http2(session) => session.write_body(data, end).await.map_err(http2),
        }
    }

    /// The connection serves no further request. One of h2 is ended by other means.
    pub fn close_after_answer(&mut self) {
        if let Self::Http1(session) = self {
            session.close_after();
        }
    }

    pub fn set_write_timeout(&mut self, within: Option<Duration>) {
        match self {
            Self::Http1(session) => session.set_write_timeout(within),
            Self::Http2(session) => session.set_write_timeout(within),
        }
    }

    /// Ends when the client leaves; to be waited for once its body is read.
    pub async fn departure(&mut self) -> Departure {
        match self {
            Self::Http1(session) => session.departure().await,
            Self::Http2(session) => {
                // Whatever ends the stream, nobody reads its answer.
                let _ = session.idle().await;
                Departure::Reset
            }
        }
    }

    /// Ends the answer where it is, so that the client sees that it is not whole.
    pub async fn shutdown(&mut self) {
        match self {
            Self::Http1(session) => session.shutdown().await,
            Self::Http2(session) => session.shutdown(),
        }
    }

    pub fn is_over_tls(&self) -> bool {
        match self {
            Self::Http1(session) => session.stream().get_ssl_digest().is_some(),
            Self::Http2(session) => session.digest().is_some_and(|digest| digest.ssl_digest.is_some()),
        }
    }

    /// The client's address, as text.
    pub fn client_addr(&self) -> Option<String> {
        match self {
            Self::Http1(session) => {
                let digest = session.stream().get_socket_digest()?;
                digest.peer_addr().map(ToString::to_string)
            }
            Self::Http2(session) => session.client_addr().map(ToString::to_string),
        }
    }

    /// The connection, for another protocol, and what was read of it already. `None`: h2 shares it.
    pub fn into_http1(self) -> Option<(Stream, Bytes)> {
        match self {
            Self::Http1(session) => Some(session.into_parts()),
            Self::Http2(_) => None,
        }
    }
}

/// The head as it goes upstream, but for the length of its body.
#[derive(Clone)]
pub struct PassedHead {
    header: Arc<RequestHeader>,
    lines: RequestLines,
}

impl PassedHead {
    /// Of a head that says no length.
    pub fn of(header: RequestHeader) -> PassedHead {
        PassedHead {
            lines: RequestLines::of(&header),
            header: Arc::new(header),
        }
    }
}

/// The head of a request to an upstream.
pub enum OutgoingHead {
    Own(Box<RequestHeader>),
    /// As it went before, with the length of its body now.
    Again(PassedHead, u64),
}

impl OutgoingHead {
    /// For HTTP/1.1.
    pub fn lines(&self) -> RequestLines {
        match self {
            Self::Own(header) => RequestLines::of(header),
            Self::Again(passed, length) => passed.lines.with_length(*length),
        }
    }

    /// For h2.
    pub fn header(&self) -> RequestHeader {
        match self {
            Self::Own(header) => RequestHeader::clone(header),
            Self::Again(passed, length) => {
                let mut header = RequestHeader::clone(&passed.header);
                // A number is a header's value.
                let _ = header.insert_header(CONTENT_LENGTH, *length);
                header
            }
        }
    }

    /// The client requests another protocol.
    pub fn is_upgrade(&self) -> bool {
        let header = match self {
            Self::Own(header) => header,
            Self::Again(passed, _) => &*passed.header,
        };
        header.headers.contains_key(UPGRADE)
    }
}

/// A request to an upstream and the answer to it.
pub enum UpstreamSession {
    Http1(Box<ClientSession>),
    Http2(Box<Http2Client>),
}

impl UpstreamSession {
    /// Begins the request. In HTTP/1.1 the head leaves with the body, or with its end.
    pub fn write_request_header(&mut self, head: &OutgoingHead) -> Result<()> {
        match self {
            Self::Http1(session) => {
                session.write_head(&head.lines());
                Ok(())
            }
            Self::Http2(session) => session
                .write_request_header(Box::new(head.header()), false)
                .map_err(http2),
        }
    }

    pub async fn write_request_body(&mut self, data: Bytes) -> Result<()> {
        match self {
            Self::Http1(session) => Ok(session.write_body(data).await?),
            Self::Http2(session) => session.write_request_body(data, false).await.map_err(http2),
        }
    }

    pub async fn finish_request_body(&mut self) -> Result<()> {
        match self {
            Self::Http1(session) => Ok(session.finish().await?),
            Self::Http2(session) => session.finish_request_body().map_err(http2),
        }
    }

    pub fn set_write_timeout(&mut self, within: Option<Duration>) {
        match self {
            Self::Http1(session) => session.set_write_timeout(within),
            Self::Http2(session) => session.write_timeout = within,
        }
    }

    /// Reads the head of the answer, once; interim ones are passed over.
    pub async fn read_response_header(&mut self) -> Result<ResponseHead> {
        match self {
            Self::Http1(session) => Ok(session.read_head().await?),
            Self::Http2(session) => {
                session.read_response_header().await.map_err(http2)?;
                let header = session.response_header();
                let header = header.ok_or_else(|| SessionError::Http2("no head".to_owned()))?;
                Ok(ResponseHead::from((header.status, &header.headers)))
            }
        }
    }

    /// The next bytes of the answer's body; `None` at its end.
    pub async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Http1(session) => Ok(session.read_body().await?),
            Self::Http2(session) => session.read_response_body().await.map_err(http2),
        }
    }

    /// The answer was read to its end.
    pub fn response_done(&self) -> bool {
        match self {
            Self::Http1(session) => session.is_answered(),
            Self::Http2(session) => session.response_finished(),
        }
    }

    /// Cancels what is under way.
    pub async fn shutdown(&mut self) {
        match self {
            Self::Http1(session) => session.shutdown().await,
            Self::Http2(session) => session.shutdown(),
        }
    }

    /// The connection, for another protocol, and what was read of it already. `None`: h2 shares it.
    pub fn into_http1(self) -> Option<(Stream, Bytes)> {
        match self {
            Self::Http1(session) => Some(session.into_parts()),
            Self::Http2(_) => None,
        }
    }
}
