//! Budgets hold: whatever two hundred clients do at once, no more is posted than the limit, or it is overage, to the
//! nano-dollar, and says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use agentledger_ledger::{BalanceRow, Usd, Window};
use serde_json::Value;

use crate::harness::client::Reply;
use crate::harness::upstream::Seen;
use crate::harness::{Gateway, Script, Setup, Upstream};

const CLIENTS: usize = 200;
const LIMIT_NANOS: i64 = 1_000_000_000;
const ONE_DOLLAR: &str = "budgets: {default: {daily_limit_usd: 1, action: block}}";

/// An answer that bills `output` tokens, and the input that the question had: one token.
fn billed(model: &str, output: u64) -> Script {
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"{model}","choices":[{{"index":0,"message":{{"role":"assistant","content":"x"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1,"completion_tokens":{output},"total_tokens":{}}}}}"#,
        output + 1
    );
    Script::json(200, &body)
}

fn asked(max_tokens: u64) -> String {
    format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"hi"}}],"max_tokens":{max_tokens}}}"#)
}

fn max_tokens(seen: &Seen) -> u64 {
    seen.json()["max_tokens"].as_u64().unwrap()
}

/// Two hundred clients at once, `rounds` requests each, while the books are read again and again: at no moment may more
/// be posted and held than the limit allows, overage apart.
fn stampede(gateway: &Gateway, rounds: usize, question: impl Fn(usize) -> String + Sync) -> (Vec<Reply>, u64) {
    let running = AtomicBool::new(true);
    let (mut replies, mut samples) = (Vec::new(), 0);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut samples = 0_u64;
            while running.load(Ordering::Acquire) {
                for row in gateway.balances("key:") {
                    let promised = row.posted.usd.nanos() + row.held.usd.nanos() - row.overage.usd.nanos();
                    assert!(promised <= LIMIT_NANOS, "posted + held - overage = {promised}: {row:?}");
                    samples += 1;
                }
                thread::yield_now();
            }
            samples
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let question = &question;
                scope.spawn(move || {
                    let post = |round| gateway.client.post("/v1/chat/completions", &question(client + round));
                    (0..rounds).map(post).collect::<Vec<Reply>>()
                })
            })
            .collect();
        replies = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        running.store(false, Ordering::Release);
        samples = sampler.join().unwrap();
    });
    (replies, samples)
}

/// Every refusal is the contract's.
fn assert_refusals(replies: &[Reply]) -> usize {
    let refused = replies.iter().filter(|reply| reply.status != 200);
    let mut count = 0;
    for reply in refused {
        assert_eq!(reply.status, 429, "{}", reply.text());
        assert!(reply.text().ends_with("}\n"), "{}", reply.text());
        let error = &reply.json()["error"];
        assert_eq!(error["type"], "budget_exceeded");
        if error["code"] == "budget_held" {
            assert!(reply.header("retry-after").is_some() && reply.header("x-should-retry") != Some("false"));
        } else {
            assert_eq!(error["code"], "budget_exceeded");
            assert_eq!(
                (reply.header("x-should-retry"), reply.header("retry-after")),
                (Some("false"), None)
            );
            assert_eq!(error["daily_limit"], 1);
            assert_eq!(
                (&error["monthly_limit"], &error["monthly_spent"]),
                (&Value::from(0), &Value::from(0))
            );
            assert!(error["daily_spent"].is_number());
            let message = error["message"].as_str().unwrap();
            match error.get("estimated_cost") {
                None => assert!(message.contains("spending limit exceeded"), "{message}"),
                Some(cost) => {
                    assert!(cost.is_number());
                    let phrase = "estimated cost of request exceeds remaining budget";
                    assert!(message.contains(phrase), "{message}");
                }
            }
        }
        count += 1;
    }
    count
}

/// The one account's day, which is what the limits are on.
fn today(gateway: &Gateway, prefix: &str) -> BalanceRow {
    let mut rows = gateway.balances(prefix);
    rows.retain(|row| row.window == Window::Day);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

fn sum(gateway: &Gateway, what: impl Fn(&agentledger_ledger::Entry) -> Usd) -> i64 {
    gateway.entries().iter().map(|entry| what(entry).nanos()).sum()
}

#[test]
fn two_hundred_clients_never_post_more_than_the_limit() {
    // The answer bills all that was asked for, or a quarter of it: room comes back, and those who wait take it.
    let upstream = Upstream::playing(|seen| {
        let max = max_tokens(seen);
        billed("gpt-4o", if max == 2_000 { max } else { max / 4 })
    });
    let gateway = Setup::new(&upstream).with(ONE_DOLLAR).start();
    let (replies, samples) = stampede(&gateway, 2, |turn| asked(if turn % 2 == 0 { 2_000 } else { 2_400 }));
    assert!(samples > 0);
    let refused = assert_refusals(&replies);
    let served = replies.len() - refused;
    gateway.wait_idle();
    assert_eq!(
        upstream.seen().len(),
        served,
        "what is refused never reaches the upstream"
    );

    let row = today(&gateway, "key:");
    assert!(row.posted.usd.nanos() <= LIMIT_NANOS, "{row:?}");
    assert_eq!((row.held.usd, row.overage.usd), (Usd::ZERO, Usd::ZERO));
    assert_eq!(
        row.posted.usd.nanos(),
        sum(&gateway, |entry| entry.settlement.cost),
        "balances equal the entries"
    );
    assert_eq!(gateway.entries().len(), served);
    assert!(refused > 0, "400 requests of two cents do not fit in a dollar");
    // Nor was anyone turned away for nothing: no request of two cents fits any more.
    assert!(row.posted.usd.nanos() > LIMIT_NANOS - 25_000_000, "{row:?}");
}

#[test]
fn an_upstream_that_bills_ten_times_the_hold_makes_exact_overage() {
    let upstream = Upstream::playing(|seen| billed("gpt-4o", max_tokens(seen) * 10));
    let gateway = Setup::new(&upstream).with(ONE_DOLLAR).start();
    let (replies, _) = stampede(&gateway, 1, |_| asked(2_000));
    assert_refusals(&replies);
    gateway.wait_idle();
    let served = replies.iter().filter(|reply| reply.status == 200).count();
    let entries = gateway.entries();
    assert_eq!(entries.len(), served);
    for entry in &entries {
        assert_eq!(entry.settlement.cost.to_string(), "0.2000025");
        assert_eq!(
            entry.overage.nanos(),
            entry.settlement.cost.nanos() - entry.held.nanos()
        );
        assert!(
            entry.overage_reason.as_deref().is_some_and(|reason| !reason.is_empty()),
            "flagged: {entry:?}"
        );
    }
    let row = today(&gateway, "key:");
    assert_eq!(row.posted.usd.nanos(), sum(&gateway, |entry| entry.settlement.cost));
    assert_eq!(row.overage.usd.nanos(), sum(&gateway, |entry| entry.overage));
    assert_eq!(row.held.usd, Usd::ZERO);
    // Bounded: no more than the holds that the limit admitted, each billed tenfold.
    assert!(row.posted.usd.nanos() <= 10 * LIMIT_NANOS, "{row:?}");
    assert!(row.posted.usd.nanos() > LIMIT_NANOS);

    let next = gateway.client.post("/v1/chat/completions", &asked(1));
    assert_eq!(next.status, 429);
    let message = next.json()["error"]["message"].to_string();
    assert!(message.contains("spending limit exceeded"), "{message}");
    let spent: Usd = next.json()["error"]["daily_spent"].to_string().parse().unwrap();
    assert_eq!(spent.nanos(), row.posted.usd.nanos(), "the refusal tells the exact sum");
}

#[test]
fn keys_do_not_spend_each_others_budget_and_global_binds_all() {
    let upstream = Upstream::playing(|seen| billed("gpt-4o", max_tokens(seen)));
    let yaml = "budgets: {default: {daily_limit_usd: 1, action: block}, global: {daily_limit_usd: 1.5, action: block}}";
    let gateway = Setup::new(&upstream).with(yaml).start();
    let as_key = |key: &str, tokens| {
        let header = format!("Bearer sk-{key}-0123456789abcdef");
        gateway
            .client
            .request(
                "POST",
                "/v1/chat/completions",
                &[("authorization", &header)],
                asked(tokens).as_bytes(),
            )
            .status
    };
    assert_eq!(
        (as_key("a", 90_000), as_key("a", 20_000)),
        (200, 429),
        "the key's own dollar"
    );
    assert_eq!(
        (as_key("b", 70_000), as_key("b", 50_000)),
        (429, 200),
        "what the key has is bounded by what all have"
    );
    gateway.wait_idle();
    let global = today(&gateway, "global");
    assert_eq!(global.posted.usd.nanos(), sum(&gateway, |entry| entry.settlement.cost));
}
