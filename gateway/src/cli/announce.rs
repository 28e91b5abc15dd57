//! What `serve` says when it begins: where clients reach it, what is budgeted and what is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::running::Running;
use crate::config::{BudgetRule, Config};
use crate::hosts;

/// Limits that are named one by one.
const LIMITS_NAMED: usize = 5;

/// What there is to say, of a gateway whose `budget` policy has this conf from the file and so many rules of operators.
pub struct Announcement {
    pub budgeted: String,
    /// Whoever can reach it may spend without a limit.
    pub open: Option<String>,
}

/// Where clients of this machine reach it.
pub fn url(config: &Config, address: SocketAddr) -> String {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

/// The same, as the configuration says it; `None` where it leaves the port to the system.
pub fn configured_url(config: &Config) -> Option<String> {
    let (host, port) = config.listen.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    Some(format!("{scheme}://{host}:{port}"))
}

/// How the gateway is found by commands.
pub fn running(config: &Config, file: Option<&Path>, address: SocketAddr) -> Running {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    Running {
        config: file.map(absolute),
        socket: absolute(&config.control.socket),
        ledger: absolute(&config.storage.dir),
        url: url(config, address),
    }
}

pub fn announce(config: &Config, conf: Option<&Value>, operators_rules: usize) -> Announcement {
    let budgets = &config.budgets;
    let mut said: Vec<String> = Vec::new();
    let of_rule = |who: &str, rule: &BudgetRule| -> Option<String> {
        let limits = [(rule.daily_limit, "a day"), (rule.monthly_limit, "a month")];
        let limits: Vec<String> = limits
            .iter()
            .filter_map(|(limit, window)| limit.map(|limit| format!("${limit} {window}")))
            .collect();
        let how = if rule.action == "block" { "" } else { ", only warned of" };
        (!limits.is_empty()).then(|| format!("{who} {}{how}", limits.join(" and ")))
    };
    said.extend(budgets.default.as_ref().and_then(|rule| of_rule("each key", rule)));
    said.extend(budgets.global.as_ref().and_then(|rule| of_rule("all together", rule)));
    let rules = budgets.rules.len();
    if rules > 0 {
        said.push(format!(
            "{rules} {} of keys or tenants",
            if rules == 1 { "rule" } else { "rules" }
        ));
    }
    let limits = conf
        .and_then(|conf| conf.get("limits")?.as_array())
        .map_or(&[][..], Vec::as_slice);
    said.extend(limits.iter().take(LIMITS_NAMED).map(limit));
    if limits.len() > LIMITS_NAMED {
        said.push(format!("{} more limits", limits.len() - LIMITS_NAMED));
    }
    if operators_rules > 0 {
        said.push(format!("{operators_rules} by operators (`agentledger rules list`)"));
    }
    let is_none = said.is_empty();
    let holds_for_all = budgets.default.is_some() || budgets.global.is_some();
    if !is_none && !holds_for_all {
        said.push("whatever none of these fits is not limited".to_owned());
    }
    let budgeted = if is_none {
        "nothing: requests are metered, and no limit holds (budgets.default.daily_limit_usd sets one for each key)"
            .to_owned()
    } else {
        said.join("; ")
    };
    let is_open = is_none && !hosts::is_loopback(&config.listen);
    Announcement {
        budgeted,
        open: is_open.then(|| {
            format!(
                "listen: {} can be reached from other machines, and nothing is budgeted: whoever reaches it may use it \
                 without a limit. Listen on 127.0.0.1, or set budgets.default",
                config.listen
            )
        }),
    }
}

/// A limit of `policies.conf.budget.limits`.
fn limit(limit: &Value) -> String {
    let text = |name: &str| match limit.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let unit = text("unit");
    let amount = if unit.is_empty() || unit == "usd" {
        format!("${}", text("limit"))
    } else {
        format!("{} {unit}", text("limit"))
    };
    format!("{} {amount} a {}", text("account"), text("window"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Env, Known, load_text};

    fn said(yaml: &str, operators_rules: usize) -> Announcement {
        let config = load_text(None, yaml, &Env::default(), &Known::built_in()).unwrap();
        announce(&config, config.policies.conf.get("budget"), operators_rules)
    }

    #[test]
    fn what_is_budgeted_is_said_and_an_open_gateway_without_budgets_is_warned_of() {
        let none = said("listen: ':8787'", 0);
        assert!(none.budgeted.starts_with("nothing:"), "{}", none.budgeted);
        assert!(none.open.unwrap().starts_with("listen: :8787 can be reached"));
        assert!(said("listen: '127.0.0.1:8787'", 0).open.is_none());
        let some = said(
            "budgets: {default: {daily_limit_usd: 10, action: block}, global: {monthly_limit_usd: 1.5}, \
             rules: [{api_key_pattern: 'sk-*', daily_limit_usd: 3}]}\n\
             policies: {conf: {budget: {limits: [{account: agent, window: day, limit: 5}, \
             {account: global, window: minute, limit: 9, unit: requests}]}}}",
            2,
        );
        assert_eq!(
            some.budgeted,
            "each key $10 a day; all together $1.5 a month, only warned of; 1 rule of keys or tenants; agent $5 a day; \
             global 9 requests a minute; 2 by operators (`agentledger rules list`)"
        );
        assert!(some.open.is_none());
        let partly = said("budgets: {rules: [{api_key_pattern: 'sk-*', daily_limit_usd: 3}]}", 0);
        assert_eq!(
            partly.budgeted,
            "1 rule of keys or tenants; whatever none of these fits is not limited"
        );
    }

    #[test]
    fn clients_of_this_machine_reach_a_gateway_that_listens_everywhere() {
        let config = load_text(None, "", &Env::default(), &Known::built_in()).unwrap();
        for (address, expected) in [
            ("0.0.0.0:8787", "http://127.0.0.1:8787"),
            ("[::]:8787", "http://[::1]:8787"),
            ("192.0.2.7:1", "http://192.0.2.7:1"),
        ] {
            assert_eq!(url(&config, address.parse().unwrap()), expected);
        }
        let configured = |listen: &str| {
            let yaml = format!("listen: '{listen}'");
            configured_url(&load_text(None, &yaml, &Env::default(), &Known::built_in()).unwrap())
        };
        assert_eq!(configured(":8787").as_deref(), Some("http://127.0.0.1:8787"));
        assert_eq!(configured("[::]:80").as_deref(), Some("http://[::1]:80"));
        assert_eq!(
            configured("gateway.example:1").as_deref(),
            Some("http://gateway.example:1")
        );
        assert_eq!(configured("127.0.0.1:0"), None);
    }
}
