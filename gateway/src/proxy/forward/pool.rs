//! Connections to a provider: names resolved without blocking, kept in a pool, TLS always checked.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::Clock;
use parking_lot::Mutex;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v1::client::HttpSession as Http1Session;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::timeout;

use crate::addresses::{is_own_machine, is_public};
use crate::config::{Provider, Timeouts, Upstream as Address};
use crate::proxy::forward::coalesce::CoalescedWrites;

/// How long a resolved name is used before it is resolved again.
const RESOLVED_MS: i64 = 30_000;
/// Idle connections that a pool keeps, whatever they lead to.
const POOL_SIZE: usize = 2048;
const POOL_IDLE: Duration = Duration::from_secs(90);

/// A pool of connections, which trusts the authorities in the file, else those of the system. Reading the system's takes
/// milliseconds and megabytes: one pool serves all providers that trust them.
pub fn pool(ca_file: Option<&Path>) -> Arc<Connector> {
    let mut options = ConnectorOptions::new(POOL_SIZE);
    options.ca_file = ca_file.map(|path| path.display().to_string());
    Arc::new(Connector::new(Some(options)))
}

/// HTTP/1.1 sends a request's head and body in one piece; h2 does so by itself.
fn coalesced(session: HttpSession, peer: &HttpPeer) -> HttpSession {
    match session {
        HttpSession::H1(session) => {
            let stream = Box::new(CoalescedWrites::new(session.into_inner()));
            HttpSession::H1(Http1Session::new_with_options(stream, peer))
        }
        other => other,
    }
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
    pool: Arc<Connector>,
    resolved: Mutex<Option<(i64, Vec<SocketAddr>)>>,
    /// A name may lead to public addresses alone: see [`Upstream::public_only`].
    public_only: bool,
}

pub struct Connection {
    pub session: HttpSession,
    pub peer: HttpPeer,
    /// Taken from the pool: the upstream may have closed it in the same moment.
    pub reused: bool,
    /// A request was not sent whole on it: never used again.
    pub tainted: bool,
}

impl Upstream {
    /// `common` is the pool of all providers without authorities of their own.
    pub fn new(provider: &Provider, common: &Arc<Connector>) -> Upstream {
        let ca_file = provider.upstream.ca_file.as_deref();
        Upstream {
            pool: ca_file.map_or_else(|| Arc::clone(common), |file| pool(Some(file))),
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
        self.connect_in(0, attempt, clock, h1).await
    }

    /// A new connection, shared with nobody: for a request that cannot be sent twice.
    pub async fn connect_alone(&self, attempt: usize, clock: &dyn Clock) -> Result<Connection, ConnectError> {
        self.connect_in(rand::random(), attempt, clock, false).await
    }

    /// Connections of different groups are never taken for each other.
    async fn connect_in(
        &self,
        group: u64,
        attempt: usize,
        clock: &dyn Clock,
        h1: bool,
    ) -> Result<Connection, ConnectError> {
        let address = self.resolve(attempt, clock).await?;
        let mut peer = HttpPeer::new(address, self.address.tls, self.address.host.clone());
        peer.group_key = group;
        peer.options.connection_timeout = Some(self.timeouts.connect);
        peer.options.total_connection_timeout = Some(self.timeouts.connect);
        peer.options.idle_timeout = Some(POOL_IDLE);
        if self.address.tls && self.address.h2 && !h1 {
            peer.options.set_http_version(2, 1);
        }
        // Boxed: the shake of hands is large, and most requests find a connection in the pool.
        match Box::pin(self.pool.get_http_session(&peer)).await {
            Ok((session, reused)) => Ok(Connection {
                // A pooled connection was corked when it was new.
                session: if reused { session } else { coalesced(session, &peer) },
                peer,
                reused,
                tainted: false,
            }),
            Err(error) => {
                *self.resolved.lock() = None;
                let reason = error.etype().as_str().to_owned();
                Err(ConnectError::Connect {
                    host: self.address.host.clone(),
                    reason,
                })
            }
        }
    }

    /// Gives a connection whose answer was read to its end back to the pool.
    pub async fn release(&self, connection: Connection) {
        let Connection { session, peer, .. } = connection;
        let released = self.pool.release_http_session(session, &peer, Some(POOL_IDLE));
        Box::pin(released).await;
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
            Upstream::new(&config.providers[0], &pool(None))
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
        let upstream = Upstream::new(&config.providers[0], &pool(None));
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
