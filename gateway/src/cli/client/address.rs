//! Where a gateway answers: the control socket of this machine's, or an address with a token.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Uri, header};
use pingora::connectors::TransportConnector;
use pingora::upstreams::peer::HttpPeer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::ClientError;
use crate::secret::Secret;

/// Longest wait for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// Where the methods are, below the address.
const PATH: &str = "/rpc";

/// What a connection is to whoever speaks over it.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Where a gateway answers.
#[derive(Clone)]
pub enum Address {
    Socket(PathBuf),
    Remote(Remote),
}

/// A gateway elsewhere.
#[derive(Clone)]
pub struct Remote {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    /// Where the methods are.
    path: String,
    token: Option<Secret<String>>,
    /// Reading the machine's authorities takes a while: once, and only where they are needed.
    connector: Arc<OnceLock<TransportConnector>>,
}

impl Remote {
    /// Where a browser finds it.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }

    /// An address as it is typed: `https://HOST[:PORT][/PATH]`, or `http://`; where it ends in `/rpc` that is meant, too.
    ///
    /// # Errors
    /// It is none, or the token cannot be sent as one.
    pub fn new(url: &str, token: Option<String>) -> Result<Remote, ClientError> {
        let wrong = |text: &str| ClientError::Usage(format!("--url {url:?}: {text}"));
        let uri: Uri = url.parse().map_err(|_| wrong("it is no address: https://HOST:PORT"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("it begins with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.host().is_empty() {
            return Err(wrong("it names no host"));
        }
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong(
                "credentials and queries do not belong there: the token is read from AGENTLEDGER_TOKEN or --token-file",
            ));
        }
        if token.as_ref().is_some_and(|token| bearer(token).is_none()) {
            return Err(ClientError::Usage(
                "the token has characters that no header can bear".to_owned(),
            ));
        }
        let folder = uri.path().trim_end_matches('/');
        let folder = folder.strip_suffix(PATH).unwrap_or(folder);
        Ok(Remote {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: format!("{folder}{PATH}"),
            token: token.map(Secret::new),
            connector: Arc::default(),
        })
    }

    /// Where its clients send requests, without a slash at its end.
    pub fn base_url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let folder = self.path.strip_suffix(PATH).unwrap_or_default();
        format!("{scheme}://{}{folder}", self.authority)
    }

    /// Whether a token would be readable on its way.
    pub fn exposes_its_token(&self) -> bool {
        let ip: Option<std::net::IpAddr> = self.host.parse().ok();
        let here = ip.map_or(self.host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback());
        self.token.is_some() && !self.tls && !here
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(path) => write!(f, "control socket {}", path.display()),
            Address::Remote(remote) => {
                let scheme = if remote.tls { "https" } else { "http" };
                write!(f, "{scheme}://{}{}", remote.authority, remote.path)
            }
        }
    }
}

impl Address {
    pub fn socket(path: &Path) -> Address {
        Address::Socket(path.to_owned())
    }

    /// `Host`, as its listener expects it.
    pub fn authority(&self) -> &str {
        match self {
            Address::Socket(_) => "localhost",
            Address::Remote(remote) => &remote.authority,
        }
    }

    pub fn path(&self) -> &str {
        match self {
            Address::Socket(_) => PATH,
            Address::Remote(remote) => &remote.path,
        }
    }

    /// Who asks.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Address::Remote(Remote { token: Some(token), .. }) = self
            && let Some(value) = bearer(token.expose())
        {
            headers.insert(header::AUTHORIZATION, value);
        }
        headers
    }

    /// A connection, encrypted where the address says so. The certificate is checked against the machine's authorities, and
    /// those of the file that `SSL_CERT_FILE` names.
    ///
    /// # Errors
    /// What keeps it from being made, as text.
    pub async fn connect(&self) -> Result<Box<dyn Connection>, Unconnected> {
        match tokio::time::timeout(CONNECT, self.connected()).await {
            Ok(connected) => connected,
            Err(_) => Err(Unconnected {
                // A host that is away answers nothing; a socket of this machine is somebody's.
                is_nobody: matches!(self, Address::Remote(_)),
                why: format!("no answer within {} s", CONNECT.as_secs()),
            }),
        }
    }

    async fn connected(&self) -> Result<Box<dyn Connection>, Unconnected> {
        match self {
            Address::Socket(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(Unconnected {
                    is_nobody: matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused),
                    why: error.to_string(),
                }),
            },
            Address::Remote(remote) => remote
                .connected()
                .await
                .map_err(|why| Unconnected { is_nobody: true, why }),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub struct Unconnected {
    /// Nobody listens there, as far as it is known: it is not that somebody does, and does not take it.
    pub is_nobody: bool,
    pub why: String,
}

impl Remote {
    async fn connected(&self) -> Result<Box<dyn Connection>, String> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found = found.map_err(|error| format!("{} cannot be resolved: {error}", self.host))?;
        let mut failure = format!("{} has no address", self.host);
        // `localhost` may be an address that nobody listens on, and another one: each is tried.
        for address in found {
            match self.open(address).await {
                Ok(connection) => return Ok(connection),
                Err(text) => failure = text,
            }
        }
        Err(failure)
    }

    async fn open(&self, address: SocketAddr) -> Result<Box<dyn Connection>, String> {
        if !self.tls {
            return match TcpStream::connect(address).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(error.to_string()),
            };
        }
        let connector = self.connector.get_or_init(|| TransportConnector::new(None));
        let peer = HttpPeer::new(address, true, self.host.clone());
        match connector.new_stream(&peer).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(said(&error)),
        }
    }
}

/// The kind of the failure, and its cause.
fn said(error: &pingora::Error) -> String {
    let kind = error.etype().as_str();
    let cause = error.cause.as_ref().map(ToString::to_string);
    let more = error.context.as_ref().map(|context| context.as_str().to_owned());
    let known: Vec<String> = [cause, more].into_iter().flatten().collect();
    if known.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind}: {}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn shown(url: &str) -> Result<String, String> {
        let remote = Remote::new(url, None).map_err(|error| error.to_string())?;
        Ok(Address::Remote(remote).to_string())
    }

    #[test]
    fn an_address_is_a_scheme_a_host_and_maybe_a_folder() {
        for (typed, meant) in [
            ("https://gateway.example", "https://gateway.example/rpc"),
            ("http://127.0.0.1:8787/", "http://127.0.0.1:8787/rpc"),
            ("https://[::1]:8443/rpc", "https://[::1]:8443/rpc"),
            ("https://example.com/ledger/", "https://example.com/ledger/rpc"),
        ] {
            assert_eq!(shown(typed).as_deref(), Ok(meant));
        }
        for wrong in [
            "gateway.example:8787",
            "ftp://x",
            "https://token@x",
            "https://x/?token=1",
            "https://",
            "",
        ] {
            assert!(shown(wrong).unwrap_err().starts_with("--url "), "{wrong}");
        }
    }

    #[test]
    fn a_token_goes_in_a_header_and_is_shown_nowhere() {
        let of = |url: &str| Remote::new(url, Some("s3cret".to_owned())).unwrap();
        let address = Address::Remote(of("https://x"));
        assert_eq!(address.headers()[header::AUTHORIZATION], "Bearer s3cret");
        assert!(!format!("{address} {:?}", address.headers()).contains("s3cret"));
        assert!(Address::socket(Path::new("/s")).headers().is_empty());
        assert!(of("http://gateway.example").exposes_its_token());
        assert!(!of("https://gateway.example").exposes_its_token() && !of("http://[::1]:1").exposes_its_token());
        assert!(Remote::new("https://x", Some("a\nb".to_owned())).is_err());
    }
}
