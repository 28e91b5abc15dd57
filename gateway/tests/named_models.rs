//! All models that a request names are held and judged: fallbacks, advisors, lists without a first model.

use std::sync::Arc;
use std::thread;

use agentledger_ledger::Usd;
use serde_json::{Value, json};

use crate::harness::client::Reply;
use crate::harness::{Gateway, Script, Setup, Upstream};

const OPENROUTER: &str = "/openrouter/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const OPENROUTER_MESSAGES: &str = "/openrouter/v1/messages";

/// What an answer by a dear model costs: 1,000 tokens of output at $75 a million, more than all limits here.
fn by_opus() -> Script {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 1_000, "total_tokens": 1_010});
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": "x"}});
    Script::json(
        200,
        &json!({"id": "g", "model": "anthropic/claude-opus-4.1", "choices": [choice], "usage": usage}).to_string(),
    )
}

fn setup(upstream: &Upstream) -> Setup {
    let base = upstream.base();
    let openrouter = format!("extra: {{openrouter: {{enabled: true, upstream: \"{base}/api\"}}}}");
    Setup::new(upstream).only(&format!(
        "providers:\n  openai: {{upstream: \"{base}\"}}\n  anthropic: {{upstream: \"{base}\"}}\n  {openrouter}"
    ))
}

fn ask(gateway: &Gateway, path: &str, body: &Value) -> Reply {
    if path.ends_with(MESSAGES) {
        gateway.client.post_anthropic(path, &body.to_string())
    } else {
        gateway.client.post(path, &body.to_string())
    }
}

/// Each form in which a request names a dear model beside, or in place of, a cheap one.
fn forms() -> Vec<(&'static str, &'static str, Value)> {
    let say = json!([{"role": "user", "content": "x"}]);
    vec![
        (
            "models beside model",
            OPENROUTER,
            json!({"model": "openai/gpt-4o-mini", "models": ["anthropic/claude-opus-4.1"], "max_tokens": 1_000, "messages": say}),
        ),
        (
            "models alone",
            OPENROUTER,
            json!({"models": ["openai/gpt-4o-mini", "Anthropic/Claude-Opus-4.1"], "max_tokens": 1_000, "messages": say}),
        ),
        (
            "a variant of the model",
            OPENROUTER,
            json!({"model": "anthropic/claude-opus-4.1:nitro", "max_tokens": 1_000, "messages": say}),
        ),
        (
            "fallbacks",
            MESSAGES,
            json!({"model": "claude-haiku-4-5", "fallbacks": [{"model": "claude-opus-4-8"}], "max_tokens": 1_000, "messages": say}),
        ),
        (
            "fallbacks at another host of the dialect",
            OPENROUTER_MESSAGES,
            json!({"model": "anthropic/claude-haiku-4.5", "fallbacks": [{"model": "anthropic/claude-opus-4.1"}], "max_tokens": 1_000, "messages": say}),
        ),
        (
            "an advisor",
            MESSAGES,
            json!({"model": "claude-haiku-4-5", "tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8"}], "max_tokens": 1_000, "messages": say}),
        ),
    ]
}

#[test]
fn a_list_of_blocked_models_stops_each_form() {
    let upstream = Upstream::always(by_opus());
    let gateway = setup(&upstream).conf("block", "{models: [\"*opus*\"]}").start();
    for (form, path, body) in forms() {
        let reply = ask(&gateway, path, &body);
        assert_eq!(reply.status, 403, "{form}: {}", reply.text());
        assert!(reply.text().contains("model_blocked"), "{form}: {}", reply.text());
    }
    let router = json!({"model": "openrouter/auto", "messages": []});
    assert_eq!(
        ask(&gateway, OPENROUTER, &router).status,
        403,
        "who serves is not known"
    );
    assert_eq!(upstream.seen_count(), 0);
    let cheap = json!({"model": "openai/gpt-4o-mini", "max_tokens": 10, "messages": []});
    assert_eq!(ask(&gateway, OPENROUTER, &cheap).status, 200);
}

#[test]
fn fallback_models_in_request_are_held_at_the_dearest() {
    let upstream = Upstream::always(by_opus());
    let gateway = setup(&upstream).start();
    for (at, (form, path, body)) in forms().into_iter().enumerate() {
        assert_eq!(ask(&gateway, path, &body).status, 200, "{form}");
        let entry = gateway.entries_of(at + 1).remove(at);
        let dear: Usd = "0.02".parse().unwrap();
        assert!(entry.held >= dear, "{form}: {} held", entry.held);
    }
}

#[test]
fn thirty_at_once_with_a_dear_fallback_post_no_more_than_their_limit() {
    let upstream = Upstream::always(by_opus());
    let limits = "budgets: {default: {daily_limit_usd: 0.2, action: block}}\nhold: {wait_ms: 0}";
    let gateway = Arc::new(setup(&upstream).with(limits).start());
    let (_, _, body) = forms().remove(0);
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let (gateway, body) = (Arc::clone(&gateway), body.clone());
            thread::spawn(move || ask(&gateway, OPENROUTER, &body).status)
        })
        .collect();
    let statuses: Vec<u16> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    let entries = gateway.entries_of(served);
    let limit: Usd = "0.2".parse().unwrap();
    let (mut posted, mut overage) = (Usd::ZERO, Usd::ZERO);
    for entry in &entries {
        posted = posted.saturating_add(entry.settlement.cost);
        overage = overage.saturating_add(entry.overage);
        assert!(entry.overage == Usd::ZERO || entry.overage_reason.is_some());
    }
    assert!(
        served >= 1 && posted.saturating_sub(overage) <= limit,
        "{posted} posted, {overage} flagged: {statuses:?}"
    );
}

#[test]
fn a_cheap_key_cannot_name_a_model_that_it_cannot_pay() {
    let upstream = Upstream::always(by_opus());
    let gateway = setup(&upstream)
        .with("budgets: {default: {daily_limit_usd: 0.05, action: block}}")
        .start();
    let (_, path, body) = forms().remove(0);
    assert_eq!(
        ask(&gateway, path, &body).status,
        429,
        "the dear one alone is more than the limit"
    );
    assert_eq!(upstream.seen_count(), 0);
}

#[test]
fn each_models_own_limit_holds() {
    let upstream = Upstream::always(by_opus());
    let limit = "{limits: [{account: \"model:*opus*\", window: day, limit: 0}]}";
    let gateway = setup(&upstream).conf("budget", limit).start();
    for (form, path, body) in forms() {
        assert_eq!(ask(&gateway, path, &body).status, 429, "{form}");
    }
    assert_eq!(upstream.seen_count(), 0);
}
