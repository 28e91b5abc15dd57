//! What `serve` says when it begins: where clients reach it, what is budgeted and what is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use agentledger_ledger::Mode;
use serde_json::Value;

use super::running::Running;
use crate::config::{BudgetRule, Config};
use crate::hosts;
use crate::policy::{PolicyMode, PolicySet, PolicyView};

/// Limits that are named one by one.
const LIMITS_NAMED: usize = 5;
/// The policy whose conf the config's section `budgets` is.
const BUDGET: &str = "budget";
/// A key that no rule is for.
const UNKNOWN_KEY: &str = "agentledger-probe";
const WARNED_OF: &str = ", only warned of";

/// What there is to say.
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

/// `conf` is what the file says to the `budget` policy; `policies` are those in force at a moment in milliseconds since the epoch.
pub fn announce(
    config: &Config,
    conf: Option<&Value>,
    operators_rules: usize,
    policies: &PolicySet,
    now_ms: i64,
) -> Announcement {
    let mode = policies.policy(BUDGET).map_or(PolicyMode::Off, |policy| policy.mode);
    let mut said = match mode {
        PolicyMode::Enforce => of_budget_policy(config, conf, operators_rules),
        _ => Vec::new(),
    };
    let others = others(policies);
    if !others.is_empty() {
        said.push(format!("what the policies {} ask for", others.join(", ")));
    }
    let holds_for_all = holds_for_all(policies, now_ms);
    if !said.is_empty() && !holds_for_all {
        said.push("whatever none of these fits is not limited".to_owned());
    }
    if mode != PolicyMode::Enforce {
        said.push(format!(
            "the policy {BUDGET} is {}, its limits do not hold",
            mode.name()
        ));
    } else if said.is_empty() {
        said.push(
            "nothing: requests are metered, and no limit holds (budgets.default.daily_limit_usd sets one for each key)"
                .to_owned(),
        );
    }
    let is_open = !holds_for_all && !hosts::is_loopback(&config.listen);
    Announcement {
        budgeted: said.join("; "),
        open: is_open.then(|| {
            format!(
                "listen: {} can be reached from other machines, and no limit that refuses holds for each key or for all \
                 together: whoever reaches it may use it without a limit. Listen on 127.0.0.1, or set budgets.default with \
                 action: block",
                config.listen
            )
        }),
    }
}

/// The limits of the policy that the config's section is the conf of, one by one.
fn of_budget_policy(config: &Config, conf: Option<&Value>, operators_rules: usize) -> Vec<String> {
    let budgets = &config.budgets;
    let mut said: Vec<String> = Vec::new();
    let of_rule = |who: &str, rule: &BudgetRule| -> Option<String> {
        let limits = [(rule.daily_limit, "a day"), (rule.monthly_limit, "a month")];
        let limits: Vec<String> = limits
            .iter()
            .filter_map(|(limit, window)| limit.map(|limit| format!("${limit} {window}")))
            .collect();
        let how = if rule.action == "block" { "" } else { WARNED_OF };
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
    said
}

/// Policies beside the shipped one that ask for budgets, as their texts say: which calls they ask it of only a call shows.
fn others(policies: &PolicySet) -> Vec<&str> {
    let asks = |policy: &PolicyView<'_>| {
        let is_enforced = policy.mode == PolicyMode::Enforce && policy.name != BUDGET;
        let text = &policy.source.text;
        let has = |part: &str| text.contains(part);
        is_enforced && (has("budget({") || has("budget{") || (has("limits(") && has("window =")))
    };
    policies.policies().filter(asks).map(|policy| policy.name).collect()
}

/// Whoever calls with whatever key meets a limit that refuses: each key's own, or that of all together. Names that clients make up
/// are no bound.
fn holds_for_all(policies: &PolicySet, now_ms: i64) -> bool {
    let Ok(asked) = policies.asked_bounds() else {
        return false;
    };
    ["key", "global"].into_iter().any(|account| {
        // A key that nobody knows is denied altogether.
        let bounds = asked.on(account, UNKNOWN_KEY, now_ms);
        bounds.is_none_or(|bounds| bounds.iter().any(|bound| bound.bound.mode() == Mode::Hard))
    })
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
    let how = if text("action") == "warn" { WARNED_OF } else { "" };
    format!("{} {amount} a {}{how}", text("account"), text("window"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Env, Known, load_text};
    use crate::policy::{Options, Source, builtin_sources};

    fn said(yaml: &str, operators_rules: usize) -> Announcement {
        said_with(yaml, operators_rules, &[])
    }

    /// With policies of the operator's own.
    fn said_with(yaml: &str, operators_rules: usize, own: &[(&str, &str)]) -> Announcement {
        let config = load_text(None, yaml, &Env::default(), &Known::built_in()).unwrap();
        let mut sources = builtin_sources();
        sources.extend(own.iter().map(|(name, text)| Source {
            name: (*name).to_owned(),
            origin: format!("{name}.lua"),
            text: (*text).to_owned(),
        }));
        let policies = PolicySet::load(sources, &config.policies.conf, Options::default()).unwrap();
        let conf = config.policies.conf.get("budget");
        announce(&config, conf, operators_rules, &policies, 1_795_996_800_000)
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
    fn a_limit_for_all_leaves_nothing_unlimited_and_any_other_does() {
        let of_limits = |limits: &str| {
            let conf = format!("{{budget: {{limits: [{limits}]}}}}");
            said(&format!("listen: ':8787'\npolicies: {{conf: {conf}}}"), 0)
        };
        for for_all in [
            "{account: global, window: day, limit: 5}",
            "{account: key, window: day, limit: 5}",
            "{account: key, window: day, limit: 5, unit: requests}",
        ] {
            let said = of_limits(for_all);
            assert!(
                said.open.is_none() && !said.budgeted.contains("not limited"),
                "{for_all}: {}",
                said.budgeted
            );
        }
        for for_some in [
            "{account: global, window: day, limit: 5, action: warn}",
            "{account: agent, window: day, limit: 5}",
            "{account: 'key:0123456789abcdef01234567', window: day, limit: 5}",
        ] {
            let said = of_limits(for_some);
            assert!(
                said.open.is_some() && said.budgeted.contains("not limited"),
                "{for_some}: {}",
                said.budgeted
            );
        }
        let warned = said(
            "listen: ':8787'\nbudgets: {default: {daily_limit_usd: 10, action: warn}}",
            0,
        );
        assert!(warned.open.is_some(), "{}", warned.budgeted);
        let some_keys = said(
            "listen: ':8787'\nbudgets: {rules: [{api_key_pattern: 'sk-dev-*', daily_limit_usd: 3, action: block}]}",
            0,
        );
        assert!(some_keys.open.is_some(), "{}", some_keys.budgeted);
    }

    #[test]
    fn a_budget_policy_that_is_off_and_policies_of_ones_own_are_looked_at() {
        let budgets = "listen: ':8787'\nbudgets: {default: {daily_limit_usd: 10, action: block}}\n";
        for mode in ["shadow", "off"] {
            let off = said(&format!("{budgets}policies: {{conf: {{budget: {{mode: {mode}}}}}}}"), 3);
            assert_eq!(
                off.budgeted,
                format!("the policy budget is {mode}, its limits do not hold")
            );
            assert!(off.open.is_some());
        }
        let house = "return { name = \"house\", version = \"1\", request = function(conf, call)\n\
             return budget({ account = \"key\", window = \"day\", limit = 5 })\nend }";
        let own = said_with("listen: ':8787'", 0, &[("house", house)]);
        assert_eq!(own.budgeted, "what the policies house ask for");
        assert!(own.open.is_none());
        let of_agents = house.replace("\"key\"", "\"agent\"");
        let own = said_with("listen: ':8787'", 0, &[("house", &of_agents)]);
        assert!(
            own.open.is_some() && own.budgeted.contains("not limited"),
            "{}",
            own.budgeted
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
