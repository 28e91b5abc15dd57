//! Single things of the ledger as an operator looks at them: a session step by step, what a call is made of, the journal's months and
//! latest events, and a walk over it beside the work.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agentledger_ledger::{ManualClock, SessionRowsQuery, Usd};
use serde_json::{Value, json};

use crate::harness::client::Reply;
use crate::harness::upstream::Step;
use crate::harness::{Gateway, Script, Setup, Upstream};
use crate::rpc::rpc;
use crate::sessions::call;

const CHAT: &str = "/v1/chat/completions";
const OWNER: &str = "admin-token-0123456789";
const ALPHA: &str = "alpha-token-0123456789";
const CONTROL: &str = "tenants: {enabled: true, key_mappings: [{api_key_pattern: 'sk-alpha-*', tenant_id: alpha}, \
    {api_key_pattern: 'sk-bravo-*', tenant_id: bravo}]}\n\
    control: {tokens: [{name: root, token: admin-token-0123456789, role: admin}, \
    {name: of-alpha, token: alpha-token-0123456789, role: admin, tenant: alpha}]}";
/// 40 fresh, 60 of the cache, 10 written: 0.000275 USD, and 0.000075 more without the cache.
const CACHED: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110,"prompt_tokens_details":{"cached_tokens":60}}}"#;
const NO_REASONING: &str = r#"return { name = "no-o1", version = "1",
    request = function(conf, call)
        if call.model == "o1" then return deny({ status = 403, code = "model_not_allowed", message = "no" }) end
    end }"#;

fn ask_for(gateway: &Gateway, key: &str, model: &str, headers: &[(&str, &str)]) -> Reply {
    let bearer = format!("Bearer {key}");
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}).to_string();
    let headers = [&[("authorization", bearer.as_str())], headers].concat();
    gateway.client.request("POST", CHAT, &headers, body.as_bytes())
}

fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Reply {
    ask_for(gateway, "sk-test-0123456789abcdef", "gpt-4o", headers)
}

fn cached() -> Upstream {
    Upstream::always(Script::json(200, CACHED))
}

/// Answers that differ from each other.
fn growing() -> Upstream {
    let calls = AtomicU64::new(0);
    Upstream::playing(move |_| {
        let output = 10 + calls.fetch_add(1, Ordering::Relaxed);
        let usage = json!({"prompt_tokens": 100, "completion_tokens": output, "total_tokens": 100 + output});
        let answer = json!({"id": "c", "model": "gpt-4o", "choices": [], "usage": usage});
        Script::json(200, &answer.to_string())
    })
}

fn entries(gateway: &Gateway) -> Vec<Value> {
    let answer = call(gateway, "ledger.query", &json!({"limit": 1000}));
    answer["result"]["entries"].as_array().unwrap().clone()
}

/// USD as nano-dollars: sums must be exact.
fn nanos(usd: &Value) -> i64 {
    usd.as_str().unwrap().parse::<Usd>().unwrap().nanos()
}

#[test]
fn a_run_is_shown_step_by_step_with_what_it_started() {
    let gateway = Setup::new(&cached()).policy("no-o1", NO_REASONING).start();
    let run = [
        ("X-Agent-Session", "run-1"),
        ("X-Agent-Id", "coder"),
        ("X-Agent-Task", "plan"),
    ];
    let child = [
        ("X-Agent-Session", "sub-1"),
        ("X-Agent-Parent", "run-1"),
        ("X-Agent-Task", "look"),
    ];
    let grandchild = [("X-Agent-Session", "sub-2"), ("X-Agent-Parent", "sub-1")];
    for _ in 0..5 {
        assert_eq!(ask(&gateway, &run).status, 200);
    }
    assert_eq!(ask(&gateway, &child).status, 200);
    assert_eq!(ask(&gateway, &grandchild).status, 200);
    assert_eq!(ask_for(&gateway, "sk-test-0123456789abcdef", "o1", &run).status, 403);
    assert_eq!(ask(&gateway, &[("X-Agent-Session", "another")]).status, 200);

    let tree = call(&gateway, "session.tree", &json!({"id": "run-1"}))["result"].clone();
    let sums = &tree["sums"];
    assert_eq!(
        (&sums["calls"], &sums["cost_usd"]),
        (&json!(7), &json!("0.001925")),
        "{tree}"
    );
    assert_eq!((&sums["saved_usd"], &sums["refused"]), (&json!("0.000525"), &json!(1)));
    assert_eq!(
        (&sums["usage"]["cache_read"], &sums["usage"]["output"]),
        (&json!(420), &json!(70))
    );
    assert_eq!(
        (&tree["subagents"], &tree["shown"], &tree["cut"]),
        (&json!(2), &json!(7), &json!(false))
    );
    let steps = tree["steps"].as_array().unwrap();
    let kinds: Vec<(&str, u64)> = steps
        .iter()
        .map(|step| (step["kind"].as_str().unwrap(), step["calls"].as_u64().unwrap()))
        .collect();
    // Five times the same: three by themselves, then the rest.
    assert_eq!(
        kinds,
        [
            ("call", 1),
            ("call", 1),
            ("call", 1),
            ("call", 2),
            ("session", 2),
            ("refused", 1)
        ]
    );
    assert_eq!((&steps[0]["label"], &steps[0]["same"]), (&json!("plan"), &json!(5)));
    assert_eq!(steps[5]["code"], "model_not_allowed");
    let below = &steps[4];
    assert_eq!(
        (&below["session"]["id"], &below["sums"]["cost_usd"]),
        (&json!("sub-1"), &json!("0.00055"))
    );
    assert_eq!(below["steps"][0]["label"], "look");
    assert_eq!(below["steps"][1]["session"]["id"], "sub-2");
    let beginning = call(&gateway, "session.tree", &json!({"id": "sub-1"}))["result"].clone();
    assert_eq!(
        (&beginning["sums"]["calls"], &beginning["subagents"]),
        (&json!(2), &json!(1))
    );
    let unknown = call(&gateway, "session.tree", &json!({"id": "nobody"}));
    assert_eq!(unknown["error"]["data"]["code"], "not_found");
}

#[test]
fn sessions_that_name_each_other_as_parents_are_a_tree_all_the_same() {
    let gateway = Gateway::to(&cached());
    for (session, parent) in [("s1", "s2"), ("s2", "s1"), ("s3", "s3")] {
        ask(&gateway, &[("X-Agent-Session", session), ("X-Agent-Parent", parent)]);
    }
    for (id, calls, below) in [("s1", 2, 1), ("s2", 2, 1), ("s3", 1, 0)] {
        let tree = call(&gateway, "session.tree", &json!({ "id": id }))["result"].clone();
        assert_eq!(
            (&tree["sums"]["calls"], &tree["subagents"]),
            (&json!(calls), &json!(below)),
            "{id}"
        );
    }
}

#[test]
fn sessions_are_listed_by_cost_calls_and_start() {
    let gateway = Gateway::to(&growing());
    for session in ["often", "often", "often", "first-of-two", "last"] {
        ask(&gateway, &[("X-Agent-Session", session)]);
    }
    ask(&gateway, &[("X-Agent-Session", "first-of-two")]);
    let listed = |sort: &str| -> Vec<String> {
        let found = call(&gateway, "session.list", &json!({"sort": sort, "limit": 2}))["result"]["sessions"].clone();
        let names = found.as_array().unwrap().iter();
        names
            .map(|session| session["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed(""), ["first-of-two", "last"]);
    assert_eq!(listed("last"), ["first-of-two", "last"]);
    assert_eq!(listed("cost"), ["often", "first-of-two"]);
    assert_eq!(listed("calls"), ["often", "first-of-two"]);
    assert_eq!(listed("started"), ["last", "first-of-two"]);
    let wrong = call(&gateway, "session.list", &json!({"sort": "colour"}));
    assert_eq!(wrong["error"]["code"], -32602, "{wrong}");
}

#[test]
fn a_call_is_explained_kind_by_kind_to_the_last_nano_dollar() {
    let gateway = Gateway::to(&cached());
    ask(&gateway, &[]);
    let entry = entries(&gateway).remove(0);
    let made = call(&gateway, "ledger.explain", &json!({"id": entry["id"]}))["result"].clone();
    assert_eq!(made["entry"], entry);
    let line = |kind: &str, count: u64, price: &str, usd: &str| json!({"kind": kind, "count": count, "price": price, "usd": usd});
    assert_eq!(
        made["lines"],
        json!([
            line("input", 40, "$2.5/M", "0.0001"),
            line("cache_read", 60, "$1.25/M", "0.000075"),
            line("output", 10, "$10/M", "0.0001"),
        ])
    );
}

fn sums_to_its_cost(made: &Value) {
    let lines = made["lines"].as_array().unwrap();
    let priced = lines.iter().filter(|line| !line["usd"].is_null());
    let sum: i64 = priced.map(|line| nanos(&line["usd"])).sum();
    assert_eq!(sum, nanos(&made["entry"]["cost_usd"]), "{made}");
}

#[test]
fn prices_that_changed_since_are_not_shown_as_those_of_then() {
    let book = |input: u32| {
        format!(
            "provider: openai\nmodels:\n- id: gpt-4o\n  prices: {{always: {{standard: {{input: {input}, cache_read: 1, output: 20}}}}}}\n"
        )
    };
    let upstream = cached();
    let gateway = Setup::new(&upstream).prices(&book(4)).start();
    ask(&gateway, &[("X-Agent-Session", "s1")]);
    let entry = entries(&gateway).remove(0);
    let explained = |gateway: &Gateway| call(gateway, "ledger.explain", &json!({"id": entry["id"]}))["result"].clone();
    let saved =
        |gateway: &Gateway| call(gateway, "session.tree", &json!({"id": "s1"}))["result"]["sums"]["saved_usd"].clone();
    let then = explained(&gateway);
    assert_eq!(then["lines"][0]["price"], "$4/M", "{then}");
    assert_eq!(saved(&gateway), "0.00018");
    sums_to_its_cost(&then);
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).in_dir(&dir).prices(&book(5)).start();
    let now = explained(&gateway);
    let (first, last) = (&now["lines"][0], now["lines"].as_array().unwrap().last().unwrap());
    assert_eq!(
        (&first["count"], &first["price"], &first["usd"]),
        (&json!(40), &Value::Null, &Value::Null),
        "{now}"
    );
    assert_eq!(
        (&last["kind"], &last["usd"]),
        (&json!("other_prices"), &entry["cost_usd"]),
        "{now}"
    );
    assert_eq!(saved(&gateway), Value::Null, "what it saved is not known any more");
}

#[test]
fn a_guessed_answer_is_explained_too_and_the_lines_sum_to_its_cost() {
    let gateway = Gateway::to(&Upstream::always(Script::json(
        200,
        r#"{"id":"c","model":"gpt-4o","choices":[]}"#,
    )));
    ask(&gateway, &[]);
    let entry = entries(&gateway).remove(0);
    assert_eq!(entry["estimated"], true, "{entry}");
    sums_to_its_cost(&call(&gateway, "ledger.explain", &json!({"id": entry["id"]}))["result"]);
}

#[test]
fn another_tenants_call_is_as_unknown_as_one_that_never_was() {
    let gateway = Setup::new(&cached()).with(CONTROL).start();
    for key in ["sk-alpha-0123456789abcdef", "sk-bravo-0123456789abcdef"] {
        ask_for(&gateway, key, "gpt-4o", &[("X-Agent-Session", "shared")]);
    }
    let all = rpc(&gateway, OWNER, "ledger.query", &json!({}))["result"]["entries"].clone();
    let of = |tenant: &str| {
        all.as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["tenant"] == tenant)
            .unwrap()["id"]
            .clone()
    };
    let explained = |token: &str, id: &Value| rpc(&gateway, token, "ledger.explain", &json!({ "id": id }));
    assert_eq!(explained(ALPHA, &of("alpha"))["result"]["entry"]["tenant"], "alpha");
    let (other, never) = (
        explained(ALPHA, &of("bravo")),
        explained(ALPHA, &json!("01J0000000000000000000000A")),
    );
    assert_eq!(other["error"]["data"], never["error"]["data"]);
    assert_eq!(other["error"]["data"]["code"], "not_found");
    let (own, both) = (
        rpc(&gateway, ALPHA, "session.tree", &json!({"id": "shared"})),
        rpc(&gateway, OWNER, "session.tree", &json!({"id": "shared"})),
    );
    assert_eq!(
        (&own["result"]["sums"]["calls"], &own["result"]["shown"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(both["error"]["code"], -32602, "it is to say whose: {both}");
    for whole in [
        "ledger.months",
        "ledger.journal",
        "ledger.verify_start",
        "ledger.verify_status",
    ] {
        let refused = rpc(&gateway, ALPHA, whole, &json!({}));
        assert_eq!(refused["error"]["data"]["code"], "other_tenant", "{whole}");
    }
}

#[test]
fn the_journal_is_read_from_its_end_page_by_page_without_a_gap() {
    let gateway = Gateway::to(&cached());
    for _ in 0..6 {
        ask(&gateway, &[("X-Agent-Session", "s1"), ("X-Agent-Id", "coder")]);
    }
    let (mut events, mut before) = (Vec::new(), Value::Null);
    loop {
        let mut params = json!({"limit": 5});
        if !before.is_null() {
            params["before"] = before;
        }
        let page = call(&gateway, "ledger.journal", &params)["result"].clone();
        events.extend(page["events"].as_array().unwrap().clone());
        before = page["next"].clone();
        if before.is_null() {
            break;
        }
    }
    let months = call(&gateway, "ledger.months", &json!({}))["result"]["months"].clone();
    let (sequence, hash) = months[0]["head"].as_str().unwrap().split_once(':').unwrap();
    let sequence: u64 = sequence.parse().unwrap();
    assert_eq!(
        (&months[0]["events"], &months[0]["state"]),
        (&json!(sequence), &json!("open")),
        "{months}"
    );
    assert_eq!(
        (&months[0]["entries"], &months[0]["spent_usd"]),
        (&json!(6), &json!("0.00165"))
    );
    let sequences: Vec<u64> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=sequence).rev().collect::<Vec<_>>());
    assert_eq!(events[0]["hash"], hash);
    let settled: Vec<&Value> = events.iter().filter(|event| event["kind"] == "settled").collect();
    assert_eq!(settled.len(), 6);
    for event in settled {
        let is = ["agent", "session", "what", "usd"].map(|field| event[field].as_str().unwrap());
        assert_eq!(is, ["coder", "s1", "gpt-4o", "0.000275"]);
    }
    assert_eq!(events.last().unwrap()["kind"], "opening");
}

#[test]
fn a_walk_over_the_journal_goes_on_beside_the_work_and_is_noted() {
    let gateway = Gateway::to(&cached());
    ask(&gateway, &[]);
    let none = call(&gateway, "ledger.verify_status", &json!({}))["result"].clone();
    assert_eq!((&none["state"], &none["job"]), (&json!("none"), &json!("")));
    let job = call(&gateway, "ledger.verify_start", &json!({}))["result"]["job"].clone();
    let ended = loop {
        let state = call(&gateway, "ledger.verify_status", &json!({ "job": job }))["result"].clone();
        if state["state"] != "running" {
            break state;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(
        (&ended["state"], &ended["result"]["ok"]),
        (&json!("done"), &json!(true)),
        "{ended}"
    );
    assert_eq!(
        (&ended["events"], &ended["result"]["entries"]),
        (&ended["events_in_all"], &json!(1))
    );
    let dir = gateway.stop();
    let gateway = Setup::new(&cached()).in_dir(&dir).start();
    let months = call(&gateway, "ledger.months", &json!({}))["result"]["months"].clone();
    assert_eq!(months[0]["verified"], ended["ended"], "it outlives a restart: {months}");
    let unknown = call(&gateway, "ledger.verify_status", &json!({ "job": job }));
    assert_eq!(unknown["error"]["data"]["code"], "not_found");
}

#[test]
fn months_close_and_what_stands_in_the_last_one_is_found_from_the_next() {
    // 2026-11-30T23:59:00Z.
    let clock = Arc::new(ManualClock::new(1_796_083_140_000));
    let gateway = Setup::new(&cached()).clock(Arc::clone(&clock) as _).start();
    let run = [("X-Agent-Session", "s1")];
    ask(&gateway, &run);
    clock.advance_ms(120_000);
    ask(&gateway, &run);
    let months = call(&gateway, "ledger.months", &json!({}))["result"]["months"].clone();
    let named: Vec<&str> = months
        .as_array()
        .unwrap()
        .iter()
        .map(|month| month["month"].as_str().unwrap())
        .collect();
    assert_eq!(named, ["2026-12", "2026-11"], "{months}");
    assert_eq!(
        (&months[1]["state"], &months[1]["closed"]),
        (&json!("closed"), &json!("2026-12-01T00:01:00.000Z"))
    );
    assert_eq!((&months[0]["entries"], &months[1]["entries"]), (&json!(1), &json!(1)));
    let page = call(&gateway, "ledger.journal", &json!({"limit": 200}))["result"].clone();
    let events = page["events"].as_array().unwrap();
    let in_all = months[0]["events"].as_u64().unwrap() + months[1]["events"].as_u64().unwrap();
    let sequences: Vec<u64> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=in_all).rev().collect::<Vec<_>>());
    let tree = call(&gateway, "session.tree", &json!({"id": "s1"}))["result"].clone();
    assert_eq!(
        (&tree["shown"], &tree["sums"]["cost_usd"]),
        (&json!(2), &json!("0.00055")),
        "{tree}"
    );
}

#[test]
fn what_is_read_for_a_session_is_bounded_and_says_so() {
    let gateway = Gateway::to(&cached());
    for _ in 0..4 {
        ask(&gateway, &[("X-Agent-Session", "s1")]);
        ask(&gateway, &[("X-Agent-Session", "others")]);
    }
    assert_eq!(gateway.entries_of(8).len(), 8);
    let ledger = &gateway.launched().gateway().ledger;
    let rows = |entries_max: usize, events_max: usize| {
        let query = SessionRowsQuery {
            tenant: "".into(),
            sessions: HashSet::from(["s1".into()]),
            from_ms: 0,
            to_ms: i64::MAX,
            entries_max,
            events_max,
        };
        let rows = ledger.session_rows(&query).unwrap();
        assert!(rows.entries.iter().all(|entry| &*entry.facts.session == "s1"));
        (rows.entries.len(), rows.is_cut)
    };
    assert_eq!(rows(100, 1_000), (4, false));
    assert_eq!(rows(2, 1_000), (2, true), "so many entries");
    let (found, is_cut) = rows(100, 6);
    assert!(found < 4 && is_cut, "so many events, others' among them");
}

#[test]
fn a_call_that_runs_is_not_explained_yet() {
    let said = Arc::new(AtomicBool::new(false));
    let answered = Arc::clone(&said);
    let upstream = Upstream::playing(move |_| {
        let mut script = Script::default().step(Step::When(Arc::clone(&answered)));
        script.steps.extend(Script::json(200, CACHED).steps);
        script
    });
    let gateway = Gateway::to(&upstream);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| ask(&gateway, &[]));
        gateway.wait_in_flight();
        let held = loop {
            let holds = call(&gateway, "hold.list", &json!({}))["result"]["holds"].clone();
            if let Some(hold) = holds.as_array().unwrap().first() {
                break hold["exchange"].clone();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let refused = call(&gateway, "ledger.explain", &json!({ "id": held }));
        assert_eq!(refused["error"]["data"]["code"], "not_found");
        let text = refused["error"]["message"].as_str().unwrap();
        assert!(text.contains("is not settled yet"), "{text}");
        said.store(true, Ordering::SeqCst);
        assert_eq!(running.join().unwrap().status, 200);
    });
}
