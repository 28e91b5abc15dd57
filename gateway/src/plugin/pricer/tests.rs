#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::plugin::dialect::Want;
use crate::plugin::pool::Failed;
use contract::{PricerInfo, Tariff};
use parking_lot::Mutex;

/// A pricer that says what it is told to, and keeps what it saw.
struct Scripted {
    info: PricerInfo,
    hold: Result<ToolHold, ()>,
    parts: Result<Vec<CostPart>, ()>,
    calls: Mutex<Vec<CallOutline>>,
    answers: Mutex<Vec<AnswerOutline>>,
}

fn failed() -> Failed {
    Failed {
        plugin: "scripted".to_owned(),
        reason: "ran out of time".to_owned(),
    }
}

impl Pricer for Scripted {
    fn info(&self) -> &PricerInfo {
        &self.info
    }

    fn quote(&self, call: &CallOutline) -> Result<ToolHold, Failed> {
        self.calls.lock().push(call.clone());
        self.hold.map_err(|()| failed())
    }

    fn price(&self, call: &CallOutline, answer: &AnswerOutline) -> Result<Vec<CostPart>, Failed> {
        self.calls.lock().push(call.clone());
        self.answers.lock().push(answer.clone());
        self.parts.clone().map_err(|()| failed())
    }
}

const UNKNOWN: Usd = Usd::from_nanos(777);

fn part(cost: i128) -> CostPart {
    CostPart {
        name: "call".to_owned(),
        units: 1,
        cost: Picos::from_picos(cost),
    }
}

fn at_most(picos: i128) -> Result<ToolHold, ()> {
    Ok(ToolHold::AtMost(Picos::from_picos(picos)))
}

fn scripted(tariffs: Vec<Tariff>, hold: Result<ToolHold, ()>, parts: Result<Vec<CostPart>, ()>) -> Arc<Scripted> {
    Arc::new(Scripted {
        info: PricerInfo {
            name: "scripted".to_owned(),
            version: "1".to_owned(),
            tariffs,
        },
        hold,
        parts,
        calls: Mutex::default(),
        answers: Mutex::default(),
    })
}

fn pricers(scripted: &Arc<Scripted>) -> ToolPricers {
    let pricer: Arc<dyn Pricer> = Arc::clone(scripted) as Arc<dyn Pricer>;
    ToolPricers::new(&[("scripted", pricer)], UNKNOWN, Bounds::from(64)).unwrap()
}

fn every_tool() -> Vec<Tariff> {
    vec![Tariff::default()]
}

fn quoted(pricers: &ToolPricers, arguments: &str) -> Quoted {
    let call = ToolCall {
        server: "s",
        tool: "t",
        arguments: Some(arguments.as_bytes()),
    };
    pricers.quote(&call).unwrap()
}

const DONE: &[u8] = br#"{"content":[]}"#;

fn want(path: &str) -> Want {
    Want {
        path: path.to_owned(),
        max_bytes: 64,
        max_items: 8,
    }
}

/// What a call costs that ends well with this result.
fn price(quoted: &Quoted, result: &[u8], milliseconds: u64) -> Priced {
    quoted.price(ToolEnding::Success, Some(result), 0, milliseconds)
}

#[test]
fn a_pricer_sees_what_its_tariff_names_and_nothing_else() {
    let tariff = Tariff {
        argument_paths: vec![want("limit"), want("page.size")],
        argument_counts: vec!["queries.*".to_owned()],
        result_paths: vec![want("structuredContent.total"), want("content.*.type")],
        result_counts: vec!["structuredContent.rows.*".to_owned(), "content.*".to_owned()],
        ..Tariff::default()
    };
    let scripted = scripted(vec![tariff], at_most(5_000), Ok(vec![part(4_000)]));
    let pricers = pricers(&scripted);
    let arguments = json!({
        "limit": 10, "secret": "canary", "page": {"size": 3, "token": "canary"}, "queries": ["canary", "canary", null],
    });
    let arguments = format!(" {arguments} ");
    let result = json!({
        "isError": false,
        "content": [{"type": "text", "text": "canary"}, {"type": "image", "data": "canary"}],
        "structuredContent": {"total": 7, "rows": [{"name": "canary"}, [], 3], "canary": "canary"},
    });
    let priced = price(&quoted(&pricers, &arguments), result.to_string().as_bytes(), 12);
    assert_eq!(priced.cost, Usd::from_nanos(4));
    let seen = CallOutline {
        tariff: 0,
        server: "s".to_owned(),
        tool: "t".to_owned(),
        arguments: r#"{"limit":10,"page":{"size":3}}"#.to_owned(),
        argument_bytes: arguments.len() as u64 - 2,
        argument_counts: vec![2],
    };
    assert_eq!(*scripted.calls.lock(), [seen.clone(), seen]);
    assert_eq!(
        *scripted.answers.lock(),
        [AnswerOutline {
            ending: ToolEnding::Success,
            result: r#"{"content":[{"type":"text"},{"type":"image"}],"structuredContent":{"total":7}}"#.to_owned(),
            result_bytes: result.to_string().len() as u64,
            result_counts: vec![3, 2],
            milliseconds: 12,
        }]
    );
}

#[test]
fn failures_are_free_unless_the_tariff_prices_them() {
    for (prices_tool_errors, prices_protocol_errors) in [(false, false), (true, false), (false, true), (true, true)] {
        let tariff = Tariff {
            prices_tool_errors,
            prices_protocol_errors,
            ..Tariff::default()
        };
        let quoted = quoted(
            &pricers(&scripted(vec![tariff], at_most(9_000), Ok(vec![part(8_000)]))),
            "{}",
        );
        let cost = |ending: ToolEnding, result| {
            let priced = quoted.price(ending, result, 5_000, 0);
            assert_eq!(priced.estimated, None);
            priced.cost.nanos()
        };
        assert_eq!(cost(ToolEnding::Success, Some(DONE)), 8);
        let expected = if prices_tool_errors { 8 } else { 0 };
        assert_eq!(cost(ToolEnding::ToolError, Some(DONE)), expected);
        let expected = if prices_protocol_errors { 8 } else { 0 };
        assert_eq!(cost(ToolEnding::ProtocolError, None), expected);
    }
}

#[test]
fn what_cannot_be_read_costs_what_was_held() {
    let tariff = Tariff {
        result_paths: vec![want("total")],
        result_counts: vec!["rows.*".to_owned()],
        ..Tariff::default()
    };
    let scripted = scripted(vec![tariff], at_most(9_000), Ok(vec![part(8_000)]));
    let quoted = quoted(&pricers(&scripted), "{}");
    for result in [
        "null",
        "7",
        "[1]",
        "{",
        "{\"a\":1",
        "{} {}",
        r#"{"total":1,"total":2}"#,
        r#"{"total":1,"tot\u0061l":2}"#,
    ] {
        let priced = quoted.price(ToolEnding::Success, Some(result.as_bytes()), 99, 5);
        let said = (priced.cost.nanos(), priced.estimated);
        assert_eq!(said, (9, Some(estimate_reason::UNREADABLE)), "{result}");
    }
    assert!(
        scripted.answers.lock().is_empty(),
        "what is no answer is shown to nobody"
    );
    // Of a message that was too long to be held only the length is known.
    let unheld = quoted.price(ToolEnding::Success, None, 5_000_000, 5);
    let said = (unheld.cost.nanos(), unheld.estimated);
    assert_eq!(said, (9, Some(estimate_reason::UNREADABLE)));
    let answers = scripted.answers.lock();
    assert_eq!(
        (answers[0].result_bytes, answers[0].result_counts.as_slice()),
        (5_000_000, &[0_u64][..])
    );
}

#[test]
fn a_protocol_error_has_no_result() {
    let tariff = Tariff {
        prices_protocol_errors: true,
        ..Tariff::default()
    };
    let scripted = scripted(vec![tariff], at_most(9_000), Ok(vec![part(8_000)]));
    let quoted = quoted(&pricers(&scripted), "{}");
    for result in [None, Some(&b"{}"[..])] {
        let priced = quoted.price(ToolEnding::ProtocolError, result, 5_000, 5);
        assert_eq!((priced.cost.nanos(), priced.estimated), (8, None));
        assert_eq!(scripted.answers.lock().pop().unwrap().result_bytes, 0);
    }
}

#[test]
fn a_pricer_that_fails_costs_the_hold_and_says_so() {
    for (hold, held) in [
        (at_most(9_000), 9),
        (Ok(ToolHold::About(Picos::from_picos(9_001))), 10),
        (Err(()), 777),
    ] {
        let quoted = quoted(&pricers(&scripted(every_tool(), hold, Err(()))), "{}");
        assert_eq!(quoted.hold.nanos(), held);
        let priced = price(&quoted, DONE, 0);
        assert_eq!(
            (priced.cost.nanos(), priced.estimated),
            (held, Some(estimate_reason::PLUGIN_FAILED))
        );
    }
    // One that could not be quoted may be priced.
    let quoted = quoted(&pricers(&scripted(every_tool(), Err(()), Ok(vec![part(1_500)]))), "{}");
    let priced = price(&quoted, DONE, 0);
    assert_eq!(
        (priced.cost.nanos(), priced.estimated, priced.is_beyond_quote),
        (2, None, false)
    );
    assert!(!quoted.is_upper_bound);
}

#[test]
fn a_price_above_its_upper_bound_is_told() {
    let priced = |hold, cost| {
        let quoted = quoted(&pricers(&scripted(every_tool(), hold, Ok(vec![part(cost)]))), "{}");
        price(&quoted, DONE, 0)
    };
    assert!(priced(at_most(5_000), 6_000).is_beyond_quote);
    assert_eq!(priced(at_most(5_000), 6_000).cost.nanos(), 6);
    assert!(!priced(at_most(5_000), 5_000).is_beyond_quote);
    assert!(!priced(Ok(ToolHold::About(Picos::from_picos(5_000))), 6_000).is_beyond_quote);
}

#[test]
fn tools_without_a_tariff_are_free() {
    let tariff = Tariff {
        server: "other".to_owned(),
        ..Tariff::default()
    };
    let quoted = quoted(
        &pricers(&scripted(vec![tariff], at_most(9_000), Ok(vec![part(8_000)]))),
        "not even JSON",
    );
    assert!(!quoted.is_priced());
    assert_eq!((quoted.hold, quoted.pricer()), (Usd::ZERO, ""));
    let priced = price(&quoted, b"not even JSON", 0);
    assert_eq!((priced.cost, priced.estimated), (Usd::ZERO, None));
}

#[test]
fn arguments_that_say_two_things_are_refused() {
    let tariff = Tariff {
        argument_paths: vec![want("limit")],
        ..Tariff::default()
    };
    let pricers = pricers(&scripted(vec![tariff], at_most(1), Ok(vec![])));
    for arguments in [
        r#"{"limit":1,"limit":1000}"#,
        r#"{"limit":1,"l\u0069mit":1000}"#,
        "{",
        "{} {}",
    ] {
        let call = ToolCall {
            server: "s",
            tool: "t",
            arguments: Some(arguments.as_bytes()),
        };
        assert!(pricers.quote(&call).is_err(), "{arguments}");
    }
    let none = ToolCall {
        server: "s",
        tool: "t",
        arguments: None,
    };
    assert!(pricers.quote(&none).is_ok());
}

/// The narrowest tariff counts, wherever it stands.
#[test]
fn the_exact_name_comes_before_a_pattern_before_all() {
    let tariffs: [(&str, &str); 9] = [
        ("", ""),
        ("", "web*"),
        ("", "web"),
        ("db-*", ""),
        ("db-eu-*", "query"),
        ("search", ""),
        ("search", "web?"),
        ("search", "web"),
        ("*", "*"),
    ];
    let tariffs: Vec<Tariff> = tariffs
        .iter()
        .map(|(server, tool)| Tariff {
            server: (*server).to_owned(),
            tool: (*tool).to_owned(),
            ..Tariff::default()
        })
        .collect();
    let scripted = scripted(tariffs, at_most(1), Ok(vec![]));
    let pricers = pricers(&scripted);
    assert_eq!(pricers.tariffs(), 9);
    for (server, tool, tariff) in [
        ("search", "web", 7),
        ("search", "web2", 6),
        ("search", "news", 5),
        ("db-eu-1", "query", 4),
        ("db-eu-1", "drop", 3),
        ("db-us-1", "query", 3),
        ("files", "web", 2),
        ("files", "website/x", 1),
        ("files", "read", 0),
        ("Search", "WEB", 0),
        ("", "", 0),
    ] {
        let call = ToolCall {
            server,
            tool,
            arguments: None,
        };
        pricers.quote(&call).unwrap();
        assert_eq!(scripted.calls.lock().pop().unwrap().tariff, tariff, "{server} {tool}");
    }
}

#[test]
fn a_tariff_that_cannot_be_is_no_pricer() {
    let of = |tariff: Tariff| {
        let pricer: Arc<dyn Pricer> = scripted(vec![tariff], at_most(1), Ok(vec![]));
        match ToolPricers::new(&[("mine", pricer)], UNKNOWN, Bounds::from(64)) {
            Ok(_) => panic!("it was taken"),
            Err(error) => error.to_string(),
        }
    };
    let wrong = of(Tariff {
        tool: "[".to_owned(),
        ..Tariff::default()
    });
    assert!(
        wrong.contains("plugin mine cannot be used") && wrong.contains("pattern"),
        "{wrong}"
    );
    let wrong = of(Tariff {
        result_counts: vec!["a..b".to_owned()],
        ..Tariff::default()
    });
    assert!(wrong.contains("a..b"), "{wrong}");
    let wrong = of(Tariff {
        argument_counts: vec!["a".to_owned(), "a".to_owned()],
        ..Tariff::default()
    });
    assert!(wrong.contains("twice"), "{wrong}");
}

proptest! {
    /// What is held covers what is for at most so much, to the pico-dollar; the sum is rounded once.
    #[test]
    fn no_price_within_its_quote_exceeds_the_hold(costs in prop::collection::vec(0_i128..2_000_000, 0..16), above in 0_i128..3_000) {
        let sum: i128 = costs.iter().sum();
        let parts = costs.into_iter().map(part).collect();
        let quoted = quoted(&pricers(&scripted(every_tool(), at_most(sum + above), Ok(parts))), "{}");
        let priced = price(&quoted, DONE, 0);
        prop_assert_eq!(i128::from(priced.cost.nanos()), (sum + 500) / 1_000);
        prop_assert_eq!(i128::from(quoted.hold.nanos()), (sum + above + 999) / 1_000);
        prop_assert!(priced.cost <= quoted.hold && !priced.is_beyond_quote);
    }

    /// Whatever an answer is, it has a price.
    #[test]
    fn whatever_comes_is_priced(bytes in prop::collection::vec(prop::sample::select(b"{}[],:\"\\ rowsnull01e\xff".to_vec()), 0..80)) {
        let quoted = quoted(&pricers(&scripted(every_tool(), at_most(9_000), Ok(vec![part(8_000)]))), "{}");
        for result in [bytes.clone(), [b"{\"rows\":", bytes.as_slice(), b"}"].concat()] {
            let priced = price(&quoted, &result, 0);
            let said = (priced.cost.nanos(), priced.estimated);
            prop_assert!(matches!(said, (8, None) | (9, Some(estimate_reason::UNREADABLE))), "{said:?}");
        }
    }
}
