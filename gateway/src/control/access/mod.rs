//! Who may call what. Every request is looked at in this order: the name it calls the gateway by, the page it comes from, its
//! token.
//!
//! - A connection to the Unix socket (0600, the owner's) without [`PEER_HEADER`] is the owner's own: everything.
//! - A request that the data plane relays bears [`PEER_HEADER`], which the data plane always sets itself and strips from
//!   what clients send. It is as trusted as a stranger on the network, and so is a connection to `control.listen`.
//!   Loopback proves nothing either: any local user, and any page in a local browser, can reach it.
//! - A stranger calls the gateway by a name of its own: a page in a browser of this network can have its own name lead here
//!   (DNS rebinding).
//! - A stranger that is a web page is of this origin, or of one that `cors.allow_origins` names (`*` names none): browsers
//!   open WebSockets to anywhere, and send simple requests without asking.
//! - A stranger calls methods with a token only (`control.tokens`, `admin.token`, one of `system.token`). Where there is none,
//!   nobody outside may. `control.public_read` opens the original's dashboard figures, never these methods: entries name users and tasks.
//! - Who sends wrong tokens is slowed down, see [`crate::control::access::attempts`].
//! - `/`, `/metrics` and health say nothing secret and are open, as in the contract.

mod attempts;
mod issued;

use axum::http::{HeaderMap, StatusCode, header};

use crate::config::{Config, ControlRole};
use crate::control::access::attempts::Attempts;
pub use crate::control::access::issued::IssuedTokens;
use crate::control::rpc::call::{Caller, Role};
use crate::hosts;
use crate::timer::Timer;

/// Set by the data plane on every request that it relays: the peer's address.
pub const PEER_HEADER: &str = "x-agentledger-peer";

/// Where a connection came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) enum Origin {
    UnixSocket,
    /// With the peer's address.
    Tcp(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::control) enum Denied {
    #[error("a token is needed: send it as Authorization: Bearer TOKEN")]
    NoToken,
    #[error("invalid admin token")]
    WrongToken,
    #[error("this token has expired")]
    ExpiredToken,
    #[error(
        "no token is configured (control.tokens or admin.token): use the control socket, or get one by `agentledger dashboard`"
    )]
    NoneConfigured,
    #[error("the request calls the gateway by a name that is not its own: if it is, add it to `hosts`")]
    ForeignHost,
    #[error("the request comes from a page of another origin: if it is yours, name it in `cors.allow_origins`")]
    ForeignOrigin,
    #[error("too many wrong tokens from this address: wait {retry_after_s} s")]
    TooManyAttempts { retry_after_s: u64 },
}

impl Denied {
    pub(in crate::control) const ALL: [Denied; 7] = [
        Denied::NoToken,
        Denied::WrongToken,
        Denied::ExpiredToken,
        Denied::NoneConfigured,
        Denied::ForeignHost,
        Denied::ForeignOrigin,
        Denied::TooManyAttempts { retry_after_s: 1 },
    ];
    /// The JSON-RPC code of all of them.
    pub(in crate::control) const NUMBER: i32 = -32003;

    /// The stable word.
    pub(in crate::control) const fn code(self) -> &'static str {
        match self {
            Denied::NoToken => "no_token",
            Denied::WrongToken => "wrong_token",
            Denied::ExpiredToken => "expired_token",
            Denied::NoneConfigured => "no_token_configured",
            Denied::ForeignHost => "foreign_host",
            Denied::ForeignOrigin => "foreign_origin",
            Denied::TooManyAttempts { .. } => "too_many_attempts",
        }
    }

    pub(in crate::control) const fn status(self) -> StatusCode {
        match self {
            Denied::NoToken | Denied::WrongToken | Denied::ExpiredToken => StatusCode::UNAUTHORIZED,
            Denied::NoneConfigured | Denied::ForeignHost | Denied::ForeignOrigin => StatusCode::FORBIDDEN,
            Denied::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    pub(in crate::control) const fn retry_after_s(self) -> Option<u64> {
        match self {
            Denied::TooManyAttempts { retry_after_s } => Some(retry_after_s),
            _ => None,
        }
    }
}

/// Nobody outside this user's account can send it.
fn is_owners(origin: &Origin, headers: &HeaderMap) -> bool {
    *origin == Origin::UnixSocket && !headers.contains_key(PEER_HEADER)
}

/// Refuses a name that is not the gateway's own, and a page of a foreign origin.
pub(in crate::control) fn check_page(config: &Config, origin: &Origin, headers: &HeaderMap) -> Result<(), Denied> {
    if is_owners(origin, headers) {
        return Ok(());
    }
    let host = said(headers, header::HOST.as_str()).unwrap_or_default();
    if !hosts::is_own(config, host) {
        return Err(Denied::ForeignHost);
    }
    let mut pages = headers.get_all(header::ORIGIN).iter();
    let Some(page) = pages.next() else {
        // Browsers leave the origin out of some requests, and say this of all.
        let is_near = said(headers, "sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
        return is_near.then_some(()).ok_or(Denied::ForeignOrigin);
    };
    let page = page.to_str().unwrap_or_default();
    let is_own = page
        .split_once("://")
        .is_some_and(|(_, from)| from.eq_ignore_ascii_case(host));
    let is_named = hosts::is_named_origin(&config.cors_allow_origins, page);
    (pages.next().is_none() && (is_own || is_named))
        .then_some(())
        .ok_or(Denied::ForeignOrigin)
}

fn said<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The door: who knocks with wrong tokens is known to it.
pub(in crate::control) struct Door {
    attempts: Attempts,
    runs: Timer,
}

impl Default for Door {
    fn default() -> Door {
        Door {
            attempts: Attempts::default(),
            runs: Timer::start(),
        }
    }
}

impl Door {
    /// Who makes a request, and what it may do. `now_ms` is the wall clock's: tokens expire by it.
    pub(in crate::control) fn caller(
        &self,
        (config, issued): (&Config, &IssuedTokens),
        origin: &Origin,
        headers: &HeaderMap,
        now_ms: i64,
    ) -> Result<Caller, Denied> {
        if is_owners(origin, headers) {
            return Ok(Caller::owner());
        }
        let peer = match origin {
            // What a client of our own listener says of its peer is no news.
            Origin::Tcp(peer) => peer.as_str(),
            Origin::UnixSocket => said(headers, PEER_HEADER).unwrap_or("unknown"),
        };
        if tokens(config).next().is_none() && issued.is_empty() {
            return Err(Denied::NoneConfigured);
        }
        let given = bearer(headers).ok_or(Denied::NoToken)?;
        let given = *blake3::hash(given).as_bytes();
        let at_ms = i64::try_from(self.runs.elapsed_ms()).unwrap_or(i64::MAX);
        if let Err(retry_after_s) = self.attempts.check(peer, &given, at_ms) {
            return Err(Denied::TooManyAttempts { retry_after_s });
        }
        let found = by_token((config, issued), given, peer, now_ms);
        match &found {
            Ok(_) => self.attempts.succeeded(peer, given, at_ms),
            Err(_) => self.attempts.failed(peer, at_ms),
        }
        found
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn by_token(
    (config, issued): (&Config, &IssuedTokens),
    given: [u8; 32],
    peer: &str,
    now_ms: i64,
) -> Result<Caller, Denied> {
    // Hashes are compared, in constant time, and all of them: neither a token's length nor its place shows.
    let given = blake3::Hash::from_bytes(given);
    let mut found = None;
    for token in tokens(config) {
        if blake3::hash(token.text.as_bytes()) == given {
            found = Some(token);
        }
    }
    let Some(token) = found else {
        let issued = issued.find(given).ok_or(Denied::WrongToken)?;
        // What it was got by may be gone since: a token that was taken away leaves none behind.
        let is_owners = issued.by == Caller::owner();
        let mut names = tokens(config).filter(|token| token.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms));
        if issued.expires_ms <= now_ms || !(is_owners || names.any(|token| *token.name == *issued.by.name)) {
            return Err(Denied::ExpiredToken);
        }
        return Ok(Caller {
            role: issued.role,
            peer: peer.into(),
            ..issued.by
        });
    };
    if token.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
        return Err(Denied::ExpiredToken);
    }
    Ok(Caller {
        name: token.name.into(),
        role: token.role,
        tenant: token.tenant.map(Into::into),
        peer: peer.into(),
    })
}

struct Token<'c> {
    name: &'c str,
    text: &'c str,
    role: Role,
    tenant: Option<&'c str>,
    expires_ms: Option<i64>,
}

/// The configured tokens. An empty one opens nothing.
fn tokens(config: &Config) -> impl Iterator<Item = Token<'_>> {
    let admin = config.control.admin_token.as_ref().map(|token| Token {
        name: "admin",
        text: token.expose(),
        role: Role::Admin,
        tenant: None,
        expires_ms: None,
    });
    let named = config.control.tokens.iter().map(|token| Token {
        name: &token.name,
        text: token.token.expose(),
        role: match token.role {
            ControlRole::Read => Role::Read,
            ControlRole::Operate => Role::Operate,
            ControlRole::Admin => Role::Admin,
        },
        tenant: token.tenant.as_deref(),
        expires_ms: token.expires_ms,
    });
    admin.into_iter().chain(named).filter(|token| !token.text.is_empty())
}
