//! Responses that run in the background: held when they are asked for, entered once when their result is fetched.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use agentledger_ledger::{Kind, Outcome, Usd};

use super::harness::{Gateway, Script, Setup, Upstream};

const ASK: &str = r#"{"model":"gpt-5.1","input":"think long","background":true,"max_output_tokens":1000}"#;
const QUEUED: &str = r#"{"id":"resp_bg","object":"response","status":"queued","background":true,"model":"gpt-5.1-2025-11-13","usage":null}"#;
const RUNNING: &str = r#"{"id":"resp_bg","object":"response","status":"in_progress","background":true,"model":"gpt-5.1-2025-11-13","usage":null}"#;
const DONE: &str = r#"{"id":"resp_bg","object":"response","status":"completed","background":true,"model":"gpt-5.1-2025-11-13","output":[],"usage":{"input_tokens":31,"input_tokens_details":{"cached_tokens":0},"output_tokens":409,"output_tokens_details":{"reasoning_tokens":344},"total_tokens":440}}"#;
/// 31 x 1.25 + 409 x 10, a million.
const COST: &str = "0.00412875";

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

/// The POST is queued; the GETs are answered one after the other, the last again and again.
fn background(gets: &'static [&'static str]) -> Upstream {
    let next = AtomicUsize::new(0);
    Upstream::playing(move |seen| match seen.method.as_str() {
        "POST" if seen.path.ends_with("/responses") => Script::json(200, QUEUED),
        "POST" => Script::json(200, &QUEUED.replace("queued", "cancelled")),
        _ => {
            let at = next.fetch_add(1, Ordering::SeqCst);
            Script::json(200, gets[at.min(gets.len() - 1)])
        }
    })
}

fn fetch(gateway: &Gateway, path: &str) -> String {
    let reply = gateway.client.request(
        "GET",
        path,
        &[("authorization", "Bearer sk-test-0123456789abcdef")],
        b"",
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

#[test]
fn a_background_response_polled_thrice_is_one_charge() {
    let upstream = background(&[RUNNING, DONE]);
    let gateway = Gateway::to(&upstream);
    assert_eq!(gateway.client.post("/v1/responses", ASK).text(), QUEUED);
    let ledger = &gateway.launched().gateway().ledger;
    assert_eq!(ledger.open_holds().len(), 1, "the hold waits for the result");
    assert!(gateway.entries().is_empty());
    assert_eq!(fetch(&gateway, "/v1/responses/resp_bg"), RUNNING);
    assert!(gateway.entries().is_empty());
    for _ in 0..3 {
        assert_eq!(fetch(&gateway, "/v1/responses/resp_bg"), DONE);
    }
    let entry = gateway.entry();
    let end = &entry.settlement;
    assert_eq!(
        (&*entry.facts.operation, &*entry.facts.path),
        ("responses", "/v1/responses")
    );
    assert_eq!(
        (end.usage.get(Kind::Input), end.usage.get(Kind::Output), end.reasoning),
        (31, 409, 344)
    );
    assert_eq!(
        (end.cost, end.estimate_reason.as_deref(), end.outcome),
        (usd(COST), None, Outcome::Completed)
    );
    assert!(entry.held > usd("0.01") && entry.overage == Usd::ZERO);
    assert!(ledger.open_holds().is_empty());
}

#[test]
fn a_budget_counts_what_runs_in_the_background() {
    let next = AtomicUsize::new(0);
    let upstream = Upstream::playing(move |_| {
        let id = format!("resp_{}", next.fetch_add(1, Ordering::SeqCst));
        Script::json(200, &QUEUED.replace("resp_bg", &id))
    });
    let gateway = Setup::new(&upstream)
        .with("budgets: {default: {daily_limit_usd: 0.025, action: block}}")
        .start();
    // 1,000 tokens of output at 10 a million are a cent each: two fit.
    let statuses: Vec<u16> = (0..3)
        .map(|_| gateway.client.post("/v1/responses", ASK).status)
        .collect();
    assert_eq!(statuses[0], 200);
    assert_eq!(*statuses.last().unwrap(), 429);
}

#[test]
fn a_response_made_elsewhere_is_entered_when_it_is_fetched_and_once() {
    let upstream = background(&[DONE]);
    let gateway = Setup::new(&upstream)
        .with("budgets: {default: {daily_limit_usd: 0.000001, action: block}}")
        .start();
    for _ in 0..3 {
        assert_eq!(fetch(&gateway, "/v1/responses/resp_bg?include[]=x"), DONE);
    }
    let entry = gateway.entry();
    assert_eq!(&*entry.facts.operation, "responses.retrieve");
    assert_eq!(&*entry.facts.requested_model, "gpt-5.1-2025-11-13");
    // Spent already: no budget refuses it, and each counts it.
    assert_eq!(
        (entry.settlement.cost, entry.held, entry.overage),
        (usd(COST), Usd::ZERO, usd(COST))
    );
    assert_eq!(entry.overage_reason.as_deref(), Some("fetched_result"));
    let spent: Vec<Usd> = gateway.balances("key:").iter().map(|row| row.posted.usd).collect();
    assert!(
        !spent.is_empty() && spent.iter().all(|posted| *posted == usd(COST)),
        "{spent:?}"
    );
    assert_eq!(gateway.client.post("/v1/responses", ASK).status, 429);
}

#[test]
fn an_ordinary_response_fetched_again_is_not_billed_again() {
    let done = DONE.replace("resp_bg", "resp_plain");
    let upstream = Upstream::always(Script::json(200, &done));
    let gateway = Gateway::to(&upstream);
    let ask = r#"{"model":"gpt-5.1","input":"x","max_output_tokens":1000}"#;
    assert_eq!(gateway.client.post("/v1/responses", ask).status, 200);
    assert_eq!(fetch(&gateway, "/v1/responses/resp_plain"), done);
    assert_eq!(gateway.entry().settlement.cost, usd(COST));
    // Every POST has its entry, whatever id its answer bears.
    assert_eq!(gateway.client.post("/v1/responses", ask).status, 200);
    assert_eq!(gateway.entries().len(), 2);
}

#[test]
fn what_was_billed_is_known_after_a_restart() {
    let upstream = background(&[DONE]);
    let gateway = Gateway::to(&upstream);
    assert_eq!(gateway.client.post("/v1/responses", ASK).status, 200);
    fetch(&gateway, "/v1/responses/resp_bg");
    assert_eq!(gateway.entry().settlement.cost, usd(COST));
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).in_dir(&dir).start();
    fetch(&gateway, "/v1/responses/resp_bg");
    assert_eq!(gateway.entry().settlement.cost, usd(COST));
}

#[test]
fn a_hold_that_still_waits_at_the_end_is_recovered_and_corrected_by_the_result_once() {
    let upstream = background(&[DONE]);
    let gateway = Gateway::to(&upstream);
    assert_eq!(gateway.client.post("/v1/responses", ASK).status, 200);
    let dir = gateway.stop();
    let gateway = Setup::new(&upstream).in_dir(&dir).start();
    let entry = gateway.entry();
    assert_eq!(
        (entry.settlement.outcome, entry.settlement.cost),
        (Outcome::Recovered, entry.held)
    );
    for _ in 0..2 {
        fetch(&gateway, "/v1/responses/resp_bg");
        assert_corrected(&gateway);
    }
}

#[test]
fn a_result_that_nobody_fetches_is_entered_at_what_it_held() {
    let upstream = background(&[DONE]);
    let gateway = Setup::new(&upstream).with("limits: {background_wait_ms: 1}").start();
    assert_eq!(gateway.client.post("/v1/responses", ASK).status, 200);
    let entry = gateway.entries_of(1).remove(0);
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("not_fetched"));
    assert_eq!(entry.settlement.cost, entry.held);
    for _ in 0..2 {
        fetch(&gateway, "/v1/responses/resp_bg");
        assert_corrected(&gateway);
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fetch(&gateway, "/v1/responses/resp_bg"));
        }
    });
    assert_corrected(&gateway);
    let metrics = gateway.client.get("/metrics").text();
    let given_back = entry.held.saturating_sub(usd(COST));
    let line = format!("agentledger_corrected_usd_total{{provider=\"openai\",direction=\"down\"}} {given_back}");
    assert!(metrics.contains(&line), "{line} is not in {metrics}");
}

/// One entry, that says what was held; and books that count what the result said.
fn assert_corrected(gateway: &Gateway) {
    assert_eq!(gateway.entries().len(), 1);
    for account in ["key:", "global", "model:"] {
        let rows = gateway.balances(account);
        assert!(!rows.is_empty(), "{account}");
        for row in rows {
            assert_eq!((row.posted.usd, row.posted.tokens), (usd(COST), 440), "{row:?}");
        }
    }
}

#[test]
fn a_cancelled_response_ends_its_hold() {
    let upstream = background(&[RUNNING]);
    let gateway = Gateway::to(&upstream);
    assert_eq!(gateway.client.post("/v1/responses", ASK).status, 200);
    assert_eq!(gateway.client.post("/v1/responses/resp_bg/cancel", "").status, 200);
    let entry = gateway.entry();
    // What it used before, nobody says.
    assert_eq!(entry.settlement.estimate_reason.as_deref(), Some("no_usage"));
    assert!(entry.settlement.usage.get(Kind::Input) > 0);
    assert!(gateway.launched().gateway().ledger.open_holds().is_empty());
}

#[test]
fn a_stream_that_is_left_is_taken_up_again_and_billed_once() {
    let event = |kind: &str, number: u32, response: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},\"response\":{response}}}\n\n")
    };
    let (first, last) = (
        event("response.created", 0, QUEUED),
        event("response.completed", 9, DONE),
    );
    let delta =
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n";
    let whole = [delta.to_owned(), last.clone()].concat();
    let resumed: Arc<Mutex<Vec<String>>> = Arc::default();
    let paths = Arc::clone(&resumed);
    let upstream = Upstream::playing(move |seen| {
        if seen.method == "POST" {
            // It breaks off in the middle.
            return Script::stream_head("text/event-stream")
                .chunk(first.as_bytes())
                .step(super::harness::upstream::Step::Close);
        }
        paths.lock().unwrap().push(seen.path.clone());
        Script::sse(&[delta, last.as_str()])
    });
    let gateway = Gateway::to(&upstream);
    let ask = ASK.replace("true", "true,\"stream\":true");
    gateway.client.post("/v1/responses", &ask);
    gateway.wait_in_flight();
    assert!(gateway.entries().is_empty(), "the work goes on");
    for _ in 0..2 {
        assert_eq!(
            fetch(&gateway, "/v1/responses/resp_bg?stream=true&starting_after=0"),
            whole
        );
    }
    assert_eq!(
        resumed.lock().unwrap()[0],
        "/v1/responses/resp_bg?stream=true&starting_after=0"
    );
    let entry = gateway.entry();
    assert_eq!(
        (entry.settlement.cost, entry.settlement.estimate_reason.as_deref()),
        (usd(COST), None)
    );
}

#[test]
fn two_fetches_at_once_bill_once() {
    let upstream = background(&[DONE]);
    let gateway = Gateway::to(&upstream);
    assert_eq!(gateway.client.post("/v1/responses", ASK).status, 200);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| fetch(&gateway, "/v1/responses/resp_bg"));
        }
    });
    assert_eq!(gateway.entry().settlement.cost, usd(COST));
}
