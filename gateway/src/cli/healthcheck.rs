//! `agentledger healthcheck`: for containers, which have no curl.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// Asks `GET /health`; `ok` for an answer of 200.
pub fn run(address: &str) -> Result<String, Error> {
    let address = if address.starts_with(':') { format!("localhost{address}") } else { address.to_owned() };
    let mut last = Error::new(ErrorKind::NotFound, format!("{address}: no such address"));
    for one in address.to_socket_addrs()? {
        match ask(one) {
            Ok(status) if status.split(' ').nth(1) == Some("200") => return Ok("ok\n".to_owned()),
            Ok(status) => last = Error::other(format!("unhealthy: {status}")),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The status line of the answer.
fn ask(address: std::net::SocketAddr) -> Result<String, Error> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
