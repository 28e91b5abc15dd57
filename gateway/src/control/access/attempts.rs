//! Wrong tokens, by who sent them: after [`BURST`] of them a peer may try one a second, and is answered at once that it has
//! to wait. Nothing is held open for it, and a token that it has used rightly goes on working: whoever shares an address
//! with a guesser is not locked out by it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use parking_lot::Mutex;

/// Wrong tokens at once before a peer is slowed down.
const BURST: i64 = 20;
/// Between two wrong tokens afterwards.
const INTERVAL_MS: i64 = 1_000;
/// Peers that are remembered; past that those that have been quiet for longest go.
const PEERS_MAX: usize = 4_096;
/// Right tokens that are remembered of a peer.
const TOKENS_MAX: usize = 4;

/// A peer's address; of IPv6 the network of 64 bits that one subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    V4([u8; 4]),
    V6([u8; 8]),
    Unknown,
}

#[derive(Debug, Default)]
struct Row {
    /// The moment at which all wrong tokens so far are forgotten.
    forgotten_ms: i64,
    seen_ms: i64,
    /// Hashes of tokens that were right.
    right: Vec<[u8; 32]>,
}

/// See the module. All moments are a monotonic clock's.
#[derive(Debug, Default)]
pub(in crate::control) struct Attempts(Mutex<HashMap<Peer, Row>>);

impl Attempts {
    /// Whether a token may be looked at at all. `Err`: the seconds to wait.
    pub(in crate::control) fn check(&self, peer: &str, token: &[u8; 32], now_ms: i64) -> Result<(), u64> {
        let rows = self.0.lock();
        let Some(row) = rows.get(&Peer::of(peer)) else {
            return Ok(());
        };
        let late_ms = row
            .forgotten_ms
            .saturating_sub(now_ms)
            .saturating_sub((BURST - 1) * INTERVAL_MS);
        if late_ms <= 0 || row.right.contains(token) {
            return Ok(());
        }
        Err(u64::try_from(late_ms).unwrap_or(1).div_ceil(1_000))
    }

    pub(in crate::control) fn failed(&self, peer: &str, now_ms: i64) {
        self.with(peer, now_ms, |row| {
            row.forgotten_ms = row.forgotten_ms.max(now_ms).saturating_add(INTERVAL_MS);
        });
    }

    pub(in crate::control) fn succeeded(&self, peer: &str, token: [u8; 32], now_ms: i64) {
        self.with(peer, now_ms, |row| {
            if row.right.contains(&token) {
                return;
            }
            if row.right.len() >= TOKENS_MAX {
                row.right.remove(0);
            }
            row.right.push(token);
        });
    }

    fn with(&self, peer: &str, now_ms: i64, change: impl FnOnce(&mut Row)) {
        let mut rows = self.0.lock();
        let peer = Peer::of(peer);
        if rows.len() >= PEERS_MAX && !rows.contains_key(&peer) {
            let quietest = rows.iter().min_by_key(|(_, row)| row.seen_ms).map(|(peer, _)| *peer);
            quietest.and_then(|peer| rows.remove(&peer));
        }
        let row = rows.entry(peer).or_default();
        row.seen_ms = now_ms;
        change(row);
    }
}

impl Peer {
    fn of(text: &str) -> Peer {
        let address = text.parse::<SocketAddr>().map(|address| address.ip());
        match address.or_else(|_| text.parse::<IpAddr>()) {
            Ok(IpAddr::V4(v4)) => Peer::V4(v4.octets()),
            Ok(IpAddr::V6(v6)) => Peer::of_v6(v6),
            Err(_) => Peer::Unknown,
        }
    }

    fn of_v6(v6: Ipv6Addr) -> Peer {
        if let Some(v4) = v6.to_ipv4_mapped() {
            return Peer::V4(v4.octets());
        }
        let [a, b, c, d, e, f, g, h, ..] = v6.octets();
        Peer::V6([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const RIGHT: [u8; 32] = [1; 32];
    const GUESS: [u8; 32] = [2; 32];

    #[test]
    fn a_guesser_has_to_wait_and_its_neighbour_goes_on() {
        let attempts = Attempts::default();
        attempts.succeeded("192.0.2.1:1000", RIGHT, 0);
        for _ in 0..BURST {
            assert_eq!(attempts.check("192.0.2.1:7", &GUESS, 0), Ok(()));
            attempts.failed("192.0.2.1:7", 0);
        }
        assert_eq!(attempts.check("192.0.2.1:8", &GUESS, 0), Err(1));
        assert_eq!(attempts.check("192.0.2.1:8", &RIGHT, 0), Ok(()), "it was right before");
        assert_eq!(attempts.check("192.0.2.2:8", &GUESS, 0), Ok(()), "another address");
        assert_eq!(attempts.check("192.0.2.1:8", &GUESS, INTERVAL_MS), Ok(()));
        attempts.failed("192.0.2.1:8", INTERVAL_MS);
        assert_eq!(attempts.check("192.0.2.1:8", &GUESS, INTERVAL_MS), Err(1));
        assert_eq!(attempts.check("192.0.2.1:8", &GUESS, (BURST + 2) * INTERVAL_MS), Ok(()));
    }

    #[test]
    fn an_ipv6_subscriber_is_one_peer() {
        let attempts = Attempts::default();
        for host in 0..BURST {
            attempts.failed(&format!("[2001:db8:0:1::{host:x}]:9"), 0);
        }
        assert!(attempts.check("[2001:db8:0:1:ffff::1]:9", &GUESS, 0).is_err());
        assert!(attempts.check("[2001:db8:0:2::1]:9", &GUESS, 0).is_ok());
        for _ in 0..BURST {
            attempts.failed("198.51.100.1:1", 0);
        }
        assert!(attempts.check("[::ffff:198.51.100.1]:1", &GUESS, 0).is_err());
    }

    #[test]
    fn memory_is_bounded_however_many_peers_there_are() {
        let attempts = Attempts::default();
        for number in 0..3 * PEERS_MAX as u32 {
            attempts.failed(&Ipv6Addr::from(u128::from(number) << 64).to_string(), i64::from(number));
            attempts.succeeded(
                "192.0.2.1",
                *blake3::hash(&number.to_le_bytes()).as_bytes(),
                i64::from(number),
            );
        }
        let rows = attempts.0.lock();
        assert_eq!(rows.len(), PEERS_MAX);
        assert_eq!(rows[&Peer::of("192.0.2.1")].right.len(), TOKENS_MAX);
    }
}
