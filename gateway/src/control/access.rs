//! Who may ask what.
//!
//! - A connection to the Unix socket (0600, the owner's) without [`PEER_HEADER`] is the owner's own: everything.
//! - A request that the data plane relays bears [`PEER_HEADER`], which the data plane always sets itself and strips from
//!   what clients send. It is as trusted as a stranger on the network, and so is a connection to `control.listen`.
//!   Loopback proves nothing either: any local user, and any page in a local browser, can reach it.
//! - A stranger calls methods with a token only (`control.tokens`, `admin.token`): a reader's reads, an admin's changes
//!   things too. Where no token is configured, nobody outside may. `control.public_read` opens the original's dashboard
//!   figures, never these methods: entries name users and tasks.
//! - `/`, `/metrics` and health say nothing secret and are open, as in the contract.
//! - Whoever comes over TCP calls the gateway by a name of its own, for `/metrics` as for methods: a page in a browser of this
//!   network can have its own name lead here. The data plane has looked at the name of what it relays.

use axum::http::{HeaderMap, header};

use super::call::{Caller, Role};
use crate::config::{Config, ControlRole};
use crate::hosts;

/// Set by the data plane on every request that it relays: the peer's address.
pub const PEER_HEADER: &str = "x-agentledger-peer";

/// Where a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    UnixSocket,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("a token is needed: send it as Authorization: Bearer TOKEN")]
    NoToken,
    #[error("invalid admin token")]
    WrongToken,
    #[error("no token is configured (control.tokens or admin.token): use the control socket")]
    NoneConfigured,
    #[error("the request calls the gateway by a name that is not its own: if it is, add it to `hosts`")]
    ForeignHost,
}

/// Refuses a name that is not the gateway's own, where names matter.
pub(super) fn check_host(config: &Config, origin: Origin, headers: &HeaderMap) -> Result<(), Denied> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if origin == Origin::UnixSocket || hosts::is_own(config, host.unwrap_or_default()) {
        return Ok(());
    }
    Err(Denied::ForeignHost)
}

/// Who makes a request, and what it may do.
pub(super) fn access_of(config: &Config, origin: Origin, headers: &HeaderMap) -> Result<Caller, Denied> {
    if origin == Origin::UnixSocket && !headers.contains_key(PEER_HEADER) {
        return Ok(Caller::owner());
    }
    let peer = headers
        .get(PEER_HEADER)
        .and_then(|peer| peer.to_str().ok())
        .unwrap_or("network");
    match bearer(headers) {
        Some(given) => by_token(config, given, peer),
        None if tokens(config).next().is_none() => Err(Denied::NoneConfigured),
        None => Err(Denied::NoToken),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn by_token(config: &Config, given: &[u8], peer: &str) -> Result<Caller, Denied> {
    // Hashes are compared, in constant time, and all of them: neither a token's length nor its place shows.
    let given = blake3::hash(given);
    let mut found = None;
    let mut any = false;
    for (name, token, role) in tokens(config) {
        any = true;
        if blake3::hash(token.as_bytes()) == given {
            found = Some((name, role));
        }
    }
    let caller = found.map(|(name, role)| Caller {
        name: name.into(),
        role,
        tenant: None,
        peer: peer.into(),
    });
    caller.ok_or(if any {
        Denied::WrongToken
    } else {
        Denied::NoneConfigured
    })
}

/// The configured tokens, with their names. An empty one opens nothing.
fn tokens(config: &Config) -> impl Iterator<Item = (&str, &str, Role)> {
    let admin = config
        .control
        .admin_token
        .as_ref()
        .map(|token| ("admin", token.expose().as_str(), Role::Admin));
    let named = config.control.tokens.iter().map(|token| {
        let role = match token.role {
            ControlRole::Read => Role::Read,
            ControlRole::Operate => Role::Operate,
            ControlRole::Admin => Role::Admin,
        };
        (token.name.as_str(), token.token.expose().as_str(), role)
    });
    admin.into_iter().chain(named).filter(|(_, token, _)| !token.is_empty())
}
