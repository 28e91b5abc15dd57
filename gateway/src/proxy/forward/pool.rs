//! Connections to a provider: names resolved without blocking, kept in a pool, TLS always checked. pingora makes them and
//! speaks h2 on them; those of HTTP/1.1 wait in a pool of the provider's own.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentledger_http1::{ClientSession, IdlePool};
use agentledger_ledger::Clock;
use parking_lot::Mutex;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::v2::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::timeout;

use crate::addresses::{is_own_machine, is_public};
use crate::config::{Provider, Timeouts, Upstream as Address};
use crate::proxy::shared::http_session::UpstreamSession;

/// How long a resolved name is used before it is resolved again.
const RESOLVED_MS: i64 = 30_000;
/// Idle connections that a pool keeps, whatever they lead to.
const POOL_SIZE: usize = 2048;
const POOL_IDLE: Duration = Duration::from_secs(90);

/// Makes connections, and trusts the authorities in the file, else those of the system. Reading the system's takes
/// milliseconds and megabytes: one serves all providers that trust them. Those of h2 it keeps, too.
pub fn connector(ca_file: Option<&Path>) -> Arc<Connector> {
    let mut options = ConnectorOptions::new(POOL_SIZE);
    options.ca_file = ca_file.map(|path| path.display().to_string());
    Arc::new(Connector::new(Some(options)))
}

/// Why no connection could be had. Nothing was sent to the upstream.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot resolve {host}: {source}")]
    Resolve { host: String, source: std::io::Error },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("{host} leads to an address that is not public: allow_private: true lets it")]
    Private { host: String },
    #[error("cannot connect to {host}: {reason}")]
    Connect { host: String, reason: String },
}

/// One provider's way out.
pub struct Upstream {
    address: Address,
    timeouts: Timeouts,
    connector: Arc<Connector>,
    /// Connections of HTTP/1.1 that wait, by the address that they lead to. All are to this provider, by its name and with its
    /// authorities.
    idle: Arc<IdlePool<SocketAddr>>,
    resolved: Mutex<Option<(i64, Vec<SocketAddr>)>>,
    /// A name may lead to public addresses alone: see [`Upstream::public_only`].
    public_only: bool,
}

pub struct Connection {
    pub session: UpstreamSession,
    address: SocketAddr,
    /// By which its h2 connection is known.
    peer: Option<Box<HttpPeer>>,
    /// Taken from the pool: the upstream may have closed it in the same moment.
    pub reused: bool,
    /// A request was not sent whole on it: never used again.
    pub tainted: bool,
}

/// Who may have a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    Anybody,
    /// Connections of different groups are never taken for each other.
    Group(u64),
}

impl Upstream {
    /// `common` connects to all providers without authorities of their own.
    pub fn new(provider: &Provider, common: &Arc<Connector>) -> Upstream {
        let ca_file = provider.upstream.ca_file.as_deref();
        Upstream {
            connector: ca_file.map_or_else(|| Arc::clone(common), |file| connector(Some(file))),
            idle: IdlePool::new(POOL_SIZE, POOL_IDLE),
            address: provider.upstream.clone(),
            timeouts: provider.timeouts.clone(),
            resolved: Mutex::new(None),
            public_only: false,
        }
    }

    /// The same, to public addresses alone, and to this machine by its own name or address: whoever writes that down means it, and a
    /// name may be led anywhere.
    pub fn public_only(self, public_only: bool) -> Upstream {
        Upstream { public_only, ..self }
    }

    fn may_reach(&self, ip: IpAddr) -> bool {
        let host = self.address.host.as_str();
        !self.public_only || is_public(ip) || is_own_machine(host)
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A pooled or a new connection; `attempt` picks another address of the name where it has several.
    /// `h1`: a protocol is to be switched to, which HTTP/2 cannot.
    pub async fn connect(&self, attempt: usize, clock: &dyn Clock, h1: bool) -> Result<Connection, ConnectError> {
        self.connect_in(Share::Anybody, attempt, clock, h1).await
    }

    /// A new connection, shared with nobody: for a request that cannot be sent twice.
    pub async fn connect_alone(&self, attempt: usize, clock: &dyn Clock) -> Result<Connection, ConnectError> {
        self.connect_in(Share::Group(rand::random()), attempt, clock, false)
            .await
    }

    async fn connect_in(
        &self,
        share: Share,
        attempt: usize,
        clock: &dyn Clock,
        h1: bool,
    ) -> Result<Connection, ConnectError> {
        let address = self.resolve(attempt, clock).await?;
        let peer = (self.address.tls && self.address.h2 && !h1).then(|| Box::new(self.peer(address, share, true)));
        if let Some(peer) = &peer {
            let shared = self.connector.reused_http_session(&**peer).await;
            if let Some(session) = shared.map_err(|error| self.failed(&error))? {
                let session = UpstreamSession::Http2(Box::new(session));
                return Ok(connection(session, address, Some(peer.clone()), true));
            }
        }
        if share == Share::Anybody
            && let Some(stream) = self.idle.take(&address)
        {
            let session = UpstreamSession::Http1(Box::new(ClientSession::new(stream)));
            return Ok(connection(session, address, None, true));
        }
        // Boxed: the shake of hands is large, and most requests find a connection in the pool.
        let session = Box::pin(self.open(address, share, peer.as_deref())).await;
        Ok(connection(
            session.map_err(|error| self.failed(&error))?,
            address,
            peer,
            false,
        ))
    }

    /// A new connection; one of h2 where the upstream agrees to it.
    async fn open(&self, address: SocketAddr, share: Share, h2: Option<&HttpPeer>) -> pingora::Result<UpstreamSession> {
        let stream = match h2 {
            None => {
                let peer = self.peer(address, share, false);
                self.connector.transport().new_stream(&peer).await?
            }
            Some(peer) => match self.connector.new_http_session::<_, ()>(peer).await? {
                HttpSession::H2(session) => return Ok(UpstreamSession::Http2(Box::new(session))),
                HttpSession::H1(session) => session.into_inner(),
                HttpSession::Custom(()) => return Err(pingora::Error::new(pingora::ErrorType::InternalError)),
            },
        };
        Ok(UpstreamSession::Http1(Box::new(ClientSession::new(stream))))
    }

    fn peer(&self, address: SocketAddr, share: Share, h2: bool) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.address.tls, self.address.host.clone());
        if let Share::Group(group) = share {
            peer.group_key = group;
        }
        peer.options.connection_timeout = Some(self.timeouts.connect);
        peer.options.total_connection_timeout = Some(self.timeouts.connect);
        peer.options.idle_timeout = Some(POOL_IDLE);
        if h2 {
            peer.options.set_http_version(2, 1);
        }
        peer
    }

    fn failed(&self, error: &pingora::Error) -> ConnectError {
        // The name may lead elsewhere by now.
        *self.resolved.lock() = None;
        ConnectError::Connect {
            host: self.address.host.clone(),
            reason: error.etype().as_str().to_owned(),
        }
    }

    /// Gives a connection whose answer was read to its end back to the pool.
    pub fn release(&self, connection: Connection) {
        match connection.session {
            UpstreamSession::Http1(session) => {
                if let Some(stream) = session.into_reusable() {
                    self.idle.put(connection.address, stream);
                }
            }
            UpstreamSession::Http2(session) => {
                if let Some(peer) = connection.peer {
                    self.connector.release_http_session(*session, &*peer, Some(POOL_IDLE));
                }
            }
        }
    }

    async fn resolve(&self, attempt: usize, clock: &dyn Clock) -> Result<SocketAddr, ConnectError> {
        let host = &self.address.host;
        let private = || ConnectError::Private { host: host.clone() };
        if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            return match self.may_reach(ip) {
                true => Ok(SocketAddr::new(ip, self.address.port)),
                false => Err(private()),
            };
        }
        // A date that is set back must not keep an address that the name has left.
        let now_ms = clock.monotonic_ms();
        let known = self
            .resolved
            .lock()
            .clone()
            .filter(|(at_ms, _)| now_ms - at_ms < RESOLVED_MS);
        let addresses = match known {
            Some((_, addresses)) => addresses,
            None => {
                let found = timeout(
                    self.timeouts.connect,
                    tokio::net::lookup_host((host.as_str(), self.address.port)),
                )
                .await;
                let found = found.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
                let mut addresses: Vec<SocketAddr> = found
                    .map_err(|source| ConnectError::Resolve {
                        host: host.clone(),
                        source,
                    })?
                    .collect();
                let has_any = !addresses.is_empty();
                addresses.retain(|address| self.may_reach(address.ip()));
                if has_any && addresses.is_empty() {
                    return Err(private());
                }
                *self.resolved.lock() = Some((now_ms, addresses.clone()));
                addresses
            }
        };
        let pick = attempt.checked_rem(addresses.len()).unwrap_or(0);
        addresses
            .get(pick)
            .copied()
            .ok_or_else(|| ConnectError::NoAddress { host: host.clone() })
    }
}

fn connection(session: UpstreamSession, address: SocketAddr, peer: Option<Box<HttpPeer>>, reused: bool) -> Connection {
    Connection {
        session,
        address,
        peer,
        reused,
        tainted: false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use agentledger_ledger::ManualClock;

    use super::*;
    use crate::config::{Env, Known, load_text};

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_where_it_may_lead_outside_alone() {
        let of = |host: &str| {
            let yaml = format!("providers: {{openai: {{upstream: \"http://{host}:1\"}}}}");
            let none: [(&str, &str); 0] = [];
            let config = load_text(None, &yaml, &Env::of(none), &Known::built_in()).unwrap();
            Upstream::new(&config.providers[0], &connector(None))
        };
        let clock = ManualClock::new(0);
        for (host, reached) in [("127.0.0.1", true), ("localhost", true), ("169.254.169.254", false)] {
            assert_eq!(
                of(host).public_only(true).resolve(0, &clock).await.is_ok(),
                reached,
                "{host}"
            );
            assert!(of(host).resolve(0, &clock).await.is_ok(), "{host}");
        }
        let named = of("127.0.0.1.example").public_only(true);
        assert!(!named.may_reach("10.0.0.1".parse().unwrap()));
        assert!(named.may_reach("93.184.216.34".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_clock_set_back_an_hour_keeps_no_address_for_longer() {
        let yaml = "providers: {openai: {upstream: \"http://localhost:1\"}}";
        let none: [(&str, &str); 0] = [];
        let config = load_text(None, yaml, &Env::of(none), &Known::built_in()).unwrap();
        let upstream = Upstream::new(&config.providers[0], &connector(None));
        let clock = ManualClock::new(1_772_366_400_000);
        let left: SocketAddr = "192.0.2.1:1".parse().unwrap();
        upstream.resolve(0, &clock).await.unwrap();
        if let Some((_, addresses)) = &mut *upstream.resolved.lock() {
            *addresses = vec![left];
        }
        clock.jump_ms(-3_600_000);
        clock.advance_ms(RESOLVED_MS - 1);
        assert_eq!(
            upstream.resolve(0, &clock).await.unwrap(),
            left,
            "it is asked once in a while only"
        );
        clock.advance_ms(1);
        assert!(upstream.resolve(0, &clock).await.unwrap().ip().is_loopback());
    }
}
