//! One attempt: an alert to one receiver, at an address that was resolved and vetted once and is the one connected to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agentledger_alerts::{Alert, Outcome};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::{http, mail};
use crate::addresses::{is_own_machine, is_public};
use crate::config::{Destination, Receiver};

/// Why an attempt failed, before it is known whether another may succeed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("{0} cannot be resolved")]
    Unresolved(String),
    #[error("{0} is at no public address: allow_private: true lets this receiver have it")]
    Private(String),
    #[error("no connection: {0}")]
    Connect(String),
    #[error("it broke off: {0}")]
    Broken(String),
    #[error("it answers {status}{}", said(.text))]
    Status {
        status: u16,
        text: String,
        /// What it asks to wait, in milliseconds.
        after_ms: Option<i64>,
    },
    #[error("it leads elsewhere ({0}), where nothing is sent")]
    Redirect(u16),
    #[error("it did not answer within {} ms", .0.as_millis())]
    Slow(Duration),
    #[error("it cannot be sent: {0}")]
    Unsendable(String),
    #[error("the mail server: {text}")]
    Mail { text: String, is_final: bool },
    #[error("without TLS mail goes to this machine alone: set tls to starttls or tls")]
    PlainMail,
}

fn said(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

impl SendError {
    /// Whether the same would fail again. What an operator may set right without a restart of the receiver is final too: it is a
    /// dead letter, which `alert.retry` sends.
    fn is_final(&self) -> bool {
        match self {
            SendError::Status { status, .. } => !matches!(status, 408 | 425 | 429 | 500..),
            SendError::Private(_) | SendError::Unsendable(_) | SendError::PlainMail => true,
            SendError::Mail { is_final, .. } => *is_final,
            // A receiver that is moved or set up anew may answer otherwise by then.
            SendError::Redirect(_) => false,
            SendError::Unresolved(_) | SendError::Connect(_) | SendError::Broken(_) | SendError::Slow(_) => false,
        }
    }

    pub fn outcome(&self) -> Outcome {
        let error = self.to_string();
        match self {
            _ if self.is_final() => Outcome::Refused { error },
            SendError::Status { after_ms, .. } => Outcome::Failed {
                error,
                after_ms: *after_ms,
            },
            _ => Outcome::Failed { error, after_ms: None },
        }
    }
}

/// Sends an alert. What the receiver said.
///
/// # Errors
/// It has not arrived, as far as is known.
pub async fn send(
    connector: &http::Connector,
    receiver: &Receiver,
    alert: &Alert,
    now_ms: i64,
    within: Duration,
) -> Result<String, SendError> {
    let sending = async {
        match &receiver.to {
            Destination::Http(to) => http::post(connector, to, receiver.allow_private, alert, now_ms).await,
            Destination::Mail(to) => mail::send(to, receiver.allow_private, alert, within).await,
        }
    };
    timeout(within, sending).await.map_err(|_| SendError::Slow(within))?
}

/// The first address of a host that may be connected to. Who writes down this machine means it; a name may lead anywhere, and an
/// address of a private network may be a service that answers with credentials.
pub(super) async fn vetted(host: &str, port: u16, allow_private: bool) -> Result<SocketAddr, SendError> {
    let bare = host.trim_matches(['[', ']']);
    let found = lookup_host((bare, port)).await;
    let mut found = found.map_err(|_| SendError::Unresolved(host.to_owned()))?.peekable();
    if found.peek().is_none() {
        return Err(SendError::Unresolved(host.to_owned()));
    }
    let is_own = is_own_machine(bare);
    let may_be = |ip: IpAddr| allow_private || is_public(ip) || (is_own && ip.is_loopback());
    found
        .find(|address| may_be(address.ip()))
        .ok_or_else(|| SendError::Private(host.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn status(status: u16) -> SendError {
        SendError::Status {
            status,
            text: String::new(),
            after_ms: None,
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_may_not_is_given_up() {
        for again in [
            status(429),
            status(500),
            status(503),
            status(408),
            SendError::Redirect(302),
        ] {
            assert!(matches!(again.outcome(), Outcome::Failed { .. }), "{again}");
        }
        for given_up in [
            status(400),
            status(404),
            status(410),
            SendError::Private("h".to_owned()),
        ] {
            assert!(matches!(given_up.outcome(), Outcome::Refused { .. }), "{given_up}");
        }
    }

    #[tokio::test]
    async fn private_addresses_are_for_those_who_may() {
        // A name of this machine that nobody wrote as an address.
        for host in [
            "ip6-localhost",
            "127.1",
            "169.254.169.254",
            "[fe80::1]",
            "10.0.0.1",
            "192.168.1.7",
            "[fd00::1]",
        ] {
            let refused = vetted(host, 80, false).await.unwrap_err();
            let is_unknown_here = host == "ip6-localhost" && matches!(refused, SendError::Unresolved(_));
            assert!(
                matches!(refused, SendError::Private(_)) || is_unknown_here,
                "{host}: {refused}"
            );
        }
        for meant in ["127.0.0.1", "localhost", "[::1]"] {
            assert!(vetted(meant, 80, false).await.is_ok(), "{meant}");
        }
        assert_eq!(vetted("10.0.0.1", 80, true).await.unwrap().to_string(), "10.0.0.1:80");
        assert_eq!(vetted("127.0.0.1", 80, true).await.unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(vetted("8.8.8.8", 80, false).await.unwrap().to_string(), "8.8.8.8:80");
    }
}
