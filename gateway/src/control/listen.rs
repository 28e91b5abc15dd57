//! The control plane's listeners, its runtime, and its end.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use crate::control::access::Origin;
use crate::control::error::ControlError;
use crate::control::rest;
use crate::control::state::ControlState;
use crate::control::transport;
use crate::control::wire::BEGUN_MAX;
use crate::tasks::{background, spawn_named, spawn_named_on};

/// Longest path that fits into `sockaddr_un` on Linux, its final zero left out.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Connections at one time on the TCP listener,
const TCP_CONNECTIONS_MAX: usize = 256;
/// and on the socket, which only its owner reaches: each of his wrappers keeps some.
const UNIX_CONNECTIONS_MAX: usize = 1_024;
// A tool call that waits takes a connection. However many do, there is room for those by which others end.
const _: () = assert!(BEGUN_MAX < TCP_CONNECTIONS_MAX && BEGUN_MAX < UNIX_CONNECTIONS_MAX);
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long running answers may go on after a stop.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Wait after a failed accept (out of file descriptors, mostly).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Threads on which methods read the ledger.
const BLOCKING_THREADS_MAX: usize = 4;

/// Stops the control plane when stopped or dropped.
pub struct ControlHandle {
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    path: PathBuf,
    file: SocketFile,
    /// Where the TCP listener listens. Tests ask for any free port.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) tcp: Option<std::net::SocketAddr>,
}

/// Which file is our socket (a successor's is not ours to remove), and whose.
#[derive(Clone, Copy, PartialEq, Eq)]
struct SocketFile {
    device: u64,
    inode: u64,
    uid: u32,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        let meta = std::fs::symlink_metadata(path)?;
        Ok(SocketFile {
            device: meta.dev(),
            inode: meta.ino(),
            uid: meta.uid(),
        })
    }
}

impl ControlHandle {
    /// Takes no more connections, lets running answers end for a few seconds, removes the socket file.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if SocketFile::at(&self.path).is_ok_and(|file| file == self.file) {
            // Gone already is as good.
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = self.stop.send(true);
        let stop = self.stop.clone();
        // On a thread of its own: whoever stops us may be inside another runtime, where waiting for one panics.
        let waiter = std::thread::Builder::new().name("control-stop".into()).spawn(move || {
            // Connections hold a receiver each: when all are gone, all answers are out.
            let _ = runtime.block_on(async { tokio::time::timeout(STOP_WAIT, stop.closed()).await });
            runtime.shutdown_timeout(STOP_WAIT);
        });
        let _ = waiter.map(std::thread::JoinHandle::join);
    }
}

impl Drop for ControlHandle {
    fn drop(&mut self) {
        self.end();
    }
}

pub(super) fn start(
    state: Arc<ControlState>,
    socket: &Path,
    listen: Option<&str>,
) -> Result<ControlHandle, ControlError> {
    let runtime = background("control")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(ControlError::Runtime)?;
    let (stop, stopped) = watch::channel(false);
    let entered = runtime.enter();
    let plane = transport::Plane::new(state, stopped.clone())?;
    let unix_router = plane.router(Origin::UnixSocket, rest::routes());
    // The TCP listener first: where it fails, no socket file is left behind.
    let mut tcp = None;
    if let Some(address) = listen {
        let failed = |error| ControlError::Listen {
            address: address.to_owned(),
            error,
        };
        let listener = bind_tcp(address).map_err(failed)?;
        tcp = listener.local_addr().ok();
        spawn_named_on(&runtime, "control-tcp", accept_tcp(listener, plane, stopped.clone()));
    }
    let (unix, file) = bind_unix(socket)?;
    spawn_named_on(
        &runtime,
        "control-unix",
        accept_unix(unix, file.uid, unix_router, stopped),
    );
    drop(entered);
    Ok(ControlHandle {
        runtime: Some(runtime),
        stop,
        path: socket.to_owned(),
        file,
        tcp,
    })
}

async fn accept_unix(listener: UnixListener, uid: u32, router: Router, mut stopped: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(UNIX_CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(peer) if peer.uid() == uid || peer.uid() == 0 => serve(stream, &router, &room, &stopped).await,
                Ok(peer) => tracing::warn!(uid = peer.uid(), "control socket: connection of another user refused"),
                Err(error) => tracing::warn!(%error, "control socket: cannot tell who connects"),
            },
            Err(error) => {
                tracing::warn!(%error, "control socket: accept failed");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn accept_tcp(listener: TcpListener, plane: transport::Plane, mut stopped: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let router = plane.router(Origin::Tcp(peer.to_string()), rest::routes());
                serve(stream, &router, &room, &stopped).await;
            }
            Err(error) => {
                tracing::warn!(%error, "control.listen: accept failed");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Serves one connection in a task, once there is room for it.
async fn serve<S>(stream: S, router: &Router, room: &Arc<Semaphore>, stopped: &watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stopped = stopped.clone();
    // The wait ends with the end of the program too.
    let permit = tokio::select! {
        permit = room.clone().acquire_owned() => permit,
        _ = stopped.changed() => return,
    };
    let service = TowerToHyperService::new(router.clone());
    spawn_named("control-connection", async move {
        let _permit = permit;
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        // Errors of a connection are its client's: nobody here needs to know.
        tokio::select! {
            _ = connection.as_mut() => {}
            _ = stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    });
}

/// An empty host is every address, as in `listen`.
fn bind_tcp(address: &str) -> io::Result<TcpListener> {
    let listener = match address.strip_prefix(':') {
        Some(port) => std::net::TcpListener::bind(format!("[::]:{port}"))
            .or_else(|_| std::net::TcpListener::bind(format!("0.0.0.0:{port}")))?,
        None => std::net::TcpListener::bind(address)?,
    };
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Binds the socket for its owner alone. A socket file that nobody answers on is left over from a killed gateway, and is
/// replaced; anything else is left alone.
fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), ControlError> {
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(ControlError::SocketPathTooLong {
            path: path.to_owned(),
            bytes,
            max: SOCKET_PATH_BYTES_MAX,
        });
    }
    let failed = |error| ControlError::Socket {
        path: path.to_owned(),
        error,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => return Err(ControlError::NotASocket(path.to_owned())),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(ControlError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Between the two calls others may connect where the umask is open; the accept loop looks at who they are.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok((listener, SocketFile::at(path).map_err(failed)?))
}
