//! What a relay on pingora's transport takes with each codec of HTTP/1.1, and nothing else: the floor of the gateway.
//!
//! `relay CODEC LISTEN UPSTREAM [THREADS]`, with CODEC one of `own` (agentledger-http1, as the gateway has it), `hyper` and `pingora`;
//! ends by itself after half an hour. pingora accepts, and connects to the upstream, for all three; a request's body is read
//! whole before it goes on, as the gateway must. `benches/load/run relay` measures them beside nginx.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use agentledger_http1::{ClientSession, IdlePool, RequestLines, ServerSession};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::connectors::TransportConnector;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession as PingoraSession;
use pingora::server::{Fds, ShutdownWatch};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::watch;

type Failure = Box<dyn Error + Send + Sync>;

const LONGEST: Duration = Duration::from_secs(1_800);
const HEAD_BYTES_MAX: usize = 64 << 10;
const IDLE: Duration = Duration::from_secs(90);
const IDLE_MAX: usize = 2_048;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: relay CODEC LISTEN UPSTREAM [THREADS]");
    let (codec, listen, upstream) = (next()?, next()?, next()?.parse()?);
    let threads = arguments.next().map_or(Ok(2), |threads| threads.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    let _inside = runtime.enter();
    let to = To::new(upstream);
    match codec.as_str() {
        "own" => serve(
            &runtime,
            &listen,
            0,
            Own {
                to,
                idle: IdlePool::new(IDLE_MAX, IDLE),
            },
        ),
        "hyper" => serve(
            &runtime,
            &listen,
            0,
            Hyper {
                to: Arc::new(to),
                idle: Arc::default(),
            },
        ),
        // Without room for writes it would send a head and a body by themselves.
        "pingora" => serve(
            &runtime,
            &listen,
            8 << 10,
            Pingora {
                peer: to.peer,
                connector: Connector::new(None),
            },
        ),
        _ => Err("CODEC is own, hyper or pingora".into()),
    }
}

fn serve<A: ServerApp + Send + Sync + 'static>(
    runtime: &tokio::runtime::Runtime,
    listen: &str,
    write_buffer: usize,
    app: A,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let mut service = Service::new("relay".to_owned(), app);
    service.add_listener(ListenerConfig::tcp(listen).l4_buffer(L4BufferSettings::new(0, write_buffer)));
    let mut fds = Fds::new();
    fds.add(listen.to_owned(), listener.into_raw_fd());
    let (_stays, shutdown) = watch::channel(false);
    runtime.block_on(async {
        let served = service.start_service(Some(Arc::new(Mutex::new(fds))), shutdown, 1);
        let _ = tokio::time::timeout(LONGEST, served).await;
        Ok(())
    })
}

/// The upstream.
struct To {
    address: SocketAddr,
    peer: HttpPeer,
    connector: TransportConnector,
}

impl To {
    fn new(address: SocketAddr) -> To {
        To {
            address,
            peer: HttpPeer::new(address, false, String::new()),
            connector: TransportConnector::new(None),
        }
    }
}

struct Own {
    to: To,
    idle: Arc<IdlePool<SocketAddr>>,
}

#[async_trait]
impl ServerApp for Own {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        let mut session = ServerSession::new(stream);
        while session.wait_for_request().await && session.read_request(HEAD_BYTES_MAX).await.ok()? {
            self.relay(&mut session).await.ok()?;
            if !session.is_reusable() {
                break;
            }
        }
        None
    }
}

impl Own {
    async fn relay(&self, session: &mut ServerSession) -> Result<(), Failure> {
        let mut body = BytesMut::new();
        while let Some(content) = session.read_body().await? {
            body.extend_from_slice(&content);
        }
        let mut header = session.header().clone();
        header.remove_header("connection");
        header.remove_header("transfer-encoding");
        header.insert_header("content-length", body.len().to_string())?;
        let stream = match self.idle.take(&self.to.address) {
            Some(stream) => stream,
            None => self.to.connector.new_stream(&self.to.peer).await?,
        };
        let mut upstream = ClientSession::new(stream);
        upstream.write_head(&RequestLines::of(&header));
        upstream.write_body(body.freeze()).await?;
        upstream.finish().await?;
        let head = upstream.read_head().await?;
        session.write_head(&head).await?;
        let mut ended = false;
        while let Some(content) = upstream.read_body().await? {
            ended = upstream.is_answered();
            session.write_body(content, ended).await?;
        }
        if !ended {
            session.write_body(Bytes::new(), true).await?;
        }
        if let Some(stream) = upstream.into_reusable() {
            self.idle.put(self.to.address, stream);
        }
        Ok(())
    }
}

type Sender = SendRequest<Full<Bytes>>;

struct Hyper {
    to: Arc<To>,
    idle: Arc<Mutex<Vec<Sender>>>,
}

#[async_trait]
impl ServerApp for Hyper {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        let relay = |request| {
            let (to, idle) = (Arc::clone(&self.to), Arc::clone(&self.idle));
            async move {
                let relayed = hyper_relay(&to, &idle, request).await;
                relayed.map_err(|error| std::io::Error::other(error.to_string()))
            }
        };
        let service = hyper::service::service_fn(relay);
        let server = hyper::server::conn::http1::Builder::new();
        server.serve_connection(TokioIo::new(stream), service).await.ok()?;
        None
    }
}

async fn hyper_relay(
    to: &To,
    idle: &Arc<Mutex<Vec<Sender>>>,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, Failure> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    parts.headers.remove("connection");
    parts.headers.remove("transfer-encoding");
    parts.headers.insert("content-length", body.len().into());
    let mut sender = match ready(idle) {
        Some(sender) => sender,
        None => {
            let stream = to.connector.new_stream(&to.peer).await?;
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            sender
        }
    };
    sender.ready().await?;
    let mut answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
    // It is not ready before this answer has been read: only who takes it must look.
    idle.lock().push(sender);
    answer.headers_mut().remove("connection");
    Ok(answer)
}

/// An idle connection on which no answer is under way.
fn ready(idle: &Mutex<Vec<Sender>>) -> Option<Sender> {
    let mut idle = idle.lock();
    idle.retain(|sender| !sender.is_closed());
    let at = idle.iter().rposition(SendRequest::is_ready)?;
    Some(idle.remove(at))
}

struct Pingora {
    peer: HttpPeer,
    connector: Connector,
}

#[async_trait]
impl HttpServerApp for Pingora {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: PingoraSession,
        _: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !session.read_request().await.ok()? {
            return None;
        }
        self.relay(&mut session).await.ok()?;
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

impl Pingora {
    async fn relay(&self, session: &mut PingoraSession) -> Result<(), Failure> {
        let mut body = BytesMut::new();
        while let Some(content) = session.read_request_body().await? {
            body.extend_from_slice(&content);
        }
        let mut header: Box<RequestHeader> = Box::new(session.req_header().clone());
        header.remove_header("connection");
        header.remove_header("transfer-encoding");
        header.insert_header("content-length", body.len().to_string())?;
        let (mut upstream, _) = self.connector.get_http_session(&self.peer).await?;
        upstream.write_request_header(header).await?;
        upstream.write_request_body(body.freeze(), true).await?;
        upstream.finish_request_body().await?;
        upstream.read_response_header().await?;
        let head = upstream.response_header().ok_or("no head")?.clone();
        session.write_response_header(Box::new(head)).await?;
        while let Some(content) = upstream.read_response_body().await? {
            session.write_response_body(content, false).await?;
        }
        session.write_response_body(Bytes::new(), true).await?;
        self.connector
            .release_http_session(upstream, &self.peer, Some(IDLE))
            .await;
        Ok(())
    }
}
