//! Which names of hosts and origins are the gateway's own, or its operator's.
//!
//! A page whose name is made to lead to this machine (DNS rebinding) reaches the gateway from a browser inside the network,
//! and calls it by that name. An address cannot be led elsewhere, and `localhost` is nobody's; any other name is known by
//! the configuration alone.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::Config;

/// Whether a `Host` is one of the gateway's own: an address, this machine, where it listens, or named in `hosts`.
pub fn is_own(config: &Config, host: &str) -> bool {
    let Some(name) = name_of(host) else { return false };
    let listens = std::iter::once(config.listen.as_str()).chain(config.control.listen.as_deref());
    is_address(&name)
        || is_this_machine(&name)
        || listens.filter_map(name_of).any(|own| own == name)
        || config.hosts.iter().any(|own| fits(own, &name))
}

/// Whether a listener is reached from this machine alone.
pub fn is_loopback(listen: &str) -> bool {
    let Some(name) = name_of(listen) else { return false };
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    is_this_machine(&name) || address.is_ok_and(|address| address.is_loopback())
}

/// Whether an origin is named, by itself and not by `*`.
pub fn is_named_origin(named: &[String], origin: &str) -> bool {
    named
        .iter()
        .any(|one| one != "*" && one.eq_ignore_ascii_case(origin.trim()))
}

/// The name before the port, in lower case.
fn name_of(host: &str) -> Option<String> {
    let host = host.trim();
    let name = match host.rsplit_once(':') {
        // Within brackets it is a part of the address.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

fn is_address(name: &str) -> bool {
    let v6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match v6 {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

/// RFC 6761 §6.3: these names lead to the machine itself.
fn is_this_machine(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// `gateway.example`, or `*.example` for all names below one.
fn fits(own: &str, name: &str) -> bool {
    match own.strip_prefix('*') {
        Some(below) if below.starts_with('.') => {
            name.ends_with(&below.to_ascii_lowercase()) && name.len() > below.len()
        }
        _ => own.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn own_names_are_told_from_foreign_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::for_tests(dir.path());
        config.listen = "ledger.internal:8787".to_owned();
        config.control.listen = Some("admin.internal:9000".to_owned());
        config.hosts = vec!["gateway.example".to_owned(), "*.corp.example".to_owned()];
        for own in [
            "127.0.0.1:8787",
            "127.0.0.1",
            "192.168.1.7:8787",
            "[::1]:8787",
            "[fd00::1]",
            "localhost:8787",
            "LOCALHOST",
            "localhost.:8787",
            "app.localhost",
            "ledger.internal:8787",
            "admin.internal",
            "Gateway.Example:443",
            "a.corp.example",
        ] {
            assert!(is_own(&config, own), "{own}");
        }
        for foreign in [
            "",
            ":8787",
            "evil.example",
            "evil.example:8787",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "corp.example",
            "xcorp.example",
            "gateway.example.evil",
            "127.1",
            "::1",
            "gateway.example/",
        ] {
            assert!(!is_own(&config, foreign), "{foreign}");
        }
    }

    #[test]
    fn a_listener_for_this_machine_alone_is_known() {
        for listen in ["127.0.0.1:8787", "127.8.0.1:1", "[::1]:8787", "localhost:8787"] {
            assert!(is_loopback(listen), "{listen}");
        }
        for listen in [
            ":8787",
            "0.0.0.0:8787",
            "[::]:8787",
            "192.168.1.7:8787",
            "gateway.example:80",
        ] {
            assert!(!is_loopback(listen), "{listen}");
        }
    }
}
