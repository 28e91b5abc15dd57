#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::plugin::dialect::Want;
use crate::plugin::pool::Failed;
use contract::PricerInfo;
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

const DONE: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

#[test]
fn a_pricer_sees_what_its_tariff_names_and_nothing_else() {
    let want = |path: &str| Want {
        path: path.to_owned(),
        max_bytes: 64,
        max_items: 8,
    };
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
    let message = format!(r#"{{"jsonrpc":"2.0","id":"canary","result":{result},"_meta":{{"canary":1}}}}"#);
    let priced = quoted(&pricers, &arguments).price(message.as_bytes(), 12);
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
fn an_answer_is_read_the_same_however_it_arrives() {
    let tariff = Tariff {
        result_counts: vec!["content.*".to_owned()],
        ..Tariff::default()
    };
    let scripted = scripted(vec![tariff], at_most(5_000), Ok(vec![part(1)]));
    let quoted = quoted(&pricers(&scripted), "{}");
    let text = "é\\n".repeat(200_000);
    let message = format!(r#"{{"id":1,"result" : {{"content":[{{"text":"{text}"}},1]}} }}"#);
    for piece in [1_000, 7, message.len()] {
        let mut reading = quoted.answer();
        for bytes in message.as_bytes().chunks(piece) {
            assert_eq!(reading.push(bytes), bytes.len());
        }
        assert_eq!(reading.finish(0).estimated, None);
    }
    let answers = scripted.answers.lock();
    assert_eq!((answers.len(), answers[0].result_counts.as_slice()), (3, &[2_u64][..]));
    assert_eq!(answers[0].result_bytes, text.len() as u64 + 27);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[test]
fn failures_are_free_unless_the_tariff_prices_them() {
    let tool_error = br#"{"id":1,"result":{"content":[],"isError":true}}"#;
    let long_error = format!(
        r#"{{"id":1,"error":{{"code":-32000,"message":"{}"}}}}"#,
        "m".repeat(5_000)
    );
    let protocol_error = long_error.as_bytes();
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
        let cost = |message: &[u8], ending: ToolEnding| {
            let priced = quoted.price(message, 0);
            assert_eq!((priced.ending, priced.estimated), (Some(ending), None));
            priced.cost.nanos()
        };
        assert_eq!(cost(DONE, ToolEnding::Success), 8);
        assert_eq!(
            cost(tool_error, ToolEnding::ToolError),
            if prices_tool_errors { 8 } else { 0 }
        );
        assert_eq!(
            cost(protocol_error, ToolEnding::ProtocolError),
            if prices_protocol_errors { 8 } else { 0 }
        );
    }
}

#[test]
fn only_a_plain_true_is_an_error_that_is_free() {
    let quoted = quoted(
        &pricers(&scripted(every_tool(), at_most(9_000), Ok(vec![part(8_000)]))),
        "{}",
    );
    for said in ["false", "null", "\"true\"", "1", "[true]", "{\"isError\":true}"] {
        let message = format!(r#"{{"result":{{"isError":{said},"content":[{{"isError":true}}]}},"isError":true}}"#);
        assert_eq!(quoted.price(message.as_bytes(), 0).cost.nanos(), 8, "{said}");
    }
    // One that says both is believed in neither, and costs what was held.
    let message = br#"{"result":{"isError":true,"isError":false}}"#;
    let priced = quoted.price(message, 0);
    assert_eq!(
        (priced.cost.nanos(), priced.estimated),
        (9, Some(estimate_reason::CONTRADICTORY_USAGE))
    );
}

#[test]
fn what_cannot_be_read_costs_what_was_held() {
    let quoted = quoted(
        &pricers(&scripted(every_tool(), at_most(9_000), Ok(vec![part(8_000)]))),
        "{}",
    );
    for (message, reason) in [
        (
            r#"{"id":1,"result":{"content":[{"text":"half"#,
            estimate_reason::INCOMPLETE,
        ),
        (r#"{"id":1"#, estimate_reason::INCOMPLETE),
        ("", estimate_reason::UNREADABLE),
        ("nonsense", estimate_reason::UNREADABLE),
        (r#"{"id":1,"result":null}"#, estimate_reason::UNREADABLE),
        (r#"{"id":1,"method":"ping"}"#, estimate_reason::UNREADABLE),
        (r#"{"result":{},"error":{}}"#, estimate_reason::CONTRADICTORY_USAGE),
        (
            r#"{"result":{"isError":1},"result":{"isError":2}}"#,
            estimate_reason::CONTRADICTORY_USAGE,
        ),
    ] {
        let priced = quoted.price(message.as_bytes(), 0);
        assert_eq!((priced.cost.nanos(), priced.estimated), (9, Some(reason)), "{message}");
    }
    let unanswered = quoted.unread(estimate_reason::UPSTREAM_FAILED);
    assert_eq!((unanswered.cost.nanos(), unanswered.ending), (9, None));
    assert_eq!(unanswered.estimated, Some(estimate_reason::UPSTREAM_FAILED));
    // `null` beside the other says nothing.
    assert_eq!(quoted.price(br#"{"result":{},"error":null}"#, 0).estimated, None);
}

/// As the core hands it over that has read the message itself.
#[test]
fn what_was_read_elsewhere_is_priced_alike() {
    let tariff = Tariff {
        result_counts: vec!["content.*".to_owned()],
        ..Tariff::default()
    };
    let scripted = scripted(vec![tariff], at_most(9_000), Ok(vec![part(8_000)]));
    let quoted = quoted(&pricers(&scripted), "{}");
    let result = r#"{"content":[{"text":"a"},{}]}"#;
    let priced = quoted.price_read(ToolEnding::Success, Some(result.as_bytes()), 99, 5);
    assert_eq!(
        priced,
        quoted.price(format!(r#"{{"id":1,"result":{result}}}"#).as_bytes(), 5)
    );
    let answers = std::mem::take(&mut *scripted.answers.lock());
    assert_eq!(answers[0], answers[1]);
    assert_eq!(
        (answers[0].result_bytes, answers[0].result_counts.as_slice()),
        (29, &[2_u64][..])
    );
    for ending in [ToolEnding::ToolError, ToolEnding::ProtocolError] {
        let free = quoted.price_read(ending, Some(b"{}"), 99, 5);
        assert_eq!(
            (free.cost.nanos(), free.estimated, free.ending),
            (0, None, Some(ending))
        );
    }
    // Of a message that was too long to be held only the length is known.
    let unheld = quoted.price_read(ToolEnding::Success, None, 5_000_000, 5);
    assert_eq!(
        (unheld.cost.nanos(), unheld.estimated),
        (9, Some(estimate_reason::UNREADABLE))
    );
    assert_eq!(scripted.answers.lock()[0].result_bytes, 5_000_000);
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
        let priced = quoted.price(DONE, 0);
        assert_eq!(
            (priced.cost.nanos(), priced.estimated),
            (held, Some(estimate_reason::PLUGIN_FAILED))
        );
        assert_eq!(
            priced.ending,
            Some(ToolEnding::Success),
            "how it ended is known all the same"
        );
    }
    // One that could not be quoted may be priced.
    let quoted = quoted(&pricers(&scripted(every_tool(), Err(()), Ok(vec![part(1_500)]))), "{}");
    let priced = quoted.price(DONE, 0);
    assert_eq!(
        (priced.cost.nanos(), priced.estimated, priced.is_beyond_quote),
        (2, None, false)
    );
    assert!(!quoted.is_upper_bound);
}

#[test]
fn a_price_above_its_upper_bound_is_told() {
    let priced =
        |hold, cost| quoted(&pricers(&scripted(every_tool(), hold, Ok(vec![part(cost)]))), "{}").price(DONE, 0);
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
    let priced = quoted.price(br#"{"result":{"isError":true}}"#, 0);
    assert_eq!((priced.cost, priced.ending), (Usd::ZERO, Some(ToolEnding::ToolError)));
    assert_eq!(quoted.unread(estimate_reason::CUT).estimated, None);
}

#[test]
fn arguments_that_say_two_things_are_refused() {
    let tariff = Tariff {
        argument_paths: vec![Want {
            path: "limit".to_owned(),
            max_bytes: 64,
            max_items: 0,
        }],
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
    assert!(wrong.contains("result.a..b"), "{wrong}");
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
        let priced = quoted.price(DONE, 0);
        prop_assert_eq!(i128::from(priced.cost.nanos()), (sum + 500) / 1_000);
        prop_assert_eq!(i128::from(quoted.hold.nanos()), (sum + above + 999) / 1_000);
        prop_assert!(priced.cost <= quoted.hold && !priced.is_beyond_quote);
    }

    /// Whatever an answer is, it has a price.
    #[test]
    fn whatever_comes_is_priced(bytes in prop::collection::vec(prop::sample::select(b"{}[],:\"\\ resultisErrornull01e\xff".to_vec()), 0..80)) {
        let quoted = quoted(&pricers(&scripted(every_tool(), at_most(9_000), Ok(vec![part(8_000)]))), "{}");
        for message in [bytes.clone(), [b"{\"result\":{", bytes.as_slice()].concat()] {
            let priced = quoted.price(&message, 0);
            prop_assert!(matches!(priced.cost.nanos(), 0 | 8 | 9));
            prop_assert!(priced.cost.nanos() > 0 || matches!(priced.ending, Some(ToolEnding::ToolError | ToolEnding::ProtocolError)));
        }
    }
}
