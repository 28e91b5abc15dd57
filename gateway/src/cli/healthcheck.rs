//! `agentledger healthcheck`: for container images, which have no curl.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longer than this a healthy gateway never takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// The status line and some headers are in it.
const ANSWER_BYTES_MAX: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum Unwell {
    #[error("{addr}: no such address")]
    NoAddress { addr: String },
    #[error("{addr}: {error}")]
    Unreachable { addr: String, error: std::io::Error },
    #[error("{addr}: answered {status:?}")]
    Status { addr: String, status: String },
}

/// Asks `GET /health` at `host:port`, where an empty host is this machine.
pub fn run(addr: &str) -> Result<(), Unwell> {
    let addr = if addr.starts_with(':') {
        format!("localhost{addr}")
    } else {
        addr.to_owned()
    };
    let unreachable = |error| Unwell::Unreachable {
        addr: addr.clone(),
        error,
    };
    let mut stream = connect(&addr)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(unreachable)?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .map_err(unreachable)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or("");
    match status.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(Unwell::Status {
            addr: addr.clone(),
            status: status.to_owned(),
        }),
    }
}

/// `localhost` may be an address that nobody listens on, and another one: each is tried.
fn connect(addr: &str) -> Result<TcpStream, Unwell> {
    let unreachable = |error| Unwell::Unreachable {
        addr: addr.to_owned(),
        error,
    };
    let mut failure = Unwell::NoAddress { addr: addr.to_owned() };
    for candidate in addr.to_socket_addrs().map_err(unreachable)? {
        match TcpStream::connect_timeout(&candidate, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = unreachable(error),
        }
    }
    Err(failure)
}
