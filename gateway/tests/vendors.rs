//! Hosts that share a dialect and not what is free, through the running gateway.

use std::sync::atomic::{AtomicUsize, Ordering};

use agentledger_ledger::{Kind, Outcome, Usd};

use super::harness::{Gateway, Script, Setup, Upstream};

const KEY: (&str, &str) = ("authorization", "Bearer sk-test-0123456789abcdef");
/// 40 tokens in, 600 out and 400 of thinking outside of them.
const RESULT: &str = r#"{"id":"cmpl-7","object":"chat.completion","model":"grok-4.3","choices":[{"index":0,"message":{"role":"assistant","content":"A fox."},"finish_reason":"stop"}],"usage":{"prompt_tokens":40,"completion_tokens":600,"total_tokens":1040,"completion_tokens_details":{"reasoning_tokens":400}}}"#;
const DEFERRED: &str = "/xai/v1/chat/deferred-completion/def-7";

/// These vendors lead to the upstream, at a dollar a million tokens in and ten out.
fn gateway(upstream: &Upstream, vendors: &[&str], more: &str) -> Gateway {
    let base = upstream.base();
    let provider = |name: &&str| {
        format!(
            "{name}: {{enabled: true, type: openai, upstream: \"{base}\", default_price: {{input: 1, output: 10}}}}"
        )
    };
    let extra: Vec<String> = vendors.iter().map(provider).collect();
    let yaml = format!(
        "providers: {{openai: {{upstream: \"{base}\"}}, extra: {{{}}}}}\n{more}",
        extra.join(", ")
    );
    Setup::new(upstream).only(&yaml).start()
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

#[test]
fn xai_deferred_completion() {
    let fetches = AtomicUsize::new(0);
    let upstream = Upstream::playing(move |seen| match seen.method.as_str() {
        "POST" => Script::json(200, r#"{"request_id":"def-7"}"#),
        _ if fetches.fetch_add(1, Ordering::SeqCst) == 0 => Script::body(202, "application/json", b"", &[]),
        _ => Script::json(200, RESULT),
    });
    let gateway = gateway(&upstream, &["xai"], "");
    let ask = r#"{"model":"no-row-of-the-book","deferred":true,"max_tokens":5000,"messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(gateway.client.post("/xai/v1/chat/completions", ask).status, 200);
    let ledger = &gateway.launched().gateway().ledger;
    assert_eq!(ledger.open_holds().len(), 1, "the hold waits for the result");
    assert_eq!(gateway.client.request("GET", DEFERRED, &[KEY], b"").status, 202);
    assert!(
        gateway.entries().is_empty() && ledger.open_holds().len() == 1,
        "it is not done"
    );
    for _ in 0..2 {
        assert_eq!(gateway.client.request("GET", DEFERRED, &[KEY], b"").text(), RESULT);
    }
    let entry = gateway.entry();
    let end = &entry.settlement;
    assert_eq!(
        (end.usage.get(Kind::Input), end.usage.get(Kind::Output), end.reasoning),
        (40, 1_000, 400)
    );
    assert_eq!(end.outcome, Outcome::Completed);
    assert!(entry.held > usd("0.05") && entry.overage == Usd::ZERO, "{entry:?}");
    assert!(ledger.open_holds().is_empty());
}

#[test]
fn mistral_conversations_unmetered() {
    let answer = r#"{"object":"conversation.response","conversation_id":"conv_1","outputs":[{"type":"message.output","model":"m-2512","role":"assistant","content":"long"}],"usage":{"prompt_tokens":200000,"completion_tokens":50000,"total_tokens":250000,"connector_tokens":0}}"#;
    let upstream = Upstream::always(Script::json(200, answer));
    let gateway = gateway(
        &upstream,
        &["mistral"],
        "budgets: {default: {daily_limit_usd: 0.5, action: block}}",
    );
    let begin = r#"{"model":"m-2512","inputs":"write a book","completion_args":{"max_tokens":100}}"#;
    assert_eq!(gateway.client.post("/mistral/v1/conversations", begin).status, 200);
    let entry = gateway.entry();
    assert_eq!(&*entry.facts.operation, "conversations.run");
    assert_eq!(
        (
            entry.settlement.usage.get(Kind::Input),
            entry.settlement.usage.get(Kind::Output)
        ),
        (200_000, 50_000)
    );
    assert_eq!(entry.settlement.cost, usd("0.7"));
    // The day's budget is spent: no way of running a model is left open.
    for (path, body) in [
        ("/mistral/v1/conversations", begin),
        ("/mistral/v1/conversations/conv_1", r#"{"inputs":"go on"}"#),
        ("/mistral/v1/conversations/conv_1/restart", r#"{"inputs":"again"}"#),
        ("/mistral/v1/agents/completions", r#"{"agent_id":"a","messages":[]}"#),
        ("/mistral/v1/fim/completions", r#"{"model":"m-2512","prompt":"x"}"#),
    ] {
        assert_eq!(gateway.client.post(path, body).status, 429, "{path}");
    }
    assert_eq!(upstream.seen_count(), 1);
}

#[test]
fn what_cannot_be_held_or_read_is_refused_with_its_reason() {
    let upstream = Upstream::always(Script::json(200, "{}"));
    let gateway = gateway(
        &upstream,
        &["mistral", "xai", "together", "fireworks", "openrouter", "lab"],
        "",
    );
    for path in [
        "/v1/evals",
        "/v1/evals/e/runs",
        "/v1/fine_tuning/jobs",
        "/v1/fine_tuning/alpha/graders/run",
        "/v1/threads/t/runs",
        "/v1/vector_stores",
        "/v1/containers",
        "/v1/videos",
        "/v1/realtime/client_secrets",
        "/mistral/v1/libraries/l/documents",
        "/xai/v1/batches",
        "/xai/v1/videos/generations",
        "/together/v1/endpoints",
        "/fireworks/v1/workflows/accounts/fireworks/models/m/text_to_image",
        "/openrouter/v1/keys",
        "/lab/v1/conversations",
        "/lab/v1/batches",
    ] {
        let reply = gateway.client.post(path, "{}");
        assert_eq!(
            (reply.status, reply.text().contains("route_refused")),
            (403, true),
            "{path}: {}",
            reply.text()
        );
    }
    assert_eq!(upstream.seen_count(), 0);
    assert!(gateway.entries().is_empty());
}

#[test]
fn a_completion_that_is_fetched_later_is_billed_by_its_own_id() {
    let done = r#"{"id":"req-7","model":"no-row","status":"COMPLETED","response":{"id":"c-9","model":"no-row","choices":[{"index":0,"message":{"role":"assistant","content":"x"}}],"usage":{"prompt_tokens":20,"completion_tokens":1000,"total_tokens":1020}}}"#;
    let upstream = Upstream::playing(move |seen| match seen.method.as_str() {
        "POST" => Script::json(
            200,
            r#"{"id":"req-7","model":"no-row","status":"CREATED","response":null}"#,
        ),
        _ => Script::json(200, done),
    });
    let gateway = gateway(&upstream, &["perplexity"], "");
    let ask = r#"{"model":"no-row","max_tokens":2000,"messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(
        gateway.client.post("/perplexity/async/chat/completions", ask).status,
        200
    );
    assert_eq!(gateway.launched().gateway().ledger.open_holds().len(), 1);
    for path in [
        "/perplexity/async/chat/completions/req-7",
        "/perplexity/v1/async/sonar/req-7",
    ] {
        assert_eq!(gateway.client.request("GET", path, &[KEY], b"").text(), done);
    }
    assert_eq!(gateway.entry().settlement.usage.get(Kind::Output), 1_000);
    assert!(gateway.launched().gateway().ledger.open_holds().is_empty());
}

#[test]
fn results_of_a_batch_that_stand_in_its_job_cost_the_price_of_batches() {
    let line = |input: u64, output: u64| {
        format!(
            r#"{{"id":"b","custom_id":"{input}","response":{{"status_code":200,"body":{{"id":"x","model":"batched","usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}}}}}}}"#,
            input + output
        )
    };
    let job = format!(
        r#"{{"id":"job-1","object":"batch","status":"SUCCESS","outputs":[{},{}]}}"#,
        line(1_000, 400),
        line(2_000, 500)
    );
    let upstream = Upstream::always(Script::json(200, &job));
    let rows = "provider: mistral\nmodels:\n- id: batched\n  source: ours\n  checked: 2026-11-01\n  prices:\n    2026-01-01:\n      standard: {input: 2, output: 10}\n      batch: {input: 1, output: 5}\n";
    let yaml = format!(
        "providers: {{extra: {{mistral: {{enabled: true, upstream: \"{}\"}}}}}}",
        upstream.base()
    );
    let gateway = Setup::new(&upstream).only(&yaml).prices(rows).start();
    let fetched = gateway
        .client
        .request("GET", "/mistral/v1/batch/jobs/job-1", &[KEY], b"");
    assert_eq!(fetched.status, 200);
    let entry = gateway.entry();
    // 3,000 x $1 and 900 x $5 a million.
    assert_eq!(entry.settlement.cost, usd("0.0075"), "{:?}", entry.settlement);
    assert_eq!(
        entry.settlement.price.as_ref().and_then(|price| price.tier.as_deref()),
        Some("batch")
    );
}
