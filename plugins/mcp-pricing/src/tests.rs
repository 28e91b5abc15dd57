#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_guest::pricer::Ending;
use agentledger_guest::serde_json::{Value, json};

use super::*;

fn rules(rows: &[Value]) -> (Rules, Info) {
    let full = rows.iter().map(|row| {
        let mut rule = json!({
            "server": "", "tool": "", "call": 0, "argument_kb": 0, "result_kb": 0, "second": 0, "item": 0, "items": null,
            "max": null, "hold": null, "tool_errors": false, "protocol_errors": false,
        });
        rule.as_object_mut().unwrap().extend(row.as_object().unwrap().clone());
        rule
    });
    let conf = json!({ "rules": full.collect::<Vec<_>>() });
    Rules::configure(&conf.to_string()).unwrap()
}

fn call(argument_bytes: u64) -> Call {
    Call {
        tariff: 0,
        server: "s".to_owned(),
        tool: "t".to_owned(),
        arguments: "{}".to_owned(),
        argument_bytes,
        argument_counts: vec![],
    }
}

fn answer(result_bytes: u64, items: u64, milliseconds: u64) -> Answer {
    Answer {
        ending: Ending::Success,
        result: "{}".to_owned(),
        result_bytes,
        result_counts: vec![items],
        milliseconds,
    }
}

fn sum(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.cost).sum()
}

#[test]
fn a_price_that_is_known_before_is_held_exactly() {
    let (rules, info) = rules(&[json!({"server": "s", "tool": "t", "call": 5_000_000, "argument_kb": 3})]);
    assert_eq!((info.name.as_str(), info.tariffs.len()), ("mcp-pricing", 1));
    // A half cent, and 3 nano-dollars for 1,000 bytes: 3 pico-dollars for each of 7.
    assert_eq!(rules.quote(&call(7)), Hold::AtMost(5_000_000_021));
    assert_eq!(
        rules.price(&call(7), &answer(99, 0, 99)),
        [part("call", 1, 5_000_000_000), part("argument_bytes", 7, 21)]
    );
}

#[test]
fn what_the_answer_tells_is_held_by_the_rule_and_priced_by_the_answer() {
    let rule = json!({"call": 1_000, "result_kb": 2_000, "second": 60, "item": 7, "items": "structuredContent.rows", "hold": 500});
    let (rules, info) = rules(&[rule]);
    assert_eq!(info.tariffs[0].result_counts, ["structuredContent.rows.*"]);
    assert_eq!(rules.quote(&call(0)), Hold::About(1_500_000));
    let parts = rules.price(&call(0), &answer(1_500, 3, 250));
    assert_eq!(
        parts,
        [
            part("call", 1, 1_000_000),
            part("result_bytes", 1_500, 3_000_000),
            part("milliseconds", 250, 15_000),
            part("items", 3, 21_000),
        ]
    );
    assert_eq!(sum(&parts), 4_036_000);
}

#[test]
fn a_maximum_is_what_is_held_and_no_call_costs_more() {
    let (rules, _) = rules(&[json!({"call": 3, "item": 2, "items": "content", "max": 10})]);
    assert_eq!(rules.quote(&call(0)), Hold::AtMost(10_000));
    for items in [0, 1, 3, 4, 1_000_000, u64::MAX] {
        let cost = sum(&rules.price(&call(0), &answer(0, items, 0)));
        assert_eq!(
            u128::from(cost),
            10_000.min(3_000 + u128::from(items) * 2_000),
            "{items}"
        );
    }
}

#[test]
fn what_is_held_can_be_less_than_the_maximum() {
    let quote = |hold: Value, max: Value| {
        let (rules, _) = rules(&[json!({"call": 3, "second": 1, "hold": hold, "max": max})]);
        rules.quote(&call(0))
    };
    assert_eq!(quote(json!(4), json!(10)), Hold::About(7_000));
    assert_eq!(quote(json!(7), json!(10)), Hold::AtMost(10_000));
    assert_eq!(quote(json!(4), Value::Null), Hold::About(7_000));
    assert_eq!(quote(Value::Null, json!(10)), Hold::AtMost(10_000));
    assert_eq!(quote(Value::Null, Value::Null), Hold::Unknown);
}

#[test]
fn errors_are_priced_where_the_rule_says_so() {
    let (_, info) = rules(&[
        json!({}),
        json!({"tool_errors": true}),
        json!({"tool_errors": true, "protocol_errors": true}),
    ]);
    let said: Vec<_> = info
        .tariffs
        .iter()
        .map(|tariff| (tariff.prices_tool_errors, tariff.prices_protocol_errors))
        .collect();
    assert_eq!(said, [(false, false), (true, false), (true, true)]);
}

#[test]
fn sums_beyond_reason_stay_beyond_reason() {
    let most = i64::MAX as u64;
    let (rules, _) = rules(&[
        json!({"call": most, "argument_kb": most, "result_kb": most, "second": most, "item": most, "items": "a", "hold": most}),
    ]);
    assert_eq!(rules.quote(&call(u64::MAX)), Hold::About(u64::MAX));
    let parts = rules.price(&call(u64::MAX), &answer(u64::MAX, u64::MAX, u64::MAX));
    assert!(parts.iter().all(|part| part.cost == u64::MAX), "{parts:?}");
}

#[test]
fn a_configuration_that_is_not_the_gateways_is_refused() {
    for conf in ["null", "{}", "[]", r#"{"rules":[{}]}"#, r#"{"rules":[],"more":1}"#, "{"] {
        assert!(Rules::configure(conf).is_err(), "{conf}");
    }
}
