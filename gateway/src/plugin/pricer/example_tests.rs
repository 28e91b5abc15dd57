//! The example of a pricer, as the gateway runs it from a folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::config::{self, Env, Known, load_text};
use crate::plugin::Plugins;
use crate::plugin::registry::EXAMPLE_PRICER;

/// A folder with the example under a name, and a configuration of it.
fn load(file: &str, pricers: &str, more: &str) -> Result<ToolPricers, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(format!("{file}.wasm")), EXAMPLE_PRICER).unwrap();
    let yaml = format!("mcp:\n  pricers:\n    {pricers}\n{more}");
    let none: [(&str, &str); 0] = [];
    let path = std::path::Path::new("a.yaml");
    let config = load_text(Some(path), &yaml, &Env::of(none), &Known::undecided()).unwrap();
    let folder = config::Plugins {
        dir: Some(dir.path().to_owned()),
        ..config.plugins.clone()
    };
    let plugins = Plugins::load_of(|name| name == ToolPricing::BUILT_IN, &folder, &config.limits).unwrap();
    assert_eq!(plugins.iter().count(), 0, "a pricer reads no dialect");
    ToolPricers::load(&plugins, &config).map_err(|error| error.to_string())
}

const BY_SIZE: &str = "by-size: { server: files, tool: 'read*', usd_per_mb: 0.02, max_bytes: 65536 }";

fn quote(pricers: &ToolPricers, tool: &str, arguments: &str) -> Quoted {
    let call = ToolCall {
        server: "files",
        tool,
        arguments: Some(arguments.as_bytes()),
    };
    pricers.quote(&call).unwrap()
}

#[test]
fn a_pricer_of_ones_own_holds_before_and_settles_by_size() {
    let pricers = load("by-size", BY_SIZE, "").unwrap();
    let quoted = quote(&pricers, "read_file", r#"{"path":"/etc/hosts","max_bytes":1000}"#);
    assert_eq!(
        (quoted.hold.nanos(), quoted.is_upper_bound, quoted.pricer()),
        (20_000, true, "by-size")
    );
    let price = |bytes: usize| {
        let result = format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes - 11));
        quoted.price(ToolEnding::Success, Some(result.as_bytes()), 0, 3)
    };
    let priced = price(750);
    assert_eq!((priced.cost.nanos(), priced.is_beyond_quote), (15_000, false));
    assert_eq!(
        (priced.parts[0].name.as_str(), priced.parts[0].units),
        ("result_bytes", 750)
    );
    // The server broke its promise: what it gave is priced, and told.
    let priced = price(5_000);
    assert_eq!((priced.cost.nanos(), priced.is_beyond_quote), (100_000, true));
    assert_eq!(quote(&pricers, "read", "{}").hold.nanos(), 1_310_720);
    assert!(!quote(&pricers, "write", "{}").is_priced());
}

#[test]
fn ones_own_pricer_comes_before_a_rule_that_is_as_narrow() {
    let rules = "  pricing: [{server: files, tool: 'read*', cost_per_call: 1}, {server: files, tool: read_all, cost_per_call: 2}]";
    let pricers = load("by-size", BY_SIZE, rules).unwrap();
    assert_eq!(quote(&pricers, "read_file", "{}").pricer(), "by-size");
    assert_eq!(
        quote(&pricers, "read_all", "{}").pricer(),
        "mcp-pricing",
        "its name is exact"
    );
}

#[test]
fn all_faults_of_its_configuration_are_told_with_their_places() {
    let error = load(
        "by-size",
        "by-size:\n      server: ''\n      usd_per_mb: cheap\n      max_bytes: 1",
        "",
    )
    .err()
    .unwrap();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(
        lines[0].starts_with("a.yaml:4: mcp.pricers.by-size.server: must name a server"),
        "{error}"
    );
    assert!(
        lines[1].starts_with("a.yaml:5: mcp.pricers.by-size.usd_per_mb: must be an amount"),
        "{error}"
    );
    let error = load("other", BY_SIZE, "").err().unwrap();
    assert!(
        error.contains("mcp.pricers.other: ") && error.contains("mcp.pricers.by-size: no pricer of this name"),
        "{error}"
    );
}
