//! The contract's sections as the conf of the shipped policies, and `policies.conf` over them.
//!
//! Money goes there as decimal text: a policy hands it back to the host, which reads its digits.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::cursor::Cursor;
use super::node::{self, Node, Value};
use super::resolve::pattern;
use super::units;

const COUNT_MAX: u64 = 1_000_000_000;

/// Reads a section as a conf.
type SectionReader = fn(&Cursor<'_>) -> Json;

/// Conf by policy name. Only sections that are there make one.
pub fn resolve(root: &Cursor<'_>) -> BTreeMap<String, Json> {
    let mut conf = BTreeMap::new();
    let sections: [(&str, &str, SectionReader); 6] = [
        ("budget", "budgets", budget),
        ("rate_limit", "rate_limits", rate_limit),
        ("tenant", "tenants", tenant),
        ("loop", "agent", loop_),
        ("ghost", "agent", ghost),
        ("alert", "alerts", alert),
    ];
    for (policy, key, read) in sections {
        let section = root.at(key);
        if section.is_section() {
            conf.insert(policy.to_owned(), read(&section));
        }
    }
    for (policy, own) in root.at("policies.conf").names() {
        let Some(node) = own.node else { continue };
        match as_json(node) {
            Json::Object(own) => {
                let slot = conf
                    .entry(policy.to_owned())
                    .or_insert_with(|| Json::Object(Map::new()));
                match slot {
                    // What is said to the policy itself wins over the contract's section, key by key.
                    Json::Object(known) => known.extend(own),
                    other => *other = Json::Object(own),
                }
            }
            Json::Null => {}
            _ => own.refuse("must be a section: the policy's conf"),
        }
    }
    conf
}

fn budget(at: &Cursor<'_>) -> Json {
    let rule = |at: &Cursor<'_>| {
        let mut rule = Map::new();
        for name in ["api_key_pattern", "tenant_id"] {
            put(&mut rule, name, at.at(name).filled().map(Json::from));
        }
        for name in ["daily_limit_usd", "monthly_limit_usd"] {
            let limit = at.at(name).usd().nanos();
            put(
                &mut rule,
                name,
                (limit > 0).then(|| Json::from(decimal(limit.into(), 9))),
            );
        }
        let soft = at.at("soft_limit_pct").share_ppm();
        put(
            &mut rule,
            "soft_limit_pct",
            // A share, not money.
            (soft > 0).then(|| Json::from(f64::from(soft) / 1e6)),
        );
        let action = at
            .at("action")
            .filled()
            .map(|action| match action.to_ascii_lowercase().as_str() {
                "block" => "block",
                _ => "warn",
            });
        put(&mut rule, "action", action.map(Json::from));
        Json::Object(rule)
    };
    let mut conf = Map::new();
    for name in ["default", "global"] {
        let section = at.at(name);
        put(&mut conf, name, section.is_section().then(|| rule(&section)));
    }
    conf.insert("rules".to_owned(), at.at("rules").items().iter().map(rule).collect());
    Json::Object(conf)
}

fn rate_limit(at: &Cursor<'_>) -> Json {
    let rule = |at: &Cursor<'_>| {
        let mut rule = Map::new();
        let text = pattern(&at.at("api_key_pattern"));
        put(
            &mut rule,
            "api_key_pattern",
            (!text.is_empty()).then(|| Json::from(text)),
        );
        for name in ["requests_per_minute", "requests_per_hour"] {
            rule.insert(name.to_owned(), at.at(name).count(0, 0, COUNT_MAX).into());
        }
        // Ours, beyond the contract.
        for name in [
            "requests_per_second",
            "requests_per_day",
            "tokens_per_minute",
            "tokens_per_hour",
            "tokens_per_day",
            "parallel",
        ] {
            let count = at.at(name).count(0, 0, COUNT_MAX);
            put(&mut rule, name, (count > 0).then(|| count.into()));
        }
        Json::Object(rule)
    };
    let rules: Vec<Json> = at.at("rules").items().iter().map(rule).collect();
    json!({ "default": rule(&at.at("default")), "rules": rules })
}

fn tenant(at: &Cursor<'_>) -> Json {
    let mapping = |at: &Cursor<'_>| {
        let tenant = at.at("tenant_id");
        if tenant.filled().is_none() {
            at.refuse("needs a tenant_id");
        }
        json!({ "api_key_pattern": pattern(&at.at("api_key_pattern")), "tenant_id": tenant.filled().unwrap_or("") })
    };
    let mappings: Vec<Json> = at.at("key_mappings").items().iter().map(mapping).collect();
    json!({ "enabled": at.at("enabled").flag(false), "key_mappings": mappings })
}

fn loop_(at: &Cursor<'_>) -> Json {
    let window = at.at("loop_window_mins").count(5, 0, 1_000_000);
    json!({
        "threshold": at.at("loop_threshold").count(0, 0, COUNT_MAX),
        "window_mins": if window == 0 { 5 } else { window },
        "action": at.at("loop_action").word("warn", &[("warn", "warn"), ("block", "block"), ("delay", "delay")]),
    })
}

fn ghost(at: &Cursor<'_>) -> Json {
    let cost = at.at("ghost_min_cost_usd");
    let cost = if cost.is_given() {
        cost.usd().nanos()
    } else {
        1_000_000_000
    };
    json!({
        "max_age_mins": at.at("ghost_max_age_mins").count(0, 0, 1_000_000),
        "min_calls": at.at("ghost_min_calls").count(50, 0, COUNT_MAX),
        "min_cost_usd": decimal(cost.into(), 9),
    })
}

/// Where alerts go is no business of a policy: addresses hold secrets.
fn alert(at: &Cursor<'_>) -> Json {
    let cooldown = at.at("cooldown_mins").count(0, 0, 1_000_000);
    json!({ "cooldown_mins": if cooldown == 0 { 5 } else { cooldown } })
}

fn put(map: &mut Map<String, Json>, name: &str, value: Option<Json>) {
    if let Some(value) = value {
        map.insert(name.to_owned(), value);
    }
}

/// `value` × 10^-`places` as decimal text without trailing zeros.
fn decimal(value: i128, places: u32) -> String {
    let unit = 10_i128.pow(places);
    let fraction = format!("{:0width$}", value % unit, width = places as usize);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        (value / unit).to_string()
    } else {
        format!("{}.{fraction}", value / unit)
    }
}

/// One policy's conf, in a file of its own: YAML or JSON.
///
/// # Errors
/// It is neither, with the place.
pub fn read(text: &str) -> Result<Json, String> {
    if let Ok(json) = serde_json::from_str(text) {
        return Ok(json);
    }
    let said = |fault: node::Malformed| match fault.place {
        super::Place::File { line, column } => format!("{line}:{column}: {}", fault.message),
        _ => fault.message,
    };
    let document = node::parse(text).map_err(said)?;
    match document.faults.into_iter().next() {
        Some(fault) => Err(said(fault)),
        None => Ok(as_json(&document.root)),
    }
}

/// A free part of the file as JSON, by YAML's core rules: plain numbers and flags are such, the rest is text.
pub fn as_json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Scalar { text, quoted: true } if matches!(node.place, super::Place::File { .. }) => {
            Json::from(text.as_str())
        }
        Value::Scalar { text, .. } => scalar(text),
        Value::List(items) => items.iter().map(as_json).collect(),
        Value::Map(pairs) => Json::Object(
            pairs
                .iter()
                .map(|pair| (pair.name.clone(), as_json(&pair.node)))
                .collect(),
        ),
    }
}

fn scalar(text: &str) -> Json {
    match text {
        "true" | "True" | "TRUE" => return Json::Bool(true),
        "false" | "False" | "FALSE" => return Json::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    // Only what reads as a decimal: the standard parser would take "inf" and "nan" too.
    match (units::scaled(text, 30), text.parse::<f64>()) {
        (Ok(_), Ok(number)) => serde_json::Number::from_f64(number).map_or_else(|| Json::from(text), Json::Number),
        _ => Json::from(text),
    }
}
