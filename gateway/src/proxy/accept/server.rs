//! The data plane's server: its listener, and the way down.
//!
//! pingora's `Service` accepts, terminates TLS and drives the connections; its `Server` is not used, for on shutdown it
//! sleeps its whole grace time even when nothing runs, and then drops what does. Here a shutdown waits for exactly
//! what is in flight, then cuts and settles what is left.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::Fds;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::Tls;
use crate::files;
use crate::mcp::Mcp;
use crate::proxy::accept::connection::Accept;
use crate::proxy::accept::workers::Workers;
use crate::proxy::shared::drain::DrainPhase;
use crate::proxy::shared::gateway::Gateway;

/// Bytes: what TLS makes of an ordinary answer leaves in one send.
const TLS_WRITE_BUFFER: usize = 8 << 10;
/// Time for cut streams to write their ending and settle.
const CUT_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("listen: {address}: {reason}")]
    Listen { address: String, reason: String },
    #[error("tls: {0}")]
    Tls(String),
    #[error("cannot start worker threads: {0}")]
    Runtime(std::io::Error),
}

/// The data plane while it runs.
pub struct RunningServer {
    gateway: Arc<Gateway>,
    workers: Workers,
    stop_accepting: watch::Sender<bool>,
    address: SocketAddr,
}

/// Binds and starts. `listen` is `host:port`; an empty host is every address, port 0 any free one.
///
/// # Errors
/// The address cannot be bound, the certificate cannot be used, or threads cannot be started.
pub fn start(
    (gateway, mcp): (Arc<Gateway>, Arc<Mcp>),
    listen: &str,
    tls: Option<&Tls>,
    threads: usize,
) -> Result<RunningServer, ServeError> {
    let (listener, address) = bind(listen)?;
    if let Some(files) = tls {
        check_certificate(files)?;
    }
    let (stop_accepting, shutdown) = watch::channel(false);
    let listeners: Result<Vec<TcpListener>, _> = (0..threads.max(1)).map(|_| listener.try_clone()).collect();
    let name = address.to_string();
    let serving = listeners.map_err(ServeError::Runtime)?.into_iter().map(|listener| {
        let accept = Accept {
            gateway: Arc::clone(&gateway),
            mcp: Arc::clone(&mcp),
        };
        let mut service = Service::new("agentledger".to_owned(), accept);
        service.add_listener(endpoint(&name, tls)?);
        let mut fds = Fds::new();
        fds.add(name.clone(), listener.into_raw_fd());
        let (fds, shutdown) = (Arc::new(Mutex::new(fds)), shutdown.clone());
        Ok(async move { service.start_service(Some(fds), shutdown, 1).await })
    });
    let workers = Workers::start(serving.collect::<Result<Vec<_>, ServeError>>()?).map_err(ServeError::Runtime)?;
    Ok(RunningServer {
        gateway,
        workers,
        stop_accepting,
        address,
    })
}

fn endpoint(name: &str, tls: Option<&Tls>) -> Result<ListenerConfig, ServeError> {
    // Heads and bodies are read into buffers of their own, and leave together: one more in front would only cost memory.
    let write_buffer = if tls.is_some() { TLS_WRITE_BUFFER } else { 0 };
    let endpoint = ListenerConfig::tcp(name).l4_buffer(L4BufferSettings::new(0, write_buffer));
    let Some(files) = tls else { return Ok(endpoint) };
    let (cert, key) = (files.cert_file.to_string_lossy(), files.key_file.to_string_lossy());
    let mut settings = TlsSettings::intermediate(&cert, &key).map_err(|error| ServeError::Tls(error.to_string()))?;
    settings.enable_h2();
    Ok(endpoint.tls(settings))
}

/// pingora reads the files inside a task and panics there: what is wrong with them is reported before, so that a gateway that
/// cannot serve does not start.
fn check_certificate(files: &Tls) -> Result<(), ServeError> {
    let (cert, key) = (files.cert_file.to_string_lossy(), files.key_file.to_string_lossy());
    let unusable = |reason: String| ServeError::Tls(format!("{cert} with {key}: {reason}"));
    for file in [&files.cert_file, &files.key_file] {
        files::open(file, files::TEXT_BYTES_MAX)
            .map_err(|error| ServeError::Tls(format!("{}: {error}", file.display())))?;
    }
    pingora::tls::install_default_crypto_provider();
    let (certs, private) = pingora::tls::load_certs_and_key_files(&cert, &key)
        .map_err(|_| unusable("not in PEM form".to_owned()))?
        .ok_or_else(|| unusable("no certificate or no private key in them".to_owned()))?;
    pingora::tls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certs, private)
        .map_err(|error| unusable(error.to_string()))?;
    Ok(())
}

/// Binds here, so that a port in use is an error with a name and not a panic inside a task.
fn bind(listen: &str) -> Result<(TcpListener, SocketAddr), ServeError> {
    let fail = |reason: String| ServeError::Listen {
        address: listen.to_owned(),
        reason,
    };
    let full = if listen.starts_with(':') {
        format!("[::]{listen}")
    } else {
        listen.to_owned()
    };
    let addresses = full.to_socket_addrs().map_err(|error| fail(error.to_string()))?;
    let mut last = "no such address".to_owned();
    for address in addresses {
        let bound = TcpListener::bind(address).or_else(|error| {
            // A machine without IPv6 still has every IPv4 address.
            let v4 = SocketAddr::from(([0, 0, 0, 0], address.port()));
            if listen.starts_with(':') {
                TcpListener::bind(v4)
            } else {
                Err(error)
            }
        });
        match bound.and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        }) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error.to_string(),
        }
    }
    Err(fail(last))
}

impl RunningServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Goes down: no new connections; waits for running answers up to the configured time or until `hurry` ends; then
    /// cuts them, each at a frame's end, and settles. Everything is in the books when this returns.
    pub fn stop(self, hurry: impl Future<Output = ()> + Send) {
        let drain = Arc::clone(&self.gateway.drain);
        let patience = Duration::from_millis(self.gateway.rules.load().config.limits.drain_ms);
        drain.advance(DrainPhase::Draining);
        let _ = self.stop_accepting.send(true);
        self.workers.block_on(async {
            tokio::select! {
                ended = timeout(patience, drain.idle()) => {
                    if ended.is_err() {
                        tracing::warn!(in_flight = drain.in_flight(), "still running after the drain time: cutting");
                    }
                }
                () = hurry => tracing::warn!(in_flight = drain.in_flight(), "asked to hurry: cutting"),
            }
            drain.advance(DrainPhase::Cutting);
            if timeout(CUT_PATIENCE, drain.idle()).await.is_err() {
                tracing::error!(
                    in_flight = drain.in_flight(),
                    "some answers would not end; their holds are settled"
                );
            }
        });
        // Dropped tasks settle their holds in `Drop`.
        drop(self.workers);
    }
}
