//! Prices on whole requests: what hosts bill beside tokens and say that they billed, prices that change while the gateway
//! runs, models without a price, and what the past would cost at other prices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agentledger_ledger::{Entry, ManualClock};
use serde_json::{Value, json};

use crate::harness::{Gateway, Installation, Script, Setup, Upstream};

const CHAT: &str = "/v1/chat/completions";
/// 2026-11-22T23:59:50Z.
const BEFORE_MIDNIGHT: i64 = 1_795_391_990_000;

/// A chat answer with this usage object.
fn answer(model: &str, usage: &Value) -> Script {
    let body = json!({"id": "c", "object": "chat.completion", "created": 1, "model": model, "usage": usage,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]});
    Script::json(200, &body.to_string())
}

/// The same in one event of a stream, after one with text.
fn streamed(model: &str, usage: &Value) -> Script {
    let text = json!({"id": "c", "model": model, "choices": [{"index": 0, "delta": {"content": "x"}}]});
    let last = json!({"id": "c", "model": model, "choices": [], "usage": usage});
    Script::sse(&[format!("data: {text}\n\ndata: {last}\n\ndata: [DONE]\n\n")])
}

fn asked(model: &str, more: &Value) -> String {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100});
    for (key, value) in more.as_object().unwrap() {
        body[key.as_str()] = value.clone();
    }
    body.to_string()
}

/// A provider of `providers.extra`, at the upstream.
fn extra(upstream: &Upstream, name: &str, more: &str) -> Gateway {
    let yaml = format!(
        "providers: {{extra: {{{name}: {{enabled: true, upstream: \"{}\"{more}}}}}}}",
        upstream.base()
    );
    Setup::new(upstream).only(&yaml).start()
}

/// One exchange with a provider; its entry.
fn exchange(name: &str, more: &str, model: &str, request: &Value, script: Script) -> Entry {
    let upstream = Upstream::always(script);
    let gateway = extra(&upstream, name, more);
    let reply = gateway.client.post(&format!("/{name}{CHAT}"), &asked(model, request));
    assert_eq!(reply.status, 200, "{}", reply.text());
    gateway.wait_idle();
    gateway.entry()
}

fn told(entry: &Entry) -> (String, Option<String>, Option<&str>) {
    let settled = &entry.settlement;
    let reported = settled.reported_cost.map(|cost| cost.to_string());
    (settled.cost.to_string(), reported, settled.estimate_reason.as_deref())
}

#[test]
fn perplexitys_fee_goes_by_the_size_of_its_search() {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300, "search_context_size": "medium",
        "cost": {"input_tokens_cost": 0.0003, "output_tokens_cost": 0.003, "request_cost": 0.01, "total_cost": 0.0133}});
    let wide = json!({"web_search_options": {"search_context_size": "medium"}});
    for script in [answer("sonar-pro", &usage), streamed("sonar-pro", &usage)] {
        let entry = exchange("perplexity", "", "sonar-pro", &wide, script);
        // 300 + 3000 + 10000 micro-dollars; theirs and ours are one.
        assert_eq!(told(&entry), ("0.0133".into(), Some("0.0133".into()), None));
        assert_eq!(
            entry.settlement.price.as_ref().unwrap().tier.as_deref(),
            Some("search_medium")
        );
        let usage = serde_json::to_value(entry.settlement.usage).unwrap();
        assert_eq!(usage, json!({"input": 100, "output": 200, "request": 1}));
        assert!(entry.held.nanos() > 10_000_000, "the fee is held too: {}", entry.held);
    }
}

#[test]
fn deep_research_bills_citations_searches_and_reasoning() {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 2000, "total_tokens": 2100, "citation_tokens": 5000,
        "num_search_queries": 30, "reasoning_tokens": 40000, "cost": {"total_cost": 0.2962}});
    let entry = exchange(
        "perplexity",
        "",
        "sonar-deep-research",
        &json!({}),
        answer("sonar-deep-research", &usage),
    );
    // (100 + 5000) × 2 + 2000 × 8 + 40000 × 3 + 30 × 5000 micro-dollars
    assert_eq!(told(&entry), ("0.2962".into(), Some("0.2962".into()), None));
    assert_eq!(entry.settlement.reasoning, 40_000);
}

#[test]
fn costs_that_hosts_report_are_kept_and_their_drift_is_counted() {
    let upstream = Upstream::playing(|seen| {
        let ticks = json!({"prompt_tokens": 1000, "completion_tokens": 1000, "cost_in_usd_ticks": 40_000_000});
        let dollars = json!({"prompt_tokens": 1000, "completion_tokens": 1000, "cost": 0.0125});
        let grok = seen.json()["model"] == "grok-4.3";
        if grok {
            answer("grok-4.3", &ticks)
        } else {
            answer("openai/gpt-4o", &dollars)
        }
    });
    let base = upstream.base();
    let yaml = format!(
        "providers: {{extra: {{xai: {{enabled: true, upstream: \"{base}\"}}, openrouter: {{enabled: true, upstream: \"{base}\"}}}}}}"
    );
    let gateway = Setup::new(&upstream).only(&yaml).start();
    let ask = |path: &str, model| gateway.client.post(path, &asked(model, &json!({}))).status;
    assert_eq!(ask("/xai/v1/chat/completions", "grok-4.3"), 200);
    assert_eq!(ask("/openrouter/v1/chat/completions", "openai/gpt-4o"), 200);
    let entries = gateway.entries_of(2);
    // 1250 + 2500 micro-dollars here, 4000 there; OpenRouter's are the same.
    assert_eq!(told(&entries[0]), ("0.00375".into(), Some("0.004".into()), None));
    assert_eq!(told(&entries[1]), ("0.0125".into(), Some("0.0125".into()), None));
    let metrics = gateway.client.get("/metrics").text();
    for line in [
        "agentledger_reported_cost_usd_total{provider=\"xai\",model=\"grok-4.3\"} 0.004",
        "agentledger_price_drift_usd_total{provider=\"xai\",model=\"grok-4.3\",reported=\"above\"} 0.00025",
        "agentledger_reported_cost_usd_total{provider=\"openrouter\",model=\"openai/gpt-4o\"} 0.0125",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(
        !metrics.contains("agentledger_price_drift_usd_total{provider=\"openrouter\""),
        "{metrics}"
    );
}

#[test]
fn a_service_tier_is_billed_and_entered() {
    let usage =
        json!({"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}});
    let body = json!({"id": "c", "model": "gpt-5.4", "service_tier": "priority", "usage": usage, "choices": []});
    let upstream = Upstream::always(Script::json(200, &body.to_string()));
    let gateway = Gateway::to(&upstream);
    // The answer's tier counts, whatever was asked for.
    let request = asked("gpt-5.4", &json!({"service_tier": "auto"}));
    assert_eq!(gateway.client.post(CHAT, &request).status, 200);
    gateway.wait_idle();
    let entry = gateway.entry();
    assert_eq!(told(&entry).0, "0.0062"); // 600 × 5 + 400 × 0.5 + 100 × 30 micro-dollars
    assert_eq!(entry.settlement.price.unwrap().tier.as_deref(), Some("priority"));
}

#[test]
fn a_model_without_a_price_is_estimated_and_the_operators_word_is_not() {
    let usage =
        json!({"prompt_tokens": 1000, "completion_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 500}});
    let of = |more, model| exchange("groq", more, model, &json!({}), answer(model, &usage));
    // The dearest row of its family, or of the book: an estimate.
    let nameless = of("", "zeta-9");
    assert_eq!(told(&nameless).2, Some("unpriced_model"));
    let unknown = of("", "llama-9");
    assert_eq!(told(&unknown).2, Some("family_price"));
    assert!(unknown.held <= nameless.held, "{} {}", unknown.held, nameless.held);
    let row = unknown.settlement.price.unwrap();
    assert_eq!((&*row.provider, &*row.effective), ("groq", "1970-01-01"));
    // What the operator said, cached or not: exact.
    let stated = of(", default_price: {input: 2, output: 4}", "llama-9");
    assert_eq!(told(&stated), ("0.006".into(), None, None));
    assert_eq!(&*stated.settlement.price.unwrap().id, "default_price");
    // The book's own row wins over it …
    let known = of(", default_price: {input: 2, output: 4}", "openai/gpt-oss-120b");
    assert_eq!(told(&known), ("0.0007125".into(), None, None)); // 500 × 0.15 + 500 × 0.075 + 1000 × 0.6
    // … and another provider's over none of its own.
    let second = exchange(
        "groq-eu",
        ", book: groq",
        "openai/gpt-oss-120b",
        &json!({}),
        answer("openai/gpt-oss-120b", &usage),
    );
    assert_eq!(told(&second), ("0.0007125".into(), None, None));
    assert_eq!(
        (&*second.facts.provider, &*second.settlement.price.unwrap().provider),
        ("groq-eu", "groq")
    );
    // A provider that is free is free.
    let free = of(", free: true", "openai/gpt-oss-120b");
    assert_eq!(told(&free), ("0".into(), None, None));
}

#[test]
fn openrouter_routing_variant() {
    let usage = json!({"prompt_tokens": 10_000, "completion_tokens": 500, "cost": 0.0018});
    let model = "openai/gpt-4o-mini:nitro";
    let entry = exchange("openrouter", "", model, &json!({}), answer(model, &usage));
    assert_eq!(told(&entry), ("0.0018".into(), Some("0.0018".into()), None));
    assert!(entry.held.nanos() < 1_000_000, "{}", entry.held);
    // The answer may name the base alone: the search that the name brings along is billed and held all the same.
    let online = exchange(
        "openrouter",
        "",
        "openai/gpt-4o-mini:online",
        &json!({}),
        answer("openai/gpt-4o-mini", &usage),
    );
    assert_eq!(
        told(&online),
        ("0.0218".into(), Some("0.0018".into()), Some("unread_fee"))
    );
    let free = exchange(
        "openrouter",
        "",
        "z-ai/glm-4.5-air:free",
        &json!({}),
        answer("z-ai/glm-4.5-air:free", &usage),
    );
    assert_eq!(told(&free).0, "0");
    let auto = exchange(
        "openrouter",
        "",
        "openrouter/auto",
        &json!({}),
        answer("openai/gpt-4o-mini", &usage),
    );
    assert_eq!(told(&auto), ("0.0018".into(), Some("0.0018".into()), None));
    assert!(auto.held > entry.held, "held at the dearest that may serve");
}

/// On the day of a release a small budget is not locked out, and people are notified once.
#[test]
fn a_model_of_the_release_day_passes_a_small_budget_and_is_told_once() {
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 100});
    let upstream = Upstream::always(answer("gpt-6.9-sol", &usage));
    let setup = Setup::new(&upstream).with("budgets: {default: {daily_limit_usd: 0.05}}");
    let gateway = setup.start();
    for _ in 0..2 {
        assert_eq!(gateway.client.post(CHAT, &asked("gpt-6.9-sol", &json!({}))).status, 200);
        gateway.wait_idle();
    }
    let entries = gateway.entries_of(2);
    assert!(entries.iter().all(|entry| told(entry).2 == Some("family_price")));
    let metrics = gateway.client.get("/metrics").text();
    for line in [
        "agentledger_alerts_total{type=\"unpriced_model\"} 1",
        "agentledger_estimated_total{provider=\"openai\",reason=\"family_price\"} 2",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

/// `prices update --apply` beside a running gateway, which reloads what it wrote.
#[test]
fn an_update_is_reloaded_by_the_running_gateway() {
    let usage = json!({"prompt_tokens": 1_000_000, "completion_tokens": 0});
    let upstream = Upstream::always(answer("gpt-4o-mini", &usage));
    let home = Installation::new("");
    home.configure(&format!("providers: {{openai: {{upstream: \"{}\"}}}}", upstream.base()));
    let list = home.path("list.json");
    let put = |price: &str| {
        let entry = json!({"gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat"}}).to_string();
        std::fs::write(
            &list,
            entry.replace("\"mode\"", &format!("\"input_cost_per_token\": {price}, \"mode\"")),
        )
        .unwrap();
    };
    let gateway = home.serve();
    let cost_now = || {
        assert_eq!(gateway.client.post(CHAT, &asked("gpt-4o-mini", &json!({}))).status, 200);
        home.export().last().unwrap()["cost_usd"].clone()
    };
    assert_eq!(cost_now(), "0.15");
    put("0.0");
    let lied = home.print(&["prices", "update", "--from", list.to_str().unwrap(), "--apply"]);
    assert!(
        lied.contains("held back: openai gpt-4o-mini: standard input: 0.15 -> 0: it would be free"),
        "{lied}"
    );
    assert!(lied.ends_with("Nothing to write.\n"), "{lied}");
    put("2e-07");
    let update = ["prices", "update", "--from", list.to_str().unwrap(), "--apply"];
    let first = home.print(&update);
    assert!(
        first.contains("openai gpt-4o-mini: standard input: 0.15 -> 0.2\n"),
        "{first}"
    );
    for _ in 0..600 {
        if cost_now() == "0.2" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(cost_now(), "0.2", "{}", gateway.log());
    assert!(home.print(&update).ends_with("Nothing to write.\n"));
    assert!(home.print(&["prices", "check"]).ends_with("17 providers: OK\n"));
    let html = home.path("page.html");
    std::fs::write(&html, "<html>").unwrap();
    let refused = home.run(&["prices", "update", "--from", html.to_str().unwrap(), "--apply"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        told.contains("nothing is changed: ") && told.contains("a page of HTML"),
        "{told}"
    );
}

/// The schedule asks its source by itself; one that fails, or lies, changes nothing and says so.
#[test]
fn a_schedule_updates_prices_and_a_source_that_fails_changes_nothing() {
    let usage = json!({"prompt_tokens": 1_000_000, "completion_tokens": 0});
    let upstream = Upstream::always(answer("gpt-4o-mini", &usage));
    let broken = Arc::new(AtomicBool::new(false));
    let source = {
        let broken = Arc::clone(&broken);
        Upstream::playing(move |_| match broken.load(Ordering::SeqCst) {
            true => Script::json(500, "{}"),
            false => Script::json(
                200,
                r#"{"openai": {"models": {"gpt-4o-mini": {"cost": {"input": 0.2, "output": 0}}}}}"#,
            ),
        })
    };
    let home = Installation::new("");
    home.configure(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\nprices: {{update: {{from: [\"{}/api.json\"], every: 1s, apply: true}}}}",
        upstream.base(),
        source.base()
    ));
    let gateway = home.serve();
    gateway.wait_for_log("price_update_held_back", 1);
    gateway.wait_for_log("new rules are in force", 1);
    assert_eq!(gateway.client.post(CHAT, &asked("gpt-4o-mini", &json!({}))).status, 200);
    assert_eq!(home.export().last().unwrap()["cost_usd"], "0.2");
    broken.store(true, Ordering::SeqCst);
    gateway.wait_for_log("prices are not updated", 1);
    assert_eq!(gateway.client.post(CHAT, &asked("gpt-4o-mini", &json!({}))).status, 200);
    assert_eq!(home.export().last().unwrap()["cost_usd"], "0.2");
}

#[test]
fn a_price_of_tomorrow_holds_from_tomorrow_while_the_gateway_runs() {
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 0});
    let upstream = Upstream::always(answer("house-1", &usage));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yaml");
    let yaml = "provider: openai\nmodels:\n- id: house-1\n  prices:\n    always: {standard: {input: 1, output: 1}}\n    2026-11-23: {standard: {input: 3, output: 3}}\n";
    std::fs::write(&file, yaml).unwrap();
    let clock = Arc::new(ManualClock::new(BEFORE_MIDNIGHT));
    let setup = Setup::new(&upstream).with(&format!("prices: {{files: [\"{}\"]}}", file.display()));
    let gateway = setup.clock(Arc::clone(&clock) as _).start();
    let ask = || assert_eq!(gateway.client.post(CHAT, &asked("house-1", &json!({}))).status, 200);
    ask();
    gateway.wait_idle();
    clock.advance_ms(9_999);
    ask();
    gateway.wait_idle();
    clock.advance_ms(1);
    ask();
    let entries = gateway.entries_of(3);
    let costs: Vec<String> = entries.iter().map(|entry| entry.settlement.cost.to_string()).collect();
    assert_eq!(costs, ["0.001", "0.001", "0.003"]);
    let since = |entry: &Entry| entry.settlement.price.as_ref().unwrap().effective.to_string();
    assert_eq!(
        (since(&entries[1]), since(&entries[2])),
        ("1970-01-01".into(), "2026-11-23".into())
    );
    assert!(entries.iter().all(|entry| entry.settlement.estimate_reason.is_none()));
}

/// A price file as it is changed under the running gateway.
fn price_file(input: &str) -> String {
    format!(
        "provider: openai\nmodels:\n- {{id: house-1, checked: 2026-11-22, prices: {{always: {{standard: {{input: {input}, output: 1}}}}}}}}\n"
    )
}

#[test]
fn a_price_file_changes_while_traffic_runs_and_a_broken_one_is_refused_with_its_line() {
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 0});
    let upstream = Upstream::always(answer("house-1", &usage));
    let home = Installation::new("");
    let prices = home.path("mine.yaml");
    let put = |text: &str| {
        let draft = home.path("mine.draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &prices).unwrap();
    };
    put(&price_file("1"));
    home.configure(&format!(
        "providers: {{openai: {{upstream: \"{}\"}}}}\nprices: {{files: [\"{}\"]}}",
        upstream.base(),
        prices.display()
    ));
    let gateway = home.serve();
    let cost_now = || {
        assert_eq!(gateway.client.post(CHAT, &asked("house-1", &json!({}))).status, 200);
        home.export().last().unwrap()["cost_usd"].clone()
    };
    let wait_for = |cost: &str| {
        for _ in 0..600 {
            if cost_now() == cost {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("a request never costs {cost}:\n{}", gateway.log());
    };
    wait_for("0.001");
    put(&price_file("2"));
    wait_for("0.002");
    put(&price_file("2x"));
    gateway.wait_for_log("not reloaded", 1);
    assert!(
        gateway.log().contains("mine.yaml:3: price `2x` is no decimal number"),
        "{}",
        gateway.log()
    );
    assert_eq!(cost_now(), "0.002", "the old book stays");
    put(&price_file("4"));
    wait_for("0.004");
    let shown = home.rpc("prices.show", &json!({"model": "house-1"}));
    assert_eq!(shown["rows"][0]["prices"]["standard"]["input"], "4");

    // What all that would have cost at another price, told by the running gateway and without it alike.
    let requests = home.export().len();
    let other = home.path("other.yaml");
    std::fs::write(&other, price_file("10")).unwrap();
    let would_be = format!("{:.6}", 0.01 * requests as f64);
    for running in [true, false] {
        let before = home.export();
        let table = home.print(&[
            "prices",
            "reprice",
            "--prices",
            other.to_str().unwrap(),
            "--from",
            "2020-01-01",
        ]);
        let total = table.lines().last().unwrap();
        let words: Vec<&str> = total.split_whitespace().collect();
        assert_eq!(
            (words[0], words[1], words[3]),
            ("TOTAL", requests.to_string().as_str(), would_be.as_str()),
            "{table}"
        );
        assert_eq!(home.export(), before, "nothing is changed");
        if running {
            gateway.signal("TERM");
            gateway.wait_for_log("everything is settled", 1);
        }
    }
    let none = home.print(&["prices", "reprice", "--to", "2020-01-01"]);
    assert_eq!(none, "No usage recorded in the given time window.\n");
    let checked = home.print(&["prices", "check"]);
    assert!(checked.ends_with("17 providers: OK\n"), "{checked}");
    std::fs::write(&prices, price_file("-4")).unwrap();
    let refused = home.run(&["prices", "check"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("mine.yaml:3: price `-4` is negative"));
}
