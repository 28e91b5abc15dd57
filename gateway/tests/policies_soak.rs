//! Ten thousand policy failures of every kind with traffic beside them: each costs its own request, and nothing else. And
//! clients that say too much, or something new each time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
const SMALL: &str =
    r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
const ASKED: &str = r#"{"model":"gpt-4o","messages":[],"max_tokens":100}"#;

/// What fails quickly, by the agent that makes it fail.
const QUICK: [(&str, &str); 16] = [
    ("errs", "error('boom ' .. call.model)"),
    ("errs-oddly", "error({ call.key })"),
    ("rare", "local nothing = nil return nothing.field"),
    ("unknown-fact", "return call.modle"),
    ("number", "return 5"),
    ("text", "return 'deny'"),
    ("no-list", "return { ok = true }"),
    (
        "misspelt",
        "return budget{ account = 'global', window = 'day', limt = 1 }",
    ),
    (
        "nan",
        "return budget{ account = 'global', window = 'day', limit = 0/0 }",
    ),
    ("negative", "return rate{ account = 'global', per = 'day', limit = -1 }"),
    ("endless", "return parallel{ account = 'global', limit = 1/0 }"),
    ("fraction", "return rate{ account = 'key', per = 'day', limit = 1.5 }"),
    (
        "stranger",
        "return budget{ account = 'pet:rex', window = 'day', limit = 1 }",
    ),
    ("misplaced", "return bind{ tenant = 'acme' }"),
    ("writes", "string.format = nil"),
    (
        "too-many",
        "local all = {} for at = 1, 300 do all[at] = allow() end return all",
    ),
];
/// What has to be stopped: by its deadline, its depth or its memory.
const STOPPED: [(&str, &str); 7] = [
    ("loops", "while true do end"),
    ("catches", "while true do pcall(function() while true do end end) end"),
    (
        "pattern",
        "local s = string.rep('a', 30000) return s:find(string.rep('a*', 60) .. 'b')",
    ),
    (
        "recurses",
        "local function deep(n) return 1 + deep(n + 1) end return deep(1)",
    ),
    ("bomb", "return string.rep('x', 1e9)"),
    (
        "hoards",
        "local all = {} while true do all[#all + 1] = string.rep('x', 100000) .. #all end",
    ),
    ("doubles", "local s = 'x' while true do s = s .. s end"),
];
const FAILURES: usize = 10_000;
/// One failure of so many has to be stopped: each may take its whole deadline.
const STOPPED_EVERY: usize = 100;

fn bad_policy() -> String {
    let mut text = "local kept return { name = 'bad', version = '1', priority = 5, request = function(_, call)\n\
                    local kind = call.agent\nif kind == '' then return end\n\
                    if kind == 'keeps' then kept = kept or call return header{ name = 'x', value = kept.model } end\n"
        .to_owned();
    for (agent, body) in QUICK.iter().chain(&STOPPED) {
        text.push_str(&format!("if kind == '{agent}' then {body} end\n"));
    }
    text + "end }"
}

#[test]
fn ten_thousand_failures_of_every_kind_cost_nothing_but_their_own_requests() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let yaml = "budgets: {default: {daily_limit_usd: 1000, action: block}}\nrate_limits: {default: {requests_per_day: 1000000, parallel: 1000}}";
    let gateway = Setup::new(&upstream).with(yaml).policy("bad", &bad_policy()).start();
    let (running, good) = (AtomicBool::new(true), AtomicUsize::new(0));
    let (next, failed, kept) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let fail = |number: usize| {
        let agent = match number {
            number if number % 50 == 7 => "keeps",
            number if number % STOPPED_EVERY == 0 => STOPPED[number / STOPPED_EVERY % STOPPED.len()].0,
            number => QUICK[number % QUICK.len()].0,
        };
        let headers = [("x-agent-id", agent), ("authorization", "Bearer sk-bad")];
        let reply = gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes());
        match reply.status {
            // Kept facts are of use while their own call runs, and never again.
            200 if agent == "keeps" => kept.fetch_add(1, Ordering::Relaxed),
            503 => {
                let error = &reply.json()["error"];
                assert_eq!(
                    (error["code"].as_str(), error["policy"].as_str()),
                    (Some("policy_failed"), Some("bad"))
                );
                assert_eq!(reply.header("x-should-retry"), Some("false"));
                failed.fetch_add(1, Ordering::Relaxed)
            }
            other => panic!("{agent}: {other} {}", reply.text()),
        };
    };
    thread::scope(|scope| {
        let beside = scope.spawn(|| {
            while running.load(Ordering::Acquire) {
                let reply = gateway.client.post(CHAT, ASKED);
                assert_eq!(
                    (reply.status, reply.text().as_str()),
                    (200, SMALL),
                    "traffic beside failing policies"
                );
                good.fetch_add(1, Ordering::Relaxed);
            }
        });
        let failing: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while failed.load(Ordering::Relaxed) < FAILURES {
                        fail(next.fetch_add(1, Ordering::Relaxed));
                    }
                })
            })
            .collect();
        let ended: Vec<_> = failing.into_iter().map(|thread| thread.join()).collect();
        running.store(false, Ordering::Release);
        beside.join().unwrap();
        ended.into_iter().for_each(|thread| thread.unwrap());
    });
    gateway.wait_idle();
    let (failed, served) = (failed.into_inner(), good.into_inner() + kept.into_inner());
    assert!(failed >= FAILURES && served > 100, "{failed} failed, {served} served");
    assert_eq!((gateway.entries().len(), upstream.seen_count()), (served, served));
    let metrics = gateway.client.get("/metrics").text();
    let counted = format!("agentledger_policy_errors_total{{policy=\"bad\",phase=\"request\"}} {failed}");
    assert!(metrics.contains(&counted), "{counted} is not in\n{metrics}");
    let rates = &gateway.launched().gateway().rates;
    let keys = gateway.balances("key:");
    assert!(!keys.is_empty() && keys.iter().all(|row| rates.running(&row.account) == 0));
}

#[test]
fn a_policy_that_fails_after_the_answer_or_in_shadow_is_only_counted() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let text = |name: &str, mode: &str, phase: &str, body: &str| {
        format!("return {{ name = '{name}', version = '1', mode = '{mode}', {phase} = function(_, told) {body} end }}")
    };
    let gateway = Setup::new(&upstream)
        .policy("late", &text("late", "enforce", "settled", "error('too late')"))
        .policy("ghostly", &text("ghostly", "shadow", "request", "return { 5 }"))
        .policy("who", &text("who", "shadow", "tenant", "return bind{ tenant = 5 }"))
        .start();
    for _ in 0..20 {
        assert_eq!(gateway.client.post(CHAT, ASKED).status, 200);
    }
    let metrics = gateway.client.get("/metrics").text();
    for (policy, phase) in [("late", "settled"), ("ghostly", "request"), ("who", "tenant")] {
        let counted = format!("agentledger_policy_errors_total{{policy=\"{policy}\",phase=\"{phase}\"}} 20");
        assert!(metrics.contains(&counted), "{counted} is not in\n{metrics}");
    }
}

#[test]
fn headers_that_are_too_long_or_not_to_be_shown_are_refused() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let gateway = Setup::new(&upstream).start();
    let said = |name: &str, value: &str| {
        gateway
            .client
            .request("POST", CHAT, &[(name, value)], ASKED.as_bytes())
            .status
    };
    for name in [
        "x-agent-id",
        "x-agent-session",
        "x-agent-user",
        "x-agent-task",
        "x-agent-tags",
    ] {
        // The first is refused while its head is still being read.
        assert_eq!(said(name, &"a".repeat(1 << 20)), 431, "{name}");
        assert_eq!(said(name, &"a".repeat(100 << 10)), 431, "{name}");
        assert_eq!(said(name, &format!("t={}", "a".repeat(1_000))), 400, "{name}");
        assert_eq!(said(name, "t=a\u{1b}[31mb"), 400, "{name}");
    }
    assert_eq!((upstream.seen_count(), said("x-agent-id", "fine")), (0, 200));
}

#[test]
fn thousands_of_made_up_names_stay_within_bounded_memory_and_labels() {
    let upstream = Upstream::always(Script::json(200, SMALL));
    let text = "return { name = 'each', version = '1', request = function(_, call)
      return { rate{ account = 'agent', per = 'minute', limit = 1 }, budget{ account = 'session', window = 'hour', limit = 1 },
        alert{ type = 'seen', message = call.agent, about = call.agent } } end }";
    let yaml = "limits: {metric_label_values_max: 20}";
    let gateway = Setup::new(&upstream).with(yaml).policy("each", text).start();
    for number in 0..2_000 {
        let (name, key) = (format!("made-up-{number}"), format!("Bearer sk-made-up-{number}"));
        let headers = [
            ("x-agent-id", &*name),
            ("x-agent-session", &*name),
            ("authorization", &*key),
        ];
        assert_eq!(
            gateway.client.request("POST", CHAT, &headers, ASKED.as_bytes()).status,
            200
        );
    }
    let metrics = gateway.client.get("/metrics").text();
    let keys = metrics
        .lines()
        .filter(|line| line.starts_with("agentledger_cost_usd_total{"))
        .count();
    assert!(
        keys <= 21 && metrics.contains("api_key_hash=\"other\""),
        "{keys} keys\n{metrics}"
    );
    let shared = gateway.launched().gateway();
    assert!(shared.rates.accounts() <= agentledger::testing::ACCOUNTS_MAX);
    assert!(shared.alerts.recent().len() <= agentledger::testing::ALERTS_MAX);
    assert_eq!(metrics.matches("agentledger_alerts_total{type=").count(), 1);
}
