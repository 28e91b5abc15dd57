//! Fetches a price list: HTTPS to the address that the operator named, and nowhere else. No redirect is followed, no proxy is
//! asked, no credential is sent; size and time are bounded. Plain HTTP is for this machine alone.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::timeout;

/// Longest list that is read: the longest there is has three million bytes.
pub const BYTES_MAX: usize = 32 << 20;
const WHOLE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("it is no address: https://HOST/PATH, or http:// on this machine")]
    Address,
    #[error("{0} cannot be resolved")]
    Resolve(String),
    #[error("no connection: {0}")]
    Connect(String),
    #[error("it broke off: {0}")]
    Broken(String),
    #[error("it answers {0}")]
    Status(u16),
    #[error("it leads elsewhere, to {0}: name that address if you trust it")]
    Redirect(String),
    #[error("it is encoded ({0}), which was not requested")]
    Encoded(String),
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
    #[error("it is no UTF-8 text")]
    NotText,
    #[error("it took longer than {} s", WHOLE.as_secs())]
    Slow,
}

/// Whether a source is an address and no file.
pub fn is_address(source: &str) -> bool {
    source.starts_with("https://") || source.starts_with("http://")
}

/// Whether an address is one that may be fetched: TLS, or this machine.
pub fn may_be_fetched(address: &str) -> bool {
    target(address).is_ok()
}

/// The text at an address.
///
/// # Errors
/// It is no address that may be fetched, or it cannot be had whole within the bounds.
pub async fn fetch(address: &str) -> Result<String, FetchError> {
    timeout(WHOLE, fetch_unbounded(address))
        .await
        .map_err(|_| FetchError::Slow)?
}

struct Target {
    host: String,
    port: u16,
    tls: bool,
    path: String,
    authority: String,
}

fn target(address: &str) -> Result<Target, FetchError> {
    let uri: Uri = address.parse().map_err(|_| FetchError::Address)?;
    let authority = uri.authority().ok_or(FetchError::Address)?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") if is_loopback(authority.host()) => false,
        _ => return Err(FetchError::Address),
    };
    // Credentials in an address end in logs.
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(FetchError::Address);
    }
    Ok(Target {
        host: authority.host().to_owned(),
        port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        tls,
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        authority: authority.as_str().to_owned(),
    })
}

fn is_loopback(host: &str) -> bool {
    let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    ip.map_or(host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
}

async fn resolve(target: &Target) -> Result<SocketAddr, FetchError> {
    let bare = target.host.trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((bare, target.port)).await;
    let unresolved = || FetchError::Resolve(target.host.clone());
    let mut addresses = found.map_err(|_| unresolved())?;
    // `localhost` may be told to lead elsewhere; what is not TLS stays on this machine.
    addresses
        .find(|address| target.tls || address.ip().is_loopback())
        .ok_or_else(unresolved)
}

async fn fetch_unbounded(address: &str) -> Result<String, FetchError> {
    let target = target(address)?;
    let mut peer = HttpPeer::new(resolve(&target).await?, target.tls, target.host.clone());
    peer.options.connection_timeout = Some(CONNECT);
    peer.options.total_connection_timeout = Some(CONNECT);
    let connector = Connector::new(None);
    let connected = connector.get_http_session(&peer).await;
    let (mut session, _) = connected.map_err(|error| FetchError::Connect(error.etype().as_str().to_owned()))?;
    let broken = |error: pingora::BError| FetchError::Broken(error.etype().as_str().to_owned());
    let mut request = RequestHeader::build("GET", target.path.as_bytes(), None).map_err(broken)?;
    for (name, value) in [
        ("Host", target.authority.as_str()),
        ("User-Agent", "agentledger"),
        ("Accept", "application/json, text/plain, */*"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ] {
        request.insert_header(name, value).map_err(broken)?;
    }
    session.write_request_header(Box::new(request)).await.map_err(broken)?;
    session.finish_request_body().await.map_err(broken)?;
    session.read_response_header().await.map_err(broken)?;
    check_head(&session)?;
    let mut body = Vec::new();
    while let Some(chunk) = session.read_response_body().await.map_err(broken)? {
        if body.len() + chunk.len() > BYTES_MAX {
            return Err(FetchError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| FetchError::NotText)
}

fn check_head(session: &HttpSession) -> Result<(), FetchError> {
    let Some(head) = session.response_header() else {
        return Err(FetchError::Broken("no head".to_owned()));
    };
    let field = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.map(|value| value.chars().take(200).collect::<String>())
    };
    match head.status.as_u16() {
        200 => {}
        300..400 => return Err(FetchError::Redirect(field("location").unwrap_or_default())),
        status => return Err(FetchError::Status(status)),
    }
    match field("content-encoding") {
        Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => Err(FetchError::Encoded(encoding)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// What one scripted answer is fetched as; the address is given to the script.
    fn fetched(answer: impl FnOnce(&mut std::net::TcpStream) + Send + 'static) -> Result<String, FetchError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/prices.json?x=1", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0_u8; 4096];
            let read = stream.read(&mut head).unwrap();
            answer(&mut stream);
            String::from_utf8_lossy(&head[..read]).into_owned()
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let text = runtime.block_on(fetch(&address));
        let asked = server.join().unwrap();
        assert!(asked.starts_with("GET /prices.json?x=1 HTTP/1.1\r\n"), "{asked}");
        assert!(!asked.to_ascii_lowercase().contains("authorization"));
        text
    }

    #[test]
    fn a_list_is_fetched_whole_and_anything_else_is_refused() {
        let text = fetched(|to| to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap());
        assert_eq!(text.unwrap(), "{}");
        let moved = fetched(|to| {
            to.write_all(b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        });
        assert!(matches!(moved, Err(FetchError::Redirect(to)) if to == "https://evil.example/"));
        let missing = fetched(|to| to.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").unwrap());
        assert!(matches!(missing, Err(FetchError::Status(404))));
        let cut = fetched(|to| to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}").unwrap());
        assert!(matches!(cut, Err(FetchError::Broken(_))), "{cut:?}");
        let endless = fetched(|to| {
            let _ = to.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = [b"100000\r\n".to_vec(), vec![b'x'; 1 << 20], b"\r\n".to_vec()].concat();
            while to.write_all(&chunk).is_ok() {}
        });
        assert!(
            matches!(endless, Err(FetchError::TooLong)),
            "{:?}",
            endless.map(|text| text.len())
        );
    }

    #[test]
    fn only_tls_leaves_this_machine() {
        for (address, fine) in [
            ("https://models.dev/api.json", true),
            ("https://[::1]:8443/", true),
            ("http://127.0.0.1:9/x", true),
            ("http://localhost/x", true),
            ("http://models.dev/api.json", false),
            ("http://127.0.0.1.evil.example/", false),
            ("https://key@models.dev/", false),
            ("ftp://models.dev/", false),
            ("file:///etc/passwd", false),
            ("https://", false),
            ("nonsense", false),
        ] {
            assert_eq!(may_be_fetched(address), fine, "{address}");
        }
    }
}
