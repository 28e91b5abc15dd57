//! The built-in pricer as the gateway runs it, from YAML to the nano-dollar. The sums are made by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::config::{Env, Known, load_text};
use crate::plugin::Plugins;

pub(super) fn config(yaml: &str) -> Config {
    let none: [(&str, &str); 0] = [];
    load_text(None, yaml, &Env::of(none), &Known::undecided()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn pricers(yaml: &str) -> ToolPricers {
    let config = config(yaml);
    let plugins = Plugins::load_of(|name| name == ToolPricing::BUILT_IN, &config.plugins, &config.limits).unwrap();
    ToolPricers::load(&plugins, &config).unwrap_or_else(|error| panic!("{error}"))
}

const PRICING: &str = r"
mcp:
  hold: 0.003
  pricing:
    - { server: search, tool: web, cost_per_call: 0.005 }
    - { server: search, cost_per_call: 0.001, errors: tool }
    - { server: 'db-*', tool: query, cost_per_call: 0.0002, cost_per_kb_arguments: 0.001, cost_per_kb_result: 0.00005,
        cost_per_item: 0.00001, items: structuredContent.rows, max_cost: 0.01 }
    - { server: render, cost_per_second: 0.0006, hold: 0.02, errors: all }
    - { server: render, tool: '*_fast', cost_per_second: 0.000000001 }
    - { cost_per_call: 0 }
";

/// Server, tool, arguments, result, milliseconds; then hold, is an upper bound, cost, parts.
type Row<'a> = (&'a str, &'a str, &'a str, &'a str, u64, i64, bool, i64, &'a str);

#[test]
fn quotes_and_prices_to_the_nano_dollar() {
    let pricers = pricers(PRICING);
    let empty = r#"{"content":[]}"#;
    let failed = r#"{"content":[],"isError":true}"#;
    let error = "";
    let rows = r#"{"content":[],"structuredContent":{"rows":[{"a":1},{"a":2},{"a":3}]}}"#;
    let many = format!(r#"{{"structuredContent":{{"rows":[{}0]}}}}"#, "0,".repeat(2_000));
    let table: Vec<Row<'_>> = vec![
        (
            "search",
            "web",
            "{}",
            empty,
            5,
            5_000_000,
            true,
            5_000_000,
            "call 1 5000000000",
        ),
        ("search", "web", "{}", failed, 5, 5_000_000, true, 0, ""),
        ("search", "web", "{}", error, 5, 5_000_000, true, 0, ""),
        (
            "search",
            "news",
            "{}",
            failed,
            5,
            1_000_000,
            true,
            1_000_000,
            "call 1 1000000000",
        ),
        ("search", "news", "{}", error, 5, 1_000_000, true, 0, ""),
        // 7 bytes of arguments at 1,000 nano-dollars a byte, 69 of result at 50, 3 rows at 10,000, and the call.
        (
            "db-1",
            "query",
            r#"{"q":1}"#,
            rows,
            5,
            10_000_000,
            true,
            200_000 + 7_000 + 3_450 + 30_000,
            "call 1 200000000, argument_bytes 7 7000000, result_bytes 69 3450000, items 3 30000000",
        ),
        // 2,001 rows would cost two cents.
        (
            "db-1",
            "query",
            "{}",
            &many,
            5,
            10_000_000,
            true,
            10_000_000,
            "call 1 200000000, argument_bytes 2 2000000, result_bytes 4034 201700000, items 2001 9596300000",
        ),
        // 1,234 ms at 600 nano-dollars.
        (
            "render",
            "page",
            "{}",
            empty,
            1_234,
            20_000_000,
            false,
            740_400,
            "milliseconds 1234 740400000",
        ),
        (
            "render",
            "page",
            "{}",
            error,
            1_234,
            20_000_000,
            false,
            740_400,
            "milliseconds 1234 740400000",
        ),
        // Half a nano-dollar is one; less is none.
        (
            "render",
            "page_fast",
            "{}",
            empty,
            500,
            3_000_000,
            false,
            1,
            "milliseconds 500 500",
        ),
        (
            "render",
            "page_fast",
            "{}",
            empty,
            499,
            3_000_000,
            false,
            0,
            "milliseconds 499 499",
        ),
        ("files", "read", "{}", empty, 5, 0, true, 0, ""),
    ];
    for (server, tool, arguments, result, milliseconds, hold, is_upper_bound, cost, parts) in table {
        let call = ToolCall {
            server,
            tool,
            arguments: Some(arguments.as_bytes()),
        };
        let quoted = pricers.quote(&call).unwrap();
        let (ending, seen) = match result {
            "" => (ToolEnding::ProtocolError, None),
            result if result == failed => (ToolEnding::ToolError, Some(result.as_bytes())),
            result => (ToolEnding::Success, Some(result.as_bytes())),
        };
        let priced = quoted.price(ending, seen, 99, milliseconds);
        let said: Vec<String> = priced
            .parts
            .iter()
            .map(|part| format!("{} {} {}", part.name, part.units, part.cost.picos()))
            .collect();
        let row = format!("{server} {tool} {result:.80}");
        assert_eq!(
            (quoted.hold.nanos(), quoted.is_upper_bound),
            (hold, is_upper_bound),
            "{row}"
        );
        assert_eq!((priced.cost.nanos(), said.join(", ").as_str()), (cost, parts), "{row}");
        assert_eq!((priced.estimated, priced.is_beyond_quote), (None, false), "{row}");
        assert_eq!(quoted.pricer(), "mcp-pricing");
    }
}

#[test]
fn without_rules_no_tool_costs_anything() {
    let config = config("");
    let plugins = Plugins::load_of(|_| false, &config.plugins, &config.limits).unwrap();
    let pricers = ToolPricers::load(&plugins, &config).unwrap();
    assert_eq!(pricers.tariffs(), 0);
    let call = ToolCall {
        server: "s",
        tool: "t",
        arguments: None,
    };
    assert!(!pricers.quote(&call).unwrap().is_priced());
}

#[test]
fn rules_as_many_as_there_may_be_are_served() {
    let rows: Vec<String> = (0..4_096)
        .map(|at| format!("{{server: s{at}, tool: t, cost_per_call: 0.{at:09}}}"))
        .collect();
    let pricers = pricers(&format!("mcp: {{pricing: [{}]}}", rows.join(",\n")));
    for at in [0, 1, 2_048, 4_095] {
        let call = ToolCall {
            server: &format!("s{at}"),
            tool: "t",
            arguments: None,
        };
        assert_eq!(pricers.quote(&call).unwrap().hold.nanos(), at);
    }
}

#[test]
fn many_threads_share_one_pricer() {
    let pricers = pricers(PRICING);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let pricers = &pricers;
            scope.spawn(move || {
                for round in 0..50 {
                    let call = ToolCall {
                        server: "render",
                        tool: "page",
                        arguments: None,
                    };
                    let milliseconds = thread * 1_000 + round;
                    let quoted = pricers.quote(&call).unwrap();
                    let priced = quoted.price(ToolEnding::Success, Some(b"{}"), 0, milliseconds);
                    assert_eq!(u64::try_from(priced.cost.nanos()).unwrap(), milliseconds * 600);
                }
            });
        }
    });
}
